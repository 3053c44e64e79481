"""What was seen of a driving file is kept as plain numbers, and comes back as it was."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import ANCHORS, EYE_NUMBERS, HEAD_NUMBERS, MOUTH_NUMBERS, FaceReading
from livepuppet.core.square import Square
from livepuppet.realtime import bundled
from livepuppet.realtime.clip.plan import plan
from livepuppet.realtime.clip.survey import Survey
from livepuppet.realtime.clip.track import Faces, Seen, Track
from livepuppet.realtime.engines import read_bundle

NAMES = tuple(read_bundle(bundled.MODEL)["keypoint_names"])


def face(generator: np.random.Generator, points: np.ndarray) -> Keypoints:
    def drawn(*shape: int) -> np.ndarray:
        return generator.normal(0.3, 0.05, shape).astype(np.float32)

    reading = FaceReading(
        drawn(2, EYE_NUMBERS), drawn(MOUTH_NUMBERS), drawn(HEAD_NUMBERS), drawn(len(ANCHORS), 2)
    )
    jacobians = np.eye(2, dtype=np.float32) + 0.1 * drawn(len(points), 2, 2)
    return Keypoints(points + 0.01 * drawn(*points.shape), jacobians, drawn(len(points)), reading)


def frames(count: int):
    generator = np.random.default_rng(0)
    points = generator.normal(0, 0.3, (len(NAMES), 2)).astype(np.float32)
    for index in range(count):
        time, duration, shot = Fraction(index, 30), Fraction(1, 30), int(index >= count // 3)
        if 10 <= index < 20:
            yield Seen(time, duration, shot)
            continue
        square, colours = Square(100 + index // 7 % 3, 50, 300), generator.uniform(0, 99, 6)
        found = face(generator, points + np.float32(0.1 * np.sin(index / 20)))
        yield Seen(time, duration, shot, square, found, 12.5, colours.astype(np.float32))


def equal(one: Keypoints, other: Keypoints) -> bool:
    def parts(keypoints: Keypoints) -> list:
        reading = keypoints.reading
        read = [] if reading is None else [reading.eyes, reading.mouth, reading.head, reading.anchors]
        return [keypoints.points, keypoints.jacobians, keypoints.confidence, *read]

    return all(
        (a is None and b is None) or (a.dtype == b.dtype and np.array_equal(a, b))
        for a, b in zip(parts(one), parts(other), strict=True)
    )


def test_what_was_seen_comes_back_as_it_was():
    seen = list(frames(30))
    track = Track(seen)
    assert len(track) == 30
    for one, kept in zip(seen, track, strict=True):
        assert (one.time, one.duration, one.shot, one.square, one.sharpness) == (
            *(kept.time, kept.duration, kept.shot, kept.square, kept.sharpness),
        )
        assert (one.keypoints is None) == (kept.keypoints is None) == (kept.colours is None)
        if one.keypoints is not None:
            assert equal(one.keypoints, kept.keypoints) and np.array_equal(one.colours, kept.colours)
    assert [one.time for one in track[-3:]] == [one.time for one in seen[-3:]]
    assert track[-1].time == seen[-1].time
    with pytest.raises(IndexError):
        track[30]


def test_faces_need_not_have_the_same_parts():
    whole = face(np.random.default_rng(1), np.zeros((5, 2), np.float32))
    several = [
        whole,
        replace(whole, confidence=None),
        None,
        replace(whole, reading=None),
        replace(whole, reading=replace(whole.reading, anchors=None)),
        face(np.random.default_rng(2), np.zeros((7, 2), np.float32)),
    ]
    kept = Faces(several)
    for one, found in zip(several, kept, strict=True):
        assert one is found is None or equal(one, found)


def test_a_plan_of_plain_numbers_is_that_of_objects():
    made = [
        plan(Survey(kind(frames(90)), None, None, [(720, 1280)] * 2), NAMES, 256) for kind in (list, Track)
    ]
    assert made[0].sentences == made[1].sentences
    for one, other in zip(made[0].shown, made[1].shown, strict=True):
        assert (one.time, one.square, one.person, one.cut) == (
            other.time,
            other.square,
            other.person,
            other.cut,
        )
        assert (one.driving is None) == (other.driving is None)
        assert one.driving is None or equal(one.driving, other.driving)


def test_of_a_long_file_little_is_kept():
    """13 MB for each minute of 30 frames a second it was, while it was planned; and a third of that afterwards."""
    count = 1000
    tracemalloc.start()
    try:
        survey = Survey(Track(frames(count)), None, None, [(720, 1280)] * 2)
        watched = tracemalloc.get_traced_memory()[0] / count
        made = plan(survey, NAMES, 256)
        most = tracemalloc.get_traced_memory()[1] / count
        del survey
        kept = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert len(made.shown) == count and watched < 1400 and kept < 2000 and most < 5500
