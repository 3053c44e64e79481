"""The pointer's place on the desktop, and a face that looks there."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import os
import sys
from collections.abc import Callable

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.realtime.driving.liveliness import look

#: Where a desktop does not tell.
ELSEWHERE = "move it over livepuppet's own window, or over the picture in the studio"

#: How far the gaze goes, in radians, where the pointer is at an edge of the desktop: sideways, up and down.
FAR = np.array([0.62, 0.42])

#: The share of the gaze that the head takes over; the eyes do the rest, and all of it until the head has come.
HEAD_SHARE = 0.62

#: What eyes can turn, in radians, sideways and vertically; seconds in which they go, and the frequency of the head's spring.
EYES, EYES_SECONDS, HEAD_SPRING = np.array([0.5, 0.38]), 0.05, 5.0

#: A head that turns also tilts a little, by this share of its turn.
TILT = 0.12


class Looking:
    """A head and eyes that go where the pointer is: eyes first, the head after them.

    Attributes:
        head: float64 (3,), yaw, pitch and roll in radians.
    """

    def __init__(self) -> None:
        self._time: float | None = None
        self._turn, self._speed, self._gaze = np.zeros(2), np.zeros(2), np.zeros(2)
        self.head = np.zeros(3)

    def update(self, time: float, place: tuple[float, float] | None) -> None:
        """Go on to `time` seconds. `place` of the pointer is (x, y) in [-1, 1] across the desktop; None looks ahead."""
        passed = 0.0 if self._time is None else min(max(time - self._time, 0.0), 0.25)
        self._time = time
        at = np.zeros(2) if place is None else np.clip(np.asarray(place, np.float64), -1, 1)
        wanted = FAR * at
        for _ in range(4):
            pull = HEAD_SPRING**2 * (HEAD_SHARE * wanted - self._turn) - 2 * HEAD_SPRING * self._speed
            self._speed = self._speed + passed / 4 * pull
            self._turn = self._turn + passed / 4 * self._speed
        gaze = np.clip((wanted - self._turn) / EYES, -1, 1)
        self._gaze = self._gaze + (1 - math.exp(-passed / EYES_SECONDS)) * (gaze - self._gaze)
        self.head = np.array([self._turn[0], self._turn[1], TILT * self._turn[0]])

    def write(self, amounts: np.ndarray) -> None:
        """The eyes, into `amounts` (52,), in place."""
        look(amounts, *self._gaze)


def system_pointer() -> Callable[[], tuple[float, float] | None]:
    """What tells the pointer's place, (x, y) in [-1, 1] across the desktop, or None where it cannot tell now.

    Raises:
        UserError: this desktop does not tell.
    """
    if sys.platform == "win32":
        return _windows()
    if sys.platform == "darwin":
        return _macos()
    return _x11()


def across(x: float, y: float, left: float, top: float, width: float, height: float) -> tuple[float, float]:
    """Pixels of a desktop as (x, y) in [-1, 1]."""
    return (2 * (x - left) / max(width - 1, 1) - 1, 2 * (y - top) / max(height - 1, 1) - 1)


def _x11() -> Callable[[], tuple[float, float] | None]:
    name = ctypes.util.find_library("X11") or "libX11.so.6"
    if not os.environ.get("DISPLAY"):
        raise UserError(f"The pointer's place cannot be read here (there is no DISPLAY): {ELSEWHERE}.")
    try:
        x11 = ctypes.CDLL(name)
    except OSError as error:
        raise UserError(f"The pointer's place cannot be read here (no libX11): {ELSEWHERE}.") from error
    pointer, number = ctypes.c_void_p, ctypes.c_ulong
    x11.XOpenDisplay.restype, x11.XOpenDisplay.argtypes = pointer, [ctypes.c_char_p]
    x11.XDefaultRootWindow.restype, x11.XDefaultRootWindow.argtypes = number, [pointer]
    x11.XDefaultScreen.argtypes = [pointer]
    x11.XDisplayWidth.argtypes = x11.XDisplayHeight.argtypes = [pointer, ctypes.c_int]
    x11.XQueryPointer.argtypes = [pointer, number, *(ctypes.c_void_p,) * 7]
    display = x11.XOpenDisplay(None)
    if not display:
        raise UserError(
            f"The pointer's place cannot be read here (nothing answers at {os.environ['DISPLAY']}): {ELSEWHERE}."
        )
    root, screen = x11.XDefaultRootWindow(display), x11.XDefaultScreen(display)
    size = x11.XDisplayWidth(display, screen), x11.XDisplayHeight(display, screen)
    windows, mask = (number(), number()), ctypes.c_uint()
    places = [ctypes.c_int() for _ in range(4)]

    def place() -> tuple[float, float] | None:
        values = [*windows, *places, mask]
        if not x11.XQueryPointer(display, root, *(ctypes.addressof(value) for value in values)):
            return None
        return across(places[0].value, places[1].value, 0, 0, *size)

    return place


def _windows() -> Callable[[], tuple[float, float] | None]:
    user = ctypes.windll.user32  # type: ignore[attr-defined]

    class Point(ctypes.Structure):
        _fields_ = (("x", ctypes.c_long), ("y", ctypes.c_long))

    point = Point()

    def place() -> tuple[float, float] | None:
        if not user.GetCursorPos(ctypes.byref(point)):
            return None
        # SM_XVIRTUALSCREEN and the three after it: all monitors together.
        return across(point.x, point.y, *(user.GetSystemMetrics(which) for which in (76, 77, 78, 79)))

    return place


def _macos() -> Callable[[], tuple[float, float] | None]:
    found = ctypes.util.find_library("CoreGraphics")
    if found is None:
        raise UserError(f"The pointer's place cannot be read here (no CoreGraphics): {ELSEWHERE}.")
    graphics = ctypes.CDLL(found)

    class Point(ctypes.Structure):
        _fields_ = (("x", ctypes.c_double), ("y", ctypes.c_double))

    class Rectangle(ctypes.Structure):
        _fields_ = (("at", Point), ("size", Point))

    graphics.CGEventCreate.restype, graphics.CGEventCreate.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    graphics.CGEventGetLocation.restype, graphics.CGEventGetLocation.argtypes = Point, [ctypes.c_void_p]
    graphics.CGDisplayBounds.restype, graphics.CGDisplayBounds.argtypes = Rectangle, [ctypes.c_uint32]
    graphics.CGMainDisplayID.restype = ctypes.c_uint32
    graphics.CFRelease.argtypes = [ctypes.c_void_p]

    def place() -> tuple[float, float] | None:
        event = graphics.CGEventCreate(None)
        if not event:
            return None
        at = graphics.CGEventGetLocation(event)
        graphics.CFRelease(event)
        bounds = graphics.CGDisplayBounds(graphics.CGMainDisplayID())
        return across(at.x, at.y, bounds.at.x, bounds.at.y, bounds.size.x, bounds.size.y)

    return place
