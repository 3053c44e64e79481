// What a rig's making uses of Python, by its names: see realtime/app/web/translate.py.
import { Ellipsis, Float64, NDArray, Slice, T, Tuple, asArray, assign, elementwise, getItem, setItem } from "./arrays.js";
import { matmul, np, rounded } from "./numpy.js";

class PythonError extends Error {}
/** @param {string} name */
function errorOf(name) {
  const Kind = { [name]: class extends PythonError {} }[name];
  const make = (/** @type {any} */ text = "") => new Kind(String(text));
  make.cls = Kind;
  return make;
}
class Stop extends PythonError {
  /** @param {any} value */
  constructor(value) {
    super("StopIteration");
    this.value = value;
  }
}
const StopIteration = (/** @type {any} */ value) => new Stop(value);
StopIteration.cls = Stop;

/** A function's parameters, by its text. @type {WeakMap<Function, string[]>} */
const known = new WeakMap();

/** @param {any} act @returns {string[]} */
function parametersOf(act) {
  const found = known.get(act);
  if (found) return found;
  let text = String(act.cls ?? act);
  if (text.startsWith("class")) {
    const at = text.indexOf("constructor(");
    text = at < 0 ? "()" : text.slice(at + "constructor".length);
  }
  text = text.slice(text.indexOf("("));
  /** @type {string[]} */
  const names = [];
  let [depth, begin, name] = [0, true, ""];
  for (let at = 0; at < text.length; at++) {
    const letter = text[at];
    if (text.startsWith("/*", at)) {
      at = text.indexOf("*/", at) + 1;
      continue;
    }
    if ("([{".includes(letter)) depth += 1;
    else if (")]}".includes(letter)) depth -= 1;
    if (depth === 0 || (depth === 1 && letter === ",")) {
      if (name.trim()) names.push(name.trim().replace(/^\.\.\./, "").replace(/_$/, ""));
      [begin, name] = [true, ""];
      if (depth === 0) break;
    } else if (depth === 1 && letter === "=") begin = false;
    else if (begin && !(depth === 1 && letter === "(")) name += letter;
  }
  known.set(act, names);
  return names;
}

/** @param {string[]} names @param {any[]} given @param {Record<string, any>} named */
function arranged(names, given, named) {
  const all = given.slice();
  for (const [name, value] of Object.entries(named)) {
    const at = names.indexOf(name);
    if (at < 0) throw new Error(`no parameter ${name} among ${names}`);
    all[at] = value;
  }
  // Holes are defaults.
  return Array.from(all);
}

const isNumber = (/** @type {any} */ one) => typeof one === "number";
/** @param {any} one */
const plain = (one) => (one instanceof Float64 ? one.number : one);

/** @param {string} name @param {(x: any, y: any) => any} quick @returns {(x: any, y: any) => any} */
const operation = (name, quick) => (x, y) => {
  if (typeof x === "number" && typeof y === "number") return quick(x, y);
  if (x instanceof NDArray || y instanceof NDArray) return elementwise(name, x, y);
  [x, y] = [plain(x), plain(y)];
  if (typeof x === "boolean" && typeof y === "boolean" && ["and_", "or_", "xor"].includes(name)) return Boolean(quick(Number(x), Number(y)));
  if (typeof x !== "object" && typeof y !== "object" && typeof x !== "string" && typeof x !== "function") return quick(Number(x), Number(y));
  if (name === "add" && typeof x === "string") return x + y;
  if (name === "add" && Array.isArray(x)) return x.concat(y);
  if (name === "mul" && Array.isArray(x)) return x.constructor.from({ length: x.length * y }, (/** @type {any} */ _, /** @type {number} */ at) => x[at % x.length]);
  if (x instanceof Map && name === "or_") return new Map([...x, ...y]);
  if (x instanceof Set && name === "sub") return new Set([...x].filter((one) => !y.has(one)));
  if (x instanceof Set && name === "or_") return new Set([...x, ...y]);
  if (x instanceof Set && name === "and_") return new Set([...x].filter((one) => y.has(one)));
  if (x instanceof Set && name === "le") return [...x].every((one) => py.contains(y, one));
  if (Array.isArray(x) && Array.isArray(y) && ["lt", "gt", "le", "ge"].includes(name)) {
    const at = x.findIndex((one, index) => !py.eq(one, y[index]));
    return at < 0 ? quick(x.length, y.length) : quick(x[at], y[at]);
  }
  throw new Error(`${name} of ${typeof x} and ${typeof y}`);
};

/** Methods of Python's own kinds. @type {Record<string, (of: any, ...given: any[]) => any>} */
const LISTS = {
  append: (of, one) => void of.push(one),
  extend: (of, more) => void of.push(...py.iter(more)),
  pop: (of, at = -1) => of.splice(at < 0 ? at + of.length : at, 1)[0],
  insert: (of, at, one) => void of.splice(at, 0, one),
  index: (of, one) => {
    const at = of.findIndex((/** @type {any} */ other) => py.eq(one, other));
    if (at < 0) throw py.ValueError(`${one} is not in the list`);
    return at;
  },
  count: (of, one) => of.filter((/** @type {any} */ other) => py.eq(one, other)).length,
  copy: (of) => of.slice(),
  reverse: (of) => void of.reverse(),
  sort: (of, key = null) => void of.splice(0, of.length, ...py.sorted(of, key)),
  clear: (of) => void of.splice(0, of.length),
};
/** @type {Record<string, (of: any, ...given: any[]) => any>} */
const MAPS = {
  items: (of) => Array.from(of, ([key, one]) => T(key, one)),
  keys: (of) => [...of.keys()],
  values: (of) => [...of.values()],
  get: (of, key, otherwise = null) => (of.has(key) ? of.get(key) : otherwise),
  pop: (of, key, otherwise = null) => {
    const one = of.has(key) ? of.get(key) : otherwise;
    of.delete(key);
    return one;
  },
  update: (of, more) => {
    for (const [key, one] of more) of.set(key, one);
    return null;
  },
  setdefault: (of, key, otherwise = null) => {
    if (!of.has(key)) of.set(key, otherwise);
    return of.get(key);
  },
};
/** @type {Record<string, (of: any, ...given: any[]) => any>} */
const SETS = {
  add: (of, one) => void of.add(one),
  update: (of, more) => {
    for (const one of py.iter(more)) of.add(one);
    return null;
  },
};
/** Of bytes, which are strings here. @param {any} one */
const letter = (one) => (typeof one === "number" ? String.fromCharCode(one) : one);

/** @type {Record<string, (of: any, ...given: any[]) => any>} */
const STRINGS = {
  split: (of, by = null) => (by === null ? of.split(/\s+/).filter(Boolean) : of.split(by)),
  replace: (of, one, other) => of.replaceAll(one, other),
  startswith: (of, one) => of.startsWith(one),
  endswith: (of, one) => of.endsWith(one),
  lstrip: (of, letters) => {
    let at = 0;
    while (letters.includes(of[at]) && at < of.length) at += 1;
    return of.slice(at);
  },
  strip: (of) => of.trim(),
  join: (of, parts) => py.iter(parts).join(of),
  upper: (of) => of.toUpperCase(),
  lower: (of) => of.toLowerCase(),
  rpartition: (of, by) => {
    const at = of.lastIndexOf(by);
    return at < 0 ? T("", "", of) : T(of.slice(0, at), by, of.slice(at + by.length));
  },
  partition: (of, by) => {
    const at = of.indexOf(by);
    return at < 0 ? T(of, "", "") : T(of.slice(0, at), by, of.slice(at + by.length));
  },
  capitalize: (of) => of.slice(0, 1).toUpperCase() + of.slice(1).toLowerCase(),
  find: (of, one) => of.indexOf(letter(one)),
  rfind: (of, one) => of.lastIndexOf(letter(one)),
};

/** @param {any} of @param {string} name */
function methodOf(of, name) {
  if (typeof of === "number" || typeof of === "boolean") return /** @type {any} */ (asArray(of))[name].bind(asArray(of));
  const table = typeof of === "string" ? STRINGS : Array.isArray(of) ? LISTS : of instanceof Map ? MAPS : of instanceof Set ? SETS : null;
  const method = table?.[name];
  if (method) {
    const act = (/** @type {any[]} */ ...given) => method(of, ...given) ?? null;
    known.set(act, parametersOf(method).slice(1));
    return act;
  }
  const own = of[name];
  if (typeof own !== "function") throw new Error(`no method ${name} of ${of?.constructor?.name ?? of}`);
  return own;
}

const keptName = Symbol("kept");

/** @type {Record<string, any>} */
export const py = {
  T,
  Ellipsis,
  error: new Error("raise"),
  slice: (/** @type {any} */ start, /** @type {any} */ stop, /** @type {any} */ step = null) => (stop === undefined ? new Slice(null, start, null) : new Slice(start, stop, step)),
  float64: (/** @type {number} */ number) => new Float64(number),
  add: operation("add", (x, y) => x + y),
  sub: operation("sub", (x, y) => x - y),
  mul: operation("mul", (x, y) => x * y),
  div: operation("div", (x, y) => x / y),
  floordiv: operation("floordiv", (x, y) => Math.floor(x / y)),
  mod: operation("mod", (x, y) => x - y * Math.floor(x / y)),
  pow: operation("pow", (x, y) => x ** y),
  and_: operation("and_", (x, y) => x & y),
  or_: operation("or_", (x, y) => x | y),
  xor: operation("xor", (x, y) => x ^ y),
  lt: operation("lt", (x, y) => x < y),
  le: operation("le", (x, y) => x <= y),
  gt: operation("gt", (x, y) => x > y),
  ge: operation("ge", (x, y) => x >= y),
  eq: (/** @type {any} */ x, /** @type {any} */ y) => {
    if (typeof x === "number" || typeof x === "string" || x === null) {
      if (y instanceof NDArray) return elementwise("eq", x, y);
      if (typeof y === "function" && y.kind) return x === y.kind;
      return x === y || (typeof y === "boolean" && x === Number(y));
    }
    if (x instanceof NDArray || y instanceof NDArray) return elementwise("eq", x, y);
    if (Array.isArray(x)) return Array.isArray(y) && x.length === y.length && x.every((one, at) => py.truthy(py.eq(one, y[at])));
    if (x?.constructor?.fields && x.constructor === y?.constructor) return x.constructor.fields.every((/** @type {string} */ name) => py.truthy(py.eq(x[name], y[name])));
    return x === y;
  },
  ne: (/** @type {any} */ x, /** @type {any} */ y) => {
    if (x instanceof NDArray || y instanceof NDArray) return elementwise("ne", x, y);
    return !py.eq(x, y);
  },
  matmul: (/** @type {any} */ x, /** @type {any} */ y) => matmul(asArray(x), asArray(y)),
  neg: (/** @type {any} */ x) => (typeof x === "number" ? -x : typeof x === "boolean" ? -Number(x) : np.negative(x)),
  pos: (/** @type {any} */ x) => x,
  invert: (/** @type {any} */ x) => {
    if (x instanceof NDArray) return x.dtype === "bool" ? np.logical_not(x) : elementwise("xor", x, -1);
    return typeof x === "boolean" ? !x : ~x;
  },
  both: (/** @type {any} */ x, /** @type {() => any} */ next) => (py.truthy(x) ? next() : x),
  either: (/** @type {any} */ x, /** @type {() => any} */ next) => (py.truthy(x) ? x : next()),
  inplace: (/** @type {string} */ name, /** @type {any} */ x, /** @type {any} */ y) => {
    if (x instanceof NDArray) {
      if (name === "matmul") return py.matmul(x, y);
      elementwise(name, x, y, x);
      return x;
    }
    if (name === "add" && Array.isArray(x) && !(x instanceof Tuple)) {
      x.push(...py.iter(y));
      return x;
    }
    if (name === "or_" && x instanceof Map) {
      for (const [key, one] of y) x.set(key, one);
      return x;
    }
    if (name === "or_" && x instanceof Set) {
      for (const one of y) x.add(one);
      return x;
    }
    return py[name](x, y);
  },
  truthy: (/** @type {any} */ x) => {
    if (x === true || x === false) return x;
    if (x === null || x === undefined) return false;
    if (typeof x === "number") return x !== 0;
    if (typeof x === "string" || Array.isArray(x)) return x.length > 0;
    if (x instanceof Map || x instanceof Set) return x.size > 0;
    if (x instanceof NDArray) {
      if (x.size !== 1) throw new Error("the truth of an array");
      return x.flat[0] !== 0;
    }
    return true;
  },
  get: (/** @type {any} */ of, /** @type {any} */ key) => {
    if (of instanceof NDArray) return getItem(of, key);
    if (Array.isArray(of) || typeof of === "string") {
      if (key instanceof Slice) {
        const [start, count, step] = key.within(of.length);
        if (typeof of === "string") return Array.from({ length: count }, (_, at) => of[start + at * step]).join("");
        return /** @type {any} */ (of.constructor).from({ length: count }, (/** @type {any} */ _, /** @type {number} */ at) => of[start + at * step]);
      }
      const index = Number(key instanceof NDArray ? key.item() : key);
      const at = index < 0 ? index + of.length : index;
      if (!(at >= 0 && at < of.length)) throw py.IndexError(`index ${index} of ${of.length}`);
      return of[at];
    }
    if (of instanceof Map) {
      if (!of.has(key)) throw py.KeyError(String(key));
      return of.get(key);
    }
    if (of?.getitem) return of.getitem(key);
    if (of?.__getitem__) return of.__getitem__(key);
    throw new Error(`an item of ${of?.constructor?.name ?? of}`);
  },
  set: (/** @type {any} */ of, /** @type {any} */ key, /** @type {any} */ one) => {
    if (of instanceof NDArray) setItem(of, key, one);
    else if (Array.isArray(of)) of[key < 0 ? key + of.length : key] = one;
    else of.set(key, one);
  },
  contains: (/** @type {any} */ of, /** @type {any} */ one) => {
    if (typeof of === "string") return of.includes(letter(one));
    if (of instanceof Map || of instanceof Set) return of.has(one);
    return py.iter(of).some((/** @type {any} */ other) => py.truthy(py.eq(one, other)));
  },
  iter: (/** @type {any} */ of) => {
    if (Array.isArray(of)) return of;
    if (of instanceof Map) return [...of.keys()];
    if (of === null || of === undefined) throw new Error("nothing to go through");
    return [...of];
  },
  m: (/** @type {any} */ of, /** @type {string} */ name, /** @type {any[]} */ ...given) => {
    const method = methodOf(of, name);
    return method.apply(of, given);
  },
  kwm: (/** @type {any} */ of, /** @type {string} */ name, /** @type {any[]} */ given, /** @type {Record<string, any>} */ named) => {
    const method = methodOf(of, name);
    return method.apply(of, arranged(parametersOf(method), given, named));
  },
  kw: (/** @type {any} */ act, /** @type {any[]} */ given, /** @type {Record<string, any>} */ named) => {
    if (act === np.meshgrid) return act(...given, named.indexing);
    if (act === np.gradient) return act(...given, named);
    return act(...arranged(parametersOf(act), given, named));
  },
  entries: (/** @type {any} */ of) => Object.fromEntries(of),
  callable: (/** @type {any} */ Kind) => {
    const make = (/** @type {any[]} */ ...given) => new Kind(...given);
    make.cls = Kind;
    Kind.make = make;
    for (const name of Object.getOwnPropertyNames(Kind)) {
      if (typeof Kind[name] === "function" && name !== "make") {
        const act = (/** @type {any[]} */ ...given) => Kind[name](...given);
        known.set(act, parametersOf(Kind[name]));
        /** @type {any} */ (make)[name] = act;
      }
    }
    return make;
  },
  classOf: (/** @type {any} */ Kind) => Kind.make,
  kept: (/** @type {any} */ of, /** @type {string} */ name, /** @type {() => any} */ make) => {
    of[keptName] ??= {};
    if (!(name in of[keptName])) of[keptName][name] = make();
    return of[keptName][name];
  },
  cache: (/** @type {any} */ act) => {
    /** @type {Map<string, any>} */
    const results = new Map();
    const made = (/** @type {any[]} */ ...given) => {
      const key = given.map((one) => (one?.kind ? one.kind : String(one))).join();
      if (!results.has(key)) results.set(key, act(...given));
      return results.get(key);
    };
    known.set(made, parametersOf(act));
    return made;
  },
  /** Of one picture there are few results. */
  lru_cache: () => (/** @type {any} */ act) => py.cache(act),
  catches: (/** @type {any} */ error, /** @type {any} */ kinds) => {
    if (error?.wanted) return false;
    if (kinds === null) return true;
    return (Array.isArray(kinds) ? kinds : [kinds]).some((kind) => kind && error instanceof (kind.cls ?? kind));
  },
  ...Object.fromEntries(["ValueError", "TypeError", "KeyError", "IndexError", "AttributeError", "RuntimeError", "UserError"].map((name) => [name, errorOf(name)])),
  StopIteration,
  // Built-in functions.
  len: (/** @type {any} */ of) => (of instanceof NDArray ? of._shape[0] : (of.length ?? of.size)),
  abs: (/** @type {any} */ x) => (typeof x === "number" ? Math.abs(x) : typeof x === "boolean" ? Number(x) : np.abs(x)),
  min: (/** @type {any[]} */ ...given) => {
    const all = given.length === 1 ? py.iter(given[0]) : given;
    if (!all.length) throw py.ValueError("the smallest of nothing");
    return all.reduce((/** @type {any} */ one, /** @type {any} */ other) => (plain(other) < plain(one) ? other : one), all[0]);
  },
  max: (/** @type {any[]} */ ...given) => {
    const all = given.length === 1 ? py.iter(given[0]) : given;
    if (!all.length) throw py.ValueError("the largest of nothing");
    return all.reduce((/** @type {any} */ one, /** @type {any} */ other) => (plain(other) > plain(one) ? other : one), all[0]);
  },
  sum: (/** @type {any} */ of, /** @type {any} */ start = 0) => py.iter(of).reduce((/** @type {any} */ one, /** @type {any} */ other) => py.add(one, other), start),
  round: (/** @type {any} */ x, /** @type {any} */ digits = 0) => rounded(plain(x) * 10 ** digits) / 10 ** digits,
  range: (/** @type {number} */ start, /** @type {any} */ stop = null, step = 1) => {
    const [from, to] = stop === null ? [0, start] : [start, stop];
    return Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, at) => from + at * step);
  },
  enumerate: (/** @type {any} */ of, start = 0) => py.iter(of).map((/** @type {any} */ one, /** @type {number} */ at) => T(start + at, one)),
  zip: (/** @type {any[]} */ ...given) => {
    const named = given.length && given[given.length - 1]?.constructor === Object ? given.pop() : null;
    void named;
    const all = given.map((one) => py.iter(one));
    const length = all.length ? Math.min(...all.map((one) => one.length)) : 0;
    return Array.from({ length }, (_, at) => T(...all.map((one) => one[at])));
  },
  map: (/** @type {any} */ act, /** @type {any[]} */ ...given) => py.zip(...given).map((/** @type {any[]} */ one) => act(...one)),
  filter: (/** @type {any} */ act, /** @type {any} */ of) => py.iter(of).filter((/** @type {any} */ one) => py.truthy(act ? act(one) : one)),
  reversed: (/** @type {any} */ of) => Array.from(py.iter(of)).reverse(),
  sorted: (/** @type {any} */ of, /** @type {any} */ key = null, reverse = false) => {
    const by = (/** @type {any} */ one) => (key ? key(one) : one);
    const all = Array.from(py.iter(of)).sort((one, other) => (py.lt(by(one), by(other)) ? -1 : py.lt(by(other), by(one)) ? 1 : 0));
    return reverse ? all.reverse() : all;
  },
  any: (/** @type {any} */ of) => py.iter(of).some(py.truthy),
  all: (/** @type {any} */ of) => py.iter(of).every(py.truthy),
  list: (/** @type {any} */ of = []) => Array.from(py.iter(of)),
  tuple: (/** @type {any} */ of = []) => Tuple.from(py.iter(of)),
  dict: (/** @type {any} */ of = []) => new Map(of instanceof Map ? of : py.iter(of)),
  set_: (/** @type {any} */ of = []) => new Set(py.iter(of)),
  frozenset: (/** @type {any} */ of = []) => new Set(py.iter(of)),
  next: (/** @type {any} */ of, /** @type {any} */ otherwise = undefined) => {
    if (Array.isArray(of)) {
      if (of.length) return of[0];
      if (otherwise !== undefined) return otherwise;
      throw new Stop(null);
    }
    const { done, value } = of.next();
    if (done) throw new Stop(value);
    return value;
  },
  isinstance: (/** @type {any} */ one, /** @type {any} */ kinds) =>
    (Array.isArray(kinds) ? kinds : [kinds]).some((kind) => {
      if (kind === py.float || kind === py.int) return typeof one === "number";
      if (kind === py.str) return typeof one === "string";
      if (kind === py.bool) return typeof one === "boolean";
      if (kind === py.slice) return one instanceof Slice;
      if (kind === py.list) return Array.isArray(one) && !(one instanceof Tuple);
      if (kind === py.tuple) return one instanceof Tuple;
      return one instanceof (kind.cls ?? kind);
    }),
  vars: (/** @type {any} */ of) => new Map(Object.entries(of)),
  getattr: (/** @type {any} */ of, /** @type {string} */ name) => of[name],
  setattr: (/** @type {any} */ of, /** @type {string} */ name, /** @type {any} */ one) => void (of[name] = one),
  hasattr: (/** @type {any} */ of, /** @type {string} */ name) => of[name] !== undefined,
  divmod: (/** @type {number} */ x, /** @type {number} */ y) => T(Math.floor(x / y), py.mod(x, y)),
  format: (/** @type {any} */ one, /** @type {string} */ spec) => {
    const digits = /^\.(\d+)f$/.exec(spec);
    return digits ? Number(one).toFixed(Number(digits[1])) : String(one);
  },
  fields: (/** @type {any} */ of) => (of.cls ?? of.constructor).fields.map((/** @type {string} */ name) => ({ name })),
  replace: (/** @type {any} */ of, /** @type {any} */ changes) => {
    const Kind = of.constructor;
    return new Kind(...Kind.fields.map((/** @type {string} */ name) => (name in changes ? changes[name] : of[name])));
  },
};
const number = (/** @type {any} */ x) => {
  if (x instanceof NDArray) return Number(x.item());
  if (typeof x === "string") return x === "inf" ? Infinity : Number(x);
  return Number(plain(x));
};
py.float = Object.assign((/** @type {any} */ x = 0) => number(x), { kind: "float64" });
py.int = Object.assign((/** @type {any} */ x = 0) => Math.trunc(number(x)), { kind: "int64" });
py.bool = Object.assign((/** @type {any} */ x = false) => py.truthy(x), { kind: "bool" });
py.str = (/** @type {any} */ x = "") => String(x);
py.print = (/** @type {any[]} */ ...given) => console.log(...given);
const kw = py.kw;
py.kw = (/** @type {any} */ act, /** @type {any[]} */ given, /** @type {Record<string, any>} */ named) => {
  if (act === py.zip) return act(...given);
  if (act === py.replace) return act(given[0], named);
  if (act === py.max || act === py.min) {
    const all = given.length === 1 ? py.iter(given[0]) : given;
    if (!all.length && "default" in named) return named.default;
    const by = named.key ?? ((/** @type {any} */ one) => one);
    return all.reduce((/** @type {any} */ one, /** @type {any} */ other) => (py.truthy(act === py.max ? py.gt(by(other), by(one)) : py.lt(by(other), by(one))) ? other : one));
  }
  if (act === py.dict) return new Map([...py.dict(given[0] ?? []), ...Object.entries(named)]);
  return kw(act, given, named);
};

/** @type {Record<string, any>} */
export const math = { pi: Math.PI, inf: Infinity, nan: NaN, sqrt: Math.sqrt, exp: Math.exp, log: Math.log, sin: Math.sin, cos: Math.cos, tan: Math.tan, atan: Math.atan, atan2: Math.atan2, asin: Math.asin, acos: Math.acos, tanh: Math.tanh, hypot: (/** @type {number[]} */ ...given) => Math.hypot(...given), floor: Math.floor, ceil: Math.ceil, isfinite: Number.isFinite, radians: (/** @type {number} */ x) => (x / 180) * Math.PI, degrees: (/** @type {number} */ x) => (x / Math.PI) * 180, dist: (/** @type {any} */ p, /** @type {any} */ q) => Math.hypot(...py.zip(p, q).map((/** @type {number[]} */ [x, y]) => x - y)) };

/** @type {Record<string, any>} */
export const itertools = {
  pairwise: (/** @type {any} */ of) => {
    const all = py.iter(of);
    return Array.from({ length: Math.max(0, all.length - 1) }, (_, at) => T(all[at], all[at + 1]));
  },
  product: (/** @type {any[]} */ ...given) => {
    const repeat = given.length && given[given.length - 1]?.repeat ? given.pop().repeat : 1;
    let all = [T()];
    for (let round = 0; round < repeat; round++) for (const one of given) all = all.flatMap((begun) => py.iter(one).map((/** @type {any} */ next) => T(...begun, next)));
    return all;
  },
  combinations: (/** @type {any} */ of, /** @type {number} */ r) => {
    const all = py.iter(of);
    /** @param {number} from @param {number} left @returns {any[][]} */
    const choose = (from, left) => (left === 0 ? [[]] : all.slice(from).flatMap((/** @type {any} */ one, /** @type {number} */ at) => choose(from + at + 1, left - 1).map((rest) => [one, ...rest])));
    return choose(0, r).map((one) => T(...one));
  },
  chain: (/** @type {any[]} */ ...given) => given.flatMap((one) => Array.from(py.iter(one))),
};

/** @type {Record<string, any>} */
export const operator = { mul: py.mul, add: py.add, is_: (/** @type {any} */ x, /** @type {any} */ y) => x === y };
void isNumber;
void assign;
