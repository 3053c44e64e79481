// All of one avatar's rig: its head, and the eyes and mouth that are drawn over it. What is worked out once comes from Python, in
// a file (realtime/rig/tables.py); this is what is done per frame.
import { EyeLayers } from "./eyes.js";
import { Head, Sheet } from "./head.js";
import { MouthLayers } from "./mouth.js";
import { pictureFrom } from "./pixels.js";
import { Grid, Surface } from "./surface.js";

/** @typedef {import("../npz.js").NumpyArray} NumpyArray */
/** @typedef {import("./pose.js").HeadPose} HeadPose */
/** @typedef {import("./pixels.js").Picture} Picture */
/** Numbers and arrays of one part of a rig. @typedef {{arrays: Record<string, NumpyArray>, told: any}} Part */
/** The amount of an ARKit name. @typedef {(name: string) => number} Amounts */

/**
 * What one frame shows, whatever the picture's size.
 * @typedef {object} RigMotion
 * @property {HeadPose} pose since rest, its shift in units of the avatar's keypoints
 * @property {Float64Array} residuals (K, 2) in the same units
 * @property {Float32Array | null} amounts (52,); null where they are not read
 */

/** Of the file's format. */
const VERSION = 5;

/** Turns a file of WebP's format into RGBA. @typedef {(data: Uint8Array) => Promise<{width: number, height: number, data: Uint8ClampedArray}>} Decode */

/**
 * The arrays of a file as they were before they were packed: planes as floats, pictures as RGBA.
 * @param {Record<string, NumpyArray>} packed
 * @param {Decode} [decode]
 * @returns {Promise<Part>}
 */
export async function unpacked(packed, decode) {
  const told = JSON.parse(new TextDecoder().decode(/** @type {Uint8Array} */ (packed.told.values)));
  if (told.version !== VERSION) throw new Error(`a rig of version ${told.version}`);
  /** @type {Record<string, NumpyArray>} */
  const arrays = {};
  for (const [name, { shape, values }] of Object.entries(packed)) {
    if (told.scales[name]) {
      const [first, step] = told.scales[name];
      const steps = /** @type {Uint8Array} */ (values);
      const whole = new Float32Array(steps.length / 2);
      const line = shape[shape.length - 1];
      for (let at = 0, value = 0; at < whole.length; at++) {
        value = ((at % line ? value : 0) + steps[at] + (steps[whole.length + at] << 8)) & 65535;
        whole[at] = step * (value + first);
      }
      arrays[name] = { shape: shape.slice(1), values: whole };
    } else if (name.endsWith(".webp")) {
      if (!decode) throw new Error("no pictures can be read");
      const { width, height, data } = await decode(/** @type {Uint8Array} */ (values));
      const own = name.slice(0, -".webp".length);
      const alpha = packed[`${own} alpha`]?.values;
      if (alpha) for (let at = 0; at < alpha.length; at++) data[4 * at + 3] = Number(alpha[at]);
      arrays[own] = { shape: [height, width, 4], values: new Uint8Array(data.buffer) };
    } else {
      arrays[name] = { shape, values };
    }
  }
  return { arrays, told };
}

/** Draws an avatar. */
export class Rig {
  /**
   * @param {Part} file
   * @param {Picture} picture of the avatar, at rest
   */
  constructor({ arrays, told }, picture) {
    this.told = told;
    this.picture = picture;
    const { constants } = told;
    const [height, width] = told.shape;
    this.width = width;
    this.height = height;
    if (picture.width !== width || picture.height !== height) throw new Error("a rig of another picture");
    const part = (/** @type {string} */ prefix, /** @type {any} */ numbers) => {
      const own = Object.entries(arrays).filter(([name]) => name.startsWith(`${prefix} `));
      return { arrays: Object.fromEntries(own.map(([name, array]) => [name.slice(prefix.length + 1), array])), told: numbers };
    };
    this.eyes = /** @type {("left" | "right")[]} */ (["left", "right"]).filter((side) => told.eyes[side]).map((side) => new EyeLayers(side, part(side, told.eyes[side]), constants.eyes));
    this.mouth = told.mouth ? new MouthLayers(part("mouth", told.mouth), constants.mouth, picture) : null;
    const floats = (/** @type {string} */ name) => /** @type {Float32Array} */ (arrays[name].values);
    const grid = (this.grid = new Grid(width, height, told.cell));
    const shape = { body: floats("body"), centre: told.centre, pivot: told.pivot, unit: told.eyes_apart };
    const pinsOf = (/** @type {number} */ index) => [0, 1, 2, 3].map((edge) => (arrays[`sheet ${index} pin ${edge}`] ? floats(`sheet ${index} pin ${edge}`) : null));
    this.surfaces = Array.from({ length: told.sheets }, (_, index) => new Surface(grid, { ...shape, pins: pinsOf(index), turning: floats(`sheet ${index} turning`), head: floats(`sheet ${index} head`), outline: floats(`sheet ${index} outline`) }, constants.surface));
    this.fields = floats("fields");
    this.head = this._headOf(arrays, picture, arrays.plate ? pictureFrom(arrays.plate) : null);
    /** Where it is drawn over another background, or none. @type {Head | null} */
    this.cut = null;
    this.browPlanes = ["left", "right"].filter((side) => arrays[`${side} brow`]).map((side) => ({ side, planes: floats(`${side} brow`), down: told.brows.down[side] }));
    this._brows = new Float32Array(2 * grid.size);
    /** @type {Record<string, number>} */
    this._places = Object.fromEntries(told.names.map((/** @type {string} */ name, /** @type {number} */ index) => [name, index]));
    // Residuals of eyes, which stay where they are, and of brows, which go where their amounts say.
    /** @type {number[]} */
    this._eyeRows = told.still[0];
    /** @type {number[]} */
    this._browRows = told.still[1];
    /** @type {import("./head.js").Patch[]} */
    this._patches = [];
  }

  /**
   * @param {Record<string, NumpyArray>} arrays with the sheets; one that is not there is the picture
   * @param {Picture} rest @param {Picture | null} plate
   */
  _headOf(arrays, rest, plate) {
    const { picture, told, surfaces, fields } = this;
    const sheets = surfaces.map((surface, index) => {
      const flat = arrays[`sheet ${index}`];
      return new Sheet(flat ? pictureFrom(flat) : picture, surface, !flat, told.constants.head);
    });
    return new Head({ picture, rest, plate, sheets, indices: told.parts, widths: told.widths, fields }, told.constants.head);
  }

  /** Be ready to draw without the picture's own background. @param {Part} file */
  setCut({ arrays }) {
    this.cut = this._headOf(arrays, pictureFrom(arrays.rest), null);
  }

  /**
   * Write the avatar in this motion, RGBA, premultiplied where it is cut out.
   * @param {RigMotion} motion @param {Int32Array} out @param {boolean} cut
   */
  draw({ pose, residuals, amounts }, out, cut = false) {
    const { unit } = this.told;
    const moved = { scale: pose.scale, rotation: pose.rotation, shift: [pose.shift[0] * unit, pose.shift[1] * unit] };
    const off = residuals.map((value) => value * unit);
    for (const row of amounts ? [...this._eyeRows, ...this._browRows] : this._eyeRows) off.fill(0, 2 * row, 2 * row + 2);
    this._patches.length = 0;
    let mouth = null;
    let brows = null;
    if (amounts) {
      const value = (/** @type {string} */ name) => amounts[this._places[name]];
      for (const eye of this.eyes) {
        const patch = eye.draw(value);
        if (patch) this._patches.push(patch);
      }
      mouth = this.mouth && this.mouth.motion(value);
      brows = this._moveBrows(value);
    }
    (cut && this.cut ? this.cut : this.head).draw({ pose: moved, residuals: off, patches: this._patches, mouth, brows }, out);
  }

  /** By how far each cell goes; null where none does. @param {Amounts} value */
  _moveBrows(value) {
    const { INNER_TO_OUTER, OUTER_TO_INNER, WIDE, OUTER_DOWN, TOGETHER } = this.told.constants.brows;
    const [[ax, ay], [bx, by]] = this.told.brows.upright;
    const { size } = this.grid;
    const field = this._brows;
    let moves = false;
    for (const { side, planes, down: most } of this.browPlanes) {
      // The picture's left is the face's right.
      const own = side === "left" ? "Right" : "Left";
      const [inner, outer, down] = [value("browInnerUp"), value(`browOuterUp${own}`), value(`browDown${own}`)];
      const wide = WIDE * value(`eyeWide${own}`);
      // Ends hang together.
      const innerRise = Math.max(inner + OUTER_TO_INNER * outer * (1 - inner), wide);
      const outerRise = Math.max(outer + INNER_TO_OUTER * inner * (1 - outer), wide);
      if (Math.max(innerRise, outerRise, down) < 1e-4) continue;
      if (!moves) field.fill(0);
      moves = true;
      const towards = TOGETHER * most * down * (side === "left" ? 1 : -1);
      const fall = most * down;
      // In the face's own axes: aside, and down.
      const steps = [towards, fall, 0, -innerRise, 0.4 * towards, OUTER_DOWN * fall, 0, -outerRise];
      for (let plane = 0; plane < 4; plane++) {
        const [aside, below] = [steps[2 * plane], steps[2 * plane + 1]];
        const [across, along] = [aside * ax + below * bx, aside * ay + below * by];
        if (across === 0 && along === 0) continue;
        const from = plane * size;
        for (let at = 0; at < size; at++) {
          field[at] += across * planes[from + at];
          field[size + at] += along * planes[from + at];
        }
      }
    }
    return moves ? field : null;
  }
}
