"""The settings file: TOML that people may edit, with profiles by name.

    before = load("stream")                       # default < [section] < [profile.stream.section]
    now = merge(before, {"mirror": True})         # < what the command line gave
    ...
    problem = remember(now, at_the_end, "stream")    # only what was changed meanwhile

A file that was edited by hand keeps its comments, its order, and keys that this version does not
know.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from livepuppet.core.errors import UserError
from livepuppet.core.files import write_atomically
from livepuppet.core.names import text_of
from livepuppet.realtime.app.settings.schema import (
    BACKSLASHES,
    RULES,
    SECTIONS,
    Rule,
    Settings,
    changed,
    check,
    rule,
    shown_text,
    with_values,
)

FILE_NAME = "settings.toml"

#: Names another folder for the settings and the control server's token.
FOLDER_VARIABLE = "LIVEPUPPET_CONFIG"

#: A settings file is a few kilobytes. What is larger is another file, and would take minutes to
#: read.
LARGEST_FILE = 1 << 20

LONGEST_PROFILE_NAME = 64


def config_folder() -> Path:
    """Where the settings lie. The folder need not exist."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(os.path.expanduser(named))
    import platformdirs

    return platformdirs.user_config_path("livepuppet", appauthor=False)


def settings_path() -> Path:
    return config_folder() / FILE_NAME


def load(profile: str | None = None, notify: Callable[[str], None] | None = None) -> Settings:
    """The settings of `profile`, over those of the file's own sections, over the defaults. No file,
    no problem.

    Args:
        profile: a name that need not exist yet.
        notify: called with one sentence for keys that this version does not know, and for a new
            profile.

    Raises:
        UserError: the file cannot be read, or holds something wrong: which line or key, and what to
            do.
    """
    notify = notify or (lambda sentence: None)
    profile = profile_name(profile)
    path = settings_path()
    text = _read(path)
    document = _document(path, text) if text is not None else {}
    unknown: list[str] = []
    settings = Settings()
    for prefix, table in _layers(document, profile):
        settings = with_values(settings, _values(path, text or "", prefix, table, unknown))
    if unknown:
        names = ", ".join(unknown)
        notify(f"{path.name} has keys that this livepuppet does not know, and leaves alone: {names}.")
    if profile is not None and profile not in _profiles(document):
        notify(f"The profile '{profile}' is new: it starts as the settings without a profile.")
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
            f"A profile's name has 1 to {LONGEST_PROFILE_NAME} letters, as in --profile stream, not {shown_text(name)}."
        )
    return name.strip()


def save(settings: Settings, profile: str | None = None) -> str | None:
    """Write what differs from the file, at once or not at all. Everything else in the file stays as
    it is.

    A file that has become unreadable is kept aside first; the sentence that is then returned says
    where.

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
    """Write what changed from `before` to `after`, whatever else was written to the file meanwhile.
    Never raises.

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
        return save(with_values(present, changes), profile)
    except UserError as error:
        return str(error)


def unset(key: str, profile: str | None = None) -> bool:
    """Remove a setting from the file, so that what lies below counts again; a key that is not
    known, too.

    Returns:
        Whether it was there.

    Raises:
        UserError: the file cannot be read or written.
    """
    profile = profile_name(profile)
    path = settings_path()
    text = _read(path)
    parts = tuple(key.split("."))
    if len(parts) == 1:
        parts = tuple(rule(key).key.split("."))
    if text is None:
        return False
    document = _document(path, text)
    prefix = ("profile", profile) if profile is not None else ()
    table: Any = document
    for part in (*prefix, *parts[:-1]):
        table = table.get(part) if isinstance(table, Mapping) else None
    if not isinstance(table, Mapping) or parts[-1] not in table:
        return False
    del table[parts[-1]]  # pyright: ignore[reportIndexIssue] - tomlkit's tables are mutable
    write_file(path, document.as_string().encode())
    return True


def _whole(known: Rule, value: Any) -> Any:
    """Paths are written whole: the next session may start in another folder."""
    if known.form == "path" and value:
        return str(Path(os.path.expanduser(value)).absolute())
    if known.form == "source" and ("/" in value or "\\" in value or "." in value):
        there = Path(os.path.expanduser(value))
        return str(there.absolute()) if there.exists() else value
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
    except (TOMLKitError, ValueError, RecursionError) as error:
        # The last two: numbers of thousands of digits, and lists in lists in lists.
        line = getattr(error, "line", None)
        where = f"{path}, line {line}" if line else str(path)
        # tomlkit ends with "at line 3 col 5", which is said already.
        reason = re.sub(r" at line \d+ col \d+$", "", str(error)).rstrip(".")[:200]
        written = (text.splitlines() or [""])[line - 1 : line] if line else []
        hint = BACKSLASHES if any(re.search(r'"[^"]*\\', one) for one in written) else "put it right"
        raise UserError(
            f"{where} is no TOML ({reason}); {hint}, or move the file away to begin with the defaults."
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
    """Refuse to write what would not be read back: a file in an odd order must not be spoilt by an
    edit.
    """
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
    """A value as TOML can hold it."""
    if isinstance(value, str):
        return text_of(value)
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
