"""Every setting: its default, what it does, and what it may be."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.names import is_url, local_path, name_from
from livepuppet.core.numbers import number_of, quoted, range_of
from livepuppet.core.reading import FaceReading
from livepuppet.core.setting import setting
from livepuppet.realtime.motion.settings import MotionSettings

#: What helps where a Windows path was written as ordinary text.
BACKSLASHES = (
    "write backslashes between single quotes, as in 'C:\\Users\\me.png', or as slashes: double quotes give them "
    "another meaning"
)


@dataclass(frozen=True)
class Rule:
    """What is known of one setting beside its value.

    Attributes:
        section, name: `motion`, `strength`; the name is unique among all sections.
        default: its type is the setting's: bool, int, float, str, or a tuple.
        help: what it does, for the reference.
        low, high: range of a number, both included; None where there is no limit.
        step: what one key press or slider notch adds; None for settings without a slider.
        choices: all values of a text; empty where any will do.
        form: `text`, `size` (WIDTHxHEIGHT), `path`, `source` (a path where such a file exists),
            `colour` (one of the choices or #RRGGBB), `texts`, `square` (none, or x, y, side),
            `points` and `jacobians` (of the pose).
    """

    section: str
    name: str
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    form: str = "text"

    @property
    def key(self) -> str:
        """`motion.strength`, as in the file."""
        return f"{self.section}.{self.name}"

    @property
    def values(self) -> str:
        """What it may be, for people."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, (int, float)):
            return range_of(self.low, self.high, isinstance(self.default, int))
        if self.form == "colour":
            return f"{', '.join(self.choices)} or a colour such as #00ff00"
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        return {
            "size": "WIDTHxHEIGHT in pixels, as in 1280x720",
            "path": "a path",
            "texts": "a list of texts",
            "square": "a list of three numbers, x, y and side in pixels, or an empty one",
            "points": "a list of pairs of numbers",
            "jacobians": "a list of 2 x 2 numbers",
            "numbers": "a list of numbers",
        }.get(self.form, "a text")


@dataclass(frozen=True)
class SourceSettings:
    """What drives."""

    driving: str = setting(
        "auto",
        "The camera (its number, or a part of its name; auto is the first real one), or a video, folder or stream. Without a camera: "
        "microphone, mouse, phone:ADDRESS, openseeface, or several joined by +.",
        form="source",
    )
    camera_size: str = setting("1280x720", "Size to ask of the camera.", form="size")
    camera_rate: float = setting(30.0, "Frames per second to ask of the camera.", low=1, high=240)
    pixel_format: str = setting("MJPG", "Pixel format to ask of the camera, such as MJPG or YUYV.")
    mirror: bool = setting(False, "Move like a mirror image of the driver.")
    loop: bool = setting(False, "Play a driving file again and again.")
    face_listen: str = setting(
        "127.0.0.1",
        "Address of this computer at which faces of phones and OpenSeeFace are waited for. 127.0.0.1: only from this computer, or "
        "from the one that phone:ADDRESS names; 0.0.0.0: from any machine of the network.",
    )


@dataclass(frozen=True)
class FramingSettings:
    """Which square of the driving picture is looked at."""

    crop: str = setting("auto", "auto (around the face), full (the middle), or X,Y,SIDE in pixels.")
    follow: bool = setting(True, "Let the square follow the head slowly.")
    crop_zoom: float = setting(
        1.0,
        "Side of the square, as a multiple of the one found; keys W and S.",
        low=0.3,
        high=3,
    )
    crop_right: float = setting(
        0.0, "Shift of the square to the right, in sides; keys J and L.", low=-2, high=2
    )
    crop_down: float = setting(0.0, "Shift of the square downwards, in sides; keys I and K.", low=-2, high=2)
    square: tuple[float, ...] = setting(
        (), "The square in use when the last session ended: x, y, side in pixels.", form="square"
    )


@dataclass(frozen=True)
class AvatarSettings:
    """What is moved."""

    avatar: str = setting("", "The picture to move, or a folder of pictures to switch between.", form="path")
    selected: str = setting("", "Name of the avatar that was last selected in the folder.")
    avatar_crop: str = setting(
        "auto",
        "The square of the avatar that moves: auto (the head where there is one), face, center, or X,Y,SIDE in pixels; of several "
        "faces left, right, or its number from the left.",
    )


@dataclass(frozen=True)
class PictureSettings:
    """What the finished picture looks like."""

    size: str = setting("1280x720", "Size of every output.", form="size")
    fit: str = setting(
        "letterbox", "Show the whole avatar, or fill the picture with it.", choices=("letterbox", "fill")
    )
    paste: bool = setting(True, "Set the moving square into the whole picture of the avatar.")
    sharp: bool = setting(
        True, "Keep the avatar's full resolution where the moving square is larger than the model's."
    )
    adapt: bool = setting(
        True, "While the computer is too busy, leave details out before the picture comes late."
    )
    rig: str = setting(
        "on",
        "What is drawn at the picture's own sharpness instead of by the model: the whole head turned in depth (on), eyes and "
        "mouth (face), one of them, or nothing (off).",
        choices=("off", "eyes", "mouth", "face", "on"),
    )
    background: str = setting(
        "as-is", "What is behind the avatar.", choices=("as-is", "blur", "alpha"), form="colour"
    )


@dataclass(frozen=True)
class OutputSettings:
    """Where the picture goes."""

    outputs: tuple[str, ...] = setting(
        ("window",),
        "Where the picture goes: virtual, window, studio, a file, http, pipe, none; several at once.",
        form="texts",
    )
    badge: bool = setting(True, "Recordings say that they are synthetic, on the picture and in their data.")
    sound: str = setting(
        "auto",
        "Sound of recordings: auto (the driving file's, none with a camera), none, or microphone, or microphone:NAME.",
    )


@dataclass(frozen=True)
class ControlSettings:
    """The control server, for a Stream Deck or a script; see livepuppet control."""

    enabled: bool = setting(True, "Listen for livepuppet control, on this computer only.")
    port: int = setting(8643, "Port to listen at; 0 takes a free one.", low=0, high=65535)


@dataclass(frozen=True)
class NeutralPose:
    """The driver's neutral pose (D1), written by livepuppet."""

    reuse: bool = setting(False, "Begin with the last session's neutral pose instead of a countdown.")
    of_model: str = setting("", "The model whose keypoints these are.")
    points: tuple[tuple[float, float], ...] = setting(
        (), "Its keypoints, (x, y) in [-1, 1] of the square.", form="points"
    )
    jacobians: tuple[tuple[tuple[float, float], ...], ...] = setting((), "Its Jacobians.", form="jacobians")
    reading: tuple[float, ...] = setting((), "What close-ups told of it.", form="numbers")

    @classmethod
    def of(cls, keypoints: Keypoints | None, model: str) -> NeutralPose:
        """The pose as plain numbers; an empty one for None."""
        if keypoints is None:
            return cls()
        points = tuple((round(float(x), 5), round(float(y), 5)) for x, y in keypoints.points)
        jacobians = tuple(
            tuple((round(float(a), 5), round(float(b), 5)) for a, b in matrix)
            for matrix in keypoints.jacobians
        )
        numbers = () if keypoints.reading is None else keypoints.reading.numbers().tolist()
        reading = tuple(round(number, 5) for number in numbers)
        return cls(of_model=model, points=points, jacobians=jacobians, reading=reading)

    def keypoints(self, model: str, count: int) -> Keypoints | None:
        """As `Keypoints` of `count` points, or None where there is no pose, or one of another
        model.
        """
        if self.of_model != model or len(self.points) != count or len(self.jacobians) != count:
            return None
        try:
            reading = FaceReading.of_numbers(np.array(self.reading, np.float32))
        except ValueError:
            # Of a session without close-ups, or of a version with others.
            reading = None
        return Keypoints(
            np.array(self.points, np.float32), np.array(self.jacobians, np.float32), reading=reading
        )


@dataclass(frozen=True)
class Settings:
    """Everything, section by section. Every field's metadata says what it does; see `RULES`."""

    source: SourceSettings = field(default_factory=SourceSettings)
    framing: FramingSettings = field(default_factory=FramingSettings)
    avatar: AvatarSettings = field(default_factory=AvatarSettings)
    picture: PictureSettings = field(default_factory=PictureSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    control: ControlSettings = field(default_factory=ControlSettings)
    neutral: NeutralPose = field(default_factory=NeutralPose)


def _rules() -> dict[str, Rule]:
    rules = {}
    for section in fields(Settings):
        kind = section.default_factory
        assert isinstance(kind, type)
        for known in fields(kind):
            rule = Rule(section.name, known.name, known.default, **known.metadata)
            rules[rule.key] = rule
    return rules


#: Key such as `motion.strength` -> its rule, in the order of the file.
RULES: dict[str, Rule] = _rules()

#: Section -> its heading, for people.
SECTIONS: dict[str, str] = {
    section.name: (section.default_factory.__doc__ or "").strip().split("\n")[0]
    for section in fields(Settings)
}


def rule(name: str) -> Rule:
    """The rule of a setting by its key (`motion.strength`), or by its name alone (`strength`,
    `camera-size`).

    Raises:
        UserError: there is none.
    """
    wanted = name.strip().replace("-", "_")
    if wanted in RULES:
        return RULES[wanted]
    for known in RULES.values():
        if known.name == wanted:
            return known
    names = [*RULES, *(known.name for known in RULES.values())]
    near = difflib.get_close_matches(wanted, names, 1)
    advice = f"did you mean {near[0]}?" if near else "livepuppet settings show lists them all."
    raise UserError(f"There is no setting '{name}': {advice}")


def value_of(settings: Settings, key: str) -> Any:
    """The value of `motion.strength`."""
    section, name = key.split(".")
    return getattr(getattr(settings, section), name)


def check(known: Rule, value: Any) -> Any:
    """`value` as the setting holds it: lists become tuples, whole numbers become floats where
    floats are wanted.

    Raises:
        UserError: it is of another type, or out of range.
    """
    wrong = UserError(f"{known.key} has to be {known.values}, not {shown_text(value)}.")
    default = known.default
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise wrong
        return bool(value)
    if isinstance(default, (int, float)):
        if isinstance(value, str):
            raise wrong
        try:
            return number_of(value, known.low, known.high, isinstance(default, int))
        except ValueError:
            raise wrong from None
    if isinstance(default, str):
        if not isinstance(value, (str, os.PathLike)):
            raise wrong
        text = name_from(os.fsdecode(value))
        colour = known.form == "colour" and re.fullmatch(r"#[0-9a-fA-F]{6}", text)
        if known.choices and text not in known.choices and not colour:
            raise wrong
        if known.form == "size" and not re.fullmatch(r"[0-9]{2,4}x[0-9]{2,4}", text):
            raise wrong
        if any(ord(letter) < 32 for letter in text):
            if known.form in ("path", "source"):
                raise UserError(f"{str(wrong)[:-1]} ({BACKSLASHES}).")
            raise wrong
        if known.form == "path" and is_url(text):
            local_path(text, known.key)
        return str(text)
    if not isinstance(value, (list, tuple)):
        raise wrong
    if known.form == "texts":
        if not all(isinstance(item, str) for item in value):
            raise wrong
        return tuple(name_from(str(item)) for item in value)
    shape = {"square": (3,), "numbers": (-1,), "points": (-1, 2), "jacobians": (-1, 2, 2)}[known.form]
    try:
        numbers = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if not numbers.size:
        return ()
    if numbers.ndim != len(shape) or any(
        want not in (-1, have) for want, have in zip(shape, numbers.shape, strict=True)
    ):
        raise wrong
    if not np.isfinite(numbers).all() or (known.form == "square" and numbers[2] <= 0):
        raise wrong
    return _tuples(numbers.tolist())


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def shown_text(value: Any) -> str:
    """A value as messages quote it, at most 60 letters."""
    return quoted(value.unwrap() if hasattr(value, "unwrap") else value)


def parse(known: Rule, text: str) -> Any:
    """The value that somebody typed: `on` and `yes` are true, lists are separated by commas.

    Raises:
        UserError: it does not fit, or the setting is written by livepuppet alone.
    """
    wrong = UserError(f"{known.key} has to be {known.values}, not '{text}'.")
    text = text.strip()
    if known.form in ("points", "jacobians", "numbers") or known.key == "neutral.of_model":
        raise UserError(f"{known.key} is measured, not typed: press X or Space while livepuppet runs.")
    if isinstance(known.default, bool):
        words = {"true": True, "yes": True, "on": True, "1": True}
        words |= {"false": False, "no": False, "off": False, "0": False}
        if text.lower() not in words:
            raise wrong
        return words[text.lower()]
    if isinstance(known.default, (int, float)):
        try:
            return check(known, number_of(text))
        except ValueError:
            raise wrong from None
    if isinstance(known.default, str):
        return check(known, text)
    items = [item.strip() for item in text.strip("[]").split(",") if item.strip()]
    if known.form == "texts":
        return check(known, [item.strip("\"'") for item in items])
    try:
        return check(known, [number_of(item) for item in items])
    except ValueError:
        raise wrong from None


def with_values(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """`settings` with some values replaced, by key; they have been checked."""
    by_section: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        section, name = key.split(".")
        by_section.setdefault(section, {})[name] = value
    return replace(
        settings,
        **{section: replace(getattr(settings, section), **values) for section, values in by_section.items()},
    )


def merge(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """`settings` with what was given, by key or name (`motion.strength` or `strength`). None means
    not given.

    Raises:
        UserError: there is no such setting, or the value does not fit.
    """
    changes = {}
    for name, value in given.items():
        if value is not None:
            known = rule(name)
            changes[known.key] = check(known, value)
    return with_values(settings, changes)


def changed(before: Settings, after: Settings) -> dict[str, Any]:
    """Key -> new value of everything that differs."""
    return {key: value_of(after, key) for key in RULES if value_of(after, key) != value_of(before, key)}
