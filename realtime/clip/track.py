"""What frames of a driving file showed, kept as plain numbers: a kilobyte of each frame, where objects take seven."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar, overload

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import (
    ANCHORS,
    EYE_NUMBERS,
    HEAD_NUMBERS,
    MOUTH_NUMBERS,
    MOUTH_POINTS,
    FaceReading,
)
from livepuppet.core.square import Square

Item = TypeVar("Item")

#: Of one frame's colours, see `Seen`.
_COLOURS = 6


@dataclass(frozen=True, eq=False)
class Seen:
    """What one frame showed.

    Attributes:
        time, duration: as `Frame`.
        shot: number of the shot. Another begins with each cut, and where a face is found elsewhere
            than it was lost.
        square: in which `keypoints` were found; None with no face.
        keypoints: of the face, with what close-ups tell; None with no face.
        sharpness: variance of the face's second derivative, in squared levels.
        colours: float32 (6,), mean skin and hair in CIE L*a*b*.
    """

    time: Fraction
    duration: Fraction | None
    shot: int
    square: Square | None = None
    keypoints: Keypoints | None = None
    sharpness: float = 0.0
    colours: np.ndarray | None = None


class Kept(Sequence[Item]):
    """A sequence whose items are made anew whenever they are asked for."""

    def _made(self, index: int) -> Item:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self._made(place) for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        return self._made(place)


@dataclass(frozen=True)
class _Form:
    """How the numbers of one face are laid out: so many points, with these parts beside."""

    points: int
    confidence: bool
    reading: bool
    anchors: bool
    lips: bool


class Faces(Kept["Keypoints | None"]):
    """Keypoints of one frame after another, packed; None where there were none."""

    def __init__(self, keypoints: Iterable[Keypoints | None] = ()):
        self._numbers = array("f")
        #: Where each one's numbers begin, and how they are laid out; -1 where there are none.
        self._starts, self._forms = array("q"), array("b")
        self._known: list[_Form] = []
        for one in keypoints:
            self.append(one)

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, keypoints: Keypoints | None) -> None:
        self._starts.append(len(self._numbers))
        if keypoints is None:
            self._forms.append(-1)
            return
        reading, sure = keypoints.reading, keypoints.confidence
        form = _Form(
            len(keypoints.points),
            sure is not None,
            reading is not None,
            reading is not None and reading.anchors is not None,
            reading is not None and reading.lips is not None,
        )
        if form not in self._known:
            self._known.append(form)
        self._forms.append(self._known.index(form))
        parts = [keypoints.points.ravel(), keypoints.jacobians.ravel()]
        parts += [] if sure is None else [sure]
        parts += [] if reading is None else [reading.numbers()]
        self._numbers.frombytes(np.concatenate(parts, dtype=np.float32, casting="same_kind").tobytes())

    def _made(self, index: int) -> Keypoints | None:
        if self._forms[index] < 0:
            return None
        form, start = self._known[self._forms[index]], self._starts[index]
        end = self._starts[index + 1] if index + 1 < len(self) else len(self._numbers)
        numbers = np.frombuffer(self._numbers, np.float32, end - start, 4 * start).copy()

        def taken(*shape: int) -> np.ndarray:
            nonlocal numbers
            count = int(np.prod(shape))
            part, numbers = numbers[:count].reshape(shape), numbers[count:]
            return part

        points, jacobians = taken(form.points, 2), taken(form.points, 2, 2)
        confidence = taken(form.points) if form.confidence else None
        reading = None
        if form.reading:
            eyes, mouth, head = taken(2, EYE_NUMBERS), taken(MOUTH_NUMBERS), taken(HEAD_NUMBERS)
            anchors = taken(len(ANCHORS), 2) if form.anchors else None
            reading = FaceReading(
                eyes, mouth, head, anchors, taken(len(MOUTH_POINTS), 2) if form.lips else None
            )
        return Keypoints(points, jacobians, confidence, reading)


class Track(Kept[Seen]):
    """Frames that were seen, one after another.

    Attributes:
        faces: their keypoints.
    """

    def __init__(self, seen: Iterable[Seen] = ()):
        self.faces = Faces()
        self._times: list[Fraction] = []
        self._durations: list[Fraction | None] = []
        self._squares: list[Square | None] = []
        self._shots, self._sharpness, self._colours = array("i"), array("d"), array("f")
        self.extend(seen)

    def __len__(self) -> int:
        return len(self._times)

    def append(self, one: Seen) -> None:
        self._times.append(one.time)
        # What is mostly the same is kept once.
        self._durations.append(_same(self._durations, one.duration))
        self._squares.append(_same(self._squares, one.square))
        self._shots.append(one.shot)
        self._sharpness.append(one.sharpness)
        self._colours.extend([np.nan] * _COLOURS if one.colours is None else one.colours.tolist())
        self.faces.append(one.keypoints)

    def extend(self, seen: Iterable[Seen]) -> None:
        for one in seen:
            self.append(one)

    def _made(self, index: int) -> Seen:
        colours = np.array(self._colours[_COLOURS * index : _COLOURS * (index + 1)], np.float32)
        return Seen(
            self._times[index],
            self._durations[index],
            self._shots[index],
            self._squares[index],
            self.faces[index],
            self._sharpness[index],
            None if np.isnan(colours[0]) else colours,
        )


def _same(kept: list[Item], value: Item) -> Item:
    """`value`, or the last one kept where that is equal."""
    return kept[-1] if kept and kept[-1] == value else value
