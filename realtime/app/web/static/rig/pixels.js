// Pictures and planes as typed arrays: sampled, enlarged, mixed and held as OpenCV does it, to within its rounding.

/** RGBA pixels in rows, as whole numbers; and the same memory by bytes. @typedef {{width: number, height: number, pixels: Int32Array, bytes: Uint8Array}} Picture */

/** @param {number} width @param {number} height @returns {Picture} */
export function pictureOf(width, height) {
  const pixels = new Int32Array(width * height);
  return { width, height, pixels, bytes: new Uint8Array(pixels.buffer) };
}

/**
 * RGBA from RGB (opaque) or RGBA.
 * @param {import("../npz.js").NumpyArray} array uint8 (h, w, 3) or (h, w, 4)
 */
export function pictureFrom({ shape: [height, width, channels], values: numbers }) {
  const picture = pictureOf(width, height);
  const values = /** @type {Uint8Array} */ (numbers);
  const { bytes } = picture;
  if (channels === 4) {
    bytes.set(values);
  } else {
    for (let from = 0, to = 0; from < values.length; from += 3, to += 4) {
      bytes[to] = values[from];
      bytes[to + 1] = values[from + 1];
      bytes[to + 2] = values[from + 2];
      bytes[to + 3] = 255;
    }
  }
  return picture;
}

/**
 * A part of a picture.
 * @param {Picture} picture @param {number} left @param {number} top @param {number} width @param {number} height
 */
export function cropOf(picture, left, top, width, height) {
  const crop = pictureOf(width, height);
  for (let row = 0; row < height; row++) {
    const from = (top + row) * picture.width + left;
    crop.pixels.set(picture.pixels.subarray(from, from + width), row * width);
  }
  return crop;
}

/** Within 0 and 1. @param {number} value */
export const held = (value) => (value < 0 ? 0 : value > 1 ? 1 : value);

/** 0 to 1 between two values, with soft ends. @param {number} low @param {number} high @param {number} value */
export function smooth(low, high, value) {
  const t = held((value - low) / (high - low));
  return t * t * (3 - 2 * t);
}

/** Memory that is used again, and grows. @template {Float32Array | Float64Array | Int32Array | Uint8Array} T */
export class Memory {
  /** @param {new (length: number) => T} kind */
  constructor(kind) {
    this.kind = kind;
    this.values = new kind(0);
  }

  /** At least so many numbers, whose content is left from before. @param {number} length @returns {T} */
  take(length) {
    if (this.values.length < length) this.values = new this.kind(Math.ceil(1.3 * length));
    return this.values;
  }
}

const { imul } = Math;

/**
 * Two channels between four pixels, by places in 32nds of a pixel: 255 * 32 fits into their 16 bits. (`imul` and `| 0` spare the engine checks
 * for overflow.)
 * @param {number} a @param {number} b beside @param {number} c below @param {number} d
 * @param {number} x @param {number} y
 */
function pair(a, b, c, d, x, y) {
  const left = 32 - x;
  const above = 32 - y;
  const upper = (imul(a, left) + imul(b, x)) | 0;
  const lower = (imul(c, left) + imul(d, x)) | 0;
  return ((imul(upper & 0xffff, above) + imul(lower & 0xffff, y) + 512) >> 10) | (((imul(upper >>> 16, above) + imul(lower >>> 16, y) + 512) >> 10) << 16);
}

/**
 * The colour between four pixels, by places in 32nds of a pixel. Engines put short functions where they are called; colours that are given to
 * any other are allocated, and those of `pair` are small.
 * @param {number} a @param {number} b beside @param {number} c below @param {number} d
 * @param {number} x @param {number} y
 */
export function between(a, b, c, d, x, y) {
  return pair(a & 0xff00ff, b & 0xff00ff, c & 0xff00ff, d & 0xff00ff, x, y) | (pair((a >>> 8) & 0xff00ff, (b >>> 8) & 0xff00ff, (c >>> 8) & 0xff00ff, (d >>> 8) & 0xff00ff, x, y) << 8);
}

/** @param {number} place in pixels */
export const in32nds = (place) => Math.floor(32 * place + 0.5);

/**
 * The RGBA colour of a picture at (x, y), linearly between pixels, and beyond its edge as there (`repeats`) or nothing.
 * @param {Int32Array} pixels @param {number} width @param {number} height
 * @param {number} x @param {number} y
 * @param {boolean} repeats
 */
export const sampled = (pixels, width, height, x, y, repeats) => sampledAt(pixels, width, height, in32nds(x), in32nds(y), repeats);

/**
 * The same at a place in 32nds of a pixel, in whole ones.
 * @param {Int32Array} pixels @param {number} width @param {number} height
 * @param {number} across @param {number} down
 * @param {boolean} repeats
 */
export function sampledAt(pixels, width, height, across, down, repeats) {
  const column = across >> 5;
  const row = down >> 5;
  if (column >= 0 && row >= 0 && column < width - 1 && row < height - 1) {
    const at = row * width + column;
    return between(pixels[at], pixels[at + 1], pixels[at + width], pixels[at + width + 1], across & 31, down & 31);
  }
  return atEdge(pixels, width, height, column, row, across & 31, down & 31, repeats);
}

/**
 * @param {Int32Array} pixels @param {number} width @param {number} height
 * @param {number} column @param {number} row @param {number} x @param {number} y
 * @param {boolean} repeats
 */
function atEdge(pixels, width, height, column, row, x, y, repeats) {
  if (!repeats && (column < -1 || row < -1 || column >= width || row >= height)) return 0;
  const pixel = (/** @type {number} */ i, /** @type {number} */ j) => {
    if (repeats) return pixels[Math.min(Math.max(j, 0), height - 1) * width + Math.min(Math.max(i, 0), width - 1)];
    return i < 0 || j < 0 || i >= width || j >= height ? 0 : pixels[j * width + i];
  };
  return between(pixel(column, row), pixel(column + 1, row), pixel(column, row + 1), pixel(column + 1, row + 1), x, y);
}

/**
 * A plane at (x, y), linearly between its nodes, which are told apart in 32nds, and beyond them as at the last one.
 * @param {Float32Array} plane @param {number} offset of its first node
 * @param {number} columns @param {number} rows
 * @param {number} x @param {number} y
 */
export function planeAt(plane, offset, columns, rows, x, y) {
  const across = Math.floor(32 * x + 0.5);
  const down = Math.floor(32 * y + 0.5);
  const column = across >> 5;
  const row = down >> 5;
  const right = (across & 31) / 32;
  const below = (down & 31) / 32;
  if (column >= 0 && row >= 0 && column < columns - 1 && row < rows - 1) {
    const at = offset + row * columns + column;
    return (
      (plane[at] * (1 - right) + plane[at + 1] * right) * (1 - below) +
      (plane[at + columns] * (1 - right) + plane[at + columns + 1] * right) * below
    );
  }
  return planeAtEdge(plane, offset, columns, rows, column, row, right, below);
}

/**
 * @param {Float32Array} plane @param {number} offset @param {number} columns @param {number} rows
 * @param {number} column @param {number} row @param {number} right @param {number} below
 */
function planeAtEdge(plane, offset, columns, rows, column, row, right, below) {
  const left = Math.min(Math.max(column, 0), columns - 1);
  const next = Math.min(Math.max(column + 1, 0), columns - 1);
  const first = offset + Math.min(Math.max(row, 0), rows - 1) * columns;
  const second = offset + Math.min(Math.max(row + 1, 0), rows - 1) * columns;
  return (
    (plane[first + left] * (1 - right) + plane[first + next] * right) * (1 - below) +
    (plane[second + left] * (1 - right) + plane[second + next] * right) * below
  );
}

/**
 * The same of a line. (Calls are short, so that compilers put them where they are: others allocate what they are given.)
 * @param {Float32Array} line @param {number} offset of its first node @param {number} count @param {number} x
 */
export function lineAt(line, offset, count, x) {
  const across = Math.floor(32 * x + 0.5);
  const right = (across & 31) / 32;
  const left = offset + Math.min(Math.max(across >> 5, 0), count - 1);
  const next = offset + Math.min(Math.max((across >> 5) + 1, 0), count - 1);
  return line[left] * (1 - right) + line[next] * right;
}

/**
 * `share` of the way from one RGBA colour to another; alpha stays the first's.
 * @param {number} from @param {number} to @param {number} share
 */
export function mixed(from, to, share) {
  const rest = 1 - share;
  const red = ((from & 255) * rest + (to & 255) * share + 0.5) | 0;
  const green = (((from >>> 8) & 255) * rest + ((to >>> 8) & 255) * share + 0.5) | 0;
  const blue = (((from >>> 16) & 255) * rest + ((to >>> 16) & 255) * share + 0.5) | 0;
  return red | (green << 8) | (blue << 16) | (from & 0xff000000);
}

/** A product of two bytes, in shares of 255. @param {number} one @param {number} other */
export function byShare(one, other) {
  const product = Math.imul(one, other) + 128;
  return (product + (product >> 8)) >> 8;
}

/**
 * A premultiplied RGBA colour over another.
 * @param {number} below @param {number} colour
 */
export function laidOver(below, colour) {
  if (colour === 0) return below;
  const clear = 255 - (colour >>> 24);
  // Two channels at a time, as in `between`: each product and its rounding fits into 16 bits.
  let even = (Math.imul(below & 0xff00ff, clear) + 0x800080) | 0;
  even = ((even + ((even >>> 8) & 0xff00ff)) >>> 8) & 0xff00ff;
  let odd = (Math.imul((below >>> 8) & 0xff00ff, clear) + 0x800080) | 0;
  odd = ((odd + ((odd >>> 8) & 0xff00ff)) >>> 8) & 0xff00ff;
  even = (even + (colour & 0xff00ff)) | 0;
  odd = (odd + ((colour >>> 8) & 0xff00ff)) | 0;
  // More than white is white.
  if (even & 0x1000100) even |= (even & 0x1000000 ? 0xff0000 : 0) | (even & 0x100 ? 0xff : 0);
  if (odd & 0x1000100) odd |= (odd & 0x1000000 ? 0xff0000 : 0) | (odd & 0x100 ? 0xff : 0);
  return (even & 0xff00ff) | ((odd & 0xff00ff) << 8);
}

/** RGBA from three numbers, rounded. @param {ArrayLike<number>} colour */
export const packed = (colour) => Math.round(colour[0]) | (Math.round(colour[1]) << 8) | (Math.round(colour[2]) << 16) | 0xff000000;

// Sharp sampling: see realtime/rig/sampling.py.

const [LARGER, SMALLER, SHARPEN] = [5, 4, 0.42];

/** A place in the picture is `SCALE` place + `OFFSET` in the enlarged one. */
export const SCALE = LARGER / SMALLER;
export const OFFSET = (SCALE - 1) / 2 + 1;

/** So many pixels around a changed one change in the enlarged picture. */
const REACH = 3;

/** Where a pixel of the enlarged picture lies among four of the picture, in 2048ths, by its phase; and the first of them. */
const TAPS = Array.from({ length: LARGER }, (_, phase) => {
  const place = ((phase + 0.5) * SMALLER) / LARGER - 0.5;
  const x = place - Math.floor(place);
  const cubic = -0.75;
  const weights = [
    ((cubic * (x + 1) - 5 * cubic) * (x + 1) + 8 * cubic) * (x + 1) - 4 * cubic,
    ((cubic + 2) * x - (cubic + 3)) * x * x + 1,
    ((cubic + 2) * (1 - x) - (cubic + 3)) * (1 - x) * (1 - x) + 1,
  ];
  weights.push(1 - weights[0] - weights[1] - weights[2]);
  return { first: Math.floor(place) - 1, weights: weights.map((weight) => Math.round(2048 * weight)) };
});

const passed = new Memory(Int32Array);
const enlarged = new Memory(Uint8Array);
const columnSums = new Memory(Int32Array);

/** A picture that is sampled at other places in every frame. */
export class Sampler {
  /** @param {Picture} picture is copied */
  constructor(picture) {
    const width = picture.width;
    const height = picture.height;
    this.width = Math.ceil(width / SMALLER) * SMALLER;
    this.height = Math.ceil(height / SMALLER) * SMALLER;
    /** What is written there is seen once it has been refreshed. */
    this.whole = pictureOf(this.width, this.height);
    for (let row = 0; row < this.height; row++) {
      const from = Math.min(row, height - 1) * width;
      this.whole.pixels.set(picture.pixels.subarray(from, from + width), row * this.width);
      this.whole.pixels.fill(picture.pixels[from + width - 1], row * this.width + width, (row + 1) * this.width);
    }
    this.fine = pictureOf((this.width / SMALLER) * LARGER + 2, (this.height / SMALLER) * LARGER + 2);
    this.refresh(0, height, 0, width);
  }

  /** These pixels have changed. @param {number} top @param {number} bottom @param {number} left @param {number} right */
  refresh(top, bottom, left, right) {
    const { width, height, fine } = this;
    const low = (/** @type {number} */ start) => Math.floor(Math.max(start - REACH, 0) / SMALLER) * LARGER;
    const high = (/** @type {number} */ stop, /** @type {number} */ size) => (Math.min(Math.ceil((stop + REACH) / SMALLER) * SMALLER, size) / SMALLER) * LARGER;
    const firstRow = low(top);
    const lastRow = high(bottom, height);
    const firstColumn = low(left);
    const lastColumn = high(right, width);
    // With a pixel around, for the blur.
    const rows = (height / SMALLER) * LARGER;
    const columns = (width / SMALLER) * LARGER;
    const outerTop = Math.max(firstRow - 1, 0);
    const outerBottom = Math.min(lastRow + 1, rows);
    const outerLeft = Math.max(firstColumn - 1, 0);
    const outerRight = Math.min(lastColumn + 1, columns);
    const large = this._enlarge(outerTop, outerBottom, outerLeft, outerRight);
    const stride = 4 * (outerRight - outerLeft);
    const { bytes } = fine;
    const sums = columnSums.take(stride);
    for (let row = firstRow; row < lastRow; row++) {
      // Beyond the picture's edge what is before it.
      const line = row - outerTop;
      const middle = line * stride;
      const above = (row > 0 ? line - 1 : line + 1) * stride;
      const below = (row < rows - 1 ? line + 1 : line - 1) * stride;
      for (let at = 0; at < stride; at++) sums[at] = large[above + at] + large[middle + at] + large[below + at];
      for (let column = firstColumn; column < lastColumn; column++) {
        const at = 4 * (column - outerLeft);
        const before = column > 0 ? at - 4 : at + 4;
        const after = column < columns - 1 ? at + 4 : at - 4;
        const to = 4 * ((row + 1) * fine.width + column + 1);
        for (let channel = 0; channel < 4; channel++) {
          const mean = ((2 * (sums[before + channel] + sums[at + channel] + sums[after + channel]) + 9) / 18) | 0;
          const value = (1 + SHARPEN) * large[middle + at + channel] - SHARPEN * mean + 0.5;
          bytes[to + channel] = value < 0 ? 0 : value > 255 ? 255 : value;
        }
      }
    }
    this._doubleEdges();
  }

  /** The outermost pixels are there twice. */
  _doubleEdges() {
    const { width, height, pixels } = this.fine;
    pixels.copyWithin(0, width, 2 * width);
    pixels.copyWithin((height - 1) * width, (height - 2) * width, (height - 1) * width);
    for (let row = 0; row < height; row++) {
      pixels[row * width] = pixels[row * width + 1];
      pixels[(row + 1) * width - 1] = pixels[(row + 1) * width - 2];
    }
  }

  /**
   * These pixels of the enlarged picture, before it is sharpened.
   * @param {number} top @param {number} bottom @param {number} left @param {number} right
   */
  _enlarge(top, bottom, left, right) {
    const { width, height } = this;
    const { bytes } = this.whole;
    const startOf = (/** @type {number} */ at) => Math.floor(at / LARGER) * SMALLER + TAPS[at % LARGER].first;
    const firstRow = Math.max(startOf(top), 0);
    const lastRow = Math.min(startOf(bottom - 1) + 3, height - 1);
    const columns = right - left;
    const lines = passed.take(4 * columns * (lastRow - firstRow + 1));
    for (let column = left; column < right; column++) {
      const { weights } = TAPS[column % LARGER];
      const start = startOf(column);
      const a = 4 * Math.min(Math.max(start, 0), width - 1);
      const b = 4 * Math.min(Math.max(start + 1, 0), width - 1);
      const c = 4 * Math.min(Math.max(start + 2, 0), width - 1);
      const d = 4 * Math.min(Math.max(start + 3, 0), width - 1);
      const first = weights[0];
      const second = weights[1];
      const third = weights[2];
      const fourth = weights[3];
      for (let row = firstRow; row <= lastRow; row++) {
        const from = 4 * row * width;
        const to = 4 * ((row - firstRow) * columns + column - left);
        for (let channel = 0; channel < 4; channel++) {
          const at = from + channel;
          lines[to + channel] = first * bytes[at + a] + second * bytes[at + b] + third * bytes[at + c] + fourth * bytes[at + d];
        }
      }
    }
    const large = enlarged.take(4 * columns * (bottom - top));
    for (let row = top; row < bottom; row++) {
      const [first, second, third, fourth] = TAPS[row % LARGER].weights;
      const start = startOf(row);
      const [a, b, c, d] = [0, 1, 2, 3].map((tap) => 4 * columns * (Math.min(Math.max(start + tap, 0), height - 1) - firstRow));
      const to = 4 * columns * (row - top);
      for (let at = 0; at < 4 * columns; at++) {
        const value = (first * lines[a + at] + second * lines[b + at] + third * lines[c + at] + fourth * lines[d + at] + (1 << 21)) >> 22;
        large[to + at] = value < 0 ? 0 : value > 255 ? 255 : value;
      }
    }
    return large;
  }
}
