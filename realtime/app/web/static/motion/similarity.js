// The part of the motion that the whole head makes (place, tilt, size), split from what the face does. As
// realtime/motion/parts.py.
import { inverses, products } from "./keypoints.js";

/** @typedef {import("./keypoints.js").Keypoints} Keypoints */

/** Landmarks that move with the skull more than with the face. */
const RIGID_WORDS = ["lower lid", "iris", "brow", "nose", "forehead"];

/** A landmark that is this share of the face's size off the fit counts half. */
const TOLERANCE = 0.08;

/** The map p -> centre + shift + scale R(angle) (p - centre) of the plane. */
export class Similarity {
  /**
   * @param {[number, number]} centre the point that only `shift` moves
   * @param {[number, number]} shift in [-1, 1] units
   * @param {number} angle radians; positive turns x towards y
   * @param {number} scale factor, above 0
   */
  constructor(centre, shift, angle, scale) {
    this.centre = centre;
    this.shift = shift;
    this.angle = angle;
    this.scale = scale;
  }

  /** Its linear part, row-major. @returns {[number, number, number, number]} */
  get matrix() {
    const [cosine, sine] = [this.scale * Math.cos(this.angle), this.scale * Math.sin(this.angle)];
    return [cosine, -sine, sine, cosine];
  }

  /**
   * Map points (N, 2), in float64.
   * @param {ArrayLike<number>} points
   */
  apply(points) {
    const [a, b, c, d] = this.matrix;
    const result = new Float64Array(points.length);
    for (let at = 0; at < points.length; at += 2) {
      const [x, y] = [points[at] - this.centre[0], points[at + 1] - this.centre[1]];
      result[at] = a * x + b * y + this.centre[0] + this.shift[0];
      result[at + 1] = c * x + d * y + this.centre[1] + this.shift[1];
    }
    return result;
  }

  /**
   * Map points (N, 2) back, in float64.
   * @param {ArrayLike<number>} points
   */
  undo(points) {
    const [cosine, sine] = [Math.cos(this.angle) / this.scale, Math.sin(this.angle) / this.scale];
    const result = new Float64Array(points.length);
    for (let at = 0; at < points.length; at += 2) {
      const x = points[at] - this.centre[0] - this.shift[0];
      const y = points[at + 1] - this.centre[1] - this.shift[1];
      result[at] = x * cosine + y * sine + this.centre[0];
      result[at + 1] = y * cosine - x * sine + this.centre[1];
    }
    return result;
  }

  /**
   * The same motion with its parts taken by gains; 0 locks a part.
   * @param {number} shift
   * @param {number} turn
   * @param {number} zoom
   */
  damped(shift, turn, zoom) {
    return new Similarity(
      this.centre,
      [shift * this.shift[0], shift * this.shift[1]],
      turn * this.angle,
      this.scale ** zoom,
    );
  }
}

/**
 * Which of the named keypoints sit on the skull; null (use all) where names say too little.
 * @param {string[]} names
 * @returns {number[] | null}
 */
export function rigidIndices(names) {
  const chosen = [...names.keys()].filter((index) => RIGID_WORDS.some((word) => names[index].includes(word)));
  return chosen.length >= 4 ? chosen : null;
}

/** Points that similarities are fitted from, with what depends on them alone. */
export class Origin {
  /**
   * @param {ArrayLike<number>} points (K, 2)
   * @param {number[] | null} chosen indices of the points to go by; all if null
   */
  constructor(points, chosen = null) {
    this.chosen = chosen ?? [...Array(points.length / 2).keys()];
    const count = this.chosen.length;
    let [x, y] = [0, 0];
    for (const index of this.chosen) {
      x += points[2 * index];
      y += points[2 * index + 1];
    }
    /** @type {[number, number]} */
    this.centre = [x / count, y / count];
    this.away = new Float64Array(2 * count);
    this.size = 0;
    for (const [at, index] of this.chosen.entries()) {
      this.away[2 * at] = points[2 * index] - this.centre[0];
      this.away[2 * at + 1] = points[2 * index + 1] - this.centre[1];
      this.size += this.away[2 * at] ** 2 + this.away[2 * at + 1] ** 2;
    }
    this.size /= count;
  }

  /**
   * The similarity that carries these points to `target` (K, 2) best, by reweighted least squares.
   * @param {ArrayLike<number>} target
   * @param {number} rounds of reweighting; 0 is plain least squares
   */
  fit(target, rounds = 1) {
    const { away: p, centre, size, chosen } = this;
    const count = chosen.length;
    const q = new Float64Array(2 * count);
    let [offsetX, offsetY] = [0, 0];
    for (const [at, index] of chosen.entries()) {
      q[2 * at] = target[2 * index];
      q[2 * at + 1] = target[2 * index + 1];
      offsetX += q[2 * at];
      offsetY += q[2 * at + 1];
    }
    // Plain least squares first; p has mean 0.
    offsetX /= count;
    offsetY /= count;
    if (size < 1e-8) return new Similarity(centre, [offsetX - centre[0], offsetY - centre[1]], 0, 1);
    // As complex numbers: a rotation with scaling is one factor.
    let [real, imaginary] = [0, 0];
    for (let at = 0; at < 2 * count; at += 2) {
      real += p[at] * q[at] + p[at + 1] * q[at + 1];
      imaginary += p[at] * q[at + 1] - p[at + 1] * q[at];
    }
    real /= count * size;
    imaginary /= count * size;
    for (let round = 0; round < rounds; round++) {
      const weights = new Float64Array(count);
      let [total, px, py, qx, qy] = [0, 0, 0, 0, 0];
      for (let at = 0; at < count; at++) {
        const [x, y] = [p[2 * at], p[2 * at + 1]];
        const offX = q[2 * at] - (real * x - imaginary * y + offsetX);
        const offY = q[2 * at + 1] - (real * y + imaginary * x + offsetY);
        const weight = 1 / (1 + (offX * offX + offY * offY) / (TOLERANCE ** 2 * size));
        weights[at] = weight;
        total += weight;
        px += weight * x;
        py += weight * y;
        qx += weight * q[2 * at];
        qy += weight * q[2 * at + 1];
      }
      px /= total;
      py /= total;
      qx /= total;
      qy /= total;
      let [sumReal, sumImaginary, sum] = [0, 0, 0];
      for (let at = 0; at < count; at++) {
        const [x, y] = [p[2 * at] - px, p[2 * at + 1] - py];
        const [u, v] = [q[2 * at] - qx, q[2 * at + 1] - qy];
        sumReal += weights[at] * (x * u + y * v);
        sumImaginary += weights[at] * (x * v - y * u);
        sum += weights[at] * (x * x + y * y);
      }
      sum = Math.max(sum, 1e-12);
      real = sumReal / sum;
      imaginary = sumImaginary / sum;
      offsetX = qx - (real * px - imaginary * py);
      offsetY = qy - (real * py + imaginary * px);
    }
    return new Similarity(
      centre,
      [offsetX - centre[0], offsetY - centre[1]],
      Math.atan2(imaginary, real),
      Math.max(Math.hypot(real, imaginary), 1e-3),
    );
  }
}

/**
 * `driving` with the head's own motion since D1 taken by gains 0 (locked) to 1 (as it is).
 * @param {Keypoints} driving
 * @param {Similarity} motion
 * @param {number} shift
 * @param {number} turn
 * @param {number} zoom
 * @returns {Keypoints}
 */
export function damp(driving, motion, shift, turn, zoom) {
  if (shift === 1 && turn === 1 && zoom === 1) return driving;
  const wanted = motion.damped(shift, turn, zoom);
  const points = Float32Array.from(wanted.apply(motion.undo(driving.points)));
  const change = products(Float32Array.from(wanted.matrix), inverses(Float32Array.from(motion.matrix)));
  const spread = new Float32Array(driving.jacobians.length);
  for (let at = 0; at < spread.length; at += 4) spread.set(change, at);
  return { points, jacobians: products(spread, driving.jacobians), confidence: driving.confidence };
}

/**
 * Mean of the points (K, 2), and the root of their mean squared distance from there.
 * @param {ArrayLike<number>} points
 */
export function spreadOf(points) {
  const count = points.length / 2;
  let [x, y, sum] = [0, 0, 0];
  for (let at = 0; at < points.length; at += 2) {
    x += points[at];
    y += points[at + 1];
  }
  x /= count;
  y /= count;
  for (let at = 0; at < points.length; at += 2) sum += (points[at] - x) ** 2 + (points[at + 1] - y) ** 2;
  return { x, y, radius: Math.sqrt(sum / count) };
}
