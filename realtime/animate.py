"""Animate pictures with driving videos, into finished videos.

A file is looked through before the first picture is drawn: where it cuts, whose face it shows, when
that face is at rest. What cannot be read twice (a stream), and models of things that are no faces,
are drawn as they come.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from av.error import FFmpegError

from livepuppet.core.errors import LivePuppetError, UserError
from livepuppet.core.images import list_images, natural_key
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.names import as_file, is_url, keep_apart, local_path, path_of
from livepuppet.core.numbers import checked_number
from livepuppet.core.square import cut, parse_square
from livepuppet.core.video import Frame, Video, open_video
from livepuppet.realtime.animator import NO_LANDMARKS, Animator, AvatarLike, check_rig, load_any
from livepuppet.realtime.avatars import check_avatar_crop
from livepuppet.realtime.clip.neutral import moment_or_picture
from livepuppet.realtime.clip.plan import Plan, clock, plan, ranges
from livepuppet.realtime.clip.survey import Survey, Watcher, check_face, look_through
from livepuppet.realtime.driving.opening import is_sound_file
from livepuppet.realtime.engines import Engine, Precision, load_engine
from livepuppet.realtime.framing.crop import Framing
from livepuppet.realtime.motion.calibration import pose_indices
from livepuppet.realtime.motion.retargeter import NO_VARIANCE
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.folder import ImageFolder
from livepuppet.realtime.outputs.opening import check_file_output, is_video_name
from livepuppet.realtime.outputs.sound import Soundtrack
from livepuppet.realtime.outputs.video import VideoFile
from livepuppet.realtime.rig.range import DriverRange

logger = logging.getLogger(__name__)

#: Offline there is no countdown. A file of faces is smoothed without any lag; models of other things
#: get every movement as it is.
OFFLINE = MotionSettings(smoothing=1, countdown=0)

#: Where nobody asks for a size, a finished square is as large as the avatar's own, up to this.
LARGEST_SIDE = 1080

#: Of a finished square, in pixels.
SMALLEST_SIDE = 16

#: Called with the frames done until now, looking and drawing counting half each, and their number as
#: far as it is known.
Progress = Callable[[float, "int | None"], None]


@dataclass(frozen=True)
class Summary:
    """What `animate` made.

    Attributes:
        frames: pictures written.
        seconds: that reading, animating and writing took, the model's loading not counted.
        engine, provider: what ran the model.
        sentences: what a person should know: which neutral pose was taken, where there is no face.
    """

    frames: int
    seconds: float
    engine: str
    provider: str
    sentences: tuple[str, ...] = ()


def animate(
    avatar: AvatarLike,
    driving: str | os.PathLike,
    output: str | os.PathLike,
    model: str | os.PathLike | None = None,
    *,
    engine: str | Engine | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    settings: MotionSettings = OFFLINE,
    neutral: str | float | os.PathLike = "auto",
    face: str | int = "largest",
    crop: str = "auto",
    avatar_crop: str = "auto",
    side: int | None = None,
    side_by_side: bool = False,
    rate: float | Fraction | None = None,
    rig: str | None = None,
    as_published: bool = False,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Animate a picture with a driving video: one frame for each of its frames, at the same times,
    with its sound.

    A file is looked through first. Each shot gets a square of its own, and each person a neutral
    pose (D1); where no face is seen the avatar rests. Of each frame a kilobyte and a half is kept.

    Args:
        avatar, model, engine, device, precision, threads, avatar_crop, rig: see `Animator`.
        driving: a video, a GIF, a folder of pictures or an address; a pipe (`-` is standard input)
            is kept until the end. A file of sound alone moves the mouth to its voice.
        output: `FILE.mp4` (H.264), or a folder for PNGs.
        settings: how the driver's motion is shown. Smoothing looks both ways.
        neutral: where D1 is taken: `auto` (the frame in which the face is most at rest), `first`
            (the papers': the first with a face), seconds since the beginning, or a picture of the
            driver at rest. Models whose keypoints are no landmarks take `auto` for `first`.
        face: which of several: `largest`, `left`, `right`, or its number from the left.
        crop: the square of the driving frames: `auto` (around the face), `full` (the largest in the
            middle) or `X,Y,SIDE` in pixels.
        side: of the finished square, in pixels; by default the avatar's own, from the model's up to
            1080. Above the model's the avatar's own pixels are moved.
        side_by_side: show driving frame, avatar and result next to each other.
        rate: frames per second of a folder of pictures, 25 by default, and of a file of sound, 30.
        as_published: the papers' settings: D1 is the first frame, both squares are centred, nothing
            is smoothed, and the model draws all, at its own size.
        progress: see `Progress`.

    Raises:
        LivePuppetError: for bad input, as a video without a face (unless `crop` says that it is
            meant). What had been animated until then is kept, and plays.
    """
    avatar = _local(avatar)
    driving, output = path_of(driving, "the driving video"), path_of(output, "the output")
    check_file_output(output)
    with as_file(driving) as name:
        film = Film(
            name,
            rate=rate,
            settings=settings,
            neutral=neutral,
            face=face,
            crop=crop,
            avatar_crop=avatar_crop,
            side=side,
            side_by_side=side_by_side,
            rig=rig,
            as_published=as_published,
        )
        film.keep_out_of(output, avatar)
        with film.open() as clip:
            if engine is None or isinstance(engine, str):
                engine = load_engine(engine, model, threads, device, precision)
            return film.draw(clip, avatar, engine, output, progress)


def _local(avatar: AvatarLike) -> AvatarLike:
    """An avatar's path as the system takes it; whatever else it is stays. Raises UserError."""
    return local_path(avatar, "the avatar") if isinstance(avatar, (str, os.PathLike)) else avatar


#: Files of a folder that is given for driving which make it one of videos, rather than a video in
#: pictures.
DRIVING_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".wmv", ".flv"}


@dataclass(frozen=True)
class Made:
    """One of several videos.

    Attributes:
        output: its file.
        summary: what was made; None where there was a problem.
        problem: a sentence, where it could not be made.
    """

    output: Path
    summary: Summary | None
    problem: str | None = None


def are_many(avatar: str | os.PathLike, driving: str | os.PathLike) -> bool:
    """Whether one of them is a folder that gives several videos: of pictures to animate, or of videos
    to drive with.
    """
    return local_path(avatar, "the avatar").is_dir() or bool(_videos(path_of(driving, "the driving video")))


def animate_many(
    avatar: str | os.PathLike,
    driving: str | os.PathLike,
    output: str | os.PathLike,
    model: str | os.PathLike | None = None,
    *,
    engine: str | Engine | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    begins: Callable[[Path], Progress] = lambda output: lambda done, total: None,
    **options: Any,
) -> list[Made]:
    """Animate all pictures of a folder, or with all videos of a folder. Each driving video is looked
    through once.

    Args:
        avatar: a picture, or a folder of pictures.
        driving: as of `animate`, or a folder of videos.
        output: a folder, which is made if need be. Files are called like the avatar, like the
            driving video where that is what differs, or `AVATAR-DRIVING.mp4`.
        model, engine, device, precision, threads: see `animate`.
        begins: called with the file that is begun; returns its `progress`.
        options: others of `animate`.

    Returns:
        One for each pair. What cannot be made does not end the rest.

    Raises:
        LivePuppetError: the model, an option, or all of the input is bad.
    """
    avatar = local_path(avatar, "the avatar")
    driving, folder = path_of(driving, "the driving video"), local_path(output, "the output")
    check_file_output(str(folder))
    if is_video_name(str(folder)) or folder.is_file():
        raise UserError(f"Several videos need a folder, and {folder} is none: give --output a folder's name.")
    avatars = list_images(avatar) if avatar.is_dir() else [avatar]
    drivings = _videos(driving) or [driving]
    films = [Film(one, **options) for one in drivings]
    if engine is None or isinstance(engine, str):
        engine = load_engine(engine, model, threads, device, precision)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be made ({error.strerror}): choose another --output."
        ) from error
    made, taken = [], set()
    for film, clip_name in zip(films, drivings, strict=True):
        for picture in avatars:
            parts = [picture.stem] if avatar.is_dir() or not _videos(driving) else []
            parts += [Path(clip_name).stem] if _videos(driving) else []
            name = "-".join(parts)
            if name in taken:
                # a.png and a.jpg
                name += "-" + (picture if avatar.is_dir() else Path(clip_name)).suffix[1:].lower()
            taken.add(name)
            target = folder / f"{name}.mp4"
            try:
                check_file_output(str(target))
                film.keep_out_of(str(target), picture)
                with film.open() as clip:
                    summary = film.draw(clip, picture, engine, str(target), begins(target))
                made.append(Made(target, summary))
            except LivePuppetError as error:
                made.append(Made(target, None, str(error)))
    return made


def _videos(driving: str) -> list[str]:
    """The videos directly inside a folder, in natural order; none where it is no such folder."""
    if is_url(driving) or not Path(driving).is_dir():
        return []
    inside = sorted(Path(driving).iterdir(), key=natural_key)
    return [
        str(one)
        for one in inside
        if one.suffix.lower() in DRIVING_SUFFIXES and not one.name.startswith(".") and one.is_file()
    ]


class Film:
    """A driving video, for one avatar after the other.

    Args:
        driving, options: see `animate`.
    """

    def __init__(
        self,
        driving: str,
        *,
        rate: float | Fraction | None = None,
        settings: MotionSettings = OFFLINE,
        neutral: str | float | os.PathLike = "auto",
        face: str | int = "largest",
        crop: str = "auto",
        avatar_crop: str = "auto",
        side: int | None = None,
        side_by_side: bool = False,
        rig: str | None = None,
        as_published: bool = False,
    ):
        if as_published:
            settings = replace(settings, smoothing=0, lost_to_neutral=False)
            neutral, crop, avatar_crop, side, rig = "first", "full", "center", None, "off"
        if rate is not None:
            checked_number("rate", rate, 0.1, 1000)
        if side is not None:
            side = checked_number("side", side, SMALLEST_SIDE, 4096, whole=True)
        self._driving, self._rate, self._settings = driving, rate, settings
        # Before an engine is loaded, which takes seconds at the first start.
        if crop not in ("auto", "full"):
            parse_square(crop)
        check_avatar_crop(avatar_crop)
        check_rig(rig)
        self._neutral, self._face = moment_or_picture(neutral), check_face(face)
        self._crop, self._avatar_crop = crop, avatar_crop
        self._side, self._side_by_side, self._rig = side, side_by_side, rig
        self._as_published = as_published
        self._plan: Plan | None = None
        self._ranges: dict[int, DriverRange] = {}
        self._refused: UserError | None = None
        self._start: Fraction | None = None
        self._broken: str | None = None

    def open(self) -> Video:
        if is_sound_file(self._driving):
            from livepuppet.realtime.driving.talk import Talk

            # It has all that is asked of a clip here.
            return cast("Video", Talk(self._driving, self._rate))
        return open_video(self._driving, self._rate)

    def keep_out_of(self, output: str, avatar: AvatarLike) -> None:
        """Raises UserError where the output is one of the files that are read."""
        keep_apart(
            output,
            {
                "the driving video": self._driving,
                "the avatar": avatar if isinstance(avatar, (str, os.PathLike)) else None,
                "the picture of the neutral pose": self._neutral if isinstance(self._neutral, Path) else None,
            },
        )

    def _of_faces(self, engine: Engine) -> bool:
        """Whether the clip is taken for one of faces, by a model that knows their parts."""
        return pose_indices(engine.keypoint_names) is not None and not self._as_published

    def _animator(self, avatar: AvatarLike, engine: Engine) -> Animator:
        """What moves `avatar`."""
        side = self._side
        settings = self._settings
        if settings.variance != MotionSettings.variance and engine.matrices != "covariance":
            logger.warning(NO_VARIANCE.format(engine.model_name))
        if not self._of_faces(engine) or is_sound_file(self._driving):
            settings = replace(settings, smoothing=0, lost_to_neutral=False)
        loaded = load_any(avatar, engine.size, self._avatar_crop)
        if side is None:
            own = min(round(loaded.square.side), LARGEST_SIDE) // 2 * 2
            side = max(own, engine.size) if self._of_faces(engine) else engine.size
        return Animator(
            loaded,
            engine=engine,
            settings=settings,
            crop=Framing(self._crop, engine=engine),
            size=None if side == engine.size else side,
            rig=self._rig,
        )

    def draw(
        self, clip: Video, avatar: AvatarLike, engine: Engine, output: str, progress: Progress
    ) -> Summary:
        """Write the video of one avatar.

        Args:
            clip: opened for it, not read yet.
        """
        animator = self._animator(avatar, engine)
        began, count, sink = time.perf_counter(), 0, None
        if not self._of_faces(engine) or getattr(clip, "endless", False) or is_sound_file(self._driving):
            pictures = self._as_they_come(clip, animator, progress)
        else:
            pictures = self._as_planned(clip, animator, progress)
        with ExitStack() as stack:
            for picture, at, duration in pictures:
                if sink is None:
                    start = clip.start if clip.start is not None else self._start
                    sink = _open_output(output, picture.shape, clip, start)
                    # What was written is finished whatever comes; an error on the way has the first
                    # word.
                    stack.push(_finish(sink))
                sink.write(picture, at, duration)
                count += 1
            if sink is not None:
                sink.close()
        seconds = time.perf_counter() - began
        broken = clip.broken or self._broken
        if broken:
            kept = f"what was animated until there is in {output}" if count else "nothing could be animated"
            raise UserError(f"{broken}; {kept}; repair or replace the driving video for the rest.")
        if not count:
            raise UserError(f"{self._driving} has no frames: give a video, a GIF or a folder of pictures.")
        sentences = self._plan.sentences if self._plan is not None else ()
        return Summary(count, seconds, engine.name, engine.provider, sentences)

    def _as_they_come(
        self, clip: Video, animator: Animator, progress: Progress
    ) -> Iterator[tuple[np.ndarray, Fraction, Fraction | None]]:
        """Pictures, times and durations of a clip that is read once. D1 is its first frame."""
        at_rest = animator.draw_at_rest()
        self._take_neutral(animator)
        told = is_sound_file(self._driving)
        for number, frame in enumerate(clip if told else _after_framing(clip, animator.framing), 1):
            result = animator.step(frame)
            picture = result.image
            if self._side_by_side:
                side = (len(picture),) * 2
                own = cv2.resize(frame.image, side) if told else animator.cut(frame.image, len(picture))
                picture = np.hstack([own, at_rest, picture])
            yield picture, frame.time, frame.duration
            if self._of_faces(animator.engine):
                animator.track(result, frame)
            progress(number, clip.length)

    def _take_neutral(self, animator: Animator) -> None:
        """D1 of a clip that is read once, where it is not the first frame."""
        if self._neutral in ("auto", "first"):
            return
        raise UserError(NO_LANDMARKS)

    def _as_planned(
        self, clip: Video, animator: Animator, progress: Progress
    ) -> Iterator[tuple[np.ndarray, Fraction, Fraction | None]]:
        """Pictures, times and durations of a file of faces, which is looked through first, but once
        only for several avatars.
        """
        if self._refused is not None:
            raise self._refused
        # What is known of all frames is steady already.
        animator.settings = replace(animator.settings, smoothing=0)
        looked = 0
        if self._plan is None:
            watcher = Watcher(animator.engine, animator.look_closer, self._crop, self._face)

            def advanced(count: int) -> None:
                progress(count / 2, clip.length)

            seen = look_through(clip, watcher, advanced)
            looked, self._start, self._broken = len(seen.seen), seen.start, seen.broken
            if not seen.seen:
                return
            try:
                self._plan = self._planned(seen, animator)
                self._ranges = ranges(self._plan, animator.engine.keypoint_names)
            except UserError as error:
                self._refused = error
                raise
            del seen  # of a long video some megabytes
            for sentence in self._plan.sentences:
                logger.info(sentence)
        total = len(self._plan.shown)
        frames = self._again() if self._side_by_side else iter(())
        at_rest, resting = animator.draw_at_rest(), False
        driving: Keypoints | None = None
        for number, shown in enumerate(self._plan.shown, 1):
            if shown.begins is not None:
                begins: Keypoints | None = shown.begins
                if self._plan.absolute:
                    begins = animator.neutral_behind(shown.begins)
                    animator.settings = replace(animator.settings, relative=begins is not None)
                own = self._ranges.get(shown.person)
                animator.begin_shot(begins or shown.begins, resting, own, shown.cut)
            if shown.driving is not None:
                driving = shown.driving
            elif driving is not None:
                # It rests where it is at first, then goes home.
                driving = replace(driving, confidence=np.zeros(len(driving.points), np.float32))
            if driving is None:
                picture, resting = at_rest.copy(), True
            else:
                picture = animator.move(driving, float(shown.time))
                resting = animator.retargeter.state == "lost"
            frame = next(frames, None)
            if frame is not None:
                own = cut(frame.image, shown.square, len(picture), quick=True)
                picture = np.hstack([own, at_rest, picture])
            yield picture, shown.time, shown.duration
            progress((looked + number) / 2 if looked else number, total)

    def _planned(self, seen: Survey, animator: Animator) -> Plan:
        engine, neutral, fixed = animator.engine, self._neutral, self._crop != "auto"
        if not seen.has_face and not fixed:
            if isinstance(self._face, int) and seen.faces:
                there = "one" if seen.faces == 1 else str(seen.faces)
                raise UserError(
                    f"There is no face number {self._face} in {self._driving}, where at most {there} can be seen at a "
                    "time: choose a smaller number for --face."
                )
            if seen.upside_down is not None:
                raise UserError(
                    f"No face is found in {self._driving} but one that is upside down at {clock(seen.upside_down)}: turn "
                    "the video first."
                )
            which = "" if self._face == "largest" else f" '{self._face}'"
            raise UserError(
                f"No face{which} is found anywhere in {self._driving}: choose another video, or say where to look with "
                "--crop full or --crop X,Y,SIDE."
            )
        if isinstance(neutral, Path):
            neutral = animator.pose_in(neutral)
        return plan(
            seen,
            engine.keypoint_names,
            engine.size,
            neutral,
            self._settings.smoothing,
            fixed,
            engine.matrices,
        )

    def _again(self) -> Iterator[Frame]:
        """The frames once more, for showing them."""
        with self.open() as clip:
            yield from clip


def _after_framing(clip: Video, framing: Framing) -> Iterator[Frame]:
    """All frames of `clip`, after its first ones have been looked at until the square is settled."""
    frames, first = iter(clip), []
    for frame in frames:
        first.append(frame)
        if framing.look(frame.image):
            break
    framing.settle(first[-1].image if first else None)
    return chain(first, frames)


def _open_output(output: str, shape: tuple[int, ...], clip: Video, start: Fraction | None) -> Output:
    if not is_video_name(output):
        return ImageFolder(Path(output))
    sound = None
    if clip.has_sound:
        # A soundtrack that cannot be read must not cost the picture.
        with suppress(FFmpegError, OSError, IndexError):
            sound = Soundtrack(clip.name, start or Fraction(0))
    return VideoFile(Path(output), shape[1], shape[0], clip.rate, clip.time_base, sound=sound)


def _finish(sink: Output):
    """An exit callback that closes `sink` and, when an error is on its way already, keeps its own
    to itself.
    """

    def leave(kind, error, traceback):
        if kind is None:
            sink.close()
        else:
            with suppress(UserError):
                sink.close()
        return False

    return leave
