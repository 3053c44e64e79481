"""Recordings cut into clips: the square is held, clips end where the face leaves, files are whole or absent."""

import errno

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from media import read_clip, write_clip

from livepuppet.core import video_writer
from livepuppet.core.video_writer import VideoWriter
from livepuppet.train.cli.prepare import _recordings, face_finder, fixed_finder, prepare_command
from livepuppet.train.data.clips import ClipSet
from livepuppet.train.data.prepare import OutputError, Rules, Square, prepare
from livepuppet.train.data.reading import DataError

RATE, SIDE = 10, 40
RULES = Rules(size=32, shortest=1.0, smallest=8)


def scene(x: float | None, ground: int = 60, y: float = 30) -> np.ndarray:
    """uint8 RGB (96, 160, 3): a red "face" whose square has its left edge at `x`, or none."""
    image = np.full((96, 160, 3), ground, np.uint8)
    if x is not None:
        left, top = round(x) + SIDE // 4, round(y) + SIDE // 4
        image[top : top + SIDE // 2, left : left + SIDE // 2] = (220, 30, 30)
    return image


def find(image: np.ndarray, last: Square | None) -> Square | None:
    """The square around the red thing."""
    y, x = np.nonzero((image[..., 0] > 140) & (image[..., 1] < 110))
    if len(x) < 20:
        return None
    return Square((x.min() + x.max() + 1 - SIDE) / 2, (y.min() + y.max() + 1 - SIDE) / 2, SIDE)


@pytest.fixture
def record(tmp_path):
    return lambda images: write_clip(tmp_path / "talk.mp4", images, rate=RATE)


def test_a_face_that_stays_gives_one_clip_in_one_square(record, tmp_path):
    path = record([scene(60 + 4 * np.sin(t / 3)) for t in range(30)])
    report = prepare(path, tmp_path / "out", find, RULES)
    assert [clip.name for clip in report.clips] == ["talk#001.mp4"]
    assert report.kept == pytest.approx(3) and report.seconds == pytest.approx(3) and not report.dropped
    images, times = read_clip(report.clips[0])
    assert len(images) == 30 and images[0].shape == (32, 32, 3)
    assert float(times[-1] - times[0]) == pytest.approx(2.9)
    # The crop is held: the ground is still, and the face wanders within it.
    middles = [np.nonzero(image[..., 0] > 140)[1].mean() for image in images]
    assert 3 < max(middles) - min(middles) < 9
    assert np.abs(np.mean(images, axis=0)[:2] - 60).max() < 4
    assert images[0][16, 16] == pytest.approx((220, 30, 30), abs=12)
    assert ClipSet(tmp_path / "out", 32).length(0) == 30


def test_a_new_clip_begins_when_the_face_leaves_its_square(record, tmp_path):
    path = record([scene(10 + 4 * max(0, min(t - 20, 20))) for t in range(60)])
    report = prepare(path, tmp_path / "out", find, RULES)
    assert len(report.clips) >= 2
    for clip in report.clips:
        for image in read_clip(clip)[0]:
            y, x = np.nonzero(image[..., 0] > 140)
            assert x.min() > 0 and x.max() < 31 and y.min() > 0 and y.max() < 31
    assert ClipSet(tmp_path / "out", 32, id_sampling=True).identities == 1


def test_a_cut_of_the_scene_ends_a_clip_even_where_the_face_stays(record, tmp_path):
    path = record([scene(60, 40 if t < 25 else 200) for t in range(50)])
    report = prepare(path, tmp_path / "out", find, RULES)
    assert len(report.clips) == 2 and report.kept == pytest.approx(5)
    grounds = [[image[0, 0, 1] for image in read_clip(clip)[0]] for clip in report.clips]
    assert max(grounds[0]) < 60 and min(grounds[1]) > 180


def test_what_is_dropped_is_told_with_its_time(record, tmp_path):
    path = record([scene(60 if t < 20 or 40 <= t < 46 else None) for t in range(60)])
    report = prepare(path, tmp_path / "out", find, RULES)
    assert len(report.clips) == 1 and report.kept == pytest.approx(2, abs=0.3)
    text = report.text()
    assert text.count("no face was found") == 2 and text.count("less than 1 s (--shortest)") == 1
    gone = [part for part in report.dropped if "no face" in part.why]
    assert gone[0].begin == pytest.approx(2, abs=0.3) and gone[0].end == pytest.approx(4, abs=0.3)
    assert gone[1].end == pytest.approx(6)
    # A moment without a face does not end a clip.
    path = record([scene(None if 10 <= t < 14 else 60) for t in range(30)])
    report = prepare(path, tmp_path / "out", find, RULES)
    assert len(report.clips) == 1 and report.kept == pytest.approx(3)


def test_small_faces_are_dropped_and_long_clips_split(record, tmp_path):
    path = record([scene(60) for _ in range(50)])
    report = prepare(path, tmp_path / "out", find, Rules(size=128))
    assert not report.clips and "a square of 40 pixels (--smallest)" in report.text()
    report = prepare(path, tmp_path / "out", find, Rules(size=32, shortest=1, longest=2, every=2))
    lengths = [len(read_clip(clip)[0]) for clip in report.clips]
    assert len(lengths) == 3 and sum(lengths) == pytest.approx(25, abs=2)


def test_the_square_stays_inside_the_image(record, tmp_path):
    path = record([scene(-6, y=-8) for _ in range(20)])
    report = prepare(path, tmp_path / "out", find, Rules(size=32, shortest=1, smallest=8, margin=1.5))
    image = read_clip(report.clips[0])[0][0]
    # Found 6 and 8 pixels beyond the corner; cut at the corner, 60 pixels wide.
    assert image[2 * 32 // 60 + 3, 5 * 32 // 60 + 4, 0] > 150 and image[-1, -1, 0] < 80


def test_a_full_disk_ends_in_a_sentence_and_leaves_whole_clips(record, tmp_path, monkeypatch):
    path = record([scene(60, 40 if t < 20 else 200) for t in range(40)])
    written = VideoWriter.write

    def full(self, image):
        if "#002" in self.path.name:
            raise av.error.OSError(errno.ENOSPC, "No space left on device")
        written(self, image)

    monkeypatch.setattr(VideoWriter, "write", full)
    with pytest.raises(OutputError, match=r"No space is left .* 1 clip .* stay whole") as error:
        prepare(path, tmp_path / "out", find, RULES)
    assert "\n" not in str(error.value)
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["talk#001.mp4"]
    assert len(read_clip(tmp_path / "out" / "talk#001.mp4")[0]) == 20


def test_an_interrupted_run_leaves_no_half_clip(record, tmp_path, monkeypatch):
    path = record([scene(60) for _ in range(20)])
    seen = []

    def stopped(self):
        seen.extend(self._replacement.part.parent.iterdir())
        raise KeyboardInterrupt

    # With the last frame, when the encoder has begun the file.
    monkeypatch.setattr(VideoWriter, "close", stopped)
    monkeypatch.setattr(video_writer, "ENCODERS", ("mpeg4",))
    with pytest.raises(KeyboardInterrupt):
        prepare(path, tmp_path / "out", find, RULES)
    assert len(seen) == 1 and seen[0].name.startswith(".") and not list((tmp_path / "out").iterdir())


def test_an_output_that_cannot_be_made_ends_in_a_sentence(record, tmp_path):
    path = record([scene(60) for _ in range(20)])
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="choose another --output"):
        prepare(path, tmp_path / "taken", find, RULES)


def test_recordings_that_cannot_be_read_end_in_a_sentence(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    for name, words in (("broken.mp4", "cannot be read"), ("nowhere.mp4", "There is no file")):
        with pytest.raises(DataError, match=words):
            prepare(tmp_path / name, tmp_path / "out", find, RULES)
    with pytest.raises(DataError, match="even side"):
        Rules(size=63)


def _run(*arguments):
    return CliRunner().invoke(prepare_command, [str(one) for one in arguments])


def test_the_command_takes_a_folder_and_skips_what_is_broken(tmp_path):
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "good.mp4", [scene(60, 60 + t % 9) for t in range(30)], rate=RATE)
    (tmp_path / "in" / "broken.mp4").write_bytes(b"nothing")
    result = _run(tmp_path / "in", "--crop", "full", "--size", 32, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "skipped: broken.mp4 cannot be read" in result.output
    assert "good.mp4: 1 clip, 3.0 of 3.0 seconds kept." in result.output and "--check-data" in result.output
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["good#001.mp4"]
    # Cut with the centred square, 96 pixels of 160: the face's square, left at 60, begins 28 pixels from its edge.
    image = read_clip(tmp_path / "out" / "good#001.mp4")[0][0]
    assert np.nonzero(image[..., 0] > 140)[1].min() == pytest.approx((60 + 10 - 32) / 3, abs=1.5)


def test_the_command_says_why_there_are_no_clips(tmp_path):
    path = write_clip(tmp_path / "talk.mp4", [scene(60) for _ in range(12)], rate=RATE)
    output = ("--output", tmp_path / "out", "--size", 32)
    result = _run(path, *output, "--crop", "full")
    assert result.exit_code != 0 and "No clip was made" in result.output
    assert "1.2 s" in result.output and "(--shortest)" in result.output
    result = _run(path, *output, "--crop", "100,80,90")
    assert result.exit_code != 0 and "does not lie inside the image of 160x96" in result.output
    result = _run(path, "--output", tmp_path / "out", "--size", 33)
    assert result.exit_code != 0 and "even side" in result.output


def test_recordings_of_one_name_do_not_overwrite_each_other(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "talk#x.mp4").write_bytes(b"")
    assert [stem for _, stem in _recordings([tmp_path / "a", tmp_path / "b"])] == ["talk-x", "talk-x-2"]


def test_a_face_is_found_followed_and_missed_by_the_live_tools_means():
    """On the bundled driving clip, which is procedural: put into a wider image, as a webcam would show it."""
    from livepuppet.realtime.bundled import DRIVING
    from livepuppet.train.data.reading import open_clip, read_frames

    face = read_frames(open_clip(DRIVING), range(2), None)[0]
    image = np.full((360, 640, 3), 120, np.uint8)
    image[60:316, 200:456] = cv2.resize(face, (256, 256))
    finder = face_finder()
    found = finder(image, None)
    assert found is not None and found.overlap(Square(200, 60, 256)) > 0.5
    followed = finder(image, found)
    for shift in (20, 50, 120):
        moved = finder(np.roll(image, shift, axis=1), found)
        middle = moved.x + moved.side / 2 - followed.x - followed.side / 2
        assert middle == pytest.approx(shift, abs=0.12 * followed.side)
    assert finder(np.full_like(image, 120), found) is None
    assert fixed_finder("full")(image, None) == Square(140, 0, 360)
