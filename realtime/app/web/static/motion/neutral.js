// How well the driver's pose fits the avatar's, and which frame to take as D1. As realtime/motion/calibration.py, where
// the figures are argued.
import { meanConfidence, median, upperMedian } from "./keypoints.js";
import { spreadOf } from "./similarity.js";
import { lidPairs, openings } from "./transfer.js";

/** @typedef {import("./keypoints.js").Keypoints} Keypoints */
/** @typedef {{index: number, weight: number}[]} Weighted */

/** Differences in pose that bring the fit down to exp(-1/2), and what is free. @type {Record<string, number>} */
const TOLERANCES = { tilt: 0.12, turn: 0.15, nod: 0.12, mouth: 0.15, eyes: 0.35, shape: 0.25 };
/** @type {Record<string, number>} */
const FREE = { tilt: 0.02, turn: 0.04, nod: 0.06, mouth: 0.03, eyes: 0.1, shape: 0.12 };

/** How a face turns and nods, read from where its landmarks are. @type {Record<string, number>} */
const TURN = { "nose tip": 0.89, "upper lip": 0.37, chin: -0.58 };
/** @type {Record<string, number>} */
const NOD = { "nose tip": 0.69, chin: -0.2 };

const ORDINARY_EYES = 0.13;
const SURE = 0.7;
const WANDERED = 0.13;
const MOST_CANDIDATES = 1200;

/** @param {string[]} names */
function poseIndices(names) {
  const weighted = (/** @type {Record<string, number>} */ weights) =>
    Object.entries(weights).map(([name, weight]) => ({ index: names.indexOf(name), weight }));
  const lids = lidPairs(names);
  const found = {
    left: names.indexOf("left mouth corner"),
    right: names.indexOf("right mouth corner"),
    upperLip: names.indexOf("upper lip"),
    lowerLip: names.indexOf("lower lip"),
    turn: weighted(TURN),
    nod: weighted(NOD),
  };
  const indices = [found.left, found.right, found.upperLip, found.lowerLip, ...[...found.turn, ...found.nod].map((one) => one.index)];
  return lids === null || indices.includes(-1) ? null : { ...found, lids };
}

/**
 * What a face does, whatever its place and size: tilt, turn, nod in radians, its mouth's opening in mouth widths, and
 * the less open eye's in eye distances.
 * @param {Float32Array} points
 * @param {NonNullable<ReturnType<typeof poseIndices>>} where
 */
function poseOf(points, where) {
  const at = (/** @type {number} */ index) => [points[2 * index], points[2 * index + 1]];
  const eyes = where.lids.map(([upper, lower]) => [0, 1].map((axis) => (at(upper)[axis] + at(lower)[axis]) / 2));
  const middle = [0, 1].map((axis) => (eyes[0][axis] + eyes[1][axis]) / 2);
  const line = [0, 1].map((axis) => eyes[1][axis] - eyes[0][axis]);
  const length = Math.max(Math.hypot(...line), 1e-6);
  const along = line.map((value) => value / length);
  const down = [-along[1], along[0]];
  const on = (/** @type {number[]} */ vector, /** @type {number[]} */ axis) => vector[0] * axis[0] + vector[1] * axis[1];
  const from = (/** @type {number[]} */ one, /** @type {number[]} */ other) => [one[0] - other[0], one[1] - other[1]];
  const [left, right] = [at(where.left), at(where.right)];
  const depth = Math.max(on(from([(left[0] + right[0]) / 2, (left[1] + right[1]) / 2], middle), down), 0.3 * length);
  const width = Math.max(Math.hypot(...from(right, left)), 0.2 * length);
  const read = (/** @type {Weighted} */ weights, /** @type {number[]} */ axis) =>
    weights.reduce((sum, { index, weight }) => sum + weight * on(from(at(index), middle), axis), 0) / depth;
  return {
    tilt: Math.atan2(line[1], line[0]),
    turn: read(where.turn, along),
    nod: read(where.nod, down),
    mouth: on(from(at(where.lowerLip), at(where.upperLip)), down) / width,
    eyes: Math.min(...openings(points, where.lids)),
  };
}

/** Points moved to mean 0 and RMS radius 1. @param {Float32Array} points */
function normalShape(points) {
  const { x, y, radius } = spreadOf(points);
  return Float64Array.from(points, (value, at) => (value - (at % 2 ? y : x)) / Math.max(radius, 1e-6));
}

/** Scores drivers' poses against one avatar's. */
export class Fit {
  /**
   * @param {Keypoints} avatar
   * @param {string[]} names
   */
  constructor(avatar, names) {
    this.shape = normalShape(avatar.points);
    this.where = poseIndices(names);
    this.pose = this.where && poseOf(avatar.points, this.where);
  }

  /**
   * The fit in [0, 1]: exp(-1/2 sum of squared misfits), times how sure the detector is.
   * @param {Keypoints} driving
   */
  of(driving) {
    const shape = normalShape(driving.points);
    const away = Array.from({ length: shape.length / 2 }, (_, index) =>
      Math.hypot(shape[2 * index] - this.shape[2 * index], shape[2 * index + 1] - this.shape[2 * index + 1]),
    );
    /** @type {Record<string, number>} */
    const differences = { shape: upperMedian(away) };
    if (this.where && this.pose) {
      const now = poseOf(driving.points, this.where);
      for (const name of /** @type {const} */ (["tilt", "turn", "nod", "mouth"])) differences[name] = now[name] - this.pose[name];
      // As wide as the avatar's would ask the impossible of small eyes: only eyes nearly shut are a fault.
      const wanted = Math.min(this.pose.eyes, ORDINARY_EYES);
      differences.eyes = wanted > 0.05 ? Math.max(0, 1 - now.eyes / wanted) : 0;
    }
    let total = 0;
    for (const [name, value] of Object.entries(differences)) {
      total += (Math.max(0, Math.abs(value) - FREE[name]) / TOLERANCES[name]) ** 2;
    }
    const confidence = meanConfidence(driving);
    return Math.exp(-0.5 * total) * (confidence === null ? 1 : Math.min(1, confidence / SURE));
  }
}

/** Frames of which one becomes D1. */
export class Candidates {
  constructor() {
    /** @type {{keypoints: Keypoints, fit: number}[]} */
    this.seen = [];
  }

  /** @param {Keypoints} keypoints @param {number} fit */
  add(keypoints, fit) {
    if (this.seen.length < MOST_CANDIDATES) this.seen.push({ keypoints, fit });
  }

  /** The best fit among those in which the head is where it mostly is. There has to be one. */
  best() {
    const size = this.seen[0].keypoints.points.length;
    const middle = Array.from({ length: size }, (_, at) => median(this.seen.map((one) => one.keypoints.points[at])));
    let [best, highest] = [this.seen[0], -1];
    for (const one of this.seen) {
      let squared = 0;
      for (let at = 0; at < size; at++) squared += (one.keypoints.points[at] - middle[at]) ** 2;
      const score = one.fit * Math.exp((-0.5 * squared) / ((size / 2) * WANDERED ** 2));
      if (score > highest) [best, highest] = [one, score];
    }
    return best.keypoints;
  }
}
