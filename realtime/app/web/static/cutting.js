// A square of a picture in the model's size. Beyond the edges the outermost pixels are repeated, as in
// livepuppet/core/square.py.
import { whole } from "./motion/follow.js";
import { Memory } from "./rig/pixels.js";

/** @typedef {import("./motion/framing.js").Square} Square */

/** Which pixels of a line, and how much of each, make each pixel of a shorter one: the area that it covers. */
class Coverage {
  indices = new Int32Array(0);
  weights = new Float32Array(0);
  taps = 0;
  _known = "";

  /**
   * @param {number} begin of the part, in pixels of the line
   * @param {number} length of the part
   * @param {number} size pixels wanted
   * @param {number} last pixel that there is
   */
  of(begin, length, size, last) {
    const wanted = `${begin} ${length} ${size} ${last}`;
    if (wanted === this._known) return this;
    this._known = wanted;
    const scale = length / size;
    const whole = Number.isInteger(scale);
    const taps = (this.taps = whole ? scale : Math.ceil(scale) + 1);
    if (this.indices.length < size * taps) [this.indices, this.weights] = [new Int32Array(size * taps), new Float32Array(size * taps)];
    for (let at = 0; at < size; at++) {
      const [from, to] = [begin + at * scale, begin + (at + 1) * scale];
      for (let tap = 0; tap < taps; tap++) {
        const pixel = Math.floor(from) + tap;
        this.indices[at * taps + tap] = Math.min(Math.max(pixel, 0), last);
        this.weights[at * taps + tap] = Math.max(0, Math.min(to, pixel + 1) - Math.max(from, pixel)) / scale;
      }
    }
    return this;
  }
}

const across = new Coverage();
const down = new Coverage();
const lines = new Memory(Float32Array);

/**
 * Shrink a part of a picture, each pixel the mean of the area that it covers, into `out` RGB (size, size, 3).
 * @param {Uint8Array | Uint8ClampedArray} rgba (height, width, 4)
 * @param {number} width
 * @param {number} height
 * @param {Square} part in whole pixels, at least `size` wide; may reach beyond the edges
 * @param {number} size
 * @param {boolean} flipped left to right
 * @param {Uint8Array} out
 */
export function shrink(rgba, width, height, part, size, flipped, out) {
  across.of(part.x, part.side, size, width - 1);
  down.of(part.y, part.side, size, height - 1);
  const line = lines.take(3 * width);
  for (let row = 0; row < size; row++) {
    addRow(rgba, width, row, 0, line);
    for (let tap = 2; tap < down.taps; tap += 2) addRow(rgba, width, row, tap, line);
    squeeze(line, 3 * size * row, size, flipped, out);
  }
}

/**
 * Lay two rows of a picture, as far as they are covered, on a line; the first two begin it.
 * @param {Uint8Array | Uint8ClampedArray} rgba @param {number} width
 * @param {number} row that is wanted @param {number} tap @param {Float32Array} line
 */
function addRow(rgba, width, row, tap, line) {
  const at = row * down.taps + tap;
  const two = tap + 1 < down.taps;
  const first = down.weights[at];
  const second = two ? down.weights[at + 1] : 0;
  const other = 4 * width * ((two ? down.indices[at + 1] : down.indices[at]) - down.indices[at]);
  const end = 3 * width;
  let from = 4 * width * down.indices[at];
  if (tap === 0) {
    for (let to = 0; to < end; from += 4, to += 3) {
      line[to] = first * rgba[from] + second * rgba[from + other];
      line[to + 1] = first * rgba[from + 1] + second * rgba[from + other + 1];
      line[to + 2] = first * rgba[from + 2] + second * rgba[from + other + 2];
    }
  } else if (first > 0) {
    for (let to = 0; to < end; from += 4, to += 3) {
      line[to] += first * rgba[from] + second * rgba[from + other];
      line[to + 1] += first * rgba[from + 1] + second * rgba[from + other + 1];
      line[to + 2] += first * rgba[from + 2] + second * rgba[from + other + 2];
    }
  }
}

/** @param {Float32Array} line @param {number} start of the row in `out` @param {number} size @param {boolean} flipped @param {Uint8Array} out */
function squeeze(line, start, size, flipped, out) {
  const { indices, weights, taps } = across;
  for (let column = 0, tap = 0; column < size; column++) {
    let red = 0.5;
    let green = 0.5;
    let blue = 0.5;
    for (const end = tap + taps; tap < end; tap++) {
      const weight = weights[tap];
      const from = 3 * indices[tap];
      red += weight * line[from];
      green += weight * line[from + 1];
      blue += weight * line[from + 2];
    }
    const to = start + 3 * (flipped ? size - 1 - column : column);
    out[to] = red;
    out[to + 1] = green;
    out[to + 2] = blue;
  }
}

/**
 * A square in a part of a picture.
 * @typedef {object} SquareView
 * @property {import("./rig/closeups.js").View} view
 * @property {number} left @property {number} top @property {number} side of the square, in the view's pixels
 * @property {boolean} flipped left to right
 */

/** Side of the picture that close-ups are cut from where a browser does not give a frame's own pixels. */
const CLOSE = 512;

/** Cuts squares of one size, into memory that is used again. */
export class Cutter {
  /** @param {number} size */
  constructor(size) {
    this.size = size;
    this.rgb = new Uint8Array(size * size * 3);
    this.pixels = new Uint8Array(0);
    const context = new OffscreenCanvas(size, size).getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("no canvas");
    this.context = context;
  }

  /** Cuts larger squares. @type {Cutter | null} */
  closely = null;

  /** What the last square was cut from. @type {SquareView | null} */
  seen = null;

  /**
   * The square, RGB (size, size, 3); the same array each time.
   * @param {VideoFrame | ImageBitmap} picture
   * @param {number} width
   * @param {number} height
   * @param {Square} place
   * @param {boolean} flipped left to right
   */
  async cut(picture, width, height, place, flipped) {
    const square = whole(place);
    return (await this._copied(picture, width, height, square, flipped)) ?? this._drawnClosely(picture, width, height, square, flipped);
  }

  /**
   * @param {VideoFrame | ImageBitmap} picture
   * @param {number} width @param {number} height
   * @param {Square} square
   * @param {boolean} flipped
   */
  _drawnClosely(picture, width, height, square, flipped) {
    const side = Math.min(Math.max(square.side, this.size), CLOSE);
    this.closely ??= new Cutter(CLOSE);
    const { pixels } = this.closely._draw(picture, width, height, square, false, side);
    this.seen = { view: { pixels, width: side, height: side }, left: 0, top: 0, side, flipped };
    shrink(pixels, side, side, { x: 0, y: 0, side }, this.size, flipped, this.rgb);
    return this.rgb;
  }

  /**
   * A video's frame gives its pixels in a third of the time that drawing takes; null where this one does not.
   * @param {VideoFrame | ImageBitmap} picture
   * @param {number} width
   * @param {number} height
   * @param {Square} square
   * @param {boolean} flipped
   */
  async _copied(picture, width, height, square, flipped) {
    if (!("copyTo" in picture) || square.side < this.size) return null;
    const { visibleRect, codedWidth, codedHeight } = picture;
    const turned = /** @type {any} */ (picture).rotation || /** @type {any} */ (picture).flip;
    if (turned || !visibleRect || visibleRect.x || visibleRect.y || visibleRect.width !== width || visibleRect.height !== height) return null;
    // Colours lie on every second pixel.
    const [x, y] = [Math.max(0, square.x) & ~1, Math.max(0, square.y) & ~1];
    const wide = Math.min(width, codedWidth, (square.x + square.side + 1) & ~1) - x;
    const high = Math.min(height, codedHeight, (square.y + square.side + 1) & ~1) - y;
    if (wide < 1 || high < 1) return null;
    const wanted = /** @type {any} */ ({ rect: { x, y, width: wide, height: high }, format: "RGBA" });
    try {
      const bytes = picture.allocationSize(wanted);
      if (bytes !== 4 * wide * high) return null;
      if (this.pixels.length < bytes) this.pixels = new Uint8Array(bytes);
      await picture.copyTo(this.pixels.subarray(0, bytes), wanted);
    } catch {
      return null;
    }
    this.seen = { view: { pixels: this.pixels, width: wide, height: high }, left: square.x - x, top: square.y - y, side: square.side, flipped };
    shrink(this.pixels, wide, high, { x: square.x - x, y: square.y - y, side: square.side }, this.size, flipped, this.rgb);
    return this.rgb;
  }

  /**
   * @param {CanvasImageSource} picture
   * @param {number} width
   * @param {number} height
   * @param {Square} square in whole pixels
   * @param {boolean} flipped
   */
  drawn(picture, width, height, square, flipped) {
    const { rgb } = this;
    const { pixels } = this._draw(picture, width, height, square, flipped, this.size);
    for (let from = 0, to = 0; from < pixels.length; from += 4, to += 3) {
      rgb[to] = pixels[from];
      rgb[to + 1] = pixels[from + 1];
      rgb[to + 2] = pixels[from + 2];
    }
    return rgb;
  }

  /**
   * The square as RGBA (size, size, 4), its edges repeated beyond the picture's.
   * @param {CanvasImageSource} picture
   * @param {number} width @param {number} height
   * @param {Square} square in whole pixels
   * @param {boolean} flipped
   * @param {number} size at most the cutter's
   */
  _draw(picture, width, height, { x, y, side }, flipped, size) {
    const { context } = this;
    const scale = size / side;
    context.imageSmoothingQuality = "medium";
    const [left, top] = [Math.max(x, 0), Math.max(y, 0)];
    const [wide, high] = [Math.min(x + side, width) - left, Math.min(y + side, height) - top];
    context.setTransform(flipped ? -1 : 1, 0, 0, 1, flipped ? size : 0, 0);
    if (wide <= 0 || high <= 0) {
      context.clearRect(0, 0, size, size);
    } else {
      const [atX, atY, toX, toY] = [(left - x) * scale, (top - y) * scale, (left - x + wide) * scale, (top - y + high) * scale];
      context.drawImage(picture, left, top, wide, high, atX, atY, toX - atX, toY - atY);
      if (atX > 0) context.drawImage(picture, left, top, 1, high, 0, atY, atX, toY - atY);
      if (toX < size) context.drawImage(picture, left + wide - 1, top, 1, high, toX, atY, size - toX, toY - atY);
      context.setTransform(1, 0, 0, 1, 0, 0);
      const [first, last] = [Math.ceil(atY), Math.min(size, Math.floor(toY)) - 1];
      if (first > 0) context.drawImage(context.canvas, 0, first, size, 1, 0, 0, size, first);
      if (last < size - 1) context.drawImage(context.canvas, 0, last, size, 1, 0, last + 1, size, size - 1 - last);
    }
    const { data } = context.getImageData(0, 0, size, size);
    return { pixels: new Uint8Array(data.buffer) };
  }
}
