// Everything between `detect` and `render`, from frame to frame: smooth; is there a face; take D1; damp the head's motion;
// transfer (Eq. 14-15); eyelids; strength; limits; rest. As realtime/motion/retargeter.py and presence.py.
import { blend, clamp, inverses, isFinite, meanConfidence, products, upperMedian } from "./keypoints.js";
import { Candidates, Fit } from "./neutral.js";
import { Origin, damp, rigidIndices, spreadOf } from "./similarity.js";
import { Smoother } from "./smoothing.js";
import { followLids, lidPairs, limitJacobians, limitPoints, movementScale, openRatio, openings, transfer } from "./transfer.js";

/** @typedef {import("./keypoints.js").Keypoints} Keypoints */
/** @typedef {import("./similarity.js").Similarity} Similarity */

/**
 * How the driver's motion is shown; as realtime/motion/settings.py.
 * @typedef {object} Settings
 * @property {number} strength all movement is multiplied by this, 0 to 2
 * @property {number} smoothing 0 to 2; 0 is off
 * @property {number} shift how much of the head's way across the picture is followed, 0 to 1
 * @property {number} turn how much of its tilt
 * @property {number} zoom how much of coming closer and leaning back
 * @property {number} eyes how far lids close as the driver's do, 0 to 2
 * @property {number} countdown seconds in which the best moment becomes the neutral pose
 */

/** @type {Readonly<Settings>} */
export const DEFAULTS = Object.freeze({ strength: 1, smoothing: 1, shift: 1, turn: 1, zoom: 1, eyes: 1, countdown: 2 });

/**
 * What the keypoints of one frame were made from.
 * @typedef {object} Transferred
 * @property {Keypoints} driving smoothed; those of the last face where there is none now
 * @property {Keypoints} initial D1
 * @property {number} time seconds
 * @property {number} scale how much larger the avatar's face is than the driver's
 * @property {number} share of the motion that is shown
 * @property {ArrayLike<number> | null} opened how far the driver's eyes are open, as a share of D1's
 */

/** A countdown without any face goes on for so many seconds. */
const WAIT_FOR_FACE = 5;

/** When a face counts as lost, and as found again. */
const PRESENCE = { lostBelow: 0.42, foundAbove: 0.5, lostShare: 0.6, foundShare: 0.7, odd: 0.55, usual: 0.45, smallest: 0.4, largest: 2.5, patience: 0.4, rest: 0.5 };

/** 0 to 1 with a soft start and end. @param {number} share */
function eased(share) {
  const held = clamp(share, 0, 1);
  return held * held * (3 - 2 * held);
}

/** Watches whether the face is there. */
class Presence {
  constructor() {
    this.here = true;
    this.lost = false;
    this.life = 1;
    /** @type {number | null} */
    this.gone = null;
    /** @type {number | null} */
    this.time = null;
  }

  /**
   * Whether keypoints look like a face; more is asked of one that was not there before.
   * @param {Keypoints} keypoints
   * @param {Keypoints | null} initial D1; without, confidence alone decides
   * @param {Similarity | null} head the head's motion since D1
   */
  isThere(keypoints, initial, head) {
    const sure = meanConfidence(keypoints);
    if (sure !== null) {
      const [bar, part] = this.here ? [PRESENCE.lostBelow, PRESENCE.lostShare] : [PRESENCE.foundAbove, PRESENCE.foundShare];
      const usual = initial && meanConfidence(initial);
      if (sure < (usual === null ? bar : Math.min(bar, part * usual))) return false;
    }
    if (initial === null || head === null) return true;
    if (!(head.scale > PRESENCE.smallest && head.scale < PRESENCE.largest)) return false;
    const expected = head.apply(initial.points);
    const away = Array.from({ length: expected.length / 2 }, (_, index) =>
      Math.hypot(keypoints.points[2 * index] - expected[2 * index], keypoints.points[2 * index + 1] - expected[2 * index + 1]),
    );
    const oddness = upperMedian(away) / Math.max(head.scale * spreadOf(initial.points).radius, 1e-6);
    return oddness < (this.here ? PRESENCE.odd : PRESENCE.usual);
  }

  /**
   * @param {Keypoints} keypoints
   * @param {Keypoints | null} initial
   * @param {Similarity} head
   * @param {number} time seconds
   */
  update(keypoints, initial, head, time) {
    const elapsed = this.time === null ? 0 : clamp(time - this.time, 0, 1);
    this.time = time;
    this.here = this.isThere(keypoints, initial, head);
    if (this.here) {
      this.gone = null;
      this.lost = false;
    } else {
      this.gone = this.gone === null || time < this.gone ? time : this.gone;
      this.lost = time - this.gone >= PRESENCE.patience;
    }
    const step = elapsed / PRESENCE.rest;
    this.life = clamp(this.life + (this.lost ? -step : step), 0, 1);
  }
}

/** Turns the driver's keypoints into the avatar's. It begins with a countdown, in which the best frame is looked for. */
export class Retargeter {
  presence = new Presence();
  /** D1. @type {Keypoints | null} */
  initial = null;
  /** The driver's last face. @type {Keypoints | null} */
  held = null;
  /** What depends on D1 and the avatar alone. @type {ReturnType<Retargeter["_neutral"]> | null} */
  _known = null;
  ofNoFace = false;
  counting = true;
  countdown = 0;
  /** Seconds. */
  countdownLeft = 0;
  faces = new Candidates();
  others = new Candidates();
  /** @type {number | null} */
  since = null;
  /** @type {Keypoints | null} */
  avatar = null;
  /** @type {Fit | null} */
  score = null;
  /** The fit of D1 in [0, 1]; 0 without one. */
  initialFit = 0;
  /** Of the last frame. @type {Transferred | null} */
  transferred = null;
  /** The fit of the last frame. */
  fit = 0;

  /**
   * @param {string[]} names of the keypoints
   * @param {Settings} settings may be replaced at any time
   */
  constructor(names, settings = DEFAULTS) {
    this.names = names;
    this.settings = settings;
    this.rigid = rigidIndices(names);
    this.lids = lidPairs(names);
    this.smoother = new Smoother(names);
    this.reset(settings.countdown);
  }

  /** @returns {"counting" | "live" | "lost"} */
  get state() {
    return this.counting ? "counting" : this.presence.lost ? "lost" : "live";
  }

  /**
   * Move another avatar from the next frame on. D1 stays: it is the driver's.
   * @param {Keypoints} keypoints
   */
  setAvatar(keypoints) {
    this.avatar = keypoints;
    this.inverse = inverses(keypoints.jacobians);
    this.score = new Fit(keypoints, this.names);
    this._known = null;
    this.initialFit = this.initial ? this.score.of(this.initial) : 0;
  }

  /**
   * Take D1 anew: the next frame, or the best of the next `countdown` seconds.
   * @param {number} countdown
   */
  reset(countdown = 0) {
    this.smoother.restart();
    this.presence = new Presence();
    this.initial = null;
    this.held = null;
    this._known = null;
    this.ofNoFace = false;
    this.counting = true;
    this.countdown = Math.max(0, countdown);
    this.countdownLeft = this.countdown;
    this.faces = new Candidates();
    this.others = new Candidates();
    this.since = null;
  }

  /**
   * The crop went elsewhere: `change` turns keypoints of the old crop into those of the new. D1 stays the pose.
   * @param {(keypoints: Keypoints) => Keypoints} change
   */
  remap(change) {
    this.smoother.remap(change);
    if (this.initial !== null) this.initial = change(this.initial);
    if (this.held !== null) this.held = change(this.held);
    this._known = null;
    for (const { seen } of [this.faces, this.others]) {
      for (const one of seen) one.keypoints = change(one.keypoints);
    }
  }

  /**
   * The keypoints to render for the driver's, captured at `time` seconds of any growing clock; null where the avatar is
   * to be shown at rest.
   * @param {Keypoints} driving
   * @param {number} time
   * @returns {Keypoints | null}
   */
  move(driving, time) {
    if (!isFinite(driving)) return null;
    // D1 was taken while there was no face: now there is one.
    if (this.ofNoFace && this.presence.isThere(driving, null, null)) this.reset(0);
    const smooth = this.smoother.smooth(driving, time, this.settings.smoothing);
    this.fit = this.score ? this.score.of(smooth) : 0;
    if (this.counting && !this._count(smooth, time)) return null;
    const neutral = (this._known ??= this._neutral());
    let head = neutral.origin.fit(smooth.points);
    this.presence.update(smooth, this.initial, head, time);
    let shown = smooth;
    if (this.presence.here) this.held = smooth;
    else if (this.held !== null) {
      // What is no face must not pull at the avatar, not even for the moment until it counts as lost.
      shown = this.held;
      head = neutral.origin.fit(shown.points);
    }
    return this._posed(shown, head, neutral, time);
  }

  _neutral() {
    const { avatar, initial } = this;
    if (avatar === null || initial === null) throw new Error("setAvatar has to be called before move");
    return {
      avatar,
      initial,
      origin: new Origin(initial.points, this.rigid),
      openings: this.lids && openings(initial.points, this.lids),
      carry: products(inverses(initial.jacobians), avatar.jacobians),
      scale: movementScale(avatar, initial),
    };
  }

  /**
   * @param {Keypoints} driving
   * @param {Similarity} head
   * @param {ReturnType<Retargeter["_neutral"]>} neutral
   * @param {number} time
   * @returns {Keypoints}
   */
  _posed(driving, head, neutral, time) {
    const { strength, shift, turn, zoom, eyes } = this.settings;
    const { avatar, initial } = neutral;
    let moved = transfer(damp(driving, head, shift, turn, zoom), initial, avatar, neutral.scale, neutral.carry);
    let ratio = null;
    if (this.lids && neutral.openings && eyes > 0) {
      ratio = openRatio(openings(driving.points, this.lids), neutral.openings);
      moved = followLids(moved, avatar, ratio, this.lids, head.damped(shift, turn, zoom), eyes);
    }
    const share = strength * eased(this.presence.life);
    this.transferred = { driving, initial, time, scale: neutral.scale, share, opened: ratio };
    if (share !== 1) moved = blend(avatar, moved, share);
    return {
      points: limitPoints(moved.points, avatar.points),
      jacobians: limitJacobians(moved.jacobians, avatar.jacobians, this.inverse ?? inverses(avatar.jacobians)),
      confidence: null,
    };
  }

  /**
   * One frame of the countdown. True once D1 is taken.
   * @param {Keypoints} driving
   * @param {number} time
   */
  _count(driving, time) {
    if (this.since === null || time < this.since) this.since = time;
    const elapsed = time - this.since;
    this.countdownLeft = Math.max(0, this.countdown - elapsed);
    const looks = this.presence.isThere(driving, null, null);
    (looks ? this.faces : this.others).add(driving, this.fit);
    const none = this.faces.seen.length === 0;
    if (this.countdown > 0) {
      if (this.countdownLeft > 0) return false;
      if (none && elapsed < this.countdown + WAIT_FOR_FACE) return false;
    }
    this.counting = false;
    this.ofNoFace = this.names.length > 0 && none;
    this.initial = (none ? this.others : this.faces).best();
    this._known = null;
    this.initialFit = this.score ? this.score.of(this.initial) : 0;
    this.faces = new Candidates();
    this.others = new Candidates();
    return true;
  }
}
