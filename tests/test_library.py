"""livepuppet as a library: the public names, `Animator` and `animate`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from media import gradient, read_clip, red_picture, write_clip, write_picture

import livepuppet

SIZE = tiny_bundle.SIZE


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture(scope="session")
def engine(bundle):
    return livepuppet.load_engine("onnx", bundle, threads=1)


PICTURE = gradient(SIZE, SIZE) // 2 + 40


def test_every_public_name_is_there():
    for name in livepuppet.__all__:
        assert getattr(livepuppet, name) is not None
    assert set(livepuppet.__all__) <= set(dir(livepuppet))
    with pytest.raises(AttributeError, match="no attribute 'puppeteer'"):
        _ = livepuppet.puppeteer


def test_importing_it_imports_nothing_else():
    script = (
        "import sys; before = set(sys.modules); import livepuppet;"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}"
        " & {'numpy', 'cv2', 'av', 'torch', 'onnxruntime', 'click'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_frames_in_pictures_out(tmp_path, engine):
    avatar = write_picture(tmp_path / "me.png", PICTURE)
    driving = write_clip(tmp_path / "talk.mp4", [red_picture(level, SIZE) for level in (100, 130, 160)])
    animator = livepuppet.Animator(avatar, engine=engine, crop="full")
    with livepuppet.open_video(driving) as video:
        pictures = [animator(frame) for frame in video]
    # The first frame is D1.
    assert len(pictures) == 3 and np.array_equal(pictures[0], PICTURE)
    assert pictures[0].mean() < pictures[1].mean() < pictures[2].mean()
    animator.reset()
    assert np.array_equal(animator(red_picture(160, SIZE)), PICTURE)


def test_frames_of_any_size_and_pictures_of_the_wanted_size(engine):
    rgba = np.dstack([PICTURE, np.full((SIZE, SIZE), 255, np.uint8)])
    for size, shape in ((None, (SIZE, SIZE, 3)), (100, (100, 100, 3)), ((160, 90), (90, 160, 3))):
        animator = livepuppet.Animator(rgba, engine=engine, crop="full", size=size)
        for frame in (np.full((48, 90, 3), 90, np.uint8), np.full((500, 300, 3), 90, np.uint8)):
            picture = animator(frame)
            assert picture.shape == shape and picture.dtype == np.uint8
    clear = livepuppet.Animator(PICTURE, engine=engine, crop="full", size=64, background="alpha")
    assert clear(red_picture(90)).shape == (64, 64, 4)


def test_pictures_are_the_callers(engine):
    animator = livepuppet.Animator(PICTURE, engine=engine, crop="full")
    first = animator(red_picture(100, SIZE))
    first[:] = 0
    assert np.array_equal(animator(red_picture(100, SIZE)), PICTURE)


def test_several_avatars_and_settings(engine):
    animator = livepuppet.Animator([PICTURE, PICTURE // 2], engine=engine, crop="full")
    animator(red_picture(100, SIZE))
    animator.select(1)
    assert np.array_equal(animator(red_picture(100, SIZE)), PICTURE // 2)
    animator.settings = livepuppet.MotionSettings(countdown=0, strength=0)
    assert np.array_equal(animator(red_picture(200, SIZE)), PICTURE // 2)
    with pytest.raises(livepuppet.LivePuppetError, match="no avatar 'nobody'"):
        animator.select("nobody")


def test_every_stage_of_a_frame_can_be_had(engine):
    animator = livepuppet.Animator(PICTURE, engine=engine, crop="full", size=(128, 96))
    out = np.empty(animator.compositor.shape, np.uint8)
    result = animator.step(red_picture(100, SIZE), 0.0, out)
    assert result.image is out and result.framed and result.moved
    assert result.driving.points.shape == result.keypoints.points.shape == (4, 2)
    assert result.drawing.square.shape == (SIZE, SIZE, 3)
    assert all(seconds >= 0 for seconds in vars(result.timings).values())


def test_animate_writes_the_commands_video(tmp_path, bundle, capfd):
    avatar = write_picture(tmp_path / "me.png", PICTURE)
    driving = write_clip(
        tmp_path / "talk.mp4", [red_picture(level, SIZE) for level in (100, 130)], sound="aac"
    )
    seen = []
    result = livepuppet.animate(
        avatar,
        driving,
        tmp_path / "moved.mp4",
        bundle,
        crop="full",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert result.frames == 2 and seen == [(1, 2), (2, 2)]
    assert len(read_clip(tmp_path / "moved.mp4")[0]) == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"avatar": "nowhere.png"}, "nowhere.png cannot be read"),
        ({"avatar": []}, "no avatar"),
        ({"avatar": np.zeros((4, 4), np.uint8)}, "convert it first"),
        ({"engine": "steam"}, "no engine called"),
        ({"size": None, "background": "blur"}, "needs a size"),
        ({"crop": "around"}, "not X,Y,SIDE"),
    ],
)
def test_bad_input_is_one_sentence(engine, arguments, sentence):
    with pytest.raises(livepuppet.LivePuppetError, match=sentence):
        livepuppet.Animator(**{"avatar": PICTURE, "engine": engine, **arguments})


def test_a_frame_that_is_none(engine):
    animator = livepuppet.Animator(PICTURE, engine=engine, crop="full")
    for frame in (np.zeros((4, 4)), np.zeros((3, 8, 8), np.float32), np.zeros((0, 0, 3), np.uint8)):
        with pytest.raises(livepuppet.LivePuppetError, match="RGB uint8"):
            animator(frame)
    with pytest.raises(livepuppet.LivePuppetError, match="There is no file"):
        livepuppet.open_video("nowhere.mp4")


def test_the_library_is_found_from_the_folder_of_a_checkout(tmp_path):
    """Where `import livepuppet` finds the checkout's folder instead of the installed package."""
    (tmp_path / "elsewhere.py").write_text(
        "import sys\n"
        "sys.meta_path = [one for one in sys.meta_path if 'editable' not in repr(one).lower()]\n"
        "import livepuppet\n"
        "print(livepuppet.Animator.__name__, livepuppet.transfer.__module__)\n"
    )
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, tmp_path / "elsewhere.py"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.split() == ["Animator", "livepuppet.core.transfer"], result.stderr
