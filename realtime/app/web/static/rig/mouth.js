// The mouth as layers: lips that move along their four curves, a chin that drops, and what shows between them.
// See realtime/rig/mouth.py.
import { Memory, OFFSET, SCALE, Sampler, cropOf, held, laidOver, lineAt, mixed, packed, pictureFrom, planeAt, sampled, smooth } from "./pixels.js";

/** @typedef {import("./rig.js").Part} Part */
/** @typedef {import("./rig.js").Amounts} Amounts */
/** @typedef {import("./surface.js").Surface} Surface */
/** @typedef {import("./surface.js").Grid} Grid */
/** @typedef {ReturnType<typeof amountsOf>} MouthAmounts */
/** @typedef {{layers: MouthLayers, on: (left: number, top: number, right: number, bottom: number, grid: Grid, surface: Surface) => MouthBend | null}} MouthMotion */
/** Teeth in a mouth. @typedef {{row: {layer: import("./pixels.js").Picture, shaded: import("./pixels.js").Picture, middle: number, edge: number}, upper: boolean, edge: number, light: number, aside: number}} PlacedRow */

/** Knots of a column, from the nose to below the chin. */
const KNOTS = 7;

/** What the mouth does, in shares; sides are the picture's. @param {Amounts} amounts @param {number} strength */
function amountsOf(amounts, strength) {
  const value = (/** @type {string} */ name) => amounts(name) * strength;
  const left = (/** @type {string} */ name) => value(`${name}Right`);
  const right = (/** @type {string} */ name) => value(`${name}Left`);
  return {
    open: value("jawOpen"),
    close: value("mouthClose"),
    pucker: value("mouthPucker"),
    funnel: value("mouthFunnel"),
    smileLeft: left("mouthSmile") + 0.4 * left("mouthDimple"),
    smileRight: right("mouthSmile") + 0.4 * right("mouthDimple"),
    frownLeft: left("mouthFrown"),
    frownRight: right("mouthFrown"),
    stretchLeft: left("mouthStretch"),
    stretchRight: right("mouthStretch"),
    rollLower: value("mouthRollLower"),
    rollUpper: value("mouthRollUpper"),
    press: 0.5 * (value("mouthPressLeft") + value("mouthPressRight")),
    pressLeft: left("mouthPress"),
    pressRight: right("mouthPress"),
    // A sneer draws the lip up at its side.
    upperLeft: left("mouthUpperUp") + 0.7 * left("noseSneer"),
    upperRight: right("mouthUpperUp") + 0.7 * right("noseSneer"),
    lowerLeft: left("mouthLowerDown"),
    lowerRight: right("mouthLowerDown"),
    // To the face's own left is to the picture's right.
    aside: value("mouthLeft") - value("mouthRight"),
    jawAside: value("jawLeft") - value("jawRight"),
    shrugLower: value("mouthShrugLower"),
    shrugUpper: value("mouthShrugUpper"),
    puff: value("cheekPuff"),
    tongue: value("tongueOut"),
  };
}

/** The layers of one mouth. */
export class MouthLayers {
  /** @param {Part} part @param {any} constants @param {import("./pixels.js").Picture} picture of the avatar */
  constructor({ arrays, told }, constants, picture) {
    this.told = told;
    this.constants = constants;
    const table = (/** @type {string} */ name) => /** @type {Float32Array} */ (arrays[name].values);
    const [height, width] = told.crop;
    const crop = cropOf(picture, told.left, told.top, width, height);
    this.sampler = new Sampler(crop);
    this.left = told.left;
    this.top = told.top;
    this.right = told.left + crop.width;
    this.bottom = told.top + crop.height;
    const [first, last, count] = told.nodes;
    this.count = count;
    this.firstNode = first;
    this.perNode = (count - 1) / (last - first);
    this.nodes = Float32Array.from({ length: count }, (_, at) => first + (at * (last - first)) / (count - 1));
    this.fields = table("fields");
    const from = (/** @type {string} */ name) => constants.FIELDS.indexOf(name) * count;
    const column = (/** @type {string} */ name) => this.fields.subarray(from(name), from(name) + count);
    this.round = column("round");
    this.sinks = column("sinks");
    this.jaw = column("jaw");
    this.upLeft = column("up_left");
    this.upRight = column("up_right");
    /** @type {{share: string, to: number, field: number, factor: number}[]} */
    this.moves = constants.MOVES.map((/** @type {[string, string, string, number]} */ [share, moved, field, factor]) => ({ share, to: constants.MOVED.indexOf(moved) * count, field: from(field), factor }));
    this.moved = new Float32Array(constants.MOVED.length * count);
    this.lines = table("lines");
    this.teethEnd = table("teeth_end");
    /** Hairs at both edges of a mouth without lips. */
    this.fringes = ["fringe_upper", "fringe_lower"].filter((name) => arrays[name]).map((name) => pictureFrom(arrays[name]));
    /** The shade along the folds beside a smile: how much of it, of either side. */
    this.folds = arrays.folds ? table("folds") : null;
    /** By how much lighter the picture's own folds are where lips are pushed forward. */
    this.unfolds = arrays.folds ? table("unfolds") : null;
    this.foldRows = arrays.folds ? arrays.folds.shape[1] : 0;
    this.foldColumns = arrays.folds ? arrays.folds.shape[2] : 0;
    // Tables of columns one after another: rests, offsets, lines; and what is between.
    const rest = table("rest");
    this.tables = new Float32Array((2 * KNOTS + 2) * count);
    for (let at = 0; at < count; at++) {
      for (let knot = 0; knot < KNOTS; knot++) this.tables[knot * count + at] = rest[KNOTS * at + knot];
    }
    this.asideTable = new Float32Array(count);
    this.asideSlope = new Float32Array(count);
    this.jawSlope = new Float32Array(count);
    this.beginTable = new Float32Array(count);
    this._differentiate(this.jaw, this.jawSlope);
    this.corners = new Float32Array(count);
    const lips = table("lip_colours");
    this.lipColours = [0, 1, 2].map((channel) => Float32Array.from({ length: 2 * count }, (_, at) => lips[3 * at + channel]));
    this.inside = table("inside");
    this.insideRows = arrays.inside.shape[0];
    this.insideColumns = arrays.inside.shape[1];
    this.rows = ["upper", "lower"].map((name) => ({ layer: pictureFrom(arrays[`${name}_row`]), shaded: pictureFrom(arrays[`${name}_row_shaded`]), middle: told[`${name}_row`][0], edge: told[`${name}_row`][1] }));
    /** @type {MouthBend} */
    this.bend = new MouthBend(this);
  }

  /** What is asked for; null for a mouth that is as in the picture. @param {Amounts} amounts @returns {MouthMotion | null} */
  motion(amounts) {
    const wanted = amountsOf(amounts, this.told.strength);
    if (this.told.shuts) wanted.close = Math.max(wanted.close, 1 - held(this._parts(wanted)));
    if (!(Math.max(...Object.values(wanted).map(Math.abs)) > 1e-4)) return null;
    this._offsets(wanted);
    return { layers: this, on: (left, top, right, bottom, grid, surface) => (this.bend.lay(wanted, left, top, right, bottom, grid, surface) ? this.bend : null) };
  }

  /** How far something parts lips that are shut at rest, though they bare teeth in the picture: wholly from 1 on. @param {MouthAmounts} a */
  _parts(a) {
    const { PARTS_OPEN, PARTS_BARED, PARTS_FUNNEL, PARTS_TONGUE, PARTS_BEGIN } = this.constants;
    const bared = 0.25 * (held(a.upperLeft) + held(a.upperRight) + held(a.lowerLeft) + held(a.lowerRight));
    const parts = held(a.open) / PARTS_OPEN + bared / PARTS_BARED + held(a.funnel) / PARTS_FUNNEL + held(a.tongue) / PARTS_TONGUE;
    return (parts - PARTS_BEGIN) / (1 - PARTS_BEGIN);
  }

  /** Where in the tables a place along the mouth is. @param {number} s */
  nodeAt(s) {
    return (s - this.firstNode) * this.perNode;
  }

  /** By how much a table rises per unit along the mouth. @param {Float32Array} table @param {Float32Array} slope */
  _differentiate(table, slope) {
    const last = this.count - 1;
    for (let at = 0; at <= last; at++) {
      const [low, high] = [Math.max(at - 1, 0), Math.min(at + 1, last)];
      slope[at] = ((table[high] - table[low]) * this.perNode) / (high - low);
    }
  }

  /** Which column would come to each place if all of the face went aside as far as the lips. */
  _invert() {
    const { nodes, asideTable, told, count } = this;
    let [before, reached, from] = [-Infinity, -Infinity, -1];
    for (let at = 0; at < count; at++) {
      while (from + 1 < count && reached <= nodes[at]) {
        before = reached;
        from++;
        reached = Math.max(reached, nodes[from] + asideTable[from] / told.half);
      }
      if (reached <= nodes[at]) this.beginTable[at] = nodes[count - 1];
      else if (from === 0) this.beginTable[at] = nodes[0];
      else this.beginTable[at] = nodes[from - 1] + (nodes[from] - nodes[from - 1]) * ((nodes[at] - before) / (reached - before));
    }
  }

  /**
   * What of `MOVES` amounts ask for, most of it in pixels; and by how much the lips part, or shut if they stand open.
   * @param {MouthAmounts} a @returns {{shares: Record<string, number>, gap: number}}
   */
  _shares(a) {
    const { told, constants } = this;
    const { SMILE, STRETCH, FUNNEL, PRESS, ASIDE_UP } = constants;
    const w = told.width;
    // Of a muzzle little would be seen of the first part of the way: hairs hang over it.
    const opened = Math.max(a.open, 0) * (1 + (told.plain ? 0.5 * (1 - Math.min(Math.max(a.open, 0), 1)) : 0));
    let gap = a.open >= 0 ? opened * Math.max(told.drop - 0.5 * told.gap, 0.3 * told.drop) : a.open * told.gap;
    // A tongue needs room.
    if (a.tongue > 0) gap = Math.max(gap, Math.min(a.tongue, 1) * (0.24 * w - told.gap));
    gap -= held(a.close) * (told.gap + Math.max(gap, 0) * 0.9);
    // Lips that are pushed forward meet.
    const stands = Math.max(told.gap + Math.min(gap, 0), 0);
    gap -= held(a.pucker) * held(1 - a.funnel) * (0.4 * stands + 0.6 * Math.min(stands, 0.12 * w));
    gap = Math.max(gap, told.seam - told.gap);
    const [shut, parted] = [Math.min(gap, 0), Math.max(gap, 0)];
    const jaw = opened * told.drop;
    // An opening mouth becomes a lens of one shape, however its line runs at rest; one that stands open keeps its own.
    const round = told.plain ? 0 : (smooth(0, 0.32 * w, parted) * parted) / (parted + 2 * told.gap + 1e-3);
    // Pursed lips are drawn in already. Small ones grow broader, as faces that have them are drawn.
    const free = 1 - held(a.pucker);
    const inward = (0.06 + 0.25 * Math.max(told.sag / w, 0)) * round * Math.min((0.75 * w) / Math.max(parted + told.gap, 1), 1) * free - (0.16 * round + (told.plain ? 0.11 * Math.min(parted / (0.6 * w), 1) : 0)) * told.small;
    // Muzzles are stiffer than lips.
    const drawnIn = (told.plain ? 0.5 : 1) * (told.pucker * a.pucker + FUNNEL[0] * a.funnel + constants.PUFF * a.puff);
    // Lips that hardly part do so in the middle; an open mouth is round, its corners half-way down.
    const rise = told.plain ? 0 : 0.05 * parted;
    const sink = (told.plain ? 0.4 : 1) * (1 - round) * 0.25 * jaw + round * (told.sag - rise + 0.33 * (parted + told.gap));
    const funnel = Math.max(a.funnel, 0) ** 1.25 * w;
    const smile = 0.5 * (a.smileLeft + a.smileRight);
    // Broad smiles part lips a little; what bares teeth are lips that are raised and lowered.
    let bared = told.plain || told.shows_teeth ? 0 : 0.025 * told.span * smooth(0.45, 1, smile) * (1 - held(Math.max(told.gap, gap) / (0.12 * w)));
    bared *= (1 - held(1.5 * (a.upperLeft + a.upperRight))) * (1 - held(a.press)) * (1 - held(a.close));
    // A mouth that shows its teeth has bared most of them, and one without any has nothing to bare.
    const bares = (told.shows_teeth ? 0.25 : told.toothless ? 0.4 : 1) * w;
    // Of lips that are pushed forward the upper one turns outwards; a smile and an open mouth stretch both.
    const thick = 1 - 0.4 * a.press - 0.05 * a.puff - 0.15 * smile - 0.3 * Math.min(parted / (0.6 * w), 1);
    // A chin that is raised pushes the lower lip over the upper one.
    const upper = thick - 0.05 * smile + 0.4 * a.pucker - 0.5 * held(a.shrugLower) + 0.35 * a.shrugUpper;
    const lower = thick + 0.05 * a.pucker - 0.25 * a.funnel;
    const aside = (/** @type {number} */ one, /** @type {number} */ stretch, /** @type {number} */ press, /** @type {number} */ far) =>
      told.span * (SMILE[0] * (one + PRESS[0] * press * held(1 - one)) + STRETCH[0] * stretch) * (1 - 0.7 * far);
    const corner = (/** @type {number} */ one, /** @type {number} */ frown, /** @type {number} */ stretch, /** @type {number} */ up) =>
      -told.smile * (one * (1 - 0.15 * held(one)) + up * held(1 - one)) + constants.FROWN * frown + STRETCH[1] * stretch;
    // Lips that smile on both sides are as level as the eyes.
    const even = 0.5 * told.tilt * held(Math.min(a.smileLeft, a.smileRight));
    /** @type {Record<string, number>} */
    const shares = {
      left: aside(a.smileLeft, a.stretchLeft, a.pressLeft, told.far[0]),
      right: aside(a.smileRight, a.stretchRight, a.pressRight, told.far[1]),
      shift: (told.plain ? 0.08 : 0.2) * a.aside * told.span,
      left_in: w * (drawnIn * (1 - constants.FAR_STAYS * told.far[0]) + inward),
      right_in: w * (drawnIn * (1 - constants.FAR_STAYS * told.far[1]) + inward),
      puff: 0.075 * a.puff * told.unit,
      corner_left: told.span * (corner(a.smileLeft, a.frownLeft, a.stretchLeft, PRESS[1] * a.pressLeft + ASIDE_UP * held(-a.aside)) + even),
      corner_right: told.span * (corner(a.smileRight, a.frownRight, a.stretchRight, PRESS[1] * a.pressRight + ASIDE_UP * held(a.aside)) - even),
      // Lips that are pushed forward meet a little further down.
      sink: sink + (told.shows_teeth ? 0 : 0.03 * a.pucker * w),
      shrug: (0.11 * a.shrugLower + 0.06 * a.shrugUpper) * w,
      shut,
      upper_left: a.upperLeft * bares,
      upper_right: a.upperRight * bares,
      lower_left: a.lowerLeft * bares,
      lower_right: a.lowerRight * bares,
      funnel_up: told.plain ? 0 : funnel,
      funnel,
      bared,
      // An upper edge without a lip hangs over the opening in a bow.
      hang: told.plain ? constants.HANG * told.span * smooth(0, 0.35 * w, parted) : 0,
      thick_upper: w * (upper * (1 - 0.75 * held(a.rollUpper)) - 1),
      thick_lower: w * (lower * (1 - 0.75 * held(a.rollLower)) - 1),
      ring: w * Math.max(this.ring(a), told.stands * held(-a.open)),
      chin: told.chin_share * jaw + shut * (0.25 + 0.6 * smooth(0.15, 0.4, told.gap / w)) - 0.07 * a.shrugLower * w,
    };
    const [wide, forward] = [Math.min((1.8 * parted) / w, 1), held(Math.max(a.funnel, a.pucker))];
    for (const [at, share] of [(1 - wide) * (1 - forward), wide * (1 - forward), (1 - wide) * forward, wide * forward].entries()) {
      shares[`over_${constants.LENSES[at]}`] = share * (sink + rise);
      shares[`under_${constants.LENSES[at]}`] = share * (parted - rise - sink);
    }
    return { shares, gap };
  }

  /** How far each column's knots move down, and how far the columns move aside. @param {MouthAmounts} a */
  _offsets(a) {
    const { told, count, tables, lines, fields, moved } = this;
    const { shares, gap } = this._shares(a);
    moved.fill(0);
    for (const { share, to, field, factor } of this.moves) {
      const by = factor * shares[share];
      if (by !== 0) for (let at = 0; at < count; at++) moved[to + at] += by * fields[field + at];
    }
    // Lips that stand wide open do not meet as they are pushed forward, but form a ring.
    const ring = this.ring(a);
    const open = 0.5 * (told.gap + Math.min(gap, 0));
    const offsets = KNOTS * count;
    for (let at = 0; at < count; at++) {
      this.asideTable[at] = moved[at];
      this.corners[at] = shares.corner_left * this.upLeft[at] + shares.corner_right * this.upRight[at];
      let innerUp = moved[count + at];
      let innerLow = moved[2 * count + at];
      const upper = tables[2 * count + at];
      const lower = tables[3 * count + at];
      if (ring > 0) {
        const middle = (told.sag + 0.05 * told.width + open) * this.sinks[at];
        innerUp += ring * (middle - open * this.round[at] - upper - innerUp);
        innerLow += ring * (middle + open * this.round[at] - lower - innerLow);
      }
      // Lips meet, and do not pass through one another.
      innerLow = Math.max(innerLow, upper - lower + innerUp);
      tables[offsets + at] = 0;
      tables[offsets + count + at] = innerUp + moved[3 * count + at];
      tables[offsets + 2 * count + at] = innerUp;
      tables[offsets + 3 * count + at] = innerLow;
      tables[offsets + 4 * count + at] = innerLow + moved[4 * count + at];
      tables[offsets + 5 * count + at] = moved[5 * count + at];
      tables[offsets + 6 * count + at] = 0;
      // The dark line between shut lips belongs to neither: where they part it is left out; and so is what open ones have of the
      // inside, where they move.
      const parts = told.own ? Math.abs(innerLow - innerUp) : Math.max(innerLow - innerUp, 0);
      for (let lip = 0; lip < 2; lip++) {
        const line = lines[lip * count + at];
        tables[(2 * KNOTS + lip) * count + at] = line * held(parts / (3 * line + 1e-3));
      }
    }
    this._differentiate(this.asideTable, this.asideSlope);
    this._invert();
  }

  /** How far lips that stand wide open are pushed forward to a ring. @param {MouthAmounts} a */
  ring(a) {
    return held(a.pucker) * held(1 - a.funnel) * this.told.stands;
  }

  /** How far the jaw moves aside, in pixels. @param {MouthAmounts} a */
  jawAside(a) {
    const { told } = this;
    // Without lips to move, the jaw does it.
    return (this.constants.JAW_ASIDE * a.jawAside + (told.plain ? 0.1 * a.aside : 0)) * told.span;
  }

  /** Where the tongue and its shadow may be. @param {number} across @param {number} toUpper @param {number} toLower */
  reached(across, toUpper, toLower) {
    const { told } = this;
    return Math.abs(across) < 3.2 * this.constants.TONGUE * told.span && toUpper > 0 && toLower > -1.2 * told.tongue_length - told.block;
  }
}

/** Planes of a lattice's nodes. */
const PLANES = /** @type {const} */ (["upX", "upY", "lowX", "lowY", "s", "across", "down", "rest", "inside", "toUpper", "toLower"]);

/** Among a node's knots, its own place. */
const PLACE = 2 * KNOTS;

/** A mouth in motion on one lattice, and what shows between its lips. */
export class MouthBend {
  /** @param {MouthLayers} layers */
  constructor(layers) {
    this.layers = layers;
    const float = () => new Memory(Float32Array);
    this.memory = { nodes: float(), shiftX: float(), shiftY: float(), fine: float(), near: float(), shade: float(), colours: new Memory(Uint8Array), inside: new Memory(Int32Array) };
    /** Where it bends the picture, in its pixels; and by how much what is shown there comes from elsewhere, in the enlarged picture's. */
    this.left = 0;
    this.top = 0;
    this.width = 0;
    this.height = 0;
    this.shiftX = this.shiftY = new Float32Array(0);
    /** Of one node: knots at rest, knots now; its own place; and how far each lip's source lies. Numbers that are given to a function are allocated. */
    this.knots = new Float64Array(2 * KNOTS + 3);
    /** The place in the picture that a node shows at rest. */
    this.seen = new Float64Array(2);
    this.jawAside = 0;
    this.fine = { left: 0, top: 0, width: 0, height: 0 };
    /** @type {Record<typeof PLANES[number], number>} */
    this.planes = /** @type {any} */ ({});
    this.lattice = { rows: 0, columns: 0 };
    this.part = { firstRow: 0, lastRow: 0, firstColumn: 0, lastColumn: 0 };
  }

  /**
   * Work out the bend of these pixels of the picture; false where nothing moves.
   * @param {MouthAmounts} wanted
   * @param {number} left @param {number} top @param {number} right @param {number} bottom
   * @param {Grid} grid @param {Surface} surface whose pixels it is seen in
   */
  lay(wanted, left, top, right, bottom, grid, surface) {
    const { layers } = this;
    const { block } = layers.told;
    this.wanted = wanted;
    const rows = Math.ceil((bottom - top) / block);
    const columns = Math.ceil((right - left) / block);
    this.lattice = { rows, columns };
    const count = rows * columns;
    const nodes = (this.nodes = this.memory.nodes.take(PLANES.length * count));
    const { seen } = this;
    this.jawAside = layers.jawAside(wanted);
    for (const [index, name] of PLANES.entries()) this.planes[name] = index * count;
    let firstRow = rows;
    let lastRow = -1;
    let firstColumn = columns;
    let lastColumn = -1;
    for (let row = 0, at = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, at++) {
        const seenX = (column + 0.5) * block - 0.5 + left;
        const seenY = (row + 0.5) * block - 0.5 + top;
        seen[0] = grid.at(surface.x, seenX, seenY);
        seen[1] = grid.at(surface.y, seenX, seenY);
        if (!this._node(wanted, at, nodes)) continue;
        firstRow = Math.min(firstRow, row);
        lastRow = Math.max(lastRow, row);
        firstColumn = Math.min(firstColumn, column);
        lastColumn = Math.max(lastColumn, column);
      }
    }
    if (lastRow < 0) return false;
    this.part = { firstRow: Math.max(firstRow - 1, 0), lastRow: Math.min(lastRow + 2, rows), firstColumn: Math.max(firstColumn - 1, 0), lastColumn: Math.min(lastColumn + 2, columns) };
    const { part } = this;
    this.left = left + part.firstColumn * block;
    this.top = top + part.firstRow * block;
    this.width = (part.lastColumn - part.firstColumn) * block;
    this.height = (part.lastRow - part.firstRow) * block;
    this._findOpening();
    this._shift();
    return true;
  }

  /**
   * One node of the lattice, at which `seen` is seen when the mouth is at rest. Whether anything is other there.
   * @param {MouthAmounts} a @param {number} at @param {Float32Array} nodes
   */
  _node(a, at, nodes) {
    const { layers, planes, knots, seen } = this;
    const { told, count, tables, asideTable, asideSlope, jaw: jawTable, jawSlope, firstNode, perNode } = layers;
    const x = seen[0];
    const y = seen[1];
    const ownX = x - told.left - told.origin[0];
    const ownY = y - told.top - told.origin[1];
    const s = (ownX * told.along[0] + ownY * told.along[1]) / told.half;
    const v = ownX * told.down[0] + ownY * told.down[1];
    const inside = planeAt(layers.inside, 0, layers.insideColumns, layers.insideRows, (x - told.lattice[0] + 0.5) / told.block - 0.5, (y - told.lattice[1] + 0.5) / told.block - 0.5);
    // Against the movement: which column comes to this place; aside fades away from the lips.
    const off = v - told.middle;
    // The nose stays, and the chin goes along a little.
    const reach = (2 / told.width) * Math.max(off, 0);
    const window = Math.exp(-reach * reach) * inside * smooth(told.above, 0.15 * told.above, -off);
    // The jaw takes the lower lip and the chin along, less the further away from it.
    const jaw = inside * this.jawAside * smooth(-0.1 * told.width, 0.25 * told.width, off) * smooth(2 * told.chin, told.chin, v);
    // Newton's steps begin where they would end if all of the face went aside as far as the lips.
    let source = s + window * (lineAt(layers.beginTable, 0, count, layers.nodeAt(s)) - s);
    const leastSlope = layers.constants.LEAST_SLOPE;
    let left = 0;
    let next = 0;
    let right = 0;
    let rest = 1;
    for (let round = 0; round < 4; round++) {
      // As `lineAt`, of all tables at one place.
      const place = Math.floor(32 * (source - firstNode) * perNode + 0.5);
      right = (place & 31) / 32;
      rest = 1 - right;
      left = Math.min(Math.max(place >> 5, 0), count - 1);
      next = Math.min(Math.max((place >> 5) + 1, 0), count - 1);
      if (round === 3) break;
      const over = source - s + ((asideTable[left] * rest + asideTable[next] * right) * window + (jawTable[left] * rest + jawTable[next] * right) * jaw) / told.half;
      const slope = 1 + ((asideSlope[left] * rest + asideSlope[next] * right) * window + (jawSlope[left] * rest + jawSlope[next] * right) * jaw) / told.half;
      source -= over / Math.max(slope, leastSlope);
    }
    for (let knot = 0, from = 0; knot < KNOTS; knot++, from += count) {
      const by = from + KNOTS * count;
      knots[knot] = tables[from + left] * rest + tables[from + next] * right;
      knots[KNOTS + knot] = knots[knot] + (tables[by + left] * rest + tables[by + next] * right) * inside;
    }
    const line = 2 * KNOTS * count;
    knots[2] -= (tables[line + left] * rest + tables[line + next] * right) * inside;
    knots[3] += (tables[line + count + left] * rest + tables[line + count + next] * right) * inside;
    // Lips that part show nothing beyond their edges; those that do not go on over the line, or it would be doubled.
    const slack = Math.max(1.5 * told.block - (knots[KNOTS + 3] - knots[KNOTS + 2]), 0);
    knots[PLACE] = v;
    this._through(0, 2, PLACE + 1);
    this._through(3, 6, PLACE + 2);
    const up = Math.min(knots[PLACE + 1], knots[2] - v + slack);
    const low = Math.max(knots[PLACE + 2], knots[3] - v - slack);
    const toUpper = v - knots[KNOTS + 2];
    const toLower = knots[KNOTS + 3] - v;
    const aside = (source - s) * told.half;
    nodes[planes.upX + at] = aside * told.along[0] + up * told.down[0];
    nodes[planes.upY + at] = aside * told.along[1] + up * told.down[1];
    nodes[planes.lowX + at] = aside * told.along[0] + low * told.down[0];
    nodes[planes.lowY + at] = aside * told.along[1] + low * told.down[1];
    nodes[planes.s + at] = source;
    nodes[planes.across + at] = s * told.half;
    nodes[planes.down + at] = v;
    nodes[planes.rest + at] = v + (toUpper < toLower ? up : low);
    nodes[planes.inside + at] = inside;
    nodes[planes.toUpper + at] = toUpper;
    nodes[planes.toLower + at] = toLower;
    if (Math.abs(aside) + Math.abs(toUpper < toLower ? up : low) > 0.03) return true;
    if (Math.min(toUpper, toLower) > -1 && inside > 0) return true;
    return a.tongue > 0 && layers.reached(s * told.half, toUpper, toLower);
  }

  /** Write how far down the source lies by these knots to one of them; beyond them by the end's offset. @param {number} first @param {number} last @param {number} to */
  _through(first, last, to) {
    const { knots } = this;
    const v = knots[PLACE];
    if (v >= knots[KNOTS + last]) {
      knots[to] = knots[last] - knots[KNOTS + last];
      return;
    }
    let result = knots[first] - knots[KNOTS + first];
    for (let knot = first; knot < last; knot++) {
      const below = v - knots[KNOTS + knot];
      if (below < 0) continue;
      const slope = (knots[knot + 1] - knots[knot]) / Math.max(knots[KNOTS + knot + 1] - knots[KNOTS + knot], 1e-3);
      result = slope * below + knots[knot] - v;
    }
    knots[to] = result;
  }

  /**
   * A plane of the nodes at pixels of the bend. (A call for each would allocate what it gives.)
   * @param {number} plane @param {{left: number, top: number, width: number, height: number}} box counted from the part's first
   * @param {Float32Array} out
   */
  _enlarge(plane, { left, top, width, height }, out) {
    const { part } = this;
    const { columns } = this.lattice;
    const { block } = this.layers.told;
    const values = /** @type {Float32Array} */ (this.nodes);
    const lastColumn = part.lastColumn - part.firstColumn - 1;
    const lastRow = part.lastRow - part.firstRow - 1;
    for (let y = top, to = 0; y < top + height; y++) {
      const down = Math.min(Math.max((y + 0.5) / block - 0.5, 0), lastRow);
      const row = Math.floor(down);
      const below = down - row;
      const start = plane + (part.firstRow + row) * columns + part.firstColumn;
      const after = below > 0 ? columns : 0;
      for (let x = left; x < left + width; x++, to++) {
        const across = Math.min(Math.max((x + 0.5) / block - 0.5, 0), lastColumn);
        const column = Math.floor(across);
        const right = across - column;
        const at = start + column;
        const next = right > 0 ? 1 : 0;
        out[to] = (values[at] * (1 - right) + values[at + next] * right) * (1 - below) + (values[at + after] * (1 - right) + values[at + after + next] * right) * below;
      }
    }
  }

  /** The opening at every pixel near the lips: a lattice's nodes are too far apart for its corners. */
  _findOpening() {
    const { layers, part, planes, lattice } = this;
    const nodes = /** @type {Float32Array} */ (this.nodes);
    const { block } = layers.told;
    const tongue = /** @type {MouthAmounts} */ (this.wanted).tongue > 0;
    let firstRow = Infinity;
    let lastRow = -1;
    let firstColumn = Infinity;
    let lastColumn = -1;
    for (let row = part.firstRow; row < part.lastRow; row++) {
      for (let column = part.firstColumn; column < part.lastColumn; column++) {
        const at = row * lattice.columns + column;
        const toUpper = nodes[planes.toUpper + at];
        const toLower = nodes[planes.toLower + at];
        const near = Math.min(toUpper, toLower) > -1.5 * block && Math.abs(nodes[planes.s + at]) < 1.1;
        if (!near && !(tongue && layers.reached(nodes[planes.across + at], toUpper, toLower))) continue;
        firstRow = Math.min(firstRow, row);
        lastRow = Math.max(lastRow, row);
        firstColumn = Math.min(firstColumn, column);
        lastColumn = Math.max(lastColumn, column);
      }
    }
    if (lastRow < 0) {
      this.fine = { left: 0, top: 0, width: 0, height: 0 };
      return;
    }
    const first = [Math.max(firstColumn - 1, part.firstColumn) - part.firstColumn, Math.max(firstRow - 1, part.firstRow) - part.firstRow];
    const last = [Math.min(lastColumn + 2, part.lastColumn) - part.firstColumn, Math.min(lastRow + 2, part.lastRow) - part.firstRow];
    const fine = (this.fine = { left: first[0] * block, top: first[1] * block, width: (last[0] - first[0]) * block, height: (last[1] - first[1]) * block });
    const size = fine.width * fine.height;
    const values = this.memory.fine.take(5 * size);
    this.s = values.subarray(0 * size, (0 + 1) * size);
    this.across = values.subarray(1 * size, (1 + 1) * size);
    this.down = values.subarray(2 * size, (2 + 1) * size);
    this.toUpper = values.subarray(3 * size, (3 + 1) * size);
    this.toLower = values.subarray(4 * size, (4 + 1) * size);
    const { tables, count, firstNode, perNode } = layers;
    const { s, down, toUpper, toLower } = this;
    this._enlarge(planes.s, fine, s);
    this._enlarge(planes.across, fine, this.across);
    this._enlarge(planes.down, fine, down);
    this._enlarge(planes.inside, fine, toUpper);
    const [upper, upperBy, lower, lowerBy] = [2, KNOTS + 2, 3, KNOTS + 3].map((table) => table * count);
    for (let at = 0; at < size; at++) {
      const inside = toUpper[at];
      // As `lineAt`, of four lines at one place.
      const place = Math.floor(32 * (s[at] - firstNode) * perNode + 0.5);
      const right = (place & 31) / 32;
      const rest = 1 - right;
      const left = Math.min(Math.max(place >> 5, 0), count - 1);
      const next = Math.min(Math.max((place >> 5) + 1, 0), count - 1);
      const upperAt = tables[upper + left] * rest + tables[upper + next] * right;
      const lowerAt = tables[lower + left] * rest + tables[lower + next] * right;
      toUpper[at] = down[at] - upperAt - (tables[upperBy + left] * rest + tables[upperBy + next] * right) * inside;
      toLower[at] = lowerAt + (tables[lowerBy + left] * rest + tables[lowerBy + next] * right) * inside - down[at];
    }
  }

  /** How far what each pixel shows comes from. */
  _shift() {
    const { width, height, layers, planes, lattice, part, fine } = this;
    const nodes = /** @type {Float32Array} */ (this.nodes);
    const { block } = layers.told;
    const shiftX = (this.shiftX = this.memory.shiftX.take(width * height));
    const shiftY = (this.shiftY = this.memory.shiftY.take(width * height));
    // Above the middle of the opening the upper lip, below it the lower one.
    const ofNode = (/** @type {number} */ at, /** @type {number} */ upper, /** @type {number} */ lower) => nodes[(nodes[planes.toUpper + at] < nodes[planes.toLower + at] ? upper : lower) + at];
    const lastColumn = part.lastColumn - part.firstColumn - 1;
    const lastRow = part.lastRow - part.firstRow - 1;
    for (let y = 0, to = 0; y < height; y++) {
      const down = Math.min(Math.max((y + 0.5) / block - 0.5, 0), lastRow);
      const row = Math.floor(down);
      const below = down - row;
      const start = (part.firstRow + row) * lattice.columns + part.firstColumn;
      const after = below > 0 ? lattice.columns : 0;
      let known = -1;
      let aX = 0;
      let bX = 0;
      let aY = 0;
      let bY = 0;
      for (let x = 0; x < width; x++, to++) {
        const across = Math.min(Math.max((x + 0.5) / block - 0.5, 0), lastColumn);
        const column = Math.floor(across);
        const right = across - column;
        if (column !== known) {
          known = column;
          const at = start + column;
          const next = column < lastColumn ? 1 : 0;
          const { upX, upY, lowX, lowY } = planes;
          aX = ofNode(at, upX, lowX) * (1 - below) + ofNode(at + after, upX, lowX) * below;
          bX = ofNode(at + next, upX, lowX) * (1 - below) + ofNode(at + after + next, upX, lowX) * below;
          aY = ofNode(at, upY, lowY) * (1 - below) + ofNode(at + after, upY, lowY) * below;
          bY = ofNode(at + next, upY, lowY) * (1 - below) + ofNode(at + after + next, upY, lowY) * below;
        }
        shiftX[to] = SCALE * (aX + (bX - aX) * right);
        shiftY[to] = SCALE * (aY + (bY - aY) * right);
      }
    }
    const toUpper = /** @type {Float32Array} */ (this.toUpper);
    const toLower = /** @type {Float32Array} */ (this.toLower);
    // Near the lips each pixel belongs to one of them.
    const size = fine.width * fine.height;
    const near = this.memory.near.take(size);
    for (const [out, upper, lower] of /** @type {[Float32Array, number, number][]} */ ([[shiftX, planes.upX, planes.lowX], [shiftY, planes.upY, planes.lowY]])) {
      for (const plane of [upper, lower]) {
        this._enlarge(plane, fine, near);
        for (let row = 0, at = 0; row < fine.height; row++) {
          for (let to = (fine.top + row) * width + fine.left, end = to + fine.width; to < end; to++, at++) {
            if (toUpper[at] < toLower[at] === (plane === upper)) out[to] = SCALE * near[at];
          }
        }
      }
    }
  }

  /**
   * Draw what shows between the lips, and the shade beside a smile.
   * @param {Int32Array} out of the whole picture
   * @param {number} width @param {number} height of it
   */
  paint(out, width, height) {
    const { fine, layers } = this;
    const { told } = layers;
    const a = /** @type {MouthAmounts} */ (this.wanted);
    if (layers.folds && layers.unfolds) {
      const { NOTHING } = layers.constants;
      const forward = held(Math.max(a.pucker, a.funnel));
      for (const [side, smile] of [a.smileLeft, a.smileRight].entries()) {
        // What is darker than a fold's shade stays as it is.
        const shade = told.fold_colours[side].map(Math.round);
        if (smile > NOTHING) this._tintBeside(out, width, height, layers.folds, side, Math.min(smile, 1), (colour, channel) => Math.min(colour, shade[channel]));
        if (forward > NOTHING) this._tintBeside(out, width, height, layers.unfolds, side, forward, (colour) => colour + 255);
      }
    }
    if (!fine.width) return;
    const [s, toUpper, toLower, downs] = [this.s, this.toUpper, this.toLower, this.down].map((plane) => /** @type {Float32Array} */ (plane));
    const offsetX = this.left + fine.left;
    const offsetY = this.top + fine.top;
    const wide = Math.min(fine.width, width - offsetX);
    const high = Math.min(fine.height, height - offsetY);
    let firstRow = high;
    let lastRow = -1;
    let firstColumn = wide;
    let lastColumn = -1;
    let tall = 0;
    for (let row = 0; row < high; row++) {
      for (let column = 0; column < wide; column++) {
        const at = row * fine.width + column;
        const gap = toUpper[at] + toLower[at];
        if (!(Math.min(toUpper[at], toLower[at]) > -told.soft && gap > 0.2 && Math.abs(s[at]) < 1)) continue;
        firstRow = Math.min(firstRow, row);
        lastRow = Math.max(lastRow, row);
        firstColumn = Math.min(firstColumn, column);
        lastColumn = Math.max(lastColumn, column);
      }
    }
    if (lastRow < 0) return;
    const box = { top: firstRow, left: firstColumn, width: lastColumn + 1 - firstColumn, height: lastRow + 1 - firstRow };
    const at = (/** @type {number} */ row, /** @type {number} */ column) => (box.top + row) * fine.width + box.left + column;
    // The lower lip's edge in the middle.
    let middle = 0;
    let least = Infinity;
    for (let row = 0; row < box.height; row++) {
      for (let column = 0; column < box.width; column++) {
        tall = Math.max(tall, toUpper[at(row, column)] + toLower[at(row, column)]);
        const away = Math.abs(s[at(row, column)]);
        if (away < least || (away === least && column < middle)) [least, middle] = [away, column];
      }
    }
    let lowest = Infinity;
    let edgeAt = 0;
    let highestGap = -Infinity;
    for (let row = 0; row < box.height; row++) {
      const here = at(row, middle);
      highestGap = Math.max(highestGap, toUpper[here] + toLower[here]);
      if (Math.abs(toLower[here]) < lowest) [lowest, edgeAt] = [Math.abs(toLower[here]), here];
    }
    const lowerEdge = downs[edgeAt] + toLower[edgeAt];
    this._measureNear(box, toUpper, toLower);
    const rows = this._placedTeeth(a, tall, lowerEdge - highestGap, lowerEdge);
    const inside = this.memory.inside.take(box.width * box.height);
    if (told.drawn) this._drawnInside(a, box, tall, middle, inside);
    else this._generic(box, tall, rows, inside);
    const parted = tall - (told.own ? told.gap : 0);
    if (told.own) {
      this._ownInside(box, tall, smooth(0.2, 0.8, layers.ring(a)), inside);
      // Of lips that are about to meet there is nothing to be seen but their line.
      const begins = Math.max(told.drawn ? 0 : Math.min(0.06 * told.width, 0.8 * told.gap), 1.8 * told.seam);
      const shut = smooth(begins, (told.drawn ? 1.7 : 1.2) * told.seam, tall);
      if (shut > 0) {
        const line = packed(told.line);
        for (let pixel = 0; pixel < box.width * box.height; pixel++) inside[pixel] = mixed(inside[pixel], line, shut);
      }
    }
    // A mouth that stands wide open shows them itself.
    if (!told.drawn && told.gap < 0.25 * told.width) this._lineWithLips(box, parted, inside);
    this._hangHairs(box, inside);
    // Where lips run steeply a pixel is nearer to them than it lies below or above.
    const near = this.memory.near.values;
    const size = box.width * box.height;
    for (let row = 0, pixel = 0; row < box.height; row++) {
      for (let column = 0; column < box.width; column++, pixel++) {
        const here = at(row, column);
        let mask = held(near[pixel] / told.soft + 0.5) * held(near[size + pixel] / told.soft + 0.5);
        mask *= Math.abs(s[here]) < 1 ? held((toUpper[here] + toLower[here] - 0.2) * 0.6) : 0;
        if (mask === 0) continue;
        const to = (offsetY + box.top + row) * width + offsetX + box.left + column;
        out[to] = mixed(out[to], inside[pixel], mask);
      }
    }
    if (a.tongue > 1e-4) this._putOut(a, out, width, offsetX, offsetY, wide, high, lowerEdge - highestGap, lowerEdge, /** @type {Float32Array} */ (this.across)[edgeAt] - s[edgeAt] * told.half, rows.filter((row) => row.upper));
  }

  /**
   * Draw the skin beside the left (0) or right (1) corner in other colours, by the shares that a table says.
   * @param {Int32Array} out of the whole picture @param {number} width @param {number} height of it
   * @param {Float32Array} table @param {number} side @param {number} much of them @param {(colour: number, channel: number) => number} tint
   */
  _tintBeside(out, width, height, table, side, much, tint) {
    const { layers, part, planes, lattice } = this;
    const { told, foldRows, foldColumns } = layers;
    const { block } = told;
    const nodes = /** @type {Float32Array} */ (this.nodes);
    const scaleX = ((2 * side - 1) * told.half) / told.fold_step[0];
    const startX = told.fold_start[0] / told.fold_step[0];
    // Where what is seen there was at rest: it is the skin that is shaded.
    const across = (/** @type {number} */ s) => s * scaleX - startX;
    const down = (/** @type {number} */ v) => (v - told.fold_start[1]) / told.fold_step[1];
    let [firstRow, lastRow, firstColumn, lastColumn] = [Infinity, -1, Infinity, -1];
    for (let row = part.firstRow; row < part.lastRow; row++) {
      for (let column = part.firstColumn; column < part.lastColumn; column++) {
        const at = row * lattice.columns + column;
        const x = across(nodes[planes.s + at]);
        const y = down(nodes[planes.rest + at]);
        if (!(x > 0 && x < foldColumns - 1 && y > 0 && y < foldRows - 1)) continue;
        firstRow = Math.min(firstRow, row);
        lastRow = Math.max(lastRow, row);
        firstColumn = Math.min(firstColumn, column);
        lastColumn = Math.max(lastColumn, column);
      }
    }
    if (lastRow < 0) return;
    const left = (Math.max(firstColumn - 1, part.firstColumn) - part.firstColumn) * block;
    const top = (Math.max(firstRow - 1, part.firstRow) - part.firstRow) * block;
    const right = Math.min((Math.min(lastColumn + 2, part.lastColumn) - part.firstColumn) * block, width - this.left);
    const bottom = Math.min((Math.min(lastRow + 2, part.lastRow) - part.firstRow) * block, height - this.top);
    const from = side * foldRows * foldColumns;
    const box = { left, top, width: right - left, height: bottom - top };
    const size = Math.max(box.width * box.height, 0);
    const values = this.memory.near.take(2 * size);
    const places = [values.subarray(0, size), values.subarray(size, 2 * size)];
    this._enlarge(planes.s, box, places[0]);
    this._enlarge(planes.rest, box, places[1]);
    for (let y = top, at = 0; y < bottom; y++) {
      for (let x = left; x < right; x++, at++) {
        const foldX = across(places[0][at]);
        const foldY = down(places[1][at]);
        if (!(foldX > 0 && foldX < foldColumns - 1 && foldY > 0 && foldY < foldRows - 1)) continue;
        const share = much * planeAt(table, from, foldColumns, foldRows, foldX, foldY);
        if (share < 1e-3) continue;
        const to = (this.top + y) * width + this.left + x;
        let tinted = out[to] & ~0xffffff;
        for (let channel = 0; channel < 3; channel++) {
          const colour = (out[to] >>> (8 * channel)) & 255;
          tinted |= Math.min(Math.round(colour + share * (tint(colour, channel) - colour)), 255) << (8 * channel);
        }
        out[to] = tinted;
      }
    }
  }

  /** Distances from both lips. @param {{top: number, left: number, width: number, height: number}} box @param {Float32Array} toUpper @param {Float32Array} toLower */
  _measureNear(box, toUpper, toLower) {
    const size = box.width * box.height;
    const near = this.memory.near.take(2 * size);
    for (const [index, plane] of [toUpper, toLower].entries()) {
      for (let row = 0, to = index * size; row < box.height; row++) {
        const start = (box.top + row) * this.fine.width + box.left;
        for (let column = 0; column < box.width; column++, to++) {
          const slope = column > 0 && column < box.width - 1 ? 0.5 * (plane[start + column + 1] - plane[start + column - 1]) : 0;
          near[to] = plane[start + column] / Math.sqrt(1 + slope * slope);
        }
      }
    }
  }

  /** Pixels above the tongue's edge. @param {number} s @param {number} height @param {number} tall */
  _ridge(s, height, tall) {
    const { told } = this.layers;
    const side = Math.min(Math.abs(s), 1);
    const tongue = told.drawn || told.plain ? 0.62 * (tall - 0.08 * told.width) : 0.3 * told.width * Math.min(tall / (0.6 * told.width), 1);
    return height - tongue * (1 - (told.drawn ? 0.9 : 1.3) * side * side);
  }

  /**
   * The rows of teeth that the picture does not show, the one in front last.
   * @param {MouthAmounts} a @param {number} tall @param {number} upperEdge @param {number} lowerEdge of the opening in its middle
   */
  _placedTeeth(a, tall, upperEdge, lowerEdge) {
    const { layers } = this;
    const { told } = layers;
    if (told.drawn || told.toothless) return [];
    const w = told.width;
    // Upper teeth with the head; lower ones with the jaw, whose lip hides most of them, and in whose shadow they lie.
    const bared = 0.05 * w * smooth(0.2 * w, 0.55 * w, tall);
    // Lips that hardly part shade them; lips that are drawn off them do not, and those pushed forward cover them, too.
    // A tongue lies over the lower ones.
    const bares = smooth(0.02, 0.3, 0.5 * (a.lowerLeft + a.lowerRight)) * held(1 - 4 * a.tongue);
    // Lips that smile are drawn off them, too, as far as they part.
    const smile = held(0.5 * (a.smileLeft + a.smileRight));
    const off = Math.max(smile * smooth(0.03 * w, 0.1 * w, tall), held(0.75 * (a.upperLeft + a.upperRight)));
    const open = Math.max(smooth(0.03 * w, 0.19 * w, tall), off);
    const forward = Math.min(Math.max(a.funnel, a.pucker, 0), 1);
    // A smile takes lips up in the middle, too, further than teeth are long: gums stay hidden.
    const risen = Math.min(layers.corners[layers.count >> 1], 0);
    const [upperRow, lowerRow] = layers.rows;
    const dim = 1 - 0.15 * forward;
    // Behind a lip that is drawn down they stand where the jaw has them: just behind the upper ones where it is shut.
    const shut = told.teeth_line - layers.constants.OVERBITE * w + Math.max(a.open, 0) * told.drop;
    // Their row rises to its sides, which between lips that hardly part would show alone.
    const hidden = lowerEdge - bared + 0.1 * w * smooth(0.4 * w, 0.12 * w, tall);
    const lower = hidden - bares * Math.max(hidden - shut, layers.constants.LOWER_BARED * w * smooth(0.15 * w, 0.45 * w, tall));
    const rows = [{ row: lowerRow, upper: false, edge: lower, light: Math.max(0.75 * open, 0.9 * bares) * dim, aside: layers.jawAside(a) }];
    // Below the upper ones' edge an opening is dark, unless lips are drawn off them.
    const seen = Math.max(off, bares);
    const { FILLED } = layers.constants;
    const lowest = upperEdge + (FILLED + (1 - FILLED) * seen) * (lowerEdge - upperEdge) + w * seen;
    const upper = Math.min(told.teeth_line + risen - 0.06 * w * forward, lowest);
    if (!told.shows_teeth || told.hides_teeth) rows.push({ row: upperRow, upper: true, edge: upper, light: (0.25 + 0.75 * Math.max(open, bares)) * dim, aside: 0 });
    return rows;
  }

  /**
   * Throat, tongue and teeth that the picture does not show.
   * @param {{top: number, left: number, width: number, height: number}} box
   * @param {number} tall @param {PlacedRow[]} rows @param {Int32Array} out
   */
  _generic(box, tall, rows, out) {
    const { fine } = this;
    const { told } = this.layers;
    const halfWide = Math.ceil(box.width / 2);
    const halfHigh = Math.ceil(box.height / 2);
    this._throat(box, tall, halfWide, halfHigh);
    const colours = this.memory.colours.values;
    const shades = this.memory.shade.values;
    const shadow = packed(told.shadow);
    const scaleX = halfWide / box.width;
    const scaleY = halfHigh / box.height;
    const across = /** @type {Float32Array} */ (this.across);
    const down = /** @type {Float32Array} */ (this.down);
    for (let y = 0, to = 0; y < box.height; y++) {
      const placeY = Math.min(Math.max((y + 0.5) * scaleY - 0.5, 0), halfHigh - 1);
      const row = Math.floor(placeY);
      const below = placeY - row;
      const after = row < halfHigh - 1 ? halfWide : 0;
      for (let x = 0; x < box.width; x++, to++) {
        const placeX = Math.min(Math.max((x + 0.5) * scaleX - 0.5, 0), halfWide - 1);
        const column = Math.floor(placeX);
        const right = placeX - column;
        const next = column < halfWide - 1 ? 1 : 0;
        const from = row * halfWide + column;
        const first = (1 - right) * (1 - below);
        const second = right * (1 - below);
        const third = (1 - right) * below;
        const fourth = right * below;
        let colour = 0xff000000 | 0;
        for (let channel = 0; channel < 3; channel++) {
          const value = first * colours[3 * from + channel] + second * colours[3 * (from + next) + channel] + third * colours[3 * (from + after) + channel] + fourth * colours[3 * (from + after + next) + channel];
          colour |= ((value + 0.5) | 0) << (8 * channel);
        }
        const here = (box.top + y) * fine.width + box.left + x;
        for (const { row: teeth, edge, light, aside } of rows) {
          const toothX = across[here] + teeth.middle - aside;
          const toothY = down[here] + teeth.edge - edge;
          const { layer, shaded } = teeth;
          const lit = sampled(layer.pixels, layer.width, layer.height, toothX, toothY, false);
          if (lit === 0) continue;
          const dark = sampled(shaded.pixels, shaded.width, shaded.height, toothX, toothY, false);
          colour = laidOver(colour, mixed(lit, dark, 1 - light));
        }
        // Shade goes over into the mouth's own dark, not into gray.
        const shade = first * shades[from] + second * shades[from + next] + third * shades[from + after] + fourth * shades[from + after + next];
        out[to] = mixed(shadow, colour, shade);
      }
    }
  }

  /**
   * The dark and the tongue, and how much of the light all of the inside gets, for every other pixel.
   * @param {{top: number, left: number, width: number, height: number}} box @param {number} tall @param {number} wide @param {number} high
   */
  _throat(box, tall, wide, high) {
    const { fine } = this;
    const { told } = this.layers;
    const w = told.width;
    const colours = this.memory.colours.take(3 * wide * high);
    const shades = this.memory.shade.take(wide * high);
    const near = this.memory.near.values;
    const size = box.width * box.height;
    const planeS = /** @type {Float32Array} */ (this.s);
    const toUpper = /** @type {Float32Array} */ (this.toUpper);
    const toLower = /** @type {Float32Array} */ (this.toLower);
    const back = told.plain ? 0.1 : 0.11;
    const front = 0.1;
    const lit = Math.min(Math.max(0.35 + (0.8 * tall) / (0.5 * w), 0.35), 1.05);
    for (let row = 0, to = 0; row < high; row++) {
      for (let column = 0; column < wide; column++, to++) {
        const here = (box.top + 2 * row) * fine.width + box.left + 2 * column;
        const pixel = 2 * row * box.width + 2 * column;
        const s = Math.abs(planeS[here]);
        const height = toLower[here];
        const upper = near[pixel];
        const lower = near[size + pixel];
        // The tongue lies behind the lower teeth: lightest where it bulges, in the dark further back.
        const ridge = this._ridge(s, height, tall);
        const share = 0.9 * smooth(back * w, -front * w, ridge) * held((0.95 - s) / 0.35);
        let light = lit * (1 - 0.3 * held(ridge / (-0.3 * w)) - 0.25 * s);
        // It is wet, and bends most where it comes out of the dark.
        light += 0.13 * lit * Math.exp(-((ridge / (0.07 * w) + 1.3) ** 2) - ((s - 0.22) / 0.2) ** 2);
        light *= 1 - 0.12 * Math.exp(-((s / 0.07) ** 2)) * held((ridge * -8) / w);
        // Above it the palate is not quite dark.
        const palate = 0.15 * lit * Math.exp(-(((toUpper[here] - 0.16 * w) / (0.17 * w)) ** 2)) * Math.max(1 - s * s, 0) * (1 - share);
        // Into the corners goes the cheek, as the lips' inside is lit.
        const cheek = 0.6 * smooth(0.75, 1, s) * (1 - share);
        for (let channel = 0; channel < 3; channel++) {
          const dark = told.dark[channel];
          colours[3 * to + channel] = dark + (told.tongue[channel] * light - dark) * share + told.flesh[channel] * palate + (0.42 * told.flesh[channel] - dark) * cheek;
        }
        const above = Math.exp((Math.max(upper, 0) * -20) / w);
        const below = Math.exp((Math.max(lower, 0) * -24) / w);
        const shade = (1 - 0.3 * above - 0.12 * below) * (1 - 0.35 * smooth(0.5, 1, s));
        // Little light gets in where lips hardly part.
        shades[to] = shade * (0.3 + 0.7 * smooth(0, 0.07 * w, toUpper[here] + height));
      }
    }
  }

  /**
   * The inside of a drawn mouth: flat, one white band, an outline.
   * @param {MouthAmounts} a @param {{top: number, left: number, width: number, height: number}} box
   * @param {number} tall @param {number} middle the column of the mouth's middle @param {Int32Array} out
   */
  _drawnInside(a, box, tall, middle, out) {
    const { fine } = this;
    const { told } = this.layers;
    const w = told.width;
    const [dark, tongue, white, outline] = [told.dark, told.tongue, told.teeth, told.line].map(packed);
    const [s, toUpper, toLower, downs] = [this.s, this.toUpper, this.toLower, this.down].map((plane) => /** @type {Float32Array} */ (plane));
    const at = (/** @type {number} */ row, /** @type {number} */ column) => (box.top + row) * fine.width + box.left + column;
    let arch = 0;
    for (let row = 0; row < box.height; row++) arch += (downs[at(row, middle)] - toUpper[at(row, middle)]) / box.height;
    // As tall as they are, however far the mouth opens; lips pushed forward cover them.
    const band = Math.min(0.12 * w, tall) * (1 - held(2 * Math.max(a.pucker, 0) + 0.6 * Math.max(a.funnel, 0)));
    const line = Math.max(0.012 * w, 1);
    const near = this.memory.near.values;
    const size = box.width * box.height;
    for (let row = 0, to = 0; row < box.height; row++) {
      for (let column = 0; column < box.width; column++, to++) {
        const here = at(row, column);
        let colour = dark;
        if (tall > 0.08 * w) colour = mixed(colour, tongue, held(0.5 - this._ridge(s[here], toLower[here], tall) / told.soft));
        if (!told.plain && !told.shows_teeth) {
          // Its edge is flatter than an arched lip.
          const upper = downs[here] - toUpper[here];
          const edge = band + 0.65 * Math.min(upper, arch) + 0.35 * upper;
          colour = mixed(colour, white, held((edge - downs[here]) / told.soft + 0.5));
        }
        if (told.outlined) colour = mixed(colour, outline, held((line - Math.min(near[to], near[size + to])) / told.soft + 0.5));
        out[to] = colour;
      }
    }
  }

  /**
   * The avatar's own inside: its upper teeth stay where they are, what is below them is stretched.
   * @param {{top: number, left: number, width: number, height: number}} box @param {number} highest opening
   * @param {number} ring how far lips that stood wide open are a ring before what is drawn
   * @param {Int32Array} out what is drawn; is what is seen afterwards
   */
  _ownInside(box, highest, ring, out) {
    const { fine, layers } = this;
    const { told, tables, count } = layers;
    const { fine: picture } = layers.sampler;
    const [planeS, toUpper, toLower, downs] = [this.s, this.toUpper, this.toLower, this.down].map((plane) => /** @type {Float32Array} */ (plane));
    for (let row = 0, to = 0; row < box.height; row++) {
      for (let column = 0; column < box.width; column++, to++) {
        const here = (box.top + row) * fine.width + box.left + column;
        const s = planeS[here];
        const node = layers.nodeAt(s);
        const upper = lineAt(tables, 2 * count, count, node);
        const lower = lineAt(tables, 3 * count, count, node);
        const end = lineAt(layers.teethEnd, 0, count, node);
        let v = downs[here] - lineAt(layers.corners, 0, count, node);
        // Where the lip rises above the teeth that the picture shows, they go along.
        v += Math.max(upper - (v - toUpper[here]), 0);
        const bottom = v + toLower[here];
        // Below the teeth: from their end to the lower lip, as far as that is now.
        const room = Math.max(lower - end, 0);
        const beyond = bottom - end;
        let source = v <= end ? v : end + ((v - end) / Math.max(beyond, 1e-3)) * room;
        source = Math.min(Math.max(source, upper + 0.5), Math.max(lower - 0.5, upper + 0.5));
        const along = s * told.half;
        const x = SCALE * (told.origin[0] + along * told.along[0] + source * told.down[0]) + OFFSET;
        const y = SCALE * (told.origin[1] + along * told.along[1] + source * told.down[1]) + OFFSET;
        const own = sampled(picture.pixels, picture.width, picture.height, x, y, true);
        // What would be stretched to streaks is drawn instead, and so is what is below teeth that fill the mouth.
        let share = 0;
        const past = smooth(-0.5 * told.soft, 1.5 * told.soft, v - end);
        // There is little to be stretched where teeth fill it.
        const tall = 0.3 * Math.max(lower - upper, 1);
        if (told.shows_teeth) share = past * (told.drawn ? held((beyond - room) / told.soft) : smooth(1.06, 2, (beyond + tall) / (room + tall)));
        else if (told.gap < 0.25 * told.width && !told.drawn) share = past * smooth(1.15, 1.8, beyond / Math.max(room, 1));
        // What stands wide open is squeezed where it shuts: at last too little of it is left to be known.
        else if (!told.drawn) share = Math.max(smooth(0.45, 0.2, highest / told.gap), ring);
        out[to] = mixed(own, out[to], share);
      }
    }
  }

  /**
   * The lips' inner sides, which shut lips hide, along the opening's edge: narrow in its middle, broad at its corners, and darker
   * the further in.
   * @param {{top: number, left: number, width: number, height: number}} box @param {number} parted @param {Int32Array} out
   */
  _lineWithLips(box, parted, out) {
    const { fine, layers } = this;
    const { told, count, lipColours } = layers;
    const opened = told.width * held(parted / (0.45 * told.width));
    if (opened < 1e-3 * told.width) return;
    const near = this.memory.near.values;
    const size = box.width * box.height;
    const planeS = /** @type {Float32Array} */ (this.s);
    const flesh = [0, 1, 2].map((channel) => 0.68 * Math.min(told.flesh[channel], 1.15 * told.lip[channel]));
    for (let row = 0, to = 0; row < box.height; row++) {
      for (let column = 0; column < box.width; column++, to++) {
        const s = planeS[(box.top + row) * fine.width + box.left + column];
        const corner = told.plain ? 0 : smooth(0.4, 1, Math.abs(s));
        const broadUpper = opened * (0.01 + 0.02 * corner);
        const broadLower = opened * (0.026 + 0.01 * corner);
        const upper = Math.max(near[to] / (broadUpper + 1e-3), 0);
        const lower = Math.max(near[size + to] / (broadLower + 1e-3), 0);
        // Round where both meet.
        const into = (upper * lower) / Math.max(Math.sqrt(upper * upper + lower * lower), 1e-3);
        const share = held(((1 - into) * (upper < lower ? broadUpper : broadLower)) / told.soft + 0.5);
        if (share === 0) continue;
        const deep = Math.min(into, 1);
        const inner = 0.8 * deep * deep;
        const node = layers.nodeAt(s);
        const place = held(0.5 + upper - lower);
        let colour = 0xff000000 | 0;
        for (let channel = 0; channel < 3; channel++) {
          const lip = planeAt(lipColours[channel], 0, count, 2, node, place);
          colour |= Math.min((lip * (0.96 - inner) + inner * flesh[channel]) | 0, 255) << (8 * channel);
        }
        out[to] = mixed(out[to], colour, share);
      }
    }
  }

  /** Hairs hang over a mouth without lips from above, and stand into it from below. @param {{top: number, left: number, width: number, height: number}} box @param {Int32Array} out */
  _hangHairs(box, out) {
    const { layers, fine } = this;
    for (const [index, hairs] of layers.fringes.entries()) {
      const depth = /** @type {Float32Array} */ (index ? this.toLower : this.toUpper);
      const planeS = /** @type {Float32Array} */ (this.s);
      for (let row = 0, to = 0; row < box.height; row++) {
        for (let column = 0; column < box.width; column++, to++) {
          const at = (box.top + row) * fine.width + box.left + column;
          out[to] = laidOver(out[to], sampled(hairs.pixels, hairs.width, hairs.height, layers.nodeAt(planeS[at]), depth[at], false));
        }
      }
    }
  }

  /**
   * The tongue over the lower lip and below the upper `teeth`; `top` and `edge` are the opening's in the middle.
   * @param {MouthAmounts} a @param {Int32Array} out @param {number} width of the picture
   * @param {number} offsetX @param {number} offsetY of the opening's planes @param {number} wide @param {number} high of them
   * @param {number} top @param {number} edge @param {number} middle where that is, in pixels aside @param {PlacedRow[]} teeth
   */
  _putOut(a, out, width, offsetX, offsetY, wide, high, top, edge, middle, teeth) {
    const { fine, layers } = this;
    const { told } = layers;
    // Lips that are pushed forward make it narrow.
    const half = layers.constants.TONGUE * told.span * (1 - 0.35 * held(Math.max(a.funnel, a.pucker)));
    const much = Math.min(a.tongue, 1);
    const length = told.tongue_length;
    const room = Math.max(edge - top, 1);
    // Before it comes out, its tip is behind the lower lip.
    const tip = edge + (1.3 * much - 0.3) * length;
    const broad = tip - Math.max(1.12 * much * length, 0.8 * half);
    const deep = Math.min((told.drawn ? 1 : 1.3) * room, 0.45 * told.span);
    // In a mouth that shows its own inside it comes out of that.
    const stands = told.gap >= 0.25 * told.width && !told.drawn;
    const [s, planeX, downs, toUpper, toLower] = [this.s, this.across, this.down, this.toUpper, this.toLower].map((plane) => /** @type {Float32Array} */ (plane));
    const paler = (/** @type {number[]} */ colour, /** @type {number} */ factor) => packed(colour.map((value) => factor * value));
    const tongue = packed(told.tongue);
    const groove = paler(told.tongue, 0.78);
    const outline = told.outlined ? packed(told.line) : paler(told.tongue, 0.72);
    const cast = paler(told.lip, 0.3);
    const line = Math.max(0.012 * told.width, 1.2 * told.soft);
    for (let row = 0; row < high; row++) {
      for (let column = 0; column < wide; column++) {
        const at = row * fine.width + column;
        const y = downs[at];
        const across = planeX[at] - middle;
        if (!(Math.abs(across) < 2.1 * half && y > top && y < tip + 0.7 * half)) continue;
        const to = (offsetY + row) * width + offsetX + column;
        // It is broadest where it comes over the teeth, and grows narrower from there to its round tip.
        const beyond = (y - edge) / length;
        const into = held((edge - y) / deep);
        const x = across / half;
        const along = (y - broad) / (tip - broad);
        // 0 at its edge, 1 in its middle, -1 as far outside.
        const inward = (/** @type {number} */ low) => {
          const square = Math.max(low, 0) ** 2;
          return 1 - Math.sqrt(x * x * (0.8 + 0.2 * x * x) + square * (0.75 + 0.25 * square));
        };
        const off = inward(along);
        // Between the corners, and not all at once.
        const within = held(off * (half / (1.2 * told.soft)) + 0.5) * held(toUpper[at] / told.soft + 0.5) * smooth(1, 0.8, Math.abs(s[at])) * smooth(0, 0.2, much);
        if (told.drawn) {
          let colour = mixed(tongue, groove, held((0.6 * line - Math.abs(across)) / told.soft + 0.5) * smooth(0.6, 0.5, beyond) * smooth(0.5, 0.3, into));
          colour = mixed(colour, outline, held((line - off * half) / told.soft + 0.5) * smooth(0.5, 0.1, into));
          const past = told.shows_teeth ? held(this._pastOwn(at) / told.soft + 0.5) : 1;
          out[to] = mixed(out[to], colour, within * past * held(((0.6 - Math.hypot(0.5 * x, into)) * room) / told.soft + 0.5));
          continue;
        }
        // It lies on the lip, and casts its shadow downwards.
        const shade = smooth(-0.18, 0.15, inward(along - 0.1)) * smooth(0.02 * told.width, -0.1 * told.width, toLower[at]) * smooth(0.1, 0.4, much);
        const around = mixed(out[to], cast, 0.4 * shade);
        const far = stands ? Math.hypot(x * smooth(0, 0.5, into), into) : into;
        let share = within * smooth(0.95, stands ? 0.45 : 0.3, far);
        if (stands) share *= 1 - smooth(0, 0.4, into) * smooth(0.5, 0, off);
        for (const { row: one, edge: ends, aside: moved } of teeth) {
          const { layer } = one;
          share *= 1 - (sampled(layer.pixels, layer.width, layer.height, planeX[at] + one.middle - moved, y + one.edge - ends, false) >>> 24) / 255;
        }
        if (told.shows_teeth) share *= smooth(-told.soft, told.soft, this._pastOwn(at));
        out[to] = share > 0 ? mixed(around, this._litTongue(x, beyond, held(off), into * (stands ? 0.3 : 1), toUpper[at]), share) : around;
      }
    }
  }

  /** Pixels below the picture's own upper teeth. @param {number} at */
  _pastOwn(at) {
    const { tables, count, corners, teethEnd } = this.layers;
    const [s, toUpper, downs] = [this.s, this.toUpper, this.down].map((plane) => /** @type {Float32Array} */ (plane)[at]);
    const node = this.layers.nodeAt(s);
    const v = downs - lineAt(corners, 0, count, node);
    return v + Math.max(lineAt(tables, 2 * count, count, node) - (v - toUpper), 0) - lineAt(teethEnd, 0, count, node);
  }

  /**
   * The tongue in the face's light.
   * @param {number} x across it, -1 and 1 at its sides @param {number} beyond 0 at the lip, 1 at the tip
   * @param {number} within 0 at its edge, 1 in the middle @param {number} into 0 at the lip, 1 under the upper one
   * @param {number} below pixels below the upper lip, which shades it
   */
  _litTongue(x, beyond, within, into, below) {
    const { told } = this.layers;
    // Round, it turns away to the sides and at the tip, and is lightest where it bends over the lip.
    let light = 0.64 + 0.27 * smooth(0, 0.6, within) + 0.12 * Math.exp(-(((beyond - 0.12) / 0.35) ** 2));
    light -= 0.11 * Math.exp(-((x / 0.09) ** 2)) * smooth(0.8, 0.2, beyond) * smooth(0.3, 0, into);
    light *= (1 + told.slant * x) * (1 - 0.8 * smooth(0, 0.85, into)) * (1 - 0.75 * smooth(0.2 * told.span, 0, below));
    // It is wet.
    const shine = 16 * Math.exp(-(((Math.abs(x) - 0.36) / 0.22) ** 2) - ((beyond - 0.22) / 0.26) ** 2) * told.level * (1 + 3 * told.slant * x);
    let colour = 0xff000000 | 0;
    for (let channel = 0; channel < 3; channel++) {
      const value = told.tongue_out[channel] * light + shine;
      colour |= (value < 0 ? 0 : value > 255 ? 255 : value | 0) << (8 * channel);
    }
    return colour;
  }
}
