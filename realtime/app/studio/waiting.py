"""A source for who has none yet: the studio opens, says why, and waits for one to be chosen."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from livepuppet.core.video import Frame


class Waiting:
    """A live source that delivers nothing, see `LiveSource`.

    Args:
        trouble: why, in a sentence that says what to do.
    """

    name, rate = "no camera", 30.0
    silence = note = None

    def __init__(self, trouble: str):
        self.trouble = trouble

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        stop.wait()
        yield from ()

    def close(self) -> None:
        pass
