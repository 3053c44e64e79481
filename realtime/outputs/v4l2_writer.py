"""Pictures into a v4l2loopback device on Linux, by the ioctls of Video4Linux2 (linux/videodev2.h)."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from fractions import Fraction

import numpy as np

from livepuppet.core.numbers import is_whole
from livepuppet.realtime.inputs import v4l2

_BUFFER_OUTPUT = 2
_FIELD_NONE = 1
#: BT.601 primaries and matrix, limited range: what `yuv` makes.
_COLORSPACE_SMPTE170M = 1

#: Four-letter codes of the layouts of `yuv`.
_CODES = {"i420": b"YU12", "nv12": b"NV12"}


class _PixelFormat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in (
            *("width", "height", "pixelformat", "field", "bytesperline", "sizeimage"),
            *("colorspace", "priv", "flags", "ycbcr_enc", "quantization", "xfer_func"),
        )
    )


class _FormatUnion(ctypes.Union):
    # Other members of the union hold pointers, which decides where it is aligned.
    _fields_ = (("pix", _PixelFormat), ("raw", ctypes.c_uint8 * 200), ("pointer", ctypes.c_void_p))


class _Format(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint32), ("fmt", _FormatUnion))


class _OutputParameters(ctypes.Structure):
    _fields_ = (
        ("capability", ctypes.c_uint32),
        ("outputmode", ctypes.c_uint32),
        ("numerator", ctypes.c_uint32),
        ("denominator", ctypes.c_uint32),
    )


class _ParametersUnion(ctypes.Union):
    _fields_ = (("output", _OutputParameters), ("raw", ctypes.c_uint8 * 200))


class _StreamParameters(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint32), ("parm", _ParametersUnion))


def _request(number: int, structure: type[ctypes.Structure]) -> int:
    """The `_IOWR` number of a V4L2 ioctl."""
    return 3 << 30 | ctypes.sizeof(structure) << 16 | ord("V") << 8 | number


_S_FMT = _request(5, _Format)
_S_PARM = _request(22, _StreamParameters)
_STREAMON = 1 << 30 | ctypes.sizeof(ctypes.c_int) << 16 | ord("V") << 8 | 18


def find_device(wanted: str | None) -> str:
    """The device file of `/dev/video9`, `9`, a part of a virtual camera's name, or of the first
    that is free.

    Raises:
        OSError: if there is none that can be fed; `strerror` says why.
    """
    devices = [device for device in v4l2.list_devices() if device.loopback]
    if wanted is None:
        matches = devices
    elif is_whole(wanted) or "/" in wanted:
        path = f"/dev/video{wanted}" if is_whole(wanted) else wanted
        matches = [device for device in devices if device.path == path]
        if not matches:
            # Opening it tells whether it is missing, forbidden, or no virtual camera.
            return path
    else:
        matches = [device for device in devices if wanted.casefold() in device.name.casefold()]
    # The driver would let two programs feed one device in turn. With exclusive_caps it tells by
    # being a camera and nothing else; after a program that left it badly it is neither, and free.
    # Without exclusive_caps nobody can tell.
    free = [device for device in matches if device.output or not device.capture]
    if free:
        return free[0].path
    if matches:
        raise OSError(0, "another program feeds it")
    raise OSError(0, "no virtual camera has that name" if wanted else "no device is there")


class V4l2Writer:
    """An open device that other programs read pictures from.

    Args:
        path: of the device file.
        width, height: in pixels.
        rate: frames per second as announced to readers.
        layout: of the pictures, `i420` or `nv12`.

    Raises:
        OSError: if it cannot be opened, is no virtual camera, is taken, or insists on another
            format; `strerror` says.
    """

    def __init__(self, path: str, width: int, height: int, rate: float, layout: str):
        self.path = path
        self._file = os.open(path, os.O_RDWR)
        try:
            self._set_format(width, height, layout)
            self._set_rate(rate)
            self._start()
        except OSError:
            self.close()
            raise

    def _set_format(self, width: int, height: int, layout: str) -> None:
        import fcntl

        code = int.from_bytes(_CODES[layout], "little")
        wanted = _Format(type=_BUFFER_OUTPUT)
        wanted.fmt.pix = _PixelFormat(
            width=width,
            height=height,
            pixelformat=code,
            field=_FIELD_NONE,
            bytesperline=width,
            sizeimage=width * height * 3 // 2,
            colorspace=_COLORSPACE_SMPTE170M,
        )
        try:
            fcntl.ioctl(self._file, _S_FMT, wanted)
        except OSError as error:
            reason = {
                "EINVAL": "it is no virtual camera, or another program feeds it",
                "ENOTTY": "it is no virtual camera",
                "EBUSY": "another program feeds it",
            }.get(_error_name(error), error.strerror)
            raise OSError(error.errno, reason) from error
        given = wanted.fmt.pix
        if (given.width, given.height, given.pixelformat) != (width, height, code):
            raise OSError(0, f"it insists on pictures of {given.width}x{given.height} in another format")

    def _set_rate(self, rate: float) -> None:
        import fcntl

        interval = 1 / Fraction(rate).limit_denominator(1001)
        parameters = _StreamParameters(type=_BUFFER_OUTPUT)
        parameters.parm.output.numerator = interval.numerator
        parameters.parm.output.denominator = interval.denominator
        # A hint for readers, no more.
        with suppress(OSError):
            fcntl.ioctl(self._file, _S_PARM, parameters)

    def _start(self) -> None:
        """Say that we feed it. Versions before 0.13 would not find out by the pictures alone, and
        after the last one count as neither a camera nor free; later ones refuse this, and need it
        not.
        """
        import fcntl

        with suppress(OSError):
            fcntl.ioctl(self._file, _STREAMON, ctypes.c_int(_BUFFER_OUTPUT))

    def write(self, data: np.ndarray) -> None:
        """One picture, uint8 (height * 3 / 2, width). Does not wait for readers. Raises OSError."""
        sent = os.write(self._file, data.data.cast("B"))
        if sent != data.nbytes:
            raise OSError(0, f"it took {sent} of {data.nbytes} bytes")

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _error_name(error: OSError) -> str:
    import errno

    return errno.errorcode.get(error.errno or 0, "")
