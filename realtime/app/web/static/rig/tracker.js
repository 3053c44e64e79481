// The driver's head as a rigid body in space: how it has turned, moved and grown since D1. See realtime/rig/pose.py.
import { REST, joined, product, split, transposed, turnedBy } from "./pose.js";

/** @typedef {import("./pose.js").HeadPose} HeadPose */
/** @typedef {import("../motion/keypoints.js").Keypoints} Keypoints */
/** @typedef {import("./closeups.js").FaceReading} FaceReading */

/**
 * What is known of heads before any has been looked at, and the numbers of realtime/rig.
 * @typedef {object} Knowledge
 * @property {any} constants by module
 * @property {Record<string, number[]>} landmarks of the generic head, (3,)
 * @property {Float32Array} points of its surface, (N, 3)
 * @property {Float32Array} normals
 * @property {import("./blendshapes.js").Blendshapes} blendshapes of the mouth
 */

/** @param {Record<string, import("../npz.js").NumpyArray>} arrays of the file @returns {Knowledge} */
export function knowledgeFrom(arrays) {
  const told = JSON.parse(new TextDecoder().decode(/** @type {Uint8Array} */ (arrays.told.values)));
  return { ...told, points: arrays.points.values, normals: arrays.normals.values };
}

/**
 * The solution of a symmetric system of equations, by elimination.
 * @param {Float64Array} matrix (n, n), is lost @param {Float64Array} right (n,), is lost @param {number} n
 */
function solved(matrix, right, n) {
  for (let pivot = 0; pivot < n; pivot++) {
    for (let row = pivot + 1; row < n; row++) {
      const factor = matrix[n * row + pivot] / matrix[n * pivot + pivot];
      for (let column = pivot; column < n; column++) matrix[n * row + column] -= factor * matrix[n * pivot + column];
      right[row] -= factor * right[pivot];
    }
  }
  for (let row = n - 1; row >= 0; row--) {
    for (let column = row + 1; column < n; column++) right[row] -= matrix[n * row + column] * right[column];
    right[row] /= matrix[n * row + row];
  }
  return right;
}

/**
 * Robust least squares of a scaled orthographic pose, by Gauss-Newton from where nothing has moved.
 * @param {any} constants of `pose`
 * @param {Float64Array} points (K, 3), in eye distances
 * @param {Float64Array} weights (K,)
 * @param {Float64Array} target (K, 2)
 * @param {[number, number]} prior widths of what turns and nods are expected to be
 * @param {number} rounds
 * @param {[number, number]} about the tilt that is expected
 * @returns {HeadPose}
 */
function fitted(constants, points, weights, target, prior, rounds, about = [0, 0]) {
  const { NOISE, OUTLIER, LARGEST_STEP } = constants;
  const count = weights.length;
  const shift = [0, 0];
  let total = 0;
  for (let at = 0; at < count; at++) {
    total += weights[at];
    for (let axis = 0; axis < 2; axis++) shift[axis] += weights[at] * (target[2 * at + axis] - points[3 * at + axis]);
  }
  shift[0] /= total;
  shift[1] /= total;
  let scale = 1;
  /** @type {number[]} */
  let rotation = about[0] || about[1] ? joined(about[0], about[1], 0) : [1, 0, 0, 0, 1, 0, 0, 0, 1];
  const square = [prior[1] ** 2, prior[0] ** 2];
  const normal = new Float64Array(36);
  const right = new Float64Array(6);
  const rows = [new Float64Array(6), new Float64Array(6)];
  for (let round = 0; round < rounds; round++) {
    normal.fill(0);
    right.fill(0);
    for (let at = 0; at < count; at++) {
      const [px, py, pz] = [points[3 * at], points[3 * at + 1], points[3 * at + 2]];
      const x = rotation[0] * px + rotation[1] * py + rotation[2] * pz;
      const y = rotation[3] * px + rotation[4] * py + rotation[5] * pz;
      const z = rotation[6] * px + rotation[7] * py + rotation[8] * pz;
      const error = [target[2 * at] - scale * x - shift[0], target[2 * at + 1] - scale * y - shift[1]];
      const off = (error[0] ** 2 + error[1] ** 2) / (NOISE * OUTLIER) ** 2;
      const weight = weights[at] / (1 + off) / NOISE ** 2;
      // By pitch, yaw, roll (about x, y, z), logarithm of the scale, shift.
      rows[0].set([0, scale * z, -scale * y, scale * x, 1, 0]);
      rows[1].set([-scale * z, 0, scale * x, scale * y, 0, 1]);
      for (let axis = 0; axis < 2; axis++) {
        const row = rows[axis];
        for (let one = 0; one < 6; one++) {
          right[one] += weight * row[one] * error[axis];
          for (let other = 0; other < 6; other++) normal[6 * one + other] += weight * row[one] * row[other];
        }
      }
    }
    const [tiltX, tiltY] = split(rotation);
    const off = [tiltX - about[0], tiltY - about[1]];
    for (let axis = 0; axis < 2; axis++) {
      const firm = 1 / (square[axis] + off[0] ** 2 + off[1] ** 2);
      normal[7 * axis] += firm;
      right[axis] -= firm * off[axis];
    }
    for (let at = 0; at < 6; at++) normal[7 * at] += 1e-6;
    const step = solved(normal, right, 6);
    const shrunk = Math.min(1, LARGEST_STEP / Math.max(Math.abs(step[0]), Math.abs(step[1]), Math.abs(step[2]), 1e-9));
    rotation = product(turnedBy(shrunk * step[0], shrunk * step[1], shrunk * step[2]), rotation);
    scale *= Math.exp(Math.min(Math.max(step[3], -LARGEST_STEP), LARGEST_STEP));
    shift[0] += step[4];
    shift[1] += step[5];
  }
  return { scale, rotation, shift };
}

/** How far each landmark can be trusted to sit on the skull. @param {any} constants @param {string[]} names */
function weightsOf({ WEIGHTS }, names) {
  return Float64Array.from(names, (name) => /** @type {any} */ (Object.entries(WEIGHTS).find(([word]) => name.includes(word)) ?? [0, 0])[1]);
}

/**
 * The generic head laid over the landmarks (K, 2) of a face: where its landmarks then are, (K, 3), NaN for names that it lacks;
 * and its pose. Null where too few landmarks are known, or they lie in a heap.
 * @param {ArrayLike<number>} landmarks @param {string[]} names @param {Knowledge} knowledge
 * @returns {{places: Float64Array, pose: HeadPose} | null}
 */
export function placed(landmarks, names, { constants, landmarks: template }) {
  const known = [...names.keys()].filter((index) => names[index] in template);
  const { NEEDED, STILL_TURNS, STILL_NODS, STILL_ROUNDS } = constants.pose;
  if (known.length < NEEDED || !known.every((index) => Number.isFinite(landmarks[2 * index] + landmarks[2 * index + 1]))) return null;
  const points = Float64Array.from(known.flatMap((index) => template[names[index]]));
  const target = Float64Array.from(known.flatMap((index) => [landmarks[2 * index], landmarks[2 * index + 1]]));
  const size = spread(target, 2) / spread(points, 3);
  if (!(size > 1e-6)) return null;
  const scaled = target.map((value) => value / size);
  const pose = fitted(constants.pose, points, weightsOf(constants.pose, known.map((index) => names[index])), scaled, [STILL_TURNS, STILL_NODS], STILL_ROUNDS);
  const { rotation, scale, shift } = pose;
  const places = new Float64Array(3 * names.length).fill(NaN);
  for (const [at, index] of known.entries()) {
    for (let axis = 0; axis < 3; axis++) {
      const turned = rotation[3 * axis] * points[3 * at] + rotation[3 * axis + 1] * points[3 * at + 1] + rotation[3 * axis + 2] * points[3 * at + 2];
      places[3 * index + axis] = (turned * scale + (axis < 2 ? shift[axis] : 0)) * size;
    }
  }
  return { places, pose: { scale: scale * size, rotation, shift: [shift[0] * size, shift[1] * size] } };
}

/** Root of the mean squared distance from the middle, in the plane. @param {Float64Array} points @param {number} width numbers of each */
function spread(points, width) {
  const count = points.length / width;
  let [x, y, squared] = [0, 0, 0];
  for (let at = 0; at < points.length; at += width) {
    x += points[at] / count;
    y += points[at + 1] / count;
  }
  for (let at = 0; at < points.length; at += width) squared += (points[at] - x) ** 2 + (points[at + 1] - y) ** 2;
  return Math.sqrt(squared / count);
}

/** The generic head's depth in a pose at points (N, 2) of its face. @param {ArrayLike<number>} at @param {HeadPose} pose @param {Knowledge} knowledge */
function depthAt(at, { rotation, scale, shift }, { points, normals, constants }) {
  /** @type {[number, number, number][]} */
  const turned = [];
  for (let index = 0; index < points.length; index += 3) {
    const on = (/** @type {ArrayLike<number>} */ values, /** @type {number} */ row) => rotation[row] * values[index] + rotation[row + 1] * values[index + 1] + rotation[row + 2] * values[index + 2];
    if (on(normals, 6) > 0.05) turned.push([on(points, 0) * scale + shift[0], on(points, 3) * scale + shift[1], on(points, 6) * scale]);
  }
  const reach = 2 * (constants.pose.ANCHOR_REACH * scale) ** 2;
  return Array.from({ length: at.length / 2 }, (_, index) => {
    const away = turned.map(([x, y]) => (x - at[2 * index]) ** 2 + (y - at[2 * index + 1]) ** 2);
    // Of a point beside the head, the nearest there is.
    const least = away.reduce((low, value) => Math.min(low, value), Infinity);
    let [sum, total] = [0, 0];
    for (const [other, squared] of away.entries()) {
      const near = Math.exp(-(squared - least) / reach);
      sum += near * turned[other][2];
      total += near;
    }
    return sum / total;
  });
}

/** The head's rotation in space. @param {FaceReading} reading */
const orientation = ({ head }) => joined(-head[1], head[0], head[2]);

/** Measures the driver's pose since one D1, which close-ups have read. */
export class PoseTracker {
  /** @param {string[]} names of the keypoints @param {Keypoints} initial D1 @param {Knowledge} knowledge */
  constructor(names, initial, knowledge) {
    this.initial = initial;
    this.constants = knowledge.constants.pose;
    const { reading } = initial;
    const found = placed(initial.points, names, knowledge);
    /** Whether there is enough to go by. Otherwise the pose is always rest. */
    this.usable = found !== null && reading != null;
    this.unit = 1;
    this.centre = [0, 0];
    /** @type {number[]} */
    this.chosen = [];
    this.points = this.weights = new Float64Array(0);
    if (!found || !reading) return;
    const { places, pose } = found;
    this.unit = pose.scale;
    this.centre = [pose.shift[0], pose.shift[1]];
    this.chosen = [...names.keys()].filter((index) => Number.isFinite(places[3 * index]));
    const depths = depthAt(reading.anchors, pose, knowledge);
    const off = (/** @type {ArrayLike<number>} */ values, /** @type {number} */ at, /** @type {number} */ depth) =>
      [values[2 * at] - this.centre[0], values[2 * at + 1] - this.centre[1], depth].map((value) => value / this.unit);
    this.points = Float64Array.from([...this.chosen.flatMap((index) => off(initial.points, index, places[3 * index + 2])), ...depths.flatMap((depth, at) => off(reading.anchors, at, depth))]);
    const own = weightsOf(this.constants, this.chosen.map((index) => names[index]));
    this.weights = Float64Array.from([...own.map((weight) => this.constants.BESIDE_ANCHORS * weight), ...this.constants.ANCHOR_WEIGHTS]);
  }

  /** Of `driving` since D1; its shift is in units of D1's keypoints. @param {Keypoints} driving @returns {HeadPose} */
  pose(driving) {
    const { initial, constants, chosen, centre, unit } = this;
    if (!this.usable || driving === initial || !driving.reading || !initial.reading) return REST;
    const tilt = split(product(orientation(driving.reading), transposed(orientation(initial.reading))));
    const { anchors } = driving.reading;
    const seen = Float64Array.from([...chosen.flatMap((index) => [driving.points[2 * index], driving.points[2 * index + 1]]), ...anchors], (value, at) => (value - centre[at % 2]) / unit);
    const about = /** @type {[number, number]} */ ([tilt[0] * constants.CLOSE_NOD_GAIN, tilt[1] * constants.CLOSE_TURN_GAIN]);
    const { scale, rotation, shift } = fitted(constants, this.points, this.weights, seen, [constants.CLOSE_TILT, constants.CLOSE_TILT], constants.ROUNDS, about);
    return { scale, rotation, shift: [shift[0] * unit, shift[1] * unit] };
  }

  /** Where `pose` carries D1's keypoints, (K, 2); NaN for those of unknown depth. @param {HeadPose} pose */
  rigid({ scale, rotation, shift }) {
    const moved = new Float64Array(this.initial.points.length).fill(NaN);
    for (const [at, index] of this.chosen.entries()) {
      const [x, y, z] = this.points.subarray(3 * at, 3 * at + 3);
      for (let axis = 0; axis < 2; axis++) {
        const turned = rotation[3 * axis] * x + rotation[3 * axis + 1] * y + rotation[3 * axis + 2] * z;
        moved[2 * index + axis] = scale * turned * this.unit + this.centre[axis] + shift[axis];
      }
    }
    return moved;
  }
}
