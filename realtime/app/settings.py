"""What livepuppet remembers: a TOML file that people may edit, with profiles by name.

    before = load("stream")                       # default < [section] < [profile.stream.section]
    now = merge(before, {"mirror": True})         # < what the command line gave
    ...
    problem = remember(now, at_the_end, "stream")    # only what was changed meanwhile

A file that was edited by hand keeps its comments, its order, and keys that this version does not know.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.files import write_atomically
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.setting import setting
from livepuppet.realtime.motion.settings import MotionSettings

FILE_NAME = "settings.toml"

#: Names another folder for the settings and the control server's token.
FOLDER_VARIABLE = "LIVEPUPPET_CONFIG"

#: A settings file is a few kilobytes. What is larger is another file, and would take minutes to read.
LARGEST_FILE = 1 << 20

LONGEST_PROFILE_NAME = 64


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
        form: `text`, `size` (WIDTHxHEIGHT), `path`, `source` (a path where such a file exists), `colour` (one of the
            choices or #RRGGBB), `texts`, `square` (none, or x, y, side), `points` and `jacobians` (of the pose).
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
            kind = "a whole number" if isinstance(self.default, int) else "a number"
            if self.high is None:
                return kind if self.low is None else f"{kind}, at least {self.low:g}"
            return f"{kind} from {self.low:g} to {self.high:g}"
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
        }.get(self.form, "a text")


@dataclass(frozen=True)
class SourceSettings:
    """What drives."""

    driving: str = setting(
        "auto",
        "The camera (its number, or a part of its name; auto is the first real one), or a video, folder or stream.",
        form="source",
    )
    camera_size: str = setting("1280x720", "Size to ask of the camera.", form="size")
    camera_rate: float = setting(30.0, "Frames per second to ask of the camera.", low=1, high=240)
    pixel_format: str = setting("MJPG", "Pixel format to ask of the camera, such as MJPG or YUYV.")
    mirror: bool = setting(False, "Move like a mirror image of the driver.")
    loop: bool = setting(False, "Play a driving file again and again.")


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
        "The square of the avatar that moves: auto (the head where there is one), center, face, or X,Y,SIDE in pixels.",
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
    background: str = setting(
        "as-is", "What is behind the avatar.", choices=("as-is", "blur", "alpha"), form="colour"
    )


@dataclass(frozen=True)
class OutputSettings:
    """Where the picture goes."""

    outputs: tuple[str, ...] = setting(
        ("window",),
        "Where the picture goes: virtual, window, a file, http, pipe, none; several at once.",
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

    @classmethod
    def of(cls, keypoints: Keypoints | None, model: str) -> NeutralPose:
        """The pose as plain numbers; an empty one for None."""
        if keypoints is None:
            return cls()
        points = tuple((round(float(x), 5), round(float(y), 5)) for x, y in keypoints.points)
        jacobians = tuple(
            tuple(tuple(round(float(number), 5) for number in row) for row in matrix)
            for matrix in keypoints.jacobians
        )
        return cls(of_model=model, points=points, jacobians=jacobians)

    def keypoints(self, model: str, count: int) -> Keypoints | None:
        """As `Keypoints` of `count` points, or None where there is no pose, or one of another model."""
        if self.of_model != model or len(self.points) != count or len(self.jacobians) != count:
            return None
        return Keypoints(np.array(self.points, np.float32), np.array(self.jacobians, np.float32))


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
        for known in fields(section.default_factory):
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
    """The rule of a setting by its key (`motion.strength`), or by its name alone (`strength`, `camera-size`).

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
    """`value` as the setting holds it: lists become tuples, whole numbers become floats where floats are wanted.

    Raises:
        UserError: it is of another type, or out of range.
    """
    wrong = UserError(f"{known.key} has to be {known.values}, not {_shown(value)}.")
    default = known.default
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise wrong
        return bool(value)
    if isinstance(default, (int, float)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise wrong
        if isinstance(default, int) and value != int(value):
            raise wrong
        if (known.low is not None and value < known.low) or (known.high is not None and value > known.high):
            raise wrong
        return type(default)(value)
    if isinstance(default, str):
        if not isinstance(value, (str, os.PathLike)):
            raise wrong
        text = os.fspath(value)
        colour = known.form == "colour" and re.fullmatch(r"#[0-9a-fA-F]{6}", text)
        if known.choices and text not in known.choices and not colour:
            raise wrong
        if known.form == "size" and not re.fullmatch(r"\d{2,4}x\d{2,4}", text):
            raise wrong
        if any(ord(letter) < 32 for letter in text):
            raise wrong
        return str(text)
    if not isinstance(value, (list, tuple)):
        raise wrong
    if known.form == "texts":
        if not all(isinstance(item, str) for item in value):
            raise wrong
        return tuple(str(item) for item in value)
    shape = {"square": (3,), "points": (-1, 2), "jacobians": (-1, 2, 2)}[known.form]
    try:
        numbers = np.array(value, np.float64)
    except (TypeError, ValueError):
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


def _shown(value: Any) -> str:
    text = repr(value.unwrap() if hasattr(value, "unwrap") else value)
    return text if len(text) <= 60 else text[:57] + "..."


def parse(known: Rule, text: str) -> Any:
    """The value that somebody typed: `on` and `yes` are true, lists are separated by commas.

    Raises:
        UserError: it does not fit, or the setting is written by livepuppet alone.
    """
    wrong = UserError(f"{known.key} has to be {known.values}, not '{text}'.")
    text = text.strip()
    if known.form in ("points", "jacobians") or known.key == "neutral.of_model":
        raise UserError(f"{known.key} is measured, not typed: press X or Space while livepuppet runs.")
    if isinstance(known.default, bool):
        words = {"true": True, "yes": True, "on": True, "1": True}
        words |= {"false": False, "no": False, "off": False, "0": False}
        if text.lower() not in words:
            raise wrong
        return words[text.lower()]
    if isinstance(known.default, (int, float)):
        try:
            return check(known, float(text))
        except ValueError:
            raise wrong from None
    if isinstance(known.default, str):
        return check(known, text)
    items = [item.strip() for item in text.strip("[]").split(",") if item.strip()]
    if known.form == "texts":
        return check(known, [item.strip("\"'") for item in items])
    try:
        return check(known, [float(item) for item in items])
    except ValueError:
        raise wrong from None


def _with(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """With checked values by key."""
    by_section: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        section, name = key.split(".")
        by_section.setdefault(section, {})[name] = value
    return replace(
        settings,
        **{section: replace(getattr(settings, section), **values) for section, values in by_section.items()},
    )


def merge(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """`settings` with what was given, by key or name (`motion.strength` or `strength`). None means not given.

    Raises:
        UserError: there is no such setting, or the value does not fit.
    """
    changes = {}
    for name, value in given.items():
        if value is not None:
            known = rule(name)
            changes[known.key] = check(known, value)
    return _with(settings, changes)


def changed(before: Settings, after: Settings) -> dict[str, Any]:
    """Key -> new value of everything that differs."""
    return {key: value_of(after, key) for key in RULES if value_of(after, key) != value_of(before, key)}


# The file.


def config_folder() -> Path:
    """Where the settings lie. The folder need not exist."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_config_path("livepuppet", appauthor=False)


def settings_path() -> Path:
    return config_folder() / FILE_NAME


def load(profile: str | None = None, say: Callable[[str], None] | None = None) -> Settings:
    """The settings of `profile`, over those of the file's own sections, over the defaults. No file, no problem.

    Args:
        profile: a name that need not exist yet.
        say: called with one sentence for keys that this version does not know, and for a new profile.

    Raises:
        UserError: the file cannot be read, or holds something wrong: which line or key, and what to do.
    """
    say = say or (lambda sentence: None)
    profile = profile_name(profile)
    path = settings_path()
    text = _read(path)
    document = _document(path, text) if text is not None else {}
    unknown: list[str] = []
    settings = Settings()
    for prefix, table in _layers(document, profile):
        settings = _with(settings, _values(path, text or "", prefix, table, unknown))
    if unknown:
        names = ", ".join(unknown)
        say(f"{path.name} has keys that this livepuppet does not know, and leaves alone: {names}.")
    if profile is not None and profile not in _profiles(document):
        say(f"The profile '{profile}' is new: it starts as the settings without a profile.")
    return settings


def profiles() -> list[str]:
    """Names of the profiles in the file, in its order. Raises UserError like `load`."""
    path = settings_path()
    text = _read(path)
    return list(_profiles(_document(path, text))) if text is not None else []


def profile_name(name: str | None) -> str | None:
    """`name` if a profile can be called that; None for none. Raises UserError."""
    if name is None:
        return None
    if not name.strip() or len(name) > LONGEST_PROFILE_NAME or not name.isprintable():
        raise UserError(
            f"A profile's name has 1 to {LONGEST_PROFILE_NAME} letters, as in --profile stream, not {_shown(name)}."
        )
    return name.strip()


def save(settings: Settings, profile: str | None = None) -> str | None:
    """Write what differs from the file, at once or not at all. Everything else in the file stays as it is.

    A file that has become unreadable is kept aside first; the sentence that is then returned says where.

    Raises:
        UserError: it cannot be written (disk full, folder read-only). The file is then as before.
    """
    profile = profile_name(profile)
    path = settings_path()
    notice = None
    try:
        text = _read(path)
        present = load(profile)
        document = _document(path, text) if text is not None else _new_document()
    except UserError as error:
        if not os.access(path, os.R_OK):
            # Not broken, but not ours to read: nothing that may be in it is put at risk.
            raise
        aside = _keep_aside(path)
        notice = f"{str(error).split('; ')[0].rstrip('.')}; it was kept as {aside.name}, and a new one was written."
        text, present, document = None, Settings(), _new_document()
    changes = {key: _whole(RULES[key], value) for key, value in changed(present, settings).items()}
    if not changes and profile in (None, *_profiles(document)):
        return notice
    _write_keys(document, profile, changes)
    data = document.as_string()
    _prove(path, data, profile, changes)
    write_file(path, data.encode())
    return notice


def remember(before: Settings, after: Settings, profile: str | None = None) -> str | None:
    """Write what changed from `before` to `after`, whatever else was written to the file meanwhile. Never raises.

    Returns:
        A sentence where something went wrong, else None.
    """
    changes = changed(before, after)
    if not changes:
        return None
    try:
        try:
            present = load(profile)
        except UserError:
            # `save` keeps the broken file aside; everything that is known goes into the new one.
            return save(after, profile)
        return save(_with(present, changes), profile)
    except UserError as error:
        return str(error)


def unset(key: str, profile: str | None = None) -> bool:
    """Remove a setting from the file, so that what lies below counts again; a key that is not known, too.

    Returns:
        Whether it was there.

    Raises:
        UserError: the file cannot be read or written.
    """
    profile = profile_name(profile)
    path = settings_path()
    text = _read(path)
    document = _document(path, text) if text is not None else {}
    parts = tuple(key.split("."))
    if len(parts) == 1:
        parts = tuple(rule(key).key.split("."))
    prefix = ("profile", profile) if profile is not None else ()
    table: Any = document
    for part in (*prefix, *parts[:-1]):
        table = table.get(part) if isinstance(table, Mapping) else None
    if not isinstance(table, Mapping) or parts[-1] not in table:
        return False
    del table[parts[-1]]
    write_file(path, document.as_string().encode())
    return True


def _whole(known: Rule, value: Any) -> Any:
    """Paths are written whole: the next session may start in another folder."""
    if known.form == "path" and value:
        return str(Path(value).expanduser().absolute())
    if known.form == "source" and ("/" in value or "\\" in value or "." in value) and Path(value).exists():
        return str(Path(value).absolute())
    return value


def _read(path: Path) -> str | None:
    """The file's text, or None where there is none."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path} is too large for a settings file; move it away.")
        # A byte order mark is what Windows' editor adds.
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no UTF-8 text; save it as UTF-8, or move it away.") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); put that right, or set {FOLDER_VARIABLE} to another folder."
        ) from error


def _document(path: Path, text: str):
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        line = getattr(error, "line", None)
        where = f"{path}, line {line}" if line else str(path)
        # tomlkit ends with "at line 3 col 5", which is said already.
        reason = re.sub(r" at line \d+ col \d+$", "", str(error)).rstrip(".")
        raise UserError(
            f"{where} is no TOML ({reason}); put it right, or move the file away to begin with the defaults."
        ) from error


def _new_document():
    import tomlkit

    document = tomlkit.document()
    document.add(
        tomlkit.comment("Settings of livepuppet. Edit freely; 'livepuppet settings show' explains them.")
    )
    return document


def _profiles(document: Mapping) -> Mapping:
    table = document.get("profile", {})
    return table if isinstance(table, Mapping) else {}


def _layers(document: Mapping, profile: str | None):
    """The tables that count, lowest first, each with where it stands."""
    yield (), {name: table for name, table in document.items() if name != "profile"}
    if "profile" in document and not isinstance(document["profile"], Mapping):
        raise UserError(
            f"{settings_path()}: 'profile' has to be a table such as [profile.stream.motion]; put it right."
        )
    if profile is not None and profile in _profiles(document):
        table = _profiles(document)[profile]
        if not isinstance(table, Mapping):
            raise UserError(
                f"{settings_path()}: the profile '{profile}' has to be a table such as [profile.{profile}.motion]; "
                "put it right."
            )
        yield ("profile", profile), table


def _values(path: Path, text: str, prefix: tuple[str, ...], layer: Mapping, unknown: list[str]) -> dict:
    """Checked values by key; the names of what is not known are added to `unknown`."""
    values = {}
    for section, table in layer.items():
        if section not in SECTIONS:
            unknown.append(".".join((*prefix, section)))
            continue
        if not isinstance(table, Mapping):
            raise UserError(
                f"{path}: '{section}' has to be a section, [{'.'.join((*prefix, section))}]; put it right."
            )
        for name, value in table.items():
            known = RULES.get(f"{section}.{name}")
            if known is None:
                unknown.append(".".join((*prefix, section, name)))
                continue
            try:
                values[known.key] = check(known, value.unwrap() if hasattr(value, "unwrap") else value)
            except UserError as error:
                line = _line_of(text, (*prefix, section), name)
                where = f"{path}, line {line}" if line else str(path)
                option = f" --profile {prefix[1]}" if prefix else ""
                raise UserError(
                    f"{where}: {str(error).rstrip('.')}; put it right, or remove it with livepuppet settings unset "
                    f"{known.key}{option}."
                ) from error
    return values


def _line_of(text: str, section: tuple[str, ...], name: str) -> int | None:
    """The line on which `name` of [section] stands, where it is written in the ordinary way."""
    here = False
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            parts = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            here = parts == section
        elif here and re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=", line):
            return number
    return None


def _write_keys(document: Any, profile: str | None, changes: Mapping[str, Any]) -> None:
    import tomlkit

    def inside(table: Any, name: str, heading: bool) -> Any:
        if name not in table:
            # A table that only holds other tables needs no line of its own.
            table[name] = tomlkit.table(is_super_table=not heading)
        return table[name]

    top = document
    if profile is not None:
        top = inside(inside(document, "profile", False), profile, not changes)
    for key, value in changes.items():
        section, name = key.split(".")
        inside(top, section, True)[name] = _lists(value)


def _prove(path: Path, text: str, profile: str | None, changes: Mapping[str, Any]) -> None:
    """Refuse to write what would not be read back: a file in an odd order must not be spoilt by an edit."""
    values: dict[str, Any] = {}
    with suppress(UserError):
        for prefix, table in _layers(_document(path, text), profile):
            values |= _values(path, text, prefix, table, [])
    if any(key not in values or values[key] != value for key, value in changes.items()):
        raise UserError(
            f"{path} is written in a way that cannot be changed from here, so nothing was written; put the settings of "
            "each section together under one heading."
        )


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def _keep_aside(path: Path) -> Path:
    """Move a file that cannot be read out of the way, over nothing else. Raises UserError."""
    number = 1
    aside = path.with_name(f"{path.name}.broken")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.broken-{number}")
    try:
        os.replace(path, aside)
    except OSError as error:
        raise UserError(
            f"{path} is broken and cannot be moved aside ({error.strerror}), so nothing was written; put it right."
        ) from error
    return aside


def write_file(path: Path, data: bytes, mode: int | None = None) -> None:
    """Replace one of our own files so that it survives a power cut. Raises UserError.

    Args:
        mode: permissions; by default those of the file before, or 0o600 where there was none.
    """
    try:
        mode = 0o600 if mode is None and not path.exists() else mode
        write_atomically(path, data, durable=True, mode=mode)
    except OSError as error:
        raise UserError(
            f"{path} could not be written ({error.strerror}): free some space, make the folder writable, or set "
            f"{FOLDER_VARIABLE} to another folder; what was there before stays."
        ) from error


def shown_value(value: Any) -> str:
    """As it would stand in the file."""
    import tomlkit

    return tomlkit.item(_lists(value)).as_string()


def as_dict(settings: Settings) -> dict:
    """For JSON."""
    return dataclasses.asdict(settings)
