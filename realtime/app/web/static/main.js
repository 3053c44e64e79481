// Puts the page together: what drives, the worker that moves the picture, the painter, and what a person can change.
import { attempt, fill, find, make, say, set, toast } from "./dom.js";
import { Recording, canRecord, saveSnapshot } from "./keeping.js";
import { DEFAULTS } from "./motion/retargeter.js";
import { percentile } from "./numbers.js";
import { painterOf } from "./painter.js";
import { makeSlider } from "./slider.js";
import { Source, cameraTrouble } from "./source.js";
import { texts } from "./texts.js";
import { startTheme } from "./theme.js";

/** @typedef {import("./painter.js").Background} Background */

/**
 * A picture to move.
 * @typedef {object} Avatar
 * @property {string} name
 * @property {number} number
 * @property {() => Promise<ImageBitmap>} open the whole picture
 * @property {(() => Promise<ImageBitmap>) | null} openFigure the same with a transparent background, where there is one
 * @property {(() => Promise<Uint8Array>) | null} openSmall the model's square, RGB, where it was made with the page
 * @property {import("./motion/framing.js").Square | null} square
 * @property {string | null} rig address of what its rig needs, where it was made with the page
 * @property {any} made its rig, where it was made here; where there is neither, the network draws
 * @property {string | null} sheets the same before other backgrounds
 * @property {string} thumbnail address
 */

const LARGEST_FILE = 64 << 20;
/** Longest side of a picture, in pixels: rigs draw each of them. */
const LARGEST_SIDE = 720;

/** What is behind pictures that are transparent: see `over_gray` of livepuppet/core/images.py. */
const BEHIND = "rgb(200 200 200)";

/** Milliseconds for the service worker to be there. */
const WORKER_PATIENCE = 10_000;

/** Frames over which speed and delay are shown. */
const MEASURED = 90;

/** What no other way leads around. */
const NEEDED = ["WebAssembly", "OffscreenCanvas", "Worker", "createImageBitmap"];

/** @type {{name: keyof typeof DEFAULTS, high: number}[]} */
const SLIDERS = [
  { name: "strength", high: 2 },
  { name: "smoothing", high: 2 },
  { name: "shift", high: 1 },
  { name: "turn", high: 1 },
  { name: "zoom", high: 1 },
  { name: "eyes", high: 2 },
];

const element = (/** @type {string} */ id) => /** @type {any} */ (find(id));

/** Say what went wrong, until somebody has read it. @param {string} sentence */
const complain = (sentence) => toast(sentence, { bad: true, closes: texts.dismiss });

/** Begin something new, to which what went wrong before no longer matters. @param {() => unknown} act */
function begin(act) {
  for (const one of document.querySelectorAll(".toast.bad")) one.remove();
  return attempt(act);
}

const canvas = /** @type {HTMLCanvasElement} */ (element("picture"));
const painter = painterOf(canvas);
const source = new Source(element("video"), onFrame, () => {
  showStart();
  complain(texts.cameraGone);
});

/** Reads the driver. @type {Worker} */
let worker;
/** Draws rigs. @type {Worker} */
let drawer;
/** What the model is loaded in. @type {any} */
let model = null;
/** @type {Avatar[]} */
let avatars = [];
/** @type {Avatar | null} */
let chosen = null;
/** The number of the avatar on the canvas; frames of another come too late. */
let onCanvas = 0;
let number = 0;
/** @type {{open: ImageBitmap, figure: ImageBitmap | null} | null} */
let layers = null;
let background = "as-is";
/** The last picture that was drawn; null is the avatar at rest. @type {any} */
let drawn = null;
let [busy, waiting] = [false, false];
/** When the newest frame was captured. */
let newest = 0;
/** When the last frame was captured that moves nothing. */
let rested = -Infinity;
/** Whether a rig draws what is on the canvas. */
let byRig = false;
/** @type {typeof DEFAULTS} */
let settings = { ...DEFAULTS };
/** Whether all pictures are drawn by the network, for whoever measures. */
const byNetwork = new URLSearchParams(location.search).has("network");
/** @type {Recording | null} */
let recording = null;
/** @type {number[]} */
const delays = [];
/** @type {number[]} */
const times = [];
/** Sums of what frames took, for whoever measures. */
const stages = { frames: 0, cut: 0, detect: 0, look: 0, render: 0 };
/** All delays in milliseconds, where a benchmark put a list. @type {{stages: typeof stages, model: () => any, all: number[] | null}} */
const measured = { stages, model: () => model, all: null };
Object.assign(window, { livepuppet: measured });

// Start.

async function start() {
  fill(texts);
  startTheme(texts);
  startControls();
  const lacking = NEEDED.filter((name) => !(name in self));
  if (lacking.length) {
    fail(texts.noBrowser(lacking.join(", ")));
    element("reload").hidden = true;
    return;
  }
  say(element("mode"), texts.preparing);
  if (!(await isolated())) return;
  const known = await (await fetch("./site.json")).json();
  words = known.synthetic;
  avatars = known.avatars.map((/** @type {any} */ one) => bundled(one));
  listAvatars();
  demo = known.clip && `./avatars/${known.clip}`;
  element("start-demo").hidden = !demo;
  element("start-demo").onclick = () => begin(openDemo);
  const cores = navigator.hardwareConcurrency || 2;
  const asked = new URLSearchParams(location.search);
  // Two cores are left for what draws rigs and for the page.
  const threads = self.crossOriginIsolated ? Number(asked.get("threads")) || Math.min(Math.max(1, cores - 2), 4) : 1;
  [worker, drawer] = ["./worker.js", "./drawing.js"].map((path) => {
    const made = new Worker(path, { type: "module" });
    made.addEventListener("message", ({ data }) => heard[data.kind](data));
    made.addEventListener("error", (event) => fail(texts.broken(event.message || "worker")));
    return made;
  });
  total = known.bytes;
  const between = new MessageChannel();
  drawer.postMessage({ kind: "start", port: between.port1 }, [between.port1]);
  worker.postMessage({ kind: "start", threads, precision: asked.get("precision"), port: between.port2 }, [between.port2]);
  for (const id of ["start-camera", "start-clip", "start-demo", "open-clip"]) element(id).disabled = false;
  await choose(avatars[0]);
}

/** Bytes of the model. */
let total = 0;

/** By which what is kept says that it is synthetic. @type {import("./keeping.js").Words} */
let words;

/** Whether the page goes on: it is isolated, or cannot be; else it is loaded again with a service worker. */
async function isolated() {
  if (!("serviceWorker" in navigator)) {
    if (!self.crossOriginIsolated) toast(isSecureContext ? texts.noThreads : texts.insecure);
    return true;
  }
  const tried = sessionStorage.getItem("isolating");
  const ready = navigator.serviceWorker.register("./sw.js").then(() => navigator.serviceWorker.ready);
  if (self.crossOriginIsolated) {
    sessionStorage.removeItem("isolating");
    ready.catch(() => {});
    return true;
  }
  // One that cannot be installed is never ready, and says nothing.
  const late = new Promise((resolve) => setTimeout(resolve, WORKER_PATIENCE, null));
  if (tried || !(await Promise.race([ready.catch(() => null), late]))) {
    toast(texts.noThreads);
    return true;
  }
  sessionStorage.setItem("isolating", "yes");
  location.reload();
  return false;
}

/** @param {string} sentence */
function fail(sentence) {
  say(element("mode"), texts.mode_failed);
  set(element("mode"), "data-mode", "lost");
  say(element("loading"), sentence);
  set(element("start"), "data-failed", true);
  element("progress").hidden = true;
  element("start").hidden = element("reload").hidden = false;
  // Whatever is told to them later, nothing can be done with them.
  for (const one of document.querySelectorAll(".side, .actions")) set(one, "inert", "");
}

// What the worker says.

/** @type {Record<string, (told: any) => void>} */
const heard = {
  progress({ bytes }) {
    if (model) return;
    const share = Math.min(1, bytes / total);
    element("progress").value = Math.min(share, 0.99);
    for (const id of ["loading", "mode"]) say(element(id), share < 0.99 ? texts.loading(Math.floor(100 * share)) : texts.checking);
  },
  ready(told) {
    model = told;
    document.body.dataset.ready = "true";
    say(element("mode"), texts.ready);
    element("progress").value = 1;
    say(element("loading"), "");
    showEngine();
    if (waiting) send();
    navigator.serviceWorker?.ready.then((registration) => registration.active?.postMessage("keep"));
    if (new URLSearchParams(location.search).has("clean")) {
      setClean(true);
      begin(openCamera);
    }
  },
  making({ number: which, share }) {
    if (which !== number) return;
    element("making").hidden = false;
    say(element("making"), texts[onCanvas ? "finishing" : "making"](Math.round(100 * share)));
  },
  unmade({ number: which, reason, moves }) {
    console.warn(reason);
    if (which !== number) return;
    element("making").hidden = true;
    showBackgrounds();
    toast(texts[moves ? "unfinished" : "unmade"](chosen?.name));
  },
  async better({ number: which, made }) {
    if (which !== number || !made) return;
    element("making").hidden = true;
    await takeMade(which, made);
    if (which !== number) return;
    showNotes();
    showAvatar();
  },
  network(told) {
    Object.assign(model, told);
    if (told.refused) toast(texts.refused);
  },
  async avatar({ number: which, square, small, size, found, rig, last, made }) {
    if (which !== number || !layers || !chosen) return;
    element("making").hidden = last;
    if (made) await takeMade(which, made);
    if (which !== number) return;
    onCanvas = which;
    byRig = rig;
    showEngine();
    showNotes();
    shown = { square, small, size };
    showAvatar();
    if (source.kind === "none") playExample();
    // Examples move rigs alone.
    if (!rig && !source.drives && model) say(element("mode"), texts.ready);
    if (!found) toast(texts.noFaceInPicture(chosen?.name));
    for (const id of ["snapshot", "record"]) element(id).disabled = false;
  },
  noFace: () => complain(texts.noFace),
  looked(told) {
    busy = false;
    if (source.drives) {
      if (!told.shows && told.number === onCanvas) {
        rested = told.captured;
        paint(told);
      }
      showState(told);
    }
    if (waiting) send();
  },
  picture(told) {
    // One of before the avatar rested comes too late, as one that was drawn for another background does.
    const late = (!told.example && told.captured <= rested) || (told.whole && told.cut !== (background !== "as-is"));
    if ((told.example ? source.kind === "example" : source.drives) && told.number === onCanvas && !late) paint(told);
    else if (told.whole) drawer.postMessage({ kind: "shown", memory: told.whole }, [told.whole]);
  },
  failed({ during, number: which, reason }) {
    busy = false;
    const sentence = { gate: texts.gate, damaged: texts.damaged }[/** @type {string} */ (reason)];
    if (!model && during !== "start") return;
    if (during === "start") fail(sentence ?? (/fetch|network|: \d{3}$/i.test(reason) ? texts.notLoaded : texts.broken(reason)));
    else if (during === "avatar" && which !== number) return;
    else complain(texts.broken(reason));
  },
};

/** A rig that was made here, and its figure for other backgrounds. @param {number} which @param {any} made */
async function takeMade(which, { figure, ...rest }) {
  if (!chosen || !layers) return;
  chosen.made = rest;
  const of = figure && imageOf(figure);
  if (of) chosen.openFigure = () => createImageBitmap(of);
  const opened = of && (await createImageBitmap(of));
  if (which !== number) return;
  layers.figure?.close();
  layers.figure = opened;
}

function showNotes() {
  const notes = byRig ? (chosen?.made?.notes ?? []) : [texts.network];
  element("network").hidden = !notes.length;
  say(element("network"), notes.join(" "));
}

function showEngine() {
  if (!model || !onCanvas) return;
  say(element("engine"), texts.engine({ ...model, rig: byRig }));
  say(element("engine-help"), byRig ? texts.byRig : texts.byNetwork);
  say(element("quality"), texts.quality(model));
}

/** @type {{square: any, small: Uint8Array, size: number} | null} */
let shown = null;

function showAvatar() {
  if (!layers || !shown) return;
  const plain = background === "as-is" || !layers.figure;
  const figure = plain ? layers.open : layers.figure;
  painter.setAvatar({ ...shown, figure: /** @type {ImageBitmap} */ (figure), background: plain ? "clear" : backgroundNow() });
  canvas.style.setProperty("--aspect", String(canvas.width / canvas.height));
  drawn = null;
  painter.draw(null);
  showBackgrounds();
}

/** @returns {Background} */
function backgroundNow() {
  return background === "blur" && layers ? layers.open : background;
}

/** @param {any} told */
function paint(told) {
  if (drawn?.whole) drawer.postMessage({ kind: "shown", memory: drawn.whole }, [drawn.whole]);
  drawn = told.pixels || told.whole ? told : null;
  painter.draw(drawn);
  if (recording) {
    recording.draw();
    say(element("recording"), texts.recording(recording.seconds));
  }
  if (told.example) {
    if (model) say(element("mode"), texts.mode_example);
    canvas.dataset.examples = String(Number(canvas.dataset.examples ?? 0) + 1);
    return;
  }
  const now = performance.now();
  canvas.dataset.frames = String(Number(canvas.dataset.frames ?? 0) + 1);
  delays.push(now - told.captured);
  measured.all?.push(now - told.captured);
  times.push(now);
  if (told.stages) {
    stages.frames += 1;
    for (const name of /** @type {const} */ (["cut", "detect", "look", "render"])) stages[name] += told.stages[name];
  }
  if (times.length > MEASURED) {
    delays.shift();
    times.shift();
  }
}

let lastShown = 0;

/** @param {any} told */
function showState(told) {
  set(element("mode"), "data-mode", told.state);
  say(element("mode"), texts[`mode_${told.state}`]);
  const counting = told.state === "counting" && told.left > 0;
  element("countdown").hidden = !counting;
  if (counting) {
    say(element("countdown").querySelector("b"), String(Math.ceil(told.left)));
    say(element("counted-fit"), texts.fit(told.fit));
  }
  say(element("fit"), told.initialFit ? texts.fitted(told.initialFit) : "");
  say(element("fits"), told.initialFit ? texts.fits(told.initialFit) : "–");
  showSquare(told);
  const now = performance.now();
  if (now - lastShown < 500 || times.length < 2) return;
  lastShown = now;
  say(element("fps"), ((1000 * (times.length - 1)) / (times[times.length - 1] - times[0])).toFixed(0));
  const [p50, p95] = [0.5, 0.95].map((share) => percentile(delays, share).toFixed(0));
  say(element("delay"), p50);
  say(element("delays"), texts.delays(p50, p95));
}

/** @param {any} told */
function showSquare({ square, state }) {
  const box = element("square");
  const { videoWidth, videoHeight, clientWidth, clientHeight } = source.video;
  box.hidden = !square || !videoWidth;
  if (box.hidden) return;
  const scale = Math.min(clientWidth / videoWidth, clientHeight / videoHeight);
  const [left, top] = [(clientWidth - videoWidth * scale) / 2, (clientHeight - videoHeight * scale) / 2];
  box.dataset.lost = state === "lost";
  box.style.left = `${left + square.x * scale}px`;
  box.style.top = `${top + square.y * scale}px`;
  box.style.width = box.style.height = `${square.side * scale}px`;
}

// Frames: one is under way, the newest one waits.

/** @param {number} captured @param {number} time */
function onFrame(captured, time) {
  if (source.kind === "example") {
    if (byRig && onCanvas) drawer.postMessage({ kind: "example", time, settings });
    return;
  }
  newest = captured;
  if (busy || !model) waiting = true;
  else send();
}

async function send() {
  waiting = false;
  busy = true;
  const captured = newest;
  const frame = source.drives ? await source.frame().catch(() => null) : null;
  if (!frame) {
    busy = false;
    return;
  }
  worker.postMessage({ kind: "frame", ...frame, captured, time: captured / 1000 }, [frame.picture]);
}

// What drives.

function showStart() {
  // What is not driven any more is not worth recording.
  if (recording) attempt(toggleRecording);
  element("start").hidden = false;
  element("start").scrollIntoView({ block: "nearest" });
  say(element("fit"), "");
  element("countdown").hidden = true;
  element("square").hidden = true;
  if (model) say(element("mode"), texts.ready);
  set(element("mode"), "data-mode", "");
  for (const id of ["neutral", "find"]) element(id).disabled = true;
  element("stop").hidden = element("cameras").hidden = element("rates").hidden = true;
  drawn = null;
  painter.draw(null);
  playExample();
}

/** Until a person drives, the clip that comes with the page does. */
async function playExample() {
  if (!demo || byNetwork || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const clip = await demoClip().catch(() => null);
  if (!clip || source.kind !== "none") return;
  element("preview").dataset.clip = true;
  // Where it may not play by itself, the picture stays still.
  await source.openClip(clip, true, "example").catch(() => {});
}

function showDriven() {
  delays.length = times.length = 0;
  element("start").hidden = true;
  element("rates").hidden = false;
  element("preview").dataset.clip = source.kind === "clip";
  element("stop").hidden = false;
  for (const id of ["neutral", "find"]) element(id).disabled = false;
  const sounds = ["none", source.kind === "clip" ? "clip" : "microphone"];
  element("sound").hidden = false;
  element("sound").replaceChildren(...sounds.map((one) => make("option", { value: one, textContent: texts[`sound_${one}`] })));
}

/** @param {string} deviceId */
async function openCamera(deviceId = "") {
  if (!navigator.mediaDevices) {
    complain(texts.insecure);
    return;
  }
  try {
    await source.openCamera(deviceId);
  } catch (error) {
    complain(texts[cameraTrouble(error)]);
    return;
  }
  worker.postMessage({ kind: "anew", countdown: DEFAULTS.countdown });
  showDriven();
  const found = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");
  const list = element("cameras");
  list.replaceChildren(...found.map((one, at) => make("option", { value: one.deviceId, textContent: one.label || `${at + 1}` })));
  list.value = source.deviceId;
  list.hidden = found.length < 2;
}

/** Address of this site's clip. @type {string | null} */
let demo = null;
/** @type {File | null} */
let loadedDemo = null;

async function demoClip() {
  if (!loadedDemo && demo) {
    const answer = await fetch(demo);
    if (!answer.ok) throw new Error(String(answer.status));
    loadedDemo = new File([await answer.blob()], "clip.mp4");
  }
  return /** @type {File} */ (loadedDemo);
}

async function openDemo() {
  const clip = await demoClip().catch(() => null);
  if (clip) await openClip(clip);
  else complain(texts.clipMissing);
}

/** @param {File} file */
async function openClip(file) {
  try {
    await source.openClip(file);
  } catch {
    showStart();
    complain(texts.notVideo(file.name));
    return;
  }
  // The best moment of the first two seconds, as for a camera.
  worker.postMessage({ kind: "anew", countdown: DEFAULTS.countdown });
  showDriven();
  element("cameras").hidden = true;
}

// Pictures.

const openPicture = async (/** @type {Blob} */ blob) => {
  const picture = await createImageBitmap(blob);
  const factor = LARGEST_SIDE / Math.max(picture.width, picture.height);
  if (factor >= 1) return picture;
  const size = { resizeWidth: Math.round(picture.width * factor), resizeHeight: Math.round(picture.height * factor) };
  const smaller = await createImageBitmap(picture, { ...size, resizeQuality: "high" });
  picture.close();
  return smaller;
};

/** An avatar that was written with the page. @param {any} entry @returns {Avatar} */
function bundled({ name, picture, figure, small, square, rig = null, sheets = null }) {
  const blob = async (/** @type {string} */ path) => (await fetch(`./avatars/${path}`)).blob();
  return {
    name,
    number: (number += 1),
    square,
    rig,
    made: null,
    sheets,
    open: async () => openPicture(await blob(picture)),
    openFigure: figure ? async () => openPicture(await blob(figure)) : null,
    openSmall: async () => rgbOf(await createImageBitmap(await blob(small))),
    thumbnail: `./avatars/${picture}`,
  };
}

/** @param {ImageBitmap} picture */
function rgbOf(picture) {
  const context = /** @type {any} */ (new OffscreenCanvas(picture.width, picture.height).getContext("2d", { willReadFrequently: true }));
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  return new Uint8Array((data.length / 4) * 3).map((_, at) => data[4 * Math.floor(at / 3) + (at % 3)]);
}

/** @param {File} file */
async function addPicture(file) {
  if (file.size > LARGEST_FILE) {
    complain(texts.tooLarge(file.name));
    return;
  }
  let picture;
  try {
    picture = await openPicture(file);
  } catch {
    complain(texts.notPicture(file.name));
    return;
  }
  const transparent = hasTransparency(picture);
  picture.close();
  /** @type {Avatar} */
  const avatar = {
    name: file.name.replace(/\.[^.]*$/, ""),
    number: (number += 1),
    square: null,
    rig: null,
    made: null,
    sheets: null,
    open: async () => (transparent ? overGray(await openPicture(file)) : openPicture(file)),
    openFigure: transparent ? () => openPicture(file) : null,
    openSmall: null,
    thumbnail: URL.createObjectURL(file),
  };
  avatars.push(avatar);
  listAvatars();
  await choose(avatar);
}

/** @param {ImageBitmap} picture */
function hasTransparency(picture) {
  const side = 64;
  const context = /** @type {any} */ (new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true }));
  context.drawImage(picture, 0, 0, side, side);
  const { data } = context.getImageData(0, 0, side, side);
  return data.some((/** @type {number} */ value, /** @type {number} */ at) => at % 4 === 3 && value < 250);
}

/** @param {ImageBitmap} picture is lost */
function overGray(picture) {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = BEHIND;
  context.fillRect(0, 0, picture.width, picture.height);
  context.drawImage(picture, 0, 0);
  picture.close();
  return canvas.transferToImageBitmap();
}

/** How opaque it is. @param {ImageBitmap} picture */
function alphaOf(picture) {
  const context = /** @type {any} */ (new OffscreenCanvas(picture.width, picture.height).getContext("2d", { willReadFrequently: true }));
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  return new Uint8Array(data.length / 4).map((_, at) => data[4 * at + 3]);
}

/** A figure that was cut out. @param {{rgb: Uint8Array, alpha: Uint8Array, width: number, height: number}} figure */
function imageOf({ rgb, alpha, width, height }) {
  if (alpha.every((one) => one >= 250) || alpha.every((one) => one < 250)) return null;
  const image = new ImageData(width, height);
  for (let at = 0; at < alpha.length; at++) image.data.set([rgb[3 * at], rgb[3 * at + 1], rgb[3 * at + 2], alpha[at]], 4 * at);
  return image;
}

/** @param {Avatar} avatar */
async function choose(avatar) {
  chosen = avatar;
  showChosen();
  number = avatar.number = number + 1;
  const mine = number;
  const { rig, sheets, made } = byNetwork ? { rig: null, sheets: null, made: null } : avatar;
  const [open, figure, small] = await Promise.all([avatar.open(), avatar.openFigure?.() ?? null, rig ? null : (avatar.openSmall?.() ?? null)]);
  if (mine !== number) return;
  layers?.open.close();
  layers?.figure?.close();
  layers = { open, figure };
  shown = null;
  element("making").hidden = true;
  const picture = await createImageBitmap(open);
  const alpha = figure && !rig && !made ? alphaOf(figure) : null;
  worker.postMessage({ kind: "avatar", number: mine, picture, square: avatar.square, small, rig, sheets, made, alpha, byNetwork }, [picture]);
  if (!model || (!rig && !made)) {
    // Something to see while the model loads, or a rig is made.
    onCanvas = 0;
    painter.setAvatar({ figure: open, square: { x: 0, y: 0, side: 1 }, small: new Uint8Array(3), size: 1, background: "clear" });
    canvas.style.setProperty("--aspect", String(canvas.width / canvas.height));
    painter.draw(null);
  }
}

function listAvatars() {
  const tiles = avatars.map((avatar) => {
    const image = make("img", { src: avatar.thumbnail, alt: "" });
    const button = make("button", { className: "avatar" }, image, make("span", { className: "name", textContent: avatar.name }));
    button.onclick = () => begin(() => choose(avatar));
    return make("li", {}, button);
  });
  element("grid").replaceChildren(...tiles, element("adding"));
  showChosen();
}

function showChosen() {
  for (const [at, avatar] of avatars.entries()) set(element("grid").children[at].firstChild, "aria-pressed", avatar === chosen);
}

// What a person can change.

function startControls() {
  element("sliders").append(
    ...SLIDERS.map(({ name, high }) => {
      const made = makeSlider({
        ...{ name, low: 0, high, step: 0.1, default: DEFAULTS[name], label: texts[`slider_${name}`], help: texts[`help_${name}`] },
        resetLabel: texts.reset,
        send: (/** @type {number} */ value) => {
          settings = { ...settings, [name]: value };
          worker?.postMessage({ kind: "settings", settings: { [name]: value } });
        },
      });
      made.input.value = DEFAULTS[name];
      made.show();
      return made.row;
    }),
  );
  element("reload").onclick = () => location.reload();
  element("start-camera").onclick = () => begin(openCamera);
  for (const id of ["start-clip", "open-clip"]) element(id).onclick = () => element("clip-file").click();
  const choosing = [
    ["files", takeFiles],
    ["clip-file", takeFiles],
  ];
  for (const [id, take] of /** @type {[string, typeof takeFiles][]} */ (choosing)) {
    element(id).onchange = ({ target }) => {
      begin(() => take([...target.files]));
      target.value = "";
    };
  }
  element("add").onclick = () => element("files").click();
  element("stop").onclick = () => {
    source.close();
    showStart();
  };
  element("cameras").onchange = ({ target }) => begin(() => openCamera(target.value));
  element("neutral").onclick = () => worker.postMessage({ kind: "neutral", countdown: DEFAULTS.countdown });
  element("find").onclick = () => worker.postMessage({ kind: "anew", countdown: DEFAULTS.countdown });
  element("mirror").onclick = ({ currentTarget }) => {
    const on = currentTarget.getAttribute("aria-pressed") !== "true";
    set(currentTarget, "aria-pressed", on);
    worker?.postMessage({ kind: "mirror", on });
  };
  element("full").onclick = () => attempt(() => (document.fullscreenElement ? document.exitFullscreen() : canvas.parentElement?.requestFullscreen()));
  element("clean").onclick = () => setClean(true);
  // Phones have no Escape.
  canvas.onclick = () => new URLSearchParams(location.search).has("clean") || setClean(false);
  element("snapshot").onclick = () => attempt(takeSnapshot);
  element("record").onclick = () => attempt(toggleRecording);
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-background]"))) {
    button.onclick = () => setBackground(/** @type {string} */ (button.dataset.background));
  }
  element("colour").oninput = element("colour").onclick = ({ target }) => setBackground(target.value);
  startDropping();
  startKeys();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenWhile = recording;
    else if (hiddenWhile && hiddenWhile === recording) toast(texts.stoodStill);
  });
}

/** @type {Recording | null} */
let hiddenWhile = null;

/** @param {File[]} files */
async function takeFiles(files) {
  for (const file of files) {
    if (file.type.startsWith("video/")) await openClip(file);
    else await addPicture(file);
  }
}

function startDropping() {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (worker) begin(() => takeFiles([...(event.dataTransfer?.files ?? [])]));
  });
}

/** @param {string} wanted */
function setBackground(wanted) {
  if (!layers?.figure && wanted !== "as-is") return;
  background = wanted;
  drawer.postMessage({ kind: "cut", on: background !== "as-is" });
  const before = drawn;
  showAvatar();
  if (before && !before.whole) painter.draw((drawn = before));
}

function showBackgrounds() {
  const hasFigure = Boolean(layers?.figure);
  const now = hasFigure ? background : "as-is";
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-background]"))) {
    set(button, "aria-pressed", now === button.dataset.background);
    button.disabled = !hasFigure && button.dataset.background !== "as-is";
  }
  element("colour").disabled = !hasFigure;
  set(element("colour").parentElement, "data-pressed", now.startsWith("#"));
  set(canvas.parentElement, "data-alpha", now === "clear");
  element("no-figure").hidden = hasFigure;
  say(element("no-figure"), element("making").hidden ? texts.noFigure : texts.figureComes);
}

/** @param {boolean} on */
function setClean(on) {
  document.body.classList.toggle("clean", on);
  if (on && !new URLSearchParams(location.search).has("clean")) toast(texts.leaveClean);
}

async function takeSnapshot() {
  painter.draw(drawn);
  toast(texts.saved(await saveSnapshot(canvas, words)));
}

async function toggleRecording() {
  const button = element("record");
  if (recording) {
    const ending = recording;
    recording = null;
    set(button, "aria-pressed", false);
    say(button, texts.record);
    element("recording").hidden = true;
    const length = texts.recording(ending.seconds);
    const name = await ending.stop();
    toast(texts.saved(name));
    say(element("kept"), texts.recorded(name, length));
    return;
  }
  if (!canRecord()) {
    complain(texts.noRecording);
    return;
  }
  const sound = await soundTracks();
  painter.draw(drawn);
  recording = new Recording(canvas, sound, words);
  set(button, "aria-pressed", true);
  say(button, texts.stopRecording);
  say(element("kept"), texts.keeping);
  say(element("recording"), texts.recording(0));
  element("recording").hidden = false;
}

/** @returns {Promise<MediaStreamTrack[]>} */
async function soundTracks() {
  const wanted = element("sound").value;
  if (wanted === "microphone") {
    try {
      return (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks();
    } catch {
      complain(texts.microphone);
    }
  } else if (wanted === "clip") {
    const video = /** @type {any} */ (source.video);
    return (video.captureStream ?? video.mozCaptureStream)?.call(video).getAudioTracks() ?? [];
  }
  return [];
}

function startKeys() {
  /** @type {Record<string, string>} */
  const buttons = { n: "neutral", m: "mirror", s: "snapshot", r: "record", f: "full", p: "clean", h: "keys" };
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
    if (/** @type {Element} */ (target).matches("input, select, textarea") || document.querySelector("dialog[open]")) return;
    if (key === "Escape") setClean(false);
    else if (/^[1-9]$/.test(key) && avatars[Number(key) - 1]) begin(() => choose(avatars[Number(key) - 1]));
    else if (buttons[key.toLowerCase()] && !element(buttons[key.toLowerCase()]).matches(":disabled, [inert] *")) element(buttons[key.toLowerCase()]).click();
    else return;
    event.preventDefault();
  });
  for (const id of ["keys", "details"]) element(id).onclick = () => element(`${id}-dialog`).showModal();
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("dialog .close"))) {
    button.onclick = () => button.closest("dialog")?.close();
  }
  element("key-list").append(
    ...texts.keyList.flatMap((/** @type {[string, string]} */ [label, help]) => [make("dt", { textContent: label }), make("dd", { textContent: help })]),
  );
}

start().catch((error) => fail(/fetch|network/i.test(String(error)) ? texts.notLoaded : texts.broken(String(error?.message ?? error))));
