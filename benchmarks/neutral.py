"""What a file's neutral pose is worth: clips of real faces drawn with `--neutral auto` and with `first`, and clips begun at bad moments.

Of real faces there is no truth. So the driver and each drawn picture are read alike, by the same detector and close-ups, and in
absolute numbers: neither reading knows of a neutral pose, so none is favoured, and what the rig cannot show (lips that were to close
beyond shut) counts as missing, as people see it. Compared are correlations over the clip, since every face has a scale of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import HEAD_AMOUNTS, MOUTH_AMOUNTS, FaceReading
from livepuppet.core.square import Square
from livepuppet.core.video import open_video
from livepuppet.realtime.animate import OFFLINE
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.clip.plan import plan, ranges
from livepuppet.realtime.clip.survey import Survey, Watcher, look_through
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.rig.close_ups import EYE_AT

#: Side of the pictures that are drawn and read.
SIDE = 256

#: A correlation that is lower by no more than this is as good.
WITHIN = 0.05

#: Clips are begun anew in this share of their length, but not in the first frames.
BEGUN, LATER = 2 / 3, 5


def _mouth(reading: FaceReading, *names: str) -> float:
    return float(np.mean([reading.mouth[4 + MOUTH_AMOUNTS.index(name)] for name in names]))


def _head(reading: FaceReading, *names: str) -> float:
    return float(np.mean([reading.head[HEAD_AMOUNTS.index(name)] for name in names]))


def _eyes(reading: FaceReading, *names: str) -> np.ndarray:
    """Of both eyes, (2,)."""
    return np.mean([reading.eyes[:, EYE_AT[name]] for name in names], axis=0)


#: What is compared, and how it is read of a face, whatever its neutral pose; and how far (standard deviation) a driver has to go for
#: it to say anything: of angles in radians, of the opening of eyes and lips in face units, of the others as a share.
FACTORS: dict[str, tuple[Callable[[FaceReading], float], float]] = {
    "turn": (lambda read: _head(read, "yaw"), 0.05),
    "nod": (lambda read: _head(read, "pitch"), 0.05),
    "roll": (lambda read: _head(read, "roll"), 0.03),
    "open": (lambda read: float(read.mouth[0]), 0.02),
    "smile": (lambda read: _mouth(read, "mouthSmileLeft", "mouthSmileRight"), 0.06),
    "pucker": (lambda read: _mouth(read, "mouthPucker"), 0.06),
    "eyes shut": (lambda read: -float(read.eyes[:, 0].mean()), 0.015),
    "look aside": (
        lambda read: float(_eyes(read, "eyeLookIn") @ (1, -1) - _eyes(read, "eyeLookOut") @ (1, -1)),
        0.1,
    ),
    "look down": (lambda read: float((_eyes(read, "eyeLookDown") - _eyes(read, "eyeLookUp")).mean()), 0.06),
    "brow": (lambda read: float((_eyes(read, "browOuterUp") - _eyes(read, "browDown")).mean()), 0.06),
}


@dataclass(frozen=True)
class Row:
    """One clip drawn in one way.

    Attributes:
        clip: its name.
        begins: what is bad about its first frame ("mouth", "turned", "shut"); empty for the clip as it is.
        frame: of the clip, with which it begins.
        neutral: `auto` or `first`; of a clip begun anew also "whole": the same frames, drawn with the whole clip's neutral pose.
        correlation: by factor, one of each avatar: of what the avatar shows with what the driver does. Factors that the
            driver does not move are left out.
        sentence: which neutral pose was taken; empty for the first frame.
    """

    clip: str
    begins: str
    frame: int
    neutral: str
    correlation: dict[str, list[float]]
    sentence: str = ""

    def median(self, factor: str) -> float:
        return float(np.median(self.correlation[factor]))


def measure(engine: Engine, clips: Sequence[Path], avatars: Sequence[Path], every: int = 4) -> Iterator[Row]:
    """Draw each clip with both neutral poses, and begun at its three worst moments.

    Args:
        engine: whose keypoints are landmarks.
        every: of so many frames one is drawn and read; all are looked at.

    Raises:
        LivePuppetError: something cannot be read, or a clip shows no face.
    """
    settings = replace(OFFLINE, smoothing=0)
    animators = [Animator(one, engine=engine, settings=settings, crop="full", size=SIDE) for one in avatars]
    for clip in clips:
        with open_video(str(clip)) as video:
            survey = look_through(video, Watcher(engine, animators[0].look_closer))
        if not survey.has_face:
            raise UserError(f"No face is found in {clip}: give clips of faces.")
        drawn = np.arange(0, len(survey.seen), every)
        true = _all_numbers(survey.seen[index].keypoints for index in drawn.tolist())
        whole, sentence = _shown(animators, survey, "auto", drawn)
        yield Row(clip.name, "", 0, "auto", _correlations(whole, true), sentence)
        first, _ = _shown(animators, survey, "first", drawn)
        yield Row(clip.name, "", 0, "first", _correlations(first, true))
        for name, begin in _worst(survey).items():
            kept = drawn >= begin
            rest = replace(survey, seen=survey.seen[begin:])
            yield Row(clip.name, name, begin, "whole", _correlations(whole[:, kept], true[kept]))
            for neutral in ("auto", "first"):
                found, sentence = _shown(animators, rest, neutral, drawn[kept] - begin)
                yield Row(clip.name, name, begin, neutral, _correlations(found, true[kept]), sentence)


def _shown(
    animators: Sequence[Animator], survey: Survey, neutral: str, drawn: np.ndarray
) -> tuple[np.ndarray, str]:
    """What the avatars show in the frames `drawn`, as `animate` does it: (A, T, factors); and which neutral pose was taken."""
    found, sentence = [], ""
    for animator in animators:
        engine = animator.engine
        # Ranges know nothing of the last avatar.
        made = plan(survey, engine.keypoint_names, engine.size, neutral, matrices=engine.matrices)
        known, faces = ranges(made, engine.keypoint_names), []
        wanted = set(drawn.tolist())
        for index, one in enumerate(made.shown):
            if one.begins is not None:
                animator.begin_shot(one.begins, False, known.get(one.person), one.cut)
            if index in wanted:
                faces.append(
                    None
                    if one.driving is None
                    else _read(animator, animator.move(one.driving, float(one.time)))
                )
        found.append(_all_numbers(faces))
        sentence = next((text for text in made.sentences if text.startswith("Neutral pose from")), "")
    return np.stack(found), sentence


def _read(animator: Animator, picture: np.ndarray) -> Keypoints:
    """The face of a drawn picture, uint8 RGB (SIDE, SIDE, 3)."""
    picture = np.ascontiguousarray(picture[..., :3])
    return animator.look_closer(picture, Square(0, 0, SIDE), animator.engine.detect(picture), mirrored=False)


def _all_numbers(faces) -> np.ndarray:
    """All factors of every face: (T, factors), NaN where none is seen."""
    nothing = [np.nan] * len(FACTORS)
    return np.array(
        [
            nothing
            if face is None or face.reading is None
            else [of(face.reading) for of, _ in FACTORS.values()]
            for face in faces
        ]
    ).reshape(-1, len(FACTORS))


def _correlations(shown: np.ndarray, true: np.ndarray) -> dict[str, list[float]]:
    """Of (A, T, factors) with (T, factors), by factor."""
    found = {}
    for index, (name, (_, least)) in enumerate(FACTORS.items()):
        seen = np.isfinite(true[:, index])
        if seen.sum() < 5 or true[seen, index].std() < least:
            continue
        found[name] = []
        for own in shown[:, :, index]:
            both = seen & np.isfinite(own)
            moved = both.sum() >= 5 and own[both].std() > 1e-6
            found[name].append(float(np.corrcoef(own[both], true[both, index])[0, 1]) if moved else 0.0)
    return found


def _worst(survey: Survey) -> dict[str, int]:
    """The frames in which the mouth is most open, the head most turned, and the eyes most shut."""
    numbers = _all_numbers(one.keypoints for one in survey.seen)
    places = list(FACTORS)
    away = np.abs(numbers - np.nanmedian(numbers, axis=0))
    faults = {"mouth": numbers[:, places.index("open")], "turned": away[:, places.index("turn")]}
    faults["shut"] = numbers[:, places.index("eyes shut")]
    last = max(int(len(numbers) * BEGUN), LATER + 1)
    return {
        name: LATER + int(np.argmax(np.nan_to_num(fault[LATER:last], nan=-np.inf)))
        for name, fault in faults.items()
        if np.isfinite(fault[LATER:last]).any()
    }


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Two Markdown tables: medians over avatars, `auto` beside `first`; and of clips begun at bad moments, beside the same frames of the
    whole clip.
    """
    names = [name for name in FACTORS if any(name in row.correlation for row in rows)]
    found = {(row.clip, row.begins, row.neutral): row for row in rows}
    yield f"`auto` / `first`, medians over avatars; ! where `auto` is worse by more than {WITHIN}"
    yield from ("", "| clip | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names))
    for row in rows:
        if (row.begins, row.neutral) == ("", "auto"):
            yield _line(row.clip, names, row, found[row.clip, "", "first"], reference=1)
    yield _line(
        "median", names, *(_median(rows, neutral, False) for neutral in ("auto", "first")), reference=1
    )
    yield from (
        "",
        f"whole clip / `auto` / `first`, begun at bad moments; ! where `auto` is worse than the whole clip by more than {WITHIN}",
    )
    yield from ("", "| clip, from frame | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names))
    for row in rows:
        if row.begins and row.neutral == "whole":
            others = (found[row.clip, row.begins, neutral] for neutral in ("auto", "first"))
            yield _line(f"{row.clip}, {row.frame} ({row.begins})", names, row, *others, reference=0)
    yield _line(
        "median",
        names,
        *(_median(rows, neutral, True) for neutral in ("whole", "auto", "first")),
        reference=0,
    )
    for text, count, of in _verdicts(rows):
        yield from ("", f"{text}: {count} of {of}")


def _median(rows: Sequence[Row], neutral: str, begun: bool) -> Row:
    """The medians over clips of medians over avatars, in clips as they are or in those that were `begun` anew."""
    medians: dict[str, list[float]] = {}
    for row in rows:
        if row.neutral == neutral and bool(row.begins) == begun:
            for name in row.correlation:
                medians.setdefault(name, []).append(row.median(name))
    return Row("", "", 0, neutral, {name: [float(np.median(values))] for name, values in medians.items()})


def _line(head: str, names: Sequence[str], *rows: Row, reference: int) -> str:
    """One line of a table; `auto`, the row beside `reference` or the first but that, is marked where it is worse."""
    cells = []
    for name in names:
        if any(name not in row.correlation for row in rows):
            cells.append("-")
            continue
        values = [row.median(name) for row in rows]
        auto = values[1 - reference]
        cells.append(
            " / ".join(f"{value:.2f}" for value in values)
            + ("!" if auto < values[reference] - WITHIN else "")
        )
    return f"| {head} | " + " | ".join(cells) + " |"


def _verdicts(rows: Sequence[Row]) -> Iterator[tuple[str, int, int]]:
    """How many factors of how many are worse by more than `WITHIN`: from the start, and begun at a bad moment."""
    found = {(row.clip, row.begins, row.neutral): row for row in rows}
    for text, reference, wanted in (
        ("Worse with `auto` than with `first`", "first", False),
        ("Worse begun at a bad moment than in the whole clip", "whole", True),
    ):
        pairs = [
            (row.median(name), found[row.clip, row.begins, reference].median(name))
            for row in rows
            if row.neutral == "auto" and bool(row.begins) == wanted
            for name in row.correlation
            if name in found[row.clip, row.begins, reference].correlation
        ]
        yield text, sum(one < other - WITHIN for one, other in pairs), len(pairs)
