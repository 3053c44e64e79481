"""Pictures and clips made for tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


def red_picture(level: int, size: int = 64) -> np.ndarray:
    """uint8 RGB (size, size, 3) whose red is `level` throughout, the rest gray."""
    picture = np.full((size, size, 3), 100, np.uint8)
    picture[..., 0] = level
    return picture


def gradient(height: int, width: int) -> np.ndarray:
    """uint8 RGB in which every pixel tells where it is."""
    y, x = np.mgrid[:height, :width]
    return np.dstack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) % 256]).astype(
        np.uint8
    )


def write_picture(path: Path, rgb: np.ndarray) -> Path:
    """Save RGB or RGBA or gray, uint8 or uint16, in the format of the name."""
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    stored = cv2.cvtColor(rgb, codes[rgb.shape[2]]) if rgb.ndim == 3 else rgb
    assert cv2.imwrite(str(path), stored)
    return path


def write_clip(
    path: Path,
    pictures: list[np.ndarray],
    times: list[Fraction] | None = None,
    rate: int = 25,
    sound: str | None = None,
    seconds_before: Fraction = Fraction(0),
    options: dict | None = None,
) -> Path:
    """An H.264 clip, with a 440 Hz tone in the codec `sound` if given.

    Args:
        times: of the pictures, in seconds; evenly at `rate` by default.
        seconds_before: start of the clip's clock.
    """
    times = times or [Fraction(index, rate) for index in range(len(pictures))]
    base = Fraction(1, 90_000)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(
            "libx264", rate=rate, options={"crf": "8", "preset": "ultrafast", "g": "10"}
        )
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = base
        audio = container.add_stream(sound, rate=44_100, layout="mono") if sound else None
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round((time + seconds_before) / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio:
            length = round((times[-1] + Fraction(1, rate)) * 44_100)
            wave = (np.sin(2 * np.pi * 440 * np.arange(length) / 44_100) * 8000).astype(np.int16)
            for start in range(0, length, 4410):
                piece = av.AudioFrame.from_ndarray(
                    wave[None, start : start + 4410], format="s16", layout="mono"
                )
                piece.rate, piece.time_base = 44_100, Fraction(1, 44_100)
                piece.pts = start + round(seconds_before * 44_100)
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def read_clip(path: Path) -> tuple[list[np.ndarray], list[Fraction]]:
    """All pictures as uint8 RGB, and their times in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for frame in frames], [
            Fraction(frame.pts) * frame.time_base for frame in frames
        ]


def read_sound(path: Path) -> tuple[str, np.ndarray, int, Fraction] | None:
    """Codec, samples of the first channel in [-1, 1], sample rate and start in seconds; None without sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        frames = list(container.decode(audio=0))
        samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        return stream.codec_context.name, samples, stream.rate, Fraction(frames[0].pts) * frames[0].time_base
