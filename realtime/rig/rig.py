"""All of one avatar's rig on one canvas: its head, and the eyes and mouth that are drawn over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square
from livepuppet.realtime.rig.brows import Brows
from livepuppet.realtime.rig.contours import Contours
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.eyes import Eyes
from livepuppet.realtime.rig.head import Head, HeadState
from livepuppet.realtime.rig.layers import FigureLayers
from livepuppet.realtime.rig.mouth import Mouth
from livepuppet.realtime.rig.patches import Patch
from livepuppet.realtime.rig.pose import HeadPose, place, split
from livepuppet.realtime.rig.surface import Surface

#: What rigs draw: nothing; eyes, mouth or both over the model's picture; or everything, without the model.
MODES = ("off", "eyes", "mouth", "face", "on")


@dataclass(frozen=True, eq=False)
class Face:
    """What is known of the face in an avatar, on its square.

    Attributes:
        keypoints: the avatar's own.
        names: of the keypoints.
        size: side of the square that they were detected in, in pixels.
        square: where that square lies in the whole picture, in its pixels.
        contours: of eyes and mouth, in the whole picture; None where they are not looked for.
        mode: of `MODES`, what is to be drawn.
        others: boxes of other people's faces in the whole picture.
    """

    keypoints: Keypoints
    names: tuple[str, ...]
    size: int
    square: Square
    contours: Contours | None = None
    mode: str = "on"
    others: tuple[Square, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether the keypoints are landmarks of a face."""
        return place(np.asarray(self.keypoints.points, np.float64), self.names) is not None

    def on(self, left: float, top: float, side: float) -> np.ndarray:
        """The landmarks in pixels of a picture in which the square has this place: float64 (K, 2)."""
        unit = side / self.size
        pixels = (np.asarray(self.keypoints.points, np.float64) + 1) * (self.size - 1) / 2
        return (pixels + 0.5) * unit - 0.5 + (left, top)

    def unit(self, side: float) -> float:
        """Pixels of such a picture per unit of keypoints."""
        return (self.size - 1) / 2 * side / self.size

    def others_on(self, square: Square) -> tuple[Square, ...]:
        """`others` in a picture in which the face's square is `square`."""
        scale = square.side / self.square.side
        left, top = self.square.x * scale - square.x, self.square.y * scale - square.y
        return tuple(
            Square(other.x * scale - left, other.y * scale - top, other.side * scale) for other in self.others
        )


class Rig:
    """Draws an avatar from a `RigMotion`, or those parts of it that the face's mode names. One thread at a time.

    Args:
        picture: uint8 RGB (H, W, 3), the avatar at the size in which it is shown.
        face: of the avatar.
        square: where its square lies in `picture`, in pixels.
        matte, background, layers, surface: see `Head`.

    Attributes:
        head: draws all but eyes and mouth, and those that are not sure; None where the model does.
        eyes, mouth: draw theirs; None where nothing is known of them.
        notes: sentences on what is not moved, or only roughly.

    Raises:
        ValueError: there is no face.
    """

    def __init__(
        self,
        picture: np.ndarray,
        face: Face,
        square: Square,
        matte: np.ndarray | None = None,
        background: np.ndarray | str | None = None,
        layers: FigureLayers | None = None,
        surface: Surface | None = None,
    ):
        landmarks = face.on(square.x, square.y, square.side)
        self._unit = face.unit(square.side)
        self.eyes: Eyes | None = None
        self.mouth: Mouth | None = None
        drawn: set[str] = set()
        if face.contours is not None:
            scale = square.side / face.square.side
            left, top = face.square.x * scale - square.x, face.square.y * scale - square.y
            contours = face.contours.mapped(scale, left, top)
            if face.mode != "mouth":
                self.eyes = Eyes(picture, contours)
                drawn.update(self.eyes.layers)
            if face.mode != "eyes":
                self.mouth = Mouth(picture, contours)
                drawn.update(["mouth"] if self.mouth.layers is not None else [])
        rest = [index for index, name in enumerate(face.names) if _part_of(name) not in drawn]
        self._rest = np.array(rest, int)
        self._drawn = np.array([index for index in range(len(face.names)) if index not in rest], int)
        self.head: Head | None = None
        self.notes: list[str] = []
        if face.mode == "on":
            # Eyes that are drawn stay where they are, and hold the skin around them while brows rise.
            self._eyes = np.array(
                [k for k in self._drawn if _part_of(face.names[k]) in ("left", "right")], int
            )
            self._brow_rows = np.array([k for k, name in enumerate(face.names) if "brow" in name], int)
            self._made_of: tuple[np.ndarray, Square, np.ndarray, Face] | None = (
                picture,
                square,
                landmarks,
                face,
            )
            self.set_layers(layers, matte, background, surface)
        elif face.contours is not None:
            self.notes += face.contours.notes

    def set_layers(
        self,
        layers: FigureLayers | None,
        matte: np.ndarray | None = None,
        background: np.ndarray | str | None = None,
        surface: Surface | None = None,
    ) -> None:
        """Move as these layers from now on; eyes and mouth stay. For mode `on`, before `shrink`.

        Args:
            layers, matte, background, surface: see `Head`.
        """
        assert self._made_of is not None
        picture, square, landmarks, face = self._made_of
        parts = [face.names[index] for index in (*self._rest.tolist(), *self._eyes.tolist())]
        others = face.others_on(square)
        self.head = Head(
            picture, square, landmarks, face.names, matte, background, parts, layers, others, surface
        )
        self._brows = self._find_brows(landmarks, face)
        self.notes = [self.head.why] if self.head.why else []
        if face.contours is not None:
            self.notes += face.contours.notes

    def shrink(self) -> None:
        """Forget what drawing does not need: layers and sheets for other backgrounds and for other programs. For mode `on`."""
        assert self.head is not None
        self._made_of = None
        eyes = [] if self.eyes is None else list(self.eyes.layers.values())
        spots = [(eye.left, eye.top, *eye.crop.shape[1::-1]) for eye in eyes] or [(0, 0, 0, 0)]
        rows = slice(min(top for _, top, _, _ in spots), max(top + height for _, top, _, height in spots))
        columns = slice(min(left for left, *_ in spots), max(left + width for left, _, width, _ in spots))
        self.head.shrink((rows, columns))
        for eye in eyes:
            eye.shrink()
        if self.mouth is not None and self.mouth.layers is not None:
            self.mouth.layers.shrink()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what `draw` draws: (H, W, 3), or (H, W, 4) where there is no background."""
        assert self.head is not None
        return self.head.shape

    @property
    def shown_residuals(self) -> list[int]:
        """Landmarks of whose residuals something is drawn where amounts are told. For mode `on`."""
        assert self.head is not None
        hidden = {*self._eyes.tolist(), *self._brow_rows.tolist()}
        return [part for part in self.head.parts if part not in hidden]

    def draw(self, motion: RigMotion, out: np.ndarray) -> None:
        """Write the avatar in this motion into `out`, uint8 of `shape`; may be a view. For mode `on`."""
        assert self.head is not None
        pose = motion.pose
        moved = HeadPose(pose.scale, pose.rotation, pose.shift * self._unit)
        eyes: list[Patch] = []
        mouth = None
        if motion.amounts is not None:
            eyes = [] if self.eyes is None else self.eyes.draw(motion.amounts)
            mouth = None if self.mouth is None else self.mouth.motion(motion.amounts)
        residuals = motion.residuals * self._unit
        residuals[self._eyes] = 0
        brows = None
        if motion.amounts is not None:
            # Brows go where their amounts say, whoever read those.
            residuals[self._brow_rows] = 0
            brows = self._brows.field(motion.amounts)
        self.head.draw(HeadState(moved, residuals, eyes, mouth, brows), out)

    def _find_brows(self, landmarks: np.ndarray, face: Face) -> Brows:
        """Both brows, above eyes and rims."""
        assert self.head is not None
        placed = place(landmarks, face.names)
        _, roll = split(placed[1].rotation) if placed is not None else (None, 0.0)
        # A row vector in the face's own axes, in the picture's.
        upright = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        limits = {} if self.eyes is None else {side: eye.skin_ends for side, eye in self.eyes.layers.items()}
        return Brows(self.head.surface, landmarks, list(face.names), upright, limits)

    def patches(self, motion: RigMotion) -> list[Patch]:
        """What eyes and mouth draw over the picture, in its pixels. They are buffers of the rig."""
        if motion.amounts is None:
            return []
        return [
            patch
            for part in (self.eyes, self.mouth)
            if part is not None
            for patch in part.draw(motion.amounts)
        ]

    def without_drawn(self, avatar: Keypoints, moved: Keypoints) -> Keypoints:
        """`moved` keypoints in which what the rig draws goes rigidly with the face, so that the model leaves it alone."""
        if not len(self._drawn) or len(self._rest) < 3:
            return moved
        points = np.c_[avatar.points, np.ones(len(avatar.points))].astype(np.float64)
        fit = np.linalg.lstsq(points[self._rest], moved.points[self._rest].astype(np.float64), rcond=None)[0]
        places, jacobians = moved.points.copy(), moved.jacobians.copy()
        places[self._drawn] = points[self._drawn] @ fit
        jacobians[self._drawn] = fit[:2].T.astype(np.float32) @ avatar.jacobians[self._drawn]
        return Keypoints(places, jacobians, moved.confidence)


def _part_of(name: str) -> str | None:
    """What draws a landmark's own motion, if it can: `left` or `right` eye, `mouth`, or None."""
    if "lid" in name or "iris" in name:
        return name.split()[0]
    return "mouth" if any(word in name for word in ("mouth", "lip", "chin")) else None
