"""One avatar's head, drawn in any pose: a matte, a plate, a surface with depth, and one sampling. No network.

    head = Head(picture, square, points, names)      once per avatar and size: 0.2 s
    head.draw(HeadState(pose, residuals), out)       per frame: a few milliseconds

The field that moves the figure is worked out on a coarse grid, inverted there, and enlarged; then the figure is sampled once, at
the picture's own resolution, and laid over the plate. Nothing moves: the picture itself, to the bit.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
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
from livepuppet.realtime.rig.scratch import Memory, Scratch, borrowed
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

#: Rows of blocks that are drawn at once, each block between the middles of four cells: of more rows, more is sampled than is seen;
#: fewer take more calls.
STRIP = 6

#: What blocks show of a layer; runs of fewer solid ones are drawn as edges are.
NOTHING, EDGE, SOLID, SHORTEST = 0, 1, 2, 3

#: Where blocks come from is looked up in squares of which half the size is so many half cells, the smallest that hold them and
#: what sampling looks at around them, in pixels.
REACHES, AROUND = (2, 3, 5, 9), 3

#: So far beyond its last pixel's middle a layer goes on, in pixels.
WITHIN = 0.75

#: The cells around a block.
CORNERS = np.ones((2, 2), np.uint8)

#: Rounds of iteration by which what the face does is inverted, and the one, from 0, that goes but half its way.
FACE_INVERSION, HALFWAY = 3, 1

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


class _Sheet:
    """One layer that moves as a whole: the figure, or its body or head.

    Args:
        flat: uint8 RGBA (H, W, 4); premultiplied over a background, straight without one.
        surface: which moves it.
        whole: it fills the picture, and beyond its edge goes on.
        changes: patches are laid over it.

    Attributes:
        still: `flat` without what is laid over it, or what is kept of it.
        sampler: of `flat`.
        whole: see above.
        layer: rows and columns of the cells around what there is of it; None where it is whole.
    """

    def __init__(self, flat: np.ndarray, surface: Surface, whole: bool = False, changes: bool = True):
        self.still, self.surface = flat, surface
        # First row and column of that.
        self._first = (0, 0)
        box = None if whole else box_of(flat[..., 3] > 0)
        self.layer = None if box is None else surface.cells_around(*box)
        self.sampler = Sampler(flat, changes)
        self.whole = whole
        self._reach = None if whole else _Reach(flat[..., 3], surface.cell)
        # Beyond the picture there is no figure: where it reaches the edge, it is stretched.
        self._border = cv2.BORDER_REPLICATE if whole else cv2.BORDER_CONSTANT
        self._source = surface.still
        self._bend: tuple[tuple[slice, slice], np.ndarray] | None = None

    def move(self, source: np.ndarray, bend: MouthBend | None = None) -> None:
        """Sample from now on where the grid's `source` says, and within the mouth where that says."""
        top, left = self.sampler.origin
        self._source = np.float32(SCALE) * source + np.array([OFFSET - left, OFFSET - top], np.float32)
        self._bend = None if bend is None else (bend.lattice.place, bend.shift(SCALE))

    def forget(self) -> None:
        """What `move` said."""
        self._source, self._bend = self.surface.still, None

    def at_rest(self, spot: tuple[slice, slice]) -> np.ndarray:
        """Rows and columns of `still`."""
        (rows, columns), (top, left) = spot, self._first
        return self.still[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    def shrink(self, changing: tuple[slice, slice]) -> None:
        """Forget what drawing does not need: nothing is laid over it beyond the rows and columns that are `changing`."""
        if self.whole:
            seen = slice(0, self.still.shape[0]), slice(0, self.still.shape[1])
        else:
            found = box_of(self.still[..., 3] > 0) or changing
            pairs = list(zip(found, changing, strict=True))
            seen = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in pairs)
        self.sampler.shrink((seen[0], seen[1]), changing)
        self.still, self._first = self.still[changing].copy(), (changing[0].start, changing[1].start)
        self.surface = self.surface.shrunk()

    def places(self, blocks: tuple[slice, slice], rows: slice, columns: slice, memory: Memory) -> np.ndarray:
        """Where the pixels of these blocks come from in the sampler's picture, float32 (h, w, 2).

        Args:
            blocks: rows and columns of blocks.
            rows, columns: their pixels.
            memory: float32, that is written to.
        """
        cell, (down, across) = self.surface.cell, blocks
        part = self._source[down.start : down.stop + 1, across.start : across.stop + 1]
        height, width = cell * part.shape[0], cell * part.shape[1]
        enlarged = memory.take(height, width, 2)
        cv2.resize(part, (width, height), dst=enlarged, interpolation=cv2.INTER_LINEAR)
        top, left = rows.start - (down.start - 1) * cell, columns.start - (across.start - 1) * cell
        places = enlarged[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
        if self._bend is not None:
            bent, shift = self._bend
            down, across = _common(rows, bent[0]), _common(columns, bent[1])
            if down.start < down.stop and across.start < across.stop:
                here = places[
                    down.start - rows.start : down.stop - rows.start,
                    across.start - columns.start : across.stop - columns.start,
                ]
                there = shift[
                    down.start - bent[0].start : down.stop - bent[0].start,
                    across.start - bent[1].start : across.stop - bent[1].start,
                ]
                cv2.add(here, there, dst=here)
        return places

    def seen(self, source: np.ndarray) -> np.ndarray:
        """What blocks show of it: `NOTHING`, its `EDGE`, or only that, which is `SOLID`. uint8 (rows - 1, columns - 1)."""
        if self._reach is None:
            return np.full((source.shape[0] - 1, source.shape[1] - 1), SOLID, np.uint8)
        source, cell = source.copy(), self.surface.cell
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
            source[tuple(cells)] += shift[tuple(at)] * np.float32(1 / SCALE)
        return self._reach.seen(source)

    def sample(self, places: np.ndarray, out: np.ndarray) -> np.ndarray:
        """What is seen at `places`, some of those that the method of that name gave: uint8 RGBA (h, w, 4), in `out`."""
        return self.sampler.sample(places, self._border, out)


class _Reach:
    """Where squares of a layer have some of it, and where they have nothing else.

    Args:
        alpha: uint8 (H, W), of the layer.
        cell: see `Surface`.
    """

    def __init__(self, alpha: np.ndarray, cell: int):
        self._shape, self._cell, self._step = alpha.shape, cell, max(1, cell // 2)
        height, width = alpha.shape
        self._last = np.array([width - 1, height - 1], np.float32)
        step, edge = self._step, REACHES[-1] + 1
        wide = cv2.copyMakeBorder(alpha, 0, -height % step, 0, -width % step, cv2.BORDER_REPLICATE)
        parts = wide.reshape(wide.shape[0] // step, step, wide.shape[1] // step, step)
        rows, columns = parts.shape[0] + 2 * edge, parts.shape[2] + 2 * edge
        some, solid = np.zeros((rows, columns), np.uint8), np.ones((rows, columns), np.uint8)
        some[edge:-edge, edge:-edge] = parts.max(axis=(1, 3)) > 0
        solid[edge:-edge, edge:-edge] = parts.min(axis=(1, 3)) == 255
        self._height, self._edge = len(some), edge
        tables = []
        for reach in REACHES:
            square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
            most, least = cv2.dilate(some, square), cv2.erode(solid, square)
            tables.append(most + (most & least))
        # Larger ones may have anything.
        self._tables = np.concatenate([*tables, np.full_like(some, EDGE)])

    def seen(self, source: np.ndarray) -> np.ndarray:
        """What blocks show of it, uint8 (rows - 1, columns - 1). `source` float32 (rows, columns, 2) are the pixels that the cells'
        middles show; it is changed.
        """
        # Outermost blocks end where the picture does.
        for axis, size in enumerate(self._shape):
            lines = source if axis == 0 else source.swapaxes(0, 1)
            last = max((size / self._cell) - (len(lines) - 2.5), 0.0)
            lines[0] += np.float32(0.5) * (lines[1] - lines[0])
            lines[-1] = lines[-2] + np.float32(last) * (lines[-1] - lines[-2])
        step = np.float32(1 / self._step)
        offset = np.float32(0.5 / self._step - 0.5 + self._edge)
        low, high = (make(source, CORNERS, anchor=(0, 0))[:-1, :-1] for make in (cv2.erode, cv2.dilate))
        at, wide = (low + high) * (step / 2) + offset, high - low
        inside = np.minimum(low, self._last - high)
        beyond = np.minimum(inside[..., 0], inside[..., 1])
        large, highest = np.maximum(wide[..., 0], wide[..., 1]), np.float32(self._height)
        y, largest = np.minimum(np.maximum(at[..., 1], 0), highest - 1), float(large.max())
        for reach in REACHES:
            limit = 2 * (reach * self._step - AROUND)
            if largest > limit:
                y += (large > limit) * highest
        at[..., 1] = y
        seen = cv2.remap(self._tables, at, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        # Beyond the picture there is nothing, whatever the layer is at its edge.
        return np.minimum(seen, np.where(beyond < -WITHIN, np.uint8(EDGE), np.uint8(SOLID)))


def _both(one: slice, other: slice) -> slice:
    """From where either begins to where the last ends."""
    return slice(min(one.start, other.start), max(one.stop, other.stop))


def _common(one: slice, other: slice) -> slice:
    """Where both are; none where it does not begin before it ends."""
    start = max(one.start, other.start)
    return slice(start, max(min(one.stop, other.stop), start))


def _runs(codes: np.ndarray) -> list[list[tuple[int, int, int]]]:
    """By row of `codes` uint8 (rows, columns), the first column of each run of one, the one behind it, and the code."""
    rows, columns = codes.shape
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(rows)]
    row, ends = np.nonzero(codes[:, 1:] != codes[:, :-1])
    starts = [0] * rows
    for at, end in zip(row.tolist(), (ends + 1).tolist(), strict=True):
        found[at].append((starts[at], end, int(codes[at, starts[at]])))
        starts[at] = end
    for at, last in enumerate(codes[:, -1].tolist()):
        found[at].append((starts[at], columns, last))
    return found


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
        surface: what was built of the same landmarks and of layers with the same matte and relief, where it is known.

    Attributes:
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
        surface: Surface | None = None,
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
        self._layers: FigureLayers | None = layers
        self.why = layers.why
        if surface is None:
            surface = build_surface(picture.shape[:2], landmarks, names, layers.matte, layers.relief)
        self.surface = surface
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
        self._sheets = self._cut(background)
        # Pixels at which blocks begin, down and across.
        cell = self.surface.cell
        self._bounds = tuple(
            [min(max(index * cell - (cell + 1) // 2, 0), size) for index in range(count)]
            for count, size in zip(self.surface.depth.shape, self._shape, strict=True)
        )
        # What patches are laid over, and without them.
        face = self._sheets[-1]
        self._face, self._sampler = face, face.sampler
        # The picture with patches, in the rows that have some, and the first of those.
        self._shown, self._top = picture[:0], 0
        self._thin: dict[tuple[int, ...], tuple[np.ndarray, ...]] = {}
        self.rest = self._at_rest()

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
                _Sheet(split.body, surface.of_body(), changes=False),
                _Sheet(split.head, surface.of_head(split.head_alpha)),
            ]
        flat = [self._over_others(*sheet) for sheet in own_sheets(picture, layers)]
        if split is None:
            return [_Sheet(flat[0], surface)]
        return [
            _Sheet(flat[0], surface.of_body(), changes=False),
            _Sheet(flat[1], surface.of_head(split.head_alpha)),
        ]

    def shrink(self, changing: tuple[slice, slice]) -> None:
        """Forget `layers`, and whatever else drawing does not need.

        Args:
            changing: rows and columns of all patches there will be.
        """
        self._layers = None
        for sheet in self._sheets:
            sheet.shrink(changing)
        # Of its own one only what all sheets' have is asked for.
        self.surface = self._face.surface

    @property
    def layers(self) -> FigureLayers:
        """Figure and plate."""
        assert self._layers is not None
        return self._layers

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
        with borrowed() as scratch:
            self._draw(state, scratch, out)
        for sheet in self._sheets:
            sheet.forget()

    def _draw(self, state: HeadState, scratch: Scratch, out: np.ndarray) -> None:
        self._paste(state.patches)
        face = self._sheets[-1]
        # What the face does comes before what the head does.
        face_field = state.brows
        if state.residuals is not None and np.any(state.residuals):
            residual = self._residual(state.residuals)
            face_field = residual if face_field is None else residual + face_field
        further = 0.0 if face_field is None else float(np.abs(face_field).max())
        layers = [sheet.layer for sheet in self._sheets]
        if state.mouth is not None and layers[-1] is not None:
            # What is below the chin comes up between the lips.
            left, top, right, bottom = state.mouth.rectangle
            around = self.surface.cells_around(slice(top, bottom), slice(left, right))
            layers[-1] = tuple(map(_both, layers[-1], around))
        found = [
            sheet.surface.source(state.pose, layer, further, scratch.inverted)
            for sheet, layer in zip(self._sheets, layers, strict=True)
        ]
        sources = [source for source, _ in found]
        source, window = found[-1]
        if face_field is not None:
            seen = source.copy()
            for number in range(FACE_INVERSION):
                found = face.surface.sampled(face_field, source)
                np.subtract(seen, found, out=found)
                if number == HALFWAY:
                    # Where skin is stretched to twice its length rounds swing about the answer.
                    cv2.addWeighted(source, 0.5, found, 0.5, 0, dst=found)
                np.copyto(source, found)
        bend = None if state.mouth is None else self._bend(state.mouth, source, window)
        moved = self._moved(sources, bend)
        if not moved.any():
            np.copyto(out, self.rest)
            for spot in self._pasted:
                self._lay_over(self._sampler.pixels(*spot), self._behind(spot, scratch), scratch, out[spot])
            return
        for sheet, own in zip(self._sheets, sources, strict=True):
            sheet.move(own, bend if sheet is face else None)
        self._draw_moved(sources, moved, scratch, out)
        if bend is not None:
            bend.paint(out[bend.lattice.place])

    def _draw_moved(
        self, sources: list[np.ndarray], moved: np.ndarray, scratch: Scratch, out: np.ndarray
    ) -> None:
        """Plate and sheets, from behind to the front; what a sheet in front of it fills is not drawn."""
        blocks = cv2.dilate(moved.view(np.uint8), CORNERS, anchor=(0, 0))[:-1, :-1]
        downs, acrosses = self._bounds
        height = self._shape[0]
        lines = box_of(blocks > 0)
        within = slice(0, 0) if lines is None else lines[0]
        for rows in (slice(0, downs[within.start]), slice(downs[within.stop], height)):
            np.copyto(out[rows], self.rest[rows])
        if lines is None:
            return
        firsts = range(0, within.stop - within.start, STRIP)
        moving = free = np.maximum.reduceat(blocks[within], firsts, axis=0)
        shown, short = [], np.ones((1, SHORTEST), np.uint8)
        for sheet, source in zip(reversed(self._sheets), reversed(sources), strict=True):
            seen = sheet.seen(source)[within]
            some, solid = (way.reduceat(seen, firsts, axis=0) for way in (np.maximum, np.minimum))
            solid = cv2.morphologyEx(free & (solid >> 1), cv2.MORPH_OPEN, short)
            shown.append((sheet, _runs((free & (some > NOTHING)) + solid)))
            free = free & (1 - solid)
        plate, kept, clear = None if self._sheets[0].whole else self._plate, _runs(moving), _runs(free)
        for strip, first in enumerate(firsts):
            blocks = slice(within.start + first, min(within.start + first + STRIP, within.stop))
            rows = slice(downs[blocks.start], downs[blocks.stop])
            if rows.start == rows.stop:
                continue
            for start, stop, marked in kept[strip]:
                part = slice(acrosses[start], acrosses[stop])
                if not marked:
                    np.copyto(out[rows, part], self.rest[rows, part])
            for start, stop, marked in clear[strip]:
                part = slice(acrosses[start], acrosses[stop])
                if marked:
                    out[rows, part] = 0 if plate is None else plate[rows, part]
            for sheet, runs in reversed(shown):
                self._draw_sheet(sheet, runs[strip], blocks, rows, scratch, out)

    def _draw_sheet(
        self,
        sheet: _Sheet,
        runs: list[tuple[int, int, int]],
        blocks: slice,
        rows: slice,
        scratch: Scratch,
        out: np.ndarray,
    ) -> None:
        """What these rows of blocks show of a sheet, `runs` of `_runs`, over what is there."""
        across, end, left, sampled = self._bounds[1], 0, 0, None
        for number, (start, stop, code) in enumerate(runs):
            first, last = across[start], across[stop]
            if code == NOTHING or first == last:
                continue
            if sampled is None or start >= end:
                # With the runs beside.
                end = next((begin for begin, _, kind in runs[number + 1 :] if kind == NOTHING), runs[-1][1])
                left = first
                sampled = scratch.sampled.take(rows.stop - rows.start, across[end] - left, 4)
                columns = slice(left, across[end])
                places = sheet.places((blocks, slice(start, end)), rows, columns, scratch.places)
                sheet.sample(places, sampled)
            seen, region = sampled[:, first - left : last - left], out[rows, first:last]
            if code == EDGE:
                self._lay_over(seen, region, scratch, region)
            elif self._open:
                np.copyto(region, seen)
            else:
                cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB, dst=region)

    def _bend(self, mouth: MouthMotion, source: np.ndarray, window: tuple[slice, slice]) -> MouthBend | None:
        """The mouth where it is seen, in the `window` of `Surface.source`."""
        left, top, right, bottom = mouth.rectangle
        x, y = source[(*window, 0)], source[(*window, 1)]
        box = box_of((x > left) & (x < right) & (y > top) & (y < bottom))
        if box is None:
            return None
        box = [
            slice(part.start + whole.start, part.stop + whole.start)
            for part, whole in zip(box, window, strict=True)
        ]
        # As far as the middles of the cells beside.
        cell, half = self.surface.cell, -(-self.surface.cell // 2)
        starts = [max((part.start - 2) * cell + half, 0) for part in box]
        stops = [min(part.stop * cell + half, size) for part, size in zip(box, self._shape, strict=True)]
        if min(stops[0] - starts[0], stops[1] - starts[1]) <= 0:
            return None
        lattice = Lattice.over(starts[1], starts[0], stops[1], stops[0], mouth.block)
        shown = self.surface.sampled(source, np.dstack(np.meshgrid(*lattice.nodes)))
        return mouth.on(lattice, shown[..., 0], shown[..., 1])

    def _lay_over(
        self, figure: np.ndarray, below: np.ndarray | None, scratch: Scratch, region: np.ndarray
    ) -> None:
        """Write `figure` uint8 RGBA (h, w, 4) over what is `below` it, (h, w, 3 or 4), which may be the region itself."""
        if self._open:
            _over_straight(figure, below, region)
            return
        if below is None or self._sheets[0].whole:
            cv2.cvtColor(figure, cv2.COLOR_RGBA2RGB, dst=region)
            return
        height, width = figure.shape[:2]
        clear = scratch.clear.take(height, width, 1)
        share, colour = (memory.take(height, width, 3) for memory in (scratch.share, scratch.colour))
        cv2.extractChannel(figure, 3, dst=clear)
        cv2.bitwise_not(clear, dst=clear)
        cv2.cvtColor(clear, cv2.COLOR_GRAY2RGB, dst=share)
        cv2.multiply(below, share, dst=share, scale=1 / 255)
        cv2.cvtColor(figure, cv2.COLOR_RGBA2RGB, dst=colour)
        cv2.add(colour, share, dst=region)

    def _behind(self, spot: tuple[slice, slice], scratch: Scratch) -> np.ndarray | None:
        """What is there behind the face at rest."""
        below = None if self._plate is None else self._plate[spot]
        for sheet in self._sheets[:-1]:
            still = sheet.at_rest(spot)
            shown = np.empty((*still.shape[:2], self.shape[2]), np.uint8)
            self._lay_over(still, below, scratch, shown)
            below = shown
        return below

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
            np.copyto(self._under(spot), self._picture[spot])
        if spots:
            top, bottom = min(rows.start for rows, _ in spots), max(rows.stop for rows, _ in spots)
            if top < self._top or bottom > self._top + len(self._shown):
                self._shown, self._top = self._picture[top:bottom].copy(), top
        for spot in gone:
            np.copyto(self._sampler.pixels(*spot), self._face.at_rest(spot))
        for patch, spot in zip(patches, spots, strict=True):
            self._lay(patch, spot)
        for spot in (*gone, *spots):
            self._sampler.refresh(*spot)
        self._pasted = spots

    def _under(self, spot: tuple[slice, slice]) -> np.ndarray:
        rows, columns = spot
        return self._shown[rows.start - self._top : rows.stop - self._top, columns]

    def _lay(self, patch: Patch, spot: tuple[slice, slice]) -> None:
        under = self._under(spot)
        if patch.alpha is None:
            np.copyto(under, patch.rgb)
        else:
            # Exact at both ends.
            share = cv2.cvtColor(patch.alpha, cv2.COLOR_GRAY2RGB)
            over = cv2.multiply(patch.rgb, share, scale=1 / 255)
            cv2.bitwise_not(share, dst=share)
            cv2.multiply(under, share, dst=share, scale=1 / 255)
            cv2.add(share, over, dst=under)
        flat, resting = self._sampler.pixels(*spot), self._face.at_rest(spot)
        key = (spot[0].start, spot[0].stop, spot[1].start, spot[1].stop)
        if key not in self._thin:
            self._thin[key] = np.nonzero(resting[..., 3] < 255)
        rows, columns = self._thin[key]
        if self._open and len(rows):
            flat[..., :3] = under
            return
        cv2.cvtColor(under, cv2.COLOR_RGB2RGBA, dst=flat)
        if len(rows):
            # At the figure's edge: what changes in the picture, as far as it is the figure.
            still = resting[rows, columns].astype(np.int32)
            change = under[rows, columns].astype(np.int32) - self._picture[spot][rows, columns]
            still[:, :3] = np.clip(still[:, :3] + change * still[:, 3:] // 255, 0, 255)
            flat[rows, columns] = still

    def _at_rest(self) -> np.ndarray:
        """All that is shown."""
        if self.layers.matte is None:
            return self._face.still if self._open else self._picture
        if self._plate is self.layers.plate:
            return self._picture
        # Of head and body at rest there is nothing to tell: the figure as it was cut out.
        flat = self._over_others(figure_colours(self._picture, self.layers.matte), self.layers.matte)
        rest = np.empty(self.shape, np.uint8)
        self._lay_over(flat, self._plate, Scratch(), rest)
        return rest


def own_sheets(
    picture: np.ndarray, layers: FigureLayers, colours: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The figure's own colours, uint8 RGB (H, W, 3), and alpha (H, W), without the picture's background: of all of it, or of its body and
    its head. `colours` are the former of all of it, where they are known.
    """
    assert layers.matte is not None
    own, split = figure_colours(picture, layers.matte) if colours is None else colours, layers.head
    if split is None:
        return [(own, layers.matte)]
    return [(split.torso_on(own), split.body_alpha), (own, split.head_alpha)]


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
