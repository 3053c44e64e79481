// Arithmetic on numbers of arrays, one after another. arrays.js loads this once for each kind of number (`?float32`), so that each copy sees that
// kind alone and is compiled for it.

const modulo = (/** @type {number} */ x, /** @type {number} */ y) => x - y * Math.floor(x / y);

/** @typedef {(o: any, P: number, Q: number, q: number, a: any, I: number, S: number, s: number, b: any, J: number, T: number, t: number, m: number, n: number) => void} Kernel */
/* eslint-disable */
/** Two loops for each operation, so that each is fast: `m` lines of `n`. @type {Record<string, Kernel>} */
export const KERNELS = {
  add: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] + b[j]; },
  sub: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] - b[j]; },
  mul: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] * b[j]; },
  div: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] / b[j]; },
  floordiv: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = Math.floor(a[i] / b[j]); },
  mod: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = modulo(a[i], b[j]); },
  pow: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] ** b[j]; },
  maximum: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) { const x = a[i], y = b[j]; o[p] = x > y || x !== x ? x : y; } },
  minimum: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) { const x = a[i], y = b[j]; o[p] = x < y || x !== x ? x : y; } },
  hypot: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) { const x = a[i], y = b[j]; o[p] = Math.sqrt(x * x + y * y); } },
  arctan2: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = Math.atan2(a[i], b[j]); },
  and_: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] & b[j]; },
  or_: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] | b[j]; },
  xor: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] ^ b[j]; },
  eq: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] === b[j] ? 1 : 0; },
  ne: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] !== b[j] ? 1 : 0; },
  lt: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] < b[j] ? 1 : 0; },
  le: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] <= b[j] ? 1 : 0; },
  gt: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] > b[j] ? 1 : 0; },
  ge: (o, P, Q, q, a, I, S, s, b, J, T, t, m, n) => { for (let r = 0; r < m; r++, P += Q, I += S, J += T) for (let k = 0, p = P, i = I, j = J; k < n; k++, p += q, i += s, j += t) o[p] = a[i] >= b[j] ? 1 : 0; },
};
/* eslint-enable */
