// The values that travel between `detect` and `render`, and 2x2 matrices. As livepuppet/core/keypoints.py and
// matrices.py: tests/test_web_motion.py holds the two together.

/**
 * Where the local motions sit in one picture, and their first-order part.
 * @typedef {object} Keypoints
 * @property {Float32Array} points (K, 2), (x, y) in [-1, 1]; -1 and 1 are the centres of the outermost pixels.
 * @property {Float32Array} jacobians (K, 2, 2), row-major (FOMM, Eq. 4).
 * @property {Float32Array | null} confidence (K,) in [0, 1]; null where the model does not say.
 * @property {import("../rig/closeups.js").FaceReading | null} [reading] what close-ups of the face tell beside
 */

/** Matrices whose determinant is closer to zero than this have no inverse worth using. */
const SMALLEST_DETERMINANT = 1e-6;

/**
 * Closed-form inverses of matrices (N, 2, 2). A determinant near zero is replaced by the smallest one, so the result
 * is finite for finite input.
 * @param {Float32Array} matrices
 * @returns {Float32Array}
 */
export function inverses(matrices) {
  const result = new Float32Array(matrices.length);
  for (let at = 0; at < matrices.length; at += 4) {
    const [a, b, c, d] = matrices.subarray(at, at + 4);
    let determinant = a * d - b * c;
    if (Math.abs(determinant) < SMALLEST_DETERMINANT) {
      determinant = determinant < 0 || Object.is(determinant, -0) ? -SMALLEST_DETERMINANT : SMALLEST_DETERMINANT;
    }
    result.set([d / determinant, -b / determinant, -c / determinant, a / determinant], at);
  }
  return result;
}

/**
 * Products of the matrices (N, 2, 2) of two arrays, one by one.
 * @param {Float32Array} left
 * @param {Float32Array} right
 * @returns {Float32Array}
 */
export function products(left, right) {
  const result = new Float32Array(left.length);
  for (let at = 0; at < left.length; at += 4) {
    for (let row = 0; row < 4; row += 2) {
      const [a, b] = [left[at + row], left[at + row + 1]];
      result[at + row] = a * right[at] + b * right[at + 2];
      result[at + row + 1] = a * right[at + 1] + b * right[at + 3];
    }
  }
  return result;
}

/**
 * `one` and `share` (above 1: beyond) of the way to `other`.
 * @param {Keypoints} one
 * @param {Keypoints} other
 * @param {number} share
 * @returns {Keypoints}
 */
export function blend(one, other, share) {
  return {
    points: one.points.map((value, at) => value + share * (other.points[at] - value)),
    jacobians: one.jacobians.map((value, at) => value + share * (other.jacobians[at] - value)),
    confidence: other.confidence,
  };
}

/** @param {Keypoints} keypoints */
export const isFinite = ({ points, jacobians }) => points.every(Number.isFinite) && jacobians.every(Number.isFinite);

/**
 * Mean confidence; null where the model does not say.
 * @param {Keypoints} keypoints
 */
export function meanConfidence({ confidence }) {
  if (confidence === null) return null;
  let sum = 0;
  for (const one of confidence) sum += one;
  return sum / confidence.length;
}

/**
 * The upper one of two middles, as `realtime/motion/parts.py` has it.
 * @param {ArrayLike<number>} values
 */
export function upperMedian(values) {
  return Float64Array.from(values).sort()[values.length >> 1];
}

/**
 * The middle value, or the mean of the two in the middle.
 * @param {ArrayLike<number>} values
 */
export function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** @param {number} value @param {number} low @param {number} high */
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
