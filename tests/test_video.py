"""One reader and one writer of videos: what live and training share, and how their former copies were decided."""

from fractions import Fraction

import av
import numpy as np
import pytest
from media import write_clip
from PIL import Image

from livepuppet.core.errors import UserError
from livepuppet.core.orientation import upright
from livepuppet.core.video import open_video
from livepuppet.core.video_writer import VideoWriter, write_video
from livepuppet.train.data.reading import all_frames, open_clip, read_frames, sample_frames


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Coloured quarters that brighten, uint8 RGB."""
    quarters = np.array([[[200, 30, 30], [30, 160, 60]], [[40, 60, 190], [180, 180, 40]]])
    large = np.kron(quarters, np.ones((height // 2, width // 2, 1)))
    return [(large + 5 * k).astype(np.uint8) for k in range(count)]


def test_live_and_training_see_the_same_pixels(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, pictures(8, 64, 64), 25)
    live = [frame.image for frame in open_video(path)]
    assert np.array_equal(read_frames(open_clip(path)), live)
    assert np.array_equal(list(all_frames(open_clip(path))), live)
    assert np.array_equal(read_frames(open_clip(path), [2, 5]), live[2:6:3])


def test_frames_that_are_not_wanted_are_left_out_and_keep_the_others_times(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", pictures(10))
    with open_video(path) as video:
        some = list(video.frames({3, 7}))
    assert [frame.time for frame in some] == [Fraction(3, 25), Fraction(7, 25)]
    assert video.broken is None and (video.width, video.height) == (64, 48)


def test_animated_webp_drives_and_trains_over_its_own_gray(tmp_path):
    images = [Image.fromarray(np.dstack([one, np.full(one.shape[:2], 255, np.uint8)])) for one in pictures(4)]
    for image in images:
        image.putpixel((0, 0), (0, 0, 0, 0))
    path = tmp_path / "clip.webp"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[40, 80, 40, 40], lossless=True)
    frames = list(open_video(path))
    assert [frame.time for frame in frames] == [
        0,
        Fraction(40, 1000),
        Fraction(120, 1000),
        Fraction(160, 1000),
    ]
    assert frames[0].image[0, 0].tolist() == [200] * 3
    assert np.array_equal(frames[2].image[1:], pictures(4)[2][1:])
    clip = open_clip(path)
    assert (clip.kind, clip.length) == ("animation", 4)
    assert read_frames(clip)[0].shape == (48, 48, 3)
    assert next(all_frames(clip))[0, 0].tolist() == [255] * 3


def test_a_damaged_animated_webp_says_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    images = [Image.fromarray(one) for one in noise]
    path = tmp_path / "clip.webp"
    images[0].save(path, save_all=True, append_images=images[1:], duration=40, lossless=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read as a video"):
        open_video(path)
    # The pixels of the third picture.
    begin = [k for k in range(len(whole)) if whole.startswith(b"ANMF", k)][2] + 40
    path.write_bytes(whole[:begin] + bytes(400) + whole[begin + 400 :])
    clip = open_video(path)
    assert len(list(clip)) == 2 and "2 of 4 frames" in clip.broken


def test_damage_costs_training_its_own_frames_alone(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)
    path = write_clip(tmp_path / "clip.mp4", list(noise))
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 30_000] = bytes(30_000)
    path.write_bytes(data)
    readable = [frame.image for frame in open_video(path)]
    frames = read_frames(open_clip(path))
    assert len(frames) == 40 and np.array_equal(frames[: len(readable)], readable)
    # The last one stands for those that are missing.
    assert (frames[len(readable) :] == readable[-1]).all()


def test_long_videos_are_jumped_through(tmp_path, monkeypatch):
    from livepuppet.train.data import reading

    monkeypatch.setattr(reading, "SHORT", 5)
    path = write_clip(tmp_path / "clip.mp4", pictures(10))
    frames = sample_frames(open_clip(path), 2, 48)
    # The second is five frames later, at five levels each.
    assert int(frames[1, 10, 10, 1]) - int(frames[0, 10, 10, 1]) == pytest.approx(25, abs=4)


@pytest.mark.parametrize("shape", [(48, 64), (47, 63)])
def test_a_written_clip_has_its_colours_and_says_which(tmp_path, shape):
    path = tmp_path / "clip.mp4"
    written = [one[: shape[0], : shape[1]] for one in pictures(5)]
    with VideoWriter(path, Fraction(30000, 1001), quality=12) as writer:
        for one in written:
            writer.write(one)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (stream.average_rate, stream.frames) == (Fraction(30000, 1001), 5)
        assert (context.width, context.height) == (64, 48)
        assert (context.colorspace, context.color_primaries, context.color_range) == (1, 1, 1)
    read = [frame.image[: shape[0], : shape[1]] for frame in open_video(path)]
    assert np.abs(np.stack(read).astype(int) - np.stack(written)).mean() < 3


def test_a_writer_that_is_left_by_an_error_leaves_nothing(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 25) as writer:
        writer.write(pictures(1)[0])
        raise KeyboardInterrupt
    assert [one.name for one in tmp_path.iterdir()] == ["clip.mp4"] and path.read_bytes() == b"older"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_a_video_of_one_upright_frame(tmp_path, orientation):
    """FFmpeg hands on a photo's EXIF, which not every PyAV has a name for."""
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:16, 56:88] = (40, 220, 40)
    stored[:32, :48], stored[32:, 48:] = (220, 40, 40), (40, 40, 220)
    tags = Image.Exif()
    tags[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    Image.fromarray(stored).save(path, exif=tags, quality=95)
    with open_video(str(path)) as video:
        (frame,) = list(video)
    np.testing.assert_allclose(frame.image.astype(int), upright(stored, orientation).astype(int), atol=40)
    assert frame.image.shape == upright(stored, orientation).shape
