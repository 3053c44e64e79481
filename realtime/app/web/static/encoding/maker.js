// Works out a picture's rig, in a worker of its own, with the Python that does so elsewhere (modules.js, which `livepuppet web` writes: see
// realtime/app/web/translate.py). Networks run beside the page's reader: what is asked of them ends the attempt; with the answer it begins
// again, and earlier answers are at hand.
import { NDArray, Slice, T, asArray } from "./arrays.js";
import { load } from "./modules.js";
import { py } from "./python.js";

/** @typedef {import("../npz.js").NumpyArray} NumpyArray */
/** What is asked of a network. @typedef {{network: "detect" | "closeUps" | "avatarEyes" | "matting", inputs: NumpyArray[]}} Question */

class Wanted extends Error {
  /** @param {Question} wanted */
  constructor(wanted) {
    super("wanted");
    this.wanted = wanted;
  }
}

/** @type {NumpyArray[][]} */
let answers = [];
let answered = 0;
/** @type {(answer: NumpyArray[]) => void} */
let go = () => {};

const kinds = new Map([[Uint8Array, "uint8"], [Float32Array, "float32"], [Float64Array, "float64"], [Int8Array, "int8"]]);
const arrayOf = (/** @type {any} */ { shape, values }) => new NDArray(values, Array.from(shape), kinds.get(values.constructor) ?? "float32");
const plainOf = (/** @type {NDArray} */ array) => ({ shape: array._shape, values: array.flat.slice() });

/** What a network says of these inputs. @param {Question["network"]} network @param {any[]} inputs */
function asked(network, inputs) {
  const known = answers[answered];
  if (!known) throw new Wanted({ network, inputs: inputs.map((one) => plainOf(asArray(one))) });
  answered += 1;
  return known.map(arrayOf);
}

/** @param {number} share of all work that is done */
const tellProgress = (share) => self.postMessage({ kind: "progress", share });

/** What `act` gives once networks have said all that it asks. @template R @param {() => R} act @param {number} from @param {number} to shares of the work @param {number} count of questions, about @returns {Promise<R>} */
async function withAnswers(act, from, to, count) {
  answers = [];
  for (;;) {
    answered = 0;
    try {
      return act();
    } catch (error) {
      const { wanted } = /** @type {any} */ (error);
      if (!wanted) throw error;
      tellProgress(from + (to - from) * (1 - 1 / (1 + (2 * answers.length) / count)));
      answers.push(await new Promise((resolve) => {
        go = resolve;
        self.postMessage({ kind: "asked", ...wanted });
      }));
    }
  }
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
async function make({ picture: { width, height, rgb, alpha }, square: place, keypoints: own, names: ownNames, size, knowledge }) {
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

  tellProgress(0);
  const contours = await withAnswers(() => module("finding").find(engine, picture, square), 0, 0.4, 40);
  const face = module("rig").Face(keypoints, names, size, square, contours);
  const landmarks = face.on(square.x, square.y, square.side);
  const placed = module("pose").place(landmarks, names);
  if (placed === null) throw new Error("no face");
  const [, pose] = placed;
  const layers = await withAnswers(() => module("layers").split_layers(picture, square, landmarks, pose.scale, matte, pose.shift), 0.4, 0.65, 3);
  tellProgress(0.65);
  const rig = module("rig").Rig(picture, face, square, matte, null, layers);
  tellProgress(0.9);
  const [arrays, told] = module("tables").rig_tables(rig, face);
  const sheets = module("tables").sheets_tables(rig, face, square);
  const figure = layers.matte === null ? null : module("matte").figure_colours(picture, layers.matte);
  return {
    file: { arrays: packed(arrays), told: plain(told) },
    sheets: sheets && { arrays: packed(sheets), told: null },
    figure: figure && { rgb: figure.flat.slice(), alpha: layers.matte.flat.slice(), width, height },
    notes: py.list(rig.notes),
  };
}

self.onmessage = async ({ data }) => {
  if (data.kind === "answer") {
    go(data.outputs);
    return;
  }
  try {
    self.postMessage({ kind: "made", made: await make(data) });
  } catch (error) {
    self.postMessage({ kind: "failed", reason: String(/** @type {any} */ (error)?.stack ?? error) });
  }
};
