"""Clips and folders, frame by frame; playback and capture for the live loop."""

from __future__ import annotations

import struct
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from media import gradient, red_picture, write_clip, write_picture

from livepuppet.core import threads
from livepuppet.core.errors import UserError
from livepuppet.core.names import shown
from livepuppet.core.video import Clip, Frame, ImageSequence, open_video
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.playback import Playback


def test_a_clip_gives_every_frame_in_order_at_its_time(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", [red_picture(level) for level in range(0, 200, 10)])
    clip = open_video(path)
    frames = list(clip)
    assert clip.broken is None and clip.rate == 25 and clip.length == 20
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(20)]
    reds = [frame.image[..., 0].mean() for frame in frames]
    assert reds == pytest.approx(range(0, 200, 10), abs=4)
    assert all(frame.image.dtype == np.uint8 and frame.image.shape == (64, 64, 3) for frame in frames)
    assert frames[0].captured <= frames[-1].captured <= time.perf_counter()


def test_uneven_times_and_a_late_start_are_kept(tmp_path):
    times = [Fraction(0), Fraction(1, 10), Fraction(1, 2), Fraction(3, 5)]
    path = write_clip(tmp_path / "clip.mkv", [red_picture(50)] * 4, times, seconds_before=Fraction(2))
    clip = open_video(path)
    assert [frame.time for frame in clip] == times
    assert clip.start == 2


def test_gif_with_transparency(tmp_path, shared):
    # OpenCV and PyAV write no animated GIF with alpha, so this one is spelled out: 2x1 pixels, red and transparent.
    header = b"GIF89a" + struct.pack("<HHBBB", 2, 1, 0x80, 0, 0) + bytes([255, 0, 0, 0, 0, 0])
    frame = (
        b"\x21\xf9\x04\x01\x0a\x00\x01\x00"
        + b"\x2c"
        + struct.pack("<HHHHB", 0, 0, 2, 1, 0)
        + b"\x02\x02\x44\x0a\x00"
    )
    path = tmp_path / "clip.gif"
    path.write_bytes(header + frame + frame + b"\x3b")
    frames = list(open_video(path))
    assert len(frames) == 2
    assert frames[1].time == Fraction(1, 10)
    assert frames[0].image[0, 0].tolist() == [255, 0, 0]
    assert frames[0].image[0, 1].tolist() == [200, 200, 200]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_clip_that_breaks_off_gives_what_it_has_and_says_so(tmp_path, suffix):
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(50)]
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    path = write_clip(tmp_path / f"whole{suffix}", pictures, options=options)
    data = path.read_bytes()
    path = tmp_path / f"half{suffix}"
    path.write_bytes(data[: len(data) // 2])
    clip = open_video(path)
    frames = list(clip)
    assert 10 < len(frames) < 40
    assert str(path) in clip.broken and str(len(frames)) in clip.broken


def test_damage_in_the_middle_is_survived_and_said(tmp_path):
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(40)]
    path = write_clip(tmp_path / "clip.mp4", pictures)
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 30_000] = bytes(30_000)
    path.write_bytes(data)
    clip = open_video(path)
    assert 20 <= len(list(clip)) < 38
    assert "damaged packets" in clip.broken


@pytest.mark.parametrize("content", [b"", b"this is no video" * 100], ids=["empty", "text"])
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read as a video"):
        open_video(path)


def test_a_missing_video_is_named():
    with pytest.raises(UserError, match=r"There is no file nowhere\.mp4"):
        open_video("nowhere.mp4")


def test_a_folder_is_read_in_natural_order(tmp_path):
    for index in (1, 2, 10, 9):
        write_picture(tmp_path / f"frame{index}.png", red_picture(index * 20))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    clip = open_video(tmp_path, Fraction(10))
    frames = list(clip)
    assert [frame.image[0, 0, 0] for frame in frames] == [20, 40, 180, 200]
    assert [frame.time for frame in frames] == [Fraction(index, 10) for index in range(4)]
    assert isinstance(clip, ImageSequence) and clip.length == 4


def test_a_folder_with_a_bad_picture_ends_there(tmp_path):
    write_picture(tmp_path / "0.png", red_picture(1))
    (tmp_path / "1.png").write_bytes(b"damaged")
    write_picture(tmp_path / "2.png", red_picture(1))
    clip = open_video(tmp_path)
    assert len(list(clip)) == 1
    assert "1.png" in clip.broken


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no pictures"):
        open_video(tmp_path)


def test_real_clips_are_whole(shared):
    clip = Clip(shared / "clips" / "face01.mp4")
    assert len(list(clip)) == 78 == clip.length
    assert clip.broken is None


class Scripted:
    """A live source whose frames are released by hand."""

    name, rate = "scripted", 30.0

    def __init__(self, count: int, fail: Exception | None = None):
        self.count, self.fail, self.closed = count, fail, False
        self.go = threading.Semaphore(0)
        self.given = threading.Semaphore(0)

    def frames(self, stop):
        for index in range(self.count):
            while not self.go.acquire(timeout=0.02):
                if stop.is_set():
                    return
            yield Frame(np.full((2, 2, 3), index, np.uint8), Fraction(index, 30), time.perf_counter())
            self.given.release()
        if self.fail:
            raise self.fail

    def release(self, count: int):
        for _ in range(count):
            self.go.release()
            if not self.given.acquire(timeout=5):
                raise AssertionError("the capture thread stands still")

    def close(self):
        self.closed = True


def test_the_newest_frame_wins_and_drops_are_counted():
    source = Scripted(7)
    capture = Capture(source)
    source.release(4)
    assert capture.take(1).image[0, 0, 0] == 3
    assert capture.take(0.01) is None
    source.release(1)
    assert capture.take(1).image[0, 0, 0] == 4
    source.release(2)
    assert capture.take(1).image[0, 0, 0] == 6
    assert (capture.captured, capture.dropped) == (7, 4)
    assert capture.take(1) is None and capture.ended
    capture.close()
    assert source.closed


@pytest.mark.parametrize("leaves_out", [False, True])
def test_of_a_fast_camera_frames_can_be_left_out(leaves_out):
    class Leaving(Scripted):
        every = 1

        def frames(self, stop):
            for index, frame in enumerate(super().frames(stop)):
                yield None if index % self.every else frame

    source = Leaving(12) if leaves_out else Scripted(12)
    capture = Capture(source)
    capture.every = 2
    seen = []
    for _ in range(10):
        source.release(1)
        frame = capture.take(0.02)
        seen += [] if frame is None else [int(frame.image[0, 0, 0])]
    assert seen == [0, 2, 4, 6, 8] and (capture.captured, capture.dropped) == (5, 0)
    # It is as fast as it was.
    assert len(capture._times) == 10 and capture.measured_rate is not None
    capture.every = 1
    source.release(2)
    assert capture.take(1).image[0, 0, 0] == 11
    capture.close()


def test_a_failing_source_is_heard_after_its_last_frame():
    source = Scripted(1, UserError("The cable is out: plug it in."))
    capture = Capture(source)
    source.release(1)
    assert capture.take(1) is not None
    with pytest.raises(UserError, match="cable"):
        while not capture.ended:
            capture.take(1)
        capture.take(0)
    capture.close()


def test_a_stopped_capture_releases_its_source():
    source = Scripted(1000)
    capture = Capture(source)
    capture.close()
    assert source.closed


def test_a_capture_that_nobody_closed_ends_before_python_does(monkeypatch):
    class Endless:
        name, rate = "endless", 30.0

        def frames(self, stop):
            while not stop.wait(0.005):
                yield Frame(np.zeros((2, 2, 3), np.uint8), Fraction(0), 0.0)

        def close(self):
            pass

    monkeypatch.setattr(threads, "_running", {})
    capture = Capture(Endless())
    assert capture.take(10) is not None
    threads.end_threads()
    assert not capture._thread.is_alive()


def test_the_true_rate_is_measured_whatever_the_source_says():
    class Uneven:
        """Ten frames per second but for a pause, and never what `rate` says."""

        name, rate = "uneven", 30.0

        def frames(self, stop):
            for index in range(40):
                at = index / 10 + (5.0 if index > 20 else 0.0)
                yield Frame(np.zeros((2, 2, 3), np.uint8), Fraction(at), at)

        def close(self):
            pass

    capture = Capture(Uneven())
    while not capture.ended:
        capture.take(1)
    assert capture.measured_rate == pytest.approx(10)
    capture.close()


def test_there_is_no_rate_before_there_are_frames():
    source = Scripted(10)
    capture = Capture(source)
    source.release(3)
    assert capture.measured_rate is None and capture.trouble is None
    capture.close()


def test_silence_and_trouble_are_said_and_end(monkeypatch):
    monkeypatch.setattr("livepuppet.realtime.inputs.capture.SILENCE_SECONDS", 0.05)
    source = Scripted(10)
    capture = Capture(source)
    time.sleep(0.1)
    # A source that has nothing to say about silence is silent by right.
    assert capture.trouble is None
    source.silence = "Nothing comes: look."
    assert capture.trouble == "Nothing comes: look."
    source.trouble = "It is gone: plug it in."
    assert capture.trouble == "It is gone: plug it in."
    source.trouble = None
    monkeypatch.setattr("livepuppet.realtime.inputs.capture.SILENCE_SECONDS", 60.0)
    source.release(1)
    assert capture.trouble is None
    capture.close()


def test_a_driver_that_hangs_does_not_hang_the_end(monkeypatch):
    let_go = threading.Event()

    class Hanging(Scripted):
        def frames(self, stop):
            let_go.wait(20)
            yield from ()

    source = Hanging(0)
    capture = Capture(source)
    join = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", lambda thread, timeout=None: join(thread, 0.05))
    capture.close()
    # Released under a thread that still reads, a driver crashes.
    assert not source.closed
    let_go.set()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("rtsp://me:secret@10.0.0.5:554/live", "rtsp://me:...@10.0.0.5:554/live"),
        ("http://10.0.0.5/video", "http://10.0.0.5/video"),
        ("http://[broken", "http://[broken"),
        ("clip:a@b.mp4", "clip:a@b.mp4"),
    ],
)
def test_passwords_in_addresses_are_not_said(address, said):
    assert shown(address) == said


def test_playback_keeps_the_clips_pace(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", [red_picture(level) for level in range(10)])
    playback = Playback(str(path))
    began = time.perf_counter()
    frames = list(playback.frames(threading.Event()))
    seconds = time.perf_counter() - began
    playback.close()
    assert len(frames) == 10
    assert seconds >= 0.35
    for frame in frames:
        assert frame.captured - frames[0].captured >= float(frame.time) - 0.01


def test_playback_loops_with_growing_times(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", [red_picture(level) for level in range(3)], rate=50)
    playback = Playback(str(path), loop=True)
    stop, times = threading.Event(), []
    for frame in playback.frames(stop):
        times.append(frame.time)
        if len(times) == 7:
            stop.set()
    playback.close()
    assert times == [Fraction(index, 50) for index in range(7)]


def test_playback_of_a_broken_clip_raises_at_its_end(tmp_path):
    random = np.random.default_rng(0)
    path = write_clip(
        tmp_path / "clip.mp4",
        [random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(20)],
        rate=100,
        options={"movflags": "faststart"},
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    playback = Playback(str(path))
    frames = []
    with pytest.raises(UserError, match="damaged or incomplete"):
        for frame in playback.frames(threading.Event()):
            frames.append(frame)
    assert frames
    playback.close()


def test_gradient_helper_is_not_symmetric():
    # The turning tests rest on this.
    assert not np.array_equal(gradient(8, 8), gradient(8, 8).transpose(1, 0, 2))
