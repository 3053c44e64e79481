"""What one frame asks of whoever draws it, in some tens of bytes: the head's pose, what keypoints do beyond it, and amounts.

Everything is rounded to whole steps, and only its difference to a frame that the other end is known to have is written, in
exponential Golomb codes whose order each group of numbers chooses for itself. So every packet can be understood without those in
between: one that is lost, or overtaken, costs nothing but itself.
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

#: Steps per unit: of the pose (logarithm of its scale, radians, and units of which the avatar's square has two: .2 pixels of
#: 720), of residuals and keypoints, of amounts, and of Jacobians.
POSE, POINTS, AMOUNTS, JACOBIANS = 2048.0, 1024.0, 160.0, 256.0

#: No number is larger, in steps.
LARGEST = 32767

#: Before each packet: the frame's number, how many frames before it its base is (0: it has none), when it was captured, in tenths
#: of milliseconds of the sender's clock, what is in it, and how many keypoints there are.
HEADER = struct.Struct("<IBIBB")

RESTS, MOTION, WITH_AMOUNTS, KEYPOINTS = 1, 2, 4, 8

#: Frames that both ends remember.
REMEMBERED = 120

#: Of one group's order, 4 bits: this one says that all its numbers are 0.
_ALL_ZERO = 15

#: Keypoints that a packet can have, and its bytes.
MOST_KEYPOINTS, LONGEST = 128, 4096


class BadNumbers(ValueError):
    """A packet that cannot be understood."""


class NoBase(BadNumbers):
    """A packet that goes by a frame which is not known here: the next one has to stand alone."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What a frame asks for.

    Attributes:
        motion: for rigs; None where the model alone draws.
        keypoints: for the model; None where a rig draws all.
        rests: show the avatar as it is.
    """

    motion: RigMotion | None = None
    keypoints: Keypoints | None = None
    rests: bool = False


@dataclass(frozen=True)
class Told:
    """A packet that was read.

    Attributes:
        number: of the frame, growing.
        captured: tenths of milliseconds, as sent.
        asked: what it asks for.
    """

    number: int
    captured: int
    asked: Asked


class Packer:
    """Writes packets. One thread at a time."""

    def __init__(self) -> None:
        self._sent: OrderedDict[int, tuple[tuple[int, int], list[np.ndarray]]] = OrderedDict()
        self._base: int | None = None

    def acknowledged(self, number: int) -> None:
        """The other end has that frame. Frames that were never sent are ignored."""
        if number in self._sent and (self._base is None or number > self._base):
            self._base = number

    def forget(self) -> None:
        """The other end has nothing: the next packet stands alone."""
        self._sent.clear()
        self._base = None

    def pack(self, number: int, captured: int, asked: Asked) -> bytes:
        """One frame.

        Args:
            number: growing, below 2**32.
            captured: tenths of milliseconds; what is beyond 32 bits is cut off.
            asked: what it asks for.
        """
        shape, groups = _to_steps(asked)
        base, before = 0, [np.zeros_like(group) for group in groups]
        known = None if self._base is None else self._sent.get(self._base)
        if known is not None and known[0] == shape and number - self._base < 256:  # type: ignore[operator]
            base, before = number - self._base, known[1]  # type: ignore[operator]
        bits = _Bits()
        for group, old in zip(groups, before, strict=True):
            bits.write_group(group - old)
        self._sent[number] = shape, groups
        while len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        flags, count = shape
        flags |= RESTS if asked.rests else 0
        return HEADER.pack(number, base, captured & 0xFFFFFFFF, flags, count) + bits.data()


class Unpacker:
    """Reads packets. One thread at a time."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[tuple[int, int], list[np.ndarray]]] = OrderedDict()

    def unpack(self, packet: bytes) -> Told:
        """What a packet says.

        Raises:
            NoBase: it goes by a frame that is not known.
            BadNumbers: it is no such packet.
        """
        if not HEADER.size <= len(packet) <= LONGEST:
            raise BadNumbers("length")
        number, base, captured, flags, count = HEADER.unpack_from(packet)
        if flags & ~(RESTS | MOTION | WITH_AMOUNTS | KEYPOINTS) or count > MOST_KEYPOINTS:
            raise BadNumbers("kind")
        shape = (flags & ~RESTS, count)
        sizes = _sizes(*shape)
        before = [np.zeros(size, np.int64) for size in sizes]
        if base:
            known = self._known.get(number - base)
            if known is None or known[0] != shape:
                raise NoBase("base")
            before = known[1]
        bits = _Reader(packet[HEADER.size :])
        groups = [bits.read_group(size) + old for size, old in zip(sizes, before, strict=True)]
        if any(np.abs(group).max(initial=0) > LARGEST for group in groups):
            raise BadNumbers("range")
        self._known[number] = shape, groups
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return Told(number, captured, _from_steps(shape, groups, bool(flags & RESTS)))


def _sizes(flags: int, count: int) -> list[int]:
    """Of the groups of a packet."""
    sizes = [6, 2 * count] if flags & MOTION else []
    if flags & WITH_AMOUNTS:
        sizes.append(len(NAMES))
    return sizes + ([2 * count, 4 * count] if flags & KEYPOINTS else [])


def _to_steps(asked: Asked) -> tuple[tuple[int, int], list[np.ndarray]]:
    flags, count, groups = 0, 0, []
    if asked.motion is not None:
        pose = asked.motion.pose
        tilt, roll = split(pose.rotation)
        numbers = np.array([math.log(max(pose.scale, 1e-6)), *tilt, roll, *pose.shift])
        groups = [_steps(numbers, POSE), _steps(asked.motion.residuals, POINTS)]
        flags, count = MOTION, len(asked.motion.residuals)
        if asked.motion.amounts is not None:
            groups.append(_steps(asked.motion.amounts, AMOUNTS))
            flags |= WITH_AMOUNTS
    if asked.keypoints is not None:
        flags, count = flags | KEYPOINTS, len(asked.keypoints.points)
        groups += [_steps(asked.keypoints.points, POINTS), _steps(asked.keypoints.jacobians, JACOBIANS)]
    return (flags, count), groups


def _steps(numbers: np.ndarray, per_unit: float) -> np.ndarray:
    scaled = np.nan_to_num(np.asarray(numbers, np.float64).ravel() * per_unit)
    return np.clip(np.rint(scaled), -LARGEST, LARGEST).astype(np.int64)


def _from_steps(shape: tuple[int, int], groups: list[np.ndarray], rests: bool) -> Asked:
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
    return Asked(motion, keypoints, rests)


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
        costs = [
            int((2 * np.floor(np.log2((folded >> order) + 1))).sum()) + len(folded) * (1 + order)
            for order in range(9)
        ]
        order = int(np.argmin(costs))
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
            raise BadNumbers("too short")
        value = int(self._bits[self._at : end], 2) if length else 0
        self._at = end
        return value

    def read_group(self, count: int) -> np.ndarray:
        order = self._take(4)
        if order == _ALL_ZERO:
            return np.zeros(count, np.int64)
        if order > 8:
            raise BadNumbers("order")
        numbers = np.empty(count, np.int64)
        for place in range(count):
            first = self._bits.find("1", self._at)
            zeros = first - self._at
            if first < 0 or zeros > 17:
                raise BadNumbers("number")
            self._at = first
            folded = (self._take(zeros + 1) - 1 << order) | self._take(order)
            numbers[place] = -(folded + 1) // 2 if folded & 1 else folded // 2
        return numbers
