// Works out a picture's rig, in a worker of its own, with the Python that does so elsewhere (modules.js, which `livepuppet web` writes: see
// realtime/app/web/translate.py). Networks run beside the page's reader, and this waits for what they say.
import { makeAnswer, readAnswer } from "../answers.js";
import { NDArray, Slice, T, asArray } from "./arrays.js";
import { load } from "./modules.js";
import { py } from "./python.js";

/** @typedef {import("../npz.js").NumpyArray} NumpyArray */
/** What is asked of a network. @typedef {{network: "detect" | "closeUps" | "avatarEyes" | "matting", inputs: NumpyArray[], answer: SharedArrayBuffer}} Question */

const arrayOf = (/** @type {any} */ { shape, values }) => new NDArray(values, Array.from(shape), "float32");
const plainOf = (/** @type {NDArray} */ array) => ({ shape: array._shape, values: array.flat.slice() });

/** @param {number} share of all work that is done */
const tellProgress = (share) => self.postMessage({ kind: "progress", share });

const answer = makeAnswer();
let questions = 0;

/** What a network says of these inputs. @param {Question["network"]} network @param {any[]} inputs */
function asked(network, inputs) {
  // Some forty are asked until the contours are looked for.
  tellProgress(Math.min(0.3, 0.007 * questions++));
  self.postMessage({ kind: "asked", network, inputs: inputs.map((one) => plainOf(asArray(one))), answer });
  return readAnswer(answer).map(arrayOf);
}

/** As JSON has it. @param {any} one @returns {any} */
function plain(one) {
  if (one instanceof NDArray) return one.tolist();
  if (one instanceof Map) return Object.fromEntries([...one].map(([key, value]) => [key, plain(value)]));
  if (Array.isArray(one)) return Array.from(one, plain);
  return one instanceof Slice ? [one.start, one.stop] : one;
}

/** Arrays as rig.js takes them. @param {Map<string, NDArray>} arrays */
const packed = (arrays) => Object.fromEntries([...arrays].map(([name, array]) => [name, plainOf(array.dtype === "uint8" ? array : array.astype("float32"))]));

/**
 * @param {object} wanted
 * @param {{width: number, height: number, rgb: Uint8Array, alpha: Uint8Array | null}} wanted.picture alpha where it is transparent itself
 * @param {{x: number, y: number, side: number}} wanted.square whose face is meant
 * @param {{points: Float32Array, jacobians: Float32Array, confidence: Float32Array}} wanted.keypoints of that square
 * @param {string[]} wanted.names of the keypoints
 * @param {number} wanted.size
 * @param {any} wanted.knowledge see rig/tracker.js
 */
function make({ picture: { width, height, rgb, alpha }, square: place, keypoints: own, names: ownNames, size, knowledge }) {
  const count = knowledge.points.length / 3;
  const template = {
    points: new NDArray(Float64Array.from(knowledge.points), [count, 3], "float64"),
    normals: new NDArray(Float64Array.from(knowledge.normals), [count, 3], "float64"),
    landmarks: new Map(Object.entries(knowledge.landmarks).map(([name, point]) => [name, asArray(point)])),
  };
  const inputs = Object.entries(knowledge.constants.sizes).map(([name, [crops, side]]) => ({ name, shape: T(crops, side, side, 3) }));
  /** @type {Record<string, any>} */
  const modules = load({
    kept: (/** @type {any} */ seen, /** @type {any} */ face, /** @type {() => any} */ make) => make(),
    matting: (/** @type {any} */ input) => T(...asked("matting", [input])),
    avatarEyes: () => "avatarEyes",
    closeUps: (/** @type {"avatarEyes" | null} */ path) => ({ get_inputs: () => inputs, run: (/** @type {any} */ _, /** @type {Map<string, any>} */ given) => asked(path ?? "closeUps", [...given.values()]) }),
    headTemplate: () => template,
  });
  const module = (/** @type {string} */ name) => modules[Object.keys(modules).find((one) => one.endsWith(`.${name}`)) ?? ""];
  const { Keypoints } = module("keypoints");
  const names = T(...ownNames);
  const keypointsOf = (/** @type {NDArray[]} */ [points, jacobians, confidence]) => Keypoints(points, jacobians, confidence);
  const keypoints = keypointsOf([new NDArray(own.points, [names.length, 2], "float32"), new NDArray(own.jacobians, [names.length, 2, 2], "float32"), new NDArray(own.confidence, [names.length], "float32")]);
  const engine = { size, keypoint_names: names, detect: (/** @type {any} */ crop) => keypointsOf(asked("detect", [crop])) };
  const picture = new NDArray(rgb, [height, width, 3], "uint8");
  const matte = alpha && new NDArray(alpha, [height, width], "uint8");
  const square = module("square").Square(place.x, place.y, place.side);

  const contours = module("finding").find(engine, picture, square);
  tellProgress(0.4);
  const face = module("rig").Face(keypoints, names, size, square, contours);
  const landmarks = face.on(square.x, square.y, square.side);
  const placed = module("pose").place(landmarks, names);
  if (placed === null) throw new Error("no face");
  const [, pose] = placed;
  const layers = module("layers").split_layers(picture, square, landmarks, pose.scale, matte, pose.shift);
  tellProgress(0.75);
  const rig = module("rig").Rig(picture, face, square, matte, null, layers);
  tellProgress(0.9);
  const [arrays, told] = module("tables").rig_tables(rig, face);
  const sheets = module("tables").sheets_tables(rig);
  const figure = layers.matte === null ? null : module("matte").figure_colours(picture, layers.matte);
  return {
    file: { arrays: packed(arrays), told: plain(told) },
    sheets: sheets && { arrays: packed(sheets), told: null },
    figure: figure && { rgb: figure.flat.slice(), alpha: layers.matte.flat.slice(), width, height },
    notes: py.list(rig.notes),
  };
}

self.onmessage = ({ data }) => {
  try {
    self.postMessage({ kind: "made", made: make(data) });
  } catch (error) {
    self.postMessage({ kind: "failed", reason: String(/** @type {any} */ (error)?.stack ?? error) });
  }
};
