"""How the driver's motion is shown."""

from __future__ import annotations

from dataclasses import dataclass

from livepuppet.core.setting import check_numbers, setting
from livepuppet.core.transfer import VARIANCES, Variance


@dataclass(frozen=True)
class MotionSettings:
    """How the driver's movement becomes the avatar's.

    Further notes:
        smoothing: 1 steadies a still face and delays a moving one by half a frame (`livepuppet
        bench jitter`).
        eyes: 1 opens the avatar's eyes by how far the driver's are open; 2 doubles that; 0 is the
        paper's Eq. 14.
        relative: without it, the gains and `eyes` do nothing.
        adapt_scale: never with covariances: the hull of a Monkey-Net's keypoints says little of a
            thing's size; nor do its authors scale by default.
        variance: see `transfer`; nothing to models with Jacobians.
        countdown: 0 takes the first frame.
        follow_drift: of a head that rests elsewhere for ten seconds.
    """

    strength: float = setting(1.0, "All movement is multiplied by this.", low=0, high=2, step=0.1)
    smoothing: float = setting(1.0, "Filter against jitter; 0 is off.", low=0, high=2, step=0.1)
    shift: float = setting(
        1.0, "How much of the head's way across the picture is followed.", low=0, high=1, step=0.1
    )
    turn: float = setting(1.0, "How much of the head's tilt is followed.", low=0, high=1, step=0.1)
    zoom: float = setting(
        1.0, "How much of coming closer and leaning back is followed.", low=0, high=1, step=0.1
    )
    eyes: float = setting(
        1.0,
        "How far the avatar's own lids close when yours do; 0 copies the lids' way.",
        low=0,
        high=2,
        step=0.1,
    )
    relative: bool = setting(
        True, "Move the avatar by how you move away from your neutral pose; false copies the pose itself."
    )
    adapt_scale: bool = setting(
        True, "Scale movement by the ratio of the two faces' sizes (not with a Monkey-Net)."
    )
    variance: Variance = setting(
        "source",
        "Extent of keypoints, for models that have one (Monkey-Net): the avatar's own, the driver's, or the avatar's "
        "changed as the driver's.",
        choices=VARIANCES,
    )
    countdown: float = setting(
        2.0, "Seconds at the start of which the best moment becomes the neutral pose.", low=0, high=30
    )
    search: bool = setting(False, "Go on looking for a better neutral pose.")
    follow_drift: bool = setting(
        False, "Ease the neutral pose along when you have settled elsewhere for long."
    )
    lost_to_neutral: bool = setting(True, "Return to rest when the face is lost.")

    def __post_init__(self):
        """Raises UserError for a number that is not finite or out of range."""
        check_numbers(self)
