// Delay over the last minute as a small moving plot, and where the time goes.
import { find, make, say } from "./dom.js";
import { texts } from "./texts.js";

const KEPT = 60;

// In milliseconds: one pause, of a computer that slept, does not flatten a minute.
const MOST = 500;
const history = [];
let last = 0;

export function renderPlot(state, stages) {
  const canvas = find("plot");
  if (!canvas || performance.now() - last < 950) return;
  last = performance.now();
  const { p50, p95 } = state.recent;
  history.push([p50, p95]);
  if (history.length > KEPT) history.shift();
  draw(canvas);
  const list = find("stages");
  if (!list.children.length) {
    for (const name of stages) {
      list.append(make("li", {}, make("span", { textContent: texts[`stage_${name}`] || name }), make("b", {})));
    }
  }
  for (const [place, name] of stages.entries()) {
    say(list.children[place].querySelector("b"), texts.milliseconds((state.recent.stages[name] ?? 0).toFixed(1)));
  }
}

function draw(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const values = history.flat().filter((value) => value !== null);
  const top = Math.min(MOST, Math.max(50, Math.ceil((1.15 * Math.max(0, ...values)) / 50) * 50));
  const at = (index, value) => [
    34 + ((width - 42) * index) / (KEPT - 1),
    height - 6 - (height - 14) * Math.min(value / top, 1),
  ];
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of [0, top / 2, top]) {
    const [, y] = at(0, value);
    context.fillStyle = style.color;
    context.fillText(String(value), 28, y);
    context.fillStyle = style.borderTopColor;
    context.fillRect(34, y, width - 42, 1);
  }
  context.textAlign = "left";
  context.fillStyle = style.color;
  context.fillText(texts.plotLegend, 40, 16);
  const begin = KEPT - history.length;
  const line = (which, colour, wide) => {
    context.strokeStyle = style[colour];
    context.lineWidth = wide;
    context.lineJoin = "round";
    context.beginPath();
    let drawing = false;
    for (const [index, pair] of history.entries()) {
      if (pair[which] === null) {
        drawing = false;
        continue;
      }
      context[drawing ? "lineTo" : "moveTo"](...at(begin + index, pair[which]));
      drawing = true;
    }
    context.stroke();
  };
  line(1, "caretColor", 1.5);
  line(0, "outlineColor", 2);
}
