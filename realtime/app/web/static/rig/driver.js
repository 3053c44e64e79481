// From the driver's keypoints to what a rig shows: the head's pose, what the face does beyond it, and named amounts. See
// realtime/rig/driver.py, amounts.py and range.py.
import { LONGEST_GAP, OneEuro } from "../motion/smoothing.js";
import { BlendshapeFit } from "./blendshapes.js";
import { held, smooth } from "./pixels.js";
import { joined, split, tamed } from "./pose.js";
import { PoseTracker, placed } from "./tracker.js";

/** @typedef {import("./pose.js").HeadPose} HeadPose */
/** @typedef {import("./rig.js").RigMotion} RigMotion */
/** @typedef {import("./tracker.js").Knowledge} Knowledge */
/** @typedef {import("./closeups.js").FaceReading} FaceReading */
/** @typedef {import("../motion/keypoints.js").Keypoints} Keypoints */
/** @typedef {import("../motion/retargeter.js").Transferred} Transferred */
/** @typedef {import("../motion/retargeter.js").Settings} Settings */

/** @param {number} value @param {number} low @param {number} high */
const within = (value, low, high) => Math.min(Math.max(value, low), high);

/** Small changes made smaller, without a step. @param {number} change @param {number} calm */
function calmed(change, calm) {
  const size = Math.abs(change);
  return size < 2 * calm ? (change * size) / (4 * calm) : change - Math.sign(change) * calm;
}

/** Reads amounts of eyes, brows and mouth off close-ups, relative to the driver's own neutral face. */
export class CloseUpReader {
  /** @param {Knowledge} knowledge @param {string[]} names of the keypoints beside the readings */
  constructor({ constants, blendshapes }, names) {
    this.constants = constants.amounts;
    this.fitted = constants.fitted;
    this.blendshapes = new BlendshapeFit(blendshapes, constants.blendshapes);
    const { NAMES } = this.constants;
    /** @type {number[]} */
    this.shape = this.constants.SHAPE.map((/** @type {string} */ name) => names.indexOf(name));
    const { EYE_AMOUNTS, MOUTH_AMOUNTS, HEAD_AMOUNTS, HEAD_MEASURES } = constants.reading;
    const places = (/** @type {string[]} */ names, first = 0) => Object.fromEntries(names.map((name, at) => [name, first + at]));
    /** @type {Record<string, number>} */
    this.index = places(NAMES);
    /** @type {Record<string, number>} */
    this.eye = places(EYE_AMOUNTS, 3);
    /** @type {Record<string, number>} */
    this.head = places([...HEAD_AMOUNTS, ...HEAD_MEASURES]);
    /** @type {number[]} */
    this.mouth = MOUTH_AMOUNTS.map((/** @type {string} */ name) => this.index[name]);
    this.tongue = 4 + MOUTH_AMOUNTS.indexOf("tongueOut");
    /** @type {FaceReading | null} */
    this.neutral = null;
    this.usual = [1, 1];
    /** Of both brows what is read while their eyes are open: up, down, the inner end up. */
    this.brows = [[0, 0, 0], [0, 0, 0]];
  }

  /** Measure from this face on. @param {FaceReading} reading */
  setNeutral(reading) {
    this.neutral = reading;
    this.usual = reading.eyes.map((eye) => Math.max(eye[0], this.constants.CLOSE_SMALLEST));
    this.brows = [[0, 0, 0], [0, 0, 0]];
  }

  /**
   * How far this face is from the neutral one: (52,), which may go beyond 1.
   * @param {FaceReading} reading
   * @param {Float64Array | null} beyond (K, 2), by how far keypoints have moved beyond what the head did, in eye distances
   * @param {number} turn of the head, in radians
   */
  read(reading, beyond, turn) {
    if (!this.neutral) this.setNeutral(reading);
    const { constants: c, index, neutral } = this;
    const rest = /** @type {FaceReading} */ (neutral);
    const found = new Float32Array(c.NAMES.length);
    for (const [at, place] of this.mouth.entries()) found[place] = calmed(reading.mouth[4 + at] - rest.mouth[4 + at], c.CLOSE_CALM) * c.CLOSE_GAIN[at];
    // Of mouths that speak some tongue is read that nobody puts out.
    found[index.tongueOut] = calmed(reading.mouth[this.tongue] - rest.mouth[this.tongue], c.CLOSE_TONGUE_CALM);
    // Lips that bare the teeth part without the jaw.
    let gap = reading.mouth[0] - rest.mouth[0];
    for (const [name, share] of Object.entries(c.CLOSE_BARED)) {
      gap -= 0.5 * share * Math.max(found[index[`${name}Left`]] + found[index[`${name}Right`]], 0);
    }
    found[index.jawOpen] += c.CLOSE_GAP * (gap / c.CLOSE_OPEN - found[index.jawOpen]);
    if (beyond && Math.min(...this.shape) >= 0) this._readAside(found, beyond, turn);
    this._readLips(found, reading, rest);
    // Of a grin part of its gap is read as the jaw's, though the teeth are shut.
    const bared = 0.5 * Math.min(...Object.keys(c.CLOSE_BARED).map((name) => found[index[`${name}Left`]] + found[index[`${name}Right`]]));
    const shut = Math.min(Math.max(found[index.jawOpen], 0), c.CLOSE_GRIN * Math.max(bared, 0));
    found[index.jawOpen] -= shut * (1 - smooth(c.CLOSE_GRIN_ENDS[0], c.CLOSE_GRIN_ENDS[1], found[index.jawOpen]));
    // The picture's left is the face's right.
    for (const [place, side] of ["Right", "Left"].entries()) {
      const now = reading.eyes[place];
      const was = rest.eyes[place];
      for (const name of ["eyeSquint", "eyeWide"]) found[index[name + side]] = calmed(now[this.eye[name]] - was[this.eye[name]], c.CLOSE_CALM);
      found[index[`eyeBlink${side}`]] = this._blink(now, was, place);
    }
    this._evenLids(found, turn);
    this._readGaze(found, reading.eyes, rest.eyes);
    this._readBrows(found, reading, rest, turn);
    for (let at = 0; at < found.length; at++) found[at] = within(found[at] || 0, c.LOWEST[at], c.HIGHEST[at]);
    return found;
  }

  /**
   * How far the mouth is drawn aside, by landmarks beyond the head's motion.
   * @param {Float32Array} found @param {Float64Array} beyond @param {number} turn
   */
  _readAside(found, beyond, turn) {
    const { constants: c, index } = this;
    const [left, right, upper, nose] = this.shape.map((at) => beyond[2 * at]);
    const believed = 1 - smooth(c.CLOSE_TURNED[0], c.CLOSE_TURNED[1], Math.abs(turn));
    let aside = 0.5 * upper + 0.25 * (left + right) - c.CLOSE_LIKE_NOSE * nose;
    aside = (believed * calmed(aside, c.CLOSE_ASIDE_CALM)) / c.CLOSE_ASIDE;
    // To the picture's right is to the face's own left.
    found[index.mouthLeft] += aside;
    found[index.mouthRight] -= aside;
  }

  /** By the mouth's points. @param {Float32Array} found @param {FaceReading} now @param {FaceReading} rest */
  _readLips(found, now, rest) {
    const { places, columns, gains, measured, unseen, noise } = this.fitted;
    const { CLOSE_CALM, CLOSE_FIT_CALM } = this.constants;
    // What is gone of D1's own smile is less than none.
    const lowest = columns.map((/** @type {number} */ column, /** @type {number} */ at) => (measured[at] ? -1 : unseen[at] ? 0 : Math.min(CLOSE_CALM - gains[at] * rest.mouth[column], 0)));
    const prior = places.map((/** @type {number} */ place) => found[place]);
    const amounts = this.blendshapes.fit(now, rest, prior, noise, lowest);
    for (const [at, place] of places.entries()) if (!measured[at] && !unseen[at]) found[place] = calmed(amounts[at], CLOSE_FIT_CALM);
  }

  /** Lids go down together, but in winks. @param {Float32Array} found @param {number} turn */
  _evenLids(found, turn) {
    const { constants: c, index } = this;
    const [left, right] = [index.eyeBlinkLeft, index.eyeBlinkRight];
    const alike = Math.max(1 - smooth(c.CLOSE_WINK[0], c.CLOSE_WINK[1], Math.abs(found[left] - found[right])), smooth(c.CLOSE_BOTH_SHUT[0], c.CLOSE_BOTH_SHUT[1], Math.min(found[left], found[right])), smooth(c.CLOSE_LIDS_TURNED[0], c.CLOSE_LIDS_TURNED[1], Math.abs(turn)));
    const half = 0.5 * c.CLOSE_LIDS_ALIKE * alike * (found[right] - found[left]);
    found[left] += half;
    found[right] -= half;
  }

  /** How far an eye looks towards the nose, by what has changed of its numbers. @param {Float32Array} now @param {Float32Array} was */
  _inwards(now, was) {
    const change = (/** @type {number} */ at) => now[at] - was[at];
    return 0.5 * (change(1) / this.constants.CLOSE_SIDEWAYS + change(this.eye.eyeLookIn) - change(this.eye.eyeLookOut));
  }

  /** Which share of its opening an eye seems to be less open, since it looks aside. @param {number} inwards */
  _arched(inwards) {
    return this.constants.CLOSE_ARCH * Math.min(Math.abs(inwards), 1);
  }

  /** @param {Float32Array} now @param {Float32Array} was @param {number} place */
  _blink(now, was, place) {
    const { constants: c, usual } = this;
    const share = (now[0] / usual[place]) * (1 + this._arched(this._inwards(now, was)));
    const byLids = (1 - share - c.CALM) / (1 - c.CLOSE_SHUT_AT - c.CALM);
    const { eyeBlink } = this.eye;
    const byAmount = (now[eyeBlink] - was[eyeBlink]) / Math.max(1 - was[eyeBlink], 0.3);
    const step = c.LEARNT * was[0] * (share > 1 ? 0.8 : -0.2);
    const open = Math.max(was[0], c.CLOSE_SMALLEST);
    usual[place] = within(usual[place] + step, c.USUAL[0] * open, c.USUAL[1] * open);
    return Math.max(c.CLOSE_BLINK_GAIN * 0.5 * (byLids + byAmount), 0);
  }

  /** @param {Float32Array} found @param {Float32Array[]} now @param {Float32Array[]} was */
  _readGaze(found, now, was) {
    const { constants: c, index, eye } = this;
    const change = (/** @type {number} */ place, /** @type {number} */ at) => now[place][at] - was[place][at];
    const inwards = [0, 1].map((place) => this._inwards(now[place], was[place]));
    // To the picture's right.
    const aside = [inwards[0], -inwards[1]];
    // Both lids follow a look down.
    const lowered = Math.min(...[0, 1].map((place) => 1 - (now[place][0] / Math.max(was[place][0], c.CLOSE_SMALLEST)) * (1 + this._arched(inwards[place]))));
    const furthest = c.CLOSE_DOWN_OPEN + c.CLOSE_DOWN_LOWERED * Math.max(lowered, 0);
    const down = [0, 1].map((place) => Math.min(change(place, eye.eyeLookDown) - change(place, eye.eyeLookUp) + c.CLOSE_VERTICAL * change(place, 2), furthest));
    const shut = [index.eyeBlinkRight, index.eyeBlinkLeft].map((at) => held(found[at]));
    const weights = shut.map((value) => 1 - (1 - c.CLOSE_BEHIND_LID) * value);
    const crossed = c.CLOSE_OWN_GAZE + (1 - c.CLOSE_OWN_GAZE) * smooth(c.CLOSE_CROSSED[0], c.CLOSE_CROSSED[1], Math.abs(aside[0] - aside[1]));
    const mean = (/** @type {number[]} */ values) => (weights[0] * values[0] + weights[1] * values[1]) / (weights[0] + weights[1]);
    const both = [mean(aside), mean(down)];
    for (const [place, side] of ["Right", "Left"].entries()) {
      // What a shut eye looks at is not seen.
      const sideways = (place ? -1 : 1) * (both[0] + crossed * (1 - shut[place]) * (aside[place] - both[0]));
      const below = both[1] + c.CLOSE_OWN_GAZE * (1 - shut[place]) * (down[place] - both[1]);
      found[index[`eyeLookIn${side}`]] = sideways;
      found[index[`eyeLookOut${side}`]] = -sideways;
      found[index[`eyeLookDown${side}`]] = below;
      found[index[`eyeLookUp${side}`]] = -below;
    }
  }

  /** By where brows are against the eyes, and what the eyes' close-ups tell. @param {Float32Array} found @param {FaceReading} now @param {FaceReading} was @param {number} turn */
  _readBrows(found, now, was, turn) {
    const { constants: c, index, eye } = this;
    const head = (/** @type {string} */ name) => now.head[this.head[name]] - was.head[this.head[name]];
    const nodded = c.CLOSE_BROW_NODDED * head("pitch");
    const seen = ["left", "right"].map((name, place) => {
      const [middle, inner] = [`${name} brow`, `${name} inner brow`].map((part) => calmed(head(part) + nodded, c.CLOSE_PLACE_CALM));
      const [up, down] = [eye.browOuterUp, eye.browDown].map((at) => calmed(now.eyes[place][at] - was.eyes[place][at], c.CLOSE_CALM));
      const raised = 0.5 * (inner / c.CLOSE_BROW_IN + 0.5 * up);
      return [middle / c.CLOSE_BROW_UP + up, -inner / c.CLOSE_BROW_DOWN + down, raised];
    });
    // The corners of an eye that shuts are not where they were: its brow goes with the other one, and while both are shut brows return slowly.
    const shut = ["Right", "Left"].map((side) => smooth(c.CLOSE_BROW_SHUT[0], c.CLOSE_BROW_SHUT[1], found[index[`eyeBlink${side}`]]));
    this.brows = this.brows.map((brow, place) =>
      brow.map((before, at) => {
        const other = 1 - place;
        const unseen = (1 - shut[other]) * seen[other][at] + shut[other] * c.CLOSE_BROW_KEPT * before;
        return shut[place] * unseen + (1 - shut[place]) * seen[place][at];
      }),
    );
    // In perspective brows rise and fall where the head turns, differently on each face.
    const believed = 1 - smooth(c.CLOSE_BROW_TURNED[0], c.CLOSE_BROW_TURNED[1], Math.abs(turn));
    for (const [place, side] of ["Right", "Left"].entries()) {
      found[index[`browOuterUp${side}`]] = believed * this.brows[place][0];
      found[index[`browDown${side}`]] = believed * this.brows[place][1];
    }
    found[index.browInnerUp] = believed * (this.brows[0][2] + this.brows[1][2]);
  }
}

/** The value below which this share of them lies, linearly between two. @param {number[]} values @param {number} share */
function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

/** @param {number} share */
const eased = (share) => smooth(0, 1, share);

/** Learns how far one driver's own face goes, and stretches and steadies amounts. */
export class DriverRange {
  /** @param {Knowledge} knowledge */
  constructor({ constants }) {
    this.constants = constants.range;
    const { NAMES } = constants.amounts;
    this.smiles = ["mouthSmileLeft", "mouthSmileRight"].map((name) => NAMES.indexOf(name));
    this.blinks = ["eyeBlinkLeft", "eyeBlinkRight"].map((name) => NAMES.indexOf(name));
    /** @type {number[][]} */
    this.depths = [];
    /** What is read of the left and right eye in a whole blink. */
    this.whole = [1, 1];
    /** @type {number[] | null} */
    this.deepest = null;
    this.since = 0;
    /** @type {Float32Array | null} */
    this.before = null;
    /** @type {Float32Array[]} */
    this.bends = [];
    this.count = 0;
    this.noise = new Float32Array(NAMES.length);
    /** @type {number[]} */
    this.heights = [];
    this.highest = 0;
    this.strength = 1;
    /** @type {number | null} */
    this.shownStrength = null;
    this.shownAt = 0;
  }

  /** Amounts (52,) at `time` seconds as the avatar is to show them. @param {Float32Array} amounts @param {number} time */
  shown(amounts, time) {
    this.learn(amounts, time);
    const { constants: c, noise, whole, smiles } = this;
    const strength = this._easedStrength(time);
    const result = amounts.map((value, at) => Math.min(value * eased(Math.abs(value) / Math.max(c.QUIET * noise[at], 1e-9)) * (smiles.includes(at) ? strength : 1), 1));
    for (const [eye, at] of this.blinks.entries()) {
      // The deeper, the more: what is nearly open is not stretched.
      if (whole[eye] < 1) result[at] = Math.min(amounts[at] * (1 + (1 / whole[eye] - 1) * eased(amounts[at] / whole[eye])), 1);
    }
    // Who winks with one eye does not wink with the other, whose blinks may read shallower.
    const [left, right] = this.blinks;
    const [more, less] = amounts[left] >= amounts[right] ? [left, right] : [right, left];
    result[less] = Math.min(result[less], result[more]);
    return result;
  }

  /** @param {Float32Array} amounts @param {number} time */
  learn(amounts, time) {
    const { constants: c } = this;
    this._learnBlinks(this.blinks.map((at) => amounts[at]), time);
    this._learnSmiles(Math.max(...this.smiles.map((at) => amounts[at])));
    const { before } = this;
    if (before) {
      this.bends.push(amounts.map((value, at) => Math.abs(value - before[at])));
      if (this.bends.length > c.FRAMES) this.bends.shift();
    }
    this.before = amounts;
    this.count += 1;
    if (this.count >= c.FIRST && this.count % c.EVERY === 0) {
      // Differences of two noises: the quieter third of the time, so that motion does not count.
      for (let at = 0; at < this.noise.length; at++) this.noise[at] = Math.min(quantile(this.bends.map((bend) => bend[at]), 0.33) / (0.43 * Math.SQRT2), c.MOST_NOISE);
    }
  }

  /** @param {number} height */
  _learnSmiles(height) {
    const { constants: c, highest } = this;
    if (height > c.OVER * highest) {
      this.highest = Math.max(height, highest);
      return;
    }
    this.highest = height;
    if (highest <= c.SMILED) return;
    this.heights.push(highest);
    if (this.heights.length > c.REMEMBERED) this.heights.shift();
    const believed = (c.MISREAD * this.heights.length) / (this.heights.length + c.BEFORE);
    this.strength = within((c.USUALLY / quantile(this.heights, c.STRONG)) ** believed, 1 / c.MOST, c.MOST);
  }

  /** @param {number} time */
  _easedStrength(time) {
    const passed = time - this.shownAt;
    this.shownAt = time;
    let shown = this.shownStrength ?? this.strength;
    if (this.shownStrength !== null && passed > 0) shown += (1 - Math.exp(-passed / this.constants.EASES)) * (this.strength - shown);
    this.shownStrength = shown;
    return shown;
  }

  /** @param {number[]} blinks @param {number} time */
  _learnBlinks(blinks, time) {
    const { constants: c } = this;
    const depth = Math.max(...blinks);
    if (this.deepest === null) {
      if (depth > c.BEGINS) {
        // Nobody saw when eyes went shut that are so from the first.
        this.deepest = blinks;
        this.since = this.count ? time : -Infinity;
      }
      return;
    }
    this.deepest = this.deepest.map((value, eye) => Math.max(value, blinks[eye]));
    const deepest = Math.max(...this.deepest);
    if (depth > Math.max(c.ENDS * deepest, c.BEGINS)) return;
    if (time - this.since > 0 && time - this.since <= c.LONGEST && deepest > c.SHALLOWEST && Math.min(...this.deepest) > c.BOTH * deepest) {
      this.depths.push(this.deepest);
      if (this.depths.length > c.REMEMBERED) this.depths.shift();
      this.whole = [0, 1].map((eye) => within(quantile(this.depths.map((one) => one[eye]), c.WHOLE), c.LEAST, 1));
    }
    this.deepest = null;
  }
}

/** Nearer to its input by how much a low-pass filter comes within so many seconds. @param {number} cutoff @param {number} passed */
const nearer = (cutoff, passed) => 1 - Math.exp(-2 * Math.PI * cutoff * passed);

/** A one euro filter of every amount. */
class AmountFilter {
  /** @param {any} constants */
  constructor(constants) {
    this.constants = constants;
    /** @type {number | null} */
    this.time = null;
    /** @type {OneEuro | null} */
    this.filter = null;
  }

  /** @param {Float32Array} amounts @param {number} time @param {number} strength */
  steady(amounts, time, strength) {
    const passed = this.time === null ? null : time - this.time;
    this.time = time;
    if (strength <= 0) return amounts;
    const rows = Float64Array.from(amounts);
    if (this.filter === null || passed === null || !(passed >= 0 && passed <= LONGEST_GAP)) {
      const every = (/** @type {number} */ value) => new Float64Array(amounts.length).fill(value);
      const { AMOUNT_REST, AMOUNT_RISE, AMOUNT_SPEED, AMOUNT_GUARD } = this.constants;
      this.filter = new OneEuro(every(AMOUNT_REST), every(AMOUNT_RISE), every(AMOUNT_SPEED), every(AMOUNT_GUARD), rows, 1);
      return amounts;
    }
    this.filter.update(rows, Math.max(passed, 1e-3), strength);
    return Float32Array.from(this.filter.value);
  }
}

/** A one euro filter of turns and nods; all else is as smooth as the keypoints. */
class TiltFilter {
  /** @param {any} constants */
  constructor(constants) {
    this.constants = constants;
    /** @type {number | null} */
    this.time = null;
    this.tilt = [0, 0];
    this.last = [0, 0];
    this.speed = [0, 0];
  }

  /** @param {HeadPose} pose @param {number} time @returns {HeadPose} */
  steady(pose, time) {
    const { REST_CUTOFF, CUTOFF_PER_SPEED, SPEED_CUTOFF } = this.constants;
    const [x, y, roll] = split(pose.rotation);
    const now = [x, y];
    const passed = this.time === null ? null : time - this.time;
    if (passed !== 0) {
      if (passed === null || !(passed > 0 && passed < 0.5)) {
        this.tilt = now;
        this.speed = [0, 0];
      } else {
        const follows = nearer(SPEED_CUTOFF, passed);
        this.speed = this.speed.map((speed, axis) => speed + follows * ((now[axis] - this.last[axis]) / passed - speed));
        const share = nearer(REST_CUTOFF + CUTOFF_PER_SPEED * Math.hypot(...this.speed), passed);
        this.tilt = this.tilt.map((tilt, axis) => tilt + share * (now[axis] - tilt));
      }
      this.time = time;
      this.last = now;
    }
    return { ...pose, rotation: joined(this.tilt[0], this.tilt[1], roll) };
  }
}

/** Holds the head while its eyes blink: closing lids look like a small nod to whatever reads poses off a face. */
class BlinkHold {
  /** @param {any} constants */
  constructor(constants) {
    this.constants = constants;
    /** @type {number | null} */
    this.time = null;
    this.hold = 0;
    /** @type {number[]} */
    this.anchor = [];
  }

  /** @param {HeadPose} pose @param {number} blink @param {number} unit @param {number} time @returns {HeadPose} */
  steady(pose, blink, unit, time) {
    const { HOLDS, RELEASE, GIVES_WAY, HELD } = this.constants;
    let now = [...split(pose.rotation), Math.log(pose.scale), pose.shift[0] / unit, pose.shift[1] / unit];
    const passed = this.time === null ? null : time - this.time;
    this.time = time;
    if (passed === null || !(passed >= 0 && passed < LONGEST_GAP)) {
      this.hold = 0;
      this.anchor = now;
      return pose;
    }
    this.hold = Math.max(smooth(HOLDS[0], HOLDS[1], blink), this.hold * Math.exp(-passed / RELEASE));
    if (this.hold < 0.02) {
      this.hold = 0;
      this.anchor = now;
      return pose;
    }
    const share = 1 - Math.exp(-passed / GIVES_WAY);
    this.anchor = this.anchor.map((value, at) => value + share * (now[at] - value));
    now = now.map((value, at) => value - this.hold * within(value - this.anchor[at], -HELD[at], HELD[at]));
    return { scale: Math.exp(now[3]), rotation: joined(now[0], now[1], now[2]), shift: [now[4] * unit, now[5] * unit] };
  }
}

/** Remembers D1, and steadies what it reads. */
export class RigDriver {
  /** @param {string[]} names of the keypoints @param {[number, number][] | null} lids pairs of upper and lower ones @param {Knowledge} knowledge */
  constructor(names, lids, knowledge) {
    this.names = names;
    this.lids = lids;
    this.knowledge = knowledge;
    this.reader = new CloseUpReader(knowledge, names);
    this.range = new DriverRange(knowledge);
    /** @type {PoseTracker | null} */
    this.tracker = null;
    /** @type {{avatar: Keypoints, size: number} | null} */
    this.size = null;
    this.places = Object.fromEntries(knowledge.constants.amounts.NAMES.map((/** @type {string} */ name, /** @type {number} */ at) => [name, at]));
    this.filter = new TiltFilter(knowledge.constants.driver);
    this.blinks = new BlinkHold(knowledge.constants.driver);
    this.steady = new AmountFilter(knowledge.constants.driver);
  }

  /** Another avatar is shown, or the driver was away: nothing of the last frame goes on. */
  restart() {
    const { driver } = this.knowledge.constants;
    this.filter = new TiltFilter(driver);
    this.blinks = new BlinkHold(driver);
    this.steady = new AmountFilter(driver);
  }

  /** Whether D1 is a face's that close-ups have read. @param {Keypoints} initial */
  canUse(initial) {
    return this._trackerOf(initial).usable;
  }

  /** @param {Keypoints} initial */
  _trackerOf(initial) {
    if (this.tracker?.initial !== initial) {
      this.tracker = new PoseTracker(this.names, initial, this.knowledge);
      if (initial.reading) this.reader.setNeutral(initial.reading);
    }
    return /** @type {PoseTracker} */ (this.tracker);
  }

  /**
   * What the frame of `told` shows of the avatar with keypoints `avatar`.
   * @param {Transferred} told @param {Keypoints} avatar @param {Settings} settings
   * @returns {RigMotion}
   */
  motion(told, avatar, settings) {
    const { driving, initial, time, share, opened } = told;
    const tracker = this._trackerOf(initial);
    let pose = tracker.pose(driving);
    const residuals = new Float64Array(2 * this.names.length);
    const beyond = new Float64Array(residuals.length);
    // In D1's own frame: what the head itself did is taken back.
    const rigid = tracker.rigid(pose);
    const roll = split(pose.rotation)[2];
    const cosine = Math.cos(roll) / pose.scale;
    const sine = Math.sin(roll) / pose.scale;
    for (let at = 0; at < residuals.length; at += 2) {
      const x = driving.points[at] - rigid[at];
      const y = driving.points[at + 1] - rigid[at + 1];
      for (const [axis, off] of [x * cosine + y * sine, y * cosine - x * sine].entries()) {
        residuals[at + axis] = off * told.scale || 0;
        beyond[at + axis] = off / tracker.unit || 0;
      }
    }
    if (opened && this.lids) {
      // Lids close by shares of their own opening, on every eye.
      for (const [side, [upper, lower]] of this.lids.entries()) {
        const open = Math.max(1 + Math.max(settings.eyes, 1) * (opened[side] - 1), 0);
        for (let axis = 0; axis < 2; axis++) residuals[2 * upper + axis] = residuals[2 * lower + axis] + (1 - open) * (avatar.points[2 * lower + axis] - avatar.points[2 * upper + axis]);
      }
    }
    let amounts = null;
    let blink = 0;
    if (driving.reading) {
      const turn = split(pose.rotation)[1];
      const read = this.steady.steady(this.reader.read(driving.reading, tracker.usable ? beyond : null, turn), time, settings.smoothing);
      blink = Math.max(read[this.places.eyeBlinkLeft], read[this.places.eyeBlinkRight]);
      amounts = this.range.shown(read, time).map((value) => share * value);
    }
    if (settings.smoothing > 0) pose = this.blinks.steady(this.filter.steady(pose, time), blink, tracker.unit, time);
    const scale = tracker.usable ? this._sizeOf(avatar) / tracker.unit : told.scale;
    const moved = { scale: pose.scale, rotation: pose.rotation, shift: [pose.shift[0] * scale, pose.shift[1] * scale] };
    return { pose: tamed(moved, share, settings.shift, settings.turn, settings.zoom), residuals: residuals.map((value) => share * value), amounts };
  }

  /** The avatar's eye distance in space, in units of its keypoints. @param {Keypoints} avatar */
  _sizeOf(avatar) {
    if (this.size?.avatar !== avatar) this.size = { avatar, size: placed(avatar.points, this.names, this.knowledge)?.pose.scale ?? 1 };
    return this.size.size;
  }
}
