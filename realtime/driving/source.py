"""A face without a camera as a live source."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction

from livepuppet.realtime.driving.frames import FaceFrame, sketch
from livepuppet.realtime.driving.parts import Alive, Draft, Part, Pointer, Tracked, Voice
from livepuppet.realtime.outputs.microphone import Microphone
from livepuppet.realtime.rig.told import FacePose

#: Faces per second that are made of what is sent, at most: phones send 60, and whoever floods us shall not keep a core busy.
MOST_RATE = 90.0

#: Seconds for which a face goes on after the sound file has ended.
TAIL = 0.4


class FaceSource:
    """Faces in numbers, at a steady rate, or as a phone or tracker sends them. A `LiveSource`.

    Args:
        parts: in the order in which they are asked; later ones have the last word.
        rate: faces per second.
        seed: of what a face does by itself.

    Attributes:
        name: how to speak of it.
        sound: the file that stands in the microphone's place, or None.
        microphone: the one that is heard, or None.
        greeting: what a person should know first.
        note: what differs from what was asked for, in a sentence, or None.
    """

    silence = None

    def __init__(self, parts: Sequence[Part], rate: float = 30.0, seed: int = 0):
        self._parts, self.rate = [*parts, Alive(seed)], rate
        self.name = " and ".join(part.name for part in parts)
        voice = next((part for part in parts if isinstance(part, Voice)), None)
        self.sound = None if voice is None else voice.source
        self.microphone = voice.feed if voice is not None and isinstance(voice.feed, Microphone) else None
        self.greeting = f"Driven by {self.name}."
        if any(isinstance(part, Tracked) for part in parts):
            self.greeting += " Look straight ahead, with a neutral expression."
        notes = [note for part in parts if (note := getattr(part, "note", None))]
        self.note = notes[0] if notes else None
        self._tracked = [part for part in parts if isinstance(part, Tracked)]
        self._arrived = threading.Event()
        for part in self._tracked:
            part.receiver.arrived = self._arrived.set
        self._closed = False

    @property
    def begun(self) -> float | None:
        """`time.perf_counter()` at which the voice began; None before it did, and without one."""
        return next((part.begun for part in self._parts if isinstance(part, Voice)), None)

    @property
    def trouble(self) -> str | None:
        """What is wrong with a part of it, and what to do; None where nothing is."""
        return next((part.trouble for part in self._parts if part.trouble), None)

    def counts(self) -> dict[str, int]:
        """Packets, by what became of them; nothing where none are sent."""
        return {name: count for part in self._parts for name, count in part.counts().items()}

    @property
    def needs_pointer(self) -> bool:
        """Whether it follows a pointer that the desktop does not tell it about, so that a window has to."""
        return any(isinstance(part, Pointer) and part.problem is not None for part in self._parts)

    def point(self, x: float, y: float) -> None:
        """The pointer is here, in [-1, 1] across a window or page (x to the right, y down)."""
        for part in self._parts:
            if isinstance(part, Pointer):
                part.told(x, y)

    def face(self, now: float) -> tuple[FacePose, float]:
        """The face at `now`, and the `time.perf_counter()` of what it was made from."""
        draft = Draft()
        for part in self._parts:
            part.add(draft, now)
        return draft.face(), now if draft.captured is None else draft.captured

    def frames(self, stop: threading.Event) -> Iterator[FaceFrame]:
        begin = last = time.perf_counter()
        tick, ended = begin, None
        while not stop.is_set():
            now = time.perf_counter()
            face, captured = self.face(now)
            # Times grow, whatever came late.
            last = max(captured, last)
            yield FaceFrame(sketch(face), Fraction(max(last - begin, 0.0)), last, face=face)
            if any(part.ended for part in self._parts):
                ended = now if ended is None else ended
                if now - ended > TAIL:
                    return
            if self._tracked:
                # What is sent is shown at once.
                if stop.wait(max(now + 1 / MOST_RATE - time.perf_counter(), 0.0)):
                    return
                self._arrived.wait(1 / self.rate)
                self._arrived.clear()
                continue
            tick = max(tick + 1 / self.rate, now)
            if stop.wait(max(tick - time.perf_counter(), 0.0)):
                return

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for part in self._parts:
            part.close()
