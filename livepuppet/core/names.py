"""Names of files and addresses, as people and the system give them.

A name is a name: bytes that are no UTF-8 (Python holds them as lone surrogates), colons and leading
dashes in it mean nothing. Only `~` and `file:` addresses stand for something else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from livepuppet.core.errors import UserError

#: Stands for standard input where something is read.
STDIN = "-"


def is_url(text: str | os.PathLike) -> bool:
    """Whether it is an address of another computer's, or of a protocol; a `file:` address is a path."""
    name = os.fspath(text)
    return isinstance(name, str) and "://" in name and not name.startswith("file:")


def path_of(name: str | os.PathLike, what: str = "a file") -> str:
    """A path as the system takes it, or an address as it is.

    Args:
        name: a path, in which `~` and `~user` are expanded; a `file:` address; or another address.
        what: of which it is the name, for the message.

    Raises:
        UserError: it is empty, or holds what no name can.
    """
    text = os.fsdecode(os.fspath(name))
    if not text.strip():
        raise UserError(f"The name of {what} is empty: give one, or leave the option out.")
    if "\0" in text:
        raise UserError(f"The name of {what} holds a NUL, which no file's name has: give another.")
    if is_url(text):
        return text
    path = _of_file_address(text) if text.startswith("file:") else os.path.expanduser(text)
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(
                f"The name {path[:60]}... of {what} is too long for this system: shorten it."
            ) from error
    return path


def local_path(name: str | os.PathLike, what: str) -> Path:
    """`path_of`, for what has to be a file or folder here.

    Raises:
        UserError: also where it is an address.
    """
    text = path_of(name, what)
    if is_url(text):
        raise UserError(
            f"{shown(text)} is an address, which only --driving takes: download it, and give the file as {what}."
        )
    return Path(text)


def _of_file_address(text: str) -> str:
    rest = text.removeprefix("file:")
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise UserError(f"{text} is a file of another computer: copy it here, or give its path.")
        rest = slash + path
    path = os.fsdecode(unquote_to_bytes(rest.encode("utf-8", "surrogateescape")))
    if os.name == "nt":
        from urllib.request import url2pathname

        path = url2pathname(rest)
    if not path or "\0" in path:
        raise UserError(f"{text} names no file: give its path.")
    return path


def text_of(name: str) -> str:
    """A name as text that any file can hold: itself, or a `file:` address where it is no UTF-8.

    `name_from` reads it.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "file:" + ("//" if name.startswith("/") else "") + quote(os.fsencode(name))
    return name


def name_from(text: str) -> str:
    """What `text_of` wrote."""
    return _of_file_address(text) if text.startswith("file:") else text


def ffmpeg_name(name: str | os.PathLike) -> str:
    """What makes FFmpeg open this very file: an absolute path, since it takes `a:b.mp4` for the
    protocol `a`. An address stays as it is.
    """
    text = path_of(name)
    return text if is_url(text) else os.path.abspath(text)


def shown(name: str | os.PathLike) -> str:
    """How to speak of a path or address: as it is, but without the password that a camera's address
    may carry.
    """
    text = str(name)
    if not is_url(text):
        return text
    try:
        password = urlsplit(text).password
    except ValueError:
        return text
    return text.replace(f":{password}@", ":...@", 1) if password else text


def is_pipe(name: str | os.PathLike) -> bool:
    """Whether it can be read once only: standard input (`-`), a named pipe, `/dev/stdin` of a pipe."""
    text = os.fspath(name)
    if text == STDIN:
        return True
    with suppress(OSError, ValueError):
        mode = os.stat(text).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    return False


def readable(name: str) -> str:
    """`name`, or for `-` what standard input is called here.

    Raises:
        UserError: this system has no name for it.
    """
    if name != STDIN:
        return name
    with suppress(OSError):
        if os.isatty(0):
            raise UserError(
                "Standard input is a terminal: pipe a video into it, as in ffmpeg ... | livepuppet ..."
            )
    if not os.path.exists("/dev/stdin"):
        raise UserError("Standard input cannot be read here: give a file, or ./- for one that is called -.")
    return "/dev/stdin"


@contextmanager
def as_file(name: str) -> Iterator[str]:
    """A name that can be opened again and again, and jumped about in: `name` itself, or for a pipe
    that of a copy, which lasts as long as the block.

    Raises:
        UserError: there is no room for the copy.
    """
    if not is_pipe(name):
        yield name
        return
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(prefix="livepuppet-") as folder:
        copy = os.path.join(folder, "input")
        try:
            with open(readable(name), "rb") as source, open(copy, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except OSError as error:
            raise UserError(
                f"What comes from the pipe {name} cannot be kept ({error.strerror}): make room in {folder}, or give a file."
            ) from error
        try:
            yield copy
        except UserError as error:
            # People know the pipe's name.
            raise type(error)(str(error).replace(copy, name)) from error


def same_file(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether two names lead to one file or folder: by links of any kind, or on a file system that
    ignores case. Files are compared where both are there, else names.
    """
    if is_url(one) or is_url(other):
        return False
    with suppress(OSError, ValueError):
        return os.path.samefile(one, other)
    with suppress(OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)
    return False


def keep_apart(output: str | os.PathLike, inputs: Mapping[str, str | os.PathLike | None]) -> None:
    """Refuse to write over what is read.

    Args:
        output: of the file or folder to be written.
        inputs: what it is (`the driving video`) -> its name; None is left out.

    Raises:
        UserError: it is one of them.
    """
    for what, name in inputs.items():
        if name is not None and os.path.lexists(name) and same_file(output, name):
            raise UserError(f"The output {output} is {what} itself: choose another name for it.")
