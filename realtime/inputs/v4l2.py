"""What Linux says about its cameras: names, drivers, modes, by the ioctls of Video4Linux2
(linux/videodev2.h).
"""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

CAPTURE, OUTPUT, META_CAPTURE, READS_AND_WRITES_IN_MEMORY = 0x1, 0x2, 0x0080_0000, 0x0000_8000
_HAS_DEVICE_CAPABILITIES = 0x8000_0000
_BUFFER_CAPTURE = 1
_DISCRETE = 1

#: Drivers of cameras that programs feed.
LOOPBACK_DRIVERS = ("v4l2 loopback", "v4l2loopback", "akvcam")


class _Capability(ctypes.Structure):
    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class _FormatDescription(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("description", ctypes.c_char * 32),
        ("pixel_format", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 4),
    )


class _FrameSize(ctypes.Structure):
    # A union: discrete (width, height), or stepwise (min_width, max_width, step_width, min_height,
    # ...).
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("pixel_format", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("numbers", ctypes.c_uint32 * 6),
        ("reserved", ctypes.c_uint32 * 2),
    )


class _FrameInterval(ctypes.Structure):
    # A union again: discrete (numerator, denominator), or stepwise min, max, step of the same.
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("pixel_format", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("numbers", ctypes.c_uint32 * 6),
        ("reserved", ctypes.c_uint32 * 2),
    )


def _request(number: int, structure: type[ctypes.Structure], writes: bool) -> int:
    """The `_IOR` or `_IOWR` number of a V4L2 ioctl."""
    direction = 3 if writes else 2
    return direction << 30 | ctypes.sizeof(structure) << 16 | ord("V") << 8 | number


_QUERYCAP = _request(0, _Capability, writes=False)
_ENUM_FMT = _request(2, _FormatDescription, writes=True)
_ENUM_FRAMESIZES = _request(74, _FrameSize, writes=True)
_ENUM_FRAMEINTERVALS = _request(75, _FrameInterval, writes=True)


@dataclass(frozen=True)
class Mode:
    """One way a camera delivers pictures.

    Attributes:
        pixel_format: four letters, such as MJPG or YUYV.
        width, height: in pixels; the largest where any size in a range will do.
        rates: frames per second, the highest first; empty where the driver does not say.
    """

    pixel_format: str
    width: int
    height: int
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Device:
    """One /dev/video node.

    Attributes:
        path: `/dev/video0`.
        number: 0, as OpenCV counts.
        name: as the driver calls it.
        driver: such as uvcvideo.
        capture: whether programs can read pictures from it now.
        output: whether programs can write pictures into it now. A loopback device with
            exclusive_caps can be written until somebody does, and can be read from then on.
        loopback: whether it is a virtual camera.
        problem: why it could not be asked, or an empty text.
        bus: where it is plugged in, as the driver says; tells two cameras of one name apart.
    """

    path: str
    number: int
    name: str
    driver: str = ""
    capture: bool = False
    output: bool = False
    loopback: bool = False
    modes: tuple[Mode, ...] = field(default=())
    problem: str = ""
    bus: str = ""


def list_devices() -> list[Device]:
    """All /dev/video nodes that carry pictures, in the order of their numbers; empty on other
    systems.
    """
    nodes = [
        (int(match[1]), path)
        for path in Path("/dev").glob("video*")
        if (match := re.fullmatch(r"video(\d+)", path.name))
    ]
    devices = [_describe(number, path) for number, path in sorted(nodes)]
    return [device for device in devices if device is not None]


def _describe(number: int, path: Path) -> Device | None:
    """One node, or None where it carries no pictures (metadata of a camera, a codec)."""
    with suppress(OSError):
        label = Path(f"/sys/class/video4linux/{path.name}/name").read_text().strip()
        return _ask(number, path, label or path.name)
    return _ask(number, path, path.name)


def _ask(number: int, path: Path, label: str) -> Device | None:
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return Device(str(path), number, label, problem=error.strerror or str(error))
    try:
        capability = _Capability()
        try:
            fcntl.ioctl(descriptor, _QUERYCAP, capability)
        except OSError as error:
            return Device(str(path), number, label, problem=error.strerror or str(error))
        flags = capability.capabilities
        if flags & _HAS_DEVICE_CAPABILITIES:
            flags = capability.device_caps
        driver = capability.driver.decode(errors="replace")
        capture, output = bool(flags & CAPTURE), bool(flags & OUTPUT)
        loopback = any(driver.startswith(name) for name in LOOPBACK_DRIVERS)
        # A loopback device that its last program left carelessly says that it can do neither, until
        # it is fed again.
        if flags & READS_AND_WRITES_IN_MEMORY or not (capture or output or loopback):
            return None
        return Device(
            str(path),
            number,
            capability.card.decode(errors="replace") or label,
            driver,
            capture,
            output,
            loopback,
            tuple(_modes(descriptor)) if capture else (),
            bus=capability.bus_info.decode(errors="replace"),
        )
    finally:
        os.close(descriptor)


def _enumerate(descriptor: int, request: int, structure: ctypes.Structure):
    """Fill `structure` for index 0, 1, ... until the driver has no more."""
    import fcntl

    for index in range(256):
        structure.index = index
        try:
            fcntl.ioctl(descriptor, request, structure)
        except OSError:
            return
        yield structure


def _modes(descriptor: int):
    for description in _enumerate(descriptor, _ENUM_FMT, _FormatDescription(type=_BUFFER_CAPTURE)):
        code = description.pixel_format
        # The highest bit marks a big-endian twin of the format.
        letters = (code & 0x7FFF_FFFF).to_bytes(4, "little").decode("ascii", errors="replace").strip()
        letters += "-BE" if code >> 31 else ""
        for size in _enumerate(descriptor, _ENUM_FRAMESIZES, _FrameSize(pixel_format=code)):
            numbers = size.numbers
            width, height = (numbers[0], numbers[1]) if size.type == _DISCRETE else (numbers[1], numbers[4])
            yield Mode(letters, width, height, _rates(descriptor, code, width, height))
            if size.type != _DISCRETE:
                break


def _rates(descriptor: int, code: int, width: int, height: int) -> tuple[float, ...]:
    rates = set()
    wanted = _FrameInterval(pixel_format=code, width=width, height=height)
    for interval in _enumerate(descriptor, _ENUM_FRAMEINTERVALS, wanted):
        numerator, denominator = interval.numbers[0], interval.numbers[1]
        if numerator:
            rates.add(round(denominator / numerator, 2))
        if interval.type != _DISCRETE:
            break
    return tuple(sorted(rates, reverse=True))
