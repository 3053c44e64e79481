"""Clips of every kind, pairs drawn from them, and what is said about data that cannot be used."""

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from media import write_clip, write_picture
from PIL import Image

from livepuppet.train.data import check as checking
from livepuppet.train.data.augment import Augment
from livepuppet.train.data.check import check_folder
from livepuppet.train.data.clips import Choice, ClipSet, read_pairs
from livepuppet.train.data.reading import DataError, open_clip, read_frames, sample_frames

SIZE = 32
PLAIN = Augment(flip=False, time_flip=False)


def level(frames) -> list[int]:
    """What `frame` drew: the number of each frame, told from the red of its middle."""
    return [round(float(one[..., 0].mean()) / 20) for one in np.asarray(frames)]


def frame(number: int, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    image = np.full((height, width, 3), 90, np.uint8)
    image[:, width // 2 :, 1] = 200
    image[..., 0] = 20 * number
    return image


def stacked(path: Path, count: int, size: int = SIZE, alpha: bool = False) -> Path:
    image = np.hstack([frame(number, size, size) for number in range(count)])
    if alpha:
        image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    return write_picture(path, image)


def folder(path: Path, count: int, size: tuple[int, int] = (SIZE, SIZE)) -> Path:
    path.mkdir(parents=True)
    for number in range(count):
        # Not padded: frame 10 must not come after frame 1.
        write_picture(path / f"frame{number}.png", frame(number, *size))
    return path


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def data(tmp_path) -> Path:
    """One clip of each kind, and something broken."""
    root = tmp_path / "data"
    folder(root / "a_folder", 12, (40, 64))
    write_clip(root / "b_video.mp4", [frame(number, 64, 96) for number in range(10)])
    stacked(root / "c_stacked.png", 5)
    stacked(root / "d_alpha.png", 4, size=16, alpha=True)
    images = [Image.fromarray(frame(number)) for number in range(6)]
    images[0].save(root / "e_gif.webp", save_all=True, append_images=images[1:], duration=40, lossless=True)
    images[0].save(root / "f_gif.gif", save_all=True, append_images=images[1:], duration=40)
    (root / "notes.txt").write_text("passed over")
    (root / "g_broken.mp4").write_bytes(b"no video")
    return root


def test_every_kind_of_clip_is_read_in_its_order(data):
    clips = ClipSet(data, SIZE, PLAIN)
    kinds = {clip.name: (clip.kind, clip.length) for clip in clips.clips}
    assert kinds == {
        "a_folder": ("frames", 12),
        "b_video.mp4": ("video", 10),
        "c_stacked.png": ("stacked", 5),
        "d_alpha.png": ("stacked", 4),
        "e_gif.webp": ("animation", 6),
        "f_gif.gif": ("animation", 6),
    }
    assert len(clips.skipped) == 1 and clips.skipped[0].startswith("g_broken.mp4 cannot be read")
    for number in range(len(clips)):
        images = clips.frames(number)
        assert images.shape == (clips.length(number), SIZE, SIZE, 3) and images.dtype == np.uint8
        assert level(images) == list(range(clips.length(number)))


def test_pairs_are_two_frames_of_one_clip_and_follow_from_the_generator(data):
    clips = ClipSet(data, SIZE, PLAIN)
    choices = clips.draw(64, rng(1))
    assert {choice.clip for choice in choices} == set(range(len(clips)))
    assert all(choice.source < choice.driving < clips.length(choice.clip) for choice in choices)
    source, driving = clips.load(choices)
    assert source.shape == (64, 3, SIZE, SIZE) and source.dtype == torch.float32
    for images, numbers in (
        (source, [choice.source for choice in choices]),
        (driving, [choice.driving for choice in choices]),
    ):
        assert level(images.permute(0, 2, 3, 1) * 255) == numbers
    left, right = source[:, 1].split(SIZE // 2, dim=2)
    assert left.mean() == pytest.approx(90 / 255, abs=0.05) and right.mean() == pytest.approx(
        200 / 255, abs=0.05
    )
    again = ClipSet(data, SIZE, PLAIN).pairs(64, rng(1))
    assert torch.equal(again[0], source) and torch.equal(again[1], driving)
    # Two processes load halves of the same draw.
    assert torch.equal(torch.cat([clips.load(choices[:32])[0], clips.load(choices[32:])[0]]), source)


def test_drawing_decodes_nothing_and_a_folder_only_what_is_asked_for(data, monkeypatch):
    from livepuppet.train.data import clips as module

    asked = []

    def counting(clip, wanted, side):
        asked.append((clip.name, list(wanted)))
        return read_frames(clip, wanted, side)

    monkeypatch.setattr(module, "read_frames", counting)
    clips = ClipSet(data, SIZE, PLAIN)
    clips.draw(100, rng())
    assert not asked
    clips.load([Choice(0, 3, 7, 0), Choice(0, 3, 7, 0), Choice(2, 0, 4, 0), Choice(2, 1, 2, 0)])
    assert asked == [("a_folder", [3]), ("a_folder", [7]), ("c_stacked.png", [0, 1, 2, 3, 4])]


def test_the_cache_stays_within_its_bytes_and_changes_no_image(data):
    roomy, tight = ClipSet(data, SIZE, PLAIN), ClipSet(data, SIZE, PLAIN, memory=20_000)
    choices = roomy.draw(40, rng(3))
    assert torch.equal(roomy.load(choices)[0], tight.load(choices)[0])
    assert roomy._cache.bytes > 20_000
    # A single clip that is larger than the cache is held alone.
    assert tight._cache.bytes <= max(20_000, 10 * SIZE * SIZE * 3)


def test_long_videos_keep_frames_spread_evenly(tmp_path):
    write_clip(tmp_path / "long.mp4", [frame(number) for number in range(12)])
    clips = ClipSet(tmp_path, SIZE, most=4)
    assert clips.length(0) == 4 and level(clips.frames(0)) == [0, 4, 7, 11]
    assert ClipSet(tmp_path, SIZE, most=None).length(0) == 12


def test_a_video_that_says_nothing_of_its_length_is_counted(tmp_path):
    write_clip(tmp_path / "clip.mkv", [frame(number) for number in range(7)])
    assert open_clip(tmp_path / "clip.mkv").length == 7


def test_the_centred_square_is_taken_and_transparency_becomes_white(tmp_path):
    wide = frame(0, 32, 96)
    wide[:, 32:64, 1] = 250
    clear = np.zeros((16, 32, 4), np.uint8)
    clear[:, 16:] = (10, 20, 30, 255)
    for number in range(2):
        (tmp_path / "wide").mkdir(exist_ok=True)
        write_picture(tmp_path / "wide" / f"{number}.png", wide)
    write_picture(tmp_path / "z_clear.png", clear)
    clips = ClipSet(tmp_path, 16)
    assert (clips.frames(0)[..., 1] == 250).all()
    images = clips.frames(1)
    assert (images[0] == 255).all() and (images[1] == (10, 20, 30)).all()


def test_train_and_test_parts_are_told_apart(tmp_path):
    stacked(tmp_path / "beside.png", 3)
    for part, count in (("train", 3), ("test", 2)):
        (tmp_path / part).mkdir()
        for number in range(count):
            stacked(tmp_path / part / f"{number}.png", 4)
    assert len(ClipSet(tmp_path, SIZE)) == 3
    assert len(ClipSet(tmp_path, SIZE, part="test")) == 2
    only = tmp_path / "only"
    (only / "train").mkdir(parents=True)
    stacked(only / "train" / "0.png", 4)
    with pytest.raises(DataError, match="no test/"):
        ClipSet(only, SIZE, part="test")


def test_identities_are_drawn_evenly_whatever_they_own(tmp_path):
    for name in ("anna#1.png", "anna#2.png", "anna#3.png", "bert#1.png"):
        stacked(tmp_path / name, 3)
    clips = ClipSet(tmp_path, SIZE, id_sampling=True)
    assert clips.identities == 2 and len(clips) == 4
    drawn = np.bincount([choice.clip for choice in clips.draw(2000, rng())])
    assert drawn[3] == pytest.approx(1000, abs=100) and drawn[:3] == pytest.approx(333, abs=70)
    assert clips.epoch_steps(batch=4, repeats=10) == 5
    assert ClipSet(tmp_path, SIZE).epoch_steps(batch=4, repeats=10) == 10


def test_a_clip_found_damaged_while_training_is_named_and_replaced(tmp_path):
    for number in range(4):
        stacked(tmp_path / f"{number}.png", 4)
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[:-60])
    clips = ClipSet(tmp_path, SIZE, PLAIN)
    assert len(clips) == 4
    source, _ = clips.load([Choice(1, 2, 3, 0), Choice(1, 0, 1, 0)])
    assert level(source.permute(0, 2, 3, 1) * 255) == [2, 0]
    assert [text.split()[0] for text in clips.skipped] == ["1.png"]
    for name in ("0.png", "3.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of 4 clips .* are damaged"):
        clips.load([Choice(0, 0, 1, 0), Choice(3, 0, 1, 0)])


def test_augmentation_follows_its_seed_and_treats_both_frames_alike():
    pair = np.random.default_rng(0).integers(0, 255, (2, SIZE, SIZE, 3), np.uint8)
    pair[1] = pair[0]
    strong = Augment(True, True, 0.3, 0.3, 0.3, 0.5, (0.8, 1.2), 10.0)
    for seed in range(6):
        varied = strong(pair, seed)
        assert varied.shape == pair.shape and varied.dtype == np.uint8
        assert np.array_equal(varied[0], varied[1])
        assert np.array_equal(varied, strong(pair, seed))
    assert not np.array_equal(strong(pair, 1), strong(pair, 2))
    assert np.array_equal(PLAIN(pair, 5), pair)


def test_flips_happen_in_half_of_the_pairs():
    pair = np.zeros((2, 4, 4, 3), np.uint8)
    pair[0, :, 0] = 255
    seen = [Augment()(pair, seed) for seed in range(400)]
    exchanged = np.mean([one[0].max() == 0 for one in seen])
    mirrored = np.mean([one.max(axis=0)[0, -1, 0] == 255 for one in seen])
    assert exchanged == pytest.approx(0.5, abs=0.08) and mirrored == pytest.approx(0.5, abs=0.08)
    assert not any(np.array_equal(Augment(time_flip=False)(pair, seed)[1], pair[0]) for seed in range(50))


def test_jitter_changes_what_it_is_named_after():
    image = np.full((2, 8, 8, 3), 100, np.uint8)
    image[..., 0] = 150
    image[:, :4] = (60, 60, 60)

    def hue_and_saturation(images):
        hsv = cv2.cvtColor(images[0], cv2.COLOR_RGB2HSV)[-1, 0].astype(int)
        return hsv[0], hsv[1]

    before = hue_and_saturation(image)
    turned = [hue_and_saturation(Augment(False, False, hue=0.5)(image, seed)) for seed in range(8)]
    assert len({hue for hue, _ in turned}) > 4
    assert all(abs(saturation - before[1]) <= 3 for _, saturation in turned)
    faded = [hue_and_saturation(Augment(False, False, saturation=0.5)(image, seed)) for seed in range(8)]
    assert all(abs(hue - before[0]) <= 2 for hue, _ in faded) and len({value for _, value in faded}) > 4
    means = [Augment(False, False, contrast=0.5)(image, seed).mean() for seed in range(8)]
    assert np.allclose(means, image.mean(), atol=4)
    levels = [Augment(False, False, brightness=0.5)(image, seed)[0, 0, 0, 0] / 60 for seed in range(30)]
    assert min(levels) < 0.7 and max(levels) > 1.3 and min(levels) > 0.49 and max(levels) < 1.51


def test_resizing_and_cropping_move_by_what_they_should():
    size = 65
    y, x = np.mgrid[:size, :size]
    pair = np.stack([np.dstack([3 * x, 3 * y, 0 * x]).astype(np.uint8)] * 2)
    for seed in range(12):
        moved = Augment(False, False, resize=(0.8, 1.25))(pair, seed)[0].astype(float) / 3
        across, down = np.diff(moved[20:45, 20:45, 0]).mean(), np.diff(moved[20:45, 20:45, 1], axis=0).mean()
        assert 1 / 1.27 < across < 1 / 0.78 and across == pytest.approx(down, abs=0.02)
        if across < 1:
            # Enlarged: the window lies in the image, so no edge is repeated.
            assert moved[0, 1, 0] - moved[0, 0, 0] > 0.3 or moved[0, -1, 0] - moved[0, -2, 0] > 0.3
    turned = Augment(False, False, rotation=30)(pair, 1)[0].astype(float) / 3
    assert np.abs(turned[32, 32, :2] - 32).max() < 1.1 and np.abs(turned[32, 60, 1] - 32) > 1


def test_pair_lists_are_found_by_their_columns(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("distance,driving,source\n0.1,a.mp4,b\n0.2,b.mp4,a.mp4\n\n")
    assert read_pairs(path) == [("b", "a.mp4"), ("a.mp4", "b.mp4")]
    assert read_pairs(path, ["a.mp4", "b.mp4"]) == [("b.mp4", "a.mp4"), ("a.mp4", "b.mp4")]
    with pytest.raises(DataError, match="not in the data"):
        read_pairs(path, ["a.mp4", "c.mp4"])
    for content, words in (("from,to\na,b\n", "no columns"), ("source,driving\n", "no pairs")):
        path.write_text(content)
        with pytest.raises(DataError, match=words):
            read_pairs(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path / "nowhere.csv")


def _empty(root):
    pass


def _one_frame(root):
    folder(root / "clip", 1)


def _single_image(root):
    write_picture(root / "portrait.png", frame(3, 40, 32))


def _broken(root):
    (root / "a.mp4").write_bytes(b"nothing")
    (root / "b.png").write_bytes(b"nothing either")


def _mixed(root):
    folder(root / "clip", 4)
    write_picture(root / "clip" / "frame9.png", frame(1, 40, 40))


def _other(root):
    (root / "program.exe").write_bytes(b"x")


def _nested(root):
    (root / "a" / "b").mkdir(parents=True)
    stacked(root / "a" / "b" / "c.png", 3)


BAD = {
    _empty: "is empty: put videos",
    _one_frame: "clip holds fewer than two frames",
    _single_image: "portrait.png is a single image: put the frames",
    _broken: r"the first problem \(1 more like it\): a.mp4 cannot be read",
    _mixed: "mixes frames of different sizes .*frame9.png 40x40",
    _other: "program.exe is neither a video",
    _nested: "a/ holds no images",
}


@pytest.mark.parametrize("make", BAD)
def test_bad_folders_end_in_one_sentence(make, tmp_path):
    make(tmp_path)
    for use in (lambda: ClipSet(tmp_path, SIZE), lambda: check_folder(tmp_path, SIZE)):
        with pytest.raises(DataError, match=BAD[make]) as error:
            use()
        assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_folder_that_is_none_ends_in_one_sentence(tmp_path):
    (tmp_path / "file.mp4").write_bytes(b"x")
    for name, words in (("nowhere", "There is no folder"), ("file.mp4", "is a file: give the folder")):
        with pytest.raises(DataError, match=words):
            ClipSet(tmp_path / name, SIZE)


def test_a_folder_that_may_not_be_read_ends_in_one_sentence(tmp_path, monkeypatch):
    def refused(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\): check its permissions"):
        ClipSet(tmp_path, SIZE, part=None)


def test_a_mixture_in_the_middle_is_found_by_the_check_and_survived_by_training(tmp_path):
    for name in ("a", "b", "c"):
        folder(tmp_path / name, 9)
    write_picture(tmp_path / "b" / "frame2.png", frame(2, 48, 48))
    report = check_folder(tmp_path, SIZE)
    assert [clip.name for clip in report.clips] == ["a", "c"]
    assert len(report.skipped) == 1 and "frame2.png 48x48" in report.skipped[0]
    clips = ClipSet(tmp_path, SIZE, PLAIN)
    source, _ = clips.load([Choice(1, 2, 3, 0)])
    assert level(source.permute(0, 2, 3, 1) * 255) == [2] and "frame2.png" in clips.skipped[0]


def test_the_check_tells_what_training_would_suffer_from(data, tmp_path, monkeypatch):
    stacked(data / "tiny.png", 3, size=8)
    still = data / "still"
    still.mkdir()
    for number in range(4):
        write_picture(still / f"{number}.png", frame(5))
    monkeypatch.setattr(checking, "space_left", lambda _: 10**9)
    report = check_folder(data, SIZE, output=tmp_path / "run" / "of" / "mine")
    assert report.still == ["still"] and report.looked == 8 and report.free == 10**9
    assert set(report.small) == {"tiny.png", "d_alpha.png"}
    assert "a_folder" not in report.short and "tiny.png" in report.short and report.tall == ["a_folder"]
    text = report.text()
    for words in (
        "8 clips",
        "50 frames",
        "32x32 (4)",
        "skipped, 1:",
        "g_broken.mp4 cannot be read",
        "nothing moves in still",
        "smaller than the network's 32 pixels",
        "1 GB are left",
        "more than a third of a_folder",
    ):
        assert words in text, words
    assert text.endswith("may be wrong.")


def test_a_good_folder_is_called_ready_and_parts_that_share_faces_are_named(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        stacked(tmp_path / part / f"anna#{part}.png", 10)
    report = check_folder(tmp_path, SIZE)
    assert report.test == 1 and report.shared == ["anna"] and report.changed > 0
    (tmp_path / "test" / "anna#test.png").rename(tmp_path / "test" / "bert#test.png")
    assert check_folder(tmp_path, SIZE).text().endswith("Ready for training.")


def test_clips_in_which_nothing_moves_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            write_picture(tmp_path / name / f"{number}.png", frame(4))
    with pytest.raises(DataError, match="Nothing moves"):
        check_folder(tmp_path, SIZE)


def test_long_videos_are_sampled_without_decoding_all_of_them(tmp_path, monkeypatch):
    from livepuppet.train.data import reading

    monkeypatch.setattr(reading, "SHORT", 20)
    path = write_clip(tmp_path / "long.mp4", [frame(number // 5) for number in range(60)])
    assert level(sample_frames(open_clip(path), 4, 16)) == [0, 3, 6, 9]


def test_a_video_cut_short_gives_what_it_holds(tmp_path):
    path = write_clip(
        tmp_path / "clip.mkv",
        [frame(number) for number in range(10)],
        times=[Fraction(n, 25) for n in range(10)],
    )
    clip = open_clip(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    images = read_frames(clip, range(10), SIZE)
    numbers = level(images)
    assert len(images) == 10 and numbers[:2] == [0, 1] and numbers[-1] < 9
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"clip\.mkv"):
        read_frames(clip, range(10), SIZE)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_frame_that_is_cut_short_is_damaged_rather_than_half_black(suffix, tmp_path):
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        path = write_picture(tmp_path / f"{number}{suffix}", image)
    assert read_frames(open_clip(tmp_path)).shape == (3, 64, 64, 3)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(DataError, match=f"2{suffix} cannot be read"):
        read_frames(open_clip(tmp_path))


def test_the_space_is_that_of_the_folder_that_will_be_made(tmp_path):
    assert checking.space_left(tmp_path / "not" / "yet") > 0


def test_the_shared_sets_are_read_as_they_are(shared):
    shapes = ClipSet(shared / "shapes", 64, PLAIN, part="test")
    assert len(shapes) == 1400 and not shapes.skipped and shapes.length(0) == 32
    source, driving = shapes.pairs(8, rng())
    # One flat-coloured thing of 8 to 14 pixels on black.
    area = (source.amax(1) > 0.1).float().sum((1, 2))
    assert area.min() > 30 and area.max() < 200 and not torch.equal(source, driving)
    mgif = ClipSet(shared / "mgif", 128, PLAIN, part="test")
    assert len(mgif) == 100 and not mgif.skipped
    assert (mgif.frames(0)[0, 0, 0] > 240).all()
