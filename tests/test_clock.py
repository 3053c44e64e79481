"""The clock in the picture, through everything that a picture suffers between camera and output."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from media import gradient, read_clip, write_clip

from livepuppet.benchmarks import clock

TIMES = (0, 1, 123_456_789, (1 << clock.TIME_BITS) - 1)


@pytest.mark.parametrize("ticks", TIMES)
@pytest.mark.parametrize(("height", "width"), [(720, 1280), (480, 640), (240, 320), (1280, 720)])
def test_what_is_painted_is_read(ticks, height, width):
    picture = gradient(height, width)
    below = picture[height // 10 :].copy()
    clock.paint(picture, ticks)
    assert clock.read(picture) == ticks
    assert np.array_equal(picture[height // 10 :], below)
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)[:height]
    assert clock.read(luma) == ticks


def test_it_survives_jpeg_and_h264(tmp_path):
    pictures = []
    for ticks in TIMES:
        pictures.append(gradient(240, 320))
        clock.paint(pictures[-1], ticks)
        _, data = cv2.imencode(".jpg", pictures[-1], [cv2.IMWRITE_JPEG_QUALITY, 60])
        assert clock.read(cv2.imdecode(data, cv2.IMREAD_COLOR)) == ticks
    frames, _ = read_clip(write_clip(tmp_path / "clip.mp4", pictures))
    assert [clock.read(frame) for frame in frames] == list(TIMES)


def test_a_picture_without_a_clock_has_none():
    random = np.random.default_rng(0)
    assert clock.read(gradient(720, 1280)) is None
    assert clock.read(np.zeros((240, 320, 3), np.uint8)) is None
    readings = [
        clock.read(np.kron(random.integers(0, 2, (4, 44)), np.ones((60, 8), int)).astype(np.uint8) * 255)
        for _ in range(200)
    ]
    # Random cells pass an eight-bit check once in 256 times.
    assert sum(reading is not None for reading in readings) < 5


def test_a_flipped_bit_is_noticed():
    picture = gradient(240, 440)
    clock.paint(picture, 987_654_321)
    for cell in range(clock.CELLS):
        damaged = picture.copy()
        part = clock.strip_of(damaged)[:, cell * 10 : cell * 10 + 10]
        part[:] = 255 - part
        assert clock.read(damaged) is None


def test_it_is_carried_to_a_picture_of_another_size():
    source, target = gradient(480, 640), gradient(720, 1280)
    clock.paint(source, 42)
    clock.carry(source, target)
    assert clock.read(target) == 42


def test_it_runs_with_the_time():
    first = clock.now()
    assert clock.seconds_since(first) < 10
    assert clock.seconds_since(first - 100_000) == pytest.approx(1, abs=0.5)


def test_a_picture_too_narrow_is_refused():
    with pytest.raises(ValueError, match="wide"):
        clock.paint(np.zeros((100, 100, 3), np.uint8), 1)
