"""What other systems do differently, simulated here: outputs that are not UTF-8, names with colons, and new processes by spawn."""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
from media import gradient, read_clip, red_picture, write_clip, write_picture
from tiny_bundle import write_bundle

from livepuppet.core.names import is_url
from livepuppet.core.video import Clip, open_video
from livepuppet.realtime.animate import animate
from livepuppet.realtime.app.cli import main


def livepuppet(*arguments, encoding="cp1252", **options):
    """The command line where standard output is not UTF-8: a pipe on Windows, or the C locale."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "livepuppet.realtime.app.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, env=environment, **options)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_output_that_is_not_utf8(encoding, monkeypatch):
    done = livepuppet("run", "--help", encoding=encoding)
    assert done.returncode == 0, done.stderr.decode(encoding, "replace")
    assert b"UnicodeEncodeError" not in done.stderr and done.stdout + done.stderr
    # The others with the streams that such a process has.
    for command in (["--help"], ["settings", "show"], ["devices"]):
        output, errors = io.BytesIO(), io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(errors, encoding, "backslashreplace"))
        main(command)
        sys.stdout.flush()
        sys.stderr.flush()
        assert output.getvalue() or errors.getvalue(), command


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_name_that_the_terminal_cannot_show_is_a_sentence_all_the_same(tmp_path, encoding):
    done = livepuppet(
        "animate",
        "--avatar",
        "кот.png",
        "--driving",
        "猫.mp4",
        "--output",
        "o.mp4",
        cwd=tmp_path,
        encoding=encoding,
    )
    assert done.returncode == 2 and b"Traceback" not in done.stderr


# A drive letter is no protocol, and FFmpeg takes what stands before a colon for one.
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["a:b.mp4", "C:clip.mp4", "file;semi.mp4", "concat:x.mp4", "ünï cödé.mp4"])
def test_names_with_colons_and_semicolons(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "plain.mp4", [red_picture(100)] * 3)
    (tmp_path / "plain.mp4").rename(name)
    for path in (name, tmp_path / name):
        clip = open_video(path)
        assert len(list(clip)) == 3
        clip.close()
    animate(
        write_picture(tmp_path / "a.png", gradient(64, 64)),
        name,
        f"moved {name}",
        write_bundle(tmp_path / "bundle"),
    )
    assert len(read_clip(tmp_path / f"moved {name}")[0]) == 3


@pytest.mark.parametrize(
    "path", [r"C:\Users\me\clip.mp4", "C:/Users/me/clip.mp4", r"\\server\share\clip.mp4", "D:clip.mp4"]
)
def test_drive_letters_are_no_addresses(path):
    assert not is_url(path)


class _Container:
    """As PyAV 19 tells of a stream: no size, no duration."""

    def __init__(self, size, duration=None, name="mpjpeg"):
        self.size, self.duration = size, duration
        self.format = type("Format", (), {"name": name})


@pytest.mark.parametrize(
    ("container", "endless"),
    [
        (_Container(None), True),
        (_Container(-38), True),
        (_Container(1000), False),
        (_Container(1000, name="hls"), True),
        (_Container(None, duration=5), False),
    ],
)
def test_streams_of_old_and_new_pyav(container, endless):
    clip = Clip.__new__(Clip)
    clip._container = container
    assert clip._goes_on_for_ever() == endless


def _detects(queue):
    from livepuppet.realtime import bundled
    from livepuppet.realtime.engines import load_engine

    engine = load_engine("onnx", bundled.MODEL, threads=1, gate=False)
    queue.put(engine.detect(np.zeros((engine.size, engine.size, 3), np.uint8)).points)


def test_an_engine_runs_in_a_spawned_process():
    """Windows and macOS start processes by spawn: everything is imported anew."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_detects, args=(queue,))
    process.start()
    assert np.isfinite(queue.get(timeout=120)).all()
    process.join(30)
    assert process.exitcode == 0
