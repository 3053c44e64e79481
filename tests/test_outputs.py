"""Videos that play anywhere with the right colours, times and sound; lossless folders; what cannot be written."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from media import gradient, read_clip, read_sound, red_picture, write_clip, write_picture

from livepuppet.core.errors import UserError
from livepuppet.core.images import read_image
from livepuppet.core.video import open_video
from livepuppet.realtime.app.live_outputs import open_live_output
from livepuppet.realtime.app.window import Window
from livepuppet.realtime.outputs.folder import ImageFolder
from livepuppet.realtime.outputs.opening import Nowhere, check_file_output
from livepuppet.realtime.outputs.sound import Soundtrack
from livepuppet.realtime.outputs.video import VideoFile

#: Red, green, blue, yellow, gray, skin, white and black, and what no chroma subsampling can blur.
COLOURS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (128, 128, 128),
    (200, 150, 120),
    (255,) * 3,
    (0,) * 3,
]


def write(path, pictures, rate=25, times=None, **options):
    height, width = pictures[0].shape[:2]
    times = times or [Fraction(index, rate) for index in range(len(pictures))]
    video = VideoFile(path, width, height, Fraction(rate), Fraction(1, 12_800), **options)
    for picture, time in zip(pictures, times, strict=True):
        video.write(picture, time, Fraction(1, rate))
    video.close()
    return path


def boxes(data: bytes) -> list[str]:
    """The names of an MP4's outermost boxes, in order."""
    names, place = [], 0
    while place < len(data):
        names.append(data[place + 4 : place + 8].decode())
        place += int.from_bytes(data[place : place + 4], "big") or len(data)
    return names


def test_what_browsers_need(tmp_path):
    path = write(tmp_path / "video.mp4", [gradient(64, 64)] * 30)
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 25 and stream.frames == 30
        context = stream.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )
        assert container.duration == pytest.approx(1_200_000, abs=2000)
    names = boxes(path.read_bytes())
    assert names.index("moov") < names.index("mdat") and "moof" not in names


def test_colours_come_back(tmp_path):
    picture = np.concatenate([np.full((32, 32, 3), colour, np.uint8) for colour in COLOURS], axis=1)
    pictures, _ = read_clip(write(tmp_path / "video.mp4", [picture] * 3))
    middles = pictures[0][16, 16::32].astype(int)
    assert np.abs(middles - COLOURS).max() <= 3


def test_uneven_times_are_kept(tmp_path):
    times = [Fraction(0), Fraction(1, 25), Fraction(1, 2), Fraction(1001, 1000), Fraction(3)]
    path = write(tmp_path / "video.mp4", [red_picture(50 * index) for index in range(5)], times=times)
    pictures, read = read_clip(path)
    assert [float(time) for time in read] == pytest.approx([float(time) for time in times], abs=1e-3)
    assert [picture[..., 0].mean() for picture in pictures] == pytest.approx(range(0, 250, 50), abs=4)


def test_odd_sizes_are_made_even(tmp_path):
    pictures, _ = read_clip(write(tmp_path / "video.mp4", [gradient(63, 65)] * 2))
    assert pictures[0].shape == (64, 66, 3)


@pytest.mark.parametrize(
    ("suffix", "codec", "becomes"),
    [
        (".mp4", "aac", "aac"),
        (".mkv", "libmp3lame", "mp3float"),
        (".mkv", "pcm_s16le", "aac"),
        (".ts", "aac", "aac"),
        (".mkv", "flac", "aac"),
    ],
)
@pytest.mark.parametrize("late", [Fraction(0), Fraction(3, 2)], ids=["from 0", "late clock"])
def test_sound_is_carried_over_in_time(tmp_path, suffix, codec, becomes, late):
    if codec not in av.codecs_available:
        pytest.skip(f"no {codec} in this PyAV")
    pictures = [red_picture(100)] * 25
    driving = write_clip(tmp_path / f"driving{suffix}", pictures, sound=codec, seconds_before=late)
    with av.open(str(driving)) as container:
        start = next(Fraction(packet.pts) * packet.time_base for packet in container.demux(video=0))
    output = write(tmp_path / "video.mp4", pictures, sound=Soundtrack(str(driving), start))
    name, samples, rate, begin = read_sound(output)
    assert name == becomes and rate == 44_100
    assert abs(begin) < 0.06
    assert len(samples) / rate == pytest.approx(1.0, abs=0.08)
    middle = samples[len(samples) // 4 : len(samples) // 2].astype(float)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * rate / len(middle) == pytest.approx(440, abs=8)


def test_sound_ends_with_the_picture(tmp_path):
    driving = write_clip(tmp_path / "driving.mp4", [red_picture(100)] * 75, sound="aac")
    output = write(
        tmp_path / "video.mp4", [red_picture(100)] * 25, sound=Soundtrack(str(driving), Fraction(0))
    )
    _, samples, rate, _ = read_sound(output)
    assert len(samples) / rate == pytest.approx(1.0, abs=0.1)


def test_a_killed_recording_plays(tmp_path):
    script = f"""
import os, numpy as np
from fractions import Fraction
from livepuppet.realtime.outputs.video import VideoFile
video = VideoFile({str(tmp_path / "video.mp4")!r}, 64, 64, Fraction(10), live=True)
for index in range(100):
    video.write(np.full((64, 64, 3), index, np.uint8), Fraction(index, 10))
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    pictures, times = read_clip(tmp_path / "video.mp4")
    # A fragment is two seconds; the one that was being filled is lost.
    assert 60 <= len(pictures) <= 100
    assert times[50] == 5


def test_a_full_disk_keeps_what_was_written(tmp_path):
    # A limit on file sizes fails like a full disk, without needing one.
    script = f"""
import resource, numpy as np
from fractions import Fraction
from livepuppet.core.errors import UserError
from livepuppet.realtime.outputs.video import VideoFile
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
random = np.random.default_rng(0)
video = VideoFile({str(tmp_path / "video.mp4")!r}, 64, 64, Fraction(10), live=True)
try:
    for index in range(1000):
        video.write(random.integers(0, 255, (64, 64, 3), np.uint8), Fraction(index, 10))
except UserError as error:
    print(error)
video.close()
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "cannot be written any further" in result.stdout and "plays" in result.stdout
    clip = open_video(tmp_path / "video.mp4")
    assert len(list(clip)) >= 20


def test_no_picture_leaves_no_file(tmp_path):
    VideoFile(tmp_path / "video.mp4", 64, 64).close()
    assert not list(tmp_path.iterdir())


def test_close_twice(tmp_path):
    video = VideoFile(tmp_path / "video.mp4", 64, 64)
    video.write(gradient(64, 64), Fraction(0))
    video.close()
    video.close()
    assert len(read_clip(tmp_path / "video.mp4")[0]) == 1


def test_places_that_cannot_be_written(tmp_path):
    file = write_picture(tmp_path / "file.png", gradient(8, 8))
    with pytest.raises(UserError, match="does not exist"):
        VideoFile(tmp_path / "nowhere" / "video.mp4", 64, 64)
    with pytest.raises(UserError, match="cannot be made"):
        ImageFolder(file / "frames")
    (tmp_path / "video.mp4").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        VideoFile(tmp_path / "video.mp4", 64, 64)


def test_folders_are_lossless_and_not_mixed(tmp_path):
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (30, 20, 3), np.uint8) for _ in range(3)]
    folder = ImageFolder(tmp_path / "deep" / "frames")
    for picture in pictures:
        folder.write(picture, Fraction(0))
    files = sorted((tmp_path / "deep" / "frames").iterdir())
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    assert all(
        np.array_equal(read_image(file), picture) for file, picture in zip(files, pictures, strict=True)
    )
    with pytest.raises(UserError, match="already holds frames"):
        ImageFolder(tmp_path / "deep" / "frames")


@pytest.mark.parametrize("name", ["video.avi", "picture.png", "video.webm"])
def test_other_kinds_of_files_are_refused(name):
    with pytest.raises(UserError, match="no video this tool writes"):
        check_file_output(name)


def test_live_outputs_by_name(tmp_path):
    assert isinstance(open_live_output("none", 64, 64, 30), Nowhere)
    assert isinstance(open_live_output(str(tmp_path / "frames"), 64, 64, 30), ImageFolder)
    video = open_live_output(str(tmp_path / "video.mp4"), 64, 64, 29.97)
    assert isinstance(video, VideoFile)
    video.close()


def test_no_display_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for display in ("", ":87", "nowhere.invalid:0"):
        monkeypatch.setenv("DISPLAY", display)
        with pytest.raises(UserError, match="No window can be opened"):
            Window(64, 64, lambda picture, overlay: None)
