"""A window on the screen, where there is one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from fractions import Fraction

import cv2
import numpy as np

from livepuppet.realtime.errors import UserError

WINDOW_TITLE = "livepuppet"


def display_problem() -> str | None:
    """Why no window can be opened here, or None. On Linux the GUI library would end the process, so ask first."""
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


class Window:
    """A window on the screen, and its keys.

    Raises:
        UserError: if there is no display, or OpenCV came without windows.
    """

    name = "window"

    def __init__(self, width: int, height: int):
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
        self._bgr = np.empty((height, width, 3), np.uint8)
        self._shown = False

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        cv2.cvtColor(picture, cv2.COLOR_RGB2BGR, dst=self._bgr)
        cv2.imshow(WINDOW_TITLE, self._bgr)

    def key_code(self) -> int:
        """Let the window draw itself and return the code of a pressed key, -1 if there is none."""
        return cv2.waitKeyEx(1)

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
