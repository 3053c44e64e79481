// Relative transfer (FOMM, Eq. 14-15), lids, and limits. As livepuppet/core/transfer.py, limits.py and
// realtime/motion/eyes.py, where the figures are argued.
import { clamp, inverses, products } from "./keypoints.js";

/** @typedef {import("./keypoints.js").Keypoints} Keypoints */
/** @typedef {import("./similarity.js").Similarity} Similarity */

/** A hull smaller than this (the whole picture has an area of 4) says nothing about the size of a face. */
const SMALLEST_HULL = 1e-4;
/** @type {[number, number]} */
const SCALE_LIMITS = [0.1, 10];

/** Openings of D1 below this share of the eyes' distance belong to shut eyes. */
const SMALLEST_OPENING = 0.06;
const WIDEST = 1.35;
const SHUT_AT = 0.3;
const EMPHASIS = 1.3;

/** Where bending begins and ends: of points in [-1, 1] units, and of singular values against the avatar's. */
const [EDGE_KNEE, EDGE] = [1, 1.1];
const [STRETCH_KNEE, STRETCH] = [2, 3];
const [SQUEEZE_KNEE, SQUEEZE] = [0.4, 0.2];

/**
 * Area of the convex hull of points (K, 2); 0 if it is degenerate.
 * @param {Float32Array} points
 */
export function hullArea(points) {
  if (points.length < 6 || !points.every(Number.isFinite)) return 0;
  /** @type {[number, number][]} */
  const sorted = [];
  for (let at = 0; at < points.length; at += 2) sorted.push([points[at], points[at + 1]]);
  sorted.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  const half = (/** @type {[number, number][]} */ ordered) => {
    /** @type {[number, number][]} */
    const chain = [];
    for (const point of ordered) {
      while (chain.length >= 2) {
        const [[ax, ay], [bx, by]] = [chain[chain.length - 2], chain[chain.length - 1]];
        if ((bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) > 0) break;
        chain.pop();
      }
      chain.push(point);
    }
    return chain.slice(0, -1);
  };
  const corners = [...half(sorted), ...half([...sorted].reverse())];
  let twice = 0;
  for (const [at, [x, y]] of corners.entries()) {
    const [nextX, nextY] = corners[(at + 1) % corners.length];
    twice += x * nextY - y * nextX;
  }
  return Math.abs(twice) / 2;
}

/**
 * How much larger the avatar's face is than the driver's; 1 where either hull is degenerate.
 * @param {Keypoints} avatar
 * @param {Keypoints} initial
 */
export function movementScale(avatar, initial) {
  const [one, other] = [hullArea(avatar.points), hullArea(initial.points)];
  if (Math.min(one, other) < SMALLEST_HULL) return 1;
  return clamp(Math.sqrt(one) / Math.sqrt(other), ...SCALE_LIMITS);
}

/**
 * The driver's movement since D1, put onto the avatar:
 *     points = avatar + scale (driving - initial),  jacobians = J_driving J_initial^-1 J_avatar
 * @param {Keypoints} driving
 * @param {Keypoints} initial
 * @param {Keypoints} avatar
 * @param {number} scale `movementScale`
 * @param {Float32Array} carry J_initial^-1 J_avatar
 * @returns {Keypoints}
 */
export function transfer(driving, initial, avatar, scale, carry) {
  return {
    points: avatar.points.map((value, at) => value + scale * (driving.points[at] - initial.points[at])),
    jacobians: products(driving.jacobians, carry),
    confidence: null,
  };
}

/**
 * Indices of (upper, lower) lid of the left and of the right eye; null where they are not among the names.
 * @param {string[]} names
 * @returns {[number, number][] | null}
 */
export function lidPairs(names) {
  /** @type {[number, number][]} */
  const pairs = ["left", "right"].map((side) => [names.indexOf(`${side} upper lid`), names.indexOf(`${side} lower lid`)]);
  return pairs.flat().includes(-1) ? null : pairs;
}

/**
 * How far the two eyes are open: the lids' distance across the line of the eyes, over the eyes' distance.
 * @param {Float32Array} points
 * @param {[number, number][]} pairs
 * @returns {[number, number]}
 */
export function openings(points, pairs) {
  const at = (/** @type {number} */ index) => [points[2 * index], points[2 * index + 1]];
  const [[left, leftLower], [right, rightLower]] = pairs.map(([upper, lower]) => [at(upper), at(lower)]);
  const x = (right[0] + rightLower[0] - left[0] - leftLower[0]) / 2;
  const y = (right[1] + rightLower[1] - left[1] - leftLower[1]) / 2;
  const length = Math.max(Math.hypot(x, y), 1e-6);
  const opening = (/** @type {number[]} */ upper, /** @type {number[]} */ lower) =>
    (x * (lower[1] - upper[1]) - y * (lower[0] - upper[0])) / length ** 2;
  return [opening(left, leftLower), opening(right, rightLower)];
}

/**
 * The driver's openings over those in D1, in [0, WIDEST]; 1 for eyes that were shut in D1.
 * @param {[number, number]} now
 * @param {[number, number]} initial
 */
export function openRatio(now, initial) {
  return now.map((value, eye) => {
    const share = initial[eye] > SMALLEST_OPENING ? value / initial[eye] : 1;
    return share >= 1 ? Math.min(share, WIDEST) : 1 - Math.min((1 - share) / (1 - SHUT_AT), 1) ** EMPHASIS;
  });
}

/**
 * `moved`, in which the avatar's upper lids stand where the driver's ratio has them.
 * @param {Keypoints} moved by Eq. 14-15
 * @param {Keypoints} avatar
 * @param {number[]} ratio `openRatio`
 * @param {[number, number][]} pairs
 * @param {Similarity} head the head's motion that is in `moved`
 * @param {number} gain 0 leaves `moved` as it is, 1 is the ratio, 2 doubles its distance from 1
 * @returns {Keypoints}
 */
export function followLids(moved, avatar, ratio, pairs, head, gain) {
  if (gain <= 0) return moved;
  const [a, b, c, d] = head.matrix;
  const points = moved.points.slice();
  for (const [eye, [upper, lower]] of pairs.entries()) {
    const wanted = clamp(1 + Math.max(gain, 1) * (ratio[eye] - 1), 0, WIDEST);
    const across = avatar.points[2 * lower] - avatar.points[2 * upper];
    const down = avatar.points[2 * lower + 1] - avatar.points[2 * upper + 1];
    const place = [
      moved.points[2 * lower] - wanted * (a * across + b * down),
      moved.points[2 * lower + 1] - wanted * (c * across + d * down),
    ];
    for (const axis of [0, 1]) points[2 * upper + axis] += Math.min(gain, 1) * (place[axis] - points[2 * upper + axis]);
  }
  return { ...moved, points };
}

/** Maps excess >= 0 into [0, room) with slope 1 at 0. @param {number} excess @param {number} room */
const bent = (excess, room) => room * Math.tanh(excess / room);

/** @param {number} value */
function within(value) {
  if (value < SQUEEZE_KNEE) return SQUEEZE_KNEE - bent(SQUEEZE_KNEE - value, SQUEEZE_KNEE - SQUEEZE);
  return value > STRETCH_KNEE ? STRETCH_KNEE + bent(value - STRETCH_KNEE, STRETCH - STRETCH_KNEE) : value;
}

/**
 * Points (K, 2) held at the picture; themselves where all are well inside.
 * @param {Float32Array} points
 * @param {Float32Array} avatar
 */
export function limitPoints(points, avatar) {
  return points.map((value, at) => {
    const [away, knee] = [Math.abs(value), Math.max(EDGE_KNEE, Math.abs(avatar[at]))];
    return away > knee ? Math.sign(value) * (knee + bent(away - knee, EDGE - EDGE_KNEE)) : value;
  });
}

/**
 * Jacobians whose change against the avatar's neither folds nor stretches too far: the singular values of
 * J J_avatar^-1 are brought between SQUEEZE and STRETCH.
 * @param {Float32Array} jacobians
 * @param {Float32Array} avatar
 * @param {Float32Array} inverse of the avatar's
 */
export function limitJacobians(jacobians, avatar, inverse) {
  const change = products(jacobians, inverse);
  const limited = jacobians.slice();
  for (let at = 0; at < change.length; at += 4) {
    const [a, b, c, d] = change.subarray(at, at + 4);
    // A scaled rotation (even) and a scaled reflection (odd): sum and difference of their sizes are the singular values.
    let even = [(a + d) / 2, (c - b) / 2];
    let odd = [(a - d) / 2, (c + b) / 2];
    const [q, r] = [Math.hypot(...even), Math.hypot(...odd)];
    if (q + r <= STRETCH_KNEE && q - r >= SQUEEZE_KNEE) continue;
    const [large, small] = [within(q + r), within(q - r)];
    even = q < 1e-9 ? [(large + small) / 2, 0] : even.map((value) => (value * (large + small)) / 2 / q);
    odd = odd.map((value) => (value * (large - small)) / 2 / Math.max(r, 1e-9));
    const held = Float32Array.of(even[0] + odd[0], odd[1] - even[1], odd[1] + even[1], even[0] - odd[0]);
    limited.set(products(held, avatar.subarray(at, at + 4)), at);
  }
  return limited;
}
