"""Several first starts at once on one empty cache. In small here; the large version is

LIVEPUPPET_ROUNDS=20 python -m pytest -s -m slow tests/test_first_starts.py
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from media import read_clip

#: How often, and how many starts at once.
ROUNDS, STARTS = int(os.environ.get("LIVEPUPPET_ROUNDS") or 1), 8

#: Seconds for a round, on a machine that does other things as well.
PATIENCE = 900

_SHARE = """
import sys
import numpy as np
from livepuppet.core import cache
for number in range(60):
    inputs = {"number": number % 5}
    for remembered, remember, value in (
        (cache.remembered, cache.remember, [number % 5] * 50),
        (cache.remembered_bytes, cache.remember_bytes, bytes([number % 5]) * 20000),
        (cache.remembered_arrays, cache.remember_arrays, {"x": np.full(3000, number % 5)}),
    ):
        try:
            found = remembered("shared", inputs)
        except KeyError:
            pass
        else:
            same = np.array_equal(found["x"], value["x"]) if isinstance(value, dict) else found == value
            assert same, number
        remember("shared", inputs, value)
"""


def _environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "LOCALAPPDATA": str(cache), "OMP_NUM_THREADS": "1"}


def test_processes_share_the_entries_of_a_cache(tmp_path):
    script = [sys.executable, "-c", _SHARE]
    running = [subprocess.Popen(script, env=_environment(tmp_path), stderr=subprocess.PIPE) for _ in range(4)]
    errors = [process.communicate(timeout=120)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * 4, errors
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_first_starts_at_once(tmp_path):
    """Of each engine, and of those that are timed because none is asked for."""
    from livepuppet.realtime import bundled

    engines = [[], ["--engine", "onnx"]]
    if importlib.util.find_spec("openvino"):
        engines += [["--engine", "openvino"], ["--engine", "openvino", "--precision", "int8"]]
    from itertools import islice

    from livepuppet.core.video import open_video
    from livepuppet.core.video_writer import write_video

    with open_video(bundled.DRIVING) as clip:
        write_video(tmp_path / "clip.mp4", [frame.image for frame in islice(clip, 12)], 25)
    words = [sys.executable, "-m", "livepuppet", "animate", "--avatar", bundled.AVATAR]
    words += ["--driving", tmp_path / "clip.mp4", "--side", "256"]
    for round_ in range(ROUNDS):
        cache = tmp_path / f"cache-{round_}"
        cache.mkdir()
        running = {
            number: subprocess.Popen(
                [
                    *map(str, words),
                    *engines[number % len(engines)],
                    "--output",
                    str(tmp_path / f"{number}.mp4"),
                ],
                env=_environment(cache),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for number in range(STARTS)
        }
        for number, process in running.items():
            said = process.communicate(timeout=PATIENCE)[1].decode()
            assert process.returncode == 0, f"round {round_}, start {number}: {process.returncode}\n{said}"
            assert len(read_clip(tmp_path / f"{number}.mp4")[0]) == 12
        print(f"round {round_ + 1}: {STARTS} starts went well", flush=True)
