// Amounts of the mouth by its points: blendshapes, fitted. See realtime/rig/blendshapes.py.
import { joined } from "./pose.js";

/** @typedef {import("./closeups.js").FaceReading} FaceReading */
/** @typedef {{moves: number[][][], depth: number[]}} Blendshapes of U units and P points */

/** Points (P, 2) from `first` on without their middle. @param {Float64Array} points @param {number} first @param {number} count */
function centre(points, first, count) {
  const end = first + 2 * count;
  let x = 0;
  let y = 0;
  for (let at = first; at < end; at += 2) {
    x += points[at] / count;
    y += points[at + 1] / count;
  }
  for (let at = first; at < end; at += 2) {
    points[at] -= x;
    points[at + 1] -= y;
  }
}

/** Fits the units to what the points of the lips do, in memory that is used again. */
export class BlendshapeFit {
  /** @param {Blendshapes} shapes @param {any} constants */
  constructor({ moves, depth }, constants) {
    this.constants = constants;
    this.depth = depth;
    this.units = moves.length;
    /** By how much each unit moves each point, (U, P, 3). */
    this.moves = Float64Array.from(moves.flat(2));
    const points = 2 * depth.length;
    this.moved = new Float64Array(points);
    this.ways = new Float64Array(this.units * points);
    this.matrix = new Float64Array(this.units * this.units);
    this.target = new Float64Array(this.units);
    this.found = new Float64Array(this.units);
    this.ahead = new Float64Array(this.units);
    this.after = new Float64Array(this.units);
  }

  /**
   * Amounts of the units, (U,); the same array each time.
   * @param {FaceReading} now @param {FaceReading} rest the same face; both with lips
   * @param {number[]} prior what amounts are believed to be @param {number[]} noise by how much @param {number[]} lowest
   */
  fit(now, rest, prior, noise, lowest) {
    const { units, matrix, target, ahead, after, found } = this;
    const { POINT_NOISE, AMOUNT_NOISE, LEAST, MOST, STEPS } = this.constants;
    this._turn(/** @type {Float32Array} */ (now.lips), /** @type {Float32Array} */ (rest.lips), joined(-now.head[1], now.head[0], 0), joined(-rest.head[1], rest.head[0], 0));
    this._multiply();
    const least = LEAST * (POINT_NOISE / AMOUNT_NOISE) ** 2;
    let largest = 0;
    for (let unit = 0; unit < units; unit++) {
      const weight = (POINT_NOISE / noise[unit]) ** 2;
      matrix[unit * units + unit] += weight;
      target[unit] += weight * prior[unit] - least;
      let row = 0;
      for (let at = unit * units; at < (unit + 1) * units; at++) row += Math.abs(matrix[at]);
      largest = Math.max(largest, row);
      found[unit] = ahead[unit] = Math.min(Math.max(prior[unit], lowest[unit]), MOST);
    }
    let pace = 1;
    for (let round = 0; round < STEPS; round++) {
      const further = 0.5 + 0.5 * Math.sqrt(1 + 4 * pace * pace);
      const share = (pace - 1) / further;
      for (let unit = 0; unit < units; unit++) {
        let off = target[unit];
        for (let other = 0, at = unit * units; other < units; other++, at++) off -= matrix[at] * ahead[other];
        after[unit] = Math.min(Math.max(ahead[unit] + off / largest, lowest[unit]), MOST);
      }
      for (let unit = 0; unit < units; unit++) {
        ahead[unit] = after[unit] + share * (after[unit] - found[unit]);
        found[unit] = after[unit];
      }
      pace = further;
    }
    return found;
  }

  /**
   * How points and units have moved as the head is turned now.
   * @param {ArrayLike<number>} lips @param {ArrayLike<number>} were @param {number[]} turned (3, 3) @param {number[]} before
   */
  _turn(lips, were, turned, before) {
    const { depth, moved, moves, ways, units } = this;
    const whole = before[0] * before[4] - before[1] * before[3];
    for (let at = 0; at < depth.length; at++) {
      // The neutral lips in space, and then as the head is turned now.
      const along = were[2 * at] - depth[at] * before[2];
      const down = were[2 * at + 1] - depth[at] * before[5];
      const x = (before[4] * along - before[1] * down) / whole;
      const y = (before[0] * down - before[3] * along) / whole;
      moved[2 * at] = lips[2 * at] - (turned[0] * x + turned[1] * y + turned[2] * depth[at]);
      moved[2 * at + 1] = lips[2 * at + 1] - (turned[3] * x + turned[4] * y + turned[5] * depth[at]);
    }
    for (let from = 0, to = 0; from < moves.length; from += 3, to += 2) {
      const x = moves[from];
      const y = moves[from + 1];
      const z = moves[from + 2];
      ways[to] = turned[0] * x + turned[1] * y + turned[2] * z;
      ways[to + 1] = turned[3] * x + turned[4] * y + turned[5] * z;
    }
    // Where the crop lies tells nothing of the lips.
    centre(moved, 0, depth.length);
    for (let unit = 0; unit < units; unit++) centre(ways, 2 * unit * depth.length, depth.length);
  }

  /** The products of the units' movements with one another, and with the points'. */
  _multiply() {
    const { units, matrix, target, ways, moved } = this;
    const count = moved.length;
    for (let one = 0; one < units; one++) {
      const first = one * count;
      for (let other = one; other < units; other++) {
        let sum = 0;
        for (let at = 0, second = other * count; at < count; at++, second++) sum += ways[first + at] * ways[second];
        matrix[one * units + other] = matrix[other * units + one] = sum;
      }
      let sum = 0;
      for (let at = 0; at < count; at++) sum += ways[first + at] * moved[at];
      target[one] = sum;
    }
  }
}
