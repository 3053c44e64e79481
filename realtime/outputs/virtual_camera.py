"""A camera that other programs see, fed by this one."""

from __future__ import annotations

import platform
import sys
from fractions import Fraction

import numpy as np

from livepuppet.realtime.errors import UserError

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
            # Its first sentence; what to do follows in ours.
            reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
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
