"""A camera that other programs see, fed by this one."""

from __future__ import annotations

import platform
from contextlib import suppress
from fractions import Fraction
from typing import Protocol

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.yuv import Yuv420

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


class _Sink(Protocol):
    path: str

    def write(self, data: np.ndarray) -> None: ...

    def close(self) -> None: ...


class VirtualCamera(Output):
    """A camera that other programs see: v4l2loopback on Linux, by pyvirtualcam OBS's or Unity
    Capture's elsewhere.

    The picture goes over as YUV 4:2:0 (BT.601, limited range, as webcams send), made here. New
    pictures are sent as they come. Where none comes, the last one is sent again at the announced
    rate, so that no reader ever waits; black before the first.

        with VirtualCamera(1280, 720) as camera:
            camera.send(picture)

    Args:
        width, height: in pixels, even, fixed for the session.
        rate: frames per second as announced to readers.
        device: `/dev/video9`, its number or a part of its name on Linux, the device's name
            elsewhere; None takes the first there is.
        pixel_format: `i420`, or `nv12` for readers that want that.

    Attributes:
        device: what it feeds, so that it is never taken for an input.

    Raises:
        UserError: if there is no such device, or it is taken.
    """

    retry = 1.0

    def __init__(
        self,
        width: int,
        height: int,
        rate: float = 30.0,
        device: str | None = None,
        pixel_format: str = "i420",
    ):
        self._yuv = Yuv420(width, height, pixel_format)
        self._size, self._rate = (width, height), rate
        self.interval = 1 / rate
        self.device = device
        self._sink = self._open()
        self.device = self._sink.path
        self.name = f"virtual:{self.device}"

    def _open(self) -> _Sink:
        try:
            return self._open_sink()
        except (RuntimeError, OSError, ValueError) as error:
            remedy = VIRTUAL_CAMERA_HELP.get(platform.system(), "see docs/outputs.md")
            if self.device:
                which = f"The virtual camera {self.device} cannot be opened"
                remedy = f"livepuppet devices lists those there are; if none, {remedy}"
            else:
                which = "There is no virtual camera that can be fed"
            # The first sentence of pyvirtualcam's; what to do follows in ours.
            reason = " ".join(str(getattr(error, "strerror", None) or error).split()).split(". ")[0]
            raise UserError(f"{which} ({reason.rstrip('.')}): {remedy}.") from error

    def _open_sink(self) -> _Sink:
        if platform.system() == "Linux":
            from livepuppet.realtime.outputs.v4l2_writer import V4l2Writer, find_device

            return V4l2Writer(find_device(self.device), *self._size, self._rate, self._yuv.layout)
        return _Pyvirtualcam(self.device, *self._size, self._rate, self._yuv.layout)

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        self._yuv.convert(picture)
        self._send()

    def send(self, image: np.ndarray) -> None:
        """Show uint8 RGB (height, width, 3) at once.

        Raises:
            UserError: the image has another shape, or the camera takes no pictures any more.
        """
        if image.shape != (self._size[1], self._size[0], 3) or image.dtype != np.uint8:
            raise UserError(
                f"{self.name} takes RGB uint8 ({self._size[1]}, {self._size[0]}, 3), not {image.dtype} {image.shape}: "
                "resize the picture, or give the camera its size."
            )
        self.write(image, Fraction(0))

    def repeat(self) -> bool:
        self._send()
        return True

    def _send(self) -> None:
        try:
            self._sink.write(self._yuv.data)
        except (RuntimeError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"The virtual camera {self.device} takes no pictures any more ({reason.rstrip('.')}): load its driver "
                "again or start OBS's again; it is tried every second."
            ) from error

    def reopen(self) -> None:
        self._sink.close()
        self._sink = self._open()
        self._send()

    def close(self) -> None:
        self._sink.close()


class _Pyvirtualcam:
    """Windows and macOS."""

    def __init__(self, device: str | None, width: int, height: int, rate: float, layout: str):
        # Imported here: the package is GPL-licensed and its back ends touch devices.
        try:
            import pyvirtualcam  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError("A virtual camera needs pyvirtualcam: pip install pyvirtualcam.") from error
        layouts = {"i420": pyvirtualcam.PixelFormat.I420, "nv12": pyvirtualcam.PixelFormat.NV12}
        self._camera = pyvirtualcam.Camera(width, height, rate, fmt=layouts[layout], device=device)
        self.path = self._camera.device

    def write(self, data: np.ndarray) -> None:
        self._camera.send(data)

    def close(self) -> None:
        with suppress(RuntimeError):
            self._camera.close()
