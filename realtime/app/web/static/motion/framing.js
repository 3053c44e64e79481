// Which square of a picture goes to the model: the face is sought with the model's own detector and put where it sits in
// the papers' crops. As livepuppet/core/square.py, realtime/framing/seek.py, refine.py and follow.py, where the figures
// are argued.
import { clamp, meanConfidence, median } from "./keypoints.js";
import { spreadOf } from "./similarity.js";

/** @typedef {import("./keypoints.js").Keypoints} Keypoints */

/**
 * A square of a picture, in its pixels; it may reach beyond the edges.
 * @typedef {{x: number, y: number, side: number}} Square
 */

/** @typedef {(square: Square) => Promise<Keypoints>} Look finds the keypoints in a square of a picture */

const [ZOOM_STEP, STRIDE] = [1.7, 0.5];
const [LARGEST, SMALLEST] = [1, 0.3];
const [LEAST, FACE] = [0.45, 0.6];
const [FINALISTS, ROUNDS] = [4, 5];
const CONSISTENT = 0.25;

/** Of pictures, which show a face somewhere, the largest is meant whose landmarks agree this well, however unusual it looks; and one of
 * this share of the picture's shorter side at least ends the search. */
const [SEEN, AGREE, PLAIN] = [0.45, 0.1, 0.6];
const TRIALS = [
  [1, 0, 0],
  [1.25, 0.06, 0.06],
  [1.5, -0.08, 0],
];

/** Distance from the eyes to the mouth, and height of the middle between them, as shares of the square's side. */
const [EYES_TO_MOUTH, MIDDLE_HEIGHT] = [0.24, 0.59];
const LARGEST_ZOOM = 1.3;

/** A square picture in which a face takes this share of what it would in a crop is a crop already. */
const FACE_FILLS = 0.72;

/** The tightest crop that still holds a head, as a share of the usual one; where a face's middle is in it; how far it may
 * be moved to stay inside the picture. */
const [TIGHTEST, FACE_HEIGHT, LARGEST_SHIFT] = [1.5 / 1.8, 0.54, 0.18];

/** @param {number} height @param {number} width @returns {Square} */
export function centredSquare(height, width) {
  const side = Math.min(height, width);
  return { x: (width - side) >> 1, y: (height - side) >> 1, side };
}

/** @param {Square} square @param {number} factor @returns {Square} */
export function zoomed(square, factor) {
  const side = Math.max(16, square.side * factor);
  return { x: square.x + (square.side - side) / 2, y: square.y + (square.side - side) / 2, side };
}

/** Moved by shares of its own side. @param {Square} square @param {number} right @param {number} down @returns {Square} */
export const shifted = (square, right, down) => ({ ...square, x: square.x + right * square.side, y: square.y + down * square.side });

/**
 * Keypoints that were found in the square `before`, as they would be found in `after` of the same picture.
 * @param {Keypoints} keypoints
 * @param {Square} before
 * @param {Square} after
 * @param {number} size side of the cut squares in pixels
 * @returns {Keypoints}
 */
export function reexpressed(keypoints, before, after, size) {
  const zoom = before.side / after.side;
  const unit = ((2 / after.side) * size) / (size - 1);
  const shift = [
    (before.x + before.side / 2 - after.x - after.side / 2) * unit,
    (before.y + before.side / 2 - after.y - after.side / 2) * unit,
  ];
  const { reading } = keypoints;
  const carried = (/** @type {Float32Array} */ points) => points.map((value, at) => value * zoom + shift[at % 2]);
  return {
    points: carried(keypoints.points),
    jacobians: keypoints.jacobians.map((value) => value * zoom),
    confidence: keypoints.confidence,
    reading: reading && { ...reading, anchors: carried(reading.anchors) },
  };
}

/**
 * Where a face sits by its landmarks, in shares of the picture's side; null where they do not look like an upright face.
 * @param {Keypoints} keypoints
 * @param {string[]} names
 */
export function faceMiddle(keypoints, names) {
  /** @type {(...words: string[]) => number[] | null} */
  const centre = (...words) => {
    const chosen = [...names.keys()].filter((index) => words.every((word) => names[index].includes(word)));
    if (!chosen.length) return null;
    return [0, 1].map((axis) => (chosen.reduce((sum, index) => sum + keypoints.points[2 * index + axis], 0) / chosen.length + 1) / 2);
  };
  const mean = (/** @type {number[][]} */ points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const eye = (/** @type {string} */ side) => {
    const found = ["iris", "lid", "eye"].map((word) => centre(side, word)).filter((point) => point !== null);
    return found.length ? mean(found) : null;
  };
  const [left, right, corners, lips] = [eye("left"), eye("right"), centre("mouth"), centre("lip")];
  if (!left || !right || !corners) return null;
  const mouth = lips ? mean([corners, lips]) : corners;
  const eyes = mean([left, right]);
  const between = [right[0] - left[0], right[1] - left[1]];
  const down = [mouth[0] - eyes[0], mouth[1] - eyes[1]];
  const [distance, width] = [Math.hypot(...down), Math.hypot(...between)];
  const upright = between[0] > 0.8 * width && down[1] > 0.8 * distance;
  if (!(upright && distance > 0.08 && distance < 0.5 && width / distance > 0.45 && width / distance < 1.8)) return null;
  return { middle: mean([eyes, mouth]), distance };
}

/**
 * `square` corrected so that the face in it sits as in the papers' crops; itself where there is none.
 * @param {Square} square
 * @param {Keypoints} keypoints found in it
 * @param {string[]} names
 * @returns {Square}
 */
export function refinedSquare(square, keypoints, names) {
  const found = faceMiddle(keypoints, names);
  if (found === null) return square;
  const side = (square.side * found.distance) / EYES_TO_MOUTH;
  return {
    x: square.x + found.middle[0] * square.side - side / 2,
    y: square.y + found.middle[1] * square.side - side * MIDDLE_HEIGHT,
    side,
  };
}

/**
 * The squares to try in a picture, large to small, evenly over it.
 * @param {number} height
 * @param {number} width
 */
export function grid(height, width) {
  /** @type {Square[]} */
  const squares = [];
  for (let side = LARGEST * Math.min(height, width); side >= SMALLEST * Math.min(height, width); side /= ZOOM_STEP) {
    const [rows, columns] = [height, width].map((length) => {
      const count = Math.ceil((length - side) / (STRIDE * side)) + 1;
      return Array.from({ length: count }, (_, at) => (count > 1 ? (at * (length - side)) / (count - 1) : 0));
    });
    for (const y of rows) for (const x of columns) squares.push({ x, y, side });
  }
  return squares;
}

/** Half-way disagreement of the landmarks of several squares, in spreads of the landmarks. @param {{square: Square, keypoints: Keypoints}[]} tried @param {number} size */
export function disagreement(tried, size) {
  const sets = tried.map((trial) => reexpressed(trial.keypoints, trial.square, tried[0].square, size).points);
  /** @type {number[]} */
  const found = [];
  for (const [at, one] of sets.entries()) {
    for (const other of sets.slice(at + 1)) {
      const apart = Array.from({ length: one.length / 2 }, (_, index) =>
        Math.hypot(one[2 * index] - other[2 * index], one[2 * index + 1] - other[2 * index + 1]),
      );
      found.push(median(apart) / Math.max(spreadOf(one).radius, 1e-3));
    }
  }
  return median(found);
}

/** @param {Square} one @param {Square} other */
const apart = (one, other) => Math.hypot(one.x + one.side / 2 - other.x - other.side / 2, one.y + one.side / 2 - other.y - other.side / 2);

/**
 * The square of the most confident face in a picture, or null. Takes 50 to 80 looks for a camera's frame. Of a picture that is to be moved
 * (`still`), drawn faces and animals' count, too.
 * @param {{height: number, width: number}} picture
 * @param {Look} look
 * @param {number} size of the model's pictures
 * @param {string[]} names
 * @param {boolean} still
 * @returns {Promise<Square | null>}
 */
export async function seek(picture, look, size, names, still = false) {
  const { height, width } = picture;
  const sure = (/** @type {Keypoints} */ keypoints) => meanConfidence(keypoints) ?? 0;
  const squares = grid(height, width);
  /** @type {number[]} */
  const scores = [];
  for (const square of squares) scores.push(sure(await look(square)));
  /** @type {Square[]} */
  const finalists = [];
  /** @type {Square | null} */
  let largest = null;
  const order = [...squares.keys()].sort((one, other) => scores[other] - scores[one]);
  // All of the picture may be its face.
  const first = still ? order.find((index) => squares[index].side === squares[0].side) : undefined;
  for (const index of first === undefined ? order : [first, ...order]) {
    const candidate = squares[index];
    if ((scores[index] < LEAST && index !== first) || finalists.length === FINALISTS) break;
    if (finalists.some((other) => other.side === candidate.side && apart(other, candidate) < 0.5 * candidate.side)) continue;
    finalists.push(candidate);
    const square = await homed(candidate, picture, look, names);
    /** @type {{square: Square, keypoints: Keypoints}[]} */
    const tried = [];
    for (const [zoom, right, down] of TRIALS) {
      const other = shifted(zoomed(square, zoom), right, down);
      tried.push({ square: other, keypoints: await look(other) });
    }
    const best = tried.reduce((one, other) => (sure(other.keypoints) > sure(one.keypoints) ? other : one));
    // The surest has the last word on where the face is, and whether it is one.
    if (faceMiddle(best.keypoints, names) === null) continue;
    const agreement = disagreement(tried, size);
    const plain = agreement < CONSISTENT && Math.min(...tried.map((trial) => sure(trial.keypoints))) >= LEAST && sure(best.keypoints) >= FACE;
    if (!plain && !(still && agreement < AGREE && sure(best.keypoints) >= SEEN)) continue;
    let found = refinedSquare(best.square, best.keypoints, names);
    // The landmarks of a small, blurred face lie too wide, and would give too tight a square.
    found = zoomed(found, Math.max(1, best.square.side / LARGEST_ZOOM / found.side));
    if (plain && (!still || found.side >= PLAIN * Math.min(height, width))) return found;
    if (largest === null || found.side > largest.side) largest = found;
  }
  return largest;
}

/**
 * Move `square` onto the face in it, by its landmarks.
 * @param {Square} square
 * @param {{height: number, width: number}} picture
 * @param {Look} look
 * @param {string[]} names
 */
async function homed(square, picture, look, names) {
  for (let round = 0; round < ROUNDS; round++) {
    const keypoints = await look(square);
    let moved = refinedSquare(square, keypoints, names);
    if (moved === square) {
      // No face by its landmarks, but they gather where it may be: half outside the square, say.
      const { x, y } = spreadOf(keypoints.points);
      moved = shifted(square, (x + 1) / 2 - 0.5, (y + 1) / 2 - MIDDLE_HEIGHT);
    }
    const [x, y] = [moved.x + moved.side / 2, moved.y + moved.side / 2];
    if (!(x > 0 && x < picture.width && y > 0 && y < picture.height)) break;
    const settled = Math.hypot(moved.x - square.x, moved.y - square.y) < 0.03 * square.side;
    square = moved;
    if (settled) break;
  }
  return square;
}

/**
 * The crop for a picture in which `seek` found `face`: kept inside the picture as far as the head allows; all of a square
 * picture that a face fills; the middle where there is none.
 * @param {{height: number, width: number}} picture
 * @param {Square | null} face
 * @returns {Square}
 */
export function squareFor(picture, face) {
  const { height, width } = picture;
  if (face === null || (height === width && face.side >= FACE_FILLS * width)) return centredSquare(height, width);
  const side = Math.max(Math.min(face.side, height, width), face.side * TIGHTEST);
  const slack = LARGEST_SHIFT * side;
  const x = face.x + (face.side - side) / 2;
  const y = face.y + (face.side - side) * FACE_HEIGHT;
  return {
    x: x + clamp(clamp(x, 0, Math.max(width - side, 0)) - x, -slack, slack),
    y: y + clamp(clamp(y, 0, Math.max(height - side, 0)) - y, -slack, slack),
    side,
  };
}
