// Let the square follow a head that moves away, slowly. As realtime/framing/follow.py and `Framing.follow`, where the
// figures are argued. What is remembered of the driver is then re-expressed, so that the difference stays the same.
import { clamp, meanConfidence, median } from "./keypoints.js";
import { spreadOf } from "./similarity.js";

/** @typedef {import("./keypoints.js").Keypoints} Keypoints */
/** @typedef {import("./framing.js").Square} Square */

/** How far the head may be from its place before the square moves, and how near it is brought back: place, size. */
const DEAD_BAND = [0.12, 0.3];
const CENTRED = [0.02, 0.05];

/** For x, y and the logarithm of the size: seconds of the average, largest speed, its change, and share of the way. */
const SMOOTHING = [0.5, 0.5, 2.5];
const SPEED = [0.3, 0.3, 0.15];
const ACCELERATION = [0.6, 0.6, 0.2];
const GAIN = [1.5, 1.5, 0.8];

const STEP = [1 / 32, 0.04];
const SURE = 0.5;
const HOME_FRAMES = 15;
const PAUSE = 0.5;
const LARGEST_SHIFT = 0.18;

/** In whole pixels: what is really cut. @param {Square} square @returns {Square} */
export const whole = ({ x, y, side }) => ({ x: roundHalfEven(x), y: roundHalfEven(y), side: Math.max(1, roundHalfEven(side)) });

/** As Python rounds. @param {number} value */
function roundHalfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

/** Moves a square after the head whose keypoints are found in it. */
export class Follower {
  /** Places of the head in the first frames, from which its home in the square is taken. @type {number[][]} */
  first = [];
  /** @type {number[] | null} */
  home = null;
  /** @type {number[] | null} */
  head = null;
  /** @type {number | null} */
  time = null;
  speed = [0, 0, 0];
  moving = [false, false];
  /** Where the square is going, of which what is cut takes steps. @type {Square | null} */
  ahead = null;

  /** Learn the head's place in the square anew: after a jump of the square, or another driver. */
  reset() {
    this.first = [];
    this.home = this.head = this.time = this.ahead = null;
    this.speed = [0, 0, 0];
    this.moving = [false, false];
  }

  /**
   * The square to use next in a picture of that size, given the keypoints found in the present one, unflipped; often the
   * same object.
   * @param {Square} square
   * @param {{width: number, height: number}} picture
   * @param {Keypoints} keypoints
   * @param {number} time seconds
   * @returns {Square}
   */
  follow(square, picture, keypoints, time) {
    const moved = this._move(square, keypoints, time);
    if (moved === square) return square;
    const kept = keptInside(moved, square, picture);
    if (kept.x !== moved.x || kept.y !== moved.y || kept.side !== moved.side) {
      this.ahead = kept;
      this.speed = [0, 0, 0];
    }
    return kept;
  }

  /** @param {Square} square @param {Keypoints} keypoints @param {number} time */
  _move(square, keypoints, time) {
    let step = this.time === null ? 0 : time - this.time;
    this.time = time;
    const found = (meanConfidence(keypoints) ?? 1) >= SURE;
    if (!(step > 0 && step < PAUSE)) {
      this.head = null;
      this.speed = [0, 0, 0];
      step = 0;
    }
    if (found) this._see(square, keypoints, step);
    const { home } = this;
    if (home === null || this.head === null || step === 0) return square;
    const ahead = this.ahead ?? square;
    const wanted = found ? this._wanted(ahead, this.head, home) : [0, 0, 0];
    this.speed = this.speed.map((speed, axis) => {
      const change = clamp(wanted[axis] - speed, -ACCELERATION[axis] * step, ACCELERATION[axis] * step);
      return clamp(speed + change, -SPEED[axis], SPEED[axis]);
    });
    // About the head's place, not the middle: zooming then leaves the head where it is.
    const side = ahead.side * Math.exp(this.speed[2] * step);
    const [x, y] = [ahead.x, ahead.y].map((corner, axis) => corner + home[axis] * (ahead.side - side) + this.speed[axis] * step * ahead.side);
    this.ahead = { x, y, side };
    const far = Math.hypot(x - square.x, y - square.y) / square.side >= STEP[0];
    const due = this.speed.every((one) => one === 0) || far || Math.abs(Math.log(side / square.side)) >= STEP[1];
    const same = x === square.x && y === square.y && side === square.side;
    return due && !same ? this.ahead : square;
  }

  /** Take the head's place into the average, in the picture's pixels. @param {Square} square @param {Keypoints} keypoints @param {number} step */
  _see(square, keypoints, step) {
    const { x, y, radius } = spreadOf(keypoints.points);
    const place = [(x + 1) / 2, (y + 1) / 2, Math.max(radius, 1e-3) / 2];
    if (this.home === null) {
      this.first.push(place);
      if (this.first.length < HOME_FRAMES) return;
      this.home = place.map((_, axis) => median(this.first.map((one) => one[axis])));
    }
    const head = [square.x + place[0] * square.side, square.y + place[1] * square.side, Math.log(place[2] * square.side)];
    const before = this.head ?? head;
    this.head = before.map((value, axis) => value + (1 - Math.exp(-step / SMOOTHING[axis])) * (head[axis] - value));
  }

  /** Speed that would bring the head home. @param {Square} square @param {number[]} head @param {number[]} home */
  _wanted(square, head, home) {
    const away = [
      (head[0] - square.x - home[0] * square.side) / square.side,
      (head[1] - square.y - home[1] * square.side) / square.side,
      head[2] - Math.log(home[2] * square.side),
    ];
    const distance = [Math.hypot(away[0], away[1]), Math.abs(away[2])];
    this.moving = this.moving.map((moving, kind) => distance[kind] > (moving ? CENTRED : DEAD_BAND)[kind]);
    return away.map((value, axis) => (this.moving[axis === 2 ? 1 : 0] ? clamp(GAIN[axis] * value, -SPEED[axis], SPEED[axis]) : 0));
  }
}

/**
 * No further beyond the picture's edges than a square that has just been found, or the present one.
 * @param {Square} square
 * @param {Square} present
 * @param {{width: number, height: number}} picture
 * @returns {Square}
 */
function keptInside(square, present, { width, height }) {
  const side = Math.min(square.side, Math.max(present.side, height, width));
  const slack = LARGEST_SHIFT * side;
  return {
    x: clamp(square.x, Math.min(-slack, present.x), Math.max(width - side + slack, present.x)),
    y: clamp(square.y, Math.min(-slack, present.y), Math.max(height - side + slack, present.y)),
    side,
  };
}
