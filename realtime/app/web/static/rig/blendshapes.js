// Amounts of the mouth by its points: blendshapes, fitted. See realtime/rig/blendshapes.py.
import { joined } from "./pose.js";

/** @typedef {import("./closeups.js").FaceReading} FaceReading */
/** @typedef {{moves: number[][][], depth: number[]}} Blendshapes of U units and P points */

/** How points move that a head's rotation turns: x and y of (P, 3). @param {number[][]} points @param {number[]} turned (3, 3) */
const flat = (points, turned) => points.map(([x, y, z]) => [turned[0] * x + turned[1] * y + turned[2] * z, turned[3] * x + turned[4] * y + turned[5] * z]);

/** Points without their middle, one after another. @param {number[][]} points */
function centred(points) {
  const x = points.reduce((sum, point) => sum + point[0], 0) / points.length;
  const y = points.reduce((sum, point) => sum + point[1], 0) / points.length;
  return points.flatMap((point) => [point[0] - x, point[1] - y]);
}

/**
 * Amounts of the units, (U,).
 * @param {FaceReading} now @param {FaceReading} rest the same face; both with lips
 * @param {Blendshapes} shapes
 * @param {any} constants
 * @param {number[]} prior what amounts are believed to be @param {number[]} noise by how much @param {number[]} lowest
 */
export function fit(now, rest, { moves, depth }, { POINT_NOISE, AMOUNT_NOISE, LEAST, MOST, STEPS }, prior, noise, lowest) {
  const [turned, before] = [now, rest].map(({ head }) => joined(-head[1], head[0], 0));
  const [lips, were] = [now, rest].map((one) => depth.map((_, at) => [one.lips[2 * at], one.lips[2 * at + 1]]));
  // The neutral lips in space, and then as the head is turned now.
  const whole = before[0] * before[4] - before[1] * before[3];
  const space = were.map(([x, y], at) => {
    const [along, down] = [x - depth[at] * before[2], y - depth[at] * before[5]];
    return [(before[4] * along - before[1] * down) / whole, (before[0] * down - before[3] * along) / whole, depth[at]];
  });
  const neutral = flat(space, turned);
  // Where the crop lies tells nothing of the lips.
  const moved = centred(lips.map(([x, y], at) => [x - neutral[at][0], y - neutral[at][1]]));
  const ways = moves.map((one) => centred(flat(one, turned)));
  const product = (/** @type {number[]} */ one, /** @type {number[]} */ other) => one.reduce((sum, value, at) => sum + value * other[at], 0);
  const matrix = ways.map((one) => ways.map((other) => product(one, other)));
  const target = ways.map((one, at) => {
    const weight = (POINT_NOISE / noise[at]) ** 2;
    matrix[at][at] += weight;
    return product(one, moved) + weight * prior[at] - LEAST * (POINT_NOISE / AMOUNT_NOISE) ** 2;
  });
  const step = 1 / Math.max(...matrix.map((row) => row.reduce((sum, value) => sum + Math.abs(value), 0)));
  const bounded = (/** @type {number} */ value, /** @type {number} */ at) => Math.min(Math.max(value, lowest[at]), MOST);
  let found = prior.map(bounded);
  let ahead = found;
  let pace = 1;
  for (let round = 0; round < STEPS; round++) {
    const from = ahead;
    const after = from.map((value, at) => bounded(value + step * (target[at] - product(matrix[at], from)), at));
    const further = 0.5 + 0.5 * Math.sqrt(1 + 4 * pace * pace);
    const share = (pace - 1) / further;
    const last = found;
    ahead = after.map((value, at) => value + share * (value - last[at]));
    found = after;
    pace = further;
  }
  return found;
}
