// The three calls (detect, encode, render) by onnxruntime-web, and the gate: what it draws is compared with what float32
// PyTorch drew, as in realtime/engines/quality_gate.py.
import { readNpz } from "./npz.js";
import { cropMaps, cutCrop, readingOf } from "./rig/closeups.js";
import * as ort from "./runtime/ort.wasm.min.mjs";

/** @typedef {import("./motion/keypoints.js").Keypoints} Keypoints */
/** @typedef {Record<string, any>} Features tensors, by name */
/** @typedef {{keypoints: number, matrices: number, pixelsMax: number, pixelsMean: number, psnr: number}} Quality */

/** The largest differences from float32 PyTorch that pass: `THRESHOLDS` of livepuppet/core/reference.py. @type {Record<string, Quality>} */
export const THRESHOLDS = {
  float32: { keypoints: 1e-4, matrices: 1e-3, pixelsMax: 4, pixelsMean: 0.02, psnr: 60 },
  float16: { keypoints: 2e-3, matrices: 2e-2, pixelsMax: 16, pixelsMean: 0.1, psnr: 55 },
  int8: { keypoints: 2e-3, matrices: 2e-2, pixelsMax: 80, pixelsMean: 0.5, psnr: 42 },
};

/** The runtime, which gzip packed: not every host does. */
export const RUNTIME = "./runtime/ort-wasm-simd-threaded.packed";

/** Whether faces are found as they should be. @param {Quality} found @param {string} precision */
export function finds(found, precision) {
  const allowed = THRESHOLDS[precision];
  // Not-a-number passes nothing.
  return found.keypoints <= allowed.keypoints && found.matrices <= allowed.matrices;
}

/** Whether pictures are drawn as they should be. @param {Quality} found @param {string} precision */
export function draws(found, precision) {
  const allowed = THRESHOLDS[precision];
  return found.pixelsMax <= allowed.pixelsMax && found.pixelsMean <= allowed.pixelsMean && found.psnr >= allowed.psnr;
}

/** @param {ArrayBuffer} graph */
const sessionOf = (graph) =>
  ort.InferenceSession.create(new Uint8Array(graph), {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
    enableCpuMemArena: true,
    enableMemPattern: true,
  });

/** Looks at faces closely. */
export class CloseUps {
  /**
   * @param {any} session
   * @param {string[]} names of the keypoints
   * @param {import("./rig/tracker.js").Knowledge} knowledge
   */
  constructor(session, names, knowledge) {
    this.session = session;
    this.constants = knowledge.constants;
    this.rows = this.constants.close_ups.PLACING.map((/** @type {string} */ name) => names.indexOf(name));
    /** @type {Record<string, any>} */
    this.inputs = {};
    /** @type {{side: number, pixels: Uint8Array}[]} */
    this.crops = [];
    // Crops of one size are one input, in the order of `cropMaps`.
    for (const [name, [count, side]] of Object.entries(this.constants.sizes)) {
      const pixels = new Uint8Array(count * side * side * 3);
      this.inputs[name] = new ort.Tensor("uint8", pixels, [count, side, side, 3]);
      for (let at = 0; at < count; at++) this.crops.push({ side, pixels: pixels.subarray(at * side * side * 3, (at + 1) * side * side * 3) });
    }
  }

  /** @param {ArrayBuffer} graph @param {string[]} names @param {import("./rig/tracker.js").Knowledge} knowledge */
  static async open(graph, names, knowledge) {
    return new CloseUps(await sessionOf(graph), names, knowledge);
  }

  /**
   * All outputs of the graph, in its order, of crops that were cut elsewhere.
   * @param {import("./npz.js").NumpyArray[]} crops
   * @returns {Promise<import("./npz.js").NumpyArray[]>}
   */
  async read(crops) {
    const names = Object.keys(this.inputs);
    const found = await this.session.run(Object.fromEntries(crops.map(({ shape, values }, at) => [names[at], new ort.Tensor("uint8", /** @type {Uint8Array} */ (values), shape)])));
    return this.session.outputNames.map((/** @type {string} */ name) => ({ shape: found[name].dims, values: found[name].data.slice() }));
  }

  /**
   * What is seen of the face with keypoints `points`, in [-1, 1] of the square.
   * @param {Float32Array} points
   * @param {number} size of the model's pictures
   * @param {import("./cutting.js").SquareView} view of the square
   * @returns {Promise<import("./rig/closeups.js").FaceReading | null>} null where the landmarks lie in a heap
   */
  async look(points, size, { view, side, left, top, flipped }) {
    // From keypoints to pixels of the view, and back.
    const unit = ((size - 1) / 2) * (side / size);
    const flip = flipped ? -1 : 1;
    const middle = [left + side / 2 - 0.5, top + side / 2 - 0.5];
    const at = this.rows.map((/** @type {number} */ row) => [middle[0] + flip * points[2 * row] * unit, middle[1] + points[2 * row + 1] * unit]);
    // A face that is mirrored is read as it is seen in the mirror.
    const seen = flipped ? at.map((/** @type {number[]} */ [x, y]) => [-x, y]) : at;
    const apart = Math.hypot(seen[2][0] - seen[0][0], seen[2][1] - seen[0][1]);
    if (!(apart > 3 && apart < 4 * Math.max(view.width, view.height))) return null;
    const maps = cropMaps(seen, this.constants.close_ups);
    for (const [index, { side: wide, pixels }] of this.crops.entries()) {
      const map = flipped ? maps[index].map((value, place) => (place < 3 ? -value : value)) : maps[index];
      cutCrop(view, map, wide, this.constants.close_ups.ALIASED, pixels);
    }
    const reading = readingOf(await this.session.run(this.inputs), maps, this.constants);
    const origin = flipped ? [-middle[0], middle[1]] : middle;
    reading.anchors = reading.anchors.map((value, place) => (value - origin[place % 2]) / unit);
    return reading;
  }
}

/** A network that looks at an avatar once. */
export class Graph {
  /** @param {any} session */
  constructor(session) {
    this.session = session;
  }

  /** @param {ArrayBuffer} graph */
  static async open(graph) {
    return new Graph(await sessionOf(graph));
  }

  /**
   * @param {import("./npz.js").NumpyArray} input its only one, float32
   * @param {string[]} names of the outputs that are wanted
   * @returns {Promise<import("./npz.js").NumpyArray[]>} of the only one of the batch
   */
  async look({ shape, values }, names) {
    const [input] = this.session.inputNames;
    const found = await this.session.run({ [input]: new ort.Tensor("float32", /** @type {Float32Array} */ (values), shape) }, names);
    return names.map((name) => ({ shape: found[name].dims.slice(1), values: found[name].data.slice() }));
  }
}

/** A model in one precision. */
export class Engine {
  /**
   * @param {{size: number, num_keypoints: number, keypoint_names: string[]}} bundle
   * @param {string} precision
   * @param {Record<string, any>} sessions
   */
  constructor(bundle, precision, sessions) {
    this.size = bundle.size;
    this.count = bundle.num_keypoints;
    this.names = bundle.keypoint_names;
    this.precision = precision;
    this._sessions = sessions;
  }

  /**
   * @param {any} bundle the content of bundle.json
   * @param {"float32" | "float16" | "int8"} precision
   * @param {Record<string, ArrayBuffer>} graphs by stage
   * @param {Engine | null} beside another one, whose sessions are used for stages without a graph
   */
  static async open(bundle, precision, graphs, beside = null) {
    /** @type {Record<string, any>} */
    const sessions = { ...beside?._sessions };
    for (const [stage, graph] of Object.entries(graphs)) sessions[stage] = await sessionOf(graph);
    return new Engine(bundle, precision, sessions);
  }

  /** @param {Uint8Array} square RGB (S, S, 3) @returns {Promise<Keypoints>} */
  async detect(square) {
    const frame = new ort.Tensor("uint8", square, [this.size, this.size, 3]);
    const { points, jacobians, confidence } = await this._sessions.detect.run({ frame });
    return { points: points.data, jacobians: jacobians.data, confidence: confidence?.data ?? null };
  }

  /** @param {Uint8Array} square RGB (S, S, 3) @returns {Promise<Features>} */
  encode(square) {
    return this._sessions.encode.run({ avatar: new ort.Tensor("uint8", square, [this.size, this.size, 3]) });
  }

  /**
   * The avatar moved: RGB (S, S, 3), and where in it each place came from, (h, w, 2).
   * @param {Features} features
   * @param {Keypoints} source
   * @param {Keypoints} driving
   * @returns {Promise<{pixels: Uint8Array, deformation: Float32Array, rows: number, columns: number}>}
   */
  async render(features, source, driving) {
    const points = (/** @type {Keypoints} */ one) => new ort.Tensor("float32", one.points, [this.count, 2]);
    const jacobians = (/** @type {Keypoints} */ one) => new ort.Tensor("float32", one.jacobians, [this.count, 2, 2]);
    const { prediction, deformation } = await this._sessions.render.run({
      ...features,
      source_points: points(source),
      source_jacobians: jacobians(source),
      driving_points: points(driving),
      driving_jacobians: jacobians(driving),
    });
    return { pixels: prediction.data, deformation: deformation.data, rows: deformation.dims[1], columns: deformation.dims[2] };
  }

  async close() {
    for (const session of Object.values(this._sessions)) await session.release();
  }
}

/** How many threads to run with, and the runtime itself. @param {number} threads @param {ArrayBuffer} binary of `RUNTIME` */
export function prepareRuntime(threads, binary) {
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = { mjs: new URL("./runtime/ort-wasm-simd-threaded.mjs", import.meta.url).href };
  ort.env.wasm.wasmBinary = binary;
}

/** @param {ArrayLike<number>} one @param {ArrayLike<number>} other */
function largestDifference(one, other) {
  let largest = 0;
  for (let at = 0; at < one.length; at++) {
    const difference = Math.abs(one[at] - other[at]);
    // Not-a-number is the largest.
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

/**
 * Run the engine on the bundle's reference: `compare` of livepuppet/core/reference.py.
 * @param {Engine} engine
 * @param {ArrayBuffer} found of the faces, reference.npz
 * @param {ArrayBuffer | null} drawn of the pictures, drawn.npz; null where it has no graphs to draw
 * @returns {Promise<Quality>}
 */
export async function compare(engine, found, drawn = null) {
  const reference = { ...(await readNpz(found)), ...(drawn && (await readNpz(drawn))) };
  const part = (/** @type {string} */ name, /** @type {number} */ index) => {
    const { shape, values } = reference[name];
    const length = shape.slice(1).reduce((product, size) => product * size, 1);
    return /** @type {any} */ (values.slice(index * length, (index + 1) * length));
  };
  const avatars = drawn ? Array.from(/** @type {BigInt64Array} */ (reference.avatars.values), Number) : [];
  const quality = { keypoints: 0, matrices: 0, pixelsMax: 0, pixelsMean: 0, psnr: Infinity };
  /** @type {Record<number, Features>} */
  const features = {};
  for (let index = 0; index < reference.pictures.shape[0]; index++) {
    const found = await engine.detect(part("pictures", index));
    quality.keypoints = Math.max(quality.keypoints, largestDifference(found.points, part("points", index)));
    quality.matrices = Math.max(quality.matrices, largestDifference(found.jacobians, part("matrices", index)));
    if (avatars.includes(index)) features[index] = await engine.encode(part("pictures", index));
  }
  for (const [index, avatar] of avatars.entries()) {
    const own = { points: part("points", avatar), jacobians: part("matrices", avatar), confidence: null };
    const driving = { points: part("driving_points", index), jacobians: part("driving_matrices", index), confidence: null };
    const { pixels } = await engine.render(features[avatar], own, driving);
    const expected = part("drawn", index);
    let [sum, squares] = [0, 0];
    for (let at = 0; at < expected.length; at++) {
      const difference = Math.abs(pixels[at] - expected[at]);
      if (!(difference <= quality.pixelsMax)) quality.pixelsMax = difference;
      sum += difference;
      squares += difference * difference;
    }
    quality.pixelsMean = Math.max(quality.pixelsMean, sum / expected.length);
    quality.psnr = Math.min(quality.psnr, squares ? 10 * Math.log10((255 ** 2 * expected.length) / squares) : Infinity);
  }
  return quality;
}
