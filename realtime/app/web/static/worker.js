// From a camera's frame to what the avatar does, beside the page, so that the page never waits. Rigs are drawn by another worker
// (drawing.js); what has none is drawn here, by the network.
import { Cutter } from "./cutting.js";
import { writeAnswer } from "./answers.js";
import { CloseUps, Engine, Graph, RUNTIME, compare, draws, finds, prepareRuntime } from "./engine.js";
import { fetched, unpacked } from "./fetching.js";
import { unhalved, unquartered } from "./halves.js";
import { Follower, whole } from "./motion/follow.js";
import { centredSquare, reexpressed, seek, squareFor } from "./motion/framing.js";
import { DEFAULTS, Retargeter } from "./motion/retargeter.js";
import { readNpz } from "./npz.js";
import { remember, remembered } from "./remembering.js";
import { RigDriver } from "./rig/driver.js";
import { knowledgeFrom } from "./rig/tracker.js";

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
/**
 * What is moved.
 * @typedef {object} Avatar
 * @property {Keypoints} keypoints
 * @property {number} number
 * @property {import("./engine.js").Features | null} features to draw it by; null where its rig does
 */

/** @type {Avatar | null} */
let avatar = null;
/** Load what the model draws with: pictures without a rig need it. @type {() => Promise<void>} */
let loadDrawing;
let canDraw = false;
/** Load what tells figures apart: pictures whose rig is made here need it. @type {() => Promise<Graph>} */
let loadMatting;
/** @type {Graph | null} */
let matting = null;
/** Load what closes their eyes. @type {() => Promise<Graph>} */
let loadClosedEye;
/** @type {Graph | null} */
let closedEye = null;
/** Load what reads the eyes of pictures. @type {() => Promise<CloseUps>} */
let loadAvatarEyes;
/** @type {CloseUps | null} */
let avatarEyes = null;
/** What a rig's making needs to know. @type {import("./rig/tracker.js").Knowledge} */
let knowledge;
/** What makes a rig now. @type {{stop: () => void} | null} */
let making = null;
/** @type {CloseUps} */
let closeUps;
/** @type {RigDriver} */
let driver;
/** The worker that draws rigs. @type {MessagePort} */
let drawer;
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

/** Load the networks that read faces, once. @type {() => Promise<void>} */
let networks;

/** Load what a picture with a rig takes; networks come after it. @param {{threads: number, precision: string | null, port: MessagePort}} wanted */
async function start({ threads, precision: only, port }) {
  drawer = port;
  const bundle = JSON.parse(new TextDecoder().decode(await fetched("./model/bundle.json")));
  const { keypoint_names: names, size } = bundle;
  /** @type {Map<string, Promise<ArrayBuffer>>} */
  const files = new Map();
  /** @type {Map<string, number>} */
  const counts = new Map();
  const counted = (/** @type {string} */ path) =>
    fetched(path, (bytes) => {
      counts.set(path, bytes);
      tell({ kind: "progress", bytes: [...counts.values()].reduce((sum, count) => sum + count, 0) });
    });
  const load = async (/** @type {{file: string, sha256?: string}} */ { file: name, sha256 }) => {
    const data = await counted(`./model/${name}`);
    // Addresses that are not secure have no checksums.
    if (sha256 && isSecureContext && (await checksum(data)) !== sha256) throw new Error("damaged");
    return data;
  };
  const file = (/** @type {{file: string, sha256?: string}} */ entry) => {
    const known = files.get(entry.file) ?? load(entry);
    files.set(entry.file, known);
    return known;
  };
  const graphs = bundle.graphs;
  knowledge = knowledgeFrom(await readNpz(await file({ file: "reading.npz" })));
  retargeter = new Retargeter(names, DEFAULTS);
  driver = new RigDriver(names, retargeter.lids, knowledge);
  cutter = new Cutter(size);
  drawer.postMessage({ kind: "known", names, knowledge });
  const read = async () => {
    const began = performance.now();
    const [runtime, detect, reference, looks] = await Promise.all([counted(RUNTIME), ...[graphs.detect, bundle.reference, { file: "close-ups.half" }].map(file)]);
    const fetchedAt = performance.now();
    prepareRuntime(threads, await unpacked(runtime));
    engine = await Engine.open(bundle, "float16", { detect: unhalved(detect) });
    closeUps = await CloseUps.open(unhalved(looks), names, knowledge);
    const loaded = performance.now();
    const found = await compare(engine, reference);
    if (!finds(found, "float16")) throw new Error("gate");
    tell({ kind: "ready", threads, quality: found, loading: loaded - fetchedAt, gate: performance.now() - loaded, fetching: fetchedAt - began });
  };
  /** @type {Promise<void> | null} */
  let loading = null;
  networks = () => {
    if (!loading) {
      loading = read();
      loading.catch((error) => tell({ kind: "failed", during: "start", reason: reasonOf(error) }));
    }
    return loading;
  };
  loadDrawing = async () => {
    let refused = "";
    for (const precision of PRECISIONS) {
      const entries = precision === "float32" ? graphs : bundle.variants?.[precision];
      if (!entries || (only && only !== precision)) continue;
      const [encode, render, drawn] = await Promise.all([entries.encode, entries.render, bundle.drawn].map(file));
      const candidate = await Engine.open(bundle, precision, { encode, render }, engine);
      const quality = await compare(candidate, await file(bundle.reference), drawn);
      // How it finds faces was looked at when the page started.
      if (draws(quality, precision)) {
        engine = candidate;
        canDraw = true;
        tell({ kind: "network", precision, quality, refused });
        return;
      }
      refused = precision;
    }
    throw new Error("gate");
  };
  loadAvatarEyes = async () => (avatarEyes ??= await CloseUps.open(unhalved(await file({ file: "avatar-eyes.half" })), names, knowledge));
  loadMatting = async () => (matting ??= await Graph.open(unquartered(await file(bundle.matting))));
  loadClosedEye = async () => (closedEye ??= await Graph.open(unquartered(await file({ file: "closed-eye.quarter" }))));
}

/** @param {any} error */
const reasonOf = (error) => String(error?.message ?? error);

/**
 * @typedef {object} Chosen
 * @property {number} number
 * @property {ImageBitmap} picture
 * @property {Square | null} square
 * @property {Uint8Array | null} small
 * @property {string | null} rig address
 * @property {string | null} sheets address
 * @property {Made | null} made its rig, if that was made here
 * @property {Uint8Array | null} alpha (height, width), of a picture that is transparent itself
 * @property {boolean} byNetwork whether no rig is wanted
 */

/** What encoding/maker.js gives. @typedef {{file: any, sheets: any, figure: any, notes: string[]}} Made */

/** @param {Chosen} chosen */
async function setAvatar({ number, picture, square: given, small: prepared, rig, sheets, made: known, alpha, byNetwork }) {
  const { width, height } = picture;
  if (!given || !(rig || known)) await networks();
  const face = given ? null : await faceIn(picture, true);
  const place = given ?? squareFor(picture, face);
  // To whole pixels: what was cut is what has to be put back.
  const cutAs = whole(place);
  const small = prepared ?? cutter.drawn(picture, width, height, cutAs, false).slice();
  let features = null;
  /** @type {Keypoints} */
  let keypoints;
  let made = known;
  let last = true;
  if (!rig && !made && !byNetwork && self.crossOriginIsolated) {
    const begun = await rigOf(picture, cutAs, await engine.detect(small), alpha, number);
    if (begun) ({ made, last } = begun);
  }
  if (rig || made) {
    keypoints = await drawnByRig({ kind: "avatar", number, picture, rig, sheets, made });
  } else {
    if (!canDraw) await loadDrawing();
    keypoints = await engine.detect(small);
    features = await engine.encode(small);
    picture.close();
  }
  avatar = { features, keypoints, number };
  retargeter.setAvatar(keypoints);
  driver.restart();
  tell({ kind: "avatar", number, square: cutAs, small, size: cutter.size, found: given !== null || face !== null, rig: Boolean(rig || made), last, made: known || !last ? null : made });
}

/**
 * A picture's rig, made here, as far as it can move already; `improve` is told of the rest. Null where that does not succeed.
 * @param {ImageBitmap} picture @param {Square} square @param {Keypoints} keypoints of the square @param {Uint8Array | null} alpha
 * @param {number} number of the avatar
 * @returns {Promise<{made: Made, last: boolean} | null>}
 */
async function rigOf(picture, square, keypoints, alpha, number) {
  const { width, height } = picture;
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true }));
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb[to] = data[from];
    rgb[to + 1] = data[from + 1];
    rgb[to + 2] = data[from + 2];
  }
  const key = await keyOf({ width, height, square }, [rgb, alpha ?? new Uint8Array()]);
  const known = await remembered(key);
  if (known) return { made: known, last: true };
  const maker = new Worker(new URL("./encoding/maker.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    let moves = false;
    const end = () => {
      making = null;
      maker.terminate();
    };
    const fail = (/** @type {string} */ reason) => {
      end();
      tell({ kind: "unmade", number, reason, moves });
      resolve(null);
    };
    making = {
      stop: () => {
        end();
        reject(new Error("another picture"));
      },
    };
    maker.onerror = ({ message }) => fail(message || "the rig's maker could not be loaded");
    maker.onmessage = ({ data: told }) => {
      if (told.kind === "progress") tell({ kind: "making", number, share: told.share });
      else if (told.kind === "failed") fail(told.reason);
      else if (told.kind === "asked") {
        const asked = async () => writeAnswer(told.answer, await answerOf(told));
        // Once frames are looked at again, networks take turns.
        (moves ? inTurn(asked) : asked()).catch((error) => fail(reasonOf(error)));
      } else {
        if (told.last) {
          end();
          remember(key, told.made);
        }
        if (!moves) resolve({ made: told.made, last: told.last });
        else inTurn(() => improve(number, told.made, told.last));
        moves = true;
      }
    };
    const { points, jacobians, confidence } = keypoints;
    maker.postMessage({ kind: "make", picture: { width, height, rgb, alpha }, square, keypoints: { points, jacobians, confidence }, names: engine.names, size: engine.size, knowledge });
  });
}

/** Draw an avatar by more of its rig than before. @param {number} number of the avatar @param {Made} made @param {boolean} last whether that is all */
async function improve(number, made, last) {
  if (avatar?.number !== number) return;
  await drawnByRig({ kind: "better", number, made });
  tell({ kind: "better", number, made: last ? made : null });
}

/**
 * What a rig is kept by: this site's version, the picture, and what is told of it.
 * @param {object} told @param {any[]} pixels
 */
async function keyOf(told, pixels) {
  const version = await fetched("./files.js").catch(() => new ArrayBuffer(0));
  return checksum(await new Blob([version, JSON.stringify(told), ...pixels]).arrayBuffer());
}

/** What a network says. @param {{network: string, inputs: import("./npz.js").NumpyArray[]}} question @returns {Promise<import("./npz.js").NumpyArray[]>} */
async function answerOf({ network, inputs }) {
  if (network === "matting") return (await loadMatting()).look(inputs[0], ["alpha", "depth"]);
  if (network === "closedEye") return (await loadClosedEye()).look(inputs[0], ["closed"]);
  if (network === "closeUps") return closeUps.read(inputs);
  if (network === "avatarEyes") return (await loadAvatarEyes()).read(inputs);
  const { points, jacobians, confidence } = await engine.detect(/** @type {Uint8Array} */ (inputs[0].values));
  const count = engine.names.length;
  return [{ shape: [count, 2], values: points }, { shape: [count, 2, 2], values: jacobians }, { shape: [count], values: confidence ?? new Float32Array(count).fill(1) }];
}

/**
 * Have the other worker draw a picture by its rig, or one that it has by a better one.
 * @param {{kind: "avatar" | "better", number: number, made: Made | null, picture?: ImageBitmap, rig?: string | null, sheets?: string | null}} chosen
 * @returns {Promise<Keypoints>}
 */
async function drawnByRig(chosen) {
  drawer.postMessage(chosen, chosen.picture ? [chosen.picture] : []);
  const { data } = await new Promise((resolve) => (drawer.onmessage = resolve));
  if (data.reason) throw new Error(data.reason);
  return data.keypoints;
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
    tell({ kind: "looked", captured, state: "looking", square: null, number: avatar?.number ?? 0, shows: false });
    return;
  }
  const { number, features } = avatar;
  const cropped = await cutter.cut(picture, width, height, place, mirror);
  const cutAt = performance.now();
  const driving = await engine.detect(cropped);
  const detected = performance.now();
  if (!features && cutter.seen) driving.reading = await closeUps.look(driving.points, engine.size, cutter.seen);
  const moved = retargeter.move(driving, time);
  const looked = performance.now();
  await watch(picture, width, height, time);
  picture.close();
  if (square === place && isOfFace) follow(place, { width, height }, driving, time);
  const stages = { cut: cutAt - began, detect: detected - cutAt, look: looked - detected, render: 0 };
  const drawn = { kind: "picture", captured, number, stages };
  let shows = moved !== null;
  if (moved !== null && features) {
    const drawing = performance.now();
    const { pixels, deformation, rows, columns } = await engine.render(features, avatar.keypoints, moved);
    stages.render = performance.now() - drawing;
    tell({ ...drawn, pixels, deformation, rows, columns }, [pixels.buffer, deformation.buffer].map((one) => /** @type {ArrayBuffer} */ (one)));
  } else if (moved !== null) {
    const { transferred } = retargeter;
    shows = transferred !== null && driver.canUse(transferred.initial);
    if (transferred && shows) drawer.postMessage({ kind: "motion", motion: driver.motion(transferred, avatar.keypoints, retargeter.settings), told: drawn });
  }
  const { state, countdownLeft: left, fit, initialFit } = retargeter;
  tell({ kind: "looked", captured, state, square: place, number, left, fit, initialFit, shows });
}

/**
 * The square around the face in a picture; null where there is none.
 * @param {VideoFrame | ImageBitmap} picture @param {boolean} still
 */
async function faceIn(picture, still = false) {
  // Of which many squares are cut: a frame would be turned into pixels for each.
  const frame = await createImageBitmap(picture);
  const look = (/** @type {Square} */ place) => engine.detect(cutter.drawn(frame, frame.width, frame.height, whole(place), false));
  const face = await seek(frame, look, engine.size, engine.names, still);
  frame.close();
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
  avatar: (chosen) => setAvatar(chosen).finally(() => void networks().catch(() => {})),
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

/** @param {() => unknown} act */
function inTurn(act) {
  const done = queue.then(act);
  queue = done.catch(() => {});
  return done;
}

self.addEventListener("message", ({ data }) => {
  if (data.kind === "avatar") making?.stop();
  inTurn(() => handlers[data.kind](data)).catch((error) => {
    tell({ kind: "failed", during: data.kind, number: data.number, reason: reasonOf(error) });
  });
});
