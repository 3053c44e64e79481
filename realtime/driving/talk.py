"""A talk from sound alone: the faces of a whole sound file, as a clip without pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction

from livepuppet.core.errors import UserError
from livepuppet.core.frames import open_input
from livepuppet.core.names import ffmpeg_name
from livepuppet.core.timeline import default_sound
from livepuppet.realtime.driving.frames import FaceFrame, sketch
from livepuppet.realtime.driving.parts import Alive, Draft, Voice, file_sound

#: Faces per second where nobody says.
RATE = 30

#: Seconds of sound that are heard before their picture: what hearing it takes, and lips are early.
AHEAD = 0.06


class Talk:
    """Iterate over it once: a `FaceFrame` for each moment of the file. Stands where a `Clip` does.

    Args:
        name: of a file with sound.
        rate: faces per second; by default 30.
        seed: of blinks, looks and sway.

    Attributes:
        name, rate, time_base, length, seconds, start, has_sound, broken: as of `core.video.Clip`.

    Raises:
        UserError: there is no sound in it that can be read.
    """

    has_sound, broken, endless = True, None, False

    def __init__(self, name: str, rate: float | Fraction | None = None, seed: int = 0):
        self.name, self.rate = name, Fraction(rate or RATE).limit_denominator(1000)
        self._feed = file_sound(name)
        self._seed = seed
        self.time_base = 1 / self.rate
        self.start, self.seconds = self._feed.span
        if self.seconds is None:
            self.seconds = _measured(name)
        self.length = max(round(self.seconds * self.rate), 1)

    def __iter__(self) -> Iterator[FaceFrame]:
        voice = Voice(self._feed, self.name)
        voice.heard_from(-AHEAD)
        parts = (voice, Alive(self._seed))
        for number in range(self.length):
            at = number * self.time_base
            draft = Draft()
            for part in parts:
                part.add(draft, float(at))
            face = draft.face()
            yield FaceFrame(sketch(face), at, time.perf_counter(), self.time_base, face=face)

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._feed.close()


def _measured(name: str) -> float:
    """How long the sound is that is in a file, in seconds, decoded to its end. Raises UserError where there is none."""
    with open_input(ffmpeg_name(name)) as container:
        stream = default_sound(container)
        samples = 0 if stream is None else sum(frame.samples for frame in container.decode(stream))
        if stream is None or not samples:
            raise UserError(f"{name} has no sound that can be read: give a file with a voice in it.")
        return samples / stream.rate
