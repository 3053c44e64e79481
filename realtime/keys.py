"""Keys: what they do, and how they come in from a window or a terminal."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Binding:
    """Keys that do the same.

    Attributes:
        action: what `Live` calls it.
        keys: names as `name_of_code` and `TerminalKeys` give them, lower case.
        label: how the keys are written for people.
        help: what they do.
    """

    action: str
    keys: tuple[str, ...]
    label: str
    help: str


BINDINGS = (
    Binding("reset", ("x",), "X", "take this moment for the neutral pose (D1)"),
    Binding("previous", ("a", "left"), "A, left", "previous avatar"),
    Binding("next", ("d", "right"), "D, right", "next avatar"),
    Binding("select", tuple("123456789"), "1-9", "avatar by number"),
    Binding("closer", ("w", "+", "="), "W, +", "crop closer to the face"),
    Binding("wider", ("s", "-"), "S, -", "crop wider"),
    Binding("shift_left", ("j",), "J", "move the crop left"),
    Binding("shift_right", ("l",), "L", "move the crop right"),
    Binding("shift_up", ("i",), "I", "move the crop up"),
    Binding("shift_down", ("k",), "K", "move the crop down"),
    Binding("find", ("c",), "C", "find the face again"),
    Binding("mirror", ("m",), "M", "mirror the driver"),
    Binding("preview", ("p",), "P", "show or hide the driver"),
    Binding("status", ("f",), "F", "show or hide the frame rate"),
    Binding("help", ("h", "?"), "H", "show or hide this list"),
    Binding("quit", ("q", "escape"), "Q, Esc", "quit"),
)

ACTIONS = {key: binding.action for binding in BINDINGS for key in binding.keys}

#: Arrow keys as GTK and Qt on X11, Windows, and macOS report them through `cv2.waitKeyEx`.
_LEFT_CODES = (65361, 2424832, 63234)
_RIGHT_CODES = (65363, 2555904, 63235)

_ESCAPE_SEQUENCES = {"\x1b[C": "right", "\x1b[D": "left", "\x1bOC": "right", "\x1bOD": "left"}


def help_lines() -> list[str]:
    """One line per binding, aligned for a fixed-width font."""
    width = max(len(binding.label) for binding in BINDINGS)
    return [f"{binding.label:<{width}}  {binding.help}" for binding in BINDINGS]


def name_of_code(code: int) -> str | None:
    """The name of a key that `cv2.waitKeyEx` reported, or None."""
    if code < 0:
        return None
    if code in _LEFT_CODES:
        return "left"
    if code in _RIGHT_CODES:
        return "right"
    # The upper bits hold modifiers, such as num lock on X11.
    low = code & 0xFF
    if low == 27:
        return "escape"
    return chr(low).lower() if 32 <= low < 127 and code & 0xFF00 != 0xFF00 else None


def names_in_text(text: str) -> list[str]:
    """The names of the keys in what a terminal sent."""
    names = []
    while text:
        sequence = next((known for known in _ESCAPE_SEQUENCES if text.startswith(known)), None)
        if sequence:
            names.append(_ESCAPE_SEQUENCES[sequence])
            text = text[len(sequence) :]
            continue
        if text[0] == "\x1b":
            # Alone it is the key; followed by more it is a key this program has no name for.
            names += ["escape"] if len(text) == 1 else []
            break
        names.append(text[0].lower())
        text = text[1:]
    return names


class TerminalKeys:
    """Single key presses from the terminal, without Enter. Does nothing where standard input is no terminal."""

    def __init__(self):
        self._saved = None
        self._descriptor = None
        self._windows = False
        if not sys.stdin or not sys.stdin.isatty():
            return
        if os.name == "nt":
            self._windows = True
            return
        import termios
        import tty

        descriptor = sys.stdin.fileno()
        # A job in the background would be stopped by the system for touching the terminal.
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                self._saved = termios.tcgetattr(descriptor)
                self._descriptor = descriptor
                tty.setcbreak(descriptor, termios.TCSANOW)

    @property
    def active(self) -> bool:
        return self._windows or self._descriptor is not None

    def read(self) -> list[str]:
        """Names of the keys pressed since the last call."""
        if self._windows:
            import msvcrt

            text = ""
            while msvcrt.kbhit():
                text += msvcrt.getwch()
            return names_in_text(text.replace("\xe0K", "\x1b[D").replace("\xe0M", "\x1b[C"))
        if self._descriptor is None:
            return []
        import select

        text = b""
        while select.select([self._descriptor], [], [], 0)[0]:
            piece = os.read(self._descriptor, 256)
            if not piece:
                self.close()
                break
            text += piece
        return names_in_text(text.decode(errors="ignore"))

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._saved is not None:
            import termios

            with suppress(OSError, termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)
        self._saved = self._descriptor = None
        self._windows = False
