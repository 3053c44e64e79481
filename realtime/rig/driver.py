"""From the driver's keypoints to what a rig shows: the head's pose, what the face does beyond it, and named amounts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.realtime.motion.eyes import lid_pairs
from livepuppet.realtime.motion.retargeter import Transferred
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.motion.smoothing import LONGEST_GAP, OneEuro
from livepuppet.realtime.rig.amounts import INDEX, CloseUpReader, LandmarkReader
from livepuppet.realtime.rig.pose import HeadPose, PoseTracker, joined, place, split
from livepuppet.realtime.rig.ramps import smooth
from livepuppet.realtime.rig.range import DriverRange
from livepuppet.realtime.rig.told import FacePose, NeutralFace

#: Turns and nods are read off a few pixels, which tremble more than heads do: their filter's cut-off at rest, in Hz, and by how
#: many Hz each radian a second raises it (Casiez et al., "1 Euro filter", CHI 2012).
REST_CUTOFF, CUTOFF_PER_SPEED, SPEED_CUTOFF = 1.6, 9.0, 2.0


@dataclass(frozen=True, eq=False)
class RigMotion:
    """What one frame shows of an avatar, whatever its size.

    Attributes:
        pose: of the head since rest; its shift in units of the avatar's keypoints ([-1, 1] across its square).
        residuals: float64 (K, 2), by how far the avatar's keypoints go beyond what the head does, in the same units and in the
            unturned picture.
        amounts: float32 (52,) of `amounts.NAMES`; None where they are not read.
    """

    pose: HeadPose
    residuals: np.ndarray
    amounts: np.ndarray | None = None

    def towards(self, other: RigMotion, share: float) -> RigMotion:
        """This one, and `share` of the way to `other`."""

        def mixed(one, two):
            return one + share * (two - one)

        (tilt, roll), (tilt2, roll2) = split(self.pose.rotation), split(other.pose.rotation)
        pose = HeadPose(
            mixed(self.pose.scale, other.pose.scale),
            joined(mixed(tilt, tilt2), mixed(roll, roll2)),
            mixed(self.pose.shift, other.pose.shift),
        )
        amounts = other.amounts
        if self.amounts is not None and amounts is not None:
            amounts = mixed(self.amounts, amounts).astype(np.float32)
        return RigMotion(pose, mixed(self.residuals, other.residuals), amounts)


class RigDriver:
    """Remembers D1, and steadies what it reads. One thread at a time.

    Args:
        names: of the keypoints.

    Attributes:
        range: how far the driver's own face goes; may be replaced.
    """

    def __init__(self, names: Sequence[str]):
        self._names = tuple(names)
        self._lids = lid_pairs(self._names)
        self._reader = LandmarkReader(names) if self._lids is not None else None
        self._close_reader = CloseUpReader(names)
        self._steady, self.range = _AmountFilter(), DriverRange()
        self._tracker: PoseTracker | None = None
        self._placed: tuple[Keypoints, HeadPose | None] | None = None
        self._filter = _TiltFilter()
        self._blinks = _BlinkHold()
        self._shown: RigMotion | None = None
        self._frozen_at: RigMotion | None = None

    @property
    def usable(self) -> bool:
        """Whether the present D1 is a face's. Otherwise the network draws."""
        return self._tracker is None or self._tracker.usable

    def motion(self, told: Transferred, avatar: Keypoints, settings: MotionSettings) -> RigMotion:
        """What the frame of `told` shows of the avatar with keypoints `avatar`."""
        if isinstance(told.driving.reading, FacePose) and isinstance(told.initial.reading, FacePose):
            self._tracker = None
            return self._arriving(self._told(told, settings), told.arrived)
        if self._tracker is None or self._tracker.initial is not told.initial:
            self._tracker = PoseTracker(self._names, told.initial)
            self._set_neutral(told.initial)
        tracker = self._tracker
        pose = tracker.pose(told.driving)
        residuals = np.zeros((len(self._names), 2))
        beyond = None
        if tracker.usable:
            # In D1's own frame: what the head itself did is taken back.
            off = np.asarray(told.driving.points, np.float64) - tracker.rigid(pose)
            _, roll = split(pose.rotation)
            cosine, sine = math.cos(roll) / pose.scale, math.sin(roll) / pose.scale
            beyond = np.nan_to_num(off @ np.array([[cosine, -sine], [sine, cosine]]))
            residuals, beyond = beyond * told.scale, beyond / tracker.unit
        if told.opened is not None and self._lids is not None:
            # Lids close by shares of their own opening, on every eye.
            open_by = 1 + max(settings.eyes, 1.0) * (told.opened - 1)
            for (upper, lower), share in zip(self._lids.tolist(), open_by.tolist(), strict=True):
                across = np.asarray(avatar.points[lower] - avatar.points[upper], np.float64)
                residuals[upper] = residuals[lower] + (1 - max(share, 0.0)) * across
        amounts, blink = None, 0.0
        if self._reader is not None:
            read = self._read(
                told.driving, told.initial, told.time, settings.smoothing, beyond, pose.angles[0]
            )
            blink = float(max(read[INDEX["eyeBlinkLeft"]], read[INDEX["eyeBlinkRight"]]))
            amounts = np.float32(told.share) * self.range(read, told.time)
        if settings.smoothing > 0:
            pose = self._blinks(self._filter(pose, told.time), blink, tracker.unit, told.time)
        scale = self._size(avatar) / tracker.unit if settings.adapt_scale and tracker.usable else told.scale
        pose = HeadPose(pose.scale, pose.rotation, pose.shift * scale)
        pose = pose.tamed(told.share, settings.shift, settings.turn, settings.zoom)
        return self._arriving(RigMotion(pose, told.share * residuals, amounts), told.arrived)

    def _size(self, avatar: Keypoints) -> float:
        """The avatar's eye distance in space, in units of its keypoints. It tells sizes of turned and long faces apart, which a
        hull of landmarks does not.
        """
        if self._placed is None or self._placed[0] is not avatar:
            placed = place(np.asarray(avatar.points, np.float64), self._names)
            self._placed = avatar, None if placed is None else placed[1]
        face = self._placed[1]
        return face.scale if face is not None else 1.0

    def _told(self, told: Transferred, settings: MotionSettings) -> RigMotion:
        """The same of a face in numbers, of which nothing has to be read."""
        initial = told.initial.reading
        face = told.driving.reading.since(initial)
        amounts, pose = face.amounts, face.head
        if settings.smoothing > 0 and not told.driving.reading.own_rest:
            # Phones and trackers tremble; what is made here does not, and would only come later.
            amounts = self._steady(amounts, told.time, settings.smoothing)
            pose = self._filter(pose, told.time)
        pose = HeadPose(
            pose.scale, pose.rotation, pose.shift * (NeutralFace.unit * initial.head.scale * told.scale)
        )
        pose = pose.tamed(told.share, settings.shift, settings.turn, settings.zoom)
        residuals = np.zeros((len(self._names), 2))
        return RigMotion(pose, residuals, np.float32(told.share) * amounts)

    def _arriving(self, found: RigMotion, arrived: float) -> RigMotion:
        """`found`, or on the way there from where a frozen picture stood."""
        if arrived < 1 and self._shown is not None:
            # A picture that was frozen goes from where it stood.
            self._frozen_at = self._frozen_at or self._shown
            return self._frozen_at.towards(found, arrived)
        self._frozen_at = None
        self._shown = found
        return found

    def _set_neutral(self, initial: Keypoints) -> None:
        if self._reader is not None:
            self._reader.set_neutral(initial)
        if initial.reading is not None:
            self._close_reader.set_neutral(initial.reading)

    def _read(
        self,
        driving: Keypoints,
        initial: Keypoints,
        time: float,
        smoothing: float,
        beyond: np.ndarray | None = None,
        turn: float = 0.0,
    ) -> np.ndarray:
        """Amounts of `driving` since D1, as they are read: float32 (52,). For `beyond` and `turn` see `CloseUpReader.read`."""
        assert self._reader is not None
        if driving.reading is None or initial.reading is None:
            return self._reader.read(driving)
        return self._steady(self._close_reader.read(driving.reading, beyond, turn), time, smoothing)

    def learn(self, initial: Keypoints, seen: Iterable[tuple[Keypoints, float]]) -> None:
        """Learn the driver's `range` from keypoints and times of a shot, with D1 `initial`, whose values are steady."""
        if self._reader is None:
            return
        self._set_neutral(initial)
        for driving, time in seen:
            self.range.learn(self._read(driving, initial, time, 0.0), time)

    def restart(self) -> None:
        """Another avatar is shown, or the driver was away: nothing of the last frame goes on."""
        self._filter = _TiltFilter()
        self._blinks = _BlinkHold()
        self._steady = _AmountFilter()
        self._shown = self._frozen_at = None


#: Cut-off at rest, in hertz, of amounts, hertz more for each unit a second, cut-off of the speed, and guard against flicker.
AMOUNT_REST, AMOUNT_RISE, AMOUNT_SPEED, AMOUNT_GUARD = 1.5, 6.0, 8.0, 1.0


class _AmountFilter:
    """A one euro filter of every amount."""

    def __init__(self):
        self._time: float | None = None
        self._rows: OneEuro | None = None

    def __call__(self, amounts: np.ndarray, time: float, strength: float) -> np.ndarray:
        passed = None if self._time is None else time - self._time
        self._time = time
        if strength <= 0:
            return amounts
        if self._rows is None or passed is None or not 0 <= passed <= LONGEST_GAP:
            every = np.ones(len(amounts))
            self._rows = OneEuro(
                AMOUNT_REST * every, AMOUNT_RISE * every, AMOUNT_SPEED * every, AMOUNT_GUARD * every
            )
            passed = 1 / 30
        rows = amounts.astype(np.float64)[:, None]
        return self._rows(rows, max(passed, 1e-3), strength)[:, 0].astype(np.float32)


class _TiltFilter:
    """A one euro filter of turns and nods; all else is as smooth as the keypoints."""

    def __init__(self):
        self._time: float | None = None
        self._tilt = self._last = self._speed = np.zeros(2)

    def __call__(self, pose: HeadPose, time: float) -> HeadPose:
        tilt, roll = split(pose.rotation)
        passed = None if self._time is None else time - self._time
        if passed is not None and passed == 0:
            return replace(pose, rotation=joined(self._tilt, roll))
        if passed is None or not 0 < passed < 0.5:
            self._tilt, self._speed = tilt, np.zeros(2)
        else:
            speed = (tilt - self._last) / passed
            self._speed = self._speed + _share(SPEED_CUTOFF, passed) * (speed - self._speed)
            cutoff = REST_CUTOFF + CUTOFF_PER_SPEED * float(np.hypot(*self._speed))
            self._tilt = self._tilt + _share(cutoff, passed) * (tilt - self._tilt)
        self._time, self._last = time, tilt
        return replace(pose, rotation=joined(self._tilt, roll))


#: Lids at this much of a blink begin to hold the head, and do so wholly; for how long after it, and how fast a head that is held
#: gives way, in seconds.
HOLDS, RELEASE, GIVES_WAY = (0.12, 0.45), 0.2, 0.6

#: What a blink takes for a motion of the head, and is held: tilts (about x and y) and roll in radians, the scale's logarithm, and
#: shifts in eye distances. What goes further is the head's.
HELD = np.array([0.09, 0.05, 0.03, 0.04, 0.05, 0.08])


class _BlinkHold:
    """Holds the head while its eyes blink: closing lids look like a small nod to whatever reads poses off a face."""

    def __init__(self):
        self._time: float | None = None
        self._hold = 0.0
        self._anchor = np.zeros(6)

    def __call__(self, pose: HeadPose, blink: float, unit: float, time: float) -> HeadPose:
        """`pose` with a shift in the units in which faces have the eye distance `unit`, while eyes are shut by `blink`."""
        tilt, roll = split(pose.rotation)
        now = np.array([*tilt, roll, math.log(pose.scale), *(pose.shift / unit)])
        passed = None if self._time is None else time - self._time
        self._time = time
        if passed is None or not 0 <= passed < LONGEST_GAP:
            self._hold, self._anchor = 0.0, now
            return pose
        self._hold = max(float(smooth(*HOLDS, blink)), self._hold * math.exp(-passed / RELEASE))
        if self._hold < 0.02:
            self._hold, self._anchor = 0.0, now
            return pose
        self._anchor = self._anchor + (1 - math.exp(-passed / GIVES_WAY)) * (now - self._anchor)
        now = now - self._hold * np.clip(now - self._anchor, -HELD, HELD)
        return HeadPose(math.exp(now[3]), joined(now[:2], now[2]), now[4:] * unit)


def _share(cutoff: float, passed: float) -> float:
    """By how much a low-pass filter of `cutoff` Hz comes nearer to its input within `passed` seconds."""
    return 1 - math.exp(-2 * math.pi * cutoff * passed)
