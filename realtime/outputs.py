"""Where the moving picture goes: a virtual camera, a window, a video file, a folder of PNGs, or nowhere."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np

from livepuppet.realtime.errors import UserError
from livepuppet.realtime.pictures import write_png
from livepuppet.realtime.sound import Soundtrack

#: Video files that can be written. Others would need other codecs than H.264 and AAC.
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")

#: H.264 encoders in the order they are tried; which are there depends on the PyAV build.
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf")

#: ITU-T H.273 number of BT.709, for matrix, primaries and transfer.
BT709 = 1
LIMITED_RANGE = 1

#: Ticks per second of recordings made live, where pictures come when they come.
LIVE_CLOCK = Fraction(1, 90_000)

WINDOW_TITLE = "livepuppet"


class Output(Protocol):
    """Takes finished pictures, in order.

    Attributes:
        name: how to speak of it.
    """

    name: str

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        """Hand over uint8 RGB (H, W, 3) of one fixed size.

        Args:
            time: seconds since the first picture, growing.
            duration: seconds it is to be shown, where known (it matters for the last one).

        Raises:
            UserError: if it can take no more.
        """

    def close(self) -> None:
        """Finish and release everything. Safe to call twice."""


class Nowhere:
    """Takes pictures and forgets them: for measuring, and for driving only the statistics."""

    name = "none"

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        pass

    def close(self) -> None:
        pass


class VideoFile:
    """H.264 in MP4 that browsers play: yuv420p, BT.709 with its tags, index at the front.

    While it grows, the file consists of fragments, so that what was written plays even if the program is killed or
    the disk runs full. `close` turns it into an ordinary MP4.

    Args:
        path: ends in one of `VIDEO_SUFFIXES`.
        width, height: of the pictures, in pixels; odd sizes are made even by repeating the last row or column.
        rate: pictures per second, for the encoder's planning; times are those of `write`.
        time_base: seconds per tick; times are rounded to it.
        live: prefer a fast encoder setting to a small file.
        sound: is copied alongside the pictures.

    Raises:
        UserError: if the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        rate: Fraction = Fraction(30),
        time_base: Fraction = LIVE_CLOCK,
        live: bool = False,
        sound: Soundtrack | None = None,
    ):
        self.path = Path(path)
        self.name = str(path)
        self._sound = sound
        self._time_base = time_base
        self._pad = (height % 2, width % 2)
        self._last: tuple[int, Fraction] | None = None
        encoder = next((name for name in ENCODERS if name in av.codecs_available), None)
        if encoder is None:
            raise UserError(
                "This PyAV has no H.264 encoder: install it from PyPI with pip install --force-reinstall av."
            )
        if not self.path.parent.is_dir():
            raise UserError(
                f"The folder {self.path.parent} does not exist: make it, or choose another --output."
            )
        try:
            # FFmpeg opens the file with the first picture only; people want to know before.
            self.path.open("ab").close()
            self._container = av.open(
                self.name,
                "w",
                format="mov" if self.path.suffix.lower() == ".mov" else "mp4",
                options={
                    "movflags": "frag_keyframe+delay_moov+default_base_moof",
                    "video_track_timescale": str(_ticks(time_base)),
                    # Otherwise a killed program takes along what FFmpeg has not yet handed to the system.
                    "flush_packets": "1",
                },
            )
        except (av.FFmpegError, OSError) as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): choose another --output or free the place."
            ) from error
        stream = self._container.add_stream(encoder, rate=Fraction(rate).limit_denominator(1001))
        stream.width, stream.height = width + self._pad[1], height + self._pad[0]
        stream.pix_fmt = "yuv420p"
        stream.time_base = time_base
        context = stream.codec_context
        context.time_base = time_base
        context.gop_size = max(1, round(2 * rate))
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        if encoder == "libx264":
            # Live, nothing may pile up in the encoder: what it holds back is lost when the program is killed.
            stream.options = (
                {"preset": "superfast", "tune": "zerolatency", "crf": "20"}
                if live
                else {"preset": "medium", "crf": "16"}
            )
        else:
            context.bit_rate = 8_000_000
        self._stream = stream
        if sound is not None:
            sound.join(self._container)

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        if any(self._pad):
            picture = cv2.copyMakeBorder(picture, 0, self._pad[0], 0, self._pad[1], cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        tick = round(time / self._time_base)
        if self._last is not None:
            tick = max(tick, self._last[0] + 1)
        frame.pts, frame.time_base = tick, self._time_base
        if duration:
            frame.duration = max(1, round(duration / self._time_base))
        try:
            if self._sound is not None:
                self._sound.advance(time)
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            self._abandon()
            raise UserError(
                f"{self.path} cannot be written any further ({error.strerror}): free some space or choose another "
                "--output; what was written until now stays there and plays."
            ) from error
        self._last = (tick, duration or Fraction(0))

    def _abandon(self) -> None:
        """Leave the file as the fragments that were written."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(av.FFmpegError, OSError):
                container.close()
        if self._sound is not None:
            self._sound.close()

    def close(self) -> None:
        if self._container is None:
            return
        if self._last is None:
            self._abandon()
            self.path.unlink(missing_ok=True)
            return
        tick, duration = self._last
        try:
            self._container.mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.finish(tick * self._time_base + duration)
            container, self._container = self._container, None
            container.close()
        except (av.FFmpegError, OSError) as error:
            self._abandon()
            raise UserError(
                f"{self.path} could not be finished ({error.strerror}): free some space; what was written until then "
                "stays there and plays."
            ) from error
        if self._sound is not None:
            self._sound.close()
        _index_at_front(self.path)


def _ticks(time_base: Fraction) -> int:
    """Ticks per second of the MP4's clock, in which `time_base` is a whole number; at least 10000, as players like."""
    ticks = time_base.denominator
    return ticks * -(-10_000 // ticks)


def _index_at_front(path: Path) -> None:
    """Rewrite a fragmented MP4 as an ordinary one with the index in front, without touching the coded pictures.

    Where there is no room for the copy, the fragments stay: they play as well.
    """
    copy = path.with_name(f".{path.stem}.finishing{path.suffix}")
    try:
        with av.open(str(path)) as source:
            clock = max(int(1 / stream.time_base) for stream in source.streams.video)
            options = {"movflags": "faststart", "video_track_timescale": str(clock)}
            with av.open(
                str(copy),
                "w",
                format=source.format.name.split(",")[0] if path.suffix == ".mov" else "mp4",
                options=options,
            ) as target:
                streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
                for packet in source.demux():
                    if packet.dts is not None:
                        packet.stream = streams[packet.stream.index]
                        target.mux(packet)
        copy.replace(path)
    except (av.FFmpegError, OSError):
        copy.unlink(missing_ok=True)


class PictureFolder:
    """Lossless PNGs, 000000.png and on, in a folder that is made if needed.

    Raises:
        UserError: if the folder cannot be made, or frames of an earlier run lie in it.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.name = str(folder)
        self.count = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder {folder} cannot be made ({error.strerror}): choose another --output."
            ) from error
        if self._path(0).exists():
            raise UserError(
                f"The folder {folder} already holds frames: empty it, or choose another --output."
            )

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.png"

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        path = self._path(self.count)
        try:
            write_png(path, picture)
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise UserError(
                f"{path} cannot be written ({error.strerror}): free some space or choose another --output; the "
                f"{self.count} frames before it stay there."
            ) from error
        self.count += 1

    def close(self) -> None:
        pass


#: What to do where there is no virtual camera, by `platform.system()`.
VIRTUAL_CAMERA_HELP = {
    "Linux": (
        "install v4l2loopback (package v4l2loopback-dkms) and load it with "
        "sudo modprobe v4l2loopback exclusive_caps=1 card_label=livepuppet"
    ),
    "Windows": "install OBS Studio, start it once and press 'Start Virtual Camera', then 'Stop Virtual Camera'",
    "Darwin": (
        "install OBS Studio, start it once, press 'Start Virtual Camera', allow its extension in System Settings, "
        "then 'Stop Virtual Camera'"
    ),
}


class VirtualCamera:
    """A camera that other programs see (pyvirtualcam: v4l2loopback on Linux, OBS elsewhere, Unity Capture on Windows).

    Pictures are handed over as they come; the pace is the source's.

    Args:
        device: `/dev/video9` or its number on Linux, the device's name elsewhere; None takes the first there is.
        width, height: in pixels, fixed for the session.
        rate: frames per second as announced to readers.

    Raises:
        UserError: if there is no such device, or it is taken.
    """

    def __init__(self, device: str | None, width: int, height: int, rate: float = 30.0):
        # Imported here: the package is GPL-licensed and its backends touch devices.
        try:
            import pyvirtualcam
        except ImportError as error:
            raise UserError("A virtual camera needs pyvirtualcam: pip install pyvirtualcam.") from error
        if device is not None and device.isdecimal() and sys.platform.startswith("linux"):
            device = f"/dev/video{device}"
        try:
            self._camera = pyvirtualcam.Camera(width, height, rate, device=device)
        except (RuntimeError, OSError, ValueError) as error:
            remedy = VIRTUAL_CAMERA_HELP.get(platform.system(), "see the README")
            which = (
                f"The virtual camera {device} cannot be opened" if device else "There is no virtual camera"
            )
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(f"{which} ({reason}): {remedy}.") from error
        self.device = self._camera.device
        self.name = f"virtual:{self.device}"

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        try:
            self._camera.send(picture)
        except (RuntimeError, OSError) as error:
            raise UserError(f"The virtual camera {self.device} is gone ({error}): start again.") from error

    def close(self) -> None:
        self._camera.close()


def display_problem() -> str | None:
    """Why no window can be opened here, or None. On Linux the GUI library would end the process, so ask first."""
    if not sys.platform.startswith("linux"):
        return None
    display = os.environ.get("DISPLAY")
    if not display:
        return "the variable DISPLAY is not set"
    host, _, number = display.rpartition(":")
    number = number.split(".")[0]
    if not host and number.isdecimal():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            for address in (f"/tmp/.X11-unix/X{number}", f"\0/tmp/.X11-unix/X{number}"):
                with suppress(OSError):
                    probe.connect(address)
                    break
            else:
                return f"nothing answers at DISPLAY={display}"
    # The server may still refuse us, or a library be missing; both end the process that tries.
    script = "import cv2; cv2.namedWindow('livepuppet'); cv2.waitKey(1); cv2.destroyAllWindows()"
    try:
        probe = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return f"no window could be opened at DISPLAY={display}"
    return f"no window could be opened at DISPLAY={display}" if probe.returncode else None


class Window:
    """A window on the screen, and its keys.

    Raises:
        UserError: if there is no display, or OpenCV came without windows.
    """

    name = "window"

    def __init__(self, width: int, height: int):
        problem = display_problem()
        if problem:
            raise UserError(
                f"No window can be opened ({problem}): run on a desktop, or use --output FILE.mp4 or --output virtual."
            )
        try:
            cv2.namedWindow(
                WINDOW_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | getattr(cv2, "WINDOW_GUI_NORMAL", 0)
            )
            cv2.resizeWindow(WINDOW_TITLE, width, height)
        except cv2.error as error:
            raise UserError(
                "This OpenCV cannot open windows: pip uninstall opencv-python-headless, then pip install "
                "--force-reinstall 'opencv-python<5'."
            ) from error
        self._bgr = np.empty((height, width, 3), np.uint8)
        self._shown = False

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        cv2.cvtColor(picture, cv2.COLOR_RGB2BGR, dst=self._bgr)
        cv2.imshow(WINDOW_TITLE, self._bgr)

    def key_code(self) -> int:
        """Let the window draw itself and return the code of a pressed key, -1 if there is none."""
        return cv2.waitKeyEx(1)

    @property
    def closed(self) -> bool:
        """Whether the person closed it."""
        try:
            visible = cv2.getWindowProperty(WINDOW_TITLE, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return True
        # Some window systems take a moment to show it.
        self._shown = self._shown or visible
        return self._shown and not visible

    def close(self) -> None:
        with suppress(cv2.error):
            cv2.destroyWindow(WINDOW_TITLE)
            cv2.waitKey(1)


def is_video_name(text: str) -> bool:
    return Path(text).suffix.lower() in VIDEO_SUFFIXES


def check_file_output(text: str) -> None:
    """Raise UserError unless `text` can name a video file or a folder of PNGs."""
    suffix = Path(text).suffix.lower()
    if (
        suffix
        and suffix not in VIDEO_SUFFIXES
        and not Path(text).is_dir()
        and not text.endswith(("/", os.sep))
    ):
        raise UserError(
            f"The output {text} is no video this tool writes: give a name in {' or '.join(VIDEO_SUFFIXES)}, or a folder."
        )


def open_live_output(text: str, width: int, height: int, rate: float) -> Output:
    """`virtual[:DEVICE]`, `window`, `none`, a video file or a folder, for pictures of `width` x `height` pixels.

    Raises:
        UserError: if it cannot be opened.
    """
    kind, _, rest = text.partition(":")
    if kind == "virtual":
        return VirtualCamera(rest or None, width, height, rate)
    if text == "window":
        return Window(width, height)
    if text == "none":
        return Nowhere()
    check_file_output(text)
    if is_video_name(text):
        return VideoFile(Path(text), width, height, Fraction(rate).limit_denominator(1001), live=True)
    return PictureFolder(Path(text))
