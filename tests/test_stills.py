"""Still pictures as phones, scanners and downloads have them: turned, tiled, in other colours and depths, broken off,
far too large.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import gradient
from PIL import Image, ImageCms
from test_avatars import STORED, with_exif_chunk

from livepuppet.core.errors import UserError
from livepuppet.core.images import read_image, read_image_and_alpha, read_still_image
from livepuppet.realtime.avatars import load_avatar

RED, GREEN, BLUE, YELLOW, WHITE = (230, 20, 20), (20, 220, 20), (20, 20, 230), (230, 220, 20), (240, 240, 240)


def chart(height: int = 144, width: int = 96) -> np.ndarray:
    """uint8 RGB, white, with corners of red, green, blue and yellow in reading order."""
    picture = np.full((height, width, 3), WHITE, np.uint8)
    h, w = height // 3, width // 3
    picture[:h, :w], picture[:h, -w:], picture[-h:, :w], picture[-h:, -w:] = RED, GREEN, BLUE, YELLOW
    return picture


def corners(picture: np.ndarray) -> list[list[int]]:
    y, x = picture.shape[0] // 8, picture.shape[1] // 8
    return [picture[row, column].tolist() for row in (y, -y) for column in (x, -x)]


def assert_is_the_chart(picture: np.ndarray, shape: tuple = (144, 96, 3), tolerance: int = 30) -> None:
    assert picture.shape == shape
    assert np.abs(np.array(corners(picture)) - [RED, GREEN, BLUE, YELLOW]).max() <= tolerance


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# Turned and mirrored


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".webp", ".png", ".avif", ".heic"])
def test_every_turn_and_mirror_of_every_format(tmp_path, suffix, orientation):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / f"picture{suffix}"
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](chart())))
    # AVIF and HEIF have no EXIF turn but `irot` and `imir`, which Pillow and pillow-heif write.
    options = {"speed": 10} if suffix == ".avif" else {"quality": 95} if suffix in (".jpg", ".heic") else {}
    if suffix == ".tif":
        stored.save(path, tiffinfo={0x0112: orientation})
    elif suffix == ".heic":
        stored.info["exif"] = exif(orientation).tobytes()
        stored.save(path, **options)
    else:
        stored.save(path, exif=exif(orientation), **options)
    if suffix in (".avif", ".heic") and orientation in (5, 6, 7, 8):
        assert b"irot" in path.read_bytes()
    if suffix in (".avif", ".heic") and orientation in (2, 4, 5, 7):
        assert b"imir" in path.read_bytes()
    assert_is_the_chart(read_image(path))


def test_the_tiles_of_a_phones_picture_are_put_together(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / "picture.heic"
    stored = Image.fromarray(np.rot90(chart(), 1).copy())
    stored.info["exif"] = exif(6).tobytes()
    try:
        stored.save(path, tile_size=64, quality=95)
    except TypeError:
        pytest.skip("this pillow-heif writes no tiles")
    if b"grid" not in path.read_bytes():
        pytest.skip("this pillow-heif writes no tiles")
    assert b"irot" in path.read_bytes()
    assert_is_the_chart(read_image(path))


def test_without_pillow_heif_the_sentence_names_it(tmp_path, monkeypatch):
    from livepuppet.core import stills

    pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / "picture.heic"
    Image.fromarray(chart()).save(path)
    assert stills.read_still(path.open("rb")) is not None
    monkeypatch.delitem(Image.OPEN, "HEIF")
    with pytest.raises(UserError, match=r"pip install pillow-heif"):
        read_image(path)


# Colours and transparency


def display_p3() -> bytes:
    """An ICC profile of Display P3: sRGB's, with other primaries."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Colorants adapted to D50, as in Apple's profile.
    for tag, xyz in (
        (b"rXYZ", (0.51512, 0.2412, -0.00105)),
        (b"gXYZ", (0.29198, 0.69225, 0.04189)),
        (b"bXYZ", (0.1571, 0.06657, 0.78407)),
    ):
        entry = profile.index(tag, 128)
        (place,) = struct.unpack_from(">I", profile, entry + 4)
        struct.pack_into(">3i", profile, place + 8, *(round(value * 65536) for value in xyz))
    return bytes(profile)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_colour_profiles_are_applied(tmp_path, suffix):
    # Display P3's (200, 100, 80) is more saturated in sRGB: (215, 93, 73).
    path = tmp_path / f"picture{suffix}"
    picture = Image.new("RGB", (32, 32), (200, 100, 80))
    picture.save(path, icc_profile=display_p3(), quality=100, lossless=suffix == ".webp", subsampling=0)
    assert np.abs(read_image(path)[16, 16].astype(int) - (215, 93, 73)).max() <= 3


def test_transparent_pictures_have_profiles_too(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGBA", (32, 32), (200, 100, 80, 128)).save(path, icc_profile=display_p3())
    picture, alpha = read_image_and_alpha(path, behind=0)
    assert (alpha == 128).all() and np.abs(picture[0, 0].astype(int) - (108, 47, 37)).max() <= 3


@pytest.mark.parametrize("profile", [b"no profile", b"\0" * 200, display_p3()[:200]])
def test_a_strange_profile_is_survived_and_srgb_changes_nothing(tmp_path, profile):
    rgb = gradient(40, 60)
    for number, one in enumerate(
        [profile, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
    ):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rgb).save(path, icc_profile=one)
        assert np.array_equal(read_image(path), rgb)


def test_a_profile_of_other_colours_is_none(tmp_path):
    path = tmp_path / "picture.png"
    gray = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    gray.save(path, icc_profile=display_p3())
    assert np.array_equal(read_image(path)[..., 0], np.asarray(gray))


@pytest.mark.parametrize(
    ("mode", "colour", "shows"),
    [("L", 90, 90), ("RGB", (90, 91, 92), 90), ("P", 3, None), ("I;16", 90 * 257, 90)],
)
def test_one_transparent_value_of_a_png(tmp_path, mode, colour, shows):
    other = {"L": 10, "RGB": (90, 91, 93), "P": 0, "I;16": 10 * 257}[mode]
    picture = Image.new(mode, (16, 16), other)
    if mode == "P":
        picture.putpalette([10, 20, 30] * 8)
    picture.paste(colour, (0, 0, 8, 16))
    path = tmp_path / "picture.png"
    picture.save(path, transparency=colour)
    _, alpha = read_image_and_alpha(path)
    assert alpha is not None and (alpha[:, :8] == 0).all() and (alpha[:, 8:] == 255).all()


def test_the_largest_picture_of_an_icon(tmp_path):
    path = tmp_path / "picture.ico"
    Image.fromarray(chart(128, 128)).save(path, sizes=[(16, 16), (128, 128), (32, 32)])
    assert_is_the_chart(read_image(path), (128, 128, 3))


# Depths and modes


def ramp(dtype, low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 64 * 48).reshape(48, 64).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.int16, -3000, 3000),
        (np.uint16, 0, 65535),
        (np.int32, -100_000, 4_000_000),
        (np.uint32, 0, 4_000_000_000),
        (np.float32, 0, 1),
        (np.float32, -5, 1200),
        (np.float64, 0, 1),
        (np.int8, -128, 127),
    ],
)
def test_scientific_tiffs_are_shown_from_dark_to_light(tmp_path, dtype, low, high):
    path = tmp_path / "picture.tif"
    write_tiff(path, ramp(dtype, low, high))
    picture = read_image(path)
    assert picture.shape == (48, 64, 3)
    assert np.abs(picture[..., 1].astype(int) - ramp(float, 0, 255)).max() <= 2


@pytest.mark.parametrize("order", "<>")
def test_deep_gray_means_the_same_in_both_byte_orders_and_where_0_is_white(tmp_path, order):
    path, gray = tmp_path / "picture.tif", ramp(np.uint16, 50, 150)
    write_tiff(path, gray * np.uint16(257), order=order)
    assert np.array_equal(read_image(path)[..., 1], gray)
    write_tiff(path, (255 - gray) * np.uint16(257), order=order, photometric=0)
    assert np.array_equal(read_image(path)[..., 1], gray)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_channels_that_are_stored_apart_are_refused(tmp_path, dtype):
    path, rgb = tmp_path / "picture.tif", gradient(48, 64)
    write_tiff(path, (rgb / 255 * (1 if dtype == np.float32 else 65535)).astype(dtype))
    # In place of the tag of the rows per strip, which is the whole height without it.
    stored = path.read_bytes().replace(struct.pack("<HHI", 278, 4, 1), struct.pack("<HHI", 284, 3, 1))
    path.write_bytes(stored.replace(struct.pack("<HHII", 284, 3, 1, 48), struct.pack("<HHII", 284, 3, 1, 2)))
    with pytest.raises(UserError, match="keeps its channels apart"):
        read_image(path)


@pytest.mark.parametrize(
    ("dtype", "channels", "photometric", "said"),
    [
        (np.uint16, 3, 8, "L\\*a\\*b\\* colours of 16 bits"),
        (np.int8, 3, 2, "signed numbers"),
        (np.int8, 4, 2, "signed numbers"),
    ],
)
def test_tiffs_that_decoders_show_in_wrong_colours_are_refused(tmp_path, dtype, channels, photometric, said):
    path, rgb = tmp_path / "picture.tif", gradient(48, 64)
    samples = np.dstack([rgb, rgb[..., :1]])[..., :channels] // 2
    write_tiff(path, samples.astype(dtype), photometric=photometric)
    with pytest.raises(UserError, match=said):
        read_image(path)


def write_tiff(
    path: Path, samples: np.ndarray, orientation: int = 1, order: str = "<", photometric: int | None = None
) -> None:
    """An uncompressed TIFF of one strip: uint, int or float of any size, (H, W) or (H, W, C), little-
    (`<`) or big-endian (`>`).
    """
    height, width, channels = (*samples.shape, 1)[:3]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    photometric = (1 if channels == 1 else 2) if photometric is None else photometric
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, samples.itemsize * 8),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (274, 3, orientation),
        (277, 3, channels),
        (278, 4, height),
        (279, 4, len(data)),
        (339, 3, kind),
    ]
    extra = b""
    directory = struct.pack(order + "H", len(tags))
    begin = 8 + len(data) + len(data) % 2
    for tag, type_, value in tags:
        if tag in (258, 339) and channels > 2:
            place = begin + 2 + 12 * len(tags) + 4 + len(extra)
            extra += struct.pack(f"{order}{channels}H", *[value] * channels)
            directory += struct.pack(order + "HHII", tag, type_, channels, place)
        else:
            stored = struct.pack(order + ("H" if type_ == 3 else "I"), value).ljust(4, b"\0")
            directory += struct.pack(order + "HHI", tag, type_, 1) + stored
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", begin)
    path.write_bytes(head + data + b"\0" * (len(data) % 2) + directory + bytes(4) + extra)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiffs_with_three_channels_of_any_depth(tmp_path, dtype):
    path = tmp_path / "picture.tif"
    rgb = gradient(48, 64)
    scaled = {np.uint8: rgb, np.uint16: rgb.astype(np.uint16) * 257, np.float32: np.float32(rgb / 255)}
    write_tiff(path, scaled[dtype])
    assert np.array_equal(read_image(path), rgb)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_deep_tiffs_are_turned_too(tmp_path, dtype):
    factor = {np.uint8: 1, np.uint16: 257, np.int16: 100}[dtype]
    samples = STORED[3](chart()).astype(dtype) * dtype(factor)
    samples = samples[..., 0] if dtype == np.int16 else samples
    write_tiff(tmp_path / "picture.tif", np.ascontiguousarray(samples), orientation=3)
    picture = read_image(tmp_path / "picture.tif")
    if dtype == np.int16:
        assert picture[10, 10, 0] > 200 > 50 > picture[10, -10, 0]
    else:
        assert_is_the_chart(picture)


def test_modes_of_printers_and_fax_machines(tmp_path):
    bits = Image.fromarray(gradient(48, 64)[..., 0] > 100).convert("1")
    bits.save(tmp_path / "bits.tif", compression="group4")
    assert np.array_equal(read_image(tmp_path / "bits.tif")[..., 0] > 0, np.asarray(bits))
    cmyk = Image.fromarray(chart()).convert("CMYK")
    for name in ("cmyk.tif", "cmyk.jpg"):
        cmyk.save(tmp_path / name)
        assert_is_the_chart(read_image(tmp_path / name))
    lab = ImageCms.profileToProfile(
        Image.fromarray(chart()),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    lab.save(tmp_path / "lab.tif")
    assert_is_the_chart(read_image(tmp_path / "lab.tif"))
    palette = Image.fromarray(chart()).quantize(16)
    for name in ("palette.png", "palette.tif", "palette.gif", "palette.bmp"):
        palette.save(tmp_path / name)
        assert_is_the_chart(read_image(tmp_path / name))


def test_of_many_pages_the_first_is_shown(tmp_path):
    path = tmp_path / "pages.tif"
    Image.fromarray(chart()).save(
        path, save_all=True, append_images=[Image.new("L", (10, 10)), Image.new("CMYK", (9, 9))]
    )
    assert_is_the_chart(read_image(path))


# Damage


def encoded(picture: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF", "JPEG2000", "QOI"]
)
def test_half_a_download_is_no_picture(tmp_path, kind, capfd):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    data = encoded(noise, kind)
    path = tmp_path / "half"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        UserError, match=r"half is (damaged or incomplete|not a picture).*save it as PNG or JPEG"
    ):
        read_image(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_may_lack_its_end_marker_but_no_pixel(tmp_path, progressive):
    noisy = chart() - np.random.default_rng(0).integers(0, 15, (144, 96, 3), np.uint8)
    data = encoded(noisy, "JPEG", quality=95, progressive=progressive)
    assert data.endswith(b"\xff\xd9")
    path = tmp_path / "picture.jpg"
    path.write_bytes(data[:-2])
    assert_is_the_chart(read_image(path))
    for missing in (30, 100, 400, len(data) // 2):
        path.write_bytes(data[:-missing])
        with pytest.raises(UserError, match="is damaged or incomplete"):
            read_image(path)


@pytest.mark.parametrize(
    "data", [b"GIF89a", b"II*\0\x08\0\0\0", b"BM", b"\xff\xd8\xff\xe0", b"P6\n", b"\0\0\x01\0"]
)
def test_a_header_alone_is_no_picture_and_nothing_else_is_said(tmp_path, data, capfd):
    path = tmp_path / "picture"
    path.write_bytes(data)
    with pytest.raises(UserError, match="is not a picture"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


# Bounds


def png_of_zeros(width: int, height: int) -> bytes:
    """One bit per pixel, black throughout."""
    chunks = b""
    row = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
        (b"IDAT", row),
        (b"IEND", b""),
    ):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


def huge_tiff(width: int, height: int, channels: int = 1, kind: str = "u") -> bytes:
    """The header of one, and no pixels."""
    path = io.BytesIO()
    Image.new("L", (8, 8)).save(path, "TIFF", compression="tiff_deflate")
    data = bytearray(path.getvalue())
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag, *_ = struct.unpack_from("<HHII", data, entry)
        if tag in (256, 257):
            struct.pack_into("<HHII", data, entry, tag, 4, 1, width if tag == 256 else height)
    return bytes(data)


def huge_gif() -> bytes:
    data = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "GIF"))
    data[6:10] = struct.pack("<HH", 65000, 65000)
    return bytes(data)


def huge_jpeg(progressive: bool, side: int) -> bytes:
    data = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "JPEG", progressive=progressive))
    place = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def huge_heif(kind: str) -> bytes:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = bytearray(encoded(np.zeros((64, 64, 3), np.uint8), kind))
    place = data.index(b"ispe") + 8
    data[place : place + 8] = struct.pack(">II", 30000, 30000)
    return bytes(data)


def huge_webp() -> bytes:
    data = bytearray(encoded(np.zeros((8, 8, 4), np.uint8), "WEBP", lossless=True))
    if b"VP8X" in data:
        place = data.index(b"VP8X") + 12
        data[place : place + 6] = (16383).to_bytes(3, "little") * 2
    else:
        place = data.index(b"VP8L") + 9
        bits = int.from_bytes(data[place : place + 4], "little")
        data[place : place + 4] = ((bits >> 28 << 28) | 16382 << 14 | 16382).to_bytes(4, "little")
    return bytes(data)


BOMBS = {
    "png": lambda: png_of_zeros(9000, 9000),
    "tiff": lambda: huge_tiff(60000, 60000),
    "gif": huge_gif,
    "jpeg": lambda: huge_jpeg(False, 65000),
    "progressive": lambda: huge_jpeg(True, 9000),
    "heif": lambda: huge_heif("HEIF"),
    "avif": lambda: huge_heif("AVIF"),
    "webp": huge_webp,
    "hdr": lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 40000 +X 40000\n",
    "bmp": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 40000, 40000, 1, 24, *[0] * 6),
    "ppm": lambda: b"P6\n40000 40000\n255\n",
    "qoi": lambda: b"qoif" + struct.pack(">IIBB", 40000, 40000, 3, 0) + bytes(100),
}


def test_bombs_are_refused_by_their_headers(tmp_path):
    pytest.importorskip("resource")
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    # In a process of its own, whose memory is its own.
    script = """
import resource, sys
import PIL.Image
from livepuppet.core import images, stills
from livepuppet.core.errors import UserError
stills.pillow()
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        images.read_image(path)
    except UserError as error:
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
"""
    paths = [str(tmp_path / name) for name in BOMBS]
    said = subprocess.check_output([sys.executable, "-c", script, *paths], text=True).splitlines()
    for path, line in zip(paths, said, strict=True):
        assert path in line and ("pixels" in line or "not a picture" in line), line
        assert int(line.split()[0]) < 40, line


def test_a_huge_jpeg_is_decoded_smaller_and_its_crop_is_in_pixels_of_the_file(tmp_path, monkeypatch):
    from livepuppet.core import stills

    monkeypatch.setattr(stills, "LARGEST_PIXELS", 200 * 100)
    large = cv2.resize(chart(300, 400), (400, 300), interpolation=cv2.INTER_AREA)
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(large, "JPEG", quality=95))
    still = read_still_image(path)
    assert still.reduced == 4 and still.image.shape == (75, 100, 3)
    square = load_avatar(path, 16, "40,20,80")
    assert square.square.side == 20 and np.abs(square.image[8, 8].astype(int) - RED).max() < 30
    monkeypatch.setattr(stills, "LARGEST_JPEG_PIXELS", 300 * 300)
    with pytest.raises(UserError, match="400 x 300 pixels"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name is needed")
def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "picture.png")
    with pytest.raises(UserError, match=r"is a pipe, .*: give the picture as a file"):
        read_image(tmp_path / "picture.png")


def test_plain_pngs_need_no_pillow(tmp_path):
    rgba = np.dstack([gradient(20, 30), np.full((20, 30), 200, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "plain.png")
    (tmp_path / "turned.png").write_bytes(with_exif_chunk((tmp_path / "plain.png").read_bytes(), 6))
    script = """
import sys
from livepuppet.core.images import read_image_and_alpha
picture, alpha = read_image_and_alpha(sys.argv[1])
print(picture.shape, alpha.mean(), "PIL" in sys.modules)
"""
    run = [sys.executable, "-c", script]
    plain = subprocess.check_output([*run, str(tmp_path / "plain.png")], text=True)
    assert plain.strip() == "(20, 30, 3) 200.0 False"
    turned = subprocess.check_output([*run, str(tmp_path / "turned.png")], text=True)
    assert turned.strip() == "(30, 20, 3) 200.0 True"
