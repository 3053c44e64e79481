"""Where an avatar's eyes and mouth are, as curves in its pixels, and how sure that is.

"left" is the picture's left throughout, as in the model's landmarks. Curves run from the picture's left to its right.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

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
