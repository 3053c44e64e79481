"""Which square of a picture goes to the model: find the face, cut like the papers do, hold it
steady, follow slowly.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square, centred_square, cut, parse_square
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.framing.faces import (
    LARGEST_SHIFT,
    face_of,
    find_face,
    square_around,
    square_for,
)
from livepuppet.realtime.framing.follow import Follower
from livepuppet.realtime.framing.refine import refined_square
from livepuppet.realtime.framing.seek import confidence, seek

__all__ = [
    "Framing",
    "Square",
    "centred_square",
    "cut",
    "find_face",
    "parse_square",
    "square_around",
    "square_for",
]

#: Of a search in the background: the model's detections per frame, 1 to 2 ms each with the default
#: model.
STEPS_PER_FRAME = 6

#: A cascade's face stands if the detector's mean confidence in its square is at least this: faces
#: of 70 pixels have 0.5 there, folds of cloth mostly less than 0.3.
CONFIRMED = 0.4

#: By how much the landmarks' confidence may fall when they have put the square right.
WORSE = 0.05

#: Where landmarks put the square right, two faces in a row are enough for a live picture that are
#: this close, in sides of the larger, and this much alike in size.
CLOSE, ALIKE = 0.1, 1.15

#: Seconds for which the face has to be lost before it is looked for elsewhere.
LOST_SECONDS = 3.0

#: A face is elsewhere if its square is this far from the present one (in sides), or larger or
#: smaller by this factor.
ELSEWHERE, OTHER_SIZE = 0.2, 1.4


class Framing:
    """The square that is cut from every driving frame of one session.

    It is settled from the first frames and then rests, because a square that follows every movement
    of the head would take the very motion away that is to be transferred. `follow` moves it when
    the head has left its place for good, and tells, so that what is remembered of the driver can be
    re-expressed.

    Args:
        crop: `auto` (find the face), `full` (the largest centred square) or `X,Y,SIDE` in pixels.
        looks: how many faces settle the square, at most.
        patience: after so many looks it is settled with the faces found until then, if any. 15, or
            6 in the background, where a look that finds nothing takes half a second.
        engine: whose detector confirms faces, seeks them where no cascade sees one, and puts the
            square right by its landmarks. None, or one whose keypoints are no landmarks, leaves all
            to the cascades. Used in the caller's thread only.
        background: look in another thread, so that `look` takes a few milliseconds; for a live
            picture, of which no frame has to be seen in its turn.
    """

    def __init__(
        self,
        crop: str = "auto",
        looks: int = 5,
        patience: int | None = None,
        engine: Engine | None = None,
        background: bool = False,
    ):
        self.fixed = None if crop in ("auto", "full") else parse_square(crop)
        self.crop, self.looks, self.background = crop, looks, background
        self.patience = patience or (6 if background else 15)
        self.following = True
        self.follower = Follower()
        #: What the person wants of every square that is found: side as a multiple, shift right and
        #: down in sides.
        self.adjustment = (1.0, 0.0, 0.0)
        self._engine = engine if engine is not None and engine.keypoint_names else None
        self._worker: ThreadPoolExecutor | None = None
        self.search_again()

    def search_again(self, as_found: bool = True) -> None:
        """Forget the square, and look for the face anew.

        Args:
            as_found: forget the person's adjustments, too.
        """
        if as_found:
            self.adjustment = (1.0, 0.0, 0.0)
        self.square: Square | None = None
        self.faces: list[Square] = []
        self._frames = 0
        self._shape: tuple[int, int] | None = None
        self._looking: Generator[None, None, Square | None] | None = None
        self._lost = (0.0, 0.0)
        self.follower.reset()

    @property
    def settled(self) -> bool:
        return self.square is not None

    @property
    def from_face(self) -> bool:
        """Whether the square was put around a face, rather than given or taken whole."""
        if not self.faces or self.square is None or self._shape is None:
            return False
        return self.square != centred_square(*self._shape)

    def begin_at(self, square: Square, shape: tuple[int, int]) -> None:
        """Settle on a square around a face that was found before, in frames of `shape` (H, W). A crop that was
        given stays.
        """
        if self.crop == "auto":
            self._shape, self.faces = shape, [face_of(square)]
            self._settle_on(square)

    def look(self, picture: np.ndarray) -> bool:
        """Take one more frame uint8 RGB (H, W, 3) into account. Returns whether the square is
        settled.

        Costs a face detection per frame until then (40 to 150 ms, with an engine's search 100 more;
        a few milliseconds in the background) and nothing afterwards. A source that changes its size
        in between starts over.
        """
        height, width = picture.shape[:2]
        if self._shape not in (None, (height, width)):
            if self.fixed is not None:
                self.fixed = self.fixed.carried(self._shape, (height, width))
            self.search_again(as_found=False)
        self._shape = (height, width)
        if self.settled:
            return True
        if self.fixed is not None:
            self._settle_on(self.fixed)
        elif self.crop == "full":
            self._settle_on(centred_square(height, width))
        else:
            done, face = self._search(picture)
            if done:
                self._frames += 1
                self.faces += [face] if face is not None else []
                if len(self.faces) >= self.looks or self._frames >= self.patience or self._agreed():
                    self.settle(picture)
                elif self.background:
                    # At once, not with the next frame, which is a thirtieth of a second away.
                    self._looking = self._begun(picture)
        return self.settled

    def _agreed(self) -> bool:
        """Whether more looks would tell nothing that landmarks will not."""
        if not self.background or self._engine is None or len(self.faces) < 2:
            return False
        return _apart(*self.faces[-2:]) < CLOSE and _size_ratio(*self.faces[-2:]) < ALIKE

    def settle(self, picture: np.ndarray | None = None) -> None:
        """Decide with what was seen so far (a clip shorter than the patience). Needs at least one
        look.

        Args:
            picture: the newest, in which the engine's landmarks put the square right; None leaves
                it to the faces.
        """
        if self.settled or self._shape is None:
            return
        self.square = square_for(self.faces, *self._shape)
        if picture is not None and self._engine is not None and self.from_face:
            self.square = self._refined(picture)
        self._settle_on(self.square)
        if self._worker is not None:
            self._worker.shutdown(wait=False)
            self._worker = None

    def follow(self, keypoints: Keypoints, time: float) -> tuple[Square, Square] | None:
        """Let a square that was put around a face go with the head, if `following`.

        Args:
            keypoints: found in the present square.
            time: of their frame, in seconds.

        Returns:
            What `cut` took until now and will take, once that changes: for `follow.reexpressed`.
            Never with `follower.absorb`, where the slow move of the square is meant to bring the
            avatar back to its middle.
        """
        if self.square is None or not (self.following and self.crop == "auto" and self.from_face):
            return None
        moved = self.follower.move(self.square, keypoints, time)
        if moved == self.square:
            return None
        kept = self._kept_inside(moved)
        if kept != moved:
            self.follower.stop(kept)
        change = self._change_to(kept)
        return None if self.follower.absorb else change

    def lost(self, picture: np.ndarray, time: float) -> None:
        """Say, for each frame uint8 RGB (H, W, 3) at `time` in seconds, that the crop shows no
        face.

        After `LOST_SECONDS` of that it is looked for in the whole picture, and once it is found
        elsewhere the framing is no longer settled: the next looks do it anew. A crop that was given
        stays.
        """
        since, last = self._lost
        since = time if not 0 <= time - last < 1 else since
        self._lost = (since, time)
        if self.crop != "auto" or self.square is None or self._shape is None or time - since < LOST_SECONDS:
            return
        done, face = self._search(picture)
        if done and face is not None:
            there = square_for([face], *self._shape)
            if _apart(there, self.square) > ELSEWHERE or _size_ratio(there, self.square) > OTHER_SIZE:
                self.search_again(as_found=False)

    def zoom(self, factor: float) -> tuple[Square, Square] | None:
        """Make a settled square `factor` times as large, within a twentieth and twice the picture's
        longer side.

        Returns:
            What `cut` took until now and will take, as `follow` does; None if that stays the same.
        """
        if self.square is None:
            return None
        before, moved = self.square, self._zoomed(factor)
        zoom, right, down = self.adjustment
        self.adjustment = (zoom * moved.side / before.side, right, down)
        self.follower.reset()
        return self._change_to(moved)

    def shift(self, right: float, down: float) -> tuple[Square, Square] | None:
        """Move a settled square by shares of its side, its centre staying inside the picture.
        Returns what `zoom` does.
        """
        if self.square is None:
            return None
        before, moved = self.square, self._shifted(right, down)
        zoom, *ways = self.adjustment
        ways[0] += (moved.x - before.x) / before.side
        ways[1] += (moved.y - before.y) / before.side
        self.adjustment = (zoom, *ways)
        self.follower.reset()
        return self._change_to(moved)

    def cut(self, picture: np.ndarray, size: int) -> np.ndarray:
        """The settled square (until then the middle) of `picture`, as uint8 RGB (size, size, 3)."""
        return cut(picture, self.square or centred_square(*picture.shape[:2]), size, quick=True)

    def _refined(self, picture: np.ndarray) -> Square:
        """The settled square put right by the landmarks in it, if they are as sure of themselves
        there.
        """
        engine = self._engine
        assert engine is not None and self.square is not None
        detect, size, names = engine.detect, engine.size, engine.keypoint_names
        before = detect(cut(picture, self.square, size))
        moved = refined_square(self.square, before, names)
        if moved == self.square or before.confidence is None:
            return moved
        # On a small, blurred face they would shrink the square until they see nothing.
        after = detect(cut(picture, moved, size))
        return moved if confidence(after) > confidence(before) - WORSE else self.square

    def _search(self, picture: np.ndarray) -> tuple[bool, Square | None]:
        """Go on with one look, begun with an earlier picture or with this one: whether it is done,
        and its face.
        """
        if self._looking is None:
            self._looking = self._begun(picture)
        try:
            if not self.background:
                return True, _drain(self._looking)
            for _ in range(STEPS_PER_FRAME):
                next(self._looking)
        except StopIteration as end:
            self._looking = None
            return True, end.value
        finally:
            if not self.background:
                self._looking = None
        return False, None

    def _begun(self, picture: np.ndarray) -> Generator[None, None, Square | None]:
        """Generator of the face box in `picture`, or None: the cascades, confirmed by the detector,
        then the detector.
        """
        if not self.background:
            return self._one_look(picture, None)
        self._worker = self._worker or ThreadPoolExecutor(1, "face-search")
        # A copy, as the source may use its memory again before the look is done.
        picture = picture.copy()
        return self._one_look(picture, self._worker.submit(find_face, picture))

    def _one_look(
        self, picture: np.ndarray, job: Future[Square | None] | None
    ) -> Generator[None, None, Square | None]:
        while job is not None and not job.done():
            yield
        face = find_face(picture) if job is None else job.result()
        engine = self._engine
        if engine is None:
            return face
        detect, size = engine.detect, engine.size
        if face is not None:
            keypoints = detect(cut(picture, square_around(face, *picture.shape[:2]), size))
            yield
            if keypoints.confidence is None or confidence(keypoints) >= CONFIRMED:
                return face
        square = yield from seek(picture, detect, size, engine.keypoint_names)
        return face_of(square) if square is not None else None

    def _settle_on(self, square: Square) -> None:
        """Take a square that was found, with the person's adjustments."""
        self.square = square
        zoom, right, down = self.adjustment
        if zoom != 1:
            self.square = self._zoomed(zoom)
        if right or down:
            self.square = self._shifted(right, down)

    def _zoomed(self, factor: float) -> Square:
        assert self.square is not None and self._shape is not None
        longest = max(self._shape)
        side = np.clip(self.square.side * factor, longest / 20, longest * 2)
        return self.square.zoomed(float(side / self.square.side))

    def _shifted(self, right: float, down: float) -> Square:
        assert self.square is not None and self._shape is not None
        moved = self.square.shifted(right, down)
        height, width = self._shape
        half = moved.side / 2
        return replace(
            moved,
            x=float(np.clip(moved.x + half, 0, width) - half),
            y=float(np.clip(moved.y + half, 0, height) - half),
        )

    def _change_to(self, square: Square) -> tuple[Square, Square] | None:
        assert self.square is not None
        before, after = self.square.whole(), square.whole()
        self.square = square
        return (before, after) if before != after else None

    def _kept_inside(self, square: Square) -> Square:
        """No further beyond the picture's edges than a square that has just been found, or the
        present one.
        """
        assert self.square is not None and self._shape is not None
        height, width = self._shape
        side = min(square.side, max(self.square.side, height, width))
        slack = LARGEST_SHIFT * side
        x = np.clip(square.x, min(-slack, self.square.x), max(width - side + slack, self.square.x))
        y = np.clip(square.y, min(-slack, self.square.y), max(height - side + slack, self.square.y))
        return Square(float(x), float(y), side)


def _apart(one: Square, other: Square) -> float:
    """Distance of the middles, in sides of the larger."""
    across, down = (a + one.side / 2 - b - other.side / 2 for a, b in ((one.x, other.x), (one.y, other.y)))
    return float(np.hypot(across, down)) / max(one.side, other.side)


def _size_ratio(one: Square, other: Square) -> float:
    return max(one.side, other.side) / min(one.side, other.side)


def _drain(steps: Generator[None, None, Square | None]) -> Square | None:
    """What a generator returns, all its steps taken at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
