"""Picture buffers that are used again and again: nothing is allocated or copied per frame, nothing
overwritten early.
"""

from __future__ import annotations

import threading

import numpy as np


class FramePool:
    """uint8 buffers of one shape, lent out by leases. As many come to be as are ever held at once.

    Args:
        shape: (H, W, 3) for RGB, (H, W, 4) for RGBA.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = tuple(shape)
        self.made = 0
        self._free: list[np.ndarray] = []
        self._lock = threading.Lock()

    def take(self) -> Lease:
        """A buffer that nobody else holds, with what the last user left in it. Release the lease
        when done.
        """
        with self._lock:
            if self._free:
                return Lease(self, self._free.pop())
            self.made += 1
        return Lease(self, np.empty(self.shape, np.uint8))

    @property
    def held(self) -> int:
        """How many buffers are lent out now."""
        with self._lock:
            return self.made - len(self._free)


class Lease:
    """One buffer, held by as many as called `hold` (and by its taker), until each called `release`.
    Thread safe.

    Attributes:
        picture: uint8, of the pool's shape. Once nobody holds it this raises RuntimeError, so that
            a late use fails where it happens.
    """

    __slots__ = ("_holders", "_picture", "_pool")

    def __init__(self, pool: FramePool, picture: np.ndarray):
        self._picture: np.ndarray | None = picture
        self._pool = pool
        self._holders = 1

    @property
    def picture(self) -> np.ndarray:
        picture = self._picture
        if picture is None:
            raise RuntimeError("this picture was released already")
        return picture

    def hold(self) -> Lease:
        """Count one more holder, and return itself."""
        with self._pool._lock:
            if not self._holders:
                raise RuntimeError("this picture was released already")
            self._holders += 1
        return self

    def release(self) -> None:
        """Count one holder less; the last one gives the buffer back."""
        with self._pool._lock:
            if not self._holders:
                raise RuntimeError("this picture was released already")
            self._holders -= 1
            if not self._holders and self._picture is not None:
                self._pool._free.append(self._picture)
                self._picture = None
