// The field that moves a head, or the body behind it, on a coarse grid: see realtime/rig/surface.py.
import { planeAt } from "./pixels.js";
import { heldWithin, split } from "./pose.js";

/** @typedef {import("./pose.js").HeadPose} HeadPose */

/** Numbers of a displacement's basis. */
const BASIS = 19;

/** Cell (i, j) of a grid has its middle at the pixel ((j - .5) cell - .5, (i - .5) cell - .5). */
export class Grid {
  /** @param {number} width @param {number} height of the picture @param {number} cell */
  constructor(width, height, cell) {
    this.cell = cell;
    this.rows = Math.ceil(height / cell) + 2;
    this.columns = Math.ceil(width / cell) + 2;
    this.size = this.rows * this.columns;
    this.across = new Float32Array(this.size);
    this.down = new Float32Array(this.size);
    for (let at = 0; at < this.size; at++) {
      this.across[at] = ((at % this.columns) - 0.5) * cell - 0.5;
      this.down[at] = (Math.floor(at / this.columns) - 0.5) * cell - 0.5;
    }
  }

  /** A plane of the grid at the pixel (x, y). @param {Float32Array} plane @param {number} x @param {number} y */
  at(plane, x, y) {
    const offset = 0.5 / this.cell + 0.5;
    return planeAt(plane, 0, this.columns, this.rows, x / this.cell + offset, y / this.cell + offset);
  }
}

export class Surface {
  /**
   * @param {Grid} grid
   * @param {object} shape
   * @param {Float32Array} shape.turning (2, 4, rows, columns), depth as heads show it that turn right, left, down and up, little and far
   * @param {Float32Array} shape.head (rows, columns), as all of these
   * @param {Float32Array} shape.body
   * @param {Float32Array} shape.outline
   * @param {(Float32Array | null)[]} shape.pins of the left, top, right and bottom edge
   * @param {number[]} shape.centre @param {number[]} shape.pivot @param {number} shape.unit eye distance
   * @param {{SMALL_TILT: number, LARGEST_TILT: number, DISTANCE: number, LARGE: number[], BODY: number, INVERSION: number, LEAST_SIZE: number, LARGEST_STEP: number}} constants
   */
  constructor(grid, { turning, head, body, outline, pins, centre, pivot, unit }, constants) {
    const { size } = grid;
    this.grid = grid;
    this.pins = pins;
    this.pivot = pivot;
    this.unit = unit;
    this.constants = constants;
    const basis = (this.basis = new Float32Array(BASIS * size));
    const [wide, high] = constants.LARGE.map((most) => most * unit);
    for (let at = 0; at < size; at++) {
      const x = grid.across[at] - centre[0];
      const y = grid.down[at] - centre[1];
      const near = Math.min(Math.max(x, -wide), wide);
      const far = Math.min(Math.max(y, -high), high);
      const own = head[at];
      const inner = own * (1 - outline[at]);
      const rest = (1 - own) * body[at];
      const values = [own * x, own * y, inner * x, inner * y, own, rest, rest * x, rest * y, own * near * near, own * near * far, own * far * far];
      for (let plane = 0; plane < 8; plane++) values.push(own * turning[plane * size + at]);
      for (let plane = 0; plane < BASIS; plane++) basis[plane * size + at] = values[plane];
    }
    /** Where what is seen at each cell's middle came from, in pixels. */
    this.x = new Float32Array(size);
    this.y = new Float32Array(size);
    this._moved = new Float32Array(2 * size);
    this._steps = new Float32Array(4 * size);
  }

  /** Work out `x` and `y` in this pose, whose shift is in pixels. @param {HeadPose} wanted */
  source(wanted) {
    this._displace(wanted);
    this._invert();
  }

  /** @param {HeadPose} wanted */
  _displace(wanted) {
    const { grid, basis, pivot, pins, _moved: moved } = this;
    const { size } = grid;
    const pose = heldWithin(wanted, this.constants.LARGEST_TILT);
    const { scale, rotation, shift } = pose;
    const roll = split(rotation)[2];
    const flat = [scale * Math.cos(roll), -scale * Math.sin(roll), scale * Math.sin(roll), scale * Math.cos(roll)];
    const { BODY, DISTANCE } = this.constants;
    const grow = BODY * (scale - 1);
    // What comes nearer grows about the middle between the irises.
    const nearer = [rotation[6] / (DISTANCE * this.unit), rotation[7] / (DISTANCE * this.unit)];
    const small = this._smallness(rotation);
    for (let axis = 0; axis < 2; axis++) {
      const row = 3 * axis;
      const turned = [scale * rotation[row], scale * rotation[row + 1], scale * rotation[row + 2]];
      const neck = turned[0] * pivot[0] + turned[1] * pivot[1] + turned[2] * pivot[2] - pivot[axis];
      const [x, y] = [flat[2 * axis], flat[2 * axis + 1]];
      const weights = [
        x - (axis === 0 ? 1 : 0), y - (axis === 1 ? 1 : 0), turned[0] - x, turned[1] - y,
        shift[axis], BODY * (neck + shift[axis]) - grow * pivot[axis],
        axis === 0 ? grow : 0, axis === 1 ? grow : 0,
        x * nearer[0], x * nearer[1] + y * nearer[0], y * nearer[1],
        0, 0, 0, 0, 0, 0, 0, 0,
      ];
      const way = 11 + 2 * axis + (turned[2] > 0 ? 0 : 1);
      weights[way] = small * turned[2];
      weights[way + 4] = (1 - small) * turned[2];
      const to = axis * size;
      moved.fill(0, to, to + size);
      for (let plane = 0; plane < BASIS; plane++) {
        const weight = weights[plane];
        if (weight === 0) continue;
        const from = plane * size;
        for (let at = 0; at < size; at++) moved[to + at] += weight * basis[from + at];
      }
    }
    for (let edge = 0; edge < 4; edge++) {
      const pin = pins[edge];
      if (!pin) continue;
      const to = (edge % 2) * size;
      const inward = edge < 2 ? 1 : -1;
      for (let at = 0; at < size; at++) {
        if (moved[to + at] * inward > 0) moved[to + at] *= pin[at];
      }
    }
  }

  /** How much of a turned head's depth is that of `SMALL_TILT`, so that the steepest slope goes with the tilt's cotangent. @param {ArrayLike<number>} rotation */
  _smallness(rotation) {
    const flat = Math.max(Math.hypot(rotation[2], rotation[5]), 1e-6);
    const least = 1 / Math.tan(this.constants.LARGEST_TILT);
    const most = 1 / Math.tan(this.constants.SMALL_TILT);
    return Math.min(Math.max((Math.max(rotation[8], 1e-6) / flat - least) / (most - least), 0), 1);
  }

  _invert() {
    // Newton's method.
    const { grid, x, y, _moved: moved, _steps: steps } = this;
    const { rows, columns, size, cell } = grid;
    const { INVERSION, LEAST_SIZE, LARGEST_STEP } = this.constants;
    for (let at = 0; at < 2 * size; at++) moved[at] /= cell;
    for (let row = 0, at = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, at++) {
        const inner = column > 0 && column < columns - 1;
        const middle = row > 0 && row < rows - 1;
        const xx = 1 + (inner ? 0.5 * (moved[at + 1] - moved[at - 1]) : 0);
        const xy = middle ? 0.5 * (moved[at + columns] - moved[at - columns]) : 0;
        const yx = inner ? 0.5 * (moved[size + at + 1] - moved[size + at - 1]) : 0;
        const yy = 1 + (middle ? 0.5 * (moved[size + at + columns] - moved[size + at - columns]) : 0);
        const area = Math.max(xx * yy - xy * yx, LEAST_SIZE);
        steps[at] = yy / area;
        steps[size + at] = -xy / area;
        steps[2 * size + at] = -yx / area;
        steps[3 * size + at] = xx / area;
      }
    }
    const offset = 0.5 / cell + 0.5;
    for (let row = 0, at = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, at++) {
        let across = column - moved[at];
        let down = row - moved[size + at];
        for (let round = 0; round < INVERSION; round++) {
          // As `planeAt`, of six planes at once.
          const placeX = Math.min(Math.max(Math.floor(32 * across + 0.5), 0), 32 * (columns - 1));
          const placeY = Math.min(Math.max(Math.floor(32 * down + 0.5), 0), 32 * (rows - 1));
          const right = (placeX & 31) / 32;
          const below = (placeY & 31) / 32;
          const first = (placeY >> 5) * columns + (placeX >> 5);
          const second = first + (right > 0 ? 1 : 0);
          const third = first + (below > 0 ? columns : 0);
          const fourth = second + third - first;
          const a = (1 - right) * (1 - below);
          const b = right * (1 - below);
          const c = (1 - right) * below;
          const d = right * below;
          const foundX = a * moved[first] + b * moved[second] + c * moved[third] + d * moved[fourth];
          const foundY = a * moved[size + first] + b * moved[size + second] + c * moved[size + third] + d * moved[size + fourth];
          const offX = column - across - foundX;
          const offY = row - down - foundY;
          const xx = a * steps[first] + b * steps[second] + c * steps[third] + d * steps[fourth];
          const xy = a * steps[size + first] + b * steps[size + second] + c * steps[size + third] + d * steps[size + fourth];
          const yx = a * steps[2 * size + first] + b * steps[2 * size + second] + c * steps[2 * size + third] + d * steps[2 * size + fourth];
          const yy = a * steps[3 * size + first] + b * steps[3 * size + second] + c * steps[3 * size + third] + d * steps[3 * size + fourth];
          across += Math.min(Math.max(xx * offX + xy * offY, -LARGEST_STEP), LARGEST_STEP);
          down += Math.min(Math.max(yx * offX + yy * offY, -LARGEST_STEP), LARGEST_STEP);
        }
        x[at] = (across - offset) * cell;
        y[at] = (down - offset) * cell;
      }
    }
  }
}
