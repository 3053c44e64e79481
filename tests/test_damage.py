"""Pictures and videos cut short and with bits turned over: a picture or a sentence, never a traceback, a hang, or much
memory.
"""

from __future__ import annotations

import functools
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from hunting import bounded, hunted
from hypothesis import strategies
from media import gradient, write_clip
from PIL import Image

from livepuppet.core.errors import UserError
from livepuppet.core.images import read_image_and_alpha
from livepuppet.core.video import open_video
from livepuppet.realtime.outputs.live_sound import FileSound
from livepuppet.realtime.outputs.sound import Soundtrack


@functools.cache
def stills() -> dict[str, bytes]:
    """One small picture of each kind."""
    rgb = Image.fromarray(gradient(40, 56))
    rgba = Image.fromarray(np.dstack([gradient(40, 56), gradient(40, 56)[..., 0]]))
    deep = np.random.default_rng(0).integers(0, 65535, (40, 56), np.uint16)
    made = {
        "png": (rgb, "PNG", {}),
        "png alpha": (rgba, "PNG", {"optimize": True}),
        "png palette": (rgb.quantize(9), "PNG", {"transparency": 3}),
        "png 16 bits": (Image.fromarray(deep), "PNG", {}),
        "jpeg": (rgb, "JPEG", {"exif": _exif(6)}),
        "jpeg progressive": (rgb, "JPEG", {"progressive": True, "subsampling": 0}),
        "jpeg cmyk": (rgb.convert("CMYK"), "JPEG", {}),
        "webp": (rgb, "WEBP", {"quality": 60}),
        "webp lossless": (rgba, "WEBP", {"lossless": True}),
        "webp animated": (
            rgb,
            "WEBP",
            {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]},
        ),
        "gif": (rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}),
        "tiff": (rgb, "TIFF", {}),
        "tiff lzw": (rgb, "TIFF", {"compression": "tiff_lzw", "tiffinfo": {0x0112: 8}}),
        "tiff jpeg": (rgb, "TIFF", {"compression": "jpeg"}),
        "tiff 16 bits": (Image.fromarray(deep), "TIFF", {"compression": "tiff_deflate"}),
        "bmp": (rgb, "BMP", {}),
        "ico": (rgba, "ICO", {"sizes": [(16, 16), (32, 32)]}),
        "avif": (rgba, "AVIF", {"speed": 10}),
        "jpeg 2000": (rgb, "JPEG2000", {}),
    }
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
        made["heif"] = (rgb, "HEIF", {})
    except ImportError:
        pass
    encoded = {}
    for name, (picture, kind, options) in made.items():
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        encoded[name] = buffer.getvalue()
    return encoded


def _exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@functools.cache
def clips() -> dict[str, bytes]:
    """One small clip of each kind."""
    import tempfile

    noise = np.random.default_rng(0)
    pictures = [gradient(48, 64) // 2 + noise.integers(0, 100, (48, 64, 3), np.uint8) for _ in range(12)]
    made = {
        "mp4": (".mp4", "aac", {}),
        "mp4 index first": (".mp4", None, {"movflags": "faststart"}),
        "mp4 fragments": (".mp4", None, {"movflags": "frag_keyframe+empty_moov"}),
        "mkv": (".mkv", "pcm_s16le", {}),
        "mkv silent": (".mkv", None, {}),
        "ts": (".ts", "aac", {}),
        "avi": (".avi", "pcm_s16le", {}),
    }
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, sound, options) in made.items():
            path = write_clip(Path(folder) / f"clip{suffix}", pictures, sound=sound, options=options)
            found[name] = path.read_bytes()
    found |= {name: data for name, data in stills().items() if name in ("gif", "webp animated")}
    return found


#: Where damage is: near the beginning, where headers are, near the end, or anywhere. Then what it is: a bit turned over,
#: bytes that mean much or little, bytes left out, or all the rest missing.
_PLACES = strategies.one_of(
    strategies.integers(0, 400),
    strategies.integers(-300, -1),
    strategies.floats(0, 1, exclude_max=True),
)
_DAMAGES = strategies.one_of(
    strategies.tuples(strategies.just("flip"), _PLACES, strategies.integers(0, 7)),
    strategies.tuples(
        strategies.just("set"),
        _PLACES,
        strategies.sampled_from(
            [
                b"\0",
                b"\xff",
                b"\0\0\0\0",
                b"\xff\xff\xff\xff",
                b"\x7f\xff\xff\xff",
                b"\0\x7f\xff\xff",
                b"\x80\0",
            ]
        )
        | strategies.binary(min_size=1, max_size=4),
    ),
    strategies.tuples(strategies.just("leave out"), _PLACES, strategies.integers(1, 200)),
    strategies.tuples(strategies.just("cut"), _PLACES, strategies.none()),
)
DAMAGE = strategies.lists(_DAMAGES, min_size=1, max_size=4)


def damaged(data: bytes, damage: list) -> bytes:
    for kind, place, what in damage:
        if not data:
            break
        if isinstance(place, float):
            place = int(place * len(data))
        place = place % len(data)
        if kind == "flip":
            data = data[:place] + bytes([data[place] ^ (1 << what)]) + data[place + 1 :]
        elif kind == "set":
            data = data[:place] + what + data[place + len(what) :]
        elif kind == "leave out":
            data = data[:place] + data[place + what :]
        else:
            data = data[:place]
    return data


def assert_is_a_picture(image: np.ndarray) -> None:
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size


def assert_is_a_sentence(error: UserError, path: Path) -> None:
    text = str(error)
    assert str(path) in text and text.endswith(".") and "\n" not in text and len(text) < 400, text
    # `...: do something.`
    assert ": " in text.replace(str(path), ""), text


@hunted(150, kind=strategies.sampled_from(sorted(stills())), damage=DAMAGE)
def test_damaged_pictures(tmp_path, capfd, kind, damage):
    path = tmp_path / "picture"
    path.write_bytes(damaged(stills()[kind], damage))
    with bounded():
        try:
            image, alpha = read_image_and_alpha(path)
        except UserError as error:
            assert_is_a_sentence(error, path)
        else:
            assert_is_a_picture(image)
            assert alpha is None or (alpha.shape == image.shape[:2] and alpha.dtype == np.uint8)
    said = capfd.readouterr()
    # Pillow's libtiff writes to standard error by itself.
    assert said == ("", "") or kind.startswith("tiff")


@hunted(60, kind=strategies.sampled_from(sorted(clips())), damage=DAMAGE)
def test_damaged_videos(tmp_path, capfd, kind, damage):
    path = tmp_path / "clip"
    path.write_bytes(damaged(clips()[kind], damage))
    with bounded():
        try:
            with open_video(path) as video:
                last = None
                for frame in video:
                    assert_is_a_picture(frame.image)
                    assert last is None or frame.time > last
                    assert frame.duration is None or frame.duration > 0
                    last = frame.time
                assert video.broken is None or str(path) in video.broken
        except UserError as error:
            assert_is_a_sentence(error, path)
    assert capfd.readouterr() == ("", "")


@hunted(
    40,
    kind=strategies.sampled_from(sorted(name for name in clips() if name in ("mp4", "mkv", "ts", "avi"))),
    damage=DAMAGE,
)
def test_damaged_sound(tmp_path, capfd, kind, damage):
    path = tmp_path / "clip"
    path.write_bytes(damaged(clips()[kind], damage))
    with bounded():
        _record_sound(path)
        try:
            sound = FileSound(str(path))
        except UserError:
            return
        sound.played(Fraction(0), 0.0)
        for _, samples in sound.read(5.0):
            assert samples.dtype == np.float32 and np.isfinite(samples).all()
        sound.close()
    assert capfd.readouterr() == ("", "")


def _record_sound(path: Path) -> None:
    """Carry the sound over into a video, as `animate` does; what cannot be opened costs the sound alone."""
    try:
        sound = Soundtrack(str(path), Fraction(0))
    except (FFmpegError, OSError, IndexError):
        return
    with av.open(io.BytesIO(), "w", format="mp4") as output:
        video = output.add_stream("libx264", rate=25)
        video.width = video.height = 16
        sound.join(output)
        output.mux(video.encode(av.VideoFrame(16, 16, "yuv420p")))
        sound.advance(Fraction(1, 4))
        sound.finish(Fraction(1))
        output.mux(video.encode(None))
    sound.close()
