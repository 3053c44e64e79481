"""Where an avatar's eyes and mouth are, as curves in its pixels, and how sure that is.

"left" is the picture's left throughout, as in the model's landmarks. Curves run from the picture's left to its right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from livepuppet.realtime.rig import dark_eyes, eye_fit, lip_fit
from livepuppet.realtime.rig.close_ups import Look
from livepuppet.realtime.rig.looks import Landmarks

#: Points per curve.
POINTS = 17

#: What a picture without a face says of each part.
NO_FACE = "no face was found"


@dataclass(frozen=True)
class EyeContours:
    """One eye.

    Attributes:
        upper, lower: edges of the opening, float32 (17, 2) from its left corner to its right one, which both share.
        crease: the fold over the upper lid, or where the lid's skin ends, float32 (17, 2).
        iris: centre of the iris, float32 (2,); it may lie outside the opening.
        radius: of the iris, in pixels.
        sure: whether the eye may be moved.
        reason: why not, as a part of a sentence; empty where it is sure.
    """

    upper: np.ndarray
    lower: np.ndarray
    crease: np.ndarray
    iris: np.ndarray
    radius: float
    sure: bool = True
    reason: str = ""


@dataclass(frozen=True)
class MouthContours:
    """The mouth, and the chin that moves with it.

    Attributes:
        outer_upper, inner_upper, inner_lower, outer_lower: edges of the lips, float32 (17, 2) from the left corner to the
            right one, which all four share. The inner two are one line where the mouth is shut.
        chin: lowest point of the chin, float32 (2,).
        teeth: what shows between the lips: `own` where it is the avatar's, else the kind of teeth to draw.
        sure, reason: as for an eye.
    """

    outer_upper: np.ndarray
    inner_upper: np.ndarray
    inner_lower: np.ndarray
    outer_lower: np.ndarray
    chin: np.ndarray
    teeth: str = "auto"
    sure: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Contours:
    """All that a rig needs to know of a picture.

    Attributes:
        width, height: of the picture, in pixels.
        left, right: its eyes; None where there is none to be seen.
        mouth: or None.
        strength: factor on the amounts of each part (`left`, `right`, `mouth`), 0 to 1.5; 1 where it is not named.
        notes: one sentence for each part that is not moved.
    """

    width: int
    height: int
    left: EyeContours | None = None
    right: EyeContours | None = None
    mouth: MouthContours | None = None
    strength: dict[str, float] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        parts = (("The left eye", self.left), ("The right eye", self.right), ("The mouth", self.mouth))
        return [
            f"{name} is not moved by the rig: {NO_FACE if part is None else part.reason}."
            for name, part in parts
            if part is None or not part.sure
        ]

    def mapped(self, scale: float, left: float = 0.0, top: float = 0.0) -> Contours:
        """The contours in the picture enlarged by `scale` about its first pixel's corner, then cut at (left, top)."""

        def points(value: np.ndarray) -> np.ndarray:
            # Pixel centres are whole numbers: the corner of the first one is at -0.5.
            return ((value + 0.5) * scale - 0.5 - (left, top)).astype(np.float32)

        def part(value):
            if value is None:
                return None
            changed = {
                name: points(array) for name, array in vars(value).items() if isinstance(array, np.ndarray)
            }
            if isinstance(value, EyeContours):
                changed["radius"] = value.radius * scale
            return replace(value, **changed)

        return replace(
            self,
            width=round(self.width * scale),
            height=round(self.height * scale),
            left=part(self.left),
            right=part(self.right),
            mouth=part(self.mouth),
        )


#: Eyes closer together than this, in pixels, are too small to be cut out.
SMALLEST_DISTANCE = 14.0

#: The least fit of an eye that is moved. Of right contours it is 0.8 or more (18 pictures).
LEAST_FIT = 0.75

#: Close-ups do not count where both eyes' edges alone fit better by this much; 0.9 to 1.4 of animals, 0.6 of most people.
EDGES_DECIDE = 0.9

#: The least height of an opening, in distances between the eyes.
LEAST_OPENING = 0.085


#: Irises of a larger radius, in distances between them, are none (a cat's have .21, dark lenses .3); and what is said of them.
LENS, LENSES = 0.26, "it is as large as a lens of dark glasses"


def find_contours(picture: np.ndarray, landmarks: Landmarks | None, looks: Sequence[Look] = ()) -> Contours:
    """The contours of the face in `picture` uint8 RGB (H, W, 3), fitted to its own edges near `landmarks`.

    Args:
        landmarks: of `looks.look`; None where there is no face.
        looks: of `CloseUps.several`, where the fit begins and what holds it.
    """
    height, width = picture.shape[:2]
    if landmarks is None:
        return Contours(width, height)
    axes = _Axes.of(landmarks)
    if axes is None:
        return Contours(width, height)
    left, right = without_lenses(*_find_eyes(picture, landmarks, axes, looks))
    return Contours(width, height, left, right, _find_mouth(picture, landmarks, axes, looks))


def without_lenses(
    left: EyeContours | None, right: EyeContours | None
) -> tuple[EyeContours | None, EyeContours | None]:
    """Both eyes, neither of which is sure where their irises are as large as the lenses of dark glasses."""
    if left is None or right is None:
        return left, right
    apart = float(np.hypot(*(right.iris - left.iris)))
    if max(left.radius, right.radius) <= LENS * apart:
        return left, right
    return tuple(
        EyeContours(eye.upper, eye.lower, eye.crease, eye.iris, eye.radius, False, eye.reason or LENSES)
        for eye in (left, right)
    )


@dataclass(frozen=True)
class _Axes:
    """The face's own axes: the eyes' middles, their distance, and the unit vector from the left one to the right one."""

    eyes: tuple[np.ndarray, np.ndarray]
    distance: float
    along: np.ndarray

    @classmethod
    def of(cls, landmarks: Landmarks) -> _Axes | None:
        eyes = tuple(
            (2 * landmarks[f"{side} iris"] + landmarks[f"{side} upper lid"] + landmarks[f"{side} lower lid"])
            / 4
            for side in ("left", "right")
        )
        line = eyes[1] - eyes[0]
        distance = float(np.hypot(*line))
        return cls(eyes, distance, line / distance) if distance > 1 and line[0] > 0 else None

    def to_crop(
        self, middle: np.ndarray, per_d: float, width: int, height: int, mirror: bool = False
    ) -> np.ndarray:
        """The affine map (2, 3) from the picture into an upright crop with `middle` in its middle."""
        k = per_d / self.distance
        turn = k * np.array([[self.along[0], self.along[1]], [-self.along[1], self.along[0]]])
        if mirror:
            turn[0] = -turn[0]
        return np.column_stack([turn, (width / 2, height / 2) - turn @ middle])


def cut_crop(picture: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """The crop of an affine map, without aliasing, from the part of the picture that it needs."""
    k = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    inverse = cv2.invertAffineTransform(matrix)
    corners = (
        np.array([[0, 0], [width, 0], [0, height], [width, height]], float) @ inverse[:, :2].T + inverse[:, 2]
    )
    (left, top), (right, bottom) = corners.min(0) - 8, corners.max(0) + 8
    left, top = (
        int(np.clip(v, 0, size - 1)) for v, size in ((left, picture.shape[1]), (top, picture.shape[0]))
    )
    right, bottom = (
        int(np.clip(v, low + 1, size))
        for v, low, size in ((right, left, picture.shape[1]), (bottom, top, picture.shape[0]))
    )
    part = picture[top:bottom, left:right]
    if k < 0.7:
        part = cv2.GaussianBlur(part, (0, 0), 0.5 / k)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (left, top)
    return cv2.warpAffine(
        part, moved, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _resampled(points: np.ndarray) -> np.ndarray:
    """`POINTS` points evenly along a curve of any number of them."""
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, length[-1], POINTS)
    return np.column_stack([np.interp(at, length, points[:, k]) for k in (0, 1)]).astype(np.float32)


def _forward(points: np.ndarray) -> np.ndarray:
    """A curve (N, 2) that bulges beyond its corners, without turning back."""
    line = points[-1] - points[0]
    length = max(float(np.hypot(*line)), 1e-6)
    along = line / length
    at = (points - points[0]) @ along
    step = 0.004 * length * np.arange(len(points))
    wanted = np.minimum(np.maximum.accumulate(at - step) + step, length - step[::-1])
    return (points + (wanted - at)[:, None] * along).astype(np.float32)


def _find_eyes(
    picture: np.ndarray, landmarks: Landmarks, axes: _Axes, looks: Sequence[Look]
) -> list[EyeContours]:
    unit, size = axes.distance, (eye_fit.WIDTH, eye_fit.HEIGHT)
    middle = np.array(size) / 2
    maps, matrices, guesses, spreads, opened = [], [], [], [], []
    for k, side in enumerate(("left", "right")):
        matrix = axes.to_crop(axes.eyes[k], eye_fit.PER_D, *size, mirror=k == 1)
        maps.append(eye_fit.EyeMaps(cut_crop(picture, matrix, *size)))
        matrices.append(matrix)
        at = landmarks[f"{side} iris"] @ matrix[:, :2].T + matrix[:, 2]
        guesses.append((at - middle) / eye_fit.PER_D)
        spreads.append(float(landmarks.spread[landmarks.names.index(f"{side} iris")]) / unit)
        opened.append(np.hypot(*(landmarks[f"{side} upper lid"] - landmarks[f"{side} lower lid"])) / unit)
    seen = [
        eye_fit.Seen.of(
            [
                (look.eyes[k] @ matrices[k][:, :2].T + matrices[k][:, 2] - middle) / eye_fit.PER_D
                for look in looks
            ]
        )
        for k in range(2)
        if looks
    ]
    opening = float(np.mean(opened))
    found = eye_fit.search(tuple(maps), guesses, spreads, opening)
    known = found
    if seen:
        held = eye_fit.search(tuple(maps), guesses, spreads, opening, seen)
        known = held
        # Close-ups know people's eyes; those of animals and big drawn ones have edges that say otherwise, unless they say
        # that eyes are shut which close-ups see open.
        shut = [min(fit.theta[3] + fit.theta[4] for fit in fits) < LEAST_OPENING for fits in (found, held)]
        better = sum(fit.total for fit in found) - sum(fit.total for fit in held)
        if better < EDGES_DECIDE or (shut[0] and not shut[1]):
            found = held
    if np.mean([fit.theta[10] / fit.theta[2] for fit in known]) > dark_eyes.ALL_IRIS:
        spots = dark_eyes.dark_eyes(maps, [middle + eye_fit.PER_D * guess for guess in guesses])
        if spots is not None:
            return [_dark_eye(spots[k], matrices[k], unit, k == 1) for k in range(2)]
    irises = eye_fit.refine_irises(tuple(maps), found)
    curves = [_edges(found[k], irises[k], maps[k]) for k in range(2)]
    # The right eye's crop is mirrored: both have their outer corner on the left.
    both = [eye_fit.opening_ends(maps[k], found[k].theta, *curves[k]) for k in range(2)]
    ends = np.array(
        [min(one, other, key=abs) for one, other in ((both[0][0], both[1][0]), (both[0][1], both[1][1]))]
    )
    ends = np.where(np.abs(np.abs(both).max(0)) < 1, ends, np.sign(ends))
    return [_eye(found[k], irises[k], curves[k], ends, matrices[k], unit, k == 1) for k in range(2)]


def _edges(fit: eye_fit.EyeFit, iris: np.ndarray, maps: eye_fit.EyeMaps) -> tuple[np.ndarray, np.ndarray]:
    """The heights of both lids' edges at `eye_fit.U`."""
    theta = fit.theta
    up, low = (rows[0] for rows in eye_fit.heights(theta[None]))
    up = eye_fit.follow_edge(maps, theta, up, True)
    low = np.maximum(eye_fit.follow_edge(maps, theta, low, False), up + 0.004)
    return eye_fit.include_white(maps, theta, iris, up, low)


def _eye(
    fit: eye_fit.EyeFit,
    iris: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray],
    ends: np.ndarray,
    matrix: np.ndarray,
    unit: float,
    mirrored: bool,
) -> EyeContours:
    """One eye's fit as contours in the picture."""
    theta = fit.theta
    columns, up, low = eye_fit.ended(*edges, ends)
    low[[0, -1]] = up[[0, -1]]
    tall = float((low - up).max())
    # Where the fold lies is a matter of taste as long as the skin between it and the edge is lid.
    crease = up - (0.035 + 0.25 * tall) * np.sqrt(np.maximum(1 - (0.85 * columns) ** 2, 0))
    inverse = cv2.invertAffineTransform(matrix)

    def points(heights: np.ndarray) -> np.ndarray:
        x, y = eye_fit.place(theta[None], columns[None], heights[None].astype(np.float32))
        curve = np.column_stack([x[0], y[0]]) @ inverse[:, :2].T + inverse[:, 2]
        return _resampled(curve[::-1] if mirrored else curve)

    at = np.array([eye_fit.WIDTH / 2, eye_fit.HEIGHT / 2]) + eye_fit.PER_D * iris[:2]
    centre = (at @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32)
    reason = ""
    if unit < SMALLEST_DISTANCE:
        reason = "the face is too small in this picture"
    elif fit.total < LEAST_FIT:
        reason = "its edges are not clear in this picture"
    elif tall < LEAST_OPENING:
        reason = "it is shut in this picture, or has no iris"
    return EyeContours(
        points(up), points(low), points(crease), centre, float(iris[2]) * unit, not reason, reason
    )


def _dark_eye(spot: dark_eyes.DarkEye, matrix: np.ndarray, unit: float, mirrored: bool) -> EyeContours:
    """An eye that is all iris as contours in the picture."""
    inverse = cv2.invertAffineTransform(matrix)

    def points(curve: np.ndarray) -> np.ndarray:
        curve = curve @ inverse[:, :2].T + inverse[:, 2]
        return _forward(_resampled(curve[::-1] if mirrored else curve))

    u = np.linspace(-1, 1, len(spot.upper))
    tall = float(spot.lower[:, 1].max() - spot.upper[:, 1].min())
    up = (0.035 * eye_fit.PER_D + 0.25 * tall) * np.sqrt(np.maximum(1 - (0.85 * u) ** 2, 0))
    crease = spot.upper - np.column_stack([np.zeros_like(up), up])
    reason = "the face is too small in this picture" if unit < SMALLEST_DISTANCE else ""
    return EyeContours(
        points(spot.upper),
        points(spot.lower),
        points(crease),
        (spot.middle @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32),
        0.45 * spot.width * unit / eye_fit.PER_D,
        not reason,
        reason,
    )


#: Close-ups do not count where a mouth's edges alone fit better by this much.
LIPS_DECIDE = 0.9

#: Disagreement of the looks on a mouth, in distances between the eyes, from which it is looked for higher up, too (by so many of
#: them), and from which it is not moved where it is not found there.
DISAGREE, HIGHER = (0.12, 0.16), (0.0, 0.18, 0.34)

#: Mouths whose gap is smaller than this, in distances between the eyes, are looked at again: they may be shut, or not.
LITTLE_OPEN = 0.045

#: The least fit of a mouth that is moved.
LEAST_MOUTH = 0.9

#: The least that its lips' edges stand out, outer and inner ones together; 0.7 to 1.8 of right ones.
LEAST_EDGES = 0.6


#: An opening of at least this gap, in distances between the eyes, that differs from its lips by no more than this, is a dark muzzle's
#: lower lip (0.16 of one; open mouths have 0.35 and more).
MUZZLE = 0.18, 0.22

#: The gap, in distances between the eyes, of a mouth that close-ups see open, and how far their looks are apart, where they alone
#: are believed: the edges of teeth and tongues are as strong as the lips' (of rendered people contours are off by .009 instead of
#: .048, of drawn ones by .013 instead of .059).
SEEN_OPEN, SEEN_ALIKE = 0.14, 0.02

#: The least darkness of a line that is taken for a mouth by itself, and how far close-ups' looks are apart, in distances
#: between the eyes, where they are believed without one.
DARK_LINE, LOOKS_AGREE = 0.25, 0.05


def _find_mouth(
    picture: np.ndarray, landmarks: Landmarks, axes: _Axes, looks: Sequence[Look]
) -> MouthContours:
    names = ("left mouth corner", "right mouth corner", "upper lip", "lower lip")
    marks = np.stack([landmarks[name] for name in names])
    spread = float(np.mean(landmarks.spread[[landmarks.names.index(name) for name in names]])) / axes.distance
    seen = _seen_open(looks, axes)
    if seen is not None:
        reason = "the face is too small in this picture" if axes.distance < SMALLEST_DISTANCE else ""
        return MouthContours(*seen, _chin(landmarks, axes, seen[3], seen[1]), sure=not reason, reason=reason)
    down = axes.distance * np.array([-axes.along[1], axes.along[0]])
    # Where the looks do not agree they may all be off: a mouth higher up may have the clearer edges.
    tried = [
        _fit_mouth(picture, marks - step * down, axes, looks if step == 0 else ())
        for step in (HIGHER if spread > DISAGREE[0] else HIGHER[:1])
    ]
    maps, matrix, fit = max(
        tried, key=lambda found: found[2].total - (found is not tried[0]) * LIPS_DECIDE / 3
    )
    theta = lip_fit.parted(maps, fit.theta) if fit.theta[5] < LITTLE_OPEN else fit.theta
    outer_up, line, inner_low, outer_low = (rows[0] for rows in lip_fit.curves(theta[None]))
    shut = theta[5] < 0.035
    if shut:
        line = lip_fit.curled(maps, theta, lip_fit.follow(maps, theta, line, "line"))
        inner_low = line.copy()
    else:
        line = lip_fit.follow(maps, theta, line, "inner upper")
        if theta[5] > lip_fit.WIDE_GAP:
            inner_low, outer_low = lip_fit.lower_lip(maps, theta, line, inner_low, outer_low)
        inner_low = np.maximum(lip_fit.follow(maps, theta, inner_low, "inner lower"), line)
        if theta[5] < lip_fit.WIDE_GAP:
            inner_low = lip_fit.without_flesh(maps, theta, line, inner_low, outer_low)
    outer_up = np.minimum(lip_fit.follow(maps, theta, outer_up, "outer upper"), line - 0.004)
    outer_low = np.maximum(lip_fit.follow(maps, theta, outer_low, "outer lower"), inner_low + 0.004)
    for curve in (outer_up, inner_low, outer_low):
        curve[[0, -1]] = line[[0, -1]]
    inverse = cv2.invertAffineTransform(matrix)

    def points(heights: np.ndarray) -> np.ndarray:
        x, y = lip_fit.place(theta[None], lip_fit.U[None], heights[None].astype(np.float32))
        return _resampled(np.column_stack([x[0], y[0]]) @ inverse[:, :2].T + inverse[:, 2])

    curves = [points(heights) for heights in (outer_up, line, inner_low, outer_low)]
    if theta[5] < lip_fit.WIDE_GAP:
        left, right = lip_fit.ends(maps, theta, line) @ inverse[:, :2].T + inverse[:, 2]
        curves = [_resampled(np.concatenate([[left], curve, [right]])) for curve in curves]
    reason = ""
    if axes.distance < SMALLEST_DISTANCE:
        reason = "the face is too small in this picture"
    elif spread > DISAGREE[1] and len(tried) > 1 and fit is tried[0][2]:
        reason = "the looks at this picture do not agree on where it is"
    elif (
        fit.total < LEAST_MOUTH
        or fit.parts["outer"] + fit.parts["inner"] < LEAST_EDGES
        or (theta[5] > MUZZLE[0] and fit.parts["between"] < MUZZLE[1])
    ):
        plain = _plain_mouth(picture, landmarks, axes, marks, looks)
        if plain is not None:
            return plain
        reason = "its lips are not clear in this picture"
    return MouthContours(
        *curves, _chin(landmarks, axes, curves[3], curves[1]), sure=not reason, reason=reason
    )


def _seen_open(looks: Sequence[Look], axes: _Axes) -> list[np.ndarray] | None:
    """The four curves of a mouth that close-ups agree is open; None of any other."""
    if not looks:
        return None
    points = np.stack([look.mouth for look in looks])
    middle = np.median(points, axis=0)
    apart = np.linalg.norm(points - middle, axis=2).mean()
    # `MOUTH_POINTS`: the outline's corners are 0 and 6, those of the opening 12 and 16.
    gap = np.linalg.norm(middle[14] - middle[18])
    if gap < SEEN_OPEN * axes.distance or apart > SEEN_ALIKE * axes.distance:
        return None
    rows = (
        [0, 1, 2, 3, 4, 5, 6],
        [0, 12, 13, 14, 15, 16, 6],
        [0, 12, 19, 18, 17, 16, 6],
        [0, 11, 10, 9, 8, 7, 6],
    )
    return [_resampled(_smooth_curve(middle[row])) for row in rows]


def _smooth_curve(points: np.ndarray, steps: int = 12) -> np.ndarray:
    """A curve through `points` (N, 2): Catmull and Rom's spline."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = (padded[k : k + len(points) - 1, None] for k in range(4))
    t = (np.arange(steps) / steps)[None, :, None]
    bent = (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.concatenate([(0.5 * bent).reshape(-1, 2), points[-1:]])


def _plain_mouth(
    picture: np.ndarray, landmarks: Landmarks, axes: _Axes, marks: np.ndarray, looks: Sequence[Look]
) -> MouthContours | None:
    """A mouth without clear lips, such as animals have, or men under a moustache: where its line is, or where close-ups see
    one, the jaw goes down. None where neither is sure.
    """
    eyes = sum(axes.eyes) / 2
    nose, mouth = ((at - eyes) @ axes.along for at in (landmarks["nose tip"], marks.mean(0)))
    # Landmarks of people's mouths may lie beside an animal's, which is below its nose.
    middle = marks.mean(0) + (0.6 * nose - mouth) * axes.along
    size = (lip_fit.WIDTH, lip_fit.HEIGHT)
    matrix = axes.to_crop(middle, lip_fit.PER_D, *size)
    maps = lip_fit.LipMaps(cut_crop(picture, matrix, *size), 0.8)
    theta, dark = lip_fit.search_line(maps)
    if dark < DARK_LINE:
        if not looks:
            return None
        points = np.stack([look.mouth for look in looks]) / axes.distance
        if np.linalg.norm(points - np.median(points, axis=0), axis=2).mean() > LOOKS_AGREE:
            return None
        seen = lip_fit.Seen.of(
            [
                (look.mouth @ matrix[:, :2].T + matrix[:, 2] - np.array(size) / 2) / lip_fit.PER_D
                for look in looks
            ]
        )
        theta = seen.theta.copy()
        theta[4:6] = theta[4] + 0.5 * theta[5], 0
    # A mouth lies below its nose, but landmarks of people's noses may lie beside an animal's, and so may what close-ups see.
    aside = nose / axes.distance
    axis = -0.6 * aside
    if dark >= DARK_LINE:
        axis += float(np.clip(0.5 * (theta[0] + theta[2]) - axis, min(aside, 0.0), max(aside, 0.0)))
    theta = lip_fit.widened(maps, theta, axis)
    outer_up, line, _, outer_low = (rows[0] for rows in lip_fit.curves(theta[None]))
    line = lip_fit.follow(maps, theta, line, "line")
    outer_up, outer_low = np.minimum(outer_up, line - 0.004), np.maximum(outer_low, line + 0.004)
    outer_up[[0, -1]] = outer_low[[0, -1]] = line[[0, -1]]
    inverse = cv2.invertAffineTransform(matrix)

    def points_of(heights: np.ndarray) -> np.ndarray:
        x, y = lip_fit.place(theta[None], lip_fit.U[None], heights[None].astype(np.float32))
        return _resampled(np.column_stack([x[0], y[0]]) @ inverse[:, :2].T + inverse[:, 2])

    curves = [points_of(heights) for heights in (outer_up, line, line, outer_low)]
    return MouthContours(*curves, _chin(landmarks, axes, curves[3], curves[1]), teeth="none")


def _fit_mouth(
    picture: np.ndarray, marks: np.ndarray, axes: _Axes, looks: Sequence[Look]
) -> tuple[lip_fit.LipMaps, np.ndarray, lip_fit.LipFit]:
    """The mouth near `marks` (4, 2): corners, upper and lower lip; with the maps and the crop that it was found in."""
    size = (lip_fit.WIDTH, lip_fit.HEIGHT)
    matrix = axes.to_crop(marks.mean(0), lip_fit.PER_D, *size)
    local = (marks @ matrix[:, :2].T + matrix[:, 2] - np.array(size) / 2) / lip_fit.PER_D
    left, right = local[0].copy(), local[1].copy()
    # A one-sided corner is the detector's error more often than a smile of one side.
    level = (left[1] + right[1]) / 2
    left[1], right[1] = 0.5 * (left[1] + level), 0.5 * (right[1] + level)
    if right[0] - left[0] < 0.2:
        middle = (left[0] + right[0]) / 2
        left[0], right[0] = middle - 0.25, middle + 0.25
    maps = lip_fit.LipMaps(cut_crop(picture, matrix, *size), float(right[0] - left[0]))
    upper, lower = float(local[2, 1] - level), float(local[3, 1] - level)
    fit = lip_fit.search(maps, np.array([*left, *right]), upper, max(lower, upper))
    if looks:
        seen = lip_fit.Seen.of(
            [
                (look.mouth @ matrix[:, :2].T + matrix[:, 2] - np.array(size) / 2) / lip_fit.PER_D
                for look in looks
            ]
        )
        held = lip_fit.search(maps, np.array([*left, *right]), upper, max(lower, upper), seen)
        # Close-ups know people's mouths; those of animals have edges that say otherwise.
        if fit.total - held.total < LIPS_DECIDE:
            fit = held
    return maps, matrix, fit


def _chin(landmarks: Landmarks, axes: _Axes, lowest: np.ndarray, line: np.ndarray) -> np.ndarray:
    """The chin's lowest point, at least as far below the lips as chins are."""
    down = np.array([-axes.along[1], axes.along[0]])
    middle = line.mean(0)
    lips = float(((lowest - middle) @ down).max())
    chin = float((landmarks["chin"] - middle) @ down)
    chin = float(np.clip(chin, lips + 0.18 * axes.distance, lips + 0.9 * axes.distance))
    aside = float(
        np.clip((landmarks["chin"] - middle) @ axes.along, -0.3 * axes.distance, 0.3 * axes.distance)
    )
    return (middle + chin * down + aside * axes.along).astype(np.float32)
