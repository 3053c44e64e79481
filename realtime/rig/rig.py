"""All of one avatar's rig on one canvas: its head, and the eyes and mouth that are drawn over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square
from livepuppet.realtime.rig.contours import Contours
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.eyes import Eyes
from livepuppet.realtime.rig.head import Head, HeadState
from livepuppet.realtime.rig.layers import FigureLayers
from livepuppet.realtime.rig.mouth import Mouth
from livepuppet.realtime.rig.patches import Patch
from livepuppet.realtime.rig.pose import HeadPose, place


@dataclass(frozen=True, eq=False)
class Face:
    """What is known of the face in an avatar, on its square.

    Attributes:
        keypoints: the avatar's own.
        names: of the keypoints.
        size: side of the square that they were detected in, in pixels.
        square: where that square lies in the whole picture, in its pixels.
        contours: of eyes and mouth, in the whole picture; None where they are not looked for.
    """

    keypoints: Keypoints
    names: tuple[str, ...]
    size: int
    square: Square
    contours: Contours | None = None

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


class Rig:
    """Draws an avatar from a `RigMotion`, without any network. One thread at a time.

    Args:
        picture: uint8 RGB (H, W, 3), the avatar at the size in which it is shown.
        face: of the avatar.
        square: where its square lies in `picture`, in pixels.
        matte, background, layers: see `Head`.

    Attributes:
        head: draws all but eyes and mouth, and those that are not sure.
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
            self.eyes, self.mouth = Eyes(picture, contours), Mouth(picture, contours)
            drawn.update(side for side in self.eyes.layers)
            drawn.update(["mouth"] if self.mouth.layers is not None else [])
        parts = [name for name in face.names if _part_of(name) not in drawn]
        self.head = Head(picture, square, landmarks, face.names, matte, background, parts, layers)
        self.notes: list[str] = [self.head.why] if self.head.why else []
        if face.contours is not None:
            self.notes += face.contours.notes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what is drawn: (H, W, 3), or (H, W, 4) where there is no background."""
        return self.head.shape

    def draw(self, motion: RigMotion, out: np.ndarray) -> None:
        """Write the avatar in this motion into `out`, uint8 of `shape`; may be a view."""
        self.head.draw(self.state(motion), out)

    def state(self, motion: RigMotion) -> HeadState:
        """The same in this picture's pixels."""
        pose = motion.pose
        moved = HeadPose(pose.scale, pose.rotation, pose.shift * self._unit)
        patches: list[Patch] = []
        if motion.amounts is not None and self.eyes is not None and self.mouth is not None:
            patches = self.eyes.draw(motion.amounts) + self.mouth.draw(motion.amounts)
        return HeadState(moved, motion.residuals * self._unit, patches)


def _part_of(name: str) -> str | None:
    """What draws a landmark's own motion, if it can: `left` or `right` eye, `mouth`, or None."""
    if "lid" in name or "iris" in name:
        return name.split()[0]
    return "mouth" if any(word in name for word in ("mouth", "lip", "chin")) else None
