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
        action: what `Live` and the control server call it.
        keys: names as `name_of_code` and `TerminalKeys` give them, lower case.
        label: how the keys are written for people.
        help: what they do.
        group: heading under which the help shows them.
    """

    action: str
    keys: tuple[str, ...]
    label: str
    help: str
    group: str


#: Letters as in avatarify where it had them (X, F, A/D, 1-9, 0, W/S, R, Q), because its users'
#: fingers know them.
BINDINGS = (
    Binding("reset", ("x",), "X", "take this moment for the neutral pose (D1)", "Neutral pose"),
    Binding("calibrate", (" ",), "Space", "count down, then take the best moment", "Neutral pose"),
    Binding("search", ("f",), "F", "keep looking for a better neutral pose, on or off", "Neutral pose"),
    Binding("freeze", ("v",), "V", "freeze the picture, or go on", "Neutral pose"),
    Binding("rest", ("0",), "0", "show the avatar at rest, or go on", "Neutral pose"),
    Binding("previous", ("a",), "A", "previous avatar", "Avatar"),
    Binding("next", ("d",), "D", "next avatar", "Avatar"),
    Binding("select", tuple("123456789"), "1-9", "avatar by number", "Avatar"),
    Binding("background", ("b",), "B", "background: as is, blurred, green", "Avatar"),
    Binding("paste", ("u",), "U", "the whole picture, or only the moving square", "Avatar"),
    Binding("closer", ("w",), "W", "crop closer to the face", "Framing"),
    Binding("wider", ("s",), "S", "crop wider", "Framing"),
    Binding("shift_left", ("j", "left"), "J, left", "move the crop left", "Framing"),
    Binding("shift_right", ("l", "right"), "L, right", "move the crop right", "Framing"),
    Binding("shift_up", ("i", "up"), "I, up", "move the crop up", "Framing"),
    Binding("shift_down", ("k", "down"), "K, down", "move the crop down", "Framing"),
    Binding("find", ("c",), "C", "find the face again", "Framing"),
    Binding("follow", ("t",), "T", "follow the head slowly, on or off", "Framing"),
    Binding("mirror", ("m", "r"), "M, R", "mirror the driver", "Framing"),
    Binding("slider", ("e",), "E", "choose a slider: strength, smoothing, ...", "Motion"),
    Binding("raise", ("+", "=", "]"), "+, ]", "raise it", "Motion"),
    Binding("lower", ("-", "["), "-, [", "lower it", "Motion"),
    Binding("preview", ("p",), "P", "show or hide the camera", "Show"),
    Binding("ghost", ("g",), "G", "show or hide the avatar's ghost over the camera", "Show"),
    Binding("status", ("o",), "O", "show or hide rates and delays", "Show"),
    Binding("help", ("h", "?"), "H", "show or hide this list", "Show"),
    Binding("quit", ("q", "escape"), "Q, Esc", "quit", "Show"),
)

ACTIONS = {key: binding.action for binding in BINDINGS for key in binding.keys}

#: Arrow keys as GTK and Qt on X11, Windows, and macOS report them through `cv2.waitKeyEx`.
_ARROW_CODES = {
    "left": (65361, 2424832, 63234),
    "up": (65362, 2490368, 63232),
    "right": (65363, 2555904, 63235),
    "down": (65364, 2621440, 63233),
}

_ESCAPE_SEQUENCES = {
    f"\x1b{start}{letter}": name
    for start in "[O"
    for letter, name in (("A", "up"), ("B", "down"), ("C", "right"), ("D", "left"))
}


def help_lines() -> list[str]:
    """One line per binding, aligned for a fixed-width font."""
    width = max(len(binding.label) for binding in BINDINGS)
    return [f"{binding.label:<{width}}  {binding.help}" for binding in BINDINGS]


def name_of_code(code: int) -> str | None:
    """The name of a key that `cv2.waitKeyEx` reported, or None."""
    if code < 0:
        return None
    for name, codes in _ARROW_CODES.items():
        if code in codes:
            return name
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
    """Single key presses from the terminal, without Enter. Does nothing where standard input is no
    terminal.
    """

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
        if sys.platform == "win32" and self._windows:
            import msvcrt

            text = ""
            while msvcrt.kbhit():
                text += msvcrt.getwch()
            for letter, arrow in (("H", "A"), ("P", "B"), ("M", "C"), ("K", "D")):
                text = text.replace(f"\xe0{letter}", f"\x1b[{arrow}")
            return names_in_text(text)
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
        if self._saved is not None and self._descriptor is not None:
            import termios

            with suppress(OSError, termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)
        self._saved = self._descriptor = None
        self._windows = False
