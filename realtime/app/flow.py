"""How many pictures may be on their way to a client at the same time."""

from __future__ import annotations

import math
import time
from collections import deque

#: Pictures on their way, not yet acknowledged: at least, and at most where a round trip takes longer than a frame.
MIN_IN_FLIGHT, MAX_IN_FLIGHT = 2, 8

#: Seconds of a frame, and acknowledgements of which the quickest counts as the way there and back.
FRAME_SECONDS, ACKNOWLEDGEMENTS = 1 / 30, 32


class Flow:
    """Pictures that were sent and not yet acknowledged: where more than a round trip's are on their way, they queue."""

    def __init__(self) -> None:
        self._in_flight: deque[tuple[int, float]] = deque()
        self._round_trips: deque[float] = deque(maxlen=ACKNOWLEDGEMENTS)

    @property
    def is_open(self) -> bool:
        """Whether the connection takes another picture."""
        on_the_way = math.ceil(min(self._round_trips, default=0.0) / FRAME_SECONDS)
        return len(self._in_flight) < min(max(MIN_IN_FLIGHT, 1 + on_the_way), MAX_IN_FLIGHT)

    def sent(self, number: int) -> None:
        """A picture is sent now; numbers grow."""
        self._in_flight.append((number, time.perf_counter()))

    def acknowledged(self, number: int) -> None:
        """The client has that picture, and those before it."""
        now = time.perf_counter()
        while self._in_flight and self._in_flight[0][0] <= number:
            self._round_trips.append(now - self._in_flight.popleft()[1])

    def clear(self) -> None:
        """Another connection begins."""
        self._in_flight.clear()
        self._round_trips.clear()
