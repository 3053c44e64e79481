"""How well a mouth that a voice alone moves follows it: by how much, and how far behind.

The gap of the mouth is measured on the drawn pictures, by the model's own detector of lips, in distances between the eyes: once
frame by frame, with the sound until each frame's time and no waiting, and once in a live session, where the time of a picture is
that at which the output gets it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from livepuppet.core.errors import UserError
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.session import Session
from livepuppet.realtime.app.settings import Settings, merge
from livepuppet.realtime.bundled import AVATAR
from livepuppet.realtime.driving.opening import open_face
from livepuppet.realtime.driving.parts import Voice
from livepuppet.realtime.driving.source import FaceSource
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.live_sound import FileSound
from livepuppet.realtime.rig.amounts import INDEX

#: What espeak-ng is given to say, where there is no file.
TEXT = (
    "Good morning everybody, and thank you for coming. Today I would like to show you something small: a puppet that talks when "
    "I talk. Papa bought a purple boat. Mama made more muffins. She sells sea shells by the sea shore. Who knew the moon was "
    "blue? Oh no! Aha, so that is how we do it."
)

#: Voices of espeak-ng.
VOICES = ("en", "en+f3", "de")

#: Seconds over which the sound's level is taken, and between the lags that are tried.
WINDOW, STEP = 0.04, 0.005

#: Lags that are tried, in seconds.
LAGS = (-0.1, 0.3)

#: Decibels below the loudest at which a level counts as silence.
SILENT = 50.0

#: Side of the pictures that are drawn and measured, in pixels.
SIDE = 256


@dataclass(frozen=True)
class Followed:
    """How well something follows the level of a sound.

    Attributes:
        correlation: at the best lag, with the sound's amplitude.
        lag_ms: the best lag in milliseconds.
        loudness: the highest correlation with the level in decibels.
        frames: that were measured.
    """

    correlation: float
    lag_ms: float
    loudness: float
    frames: int


def say(text: str, voice: str, path: Path) -> Path:
    """Have espeak-ng say `text` into a WAV file. Raises UserError where it is not installed."""
    if shutil.which("espeak-ng") is None:
        raise UserError(
            "espeak-ng is not installed: apt install espeak-ng, or give --sound FILE with a voice in it."
        )
    subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "-w", str(path), text], check=True)
    return path


def sound_of(path: Path) -> tuple[np.ndarray, int]:
    """All samples of a file, float32 (n,), and their rate."""
    feed = FileSound(str(path))
    feed.played(Fraction(0), 0.0)
    pieces = [samples.mean(axis=0) for _, samples in feed.read(1e9)]
    if not pieces:
        raise UserError(f"{path} has no sound: give a file with a voice in it.")
    return np.concatenate(pieces), feed.rate


def level_at(sound: np.ndarray, rate: int, times: np.ndarray) -> np.ndarray:
    """The sound's amplitude (RMS over `WINDOW`) around each of `times` in seconds, float64 (n,)."""
    squares = np.concatenate([[0.0], np.cumsum(sound.astype(np.float64) ** 2)])
    half = WINDOW / 2 * rate
    begin, end = (np.clip(times * rate + by, 0, len(sound)).astype(int) for by in (-half, half))
    return np.sqrt((squares[end] - squares[begin]) / np.maximum(end - begin, 1))


def followed(sound: np.ndarray, rate: int, times: np.ndarray, shown: np.ndarray) -> Followed:
    """How well `shown` (n,), at `times` in seconds of the sound, follows its level."""
    decibels_least = 20 * np.log10(np.abs(sound).max() + 1e-9) - SILENT

    def correlations(lag: float) -> tuple[float, float]:
        level = level_at(sound, rate, times - lag)
        loud = np.maximum(20 * np.log10(level + 1e-9), decibels_least)
        return _correlation(level, shown), _correlation(loud, shown)

    tried = np.arange(LAGS[0], LAGS[1] + STEP / 2, STEP)
    found = np.array([correlations(float(lag)) for lag in tried])
    best = int(found[:, 0].argmax())
    return Followed(float(found[best, 0]), 1000 * float(tried[best]), float(found[:, 1].max()), len(shown))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if one.std() < 1e-9 or other.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def gaps(engine: Engine, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The distance between the lips in each picture, in distances between the irises, as the model's detector finds it."""
    index = list(engine.keypoint_names).index
    lips, eyes = (index("upper lip"), index("lower lip")), (index("left iris"), index("right iris"))
    found = []
    for picture in pictures:
        points = engine.detect(picture).points
        between = np.linalg.norm(points[eyes[1]] - points[eyes[0]])
        found.append(float(np.linalg.norm(points[lips[1]] - points[lips[0]]) / max(between, 1e-6)))
    return np.array(found)


def frame_by_frame(engine: Engine, path: Path, fps: float, avatar: Path = AVATAR) -> dict[str, Followed]:
    """What is drawn of each frame by the sound that was heard until its time: the amount, and the picture."""
    sound, rate = sound_of(path)
    feed = FileSound(str(path))
    voice = Voice(feed, path.name)
    voice.heard_from(0.0)
    source, animator = FaceSource([voice], fps), Animator(avatar, engine=engine, size=SIDE)
    times = np.arange(1, int(len(sound) / rate * fps)) / fps
    jaws, pictures = [], []
    for at in times:
        result = animator.step(source.face(float(at))[0], float(at))
        drawing = result.drawing
        motion = None if drawing is None else drawing.motion
        jaws.append(
            0.0 if motion is None or motion.amounts is None else float(motion.amounts[INDEX["jawOpen"]])
        )
        pictures.append(result.image)
    source.close()
    shown = gaps(engine, pictures)
    return {
        "amount": followed(sound, rate, times, np.array(jaws)),
        "picture": followed(sound, rate, times, shown),
    }


class _Watch(Output):
    """Keeps every picture, and when it came."""

    name = "watch"

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.times: list[float] = []

    def write(self, picture: np.ndarray, time_: Fraction, duration: Fraction | None = None) -> None:
        self.times.append(time.perf_counter())
        self.pictures.append(picture.copy())


def live(engine: Engine, path: Path, fps: float, avatar: Path = AVATAR) -> Followed:
    """The same of a live session: from the moment at which the sound is played to that at which the output has the picture."""
    sound, rate = sound_of(path)
    settings = merge(
        Settings(),
        {
            "avatar": str(avatar),
            "driving": f"microphone:{path}",
            "camera_rate": fps,
            "size": f"{SIDE}x{SIDE}",
            "outputs": ("none",),
            "enabled": False,
        },
    )
    watch = _Watch()
    source = open_face(f"microphone:{path}", fps)
    with Session(settings, engine, source, outputs=[watch], keyboard=False) as session:
        session.run()
        begun = source.begun
    times = np.array(watch.times) - begun
    inside = times < len(sound) / rate
    shown = gaps(engine, [picture for picture, keep in zip(watch.pictures, inside, strict=True) if keep])
    return followed(sound, rate, times[inside], shown)


def measure(
    engine: Engine, sound: Path | None, fps: float, with_live: bool, avatar: Path = AVATAR
) -> list[dict]:
    """A row for each voice: `sound`, or espeak-ng's."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        named = {}
        if sound is not None:
            named[sound.name] = sound
        else:
            for voice in VOICES:
                named[f"espeak-ng {voice}"] = say(TEXT, voice, Path(folder) / f"{voice}.wav")
        for name, path in named.items():
            found = frame_by_frame(engine, path, fps, avatar)
            if with_live:
                found["live"] = live(engine, path, fps, avatar)
            rows.append({"voice": name, **{key: vars(value) for key, value in found.items()}})
    return rows


#: Pictures of a strip, and the height of the sound over them, in pixels.
STRIP, CURVE = 10, 90


def strip(
    engine: Engine, path: Path, out: Path, begin: float = 0.3, seconds: float = 2.0, avatar: Path = AVATAR
) -> None:
    """Draw pictures of a talk under the sound's level and the mouth's opening, into an image file.

    Args:
        begin, seconds: of the sound that is shown.
    """
    sound, rate = sound_of(path)
    voice = Voice(FileSound(str(path)), path.name)
    voice.heard_from(0.0)
    source, animator = FaceSource([voice], 60.0), Animator(avatar, engine=engine, size=SIDE)
    times = np.arange(1, round((begin + seconds) * 60)) / 60
    jaws, shown, wanted = [], [], [begin + seconds * (k + 0.5) / STRIP for k in range(STRIP)]
    for at in times:
        face, _ = source.face(float(at))
        jaws.append(float(face.amounts[INDEX["jawOpen"]]))
        if len(shown) < STRIP and at >= wanted[len(shown)] - 1e-9:
            picture = animator(face, float(at))
            margin = SIDE // 5
            shown.append(picture[:, margin : SIDE - margin])
    source.close()
    pictures = np.hstack(shown)
    curve = np.full((CURVE, pictures.shape[1], 3), 250, np.uint8)
    level = level_at(sound, rate, times)
    for values, colour in ((level / level.max(), (150, 160, 175)), (np.array(jaws), (200, 60, 50))):
        x = (times - begin) / seconds * pictures.shape[1]
        y = (CURVE - 8) * (1 - np.clip(values, 0, 1)) + 4
        cv2.polylines(curve, [np.column_stack([x, y]).astype(np.int32)], False, colour, 2, cv2.LINE_AA)
    Image.fromarray(np.vstack([curve, pictures])).save(out, quality=88)
