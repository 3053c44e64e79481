// Everything from a camera's frame to the avatar's next picture, beside the page, so that the page never waits.
import { Cutter } from "./cutting.js";
import { Engine, compare, fetched, passes, prepareRuntime } from "./engine.js";
import { Follower, whole } from "./motion/follow.js";
import { centredSquare, reexpressed, seek, squareFor } from "./motion/framing.js";
import { DEFAULTS, Retargeter } from "./motion/retargeter.js";

/** @typedef {import("./motion/framing.js").Square} Square */
/** @typedef {import("./motion/keypoints.js").Keypoints} Keypoints */

/** What the model is loaded in, the faster first. The next is taken where one does not pass the gate. */
const PRECISIONS = /** @type {const} */ (["int8", "float32"]);

/** Looks for a face in so many frames before the middle of the picture has to do. */
const PATIENCE = 4;

/** Seconds without a face before it is looked for anew, and between two such looks. */
const LOST_SECONDS = 3;

/** @type {Engine} */
let engine;
/** @type {Retargeter} */
let retargeter;
/** @type {{features: import("./engine.js").Features, keypoints: Keypoints, number: number} | null} */
let avatar = null;
/** @type {Square | null} */
let square = null;
let [tries, lostSince] = [0, NaN];
/** Whether the square was put around a face. */
let isOfFace = false;
const follower = new Follower();
let mirror = false;
/** @type {Cutter} */
let cutter;

/** @param {object} message @param {Transferable[]} transfer */
const tell = (message, transfer = []) => /** @type {any} */ (self).postMessage(message, transfer);

/** @param {ArrayBuffer} data */
async function checksum(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Load the model, and take the fastest way that draws what it should. @param {{threads: number, precision: string | null}} wanted */
async function start({ threads, precision: only }) {
  prepareRuntime(threads);
  const bundle = JSON.parse(new TextDecoder().decode(await fetched("./model/bundle.json")));
  /** @type {Map<string, ArrayBuffer>} */
  const files = new Map();
  /** @type {Map<string, number>} */
  const counts = new Map();
  const file = async (/** @type {{file: string, sha256: string}} */ entry) => {
    const known = files.get(entry.file);
    if (known) return known;
    const data = await fetched(`./model/${entry.file}`, (bytes) => {
      counts.set(entry.file, bytes);
      tell({ kind: "progress", bytes: [...counts.values()].reduce((sum, count) => sum + count, 0) });
    });
    if ((await checksum(data)) !== entry.sha256) throw new Error("damaged");
    files.set(entry.file, data);
    return data;
  };
  let refused = "";
  for (const precision of PRECISIONS) {
    const entries = precision === "float32" ? bundle.graphs : bundle.variants?.[precision];
    if (!entries || (only && only !== precision)) continue;
    const [detect, encode, render, reference] = await Promise.all(
      [entries.detect, entries.encode, entries.render, bundle.reference].map(file),
    );
    const began = performance.now();
    const candidate = await Engine.open(bundle, precision, { detect, encode, render });
    const loaded = performance.now();
    const quality = await compare(candidate, reference);
    if (passes(quality, precision)) {
      engine = candidate;
      retargeter = new Retargeter(bundle.keypoint_names, DEFAULTS);
      const { size } = engine;
      cutter = new Cutter(size);
      tell({ kind: "ready", precision, threads, quality, refused, size, loading: loaded - began, gate: performance.now() - loaded });
      return;
    }
    refused = precision;
    await candidate.close();
  }
  throw new Error("gate");
}

/** @param {{number: number, picture: ImageBitmap, square: Square | null, small: Uint8Array | null}} chosen */
async function setAvatar({ number, picture, square: given, small: prepared }) {
  const { width, height } = picture;
  const face = given ? null : await faceIn(picture);
  const place = given ?? squareFor(picture, face);
  // To whole pixels: what was cut is what has to be put back.
  const cutAs = whole(place);
  const small = prepared ?? cutter.drawn(picture, width, height, cutAs, false).slice();
  const keypoints = await engine.detect(small);
  avatar = { features: await engine.encode(small), keypoints, number };
  retargeter.setAvatar(keypoints);
  picture.close();
  tell({ kind: "avatar", number, square: cutAs, small, found: given !== null || face !== null });
}

/** Forget where the driver's face is. @param {number} countdown */
function beginAnew(countdown) {
  square = null;
  tries = 0;
  lostSince = NaN;
  retargeter?.reset(countdown);
}

/**
 * @param {{picture: VideoFrame | ImageBitmap, width: number, height: number, time: number, captured: number}} frame
 *     `time` in seconds; `captured` is given back with the picture
 */
async function drive({ picture, width, height, time, captured }) {
  const began = performance.now();
  if (square === null) await find(picture, width, height);
  const place = square;
  if (place === null || avatar === null) {
    picture.close();
    tell({ kind: "picture", captured, state: "looking", square: null, number: avatar?.number ?? 0 });
    return;
  }
  const cropped = await cutter.cut(picture, width, height, place, mirror);
  const cutAt = performance.now();
  const driving = await engine.detect(cropped);
  const moved = retargeter.move(driving, time);
  const detected = performance.now();
  await watch(picture, width, height, time);
  picture.close();
  if (square === place && isOfFace) follow(place, { width, height }, driving, time);
  const told = {
    kind: "picture",
    captured,
    state: retargeter.state,
    square: place,
    number: avatar.number,
    left: retargeter.countdownLeft,
    fit: retargeter.fit,
    initialFit: retargeter.initialFit,
  };
  if (moved === null) {
    tell(told);
    return;
  }
  const drawn = await engine.render(avatar.features, avatar.keypoints, moved);
  const stages = { cut: cutAt - began, detect: detected - cutAt, render: performance.now() - detected };
  const { pixels, deformation } = drawn;
  tell({ ...told, pixels, deformation, rows: drawn.rows, columns: drawn.columns, stages }, [pixels.buffer, deformation.buffer].map((one) => /** @type {ArrayBuffer} */ (one)));
}

/**
 * The square around the face in a picture; null where there is none.
 * @param {VideoFrame | ImageBitmap} picture
 */
async function faceIn(picture) {
  // Of which many squares are cut: a frame would be turned into pixels for each.
  const still = await createImageBitmap(picture);
  const look = (/** @type {Square} */ place) => engine.detect(cutter.drawn(still, still.width, still.height, whole(place), false));
  const face = await seek(still, look, engine.size, engine.names);
  still.close();
  return face;
}

/**
 * Let the square go with the head, slowly. Takes effect with the next frame.
 * @param {Square} place
 * @param {{width: number, height: number}} frame
 * @param {Keypoints} driving
 * @param {number} time
 */
function follow(place, frame, driving, time) {
  const flipped = (/** @type {Square} */ one) => (mirror ? { ...one, x: -one.x - one.side } : one);
  const points = mirror ? driving.points.map((value, at) => (at % 2 ? value : -value)) : driving.points;
  square = follower.follow(place, frame, { ...driving, points }, time);
  const [before, after] = [whole(place), whole(square)];
  if (before.x === after.x && before.y === after.y && before.side === after.side) return;
  retargeter.remap((keypoints) => reexpressed(keypoints, flipped(before), flipped(after), engine.size));
}

/**
 * Look for the driver's face in the whole frame.
 * @param {VideoFrame | ImageBitmap} picture
 * @param {number} width
 * @param {number} height
 */
async function find(picture, width, height) {
  const face = await faceIn(picture);
  tries += 1;
  if (face !== null || tries >= PATIENCE) {
    settle({ width, height }, face);
    if (face === null) tell({ kind: "noFace" });
  }
}

/**
 * After some seconds without a face it is looked for elsewhere.
 * @param {VideoFrame | ImageBitmap} picture
 * @param {number} width
 * @param {number} height
 * @param {number} time
 */
async function watch(picture, width, height, time) {
  if (retargeter.state !== "lost") {
    lostSince = NaN;
    return;
  }
  if (Number.isNaN(lostSince)) lostSince = time;
  if (time - lostSince < LOST_SECONDS) return;
  lostSince = time;
  const face = await faceIn(picture);
  if (face === null) return;
  settle({ width, height }, face);
  retargeter.reset(0);
}

/** @param {{width: number, height: number}} frame @param {Square | null} face what `seek` found */
function settle(frame, face) {
  square = squareFor(frame, face);
  // The middle, or all of a picture, stays where it is.
  const middle = centredSquare(frame.height, frame.width);
  isOfFace = face !== null && !(square.x === middle.x && square.y === middle.y && square.side === middle.side);
  follower.reset();
}

/** @type {Record<string, (message: any) => unknown>} */
const handlers = {
  start,
  avatar: setAvatar,
  frame: drive,
  settings: ({ settings }) => {
    retargeter.settings = { ...retargeter.settings, ...settings };
  },
  mirror: ({ on }) => {
    mirror = on;
    retargeter.reset(0);
  },
  neutral: ({ countdown }) => retargeter.reset(countdown),
  anew: ({ countdown }) => beginAnew(countdown),
};

// One message after another: the engine has one set of threads, and a frame sees one avatar.
/** @type {Promise<unknown>} */
let queue = Promise.resolve();
self.addEventListener("message", ({ data }) => {
  queue = queue.then(() => handlers[data.kind](data)).catch((error) => {
    tell({ kind: "failed", during: data.kind, number: data.number, reason: String(error?.message ?? error) });
  });
});
