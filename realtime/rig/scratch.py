"""Memory that drawing writes to on its way. It belongs to whoever draws at the moment: a rig that does not holds none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

#: Shapes of which views are kept.
MOST_SHAPES = 256


class Memory:
    """Memory that is used again for every picture, and small enough to stay in a core's cache: fresh pages cost more than what
    is written to them.
    """

    def __init__(self, kind: type):
        self._flat = np.empty(0, kind)
        self._taken: dict[tuple[int, ...], np.ndarray] = {}

    def take(self, *shape: int) -> np.ndarray:
        """An array of `shape`, whose content is lost when the next is taken."""
        found = self._taken.get(shape)
        if found is None:
            size = int(np.prod(shape))
            if self._flat.size < size or len(self._taken) >= MOST_SHAPES:
                self._taken.clear()
            if self._flat.size < size:
                self._flat = np.empty(size, self._flat.dtype)
            found = self._taken[shape] = self._flat[:size].reshape(shape)
        return found


class Scratch:
    """All that one picture takes.

    Attributes:
        sampled, clear, share, colour: uint8, of a picture's parts.
        places: float32, where their pixels come from.
        inverted: float32, see `Surface.source`.
    """

    def __init__(self) -> None:
        self.sampled, self.clear, self.share, self.colour = (Memory(np.uint8) for _ in range(4))
        self.places, self.inverted = Memory(np.float32), Memory(np.float32)


#: Those that nobody draws with now: as many as have ever been in use at once.
_free: list[Scratch] = []


@contextmanager
def borrowed() -> Iterator[Scratch]:
    """One for a picture."""
    try:
        scratch = _free.pop()
    except IndexError:
        scratch = Scratch()
    try:
        yield scratch
    finally:
        _free.append(scratch)
