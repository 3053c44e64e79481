"""Retargeting: everything between `detect` and `render`, from frame to frame.

In order: smooth; is there a face; take or improve D1; damp the head's motion; transfer (Eq. 14-15);
eyelids; strength; limits; rest. Each has a small module of its own; this one holds their state. All
of it takes a quarter of a millisecond per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.limits import limit
from livepuppet.core.matrices import Matrices, inverse_2x2
from livepuppet.core.transfer import movement_scale, transfer
from livepuppet.realtime.motion import drift
from livepuppet.realtime.motion.calibration import Candidates, Fit
from livepuppet.realtime.motion.eyes import follow_lids, lid_pairs, open_ratio, openings
from livepuppet.realtime.motion.parts import Origin, Similarity, damp, rigid_indices
from livepuppet.realtime.motion.presence import Presence, Thresholds, mean_confidence
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.motion.smoothing import Smoother

#: Seconds in which D1 goes over into a better one, and a frozen picture into a moving one.
BLEND = 0.3

#: A frame betters D1 in search mode if its fit is higher by this much, and stays so over this many
#: frames.
BETTER, BETTER_FRAMES = 0.1, 4

#: A countdown without any face goes on for so many seconds, and then takes what there is (a black
#: picture, a covered lens), until there is a face.
WAIT_FOR_FACE = 5.0

#: Said of a setting that would do nothing; the model's name is put in.
NO_VARIANCE = "Variance does nothing here: the keypoints of {} carry Jacobians, and only a Monkey-Net's have a variance."

State = Literal["counting", "live", "lost", "frozen"]


def blend(one: Keypoints, other: Keypoints, share: float) -> Keypoints:
    """`one` and `share` (above 1: beyond) of the way to `other`."""
    weight = np.float32(share)
    reading = other.reading
    if one.reading is not None and reading is not None:
        reading = one.reading.towards(reading, share)
    return Keypoints(
        one.points + weight * (other.points - one.points),
        one.jacobians + weight * (other.jacobians - one.jacobians),
        other.confidence,
        reading,
    )


@dataclass(frozen=True)
class _Neutral:
    """What depends on D1 and the avatar alone, and would otherwise be worked out for every frame.

    Attributes:
        initial: D1.
        origin: of its points.
        openings: of its eyes, (2,); None without lids.
        carry: J_initial^-1 J_avatar; None with covariances.
    """

    initial: Keypoints
    origin: Origin
    openings: np.ndarray | None
    carry: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Transferred:
    """What the keypoints of one frame were made from; for drawing that goes by the driver's face
    itself.

    Attributes:
        driving: the driver's keypoints, smoothed; those of the last face where there is none now.
        initial: D1.
        time: of the frame, in seconds.
        scale: how much larger the avatar's face is than the driver's.
        share: of the motion that is shown, 0 to 2: its strength, and how far the picture has come
            to rest.
        opened: how far the driver's eyes are open, left and right, as a share of D1's; None without
            lids.
        arrived: 1; less while a picture that was frozen is on its way to where the driver is.
    """

    driving: Keypoints
    initial: Keypoints
    time: float
    scale: float
    share: float
    opened: np.ndarray | None
    arrived: float = 1.0


def _eased(share: float) -> float:
    """0 to 1 with a soft start and end."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


class Retargeter:
    """Turns the driver's keypoints into the avatar's.

    It begins with a countdown of `settings.countdown` seconds, in which the best frame is looked
    for, unless `initial` is set. One thread at a time.

    Args:
        names: of the keypoints; may be empty.
        settings: may be replaced at any time.
        thresholds: of `presence`. By default those of faces; with covariances, whose models know
            things of any kind, none.
        matrices: what the keypoints' matrices are, as `Engine.matrices`.

    Attributes:
        settings: how motion is shown.
        state: `counting` (for D1), `live`, `lost` (no face) or `frozen`.
        countdown_left: seconds; 0 when it is over.
        initial_fit: the `fit` of D1; 0 without one.
        confidence: of the last frame, in [0, 1]; 1 where the model does not say.
        transferred: what the last keypoints were made from; None before there are any, and in
            absolute mode.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        settings: MotionSettings | None = None,
        thresholds: Thresholds | None = None,
        matrices: Matrices = "jacobian",
    ):
        self.settings = settings or MotionSettings()
        self._names = tuple(names)
        self._rigid, self._lids = rigid_indices(self._names), lid_pairs(self._names)
        self._matrices: Matrices = matrices
        self._smoother = Smoother(self._names, matrices)
        if thresholds is None and matrices == "covariance":
            thresholds = Thresholds.none()
        self._presence = Presence(thresholds)
        self._drift = drift.Drift()
        self._avatar: Keypoints | None = None
        self._avatar_inverse: np.ndarray | None = None
        self._known: _Neutral | None = None
        self._score: Fit | None = None
        self._events: list[str] = []
        self.initial_fit = 0.0
        self._seen: Keypoints | None = None
        self._fit: float | None = None
        self.confidence = 1.0
        self._frozen = False
        self._shown: Keypoints | None = None
        self.transferred: Transferred | None = None
        self._given = False
        self._begin(self.settings.countdown)

    # What people and the loop do.

    @property
    def initial(self) -> Keypoints | None:
        """D1; None before there is one. One that is set (from a settings file) holds from the next
        frame on.

        Setting one of another number of keypoints than the avatar's, or one that is not finite, is
        a ValueError.
        """
        return self._initial if self._from is None else self._target

    @initial.setter
    def initial(self, keypoints: Keypoints | None) -> None:
        if keypoints is None:
            self.reset()
            return
        if self._avatar is not None and keypoints.points.shape != self._avatar.points.shape:
            raise ValueError(
                f"this model has {len(self._avatar.points)} keypoints, and the neutral pose {len(keypoints.points)}"
            )
        if not (np.isfinite(keypoints.points).all() and np.isfinite(keypoints.jacobians).all()):
            raise ValueError("the neutral pose has numbers that are not finite")
        self._forget()
        # Until there is a face, the picture is at rest.
        self._initial, self._held, self._given = keypoints, keypoints, True
        self._counting = False
        self._rate_initial()

    @property
    def fit(self) -> float:
        """How well the driver's last pose fits the avatar's, in [0, 1]. Worked out when asked for:
        it takes 50 us.
        """
        if self._seen is None or self._score is None:
            return 0.0
        if self._fit is None:
            self._fit = self._score(self._seen)
        return self._fit

    @property
    def state(self) -> State:
        if self._frozen:
            return "frozen"
        if self._counting:
            return "counting"
        return "lost" if self._presence.lost else "live"

    def set_avatar(self, keypoints: Keypoints) -> None:
        """Move another avatar from the next frame on. D1 stays: it is the driver's."""
        self._avatar = keypoints
        self._score = Fit(keypoints, self._names)
        self._scale = self._fit = self._known = None
        self._avatar_inverse = inverse_2x2(keypoints.jacobians) if self._matrices == "jacobian" else None
        self._shown = self._ease_from = None
        self._rate_initial()

    def reset(self, countdown: float = 0.0) -> None:
        """Take D1 anew: the next frame, or the best of the next `countdown` seconds."""
        self._frozen = False
        self._begin(countdown)

    def frame_changed(self) -> None:
        """The driver is framed anew: what was seen before is in other coordinates. The next frame
        becomes D1.

        A countdown that is on starts over. A D1 that was set before any frame came, for this very
        framing, stays.
        """
        if self._given:
            self._smoother.restart()
        elif self._counting:
            self._begin(self._countdown)
        else:
            self._begin(0.0)

    def begin_shot(self, initial: Keypoints, at_rest: bool, cut: bool = False) -> None:
        """Another shot of the driver begins, or another driver, with D1 `initial`: the picture goes
        over to it without a jump, from where it stands or from rest; after a `cut` it is cut, too.
        """
        shown = self._shown
        self.initial = initial
        if cut:
            return
        if at_rest:
            self._presence.life = 0.0
        else:
            self._ease_from, self._ease_start = shown, None

    def remap(self, change: Callable[[Keypoints], Keypoints]) -> None:
        """The crop went elsewhere: `change` turns keypoints of the old crop into those of the new.
        D1 stays the pose.
        """
        self._smoother.remap(change)
        if self._initial is not None:
            self._initial, self._scale = change(self._initial), None
        if self._from is not None and self._target is not None:
            self._from, self._target = change(self._from), change(self._target)
        if self._held is not None:
            self._held = change(self._held)
        for candidates in (self._faces, self._others, self._better_ones):
            candidates.remap(change)
        self._drift.restart()

    def freeze(self, on: bool) -> None:
        """Hold the picture as it is, or go on."""
        if self._frozen and not on:
            self._ease_from, self._ease_start = self._shown, None
            self._smoother.restart()
        self._frozen = on

    def events(self) -> list[str]:
        """Sentences for the person since the last call."""
        said, self._events = self._events, []
        return said

    # What happens to a frame.

    def move(self, driving: Keypoints, time: float) -> Keypoints | None:
        """The keypoints to render for the driver's `driving`, captured at `time` seconds of any
        growing clock.

        Returns:
            None where the avatar is to be shown at rest: while counting down, and while frozen
                before anything moved.
        """
        if self._avatar is None:
            raise ValueError("set_avatar has to be called before move")
        if self._frozen:
            return self._shown
        if not (np.isfinite(driving.points).all() and np.isfinite(driving.jacobians).all()):
            return self._shown
        self._given = False
        if self._of_no_face and self._presence.there(driving, None, None):
            shown = self._shown
            self._begin(0.0)
            self._ease_from = shown
            self._events.append("Neutral pose taken anew, as there is a face now.")
        driving = self._smoother(driving, time, self.settings.smoothing)
        sure = mean_confidence(driving)
        self.confidence = 1.0 if sure is None else sure
        self._seen, self._fit = driving, None
        if self._counting and not self._count(driving, time):
            return None
        head = self._neutral.origin.fit(driving.points)
        was_lost = self._presence.lost
        self._presence.update(driving, self._initial, head, time)
        if self._presence.lost and not was_lost:
            self._events.append("No face in sight: the picture rests until there is one.")
        if self._presence.here:
            self._held = driving
            self._better(driving, time)
            self._follow(head, time)
        elif self._held is not None:
            # What is no face must not pull at the avatar, not even for the moment until it counts
            # as lost.
            driving = self._held
            head = self._neutral.origin.fit(driving.points)
        if self._from is not None:
            self._ease_initial(time)
            head = self._neutral.origin.fit(driving.points)
        self._shown = self._eased_in(self._posed(driving, head, time), time)
        return self._shown

    @property
    def _neutral(self) -> _Neutral:
        """Of the present D1, which may be on its way to another."""
        initial = self._initial
        assert initial is not None and self._avatar is not None
        if self._known is None or self._known.initial is not initial:
            jacobian = self._matrices == "jacobian"
            self._known = _Neutral(
                initial,
                Origin.of(initial.points, self._rigid),
                None if self._lids is None else openings(initial.points, self._lids),
                inverse_2x2(initial.jacobians) @ self._avatar.jacobians if jacobian else None,
            )
        return self._known

    def _posed(self, driving: Keypoints, head: Similarity, time: float) -> Keypoints:
        """`driving`, put onto the avatar."""
        settings, avatar, initial = self.settings, self._avatar, self._initial
        assert avatar is not None and initial is not None
        life = _eased(self._presence.life) if settings.lost_to_neutral else 1.0
        share = settings.strength * life
        if not settings.relative:
            moved, self.transferred = driving, None
        else:
            damped = damp(driving, head, settings.shift, settings.turn, settings.zoom, self._matrices)
            scale = 1.0
            if settings.adapt_scale and self._matrices == "jacobian":
                if self._scale is None:
                    self._scale = movement_scale(avatar, initial)
                scale = self._scale
            neutral = self._neutral
            moved = transfer(
                damped,
                initial,
                avatar,
                scale,
                matrices=self._matrices,
                variance=settings.variance,
                carry=neutral.carry,
            )
            ratio = None
            if self._lids is not None and neutral.openings is not None and settings.eyes > 0:
                ratio = open_ratio(openings(driving.points, self._lids), neutral.openings)
                shown = head.damped(settings.shift, settings.turn, settings.zoom)
                moved = follow_lids(moved, avatar, ratio, self._lids, shown, settings.eyes)
            self.transferred = Transferred(driving, initial, time, scale, share, ratio)
        if share != 1.0:
            moved = blend(avatar, moved, share)
        return limit(moved, avatar, self._matrices, self._avatar_inverse)

    def _eased_in(self, moved: Keypoints, time: float) -> Keypoints:
        """`moved`, or on the way there from where a frozen picture stood."""
        if self._ease_from is None:
            return moved
        if self._ease_start is None or time < self._ease_start:
            self._ease_start = time
        share = (time - self._ease_start) / BLEND
        if share >= 1:
            self._ease_from = None
            return moved
        if self.transferred is not None:
            self.transferred = replace(self.transferred, arrived=_eased(share))
        return blend(self._ease_from, moved, _eased(share))

    # D1.

    def _forget(self) -> None:
        self._smoother.restart()
        self._presence.restart()
        self._drift.restart()
        self._initial: Keypoints | None = None
        self._target: Keypoints | None = None
        self._from: Keypoints | None = None
        self._held: Keypoints | None = None
        self._ease_from: Keypoints | None = None
        self._ease_start: float | None = None
        self._scale: float | None = None
        self._better_ones = Candidates()
        self._of_no_face = False
        self.countdown_left = 0.0

    def _begin(self, countdown: float) -> None:
        """Look for a D1 for `countdown` seconds."""
        self._forget()
        self._shown = None
        self._given = False
        self._counting, self._countdown = True, max(0.0, countdown)
        self.countdown_left = self._countdown
        self._faces, self._others = Candidates(), Candidates()
        self._since: float | None = None

    def _count(self, driving: Keypoints, time: float) -> bool:
        """One frame of the countdown. True once D1 is taken."""
        if self._since is None or time < self._since:
            self._since = time
        elapsed = time - self._since
        self.countdown_left = max(0.0, self._countdown - elapsed)
        looks = self._presence.there(driving, None, None)
        (self._faces if looks else self._others).add(driving, self.fit)
        if self._countdown > 0:
            if self.countdown_left > 0:
                return False
            if not len(self._faces) and elapsed < self._countdown + WAIT_FOR_FACE:
                return False
        self._counting = False
        self._of_no_face = bool(self._names) and not len(self._faces)
        self._initial = (self._faces if len(self._faces) else self._others).best()
        self._faces, self._others = Candidates(), Candidates()
        self._rate_initial()
        if self._countdown > 0:
            self._events.append(f"Neutral pose taken (fit {round(100 * self.initial_fit)} %).")
        return True

    def _rate_initial(self) -> None:
        score, initial = self._score, self._initial
        self.initial_fit = 0.0 if score is None or initial is None else score(initial)

    def _better(self, driving: Keypoints, time: float) -> None:
        """Search mode: replace D1 by a clearly better frame."""
        if not self.settings.search or self.fit < self.initial_fit + BETTER:
            self._better_ones = Candidates()
            return
        self._better_ones.add(driving, self.fit)
        if len(self._better_ones) >= BETTER_FRAMES:
            better, self._better_ones = self._better_ones.best(), Candidates()
            assert better is not None and self._score is not None
            self._go_to(better, BLEND, time)
            self.initial_fit = self._score(better)
            self._events.append(f"A better neutral pose was found (fit {round(100 * self.initial_fit)} %).")

    def _ease_initial(self, time: float) -> None:
        """Bring D1 nearer to its target, while it is on the way to one."""
        assert self._from is not None and self._target is not None
        share = (time - self._from_time) / self._from_seconds
        if 0 <= share < 1:
            self._initial = blend(self._from, self._target, _eased(share))
        else:
            self._initial, self._from = self._target, None
        self._scale = None

    def _follow(self, head: Similarity, time: float) -> None:
        """Let D1 follow a head that has settled elsewhere."""
        if not self.settings.follow_drift or self._from is not None:
            self._drift.restart()
            return
        assert self._initial is not None
        away = self._initial.points - self._initial.points.mean(axis=0)
        size = max(float(np.sqrt((away * away).sum() / len(away))), 1e-3)
        settled = self._drift.watch(head, self._presence.oddness, size, time)
        if settled is not None:
            self._go_to(drift.carried(self._initial, settled, self._matrices), drift.EASE, time)

    def _go_to(self, target: Keypoints, seconds: float, time: float) -> None:
        """Let D1 become `target` within some seconds, so that the picture does not jump."""
        self._from, self._target = self._initial, target
        self._from_time, self._from_seconds = time, seconds
        self._drift.restart()
