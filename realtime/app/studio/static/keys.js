// The keys of the live window, here too; and their list.
import { act } from "./api.js";
import { sorted } from "./avatars.js";
import { askToQuit } from "./controls.js";
import { attempt, find, make } from "./dom.js";

const NAMES = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", Escape: "escape" };

export function startKeys(description, state) {
  const bound = new Map(description.keys.flatMap(({ keys, action }) => keys.map((key) => [key, action])));
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    // Fields, sliders and open dialogs have keys of their own; so have buttons for Space.
    if (target.matches("input, select, textarea") || document.querySelector("dialog[open]")) return;
    if (target.matches("button") && event.key === " ") return;
    const key = NAMES[event.key] || event.key.toLowerCase();
    const action = bound.get(key);
    // Escape is too easily pressed in a browser to end a session.
    if (!action || key === "escape") return;
    event.preventDefault();
    if (event.repeat && ["calibrate", "reset", "quit"].includes(action)) return;
    if (action === "help") openKeys(description);
    else if (action === "quit") askToQuit();
    else if (action === "select") {
      const chosen = sorted(state())[Number(key) - 1];
      if (chosen) attempt(() => act("select", chosen.number));
    } else attempt(() => act(action));
  });
  const button = find("keys");
  if (button) button.onclick = () => openKeys(description);
}

function openKeys(description) {
  const list = find("key-list");
  if (!list) return;
  if (!list.children.length) {
    const groups = Map.groupBy ? Map.groupBy(description.keys, (one) => one.group) : grouped(description.keys);
    for (const [group, bindings] of groups) {
      const rows = bindings.map(withoutEscape).flatMap(({ label, help }) => [make("dt", { textContent: label }), make("dd", { textContent: help })]);
      list.append(make("section", {}, make("h3", { textContent: group }), make("dl", {}, ...rows)));
    }
  }
  find("keys-dialog").showModal();
}

// See above: Escape does not end a session from here.
const withoutEscape = (binding) =>
  binding.action === "quit" ? { ...binding, label: binding.label.split(",")[0] } : binding;

function grouped(bindings) {
  const groups = new Map();
  for (const one of bindings) groups.set(one.group, [...(groups.get(one.group) || []), one]);
  return groups;
}
