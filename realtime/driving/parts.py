"""The parts that a face without a camera is put together from: voice, pointer, phone, tracker."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.realtime.driving.liveliness import Liveliness
from livepuppet.realtime.driving.pointer import Looking, system_pointer
from livepuppet.realtime.driving.receiver import Receiver
from livepuppet.realtime.driving.speech import SpeechFollower
from livepuppet.realtime.outputs.live_sound import FileSound, SoundFeed
from livepuppet.realtime.rig.amounts import NAMES, bounded, zeros
from livepuppet.realtime.rig.pose import HeadPose, joined, split
from livepuppet.realtime.rig.told import FacePose

#: Amounts that a voice has a say in.
MOUTH = np.array([name.startswith(("jaw", "mouth", "tongue", "cheekPuff")) for name in NAMES])

#: Seconds of silence from a phone or tracker after which there is no face.
GONE = 0.6


@dataclass
class Draft:
    """A face that is being put together.

    Attributes:
        amounts: float32 (52,).
        angles: float64 (3,), yaw, pitch and roll in radians, on top of `tracked`.
        shift: float64 (2,), in eye distances.
        scale: of the head.
        tracked: a face that a phone or tracker sees.
        heard: a microphone or a sound file is on, whether or not somebody speaks.
        speaking, open_by: of the voice.
        eyes_led: something says where the eyes look.
        captured: `time.perf_counter()` of the newest of what is shown; None where nothing came.
    """

    amounts: np.ndarray = field(default_factory=zeros)
    angles: np.ndarray = field(default_factory=lambda: np.zeros(3))
    shift: np.ndarray = field(default_factory=lambda: np.zeros(2))
    scale: float = 1.0
    tracked: FacePose | None = None
    heard: bool = False
    speaking: float = 0.0
    open_by: float = 0.0
    eyes_led: bool = False
    captured: float | None = None

    def face(self) -> FacePose:
        """All of it as one face."""
        yaw, pitch, roll = self.angles
        own = joined(np.array([-pitch, yaw]), float(roll))
        amounts = bounded(self.amounts)
        if self.tracked is None:
            return FacePose(amounts, HeadPose(self.scale, own, self.shift))
        head = self.tracked.head
        tilt, turned = split(head.rotation)
        rotation = joined(tilt + np.array([-pitch, yaw]), turned + float(roll))
        return FacePose(
            amounts,
            HeadPose(head.scale * self.scale, rotation, head.shift + self.shift),
            False,
            self.tracked.seen or self.heard,
        )


class Part(Protocol):
    """Adds what it knows to a draft.

    Attributes:
        name: how to speak of it.
        trouble: one sentence about what is wrong now and what to do, or None.
        ended: nothing more comes.
    """

    @property
    def name(self) -> str: ...

    @property
    def trouble(self) -> str | None: ...

    @property
    def ended(self) -> bool: ...

    def add(self, draft: Draft, now: float) -> None:
        """Write into `draft` what is known at `now`, a `time.perf_counter()`."""
        ...

    def counts(self) -> dict[str, int]:
        """Figures for the statistics."""
        ...

    def close(self) -> None: ...


class Voice:
    """A microphone, or a sound file in its place, whose voice moves the mouth.

    Args:
        feed: where the sound comes from.
        name: how to speak of it.
        source: of the file.

    Attributes:
        begun: `time.perf_counter()` at which the file's sound began; None before, and of a microphone.
    """

    trouble: str | None = None

    def __init__(self, feed: SoundFeed, name: str, source: Path | None = None):
        self.name, self.feed, self.source = name, feed, source
        self._follower = SpeechFollower(feed.rate)
        self._waiting: list[tuple[float, np.ndarray]] = []
        self._last: float | None = None
        self.begun: float | None = None

    @property
    def ended(self) -> bool:
        return isinstance(self.feed, FileSound) and self.feed.ended and not self._waiting

    def heard_from(self, begin: float) -> None:
        """The file's sound has begun at `begin`; by default it begins when it is first asked for."""
        if isinstance(self.feed, FileSound):
            self.begun = begin
            self.feed.played(Fraction(0), begin)

    def add(self, draft: Draft, now: float) -> None:
        """As of `Part`. Raises UserError where the file ends before a single sample was read."""
        if self.begun is None:
            self.heard_from(now)
        heard = False
        self._waiting += self.feed.read(now)
        while self._waiting:
            at, samples = self._waiting.pop(0)
            # A file comes in pieces that go on after now.
            count = max(math.ceil((now - at) * self.feed.rate), 0)
            if count < samples.shape[1]:
                self._waiting.insert(0, (at + count / self.feed.rate, samples[:, count:]))
                samples = samples[:, :count]
            if not samples.shape[1]:
                break
            self._follower.feed(samples.mean(axis=0))
            self._last, heard = at + samples.shape[1] / self.feed.rate, True
        if self._last is None and self.ended:
            raise UserError(f"{self.name} has no sound that can be read: give a file with a voice in it.")
        if not heard and self._last is not None and now - self._last > 0.3:
            # A device that stalls must not leave the mouth open.
            self._follower.feed(np.zeros(round(0.03 * self.feed.rate), np.float32))
        mouth = self._follower.mouth
        draft.amounts[MOUTH] = mouth.amounts()[MOUTH]
        draft.speaking, draft.open_by = mouth.speaking, mouth.open
        if self._last is not None and now - self._last < 0.3:
            draft.captured, draft.heard = min(self._last, now), True

    def counts(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.feed.close()


def file_sound(name: str, loop: bool = False) -> FileSound:
    """The sound of a file that stands in a microphone's place. Raises UserError."""
    try:
        return FileSound(name, loop)
    except UserError as error:
        raise UserError(f"{name} has no sound that can be read: give a file with a voice in it.") from error


class Pointer:
    """The pointer, which head and eyes follow.

    Args:
        desktop: ask the desktop where it is; otherwise only `told` says.

    Attributes:
        problem: why the desktop does not tell, in a sentence; None where it does.
    """

    name, ended = "the pointer", False

    def __init__(self, desktop: bool = True):
        self._place, self.problem = None, None
        if desktop:
            try:
                self._place = system_pointer()
            except UserError as error:
                self.problem = str(error)
        self._looking = Looking()
        self._told: tuple[float, float] | None = None

    @property
    def trouble(self) -> str | None:
        return self.problem if self._told is None else None

    def told(self, x: float, y: float) -> None:
        """The pointer is here, in [-1, 1] across a window or page. From then on the desktop is not asked."""
        self._told = float(x), float(y)

    def add(self, draft: Draft, now: float) -> None:
        place = self._told
        if place is None and self._place is not None:
            place = self._place()
        self._looking.update(now, place)
        self._looking.write(draft.amounts)
        draft.angles = draft.angles + self._looking.head
        draft.eyes_led = True

    def counts(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._place = None


class Tracked:
    """A phone or a tracker that sends faces.

    Args:
        receiver: listening.
        name: how to speak of it.
        silence: the sentence to say while nothing comes.
        note: a sentence on who may send, or None.
    """

    ended = False

    def __init__(self, receiver: Receiver, name: str, silence: str, note: str | None = None):
        self.receiver, self.name, self._silence, self.note = receiver, name, silence, note
        self._since = time.perf_counter()
        self.trouble: str | None = None

    def add(self, draft: Draft, now: float) -> None:
        newest = self.receiver.newest
        if newest is None or now - newest[1] > GONE:
            counts = self.receiver.counts
            if newest is not None or now - self._since > GONE + 2.0:
                told = self._silence
                if newest is None and counts["bad"]:
                    told = f"What {self.name} sends is not understood: update its app, or choose another one's --driving."
                elif newest is None and counts["foreign"]:
                    told = f"Only another address than that of {self.name} sends faces: give the right one."
                self.trouble = told
            face = None if newest is None else newest[0]
            last = FacePose.rest() if face is None else face
            draft.tracked = FacePose(last.amounts, last.head, False, False)
        else:
            self.trouble = None
            draft.tracked, draft.captured = newest
        draft.amounts[:] = draft.tracked.amounts
        draft.eyes_led = True

    def counts(self) -> dict[str, int]:
        return {f"packets_{kind}": self.receiver.counts[kind] for kind in ("good", "bad", "foreign")}

    def close(self) -> None:
        self.receiver.close()


class Alive:
    """Blinks, looks, breath and sway, where nobody sees a face that has its own."""

    name, trouble, ended = "liveliness", None, False

    def __init__(self, seed: int = 0):
        self._alive = Liveliness(seed)

    def add(self, draft: Draft, now: float) -> None:
        if draft.tracked is not None:
            if draft.tracked.seen or not draft.heard:
                return
            # Who is heard goes on, with the head where the phone left it, but not with eyes that it
            # may have left shut.
            draft.amounts[~MOUTH] = 0
        self._alive.update(now, draft.speaking, draft.open_by)
        # A head that is led sways less.
        share = 0.5 if draft.eyes_led else 1.0
        draft.angles = draft.angles + share * self._alive.head
        draft.shift = draft.shift + np.array([0.0, self._alive.shift])
        draft.scale *= self._alive.scale
        self._alive.write(draft.amounts, eyes=not draft.eyes_led)

    def counts(self) -> dict[str, int]:
        return {}

    def close(self) -> None: ...
