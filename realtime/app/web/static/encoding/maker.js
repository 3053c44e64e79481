// Works out a picture's rig, in a worker of its own, with the Python that does so elsewhere (modules.js, which `livepuppet web` writes: see
// realtime/app/web/translate.py). Networks run beside the page's reader, and this waits for what they say.
import { makeAnswer, readAnswer } from "../answers.js";
import { NDArray, Slice, T, asArray } from "./arrays.js";
import { load } from "./modules.js";
import { py } from "./python.js";

/** @typedef {import("../npz.js").NumpyArray} NumpyArray */
/** What is asked of a network. @typedef {{network: "detect" | "closeUps" | "avatarEyes" | "closedEye" | "matting", inputs: NumpyArray[], answer: SharedArrayBuffer}} Question */

const arrayOf = (/** @type {any} */ { shape, values }) => new NDArray(values, Array.from(shape), "float32");
const plainOf = (/** @type {NDArray} */ array) => ({ shape: array._shape, values: array.flat.slice() });

/** @param {number} share of all work that is done */
const tellProgress = (share) => self.postMessage({ kind: "progress", share });

const answer = makeAnswer();
let questions = 0;

/** What a network says of these inputs. @param {Question["network"]} network @param {any[]} inputs */
function asked(network, inputs) {
  // Some forty are asked until the contours are looked for.
  tellProgress(Math.min(0.25, 0.006 * questions++));
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
    closedEye: (/** @type {any} */ input) => asked("closedEye", [input])[0],
    avatarEyes: () => "avatarEyes",
    closeUps: (/** @type {"avatarEyes" | null} */ path) => ({ get_inputs: () => inputs, run: (/** @type {any} */ _, /** @type {Map<string, any>} */ given) => asked(path ?? "closeUps", [...given.values()]) }),
    headTemplate: () => template,
    drawn: () => null,
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

  const { Face, Rig } = module("rig");
  const { one_layer: oneLayer, split_layers: splitLayers } = module("layers");
  const given = (/** @type {any} */ rig, /** @type {any} */ face, /** @type {any} */ more = {}) => {
    const [arrays, told] = module("tables").rig_tables(rig, face);
    return { file: { arrays: packed(arrays), told: plain(told) }, sheets: null, figure: null, notes: py.list(rig.notes), ...more };
  };
  tellProgress(0.02);
  // What is there moves already: the head alone, as one layer with all of the picture; then eyes and mouth, too.
  const bare = Face(keypoints, names, size, square);
  const whole = oneLayer(picture);
  const first = Rig(picture, bare, square, null, null, whole);
  tellMade(given(first, bare));
  const contours = module("finding").find(engine, picture, square);
  tellProgress(0.35);
  const face = Face(keypoints, names, size, square, contours);
  const rig = Rig(picture, face, square, null, null, whole, first.head.surface);
  tellMade(given(rig, face));
  tellProgress(0.5);
  const landmarks = face.on(square.x, square.y, square.side);
  const [, pose] = module("pose").place(landmarks, names);
  const layers = splitLayers(picture, square, landmarks, pose.scale, matte, pose.shift);
  tellProgress(0.9);
  rig.set_layers(layers);
  const figure = layers.matte === null ? null : module("matte").figure_colours(picture, layers.matte);
  const sheets = module("tables").sheets_tables(rig, figure);
  return given(rig, face, {
    sheets: sheets && { arrays: packed(sheets), told: null },
    figure: figure && { rgb: figure.flat.slice(), alpha: layers.matte.flat.slice(), width, height },
  });
}

/** @param {any} made @param {boolean} last whether nothing more comes */
const tellMade = (made, last = false) => self.postMessage({ kind: "made", made, last });

self.onmessage = ({ data }) => {
  try {
    tellMade(make(data), true);
  } catch (error) {
    self.postMessage({ kind: "failed", reason: String(/** @type {any} */ (error)?.stack ?? error) });
  }
};
