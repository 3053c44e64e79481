"""A window on the screen, where there is one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import cv2
import numpy as np

from livepuppet.core.durations import Durations
from livepuppet.core.errors import UserError
from livepuppet.realtime.app import keys
from livepuppet.realtime.outputs.pool import Lease

if TYPE_CHECKING:
    from livepuppet.realtime.app.overlay.screens import Overlay

WINDOW_TITLE = "livepuppet"


def display_problem() -> str | None:
    """Why no window can be opened here, or None. On Linux the GUI library would end the process, so
    ask first.
    """
    if not sys.platform.startswith("linux"):
        return None
    display = os.environ.get("DISPLAY")
    if not display:
        return "the variable DISPLAY is not set"
    host, _, number = display.rpartition(":")
    number = number.split(".")[0]
    if not host and number.isdecimal():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            for address in (f"/tmp/.X11-unix/X{number}", f"\0/tmp/.X11-unix/X{number}"):
                with suppress(OSError):
                    probe.connect(address)
                    break
            else:
                return f"nothing answers at DISPLAY={display}"
    # The server may still refuse us, or a library be missing; both end the process that tries.
    script = "import cv2; cv2.namedWindow('livepuppet'); cv2.waitKey(1); cv2.destroyAllWindows()"
    try:
        probe = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return f"no window could be opened at DISPLAY={display}"
    return f"no window could be opened at DISPLAY={display}" if probe.returncode else None


#: Two grays behind a picture with alpha, and the side of their squares in pixels.
CHECKS, CHECK_SIDE = (72, 96), 16


class Window:
    """A window on the screen, and its keys. It belongs to the main thread, as window systems want.

    The loop's thread offers pictures; the newest waits in one slot until the main thread shows it.

    Args:
        width, height: of the pictures, in pixels.
        draw: writes an overlay over a copy of the picture, uint8 RGB (H, W, 3) in place: what the
            other side of the call sees carries no text.

    Raises:
        UserError: if there is no display, or OpenCV came without windows.
    """

    name = "window"

    def __init__(self, width: int, height: int, draw: Callable[[np.ndarray, Overlay], None]):
        problem = display_problem()
        if problem:
            raise UserError(
                f"No window can be opened ({problem}): run on a desktop, or use --output FILE.mp4 or --output virtual."
            )
        try:
            cv2.namedWindow(
                WINDOW_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | getattr(cv2, "WINDOW_GUI_NORMAL", 0)
            )
            cv2.resizeWindow(WINDOW_TITLE, width, height)
        except cv2.error as error:
            raise UserError(
                "This OpenCV cannot open windows: pip uninstall opencv-python-headless, then pip install "
                "--force-reinstall 'opencv-python<5'."
            ) from error
        #: Called with the pointer's place, in [-1, 1] across the picture, as it moves there.
        self.pointed: Callable[[float, float], object] | None = None
        cv2.setMouseCallback(WINDOW_TITLE, self._on_pointer)
        self._draw = draw
        self._rgb = np.empty((height, width, 3), np.uint8)
        rows, columns = np.indices((height, width)) // CHECK_SIDE
        self._checks = np.where((rows + columns) % 2, *CHECKS).astype(np.uint8)[..., None]
        self._shown = False
        self._offered: tuple[Lease, Overlay, float] | None = None
        self._changed = threading.Condition()
        self.delay = Durations()

    def _on_pointer(self, event: int, x: int, y: int, flags: int, context: object) -> None:
        height, width = self._rgb.shape[:2]
        if event == cv2.EVENT_MOUSEMOVE and self.pointed is not None:
            self.pointed(min(max(2 * x / width - 1, -1.0), 1.0), min(max(2 * y / height - 1, -1.0), 1.0))

    def offer(self, lease: Lease, overlay: Overlay, captured: float) -> None:
        """Show this picture next, uint8 (H, W, 3) RGB or (H, W, 4) RGBA, with `overlay` drawn over
        it. Never waits.

        Args:
            captured: `time.perf_counter()` of the driving frame.
        """
        lease.hold()
        with self._changed:
            before, self._offered = self._offered, (lease, overlay, captured)
            self._changed.notify()
        if before is not None:
            before[0].release()

    def pump(self, timeout: float = 0.02) -> str | None:
        """Show what was offered, wait a moment where nothing was, and return the name of a pressed
        key, if any.

        Call it again and again from the main thread: it also lets the window draw itself.
        """
        with self._changed:
            if self._offered is None:
                self._changed.wait(timeout)
            offered, self._offered = self._offered, None
        if offered is not None:
            lease, overlay, captured = offered
            self._compose(lease.picture)
            lease.release()
            self._draw(self._rgb, overlay)
            cv2.cvtColor(self._rgb, cv2.COLOR_RGB2BGR, dst=self._rgb)
            cv2.imshow(WINDOW_TITLE, self._rgb)
        key = keys.name_of_code(cv2.waitKeyEx(1))
        if offered is not None:
            self.delay.add(time.perf_counter() - captured)
        return key

    def _compose(self, picture: np.ndarray) -> None:
        if picture.shape[2] == 3:
            np.copyto(self._rgb, picture)
            return
        alpha = picture[..., 3:].astype(np.uint16)
        self._rgb[:] = (picture[..., :3] * alpha + self._checks * (255 - alpha)) // 255

    @property
    def closed(self) -> bool:
        """Whether the person closed it."""
        try:
            visible = cv2.getWindowProperty(WINDOW_TITLE, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return True
        # Some window systems take a moment to show it.
        self._shown = self._shown or visible
        return self._shown and not visible

    def close(self) -> None:
        with suppress(cv2.error):
            cv2.destroyWindow(WINDOW_TITLE)
            cv2.waitKey(1)
