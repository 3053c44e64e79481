// Eyes as layers: the white, the iris under its lights, lids with their lashes. See realtime/rig/eyes.py.
import { OFFSET, SCALE, Sampler, byShare, held, in32nds, laidOver, mixed, pictureFrom, sampledAt, smooth } from "./pixels.js";

/** @typedef {import("./head.js").Patch} Patch */
/** @typedef {import("./rig.js").Part} Part */
/** @typedef {import("./rig.js").Amounts} Amounts */

/**
 * What one eye does: lids in shares of their way, gaze in shares of the way to its ends (right and down positive).
 * @typedef {{blink: number, wide: number, squint: number, across: number, down: number}} EyeAmounts
 */

/**
 * @param {Amounts} amounts
 * @param {"left" | "right"} side of the picture
 * @param {number} strength
 * @param {number} step amounts are told apart by this much
 * @returns {EyeAmounts}
 */
function amountsOf(amounts, side, strength, step) {
  // The picture's left is the face's right.
  const name = side === "left" ? "Right" : "Left";
  const value = (/** @type {string} */ prefix) => amounts(prefix + name);
  const inward = value("eyeLookIn") - value("eyeLookOut");
  const across = side === "left" ? inward : -inward;
  const down = value("eyeLookDown") - value("eyeLookUp");
  const bounded = (/** @type {number} */ amount, least = 0) => step * Math.round(Math.min(Math.max(strength * amount, least), 1) / step);
  const squint = Math.max(value("eyeSquint"), 0.6 * value("cheekSquint"));
  return { blink: bounded(value("eyeBlink")), wide: bounded(value("eyeWide")), squint: bounded(squint), across: bounded(across, -1), down: bounded(down, -1) };
}

/** @param {EyeAmounts} wanted */
const most = ({ blink, wide, squint, across, down }) => Math.max(blink, wide, squint, Math.abs(across), Math.abs(down));

/** One eye. */
export class EyeLayers {
  /** @param {"left" | "right"} side @param {Part} part @param {any} constants */
  constructor(side, { arrays, told }, constants) {
    this.side = side;
    this.told = told;
    this.constants = constants;
    const picture = (/** @type {string} */ name) => pictureFrom(arrays[name]);
    const plane = (/** @type {string} */ name) => /** @type {Float32Array} */ (arrays[name].values);
    const crop = picture("crop");
    this.width = crop.width;
    this.height = crop.height;
    this.crop = crop.pixels;
    this.skin = picture("skin").pixels;
    this.stillUpper = picture("still_upper").pixels;
    this.stillLower = picture("still_lower").pixels;
    this.lashes = picture("lashes");
    this.upperLid = new Sampler(picture("upper_lid"));
    this.lowerLid = new Sampler(picture("lower_lid"));
    this.v = plane("v");
    this.up = plane("up");
    this.low = plane("low");
    this.closed = plane("closed");
    this.arch = plane("arch");
    this.within = plane("within");
    this.cover = plane("cover");
    this.mask = plane("mask");
    this.under = plane("under");
    this.aside = plane("aside");
    this.front = plane("front");
    this.steep = plane("steep");
    this.lashX = plane("lash_x");
    this.lineTall = plane("line_tall");
    this.between = plane("between");
    this.tapers = plane("tapers");
    this.room = plane("room");
    this.follow = plane("follow");
    this.followArch = plane("follow_arch");
    this.coverUpper = plane("cover_upper");
    this.coverLower = plane("cover_lower");
    this.turns = plane("turns");
    /** The white with its shade as alpha, where the eyeball is seen. */
    this.white = told.has_white ? picture("white_ball") : null;
    this.iris = told.has_white ? picture("iris") : null;
    this.glint = arrays.glint ? picture("glint") : null;
    this.ball = told.has_white ? null : new Sampler(picture("ball"));
    const size = this.width * this.height;
    this.upper = new Float32Array(size);
    this.lower = new Float32Array(size);
    this.out = this.crop.slice();
    /** @type {EyeAmounts | null} */
    this.last = null;
    /** @type {Patch} */
    this.patch = { pixels: new Int32Array(size), width: this.width, height: this.height, left: told.left, top: told.top, drawn: 0 };
  }

  /** The eye with these amounts; null for one at rest. @param {Amounts} amounts */
  draw(amounts) {
    const { told, constants, last } = this;
    const wanted = amountsOf(amounts, this.side, told.strength, constants.STEP);
    if (most(wanted) < constants.NOTHING) return null;
    const keys = /** @type {(keyof EyeAmounts)[]} */ (["blink", "wide", "squint", "across", "down"]);
    if (last === null || keys.some((key) => Math.abs(last[key] - wanted[key]) > constants.ALIKE)) {
      this._draw(wanted);
      this.last = wanted;
      this.patch.drawn += 1;
    }
    return this.patch;
  }

  /** @param {EyeAmounts} wanted */
  _draw(wanted) {
    const { told, constants, out, upper, lower, v, width } = this;
    const { blink } = wanted;
    const soft = 1 / told.soft;
    this._edges(wanted);
    const lowered = this._lowered(wanted);
    // From bottom to top: eyeball, lower lid, upper lid, lashes. Beside the corners there is skin alone.
    if (blink < 0.995) this._drawBall(wanted);
    else this._coverBall();
    const shut = smooth(0.3, 0.95, blink);
    const lowerMoves = this._lowerMoves(wanted);
    const gone = told.has_white ? shut : smooth(0.1, 0.5, blink);
    for (let at = told.low_rows[0] * width; at < told.low_rows[1] * width; at++) {
      let colour = this.stillLower[at];
      let cover = this.coverLower[at];
      if (lowerMoves) {
        const away = v[at] - lower[at] - 0.02 * told.width;
        colour = this._slid(this.lowerLid, at, (lower[at] - this.low[at]) * held(1 - away / told.gives_way_below));
        cover = (colour >>> 24) / 255;
      }
      if (shut > 0) {
        const closed = held((v[at] - lower[at]) * soft + 0.5);
        cover = Math.max(cover, closed * shut, this.aside[at]);
      }
      out[at] = mixed(out[at], colour, cover);
      // Lower lashes and the dark rim go under a closed lid.
      if (shut > 0) out[at] = mixed(out[at], this.skin[at], this.under[at] * gone * cover);
    }
    this._drawUpperLid(lowered, soft);
    const lashes = smooth(told.lashes_come[0], told.lashes_come[1], lowered);
    if (lashes > 0) this._drawLashes(lashes);
    if (told.has_front) {
      for (let at = told.front_rows[0] * width; at < told.front_rows[1] * width; at++) out[at] = mixed(out[at], this.crop[at], this.front[at]);
    }
    this._frame(wanted, shut, lowered);
  }

  /**
   * A lid that goes up pushes the skin above it. One that comes down is stretched between its lashes, which sink, and its crease,
   * until unfolded skin takes its place down to the line along its edge.
   * @param {number} lowered the share of its way @param {number} soft
   */
  _drawUpperLid(lowered, soft) {
    const { told, out, upper, v, up, width } = this;
    const [begins, ends] = told.bares;
    const bare = smooth(begins, ends, lowered);
    const late = smooth(told.leaves[0], told.leaves[1], lowered);
    // What hangs beside the corners goes first.
    const sooner = smooth(0.1, 0.5, lowered) * (1 - bare);
    const sunk = 1 - 0.6 * smooth(0, 0.8, lowered);
    const band = told.stiff - told.line;
    for (let at = told.up_rows[0] * width; at < told.up_rows[1] * width; at++) {
      // The skin that unfolds.
      if (lowered > Math.min(begins, 0.1)) out[at] = mixed(out[at], this.skin[at], held((upper[at] - v[at]) * soft + 0.5));
      let colour = this.stillUpper[at];
      let cover = this.coverUpper[at];
      let shift = upper[at] - up[at];
      if (lowered < 0) {
        colour = this._slid(this.upperLid, at, shift * held(1 - (upper[at] - v[at] - told.rigid) / told.gives_way_above));
        cover = (colour >>> 24) / 255;
      } else if (lowered > 0) {
        const away = Math.max(upper[at] - v[at], 0);
        let left = 1;
        if (bare > 0) {
          left = held(2 - away / (this.lineTall[at] * (1 - 0.6 * late))) * this.between[at] * (1 - late * this.tapers[at]);
          left = left * bare + 1 - bare - sooner * (1 - this.between[at]);
        }
        // What hangs over the corners goes along a little.
        const far = this.follow[at] * lowered + this.followArch[at] * lowered * Math.max(1 - lowered, 0);
        shift += (far - shift) * Math.min(away / (0.12 * told.width), 1);
        const above = away - told.line;
        shift += Math.min(Math.max(above, 0) * (1 / sunk - 1), band * (1 - sunk));
        colour = this._slid(this.upperLid, at, shift * held(1 - (above - band * sunk) / (this.room[at] + shift)));
        cover = ((colour >>> 24) / 255) * left;
      }
      out[at] = mixed(out[at], colour, cover);
    }
  }

  /** A pixel of a lid drawn `shift` pixels further down. @param {Sampler} lid @param {number} at @param {number} shift */
  _slid({ fine }, at, shift) {
    const { width, told } = this;
    const x = SCALE * ((at % width) - shift * told.down[0]) + OFFSET;
    const y = SCALE * (Math.floor(at / width) - shift * told.down[1]) + OFFSET;
    return sampledAt(fine.pixels, fine.width, fine.height, in32nds(x), in32nds(y), true);
  }

  /** @param {EyeAmounts} wanted */
  _lowered({ blink, wide, squint, down }) {
    const { told } = this;
    const tall = Math.max(told.tall, 1);
    const follow = ((0.6 * told.to_down) / tall) * Math.max(down, 0) - ((0.3 * told.to_up) / tall) * Math.max(-down, 0) - (told.rise / tall) * wide + 0.1 * squint;
    return follow * (1 - blink) + blink;
  }

  /** @param {EyeAmounts} wanted */
  _rise({ blink, squint, down }) {
    const { told } = this;
    // The lower lid gives way to an eye that looks down, and follows one that looks up.
    const follow = 0.55 * told.to_up * Math.max(-down, 0) * Math.max(1 - 2 * blink, 0) - 0.2 * told.to_down * Math.max(down, 0);
    return (told.squint * squint + (told.has_white ? follow / Math.max(told.tall, 1) : 0)) * (1 - blink);
  }

  /** @param {EyeAmounts} wanted */
  _lowerMoves(wanted) {
    return wanted.blink > 0 || this._rise(wanted) !== 0;
  }

  /** Heights of both lids' edges at every pixel. @param {EyeAmounts} wanted */
  _edges(wanted) {
    const { up, low, closed, upper, lower } = this;
    const { blink } = wanted;
    const lowered = this._lowered(wanted);
    const rise = this._rise(wanted);
    for (let at = 0; at < up.length; at++) {
      const line = closed[at];
      let edge = low[at];
      edge += (Math.min(line, edge) - edge) * blink - (low[at] - up[at]) * rise;
      lower[at] = edge;
      // It comes to lie over the lower one.
      let end = edge + 0.3;
      if (blink > 0.5) end += Math.max(line - edge, 0) * (2 * blink - 1);
      // Its edge stays an arch for a while: an opening gets narrower as well.
      const way = lowered > 0 ? lowered * (1 + this.arch[at] * Math.max(1 - lowered, 0)) : lowered;
      upper[at] = lowered === 0 ? up[at] : Math.min(up[at] + (line - up[at]) * way, end);
    }
  }

  /** How far the iris goes, in pixels. @param {EyeAmounts} wanted @returns {[number, number]} */
  _gaze(wanted) {
    const { across: aside, down: below, blink } = wanted;
    const { told } = this;
    const [far, turn] = aside > 0 ? [told.to_right, told.turn_right] : [told.to_left, told.turn_left];
    // Held softly where the corner is near.
    const across = (far * aside * turn) / (1 + (turn - 1) * Math.abs(aside));
    let down = below * (below > 0 ? told.to_down : told.to_up);
    if (told.has_white) {
      if (down < 0) {
        // Of an iris that turns up a third is seen below a lid that comes down, as long as so much is at rest: white below it says
        // where it looks.
        const [edge, way, arch] = told.before_iris;
        const lowered = Math.max(this._lowered(wanted), 0);
        const middle = edge + way * lowered * (1 + arch * Math.max(1 - lowered, 0)) - told.iris_v;
        const hidden = middle - this.constants.UP_UNDER * told.radius;
        down = Math.max(down, Math.min(hidden, 0));
      }
      // A lid that closes turns the eye a little down.
      down += 0.16 * told.tall * blink;
    }
    const [x, y] = told.aside;
    return [across * x - down * y, across * y + down * x];
  }

  /** The eyeball in this gaze and the lids' shade; a blink's shade is deeper. @param {EyeAmounts} wanted */
  _drawBall(wanted) {
    const { told, out, v, upper, lower, width, white, iris, glint, ball } = this;
    const [[top, bottom], [left, right]] = told.ball_at;
    const [dx, dy] = this._gaze(wanted);
    // What is left of it between lids that nearly meet is dark.
    const deepest = told.dims[1] * smooth(told.dims[0], 0.8, wanted.blink);
    // Its shades and corners stay between the lids.
    const moved = this._lowered(wanted) !== 0 || this._lowerMoves(wanted);
    const fade = -this.constants.SHADE / told.width;
    // A ball turns: the disc narrows towards the side.
    const squeeze = 1 / Math.max(1 - 0.1 * wanted.across * wanted.across, 0.5) - 1;
    const [a, b] = told.along;
    const turn = [1 + squeeze * a * a, squeeze * a * b, 1 + squeeze * b * b];
    const middleX = told.iris_x + dx;
    const middleY = told.iris_y + dy;
    for (let row = top; row < bottom; row++) {
      for (let column = left; column < right; column++) {
        const at = row * width + column;
        let colour = 0;
        if (ball) {
          const x = SCALE * (column - this.turns[at] * dx) + OFFSET;
          const y = SCALE * (row - this.turns[at] * dy) + OFFSET;
          colour = sampledAt(ball.fine.pixels, ball.fine.width, ball.fine.height, in32nds(x), in32nds(y), true) | 0xff000000;
        } else if (white && iris) {
          let placeX = column - left;
          let placeY = row - top;
          if (moved) {
            const share = Math.min(Math.max((v[at] - upper[at]) / Math.max(lower[at] - upper[at], 0.5), -0.1), 1.1);
            const shift = this.up[at] + share * (this.low[at] - this.up[at]) - v[at];
            placeX += shift * told.down[0];
            placeY += shift * told.down[1];
          }
          const ground = sampledAt(white.pixels, white.width, white.height, in32nds(placeX), in32nds(placeY), true);
          const shade = ground >>> 24;
          colour = ground | 0xff000000;
          const x = column - middleX;
          const y = row - middleY;
          const disc = sampledAt(iris.pixels, iris.width, iris.height, in32nds(told.iris_size + turn[0] * x + turn[1] * y), in32nds(told.iris_size + turn[1] * x + turn[2] * y), false);
          if (disc !== 0) {
            const dimmed = (/** @type {number} */ shift) => byShare((disc >>> shift) & 255, shade) << shift;
            colour = laidOver(colour, dimmed(0) | dimmed(8) | dimmed(16) | (disc & 0xff000000));
          }
          const cover = disc >>> 24;
          if (glint && cover) {
            // The cornea is a ball in front of the iris: its lights go less far.
            const light = sampledAt(glint.pixels, glint.width, glint.height, in32nds(column - left - this.constants.GLINT * dx), in32nds(row - top - this.constants.GLINT * dy), false);
            if (light !== 0) {
              const part = (/** @type {number} */ shift) => byShare((light >>> shift) & 255, cover) << shift;
              colour = laidOver(colour, part(0) | part(8) | part(16) | part(24));
            }
          }
        }
        if (deepest > 0) {
          const shade = Math.exp(Math.max(v[at] - upper[at], 0) * fade) + 0.5 * Math.exp(Math.max(lower[at] - v[at], 0) * 2 * fade);
          const light = 255 - Math.min(Math.round(255 * deepest * shade), 255);
          colour = byShare(colour & 255, light) | (byShare((colour >>> 8) & 255, light) << 8) | (byShare((colour >>> 16) & 255, light) << 16) | (colour & 0xff000000);
        }
        out[at] = colour;
      }
    }
  }

  /** Skin where the eyeball is seen when the lids are open. */
  _coverBall() {
    const [[top, bottom], [left, right]] = this.told.ball_at;
    for (let row = top; row < bottom; row++) {
      const first = row * this.width;
      this.out.set(this.skin.subarray(first + left, first + right), first + left);
    }
  }

  /** The band of lashes along the moved edge. @param {number} seen how much of it there is, 0 to 1 */
  _drawLashes(seen) {
    const { told, out, v, upper, width, lashes } = this;
    // They are short as long as they point forward.
    const stretch = 1 / (0.5 + 0.5 * seen);
    const middle = 0.5 * (lashes.height - 1);
    for (let at = told.lash_rows_at[0] * width; at < told.lash_rows_at[1] * width; at++) {
      const y = (v[at] - upper[at]) * this.steep[at] * stretch + middle;
      let lash = sampledAt(lashes.pixels, lashes.width, lashes.height, in32nds(this.lashX[at]), in32nds(y), false);
      if (lash === 0) continue;
      if (seen < 1) {
        const part = (/** @type {number} */ shift) => Math.round(((lash >>> shift) & 255) * seen) << shift;
        lash = part(0) | part(8) | part(16) | part(24);
      }
      out[at] = laidOver(out[at], lash);
    }
  }

  /** Around the eye the picture stays as it is. @param {EyeAmounts} wanted @param {number} shut @param {number} lowered */
  _frame(wanted, shut, lowered) {
    const { told, out, v, upper, mask, patch } = this;
    const shown = 255 * smooth(0, this.constants.ONSET, most(wanted));
    const ends = told.rigid + told.gives_way_above;
    for (let at = 0; at < mask.length; at++) {
      let share = mask[at];
      if (lowered < 0) share = this.within[at] * smooth(0, 0.04 * told.width, v[at] - upper[at] + ends);
      if (shut > 0 || lowered > 0) share = Math.max(share, this.cover[at]);
      patch.pixels[at] = (out[at] & 0xffffff) | (Math.min(Math.round(shown * share), 255) << 24);
    }
  }
}
