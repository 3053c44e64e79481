// Rotations of heads in space: see realtime/rig/pose.py. Matrices are 9 numbers, rows first.

/**
 * A rigid motion of a head since rest.
 * @typedef {object} HeadPose
 * @property {number} scale
 * @property {ArrayLike<number>} rotation x to the right, y down, z towards the viewer
 * @property {ArrayLike<number>} shift (x, y)
 */

/** @type {Readonly<HeadPose>} */
export const REST = Object.freeze({ scale: 1, rotation: Object.freeze([1, 0, 0, 0, 1, 0, 0, 0, 1]), shift: Object.freeze([0, 0]) });

/** The rotation by the vector (x, y, z), in radians about its own direction. @param {number} x @param {number} y @param {number} z */
export function turnedBy(x, y, z) {
  const angle = Math.hypot(x, y, z);
  if (angle < 1e-12) return [1, 0, 0, 0, 1, 0, 0, 0, 1];
  const [a, b, c] = [x / angle, y / angle, z / angle];
  const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
  const rest = 1 - cosine;
  return [
    cosine + rest * a * a, rest * a * b - sine * c, rest * a * c + sine * b,
    rest * a * b + sine * c, cosine + rest * b * b, rest * b * c - sine * a,
    rest * a * c - sine * b, rest * b * c + sine * a, cosine + rest * c * c,
  ];
}

/** The product of two matrices. @param {ArrayLike<number>} one @param {ArrayLike<number>} other */
export function product(one, other) {
  const result = new Array(9);
  for (let row = 0; row < 9; row += 3) {
    for (let column = 0; column < 3; column++) {
      result[row + column] = one[row] * other[column] + one[row + 1] * other[3 + column] + one[row + 2] * other[6 + column];
    }
  }
  return result;
}

/** @param {ArrayLike<number>} m */
export const transposed = (m) => [m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]];

/**
 * A rotation as roll about the viewer's axis after a tilt about an axis in the picture's plane: its axis times its angle, and roll.
 * @param {ArrayLike<number>} rotation
 * @returns {[number, number, number]}
 */
export function split(rotation) {
  const [x, y, z] = [rotation[2], rotation[5], rotation[8]];
  const flat = Math.hypot(x, y);
  const angle = Math.atan2(flat, z);
  const roll = Math.atan2(rotation[3] - rotation[1], rotation[0] + rotation[4]);
  const length = Math.max(flat, 1e-12);
  const [first, second] = [-y / length, x / length];
  const [cosine, sine] = [Math.cos(roll), Math.sin(roll)];
  return [angle * (cosine * first + sine * second), angle * (-sine * first + cosine * second), roll];
}

/** The rotation of `split`'s parts. @param {number} x @param {number} y @param {number} roll */
export function joined(x, y, roll) {
  const [cosine, sine] = [Math.cos(roll), Math.sin(roll)];
  return product([cosine, -sine, 0, sine, cosine, 0, 0, 0, 1], turnedBy(x, y, 0));
}

/**
 * `share` of the whole motion; `shift`, `turn` and `zoom` of its parts, from 0 to 1.
 * @param {HeadPose} pose @param {number} share @param {number} shift @param {number} turn @param {number} zoom
 * @returns {HeadPose}
 */
export function tamed(pose, share, shift, turn, zoom) {
  if (share === 1 && shift === 1 && turn === 1 && zoom === 1) return pose;
  const [x, y, roll] = split(pose.rotation);
  const way = share * shift;
  return { scale: pose.scale ** (share * zoom), rotation: joined(share * x, share * y, share * turn * roll), shift: [way * pose.shift[0], way * pose.shift[1]] };
}

/** Turns and nods beyond two thirds of `largest` radians bent towards it. @param {HeadPose} pose @param {number} largest @returns {HeadPose} */
export function heldWithin(pose, largest) {
  const [x, y, roll] = split(pose.rotation);
  const size = Math.hypot(x, y);
  const knee = (2 / 3) * largest;
  if (size <= knee) return pose;
  const bent = (knee + (largest - knee) * Math.tanh((size - knee) / (largest - knee))) / size;
  return { scale: pose.scale, rotation: joined(bent * x, bent * y, roll), shift: pose.shift };
}
