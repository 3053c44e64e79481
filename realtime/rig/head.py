"""One avatar's head, drawn in any pose: a matte, a plate, a surface with depth, and one sampling. No network.

    head = Head(picture, square, points, names)      once per avatar and size: 0.2 s
    head.draw(HeadState(pose, residuals), out)       per frame: a few milliseconds

The field that moves the figure is worked out on a coarse grid, inverted there, and enlarged; then the figure is sampled once, at
the picture's own resolution, and laid over the plate. Nothing moves: the picture itself, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.core.square import Square
from livepuppet.realtime.compositing.matte import figure_colours
from livepuppet.realtime.compositing.warp import Buffers
from livepuppet.realtime.rig.layers import FigureLayers, behind, split_layers
from livepuppet.realtime.rig.patches import Patch
from livepuppet.realtime.rig.pose import HeadPose, place, skull_of
from livepuppet.realtime.rig.surface import build_surface

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
STRIP = 8

#: Half-way between two pixels, from six of them: what bilinear sampling then takes from the finest detail is little.
HALFWAY = np.array([3, -25, 150, 150, -25, 3], np.float32) / 256


@dataclass(frozen=True, eq=False)
class HeadState:
    """What one frame shows of a head.

    Attributes:
        pose: since rest, its shift in pixels of the picture.
        residuals: float (K, 2), by how far keypoints go beyond what the head does, in pixels of the unturned picture; None for
            nothing.
        patches: what eyes and mouth draw over the picture.
    """

    pose: HeadPose
    residuals: np.ndarray | None = None
    patches: Sequence[Patch] = ()

    @property
    def moves(self) -> bool:
        """Whether anything is other than at rest."""
        moved = self.residuals is not None and bool(np.any(self.residuals))
        return moved or self.pose.moves or len(self.patches) > 0


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
    ):
        landmarks = np.asarray(landmarks, np.float64)
        placed = place(landmarks, names)
        if placed is None:
            raise ValueError("the landmarks are no face's")
        if layers is None:
            layers = split_layers(picture, square, landmarks, placed[1].scale, skull_of(placed[1]), matte)
        self.layers = layers
        self.why = layers.why
        self.surface = build_surface(picture.shape[:2], landmarks, names, layers.matte)
        self._picture, self._buffers = picture, Buffers()
        self._shape = picture.shape[:2]
        self._parts, self._widths, self._fields = self._part_fields(
            landmarks, names, names if parts is None else parts
        )
        self._open = isinstance(background, str)
        self._pasted: list[tuple[slice, slice]] = []
        height, width = self._shape
        if layers.matte is None:
            self._plate = None
            self._flat = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
        elif self._open:
            self._plate = None
            self._flat = np.dstack([figure_colours(picture, layers.matte), layers.matte])
        elif background is None:
            self._plate = layers.plate
            self._flat = np.dstack([layers.colours, layers.alpha])
        else:
            self._plate = background
            own = figure_colours(picture, layers.matte)
            share = cv2.cvtColor(layers.matte, cv2.COLOR_GRAY2RGB)
            self._flat = np.dstack([cv2.multiply(own, share, scale=1 / 255), layers.matte])
        # What patches are laid over, and without them.
        self._still = self._flat
        self._flat, self._shown = self._flat.copy(), picture.copy()
        self._fine = np.empty((2 * height, 2 * width, 4), np.uint8)
        self._thin: dict[tuple[int, ...], tuple[np.ndarray, ...]] = {}
        self._refine(slice(0, height), slice(0, width))
        self._coarse = self._cells()
        self.rest = self._at_rest()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what is drawn."""
        return (*self._shape, 4 if self._open else 3)

    def draw(self, state: HeadState, out: np.ndarray) -> None:
        """Write the picture in this state into `out`, uint8 (H, W, 3), or RGBA where there is no background. May be a view."""
        if not state.moves:
            np.copyto(out, self.rest)
            return
        self._paste(state.patches)
        surface = self.surface
        source = surface.inverse(surface.displacement(state.pose))
        if state.residuals is not None and np.any(state.residuals):
            # What the face does comes before what the head does.
            source -= surface.sampled(self._residual(state.residuals), source)
        if self._plate is not None:
            np.copyto(out, self._plate)
        elif self._coarse is not None:
            out[...] = 0
        places = self._places(source)
        for rows, columns in self._strips(source):
            self._sample(places[rows, columns], rows, columns, out[rows, columns])

    def _sample(self, places: np.ndarray, rows: slice, columns: slice, region: np.ndarray) -> None:
        """Draw the part of the figure that is seen in these rows and columns."""
        border = cv2.BORDER_REPLICATE if self._coarse is None else cv2.BORDER_CONSTANT
        if self._open:
            cv2.remap(self._fine, places, None, cv2.INTER_LINEAR, dst=region, borderMode=border)
            return
        height, width = region.shape[:2]
        most = (STRIP * self.surface.cell if self._plate is not None else self._shape[0]) * self._shape[1]

        def held(name: str, *channels: int) -> np.ndarray:
            whole = self._buffers(name, (most * math.prod(channels),), np.uint8)
            return whole[: height * width * math.prod(channels)].reshape(height, width, *channels)

        sampled = held("sampled", 4)
        # Beyond the picture there is no figure: where it reaches the edge, it is stretched.
        cv2.remap(self._fine, places, None, cv2.INTER_LINEAR, dst=sampled, borderMode=border)
        if self._plate is None:
            cv2.cvtColor(sampled, cv2.COLOR_RGBA2RGB, dst=region)
            return
        clear, share, colour = held("clear"), held("share", 3), held("colour", 3)
        cv2.extractChannel(sampled, 3, dst=clear)
        cv2.bitwise_not(clear, dst=clear)
        cv2.cvtColor(clear, cv2.COLOR_GRAY2RGB, dst=share)
        cv2.multiply(self._plate[rows, columns], share, dst=share, scale=1 / 255)
        cv2.cvtColor(sampled, cv2.COLOR_RGBA2RGB, dst=colour)
        cv2.add(colour, share, dst=region)

    def _places(self, source: np.ndarray) -> np.ndarray:
        """Where each pixel comes from in the picture of twice the size, float32 (H, W, 2), of the grid's `source`."""
        cell = self.surface.cell
        extent = (source.shape[1] * cell, source.shape[0] * cell)
        places = self._buffers("places", (extent[1], extent[0], 2), np.float32)
        cv2.resize(2 * source, extent, dst=places, interpolation=cv2.INTER_LINEAR)
        height, width = self._shape
        return places[cell : cell + height, cell : cell + width]

    def _strips(self, source: np.ndarray) -> list[tuple[slice, slice]]:
        """Rows and columns that together hold all of the figure that is seen, none twice."""
        height, width = self._shape
        if self._coarse is None:
            return [(slice(0, height), slice(0, width))]
        cell = self.surface.cell
        within = source * np.float32(1 / cell) + np.float32(0.5 / cell + 0.5)
        seen = cv2.remap(self._coarse, within, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) > 0
        strips = []
        for first in range(1, seen.shape[0] - 1, STRIP):
            # Between cells that see nothing of the figure there may still be some.
            columns = np.flatnonzero(seen[max(first - 1, 0) : first + STRIP + 1].any(axis=0))
            if len(columns):
                left = max(0, (int(columns[0]) - 2) * cell)
                right = min(width, (int(columns[-1]) + 1) * cell)
                top, bottom = (first - 1) * cell, min(height, (first - 1 + STRIP) * cell)
                if left < right and top < bottom:
                    strips.append((slice(top, bottom), slice(left, right)))
        return strips

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

    def _cells(self) -> np.ndarray | None:
        """The figure on the grid, float32 (rows, columns), above 0 wherever a cell or its neighbours have some; None for one layer."""
        matte = self.layers.matte if self._open or self._plate is not self.layers.plate else self.layers.alpha
        if matte is None:
            return None
        cell = self.surface.cell
        rows, columns = self.surface.depth.shape
        height, width = self._shape
        wide = cv2.copyMakeBorder(
            matte, cell, (rows - 1) * cell - height, cell, (columns - 1) * cell - width, cv2.BORDER_REPLICATE
        )
        largest = wide.reshape(rows, cell, columns, cell).max(axis=(1, 3))
        return cv2.dilate(largest, np.ones((3, 3), np.uint8)).astype(np.float32)

    def _refine(self, rows: slice, columns: slice) -> None:
        """Write this part of the flat picture into the one of twice the size, whose even pixels are the picture's own."""
        height, width = self._shape
        top, left = max(rows.start - 6, 0), max(columns.start - 6, 0)
        bottom, right = min(rows.stop + 6, height), min(columns.stop + 6, width)
        # What changes reaches three pixels further; beyond that the filters would need more than is there.
        inner_rows = slice(max(rows.start - 3, 0), min(rows.stop + 3, height))
        inner = np.s_[
            inner_rows.start - top : inner_rows.stop - top,
            max(columns.start - 3, 0) - left : min(columns.stop + 3, width) - left,
        ]
        fine = self._fine.view(np.uint32)[..., 0]
        fine = fine[2 * (top + inner[0].start) : 2 * (top + inner[0].stop)]
        fine = fine[:, 2 * (left + inner[1].start) : 2 * (left + inner[1].stop)]
        flat = self._flat[top:bottom, left:right]
        one, border = np.ones(1, np.float32), cv2.BORDER_REFLECT_101
        across = cv2.sepFilter2D(flat, -1, HALFWAY, one, anchor=(2, 0), borderType=border)
        down = cv2.sepFilter2D(flat, -1, one, HALFWAY, anchor=(0, 2), borderType=border)
        both = cv2.sepFilter2D(across, -1, one, HALFWAY, anchor=(0, 2), borderType=border)
        # A pixel at once.
        for row, column, pixels in ((0, 0, flat), (0, 1, across), (1, 0, down), (1, 1, both)):
            fine[row::2, column::2] = pixels.view(np.uint32)[..., 0][inner]

    def _paste(self, patches: Sequence[Patch]) -> None:
        """Lay patches over the flat picture, and take the last frame's away."""
        spots = [patch.place for patch in patches]
        gone = [spot for spot in self._pasted if spot not in spots]
        for spot in self._pasted:
            np.copyto(self._shown[spot], self._picture[spot])
        for spot in gone:
            np.copyto(self._flat[spot], self._still[spot])
        for patch, spot in zip(patches, spots, strict=True):
            self._lay(patch, spot)
        for spot in (*gone, *spots):
            self._refine(*spot)
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

    def _at_rest(self) -> np.ndarray:
        if self._open:
            return self._still.copy()
        if self._plate is None or self._plate is self.layers.plate:
            return self._picture
        colours = np.ascontiguousarray(self._still[..., :3])
        return cv2.add(colours, behind(self._plate, self.layers.matte))
