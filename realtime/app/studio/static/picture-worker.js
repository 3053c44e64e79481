// Draws the moving picture beside the page, which then has time for clicks and the picture for itself.
import { painterOf, showFeed } from "./feed.js";

let wish = null;

self.onmessage = ({ data }) => {
  if (data.canvas) {
    wish = showFeed(data.path, data.token, painterOf(data.canvas), (header, age) => {
      self.postMessage({ number: header.number, age });
    });
  } else wish(data);
};
