"""The motion of one frame in some tens of bytes: the head's pose, the keypoints' residuals, and the rig's amounts.

Everything is quantised, and coded as the difference to a frame that the receiver has acknowledged, in exponential Golomb codes
whose order each group of numbers chooses for itself. So no packet needs the ones in between: one that is lost costs only itself.
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.realtime.rig.amounts import NAMES, bounded
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.pose import HeadPose, joined, split

#: Quantisation steps per unit: of the pose (logarithm of its scale, radians, and units of which the avatar's square has two: .2
#: pixels of 720), of residuals and keypoints, of amounts, and of Jacobians.
POSE, POINTS, AMOUNTS, JACOBIANS = 2048.0, 1024.0, 160.0, 256.0

#: Largest absolute value, in steps.
LARGEST = 32767

#: Of a packet: the frame's number, the distance back to its base (0: none), the time it was sent in tenths of milliseconds of the
#: sender's clock, flags, and the number of keypoints.
HEADER = struct.Struct("<IBIBB")

AT_REST, MOTION, WITH_AMOUNTS, KEYPOINTS = 1, 2, 4, 8

#: Flags above those: by how many powers of two differences are coarser than steps, but for the pose's.
_COARSE_SHIFT, COARSEST = 4, 3

_SHAPE = MOTION | WITH_AMOUNTS | KEYPOINTS

#: Frames that both ends keep as possible bases.
REMEMBERED = 120

#: Orders of the Golomb codes.
_ORDERS = np.arange(9)

#: Value of a group's order (4 bits) that stands for a group of zeros.
_ALL_ZERO = 15

#: Most keypoints in a packet, and its greatest length in bytes.
MOST_KEYPOINTS, LONGEST = 128, 4096


class BadPacket(ValueError):
    """A packet that cannot be decoded."""


class UnknownBase(BadPacket):
    """A packet coded against a frame that is not known here: the next one has to do without a base."""


class StalePacket(BadPacket):
    """A packet no newer than one that was decoded before: sent twice, overtaken, or replayed."""


@dataclass(frozen=True, eq=False)
class RenderRequest:
    """What to render for one frame.

    Attributes:
        motion: of the rig; None where the model alone draws.
        keypoints: for the model; None where a rig draws everything.
        at_rest: show the avatar as it is.
    """

    motion: RigMotion | None = None
    keypoints: Keypoints | None = None
    at_rest: bool = False


@dataclass(frozen=True)
class Packet:
    """A decoded packet.

    Attributes:
        number: of the frame, growing.
        sent: time in tenths of milliseconds of the sender's clock, modulo 2**32.
        request: what to render.
    """

    number: int
    sent: int
    request: RenderRequest


class PacketEncoder:
    """Codes frames. Not thread safe."""

    def __init__(self) -> None:
        self._sent: OrderedDict[int, tuple[tuple[int, int], list[np.ndarray]]] = OrderedDict()
        self._base: int | None = None

    def acknowledged(self, number: int) -> None:
        """The receiver has frame `number`, so later ones may be coded against it. Unknown numbers are ignored."""
        if number in self._sent and (self._base is None or number > self._base):
            self._base = number

    def forget(self) -> None:
        """The receiver has no frame: the next packet has no base."""
        self._sent.clear()
        self._base = None

    def encode(self, number: int, sent: int, request: RenderRequest, coarse: int = 0) -> bytes:
        """The packet of one frame.

        Args:
            number: growing, below 2**32.
            sent: time in tenths of milliseconds, taken modulo 2**32.
            request: what to render.
            coarse: 0 to `COARSEST`; each makes the steps of all but the pose twice as large.
        """
        shape, groups = _to_steps(request)
        base, before = 0, [np.zeros_like(group) for group in groups]
        known = None if self._base is None else self._sent.get(self._base)
        if known is not None and known[0] == shape and number - self._base < 256:  # type: ignore[operator]
            base, before = number - self._base, known[1]  # type: ignore[operator]
        bits, known_there = _Bits(), []
        for shift, group, old in zip(_shifts(shape[0], coarse), groups, before, strict=True):
            change = np.rint((group - old) / (1 << shift)).astype(np.int64) if shift else group - old
            bits.write_group(change)
            known_there.append(np.clip(old + (change << shift), -LARGEST, LARGEST))
        self._sent[number] = shape, known_there
        while len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        flags, count = shape
        flags |= (AT_REST if request.at_rest else 0) | coarse << _COARSE_SHIFT
        return HEADER.pack(number, base, sent & 0xFFFFFFFF, flags, count) + bits.data()


class PacketDecoder:
    """Decodes packets. Not thread safe."""

    def __init__(self) -> None:
        self._newest = -1
        self._known: OrderedDict[int, tuple[tuple[int, int], list[np.ndarray]]] = OrderedDict()

    def decode(self, packet: bytes) -> Packet:
        """The frame of one packet.

        Raises:
            UnknownBase: it is coded against a frame that is not known.
            StalePacket: it is no newer than the last one.
            BadPacket: it is malformed.
        """
        if not HEADER.size <= len(packet) <= LONGEST:
            raise BadPacket("length")
        number, base, sent, flags, count = HEADER.unpack_from(packet)
        if flags >> _COARSE_SHIFT > COARSEST or count > MOST_KEYPOINTS:
            raise BadPacket("kind")
        if number <= self._newest:
            raise StalePacket("number")
        shape = (flags & _SHAPE, count)
        sizes = _sizes(*shape)
        before = [np.zeros(size, np.int64) for size in sizes]
        if base:
            known = self._known.get(number - base)
            if known is None or known[0] != shape:
                raise UnknownBase("base")
            before = known[1]
        bits = _Reader(packet[HEADER.size :])
        shifts = _shifts(flags, flags >> _COARSE_SHIFT)
        groups = [
            (bits.read_group(size) << shift) + old
            for shift, size, old in zip(shifts, sizes, before, strict=True)
        ]
        if any(np.abs(group).max(initial=0) > LARGEST << COARSEST for group in groups):
            raise BadPacket("range")
        groups = [np.clip(group, -LARGEST, LARGEST) for group in groups]
        self._newest = number
        self._known[number] = shape, groups
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return Packet(number, sent, _from_steps(shape, groups, bool(flags & AT_REST)))


def _shifts(flags: int, coarse: int) -> list[int]:
    """Of each group's differences. A head's pose moves every pixel, and is six numbers."""
    pose = [0] if flags & MOTION else []
    return pose + [coarse] * (len(_sizes(flags, 0)) - len(pose))


def _sizes(flags: int, count: int) -> list[int]:
    """How many numbers each group of a packet has."""
    sizes = [6, 2 * count] if flags & MOTION else []
    if flags & WITH_AMOUNTS:
        sizes.append(len(NAMES))
    return sizes + ([2 * count, 4 * count] if flags & KEYPOINTS else [])


def _to_steps(request: RenderRequest) -> tuple[tuple[int, int], list[np.ndarray]]:
    flags, count, groups = 0, 0, []
    if request.motion is not None:
        pose = request.motion.pose
        tilt, roll = split(pose.rotation)
        numbers = np.array([math.log(max(pose.scale, 1e-6)), *tilt, roll, *pose.shift])
        groups = [_steps(numbers, POSE), _steps(request.motion.residuals, POINTS)]
        flags, count = MOTION, len(request.motion.residuals)
        if request.motion.amounts is not None:
            groups.append(_steps(request.motion.amounts, AMOUNTS))
            flags |= WITH_AMOUNTS
    if request.keypoints is not None:
        flags, count = flags | KEYPOINTS, len(request.keypoints.points)
        groups += [_steps(request.keypoints.points, POINTS), _steps(request.keypoints.jacobians, JACOBIANS)]
    return (flags, count), groups


def _steps(numbers: np.ndarray, per_unit: float) -> np.ndarray:
    scaled = np.nan_to_num(np.asarray(numbers, np.float64).ravel() * per_unit)
    return np.clip(np.rint(scaled), -LARGEST, LARGEST).astype(np.int64)


def _from_steps(shape: tuple[int, int], groups: list[np.ndarray], at_rest: bool) -> RenderRequest:
    flags, count = shape
    left = list(groups)
    motion = keypoints = None
    if flags & MOTION:
        numbers = left.pop(0) / POSE
        scale = math.exp(min(max(float(numbers[0]), -4.0), 4.0))
        pose = HeadPose(scale, joined(numbers[1:3], float(numbers[3])), numbers[4:6])
        residuals = (left.pop(0) / POINTS).reshape(count, 2)
        amounts = bounded(left.pop(0) / AMOUNTS) if flags & WITH_AMOUNTS else None
        motion = RigMotion(pose, residuals, amounts)
    if flags & KEYPOINTS:
        points = (left.pop(0) / POINTS).astype(np.float32).reshape(count, 2)
        keypoints = Keypoints(points, (left.pop(0) / JACOBIANS).astype(np.float32).reshape(count, 2, 2))
    return RenderRequest(motion, keypoints, at_rest)


class _Bits:
    """Bits, the first one the highest."""

    def __init__(self) -> None:
        self._value, self._length = 1, 0

    def _write(self, value: int, length: int) -> None:
        self._value = self._value << length | value
        self._length += length

    def write_group(self, numbers: np.ndarray) -> None:
        if not numbers.any():
            self._write(_ALL_ZERO, 4)
            return
        # 0, -1, 1, -2, ... as 0, 1, 2, 3, ...
        folded = np.where(numbers < 0, -2 * numbers - 1, 2 * numbers)
        prefixes = np.frexp(((folded >> _ORDERS[:, None]) + 1).astype(np.float64))[1].sum(1)
        order = int(np.argmin(2 * prefixes + len(folded) * _ORDERS))
        self._write(order, 4)
        for number in folded.tolist():
            above = (number >> order) + 1
            length = above.bit_length()
            self._write(above, 2 * length - 1)
            if order:
                self._write(number & ((1 << order) - 1), order)

    def data(self) -> bytes:
        filled = -self._length % 8
        value = (self._value << filled) & ((1 << (self._length + filled)) - 1)
        return value.to_bytes((self._length + filled) // 8, "big")


class _Reader:
    def __init__(self, data: bytes):
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def _take(self, length: int) -> int:
        end = self._at + length
        if end > len(self._bits):
            raise BadPacket("too short")
        value = int(self._bits[self._at : end], 2) if length else 0
        self._at = end
        return value

    def read_group(self, count: int) -> np.ndarray:
        order = self._take(4)
        if order == _ALL_ZERO:
            return np.zeros(count, np.int64)
        if order >= len(_ORDERS):
            raise BadPacket("order")
        numbers = np.empty(count, np.int64)
        for place in range(count):
            first = self._bits.find("1", self._at)
            zeros = first - self._at
            if first < 0 or zeros > 17:
                raise BadPacket("number")
            self._at = first
            folded = (self._take(zeros + 1) - 1 << order) | self._take(order)
            numbers[place] = -(folded + 1) // 2 if folded & 1 else folded // 2
        return numbers
