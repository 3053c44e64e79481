// Draws the avatar by its rig, in a worker of its own: while it draws one frame, the other worker reads the next. One motion waits,
// the newest.
import { fetched } from "./fetching.js";
import { readNpz } from "./npz.js";
import { pictureFrom } from "./rig/pixels.js";
import { Rig, unpacked } from "./rig/rig.js";

/** @typedef {import("./rig/rig.js").RigMotion} RigMotion */
/** What the page gets with the picture. @typedef {{captured: number, number: number, stages: Record<string, number>}} Told */

/** @typedef {import("./rig/rig.js").Part} Part */

/** @type {{rig: Rig, number: number, sheets: (() => Promise<Part>) | null} | null} */
let avatar = null;
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
 * @param {{number: number, picture: ImageBitmap, rig: string | null, sheets: string | null, made: {file: Part, sheets: Part | null} | null}} chosen
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
    avatar = { rig, number, sheets: ready ? async () => ready : flat && (async () => opened(await flat)) };
    if (cut) await setCut();
    reader.postMessage({ number, keypoints: file.told.keypoints });
  } catch (error) {
    reader.postMessage({ number, reason: String(/** @type {any} */ (error)?.message ?? error) });
  }
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
  motion: (message) => {
    if (newest === null) turn.port1.postMessage(null);
    newest = message;
  },
};

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
};
self.addEventListener("message", ({ data }) => attempt(data.kind, () => handlers[data.kind](data)));
