"""Standard output and error that cannot fail: what is said there is for people, and no work is lost
because nobody reads it.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

#: Descriptors that were closed when the program began.
_closed: set[int] = set()


class _Unfailing(io.RawIOBase):
    """A descriptor to which writing always succeeds; after the first error nothing is written."""

    def __init__(self, descriptor: int):
        self._descriptor, self._gone = descriptor, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        try:
            return os.isatty(self._descriptor)
        except OSError:
            return False

    def write(self, data) -> int:
        size = memoryview(data).nbytes
        if not self._gone:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                return self._wait_and_write(data, size)
            except OSError:
                # Full, closed, or nobody reads it any more.
                self._gone = True
        return size

    def _wait_and_write(self, data, size: int) -> int:
        """A reader that made its end non-blocking is waited for, as `print` would have been."""
        import select

        try:
            select.select([], [self._descriptor], [], 5.0)
            return os.write(self._descriptor, data)
        except (OSError, ValueError):
            return size


def make_streams_unfailing() -> None:
    """Give this process a standard output and error to which anything can be printed.

    Letters that the encoding lacks are escaped, and errors ignored. Streams that were closed go
    nowhere; their descriptors are taken, so that no file of ours gets one of these numbers and with
    it what libraries print. Streams that somebody replaced (tests do) are left alone.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            _closed.add(descriptor)
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _unfailing(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _unfailing(sys.stderr, sys.__stderr__, 2)


def was_closed(descriptor: int) -> bool:
    """Whether this standard descriptor was closed when the program began."""
    return descriptor in _closed


def _unfailing(stream: TextIO | None, original: TextIO | None, descriptor: int) -> TextIO:
    if stream is not None and stream is not original:
        return stream
    if stream is not None:
        if os.name == "nt" and stream.isatty():
            # The console has an interface of its own.
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
            return stream
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    encoding = getattr(stream, "encoding", None) or "utf-8"
    raw = _Unfailing(descriptor)
    return io.TextIOWrapper(
        io.BufferedWriter(raw, 8192),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=raw.isatty() or descriptor == 2,
        write_through=descriptor == 2,
    )
