// What a network said, in memory that two workers share: the one that makes a rig waits for it without giving its turn away.

/** Numbers that the longest answer takes, the matting network's, and their shapes. */
const ROOM = 4 * 256 * 256 + 256;

export const makeAnswer = () => new SharedArrayBuffer(4 * (1 + ROOM));

/** @param {SharedArrayBuffer} memory @param {import("./npz.js").NumpyArray[]} outputs */
export function writeAnswer(memory, outputs) {
  const numbers = new Float32Array(memory);
  let at = 1;
  for (const { shape, values } of outputs) {
    numbers.set([shape.length, ...shape], at);
    at += 1 + shape.length;
    numbers.set(/** @type {Float32Array} */ (values), at);
    at += values.length;
  }
  const state = new Int32Array(memory);
  Atomics.store(state, 0, outputs.length);
  Atomics.notify(state, 0);
}

/** Waits. @param {SharedArrayBuffer} memory @returns {{shape: number[], values: Float32Array}[]} */
export function readAnswer(memory) {
  const state = new Int32Array(memory);
  Atomics.wait(state, 0, 0);
  const numbers = new Float32Array(memory);
  let at = 1;
  return Array.from({ length: Atomics.exchange(state, 0, 0) }, () => {
    const first = at + 1 + numbers[at];
    const shape = Array.from(numbers.subarray(at + 1, first));
    at = first + shape.reduce((product, size) => product * size, 1);
    return { shape, values: numbers.slice(first, at) };
  });
}
