"""One avatar's head, drawn in any pose: a matte, a plate, a surface with depth, and one sampling. No network.

    head = Head(picture, square, points, names)      once per avatar and size: 0.2 s
    head.draw(HeadState(pose, residuals), out)       per frame: a few milliseconds

The field that moves the figure is worked out on a coarse grid, inverted there, and enlarged; then the figure is sampled once, at
the picture's own resolution, and laid over the plate. Nothing moves: the picture itself, to the bit.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.core.square import Square
from livepuppet.realtime.compositing.matte import figure_colours
from livepuppet.realtime.rig.lattice import Lattice, box_of
from livepuppet.realtime.rig.layers import FigureLayers, split_layers
from livepuppet.realtime.rig.mouth import MouthBend, MouthMotion
from livepuppet.realtime.rig.patches import Patch
from livepuppet.realtime.rig.pose import HeadPose, place
from livepuppet.realtime.rig.sampling import OFFSET, SCALE, Sampler
from livepuppet.realtime.rig.surface import Surface, build_surface

#: Landmarks that move a part of the face on top of the head's own motion: words of their names, and the width of what goes along,
#: in eye distances.
PARTS = {
    "brow": 0.38,
    "corner": 0.34,
    "upper lip": 0.22,
    "lower lip": 0.22,
    "chin": 0.5,
    "lid": 0.16,
    "iris": 0.13,
}

#: Furthest that a part goes, in its own widths.
FURTHEST = 1.0

#: Rows of cells that are drawn at once: each is as wide as the figure is there.
STRIP = 12

#: A cell and those around it.
NEAR = np.ones((3, 3), np.uint8)

#: Rounds of iteration by which what the face does is inverted.
FACE_INVERSION = 3

#: Motion of less than this many pixels is none.
STILL = 1 / 64


@dataclass(frozen=True, eq=False)
class HeadState:
    """What one frame shows of a head.

    Attributes:
        pose: since rest, its shift in pixels of the picture.
        residuals: float (K, 2), by how far keypoints go beyond what the head does, in pixels of the unturned picture; None for
            nothing.
        patches: what eyes draw over the picture.
        mouth: what its mouth does; None where that is at rest.
        brows: by how far each cell of the face goes, see `Brows.field`; None where they are at rest.
    """

    pose: HeadPose
    residuals: np.ndarray | None = None
    patches: Sequence[Patch] = ()
    mouth: MouthMotion | None = None
    brows: np.ndarray | None = None

    @property
    def moves(self) -> bool:
        """Whether anything is other than at rest."""
        moved = self.residuals is not None and bool(np.any(self.residuals))
        still = self.mouth is None and self.brows is None
        return moved or self.pose.moves or len(self.patches) > 0 or not still


@dataclass(frozen=True)
class _Strip:
    """Rows of a picture, and columns of those: that changed; and of each sheet those in which it is, and that it fills."""

    rows: slice
    moved: slice
    spans: tuple[tuple[slice, slice], ...]


class Memory:
    """Memory that is used again for every picture, and small enough to stay in a core's cache: fresh pages cost more than what
    is written to them.
    """

    def __init__(self, kind: type):
        self._flat = np.empty(0, kind)

    def take(self, height: int, width: int, channels: int) -> np.ndarray:
        """An array (height, width, channels), whose content is lost when the next is taken."""
        size = height * width * channels
        if self._flat.size < size:
            self._flat = np.empty(size, self._flat.dtype)
        return self._flat[:size].reshape(height, width, channels)


class _Sheet:
    """One layer that moves as a whole: the figure, or its body or head.

    Args:
        flat: uint8 RGBA (H, W, 4); premultiplied over a background, straight without one.
        surface: which moves it.
        whole: it fills the picture, and beyond its edge goes on.

    Attributes:
        still: `flat` without what is laid over it.
        sampler: of `flat`.
        coarse: the layer on the grid, float32 (rows, columns, 2): above 0 wherever a cell or its neighbours have some of it, and
            1 where they have nothing else; None for a whole one.
    """

    def __init__(self, flat: np.ndarray, surface: Surface, whole: bool = False):
        self.still, self.surface = flat, surface
        self.sampler = Sampler(flat)
        self.coarse = None if whole else _cells(flat[..., 3], surface)
        # Beyond the picture there is no figure: where it reaches the edge, it is stretched.
        self._border = cv2.BORDER_REPLICATE if whole else cv2.BORDER_CONSTANT
        self._enlarged = Memory(np.float32)
        self._source = surface.still
        self._bend: tuple[tuple[slice, slice], np.ndarray] | None = None

    def move(self, source: np.ndarray, bend: MouthBend | None = None) -> None:
        """Sample from now on where the grid's `source` says, and within the mouth where that says."""
        self._source = np.float32(SCALE) * source + np.float32(OFFSET)
        self._bend = None if bend is None else (bend.lattice.place, bend.shift(SCALE))

    def _places(self, rows: slice, columns: slice) -> np.ndarray:
        """Where these pixels come from in the sampler's picture, float32 (h, w, 2)."""
        cell = self.surface.cell
        # With the cells around: what lies between two middles is of both.
        down, across = (slice(part.start // cell, (part.stop - 1) // cell + 3) for part in (rows, columns))
        part = self._source[down, across]
        enlarged = self._enlarged.take(cell * part.shape[0], cell * part.shape[1], 2)
        cv2.resize(part, enlarged.shape[1::-1], dst=enlarged, interpolation=cv2.INTER_LINEAR)
        top, left = rows.start - (down.start - 1) * cell, columns.start - (across.start - 1) * cell
        places = enlarged[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
        if self._bend is not None:
            bent, shift = self._bend
            both = [_common(*pair) for pair in zip((rows, columns), bent, strict=True)]
            here, there = (
                tuple(
                    slice(part.start - whole.start, part.stop - whole.start)
                    for part, whole in zip(both, wholes, strict=True)
                )
                for wholes in ((rows, columns), bent)
            )
            places[here] += shift[there]
        return places

    def seen(self, source: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cells that show some of it, and cells that show more than it, bool (rows, columns) each."""
        if self.coarse is None:
            return moved, np.zeros_like(moved)
        cell = self.surface.cell
        if self._bend is not None:
            # A chin that goes down is seen where there was none.
            place, shift = self._bend
            cells, at = [], []
            for part, count in zip(place, source.shape, strict=False):
                # The first whose middle lies in it.
                first = max(-(-(part.start + 1 + cell // 2) // cell), 0)
                start = first * cell - cell // 2 - 1 - part.start
                cells.append(
                    slice(first, min(first + len(range(start, part.stop - part.start, cell)), count))
                )
                at.append(slice(start, start + cell * (cells[-1].stop - first), cell))
            source = source.copy()
            source[tuple(cells)] += shift[tuple(at)] * np.float32(1 / SCALE)
        within = source * np.float32(1 / cell) + np.float32(0.5 / cell + 0.5)
        found = cv2.remap(self.coarse, within, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return found[..., 0] > 0, found[..., 1] < 0.999

    def sample(self, rows: slice, columns: slice, out: np.ndarray) -> np.ndarray:
        """What is seen there, uint8 RGBA (h, w, 4), in `out`."""
        return self.sampler.sample(self._places(rows, columns), self._border, out)


def _cells(matte: np.ndarray, surface: Surface) -> np.ndarray:
    """See `_Sheet.coarse`."""
    cell, (rows, columns), (height, width) = surface.cell, surface.depth.shape, matte.shape
    wide = cv2.copyMakeBorder(
        matte, cell, (rows - 1) * cell - height, cell, (columns - 1) * cell - width, cv2.BORDER_REPLICATE
    )
    cells = wide.reshape(rows, cell, columns, cell)
    largest, least = cells.max(axis=(1, 3)), cells.min(axis=(1, 3))
    # Beyond the picture there is nothing.
    least[[0, -1]] = least[:, [0, -1]] = 0
    return np.dstack([cv2.dilate(largest, NEAR), cv2.erode(least, NEAR)]).astype(np.float32) / 255


def _common(one: slice, other: slice) -> slice:
    """Where both are; none where it does not begin before it ends."""
    start = max(one.start, other.start)
    return slice(start, max(min(one.stop, other.stop), start))


def _minus(span: slice, hole: slice) -> list[slice]:
    """The parts of a span that lie outside of another."""
    if hole.start >= hole.stop:
        return [span] if span.start < span.stop else []
    parts = (slice(span.start, min(span.stop, hole.start)), slice(max(span.start, hole.stop), span.stop))
    return [part for part in parts if part.start < part.stop]


class Head:
    """Draws one picture. One thread at a time.

    Args:
        picture: uint8 RGB (H, W, 3).
        square: the face crop, in its pixels.
        landmarks: float (K, 2) of the face, in its pixels.
        names: of the landmarks.
        matte: uint8 (H, W), where the figure is known already.
        background: what is shown behind the figure instead of the picture's own, uint8 RGB (H, W, 3); "alpha" for none, which
            makes pictures RGBA with straight alpha.
        parts: names of the landmarks whose residuals are drawn; by default all that `PARTS` names.
        layers: what `split_layers` gave for this very picture, where it is known.
        others: see `split_layers`.

    Attributes:
        layers: figure and plate.
        surface: the head's.
        rest: what is shown at rest, uint8 (H, W, 3 or 4).
        why: the sentence that says what is amiss; None where all is well.

    Raises:
        ValueError: the landmarks are no face's.
    """

    def __init__(
        self,
        picture: np.ndarray,
        square: Square,
        landmarks: np.ndarray,
        names: Sequence[str],
        matte: np.ndarray | None = None,
        background: np.ndarray | str | None = None,
        parts: Sequence[str] | None = None,
        layers: FigureLayers | None = None,
        others: Sequence[Square] = (),
    ):
        landmarks = np.asarray(landmarks, np.float64)
        placed = place(landmarks, names)
        if placed is None:
            raise ValueError("the landmarks are no face's")
        if layers is None:
            layers = split_layers(
                picture,
                square,
                landmarks,
                placed[1].scale,
                matte,
                placed[1].shift,
                others,
            )
        self.layers = layers
        self.why = layers.why
        self.surface = build_surface(picture.shape[:2], landmarks, names, layers.matte, layers.relief)
        self._picture = picture
        self._shape = picture.shape[:2]
        self._parts, self._widths, self._fields = self._part_fields(
            landmarks, names, names if parts is None else parts
        )
        self._open = isinstance(background, str)
        self._pasted: list[tuple[slice, slice]] = []
        self._laid: list[Patch] = []
        if layers.matte is None:
            plate = None
        else:
            plate = layers.plate if background is None else None if self._open else background
        self._plate = plate
        self._mixing, self._sampled = (Memory(np.uint8), Memory(np.uint8), Memory(np.uint8)), Memory(np.uint8)
        self._sheets = self._cut(background)
        # What patches are laid over, and without them.
        face = self._sheets[-1]
        self._still, self._sampler = face.still, face.sampler
        self._flat, self._shown = face.sampler.pixels, picture.copy()
        self._thin: dict[tuple[int, ...], tuple[np.ndarray, ...]] = {}
        # What is behind the face at rest, and all of it.
        self._below, self.rest = self._at_rest()

    def _cut(self, background: np.ndarray | str | None) -> list[_Sheet]:
        """What moves, from behind to the front; the last one has the face."""
        layers, picture, surface = self.layers, self._picture, self.surface
        if layers.matte is None or layers.alpha is None:
            return [_Sheet(cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA), surface, whole=True)]
        split = layers.head
        if background is None:
            if split is None:
                return [_Sheet(np.dstack([layers.colours, layers.alpha]), surface)]
            return [
                _Sheet(split.body, surface.of_body()),
                _Sheet(split.head, surface.of_head(split.head_alpha)),
            ]
        own = figure_colours(picture, layers.matte)
        if split is None:
            return [_Sheet(self._over_others(own, layers.matte), surface)]
        return [
            _Sheet(self._over_others(split.torso_on(own), split.body_alpha), surface.of_body()),
            _Sheet(self._over_others(own, split.head_alpha), surface.of_head(split.head_alpha)),
        ]

    def _over_others(self, colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """A layer for another background, or for none."""
        if self._open:
            return np.dstack([colours, alpha])
        share = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
        return np.dstack([cv2.multiply(colours, share, scale=1 / 255), alpha])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what is drawn."""
        return (*self._shape, 4 if self._open else 3)

    @property
    def parts(self) -> list[int]:
        """Landmarks whose residuals are drawn."""
        return [int(part) for part in self._parts]

    def draw(self, state: HeadState, out: np.ndarray) -> None:
        """Write the picture in this state into `out`, uint8 (H, W, 3), or RGBA where there is no background. May be a view."""
        if not state.moves:
            np.copyto(out, self.rest)
            return
        self._paste(state.patches)
        face = self._sheets[-1]
        sources = [sheet.surface.source(state.pose) for sheet in self._sheets]
        source = sources[-1]
        # What the face does comes before what the head does.
        face_field = state.brows
        if state.residuals is not None and np.any(state.residuals):
            residual = self._residual(state.residuals)
            face_field = residual if face_field is None else residual + face_field
        if face_field is not None:
            seen = source.copy()
            for _ in range(FACE_INVERSION):
                np.subtract(seen, face.surface.sampled(face_field, source), out=source)
        bend = None if state.mouth is None else self._bend(state.mouth, source)
        moved = self._moved(sources, bend)
        if not moved.any():
            np.copyto(out, self.rest)
            for spot in self._pasted:
                self._lay_over(self._flat[spot], self._below_at(*spot), out[spot])
            return
        for sheet, own in zip(self._sheets, sources, strict=True):
            sheet.move(own, bend if sheet is face else None)
        width, done = self._shape[1], 0
        for strip in self._strips(sources, moved):
            rows = strip.rows
            self._show_rest(out, slice(done, rows.start), slice(0, width))
            for side in _minus(slice(0, width), strip.moved):
                self._show_rest(out, rows, side)
            done = rows.stop
            self._draw_strip(strip, out)
        self._show_rest(out, slice(done, self._shape[0]), slice(0, width))
        if bend is not None:
            bend.paint(out[bend.lattice.place])

    def _draw_strip(self, strip: _Strip, out: np.ndarray) -> None:
        """Plate and sheets, from behind to the front; what a sheet in front of it fills is not drawn."""
        rows, spans = strip.rows, strip.spans
        # What nothing in front fills, for the plate and each sheet.
        free = [strip.moved]
        clear = [free]
        for _, solid in reversed(spans):
            free = [part for span in free for part in _minus(span, solid)]
            clear.append(free)
        clear.reverse()
        if self._sheets[0].coarse is not None:
            for part in clear[0]:
                out[rows, part] = 0 if self._plate is None else self._plate[rows, part]
        for sheet, (figure, solid), seen in zip(self._sheets, spans, clear[1:], strict=True):
            for span in seen:
                part = _common(span, figure)
                if part.start >= part.stop:
                    continue
                sampled = self._sampled.take(rows.stop - rows.start, part.stop - part.start, 4)
                sheet.sample(rows, part, sampled)
                for side in _minus(part, solid):
                    shown = sampled[:, side.start - part.start : side.stop - part.start]
                    self._lay_over(shown, out[rows, side], out[rows, side])
                inner = _common(part, solid)
                if inner.start < inner.stop:
                    shown = sampled[:, inner.start - part.start : inner.stop - part.start]
                    if self._open:
                        np.copyto(out[rows, inner], shown)
                    else:
                        cv2.cvtColor(shown, cv2.COLOR_RGBA2RGB, dst=out[rows, inner])

    def _bend(self, mouth: MouthMotion, source: np.ndarray) -> MouthBend | None:
        """The mouth where it is seen."""
        left, top, right, bottom = mouth.rectangle
        x, y = source[..., 0], source[..., 1]
        box = box_of((x > left) & (x < right) & (y > top) & (y < bottom))
        if box is None:
            return None
        # As far as the middles of the cells beside.
        cell, half = self.surface.cell, -(-self.surface.cell // 2)
        starts = [max((part.start - 2) * cell + half, 0) for part in box]
        stops = [min(part.stop * cell + half, size) for part, size in zip(box, self._shape, strict=True)]
        if min(stops[0] - starts[0], stops[1] - starts[1]) <= 0:
            return None
        lattice = Lattice.over(starts[1], starts[0], stops[1], stops[0], mouth.block)
        shown = self.surface.sampled(source, np.dstack(np.meshgrid(*lattice.nodes)))
        return mouth.on(lattice, shown[..., 0], shown[..., 1])

    def _lay_over(self, figure: np.ndarray, below: np.ndarray | None, region: np.ndarray) -> None:
        """Write `figure` uint8 RGBA (h, w, 4) over what is `below` it, (h, w, 3 or 4), which may be the region itself."""
        if self._open:
            _over_straight(figure, below, region)
            return
        if below is None or self._sheets[0].coarse is None:
            cv2.cvtColor(figure, cv2.COLOR_RGBA2RGB, dst=region)
            return
        height, width = figure.shape[:2]
        clear, share, colour = (
            memory.take(height, width, channels)
            for memory, channels in zip(self._mixing, (1, 3, 3), strict=True)
        )
        cv2.extractChannel(figure, 3, dst=clear)
        cv2.bitwise_not(clear, dst=clear)
        cv2.cvtColor(clear, cv2.COLOR_GRAY2RGB, dst=share)
        cv2.multiply(below, share, dst=share, scale=1 / 255)
        cv2.cvtColor(figure, cv2.COLOR_RGBA2RGB, dst=colour)
        cv2.add(colour, share, dst=region)

    def _below_at(self, rows: slice, columns: slice) -> np.ndarray | None:
        return None if self._below is None else self._below[rows, columns]

    def _show_rest(self, out: np.ndarray, rows: slice, columns: slice) -> None:
        if rows.start < rows.stop and columns.start < columns.stop:
            np.copyto(out[rows, columns], self.rest[rows, columns])

    def _moved(self, sources: list[np.ndarray], bend: MouthBend | None) -> np.ndarray:
        """Cells whose middles show anything other than at rest, bool (rows, columns)."""
        moved = np.zeros(self.surface.depth.shape, bool)
        for source in sources:
            off = np.abs(source - self.surface.still)
            moved |= np.maximum(off[..., 0], off[..., 1]) >= STILL
        if bend is not None or moved.any():
            cell = self.surface.cell
            for rows, columns in (*self._pasted, *([] if bend is None else [bend.lattice.place])):
                moved[
                    rows.start // cell + 1 : rows.stop // cell + 2,
                    columns.start // cell + 1 : columns.stop // cell + 2,
                ] = True
        return moved

    def _strips(self, sources: list[np.ndarray], moved: np.ndarray) -> Iterator[_Strip]:
        """Strips that together hold all that moved, none twice."""
        cell, (height, width) = self.surface.cell, self._shape
        half = -(-cell // 2)
        seen = [sheet.seen(source, moved) for sheet, source in zip(self._sheets, sources, strict=True)]
        down = moved.any(axis=1).tobytes()
        highest, lowest = (down.find(1) - 1) * cell - half, down.rfind(1) * cell + half
        # What lies between two cells is of both.
        firsts = range(1, len(moved) - 1, STRIP)
        bounds = [bound for first in firsts for bound in (first - 1, first + STRIP + 1) if bound < len(moved)]

        def in_windows(cells: np.ndarray) -> list[bytes]:
            """Which columns of each window hold such cells."""
            return [row.tobytes() for row in np.logical_or.reduceat(cells, bounds, axis=0)[::2]]

        shown = zip(*(in_windows(mask) for pair in seen for mask in pair), strict=True)
        for first, across, masks in zip(firsts, in_windows(moved), shown, strict=True):
            top = max((first - 1) * cell, highest)
            bottom = min((first - 1 + STRIP) * cell, lowest, height)
            left = max((across.find(1) - 1) * cell - half, 0)
            right = min(across.rfind(1) * cell + half, width)
            if 1 not in across or top >= bottom or left >= right:
                continue
            spans = []
            for sheet, figure, other in zip(self._sheets, masks[::2], masks[1::2], strict=True):
                if sheet.coarse is None:
                    # Nothing is behind it: what it left out would show the frame before.
                    spans.append((slice(left, right), slice(left, right)))
                    continue
                start, stop = right, right
                if 1 in figure:
                    start = min(max((figure.find(1) - 1) * cell, left), right)
                    stop = max(min(figure.rfind(1) * cell, right), start)
                # The longest run of cells that are all figure.
                run = max(other.split(b"\1"), key=len)
                inner = min(max((other.find(run) - 1) * cell, start), stop)
                outer = max(min((other.find(run) + len(run) - 1) * cell, stop), inner)
                spans.append((slice(start, stop), slice(inner, outer)))
            yield _Strip(slice(top, bottom), slice(left, right), tuple(spans))

    def _residual(self, residuals: np.ndarray) -> np.ndarray:
        """The parts' own motions on the grid, float32 (rows, columns, 2)."""
        wanted = np.nan_to_num(np.asarray(residuals, np.float64)[self._parts])
        # A part that went further than it is wide would fold.
        most, size = FURTHEST * self._widths, np.linalg.norm(wanted, axis=1)
        wanted = wanted * (most * np.tanh(size / most) / np.maximum(size, 1e-9))[:, None]
        flat = wanted.T.astype(np.float32) @ self._fields
        return np.ascontiguousarray(flat.reshape(2, *self.surface.depth.shape).transpose(1, 2, 0))

    def _part_fields(
        self, landmarks: np.ndarray, names: Sequence[str], parts: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which landmarks move parts, (P,); how wide the parts are, (P,), in pixels; how much of each part's motion each cell
        makes, float32 (P, rows x columns). Where parts overlap they share the motion.
        """
        surface = self.surface
        chosen = [
            (index, PARTS[word])
            for index, name in enumerate(names)
            for word in PARTS
            if word in name and name in parts and np.isfinite(landmarks[index]).all()
        ]
        where = landmarks[[index for index, _ in chosen]].reshape(-1, 2)
        width = np.array([width for _, width in chosen]) * surface.unit
        away = (surface.across[None] - where[:, 0, None, None]) ** 2
        away += (surface.down[None] - where[:, 1, None, None]) ** 2
        fields = np.exp(-away / (2 * width[:, None, None] ** 2)).reshape(len(where), surface.depth.size)
        fields /= np.maximum(1.0, fields.sum(0))
        return np.array([index for index, _ in chosen], int), width, np.ascontiguousarray(fields, np.float32)

    def _paste(self, patches: Sequence[Patch]) -> None:
        """Lay patches over the flat picture, and take the last frame's away."""
        if len(patches) == len(self._laid) and all(map(operator.is_, patches, self._laid)):
            return
        spots, self._laid = [patch.place for patch in patches], list(patches)
        gone = [spot for spot in self._pasted if spot not in spots]
        for spot in self._pasted:
            np.copyto(self._shown[spot], self._picture[spot])
        for spot in gone:
            np.copyto(self._flat[spot], self._still[spot])
        for patch, spot in zip(patches, spots, strict=True):
            self._lay(patch, spot)
        for spot in (*gone, *spots):
            self._sampler.refresh(*spot)
        self._pasted = spots

    def _lay(self, patch: Patch, spot: tuple[slice, slice]) -> None:
        under = self._shown[spot]
        if patch.alpha is None:
            np.copyto(under, patch.rgb)
        else:
            # Exact at both ends.
            share = cv2.cvtColor(patch.alpha, cv2.COLOR_GRAY2RGB)
            over = cv2.multiply(patch.rgb, share, scale=1 / 255)
            cv2.bitwise_not(share, dst=share)
            cv2.multiply(under, share, dst=share, scale=1 / 255)
            cv2.add(share, over, dst=under)
        flat = self._flat[spot]
        key = (spot[0].start, spot[0].stop, spot[1].start, spot[1].stop)
        if key not in self._thin:
            self._thin[key] = np.nonzero(self._still[spot][..., 3] < 255)
        rows, columns = self._thin[key]
        if self._open and len(rows):
            flat[..., :3] = under
            return
        cv2.cvtColor(under, cv2.COLOR_RGB2RGBA, dst=flat)
        if len(rows):
            # At the figure's edge: what changes in the picture, as far as it is the figure.
            still = self._still[spot][rows, columns].astype(np.int32)
            change = under[rows, columns].astype(np.int32) - self._picture[spot][rows, columns]
            still[:, :3] = np.clip(still[:, :3] + change * still[:, 3:] // 255, 0, 255)
            flat[rows, columns] = still

    def _at_rest(self) -> tuple[np.ndarray | None, np.ndarray]:
        """What is behind the face, and all that is shown."""
        below = self._plate
        for sheet in self._sheets[:-1]:
            shown = np.empty(self.shape, np.uint8)
            self._lay_over(sheet.still, below, shown)
            below = shown
        if self.layers.matte is None:
            return below, self._still if self._open else self._picture
        if self._plate is self.layers.plate:
            return below, self._picture
        # Of head and body at rest there is nothing to tell: the figure as it was cut out.
        flat = self._over_others(figure_colours(self._picture, self.layers.matte), self.layers.matte)
        rest = np.empty(self.shape, np.uint8)
        self._lay_over(flat, self._plate, rest)
        return below, rest


def _over_straight(figure: np.ndarray, below: np.ndarray | None, region: np.ndarray) -> None:
    """Write `figure` over what is `below`, all uint8 RGBA with straight alpha, into `region`."""
    if below is None:
        np.copyto(region, figure)
        return
    own = figure[..., 3:].astype(np.float32)
    other = below[..., 3:].astype(np.float32) * (1 - own / 255)
    alpha = own + other
    colours = (own * figure[..., :3] + other * below[..., :3]) / np.maximum(alpha, 1e-3)
    # Where nothing is, the figure's colours stay: what is scaled later mixes them in.
    colours = np.where(alpha > 0, colours, figure[..., :3])
    region[...] = np.rint(np.concatenate([colours, alpha], -1)).astype(np.uint8)
