"""A microphone, whose samples know when they were heard."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.numbers import is_whole

#: Samples per second: what nearly every sound card runs at.
RATE = 48_000

#: Seconds of sound kept for a recording that is busy. What is older is lost.
_KEPT = 10.0

#: Samples per piece: 21 ms.
_BLOCK = 1024


class Microphone:
    """A sound input of the system, through PortAudio. It listens from the moment it is made.

    Args:
        device: a part of its name, its number, or None for the system's default.
        rate: samples per second to ask for.
        block: samples per piece.

    Attributes:
        name: how to speak of it.
        rate, channels: of the samples; mono.

    Raises:
        UserError: if the package or its library is missing, or the device cannot be opened.
    """

    channels = 1

    def __init__(self, device: str | None = None, rate: int = RATE, block: int = _BLOCK):
        sounddevice = _sounddevice()
        self.rate = rate
        self._kept = round(_KEPT * rate / block)
        self._pieces: deque[tuple[float, np.ndarray]] = deque(maxlen=self._kept)
        self._branches: list[Branch] = []
        self.name = f"microphone {device}" if device else "the default microphone"
        try:
            self._stream = sounddevice.InputStream(
                samplerate=rate,
                blocksize=block,
                device=int(device) if device is not None and is_whole(device) else device,
                channels=1,
                dtype="float32",
                latency="low",
                callback=self._heard,
            )
            self._latency = float(self._stream.latency)
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(
                f"{self.name[0].upper()}{self.name[1:]} cannot be opened ({reason}): plug it in, allow access in the "
                "system's privacy settings, or do without (--sound none, another --driving)."
            ) from error

    def _heard(self, samples: np.ndarray, count: int, times: Any, status: Any) -> None:
        """Called by PortAudio's own thread with float32 (count, 1), which it will use again."""
        now = time.perf_counter()
        age = times.currentTime - times.inputBufferAdcTime
        if not 0 < age < 1:
            # Some systems do not tell when it was heard.
            age = self._latency or count / self.rate
        piece = now - age, samples.T.copy()
        self._pieces.append(piece)
        for branch in self._branches:
            branch.pieces.append(piece)

    def branch(self) -> Branch:
        """Another reader of the same sound: many devices can be opened only once."""
        branch = Branch(self.rate, self._kept)
        self._branches.append(branch)
        return branch

    def read(self, until: float) -> list[tuple[float, np.ndarray]]:
        return _taken(self._pieces, until)

    def close(self) -> None:
        self._stream.close()


def list_microphones() -> list[str]:
    """Names of the system's sound inputs, the default one first; none where they cannot be listed."""
    try:
        devices = _sounddevice().query_devices()
        default = _sounddevice().default.device[0]
    except Exception:
        # Whatever keeps a system from listing them, everything else goes on.
        return []
    inputs = [
        (device["index"] != default, device["name"]) for device in devices if device["max_input_channels"]
    ]
    return list(dict.fromkeys(name for _, name in sorted(inputs, key=lambda one: one[0])))


class Branch:
    """What a microphone hears from now on, for somebody else; see `Microphone.branch`."""

    channels = 1

    def __init__(self, rate: int, kept: int):
        self.rate = rate
        self.pieces: deque[tuple[float, np.ndarray]] = deque(maxlen=kept)

    def read(self, until: float) -> list[tuple[float, np.ndarray]]:
        return _taken(self.pieces, until)

    def close(self) -> None:
        """The microphone belongs to whoever opened it."""


def _taken(pieces: deque[tuple[float, np.ndarray]], until: float) -> list[tuple[float, np.ndarray]]:
    """Those that begin before `until`, taken out."""
    taken = []
    while pieces and pieces[0][0] < until:
        taken.append(pieces.popleft())
    return taken


def _sounddevice():
    try:
        import sounddevice  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "A microphone needs the package sounddevice: pip install 'livepuppet[sound]'."
        ) from error
    except OSError as error:
        raise UserError(
            "A microphone needs the PortAudio library: install it (Debian and Ubuntu: sudo apt install libportaudio2)."
        ) from error
    return sounddevice
