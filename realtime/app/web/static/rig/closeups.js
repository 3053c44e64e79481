// Close-ups: crops of a face's eyes, mouth and head, cut from the camera's own frame, and what small networks read there. See
// realtime/rig/close_ups.py.
import { Memory } from "./pixels.js";

/** @typedef {import("./tracker.js").Knowledge} Knowledge */

/**
 * What close-ups of one frame tell of a face; see livepuppet/core/reading.py.
 * @typedef {object} FaceReading
 * @property {Float32Array[]} eyes of the picture's left and right one
 * @property {Float32Array} mouth
 * @property {Float32Array} head
 * @property {Float32Array} anchors (A, 2), in the units of the keypoints beside
 * @property {Float32Array} lips (P, 2), in face units
 */

/** A part of a picture, RGBA. @typedef {{pixels: Uint8Array, width: number, height: number}} View */

/** From a crop's [-1, 1] to pixels, (2, 3). @typedef {number[]} Affine */

/**
 * Where a face's crops lie: of the left eye, the right eye (mirrored), the mouth and the head; null where its landmarks lie in a heap.
 * @param {number[][]} at landmarks in pixels, in the order of `PLACING`
 * @param {any} constants of `close_ups`
 * @returns {Affine[]}
 */
export function cropMaps(at, { EYE_SIDE, MOUTH_SIDE, HEAD_SIDE, HEAD_FALL, EYE_RISE }) {
  const middle = (/** @type {number} */ one, /** @type {number} */ other) => [(at[one][0] + at[other][0]) / 2, (at[one][1] + at[other][1]) / 2];
  const eyes = [middle(0, 1), middle(2, 3)];
  const corners = middle(4, 5);
  const { across, down } = faceFrame(eyes, corners);
  const map = (/** @type {number} */ half, /** @type {number} */ flip, /** @type {number[]} */ place) => [flip * half * across[0], half * down[0], place[0], flip * half * across[1], half * down[1], place[1]];
  const lips = middle(6, 7);
  const between = [(eyes[0][0] + eyes[1][0]) / 2, (eyes[0][1] + eyes[1][1]) / 2];
  return [
    ...eyes.map((eye, side) => map(EYE_SIDE / 2, side ? -1 : 1, [eye[0] - EYE_RISE * down[0], eye[1] - EYE_RISE * down[1]])),
    map(MOUTH_SIDE / 2, 1, [(corners[0] + lips[0]) / 2, (corners[1] + lips[1]) / 2]),
    map(HEAD_SIDE / 2, 1, [between[0] + HEAD_FALL * down[0], between[1] + HEAD_FALL * down[1]]),
  ];
}

/** The face's upright frame, each axis one face unit long. @param {number[][]} eyes @param {number[]} mouth */
function faceFrame(eyes, mouth) {
  const between = [eyes[1][0] - eyes[0][0], eyes[1][1] - eyes[0][1]];
  const down = [mouth[0] - (eyes[0][0] + eyes[1][0]) / 2, mouth[1] - (eyes[0][1] + eyes[1][1]) / 2];
  const apart = Math.max(Math.hypot(...between), 1e-9);
  const deep = Math.max(Math.hypot(...down), 1e-9);
  // The eye line alone tips with yaw and roll together; the line down to the mouth steadies it.
  const across = [between[0] / apart + (0.5 * down[1]) / deep, between[1] / apart - (0.5 * down[0]) / deep];
  const factor = Math.max(apart, 0.95 * deep) / Math.max(Math.hypot(...across), 1e-9);
  return { across: [across[0] * factor, across[1] * factor], down: [-across[1] * factor, across[0] * factor] };
}

const averaged = new Memory(Uint8Array);
const blurredRows = new Memory(Float32Array);
const blurred = new Memory(Uint8Array);

/**
 * A crop RGB (side, side, 3) of a picture, beyond whose edges its border is repeated, into `out`.
 * @param {View} view @param {Affine} affine to its pixels @param {number} side @param {number} aliased @param {Uint8Array} out
 */
export function cutCrop(view, affine, side, aliased, out) {
  let { pixels, width, height } = view;
  const scale = 2 / (side - 1);
  const linear = [affine[0] * scale, affine[1] * scale, affine[3] * scale, affine[4] * scale];
  let left = affine[2] - affine[0] - affine[1];
  let top = affine[5] - affine[3] - affine[4];
  let shrunk = Math.sqrt(Math.abs(linear[0] * linear[3] - linear[1] * linear[2]));
  if (shrunk > aliased) {
    // Blurred before it is sampled, and only where it is.
    const reach = [Math.abs(affine[0]) + Math.abs(affine[1]), Math.abs(affine[3]) + Math.abs(affine[4])];
    const bounded = (/** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ high) => Math.min(Math.max(value, low), high);
    const x0 = bounded(Math.floor(affine[2] - reach[0] - 3 * shrunk), 0, width - 1);
    const y0 = bounded(Math.floor(affine[5] - reach[1] - 3 * shrunk), 0, height - 1);
    const x1 = bounded(Math.ceil(affine[2] + reach[0] + 3 * shrunk) + 1, x0 + 1, width);
    const y1 = bounded(Math.ceil(affine[5] + reach[1] + 3 * shrunk) + 1, y0 + 1, height);
    // Whole pixels are averaged first.
    const times = Math.max(1, Math.min(Math.floor(shrunk), x1 - x0, y1 - y0));
    const columns = Math.floor((x1 - x0) / times);
    const rows = Math.floor((y1 - y0) / times);
    const means = averaged.take(4 * columns * rows);
    const area = times * times;
    for (let row = 0, to = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, to += 4) {
        let red = 0;
        let green = 0;
        let blue = 0;
        for (let line = 0; line < times; line++) {
          let from = 4 * ((y0 + row * times + line) * width + x0 + column * times);
          for (let step = 0; step < times; step++, from += 4) {
            red += pixels[from];
            green += pixels[from + 1];
            blue += pixels[from + 2];
          }
        }
        means[to] = red / area + 0.5;
        means[to + 1] = green / area + 0.5;
        means[to + 2] = blue / area + 0.5;
      }
    }
    pixels = means;
    width = columns;
    height = rows;
    for (let at = 0; at < 4; at++) linear[at] /= times;
    left = (left - x0 - (times - 1) / 2) / times;
    top = (top - y0 - (times - 1) / 2) / times;
    shrunk /= times;
    if (shrunk > aliased) pixels = blur(pixels, width, height, 0.45 * Math.sqrt(shrunk * shrunk - 1));
  }
  for (let row = 0, to = 0; row < side; row++) {
    for (let column = 0; column < side; column++, to += 3) {
      const x = Math.min(Math.max(linear[0] * column + linear[1] * row + left, 0), width - 1);
      const y = Math.min(Math.max(linear[2] * column + linear[3] * row + top, 0), height - 1);
      const x0 = Math.floor(x);
      const y0 = Math.floor(y);
      const right = x - x0;
      const below = y - y0;
      const first = 4 * (y0 * width + x0);
      const next = right > 0 ? 4 : 0;
      const second = first + (below > 0 ? 4 * width : 0);
      for (let channel = 0; channel < 3; channel++) {
        const upper = pixels[first + channel] * (1 - right) + pixels[first + next + channel] * right;
        const lower = pixels[second + channel] * (1 - right) + pixels[second + next + channel] * right;
        out[to + channel] = upper * (1 - below) + lower * below + 0.5;
      }
    }
  }
}

/** @param {Uint8Array} pixels RGBA @param {number} width @param {number} height @param {number} sigma */
function blur(pixels, width, height, sigma) {
  const reach = Math.max(1, Math.round(6 * sigma + 1) >> 1);
  const weights = Float64Array.from({ length: 2 * reach + 1 }, (_, at) => Math.exp(-((at - reach) ** 2) / (2 * sigma * sigma)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const size = width * height;
  const lines = blurredRows.take(3 * size);
  const result = blurred.take(4 * size);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let tap = -reach; tap <= reach; tap++) sum += weights[reach + tap] * pixels[4 * (row * width + Math.min(Math.max(column + tap, 0), width - 1)) + channel];
        lines[3 * (row * width + column) + channel] = sum / total;
      }
    }
  }
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let tap = -reach; tap <= reach; tap++) sum += weights[reach + tap] * lines[3 * (Math.min(Math.max(row + tap, 0), height - 1) * width + column) + channel];
        result[4 * (row * width + column) + channel] = sum / total + 0.5;
      }
    }
  }
  return result;
}

/** What the networks said of one face, by outputs of their graph. @typedef {Record<string, {data: Float32Array}>} Outputs */

/**
 * The reading, whose anchors are in pixels.
 * @param {Outputs} found
 * @param {Affine[]} maps
 * @param {any} constants
 * @returns {FaceReading}
 */
export function readingOf(found, maps, { close_ups: { MOUTH_SIDE, ANCHOR_ROWS, BROW_ROWS }, reading: { HEAD_AMOUNTS } }) {
  const sure = (/** @type {number} */ logit) => 1 / (1 + Math.exp(-Math.min(Math.max(logit, -30), 30)));
  const place = (/** @type {ArrayLike<number>} */ points, /** @type {number} */ at, /** @type {Affine} */ map) =>
    [0, 3].map((row) => map[row] * points[2 * at] + map[row + 1] * points[2 * at + 1] + map[row + 2]);
  const count = found.eye_amounts.data.length / 2;
  const eyes = [0, 1].map((side) => {
    const points = found.eye_points.data.subarray(18 * side, 18 * side + 18);
    return Float32Array.from([...eyeMeasures(points), ...found.eye_amounts.data.subarray(count * side, count * side + count), sure(found.eye_logits.data[side])]);
  });
  const mouth = Float32Array.from([...mouthMeasures(found.mouth_points.data, MOUTH_SIDE), ...found.mouth_amounts.data, sure(found.mouth_logits.data[0])]);
  const eyeAt = (/** @type {number} */ side, /** @type {number} */ at) => place(found.eye_points.data, 9 * side + at, maps[side]);
  const brows = BROW_ROWS.map((/** @type {number} */ at) => place(found.head_points.data, at, maps[3]));
  const heights = browHeights([0, 1].map((side) => [eyeAt(side, 0), eyeAt(side, 4)]), brows, found.head_amounts.data[0]);
  const head = Float32Array.from([...found.head_amounts.data, ...heights, sure(found.head_logits.data[0])]);
  head[HEAD_AMOUNTS.indexOf("roll")] += Math.atan2(maps[3][3], maps[3][0]);
  const corners = [0, 1].flatMap((side) => [0, 4].flatMap((at) => eyeAt(side, at)));
  const rest = ANCHOR_ROWS.flatMap((/** @type {number} */ at) => place(found.head_points.data, at, maps[3]));
  return { eyes, mouth, head, anchors: Float32Array.from([...corners, ...rest]), lips: found.mouth_points.data.map((value) => (value * MOUTH_SIDE) / 2) };
}

/**
 * How high brows are above the line of the eyes, in distances of the eyes.
 * @param {number[][][]} corners of each eye @param {number[][]} brows @param {number} yaw of the head, in radians
 */
function browHeights(corners, brows, yaw) {
  const [left, right] = corners.map(([one, other]) => [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2]);
  const along = [right[0] - left[0], right[1] - left[1]];
  const apart = Math.max(Math.hypot(along[0], along[1]), 1e-6);
  const unit = Math.max(Math.cos(yaw), 0.5) / (apart * apart);
  return brows.map(([x, y]) => ((x - (left[0] + right[0]) / 2) * along[1] - (y - (left[1] + right[1]) / 2) * along[0]) * unit);
}

/** Of an eye's points: the mean opening between the lids, and the iris's place along the eye and down, in its widths. @param {Float32Array} points (9, 2) */
function eyeMeasures(points) {
  const at = (/** @type {number} */ index) => [points[2 * index], points[2 * index + 1]];
  const [outer, inner] = [at(0), at(4)];
  const width = Math.max(Math.hypot(inner[0] - outer[0], inner[1] - outer[1]), 1e-3);
  const along = [(inner[0] - outer[0]) / width, (inner[1] - outer[1]) / width];
  let opening = 0;
  for (const [lower, upper] of [[7, 1], [6, 2], [5, 3]]) {
    const [low, high] = [at(lower), at(upper)];
    opening += (-(low[0] - high[0]) * along[1] + (low[1] - high[1]) * along[0]) / 3;
  }
  const iris = [at(8)[0] - (outer[0] + inner[0]) / 2, at(8)[1] - (outer[1] + inner[1]) / 2];
  return [opening / width, (iris[0] * along[0] + iris[1] * along[1]) / width, (-iris[0] * along[1] + iris[1] * along[0]) / width];
}

/** Of a mouth's points: opening, width, and rise of both corners, in face units. @param {Float32Array} points (20, 2) @param {number} side */
function mouthMeasures(points, side) {
  const at = (/** @type {number} */ index) => [points[2 * index], points[2 * index + 1]];
  const apart = (/** @type {number} */ one, /** @type {number} */ other) => Math.hypot(at(one)[0] - at(other)[0], at(one)[1] - at(other)[1]);
  const middle = (at(3)[1] + at(9)[1]) / 2;
  return [apart(14, 18), apart(0, 6), middle - at(0)[1], middle - at(6)[1]].map((value) => (value * side) / 2);
}
