// The clip that comes with the page, as it was read when the site was written (realtime/app/web/example.py): it moves a rig before any
// network is loaded.
import { DEFAULTS, Retargeter } from "./motion/retargeter.js";
import { RigDriver } from "./rig/driver.js";

/** @typedef {import("./npz.js").NumpyArray} NumpyArray */
/** @typedef {import("./motion/keypoints.js").Keypoints} Keypoints */

/** How numbers were made whole: scale and offset. @type {Record<string, [number, number]>} */
const SCALES = { points: [16384, 2], anchors: [16384, 2], lips: [1024, 2], eyes: [4096, 8], mouth: [4096, 8], head: [4096, 8] };

/** Seconds between the last frame and the first when it begins again. */
const PAUSE = 0.04;

export class Example {
  /** @param {Record<string, NumpyArray>} arrays of the file @param {string[]} names of the keypoints @param {import("./rig/tracker.js").Knowledge} knowledge */
  constructor(arrays, names, knowledge) {
    this.times = /** @type {Float32Array} */ (arrays.times.values);
    this.frames = Array.from(this.times, (_, at) => frameOf(arrays, at));
    this.retargeter = new Retargeter(names, DEFAULTS);
    this.driver = new RigDriver(names, this.retargeter.lids, knowledge);
    /** @type {Keypoints | null} */
    this.avatar = null;
    /** Seconds of all rounds before this one. */
    this.before = 0;
    this.last = 0;
  }

  /**
   * What an avatar with these keypoints does at a time of the clip; null where it rests.
   * @param {Keypoints} avatar @param {number} time in seconds
   */
  motion(avatar, time) {
    const { retargeter, driver, times } = this;
    if (this.avatar !== avatar) {
      this.avatar = avatar;
      retargeter.setAvatar(avatar);
      retargeter.reset(0);
      // Whenever it begins, the first frame is the neutral pose.
      retargeter.move(this.frames[0], this.before + time - PAUSE);
      driver.restart();
    }
    if (time < this.last) this.before += times[times.length - 1] + PAUSE;
    this.last = time;
    let at = times.findIndex((one) => one > time) - 1;
    if (at < 0) at = times.length - 1;
    if (!retargeter.move(this.frames[at], this.before + time) || !retargeter.transferred) return null;
    return driver.motion(retargeter.transferred, avatar, retargeter.settings);
  }
}

/** @param {Record<string, NumpyArray>} arrays @param {number} at @returns {Keypoints} */
function frameOf(arrays, at) {
  const part = (/** @type {string} */ name) => {
    const { shape, values } = arrays[name];
    const size = values.length / shape[0];
    const [scale, offset] = SCALES[name];
    return Float32Array.from({ length: size }, (_, index) => Number(values[at * size + index]) / scale - offset);
  };
  const points = part("points");
  const eyes = part("eyes");
  return {
    points,
    // Which only the network looks at.
    jacobians: Float32Array.from({ length: 2 * points.length }, (_, index) => Number(index % 4 === 0 || index % 4 === 3)),
    confidence: null,
    reading: { eyes: [eyes.slice(0, eyes.length / 2), eyes.slice(eyes.length / 2)], mouth: part("mouth"), head: part("head"), anchors: part("anchors"), lips: part("lips") },
  };
}
