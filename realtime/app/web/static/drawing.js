// Draws the avatar by its rig, in a worker of its own: while it draws one frame, the other worker reads the next. One motion waits,
// the newest.
import { Example } from "./example.js";
import { fetched } from "./fetching.js";
import { readNpz } from "./npz.js";
import { pictureFrom } from "./rig/pixels.js";
import { Rig, unpacked } from "./rig/rig.js";

/** @typedef {import("./rig/rig.js").RigMotion} RigMotion */
/** @typedef {import("./motion/keypoints.js").Keypoints} Keypoints */
/**
 * What the page gets with the picture; `example` where no camera or clip drives it.
 * @typedef {{captured: number, number: number, stages: Record<string, number>, example?: boolean}} Told
 */

/** @typedef {import("./rig/rig.js").Part} Part */

/** @typedef {{file: Part, sheets: Part | null}} Made */

/** @type {{rig: Rig, number: number, keypoints: Keypoints, sheets: (() => Promise<Part>) | null} | null} */
let avatar = null;
/** What reads drivers knows. @type {{names: string[], knowledge: import("./rig/tracker.js").Knowledge} | null} */
let known = null;
/** @type {Promise<Example> | null} */
let example = null;
/** Whether the picture's own background is left out. */
let cut = false;
/** Memory for pictures that the page has shown. @type {ArrayBuffer[]} */
const spare = [];
/** @type {{motion: RigMotion, told: Told} | null} */
let newest = null;
/** Where motions come from. @type {MessagePort} */
let reader;

// Its message comes after those that wait already, of which the last one counts.
const turn = new MessageChannel();
turn.port2.onmessage = () => attempt("draw", draw);

/** @param {object} message @param {Transferable[]} transfer */
const tell = (message, transfer = []) => /** @type {any} */ (self).postMessage(message, transfer);

/** @param {string} during @param {() => unknown} act */
async function attempt(during, act) {
  try {
    await act();
  } catch (error) {
    tell({ kind: "failed", during, reason: String(/** @type {any} */ (error)?.message ?? error) });
  }
}

/** Pixels of a picture that the browser can read. @param {ImageBitmapSource} source */
async function pixelsOf(source) {
  const bitmap = await createImageBitmap(source, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true }));
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/** @param {ArrayBuffer} file */
const opened = async (file) => unpacked(await readNpz(file), (data) => pixelsOf(new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (data)])));

/**
 * Draw another avatar from now on; answers with its keypoints, or with what went wrong.
 * @param {{number: number, picture: ImageBitmap, rig: string | null, sheets: string | null, made: Made | null}} chosen
 *     `rig` and `sheets` are addresses, `made` is both where they were made here
 */
async function setAvatar({ number, picture, rig: address, sheets, made }) {
  try {
    const { data, width, height } = await pixelsOf(picture);
    picture.close();
    const file = made ? made.file : await opened(await fetched(`./avatars/${address}`));
    const rig = new Rig(file, pictureFrom({ shape: [height, width, 4], values: new Uint8Array(data.buffer) }));
    // Fetched now, so that nothing is while the page is in use.
    const flat = sheets ? fetched(`./avatars/${sheets}`) : null;
    const ready = made?.sheets ?? null;
    const { points, jacobians } = file.told.keypoints;
    const keypoints = { points: Float32Array.from(points.flat()), jacobians: Float32Array.from(jacobians.flat(2)), confidence: null };
    avatar = { rig, number, keypoints, sheets: ready ? async () => ready : flat && (async () => opened(await flat)) };
    if (cut) await setCut();
    reader.postMessage({ number, keypoints });
  } catch (error) {
    reader.postMessage({ number, reason: String(/** @type {any} */ (error)?.message ?? error) });
  }
}

/** Draw the present avatar by more of its rig. @param {{number: number, made: Made}} better */
async function improve({ number, made: { file, sheets } }) {
  if (avatar?.number === number) {
    avatar.rig = new Rig(file, avatar.rig.picture);
    avatar.sheets = sheets && (async () => sheets);
    if (cut) await setCut();
  }
  reader.postMessage({ number, keypoints: avatar?.keypoints });
}

/** Make ready for another background. */
async function setCut() {
  if (avatar?.sheets && !avatar.rig.cut) avatar.rig.setCut(await avatar.sheets());
}

function draw() {
  if (!newest) return;
  const { motion, told } = newest;
  newest = null;
  if (told.number !== avatar?.number) return;
  const { rig, sheets } = avatar;
  // Not ready for the other background yet.
  if (cut && sheets && !rig.cut) return;
  const began = performance.now();
  const bytes = 4 * rig.width * rig.height;
  const memory = spare.find((one) => one.byteLength === bytes) ?? new ArrayBuffer(bytes);
  spare.length = 0;
  rig.draw(motion, new Int32Array(memory), cut);
  const stages = { ...told.stages, render: performance.now() - began };
  tell({ ...told, kind: "picture", cut, whole: memory, width: rig.width, height: rig.height, stages }, [memory]);
}

/** @type {Record<string, (message: any) => unknown>} */
const read = {
  avatar: setAvatar,
  better: improve,
  motion: show,
  known: (message) => {
    known = message;
  },
};

/** @param {{motion: RigMotion, told: Told}} message */
function show(message) {
  if (newest === null) turn.port1.postMessage(null);
  newest = message;
}

/** Move as the example does. @param {{time: number, settings: import("./motion/retargeter.js").Settings}} wanted time of its clip in seconds */
async function showExample({ time, settings }) {
  if (!known || !avatar) return;
  const { names, knowledge } = known;
  example ??= (async () => new Example(await readNpz(await fetched("./avatars/example.npz")), names, knowledge))();
  const moved = await example;
  moved.retargeter.settings = settings;
  const motion = moved.motion(avatar.keypoints, time);
  if (motion) show({ motion, told: { captured: 0, number: avatar.number, stages: {}, example: true } });
}

/** @type {Record<string, (message: any) => unknown>} */
const handlers = {
  start: ({ port }) => {
    reader = port;
    reader.onmessage = ({ data }) => read[data.kind](data);
  },
  cut: ({ on }) => {
    cut = on;
    return on ? setCut() : undefined;
  },
  shown: ({ memory }) => spare.push(memory),
  example: showExample,
};
self.addEventListener("message", ({ data }) => attempt(data.kind, () => handlers[data.kind](data)));
