"""What every output is, to those who feed it."""

from __future__ import annotations

from fractions import Fraction
from typing import TypeVar

import numpy as np

T = TypeVar("T", bound="Output")


class Output:
    """Takes finished pictures, in order, from one thread.

    Attributes:
        name: how to speak of it.
        takes_alpha: whether it wants RGBA where there is any; the others get it laid over black.
        queue: pictures that may wait for it while it is busy. One where only the newest counts;
            more where each does.
        interval: seconds between pictures that whoever reads it expects. Where no new one comes for
            one and a half, `repeat` is called, then once per interval. None: nobody minds a pause.
        kept: whether it is kept, as a recording is: where it fails, the session has failed.
        device: the camera it feeds, which must never be taken for an input; None for what is no
            camera.
        retry: seconds between attempts to `reopen` it once it failed; None where that makes no
            sense.
    """

    name: str = ""
    takes_alpha: bool = False
    queue: int = 1
    interval: float | None = None
    kept: bool = False
    device: str | None = None
    retry: float | None = None

    def begins(self, at: float) -> None:
        """Told once, before the first picture: the `time.perf_counter()` that is its time 0."""

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        """Hand over uint8 RGB (H, W, 3), or RGBA (H, W, 4) where it takes alpha, of one fixed size.

        The picture belongs to the caller and may change afterwards.

        Args:
            time: seconds since the first picture, growing.
            duration: seconds it is to be shown, where known (it matters for the last one).

        Raises:
            UserError: if it can take no more.
        """
        raise NotImplementedError

    def repeat(self) -> bool:
        """Send the last picture once more. Returns whether anything was sent. Raises like `write`."""
        return False

    def reopen(self) -> None:
        """Try to go on after a failure. Raises UserError if that is not possible yet."""
        raise NotImplementedError

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish and release everything. Safe to call twice.

        Raises:
            UserError: if what was written could not be finished.
        """
