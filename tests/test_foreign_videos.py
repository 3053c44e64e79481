"""Videos as phones, trims, joins and muxers leave them: turned, cut by an edit list, with a clock that starts anew, with
covers and several sounds, in high dynamic range.
"""

from __future__ import annotations

import io
import struct
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from media import read_clip, read_sound, red_picture, write_clip
from PIL import Image
from test_avatars import STORED
from test_outputs_recording import beeping_clip, driven, loud
from test_stills import assert_is_the_chart, chart

from livepuppet.core import video as video_module
from livepuppet.core.errors import UserError
from livepuppet.core.frames import FrameConverter, tone_down
from livepuppet.core.video import open_video
from livepuppet.realtime.inputs.playback import Playback
from livepuppet.realtime.outputs.live_sound import FileSound
from livepuppet.realtime.outputs.sound import Soundtrack
from livepuppet.realtime.outputs.video import VideoFile
from livepuppet.train.data.reading import open_clip, read_frames

# Display matrices

#: a, b, c, d of the track header, for the number that EXIF gives the same turn.
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def with_matrix(path: Path, matrix: tuple[float, float, float, float]) -> Path:
    """Write a matrix into the track header of an MP4."""
    data = bytearray(path.read_bytes())
    # a, b, u, c, d, v, x, y, w, of which u, v, w are in 2.30.
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (round(number * 65536) for number in matrix)
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_display_matrices(tmp_path, orientation):
    stored = np.ascontiguousarray(STORED[orientation](chart()))
    path = with_matrix(write_clip(tmp_path / "clip.mp4", [stored] * 3), MATRICES[orientation])
    frames = list(open_video(path))
    assert len(frames) == 3
    for frame in frames:
        assert_is_the_chart(frame.image)


@pytest.mark.parametrize(
    ("matrix", "orientation"),
    [((0, 0, 0, 0), 1), ((0.96, 0.28, -0.28, 0.96), 1), ((0.05, 1, -1, 0.05), 6), ((-0.9, 0.1, 0.1, 0.9), 2)],
    ids=["that says nothing", "nearly upright", "nearly on its side", "nearly mirrored"],
)
def test_a_matrix_is_taken_for_the_nearest_of_the_eight(tmp_path, matrix, orientation):
    stored = np.ascontiguousarray(STORED[orientation](chart()))
    path = with_matrix(write_clip(tmp_path / "clip.mp4", [stored] * 2), matrix)
    assert_is_the_chart(next(iter(open_video(path))).image)


# Trims


def trimmed(path: Path, first: int, seconds: float) -> Path:
    """Write an edit list into an MP4 of 25 pictures a second: only from picture `first`, for `seconds`."""
    data = bytearray(path.read_bytes())
    (movie_ticks,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    for place in (k for k in range(len(data)) if data.startswith(b"elst", k)):
        version, count, *_ = struct.unpack_from(">II", data, place + 4)
        assert (version, count) == (0, 1)
        base = data.index(b"mdhd", place) + 16
        (ticks,) = struct.unpack_from(">I", data, base)
        (begins,) = struct.unpack_from(">i", data, place + 16)
        struct.pack_into(
            ">Ii", data, place + 12, round(seconds * movie_ticks), begins + round(Fraction(first, 25) * ticks)
        )
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("sound", [None, "aac"])
def test_a_trimmed_clip_is_whole(tmp_path, sound):
    path = write_clip(tmp_path / "clip.mp4", [red_picture(5 * k) for k in range(40)], sound=sound)
    trimmed(path, 13, 1.1)
    clip = open_video(path)
    frames = list(clip)
    assert clip.broken is None and clip.count() == clip.length == len(frames) == 27
    assert [frame.time for frame in frames] == [Fraction(k, 25) for k in range(27)]
    assert [frame.image[..., 0].mean() for frame in frames] == pytest.approx(range(65, 200, 5), abs=4)
    data_set = open_clip(path)
    assert data_set.length == 27 and read_frames(data_set)[0, ..., 0].mean() == pytest.approx(65, abs=4)


def test_a_trimmed_clip_plays_again_and_again(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", [red_picture(20 * k) for k in range(12)], rate=100)
    trimmed(path, 1, 0.08)
    playback, stop, times = Playback(str(path), loop=True), threading.Event(), []
    for frame in playback.frames(stop):
        times.append(frame.time)
        if len(times) == 25:
            stop.set()
    playback.close()
    assert times == [Fraction(k, 100) for k in range(25)]


def test_a_looped_trims_sound_stays_with_its_pictures(tmp_path):
    path = trimmed(beeping_clip(tmp_path / "clip.mp4", 2, beep=0.8), 13, 1.1)
    sound = FileSound(str(path), loop=True)
    clip = open_video(path)
    *_, last = clip
    # A round is as long as its pictures.
    assert sound._length == pytest.approx(float(last.time + last.duration), abs=1e-6)
    sound.close()


# A clock that starts anew


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_nothing_is_lost_at_the_end_where_the_sound_is_the_first_stream(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        # Frames that the decoder holds back until the end of the file.
        video = container.add_stream("libx264", rate=25, options={"bf": "2"})
        video.width = video.height = 64
        for number in range(30):
            picture = av.VideoFrame.from_ndarray(red_picture(8 * number), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            container.mux(video.encode(picture))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.float32), "fltp", "mono")
            sound.rate, sound.pts, sound.time_base = 48_000, 1920 * number, Fraction(1, 48_000)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    with open_video(path) as clip:
        assert len(list(clip)) == 30 and clip.broken is None


def test_an_animated_avif_plays(tmp_path):
    # Its first stream is a still picture.
    path = tmp_path / "picture.avif"
    levels = [0, 100, 200]
    first, *others = [Image.fromarray(red_picture(level)) for level in levels]
    first.save(path, save_all=True, append_images=others, duration=100, speed=10)
    with open_video(path) as clip:
        frames = list(clip)
        assert clip.broken is None
    assert [frame.time for frame in frames] == [0, Fraction(1, 10), Fraction(1, 5)]
    assert [
        abs(int(frame.image[20, 20, 0]) - level) < 20 for frame, level in zip(frames, levels, strict=True)
    ] == [True] * 3


def test_two_recordings_joined_take_as_long_as_both(tmp_path):
    path = write_clip(tmp_path / "one.ts", [red_picture(5 * k) for k in range(40)])
    clip = open_video(joined(tmp_path / "clip.ts", path, path))
    frames = list(clip)
    assert [frame.time for frame in frames] == [Fraction(k, 25) for k in range(80)] and clip.broken is None
    reds = [frame.image[..., 0].mean() for frame in frames]
    assert reds == pytest.approx([*range(0, 200, 5)] * 2, abs=4)


@pytest.mark.parametrize(
    "second", [Fraction(0), Fraction(1), Fraction(4000), Fraction(95_443) + Fraction(1, 2)]
)
def test_jumps_in_time_neither_squeeze_nor_stretch(tmp_path, second):
    # The clock of MPEG-TS has 33 bits, and wraps after 95,443.7 seconds.
    parts = [
        write_clip(tmp_path / f"{k}.ts", [red_picture(5 * n) for n in range(25)], seconds_before=before)
        for k, before in enumerate((Fraction(2), second, Fraction(50)))
    ]
    clip = open_video(joined(tmp_path / "clip.ts", *parts))
    times = [frame.time for frame in clip]
    assert len(times) == 75 and clip.broken is None
    steps = np.diff([float(time) for time in times])
    assert steps.min() == pytest.approx(0.04, abs=0.001) and steps.max() <= 0.13


def test_joined_recordings_keep_picture_and_sound_together(tmp_path):
    one = beeping_clip(tmp_path / "one.ts", 2, beep=1.2, codec="mp2")
    other = beeping_clip(tmp_path / "other.ts", 2, beep=0.6, codec="mp2")
    path = joined(tmp_path / "clip.ts", one, other)
    clip = open_video(path)
    frames = list(clip)
    seam = float(frames[50].time)
    assert len(frames) == 100 and 2 <= seam < 2.2
    # As `animate` carries it over.
    made = VideoFile(
        tmp_path / "made.mp4", 64, 64, clip.rate, clip.time_base, sound=Soundtrack(str(path), clip.start)
    )
    for frame in frames:
        made.write(frame.image, frame.time, frame.duration)
    made.close()
    assert read_clip(tmp_path / "made.mp4")[1][-1] == pytest.approx(float(frames[-1].time), abs=0.01)
    _, samples, rate, at = read_sound(tmp_path / "made.mp4")
    cut = round((2 - at) * rate)
    assert loud(samples[:cut], rate, 441) == pytest.approx((1.2 - at, 1.4 - at), abs=0.05)
    begin, end = loud(samples[cut:], rate, 441)
    assert (begin + 2, end + 2) == pytest.approx((seam + 0.6, seam + 0.8), abs=0.06)
    # As a live recording has it.
    samples, rate = driven(tmp_path / "live.mp4", FileSound(str(path)), Fraction(0), 4.0)
    assert loud(samples[: 2 * rate], rate, 441) == pytest.approx((1.2, 1.4), abs=0.05)
    begin, end = loud(samples[2 * rate :], rate, 441)
    assert (begin + 2, end + 2) == pytest.approx((seam + 0.6, seam + 0.8), abs=0.06)


def test_without_any_stamps_the_rate_counts(tmp_path):
    path = tmp_path / "clip.h264"
    write_clip(path, [red_picture(5 * k) for k in range(20)])
    times = [frame.time for frame in open_video(path)]
    assert len(times) == 20
    assert np.diff([float(time) for time in times]) == pytest.approx([0.04] * 19, abs=0.001)


# Covers, previews and several sounds


def write_song(path: Path, **options) -> Path:
    """Sound and a cover, and no moving picture."""
    cover = io.BytesIO()
    Image.fromarray(chart()).save(cover, "JPEG")
    with av.open(str(path), "w", **options) as container:
        audio = container.add_stream("aac", rate=44_100, layout="mono")
        picture = None
        if path.suffix == ".mkv":
            container.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
        else:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 96, 144, "yuvj420p"
            picture.disposition = Disposition.attached_pic
        container.start_encoding()
        if picture is not None:
            packet = av.Packet(cover.getvalue())
            packet.stream, packet.pts, packet.dts = picture, 0, 0
            container.mux(packet)
        for begin in range(0, 44_100, 4410):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), format="flt", layout="mono")
            frame.rate, frame.time_base, frame.pts = 44_100, Fraction(1, 44_100), begin
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("name", ["song.m4a", "song.mkv"])
def test_a_cover_is_no_clip(tmp_path, name):
    path = write_song(tmp_path / name, **({"format": "mp4"} if name.endswith("m4a") else {}))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(UserError, match="has no moving picture"):
        open_video(path)


def test_a_cover_before_the_clip_is_passed_over(tmp_path):
    path = tmp_path / "clip.mp4"
    clip = write_clip(tmp_path / "plain.mp4", [red_picture(10 * k) for k in range(10)])
    cover = io.BytesIO()
    Image.fromarray(chart()).save(cover, "JPEG")
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        picture = target.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = 96, 144, "yuvj420p"
        picture.disposition = Disposition.attached_pic
        moving = target.add_stream_from_template(source.streams.video[0])
        target.start_encoding()
        packet = av.Packet(cover.getvalue())
        packet.stream, packet.pts, packet.dts = picture, 0, 0
        target.mux(packet)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = moving
                target.mux(packet)
    with open_video(path) as video:
        assert (video.width, video.height) == (64, 64) and len(list(video)) == 10
    assert open_clip(path).length == 10


def test_the_sound_that_players_play_is_taken(tmp_path):
    path = tmp_path / "clip.mkv"
    clip = write_clip(tmp_path / "quiet.mkv", [red_picture(0)] * 50)
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        tracks = [target.add_stream("pcm_s16le", rate=48_000, layout="mono") for _ in range(2)]
        tracks[0].disposition, tracks[1].disposition = Disposition(0), Disposition.default
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        for number, track in enumerate(tracks):
            frame = av.AudioFrame.from_ndarray(
                np.full((1, 96_000), number * 9000, np.int16), format="s16", layout="mono"
            )
            frame.rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), 0
            target.mux(track.encode(frame))
    samples, rate = driven(tmp_path / "live.mp4", FileSound(str(path)), Fraction(0), 1.5)
    assert np.abs(samples[rate // 2 : rate]).mean() > 0.2
    made = VideoFile(tmp_path / "made.mp4", 64, 64, Fraction(25), sound=Soundtrack(str(path), Fraction(0)))
    for frame in open_video(path):
        made.write(frame.image, frame.time, frame.duration)
    made.close()
    assert np.abs(read_sound(tmp_path / "made.mp4")[1][24_000:48_000]).mean() > 0.2


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_titles_in_any_encoding_are_survived(tmp_path, suffix):
    path = write_clip(tmp_path / f"clip{suffix}", [red_picture(5 * k) for k in range(10)], sound="aac")
    data = path.read_bytes()
    # FFmpeg's own name stands in each file; here it is in Latin-1.
    assert data.count(b"Lavf") >= 1
    path.write_bytes(data.replace(b"Lavf", b"L\xe4vf"))
    with open_video(path) as video:
        assert len(list(video)) == 10 and video.broken is None
    Soundtrack(str(path), Fraction(0)).close()
    FileSound(str(path)).close()


# Light and colour


def pq(light: np.ndarray) -> np.ndarray:
    """Coded values of light in cd/m2 (SMPTE ST 2084)."""
    power = (light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light: np.ndarray) -> np.ndarray:
    """Coded values (..., 3) of a display's light of at most 1000 cd/m2 (ARIB STD-B67), in BT.2020."""
    display = light / 1000
    luminance = (display @ [0.2627, 0.6780, 0.0593])[..., None]
    scene = display * np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


#: Linear BT.709 to BT.2020 (ITU-R BT.2087).
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def hdr_frame(srgb: np.ndarray, transfer: int) -> av.VideoFrame:
    """An HDR frame of 10 bits that shows uint8 sRGB (H, W, 3) with white at 203 cd/m2."""
    value = srgb / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ TO_2020.T * 203
    red, green, blue = np.moveaxis(pq(light) if transfer == 16 else hlg(light), -1, 0)
    # By hand: PyAV 17 takes another matrix for RGB. BT.2020, limited range of 10 bits.
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    chroma = ((blue - luma) / 1.8814, (red - luma) / 1.4746)
    frame = av.VideoFrame(srgb.shape[1], srgb.shape[0], "yuv420p10le")
    levels = (64 + 876 * luma, *(512 + 896 * part[::2, ::2] for part in chroma))
    for plane, values in zip(frame.planes, levels, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : plane.width] = np.rint(values)
        plane.update(rows.tobytes())
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 1
    return frame


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_hdr_is_toned_down_to_what_sdr_shows(transfer):
    colours = np.array(
        [[40, 40, 40], [120, 70, 60], [60, 120, 70], [180, 140, 120], [200, 30, 40], [30, 60, 190]]
    )
    picture = np.kron(colours[None].astype(np.uint8), np.ones((32, 32, 1), np.uint8))
    shown = FrameConverter()(hdr_frame(picture, transfer))
    assert shown.shape == picture.shape
    assert np.abs(shown[16, 16::32].astype(int) - colours).max() <= 5
    assert FrameConverter()(hdr_frame(np.full((32, 32, 3), 255, np.uint8), transfer)).mean() > 225


def test_tone_mapping_is_even_and_keeps_gray_gray():
    grays = np.linspace(0, 1, 200)[:, None] * np.ones(3)
    for transfer in (16, 18):
        toned = tone_down(grays, transfer, 9)
        assert np.ptp(toned, axis=1).max() < 2e-3
        assert (np.diff(toned[:, 1]) >= -1e-9).all() and toned[0].max() < 1e-6
        assert toned[-1].min() > 0.999
    # What is no HDR stays as it is but for its primaries.
    assert np.allclose(tone_down(grays, 1, 9), grays, atol=2e-3)


def test_other_videos_are_not_touched(tmp_path):
    frame = av.VideoFrame.from_ndarray(chart(), format="rgb24").reformat(format="yuv420p")
    assert np.array_equal(FrameConverter()(frame), frame.to_ndarray(format="rgb24"))


# Bounds


def test_frames_larger_than_can_be_kept_are_refused(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", [red_picture(0, 128)] * 3)
    monkeypatch.setattr(video_module, "LARGEST_FRAME", 4000)
    with pytest.raises(UserError, match=r"128 x 128 pixels"):
        open_video(path)


@pytest.mark.parametrize("side", [8000, 16383])
def test_a_huge_animated_webp_is_refused_by_its_header(tmp_path, side):
    path = tmp_path / "clip.webp"
    pictures = [Image.fromarray(chart(16, 16)), Image.new("RGB", (16, 16))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    data = bytearray(path.read_bytes())
    place = data.index(b"VP8X") + 12
    data[place : place + 6] = (side - 1).to_bytes(3, "little") * 2
    path.write_bytes(data)
    with pytest.raises(
        UserError, match=r"frames of 8000 x 8000 pixels|cannot be read as a video .*16383|exceeds"
    ):
        open_video(path)
