// One avatar's head, drawn in any pose: sheets with depth over a plate, each sampled once. See realtime/rig/head.py.
import { OFFSET, SCALE, Sampler, between, byShare, laidOver, pictureOf, sampledAt } from "./pixels.js";

/** @typedef {import("./pixels.js").Picture} Picture */
/** @typedef {import("./surface.js").Surface} Surface */
/** @typedef {import("./surface.js").Grid} Grid */
/** @typedef {import("./pose.js").HeadPose} HeadPose */
/** @typedef {import("./mouth.js").MouthBend} MouthBend */

/**
 * A piece of picture over the avatar's own pixels.
 * @typedef {object} Patch
 * @property {Int32Array} pixels RGB, (h, w); their alpha says how much of them is shown
 * @property {number} width @property {number} height
 * @property {number} left @property {number} top
 * @property {number} drawn counts up whenever it is drawn anew
 */

/**
 * What one frame shows of a head.
 * @typedef {object} HeadState
 * @property {HeadPose} pose since rest, its shift in pixels
 * @property {Float64Array | null} residuals (K, 2) in pixels
 * @property {Patch[]} patches
 * @property {import("./mouth.js").MouthMotion | null} mouth
 * @property {Float32Array | null} brows (2, rows, columns)
 */

/** What blocks show of a layer. A block lies between the middles of four cells, and has the number of the first one. */
const [NOTHING, EDGE, SOLID] = [0, 1, 2];

/** One layer that moves as a whole. */
export class Sheet {
  /**
   * @param {Picture} still RGBA, premultiplied
   * @param {Surface} surface
   * @param {boolean} whole it fills the picture, and beyond its edge goes on
   * @param {{REACHES: number[], AROUND: number, WITHIN: number}} constants
   */
  constructor(still, surface, whole, constants) {
    this.still = still;
    this.surface = surface;
    this.sampler = new Sampler(still);
    this.whole = whole;
    this._reach = whole ? null : new Reach(still, surface.grid, constants);
    /** What blocks show of it. */
    this.seen = new Uint8Array(surface.grid.size).fill(SOLID);
  }

  /** Find what is `seen` now. */
  look() {
    if (this._reach) this._reach.look(this.surface, this.seen);
  }
}

/** Where squares of a layer have some of it, and where they have nothing else: see realtime/rig/head.py. */
class Reach {
  /** @param {Picture} still @param {Grid} grid @param {{REACHES: number[], AROUND: number, WITHIN: number}} constants */
  constructor({ width, height, pixels }, grid, constants) {
    this.width = width;
    this.height = height;
    this.constants = constants;
    const { REACHES } = constants;
    const step = (this.step = Math.max(1, grid.cell >> 1));
    const edge = (this.edge = REACHES[REACHES.length - 1] + 1);
    const rows = (this.rows = Math.ceil(height / step) + 2 * edge);
    const columns = (this.columns = Math.ceil(width / step) + 2 * edge);
    const some = new Uint8Array(rows * columns);
    const other = new Uint8Array(rows * columns);
    for (let row = 0, at = 0; row < height; row++) {
      const line = (Math.floor(row / step) + edge) * columns + edge;
      for (let column = 0; column < width; column++, at++) {
        const alpha = pixels[at] >>> 24;
        const to = line + Math.floor(column / step);
        if (alpha > 0) some[to] = 1;
        if (alpha < 255) other[to] = 1;
      }
    }
    this.tables = REACHES.map((reach) => {
      const mixed = spread(other, rows, columns, reach);
      return spread(some, rows, columns, reach).map((value, at) => (value ? (mixed[at] ? EDGE : SOLID) : NOTHING));
    });
    this._x = new Float32Array(grid.size);
    this._y = new Float32Array(grid.size);
  }

  /** @param {Surface} surface whose cells' middles show its pixels @param {Uint8Array} seen */
  look({ grid, x, y }, seen) {
    const { width, height, step, edge, rows, columns, tables, constants } = this;
    const { REACHES, AROUND, WITHIN } = constants;
    this._x.set(x);
    this._y.set(y);
    atEdges(this._x, grid, width, height);
    atEdges(this._y, grid, width, height);
    const own = grid.columns;
    for (let row = 0; row < grid.rows - 1; row++) {
      for (let column = 0; column < own - 1; column++) {
        const first = row * own + column;
        const left = leastOf(this._x, first, own);
        const right = mostOf(this._x, first, own);
        const top = leastOf(this._y, first, own);
        const bottom = mostOf(this._y, first, own);
        const size = Math.max(right - left, bottom - top);
        let level = 0;
        while (level < REACHES.length && size > 2 * (REACHES[level] * step - AROUND)) level += 1;
        const table = tables[level];
        seen[first] = EDGE;
        if (!table) continue;
        const across = Math.min(Math.max(Math.floor(((left + right) / 2 + 0.5) / step) + edge, 0), columns - 1);
        const down = Math.min(Math.max(Math.floor(((top + bottom) / 2 + 0.5) / step) + edge, 0), rows - 1);
        // Beyond the picture there is nothing, whatever the layer is at its edge.
        const beyond = Math.min(left, top, width - 1 - right, height - 1 - bottom) < -WITHIN;
        seen[first] = Math.min(table[down * columns + across], beyond ? EDGE : SOLID);
      }
    }
  }
}

/**
 * Outermost blocks end where the picture does: have the outermost cells' values at its edges.
 * @param {Float32Array} plane @param {Grid} grid @param {number} width @param {number} height
 */
function atEdges(plane, { rows, columns, cell }, width, height) {
  const ends = [
    [rows, columns, columns, 1, height],
    [columns, 1, rows, columns, width],
  ];
  for (const [count, step, lines, apart, size] of ends) {
    const last = Math.max(size / cell - (count - 2.5), 0);
    for (let line = 0; line < lines; line++) {
      const at = line * apart;
      const end = at + (count - 1) * step;
      plane[at] += 0.5 * (plane[at + step] - plane[at]);
      plane[end] = plane[end - step] + last * (plane[end] - plane[end - step]);
    }
  }
}

/** The least of a block's four values. @param {Float32Array} plane @param {number} first @param {number} columns */
const leastOf = (plane, first, columns) => Math.min(plane[first], plane[first + 1], plane[first + columns], plane[first + columns + 1]);

/** The greatest. @param {Float32Array} plane @param {number} first @param {number} columns */
const mostOf = (plane, first, columns) => Math.max(plane[first], plane[first + 1], plane[first + columns], plane[first + columns + 1]);

/** 1 within `reach` of what is 1. @param {Uint8Array} plane @param {number} rows @param {number} columns @param {number} reach */
function spread(plane, rows, columns, reach) {
  const across = new Uint8Array(plane.length);
  const all = new Uint8Array(plane.length);
  for (let at = 0; at < plane.length; at++) {
    const column = at % columns;
    if (plane[at]) across.fill(1, at - Math.min(reach, column), at + Math.min(reach, columns - 1 - column) + 1);
  }
  for (let at = 0; at < plane.length; at++) {
    if (!across[at]) continue;
    const row = Math.floor(at / columns);
    for (let other = Math.max(row - reach, 0); other <= Math.min(row + reach, rows - 1); other++) all[other * columns + (at % columns)] = 1;
  }
  return all;
}

/** Draws one picture. */
export class Head {
  /**
   * @param {object} parts
   * @param {Picture} parts.picture opaque; at rest it is shown, and patches are parts of it
   * @param {Picture} parts.rest what is shown at rest
   * @param {Picture | null} parts.plate null for none
   * @param {Sheet[]} parts.sheets from behind to the front; the last one has the face
   * @param {number[]} parts.indices of the landmarks that move parts, (P,)
   * @param {number[]} parts.widths of those parts, in pixels
   * @param {Float32Array} parts.fields (P, rows, columns)
   * @param {{FURTHEST: number, STRIP: number, FACE_INVERSION: number, HALFWAY: number, STILL: number}} constants
   */
  constructor({ picture, rest, plate, sheets, indices, widths, fields }, constants) {
    this.picture = picture;
    this.rest = rest;
    this.plate = plate;
    this.sheets = sheets;
    this.indices = indices;
    this.widths = widths;
    this.fields = fields;
    this.constants = constants;
    this.face = sheets[sheets.length - 1];
    this.grid = this.face.surface.grid;
    const { size } = this.grid;
    this._moved = new Uint8Array(size);
    this._field = new Float32Array(2 * size);
    this._seen = new Float32Array(2 * size);
    /** @type {Map<Patch, {drawn: number, left: number, top: number, width: number, height: number}>} */
    this._pasted = new Map();
    this._below = this._behind();
  }

  /** What is behind the face at rest. */
  _behind() {
    const { plate, picture } = this;
    const below = pictureOf(picture.width, picture.height);
    if (plate) below.pixels.set(plate.pixels);
    for (const { still } of this.sheets.slice(0, -1)) {
      for (let at = 0; at < below.pixels.length; at++) below.pixels[at] = laidOver(below.pixels[at], still.pixels[at]);
    }
    return below;
  }

  /** @param {HeadState} state @param {Int32Array} out RGBA of the picture's size */
  draw(state, out) {
    const { sheets, face } = this;
    out.set(this.rest.pixels);
    this._paste(state.patches);
    for (const { surface } of sheets) surface.source(state.pose);
    this._bendFace(state);
    const bend = state.mouth && this._bend(state.mouth);
    if (!this._findMoved(bend)) {
      for (const spot of this._pasted.values()) this._showFlat(spot, out);
      return;
    }
    for (const sheet of sheets) sheet.look();
    this._drawStrips(bend, out);
    if (bend) bend.paint(out, this.picture.width, this.picture.height);
  }

  /** Where the face comes from by what it does itself. @param {HeadState} state */
  _bendFace({ residuals, brows }) {
    const { grid, face, _field: field, _seen: seen } = this;
    const moves = residuals !== null && residuals.some((value) => value !== 0);
    if (!moves && !brows) return;
    if (brows) field.set(brows);
    else field.fill(0);
    if (moves) this._addResiduals(/** @type {Float64Array} */ (residuals), field);
    const { x, y } = face.surface;
    const { size, rows, columns, cell } = grid;
    seen.set(x);
    seen.set(y, size);
    const offset = 0.5 / cell + 0.5;
    const { FACE_INVERSION, HALFWAY } = this.constants;
    for (let at = 0; at < size; at++) {
      for (let round = 0; round < FACE_INVERSION; round++) {
        // As `planeAt`, of both planes: calls would allocate what they are given.
        const across = Math.floor(32 * (x[at] / cell + offset) + 0.5);
        const down = Math.floor(32 * (y[at] / cell + offset) + 0.5);
        const right = (across & 31) / 32;
        const below = (down & 31) / 32;
        const column = across >> 5;
        const row = down >> 5;
        const left = Math.min(Math.max(column, 0), columns - 1);
        const next = Math.min(Math.max(column + 1, 0), columns - 1);
        const upper = Math.min(Math.max(row, 0), rows - 1) * columns;
        const lower = Math.min(Math.max(row + 1, 0), rows - 1) * columns;
        const a = (1 - right) * (1 - below);
        const b = right * (1 - below);
        const c = (1 - right) * below;
        const d = right * below;
        // Where skin is stretched to twice its length rounds swing about the answer.
        const share = round === HALFWAY ? 0.5 : 1;
        x[at] += share * (seen[at] - (a * field[upper + left] + b * field[upper + next] + c * field[lower + left] + d * field[lower + next]) - x[at]);
        const other = size + upper;
        const last = size + lower;
        y[at] += share * (seen[size + at] - (a * field[other + left] + b * field[other + next] + c * field[last + left] + d * field[last + next]) - y[at]);
      }
    }
  }

  /** @param {Float64Array} residuals @param {Float32Array} field */
  _addResiduals(residuals, field) {
    const { indices, widths, fields } = this;
    const { size } = this.grid;
    for (let part = 0; part < indices.length; part++) {
      const across = residuals[2 * indices[part]] || 0;
      const down = residuals[2 * indices[part] + 1] || 0;
      const length = Math.hypot(across, down);
      if (length === 0) continue;
      // A part that went further than it is wide would fold.
      const most = this.constants.FURTHEST * widths[part];
      const factor = (most * Math.tanh(length / most)) / Math.max(length, 1e-9);
      const from = part * size;
      for (let at = 0; at < size; at++) {
        field[at] += factor * across * fields[from + at];
        field[size + at] += factor * down * fields[from + at];
      }
    }
  }

  /** The mouth where it is seen. @param {import("./mouth.js").MouthMotion} mouth */
  _bend(mouth) {
    const { grid, picture } = this;
    const { x, y } = this.face.surface;
    const { rows, columns, cell } = grid;
    const { left, top, right, bottom } = mouth.layers;
    let firstRow = rows;
    let lastRow = -1;
    let firstColumn = columns;
    let lastColumn = -1;
    for (let at = 0; at < grid.size; at++) {
      if (!(x[at] > left && x[at] < right && y[at] > top && y[at] < bottom)) continue;
      const row = Math.floor(at / columns);
      const column = at % columns;
      firstRow = Math.min(firstRow, row);
      lastRow = Math.max(lastRow, row);
      firstColumn = Math.min(firstColumn, column);
      lastColumn = Math.max(lastColumn, column);
    }
    if (lastRow < 0) return null;
    // As far as the middles of the cells beside.
    const half = Math.ceil(cell / 2);
    const begin = [firstColumn, firstRow].map((first) => Math.max((first - 2) * cell + half, 0));
    const end = [Math.min((lastColumn + 1) * cell + half, picture.width), Math.min((lastRow + 1) * cell + half, picture.height)];
    if (Math.min(end[0] - begin[0], end[1] - begin[1]) <= 0) return null;
    return mouth.on(begin[0], begin[1], end[0], end[1], grid, this.face.surface);
  }

  /** Which cells show anything other than at rest. @param {MouthBend | null} bend */
  _findMoved(bend) {
    const { grid, _moved: moved } = this;
    const { size, rows, columns, cell } = grid;
    const { STILL } = this.constants;
    moved.fill(0);
    let any = false;
    for (const { surface } of this.sheets) {
      for (let at = 0; at < size; at++) {
        if (Math.abs(surface.x[at] - grid.across[at]) >= STILL || Math.abs(surface.y[at] - grid.down[at]) >= STILL) moved[at] = 1;
        any ||= moved[at] === 1;
      }
    }
    if (!any && !bend) return false;
    const spots = [...this._pasted.values()];
    if (bend) spots.push({ drawn: 0, left: bend.left, top: bend.top, width: bend.width, height: bend.height });
    for (const { left, top, width, height } of spots) {
      const first = Math.floor(left / cell) + 1;
      const last = Math.min(Math.floor((left + width) / cell) + 2, columns);
      for (let row = Math.floor(top / cell) + 1; row < Math.min(Math.floor((top + height) / cell) + 2, rows); row++) {
        moved.fill(1, row * columns + first, row * columns + last);
      }
    }
    return true;
  }

  /** @param {MouthBend | null} bend @param {Int32Array} out */
  _drawStrips(bend, out) {
    const { grid, picture, _moved: moved } = this;
    const { rows, columns, cell } = grid;
    const { STRIP } = this.constants;
    // Blocks that moved.
    const first = Math.max(Math.floor(moved.indexOf(1) / columns) - 1, 0);
    const last = Math.min(Math.floor(moved.lastIndexOf(1) / columns) + 1, rows - 1);
    const begins = (/** @type {number} */ block, /** @type {number} */ size) => Math.min(Math.max(block * cell - ((cell + 1) >> 1), 0), size);
    for (let row = first; row < last; row += STRIP) {
      const end = Math.min(row + STRIP, last);
      let start = -1;
      for (let column = 0; column < columns; column++) {
        let any = false;
        // There is one block less than there are cells.
        for (let line = row; line <= end && column < columns - 1; line++) {
          any ||= moved[line * columns + column] === 1 || moved[line * columns + column + 1] === 1;
        }
        if (any && start < 0) start = column;
        if (any || start < 0) continue;
        this._drawBlocks(begins(row, picture.height), begins(end, picture.height), begins(start, picture.width), begins(column, picture.width), bend, out);
        start = -1;
      }
    }
  }

  /**
   * Blocks of pixels between the middles of four cells, as far as they lie in these rows and columns.
   * @param {number} top @param {number} bottom @param {number} left @param {number} right
   * @param {MouthBend | null} bend
   * @param {Int32Array} out
   */
  _drawBlocks(top, bottom, left, right, bend, out) {
    const { grid, plate, sheets, face } = this;
    const { columns, cell } = grid;
    const { width } = this.picture;
    const { whole } = face;
    const nodeAt = (/** @type {number} */ pixel) => Math.floor((pixel + 0.5) / cell + 0.5);
    const firstOf = (/** @type {number} */ node) => Math.ceil((node - 0.5) * cell - 0.5);
    for (let row = nodeAt(top); row <= nodeAt(bottom - 1); row++) {
      const y0 = Math.max(firstOf(row), top);
      const y1 = Math.min(firstOf(row + 1), bottom);
      for (let column = nodeAt(left); column <= nodeAt(right - 1); column++) {
        const x0 = Math.max(firstOf(column), left);
        const x1 = Math.min(firstOf(column + 1), right);
        const node = row * columns + column;
        const bent = bend !== null && x1 > bend.left && y1 > bend.top && x0 < bend.left + bend.width && y0 < bend.top + bend.height;
        // Of the sheets, from the front, those that are seen.
        let lowest = sheets.length;
        let solid = false;
        while (lowest > 0 && !solid) {
          const sheet = sheets[--lowest];
          solid = whole || (!(bent && sheet === face) && sheet.seen[node] === SOLID);
        }
        if (!solid) {
          for (let y = y0; y < y1; y++) {
            const at = y * width;
            if (plate) for (let x = x0; x < x1; x++) out[at + x] = plate.pixels[at + x];
            else out.fill(0, at + x0, at + x1);
          }
        }
        for (let index = lowest; index < sheets.length; index++) {
          const sheet = sheets[index];
          const shift = bent && sheet === face ? bend : null;
          if (!shift && sheet.seen[node] === NOTHING) continue;
          layBlock(sheet, node, x0, x1, y0, y1, row, column, solid && index === lowest, whole, shift, out, width);
        }
      }
    }
  }

  /** Lay patches over the flat face, and take the last frame's away. @param {Patch[]} patches */
  _paste(patches) {
    const pasted = this._pasted;
    const { whole } = this.face.sampler;
    const { still } = this.face;
    for (const [patch, spot] of pasted) {
      if (patches.includes(patch)) continue;
      pasted.delete(patch);
      for (let row = spot.top; row < spot.top + spot.height; row++) {
        const from = row * still.width + spot.left;
        whole.pixels.set(still.pixels.subarray(from, from + spot.width), row * whole.width + spot.left);
      }
      this.face.sampler.refresh(spot.top, spot.top + spot.height, spot.left, spot.left + spot.width);
    }
    for (const patch of patches) {
      if (pasted.get(patch)?.drawn === patch.drawn) continue;
      const { left, top, width, height, drawn } = patch;
      pasted.set(patch, { left, top, width, height, drawn });
      this._lay(patch);
      this.face.sampler.refresh(top, top + height, left, left + width);
    }
  }

  /** @param {Patch} patch */
  _lay({ pixels, width, height, left, top }) {
    const { picture } = this;
    const { still } = this.face;
    const { whole } = this.face.sampler;
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const at = (top + row) * picture.width + left + column;
        const own = picture.pixels[at];
        const colour = pixels[row * width + column];
        const flat = still.pixels[at];
        const share = colour >>> 24;
        let shown = 0;
        const full = flat >>> 24;
        for (let shift = 0; shift < 24; shift += 8) {
          const under = (own >>> shift) & 255;
          let value = byShare((colour >>> shift) & 255, share) + byShare(under, 255 - share);
          if (full < 255) {
            // At the figure's edge: what changes in the picture, as far as it is the figure.
            value = ((flat >>> shift) & 255) + Math.floor(((value - under) * full) / 255);
          }
          shown |= (value < 0 ? 0 : value > 255 ? 255 : value) << shift;
        }
        whole.pixels[(top + row) * whole.width + left + column] = shown | (full << 24);
      }
    }
  }

  /** Write what lies flat there. @param {{left: number, top: number, width: number, height: number}} spot @param {Int32Array} out */
  _showFlat({ left, top, width, height }, out) {
    const { whole } = this.face.sampler;
    for (let row = top; row < top + height; row++) {
      for (let column = left; column < left + width; column++) {
        const at = row * this.picture.width + column;
        out[at] = laidOver(this._below.pixels[at], whole.pixels[row * whole.width + column]);
      }
    }
  }
}

/**
 * Sample a sheet in one block, over what is there or instead of it.
 * @param {Sheet} sheet
 * @param {number} node the block's first one
 * @param {number} x0 @param {number} x1 @param {number} y0 @param {number} y1 its pixels
 * @param {number} row @param {number} column of the node
 * @param {boolean} instead
 * @param {boolean} repeats whether the sheet goes on beyond the picture
 * @param {MouthBend | null} bend
 * @param {Int32Array} out
 * @param {number} width of the picture
 */
function layBlock(sheet, node, x0, x1, y0, y1, row, column, instead, repeats, bend, out, width) {
  const { x, y, grid } = sheet.surface;
  const { columns, cell } = grid;
  const { fine } = sheet.sampler;
  const { pixels, width: stride, height } = fine;
  const nodeX = (column - 0.5) * cell - 0.5;
  const nodeY = (row - 0.5) * cell - 0.5;
  // Places in 32nds of a pixel of the enlarged picture, with a half to round them.
  const unit = 32 * SCALE;
  const start = 32 * OFFSET + 0.5;
  const below = node + columns;
  const least = Math.min(x[node], x[node + 1], x[below], x[below + 1]) * SCALE + OFFSET;
  const most = Math.max(x[node], x[node + 1], x[below], x[below + 1]) * SCALE + OFFSET;
  const highest = Math.min(y[node], y[node + 1], y[below], y[below + 1]) * SCALE + OFFSET;
  const lowest = Math.max(y[node], y[node + 1], y[below], y[below + 1]) * SCALE + OFFSET;
  const inside = !bend && least >= 0 && highest >= 0 && most < stride - 2 && lowest < height - 2;
  if (inside) {
    layInside(sheet, node, x0, x1, y0, y1, row, column, instead, out, width);
    return;
  }
  for (let line = y0; line < y1; line++) {
    const down = (line - nodeY) / cell;
    const leftX = x[node] + (x[below] - x[node]) * down;
    const rightX = x[node + 1] + (x[below + 1] - x[node + 1]) * down;
    const leftY = y[node] + (y[below] - y[node]) * down;
    const rightY = y[node + 1] + (y[below + 1] - y[node + 1]) * down;
    const stepX = ((rightX - leftX) / cell) * unit;
    const stepY = ((rightY - leftY) / cell) * unit;
    let atX = leftX * unit + start + stepX * (x0 - nodeX);
    let atY = leftY * unit + start + stepY * (x0 - nodeX);
    let to = line * width + x0;
    const end = line * width + x1;
    const bentRow = bend ? (line - bend.top) * bend.width - bend.left : 0;
    const bentHere = bend !== null && line >= bend.top && line < bend.top + bend.height;
    for (let place = x0; to < end; to++, place++, atX += stepX, atY += stepY) {
      let across = atX;
      let along = atY;
      if (bend && bentHere && place >= bend.left && place < bend.left + bend.width) {
        across += 32 * bend.shiftX[bentRow + place];
        along += 32 * bend.shiftY[bentRow + place];
      }
      const colour = sampledAt(pixels, stride, height, Math.floor(across), Math.floor(along), repeats);
      out[to] = instead || colour >>> 24 === 255 ? colour : laidOver(out[to], colour);
    }
  }
}

/**
 * A block of a sheet that lies inside of it, over what is there or instead of it. A function of its own, given whole numbers alone: others would
 * be allocated at each call.
 * @param {Sheet} sheet @param {number} node
 * @param {number} x0 @param {number} x1 @param {number} y0 @param {number} y1 in pixels of the picture
 * @param {number} row @param {number} column of the node
 * @param {boolean} instead
 * @param {Int32Array} out @param {number} width of the picture
 */
function layInside(sheet, node, x0, x1, y0, y1, row, column, instead, out, width) {
  const { x, y, grid } = sheet.surface;
  const { columns, cell } = grid;
  const { pixels, width: stride } = sheet.sampler.fine;
  const nodeX = (column - 0.5) * cell - 0.5;
  const nodeY = (row - 0.5) * cell - 0.5;
  const unit = 32 * SCALE;
  const start = 32 * OFFSET + 0.5;
  const below = node + columns;
  for (let line = y0; line < y1; line++) {
    const down = (line - nodeY) / cell;
    const leftX = x[node] + (x[below] - x[node]) * down;
    const rightX = x[node + 1] + (x[below + 1] - x[node + 1]) * down;
    const leftY = y[node] + (y[below] - y[node]) * down;
    const rightY = y[node + 1] + (y[below + 1] - y[node + 1]) * down;
    const stepX = ((rightX - leftX) / cell) * unit;
    const stepY = ((rightY - leftY) / cell) * unit;
    let atX = leftX * unit + start + stepX * (x0 - nodeX);
    let atY = leftY * unit + start + stepY * (x0 - nodeX);
    const end = line * width + x1;
    for (let to = line * width + x0; to < end; to++, atX += stepX, atY += stepY) {
      const across = atX | 0;
      const along = atY | 0;
      const from = (Math.imul(along >> 5, stride) + (across >> 5)) | 0;
      const a = pixels[from];
      const b = pixels[from + 1];
      const c = pixels[from + stride];
      const d = pixels[from + stride + 1];
      if ((a | b | c | d) === 0) {
        if (instead) out[to] = 0;
        continue;
      }
      const colour = between(a, b, c, d, across & 31, along & 31);
      out[to] = instead || colour >>> 24 === 255 ? colour : laidOver(out[to], colour);
    }
  }
}
