// Steady keypoints without delay: the One-Euro filter (Casiez, Roussel and Vogel, CHI 2012). As
// realtime/motion/smoothing.py, where the figures are argued.
import { Origin, Similarity, rigidIndices, spreadOf } from "./similarity.js";

/** @typedef {import("./keypoints.js").Keypoints} Keypoints */

/** Cutoff at rest (hertz), and hertz more per [-1, 1] unit a second. */
const [HEAD_REST, HEAD_RISE] = [0.5, 25];
const [FACE_REST, FACE_RISE] = [0.5, 12];
const [JACOBIAN_REST, JACOBIAN_RISE] = [0.5, 3];

/** Cutoffs of the speeds themselves. */
const [HEAD_SPEED, FACE_SPEED] = [4, 5];

/** Memory of steps that turn back (hertz), and their weight against the speed. */
const [FLICKER_MEMORY, FLICKER_GUARD] = [0.5, 14];

/** What differs by name. @type {Record<string, number>} */
const RISE_OF = { "upper lid": 8, lip: 3, chin: 0.5, collar: 0.5 };
/** @type {Record<string, number>} */
const SPEED_OF = { "upper lid": 20, lip: 10 };
/** @type {Record<string, number>} */
const GUARD_OF = { "upper lid": 10, lip: 20 };

/** After so many seconds without a frame the past says nothing. */
export const LONGEST_GAP = 0.5;

/** Numbers in a row of the filter of keypoints; points fill two of them. */
const WIDTH = 4;

/** Weight of a new sample in an exponential average. @param {number} cutoff @param {number} seconds */
function share(cutoff, seconds) {
  const turn = 2 * Math.PI * cutoff * seconds;
  return turn / (1 + turn);
}

/** The filter for rows of numbers that move together: one cutoff per row. */
export class OneEuro {
  /**
   * @param {Float64Array} rest cutoff at rest in hertz, (N,) as all of these
   * @param {Float64Array} rise hertz more for each unit of speed per second
   * @param {Float64Array} speed cutoff of the speed in hertz
   * @param {Float64Array} guard weight of flicker against the speed
   * @param {Float64Array} first sample (N, width)
   * @param {number} width numbers in a row
   */
  constructor(rest, rise, speed, guard, first, width = WIDTH) {
    this.width = width;
    this.rest = rest;
    this.rise = rise;
    this.speed = speed;
    this.guard = guard;
    this.value = first.slice();
    this.raw = first.slice();
    this.rate = new Float64Array(first.length);
    this.step = new Float64Array(first.length);
    this.flicker = new Float64Array(rest.length);
  }

  /**
   * Take a new sample (N, width), `seconds` after the last, into `value`.
   * @param {Float64Array} sample
   * @param {number} seconds
   * @param {number} strength divides the cutoffs; above 0
   */
  update(sample, seconds, strength) {
    const { width } = this;
    for (let row = 0; row < this.rest.length; row++) {
      let [turned, squared] = [0, 0];
      const follow = share(this.speed[row], seconds);
      for (let at = width * row; at < width * row + width; at++) {
        const step = (sample[at] - this.raw[at]) / seconds;
        this.raw[at] = sample[at];
        this.rate[at] += follow * (step - this.rate[at]);
        turned -= step * this.step[at];
        this.step[at] = step;
        squared += this.rate[at] * this.rate[at];
      }
      this.flicker[row] += share(FLICKER_MEMORY, seconds) * (Math.max(turned, 0) - this.flicker[row]);
      const speed = squared / Math.sqrt(squared + this.guard[row] * this.flicker[row] + 1e-12);
      const weight = share((this.rest[row] + this.rise[row] * speed) / strength, seconds);
      for (let at = width * row; at < width * row + width; at++) {
        this.value[at] += weight * (sample[at] - this.value[at]);
      }
    }
  }
}

/** The anchors of its reading; none where there is none. @param {Keypoints} keypoints @returns {ArrayLike<number> & Iterable<number>} */
const anchorsOf = ({ reading }) => reading?.anchors ?? [];

/** Root of the sum of squares. @param {ArrayLike<number>} values */
const norm = (values) => Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0));

/** Filters keypoints from frame to frame, at any frame rate: the head's motion and the face's within it apart. */
export class Smoother {
  /** Of the last keypoints. @type {number | null} */
  time = null;
  /** @type {OneEuro | null} */
  filter = null;

  /** @param {string[]} names of the keypoints */
  constructor(names) {
    this.names = names;
    this.rigid = rigidIndices(names);
  }

  /** Forget the past; the next keypoints pass as they are. */
  restart() {
    this.time = null;
    this.filter = null;
  }

  /**
   * The filtered keypoints at `time` seconds; themselves where `strength` (0 to 2) is 0.
   * @param {Keypoints} keypoints
   * @param {number} time
   * @param {number} strength
   * @returns {Keypoints}
   */
  smooth(keypoints, time, strength) {
    if (strength <= 0) {
      this.restart();
      return keypoints;
    }
    const seconds = this.time === null ? null : time - this.time;
    this.time = time;
    const rows = 1 + (keypoints.points.length + anchorsOf(keypoints).length + keypoints.jacobians.length / 2) / 2;
    if (seconds === null || this.filter?.rest.length !== rows || !(seconds >= 0 && seconds <= LONGEST_GAP)) {
      this._start(keypoints);
      return keypoints;
    }
    return this._filtered(keypoints, this.filter, Math.max(seconds, 1e-3), strength);
  }

  /**
   * Go on in other coordinates: `change` turns keypoints of the old crop into those of the new one.
   * @param {(keypoints: Keypoints) => Keypoints} change
   */
  remap(change) {
    const { filter, reference } = this;
    if (filter === null || !reference) return;
    const count = filter.rest.length - 1 - reference.length / 2;
    const before = { points: reference, jacobians: Float32Array.from(filter.value.subarray(WIDTH * (1 + count))), confidence: null };
    const after = change(before);
    const move = new Origin(before.points).fit(after.points, 0);
    const grown = norm(after.jacobians) / Math.max(norm(before.jacobians), 1e-9);
    const [byX, byY] = move.apply([0, 0]);
    for (let row = 0; row < filter.rest.length; row++) {
      const factor = row > count ? grown : move.scale;
      filter.flicker[row] *= factor ** 2;
      for (const values of [filter.value, filter.raw, filter.rate, filter.step]) {
        for (let at = WIDTH * row; at < WIDTH * row + WIDTH; at++) values[at] *= factor;
      }
      if (row === 0 || row > count) continue;
      for (const values of [filter.value, filter.raw]) {
        values[WIDTH * row] += byX;
        values[WIDTH * row + 1] += byY;
      }
    }
    this.reference = after.points;
    this.scale = (this.scale ?? 1) * move.scale;
    this.origin = new Origin(after.points, this.rigid);
  }

  /** @param {Keypoints} keypoints */
  _start(keypoints) {
    const count = keypoints.points.length / 2;
    const anchors = anchorsOf(keypoints).length / 2;
    this.scale = spreadOf(keypoints.points).radius || 1;
    this.origin = new Origin(keypoints.points, this.rigid);
    this.reference = keypoints.points;
    /** @param {Record<string, number>} table @param {number} other */
    const byName = (table, other) => (/** @type {number} */ index) => {
      const word = Object.keys(table).find((one) => (this.names[index] ?? "").includes(one));
      return word === undefined ? other : table[word];
    };
    // One filter for all: the head's row, then a row for each keypoint and each anchor of its reading, then for each Jacobian.
    const rows = (
      /** @type {number} */ head,
      /** @type {(index: number) => number} */ face,
      /** @type {number} */ anchor,
      /** @type {number} */ jacobian,
    ) => Float64Array.from({ length: 1 + 2 * count + anchors }, (_, row) => (row === 0 ? head : row <= count ? face(row - 1) : row <= count + anchors ? anchor : jacobian));
    const rise = byName(RISE_OF, 1);
    this.filter = new OneEuro(
      rows(HEAD_REST, () => FACE_REST, FACE_REST, JACOBIAN_REST),
      rows(HEAD_RISE, (index) => FACE_RISE * rise(index), FACE_RISE, JACOBIAN_RISE),
      rows(HEAD_SPEED, byName(SPEED_OF, FACE_SPEED), FACE_SPEED, FACE_SPEED),
      rows(FLICKER_GUARD, byName(GUARD_OF, FLICKER_GUARD), FLICKER_GUARD, FLICKER_GUARD),
      this._rows(keypoints, null).rows,
    );
  }

  /**
   * @param {Keypoints} keypoints
   * @param {OneEuro | null} filter
   */
  _rows(keypoints, filter) {
    const { origin, scale = 1 } = this;
    if (!origin) throw new Error("not started");
    const anchors = anchorsOf(keypoints);
    const count = (keypoints.points.length + anchors.length) / 2;
    const motion = origin.fit(keypoints.points, 0);
    // Tilt and size in the length by which they move a keypoint, so that one speed speaks for all.
    let tilt = scale * motion.angle;
    if (filter !== null) {
      // An angle may pass through half a turn; the filter must not.
      const turn = 2 * Math.PI * scale;
      tilt += turn * Math.round((filter.value[2] - tilt) / turn);
    }
    const rows = new Float64Array(WIDTH * (1 + count) + keypoints.jacobians.length);
    rows.set([...motion.shift, tilt, scale * Math.log(motion.scale)]);
    const inside = motion.undo([...keypoints.points, ...anchors]);
    for (let index = 0; index < count; index++) {
      rows[WIDTH * (1 + index)] = inside[2 * index];
      rows[WIDTH * (1 + index) + 1] = inside[2 * index + 1];
    }
    rows.set(keypoints.jacobians, WIDTH * (1 + count));
    return { rows, motion };
  }

  /**
   * @param {Keypoints} keypoints
   * @param {OneEuro} filter
   * @param {number} seconds
   * @param {number} strength
   * @returns {Keypoints}
   */
  _filtered(keypoints, filter, seconds, strength) {
    const { scale = 1 } = this;
    const { reading } = keypoints;
    const own = keypoints.points.length;
    const count = (own + anchorsOf(keypoints).length) / 2;
    const { rows, motion } = this._rows(keypoints, filter);
    filter.update(rows, seconds, strength);
    const { value } = filter;
    const steady = new Similarity(motion.centre, [value[0], value[1]], value[2] / scale, Math.exp(value[3] / scale));
    const inside = new Float64Array(2 * count);
    for (let index = 0; index < count; index++) {
      inside[2 * index] = value[WIDTH * (1 + index)];
      inside[2 * index + 1] = value[WIDTH * (1 + index) + 1];
    }
    const moved = Float32Array.from(steady.apply(inside));
    return {
      points: moved.slice(0, own),
      jacobians: Float32Array.from(value.subarray(WIDTH * (1 + count))),
      confidence: keypoints.confidence,
      // Its amounts are filtered where they are used, each by its own kind.
      reading: reading && { ...reading, anchors: moved.slice(own) },
    };
  }
}
