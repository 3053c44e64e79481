// Arrays as NumPy has them: views with strides, broadcasting, kinds of numbers, indices. What is written in Python for NumPy runs on
// these after realtime/app/web/translate.py has turned it into JavaScript.
import { KERNELS as OF_BYTES } from "./kernels.js?uint8";
import { KERNELS as OF_SINGLES } from "./kernels.js?float32";
import { KERNELS as OF_DOUBLES } from "./kernels.js?float64";

/** Arrays by kind of number; whole numbers of 64 bits are floats that are whole. @type {Record<string, any>} */
export const STORES = { bool: Uint8Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array, int64: Float64Array, float32: Float32Array, float64: Float64Array };

const RANKS = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"];

/** Python's tuple, which is no list where it is an index. */
export class Tuple extends Array {
  static get [Symbol.species]() {
    return Tuple;
  }
}

/** @param {...any} values */
export function T(...values) {
  const made = new Tuple(values.length);
  for (let at = 0; at < values.length; at++) made[at] = values[at];
  return made;
}

export class Slice {
  /** @param {number | null} start @param {number | null} stop @param {number | null} step */
  constructor(start, stop, step) {
    this.start = start;
    this.stop = stop;
    this.step = step;
  }

  /** First index, count and step in a line of `length`. @param {number} length */
  within(length) {
    const step = this.step ?? 1;
    const bounded = (/** @type {number | null} */ value, /** @type {number} */ otherwise) => {
      if (value === null || value === undefined) return otherwise;
      const from = value < 0 ? value + length : value;
      return step > 0 ? Math.min(Math.max(from, 0), length) : Math.min(Math.max(from, -1), length - 1);
    };
    const start = bounded(this.start, step > 0 ? 0 : length - 1);
    const stop = bounded(this.stop, step > 0 ? length : -1);
    return [start, Math.max(0, Math.ceil((stop - start) / step)), step];
  }
}

export const Ellipsis = Symbol("...");

/** @param {number[]} shape */
export const sizeOf = (shape) => shape.reduce((product, size) => product * size, 1);

/** @param {number[]} shape */
export function stridesOf(shape) {
  const strides = new Array(shape.length);
  for (let axis = shape.length - 1, step = 1; axis >= 0; step *= shape[axis--]) strides[axis] = step;
  return strides;
}

/** The name of a kind of number, whichever way it is told. @param {any} kind @returns {string} */
export function kindOf(kind) {
  if (typeof kind === "string") return { "<u2": "uint16", "<f4": "float32", "<f2": "float16" }[kind] ?? kind;
  if (kind?.kind) return kind.kind;
  throw new Error(`the kind of number ${kind}`);
}

export class NDArray {
  /** @param {any} data @param {number[]} shape @param {string} dtype @param {number[]} strides @param {number} offset */
  constructor(data, shape, dtype, strides = stridesOf(shape), offset = 0) {
    this.data = data;
    this._shape = shape;
    this.dtype = dtype;
    this.strides = strides;
    this.offset = offset;
  }

  get shape() {
    return Tuple.from(this._shape);
  }

  get ndim() {
    return this._shape.length;
  }

  get size() {
    return sizeOf(this._shape);
  }

  get T() {
    return this.transpose();
  }

  get isWhole() {
    let step = 1;
    for (let axis = this._shape.length - 1; axis >= 0; axis--) {
      if (this._shape[axis] !== 1 && this.strides[axis] !== step) return false;
      step *= this._shape[axis];
    }
    return true;
  }

  /** Its numbers in rows; not to be written to. */
  get flat() {
    const size = this.size;
    if (this.isWhole) return this.offset === 0 && this.data.length === size ? this.data : this.data.subarray(this.offset, this.offset + size);
    const out = new STORES[this.dtype](size);
    loop(this._shape, [stridesOf(this._shape), this.strides], [0, this.offset], (n, [q, s], [P, I], m, [Q, S]) => copyLines(out, P, Q, q, this.data, I, S, s, m, n), 2);
    return out;
  }

  /** @param {...any} axes */
  transpose(...axes) {
    const order = axes.length ? (Array.isArray(axes[0]) ? axes[0] : axes) : this._shape.map((_, axis) => this._shape.length - 1 - axis);
    const own = order.map((/** @type {number} */ axis) => (axis < 0 ? axis + this._shape.length : axis));
    return new NDArray(this.data, own.map((/** @type {number} */ axis) => this._shape[axis]), this.dtype, own.map((/** @type {number} */ axis) => this.strides[axis]), this.offset);
  }

  /** @param {number} one @param {number} other */
  swapaxes(one, other) {
    const order = this._shape.map((_, axis) => axis);
    [order[one], order[other]] = [other, one];
    return this.transpose(order);
  }

  /** @param {...any} sizes */
  reshape(...sizes) {
    const shape = Array.from(Array.isArray(sizes[0]) ? sizes[0] : sizes);
    const open = shape.indexOf(-1);
    if (open >= 0) shape[open] = this.size / -sizeOf(shape);
    if (sizeOf(shape) !== this.size) throw new Error(`${this._shape} as ${shape}`);
    return this.isWhole ? new NDArray(this.data, shape, this.dtype, stridesOf(shape), this.offset) : new NDArray(this.flat, shape, this.dtype);
  }

  ravel() {
    return this.reshape(this.size);
  }

  copy() {
    return new NDArray(this.isWhole ? this.flat.slice() : this.flat, this._shape, this.dtype);
  }

  /** @param {any} kind @param {boolean} copy */
  astype(kind, copy = true) {
    const dtype = kindOf(kind);
    if (dtype === this.dtype) return copy ? this.copy() : this;
    return new NDArray(converted(this.flat, this.dtype, dtype), this._shape, dtype);
  }

  tolist() {
    if (!this._shape.length) return this.item();
    const flat = this.flat;
    /** @param {number} axis @param {number} at @returns {any} */
    const level = (axis, at) => {
      const inner = sizeOf(this._shape.slice(axis + 1));
      return Array.from({ length: this._shape[axis] }, (_, index) => (axis === this._shape.length - 1 ? value(flat[at + index], this.dtype) : level(axis + 1, at + index * inner)));
    };
    return level(0, 0);
  }

  /** Of truths: a letter for each. */
  tobytes() {
    return Array.from(this.flat, (one) => String.fromCharCode(Number(one))).join("");
  }

  item() {
    return value(this.data[this.offset], this.dtype);
  }

  /** @param {any} fill */
  fill(fill) {
    assign(this, fill);
  }

  *[Symbol.iterator]() {
    for (let at = 0; at < this._shape[0]; at++) yield at0(this, at);
  }
}

/** @param {number} number @param {string} dtype */
export const value = (number, dtype) => (dtype === "bool" ? number !== 0 : number);

/** @param {NDArray} array @param {number} index along the first axis */
export function at0(array, index) {
  const { _shape: shape, strides, data, dtype } = array;
  const at = index < 0 ? index + shape[0] : index;
  if (!(at >= 0 && at < shape[0])) throw new Error(`index ${index} of ${shape[0]}`);
  const offset = array.offset + at * strides[0];
  return shape.length === 1 ? value(data[offset], dtype) : new NDArray(data, shape.slice(1), dtype, strides.slice(1), offset);
}

/** @param {any} flat @param {string} from @param {string} to */
export function converted(flat, from, to) {
  if (to === "float16") throw new Error("float16");
  const out = new STORES[to](flat.length);
  if (to === "bool") for (let at = 0; at < flat.length; at++) out[at] = flat[at] !== 0 ? 1 : 0;
  else if (to === "int64" && from.startsWith("float")) for (let at = 0; at < flat.length; at++) out[at] = Math.trunc(flat[at]);
  else out.set(flat);
  return out;
}

/**
 * Call `act` for each innermost line, or for all lines of the axis around at once: how long a line is, steps along it, where it begins in each of
 * several arrays; how many lines there are, and steps from one to the next.
 * @param {number[]} shape @param {number[][]} strides @param {number[]} offsets
 * @param {(n: number, steps: number[], starts: number[], m: number, wide: number[]) => void} act
 * @param {1 | 2} depth
 */
export function loop(shape, strides, offsets, act, depth = 1) {
  // Axes along which all go on evenly are one.
  /** @type {number[]} */
  const sizes = [];
  /** @type {number[][]} */
  const steps = strides.map(() => []);
  for (let axis = 0; axis < shape.length; axis++) {
    if (shape[axis] === 0) return;
    if (shape[axis] === 1) continue;
    const last = sizes.length - 1;
    if (last >= 0 && strides.every((one, index) => steps[index][last] === one[axis] * shape[axis])) {
      sizes[last] *= shape[axis];
      strides.forEach((one, index) => (steps[index][last] = one[axis]));
    } else {
      sizes.push(shape[axis]);
      strides.forEach((one, index) => steps[index].push(one[axis]));
    }
  }
  while (sizes.length < depth) {
    sizes.unshift(1);
    steps.forEach((one) => one.unshift(0));
  }
  const last = sizes.length - 1;
  if (depth > 1 && sizes[last] < sizes[last - 1]) {
    // Few long lines are faster than many short ones.
    for (const one of [sizes, ...steps]) [one[last - 1], one[last]] = [one[last], one[last - 1]];
  }
  const inner = sizes.length - depth;
  const n = sizes[sizes.length - 1];
  const along = steps.map((one) => one[sizes.length - 1]);
  const m = depth > 1 ? sizes[inner] : 1;
  const wide = steps.map((one) => (depth > 1 ? one[inner] : 0));
  const count = new Array(inner).fill(0);
  const starts = offsets.slice();
  for (;;) {
    act(n, along, starts, m, wide);
    let axis = inner - 1;
    for (; axis >= 0; axis--) {
      count[axis] += 1;
      for (let index = 0; index < starts.length; index++) starts[index] += steps[index][axis];
      if (count[axis] < sizes[axis]) break;
      for (let index = 0; index < starts.length; index++) starts[index] -= steps[index][axis] * sizes[axis];
      count[axis] = 0;
    }
    if (axis < 0) return;
  }
}

/** @param {number[][]} shapes */
export function broadcastShape(...shapes) {
  const length = Math.max(...shapes.map((shape) => shape.length));
  const shape = new Array(length).fill(1);
  for (const one of shapes) {
    for (let axis = 0; axis < one.length; axis++) {
      const at = length - one.length + axis;
      if (one[axis] === 1 || one[axis] === shape[at]) continue;
      if (shape[at] !== 1) throw new Error(`shapes ${shapes.map((each) => `(${each})`).join(" and ")}`);
      shape[at] = one[axis];
    }
  }
  return shape;
}

/** @param {NDArray} array @param {number[]} shape */
export function broadcastTo(array, shape) {
  const own = array._shape;
  const missing = shape.length - own.length;
  const strides = shape.map((size, axis) => {
    if (axis < missing) return 0;
    if (own[axis - missing] === size) return own[axis - missing] === 1 ? 0 : array.strides[axis - missing];
    if (own[axis - missing] !== 1) throw new Error(`(${own}) as (${shape})`);
    return 0;
  });
  return new NDArray(array.data, shape.slice(), array.dtype, strides, array.offset);
}

/** A whole number that is a float in Python. */
export class Float64 {
  /** @param {number} number */
  constructor(number) {
    this.number = number;
  }
}

/** @param {any} one @returns {NDArray} */
export function asArray(one, /** @type {any} */ kind = null) {
  const dtype = kind === null || kind === undefined ? null : kindOf(kind);
  if (one instanceof NDArray) return dtype === null || dtype === one.dtype ? one : one.astype(dtype);
  if (one instanceof Float64) return asArray(one.number, kind);
  if (typeof one === "number") return new NDArray(converted([one], "float64", dtype ?? "float64"), [], dtype ?? "float64");
  if (typeof one === "boolean") return new NDArray(new STORES[dtype ?? "bool"]([one ? 1 : 0]), [], dtype ?? "bool");
  if (!Array.isArray(one)) throw new Error(`an array of ${typeof one}`);
  const list = Array.from(one);
  if (list.every((each) => typeof each === "number")) return new NDArray(converted(list, "float64", dtype ?? "float64"), [list.length], dtype ?? "float64");
  if (list.every((each) => typeof each === "boolean")) return new NDArray(converted(list.map(Number), "int64", dtype ?? "bool"), [list.length], dtype ?? "bool");
  const parts = list.map((each) => asArray(each));
  const together = dtype ?? parts.map((part) => part.dtype).reduce(promoted);
  const shape = [parts.length, ...parts[0]._shape];
  const out = new NDArray(new STORES[together](sizeOf(shape)), shape, together);
  parts.forEach((part, index) => {
    if (String(part._shape) !== String(shape.slice(1))) throw new Error("rows of unlike shapes");
    assign(shape.length === 1 ? new NDArray(out.data, [], together, [], index) : at0(out, index), part);
  });
  return out;
}

/** @param {string} one @param {string} other */
export function promoted(one, other) {
  if (one === other) return one;
  const [low, high] = [one, other].sort((a, b) => RANKS.indexOf(a) - RANKS.indexOf(b));
  if (high === "float32") return ["uint32", "int32", "int64"].includes(low) ? "float64" : "float32";
  if (high.startsWith("int") && low.startsWith("uint") && STORES[high].BYTES_PER_ELEMENT <= STORES[low].BYTES_PER_ELEMENT) return { int8: "int16", int16: "int32", int32: "int64" }[high] ?? high;
  if (high === "uint16" && low === "int8") return "int32";
  if (high === "uint32" && low.startsWith("int")) return "int64";
  return high;
}

const isFloat = (/** @type {string} */ dtype) => dtype === "float32" || dtype === "float64";

/** The kind of an array's and a number's result. @param {string} dtype @param {any} number */
function withNumber(dtype, number) {
  if (isFloat(dtype)) return dtype;
  if (number instanceof Float64 || !Number.isInteger(typeof number === "boolean" ? Number(number) : number)) return "float64";
  return dtype === "bool" && typeof number === "number" ? "int64" : dtype;
}

const COMPARE = new Set(["eq", "ne", "lt", "le", "gt", "ge"]);
const FLOATS = new Set(["div", "hypot", "arctan2"]);

/** Its numbers in arrays of this kind. @param {NDArray} array @param {any} Store */
const storedIn = (array, Store) => (array.data instanceof Store ? array : new NDArray(Store.from(array.flat), array._shape, array.dtype));

/** @param {number[]} one @param {number[]} other */
const sameShape = (one, other) => one.length === other.length && one.every((size, axis) => size === other[axis]);

/** @param {any} one */
const isScalar = (one) => typeof one === "number" || typeof one === "boolean" || one instanceof Float64;

/**
 * The elementwise operation on arrays, of which one may be a number or nested lists.
 * @param {string} name @param {any} a @param {any} b @param {NDArray | null} out
 */
export function elementwise(name, a, b, out = null, /** @type {any} */ where = null) {
  let dtype;
  if (isScalar(a) && isScalar(b)) {
    const [x, y] = [a, b].map((one) => asArray(one));
    return elementwise(name, x, y);
  }
  if (isScalar(b)) {
    a = asArray(a);
    dtype = withNumber(a.dtype, b);
  } else if (isScalar(a)) {
    b = asArray(b);
    dtype = withNumber(b.dtype, a);
  } else {
    [a, b] = [asArray(a), asArray(b)];
    dtype = promoted(a.dtype, b.dtype);
  }
  // Beside numbers of 32 bits one alone is one, too.
  if (dtype === "float32" && isScalar(a)) a = Math.fround(Number(a instanceof Float64 ? a.number : a));
  if (dtype === "float32" && isScalar(b)) b = Math.fround(Number(b instanceof Float64 ? b.number : b));
  const compared = dtype;
  if (COMPARE.has(name)) dtype = "bool";
  else if (FLOATS.has(name) && !isFloat(dtype)) dtype = "float64";
  else if (dtype === "bool" && ["add", "mul", "maximum", "minimum"].includes(name)) dtype = "bool";
  [a, b] = [asArray(a), asArray(b)];
  // A number may be none of a byte's.
  const kind = !COMPARE.has(name) ? dtype : [a, b].some((one) => !one._shape.length && (one.item() < 0 || one.item() > 255)) ? "float64" : compared;
  const [Store, kernels] = kind === "float32" ? [Float32Array, OF_SINGLES] : kind === "bool" || kind === "uint8" ? [Uint8Array, OF_BYTES] : [Float64Array, OF_DOUBLES];
  if (name === "pow" && b.size === 1 && Number(b.item()) === 2) [name, b] = ["mul", a];
  [a, b] = [storedIn(a, Store), storedIn(b, Store)];
  if (!out && !where && !(dtype === "bool" && !COMPARE.has(name)) && a.isWhole && b.isWhole && a._shape.length && b._shape.length <= a._shape.length && (b._shape.length === 0 || sameShape(a._shape, b._shape))) {
    const size = a.size;
    const made = new NDArray(new STORES[dtype](size), a._shape, dtype);
    kernels[name](made.data, 0, 0, 1, a.data, a.offset, 0, 1, b.data, b.offset, 0, b._shape.length ? 1 : 0, 1, size);
    return made;
  }
  const shape = broadcastShape(a._shape, b._shape);
  const made = out ?? new NDArray(new STORES[dtype](sizeOf(shape)), shape, dtype);
  const [x, y] = [broadcastTo(a, shape), broadcastTo(b, shape)];
  const kernel = kernels[name];
  // Whole numbers of 64 bits are floats here.
  const boolean = dtype === "bool" && (name === "add" || name === "or_" ? kernels.or_ : name === "mul" ? kernels.and_ : null);
  const act = boolean || kernel;
  if (where) {
    const result = elementwise(name, a, b);
    loop(shape, [made.strides, result.strides, broadcastTo(where, shape).strides], [made.offset, result.offset, where.offset], (n, [q, s, t], [p, i, j]) => {
      for (let k = 0; k < n; k++, p += q, i += s, j += t) if (where.data[j]) made.data[p] = result.data[i];
    });
    return made;
  }
  loop(shape, [made.strides, x.strides, y.strides], [made.offset, x.offset, y.offset], (n, steps, starts, m, wide) => act(made.data, starts[0], wide[0], steps[0], x.data, starts[1], wide[1], steps[1], y.data, starts[2], wide[2], steps[2], m, n), 2);
  return shape.length || out ? made : made.item();
}

/**
 * Write a number or an array into all of `target`.
 * @param {NDArray} target @param {any} source
 */
export function assign(target, source) {
  const { data } = target;
  if (isScalar(source)) {
    const number = source instanceof Float64 ? source.number : Number(source);
    const own = target.dtype === "int64" ? Math.trunc(number) : target.dtype === "bool" ? Number(number !== 0) : number;
    loop(target._shape, [target.strides], [target.offset], (n, [q], [p]) => {
      if (q === 1) data.fill(own, p, p + n);
      else for (let k = 0; k < n; k++, p += q) data[p] = own;
    });
    return;
  }
  let from = asArray(source);
  if (from.data.buffer === data.buffer && from.data.byteOffset === data.byteOffset) from = from.copy();
  if (from.dtype !== target.dtype && (target.dtype === "bool" || (target.dtype === "int64" && isFloat(from.dtype)))) from = from.astype(target.dtype);
  // Axes of one in front do not count.
  while (from._shape.length > target._shape.length && from._shape[0] === 1) from = at0(from, 0);
  const own = broadcastTo(from, target._shape);
  loop(target._shape, [target.strides, own.strides], [target.offset, own.offset], (n, [q, s], [P, I], m, [Q, S]) => copyLines(data, P, Q, q, own.data, I, S, s, m, n), 2);
}

/** @param {any} o @param {number} P @param {number} Q @param {number} q @param {any} a @param {number} I @param {number} S @param {number} s @param {number} m @param {number} n */
function copyLines(o, P, Q, q, a, I, S, s, m, n) {
  for (let r = 0; r < m; r++, P += Q, I += S) for (let k = 0, p = P, i = I; k < n; k++, p += q, i += s) o[p] = a[i];
}

/** Indices of what is true: one line of them for each axis. @param {NDArray} mask */
export function nonzero(mask) {
  const flat = mask.flat;
  let count = 0;
  for (let at = 0; at < flat.length; at++) if (flat[at]) count += 1;
  const shape = mask._shape;
  const lines = shape.map(() => new Float64Array(count));
  if (shape.length === 2) {
    const [rows, columns] = lines;
    for (let row = 0, at = 0, to = 0; row < shape[0]; row++) {
      for (let column = 0; column < shape[1]; column++, at++) {
        if (!flat[at]) continue;
        rows[to] = row;
        columns[to++] = column;
      }
    }
    return lines.map((line) => new NDArray(line, [count], "int64"));
  }
  for (let at = 0, to = 0; at < flat.length; at++) {
    if (!flat[at]) continue;
    for (let axis = shape.length - 1, rest = at; axis >= 0; axis--) {
      lines[axis][to] = rest % shape[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    to += 1;
  }
  return lines.map((line) => new NDArray(line, [count], "int64"));
}

/**
 * The part of an array that an index names, as a view where it is whole numbers and slices; else with the places of all that it names.
 * @param {NDArray} array @param {any} key
 * @returns {{view: NDArray} | {shape: number[], bases: Float64Array, base: number[], rest: number[], restStrides: number[], first: number}}
 */
function located(array, key) {
  const keys = key instanceof Tuple ? Array.from(key) : [key];
  /** @type {any[]} */
  const parts = [];
  let used = 0;
  for (const one of keys) {
    if (one === null || one === Ellipsis) continue;
    const mask = one instanceof NDArray && one.dtype === "bool" ? one._shape.length : 1;
    used += Array.isArray(one) && one.length && typeof one[0] === "boolean" ? 1 : mask;
  }
  let open = false;
  for (const one of keys) {
    if (one === Ellipsis) {
      open = true;
      for (let left = array._shape.length - used; left > 0; left--) parts.push(new Slice(null, null, null));
    } else if (one instanceof NDArray && one.dtype === "bool") {
      if (!one._shape.length) throw new Error("a boolean index without axes");
      parts.push(...nonzero(one));
    } else if (Array.isArray(one)) {
      const list = asArray(one);
      if (list.dtype === "bool") parts.push(...nonzero(list));
      else parts.push(list);
    } else parts.push(one);
  }
  if (!open) for (let left = array._shape.length - used; left > 0; left--) parts.push(new Slice(null, null, null));
  const fancy = parts.some((part) => part instanceof NDArray && part._shape.length > 0);
  /** @type {number[]} */
  const shape = [];
  /** @type {number[]} */
  const strides = [];
  let { offset } = array;
  /** Of indices that are arrays: the axis's size and stride. @type {{indices: NDArray, size: number, stride: number}[]} */
  const found = [];
  let [first, apart, gone] = [-1, false, false];
  let axis = 0;
  for (const part of parts) {
    if (part === null) {
      shape.push(1);
      strides.push(0);
      if (first >= 0) gone = true;
      continue;
    }
    const [size, stride] = [array._shape[axis], array.strides[axis]];
    axis += 1;
    if (part instanceof Slice) {
      const [start, count, step] = part.within(size);
      offset += start * stride;
      shape.push(count);
      strides.push(step * stride);
      if (first >= 0) gone = true;
    } else if (part instanceof NDArray && (part._shape.length || fancy)) {
      if (first < 0) first = shape.length;
      else if (gone) apart = true;
      found.push({ indices: part, size, stride });
    } else {
      const number = part instanceof NDArray ? part.item() : Number(part);
      const at = number < 0 ? number + size : number;
      if (!(at >= 0 && at < size) || !Number.isInteger(at)) throw new Error(`index ${number} of ${size}`);
      if (fancy) {
        if (first < 0) first = shape.length;
        else if (gone) apart = true;
      }
      offset += at * stride;
    }
  }
  if (!found.length) return { view: new NDArray(array.data, shape, array.dtype, strides, offset) };
  const together = broadcastShape(...found.map(({ indices }) => indices._shape));
  const bases = new Float64Array(sizeOf(together)).fill(offset);
  for (const { indices, size, stride } of found) {
    const flat = broadcastTo(indices, together).flat;
    for (let at = 0; at < bases.length; at++) {
      const index = flat[at] < 0 ? flat[at] + size : flat[at];
      if (!(index >= 0 && index < size)) throw new Error(`index ${flat[at]} of ${size}`);
      bases[at] += index * stride;
    }
  }
  return { shape: together, bases, base: stridesOf(together), rest: shape, restStrides: strides, first: apart ? 0 : first };
}

/** Whether a key is a mask of an array that lies in one piece. @param {NDArray} array @param {any} key */
const isMaskOf = (array, key) => key instanceof NDArray && key.dtype === "bool" && key._shape.length > 0 && array.isWhole && key._shape.every((size, axis) => size === array._shape[axis]);

/** @param {NDArray} array @param {any} key */
export function getItem(array, key) {
  if (typeof key === "number") return at0(array, key);
  if (isMaskOf(array, key)) {
    // Of rows and columns that are chosen, all channels.
    const [mask, count] = [key.flat, array.size / Math.max(key.size, 1)];
    let chosen = 0;
    for (let at = 0; at < mask.length; at++) if (mask[at]) chosen += 1;
    const out = new STORES[array.dtype](chosen * count);
    const { data, offset } = array;
    for (let at = 0, to = 0; at < mask.length; at++) if (mask[at]) for (let place = offset + at * count, end = place + count; place < end; place++) out[to++] = data[place];
    return new NDArray(out, [chosen, ...array._shape.slice(key._shape.length)], array.dtype);
  }
  const found = located(array, key);
  if ("view" in found) return found.view._shape.length ? found.view : found.view.item();
  const { shape, bases, rest, restStrides, first } = found;
  const count = sizeOf(rest);
  const out = new STORES[array.dtype](bases.length * count);
  const { data } = array;
  if (count === 1) {
    for (let at = 0; at < bases.length; at++) out[at] = data[bases[at]];
  } else {
    const steps = stridesOf(rest);
    for (let at = 0; at < bases.length; at++) {
      loop(rest, [steps, restStrides], [at * count, bases[at]], (n, [q, s], [p, i]) => {
        for (let k = 0; k < n; k++, p += q, i += s) out[p] = data[i];
      });
    }
  }
  const made = new NDArray(out, [...shape, ...rest], array.dtype);
  if (!first) return made;
  const indices = shape.length;
  const order = [...Array.from({ length: first }, (_, at) => indices + at), ...shape.map((_, at) => at), ...Array.from({ length: rest.length - first }, (_, at) => indices + first + at)];
  return made.transpose(order);
}

/** @param {NDArray} array @param {any} key @param {any} source */
export function setItem(array, key, source) {
  const found = located(array, key);
  if ("view" in found) {
    assign(found.view, source);
    return;
  }
  const { shape, bases, rest, restStrides, first } = found;
  const count = sizeOf(rest);
  // As it lies: what the index names first, then the rest.
  let from = asArray(source);
  const wanted = [...rest.slice(0, first), ...shape, ...rest.slice(first)];
  while (from._shape.length > wanted.length && from._shape[0] === 1) from = at0(from, 0);
  from = broadcastTo(from, wanted);
  if (first) from = from.transpose([...shape.map((_, at) => first + at), ...Array.from({ length: first }, (_, at) => at), ...Array.from({ length: rest.length - first }, (_, at) => first + shape.length + at)]);
  const flat = from.dtype !== array.dtype && array.dtype === "bool" ? converted(from.flat, from.dtype, "bool") : from.flat;
  const whole = array.dtype === "int64" && isFloat(from.dtype);
  const { data } = array;
  const steps = stridesOf(rest);
  for (let at = 0; at < bases.length; at++) {
    if (count === 1) data[bases[at]] = whole ? Math.trunc(flat[at]) : flat[at];
    else
      loop(rest, [restStrides, steps], [bases[at], at * count], (n, [q, s], [p, i]) => {
        for (let k = 0; k < n; k++, p += q, i += s) data[p] = whole ? Math.trunc(flat[i]) : flat[i];
      });
  }
}
