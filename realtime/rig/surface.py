"""A head in a still picture as a surface with depth, and the field that moves it.

The depth is what the matting network has seen; of the face in part, and where nothing was seen, that of a generic head laid over the
landmarks. Where the figure is wider than that head (hair, ears, hats) the surface then goes on at the depth of the skull's middle,
so that its outline stays about where it is while the face turns. Below the chin the head's motion fades into the body's, which
follows a part of what the neck does.

Fields live on a coarse grid of cells, one of which lies beyond each edge: cell (i, j) has its middle at the pixel
((j - .5) cell - .5, (i - .5) cell - .5), so that `cv2.resize` enlarges a grid to whole pixels.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from livepuppet.realtime.rig.pose import HeadPose, place, split
from livepuppet.realtime.rig.scratch import Memory
from livepuppet.realtime.rig.template import head_template

#: Side of a cell in pixels, for pictures whose longer side is 720; in larger ones cells are as much larger.
CELL = 10

#: Turns and nods are held softly within so many radians: the surface shows nothing that the picture did not. Up to the smaller one
#: its slopes may be steeper in proportion.
SMALL_TILT, LARGEST_TILT = 0.2, 0.45

#: Lengths below are in eye distances of the face.

#: Smoothness of the depth, of what bridges its gaps, and of all of it in the end.
SMOOTH, BRIDGE, SOFT = 0.06, 0.30, 0.06

#: Steepest slopes of the depth at `LARGEST_TILT`: where a turn squeezes it, what is steeper would fold; where it stretches it, one
#: pixel would become a streak; across the turn it would be sheared; and the steepest of all of them between chin and neck.
SQUEEZED, STRETCHED, SHEARED, JAW = 1.35, 2.5, 1.3, 0.75

#: Where the jaw's edge is, from the chin downwards.
CHIN = -0.12

#: Depth of the skull's outline behind the irises. Within `ROUND` of it, hair, ears and hats come
#: nearer by `BULGE`.
SKULL, BULGE, ROUND = -1.4, 0.5, 1.0

#: Half the width of what is face in the relief, where its middle lies below the irises, and half its height; and how much of a
#: face's depth is that of the generic head laid over its landmarks.
FACE, GENERIC = (0.95, 0.35, 1.05), 0.25

#: Half the width of a nose's tip, half its height, and by how much smooth reliefs are too flat there.
NOSE = 0.11, 0.15, 0.13

#: Around each eye, whose middle lies so far from between them, over so much across and down, both depths are the same.
EYES = 0.5, 0.25, 0.15

#: By how much the relief may differ from a generic head.
MOST = 1.2

#: How far cameras are: what comes nearer grows. Webcams see faces from 6 to 10 eye distances.
DISTANCE = 8.0

#: Half the width and half the height of what does.
LARGE = 1.6, 2.0

#: Shares of head, smoothed, from which on the relief is believed, and wholly.
SEEN = 0.3, 0.7

#: Beyond this share of the way back to the skull's middle the outline is held; and over what that is smoothed.
OUTLINE, EVEN = 0.7, 0.15

#: Where the head's motion fades into the body's: below the chin, over how much (the logistic's
#: width), and how much higher beside the jaw, where shoulders are.
NECK, FADE, RISE = 0.42, 0.28, 0.9

#: The same where the head is a layer of its own: for its long hair, and for the neck behind it, whose upper end makes this
#: share of the head's motion in the picture's plane.
HAIR, HAIR_FADE = 1.7, 0.4
NECK_BEND, NECK_FADE, NECK_SHARE = 0.45, 0.35, 0.8

#: Half the width of the jaw at the chin's height, and over how much that rise is reached.
HALF_JAW, FLANK = 0.5, 0.7

#: What people turn and nod about, the neck's lower end in the template's frame; and the share of
#: its motion that the body makes.
PIVOT, BODY = np.array([0.0, 1.8, -1.9]), 0.7

#: How far below the chin the body's motion has fallen to a third.
BODY_REACH = 7.0

#: Where the figure is cut by the picture's edge it is stretched over this depth instead of being pulled inside.
STRETCH = 1.6

#: Rounds of iteration by which a field is inverted; the size below which it leaves nothing of a cell there, and the furthest that
#: a round goes, in cells.
INVERSION, LEAST_SIZE, LARGEST_STEP = 3, 0.2, 1.5


@dataclass(frozen=True, eq=False)
class Surface:
    """A head's shape on one picture. Lengths are in its pixels.

    Attributes:
        shape: (H, W) of the picture.
        cell: side of a cell.
        across, down: float32 (rows, columns), the cells' middles.
        depth: float32 (rows, columns), towards the viewer, from the plane of the irises.
        turning: float32 (2, 4, rows, columns), the same as heads show it that turn right, left, down and up: no steeper than may
            be squeezed on the side that turns away, and stretched on the other, at `SMALL_TILT` and at `LARGEST_TILT`.
        turning_alone: the same of a head that is a layer of its own.
        head: float32 (rows, columns), 1 on the head, 0 on the body.
        body: float32 (rows, columns), how much the body there follows its upper end.
        outline: float32 (rows, columns), 1 where the surface is closed, see `OUTLINE`.
        outline_alone: the same of a head that is a layer of its own.
        pins: for (left, top, right, bottom), float32 (rows, columns) by which motion away from that edge is multiplied; None
            where the figure does not touch it.
        centre: float64 (2,), the middle between the irises.
        unit: eye distance.
        pivot: float64 (3,), the neck's lower end from `centre`.
        under: float32 (rows, columns), how far below the chin, in eye distances; beside the jaw, where shoulders are, more.
    """

    shape: tuple[int, int]
    cell: int
    across: np.ndarray
    down: np.ndarray
    depth: np.ndarray
    turning: np.ndarray
    turning_alone: np.ndarray
    head: np.ndarray
    body: np.ndarray
    outline: np.ndarray
    outline_alone: np.ndarray
    pins: tuple[np.ndarray | None, ...]
    centre: np.ndarray
    unit: float
    pivot: np.ndarray
    under: np.ndarray

    @property
    def still(self) -> np.ndarray:
        """The cells' middles, float32 (rows, columns, 2)."""
        return _grid(*self.depth.shape, self.cell)[0]

    @cached_property
    def _basis(self) -> np.ndarray:
        """What a displacement is a sum of, float32 (19, rows x columns): of the head its places (x, y), the same away from the
        outline, and 1; of the body 1 and its places; of the head x x, x y and y y, and its depth for each way of `turning`.
        """
        x, y = self.across - np.float32(self.centre[0]), self.down - np.float32(self.centre[1])
        inner, body = self.head * (1 - self.outline), (1 - self.head) * self.body
        near, far = (
            np.clip(plane, -most * self.unit, most * self.unit)
            for plane, most in zip((x, y), LARGE, strict=True)
        )
        planes = (
            *(self.head * x, self.head * y, inner * x, inner * y),
            *(self.head, body, body * x, body * y),
            *(self.head * near * near, self.head * near * far, self.head * far * far),
            *(self.head * depth for depth in self.turning.reshape(8, *self.depth.shape)),
        )
        return np.stack(planes).reshape(len(planes), -1)

    def of_head(self, matte: np.ndarray) -> Surface:
        """The same for a head that is a layer of its own, `matte` uint8 (H, W): all of it turns, but long hair on the shoulders; and
        it is held only where it is cut itself.
        """
        alpha = _on_cells(matte, self.cell, self.depth.shape)
        return replace(
            self,
            head=_fading(self.under, HAIR, HAIR_FADE),
            turning=self.turning_alone,
            outline=self.outline_alone,
            pins=_pins(alpha, self.across, self.down, self.shape, self.unit),
        )

    def of_body(self) -> Surface:
        """The same for the body behind it: the neck's upper end goes along, and does not turn."""
        neck = np.float32(NECK_SHARE) * _fading(self.under, NECK_BEND, NECK_FADE)
        return replace(self, head=neck, outline=np.ones_like(self.outline))

    def shrunk(self) -> Surface:
        """The same without the planes that a displacement's parts are made of: they are in `_basis`."""
        nothing, still = np.empty((0, 0), np.float32), self.still
        drawn = replace(
            self,
            across=still[..., 0],
            down=still[..., 1],
            turning=nothing,
            turning_alone=nothing,
            head=nothing,
            body=nothing,
            outline=nothing,
            outline_alone=nothing,
            under=nothing,
        )
        vars(drawn)["_basis"] = self._basis
        return drawn

    def displacement(self, pose: HeadPose) -> np.ndarray:
        """Where each cell's middle goes, less where it is: float32 (rows, columns, 2).

        Args:
            pose: since rest; its shift in pixels.
        """
        return cv2.merge(self._moved(pose))

    def inverse(self, displacement: np.ndarray) -> np.ndarray:
        """Where what is seen at each cell's middle came from, float32 (rows, columns, 2) in pixels."""
        return self._inverted(*cv2.split(displacement), Memory(np.float32))

    def source(
        self, pose: HeadPose, layer: tuple[slice, slice] | None, further: float, memory: Memory
    ) -> tuple[np.ndarray, tuple[slice, slice]]:
        """The inverse of the `displacement` in this pose.

        Args:
            layer: rows and columns of cells that hold all that moves; None for all.
            further: what moves does so by at most so many pixels more.
            memory: float32, that is written to on the way.

        Returns:
            With the rows and columns of cells in which it is that; what is moved is nowhere else, and there nothing moves.
        """
        moved = self._moved(pose)
        if layer is None:
            return self._inverted(*moved, memory), (slice(0, moved.shape[1]), slice(0, moved.shape[2]))
        reach = further / self.cell + 2
        part = moved[:, layer[0], layer[1]].reshape(2, -1)
        # What moves away is not to be seen where it was.
        low, high = part.min(1).clip(max=0).tolist(), part.max(1).clip(min=0).tolist()
        rows, columns = (
            slice(
                min(max(cells.start + math.floor(low[axis] / self.cell - reach), 0), count - 2),
                min(max(cells.stop + math.ceil(high[axis] / self.cell + reach), 2), count),
            )
            for axis, cells, count in zip((1, 0), layer, self.depth.shape, strict=True)
        )
        source, window = self.still.copy(), (rows, columns)
        source[window] = self._inverted(*(plane[window] for plane in moved), memory, window)
        return source, window

    # Planes for x and y apart: NumPy is slow where the last axis is short.

    def _moved(self, pose: HeadPose) -> np.ndarray:
        """The `displacement`, float32 (2, rows, columns)."""
        pose = pose.held(LARGEST_TILT)
        scale, shift, pivot = pose.scale, pose.shift.tolist(), self.pivot.tolist()
        # Plain numbers: of so few NumPy is slower.
        rotation = pose.rotation.tolist()
        _, roll = split(pose.rotation)
        cosine, sine, grow = scale * math.cos(roll), scale * math.sin(roll), BODY * (scale - 1)
        # What comes nearer grows about the middle between the irises.
        nearer, farther = (value / (DISTANCE * self.unit) for value in rotation[2][:2])
        small = _smallness(rotation)
        weights = []
        # The outline of a closed surface neither shrinks nor moves apart when it turns.
        for axis, (x, y) in enumerate(((cosine, -sine), (sine, cosine))):
            turned = [scale * value for value in rotation[axis]]
            neck = sum(map(operator.mul, turned, pivot)) - pivot[axis]
            row = [x - (axis == 0), y - (axis == 1), turned[0] - x, turned[1] - y]
            row += [shift[axis], BODY * (neck + shift[axis]) - grow * pivot[axis]]
            row += [grow * (axis == 0), grow * (axis == 1)]
            row += [x * nearer, x * farther + y * nearer, y * farther]
            ways = [0.0] * 8
            way = 2 * axis + (turned[2] <= 0)
            ways[way], ways[way + 4] = small * turned[2], (1 - small) * turned[2]
            weights.append(row + ways)
        moved = (np.array(weights, np.float32) @ self._basis).reshape(2, *self.depth.shape)
        for pin, axis, inward in zip(self.pins, (0, 1, 0, 1), (1, 1, -1, -1), strict=True):
            if pin is not None:
                part = moved[axis]
                np.multiply(part, pin, out=part, where=part * inward > 0)
        return moved

    def _inverted(
        self,
        across: np.ndarray,
        down: np.ndarray,
        memory: Memory,
        window: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> np.ndarray:
        """See `inverse`; of these rows and columns of cells, as if there were no others."""
        # Newton's method: a plain fixed point is slow where the field stretches, the derivative's diagonal alone where it shears.
        moved = [plane * np.float32(1 / self.cell) for plane in (across, down)]
        (xx, xy), (yx, yy) = (
            [cv2.Sobel(plane, cv2.CV_32F, 1 - axis, axis, ksize=1, scale=0.5) for axis in (0, 1)]
            for plane in moved
        )
        xx, yy = xx + np.float32(1), yy + np.float32(1)
        size = np.maximum(xx * yy - xy * yx, np.float32(LEAST_SIZE))
        field, steps = cv2.merge(moved), cv2.merge([yy / size, -xy / size, -yx / size, xx / size])
        first = [np.float32(part.start or 0) for part in reversed(window)]
        still = [
            plane[window] - start if start else plane[window]
            for plane, start in zip(_grid(*self.depth.shape, self.cell)[1], first, strict=True)
        ]
        most = np.float32(LARGEST_STEP)
        source = [place - plane for place, plane in zip(still, moved, strict=True)]
        rounds = [
            (plane, *found) for plane, found in zip((field, steps), _found(across.shape, memory), strict=True)
        ]
        for _ in range(INVERSION):
            for plane, sampled, planes in rounds:
                cv2.remap(plane, *source, cv2.INTER_LINEAR, dst=sampled, borderMode=cv2.BORDER_REPLICATE)
                cv2.split(sampled, planes)
            (_, _, found), (_, _, inverse) = rounds
            off = [still[axis] - source[axis] - found[axis] for axis in (0, 1)]
            for axis in (0, 1):
                step = inverse[2 * axis] * off[0] + inverse[2 * axis + 1] * off[1]
                source[axis] += np.minimum(np.maximum(step, -most), most)
        offset, cell = np.float32(0.5 / self.cell + 0.5), np.float32(self.cell)
        return cv2.merge(
            [(plane + (start - offset)) * cell for plane, start in zip(source, first, strict=True)]
        )

    def cells_around(self, rows: slice, columns: slice) -> tuple[slice, slice]:
        """Rows and columns of the cells in which pixels of these lie, and of those beside."""
        rows, columns = (
            slice(max(part.start // self.cell, 0), min(-(-part.stop // self.cell) + 2, count))
            for part, count in zip((rows, columns), self.depth.shape, strict=True)
        )
        return rows, columns

    def _cells(self, places: np.ndarray) -> np.ndarray:
        """`places` in pixels, counted in cells."""
        return _in_cells(places, self.cell)

    def sampled(self, field: np.ndarray, places: np.ndarray) -> np.ndarray:
        """`field` float32 (rows, columns, C) at `places` float32 (h, w, 2), in pixels."""
        return cv2.remap(field, self._cells(places), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@lru_cache(8)
def _grid(rows: int, columns: int, cell: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The middles of so many cells, float32 (rows, columns, 2) in pixels; and counted in cells, (rows, columns) each. Nobody writes to
    them.
    """
    places = [((np.arange(count) - 0.5) * cell - 0.5).astype(np.float32) for count in (columns, rows)]
    still = np.dstack(np.meshgrid(*places))
    across, down = cv2.split(_in_cells(still, cell))
    return still, (across, down)


def _in_cells(places: np.ndarray, cell: int) -> np.ndarray:
    """`places` in pixels, counted in cells."""
    return places * np.float32(1 / cell) + np.float32(0.5 / cell + 0.5)


def _found(shape: tuple[int, ...], memory: Memory) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """What `Surface.source` writes to: arrays that OpenCV makes itself cost more than what is written to them."""
    flat, found = memory.take(12, *shape), []
    for first, count in ((0, 2), (4, 4)):
        whole = flat[first : first + count].reshape(*shape, count)
        found.append((whole, list(flat[first + count : first + 2 * count])))
    return found


def _smallness(rotation: list[list[float]]) -> float:
    """How much of a turned head's depth is that of `SMALL_TILT`, so that the steepest slope goes with the tilt's cotangent."""
    # The viewer's axis: its part in the picture's plane over that towards the viewer is the tilt's tangent.
    x, y, z = (row[2] for row in rotation)
    least, most = 1 / math.tan(LARGEST_TILT), 1 / math.tan(SMALL_TILT)
    return min(max((max(z, 1e-6) / max(math.hypot(x, y), 1e-6) - least) / (most - least), 0.0), 1.0)


def build_surface(
    shape: tuple[int, int],
    landmarks: np.ndarray,
    names: Sequence[str],
    matte: np.ndarray | None,
    relief: np.ndarray | None = None,
) -> Surface | None:
    """The surface of the head whose `landmarks` (K, 2), in pixels, are given; None where they are no face's.

    Args:
        shape: (H, W) of the picture.
        names: of the landmarks.
        matte: uint8 (H, W), the figure; None where all of the picture moves as one layer.
        relief: see `FigureLayers`; None where the generic head has to do.
    """
    placed = place(landmarks, names)
    if placed is None:
        return None
    places, pose = placed
    height, width = shape
    cell = max(4, round(CELL * max(shape) / 720))
    rows, columns = -(-height // cell) + 2, -(-width // cell) + 2
    across, down = cv2.split(_grid(rows, columns, cell)[0])
    unit, centre = pose.scale, pose.shift
    alpha = None if matte is None else _on_cells(matte, cell, (rows, columns))
    # The face's own directions.
    _, roll = split(pose.rotation)
    right, below = np.array([np.cos(roll), np.sin(roll)]), np.array([-np.sin(roll), np.cos(roll)])
    u = ((across - centre[0]) * right[0] + (down - centre[1]) * right[1]) / unit
    v = ((across - centre[0]) * below[0] + (down - centre[1]) * below[1]) / unit
    chin = _chin(landmarks, names, places, centre, below) / unit
    skull, inside = np.full(u.shape, SKULL * unit, np.float32), np.ones(u.shape, np.float32)
    if alpha is not None:
        inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        inside = np.minimum(inside, ROUND * unit / cell) * np.float32(cell / unit / ROUND)
        skull += BULGE * unit * inside * (2 - inside)
    depth = _depth(landmarks, places, pose, across, down, cell, skull)
    if relief is not None:
        depth = _with_relief(depth, relief, across, down, u, v, unit, width)
        depth = depth + _nose(landmarks, names, across, down, right, below, unit)
    under = v - chin + RISE * (1 - np.exp(-np.square(np.maximum(np.abs(u) - HALF_JAW, 0) / FLANK)))
    head = _fading(under, NECK, FADE)
    soft = max(0.6, SOFT * unit / cell)
    above = _fading(under, -0.3, 0.1)
    # The neck turns about its own axis: its outline stays.
    whole = np.where(under > 0, np.minimum(depth, PIVOT[2] * unit), depth)
    turning = _turning(whole, JAW + above * (SQUEEZED - JAW), JAW + above * (STRETCHED - JAW), cell, soft)
    # A head that is a layer of its own ends at the jaw, and comes forward as far as that.
    jaw = _carried(depth, under > CHIN)
    alone = _turning(jaw, SQUEEZED, STRETCHED, cell, soft)
    even = max(0.6, EVEN * unit / cell)
    outline, outline_alone = (
        _outline_of(cv2.GaussianBlur(plane.astype(np.float32), (0, 0), even), unit) for plane in (whole, jaw)
    )
    depth = cv2.GaussianBlur(whole.astype(np.float32), (0, 0), soft)
    fall = np.exp(-np.square(np.maximum(v - chin, 0) / BODY_REACH))
    if alpha is None:
        # One layer: the motion ends softly within the picture.
        away = np.hypot(u / 2.0, (v - 0.2) / 2.6)
        near = np.clip((1.9 - away) / 0.9, 0, 1)
        edge = np.minimum.reduce([across, down, width - 1 - across, height - 1 - down]) - cell
        near = (near * near * (3 - 2 * near)) * np.clip(edge / (0.8 * unit), 0, 1)
        head, fall = head * near, fall * near
    pins = _pins(alpha, across, down, shape, unit)
    pivot = pose.rotation @ PIVOT * unit
    as32 = lambda values: np.ascontiguousarray(values, np.float32)  # noqa: E731
    return Surface(
        shape,
        cell,
        across,
        down,
        as32(depth),
        as32(turning),
        as32(alone),
        as32(head),
        as32(fall),
        as32(outline),
        as32(outline_alone),
        pins,
        centre,
        unit,
        pivot,
        as32(under),
    )


def _on_cells(matte: np.ndarray, cell: int, shape: tuple[int, ...]) -> np.ndarray:
    """`matte` uint8 (H, W) on the grid of `shape` (rows, columns), float32 in [0, 1]."""
    (rows, columns), (height, width) = shape, matte.shape
    wide = cv2.copyMakeBorder(
        matte, cell, (rows - 1) * cell - height, cell, (columns - 1) * cell - width, cv2.BORDER_REPLICATE
    )
    return cv2.resize(wide, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _fading(under: np.ndarray, middle: float, width: float) -> np.ndarray:
    """From 1 above to 0 below, float32."""
    return (1 / (1 + np.exp(np.clip((under - middle) / width, -30, 30)))).astype(np.float32)


def _depth(landmarks, places, pose: HeadPose, across, down, cell: int, skull: np.ndarray) -> np.ndarray:
    """Depth on the grid, smooth: the template's points where the landmarks have them, the skull's middle elsewhere."""
    template = head_template()
    points = template.points @ pose.rotation.T * pose.scale
    facing = (template.normals @ pose.rotation.T)[:, 2] > 0.05
    points = points[facing]
    points[:, :2] += pose.shift
    known = np.isfinite(places[:, 0])
    off = np.clip(landmarks[known] - places[known, :2], -0.5 * pose.scale, 0.5 * pose.scale)
    apart = points[:, None, :2] - places[known][None, :, :2]
    near = np.exp(-(apart**2).sum(2) / (2 * (0.55 * pose.scale) ** 2))
    points[:, :2] += (near @ off) / (near.sum(1, keepdims=True) + 0.6)
    weight, level = np.zeros(across.shape, np.float32), np.zeros(across.shape, np.float32)
    row = np.floor(points[:, 1] / cell).astype(int) + 1
    column = np.floor(points[:, 0] / cell).astype(int) + 1
    inside = (row >= 0) & (row < across.shape[0]) & (column >= 0) & (column < across.shape[1])
    np.add.at(weight, (row[inside], column[inside]), 1.0)
    np.add.at(level, (row[inside], column[inside]), points[inside, 2].astype(np.float32))
    unit = pose.scale / cell
    # Points of the even template for each cell, where they lie flat to the viewer.
    usual = 90.0 / unit**2
    depth, share = np.zeros(across.shape, np.float32), np.zeros(across.shape, np.float32)
    for size in (SMOOTH, BRIDGE):
        near = cv2.GaussianBlur(weight, (0, 0), max(0.6, size * unit))
        smooth = cv2.GaussianBlur(level, (0, 0), max(0.6, size * unit)) / np.maximum(near, 1e-9)
        sure = np.clip(near / (0.35 * usual) - 0.15, 0, 1) * (1 - share)
        depth, share = depth + sure * smooth, share + sure
    depth = depth + (1 - share) * skull
    return np.maximum(depth, skull)


def _with_relief(depth, relief, across, down, u, v, unit: float, width: int) -> np.ndarray:
    """`depth` on the grid as it was seen; faces in part as a generic one that is fitted to the landmarks."""
    scale = np.float32(relief.shape[1] / width)
    x, y = ((places + np.float32(0.5)) * scale - np.float32(0.5) for places in (across, down))
    seen = cv2.remap(relief, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    level = seen[..., 0] * np.float32(unit)
    sure = np.clip((seen[..., 1] - SEEN[0]) / (SEEN[1] - SEEN[0]), 0, 1)
    # Both are of one head: what they are off at the eyes is no depth.
    eyes = np.exp(-(np.square((np.abs(u) - EYES[0]) / EYES[1]) + np.square(v / EYES[2])) / 2) * sure
    off = float(((depth - level) * eyes).sum() / max(float(eyes.sum()), 1e-6))
    share = sure * (1 - GENERIC * np.exp(-((u / FACE[0]) ** 4) - ((v - FACE[1]) / FACE[2]) ** 4))
    # Never much further from what a head would have there: misread depths would fold.
    change = np.clip(level + np.float32(off) - depth, -MOST * unit, MOST * unit)
    return (depth + share * change).astype(np.float32)


def _nose(landmarks, names, across, down, right, below, unit: float) -> np.ndarray:
    """What the relief lacks of a nose's height, on the grid."""
    if "nose tip" not in names:
        return np.zeros_like(across)
    x, y = landmarks[list(names).index("nose tip")]
    u = (across - x) * right[0] + (down - y) * right[1]
    v = (across - x) * below[0] + (down - y) * below[1]
    away = np.square(u / (NOSE[0] * unit)) + np.square(v / (NOSE[1] * unit))
    return (NOSE[2] * unit * np.exp(-away / 2)).astype(np.float32)


def _turning(depth: np.ndarray, squeezed, stretched, cell: int, soft: float) -> np.ndarray:
    """See `Surface.turning`, for slopes that are no steeper than these at `LARGEST_TILT`: numbers or planes."""
    levels = []
    for steeper in (math.tan(LARGEST_TILT) / math.tan(SMALL_TILT), 1.0):
        fall, rise, beside = (
            np.broadcast_to(np.float32(cell * steeper) * np.asarray(steepest, np.float32), depth.shape)
            for steepest in (squeezed, stretched, np.minimum(squeezed, SHEARED))
        )
        for axis in (1, 0):
            for slopes in ((fall, rise), (rise, fall)):
                gentle = _gentle(_gentle(depth, axis, *slopes), 1 - axis, beside, beside)
                levels.append(cv2.GaussianBlur(gentle, (0, 0), soft))
    return np.stack(levels).reshape(2, 4, *depth.shape)


def _carried(depth: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`depth` with that of the nearest cell elsewhere, where it is `below`, bool (rows, columns)."""
    if below.all():
        return depth
    _, labels = cv2.distanceTransformWithLabels(
        below.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of = np.zeros(int(labels.max()) + 1, depth.dtype)
    of[labels[~below]] = depth[~below]
    return of[labels]


def _outline_of(depth: np.ndarray, unit: float) -> np.ndarray:
    """See `Surface.outline`."""
    outline = np.clip((depth / (SKULL * unit) - (1 - OUTLINE)) / OUTLINE, 0, 1)
    return outline * outline * (3 - 2 * outline)


def _gentle(depth: np.ndarray, axis: int, fall: np.ndarray, rise: np.ndarray) -> np.ndarray:
    """`depth` raised where, along an axis, it falls by more than `fall` or rises by more than `rise` from one cell to the next.

    All are float32 (rows, columns).
    """
    result, fall, rise = (
        np.array(plane if axis == 0 else plane.T, order="C") for plane in (depth, fall, rise)
    )
    for steps, order in ((fall, range(len(result))), (rise, range(len(result) - 1, -1, -1))):
        for before, row in itertools.pairwise(order):
            np.maximum(result[row], result[before] - steps[row], out=result[row])
    return result if axis == 0 else np.ascontiguousarray(result.T)


def _chin(landmarks, names, places, centre, below) -> float:
    """How far the chin is below the irises, in pixels."""
    index = list(names).index("chin") if "chin" in names else None
    expected = head_template().landmarks["chin"][1]
    if index is None or not np.isfinite(places[index, 0]):
        return float(expected)
    template = float((places[index, :2] - centre) @ below)
    seen = float((np.asarray(landmarks[index]) - centre) @ below)
    return float(np.clip(0.5 * (template + seen), 0.75 * template, 1.4 * template))


def _pins(alpha, across, down, shape, unit: float) -> tuple[np.ndarray | None, ...]:
    """See `Surface.pins`."""
    if alpha is None:
        return (None, None, None, None)
    height, width = shape
    edges = tuple(np.ascontiguousarray(edge) for edge in (alpha[:, 0], alpha[0], alpha[:, -1], alpha[-1]))
    distances = (across, down, width - 1 - across, height - 1 - down)
    pins = []
    size = 0.4 * unit / (across[0, 1] - across[0, 0])
    for edge, distance in zip(edges, distances, strict=True):
        # Only where the figure reaches the edge: beside it there is nothing to stretch.
        touches = np.clip(2 * cv2.GaussianBlur(edge[None], (0, 0), max(0.6, size))[0], 0, 1)
        if touches.max() < 0.05:
            pins.append(None)
            continue
        along = touches[:, None] if distance is across or len(pins) == 2 else touches[None]
        share = np.clip(distance / (STRETCH * unit), 0, 1)
        pins.append((1 - along * (1 - share * (2 - share))).astype(np.float32))
    return tuple(pins)
