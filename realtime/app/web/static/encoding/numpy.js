// What a rig's making uses of NumPy, by its names.
import { NDArray, STORES, Slice, T, Tuple, asArray, assign, at0, broadcastShape, broadcastTo, converted, elementwise, getItem, kindOf, loop, nonzero, promoted, sizeOf, stridesOf, value } from "./arrays.js";

/** @param {string} kind @returns {any} */
function typeOf(kind) {
  const make = (/** @type {any} */ one) => {
    if (typeof one === "number" || typeof one === "boolean") return kind === "float32" ? Math.fround(Number(one)) : kind.includes("int") ? Math.trunc(Number(one)) : Number(one);
    return asArray(one, kind);
  };
  make.kind = kind;
  return make;
}

const isFloat = (/** @type {string} */ dtype) => dtype.startsWith("float");

/**
 * Along an axis, several, or all: `act` gets each line, one after another in `flat`.
 * @param {any} a @param {any} axis @param {boolean} keepdims @param {string | null} dtype
 * @param {(flat: any, from: number, n: number) => number} act
 */
function reduced(a, axis, keepdims, dtype, act) {
  const array = asArray(a);
  const shape = array._shape;
  const kind = dtype ?? array.dtype;
  if (axis === null || axis === undefined) {
    const flat = array.flat;
    const number = value(act(flat, 0, flat.length), kind);
    return keepdims ? asArray(number).reshape(shape.map(() => 1)) : kind === "float32" ? Math.fround(Number(number)) : number;
  }
  const axes = (Array.isArray(axis) ? Array.from(axis) : [axis]).map((one) => (one < 0 ? one + shape.length : one));
  const kept = shape.map((_, at) => at).filter((at) => !axes.includes(at));
  const lines = array.transpose([...kept, ...axes]).flat;
  const n = sizeOf(axes.map((one) => shape[one]));
  const own = kept.map((one) => shape[one]);
  const out = new STORES[kind](sizeOf(own));
  for (let at = 0; at < out.length; at++) out[at] = act(lines, at * n, n);
  const made = new NDArray(out, keepdims ? shape.map((size, at) => (axes.includes(at) ? 1 : size)) : own, kind);
  return made._shape.length ? made : made.item();
}

const total = (/** @type {any} */ flat, /** @type {number} */ from, /** @type {number} */ n) => {
  let sum = 0;
  for (let at = from; at < from + n; at++) sum += flat[at];
  return sum;
};
const largest = (/** @type {any} */ flat, /** @type {number} */ from, /** @type {number} */ n) => {
  if (n === 0) throw new Error("the largest of nothing");
  let most = flat[from];
  for (let at = from + 1; at < from + n; at++) if (flat[at] > most || flat[at] !== flat[at]) most = flat[at];
  return most;
};
const smallest = (/** @type {any} */ flat, /** @type {number} */ from, /** @type {number} */ n) => {
  if (n === 0) throw new Error("the smallest of nothing");
  let least = flat[from];
  for (let at = from + 1; at < from + n; at++) if (flat[at] < least || flat[at] !== flat[at]) least = flat[at];
  return least;
};
const whereLargest = (/** @type {any} */ flat, /** @type {number} */ from, /** @type {number} */ n) => {
  let most = 0;
  for (let at = 1; at < n; at++) if (flat[from + at] > flat[from + most]) most = at;
  return most;
};
const whereSmallest = (/** @type {any} */ flat, /** @type {number} */ from, /** @type {number} */ n) => {
  let least = 0;
  for (let at = 1; at < n; at++) if (flat[from + at] < flat[from + least]) least = at;
  return least;
};
const anyOf = (/** @type {any} */ flat, /** @type {number} */ from, /** @type {number} */ n) => {
  for (let at = from; at < from + n; at++) if (flat[at]) return 1;
  return 0;
};
const allOf = (/** @type {any} */ flat, /** @type {number} */ from, /** @type {number} */ n) => {
  for (let at = from; at < from + n; at++) if (!flat[at]) return 0;
  return 1;
};
const summed = (/** @type {string} */ dtype) => (isFloat(dtype) ? dtype : "int64");
const averaged = (/** @type {string} */ dtype) => (isFloat(dtype) ? dtype : "float64");

/** What is at a place among sorted bytes: of many, they are counted. @param {Uint8Array} flat @param {number} from @param {number} n @param {number} place */
function ofCounted(flat, from, n, place) {
  const counts = new Int32Array(256);
  for (let at = from; at < from + n; at++) counts[flat[at]] += 1;
  const [low, high] = [Math.floor(place), Math.min(Math.floor(place) + 1, n - 1)].map((wanted) => {
    let [level, before] = [0, counts[0]];
    while (before <= wanted) before += counts[++level];
    return level;
  });
  return low + (high - low) * (place - Math.floor(place));
}

/** Up to so many numbers are sorted by insertion. */
const FEW = 32;

/** @param {Float64Array} line */
function sortFew(line) {
  for (let at = 1; at < line.length; at++) {
    const number = line[at];
    let to = at;
    for (; to > 0 && line[to - 1] > number; to--) line[to] = line[to - 1];
    line[to] = number;
  }
}

/** @param {any} a @param {number[]} shares in [0, 1] @param {any} axis */
function quantiles(a, shares, axis, /** @type {boolean} */ keepdims) {
  const array = asArray(a);
  const dtype = averaged(array.dtype);
  let line = new Float64Array(0);
  return shares.map((share) =>
    reduced(array, axis, keepdims, dtype, (flat, from, n) => {
      if (n > 256 && flat instanceof Uint8Array) return ofCounted(flat, from, n, share * (n - 1));
      if (n === 0) return NaN;
      if (line.length !== n) line = new Float64Array(n);
      for (let at = 0; at < n; at++) {
        const number = flat[from + at];
        if (number !== number) return NaN;
        line[at] = number;
      }
      if (n > FEW) line.sort();
      else sortFew(line);
      const at = share * (n - 1);
      const low = Math.floor(at);
      const high = Math.min(low + 1, n - 1);
      return line[low] + (line[high] - line[low]) * (at - low);
    }),
  );
}

/** @param {number} number to the nearest whole one, halves to the even one */
export function rounded(number) {
  const low = Math.floor(number);
  const part = number - low;
  return part < 0.5 ? low : part > 0.5 ? low + 1 : low % 2 ? low + 1 : low;
}

/**
 * @param {(x: number) => number} act @param {(dtype: string) => string} kindFrom
 * @param {(to: any, from: any) => void} all the same for all of an array: a loop of its own is compiled with what it calls
 * @returns {(x: any, out?: any) => any}
 */
function unary(act, kindFrom = averaged, all = (to, from) => { for (let at = 0; at < from.length; at++) to[at] = act(from[at]); }) {
  return (x, out = null) => {
    if (typeof x === "number" || typeof x === "boolean") return value(act(Number(x)), kindFrom("float64"));
    const array = asArray(x);
    const dtype = kindFrom(array.dtype);
    const flat = array.flat;
    const values = new STORES[dtype](flat.length);
    all(values, flat);
    const made = new NDArray(values, array._shape, dtype);
    if (!out) return made._shape.length ? made : made.item();
    assign(out, made);
    return out;
  };
}
const same = (/** @type {string} */ dtype) => dtype;
const truth = () => "bool";

/** @param {string} name @returns {any} */
function binary(name) {
  const act = (/** @type {any} */ x, /** @type {any} */ y, /** @type {any} */ out = null, /** @type {any} */ where = null) => elementwise(name, x, y, out, where);
  act.accumulate = (/** @type {any} */ a, axis = 0) => {
    const array = asArray(a).copy();
    const n = array._shape[axis];
    const lines = array.transpose([...array._shape.map((_, at) => at).filter((at) => at !== axis), axis]);
    const [outer, stride] = [lines._shape.slice(0, -1), lines.strides[lines.strides.length - 1]];
    const pick = { maximum: Math.max, minimum: Math.min, and_: (/** @type {number} */ p, /** @type {number} */ q) => p && q, add: (/** @type {number} */ p, /** @type {number} */ q) => p + q }[name];
    loop(outer, [lines.strides.slice(0, -1)], [lines.offset], (count, [s], [i]) => {
      for (let k = 0; k < count; k++, i += s) for (let at = 1; at < n; at++) lines.data[i + at * stride] = pick?.(lines.data[i + (at - 1) * stride], lines.data[i + at * stride]);
    });
    return array;
  };
  act.reduce = (/** @type {any} */ a, axis = 0) => {
    const parts = a instanceof NDArray ? Array.from({ length: a._shape[axis] }, (_, at) => getItem(a, T(...new Array(axis).fill(new Slice(null, null, null)), at))) : Array.from(a);
    return parts.reduce((one, other) => elementwise(name, one, other));
  };
  return act;
}

/** @param {any} shape */
const shapeOf = (shape) => (typeof shape === "number" ? [shape] : Array.from(shape));
/** @param {any} shape @param {any} fill @param {any} kind */
function filled(shape, fill, kind) {
  const sizes = shapeOf(shape);
  const dtype = kind ? kindOf(kind) : typeof fill === "boolean" ? "bool" : fill instanceof NDArray ? fill.dtype : "float64";
  const made = new NDArray(new STORES[dtype](sizeOf(sizes)), sizes, dtype);
  if (fill !== 0) assign(made, fill);
  return made;
}

/** @param {any[]} parts @param {number} axis */
function joined(parts, axis, /** @type {any} */ kind = null) {
  const arrays = parts.map((part) => asArray(part));
  const dtype = kind ? kindOf(kind) : arrays.map((part) => part.dtype).reduce(promoted);
  const own = axis < 0 ? axis + arrays[0]._shape.length : axis;
  const shape = arrays[0]._shape.slice();
  shape[own] = arrays.reduce((sum, part) => sum + part._shape[own], 0);
  const out = new NDArray(new STORES[dtype](sizeOf(shape)), shape, dtype);
  let at = 0;
  for (const part of arrays) {
    const size = part._shape[own];
    if (size) assign(new NDArray(out.data, shape.map((one, index) => (index === own ? size : one)), dtype, out.strides, at * out.strides[own]), part);
    at += size;
  }
  return out;
}

/** @param {any} array @param {number} axis */
function expanded(array, axis) {
  const shape = array._shape.slice();
  shape.splice(axis < 0 ? axis + shape.length + 1 : axis, 0, 1);
  return array.reshape(shape);
}

/** @param {number[][]} a of n rows, changed @param {number[][]} b */
function solved(a, b) {
  const n = a.length;
  for (let column = 0; column < n; column++) {
    let best = column;
    for (let row = column + 1; row < n; row++) if (Math.abs(a[row][column]) > Math.abs(a[best][column])) best = row;
    if (!a[best][column]) throw new Error("singular matrix");
    [a[column], a[best], b[column], b[best]] = [a[best], a[column], b[best], b[column]];
    for (let row = column + 1; row < n; row++) {
      const factor = a[row][column] / a[column][column];
      if (!factor) continue;
      for (let at = column; at < n; at++) a[row][at] -= factor * a[column][at];
      for (let at = 0; at < b[row].length; at++) b[row][at] -= factor * b[column][at];
    }
  }
  for (let row = n - 1; row >= 0; row--) {
    for (let at = 0; at < b[row].length; at++) {
      for (let other = row + 1; other < n; other++) b[row][at] -= a[row][other] * b[other][at];
      b[row][at] /= a[row][row];
    }
  }
  return b;
}

const rows = (/** @type {NDArray} */ a) => Array.from({ length: a._shape[0] }, (_, at) => Array.from(asArray(at0(a, at)).flat, Number));

/** States of NumPy's generator (PCG64) and what is added to them, by seed: of those that are in use. @type {Record<number, bigint[]>} */
const SEEDED = { 1: [0x9c5b484bfedb756c2a6e7d6f320fbc7en, 0x922af2da2645f895a19857b95740937bn], 7: [0x9d0aecc4e7b188919ae2415a6b292038n, 0xc4751896ce8acebf66887f5ac070d959n] };

/** The ziggurat of the normal distribution (Marsaglia and Tsang, 2000) in 256 layers. */
function ziggurat() {
  const [end, area, steps] = [3.6541528853610088, 0.00492867323399, 2 ** 52];
  const [wide, chance, high] = [new Float64Array(256), new Float64Array(256), new Float64Array(256)];
  const bell = (/** @type {number} */ x) => Math.exp(-0.5 * x * x);
  let x = end;
  let before = end;
  const first = area / bell(end);
  chance[0] = (end / first) * steps;
  wide[0] = first / steps;
  wide[255] = end / steps;
  high[0] = 1;
  high[255] = bell(end);
  for (let at = 254; at >= 1; at--) {
    x = Math.sqrt(-2 * Math.log(area / x + bell(x)));
    chance[at + 1] = (x / before) * steps;
    before = x;
    high[at] = bell(x);
    wide[at] = x / steps;
  }
  return { end, wide, chance, high };
}

/** The numbers that `np.random.default_rng` gives. @param {number} seed */
function generator(seed) {
  if (!SEEDED[seed]) throw new Error(`no generator with seed ${seed}`);
  const { end, wide, chance, high } = ziggurat();
  const [[begin, more], word] = [SEEDED[seed], 0xffffffffffffffffn];
  let state = begin;
  const next = () => {
    state = (state * 0x2360ed051fc65da44385df649fccf645n + more) & ((word << 64n) | word);
    const mixed = (state >> 64n) ^ (state & word);
    const turn = state >> 122n;
    return ((mixed >> turn) | (mixed << (64n - turn))) & word;
  };
  const uniform = () => Number(next() >> 11n) / 2 ** 53;
  const normal = () => {
    for (;;) {
      const drawn = next();
      const layer = Number(drawn & 255n);
      const size = Number((drawn >> 9n) & 0xfffffffffffffn);
      const x = (drawn >> 8n) & 1n ? -size * wide[layer] : size * wide[layer];
      if (size < chance[layer]) return x;
      if (layer > 0) {
        if ((high[layer - 1] - high[layer]) * uniform() + high[layer] < Math.exp(-0.5 * x * x)) return x;
        continue;
      }
      for (;;) {
        const beyond = -Math.log1p(-uniform()) / end;
        const down = -Math.log1p(-uniform());
        if (2 * down > beyond * beyond) return (size >> 8) & 1 ? -(end + beyond) : end + beyond;
      }
    }
  };
  /** @param {any} size @param {() => number} draw */
  const drawn = (size, draw) => {
    const shape = shapeOf(size);
    return new NDArray(Float64Array.from({ length: sizeOf(shape) }, draw), shape, "float64");
  };
  return { standard_normal: (/** @type {any} */ size) => drawn(size, normal), random: (/** @type {any} */ size) => drawn(size, uniform) };
}

/** @type {Record<string, any>} */
export const np = {
  ndarray: NDArray,
  pi: Math.PI,
  inf: Infinity,
  nan: NaN,
  newaxis: null,
  floating: NDArray,
  generic: class {},
  ...Object.fromEntries(["float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64"].map((kind) => [kind, typeOf(kind)])),
  bool_: typeOf("bool"),
  intp: typeOf("int64"),
  array: (/** @type {any} */ object, /** @type {any} */ dtype = null, copy = true, order = "K") => {
    void [copy, order];
    return asArray(object, dtype).copy();
  },
  asarray: (/** @type {any} */ a, /** @type {any} */ dtype = null) => asArray(a, dtype),
  ascontiguousarray: (/** @type {any} */ a, /** @type {any} */ dtype = null) => {
    const array = asArray(a, dtype);
    return array.isWhole ? array : array.copy();
  },
  zeros: (/** @type {any} */ shape, /** @type {any} */ dtype = "float64") => filled(shape, 0, dtype),
  ones: (/** @type {any} */ shape, /** @type {any} */ dtype = "float64") => filled(shape, 1, dtype),
  empty: (/** @type {any} */ shape, /** @type {any} */ dtype = "float64") => filled(shape, 0, dtype),
  full: (/** @type {any} */ shape, /** @type {any} */ fill_value, /** @type {any} */ dtype = null) => filled(shape, fill_value, dtype),
  zeros_like: (/** @type {any} */ a, /** @type {any} */ dtype = null) => filled(asArray(a)._shape, 0, dtype ?? asArray(a).dtype),
  ones_like: (/** @type {any} */ a, /** @type {any} */ dtype = null) => filled(asArray(a)._shape, 1, dtype ?? asArray(a).dtype),
  empty_like: (/** @type {any} */ a, /** @type {any} */ dtype = null) => filled(asArray(a)._shape, 0, dtype ?? asArray(a).dtype),
  full_like: (/** @type {any} */ a, /** @type {any} */ fill_value, /** @type {any} */ dtype = null) => filled(asArray(a)._shape, fill_value, dtype ?? asArray(a).dtype),
  eye: (/** @type {number} */ N) => {
    const made = filled([N, N], 0, "float64");
    for (let at = 0; at < N; at++) made.data[at * N + at] = 1;
    return made;
  },
  diag: (/** @type {any} */ v) => {
    const line = asArray(v);
    const made = np.eye(line.size);
    for (let at = 0; at < line.size; at++) made.data[at * line.size + at] = line.flat[at];
    return made;
  },
  arange: (/** @type {number} */ start, /** @type {any} */ stop = null, step = 1, /** @type {any} */ dtype = null) => {
    const [from, to] = stop === null ? [0, start] : [start, stop];
    const whole = [from, to, step].every(Number.isInteger);
    const length = Math.max(0, Math.ceil((to - from) / step));
    const kind = dtype ? kindOf(dtype) : whole ? "int64" : "float64";
    return new NDArray(STORES[kind].from({ length }, (/** @type {any} */ _, /** @type {number} */ at) => from + at * step), [length], kind);
  },
  linspace: (/** @type {any} */ start, /** @type {any} */ stop, num = 50, endpoint = true, retstep = false, /** @type {any} */ dtype = null) => {
    const last = endpoint ? num - 1 : num;
    const kind = dtype ? kindOf(dtype) : "float64";
    if (typeof start !== "number" || typeof stop !== "number") {
      const [low, high] = [asArray(start, "float64"), asArray(stop, "float64")];
      return np.stack(Array.from({ length: num }, (_, at) => elementwise("add", elementwise("mul", low, 1 - at / last), elementwise("mul", high, at / last)))).astype(kind);
    }
    return new NDArray(STORES[kind].from({ length: num }, (/** @type {any} */ _, /** @type {number} */ at) => (at === last && endpoint && num > 1 ? stop : start + (num > 1 ? (at * (stop - start)) / last : 0))), [num], kind);
  },
  geomspace: (/** @type {number} */ start, /** @type {number} */ stop, num = 50) => new NDArray(Float64Array.from({ length: num }, (_, at) => start * (stop / start) ** (at / (num - 1))), [num], "float64"),
  meshgrid: (/** @type {any} */ ...lines) => {
    const told = lines.length && typeof lines[lines.length - 1] === "string" ? lines.pop() : "xy";
    const arrays = lines.map((/** @type {any} */ one) => asArray(one).ravel());
    const order = arrays.map((/** @type {any} */ _, /** @type {number} */ axis) => (told === "xy" && axis < 2 ? 1 - axis : axis));
    const shape = order.map((/** @type {number} */ axis) => arrays[axis].size);
    return arrays.map((/** @type {NDArray} */ one, /** @type {number} */ at) => broadcastTo(one.reshape(order.map((/** @type {number} */ axis) => (axis === at ? one.size : 1))), shape).copy());
  },
  mgrid: { getitem: (/** @type {any} */ key) => {
    const lines = key.map((/** @type {Slice} */ one) => np.arange(one.start ?? 0, one.stop, one.step ?? 1));
    const shape = lines.map((/** @type {NDArray} */ one) => one.size);
    return np.stack(lines.map((/** @type {NDArray} */ one, /** @type {number} */ at) => broadcastTo(one.reshape(shape.map((/** @type {number} */ size, /** @type {number} */ axis) => (axis === at ? size : 1))), shape)));
  } },
  ogrid: { getitem: (/** @type {any} */ key) => {
    const lines = key.map((/** @type {Slice} */ one) => np.arange(one.start ?? 0, one.stop, one.step ?? 1));
    return lines.map((/** @type {NDArray} */ one, /** @type {number} */ at) => one.reshape(lines.map((/** @type {NDArray} */ _, /** @type {number} */ axis) => (axis === at ? one.size : 1))));
  } },
  c_: { getitem: (/** @type {any} */ key) => np.column_stack(key) },
  concatenate: (/** @type {any} */ arrays, axis = 0, /** @type {any} */ out = null, /** @type {any} */ dtype = null) => joined(Array.from(arrays), axis, dtype),
  stack: (/** @type {any} */ arrays, axis = 0) => {
    const parts = Array.from(arrays, (/** @type {any} */ one) => asArray(one));
    return joined(parts.map((one) => expanded(one, axis)), axis < 0 ? axis + parts[0]._shape.length + 1 : axis);
  },
  vstack: (/** @type {any} */ arrays) => joined(Array.from(arrays, (/** @type {any} */ one) => asArray(one)).map((one) => (one._shape.length < 2 ? one.reshape(1, one.size) : one)), 0),
  hstack: (/** @type {any} */ arrays) => joined(Array.from(arrays, (/** @type {any} */ one) => asArray(one)), asArray(arrays[0])._shape.length > 1 ? 1 : 0),
  column_stack: (/** @type {any} */ arrays) => joined(Array.from(arrays, (/** @type {any} */ one) => asArray(one)).map((one) => (one._shape.length < 2 ? one.reshape(one.size, 1) : one)), 1),
  dstack: (/** @type {any} */ arrays) => joined(Array.from(arrays, (/** @type {any} */ one) => asArray(one)).map((one) => (one._shape.length === 2 ? expanded(one, 2) : one._shape.length === 1 ? one.reshape(1, one.size, 1) : one)), 2),
  append: (/** @type {any} */ arr, /** @type {any} */ values) => joined([asArray(arr).ravel(), asArray(values).ravel()], 0),
  repeat: (/** @type {any} */ a, /** @type {number} */ repeats, /** @type {any} */ axis = null) => {
    const array = axis === null ? asArray(a).ravel() : asArray(a);
    const own = axis ?? 0;
    return getItem(array, T(...new Array(own).fill(new Slice(null, null, null)), np.arange(array._shape[own] * repeats).astype("int64") && asArray(Array.from({ length: array._shape[own] * repeats }, (_, at) => Math.floor(at / repeats)), "int64")));
  },
  tile: (/** @type {any} */ A, /** @type {any} */ reps) => {
    const times = shapeOf(reps);
    let array = asArray(A);
    while (array._shape.length < times.length) array = expanded(array, 0);
    while (times.length < array._shape.length) times.unshift(1);
    times.forEach((count, axis) => (array = joined(new Array(count).fill(array), axis)));
    return array;
  },
  broadcast_to: (/** @type {any} */ array, /** @type {any} */ shape) => broadcastTo(asArray(array), shapeOf(shape)),
  atleast_1d: (/** @type {any} */ a) => (asArray(a)._shape.length ? asArray(a) : asArray(a).reshape(1)),
  squeeze: (/** @type {any} */ a) => asArray(a).reshape(asArray(a)._shape.filter((size) => size !== 1)),
  maximum: binary("maximum"),
  minimum: binary("minimum"),
  hypot: binary("hypot"),
  arctan2: binary("arctan2"),
  add: binary("add"),
  subtract: binary("sub"),
  multiply: binary("mul"),
  divide: binary("div"),
  power: binary("pow"),
  logical_and: binary("and_"),
  logical_or: binary("or_"),
  outer: (/** @type {any} */ a, /** @type {any} */ b) => elementwise("mul", asArray(a).ravel().reshape(-1, 1), asArray(b).ravel().reshape(1, -1)),
  abs: unary(Math.abs, same, (to, from) => { for (let at = 0; at < from.length; at++) to[at] = Math.abs(from[at]); }),
  square: unary((x) => x * x, same),
  negative: unary((x) => -x, same),
  sign: unary(Math.sign, same),
  sqrt: unary(Math.sqrt, averaged, (to, from) => { for (let at = 0; at < from.length; at++) to[at] = Math.sqrt(from[at]); }),
  exp: unary(Math.exp, averaged, (to, from) => { for (let at = 0; at < from.length; at++) to[at] = Math.exp(from[at]); }),
  log: unary(Math.log),
  log2: unary(Math.log2),
  sin: unary(Math.sin),
  cos: unary(Math.cos),
  tan: unary(Math.tan),
  tanh: unary(Math.tanh),
  arctan: unary(Math.atan),
  arcsin: unary(Math.asin),
  arccos: unary(Math.acos),
  floor: unary(Math.floor),
  ceil: unary(Math.ceil),
  rint: unary(rounded),
  radians: unary((x) => (x / 180) * Math.PI),
  degrees: unary((x) => (x / Math.PI) * 180),
  isfinite: unary((x) => (Number.isFinite(x) ? 1 : 0), truth),
  isnan: unary((x) => (Number.isNaN(x) ? 1 : 0), truth),
  logical_not: unary((x) => (x ? 0 : 1), truth),
  nan_to_num: unary((x) => (Number.isNaN(x) ? 0 : x === Infinity ? Number.MAX_VALUE : x === -Infinity ? -Number.MAX_VALUE : x), same),
  round: (/** @type {any} */ a, decimals = 0) => unary((x) => rounded(x * 10 ** decimals) / 10 ** decimals, same)(a),
  clip: (/** @type {any} */ a, /** @type {any} */ a_min, /** @type {any} */ a_max) => {
    let out = a;
    if (a_min !== null) out = elementwise("maximum", out, a_min);
    if (a_max !== null) out = elementwise("minimum", out, a_max);
    return out;
  },
  where: (/** @type {any} */ condition, /** @type {any} */ x, /** @type {any} */ y) => {
    if (x === undefined) return T(...nonzero(asArray(condition)));
    const mask = asArray(condition);
    const [one, other] = [asArray(x), asArray(y)];
    const weak = (/** @type {any} */ number, /** @type {NDArray} */ beside) => typeof number === "number" && (isFloat(beside.dtype) || (Number.isInteger(number) && beside.dtype !== "bool"));
    const dtype = weak(x, other) && !weak(y, one) ? other.dtype : weak(y, one) && !weak(x, other) ? one.dtype : promoted(one.dtype, other.dtype);
    const shape = broadcastShape(mask._shape, one._shape, other._shape);
    const out = new NDArray(new STORES[dtype](sizeOf(shape)), shape, dtype);
    const [m, p, q] = [mask, one, other].map((each) => broadcastTo(each, shape));
    const [to, mask_, yes, no] = [out.data, m.data, p.data, q.data];
    loop(shape, [out.strides, m.strides, p.strides, q.strides], [0, m.offset, p.offset, q.offset], (n, [so, sm, sp, sq], [O, I, J, K], lines, [wo, wm, wp, wq]) => {
      for (let line = 0; line < lines; line++, O += wo, I += wm, J += wp, K += wq) for (let at = 0, o = O, i = I, j = J, k = K; at < n; at++, o += so, i += sm, j += sp, k += sq) to[o] = mask_[i] ? yes[j] : no[k];
    }, 2);
    return shape.length ? out : out.item();
  },
  nonzero: (/** @type {any} */ a) => T(...nonzero(asArray(a))),
  flatnonzero: (/** @type {any} */ a) => nonzero(asArray(a).ravel())[0],
  sum: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ dtype = null, /** @type {any} */ out = null, keepdims = false) => reduced(a, axis, keepdims, dtype ? kindOf(dtype) : summed(asArray(a).dtype), total),
  prod: (/** @type {any} */ a) => asArray(a).flat.reduce((/** @type {number} */ x, /** @type {number} */ y) => x * y, 1),
  mean: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ dtype = null, /** @type {any} */ out = null, keepdims = false) => reduced(a, axis, keepdims, dtype ? kindOf(dtype) : averaged(asArray(a).dtype), (flat, from, n) => total(flat, from, n) / n),
  std: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ dtype = null, /** @type {any} */ out = null, ddof = 0, keepdims = false) =>
    reduced(a, axis, keepdims, averaged(asArray(a).dtype), (flat, from, n) => {
      const mean = total(flat, from, n) / n;
      let squares = 0;
      for (let at = from; at < from + n; at++) squares += (flat[at] - mean) ** 2;
      return Math.sqrt(squares / (n - ddof));
    }),
  max: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ out = null, keepdims = false) => reduced(a, axis, keepdims, null, largest),
  min: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ out = null, keepdims = false) => reduced(a, axis, keepdims, null, smallest),
  ptp: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ out = null, keepdims = false) => reduced(a, axis, keepdims, null, (flat, from, n) => largest(flat, from, n) - smallest(flat, from, n)),
  any: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ out = null, keepdims = false) => reduced(a, axis, keepdims, "bool", anyOf),
  all: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ out = null, keepdims = false) => reduced(a, axis, keepdims, "bool", allOf),
  argmax: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ out = null, keepdims = false) => reduced(a, axis, keepdims, "int64", whereLargest),
  argmin: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ out = null, keepdims = false) => reduced(a, axis, keepdims, "int64", whereSmallest),
  count_nonzero: (/** @type {any} */ a) => total(asArray(a).astype("bool").flat, 0, asArray(a).size),
  median: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ out = null, overwrite_input = false, keepdims = false) => quantiles(a, [0.5], axis, keepdims)[0],
  percentile: (/** @type {any} */ a, /** @type {any} */ q, /** @type {any} */ axis = null) => {
    if (typeof q === "number") return quantiles(a, [q / 100], axis, false)[0];
    return np.stack(quantiles(a, Array.from(asArray(q).flat, (/** @type {number} */ one) => one / 100), axis, false));
  },
  average: (/** @type {any} */ a, /** @type {any} */ axis = null, /** @type {any} */ weights = null) => {
    if (!weights) return np.mean(a, axis);
    return elementwise("div", np.sum(elementwise("mul", a, weights), axis), np.sum(weights, axis));
  },
  cumsum: (/** @type {any} */ a, /** @type {any} */ axis = null) => {
    const array = asArray(a);
    return np.add.accumulate((axis === null ? array.ravel() : array).astype(summed(array.dtype)), axis ?? 0);
  },
  diff: (/** @type {any} */ a, n = 1, axis = -1) => {
    let array = asArray(a);
    const own = axis < 0 ? axis + array._shape.length : axis;
    const before = new Array(own).fill(new Slice(null, null, null));
    for (let round = 0; round < n; round++) array = elementwise("sub", getItem(array, T(...before, new Slice(1, null, null))), getItem(array, T(...before, new Slice(null, -1, null))));
    return array;
  },
  gradient: (/** @type {any} */ f, /** @type {any} */ ...rest) => {
    const array = asArray(f);
    const axis = rest.length && typeof rest[rest.length - 1] === "object" && rest[rest.length - 1]?.axis !== undefined ? rest.pop().axis : null;
    const spacing = rest.length ? rest[0] : 1;
    const along = (/** @type {number} */ own) => {
      const before = new Array(own).fill(new Slice(null, null, null));
      const n = array._shape[own];
      const pick = (/** @type {number | null} */ start, /** @type {number | null} */ stop) => getItem(array, T(...before, new Slice(start, stop, null)));
      const values = asArray(array, isFloat(array.dtype) ? array.dtype : "float64");
      void values;
      if (typeof spacing !== "number") {
        const at = asArray(spacing).flat;
        const flat = array.flat;
        const out = new Float64Array(n);
        for (let k = 0; k < n; k++) {
          if (k === 0) out[k] = (flat[1] - flat[0]) / (at[1] - at[0]);
          else if (k === n - 1) out[k] = (flat[k] - flat[k - 1]) / (at[k] - at[k - 1]);
          else {
            const [h, d] = [at[k] - at[k - 1], at[k + 1] - at[k]];
            out[k] = (h * h * flat[k + 1] + (d * d - h * h) * flat[k] - d * d * flat[k - 1]) / (h * d * (h + d));
          }
        }
        return new NDArray(out, [n], "float64");
      }
      const middle = elementwise("div", elementwise("sub", pick(2, null), pick(null, -2)), 2 * spacing);
      const first = elementwise("div", elementwise("sub", pick(1, 2), pick(0, 1)), spacing);
      const last = elementwise("div", elementwise("sub", pick(n - 1, n), pick(n - 2, n - 1)), spacing);
      return joined([first, middle, last], own);
    };
    if (axis !== null) return along(axis < 0 ? axis + array._shape.length : axis);
    return array._shape.length === 1 ? along(0) : array._shape.map((_, own) => along(own));
  },
  interp: (/** @type {any} */ x, /** @type {any} */ xp, /** @type {any} */ fp) => {
    const at = Float64Array.from(asArray(xp).flat);
    const heights = Float64Array.from(asArray(fp).flat);
    const last = at.length - 1;
    const act = (/** @type {number} */ one) => {
      if (one !== one) return NaN;
      if (one <= at[0]) return one === at[0] && last > 0 && at[1] === at[0] ? found(one) : heights[0];
      if (one >= at[last]) return heights[last];
      return found(one);
    };
    const found = (/** @type {number} */ one) => {
      let [low, high] = [0, last];
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (at[middle] <= one) low = middle;
        else high = middle;
      }
      const span = at[high] - at[low];
      return span === 0 ? heights[low] : heights[low] + ((heights[high] - heights[low]) / span) * (one - at[low]);
    };
    if (typeof x === "number") return act(x);
    const array = asArray(x);
    return new NDArray(Float64Array.from(array.flat, act), array._shape, "float64");
  },
  searchsorted: (/** @type {any} */ a, /** @type {any} */ v, side = "left") => {
    const line = asArray(a).flat;
    const act = (/** @type {number} */ one) => {
      let [low, high] = [0, line.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (side === "left" ? line[middle] < one : line[middle] <= one) low = middle + 1;
        else high = middle;
      }
      return low;
    };
    if (typeof v === "number") return act(v);
    const array = asArray(v);
    return new NDArray(Float64Array.from(array.flat, act), array._shape, "int64");
  },
  argsort: (/** @type {any} */ a, axis = -1, kind = "stable") => {
    void kind;
    const array = asArray(a);
    const own = axis < 0 ? axis + array._shape.length : axis;
    const order = [...array._shape.map((_, at) => at).filter((at) => at !== own), own];
    const lines = array.transpose(order);
    const [flat, n] = [lines.flat, array._shape[own]];
    const out = new Float64Array(flat.length);
    for (let from = 0; from < flat.length; from += n) {
      const indices = Array.from({ length: n }, (_, at) => at).sort((one, other) => flat[from + one] - flat[from + other] || one - other);
      out.set(indices, from);
    }
    const back = order.map((_, at) => order.indexOf(at));
    return new NDArray(out, lines._shape, "int64").transpose(back);
  },
  sort: (/** @type {any} */ a, axis = -1) => np.take_along_axis(asArray(a), np.argsort(a, axis), axis),
  take_along_axis: (/** @type {any} */ arr, /** @type {any} */ indices, axis = -1) => {
    const array = asArray(arr);
    const own = axis < 0 ? axis + array._shape.length : axis;
    const keys = indices._shape.map((/** @type {number} */ size, /** @type {number} */ at) => (at === own ? indices : np.arange(size).reshape(indices._shape.map((/** @type {any} */ _, /** @type {number} */ other) => (other === at ? size : 1)))));
    return getItem(array, T(...keys));
  },
  unique: (/** @type {any} */ ar) => {
    const array = asArray(ar);
    return new NDArray(STORES[array.dtype].from([...new Set(array.flat)].sort((one, other) => Number(one) - Number(other))), [new Set(array.flat).size], array.dtype);
  },
  isin: (/** @type {any} */ element, /** @type {any} */ test_elements) => {
    const known = new Set(asArray(Array.isArray(test_elements) && !test_elements.length ? filled(0, 0, "float64") : test_elements).flat);
    return unary((x) => (known.has(x) ? 1 : 0), truth)(element);
  },
  setdiff1d: (/** @type {any} */ ar1, /** @type {any} */ ar2) => {
    const gone = new Set(asArray(ar2).flat);
    const all = np.unique(ar1);
    const kept = Array.from(all.flat).filter((one) => !gone.has(one));
    return new NDArray(STORES[all.dtype].from(kept), [kept.length], all.dtype);
  },
  unravel_index: (/** @type {number} */ indices, /** @type {number[]} */ shape) => {
    const strides = stridesOf(shapeOf(shape));
    return T(...strides.map((step, axis) => Math.floor(indices / step) % shape[axis]));
  },
  convolve: (/** @type {any} */ a, /** @type {any} */ v, mode = "full") => {
    let [line, kernel] = [asArray(a).flat, asArray(v).flat];
    if (kernel.length > line.length) [line, kernel] = [kernel, line];
    const full = new Float64Array(line.length + kernel.length - 1);
    for (let at = 0; at < line.length; at++) for (let tap = 0; tap < kernel.length; tap++) full[at + tap] += line[at] * kernel[tap];
    const begin = mode === "full" ? 0 : mode === "valid" ? kernel.length - 1 : (kernel.length - 1) >> 1;
    const out = full.slice(begin, begin + (mode === "full" ? full.length : mode === "valid" ? line.length - kernel.length + 1 : line.length));
    return new NDArray(out, [out.length], "float64");
  },
  polyval: (/** @type {any} */ p, /** @type {any} */ x) => Array.from(asArray(p).flat).reduce((/** @type {any} */ sum, factor) => elementwise("add", elementwise("mul", sum, x), factor), 0),
  polyfit: (/** @type {any} */ x, /** @type {any} */ y, /** @type {number} */ deg) => {
    const [at, heights] = [asArray(x).flat, asArray(y).flat];
    const powers = Array.from({ length: deg + 1 }, (_, power) => deg - power);
    const sum = (/** @type {(k: number) => number} */ of) => {
      let all = 0;
      for (let k = 0; k < at.length; k++) all += of(k);
      return all;
    };
    const a = powers.map((p) => powers.map((q) => sum((k) => at[k] ** (p + q))));
    const b = powers.map((p) => [sum((k) => at[k] ** p * heights[k])]);
    return asArray(solved(a, b).map(([one]) => one));
  },
  einsum: (/** @type {string} */ subscripts, /** @type {any} */ ...operands) => {
    const [inputs, output] = subscripts.split("->");
    const letters = inputs.split(",");
    const all = [...new Set(inputs.replaceAll(",", ""))];
    const order = [...output, ...all.filter((one) => !output.includes(one))];
    const arranged = operands.map((/** @type {any} */ one, /** @type {number} */ at) => {
      const array = asArray(one);
      const own = [...letters[at]];
      const there = order.filter((letter) => own.includes(letter));
      const moved = array.transpose(there.map((letter) => own.indexOf(letter)));
      let axis = 0;
      return moved.reshape(order.map((letter) => (own.includes(letter) ? moved._shape[axis++] : 1)));
    });
    const product = arranged.reduce((/** @type {any} */ one, /** @type {any} */ other) => elementwise("mul", one, other));
    const gone = order.map((_, at) => at).filter((at) => at >= output.length);
    return gone.length ? np.sum(product, gone) : product;
  },
  vdot: (/** @type {any} */ a, /** @type {any} */ b) => np.sum(elementwise("mul", a, b)),
  dot: (/** @type {any} */ a, /** @type {any} */ b) => matmul(asArray(a), asArray(b)),
  array_equal: (/** @type {any} */ a1, /** @type {any} */ a2) => String(asArray(a1)._shape) === String(asArray(a2)._shape) && np.all(elementwise("eq", a1, a2)),
  allclose: (/** @type {any} */ a, /** @type {any} */ b) => np.all(elementwise("lt", np.abs(elementwise("sub", a, b)), 1e-8)),
  copyto: (/** @type {any} */ dst, /** @type {any} */ src, /** @type {any} */ _casting = null, /** @type {any} */ where = null) => {
    if (!where) assign(dst, src);
    else {
      const [mask, from] = [broadcastTo(asArray(where), dst._shape), broadcastTo(asArray(src), dst._shape)];
      loop(dst._shape, [dst.strides, mask.strides, from.strides], [dst.offset, mask.offset, from.offset], (n, [q, s, t], [p, i, j]) => {
        for (let k = 0; k < n; k++, p += q, i += s, j += t) if (mask.data[i]) dst.data[p] = from.data[j];
      });
    }
    return null;
  },
  issubdtype: (/** @type {string} */ one) => isFloat(one),
  linalg: {
    norm: (/** @type {any} */ x, /** @type {any} */ ord = null, /** @type {any} */ axis = null, keepdims = false) => {
      void ord;
      const array = asArray(x);
      return np.sqrt(np.sum(np.square(isFloat(array.dtype) ? array : array.astype("float64")), axis, null, null, keepdims));
    },
    det: (/** @type {any} */ a) => {
      const [[p, q], [r, s]] = rows(asArray(a));
      return p * s - q * r;
    },
    solve: (/** @type {any} */ a, /** @type {any} */ b) => {
      const right = asArray(b);
      const one = right._shape.length === 1;
      const found = solved(rows(asArray(a)), one ? Array.from(right.flat, (x) => [Number(x)]) : rows(right));
      return one ? asArray(found.map(([x]) => x)) : asArray(found);
    },
    inv: (/** @type {any} */ a) => np.linalg.solve(a, np.eye(asArray(a)._shape[0])),
    lstsq: (/** @type {any} */ a, /** @type {any} */ b) => {
      const left = asArray(a, "float64");
      return T(np.linalg.solve(matmul(left.T, left), matmul(left.T, asArray(b, "float64"))));
    },
    LinAlgError: class extends Error {},
  },
  random: { default_rng: (/** @type {number} */ seed) => generator(seed) },
};
np.add.at = (/** @type {any} */ a, /** @type {any} */ indices, /** @type {any} */ b) => {
  const keys = indices instanceof Tuple ? Array.from(indices) : [indices];
  const lines = keys.map((one) => asArray(one).flat);
  const n = lines[0].length;
  const values = typeof b === "number" ? null : asArray(b).flat;
  for (let at = 0; at < n; at++) {
    let place = a.offset;
    lines.forEach((line, axis) => (place += line[at] * a.strides[axis]));
    a.data[place] += values ? values[at] : b;
  }
  return null;
};
np.absolute = np.abs;
np.float = np.float64;
np.int = np.int64;
np.amax = np.max;
np.amin = np.min;

/**
 * @param {NDArray} a @param {NDArray} b
 * @returns {any}
 */
export function matmul(a, b) {
  const dtype = promoted(averaged(a.dtype) === a.dtype ? a.dtype : "float64", averaged(b.dtype) === b.dtype ? b.dtype : "float64");
  if (b._shape.length > 2) {
    const outer = broadcastShape(a._shape.slice(0, -2), b._shape.slice(0, -2));
    const [p, q] = [broadcastTo(a, [...outer, ...a._shape.slice(-2)]), broadcastTo(b, [...outer, ...b._shape.slice(-2)])];
    return np.stack(Array.from({ length: outer[0] }, (_, at) => matmul(at0(p, at), at0(q, at))));
  }
  const line = b._shape.length === 1;
  const right = line ? b.reshape(b.size, 1) : b;
  const left = a._shape.length === 1 ? a.reshape(1, a.size) : a;
  const [inner, columns] = right._shape;
  if (left._shape[left._shape.length - 1] !== inner) throw new Error(`(${a._shape}) @ (${b._shape})`);
  const [x, y] = [left.flat, right.flat];
  const count = left.size / Math.max(inner, 1);
  const sums = new Float64Array(count * columns);
  for (let row = 0; row < count; row++) {
    for (let k = 0; k < inner; k++) {
      const factor = x[row * inner + k];
      if (factor === 0) continue;
      for (let column = 0, from = k * columns, to = row * columns; column < columns; column++) sums[to + column] += factor * y[from + column];
    }
  }
  let shape = [...left._shape.slice(0, -1), columns];
  if (line) shape = shape.slice(0, -1);
  if (a._shape.length === 1) shape = shape.slice(line ? 1 : 1);
  const made = new NDArray(dtype === "float32" ? new Float32Array(sums) : sums, shape, dtype);
  return shape.length ? made : made.item();
}

/** @type {Record<string, any>} */
const methods = {
  /** @this {any} */
  sum(axis = null, dtype = null, out = null, keepdims = false) {
    return np.sum(this, axis, dtype, out, keepdims);
  },
  /** @this {any} */
  mean(axis = null, dtype = null, out = null, keepdims = false) {
    return np.mean(this, axis, dtype, out, keepdims);
  },
  /** @this {any} */
  std(axis = null, dtype = null, out = null, ddof = 0, keepdims = false) {
    return np.std(this, axis, dtype, out, ddof, keepdims);
  },
  /** @this {any} */
  max(axis = null, out = null, keepdims = false) {
    return np.max(this, axis, out, keepdims);
  },
  /** @this {any} */
  min(axis = null, out = null, keepdims = false) {
    return np.min(this, axis, out, keepdims);
  },
  /** @this {any} */
  any(axis = null, out = null, keepdims = false) {
    return np.any(this, axis, out, keepdims);
  },
  /** @this {any} */
  all(axis = null, out = null, keepdims = false) {
    return np.all(this, axis, out, keepdims);
  },
  /** @this {any} */
  argmax(axis = null, out = null, keepdims = false) {
    return np.argmax(this, axis, out, keepdims);
  },
  /** @this {any} */
  argmin(axis = null, out = null, keepdims = false) {
    return np.argmin(this, axis, out, keepdims);
  },
  /** @this {any} */
  argsort(axis = -1, kind = "stable") {
    return np.argsort(this, axis, kind);
  },
  /** @this {any} */
  cumsum(axis = null) {
    return np.cumsum(this, axis);
  },
  /** @this {any} */
  clip(min = null, max = null) {
    return np.clip(this, min, max);
  },
  /** @this {any} */
  repeat(repeats, axis = null) {
    return np.repeat(this, repeats, axis);
  },
  /** @this {any} */
  round(decimals = 0) {
    return np.round(this, decimals);
  },
};
for (const [name, method] of Object.entries(methods)) Object.defineProperty(NDArray.prototype, name, { value: method, writable: true });
void converted;
