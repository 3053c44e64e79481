"""`livepuppet animate`, run as people run it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from media import gradient, read_clip, read_sound, red_picture, write_clip, write_picture

from livepuppet.core.errors import UserError
from livepuppet.core.images import read_image
from livepuppet.realtime.animate import OFFLINE, animate
from livepuppet.realtime.engines import load_engine

SIZE = tiny_bundle.SIZE


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture
def avatar(tmp_path):
    return write_picture(tmp_path / "avatar.png", gradient(SIZE, SIZE) // 2 + 40)


def brighter(level: float, scale: float = 1.0) -> np.ndarray:
    """The avatar as the tiny bundle renders it for a driver whose red rose by `level` since the first frame."""
    picture = (gradient(SIZE, SIZE) // 2 + 40).astype(np.float32)
    return np.clip(
        np.rint(picture + scale * level / 255 * tiny_bundle.SHIFT * tiny_bundle.GAIN), 0, 255
    ).astype(np.uint8)


def process(*arguments, **options) -> subprocess.CompletedProcess:
    """The command line in a process of its own, see the fixture `livepuppet` for the other way."""
    command = [sys.executable, "-m", "livepuppet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def frames(folder: Path, levels) -> Path:
    folder.mkdir()
    for index, level in enumerate(levels):
        write_picture(folder / f"{index}.png", red_picture(level, SIZE))
    return folder


def test_a_folder_of_pictures_into_a_folder_of_pictures_is_exact(tmp_path, avatar, bundle):
    driving = frames(tmp_path / "driving", (100, 130, 60))
    result = process(
        "animate", "--avatar", avatar, "--driving", driving, "--output", tmp_path / "out", "--model", bundle
    )
    assert result.returncode == 0, result.stderr
    assert "Wrote 3 frames" in result.stdout
    files = sorted((tmp_path / "out").iterdir())
    for file, level in zip(files, (0, 30, -40), strict=True):
        assert np.array_equal(read_image(file), brighter(level))


def test_absolute_mode(tmp_path, avatar, bundle):
    driving = frames(tmp_path / "driving", (100, 130))
    animate(avatar, str(driving), str(tmp_path / "out"), bundle, settings=replace(OFFLINE, relative=False))
    own = float((gradient(SIZE, SIZE) // 2 + 40)[:, : SIZE // 2, 0].mean())
    for name, level in (("000000.png", 100), ("000001.png", 130)):
        assert np.abs(read_image(tmp_path / "out" / name).astype(int) - brighter(level - own)).max() <= 1


def test_a_video_keeps_rate_times_and_sound(tmp_path, avatar, bundle):
    levels = range(100, 160, 2)
    driving = write_clip(
        tmp_path / "driving.mp4", [red_picture(level) for level in levels], rate=30, sound="aac"
    )
    output = tmp_path / "out.mp4"
    result = animate(avatar, str(driving), str(output), bundle)
    assert result.frames == 30 and result.engine in ("onnx", "openvino")
    pictures, times = read_clip(output)
    assert [float(time) for time in times] == pytest.approx([index / 30 for index in range(30)], abs=1e-4)
    for picture, level in zip(pictures, levels, strict=True):
        assert picture.mean() == pytest.approx(brighter(level - 100).mean(), abs=3)
    codec, samples, rate, begin = read_sound(output)
    assert codec == "aac" and abs(begin) < 0.03
    assert len(samples) / rate == pytest.approx(1.0, abs=0.06)


def test_uneven_times_are_kept(tmp_path, avatar, bundle):
    times = [Fraction(0), Fraction(1, 10), Fraction(7, 10), Fraction(8, 10)]
    driving = write_clip(tmp_path / "driving.mkv", [red_picture(100)] * 4, times)
    animate(avatar, str(driving), str(tmp_path / "out.mp4"), bundle)
    _, read = read_clip(tmp_path / "out.mp4")
    assert [float(time) for time in read] == pytest.approx([float(time) for time in times], abs=2e-3)


def test_side_by_side(tmp_path, avatar, bundle):
    driving = frames(tmp_path / "driving", (100, 140))
    animate(avatar, str(driving), str(tmp_path / "out"), bundle, side_by_side=True)
    picture = read_image(tmp_path / "out" / "000001.png")
    assert np.array_equal(picture, np.hstack([red_picture(140, SIZE), brighter(0), brighter(40)]))


def test_a_larger_side_shows_the_avatars_own_pixels(tmp_path, bundle):
    avatar = write_picture(tmp_path / "large.png", gradient(192, 192))
    driving = write_clip(tmp_path / "still.mp4", [red_picture(100)] * 3)
    animate(avatar, str(driving), str(tmp_path / "out"), bundle, side=192, crop="full")
    frames = [read_image(file) for file in sorted((tmp_path / "out").iterdir())]
    # Nothing moved, so the picture is the file's, although the model sees only a third of it.
    assert frames[0].shape == (192, 192, 3)
    assert np.abs(frames[0].astype(int) - gradient(192, 192)).max() <= 2


def test_a_video_that_breaks_off_leaves_what_was_animated(livepuppet, tmp_path, avatar, bundle):
    random = np.random.default_rng(0)
    noise = [random.integers(0, 255, (SIZE, SIZE, 3), np.uint8) for _ in range(40)]
    whole = write_clip(tmp_path / "whole.mp4", noise, sound="aac", options={"movflags": "faststart"})
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    output = tmp_path / "out.mp4"
    result = livepuppet(
        "animate", "--avatar", avatar, "--driving", broken, "--output", output, "--model", bundle
    )
    assert_one_sentence(result, "damaged or incomplete", str(output))
    pictures, _ = read_clip(output)
    assert 10 < len(pictures) < 38


def test_ctrl_c_leaves_what_was_animated(tmp_path, avatar, bundle):
    driving = write_clip(tmp_path / "driving.mp4", [gradient(480, 640)] * 600)
    output = tmp_path / "out.mp4"
    arguments = ("animate", "--avatar", avatar, "--driving", driving, "--output", output, "--model", bundle)
    process = subprocess.Popen(
        [sys.executable, "-m", "livepuppet", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the suite in the background has its children ignore Ctrl-C, and theirs inherit that.
        preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (output.exists() and output.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert 0 < len(read_clip(output)[0]) < 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["avatar.png", "driving.mp4", "out.mp4"]


def assert_one_sentence(result: subprocess.CompletedProcess, *parts: str) -> None:
    """Exit status 2, and one line on standard error that says what to do."""
    assert result.returncode == 2, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("livepuppet: ") and lines[0].endswith("."), result.stderr
    for part in parts:
        assert part in lines[0]


@pytest.fixture
def driving(tmp_path):
    return write_clip(tmp_path / "driving.mp4", [red_picture(100)] * 5)


def test_an_unreadable_avatar(livepuppet, tmp_path, driving, bundle):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    result = livepuppet(
        "animate", "--avatar", bad, "--driving", driving, "--output", tmp_path / "o.mp4", "--model", bundle
    )
    assert_one_sentence(result, "bad.png", "PNG or JPEG")
    assert not (tmp_path / "o.mp4").exists()


def test_a_missing_or_foreign_model(livepuppet, tmp_path, avatar, driving):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "bundle.json").write_text(json.dumps({"format": "something else"}))
    for model, part in (
        (tmp_path / "nowhere", "no model bundle"),
        (foreign, "another program"),
        (driving, "folder"),
    ):
        result = livepuppet(
            "animate",
            "--avatar",
            avatar,
            "--driving",
            driving,
            "--output",
            tmp_path / "o.mp4",
            "--model",
            model,
        )
        assert_one_sentence(result, part)


@pytest.mark.parametrize(
    "place", ["nowhere/out.mp4", "driving.mp4/out.mp4", "driving.mp4/frames", "out.avi", "driving.mp4"]
)
def test_outputs_that_cannot_be_written(livepuppet, tmp_path, avatar, driving, bundle, place):
    before = driving.read_bytes()
    result = livepuppet(
        "animate", "--avatar", avatar, "--driving", driving, "--output", tmp_path / place, "--model", bundle
    )
    assert_one_sentence(result)
    assert driving.read_bytes() == before


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere"
)
def test_a_folder_without_permission(livepuppet, tmp_path, avatar, driving, bundle):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result = livepuppet(
        "animate", "--avatar", avatar, "--driving", driving, "--output", locked / "o.mp4", "--model", bundle
    )
    assert_one_sentence(result, "cannot be written")


def test_a_full_disk(tmp_path, avatar, bundle):
    random = np.random.default_rng(0)
    driving = tmp_path / "driving"
    driving.mkdir()
    for index in range(6):
        # Sharp noise in the left half moves the tiny puppet; the PNGs it writes are what fills the disk.
        write_picture(driving / f"{index}.png", random.integers(0, 255, (SIZE, SIZE, 3), np.uint8))
    noisy = write_picture(tmp_path / "noisy.png", random.integers(0, 255, (SIZE, SIZE, 3), np.uint8))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    result = process(
        *(
            "animate",
            "--avatar",
            noisy,
            "--driving",
            driving,
            "--output",
            tmp_path / "out",
            "--model",
            bundle,
        ),
        preexec_fn=limit,
    )
    assert_one_sentence(result, "cannot be written", "free some space")


def test_bad_crops_get_a_sentence(tmp_path, avatar, driving, bundle):
    for option in ("--crop", "--avatar-crop"):
        for text in ("around", "1,2", "9000,0,50"):
            with pytest.raises(UserError):
                animate(
                    avatar,
                    str(driving),
                    str(tmp_path / "o.mp4"),
                    bundle,
                    **{option[2:].replace("-", "_"): text},
                )


def test_animate_imports_no_torch(tmp_path, avatar, driving, bundle):
    script = (
        "import sys; from livepuppet.realtime.app.cli import main; main(sys.argv[1:]);"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('torch', 'pyvirtualcam', 'onnx', 'PIL')))"
    )
    arguments = [
        "animate",
        "--avatar",
        avatar,
        "--driving",
        driving,
        "--output",
        tmp_path / "o.mp4",
        "--model",
        bundle,
    ]
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def published(shared, tmp_path_factory):
    """The parity set's model, imported from an official-style checkpoint, and its driving folder."""
    folder = tmp_path_factory.mktemp("published")
    checkpoint, weights = folder / "vox.pth.tar", folder / "vox.safetensors"
    script = shared / "parity" / "make_weights.py"
    layout = shared / "parity" / "vox-256.layout.json"
    subprocess.run([sys.executable, script, layout, "--pth", checkpoint], check=True, capture_output=True)
    result = process("import", checkpoint, "--output", weights)
    assert result.returncode == 0, result.stderr
    driving = folder / "driving"
    driving.mkdir()
    for index, name in enumerate(("driving_initial", "driving")):
        shutil.copy(shared / "parity" / f"{name}.png", driving / f"{index}.png")
    return load_engine("torch", weights), driving


@pytest.mark.parametrize(
    "mode",
    ["r1a1", "r0a0", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("r1a0", "r0a1"))],
)
def test_the_published_model_gives_the_golden_picture(shared, published, tmp_path, mode):
    engine, driving = published
    animate(
        shared / "parity" / "source.png",
        str(driving),
        str(tmp_path / "out"),
        engine=engine,
        settings=replace(OFFLINE, relative=mode[1] == "1", adapt_scale=mode[3] == "1"),
        as_published=True,
    )
    golden = np.load(shared / "parity" / "golden_vox-256.npz")
    # The scale plays no part in absolute mode.
    expected = golden["prediction_r0a0_u8" if mode == "r0a1" else f"prediction_{mode}_u8"]
    picture = read_image(tmp_path / "out" / "000001.png")
    assert np.abs(picture.astype(int) - expected).max() <= 1


def test_memory_does_not_grow_with_length(tmp_path, avatar, bundle):
    # 400 frames of 640x360 are 276 MB; a quarter of that would show. Kilobytes are what Linux counts in.
    driving = write_clip(tmp_path / "long.mp4", [gradient(360, 640)] * 400, rate=30)
    script = (
        "import resource, sys; from livepuppet import animate;"
        "animate(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], crop='full');"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak(clip):
        arguments = [avatar, clip, tmp_path / "o.mp4", bundle]
        return int(subprocess.check_output([sys.executable, "-c", script, *map(str, arguments)], text=True))

    short = write_clip(tmp_path / "short.mp4", [gradient(360, 640)] * 40, rate=30)
    assert peak(driving) - peak(short) < 60_000


# Monkey-Net: covariances instead of Jacobians, and things instead of faces.


def spots(folder: Path, places) -> Path:
    """A clip of a bright spot on black, with nothing that looks like a face."""
    folder.mkdir()
    for index, (x, y) in enumerate(places):
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        picture[y : y + 10, x : x + 10] = (240, 200, 60)
        write_picture(folder / f"{index}.png", picture)
    return folder


@pytest.mark.parametrize("crop", ["auto", "full"])
def test_a_monkeynet_animates_what_is_no_face(tmp_path, avatar, monkey_bundle, crop):
    driving = spots(tmp_path / "driving", [(10, 10), (10, 10), (40, 30)])
    drawn = {}
    for engine, model in (
        ("onnx", monkey_bundle / "bundle"),
        ("torch", monkey_bundle / "weights.safetensors"),
    ):
        output = tmp_path / engine
        result = animate(avatar, str(driving), str(output), model, engine=engine, crop=crop)
        assert (result.frames, result.engine) == (3, engine)
        drawn[engine] = [read_image(file).astype(int) for file in sorted(output.iterdir())]
    for mine, theirs in zip(*drawn.values(), strict=True):
        assert np.abs(mine - theirs).max() <= 1
    # D1 and a driver who stays there leave the avatar at rest, as the model itself draws it; then it moves.
    machine = load_engine("onnx", monkey_bundle / "bundle")
    picture = gradient(SIZE, SIZE) // 2 + 40
    own = machine.detect(picture)
    rest = machine.render(machine.encode(picture), own, own).astype(int)
    first, second, third = drawn["onnx"]
    assert np.abs(first - rest).max() <= 1 and np.array_equal(first, second)
    assert np.abs(third - first).mean() > 1


def test_variances_of_a_monkeynet_differ(tmp_path, avatar, monkey_bundle):
    driving = spots(tmp_path / "driving", [(10, 10), (40, 30)])
    drawn = {}
    for variance in ("source", "driving", "relative"):
        output = tmp_path / f"by {variance}"
        animate(
            avatar,
            str(driving),
            str(output),
            monkey_bundle / "bundle",
            settings=replace(OFFLINE, variance=variance),
        )
        drawn[variance] = [read_image(file) for file in sorted(output.iterdir())]
    # At rest the driver's own extents show; otherwise nothing does.
    assert np.abs(drawn["source"][0].astype(int) - drawn["relative"][0]).max() <= 1
    assert not np.array_equal(drawn["source"][0], drawn["driving"][0])
    assert not np.array_equal(drawn["source"][1], drawn["relative"][1])


def test_a_variance_that_does_nothing_is_said(tmp_path, avatar, bundle, caplog):
    driving = frames(tmp_path / "driving", (100, 130))
    animate(
        avatar, str(driving), str(tmp_path / "out"), bundle, settings=replace(OFFLINE, variance="driving")
    )
    assert "Variance does nothing here: the keypoints of tiny carry Jacobians" in caplog.text


def test_a_monkeynets_deformation_bends_the_avatars_own_pixels(tmp_path, avatar, monkey_bundle):
    driving = spots(tmp_path / "driving", [(10, 10), (40, 30)])
    animate(avatar, str(driving), str(tmp_path / "out"), monkey_bundle / "bundle", side=128)
    assert [read_image(file).shape for file in sorted((tmp_path / "out").iterdir())] == [(128, 128, 3)] * 2
