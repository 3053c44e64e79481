"""A region of the screen as a live source: a video call, a game, any player."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.numbers import is_whole
from livepuppet.core.video import Frame
from livepuppet.realtime.inputs.watch import ImageWatch

#: Seconds between attempts when the screen cannot be read (a monitor that was unplugged, a locked
#: session).
RETRY_SECONDS = 1.0


def is_screen(text: str) -> bool:
    """Whether `text` means the screen: `screen`, `screen:N` or `screen:X,Y,WxH`."""
    return text == "screen" or text.startswith("screen:")


def parse_region(text: str, monitors: list[dict[str, int]]) -> dict[str, int]:
    """The region that `text` means.

    Args:
        text: `screen` (the first monitor), `screen:N` (monitor N, from 1) or `screen:X,Y,WxH` in
            pixels.
        monitors: left, top, width and height of the whole desktop, then of every monitor.

    Raises:
        UserError: if it is anything else, or lies outside the desktop.
    """
    which = text.partition(":")[2].strip()
    desktop, *each = monitors
    if not which or is_whole(which):
        number = int(which or 1)
        if not 1 <= number <= len(each):
            raise UserError(f"There is no monitor {number}: give screen:1 to screen:{len(each)}.")
        return dict(each[number - 1])
    match = re.fullmatch(r"(-?[0-9]{1,9}),(-?[0-9]{1,9}),([0-9]{1,9})x([0-9]{1,9})", which)
    if not match:
        raise UserError(
            f"The screen region '{text}' is not screen, screen:N or screen:X,Y,WxH in pixels, as in "
            "screen:100,50,640x480."
        )
    left, top, width, height = map(int, match.groups())
    right, bottom = desktop["left"] + desktop["width"], desktop["top"] + desktop["height"]
    inside = (
        desktop["left"] <= left and left + width <= right and desktop["top"] <= top and top + height <= bottom
    )
    if not inside or width < 1 or height < 1:
        raise UserError(
            f"The screen region {which} lies outside the desktop of {desktop['width']}x{desktop['height']} pixels: "
            "choose a smaller one."
        )
    return {"left": left, "top": top, "width": width, "height": height}


def list_monitors() -> list[tuple[int, int]]:
    """Width and height of every monitor, in the order of `screen:N`; empty where the screen cannot
    be read.
    """
    try:
        with _open_screen() as screen:
            return [(monitor["width"], monitor["height"]) for monitor in screen.monitors[1:]]
    except Exception:
        # Whatever keeps a system from showing its screen, everything else goes on.
        return []


class Screen:
    """A monitor, or a part of one.

    Args:
        text: see `parse_region`.
        rate: frames per second.

    Raises:
        UserError: if the package mss or a screen is missing, or the region makes no sense.
    """

    note = None

    def __init__(self, text: str, rate: float = 30.0):
        self.name, self.rate = text, float(rate)
        self.trouble: str | None = None
        self.silence = f"The {text} delivers no pictures: unlock the screen."
        try:
            with _open_screen() as screen:
                self.region = parse_region(text, [dict(monitor) for monitor in screen.monitors])
                screen.grab(self.region)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"The screen cannot be read here ({_reason(error)}): start from a desktop session (on Linux one with "
                "X11), or drive from a camera or file."
            ) from error
        wayland = os.environ.get("XDG_SESSION_TYPE") == "wayland"
        # A screen stands still by right.
        self._watch = ImageWatch(
            "The screen is only black here: Wayland keeps programs from reading it, so choose an X11 session."
            if wayland
            else "The screen is only black here: move something bright there, or allow screen recording in the "
            "system's privacy settings."
        )

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        begin = time.perf_counter()
        due, first = begin, None
        while not stop.is_set():
            try:
                # In this thread, because Windows and X11 bind what reads the screen to the thread
                # that opened it.
                with _open_screen() as screen:
                    while not stop.wait(max(0.0, due - time.perf_counter())):
                        captured = time.perf_counter()
                        shot = screen.grab(self.region)
                        picture = np.frombuffer(shot.bgra, np.uint8).reshape(shot.height, shot.width, 4)
                        first = captured if first is None else first
                        self.trouble = self._watch.look(picture[..., :3], captured)
                        # A beat that was missed is left out, not made up for.
                        due = max(due + 1 / self.rate, captured)
                        yield Frame(
                            cv2.cvtColor(picture, cv2.COLOR_BGRA2RGB), Fraction(captured - first), captured
                        )
            except UserError:
                raise
            except Exception as error:
                self.trouble = f"The screen cannot be read now ({_reason(error)}): it is tried again."
                stop.wait(RETRY_SECONDS)

    def close(self) -> None:
        """Nothing is held outside `frames`."""


def _open_screen():
    try:
        import mss  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("Driving from the screen needs mss: pip install 'livepuppet[screen]'.") from error
    # The name of the class from version 10.2 on; before, it was a function that chose among the
    # systems' classes.
    return (getattr(mss, "MSS", None) or mss.mss)()


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__).split(". ")[0].rstrip(".")
