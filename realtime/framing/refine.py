"""Put the head where it sits in the papers' crops, with the model's own landmarks.

A face detector's box wanders by a tenth of its width from one kind of face to the next. Landmarks
do not, but they can only be trusted on a square that is nearly right already, and then only where
they look like a face.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square

#: Distance from the middle between the eyes to the mouth, as a share of the square's side, in crops
#: like the papers': medians of the default model's landmarks over ten real clips cropped so (0.243
#: and 0.591).
EYES_TO_MOUTH = 0.24

#: Height of the middle between eyes and mouth, as a share of the square's side.
MIDDLE_HEIGHT = 0.59

#: A refinement beyond these is a mistake of the landmarks rather than of the box: change of side,
#: shift in sides.
LARGEST_ZOOM = 1.3
LARGEST_MOVE = 0.15


def face_middle(keypoints: Keypoints, names: Sequence[str]) -> tuple[np.ndarray, float] | None:
    """Where a face sits by its landmarks.

    Args:
        names: of the keypoints, such as "left iris" or "upper lip"; "left" is the picture's left.

    Returns:
        The middle between eyes and mouth (x, y) and the distance of the two, both in shares of the
        picture's side from its top left corner; None where there are no such landmarks or they do
        not look like an upright face.
    """

    def centre(*words: str) -> np.ndarray | None:
        chosen = [index for index, name in enumerate(names) if all(word in name for word in words)]
        return (keypoints.points[chosen].mean(axis=0) + 1) / 2 if chosen else None

    def eye(side: str) -> np.ndarray | None:
        found = [
            point
            for point in (centre(side, "iris"), centre(side, "lid"), centre(side, "eye"))
            if point is not None
        ]
        return np.mean(found, axis=0) if found else None

    left, right, mouth = eye("left"), eye("right"), centre("mouth")
    lips = centre("lip")
    if left is None or right is None or mouth is None:
        return None
    mouth = mouth if lips is None else (mouth + lips) / 2
    eyes = (left + right) / 2
    between, down = right - left, mouth - eyes
    distance = float(np.hypot(*down))
    width = float(np.hypot(*between))
    upright = between[0] > 0.8 * width and down[1] > 0.8 * distance
    if not (upright and 0.08 < distance < 0.5 and 0.45 < width / distance < 1.8):
        return None
    return (eyes + mouth) / 2, distance


def refined_square(
    square: Square, keypoints: Keypoints, names: Sequence[str], limited: bool = True
) -> Square:
    """`square` corrected so that the face, whose landmarks in it are `keypoints`, sits as in the
    papers' crops.

    Returned unchanged where the landmarks are missing or implausible, or, if `limited`, would
    change it beyond the limits above: right for a square that a cascade put around a face, not for
    one that was tried at random.
    """
    found = face_middle(keypoints, names)
    if found is None:
        return square
    middle, distance = found
    zoom = distance / EYES_TO_MOUTH
    x, y = np.array([square.x, square.y]) + middle * square.side
    side = square.side * zoom
    refined = Square(float(x - side / 2), float(y - side * MIDDLE_HEIGHT), float(side))
    moved = np.hypot(
        refined.x + side / 2 - square.x - square.side / 2, refined.y + side / 2 - square.y - square.side / 2
    )
    within = 1 / LARGEST_ZOOM < zoom < LARGEST_ZOOM and moved <= LARGEST_MOVE * square.side
    return refined if within or not limited else square
