"""Decoded video frames as RGB of a screen: upright, over gray where they are transparent, and high
dynamic range (HDR) and wide colours toned down to what every other picture has.
"""

from __future__ import annotations

import os
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import Type as SideDataType

from livepuppet.core.images import BEHIND_ALPHA, over_gray
from livepuppet.core.names import ffmpeg_name
from livepuppet.core.orientation import of_display_matrix, upright

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.filter import Graph

#: Of ITU-T H.273: transfer characteristics of HDR (SMPTE ST 2084, "PQ", and ARIB STD-B67, "HLG"),
#: and colour primaries that are wider than BT.709's, as (x, y) of red, green, blue in CIE 1931.
PQ, HLG = 16, 18
_WIDE = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_D65 = (0.3127, 0.3290)

#: Luminance of white in SDR, and the brightest in HDR that is kept apart from others, in cd/m2
#: (ITU-R BT.2408: 203 and 1000).
WHITE, PEAK = 203.0, 1000.0

#: Where light begins to be bent so that `PEAK` becomes white, as a share of white.
_KNEE = 0.7

#: Nodes along each edge of the cube that maps colours; between them FFmpeg interpolates.
_NODES = 33


class FrameConverter:
    """Frames of one video as uint8 RGB.

    Args:
        behind: gray level under transparent pixels.
        path: of a photo that the frames may be of.
    """

    def __init__(self, behind: int = BEHIND_ALPHA, path: str | None = None):
        self._behind = behind
        self._path = path
        self._graph: tuple[tuple, Graph] | None = None
        self._stored: tuple[tuple, int] | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 RGB (H, W, 3), by the frame's own tags."""
        picture = self.pixels(frame)
        return over_gray(picture, self._behind) if picture.shape[2] == 4 else picture

    def pixels(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 RGB (H, W, 3) or, where the frame has transparency, RGBA (H, W, 4); upright."""
        transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
        # pal8 hides its alpha in the palette.
        alpha = frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)
        if not alpha and (transfer in (PQ, HLG) or primaries in _WIDE):
            picture = self._toned_down(frame, transfer, primaries)
        else:
            picture = frame.to_ndarray(format="rgba" if alpha else "rgb24")
        return upright(picture, self._orientation(frame))

    def _orientation(self, frame: av.VideoFrame) -> int:
        """EXIF's number of how the frame is stored."""
        # Looked up once per size and turn: side data keeps its frame in memory until Python's next
        # collection of garbage.
        key = (frame.width, frame.height, frame.rotation)
        if self._stored is None or self._stored[0] != key:
            self._stored = (key, _orientation(frame, self._path))
        return self._stored[1]

    def _toned_down(self, frame: av.VideoFrame, transfer: int, primaries: int) -> np.ndarray:
        rgb = frame.reformat(format="gbrp10le")
        key = (transfer, primaries, rgb.width, rgb.height)
        if self._graph is None or self._graph[0] != key:
            self._graph = (key, _cube_graph(*key))
        # The tags are dealt with; swscale would mind them again.
        rgb.color_trc = rgb.color_primaries = 2
        rgb.pts = None
        graph = self._graph[1]
        graph.push(rgb)
        toned = graph.pull()
        assert isinstance(toned, av.VideoFrame)
        return toned.to_ndarray(format="rgb24")


def _orientation(frame: av.VideoFrame, path: str | None) -> int:
    try:
        side_data: Any = frame.side_data
        parts = [side_data[index] for index in range(len(side_data))]
        matrices = [bytes(part) for part in parts if part.type == SideDataType.DISPLAYMATRIX]
    except ValueError:
        # PyAV 18 has no name for a photo's EXIF, and gives none of the side data then.
        return _exif_orientation(path)
    return of_display_matrix(matrices[0]) if matrices else 1


def _exif_orientation(path: str | None) -> int:
    from PIL import Image

    try:
        with Image.open(path or "") as image:
            return image.getexif().get(0x0112, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1


#: Titles in Latin-1 and the like. PyAV 19 leaves them undecoded until they are asked for.
_ANY_TITLES = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_input(name: str, **options: Any) -> InputContainer:
    """`av.open` for reading: no title makes a file unreadable."""
    return av.open(name, **_ANY_TITLES, **options)


def _cube_graph(transfer: int, primaries: int, width: int, height: int) -> Graph:
    """FFmpeg's filters that map planar RGB of 10 bits by `_cube`."""
    # FFmpeg's filters take ten megabytes, and few people film in HDR.
    from av.filter import Graph

    graph = Graph()
    handle, name = tempfile.mkstemp(suffix=".cube")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(_cube(transfer, primaries))
        form = av.VideoFormat("gbrp10le", width, height)
        source = graph.add_buffer(width=width, height=height, format=form, time_base=Fraction(1, 1))
        lut, sink = graph.add("lut3d", file=name), graph.add("buffersink")
        graph.link_nodes(source, lut, sink)
        graph.configure()
    finally:
        Path(name).unlink(missing_ok=True)
    return graph


@cache
def _cube(transfer: int, primaries: int) -> str:
    """The text of a .cube file: coded colours of such a video to sRGB's."""
    steps = np.linspace(0, 1, _NODES)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    mapped = tone_down(np.stack([red, green, blue], -1).reshape(-1, 3), transfer, primaries)
    return f"LUT_3D_SIZE {_NODES}\n" + "\n".join(
        f"{red:.5f} {green:.5f} {blue:.5f}" for red, green, blue in mapped
    )


def tone_down(coded: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Colours of a video as those of a screen.

    Args:
        coded: R'G'B' (N, 3) in [0, 1].
        transfer, primaries: by their numbers in ITU-T H.273.

    Returns:
        sRGB (N, 3) in [0, 1]. Of HDR, light up to 0.7 of SDR's white stays as it is, and up to 1000
        cd/m2 it is bent towards white, all three channels by the same factor.
    """
    light = _light(coded, transfer)
    if transfer in (PQ, HLG):
        brightest = light.max(axis=1, keepdims=True)
        light = light * (_bent(brightest) / np.maximum(brightest, 1e-9))
    if primaries in _WIDE:
        light = light @ (np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(_WIDE[primaries])).T
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def _light(coded: np.ndarray, transfer: int) -> np.ndarray:
    """Light that a display gives for R'G'B' (N, 3), in units of SDR's white."""
    if transfer == PQ:
        root = coded ** (1 / 78.84375)
        return (
            10_000
            / WHITE
            * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        )
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
        luminance = scene @ [0.2627, 0.6780, 0.0593]
        return PEAK / WHITE * scene * luminance[:, None] ** 0.2
    # sRGB's own curve, so that colours which need no other primaries stay as they are.
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def _bent(light: np.ndarray) -> np.ndarray:
    """Light in [0, `PEAK`] as light in [0, 1] with a continuous slope, as it is below the knee."""
    room, most = 1 - _KNEE, PEAK / WHITE - _KNEE
    excess = np.clip(light - _KNEE, 0, most)
    # x (1 + x r) / (1 + x s) with slope 1 at 0, that ends at `room`.
    bent = excess / (1 + excess * (1 / room - 1 / most))
    return np.where(light > _KNEE, _KNEE + bent, light)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The matrix from linear RGB with these primaries and white D65 to XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    x, y = _D65
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


def first_frame(path: Path, options: dict[str, str]) -> np.ndarray | None:
    """The first frame of anything FFmpeg reads, as uint8 RGB or RGBA, or None."""
    try:
        with open_input(ffmpeg_name(path), options=options) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = dict(options)
            return next(
                (FrameConverter(path=str(path)).pixels(frame) for frame in container.decode(stream)), None
            )
    except (FFmpegError, OSError, IndexError, ValueError):
        return None
