"""What comes from the sender of a call, as a live source whose frames say what to draw."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from livepuppet.core.video import Frame
from livepuppet.realtime.remote.packets import RenderRequest

#: Seconds without a packet after which the sender is said to be silent.
SILENT = 2.0

#: Said first.
GREETING = "Whoever sends to this machine is drawn here."

_NO_PICTURE = np.zeros((16, 16, 3), np.uint8)


@dataclass(frozen=True)
class RequestFrame(Frame):
    """A frame without a picture.

    Attributes:
        request: what to draw.
        arrived: `time.perf_counter()` at which it came; `captured` is when the sender's camera took it, by that clock.
    """

    request: RenderRequest = field(default_factory=RenderRequest)
    arrived: float = 0.0


class CallSource:
    """A `LiveSource` that is fed by whoever receives packets; the newest wins.

    Attributes:
        trouble: why nothing comes, a sentence, or None.
        frames_in: packets so far.
    """

    name, rate, silence, note = "the sender", 30.0, None, None

    def __init__(self, waiting: str):
        self.greeting, self.trouble = GREETING, waiting
        self._newest: tuple[RenderRequest, float, float] | None = None
        self._changed = threading.Condition()
        self._begin = time.perf_counter()

    def put(self, request: RenderRequest, captured: float) -> None:
        """Draw this next, instead of what waits.

        Args:
            captured: when the sender's camera took it, in seconds of our clock (`time.perf_counter()`).
        """
        with self._changed:
            self._newest, self.trouble = (request, captured, time.perf_counter()), None
            self._changed.notify()

    def stopped(self, why: str) -> None:
        """Nothing more comes for now."""
        with self._changed:
            self._newest, self.trouble = None, why

    def frames(self, stop: threading.Event) -> Iterator[RequestFrame]:
        last = self._begin
        heard = time.monotonic()
        while not stop.is_set():
            with self._changed:
                if self._newest is None:
                    self._changed.wait(0.1)
                newest, self._newest = self._newest, None
                if newest is None:
                    if self.trouble is None and time.monotonic() - heard > SILENT:
                        self.trouble = "Nothing comes from the sender: its camera may have stopped."
                    continue
            heard = time.monotonic()
            request, captured, arrived = newest
            # Times grow, whatever was told of clocks.
            last = max(last + 1e-6, captured)
            yield RequestFrame(
                _NO_PICTURE, Fraction(last - self._begin), last, request=request, arrived=arrived
            )

    def close(self) -> None:
        """Nothing has to be released."""
