"""How long the three calls take per engine, and how fast the whole live loop runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from livepuppet.realtime import bundled
from livepuppet.realtime.commands.run import run_live
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.framing.crop import centred_square, cut
from livepuppet.realtime.inputs.clips import open_clip
from livepuppet.realtime.motion.transfer import movement_scale, transfer
from livepuppet.realtime.pictures import read_picture
from livepuppet.realtime.settings import Settings, merge


def _milliseconds(call, repeats: int, seconds: float = 20.0) -> dict[str, float]:
    """Median and 95th percentile of a call, after a warm-up; fewer repeats if it is slow."""
    for _ in range(3):
        call()
    times, begin = [], time.perf_counter()
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
        if len(times) >= 10 and time.perf_counter() - begin > seconds:
            break
    return {"median": float(np.median(times)), "p95": float(np.percentile(times, 95)), "repeats": len(times)}


def model_times(
    engine_name: str | None, model: Path | None, repeats: int = 200, threads: int | None = None
) -> dict:
    """Times of `detect`, `encode`, `render` and of a whole frame, on real pictures that move.

    Args:
        engine_name: `onnx`, `torch` or None.
        model: bundle or weights; None is the bundled default.
        repeats: frames measured.
        threads: of the CPU.

    Returns:
        engine, provider, model, and milliseconds per call: {"median", "p95", "repeats"} each.
    """
    engine = load_engine(engine_name, model, threads)
    size = engine.size
    avatar = read_picture(bundled.AVATAR)
    avatar = cut(avatar, centred_square(*avatar.shape[:2]), size)
    frames = []
    for frame in open_clip(bundled.DRIVING):
        frames.append(cut(frame.picture, centred_square(*frame.picture.shape[:2]), size))
        if len(frames) == 64:
            break
    features, keypoints, initial = engine.encode(avatar), engine.detect(avatar), engine.detect(frames[0])
    scale = movement_scale(keypoints, initial)
    turn = iter(range(10**9))

    def whole():
        driving = engine.detect(frames[next(turn) % len(frames)])
        engine.render(
            features, keypoints, transfer(driving, initial, keypoints, scale, matrices=engine.matrices)
        )

    moved = transfer(engine.detect(frames[-1]), initial, keypoints, scale, matrices=engine.matrices)
    return {
        "model": engine.model_name,
        "engine": engine.name,
        "provider": engine.provider,
        "ms": {
            "detect": _milliseconds(lambda: engine.detect(frames[next(turn) % len(frames)]), repeats),
            "encode": _milliseconds(lambda: engine.encode(avatar), max(10, repeats // 5)),
            "render": _milliseconds(lambda: engine.render(features, keypoints, moved), repeats),
            "frame": _milliseconds(whole, repeats),
        },
    }


def live_figures(frames: int, stats: Path, size: str = "1280x720") -> dict:
    """Run the real live loop on the bundled clip, played at its own pace as a camera would, into no output."""
    settings = merge(
        Settings(),
        {
            "driving": str(bundled.DRIVING),
            "avatar": str(bundled.AVATAR),
            "loop": True,
            "outputs": ("none",),
            "size": size,
            "enabled": False,
        },
    )
    run_live(settings, frames=frames, stats=stats, keyboard=False)
    return json.loads(stats.read_text())
