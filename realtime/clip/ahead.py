"""The neutral pose for a driving file that is played rather than worked through: its beginning is
looked at, a few times a second, before the first frame is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square
from livepuppet.core.video import Video
from livepuppet.realtime.clip.plan import plan
from livepuppet.realtime.clip.survey import Survey, Watcher

#: Seconds that are looked at, and how often in each.
SECONDS, PER_SECOND = 60.0, 6.0


@dataclass(frozen=True, eq=False)
class Ahead:
    """What a driving file begins with.

    Attributes:
        neutral: D1.
        square: of the frames (mirrored, if they were), in which D1 is.
        shape: (height, width) of those frames.
        begins: seconds at which a face is seen first.
        sentence: which moment it is; None where that is the first frame.
    """

    neutral: Keypoints
    square: Square
    shape: tuple[int, int]
    begins: float
    sentence: str | None


def look_ahead(
    video: Video,
    watcher: Watcher,
    names: tuple[str, ...],
    size: int,
    neutral: str | float | Keypoints = "auto",
    mirrored: bool = False,
    fixed: bool = False,
    advanced: Callable[[float], None] = lambda seconds: None,
) -> Ahead | None:
    """Look at a video's beginning.

    Args:
        video: opened for it.
        names, size, neutral, fixed: as of `plan`.
        mirrored: frames are flipped left to right before they are looked at.
        advanced: called with the seconds looked at.

    Returns:
        None where no face is seen there.

    Raises:
        UserError: see `plan`.
    """
    at = neutral if isinstance(neutral, (int, float)) else 0.0
    until, seen = max(SECONDS, at + 1), []
    for frame in video:
        time = float(frame.time)
        if time > until:
            break
        if seen and time - float(seen[-1].time) < 1 / PER_SECOND - 1e-3 and not 0 <= at - time < 0.05:
            continue
        seen.append(watcher.see(replace(frame, image=cv2.flip(frame.image, 1)) if mirrored else frame))
        advanced(time)
    survey = Survey(seen, video.start, None, watcher.sizes, frozenset(watcher.cuts))
    if not survey.has_face:
        if isinstance(neutral, (int, float)):
            raise UserError("No face is seen in the driving video: leave --neutral out.")
        return None
    planned = plan(survey, names, size, neutral, smoothing=0, fixed=fixed)
    said = (one for one in planned.sentences if one.startswith("Neutral pose from"))
    for shown, looked in zip(planned.shown, seen, strict=True):
        if shown.begins is not None:
            begins, shape = float(looked.time), survey.sizes[looked.shot]
            return Ahead(shown.begins, shown.square, shape, begins, next(said, None))
    return None
