// A slider with its name, its value, and a button that brings the usual value back.
import { make } from "./dom.js";

// `send` is told what the person sets, at most twenty times a second.
export function makeSlider({ name, label, help, low, high, step, default: usual, resetLabel, send }) {
  const input = make("input", { type: "range", min: low, max: high, step: step / 2, id: `slider-${name}`, title: help });
  const value = make("output", { htmlFor: input.id });
  const reset = make("button", { className: "reset", textContent: "↺", title: resetLabel(label) });
  reset.setAttribute("aria-label", resetLabel(label));
  input.setAttribute("aria-description", help);
  let waiting = null;
  const show = () => {
    value.textContent = Number(input.value).toFixed(2);
    input.style.setProperty("--share", `${(100 * (input.value - low)) / (high - low)}%`);
    reset.disabled = Number(input.value) === usual;
  };
  input.oninput = () => {
    show();
    waiting ||= setTimeout(() => {
      waiting = null;
      send(Number(input.value));
    }, 50);
    input.changed = performance.now();
  };
  reset.onclick = () => {
    input.value = usual;
    input.changed = performance.now();
    show();
    send(usual);
  };
  const row = make("div", { className: "slider" }, make("label", { htmlFor: input.id, textContent: label, title: help }), input, value, reset);
  row.id = `row-${name}`;
  return { row, input, show };
}
