"""The first pass over a driving file: which faces it shows when and where, and what they do.

It keeps numbers, a kilobyte of each frame, and no pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.numbers import number_of, quoted
from livepuppet.core.square import Square, centred_square, cut, parse_square
from livepuppet.core.video import Frame, Video
from livepuppet.realtime.clip.shots import Cuts
from livepuppet.realtime.clip.track import Seen, Track
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.framing.crop import CONFIRMED, WORSE
from livepuppet.realtime.framing.faces import face_of, find_faces, square_for
from livepuppet.realtime.framing.refine import face_middle, refined_square
from livepuppet.realtime.framing.seek import confidence, seek
from livepuppet.realtime.motion.presence import Thresholds
from livepuppet.realtime.rig.pose import head_in_space

#: Which face of several: the likeliest (large, near the middle), the outermost in the picture, or a
#: number from the left.
FACES = ("largest", "left", "right")

#: Pictures with a shorter edge, in pixels, show no face.
LEAST_PICTURE = 16

#: A face that was lost is looked for anew after so many seconds, and every time that no face is
#: found the next look waits longer, up to the second number.
FIRST_LOOK, RARE_LOOK = 0.2, 1.0

#: A picture that changed by fewer levels since no face was found in it is not looked at again.
UNCHANGED = 2.0

#: The square is put anew around a head that was so many sides from its place, or larger or smaller
#: by this factor, for so many frames; at once where it was as far as `JUMPED`.
AWAY, GROWN, PATIENCE, JUMPED = 0.15, 1.3, 3, 0.35

#: Where the middle of a head mostly is, in sides from the square's, and the side in eye distances, of heads in crops like the
#: papers'. A square may have the head this far from there, and be so small or large; otherwise it was put in a wrong place.
HEAD_AT, USUAL_SIDE = (0.0, -0.02), 4.6
ODD_PLACE, LEAST_SIDE, MOST_SIDE = 0.16, 3.5, 7.0

#: So many seconds after a shot's face was found it is looked for again, since it may have been turned
#: or blurred then; after the first time only one that the landmarks are not this sure of. The square
#: goes where they are surer by this much, or where it is somewhere else and they are about as sure.
AGAIN, DOUBTFUL, SURER, AS_SURE = (0.5, 1.5, 4.0), 0.72, 0.04, -0.03

#: And not further from it than this, in sides: that is another face.
SAME_FACE = 0.4

#: A face is upside down where the landmarks are this much surer of its picture turned by half a turn. Of real faces the right way
#: up they are .36 to .68 less sure.
TURNED_OVER = 0.15

#: In so many pictures that show no face, before one has, it is looked for upside down.
TURNED_LOOKS = 3

#: Side at which a face's colours are kept, and where in the square skin and hair are seen: top,
#: bottom, left, right.
COLOUR_SIDE = 16
SKIN, HAIR = (8, 12, 6, 10), (1, 4, 5, 11)


@dataclass(frozen=True, eq=False)
class Survey:
    """What a driving file shows.

    Attributes:
        seen: one for each frame.
        start, broken: of the video, see `Clip`; known once it has been read.
        sizes: (height, width) of the frames of each shot.
        cuts: numbers of the shots that begin with a cut; the first one does.
        upside_down: when a face that stands on its head is first found; None where there is none.
        faces: the most that were found at once, where one of several was asked for by its place.
    """

    seen: Sequence[Seen]
    start: Fraction | None
    broken: str | None
    sizes: Sequence[tuple[int, int]]
    cuts: frozenset[int] = frozenset({0})
    upside_down: Fraction | None = None
    faces: int = 0

    @property
    def has_face(self) -> bool:
        return any(one.keypoints is not None for one in self.seen)


#: What close-ups add to the keypoints that were found in a square of a frame.
LookCloser = Callable[[np.ndarray, Square, Keypoints], Keypoints]


def check_face(face: str | int) -> str | int:
    """`face` as `Finder` takes it. Raises UserError where it is none of these."""
    if face in FACES:
        return face
    try:
        return number_of(face, 1, whole=True)
    except ValueError:
        raise UserError(
            f"The face {quoted(face)} is unknown: use {', '.join(FACES)}, or its number from the left."
        ) from None


class Finder:
    """Finds the face that is to drive in a whole picture.

    Args:
        engine: whose keypoints are landmarks.
        face: see `FACES`.

    Attributes:
        most: see `Survey.faces`.
    """

    def __init__(self, engine: Engine, face: str | int = "largest"):
        self._engine, self._face = engine, check_face(face)
        self.most = 0

    def __call__(self, image: np.ndarray) -> Square | None:
        """The square around the face in `image` uint8 RGB (H, W, 3), or None."""
        if min(image.shape[:2]) < LEAST_PICTURE:
            return None
        boxes = find_faces(image)
        if self._face == "largest":
            squares = (self._confirmed(image, box) for box in boxes)
            found = next((square for square in squares if square is not None), None)
        else:
            squares = [self._confirmed(image, box) for box in sorted(boxes, key=lambda box: box.x)]
            found = self._chosen([square for square in squares if square is not None])
        if found is None and not boxes:
            engine = self._engine
            steps = seek(image, engine.detect, engine.size, engine.keypoint_names)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    sought: Square | None = end.value
                    break
            found = None if sought is None else self._confirmed(image, face_of(sought))
        return found

    def _chosen(self, squares: list[Square]) -> Square | None:
        self.most = max(self.most, len(squares))
        if not squares:
            return None
        if isinstance(self._face, int):
            return squares[self._face - 1] if self._face <= len(squares) else None
        return squares[0 if self._face == "left" else -1]

    def _confirmed(self, image: np.ndarray, box: Square) -> Square | None:
        """The square for a cascade's box, put right by the landmarks; None where they see no face."""
        engine, (height, width) = self._engine, image.shape[:2]
        square = square_for([box], height, width)
        found = engine.detect(cut(image, square, engine.size))
        if confidence(found) < CONFIRMED or face_middle(found, engine.keypoint_names) is None:
            return None
        if square == centred_square(height, width):
            return square
        for _ in range(2):
            moved = refined_square(square, found, engine.keypoint_names)
            if moved == square:
                break
            again = engine.detect(cut(image, moved, engine.size))
            if confidence(again) <= confidence(found) - WORSE:
                break
            square, found = moved, again
        return square


class _Place:
    """The square of one shot, which rests until the head has left it.

    The head's place and size are those of its skull in space: a head that turns or nods, and a mouth that opens, has not left.
    """

    def __init__(self, square: Square, names: Sequence[str], shape: tuple[int, ...]):
        self.square, self._names = square.whole(), names
        # A square picture that a face fills is taken as it is.
        self._trusted = square == centred_square(*shape[:2])
        #: Where the head's middle belongs, in sides from the square's, and the side in eye distances; its first frame tells.
        self._home: tuple[np.ndarray, float] | None = None
        self._away = 0

    def belongs(self, keypoints: Keypoints) -> Square | None:
        """The square that would have the head of `keypoints`, found in the present one, in its place."""
        found = head_in_space(keypoints, self._names)
        if found is None:
            return None
        square = self.square
        x, y = np.array([square.x, square.y]) + (found[0] + 1) / 2 * square.side
        unit = found[1] / 2 * square.side
        if self._home is None:
            aside = np.array([x - square.x, y - square.y]) / square.side - 0.5
            usual = self._trusted or (
                np.hypot(*(aside - HEAD_AT)) < ODD_PLACE and LEAST_SIDE < square.side / unit < MOST_SIDE
            )
            self._home = (aside, square.side / unit) if usual else (np.array(HEAD_AT), USUAL_SIDE)
        aside, sides = self._home
        side = sides * unit
        x, y = np.array([x, y]) - (aside + 0.5) * side
        return Square(float(x), float(y), float(side))

    def follow(self, keypoints: Keypoints, height: int, width: int) -> None:
        """Go with a head that has left its place."""
        belongs = self.belongs(keypoints)
        if belongs is None:
            return
        apart, ratio = _apart(belongs, self.square)
        self._away = self._away + 1 if apart > AWAY or ratio > GROWN else 0
        if self._away < PATIENCE and apart <= JUMPED:
            return
        self._away = 0
        half = belongs.side / 2
        x = float(np.clip(belongs.x + half, 0, width) - half)
        y = float(np.clip(belongs.y + half, 0, height) - half)
        self.square = Square(x, y, min(belongs.side, 2.0 * max(height, width))).whole()


class Watcher:
    """Looks through a video of faces, frame by frame.

    Args:
        engine: whose keypoints are landmarks.
        look_closer: see `LookCloser`.
        crop: `auto`, `full` or `X,Y,SIDE`; see `Framing`.
        face: which of several, see `FACES`.

    Attributes:
        sizes: (height, width) of the frames of each shot until now.
        cuts: numbers of the shots that begin with a cut, the first one's included.
        upside_down: see `Survey`.
    """

    def __init__(
        self, engine: Engine, look_closer: LookCloser, crop: str = "auto", face: str | int = "largest"
    ):
        self._engine, self._look_closer, self._crop = engine, look_closer, crop
        self._fixed = None if crop in ("auto", "full") else parse_square(crop)
        self._finder, self._cuts, self._limits = Finder(engine, face), Cuts(), Thresholds()
        self.sizes: list[tuple[int, int]] = []
        self.cuts: set[int] = set()
        self.upside_down: Fraction | None = None
        self._turned_looks = TURNED_LOOKS
        self._place: _Place | None = None
        self._here = self._seen_in_shot = False
        self._again: tuple[float, ...] = ()
        #: The last picture that was searched in vain.
        self._vain: np.ndarray | None = None

    @property
    def faces(self) -> int:
        """See `Survey`."""
        return self._finder.most

    def see(self, frame: Frame) -> Seen:
        """The next frame."""
        image, time = frame.image, float(frame.time)
        if self.sizes and self.sizes[-1] != image.shape[:2] and self._fixed is not None:
            self._fixed = self._fixed.carried(self.sizes[-1], image.shape[:2])
        if self._cuts.see(image) or not self.sizes:
            self._begin_shot(image, time)
            self.cuts.add(len(self.sizes) - 1)
            begins = True
        else:
            begins = False
        place, vain = self._place, self._vain
        square, found, pixels = self._look(image, begins, time)
        if self._place is None and self._vain is not None and self._vain is not vain:
            self._look_turned(frame)
        if place is None and self._place is not None:
            # One that is the right way up has come.
            self.upside_down = None
        if self.upside_down is None and self._place is not place and pixels is not None:
            turned = self._engine.detect(np.ascontiguousarray(pixels[::-1, ::-1]))
            if found is not None and confidence(turned) > confidence(found) + TURNED_OVER:
                self.upside_down = frame.time
        self._here = found is not None
        shot = len(self.sizes) - 1
        if square is None or found is None or pixels is None:
            return Seen(frame.time, frame.duration, shot)
        self._seen_in_shot = True
        found = self._look_closer(image, square, found)
        if self._place is not None:
            self._place.follow(found, *image.shape[:2])
            self._look_again(image, time, found)
        sharpness, colours = _sharpness(pixels), _colours(pixels)
        return Seen(frame.time, frame.duration, shot, square, found, sharpness, colours)

    def _look_turned(self, frame: Frame) -> None:
        """See whether a picture in which no face is found has one that stands on its head."""
        if self.upside_down is not None or self._turned_looks == 0:
            return
        self._turned_looks -= 1
        if Finder(self._engine)(np.ascontiguousarray(frame.image[::-1, ::-1])) is not None:
            self.upside_down = frame.time

    def _look_again(self, image: np.ndarray, time: float, found: Keypoints) -> None:
        """Put the shot's square right, if another look at the face gives a better one."""
        if not self._again or time < self._again[0]:
            return
        first, self._again = len(self._again) == len(AGAIN), self._again[1:]
        if confidence(found) >= DOUBTFUL and not first:
            return
        there = self._finder(image)
        if there is None or self._place is None:
            return
        apart, ratio = _apart(there, self._place.square)
        if apart > SAME_FACE:
            return
        least = AS_SURE if apart > AWAY or ratio > GROWN else SURER
        keypoints = self._engine.detect(cut(image, there.whole(), self._engine.size, quick=True))
        if confidence(keypoints) > confidence(found) + least:
            self._place = _Place(there, self._engine.keypoint_names, image.shape)

    def _begin_shot(self, image: np.ndarray, time: float) -> None:
        self.sizes.append(image.shape[:2])
        self._here = self._seen_in_shot = False
        self._next_look, self._wait, self._vain = time, FIRST_LOOK, None

    def _look(
        self, image: np.ndarray, begins: bool, time: float
    ) -> tuple[Square | None, Keypoints | None, np.ndarray | None]:
        """The square with the face, its keypoints and its pixels."""
        height, width = image.shape[:2]
        if self._crop != "auto":
            square = (self._fixed or centred_square(height, width)).whole()
            return square, *self._detected(image, square)
        square, found, pixels = None, None, None
        if self._place is not None and _overlaps(self._place.square, height, width):
            square = self._place.square
            found, pixels = self._detected(image, square)
        if found is None and self._here:
            # A hand, a blur: the face is mostly back before it is worth a search.
            self._next_look = time + FIRST_LOOK
        if not begins and (found is not None or time < self._next_look):
            return square, found, pixels
        there = self._search(image, time)
        if there is None:
            return square, found, pixels
        if self._seen_in_shot:
            self._begin_shot(image, time)
        square = there.whole()
        pixels = cut(image, square, self._engine.size, quick=True)
        found = self._engine.detect(pixels)
        self._place = _Place(there, self._engine.keypoint_names, image.shape)
        self._again = tuple(time + seconds for seconds in AGAIN)
        return square, found, pixels

    def _detected(self, image: np.ndarray, square: Square) -> tuple[Keypoints | None, np.ndarray]:
        """The keypoints in a square, where they are a face's; more is asked of one that was not there."""
        pixels = cut(image, square, self._engine.size, quick=True)
        found = self._engine.detect(pixels)
        bar = self._limits.lost_below if self._here else self._limits.found_above
        sure = found.confidence is None or confidence(found) >= bar
        return (found if sure and np.isfinite(found.points).all() else None), pixels

    def _search(self, image: np.ndarray, time: float) -> Square | None:
        picture = self._cuts.picture
        same = self._vain is not None and float(np.abs(picture - self._vain).mean()) < UNCHANGED
        there = None if same else self._finder(image)
        if there is not None:
            self._wait, self._vain = FIRST_LOOK, None
            return there
        self._vain = self._vain if same else picture
        self._next_look, self._wait = time + self._wait, min(2 * self._wait, RARE_LOOK)
        return None


def look_through(
    video: Video, watcher: Watcher, advanced: Callable[[int], None] = lambda count: None
) -> Survey:
    """Look through a video from its beginning to its end.

    Args:
        advanced: called with the number of frames seen so far.
    """
    seen = Track()
    for frame in video:
        seen.append(watcher.see(frame))
        advanced(len(seen))
    return Survey(
        seen,
        video.start,
        video.broken,
        watcher.sizes,
        frozenset(watcher.cuts),
        watcher.upside_down,
        watcher.faces,
    )


def _difference(one: Square, other: Square) -> np.ndarray:
    """From the middle of one square to that of another, (2,) in pixels."""
    return np.array([other.x - one.x, other.y - one.y]) + (other.side - one.side) / 2


def _apart(one: Square, other: Square) -> tuple[float, float]:
    """Distance of the middles in sides of the larger, and how many times as large the larger is."""
    larger, smaller = max(one.side, other.side), min(one.side, other.side)
    return float(np.hypot(*_difference(one, other))) / larger, larger / smaller


def _overlaps(square: Square, height: int, width: int) -> bool:
    return (
        -square.side < square.x < width
        and -square.side < square.y < height
        and square.side < 3 * max(height, width)
    )


def _sharpness(pixels: np.ndarray) -> float:
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    quarter = len(gray) // 4
    return float(cv2.Laplacian(gray[quarter:-quarter, quarter:-quarter], cv2.CV_32F).var())


def _colours(pixels: np.ndarray) -> np.ndarray:
    """Mean skin and hair in L*a*b*, (6,)."""
    small = cv2.resize(pixels, (COLOUR_SIDE, COLOUR_SIDE), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.concatenate(
        [lab[top:bottom, left:right].mean((0, 1)) for top, bottom, left, right in (SKIN, HAIR)]
    )
