"""What is drawn of a driving file that was looked through: for each frame the driver's keypoints, in
a square that follows the head, and the neutral pose that they are compared with.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices, carried
from livepuppet.core.square import Square, centred_square
from livepuppet.realtime.clip.neutral import most_at_rest
from livepuppet.realtime.clip.smoothing import (
    HEAD_ROLLS,
    HEAD_SIZES,
    SIZE_CUTOFFS,
    smooth_head,
    smooth_keypoints,
)
from livepuppet.realtime.clip.survey import Survey
from livepuppet.realtime.clip.track import Kept, Seen, Track
from livepuppet.realtime.framing.follow import reexpressed
from livepuppet.realtime.motion.parts import rigid_indices
from livepuppet.realtime.rig.driver import RigDriver
from livepuppet.realtime.rig.pose import PoseTracker, split
from livepuppet.realtime.rig.range import DriverRange

#: A head that goes no further than so many sides, and grows by no more than this factor (natural
#: logarithm), has a square that stands still.
STANDS, SAME_SIZE = 0.35, 0.35

#: Where it goes further, the square follows its path averaged over so many seconds (standard
#: deviation).
PATH_SECONDS = 0.8

#: No head moves on by so many sides from frame to frame (median over the shot, of frames that follow each other within so many
#: seconds): the video is cut at nearly every frame. Ten people who talk and shake their heads go on by .0046 at most.
LEAPS, FOLLOWS = 0.12, 0.1

#: Two shots show the same person where skin and hair are of the same colours, and the landmarks of
#: about the same shape; distances in units of these add up to less than 1. A turned head's landmarks
#: differ more from its own (.25) than those of two people who look ahead, so shape tells little.
SAME_COLOURS, SAME_SHAPE = 12.0, 0.35

#: A shot of fewer frames tells less of whom it shows: its square is often askew, with the room where hair should be. So much further
#: apart may the same person's be then (1.4 where one face is cut to another place at every frame).
FEW, OF_FEW = 6, 2.0

#: What is said of a single picture.
SINGLE = "A single picture drives, so its pose is given as it is, and not as movement since a neutral one."

#: What is said of a face that stands on its head, and of one that only seems to be alive.
UPSIDE_DOWN = (
    "The face seems to be upside down from {} on, which moves the picture wrongly: turn the video first."
)
NEVER_MOVES = (
    "The face that drives never moves: if it is a picture in the background, choose another one with --face."
)

#: What is said of a face that is somewhere else in every frame.
LEAPING = "The face is somewhere else in nearly every frame from {} to {}: its expressions are shown, its place is not."

#: What is said of lips of which no frame shows how they rest.
LIPS_NEVER_REST = "The lips never rest: where they would is estimated."

#: Landmarks of a living face wander by more than this (standard deviation, in half sides of the square) within a second: by .0018
#: or more of people who hold still before a camera, by .0001 of a printed one.
ALIVE, A_SECOND = 0.0005, 1.0

#: A face is found again where it was within so many seconds, in a square that overlaps by this much
#: (intersection over union).
SOON, STILL_THERE = 2.0, 0.3

#: Gaps shorter than this many seconds are not spoken of: a hand that passes the face.
SHORT = 0.3


@dataclass(frozen=True, eq=False)
class Shown:
    """What one frame shows.

    Attributes:
        time, duration: as `Frame`.
        driving: the driver's keypoints; None where no face is seen.
        square: of the frame, for showing the driver.
        begins: D1, where a shot with a face begins.
        person: whom it shows, by number.
        cut: that shot begins with a cut.
    """

    time: Fraction
    duration: Fraction | None
    driving: Keypoints | None
    square: Square
    begins: Keypoints | None = None
    person: int = 0
    cut: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """All frames of a clip, and what is to be said of them.

    Attributes:
        shown: the frames, in order.
        sentences: which neutral pose was taken, and where there is no face.
        absolute: it is a single picture, whose pose is given as it is: there is no movement.
    """

    shown: Sequence[Shown]
    sentences: tuple[str, ...]
    absolute: bool = False


@dataclass
class _Part:
    """The frames of one shot in which a face is seen."""

    frames: array
    seen: Track
    squares: list[Square]
    person: int = 0
    leaps: bool = False


@dataclass
class _Person:
    """Someone who is seen in some parts, with mean colours as of `Seen` and landmarks as of `_shape`."""

    colours: np.ndarray
    shape: np.ndarray
    parts: list[_Part]

    def apart(self, other: _Person) -> float:
        """Below 1 where both are likely the same."""
        colours = np.sqrt(np.mean(np.square((self.colours - other.colours) * LIGHTNESS))) / SAME_COLOURS
        shape = np.median(np.hypot(*(self.shape - other.shape).T)) / SAME_SHAPE
        few = min(sum(len(part.seen) for part in one.parts) for one in (self, other)) < FEW
        return float(np.hypot(colours, shape)) / (OF_FEW if few else 1.0)


def clock(seconds: float | Fraction) -> str:
    """`0:03.2`, as people write a moment of a video."""
    tenths = round(float(seconds) * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def plan(
    survey: Survey,
    names: Sequence[str],
    size: int,
    neutral: str | float | Keypoints = "auto",
    smoothing: float = 1.0,
    fixed: bool = False,
    matrices: Matrices = "jacobian",
) -> Plan:
    """Decide what is drawn.

    Args:
        survey: of a clip with at least one face.
        names: of the keypoints, which are landmarks.
        size: of the squares that the model sees, in pixels.
        neutral: `auto`, `first`, seconds, or the keypoints of a face at rest in a square like those
            of `survey`.
        smoothing: 0 to 2; 0 is none.
        fixed: the square was given, and stays.

    Raises:
        UserError: the time given for D1 lies beyond the end, or shows no face.
    """
    parts = _parts(survey)
    for part in parts:
        _place(part, survey, size, matrices, fixed)
        step = _step(part.seen)
        smooth = smooth_keypoints(part.seen.faces, step, tuple(names), smoothing, matrices)
        part.seen = Track(replace(one, keypoints=face) for one, face in zip(part.seen, smooth, strict=True))
    people = _people(parts, names, survey.cuts)
    sentences: list[str] = []
    single = len(survey.seen) == 1 and neutral == "auto"
    if single:
        sentences.append(SINGLE)
    given = _pose_at(survey, parts, neutral) if isinstance(neutral, (int, float)) else None
    poses: list[Keypoints | Seen] = []
    lips: dict[int, np.ndarray] = {}
    for number, own in enumerate(people):
        if given is not None and number == given[0]:
            poses.append(given[1])
        elif isinstance(neutral, Keypoints) and number == 0:
            poses.append(neutral)
        elif neutral == "first" or single:
            poses.append(own[0].seen[0])
        else:
            chosen, resting = _at_rest(survey, own, names, number, sentences)
            poses.append(chosen)
            if resting is not None:
                lips[number] = resting
    begins: dict[int, Keypoints] = {}
    cuts: list[bool] = []
    for part in parts:
        # A face that turns up later in a shot has none.
        cuts.append(part.seen[0].shot in survey.cuts and _opens(part, survey))
        chosen = poses[part.person]
        initial = _brought_to(chosen, part, names, matrices)
        _steady(part, initial, names, smoothing, matrices)
        if isinstance(chosen, Seen) and chosen.shot == part.seen[0].shot:
            # The frame that D1 is stays D1 to the bit.
            initial = next((_keypoints(one) for one in part.seen if one.time == chosen.time), initial)
        begins[part.frames[0]] = _with_lips(initial, lips.get(part.person))
    sentences += _absences(survey)
    leaping = [part.seen for part in parts if part.leaps]
    if leaping:
        sentences.append(LEAPING.format(clock(leaping[0][0].time), clock(leaping[-1][-1].time)))
    if survey.upside_down is not None:
        sentences.append(UPSIDE_DOWN.format(clock(survey.upside_down)))
    if not fixed and all(_never_moves(own) for own in people):
        sentences.append(NEVER_MOVES)
    return Plan(_Frames(survey, parts, begins, cuts), tuple(sentences), single)


class _Frames(Kept[Shown]):
    """What all frames of a clip show.

    Args:
        begins: D1 by the frame with which its shot begins.
        cuts: of the parts, see `Shown.cut`.
    """

    def __init__(
        self, survey: Survey, parts: Sequence[_Part], begins: dict[int, Keypoints], cuts: Sequence[bool]
    ):
        self._parts, self._begins, self._cuts = parts, begins, cuts
        #: Which part each frame belongs to, and which of its frames it is; -1 where no face is seen.
        self._part, self._row = (array("i", [-1]) * len(survey.seen) for _ in range(2))
        for number, part in enumerate(parts):
            for row, frame in enumerate(part.frames):
                self._part[frame], self._row[frame] = number, row
        #: Frames without a face have the square of the one before.
        self._without: dict[int, Shown] = {}
        square: Square | None = None
        for index, seen in enumerate(survey.seen):
            if self._part[index] >= 0:
                square = parts[self._part[index]].squares[self._row[index]]
                continue
            square = square or centred_square(*survey.sizes[seen.shot])
            self._without[index] = Shown(seen.time, seen.duration, None, square)

    def __len__(self) -> int:
        return len(self._part)

    def _made(self, index: int) -> Shown:
        number = self._part[index]
        if number < 0:
            return self._without[index]
        part, row = self._parts[number], self._row[index]
        one, begins = part.seen[row], self._begins.get(index)
        return Shown(
            one.time,
            one.duration,
            one.keypoints,
            part.squares[row],
            begins,
            part.person,
            self._cuts[number],
        )


def ranges(made: Plan, names: Sequence[str]) -> dict[int, DriverRange]:
    """How far each person's face goes, by number; nothing of a single picture."""
    known: dict[int, DriverRange] = {}
    if made.absolute:
        return known
    shots: list[array] = []
    for index, one in enumerate(made.shown):
        if one.begins is not None:
            shots.append(array("i"))
        if one.driving is not None:
            shots[-1].append(index)
    for shot in shots:
        reader, first = RigDriver(names), made.shown[shot[0]]
        assert first.begins is not None
        reader.range = known.setdefault(first.person, reader.range)
        frames = (made.shown[index] for index in shot)
        reader.learn(first.begins, ((_driving(one), float(one.time)) for one in frames))
    for one in known.values():
        one.learning = False
    return known


def _driving(one: Shown) -> Keypoints:
    assert one.driving is not None
    return one.driving


def _keypoints(one: Seen) -> Keypoints:
    assert one.keypoints is not None
    return one.keypoints


def _parts(survey: Survey) -> list[_Part]:
    parts: dict[int, _Part] = {}
    for index, one in enumerate(survey.seen):
        if one.keypoints is not None and one.square is not None:
            part = parts.setdefault(one.shot, _Part(array("i"), Track(), []))
            part.frames.append(index)
            part.seen.append(one)
            part.squares.append(one.square)
    return list(parts.values())


def _opens(part: _Part, survey: Survey) -> bool:
    """Whether the part's face is there from the shot's first frame on."""
    first = part.frames[0]
    return first == 0 or survey.seen[first - 1].shot != part.seen[0].shot


def _step(seen: Sequence[Seen]) -> float:
    """Seconds between frames."""
    times = np.array([float(one.time) for one in seen])
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def _place(part: _Part, survey: Survey, size: int, matrices: Matrices, fixed: bool) -> None:
    """Have the part's squares stand still, or follow a head that goes far smoothly, and its keypoints
    be those of these squares.
    """
    if fixed or len(part.seen) < 2:
        return
    heads = np.array([_head(one, size) for one in part.seen])
    side = float(np.median([square.side for square in part.squares]))
    part.leaps = _leaps(heads[:, :2] / side, [float(one.time) for one in part.seen])
    if len(set(part.squares)) == 1 and not part.leaps:
        return
    low, high = np.quantile(heads, (0.02, 0.98), axis=0)
    if not part.leaps and np.hypot(*(high - low)[:2]) < STANDS * side and high[2] - low[2] < SAME_SIZE:
        own = max(set(part.squares), key=part.squares.count)
        wanted = [own] * len(part.squares)
    else:
        # Where the head is in the square most of the time it is all the way.
        squares = np.array(
            [[s.x + s.side / 2, s.y + s.side / 2, np.log(s.side)] for s in part.squares], np.float64
        )
        aside = np.median((squares[:, :2] - heads[:, :2]) / np.exp(squares[:, 2:]), axis=0)
        larger = float(np.median(squares[:, 2] - heads[:, 2]))
        path = heads if part.leaps else _averaged(heads, _step(part.seen))
        sides = np.exp(path[:, 2] + larger)
        centres = path[:, :2] + aside * sides[:, None]
        wanted = [
            Square(float(x - one / 2), float(y - one / 2), float(one))
            for (x, y), one in zip(centres, sides, strict=True)
        ]
    part.seen = Track(
        one
        if square == one.square
        else replace(one, square=square, keypoints=_carried(one, square, size, matrices))
        for one, square in zip(part.seen, wanted, strict=True)
    )
    part.squares = wanted


def _steady(
    part: _Part, initial: Keypoints, names: Sequence[str], smoothing: float, matrices: Matrices
) -> None:
    """Smooth the pose that a head has since D1, `initial`: errors of single landmarks, which their own smoothing takes for motion,
    are small in it. The keypoints go along.
    """
    tracker, step = PoseTracker(names, initial), _step(part.seen)
    if not tracker.usable or smoothing <= 0:
        return
    heads = np.empty((len(part.seen), 4))
    for index, face in enumerate(part.seen.faces):
        pose = tracker.pose(face if face is not None else initial)
        heads[index] = split(pose.rotation)[1], math.log(pose.scale), *(pose.shift / tracker.unit)
    heads[:, 0] = np.unwrap(heads[:, 0])
    steady = smooth_head(heads, step, smoothing, HEAD_ROLLS)
    steady[:, 1] = smooth_head(heads[:, 1:2], step, smoothing, HEAD_SIZES, SIZE_CUTOFFS)[:, 0]

    def carried_along(one: Seen, was: np.ndarray, now: np.ndarray) -> Seen:
        roll, grown, *_ = now - was
        turn = math.exp(grown) * np.array(
            [[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]]
        )
        before, after = tracker.centre + was[2:] * tracker.unit, tracker.centre + now[2:] * tracker.unit

        def moved(points: np.ndarray) -> np.ndarray:
            return ((points - before) @ turn.T + after).astype(np.float32)

        face = _keypoints(one)
        face = replace(
            face,
            points=moved(face.points),
            jacobians=carried(turn, face.jacobians, matrices).astype(np.float32),
            reading=None if face.reading is None else face.reading.mapped(moved, roll),
        )
        return replace(one, keypoints=face)

    part.seen = Track(map(carried_along, part.seen, heads, steady))


def _leaps(places: np.ndarray, times: Sequence[float]) -> bool:
    """Whether a head at `places` (N, 2), in sides, is too fast for one that moves."""
    near = np.diff(times) < FOLLOWS
    steps = np.hypot(*np.diff(places, axis=0).T)[near]
    return len(steps) > 2 and float(np.median(steps)) > LEAPS


def _carried(one: Seen, square: Square, size: int, matrices: Matrices) -> Keypoints:
    assert one.square is not None
    return reexpressed(_keypoints(one), one.square, square, size, matrices)


def _head(one: Seen, size: int) -> tuple[float, float, float]:
    """Place of the head in the frame, and the logarithm of its size, in pixels."""
    points, square = _keypoints(one).points, one.square
    assert square is not None
    mean = points.mean(axis=0)
    spread = max(float(np.sqrt(np.square(points - mean).sum(axis=1).mean())), 1e-3)
    x, y = np.array([square.x, square.y]) + (mean + 1) / 2 * square.side
    return float(x), float(y), float(np.log(spread * square.side))


def _averaged(values: np.ndarray, step: float) -> np.ndarray:
    """(N, D) averaged over time, to both sides; towards the ends along the line that they make."""
    if step <= 0 or len(values) < 3:
        return values
    sigma = PATH_SECONDS / step
    reach = int(min(np.ceil(2.5 * sigma), len(values) - 1))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    before = 2 * values[0] - values[reach:0:-1]
    after = 2 * values[-1] - values[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, values, after])
    return np.stack([np.convolve(column, weights, "valid") for column in padded.T], axis=1)


def _people(parts: Sequence[_Part], names: Sequence[str], cuts: frozenset[int]) -> list[list[_Part]]:
    """The parts by whom they show."""
    people: list[_Person] = []
    before: _Part | None = None
    for part in parts:
        last, before = before, part
        if last is not None and part.seen[0].shot not in cuts and _goes_on(last, part):
            part.person = last.person
            people[part.person].parts.append(part)
            continue
        colours = np.median([one.colours for one in part.seen if one.colours is not None], axis=0)
        shape = np.median([_shape(_keypoints(one), names) for one in part.seen], axis=0)
        found = _Person(colours, shape, [part])
        apart = [found.apart(other) for other in people]
        if apart and min(apart) < 1:
            part.person = int(np.argmin(apart))
            known = people[part.person]
            if max(len(one.seen) for one in known.parts) < FEW <= len(part.seen):
                known.colours, known.shape = colours, shape
            known.parts.append(part)
        else:
            part.person = len(people)
            people.append(found)
    return [one.parts for one in people]


def _never_moves(own: Sequence[_Part]) -> bool:
    """Whether a person is seen for a second or more, and is as still as a picture."""
    for part in own:
        if float(part.seen[-1].time - part.seen[0].time) < A_SECOND or len(set(part.squares)) > 1:
            return False
        points = np.stack([_keypoints(one).points for one in part.seen])
        if float(np.median(points.std(axis=0))) > ALIVE:
            return False
    return True


def _goes_on(one: _Part, after: _Part) -> bool:
    """Whether a face that was lost within a shot is found where it was, and soon."""
    old, new = one.seen[-1], after.seen[0]
    assert old.square is not None and new.square is not None
    return float(new.time - old.time) < SOON and old.square.overlap(new.square) > STILL_THERE


#: Light changes from shot to shot more than colours do.
LIGHTNESS = np.array([0.4, 1.0, 1.0, 0.4, 1.0, 1.0])


def _shape(keypoints: Keypoints, names: Sequence[str]) -> np.ndarray:
    """Points (K, 2) with place and size of the landmarks on the skull taken away."""
    rigid = rigid_indices(names)
    chosen = keypoints.points if rigid is None else keypoints.points[rigid]
    centre = chosen.mean(axis=0)
    return (keypoints.points - centre) / max(float(np.sqrt(np.square(chosen - centre).sum(1).mean())), 1e-6)


def _pose_at(survey: Survey, parts: Sequence[_Part], seconds: float) -> tuple[int, Seen]:
    """Who is seen `seconds` after the beginning, and in which frame. Raises UserError."""
    last = survey.seen[-1]
    end = float(last.time + (last.duration or 0)) + 0.05
    if not 0 <= seconds <= end:
        raise UserError(
            f"The neutral pose at {clock(seconds)} lies beyond the driving video, which ends at {clock(end - 0.05)}: "
            "choose an earlier moment."
        )
    index = max(number for number, one in enumerate(survey.seen) if float(one.time) <= seconds + 1e-6)
    for part in parts:
        if index in part.frames:
            return part.person, part.seen[part.frames.index(index)]
    raise UserError(f"No face is seen at {clock(seconds)}: choose another moment for the neutral pose.")


def _with_lips(initial: Keypoints, most: np.ndarray | None) -> Keypoints:
    """D1 with lips at rest, see `Choice.lips`."""
    reading = initial.reading
    if most is None or reading is None:
        return initial
    # Where lips would be that are never seen at rest, nobody knows.
    return replace(initial, reading=replace(reading, mouth=np.minimum(reading.mouth, most), lips=None))


def _at_rest(
    survey: Survey, own: Sequence[_Part], names: Sequence[str], number: int, sentences: list[str]
) -> tuple[Seen, np.ndarray | None]:
    """The best frame for D1 of one person, and what its lips are at most; and a sentence where it is not their first frame."""
    seen = own[0].seen if len(own) == 1 else Track(one for part in own for one in part.seen)
    choice = most_at_rest(seen, names)
    chosen, whose = seen[choice.index], "" if number == 0 else " of another face"
    if choice.instead_of is not None:
        first = clock(seen[0].time)
        sentences.append(f"Neutral pose{whose} from {clock(chosen.time)} ({first} has {choice.instead_of}).")
    elif number > 0 or seen[0].time > survey.seen[0].time:
        sentences.append(f"Neutral pose{whose} from {clock(chosen.time)}, where that face is first seen.")
    if choice.lips is not None:
        sentences.append(
            LIPS_NEVER_REST if number == 0 else LIPS_NEVER_REST.replace("The lips", "Another face's lips")
        )
    return chosen, choice.lips


def _brought_to(chosen: Keypoints | Seen, part: _Part, names: Sequence[str], matrices: Matrices) -> Keypoints:
    """D1 for the squares of `part`: where they are others than the one it was found in, the head is
    where it mostly is there, and as large.
    """
    if isinstance(chosen, Seen):
        pose = _keypoints(chosen)
        if chosen.square in part.squares:
            return pose
    else:
        pose = chosen
    # In space: a head that is turned all the time looks smaller, and is not.
    tracker = PoseTracker(names, pose)
    heads = [tracker.pose(_keypoints(one)) for one in part.seen[:: 1 + len(part.seen) // MOST_ASKED]]
    scale = float(np.median([head.scale for head in heads]))
    centre = tracker.centre
    target = centre + np.median([head.shift for head in heads], axis=0)

    def moved(points: np.ndarray) -> np.ndarray:
        return ((points - centre) * scale + target).astype(np.float32)

    return replace(
        pose,
        points=moved(pose.points),
        jacobians=carried(scale * np.eye(2), pose.jacobians, matrices).astype(np.float32),
        reading=None if pose.reading is None else pose.reading.mapped(moved),
    )


def _absences(survey: Survey) -> list[str]:
    """A sentence with the times at which no face is seen; none where there always is one."""
    gaps: list[tuple[Fraction, Fraction]] = []
    begin: Fraction | None = None
    for one, after in zip(survey.seen, chain(islice(survey.seen, 1, None), [None]), strict=True):
        if one.keypoints is None and begin is None:
            begin = one.time
        end = after.time if after is not None else one.time + (one.duration or Fraction(1, 25))
        if begin is not None and (after is None or after.keypoints is not None):
            gaps.append((begin, end))
            begin = None
    long = [gap for gap in gaps if gap[1] - gap[0] >= SHORT]
    if not long:
        return []
    times = [f"{clock(begin)} to {clock(end)}" for begin, end in long[:MOST_NAMED]]
    more = f" and {len(long) - MOST_NAMED} more times" if len(long) > MOST_NAMED else ""
    return [f"No face from {', '.join(times)}{more}: the picture rests there."]


#: So many frames of a shot, evenly spread, tell where its head mostly is.
MOST_ASKED = 100

#: So many gaps are named.
MOST_NAMED = 5
