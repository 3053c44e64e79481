"""Whatever a file, a person or a program gives: a result or a sentence, never a traceback, a hang, or much memory.

A short set in the suite; for longer see `hunting`. Pictures and videos are in `test_damage`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import pytest
from hunting import bounded, hunted
from hypothesis import strategies as some
from media import gradient, red_picture, write_clip

from livepuppet.core import cache
from livepuppet.core.bundle import read_bundle
from livepuppet.core.errors import LivePuppetError, UserError
from livepuppet.core.files import write_atomically
from livepuppet.core.images import list_images, write_png
from livepuppet.core.names import name_from, path_of, text_of
from livepuppet.core.numbers import number_of
from livepuppet.core.square import parse_square
from livepuppet.core.video import open_video
from livepuppet.realtime.app import actions, settings
from livepuppet.realtime.app.option_types import make_strict
from livepuppet.realtime.app.session import parse_size
from livepuppet.realtime.avatars import load_avatar
from livepuppet.realtime.clip.neutral import moment_or_picture
from livepuppet.realtime.clip.survey import check_face
from livepuppet.realtime.outputs.video import VideoFile
from livepuppet.realtime.rig import sidecar

# What damage is.

_PLACES = some.one_of(some.integers(0, 300), some.integers(-100, -1), some.floats(0, 1, exclude_max=True))
_WORDS = [
    b"\0",
    b"\xff",
    b"{",
    b"[",
    b'"',
    b"9" * 30,
    b"-1",
    b"null",
    b"1e999",
    b"NaN",
    b"[" * 3000,
    b"\xed\xb3\xa9",
]
DAMAGE = some.lists(
    some.one_of(
        some.tuples(some.just("flip"), _PLACES, some.integers(0, 7)),
        some.tuples(
            some.just("set"), _PLACES, some.sampled_from(_WORDS) | some.binary(min_size=1, max_size=4)
        ),
        some.tuples(some.just("leave out"), _PLACES, some.integers(1, 100)),
        some.tuples(some.just("cut"), _PLACES, some.none()),
    ),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, damage: list) -> bytes:
    for kind, place, what in damage:
        at = int(place * len(data)) if isinstance(place, float) else place
        at = max(0, min(at if at >= 0 else len(data) + at, len(data) - 1))
        if not data:
            return data
        if kind == "flip":
            data = data[:at] + bytes([data[at] ^ 1 << what]) + data[at + 1 :]
        elif kind == "set":
            data = data[:at] + what + data[at + len(what) :]
        elif kind == "leave out":
            data = data[:at] + data[at + what :]
        else:
            data = data[:at]
    return data


#: Numbers, texts and what they are put into, as JSON has them: also those that few programs expect.
_NUMBERS = some.one_of(
    some.integers(-10, 300),
    some.sampled_from([2**31, 2**63, 2**64, -1, 10**30, 10**400, 1e308, math.inf, -math.inf, math.nan, 0.5]),
    some.floats(),
)
_TEXTS = some.one_of(
    some.text(max_size=8),
    some.sampled_from(
        [
            "F32",
            "U8",
            "F999",
            "\udce9",
            "\0",
            "１２",
            "²",
            "nan",
            "x" * 5000,
            "~",
            "file:%ff",
            "C:\\Users\\me",
        ]
    ),
)
JSON = some.recursive(
    some.one_of(some.none(), some.booleans(), _NUMBERS, _TEXTS),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextmanager
def changed(values: dict, path: list, value: object) -> Iterator[dict]:
    """A copy of nested values in which the place that `path` leads to holds something else."""
    copy = json.loads(json.dumps(values))
    place, names = copy, None
    for step in path:
        names = (
            list(place) if isinstance(place, dict) else range(len(place)) if isinstance(place, list) else []
        )
        if not names:
            break
        name = names[step % len(names)]
        if not isinstance(place[name], (dict, list)) or step == path[-1]:
            place[name] = value
            break
        place = place[name]
    yield copy


_PATHS = some.lists(some.integers(0, 30), min_size=1, max_size=5)

# Weights.


@functools.cache
def weights() -> bytes:
    from small_model import small_model

    from livepuppet.model.checkpoint import save

    with folder() as place:
        save(small_model(), place / "a.safetensors")
        return (place / "a.safetensors").read_bytes()


def _load(data: bytes) -> None:
    from livepuppet.model.checkpoint import load
    from livepuppet.model.prediction import load_predictor

    with folder() as place, bounded():
        path = place / "a.safetensors"
        path.write_bytes(data)
        for read in (load, load_predictor):
            with contextlib.suppress(LivePuppetError):
                read(path)


def _with_header(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + body


@hunted(12, damage=DAMAGE)
def test_damaged_weights(damage):
    _load(damaged(weights(), damage))


@hunted(25, path=_PATHS, value=JSON)
def test_weights_with_another_header(path, value):
    length = int.from_bytes(weights()[:8], "little")
    header = json.loads(weights()[8 : 8 + length])
    with changed(header, path, value) as other:
        _load(_with_header(other, weights()[8 + length :]))


@hunted(25, path=_PATHS, value=JSON)
def test_weights_with_another_preset(path, value):
    length = int.from_bytes(weights()[:8], "little")
    header = json.loads(weights()[8 : 8 + length])
    with changed(json.loads(header["__metadata__"]["preset"]), path, value) as preset:
        header["__metadata__"]["preset"] = json.dumps(preset)
        _load(_with_header(header, weights()[8 + length :]))


@hunted(40, header=JSON, body=some.binary(max_size=40))
def test_weights_of_any_header(header, body):
    _load(_with_header(header, body))


def test_weights_whose_preset_has_no_layers():
    length = int.from_bytes(weights()[:8], "little")
    header = json.loads(weights()[8 : 8 + length])
    preset = json.loads(header["__metadata__"]["preset"])
    preset["config"]["detector_channels"] = []
    header["__metadata__"]["preset"] = json.dumps(preset)
    _load(_with_header(header, weights()[8 + length :]))


# Bundles.


@functools.cache
def bundle() -> dict[str, bytes]:
    from tiny_bundle import write_bundle

    with folder() as place:
        return {path.name: path.read_bytes() for path in write_bundle(place / "b").iterdir()}


@hunted(60, damage=DAMAGE, path=_PATHS, value=JSON, structured=some.booleans())
def test_damaged_bundles(damage, path, value, structured):
    from livepuppet.realtime.engines.bundles import BundleEngine

    with folder() as place, bounded():
        for name, data in bundle().items():
            (place / name).write_bytes(data)
        text = bundle()["bundle.json"]
        if structured:
            with changed(json.loads(text), path, value) as other:
                text = json.dumps(other).encode("utf-8", "replace")
        else:
            text = damaged(text, damage)
        (place / "bundle.json").write_bytes(text)
        with contextlib.suppress(LivePuppetError):
            BundleEngine(place, read_bundle(place))


# Settings.

_TOML = b"""# Mine.
[source]
driving = "camera:front"
camera_rate = 30.0
[framing]
square = [1.0, 2.0, 3.0]
[avatar]
avatar = "~/me.png"
[motion]
strength = 0.8 # less
[output]
outputs = ["window", "a.mp4"]
[control]
port = 8643
[neutral]
points = [[0.1, 0.2]]
[profile.stream.motion]
strength = 1.5
"""
_TOML_VALUES = some.sampled_from(
    [
        "nan",
        "inf",
        "1" + "0" * 400,
        "1" * 5000,
        "[[]]",
        "{a=1}",
        '"C:\\Users"',
        "'C:\\Users'",
        "1_0",
        "0x1f",
        "true",
        "[" * 900,
    ]
) | some.text(max_size=20)


def _use_settings(data: bytes) -> None:
    with folder() as place, pytest.MonkeyPatch.context() as patch, bounded():
        patch.setenv(settings.FOLDER_VARIABLE, str(place))
        (place / "settings.toml").write_bytes(data)
        for profile in (None, "stream"):
            loaded = None
            with contextlib.suppress(UserError):
                loaded = settings.load(profile)
            wanted = settings.merge(
                loaded or settings.Settings(), {"strength": 0.3, "avatar": "/a/\udce9.png"}
            )
            # Whatever was there, what is remembered is there the next time, or a sentence says why not.
            if settings.remember(loaded or settings.Settings(), wanted, profile) is None:
                again = settings.load(profile)
                assert again.motion.strength == 0.3 and again.avatar.avatar == "/a/\udce9.png"


@hunted(40, damage=DAMAGE)
def test_damaged_settings(damage):
    _use_settings(damaged(_TOML, damage))


@hunted(40, key=some.sampled_from(sorted(settings.RULES)), value=_TOML_VALUES)
def test_settings_of_any_value(key, value):
    section, name = key.split(".")
    _use_settings(f"[{section}]\n{name} = {value}\n".encode("utf-8", "replace"))


@hunted(120, key=some.sampled_from(sorted(settings.RULES)), value=JSON, text=_TEXTS)
def test_any_value_of_a_setting(key, value, text):
    rule = settings.RULES[key]
    with bounded():
        for given in (lambda: settings.check(rule, value), lambda: settings.parse(rule, text)):
            with contextlib.suppress(UserError):
                found = given()
                assert isinstance(found, type(rule.default))
                if isinstance(found, float):
                    assert math.isfinite(found)


# Sidecars.


@functools.cache
def rig() -> tuple[np.ndarray, bytes]:
    from test_rig import drawn_face

    picture, contours = drawn_face()
    return picture, sidecar.to_json(contours, picture).encode()


def _read_rig(data: bytes) -> None:
    with bounded(), contextlib.suppress(ValueError):
        found = sidecar.from_json(data, rig()[0])
        assert (found.height, found.width) == rig()[0].shape[:2]


@hunted(60, damage=DAMAGE)
def test_damaged_sidecars(damage):
    _read_rig(damaged(rig()[1], damage))


@hunted(60, path=_PATHS, value=JSON)
def test_sidecars_with_another_value(path, value):
    with changed(json.loads(rig()[1]), path, value) as other:
        _read_rig(json.dumps(other).encode("utf-8", "replace"))


# The cache.


@hunted(40, damage=DAMAGE, kind=some.sampled_from(["json", "arrays", "bytes"]))
def test_a_damaged_cache_is_never_believed(damage, kind):
    inputs, arrays = {"a": 1}, {"x": np.arange(60.0).reshape(3, 20), "y": np.array(True)}
    with folder() as place, pytest.MonkeyPatch.context() as patch, bounded():
        patch.setenv("XDG_CACHE_HOME", str(place))
        if kind == "json":
            cache.remember("k", inputs, {"psnr": 41.5, "names": ["a", None]})
        elif kind == "arrays":
            cache.remember_arrays("k", inputs, arrays)
        else:
            cache.remember_bytes("k", inputs, bytes(range(256)))
        [path] = [path for path in place.rglob("*") if path.is_file()]
        path.write_bytes(damaged(path.read_bytes(), damage))
        with contextlib.suppress(KeyError):
            if kind == "json":
                assert cache.remembered("k", inputs) == {"psnr": 41.5, "names": ["a", None]}
            elif kind == "arrays":
                found = cache.remembered_arrays("k", inputs)
                assert found.keys() == arrays.keys()
                assert all(np.array_equal(found[name], value) for name, value in arrays.items())
            else:
                assert cache.remembered_bytes("k", inputs) == bytes(range(256))


# Names.

_NAME_BYTES = some.one_of(
    some.binary(min_size=1, max_size=60),
    some.text(min_size=1, max_size=40).map(
        lambda text: text.encode("utf-8", "surrogateescape" if text.isascii() else "replace")
    ),
    some.sampled_from(
        [
            b"12:05",
            b"http:",
            b"concat:a|b",
            b"-",
            b"--output",
            b"~",
            b"~x",
            b"%03d",
            b"%",
            b"*",
            b"[a]",
            b"\xb27",
            "²7".encode(),
            b"file:a",
            b"a\nb",
            b"m\xe9",
            b" ",
            b"x" * 251,
            "顔".encode() * 83,
            b"con",
            b".hidden",
            b"pipe:1",
            b"a?b#c",
            b"C:\\x",
        ]
    ),
)
NAMES = _NAME_BYTES.map(lambda data: data.replace(b"\0", b"0").replace(b"/", b"|")[:251]).filter(
    lambda data: data.strip(b".") != b""
)


@functools.cache
def clip() -> bytes:
    with folder() as place:
        return write_clip(place / "clip.mp4", [red_picture(level) for level in (0, 100, 200)]).read_bytes()


@hunted(20, name=NAMES)
@pytest.mark.skipif(os.name != "posix", reason="other systems have other names")
def test_any_name_that_the_file_system_takes(name):
    with folder() as place, bounded():
        picture, video = (place / os.fsdecode(name + suffix) for suffix in (b".png", b".mp4"))
        try:
            write_png(picture, gradient(40, 40))
        except OSError:
            return
        video.write_bytes(clip())
        avatar = load_avatar(picture, 64)
        assert avatar.name == picture.name and avatar.original.shape == (40, 40, 3)
        if not name.startswith(b"."):  # hidden
            assert list_images(place) == [picture]
        with open_video(video) as opened:
            assert sum(1 for _ in opened) == 3
        target = place / "out" / video.name
        target.parent.mkdir()
        with VideoFile(target, 64, 64) as output:
            output.write(gradient(64, 64), 0)
        assert [path.name for path in target.parent.iterdir()] == [video.name]
        with open_video(target) as opened:
            assert sum(1 for _ in opened) == 1
        write_atomically(picture, b"new")
        assert picture.read_bytes() == b"new"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(settings.FOLDER_VARIABLE, str(place / "config"))
            wanted = {"avatar": str(picture), "selected": picture.name, "outputs": (str(target),)}
            with contextlib.suppress(UserError):  # control characters are for no settings file
                settings.save(settings.merge(settings.Settings(), wanted))
                found = settings.load()
                assert found.avatar.avatar == str(picture) and found.output.outputs == (str(target),)
        assert name_from(text_of(str(picture))) == str(picture)
        text_of(str(picture)).encode("utf-8")


@hunted(100, text=some.text(max_size=30) | _TEXTS)
def test_any_text_as_a_name(text):
    with bounded(), contextlib.suppress(UserError):
        assert path_of(text)


# Numbers.

_NUMBER_TEXTS = some.one_of(
    _NUMBERS.map(
        lambda value: str(value) if not isinstance(value, int) or abs(value) < 10**4000 else "9" * 5000
    ),
    some.text("0123456789+-.eE_, nainf１²½٣xX:", max_size=12),
    some.sampled_from(
        ["1e400", "nan", "-inf", "1_0", "１２", "0x10", "9" * 5000, "", " 7 ", "7\xa0", "1e-400", "½"]
    ),
    some.text(max_size=6),
)


@hunted(150, text=_NUMBER_TEXTS, low=some.none() | some.floats(-5, 5), whole=some.booleans())
def test_any_text_as_a_number(text, low, whole):
    with bounded():
        try:
            found = number_of(text, low, None, whole)
        except ValueError:
            found = None
        if found is not None:
            assert (
                math.isfinite(found)
                and (low is None or found >= low)
                and isinstance(found, int if whole else float)
            )
            # Spaces around it may be of any kind: they come along when a number is pasted.
            assert text.strip().isascii() and "_" not in text
            assert abs(float(text) - found) <= 1e-6 * abs(found)
        for parse in (parse_square, parse_size, check_face, moment_or_picture):
            with contextlib.suppress(UserError):
                parse(text)
        for arguments in (["--whole", text], ["--float", text], ["--range", text], ["--open", text]):
            with contextlib.suppress(UserError, click.UsageError):
                _command().main(arguments, standalone_mode=False)


@functools.cache
def _command() -> click.Command:
    @click.command()
    @click.option("--whole", type=int)
    @click.option("--float", type=float)
    @click.option("--range", type=click.IntRange(1, 9))
    @click.option("--open", type=click.FloatRange(0, 9, min_open=True))
    def command(**values):
        for value in values.values():
            assert value is None or math.isfinite(value)
        assert values["range"] is None or 1 <= values["range"] <= 9
        assert values["open"] is None or 0 < values["open"] <= 9

    return make_strict(command)


# Control.

_ACTIONS = some.one_of(
    some.sampled_from(sorted(set(actions.ACTIONS) - {"quit"})),
    _TEXTS,
)
_COMMANDS = some.lists(some.tuples(_ACTIONS, some.one_of(some.none(), some.booleans(), JSON)), max_size=20)


@hunted(15, commands=_COMMANDS)
def test_any_sequence_of_control_commands(commands):
    from test_loop import live

    from livepuppet.core.video import Frame

    with bounded():
        session, _ = live([], avatars=3)
        try:
            for number, (action, value) in enumerate(commands):
                with contextlib.suppress(UserError):
                    session.post(action, value)
                session._between_frames()
                session._process_frame(Frame(red_picture(40 * number % 200), number, 0.0), 0.0)
                json.dumps(session.state())
        finally:
            session._painting.close()
            session.capture.close()
            session.fanout.close()
        assert not session.failed


@functools.cache
def server():
    from test_control import TOKEN, Session

    from livepuppet.realtime.app.control import ControlServer

    return ControlServer(Session().post, Session().state, TOKEN, 0), TOKEN


_REQUESTS = some.one_of(
    some.builds(
        lambda path, query, body: ("POST", path, query, json.dumps(body).encode("utf-8", "replace")),
        some.sampled_from(
            ["/set", "/avatar", "/do/next", "/do/strength", "/state", "/do/%ff", "//", "/do/a%2fb"]
        ),
        some.sampled_from(["", "?value=1e999", "?value=%ff", "?value=", "?token=%ff", "?value=" + "[" * 500]),
        JSON | some.dictionaries(some.sampled_from(sorted(actions.ACTIONS)), JSON, max_size=4),
    ),
    some.builds(lambda body: ("POST", "/set", "", body), some.binary(max_size=60)),
)


@hunted(40, request=_REQUESTS)
def test_any_control_request(request):
    method, path, query, body = request
    running, token = server()
    head = f"{method} {path}{query} HTTP/1.0\r\nHost: 127.0.0.1:{running.port}\r\nAuthorization: Bearer {token}\r\n"
    answer = _ask(
        running.port, f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1", "replace") + body
    )
    # A body that is too large is not read, so that the answer may be lost with the connection.
    assert not answer or int(answer.split()[1]) < 500, answer


@hunted(
    30,
    data=some.binary(max_size=200) | some.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")),
)
def test_any_bytes_at_the_control_port(data):
    answer = _ask(server()[0].port, data + b"\r\n\r\n")
    assert not answer.startswith(b"HTTP/1.0 5"), answer


def _ask(port: int, data: bytes) -> bytes:
    with bounded(), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        answer = b""
        with contextlib.suppress(OSError):  # it hangs up when it has answered
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


def test_what_the_examples_stand_on():
    """The files that are damaged above are read when they are whole."""
    _load(weights())
    from livepuppet.model.checkpoint import load

    with folder() as place:
        (place / "a.safetensors").write_bytes(weights())
        assert load(place / "a.safetensors").preset.name
        for name, data in bundle().items():
            (place / name).write_bytes(data)
        assert read_bundle(place)
        shutil.rmtree(place / "x", ignore_errors=True)
    assert sidecar.from_json(rig()[1], rig()[0]).mouth is not None
