"""Whatever people have as a picture becomes the same upright RGB square."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media import gradient, write_picture

from livepuppet.core.avatar import LONGEST_SIDE
from livepuppet.core.errors import UserError
from livepuppet.core.images import BEHIND_ALPHA, read_image, read_image_and_alpha
from livepuppet.core.square import Square, cut
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.app.avatar_folder import AvatarFolder
from livepuppet.realtime.avatars import load_avatar, load_avatars


@pytest.fixture(autouse=True)
def _faces_unknown(tmp_path_factory, monkeypatch):
    """Every test finds the faces of its pictures itself."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation tag put in after its start marker."""
    tiff = b"MM\x00\x2a\x00\x00\x00\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def with_exif_chunk(png: bytes, orientation: int) -> bytes:
    """A PNG with an eXIf chunk put in after its header."""
    tiff = b"MM\x00\x2a\x00\x00\x00\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    chunk = struct.pack(">I", len(tiff)) + b"eXIf" + tiff + struct.pack(">I", zlib.crc32(b"eXIf" + tiff))
    return png[:33] + chunk + png[33:]


#: What has to be done to an upright picture so that the tag's turn makes it upright again.
STORED = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(tmp_path, orientation):
    upright = gradient(48, 64)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    ok, data = cv2.imencode(".jpg", stored[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    path = tmp_path / "picture.jpg"
    path.write_bytes(with_exif(data.tobytes(), orientation))
    assert ok
    picture = read_image(path)
    assert picture.shape == upright.shape
    # The blue ramp wraps round, which JPEG blurs.
    assert np.abs(picture[..., :2].astype(int) - upright[..., :2]).mean() < 3


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_orientation_turns_the_transparency_along(tmp_path, orientation):
    upright = np.dstack([gradient(24, 32), np.full((24, 32), 255, np.uint8)])
    upright[:8, :, 3] = 0
    stored = np.ascontiguousarray(STORED[orientation](upright))
    ok, data = cv2.imencode(".png", cv2.cvtColor(stored, cv2.COLOR_RGBA2BGRA))
    path = tmp_path / "picture.png"
    path.write_bytes(with_exif_chunk(data.tobytes(), orientation))
    assert ok
    picture = read_image(path)
    assert np.array_equal(picture[8:], upright[8:, :, :3])
    assert (picture == BEHIND_ALPHA).all(axis=2).sum() == 8 * 32


def test_alpha_is_laid_over_gray_with_soft_edges(tmp_path):
    rgba = np.zeros((4, 3, 4), np.uint8)
    rgba[..., 0] = 100
    rgba[:, 1, 3], rgba[:, 2, 3] = 128, 255
    picture = read_image(write_picture(tmp_path / "picture.png", rgba))
    share = 128 / 255
    assert picture[0, 0].tolist() == [BEHIND_ALPHA] * 3
    assert picture[0, 1, 0] == pytest.approx(100 * share + BEHIND_ALPHA * (1 - share), abs=0.51)
    assert picture[0, 2].tolist() == [100, 0, 0]


def test_sixteen_bits_are_rounded_not_cut(tmp_path):
    values = np.array([[0, 128, 129, 257, 65534, 65535]], np.uint16)
    picture = read_image(write_picture(tmp_path / "picture.png", np.dstack([values] * 3)))
    assert picture[0, :, 0].tolist() == [0, 0, 1, 1, 255, 255]


def test_sixteen_bits_with_alpha(tmp_path):
    rgba = np.full((2, 2, 4), 65535, np.uint16)
    rgba[..., :3] = 257 * 40
    rgba[0, 0, 3] = 0
    picture = read_image(write_picture(tmp_path / "picture.png", rgba))
    assert picture[0, 0, 0] == BEHIND_ALPHA and picture[1, 1, 0] == 40


def test_gray_becomes_rgb(tmp_path):
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    picture = read_image(write_picture(tmp_path / "picture.png", gray))
    assert np.array_equal(picture, np.dstack([gray] * 3))


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".tiff", ".ppm", ".webp"])
def test_lossless_formats_are_exact(tmp_path, suffix):
    rgb = gradient(20, 30)
    path = tmp_path / f"picture{suffix}"
    assert cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert np.array_equal(read_image(path), rgb)


def test_the_name_may_lie_about_the_format(tmp_path):
    png = write_picture(tmp_path / "picture.png", gradient(20, 30))
    lie = png.rename(tmp_path / "picture.jpg")
    assert np.array_equal(read_image(lie), gradient(20, 30))


def test_a_clip_gives_its_first_frame(tmp_path):
    from media import write_clip

    path = write_clip(tmp_path / "clip.mp4", [np.full((32, 32, 3), level, np.uint8) for level in (50, 200)])
    assert read_image(path).mean() == pytest.approx(50, abs=3)


@pytest.mark.parametrize(
    "content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n" + bytes(40)], ids=["empty", "text", "broken"]
)
def test_unreadable_pictures_get_a_sentence(tmp_path, content):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"picture\.png is not a picture"):
        read_image(path)


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.png cannot be read"):
        read_image(tmp_path / "nowhere.png")


def test_the_centred_square_is_the_default(tmp_path):
    rgb = np.zeros((64, 128, 3), np.uint8)
    rgb[:, 32:96] = gradient(64, 64)
    path = write_picture(tmp_path / "picture.png", rgb)
    assert np.array_equal(load_avatar(path, 64).picture, gradient(64, 64))


def test_a_picture_of_the_models_size_is_untouched(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    assert np.array_equal(load_avatar(write_picture(tmp_path / "picture.png", rgb), 256).picture, rgb)


def test_crop_in_pixels_and_beyond_the_edge(tmp_path):
    path = write_picture(tmp_path / "picture.png", gradient(100, 100))
    assert np.array_equal(load_avatar(path, 32, "10,20,32").picture, gradient(100, 100)[20:52, 10:42])
    beyond = load_avatar(path, 32, "-16,0,32").picture
    assert np.array_equal(beyond[:, :16], np.repeat(gradient(100, 100)[:32, :1], 16, axis=1))
    with pytest.raises(UserError, match="outside the picture"):
        load_avatar(path, 32, "500,500,32")
    with pytest.raises(UserError, match="X,Y,SIDE"):
        load_avatar(path, 32, "face please")


def test_tiny_pictures_are_enlarged_smoothly(tmp_path):
    small = cv2.GaussianBlur(gradient(24, 24), (0, 0), 2)
    path = write_picture(tmp_path / "picture.png", small)
    large = load_avatar(path, 256).picture
    assert large.shape == (256, 256, 3)
    assert np.abs(cv2.resize(large, (24, 24), interpolation=cv2.INTER_AREA).astype(int) - small).mean() < 3


def test_a_folder_skips_what_cannot_be_read(tmp_path):
    for name in ("b10.png", "b9.png"):
        write_picture(tmp_path / name, gradient(32, 32))
    (tmp_path / "a.jpg").write_bytes(b"broken")
    avatars, skipped = load_avatars(tmp_path, 32)
    assert [avatar.name for avatar in avatars] == ["b9.png", "b10.png"]
    assert len(skipped) == 1 and "a.jpg" in skipped[0]


def test_a_folder_without_a_readable_picture_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"broken")
    with pytest.raises(UserError, match="No picture in the folder"):
        load_avatars(tmp_path, 32)


def test_all_shared_avatars(shared):
    avatars, skipped = load_avatars(shared / "avatars", 256)
    assert len(avatars) == 18 and not skipped
    assert all(avatar.image.shape == (256, 256, 3) and avatar.image.dtype == np.uint8 for avatar in avatars)


def test_shared_sideways_photo_stands_upright(shared):
    # By its tag, the stored picture has to be turned a quarter to the right.
    path = shared / "avatars" / "photo_laugh_exif6_720.jpg"
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1]
    assert np.array_equal(read_image(path), np.rot90(stored, -1))


def test_shared_sixteen_bit_picture(shared):
    path = shared / "avatars" / "cartoon_man_16bit_512.png"
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert stored.dtype == np.uint16
    assert np.array_equal(read_image(path), np.rint(stored / 257).astype(np.uint8))


def test_ffmpeg_reads_what_pillow_is_not_given(tmp_path):
    path = tmp_path / "picture.sun"
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("sunrast", rate=1)
        stream.width, stream.height, stream.pix_fmt = 30, 20, "bgr24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(gradient(20, 30), format="rgb24")))
    assert np.array_equal(read_image(path), gradient(20, 30))
    with pytest.raises(UserError, match="not a picture that can be read"):
        read_image(path, strict=True)


def test_the_whole_picture_and_the_squares_place_are_kept(tmp_path):
    path = write_picture(tmp_path / "picture.png", gradient(100, 160))
    avatar = load_avatar(path, 32, "20.4,9.6,32")
    assert (
        np.array_equal(avatar.original, gradient(100, 160)) and avatar.matte is None and avatar.path == path
    )
    # Whole pixels, as `cut` takes them.
    assert avatar.square == Square(20, 10, 32)
    assert np.array_equal(cut(avatar.original, avatar.square, 32), avatar.image)


def test_large_pictures_are_kept_smaller_with_the_square_in_its_place(tmp_path):
    smooth = cv2.resize(gradient(64, 96), (3000, 2000), interpolation=cv2.INTER_LINEAR)
    path = write_picture(
        tmp_path / "picture.png", np.dstack([smooth, np.full(smooth.shape[:2], 99, np.uint8)])
    )
    avatar = load_avatar(path, 64, "600,300,900")
    assert max(avatar.original.shape) == LONGEST_SIDE and avatar.matte.shape == avatar.original.shape[:2]
    again = cut(avatar.original, avatar.square, 64)
    assert np.abs(again.astype(int) - avatar.image).mean() < 2


def test_auto_takes_the_face_or_the_middle(tmp_path, monkeypatch):
    path = write_picture(tmp_path / "picture.png", gradient(200, 400))
    monkeypatch.setattr("livepuppet.realtime.avatars.find_faces", lambda picture: [])
    assert load_avatar(path, 32, "auto").square == Square(100, 0, 200)
    path = write_picture(tmp_path / "picture.png", gradient(200, 400)[:, ::-1])
    monkeypatch.setattr("livepuppet.realtime.avatars.find_faces", lambda picture: [Square(250, 60, 60)])
    square = load_avatar(path, 32, "auto").square
    assert square.side == 108 and square.x < 250 and square.x + square.side > 310
    # A square picture that the face fills is a crop already.
    path = write_picture(tmp_path / "square.png", gradient(100, 100))
    monkeypatch.setattr("livepuppet.realtime.avatars.find_faces", lambda picture: [Square(25, 25, 50)])
    assert load_avatar(path, 32, "auto").square == Square(0, 0, 100)


def test_a_face_is_looked_for_once_in_a_picture(tmp_path, monkeypatch):
    looks = []

    def find(picture):
        looks.append(picture.shape)
        return [Square(250, 60, 60)] if picture[0, 0, 0] < 128 else []

    monkeypatch.setattr("livepuppet.realtime.avatars.find_faces", find)
    dark, light = np.full((200, 400, 3), 10, np.uint8), np.full((200, 400, 3), 200, np.uint8)
    path = write_picture(tmp_path / "picture.png", dark)
    first = load_avatar(path, 32, "auto").square
    # The next start: the same picture by another name, too. A picture without a face is remembered as one.
    again = write_picture(tmp_path / "again.png", dark)
    assert load_avatar(path, 32, "auto").square == load_avatar(again, 32, "face").square == first
    assert len(looks) == 1
    write_picture(path, light)
    assert load_avatar(path, 32, "auto").square == load_avatar(path, 32, "auto").square == Square(100, 0, 200)
    assert len(looks) == 2
    # What is damaged, or cannot be kept at all, is found again.
    for kept in Path(os.environ["XDG_CACHE_HOME"]).rglob("*.json"):
        kept.write_text("[1, 2")
    assert load_avatar(again, 32, "auto").square == first and len(looks) == 3
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_avatar(again, 32, "auto").square == first and len(looks) == 4


def test_one_of_several_faces_is_chosen_and_the_others_are_known(tmp_path):
    with open_video(bundled.DRIVING) as video:
        face = next(iter(video)).image
    picture = np.full((300, 620, 3), 120, np.uint8)
    picture[20:276, 20:276], picture[20:276, 344:600] = face, face[:, ::-1]
    file = write_picture(tmp_path / "two.png", picture)
    for crop, middle in (("left", 148), ("right", 472), ("1", 148), ("2", 472)):
        avatar = load_avatar(file, crop=crop)
        assert abs(avatar.square.x + avatar.square.side / 2 - middle) < 40
        (other,) = avatar.others
        assert abs(other.x + other.side / 2 - (620 - middle)) < 40
    assert len(load_avatar(file).others) == 1
    with pytest.raises(UserError, match="shows 2 faces"):
        load_avatar(file, crop="3")


def test_alpha_is_given_beside_the_picture(tmp_path):
    rgba = np.dstack([gradient(20, 30), np.full((20, 30), 255, np.uint8)])
    assert read_image_and_alpha(write_picture(tmp_path / "opaque.png", rgba))[1] is None
    rgba[:5, :, 3] = 40
    picture, alpha = read_image_and_alpha(write_picture(tmp_path / "glass.png", rgba))
    assert np.array_equal(alpha, rgba[..., 3]) and np.array_equal(picture[5:], rgba[5:, :, :3])


# A folder that changes


def folder_of(path, *names, **options):
    for name in names:
        write_picture(path / name, gradient(32, 32))
    options.setdefault("poll", None)
    return AvatarFolder(path, 16, "center", **options)


def names(folder):
    return [avatar.name for avatar in folder.avatars]


def written_again(path, picture, seconds):
    """Change a file and its time, which some file systems keep in whole seconds only."""
    write_picture(path, picture)
    os.utime(path, (path.stat().st_mtime + seconds,) * 2)


def test_a_folder_is_loaded_with_progress_and_bad_files_are_said(tmp_path):
    (tmp_path / "b.png").write_bytes(b"broken")
    seen = []
    folder = folder_of(tmp_path, "a10.png", "a9.png", progress=lambda done, total: seen.append((done, total)))
    assert names(folder) == ["a9.png", "a10.png"] and seen == [(1, 3), (2, 3), (3, 3)]
    (sentence,) = folder.messages()
    assert "b.png" in sentence and folder.messages() == []
    folder.look()
    folder.look()
    assert folder.changes() == [] and folder.messages() == []


def test_a_new_file_is_added_at_its_place_once_it_is_whole(tmp_path):
    folder = folder_of(tmp_path, "a1.png", "a10.png")
    write_picture(tmp_path / "a2.png", gradient(32, 32))
    folder.look()
    # Seen once only: it may still be growing.
    assert folder.changes() == []
    folder.look()
    (change,) = folder.changes()
    assert (change.kind, change.index, change.avatar.name) == ("added", 1, "a2.png")
    assert names(folder) == ["a1.png", "a2.png", "a10.png"]


def test_a_changed_file_is_read_again(tmp_path):
    folder = folder_of(tmp_path, "a.png", "b.png")
    white = np.full((32, 32, 3), 255, np.uint8)
    written_again(tmp_path / "b.png", white, 5)
    folder.look()
    folder.look()
    (change,) = folder.changes()
    assert (change.kind, change.index) == ("changed", 1) and change.avatar.image.min() == 255
    assert folder.avatars[1] is change.avatar


def test_a_file_that_turns_bad_stays_as_it_was_and_is_tried_again(tmp_path):
    folder = folder_of(tmp_path, "a.png", "b.png")
    before = folder.avatars[0]
    (tmp_path / "a.png").write_bytes(b"half a file")
    folder.look()
    folder.look()
    folder.look()
    assert folder.changes() == [] and folder.avatars[0] is before
    assert len(folder.messages()) == 1
    written_again(tmp_path / "a.png", gradient(32, 32), 9)
    folder.look()
    folder.look()
    assert [change.kind for change in folder.changes()] == ["changed"] and folder.messages() == []


def test_a_deleted_file_stays_while_it_is_shown(tmp_path):
    folder = folder_of(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    folder.look()
    assert folder.changes(shown=1) == []
    folder.look()
    (change,) = folder.changes(shown=1)
    assert (change.kind, change.index, change.avatar.name) == ("removed", 0, "a.png")
    # Now b is at 0, and shown.
    assert folder.changes(shown=0) == [] and names(folder) == ["b.png", "c.png"]
    assert [change.index for change in folder.changes(shown=1)] == [0]
    (tmp_path / "c.png").unlink()
    folder.look()
    folder.look()
    assert folder.changes() == [] and names(folder) == ["c.png"]


def test_a_save_by_removing_and_renaming_is_one_change(tmp_path):
    folder = folder_of(tmp_path, "a.png", "b.png")
    (tmp_path / "a.png").unlink()
    folder.look()
    written_again(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8), 7)
    folder.look()
    folder.look()
    assert [(change.kind, change.index) for change in folder.changes()] == [("changed", 0)]


def test_a_folder_that_is_away_changes_nothing(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    folder = folder_of(inside, "a.png", "b.png")
    inside.rename(tmp_path / "elsewhere")
    folder.look()
    folder.look()
    assert folder.changes() == [] and len(folder.avatars) == 2


def test_many_changes_at_once_can_be_done_in_order(tmp_path):
    folder = folder_of(tmp_path, *(f"{number}.png" for number in range(6)))
    row = list(folder.avatars)
    for number in (0, 3, 5):
        (tmp_path / f"{number}.png").unlink()
    for name in ("1a.png", "9.png", "00.png"):
        write_picture(tmp_path / name, gradient(32, 32))
    written_again(tmp_path / "2.png", gradient(32, 32), 5)
    folder.look()
    folder.look()
    for change in folder.changes(shown=3):
        if change.kind == "added":
            row.insert(change.index, change.avatar)
        elif change.kind == "removed":
            assert row.pop(change.index) is change.avatar
        else:
            row[change.index] = change.avatar
    assert row == folder.avatars
    assert set(names(folder)) == {"00.png", "1.png", "1a.png", "2.png", "3.png", "4.png", "9.png"}


def test_a_single_file_is_watched_too(tmp_path):
    path = write_picture(tmp_path / "a.png", gradient(32, 32))
    folder = AvatarFolder(path, 16, "center", poll=None)
    write_picture(tmp_path / "b.png", gradient(32, 32))
    written_again(path, np.zeros((32, 32, 3), np.uint8), 5)
    folder.look()
    folder.look()
    assert [change.kind for change in folder.changes()] == ["changed"] and len(folder.avatars) == 1


def test_the_thread_looks_by_itself_and_ends(tmp_path):
    folder = folder_of(tmp_path, "a.png", poll=0.01)
    write_picture(tmp_path / "b.png", gradient(32, 32))
    found, patience = [], threading.Event()
    for _ in range(500):
        found += folder.changes()
        if found:
            break
        patience.wait(0.02)
    folder.close()
    assert [change.avatar.name for change in found] == ["b.png"]
    assert not any(thread.name == "avatars" for thread in threading.enumerate())


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no pictures"):
        AvatarFolder(tmp_path, 16, poll=None)
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="No picture in the folder"):
        AvatarFolder(tmp_path, 16, poll=None)


def test_transparency_is_gray_live_and_white_in_training(tmp_path):
    from livepuppet.train.data.reading import read_image as read_for_training

    rgba = np.dstack([gradient(20, 30), np.full((20, 30), 255, np.uint8)])
    rgba[:, :10, 3], rgba[:, 10:20, 3] = 0, 128
    path = write_picture(tmp_path / "glass.png", rgba)
    live, training = read_image(path), read_for_training(path)
    assert (live[:, :10] == BEHIND_ALPHA).all() and (training[:, :10] == 255).all()
    assert np.array_equal(live[:, 20:], training[:, 20:])
    share = rgba[:, 10:20, :3] * (128 / 255)
    for found, behind in ((live, BEHIND_ALPHA), (training, 255)):
        assert np.abs(found[:, 10:20] - (share + behind * (127 / 255))).max() <= 0.51
