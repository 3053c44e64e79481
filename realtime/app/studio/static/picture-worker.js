// Draws the moving picture beside the page, which then has time for clicks and the picture for itself.
import { painterOf, showFeed } from "./feed.js";

// Milliseconds between two reports to the page: whatever it writes, it lays out and paints.
const REPORT = 400;

let wish = null;
let ages = [];
let reported = -REPORT;

function drawn({ number }, age) {
  if (age !== null) ages.push(age);
  const now = performance.now();
  if (now - reported < REPORT) return;
  reported = now;
  self.postMessage({ number, ages });
  ages = [];
}

self.onmessage = ({ data }) => {
  if (data.canvas) wish = showFeed(data.path, data.token, painterOf(data.canvas), drawn);
  else wish(data);
};
