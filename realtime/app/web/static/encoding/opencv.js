// What a rig's making uses of OpenCV, by its names: to within a level of it, and in most places the same.
import { NDArray, STORES, T, asArray, assign, elementwise } from "./arrays.js";
import { np, rounded } from "./numpy.js";

/** @param {string} dtype */
const isByte = (dtype) => dtype === "uint8";

/** @param {any} src */
function image(src) {
  const array = asArray(src);
  const [height, width, channels = 1] = array._shape;
  const shape = array._shape.length === 3 && channels === 1 ? [height, width] : array._shape;
  return { values: array.flat, height, width: width ?? 1, channels, dtype: array.dtype === "bool" ? "uint8" : array.dtype, shape };
}

/** @param {any} values floats @param {number[]} shape @param {string} dtype rounded and held where it is one of whole numbers */
function made(values, shape, dtype) {
  if (dtype === "uint8") {
    if (values instanceof Uint8Array) return new NDArray(values, shape, dtype);
    const out = new Uint8ClampedArray(values);
    return new NDArray(new Uint8Array(out.buffer), shape, "uint8");
  }
  if (dtype === "float32" || dtype === "float64") return new NDArray(values instanceof STORES[dtype] ? values : STORES[dtype].from(values), shape, dtype);
  return new NDArray(STORES[dtype].from(values, rounded), shape, dtype);
}

/** @param {any} dst @param {any} result */
function given(dst, result) {
  if (!dst) return result;
  assign(dst, dst.size === result.size ? result.reshape(dst._shape) : result);
  return dst;
}

const [CONSTANT, REPLICATE, REFLECT, , REFLECT_101] = [0, 1, 2, 3, 4];

/** The pixel that stands for one beyond the edge; -1 for none. @param {number} at @param {number} size @param {number} border */
function bordered(at, size, border) {
  if (at >= 0 && at < size) return at;
  if (border === CONSTANT) return -1;
  if (border === REPLICATE) return at < 0 ? 0 : size - 1;
  if (size === 1) return 0;
  let own = at;
  const delta = border === REFLECT_101 ? 1 : 0;
  while (own < 0 || own >= size) own = own < 0 ? -own - 1 + delta : 2 * size - 1 - own - delta;
  return own;
}

/** Of one kind of array, loops are faster. @param {any} values @returns {Float32Array} */
const floatsOf = (values) => (values instanceof Float32Array ? values : Float32Array.from(values));

/** Rows then columns weighted by a kernel each. @param {any} src @param {ArrayLike<number>} across @param {ArrayLike<number>} down @param {number} border @param {string} dtype */
function separable(src, across, down, border, dtype) {
  const { values, height, width, channels, shape } = image(src);
  const lines = across.length === 1 && across[0] === 1 ? floatsOf(values) : alongRows(floatsOf(values), height, width, channels, Float64Array.from(across), border);
  if (down.length === 1 && down[0] === 1) return made(lines, shape, dtype);
  const stride = width * channels;
  const rows = height + down.length - 1;
  const from = Int32Array.from({ length: rows }, (_, at) => bordered(at - (down.length >> 1), height, border));
  const sums = new Float64Array(stride);
  const out = new Float32Array(values.length);
  const nothing = new Float32Array(stride);
  const line = (/** @type {number} */ at) => (from[at] < 0 ? nothing : lines.subarray(from[at] * stride, (from[at] + 1) * stride));
  for (let row = 0; row < height; row++) {
    sums.fill(0);
    let tap = 0;
    for (; tap + 4 <= down.length; tap += 4) addLines(sums, line(row + tap), line(row + tap + 1), line(row + tap + 2), line(row + tap + 3), down[tap], down[tap + 1], down[tap + 2], down[tap + 3]);
    if (tap < down.length) addLines(sums, line(row + tap), tap + 1 < down.length ? line(row + tap + 1) : nothing, tap + 2 < down.length ? line(row + tap + 2) : nothing, nothing, down[tap], down[tap + 1] ?? 0, down[tap + 2] ?? 0, 0);
    out.set(sums, row * stride);
  }
  return made(out, shape, dtype);
}

/** Four at once: what is added up is read and written less often. @param {Float64Array} sums @param {Float32Array} a @param {Float32Array} b @param {Float32Array} c @param {Float32Array} d @param {number} p @param {number} q @param {number} r @param {number} s */
function addLines(sums, a, b, c, d, p, q, r, s) {
  for (let at = 0; at < sums.length; at++) sums[at] += p * a[at] + q * b[at] + r * c[at] + s * d[at];
}

/** @param {Float32Array} values @param {number} height @param {number} width @param {number} channels @param {Float64Array} kernel @param {number} border */
function alongRows(values, height, width, channels, kernel, border) {
  const reach = kernel.length >> 1;
  const stride = width * channels;
  const lines = new Float32Array(values.length);
  // Four at once, the last of which may be too many.
  const wide = new Float64Array((width + 2 * reach) * channels + 3);
  const sums = new Float64Array(stride + 3);
  const from = Int32Array.from({ length: width + 2 * reach }, (_, at) => bordered(at - reach, width, border));
  const taps = kernel.length;
  for (let row = 0; row < height; row++) {
    const begin = row * stride;
    for (let at = 0, to = 0; at < from.length; at++) for (let channel = 0; channel < channels; channel++) wide[to++] = from[at] < 0 ? 0 : values[begin + from[at] * channels + channel];
    for (let at = 0; at < stride; at += 4) {
      let a = 0;
      let b = 0;
      let c = 0;
      let d = 0;
      for (let tap = 0, place = at; tap < taps; tap++, place += channels) {
        const weight = kernel[tap];
        a += weight * wide[place];
        b += weight * wide[place + 1];
        c += weight * wide[place + 2];
        d += weight * wide[place + 3];
      }
      sums[at] = a;
      sums[at + 1] = b;
      sums[at + 2] = c;
      sums[at + 3] = d;
    }
    lines.set(sums.subarray(0, stride), begin);
  }
  return lines;
}

/** Means of boxes, by sums that go along. @param {any} src @param {number} wide @param {number} high @param {number} border */
function averaged(src, wide, high, border) {
  const { values, height, width, channels, dtype, shape } = image(src);
  const stride = width * channels;
  const floats = floatsOf(values);
  const lines = new Float64Array(values.length);
  const [left, above] = [wide >> 1, high >> 1];
  const columns = Int32Array.from({ length: width + wide }, (_, at) => bordered(at - left, width, border) * channels);
  const rows = Int32Array.from({ length: height + high }, (_, at) => bordered(at - above, height, border) * stride);
  for (let row = 0; row < height; row++) {
    for (let channel = 0; channel < channels; channel++) {
      const begin = row * stride + channel;
      let sum = 0;
      for (let column = 0; column < wide; column++) sum += floats[begin + columns[column]];
      for (let column = 0; column < width; column++) {
        lines[begin + column * channels] = sum;
        sum += floats[begin + columns[column + wide]] - floats[begin + columns[column]];
      }
    }
  }
  const out = new Float32Array(values.length);
  const sums = new Float64Array(stride);
  for (let row = 0; row < high; row++) for (let at = 0; at < stride; at++) sums[at] += lines[rows[row] + at];
  for (let row = 0; row < height; row++) {
    const [to, coming, going] = [row * stride, rows[row + high], rows[row]];
    for (let at = 0; at < stride; at++) {
      out[to + at] = sums[at] / (wide * high);
      sums[at] += lines[coming + at] - lines[going + at];
    }
  }
  return made(out, shape, dtype);
}

/** @param {number} size @param {number} sigma */
function gaussian(size, sigma) {
  const own = sigma > 0 ? sigma : 0.3 * ((size - 1) * 0.5 - 1) + 0.8;
  /** @type {Record<number, number[]>} */
  const small = { 1: [1], 3: [0.25, 0.5, 0.25], 5: [0.0625, 0.25, 0.375, 0.25, 0.0625], 7: [0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125] };
  if (sigma <= 0 && small[size]) return Float64Array.from(small[size]);
  const kernel = Float64Array.from({ length: size }, (_, at) => Math.exp(-((at - (size - 1) / 2) ** 2) / (2 * own * own)));
  const sum = kernel.reduce((one, other) => one + other, 0);
  return kernel.map((one) => one / sum);
}

/** A kernel for bytes: in 256ths, whose rounding goes on to the next. @param {Float64Array} kernel */
function inSteps(kernel) {
  const out = new Float64Array(kernel.length);
  const half = kernel.length >> 1;
  let [error, sum] = [0, 0];
  for (let at = 0; at < half; at++) {
    const wanted = 256 * kernel[at] + error;
    const step = rounded(wanted);
    error = wanted - step;
    out[at] = out[kernel.length - 1 - at] = step / 256;
    sum += 2 * step;
  }
  out[half] = (256 - sum) / 256;
  return out;
}

/** Rows of a kernel, each of which is one run of pixels, from its middle. @param {any} kernel */
function runsOf(kernel) {
  const { values, height, width } = image(kernel ?? np.ones([3, 3], "uint8"));
  const runs = [];
  for (let row = 0; row < height; row++) {
    const line = values.subarray(row * width, (row + 1) * width);
    const [low, high] = [line.findIndex(Boolean), line.findLastIndex(Boolean)];
    if (low < 0) continue;
    if (line.subarray(low, high).includes(0)) throw new Error("a kernel with holes");
    runs.push({ shift: row - (height >> 1), low: low - (width >> 1), high: high - (width >> 1) });
  }
  return runs;
}

/** The largest (or smallest) under a kernel, whose rows are runs. @param {any} src @param {any} kernel @param {boolean} most */
function extremes(src, kernel, most) {
  const { values, height, width, channels, dtype, shape } = image(src);
  const runs = runsOf(kernel);
  // Between sides of nothing, and the smallest is the largest of what is turned round.
  const [sign, margin] = [most ? 1 : -1, Math.max(...runs.flatMap(({ low, high }) => [-low, high])) + 1];
  const stride = (width + 2 * margin) * channels;
  const Store = dtype === "uint8" ? Int16Array : Float32Array;
  const nothing = dtype === "uint8" ? -256 : -Infinity;
  const own = new Store(height * stride).fill(nothing);
  for (let row = 0, at = 0; row < height; row++) for (let to = row * stride + margin * channels, end = to + width * channels; to < end; to++) own[to] = sign * values[at++];
  // The largest of each 1, 2, 4 ... to the right.
  const doubled = [own];
  for (let size = 1; 2 * size <= Math.max(...runs.map(({ low, high }) => high - low + 1)); size *= 2) doubled.push(largerOf(new Store(own.length).fill(nothing), doubled[doubled.length - 1], 0, size * channels, 0, own.length - size * channels));
  const out = new Store(own.length).fill(nothing);
  for (const { shift, low, high } of runs) {
    const level = Math.floor(Math.log2(high - low + 1));
    const begin = Math.max(0, -shift) * stride + margin * channels;
    const end = Math.min(height, height - shift) * stride - margin * channels;
    const first = shift * stride + low * channels;
    largerOf(out, doubled[level], first, first + (high - low + 1 - (1 << level)) * channels, begin, end);
  }
  const result = new (dtype === "uint8" ? Uint8Array : Float32Array)(values.length);
  for (let row = 0, to = 0; row < height; row++) for (let at = row * stride + margin * channels, end = at + width * channels; at < end; at++) result[to++] = sign * out[at];
  return made(result, shape, dtype);
}

/** From `begin` to `end` the largest of what is there and of two places of `values`. @param {any} out @param {any} values @param {number} one @param {number} other @param {number} begin @param {number} end */
function largerOf(out, values, one, other, begin, end) {
  for (let at = begin; at < end; at++) {
    const x = values[at + one];
    const y = values[at + other];
    const larger = x > y ? x : y;
    if (larger > out[at]) out[at] = larger;
  }
  return out;
}

/** Weights of four pixels, `x` from the second to the third. @param {number} x */
function cubic(x) {
  const A = -0.75;
  const weights = [((A * (x + 1) - 5 * A) * (x + 1) + 8 * A) * (x + 1) - 4 * A, ((A + 2) * x - (A + 3)) * x * x + 1, ((A + 2) * (1 - x) - (A + 3)) * (1 - x) * (1 - x) + 1];
  return [...weights, 1 - weights[0] - weights[1] - weights[2]];
}
/** The same for every 32nd. */
const CUBIC = Float64Array.from(Array.from({ length: 32 }, (_, part) => cubic(part / 32)).flat());

/** Weights of linear, cubic and area sampling: first pixel and weights of each of `size`. @param {number} from @param {number} size @param {number} way @param {number} scale */
function taps(from, size, way, scale) {
  /** @type {{at: number[], weights: number[]}[]} */
  const all = [];
  const held = (/** @type {number} */ at) => Math.min(Math.max(at, 0), from - 1);
  for (let to = 0; to < size; to++) {
    if (way === 3 && scale > 1) {
      const [low, high] = [to * scale, Math.min((to + 1) * scale, from)];
      const at = [];
      const weights = [];
      for (let pixel = Math.floor(low + 1e-9); pixel < high - 1e-9; pixel++) {
        at.push(held(pixel));
        weights.push((Math.min(pixel + 1, high) - Math.max(pixel, low)) / (high - low));
      }
      all.push({ at, weights });
      continue;
    }
    if (way === 0) {
      all.push({ at: [held(Math.floor(to * scale))], weights: [1] });
      continue;
    }
    let place = (to + 0.5) * scale - 0.5;
    let low = Math.floor(place);
    let part = place - low;
    if (way === 3) {
      // Enlarging by areas is linear with steps in between.
      low = Math.floor(to * scale);
      part = to + 1 - (low + 1) / scale;
      part = part <= 0 ? 0 : part - Math.floor(part);
    }
    if (way === 2) {
      all.push({ at: [-1, 0, 1, 2].map((shift) => held(low + shift)), weights: cubic(part) });
      continue;
    }
    if (low < 0) [low, part] = [0, 0];
    if (low >= from - 1) [low, part] = [from - 1, 0];
    all.push({ at: [low, held(low + 1)], weights: [1 - part, part] });
  }
  return all;
}

/** Means of blocks of whole pixels. @param {any} values @param {number} height @param {number} width @param {number} channels @param {number} across @param {number} down */
function blocks(values, height, width, channels, across, down) {
  const [stride, wide] = [width * channels, (width / across) * channels];
  const out = new Float32Array((height / down) * wide);
  const share = 1 / (across * down);
  for (let row = 0, to = 0; row < height; row += down) {
    for (let column = 0; column < stride; column += across * channels) {
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let j = 0, line = row * stride + column + channel; j < down; j++, line += stride) for (let i = 0, at = line; i < across; i++, at += channels) sum += values[at];
        out[to++] = sum * share;
      }
    }
  }
  return out;
}

/** @param {any} src @param {any} dsize @param {number} fx @param {number} fy @param {number} way */
function resized(src, dsize, fx, fy, way) {
  const { values, height, width, channels, dtype, shape } = image(src);
  const [wide, high] = dsize ? Array.from(dsize, Number) : [rounded(width * fx), rounded(height * fy)];
  const [sx, sy] = dsize ? [width / wide, height / high] : [1 / fx, 1 / fy];
  const columns = taps(width, wide, way === 3 && !(sx >= 1 && sy >= 1) ? 3 : way, sx);
  const rows = taps(height, high, way, sy);
  if (way === 3 && sx >= 1 && Number.isInteger(sx) && Number.isInteger(sy)) return made(blocks(values, height, width, channels, sx, sy), [high, wide, ...shape.slice(2)], dtype);
  const fixed = way === 1 && dtype === "uint8";
  if (fixed) for (const one of [...columns, ...rows]) one.weights = one.weights.map((weight) => rounded(2048 * weight));
  const floats = floatsOf(values);
  const lines = new Float32Array(height * wide * channels);
  const many = Math.max(...columns.map(({ at }) => at.length));
  const froms = new Int32Array(many * wide);
  const shares = new Float64Array(many * wide);
  columns.forEach(({ at, weights }, column) => {
    froms.set(at.map((one) => one * channels), many * column);
    shares.set(weights, many * column);
  });
  for (let row = 0, to = 0; row < height; row++) {
    const begin = row * width * channels;
    if (many === 2) {
      for (let column = 0, way = 0; column < wide; column++, way += 2) {
        const one = shares[way];
        const other = shares[way + 1];
        const left = begin + froms[way];
        const right = begin + froms[way + 1];
        for (let channel = 0; channel < channels; channel++) lines[to++] = one * floats[left + channel] + other * floats[right + channel];
      }
      continue;
    }
    if (many === 4) {
      for (let column = 0, way = 0; column < wide; column++, way += 4) {
        const p = shares[way];
        const q = shares[way + 1];
        const r = shares[way + 2];
        const t = shares[way + 3];
        const a = begin + froms[way];
        const b = begin + froms[way + 1];
        const c = begin + froms[way + 2];
        const d = begin + froms[way + 3];
        for (let channel = 0; channel < channels; channel++) lines[to++] = p * floats[a + channel] + q * floats[b + channel] + r * floats[c + channel] + t * floats[d + channel];
      }
      continue;
    }
    for (let column = 0; column < wide; column++) {
      for (let channel = begin; channel < begin + channels; channel++) {
        let sum = 0;
        for (let way = many * column; way < many * column + many; way++) sum += shares[way] * floats[channel + froms[way]];
        lines[to++] = sum;
      }
    }
  }
  const out = new Float32Array(high * wide * channels);
  const stride = wide * channels;
  for (let row = 0; row < high; row++) {
    const { at, weights } = rows[row];
    const to = row * stride;
    if (fixed) {
      // As OpenCV's whole numbers are rounded.
      const [upper, lower, one, other] = [at[0] * stride, at[1] * stride, weights[0], weights[1]];
      for (let place = 0; place < stride; place++) out[to + place] = ((((lines[upper + place] >> 4) * one) >> 16) + (((lines[lower + place] >> 4) * other) >> 16) + 2) >> 2;
      continue;
    }
    if (at.length === 2) {
      const [upper, lower, one, other] = [at[0] * stride, at[1] * stride, weights[0], weights[1]];
      for (let place = 0; place < stride; place++) out[to + place] = one * lines[upper + place] + other * lines[lower + place];
      continue;
    }
    if (at.length === 4) {
      const [a, b, c, d] = [at[0] * stride, at[1] * stride, at[2] * stride, at[3] * stride];
      const [p, q, r, t] = weights;
      for (let place = 0; place < stride; place++) out[to + place] = p * lines[a + place] + q * lines[b + place] + r * lines[c + place] + t * lines[d + place];
      continue;
    }
    for (let tap = 0; tap < at.length; tap++) {
      const weight = weights[tap];
      if (!weight) continue;
      const from = at[tap] * stride;
      for (let place = 0; place < stride; place++) out[to + place] += weight * lines[from + place];
    }
  }
  return made(out, [high, wide, ...shape.slice(2)], dtype);
}

/**
 * @param {any} src @param {ArrayLike<number>} xs of each pixel wanted @param {ArrayLike<number>} ys
 * @param {number[]} size rows, columns @param {number} way @param {number} border @param {any} value
 */
function sampledAt(src, xs, ys, [high, wide], way, border, value) {
  const { values: own, height, width, channels, dtype, shape } = image(src);
  const values = floatsOf(own);
  const out = new Float32Array(high * wide * channels);
  const beyond = Array.isArray(value) ? value : [value ?? 0, 0, 0, 0];
  const stride = width * channels;
  for (let at = 0, to = 0; at < high * wide; at++, to += channels) {
    const x = xs[at];
    const y = ys[at];
    if (way === 0) {
      const [column, row] = [bordered(rounded(x), width, border), bordered(rounded(y), height, border)];
      for (let channel = 0; channel < channels; channel++) out[to + channel] = column < 0 || row < 0 ? beyond[channel] : values[row * stride + column * channels + channel];
      continue;
    }
    const across = Math.floor(32 * x + 0.5);
    const down = Math.floor(32 * y + 0.5);
    const left = across >> 5;
    const top = down >> 5;
    const right = (across & 31) / 32;
    const below = (down & 31) / 32;
    if (way === 2) {
      const wx = 4 * (across & 31);
      const wy = 4 * (down & 31);
      const within = left > 0 && top > 0 && left < width - 2 && top < height - 2;
      for (let j = 0; j < 4; j++) {
        const row = within ? top - 1 + j : bordered(top - 1 + j, height, border);
        for (let i = 0; i < 4; i++) {
          const column = within ? left - 1 + i : bordered(left - 1 + i, width, border);
          const weight = CUBIC[wx + i] * CUBIC[wy + j];
          const from = row * stride + column * channels;
          for (let channel = 0; channel < channels; channel++) out[to + channel] += weight * (row < 0 || column < 0 ? beyond[channel] : values[from + channel]);
        }
      }
      continue;
    }
    if (left >= 0 && top >= 0 && left < width - 1 && top < height - 1) {
      const from = top * stride + left * channels;
      for (let channel = 0; channel < channels; channel++) {
        const place = from + channel;
        out[to + channel] = (values[place] * (1 - right) + values[place + channels] * right) * (1 - below) + (values[place + stride] * (1 - right) + values[place + stride + channels] * right) * below;
      }
      continue;
    }
    const [x0, x1, y0, y1] = [bordered(left, width, border), bordered(left + 1, width, border), bordered(top, height, border), bordered(top + 1, height, border)];
    for (let channel = 0; channel < channels; channel++) {
      const pixel = (/** @type {number} */ column, /** @type {number} */ row) => (column < 0 || row < 0 ? beyond[channel] : values[(row * width + column) * channels + channel]);
      out[to + channel] = (pixel(x0, y0) * (1 - right) + pixel(x1, y0) * right) * (1 - below) + (pixel(x0, y1) * (1 - right) + pixel(x1, y1) * right) * below;
    }
  }
  return made(out, [high, wide, ...shape.slice(2)], dtype);
}

const light = (/** @type {number} */ one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
const curve = (/** @type {number} */ t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 0.13793103448275862);
/** From linear red, green and blue to X, Y and Z over those of white. */
const TO_XYZ = [0.412453 / 0.950456, 0.35758 / 0.950456, 0.180423 / 0.950456, 0.212671, 0.71516, 0.072169, 0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754];
/** The same for bytes, as OpenCV's tables have it. */
const LIGHTS = Int32Array.from({ length: 256 }, (_, at) => rounded(2040 * light(at / 255)));
const CURVE = Int32Array.from({ length: 3072 }, (_, at) => rounded(32768 * curve(at / 2040)));
const STEPS = TO_XYZ.map((one) => rounded(4096 * one));

/** @param {any} src */
function toLab(src) {
  const { values, dtype, shape } = image(src);
  if (dtype === "uint8") {
    const bytes = new Uint8ClampedArray(values.length);
    for (let at = 0; at < values.length; at += 3) {
      const [red, green, blue] = [LIGHTS[values[at]], LIGHTS[values[at + 1]], LIGHTS[values[at + 2]]];
      const x = CURVE[(STEPS[0] * red + STEPS[1] * green + STEPS[2] * blue + 2048) >> 12];
      const y = CURVE[(STEPS[3] * red + STEPS[4] * green + STEPS[5] * blue + 2048) >> 12];
      const z = CURVE[(STEPS[6] * red + STEPS[7] * green + STEPS[8] * blue + 2048) >> 12];
      bytes[at] = (296 * y - 1336934 + 16384) >> 15;
      bytes[at + 1] = (500 * (x - y) + 128 * 32768 + 16384) >> 15;
      bytes[at + 2] = (200 * (y - z) + 128 * 32768 + 16384) >> 15;
    }
    return new NDArray(new Uint8Array(bytes.buffer), shape, "uint8");
  }
  const out = new Float32Array(values.length);
  for (let at = 0; at < values.length; at += 3) {
    const [red, green, blue] = [light(values[at]), light(values[at + 1]), light(values[at + 2])];
    const [x, y, z] = [0, 3, 6].map((row) => TO_XYZ[row] * red + TO_XYZ[row + 1] * green + TO_XYZ[row + 2] * blue);
    out.set([y > 0.008856 ? 116 * curve(y) - 16 : 903.3 * y, 500 * (curve(x) - curve(y)), 200 * (curve(y) - curve(z))], at);
  }
  return made(out, shape, dtype);
}

/** @param {any} src uint8 */
function fromLab(src) {
  const { values, shape, dtype } = image(src);
  const out = new Float32Array(values.length);
  const gamma = (/** @type {number} */ one) => 255 * (one <= 0.0031308 ? 12.92 * one : 1.055 * Math.max(one, 0) ** (1 / 2.4) - 0.055);
  for (let at = 0; at < values.length; at += 3) {
    const L = (values[at] * 100) / 255;
    const fy = (L + 16) / 116;
    const [fx, fz] = [fy + (values[at + 1] - 128) / 500, fy - (values[at + 2] - 128) / 200];
    const back = (/** @type {number} */ f) => (f > 0.206893 ? f ** 3 : (f - 16 / 116) / 7.787);
    const [x, y, z] = [0.950456 * back(fx), L > 8 ? fy ** 3 : L / 903.3, 1.088754 * back(fz)];
    out.set([gamma(3.240479 * x - 1.53715 * y - 0.498535 * z), gamma(-0.969256 * x + 1.875991 * y + 0.041556 * z), gamma(0.055648 * x - 0.204043 * y + 1.057311 * z)], at);
  }
  return made(out, shape, dtype);
}

/** Labels of parts that hang together, in the order in which they are met. @param {any} src @param {number} connectivity */
function labelled(src, connectivity) {
  const { values, height, width } = image(src);
  const labels = new Int32Array(height * width);
  const around = connectivity === 4 ? [-1, 1, -width, width] : [-1, 1, -width, width, -width - 1, -width + 1, width - 1, width + 1];
  const waiting = new Int32Array(height * width);
  let count = 1;
  for (let start = 0; start < labels.length; start++) {
    if (!values[start] || labels[start]) continue;
    let last = 0;
    waiting[last++] = start;
    labels[start] = count;
    while (last) {
      const at = waiting[--last];
      const column = at % width;
      for (const step of around) {
        const next = at + step;
        if (next < 0 || next >= labels.length || labels[next] || !values[next] || Math.abs((next % width) - column) > 1) continue;
        labels[next] = count;
        waiting[last++] = next;
      }
    }
    count += 1;
  }
  return { count, labels, height, width };
}

/** Distances to the nearest 0, and if wanted which that is, by steps of a chamfer. @param {any} src @param {number} mask @param {boolean} which */
function distances(src, mask, which) {
  const { values, height, width } = image(src);
  const out = new Float32Array(values.length);
  const labels = which ? new Int32Array(values.length) : null;
  let count = 0;
  for (let at = 0; at < values.length; at++) {
    out[at] = values[at] ? Infinity : 0;
    if (labels && !values[at]) labels[at] = ++count;
  }
  const [a, b, c] = mask === 3 ? [0.955, 1.3693, 0] : [1, 1.4, 2.1969];
  const steps = [[0, -1, a], [-1, 0, a], [-1, -1, b], [-1, 1, b]];
  if (mask !== 3) steps.push([-1, -2, c], [-1, 2, c], [-2, -1, c], [-2, 1, c]);
  const [downs, rights, fars] = [0, 1, 2].map((part) => Float64Array.from(steps, (step) => step[part]));
  const shifts = Int32Array.from(steps, ([down, right]) => down * width + right);
  for (const sign of [1, -1]) {
    for (let line = 0; line < height; line++) {
      const row = sign > 0 ? line : height - 1 - line;
      for (let place = 0; place < width; place++) {
        const column = sign > 0 ? place : width - 1 - place;
        const at = row * width + column;
        let least = out[at];
        if (!least) continue;
        const within = row > 1 && row < height - 2 && column > 1 && column < width - 2;
        if (within && !labels) {
          const [s0, s1, s2, s3] = sign > 0 ? [at - 1, at - width, at - width - 1, at - width + 1] : [at + 1, at + width, at + width + 1, at + width - 1];
          const straight = Math.min(out[s0], out[s1]) + a;
          const aslant = Math.min(out[s2], out[s3]) + b;
          if (straight < least) least = straight;
          if (aslant < least) least = aslant;
          if (c) {
            const [up, twice] = [sign * width, 2 * sign * width];
            const far = Math.min(out[at - up - 2], out[at - up + 2], out[at - twice - 1], out[at - twice + 1]) + c;
            if (far < least) least = far;
          }
          out[at] = least;
          continue;
        }
        for (let step = 0; step < shifts.length; step++) {
          if (!within) {
            const [y, x] = [row + sign * downs[step], column + sign * rights[step]];
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
          }
          const from = at + sign * shifts[step];
          const far = out[from] + fars[step];
          if (far < least) {
            least = far;
            if (labels) labels[at] = labels[from];
          }
        }
        out[at] = least;
      }
    }
  }
  return { out, labels, shape: [height, width] };
}

/** @param {any} points */
const pointsOf = (points) => {
  const flat = asArray(points).flat;
  return Array.from({ length: flat.length / 2 }, (_, at) => [flat[2 * at], flat[2 * at + 1]]);
};

/** @param {number[][]} points */
function areaOf(points) {
  let sum = 0;
  points.forEach(([x, y], at) => {
    const [nextX, nextY] = points[(at + 1) % points.length];
    sum += x * nextY - nextX * y;
  });
  return Math.abs(sum) / 2;
}

/** Outer outlines of what is not 0, traced clockwise from their first pixel. @param {any} src */
function outlines(src) {
  const { count, labels, height, width } = labelled(src, 8);
  /** @type {NDArray[]} */
  const found = [];
  const ways = [[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]];
  const firsts = new Int32Array(count).fill(-1);
  for (let at = 0; at < labels.length; at++) if (labels[at] && firsts[labels[at]] < 0) firsts[labels[at]] = at;
  for (let label = 1; label < count; label++) {
    const at = firsts[label];
    const [startX, startY] = [at % width, Math.floor(at / width)];
    const own = (/** @type {number} */ x, /** @type {number} */ y) => x >= 0 && y >= 0 && x < width && y < height && labels[y * width + x] === label;
    const points = [[startX, startY]];
    let [x, y, way] = [startX, startY, 4];
    let firstWay = -1;
    for (let guard = 0; guard < 8 * labels.length; guard++) {
      let turned = -1;
      for (let step = 1; step <= 8; step++) {
        const next = (way + step) % 8;
        if (own(x + ways[next][0], y + ways[next][1])) {
          turned = next;
          break;
        }
      }
      if (turned < 0) break;
      if (x === startX && y === startY) {
        if (firstWay === turned) break;
        if (firstWay < 0) firstWay = turned;
      }
      [x, y] = [x + ways[turned][0], y + ways[turned][1]];
      points.push([x, y]);
      // Looked for next beginning behind where it came from.
      way = (turned + 4) % 8;
    }
    if (points.length > 1) points.pop();
    found.push(asArray(points, "int32").reshape(points.length, 1, 2));
  }
  // OpenCV tells the last one first.
  return found.reverse();
}

/** @param {any} img uint8, written to @param {number[][]} points whole @param {number} colour */
function filledPolygon(img, points, colour) {
  const [height, width] = img._shape;
  const put = (/** @type {number} */ x, /** @type {number} */ y) => {
    if (x >= 0 && y >= 0 && x < width && y < height) img.data[img.offset + y * img.strides[0] + x * img.strides[1]] = colour;
  };
  const ys = points.map(([, y]) => y);
  for (let y = Math.max(0, Math.min(...ys)); y <= Math.min(height - 1, Math.max(...ys)); y++) {
    /** @type {number[]} */
    const crossings = [];
    points.forEach(([x0, y0], at) => {
      const [x1, y1] = points[(at + 1) % points.length];
      if (y0 <= y !== y1 <= y) crossings.push(x0 + ((y - y0) / (y1 - y0)) * (x1 - x0));
    });
    crossings.sort((one, other) => one - other);
    for (let at = 0; at + 1 < crossings.length; at += 2) for (let x = Math.ceil(crossings[at]); x <= Math.floor(crossings[at + 1]); x++) put(x, y);
  }
  // Its edge belongs to it.
  points.forEach(([x0, y0], at) => {
    const [x1, y1] = points[(at + 1) % points.length];
    const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
    for (let step = 0; step <= steps; step++) put(rounded(x0 + ((x1 - x0) * step) / steps), rounded(y0 + ((y1 - y0) * step) / steps));
  });
}

/** What is done most, of bytes. @type {Record<string, (out: Uint8ClampedArray, x: Uint8Array, y: Uint8Array, scale: number) => void>} */
const ofBytes = {
  mul: (out, x, y, scale) => {
    for (let at = 0; at < out.length; at++) out[at] = Math.fround(x[at] * y[at] * scale);
  },
  add: (out, x, y) => {
    for (let at = 0; at < out.length; at++) out[at] = x[at] + y[at];
  },
  sub: (out, x, y) => {
    for (let at = 0; at < out.length; at++) out[at] = x[at] - y[at];
  },
  absdiff: (out, x, y) => {
    for (let at = 0; at < out.length; at++) out[at] = x[at] > y[at] ? x[at] - y[at] : y[at] - x[at];
  },
};

/** @param {string} name @param {any} src1 @param {any} src2 @param {number} scale @param {any} dst */
function arithmetic(name, src1, src2, scale, dst) {
  const one = asArray(src1);
  // A colour has four numbers, whatever channels there are.
  const other = typeof src2 === "number" ? src2 : asArray(Array.isArray(src2) ? src2.slice(0, one._shape[2] ?? 1) : src2);
  if (other instanceof NDArray && isByte(one.dtype) && isByte(other.dtype) && one.size === other.size && ofBytes[name]) {
    const out = new Uint8ClampedArray(one.size);
    ofBytes[name](out, one.flat, other.flat, Math.fround(scale));
    return given(dst, new NDArray(new Uint8Array(out.buffer), one._shape, "uint8"));
  }
  const dtype = one._shape.length ? one.dtype : /** @type {any} */ (other).dtype;
  const wide = (/** @type {any} */ x) => (typeof x === "number" ? x : isByte(x.dtype) ? x.astype("float32") : x);
  let out = elementwise(name, wide(one), wide(other));
  if (scale !== 1) out = elementwise("mul", out, scale);
  return given(dst, made(asArray(out).flat, asArray(out)._shape, dtype));
}

/** @param {any} src @param {number} dx @param {number} dy @param {number[]} smooth @param {number} scale @param {number} borderType */
function derivative(src, dx, dy, smooth, scale, borderType) {
  const slope = smooth.length === 5 ? [-1, -2, 0, 2, 1] : [-1, 0, 1];
  const [across, down] = dx ? [slope, smooth] : [smooth, slope];
  void dy;
  return separable(asArray(src).astype("float32"), across.map((one) => one * scale), down, borderType, "float32");
}

const CODES = ["COLOR_RGB2LAB", "COLOR_LAB2RGB", "COLOR_GRAY2RGB", "COLOR_RGB2GRAY", "COLOR_RGBA2RGB", "COLOR_RGB2RGBA", "COLOR_RGB2BGR", "COLOR_RGB2Lab"];

/** @type {Record<string, any>} */
export const cv2 = {
  ...Object.fromEntries(CODES.map((name) => [name, name.replace("Lab", "LAB")])),
  ...{ INTER_NEAREST: 0, INTER_LINEAR: 1, INTER_CUBIC: 2, INTER_AREA: 3, WARP_INVERSE_MAP: 16, BORDER_CONSTANT: CONSTANT, BORDER_REPLICATE: REPLICATE, BORDER_REFLECT: REFLECT, BORDER_REFLECT_101: REFLECT_101 },
  ...{ MORPH_RECT: 0, MORPH_CROSS: 1, MORPH_ELLIPSE: 2, MORPH_ERODE: 0, MORPH_DILATE: 1, MORPH_OPEN: 2, MORPH_CLOSE: 3, MORPH_GRADIENT: 4, MORPH_TOPHAT: 5, MORPH_BLACKHAT: 6 },
  ...{ CV_8U: "uint8", CV_32F: "float32", DIST_L2: 2, DIST_LABEL_PIXEL: 1, RETR_EXTERNAL: 0, CHAIN_APPROX_NONE: 1, FILLED: -1, CMP_EQ: 0, CMP_GT: 1, CMP_GE: 2, CMP_LT: 3, CMP_LE: 4, CMP_NE: 5 },
  ...{ CC_STAT_LEFT: 0, CC_STAT_TOP: 1, CC_STAT_WIDTH: 2, CC_STAT_HEIGHT: 3, CC_STAT_AREA: 4, LINE_AA: 16, IMWRITE_WEBP_QUALITY: 64, GC_FGD: 1, GC_PR_FGD: 3, GC_BGD: 0, GC_PR_BGD: 2, GC_INIT_WITH_MASK: 1 },
  GaussianBlur: (/** @type {any} */ src, /** @type {any} */ ksize, sigmaX = 0, /** @type {any} */ dst = null, sigmaY = 0, borderType = REFLECT_101) => {
    const array = asArray(src);
    const dtype = array.dtype;
    const own = sigmaY > 0 ? sigmaY : sigmaX;
    const [wide, high] = Array.from(ksize, Number);
    const auto = (/** @type {number} */ size, /** @type {number} */ sigma) => (size > 0 ? size : rounded(sigma * (isByte(dtype) ? 3 : 4) * 2 + 1) | 1);
    const kernel = (/** @type {number} */ size, /** @type {number} */ sigma) => (isByte(dtype) ? inSteps(gaussian(auto(size, sigma), sigma)) : gaussian(auto(size, sigma), sigma));
    const [across, down] = [kernel(wide, sigmaX), kernel(high, own)];
    const fits = (/** @type {Float64Array} */ kernel, /** @type {number} */ size) => (size === 1 ? Float64Array.from([1]) : kernel);
    return given(dst, separable(array, fits(across, array._shape[1]), fits(down, array._shape[0]), borderType, dtype));
  },
  blur: (/** @type {any} */ src, /** @type {any} */ ksize, /** @type {any} */ dst = null, /** @type {any} */ anchor = null, borderType = REFLECT_101) => {
    void anchor;
    const [wide, high] = Array.from(ksize, Number);
    return given(dst, averaged(src, wide, high, borderType));
  },
  getGaussianKernel: (/** @type {number} */ ksize, /** @type {number} */ sigma) => new NDArray(gaussian(ksize, sigma), [ksize, 1], "float64"),
  filter2D: (/** @type {any} */ src, /** @type {any} */ ddepth, /** @type {any} */ kernel, /** @type {any} */ dst = null, /** @type {any} */ anchor = null, delta = 0, borderType = REFLECT_101) => {
    void [ddepth, anchor, delta];
    const { values, height, width, channels, dtype, shape } = image(src);
    const { values: weights, height: high, width: wide } = image(kernel);
    const out = new Float32Array(values.length);
    for (let j = 0; j < high; j++) {
      for (let i = 0; i < wide; i++) {
        const weight = weights[j * wide + i];
        if (!weight) continue;
        for (let row = 0, to = 0; row < height; row++) {
          const y = bordered(row + j - (high >> 1), height, borderType);
          for (let column = 0; column < width; column++) {
            const x = bordered(column + i - (wide >> 1), width, borderType);
            for (let channel = 0; channel < channels; channel++, to++) if (x >= 0 && y >= 0) out[to] += weight * values[(y * width + x) * channels + channel];
          }
        }
      }
    }
    return given(dst, made(out, shape, dtype));
  },
  Sobel: (/** @type {any} */ src, /** @type {any} */ ddepth, /** @type {number} */ dx, /** @type {number} */ dy, /** @type {any} */ dst = null, ksize = 3, scale = 1, delta = 0, borderType = REFLECT_101) => {
    void [ddepth, delta];
    return given(dst, derivative(src, dx, dy, ksize === 1 ? [1] : [1, 2, 1], scale, borderType));
  },
  Scharr: (/** @type {any} */ src, /** @type {any} */ ddepth, /** @type {number} */ dx, /** @type {number} */ dy, /** @type {any} */ dst = null, scale = 1, delta = 0, borderType = REFLECT_101) => {
    void [ddepth, delta];
    return given(dst, derivative(src, dx, dy, [3, 10, 3], scale, borderType));
  },
  medianBlur: (/** @type {any} */ src, /** @type {number} */ ksize) => {
    const { values, height, width, channels, dtype, shape } = image(src);
    const out = new Float64Array(values.length);
    const reach = ksize >> 1;
    for (let row = 0, to = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        for (let channel = 0; channel < channels; channel++, to++) {
          const near = [];
          for (let j = -reach; j <= reach; j++) for (let i = -reach; i <= reach; i++) near.push(values[(bordered(row + j, height, REPLICATE) * width + bordered(column + i, width, REPLICATE)) * channels + channel]);
          out[to] = near.sort((one, other) => one - other)[near.length >> 1];
        }
      }
    }
    return made(out, shape, dtype);
  },
  pyrDown: (/** @type {any} */ src) => {
    const kernel = [1, 4, 6, 4, 1].map((one) => one / 16);
    const array = asArray(src);
    const smoothed = separable(array, kernel, kernel, REFLECT_101, array.dtype);
    const { values, height, width, channels, shape, dtype } = image(smoothed);
    const [high, wide] = [(height + 1) >> 1, (width + 1) >> 1];
    const out = new STORES[dtype](high * wide * channels);
    for (let row = 0, to = 0; row < high; row++) for (let column = 0; column < wide; column++) for (let channel = 0; channel < channels; channel++, to++) out[to] = values[(2 * row * width + 2 * column) * channels + channel];
    return new NDArray(out, [high, wide, ...shape.slice(2)], dtype);
  },
  resize: (/** @type {any} */ src, /** @type {any} */ dsize, /** @type {any} */ dst = null, fx = 0, fy = 0, interpolation = 1) => given(dst, resized(src, dsize, fx, fy, interpolation)),
  remap: (/** @type {any} */ src, /** @type {any} */ map1, /** @type {any} */ map2, interpolation = 1, /** @type {any} */ dst = null, borderMode = CONSTANT, /** @type {any} */ borderValue = 0) => {
    const first = asArray(map1);
    const x = first.flat;
    const size = first._shape.length > 1 ? first._shape.slice(0, 2) : [first._shape[0], 1];
    if (map2 === null || map2 === undefined) {
      const [own, other] = [0, 1].map((axis) => Float32Array.from({ length: x.length / 2 }, (_, at) => x[2 * at + axis]));
      return given(dst, sampledAt(src, own, other, size, interpolation, borderMode, borderValue));
    }
    return given(dst, sampledAt(src, x, asArray(map2).flat, size, interpolation, borderMode, borderValue));
  },
  warpAffine: (/** @type {any} */ src, /** @type {any} */ M, /** @type {any} */ dsize, /** @type {any} */ dst = null, flags = 1, borderMode = CONSTANT, /** @type {any} */ borderValue = 0) => {
    const inverse = flags & 16 ? asArray(M) : cv2.invertAffineTransform(M);
    const [a, b, c, d, e, f] = inverse.flat;
    const [wide, high] = Array.from(dsize, Number);
    // In 32nds, of sums in 1024ths.
    const place = (/** @type {number} */ p, /** @type {number} */ q, /** @type {number} */ r, /** @type {number} */ x, /** @type {number} */ y) => Math.floor((rounded((q * y + r) * 1024) + 16 + rounded(p * x * 1024)) / 32) / 32;
    const xs = new Float64Array(wide * high);
    const ys = new Float64Array(wide * high);
    for (let y = 0, at = 0; y < high; y++) {
      for (let x = 0; x < wide; x++, at++) {
        xs[at] = place(a, b, c, x, y);
        ys[at] = place(d, e, f, x, y);
      }
    }
    return given(dst, sampledAt(src, xs, ys, [high, wide], flags & 3, borderMode, borderValue));
  },
  invertAffineTransform: (/** @type {any} */ M) => {
    const [a, b, c, d, e, f] = asArray(M).flat;
    const size = a * e - b * d;
    const [p, q, r, s] = [e / size, -b / size, -d / size, a / size];
    return new NDArray(Float64Array.from([p, q, -p * c - q * f, r, s, -r * c - s * f]), [2, 3], "float64");
  },
  cvtColor: (/** @type {any} */ src, /** @type {string} */ code, /** @type {any} */ dst = null) => {
    if (code === "COLOR_RGB2LAB") return given(dst, toLab(src));
    if (code === "COLOR_LAB2RGB") return given(dst, fromLab(src));
    const { values, height, width, dtype, channels } = image(src);
    const wanted = /** @type {Record<string, number>} */ ({ COLOR_GRAY2RGB: 3, COLOR_RGB2GRAY: 1, COLOR_RGBA2RGB: 3, COLOR_RGB2RGBA: 4, COLOR_RGB2BGR: 3 })[code];
    const out = new STORES[dtype](height * width * wanted);
    for (let from = 0, to = 0; from < values.length; from += channels, to += wanted) {
      if (code === "COLOR_GRAY2RGB") out[to] = out[to + 1] = out[to + 2] = values[from];
      else if (code === "COLOR_RGB2GRAY") out[to] = isByte(dtype) ? (4899 * values[from] + 9617 * values[from + 1] + 1868 * values[from + 2] + 8192) >> 14 : 0.299 * values[from] + 0.587 * values[from + 1] + 0.114 * values[from + 2];
      else {
        const flip = code === "COLOR_RGB2BGR";
        out[to] = values[from + (flip ? 2 : 0)];
        out[to + 1] = values[from + 1];
        out[to + 2] = values[from + (flip ? 0 : 2)];
        if (wanted === 4) out[to + 3] = isByte(dtype) ? 255 : 1;
      }
    }
    return given(dst, new NDArray(out, wanted === 1 ? [height, width] : [height, width, wanted], dtype));
  },
  split: (/** @type {any} */ src) => {
    const array = asArray(src);
    return T(...Array.from({ length: array._shape[2] ?? 1 }, (_, at) => cv2.extractChannel(array, at)));
  },
  merge: (/** @type {any} */ planes) => np.ascontiguousarray(np.stack(Array.from(planes), -1)),
  extractChannel: (/** @type {any} */ src, /** @type {number} */ coi, /** @type {any} */ dst = null) => {
    const array = asArray(src);
    return given(dst, new NDArray(array.data, array._shape.slice(0, 2), array.dtype, array.strides.slice(0, 2), array.offset + coi * (array.strides[2] ?? 0)).copy());
  },
  dilate: (/** @type {any} */ src, /** @type {any} */ kernel, /** @type {any} */ dst = null, /** @type {any} */ anchor = null, iterations = 1) => {
    void anchor;
    let out = src;
    for (let round = 0; round < iterations; round++) out = extremes(out, kernel, true);
    return given(dst, out);
  },
  erode: (/** @type {any} */ src, /** @type {any} */ kernel, /** @type {any} */ dst = null, /** @type {any} */ anchor = null, iterations = 1) => {
    void anchor;
    let out = src;
    for (let round = 0; round < iterations; round++) out = extremes(out, kernel, false);
    return given(dst, out);
  },
  morphologyEx: (/** @type {any} */ src, /** @type {number} */ op, /** @type {any} */ kernel) => {
    if (op === 2) return extremes(extremes(src, kernel, false), kernel, true);
    const closed = extremes(extremes(src, kernel, true), kernel, false);
    return op === 3 ? closed : arithmetic("sub", closed, src, 1, null);
  },
  getStructuringElement: (/** @type {number} */ shape, /** @type {any} */ ksize) => {
    const [wide, high] = Array.from(ksize, Number);
    const kernel = np.zeros([high, wide], "uint8");
    const [r, c] = [high >> 1, wide >> 1];
    for (let row = 0; row < high; row++) {
      let [from, to] = [0, wide];
      if (shape === 2) {
        const dy = row - r;
        if (Math.abs(dy) > r) continue;
        const dx = rounded(c * Math.sqrt(r ? (r * r - dy * dy) / (r * r) : 0));
        [from, to] = [Math.max(c - dx, 0), Math.min(c + dx + 1, wide)];
      }
      kernel.data.fill(1, row * wide + from, row * wide + to);
    }
    return kernel;
  },
  multiply: (/** @type {any} */ src1, /** @type {any} */ src2, /** @type {any} */ dst = null, scale = 1) => arithmetic("mul", src1, src2, scale, dst),
  divide: (/** @type {any} */ src1, /** @type {any} */ src2, /** @type {any} */ dst = null, scale = 1) => arithmetic("div", src1, src2, scale, dst),
  add: (/** @type {any} */ src1, /** @type {any} */ src2, /** @type {any} */ dst = null) => arithmetic("add", src1, src2, 1, dst),
  subtract: (/** @type {any} */ src1, /** @type {any} */ src2, /** @type {any} */ dst = null) => arithmetic("sub", src1, src2, 1, dst),
  max: (/** @type {any} */ src1, /** @type {any} */ src2, /** @type {any} */ dst = null) => given(dst, np.maximum(src1, src2)),
  absdiff: (/** @type {any} */ src1, /** @type {any} */ src2) => {
    const [one, other] = [asArray(src1), asArray(src2)];
    if (isByte(one.dtype) && isByte(other.dtype)) return arithmetic("absdiff", one, other, 1, null);
    return np.abs(elementwise("sub", one.astype("float32"), other.astype("float32"))).astype(one.dtype);
  },
  addWeighted: (/** @type {any} */ src1, /** @type {number} */ alpha, /** @type {any} */ src2, /** @type {number} */ beta, /** @type {number} */ gamma, /** @type {any} */ dst = null) => {
    const [one, other] = [asArray(src1), asArray(src2)];
    const [x, y] = [one.flat, other.flat];
    const out = new Float32Array(x.length);
    for (let at = 0; at < x.length; at++) out[at] = alpha * x[at] + beta * y[at] + gamma;
    return given(dst, made(out, one._shape, one.dtype));
  },
  convertScaleAbs: (/** @type {any} */ src, /** @type {any} */ dst = null, alpha = 1, beta = 0) => {
    const array = asArray(src);
    return given(dst, made(Float32Array.from(array.flat, (/** @type {number} */ one) => Math.abs(alpha * one + beta)), array._shape, "uint8"));
  },
  blendLinear: (/** @type {any} */ src1, /** @type {any} */ src2, /** @type {any} */ weights1, /** @type {any} */ weights2, /** @type {any} */ dst = null) => {
    const { values: x, channels, shape, dtype } = image(src1);
    const [y, p, q] = [src2, weights1, weights2].map((one) => asArray(one).flat);
    const out = new Float32Array(x.length);
    for (let at = 0, pixel = 0; at < x.length; pixel++) for (let channel = 0; channel < channels; channel++, at++) out[at] = (x[at] * p[pixel] + y[at] * q[pixel]) / (p[pixel] + q[pixel] + 1e-5);
    return given(dst, made(out, shape, dtype));
  },
  bitwise_not: (/** @type {any} */ src, /** @type {any} */ dst = null) => given(dst, elementwise("sub", 255, asArray(src))),
  exp: (/** @type {any} */ src) => np.exp(src),
  compare: (/** @type {any} */ src1, /** @type {any} */ src2, /** @type {number} */ cmpop) => elementwise("mul", elementwise(["eq", "gt", "ge", "lt", "le", "ne"][cmpop], src1, src2).astype("uint8"), 255),
  copyTo: (/** @type {any} */ src, /** @type {any} */ mask, /** @type {any} */ dst = null) => {
    const array = asArray(src);
    const out = dst ?? np.zeros_like(array);
    const where = asArray(mask);
    if (out.isWhole && out.dtype === array.dtype && out.size % where.size === 0) {
      const [from, to, own, channels] = [array.flat, out.data, where.flat, out.size / where.size];
      for (let pixel = 0, at = 0, place = out.offset; pixel < own.length; pixel++, at += channels, place += channels) if (own[pixel]) for (let channel = 0; channel < channels; channel++) to[place + channel] = from[at + channel];
      return out;
    }
    let chosen = elementwise("ne", mask, 0);
    if (array._shape.length > chosen._shape.length) chosen = chosen.reshape(...chosen._shape, 1);
    np.copyto(out, array, null, chosen);
    return out;
  },
  copyMakeBorder: (/** @type {any} */ src, /** @type {number} */ top, /** @type {number} */ bottom, /** @type {number} */ left, /** @type {number} */ right, /** @type {number} */ borderType) => {
    const { values, height, width, channels, dtype, shape } = image(src);
    const [high, wide] = [height + top + bottom, width + left + right];
    const out = new STORES[dtype](high * wide * channels);
    for (let row = 0, to = 0; row < high; row++) {
      const y = bordered(row - top, height, borderType);
      for (let column = 0; column < wide; column++) {
        const x = bordered(column - left, width, borderType);
        for (let channel = 0; channel < channels; channel++, to++) if (x >= 0 && y >= 0) out[to] = values[(y * width + x) * channels + channel];
      }
    }
    return new NDArray(out, [high, wide, ...shape.slice(2)], dtype);
  },
  connectedComponents: (/** @type {any} */ src, /** @type {any} */ labels = null, connectivity = 8) => {
    void labels;
    const found = labelled(src, connectivity);
    return T(found.count, new NDArray(found.labels, [found.height, found.width], "int32"));
  },
  connectedComponentsWithStats: (/** @type {any} */ src, /** @type {any} */ labels = null, stats = null, centroids = null, connectivity = 8) => {
    void [labels, stats, centroids];
    const found = labelled(src, connectivity);
    const facts = new Int32Array(5 * found.count);
    const centres = new Float64Array(2 * found.count);
    const ends = Array.from({ length: found.count }, () => [Infinity, Infinity, -1, -1]);
    found.labels.forEach((label, at) => {
      const [x, y] = [at % found.width, Math.floor(at / found.width)];
      const end = ends[label];
      [end[0], end[1], end[2], end[3]] = [Math.min(end[0], x), Math.min(end[1], y), Math.max(end[2], x), Math.max(end[3], y)];
      facts[5 * label + 4] += 1;
      centres[2 * label] += x;
      centres[2 * label + 1] += y;
    });
    ends.forEach(([x0, y0, x1, y1], label) => {
      facts.set(facts[5 * label + 4] ? [x0, y0, x1 - x0 + 1, y1 - y0 + 1] : [0, 0, 0, 0], 5 * label);
      for (const axis of [0, 1]) centres[2 * label + axis] /= facts[5 * label + 4];
    });
    return T(found.count, new NDArray(found.labels, [found.height, found.width], "int32"), new NDArray(facts, [found.count, 5], "int32"), new NDArray(centres, [found.count, 2], "float64"));
  },
  distanceTransform: (/** @type {any} */ src, /** @type {number} */ distanceType, /** @type {number} */ maskSize) => {
    void distanceType;
    const { out, shape } = distances(src, maskSize, false);
    return new NDArray(out, shape, "float32");
  },
  distanceTransformWithLabels: (/** @type {any} */ src, /** @type {number} */ distanceType, /** @type {number} */ maskSize, /** @type {any} */ dst = null, /** @type {any} */ labels = null, labelType = 0) => {
    void [distanceType, dst, labels, labelType];
    // OpenCV always looks as far as 5 pixels here.
    const found = distances(src, 5, true);
    void maskSize;
    return T(new NDArray(found.out, found.shape, "float32"), new NDArray(/** @type {Int32Array} */ (found.labels), found.shape, "int32"));
  },
  findContours: (/** @type {any} */ src) => T(T(...outlines(src)), null),
  contourArea: (/** @type {any} */ contour) => areaOf(pointsOf(contour)),
  boundingRect: (/** @type {any} */ array) => {
    const points = pointsOf(array);
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const [left, top] = [Math.min(...xs), Math.min(...ys)];
    return T(left, top, Math.max(...xs) - left + 1, Math.max(...ys) - top + 1);
  },
  convexHull: (/** @type {any} */ points) => {
    const array = asArray(points);
    const sorted = pointsOf(array).sort((one, other) => one[0] - other[0] || one[1] - other[1]);
    const turns = (/** @type {number[]} */ o, /** @type {number[]} */ p, /** @type {number[]} */ q) => (p[0] - o[0]) * (q[1] - o[1]) - (p[1] - o[1]) * (q[0] - o[0]);
    const half = (/** @type {number[][]} */ all) => {
      /** @type {number[][]} */
      const chain = [];
      for (const point of all) {
        while (chain.length > 1 && turns(chain[chain.length - 2], chain[chain.length - 1], point) <= 0) chain.pop();
        chain.push(point);
      }
      chain.pop();
      return chain;
    };
    const hull = sorted.length > 2 ? [...half(sorted), ...half(sorted.slice().reverse())] : sorted;
    return asArray(hull, array.dtype).reshape(hull.length, 1, 2);
  },
  fillPoly: (/** @type {any} */ img, /** @type {any} */ pts, /** @type {number} */ color) => {
    for (const points of pts) filledPolygon(img, pointsOf(points), color);
    return img;
  },
  circle: (/** @type {any} */ img, /** @type {any} */ center, /** @type {number} */ radius, /** @type {number} */ color) => {
    const [height, width] = img._shape;
    for (let y = Math.max(0, center[1] - radius); y <= Math.min(height - 1, center[1] + radius); y++) {
      for (let x = Math.max(0, center[0] - radius); x <= Math.min(width - 1, center[0] + radius); x++) {
        if ((x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius * radius + radius * 0.5) img.data[img.offset + y * img.strides[0] + x * img.strides[1]] = color;
      }
    }
    return img;
  },
  Rodrigues: (/** @type {any} */ src) => {
    const [x, y, z] = asArray(src).flat;
    const angle = Math.hypot(x, y, z);
    if (angle < 1e-12) return T(np.eye(3), null);
    const [a, b, c] = [x / angle, y / angle, z / angle];
    const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
    const rest = 1 - cosine;
    return T(asArray([[cosine + rest * a * a, rest * a * b - sine * c, rest * a * c + sine * b], [rest * a * b + sine * c, cosine + rest * b * b, rest * b * c - sine * a], [rest * a * c - sine * b, rest * b * c + sine * a, cosine + rest * c * c]]), null);
  },
};
