"""Recordings: the badge and the tags that say what they are, the sound in its place, and what a crash leaves."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from media import gradient, read_clip, read_sound, red_picture, write_clip

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.live_outputs import open_live_output
from livepuppet.realtime.outputs import microphone as microphone_module
from livepuppet.realtime.outputs.badge import SOURCE_TYPE, Badge
from livepuppet.realtime.outputs.folder import ImageFolder
from livepuppet.realtime.outputs.live_sound import FileSound, LiveSound, open_sound
from livepuppet.realtime.outputs.microphone import Microphone
from livepuppet.realtime.outputs.sound import Soundtrack
from livepuppet.realtime.outputs.video import VideoFile

RATE = 48_000


def plain(level, height=360, width=640):
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_the_badge_is_small_legible_and_in_the_corner(level):
    picture = plain(level)
    badge = Badge(640, 360)
    badge.draw(picture)
    rows, columns = badge.box
    changed = np.argwhere((picture != level).any(axis=2))
    assert changed[:, 0].min() >= rows.start > 320 and changed[:, 0].max() < rows.stop <= 360
    assert changed[:, 1].min() >= columns.start > 480 and changed[:, 1].max() < columns.stop <= 640
    inside = picture[rows, columns, 0].astype(int)
    # White words on a panel at least 130 levels darker, on any ground.
    assert inside.max() >= 240 and np.percentile(inside, 25) <= 110


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (48, 64), (1920, 1080), (720, 1280)])
def test_the_badge_fits_any_picture(size):
    width, height = size
    picture = plain(100, height, width)
    Badge(width, height).draw(picture)
    assert (picture != 100).any() and picture.shape == (height, width, 3)


def test_the_badge_makes_a_transparent_picture_opaque_where_it_lies():
    picture = np.zeros((360, 640, 4), np.uint8)
    Badge(640, 360).draw(picture)
    assert picture[..., 3].max() >= 250 and picture[:300, :, 3].max() == 0


def recording(path, count=10, picture=None, **options):
    picture = plain(90) if picture is None else picture
    video = VideoFile(path, picture.shape[1], picture.shape[0], Fraction(10), live=True, **options)
    before = picture.copy()
    for index in range(count):
        video.write(picture, Fraction(index, 10))
    video.close()
    # It is the recording's badge alone.
    assert np.array_equal(picture, before)
    return path


def test_recordings_say_that_they_are_synthetic(tmp_path):
    path = recording(tmp_path / "video.mp4", synthetic=True)
    pictures, _ = read_clip(path)
    drawn = plain(90)
    Badge(640, 360).draw(drawn)
    assert np.abs(pictures[5].astype(int) - drawn).mean() < 1.5
    box = Badge(640, 360).box
    assert np.abs(pictures[5][box].astype(int) - drawn[box]).mean() < 6 and pictures[5][box].max() > 220
    with av.open(str(path)) as container:
        assert "ynthetic" in container.metadata["title"] and "ynthetic" in container.metadata["comment"]
    data = path.read_bytes()
    assert SOURCE_TYPE.encode() in data and b"Iptc4xmpExt:DigitalSourceType" in data
    # Still a whole MP4 of whole boxes, the last of which is the XMP.
    place, names = 0, []
    while place < len(data):
        names.append(data[place + 4 : place + 8])
        place += int.from_bytes(data[place : place + 4], "big")
    assert place == len(data) and names[-1] == b"uuid" and names.index(b"moov") < names.index(b"mdat")


def test_one_flag_turns_that_off(tmp_path):
    path = recording(tmp_path / "video.mp4", synthetic=False)
    assert np.abs(read_clip(path)[0][5].astype(int) - 90).max() <= 2
    with av.open(str(path)) as container:
        assert "title" not in container.metadata
    assert b"Iptc4xmpExt" not in path.read_bytes()


def test_on_by_default_live_and_off_for_files_made_offline(tmp_path):
    picture = plain(90)
    for name, options, badge in [("on", {}, True), ("off", {"synthetic": False}, False)]:
        output = open_live_output(str(tmp_path / f"{name}.mp4"), 640, 360, 10, **options)
        output.write(picture, Fraction(0))
        output.close()
        folder = open_live_output(str(tmp_path / name), 640, 360, 10, **options)
        folder.write(picture, Fraction(0))
        folder.close()
        for result in (
            read_clip(tmp_path / f"{name}.mp4")[0][0],
            cv2.imread(str(tmp_path / name / "000000.png")),
        ):
            assert (result.max() > 200) == badge
    ImageFolder(tmp_path / "plain").write(picture, Fraction(0))
    assert np.array_equal(cv2.imread(str(tmp_path / "plain" / "000000.png")), picture)


def test_pngs_carry_the_tags_and_their_alpha(tmp_path):
    from PIL import Image

    picture = np.dstack([gradient(360, 640), np.full((360, 640), 77, np.uint8)])
    ImageFolder(tmp_path / "frames", synthetic=True).write(picture, Fraction(0))
    with Image.open(tmp_path / "frames" / "000000.png") as image:
        image.load()
        assert "ynthetic" in image.text["Comment"] and SOURCE_TYPE in image.text["XML:com.adobe.xmp"]
        assert np.array_equal(np.asarray(image)[:320], picture[:320])


def tone(seconds, rate=RATE):
    return (np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate) * 0.5).astype(np.float32)


class Script:
    """A feed of given pieces: (perf_counter time, samples)."""

    channels, rate = 1, RATE

    def __init__(self, pieces):
        self.pieces, self.closed = list(pieces), False

    def read(self, until):
        ready = [piece for piece in self.pieces if piece[0] < until]
        self.pieces = self.pieces[len(ready) :]
        return ready

    def close(self):
        self.closed = True


def sounding(path, feed, seconds, begin=1000.0, rate=10):
    """A recording with that feed, whose time 0 is `begin`; its sound as samples from time 0 on, of `RATE`."""
    video = VideoFile(path, 64, 64, Fraction(rate), live=True, sound=LiveSound(feed))
    video.begins(begin)
    for index in range(round(seconds * rate)):
        video.write(red_picture(index % 200), Fraction(index, rate), Fraction(1, rate))
    video.close()
    name, samples, found, at = read_sound(path)
    assert name == "aac" and found == feed.rate
    return np.concatenate(
        [np.zeros(max(0, round(at * found)), np.float32), samples[max(0, -round(at * found)) :]]
    )


def loud(samples, rate=RATE, window=480):
    """Where it sounds, in seconds: the first and last loud window."""
    level = np.sqrt((samples[: len(samples) // window * window].reshape(-1, window) ** 2).mean(axis=1))
    where = np.flatnonzero(level > 0.1)
    return (where[0] * window / rate, (where[-1] + 1) * window / rate) if len(where) else None


def pieces_of(samples, at, size=1024):
    return [
        (at + start / RATE, samples[None, start : start + size]) for start in range(0, len(samples), size)
    ]


def test_sound_is_heard_when_its_pictures_are_seen(tmp_path):
    # A beep from 1.5 to 2.0 seconds after the first picture; the device was open a second before.
    quiet = np.zeros(round(2.5 * RATE), np.float32)
    heard = np.concatenate([quiet, tone(0.5), quiet])
    feed = Script(pieces_of(heard, 999.0))
    samples = sounding(tmp_path / "video.mp4", feed, 3)
    assert loud(samples) == pytest.approx((1.5, 2.0), abs=0.03)
    assert len(samples) / RATE == pytest.approx(3.0, abs=0.1)
    assert feed.closed


def test_a_feed_is_released_where_no_recording_can_be_made(tmp_path):
    feed = Script([])
    with pytest.raises(UserError, match="does not exist"):
        open_live_output(str(tmp_path / "nowhere" / "video.mp4"), 64, 64, 30, sound=feed)
    assert feed.closed


def test_a_gap_in_the_sound_moves_nothing(tmp_path):
    heard = pieces_of(tone(0.5), 1000.0) + pieces_of(tone(0.5), 1002.0)
    samples = sounding(tmp_path / "video.mp4", Script(heard), 3)
    assert loud(samples[: round(1.0 * RATE)]) == pytest.approx((0.0, 0.5), abs=0.03)
    assert loud(samples[round(1.0 * RATE) :]) == pytest.approx((1.0, 1.5), abs=0.03)


@pytest.mark.parametrize("speed", [0.995, 1.005])
def test_a_sound_card_that_runs_fast_or_slow_stays_in_time(tmp_path, speed):
    # At half a percent, 20 seconds would be off by a tenth of a second.
    heard = np.concatenate([np.zeros(round(19 * RATE * speed), np.float32), tone(0.5)])
    pieces = [
        (1000 + start / RATE / speed, heard[None, start : start + 1024])
        for start in range(0, len(heard), 1024)
    ]
    samples = sounding(tmp_path / "video.mp4", Script(pieces), 20, rate=5)
    assert loud(samples)[0] == pytest.approx(19.0, abs=0.05)


def test_a_microphone_that_delivers_nothing_does_not_hold_back_the_pictures(tmp_path):
    samples = sounding(tmp_path / "video.mp4", Script([]), 2)
    assert loud(samples) is None and len(samples) / RATE == pytest.approx(2.0, abs=0.1)
    assert len(read_clip(tmp_path / "video.mp4")[0]) == 20


class FakeSounddevice:
    """What `Microphone` uses of sounddevice."""

    class PortAudioError(Exception):
        pass

    def __init__(self, fail=None):
        self.fail = fail

    def InputStream(self, callback, **options):
        if self.fail:
            raise self.PortAudioError(self.fail)
        self.callback, self.options, self.closed = callback, options, False
        return SimpleNamespace(latency=0.03, start=lambda: None, close=lambda: setattr(self, "closed", True))

    def hear(self, level, age):
        times = SimpleNamespace(currentTime=50.0, inputBufferAdcTime=50.0 - age if age is not None else 0.0)
        buffer = np.full((1024, 1), level, np.float32)
        self.callback(buffer, 1024, times, None)
        # PortAudio uses its buffer again.
        buffer[:] = 9


def test_a_microphone_knows_when_it_heard(monkeypatch):
    device = FakeSounddevice()
    monkeypatch.setattr(microphone_module, "_sounddevice", lambda: device)
    clock = SimpleNamespace(perf_counter=lambda: 200.0)
    monkeypatch.setattr(microphone_module, "time", clock)
    microphone = Microphone("2")
    assert device.options["device"] == 2 and device.options["channels"] == 1
    device.hear(0.25, age=0.04)
    device.hear(0.5, age=None)
    (first, samples), (second, others) = microphone.read(201.0)
    # Where the system does not tell, the stream's own latency counts.
    assert (first, second) == pytest.approx((199.96, 199.97))
    assert samples.shape == (1, 1024) and samples.max() == 0.25 and others.max() == 0.5
    assert microphone.read(201.0) == []
    device.hear(0.5, age=0.04)
    assert microphone.read(199.0) == []
    microphone.close()
    assert device.closed


def test_a_microphone_that_is_missing_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(microphone_module, "_sounddevice", lambda: FakeSounddevice("Invalid device"))
    with pytest.raises(UserError, match=r"The default microphone cannot be opened \(Invalid device\)"):
        open_sound("microphone", "0")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"pip install 'livepuppet\[sound\]'"):
        open_sound("microphone:USB", "0")


def test_what_sound_there_is(tmp_path):
    mute = write_clip(tmp_path / "mute.mp4", [red_picture(0)] * 5)
    assert open_sound("none", str(mute)) is None and open_sound("auto", "0") is None
    assert open_sound("auto", str(mute)) is None and open_sound("auto", "rtsp://127.0.0.1:1/x") is None
    with pytest.raises(UserError, match="no sound"):
        FileSound(str(mute))
    with pytest.raises(UserError, match="give auto, none, microphone"):
        open_sound("radio", str(mute))
    clip = write_clip(tmp_path / "clip.mp4", [red_picture(0)] * 25, sound="aac")
    feed = open_sound("auto", str(clip))
    assert isinstance(feed, FileSound) and (feed.rate, feed.channels) == (44_100, 1)
    feed.close()


def driven(path, feed, first, seconds, begin=1000.0):
    """A recording of `seconds`, driven by a file whose picture at `first` seconds was the recording's first."""
    video = VideoFile(path, 64, 64, Fraction(10), live=True, sound=LiveSound(feed))
    for index in range(round(seconds * 10)):
        position = first + Fraction(index, 10)
        # Reading a picture takes its time.
        feed.played(position, begin + index / 10 + 0.003 * (index % 4))
        if not index:
            video.begins(begin)
        video.write(red_picture(index % 200), Fraction(index, 10), Fraction(1, 10))
    video.close()
    _, samples, rate, at = read_sound(path)
    return np.concatenate(
        [np.zeros(max(0, round(at * rate)), np.float32), samples[max(0, -round(at * rate)) :]]
    ), rate


def beeping_clip(path, seconds, beep, late=Fraction(0), codec="aac"):
    """A clip of `seconds` whose sound is silent but for a beep from `beep` to `beep` + 0.2 seconds."""
    clip = write_clip(path.with_name("quiet.mkv"), [red_picture(0)] * (25 * seconds), seconds_before=late)
    samples = np.zeros(round(seconds * 44_100), np.float32)
    start = round(beep * 44_100)
    samples[start : start + round(0.2 * 44_100)] = tone(0.2, 44_100)
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        audio = target.add_stream(codec, rate=44_100, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        for begin in range(0, len(samples), 4410):
            frame = av.AudioFrame.from_ndarray(
                samples[None, begin : begin + 4410], format="flt", layout="mono"
            )
            frame.rate, frame.time_base = 44_100, Fraction(1, 44_100)
            frame.pts = begin + round(late * 44_100)
            target.mux(audio.encode(frame))
        target.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("late", [Fraction(0), Fraction(3, 2)], ids=["from 0", "late clock"])
def test_a_driving_files_sound_goes_with_its_pictures(tmp_path, late):
    clip = beeping_clip(tmp_path / "clip.mkv", 3, beep=1.2, late=late)
    # The face was found half a second into the clip.
    samples, rate = driven(tmp_path / "video.mp4", FileSound(str(clip)), Fraction(1, 2), 2.0)
    assert loud(samples, rate, 441) == pytest.approx((0.7, 0.9), abs=0.04)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_looped_files_sound_begins_anew_with_its_pictures(tmp_path, suffix):
    clip = beeping_clip(tmp_path / f"clip{suffix}", 1, beep=0.4)
    samples, rate = driven(tmp_path / "video.mp4", FileSound(str(clip), loop=True), Fraction(0), 4.0)
    for round_ in range(4):
        part = samples[round_ * rate : (round_ + 1) * rate]
        assert loud(part, rate, 441) == pytest.approx((0.4, 0.6), abs=0.04)
    once, _ = driven(tmp_path / "once.mp4", FileSound(str(clip)), Fraction(0), 3.0)
    assert loud(once[rate:], rate, 441) is None


RECORDER = """
import sys, time
from fractions import Fraction
import numpy as np
from livepuppet.realtime.app.live_outputs import open_live_output
from livepuppet.realtime.outputs.fanout import Fanout
from livepuppet.realtime.outputs.pool import FramePool

class Hum:
    rate, channels, position = 48000, 1, 0
    def read(self, until):
        count = int(until * 48000) - self.position
        at, self.position = self.position / 48000, self.position + max(0, count)
        return [(at, np.full((1, count), 0.1, np.float32))] if count > 0 else []
    def close(self): pass

path, limit, rate, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
pool, random = FramePool((64, 64, 3)), np.random.default_rng(0)
fanout = Fanout([open_live_output(path, 64, 64, rate, sound=Hum())], lambda text: print(text + "\\n", end="", flush=True))
for index in range(1000):
    lease = pool.take()
    lease.picture[:] = random.integers(0, 255, (64, 64, 3))
    fanout.submit(lease, Fraction(index, rate), index / rate)
    lease.release()
    print(f"at {index}\\n", end="", flush=True)  # one write: two threads print
    # Wait for the recorder: what is tested is not how fast it is.
    while fanout.states()[0].written + fanout.states()[0].lost + fanout.states()[0].failures <= index:
        time.sleep(0.0005)
    time.sleep(step)
fanout.close()
"""


def test_killed_in_the_middle_a_recording_plays_with_its_sound(tmp_path):
    path = tmp_path / "video.mp4"
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(path), "0", "10", "0.002"], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.strip() == "at 120":
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    pictures, times = read_clip(path)
    # 12 seconds, of which the fragment in hand may be lost.
    assert 90 <= len(pictures) <= 130 and times[80] == 8
    _, samples, rate, _ = read_sound(path)
    assert len(samples) / rate == pytest.approx(float(times[-1]), abs=1.5)
    with av.open(str(path)) as container:
        assert "ynthetic" in container.metadata["comment"]


def test_a_slow_computers_recording_loses_no_more_seconds(tmp_path):
    # Announced as 60 a second, coming as 5 a second: fragments go by the clock.
    path = tmp_path / "video.mp4"
    script = f"""
import os, numpy as np
from fractions import Fraction
from livepuppet.realtime.outputs.video import VideoFile
video = VideoFile({str(path)!r}, 64, 64, Fraction(60), live=True)
for index in range(50):
    video.write(np.full((64, 64, 3), index, np.uint8), Fraction(index, 5))
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert read_clip(path)[1][-1] >= 7


def test_a_full_disk_is_said_once_and_leaves_what_was_written(tmp_path):
    path = tmp_path / "video.mp4"
    # A limit on file sizes fails like a full disk, without needing one.
    result = subprocess.run(
        [sys.executable, "-c", RECORDER, str(path), "600000", "10", "0"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stdout.splitlines() if not line.startswith("at ")]
    assert len(said) == 1 and "cannot be written any further" in said[0] and "plays" in said[0]
    assert "at 999" in result.stdout
    pictures, _ = read_clip(path)
    assert len(pictures) >= 20 and read_sound(path)[1].size > RATE


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a small file system to fill")
def test_a_disk_that_is_really_full(tmp_path):
    """A mount of its own, where that is allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)], capture_output=True
        ).returncode
    ):
        pytest.skip("no file system may be mounted here")
    try:
        path = place / "video.mp4"
        result = subprocess.run(
            [sys.executable, "-c", RECORDER, str(path), "0", "10", "0"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        assert "No space left" in result.stdout and result.stdout.count("cannot be written any further") == 1
        assert len(read_clip(path)[0]) >= 20
    finally:
        for _ in range(20):
            if not subprocess.run(["umount", str(place)], capture_output=True).returncode:
                break
            time.sleep(0.1)


def float_wav(path, samples):
    """`samples` float32 (channels, N) as WAV (IEEE float), at 16 kHz."""
    channels = len(samples)
    body = np.ascontiguousarray(samples.T, "<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, channels, 16_000, 16_000 * 4 * channels, 4 * channels, 32)
    head = b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt " + struct.pack("<I", 16) + form
    path.write_bytes(head + b"data" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize("kind", ["nan", "infinite", "huge", "48 channels"])
def test_sound_that_encoders_refuse_is_mended_and_nothing_is_lost(tmp_path, kind):
    wave = 0.5 * np.sin(np.arange(16_000) / 6, dtype=np.float32)[None]
    wave = np.repeat(wave, 48, axis=0) if kind == "48 channels" else wave
    wave[:, 4000:4100] = {"nan": np.nan, "infinite": -np.inf, "huge": 1e30}.get(kind, 0.1)
    path = float_wav(tmp_path / "sound.wav", wave)
    written = tmp_path / "written.mp4"
    with av.open(str(written), "w") as target:
        track = Soundtrack(str(path), Fraction(0))
        track.join(target)
        track.finish(Fraction(1))
        track.close()
    with av.open(str(written)) as found:
        heard = np.concatenate([frame.to_ndarray() for frame in found.decode(audio=0)], axis=1)
    assert heard.shape[1] >= 15_000 and np.isfinite(heard).all()
    assert 0.3 < np.abs(heard[:, 8000:14_000]).max() < 0.7

    feed = FileSound(str(path))
    feed.played(Fraction(0), 0.0)
    played = np.concatenate([samples for _, samples in feed.read(2.0)], axis=1)
    feed.close()
    assert played.shape[1] >= 15_900 and np.isfinite(played).all() and np.abs(played).max() <= 1
    assert 0.3 < np.abs(played[:, 8000:14_000]).max() < 0.7
