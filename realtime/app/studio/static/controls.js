// Switches, sliders, background, outputs, profiles: each shows the session's state and posts changes.
import { act, change, get } from "./api.js";
import { attempt, find, make, say, set, toast } from "./dom.js";
import { makeSlider } from "./slider.js";
import { texts } from "./texts.js";

const sliders = new Map();

function slider({ name, help, ...range }) {
  const send = (number) => attempt(() => act(name, number));
  const made = makeSlider({ ...range, name, help, label: texts[`slider_${name}`] || name, resetLabel: texts.reset, send });
  sliders.set(name, made);
  return made.row;
}

export function startControls(description) {
  find("sliders")?.append(...description.sliders.map(slider));
  for (const button of document.querySelectorAll("[data-action]")) {
    const { action } = button.dataset;
    button.title = description.help[action] || "";
    button.onclick = () => attempt(() => act(action, button.getAttribute("aria-pressed") !== "true"));
  }
  for (const button of document.querySelectorAll("[data-do]")) {
    button.onclick = () => attempt(() => act(button.dataset.do));
  }
  for (const button of document.querySelectorAll("[data-background]")) {
    if (button.dataset.background === "alpha") button.hidden = !description.alpha;
    button.onclick = () => attempt(() => act("background", button.dataset.background));
  }
  const colour = find("colour");
  if (colour) {
    colour.oninput = () => attempt(() => act("background", colour.value));
    colour.onclick = () => attempt(() => act("background", colour.value));
  }
  find("neutral").onclick = () => attempt(() => act("calibrate"));
  for (const kind of ["virtual", "recording"]) {
    const button = find(kind);
    button.onclick = async () => {
      const on = button.getAttribute("aria-checked") !== "true";
      button.setAttribute("aria-busy", "true");
      await attempt(() => change("output", { kind, on }));
      button.removeAttribute("aria-busy");
    };
  }
  startFullOnly(description);
}

function startFullOnly(description) {
  const sound = find("sound");
  if (!sound) return;
  sound.append(...description.sounds.map((one) => make("option", { value: one, textContent: texts[`sound_${one}`] })));
  sound.onchange = () => attempt(() => change("sound", sound.value));
  find("copy").onclick = async () => {
    try {
      await navigator.clipboard.writeText(description.obs);
      toast(texts.copied);
    } catch {
      toast(texts.copyFailed, { bad: true });
    }
  };
  find("quit").onclick = askToQuit;
  find("profile-apply").onclick = async () => {
    const name = find("profile").value;
    if (name && (await attempt(() => change("apply profile", name)))) toast(texts.profileApplied(name));
  };
  find("profile-save").onclick = async () => {
    const name = find("profile-name").value.trim();
    if (name && (await attempt(() => change("save profile", name)))) {
      toast(texts.profileSaved(name));
      find("profile-name").value = "";
      listProfiles(name);
    }
  };
  find("profile-name").placeholder = texts.profileName;
  find("profile-name").onkeydown = (event) => event.key === "Enter" && find("profile-save").click();
  listProfiles();
}

export const askToQuit = () => confirm(texts.reallyQuit) && attempt(() => act("quit"));

async function listProfiles(chosen = "") {
  const { profiles } = (await attempt(() => get("/api/profiles"))) || { profiles: [] };
  const select = find("profile");
  const none = make("option", { value: "", textContent: texts.profileNone });
  select.replaceChildren(none, ...profiles.map((name) => make("option", { value: name, textContent: name })));
  select.value = chosen;
}

export function renderControls(state) {
  for (const [name, { input, show }] of sliders) {
    // What the person moves is not pulled back by a state that was on its way.
    const mine = document.activeElement === input && performance.now() - (input.changed || -1e9) < 800;
    if (!mine && Number(input.value) !== state.sliders[name]) input.value = state.sliders[name];
    show();
    set(find(`row-${name}`), "class", state.shown.slider === name && state.shown.sliders ? "slider chosen" : "slider");
  }
  const pressed = { ...state, ...state.shown, rest: state.mode === "at rest", freeze: state.mode === "frozen" };
  for (const button of document.querySelectorAll("[data-action]")) {
    set(button, "aria-pressed", Boolean(pressed[button.dataset.action]));
  }
  for (const button of document.querySelectorAll("[data-background]")) {
    set(button, "aria-pressed", state.background === button.dataset.background);
  }
  const colour = find("colour");
  if (colour) {
    const coloured = state.background.startsWith("#");
    if (coloured && document.activeElement !== colour) colour.value = state.background;
    set(colour.parentElement, "data-pressed", coloured);
  }
  const sound = find("sound");
  if (sound && document.activeElement !== sound) sound.value = state.sound;
  for (const kind of ["virtual", "recording"]) renderOutput(kind, state.switches[kind]);
}

function renderOutput(kind, told) {
  set(find(kind), "aria-checked", told.on);
  const element = find(`${kind}-state`);
  const nameOf = (path) => path.split(/[\\/]/).pop();
  let text = told.problem;
  let whole = "";
  if (!text && kind === "recording" && told.seconds !== null) {
    const seconds = Math.floor(told.seconds);
    text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}  ${nameOf(told.name)}`;
  } else if (!text && told.on) {
    text = told.name.replace(/^virtual:/, "");
  } else if (!text && told.file) {
    [text, whole] = [texts.recordingFile(nameOf(told.file)), told.file];
  }
  say(element, text || texts[`${kind}Hint`]);
  set(element, "class", told.problem ? "problem" : "quiet");
  element.title = whole || element.textContent;
}
