// The moving picture on a canvas of the page.
import { token } from "./api.js";
import { painterOf, showFeed } from "./feed.js";

// In device pixels, how wide a picture of that aspect stands on the canvas.
function shownWidth(canvas, aspect) {
  const width = Math.min(canvas.clientWidth, canvas.clientHeight * aspect);
  return Math.round(width * Math.min(devicePixelRatio || 1, 2));
}

// The finished picture. `drawn` is told the ages of pictures in milliseconds, some at a time. With `size`, the session's, it comes as large as it is shown; else as it is.
export function showPicture(canvas, { alpha = false, size = null, drawn = () => {} } = {}) {
  const width = () => (size ? shownWidth(canvas, size[0] / size[1]) : 0);
  const told = ({ number, ages }) => {
    canvas.dataset.number = number;
    drawn(ages);
  };
  const path = `/ws/picture?width=${width()}&alpha=${alpha ? 1 : 0}`;
  let wish;
  if (canvas.transferControlToOffscreen) {
    const worker = new Worker("/static/picture-worker.js", { type: "module" });
    const offscreen = canvas.transferControlToOffscreen();
    worker.postMessage({ canvas: offscreen, path, token }, [offscreen]);
    worker.onmessage = ({ data }) => told(data);
    wish = (value) => worker.postMessage(value);
  } else {
    wish = showFeed(path, token, painterOf(canvas), ({ number }, age) => told({ number, ages: age === null ? [] : [age] }));
  }
  if (!size) return;
  let settled = null;
  new ResizeObserver(() => {
    clearTimeout(settled);
    settled = setTimeout(() => wish({ width: width() }), 200);
  }).observe(canvas);
}
