"""Turns at rendering: who is next, and who has to wait where others would be late for it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Waited
from contextlib import contextmanager

import numpy as np

#: Seconds without a frame after which none is expected; how late one may be and still be, in seconds and in shares of what lies
#: between two; and by how much a rhythm follows the newest.
PAUSE, LATE, LATE_SHARE, FOLLOWS = 1.0, 0.01, 0.3, 0.25

#: Seconds after which a guest has another turn whoever waits for it, and between looks whether one has.
LEAST, STEP = 0.5, 0.005

#: Turns take so many times as long as they usually do, which follows the newest by so much.
LONGER, LEARNS = 1.25, 0.1


class Rhythm:
    """When frames of one session are due: cameras are regular."""

    def __init__(self) -> None:
        #: When the newest came, and seconds between two.
        self._known: tuple[float, float | None] | None = None

    def came(self, at: float) -> None:
        """A frame, in seconds."""
        last, usual = self._known or (-math.inf, None)
        every = at - last
        if every >= PAUSE:
            self._known = at, None
        else:
            self._known = at, every if usual is None else usual + FOLLOWS * (every - usual)

    def due(self, now: float) -> float:
        """When the next one is; infinite where nobody knows."""
        last, every = self._known or (-math.inf, None)
        if every is None or now - last > PAUSE:
            return math.inf
        every = max(every, 1e-3)
        late = min(LATE, LATE_SHARE * every)
        # Those that are later than that do not come any more.
        return last + every * max(1, math.ceil((now - late - last) / every))


class Turns:
    """Turns at rendering, in the order in which they are asked for: as many at once as there are cores, since more would only make all
    of them late. Each has a picture to draw into, so memory does not grow with the sessions.

    Guests, who came from a worker that is gone, have what the others leave: their turns begin where they end before anybody else's
    frame is due. So they have fewer pictures where there are too many for a core, and the others are not later than before.

    Args:
        most: at the same time.
        clock: seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._free = [np.empty(0, np.uint8)] * most
        self._waiting: deque[Future[np.ndarray]] = deque()
        self._guests: deque[Future[np.ndarray]] = deque()
        self._rhythms: set[Rhythm] = set()
        self._usual, self._guest_began = 0.0, -math.inf
        self._lock = threading.Lock()

    def expect(self, rhythm: Rhythm) -> None:
        """Guests wait for frames of this rhythm from now on."""
        with self._lock:
            self._rhythms.add(rhythm)

    def forget(self, rhythm: Rhythm) -> None:
        """They do not any more. Safe to call twice."""
        with self._lock:
            self._rhythms.discard(rhythm)

    @contextmanager
    def take(self, shape: tuple[int, ...], guest: bool = False) -> Iterator[np.ndarray]:
        """Wait for a turn. Yields a picture, uint8 of `shape`, whose content is lost when the turn ends."""
        turn: Future[np.ndarray] = Future()
        with self._lock:
            (self._guests if guest else self._waiting).append(turn)
            self._give()
        flat, size = self._awaited(turn, guest), math.prod(shape)
        began = self._clock()
        if flat.size < size:
            flat = np.empty(size, np.uint8)
        try:
            yield flat[:size].reshape(shape)
        finally:
            with self._lock:
                took = self._clock() - began
                self._usual += LEARNS * (took - self._usual) if self._usual else took
                self._free.append(flat)
                self._give()

    def _awaited(self, turn: Future[np.ndarray], guest: bool) -> np.ndarray:
        while guest:
            try:
                return turn.result(STEP)
            except Waited:
                with self._lock:
                    self._give()
        return turn.result()

    # With the lock held.

    def _give(self) -> None:
        now = self._clock()
        while self._free:
            if self._waiting:
                turn = self._waiting.popleft()
            elif self._guests and self._has_room(now):
                turn, self._guest_began = self._guests.popleft(), now
            else:
                return
            turn.set_result(self._free.pop())

    def _has_room(self, now: float) -> bool:
        """Whether a guest's turn makes nobody late."""
        if now - self._guest_began >= LEAST / len(self._guests):
            return True
        soon = sum(rhythm.due(now) < now + LONGER * self._usual for rhythm in self._rhythms)
        return soon < len(self._free)
