"""Names of files as people and the system give them, pipes, and files that are the same by another name."""

from __future__ import annotations

import os
import threading

import pytest
from media import gradient, red_picture, write_clip, write_picture

import livepuppet
from livepuppet.core import names
from livepuppet.core.errors import UserError
from livepuppet.core.images import natural_key
from livepuppet.core.video import open_video
from livepuppet.realtime.app import settings
from livepuppet.realtime.app.control import do_path

posix = pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX")


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", [red_picture(level) for level in (0, 60, 120)])


def test_a_tilde_is_home_wherever_a_path_is_read(tmp_path, monkeypatch, clip):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_picture(tmp_path / "me.png", gradient(40, 40))
    assert names.path_of("~/me.png") == str(tmp_path / "me.png")
    assert livepuppet.load_avatar("~/me.png", 64).name == "me.png"
    with open_video("~/clip.mp4") as video:
        assert video.length == 3
    assert settings.check(settings.RULES["avatar.avatar"], "~/me.png") == "~/me.png"


@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
def test_an_empty_name_is_none(empty):
    with pytest.raises(UserError, match="is empty"):
        names.path_of(empty)


def test_names_that_no_system_takes():
    with pytest.raises(UserError, match="NUL"):
        names.path_of("a\0b")
    if os.name == "posix":
        with pytest.raises(UserError, match="too long"):
            names.path_of("x" * 5000)


@posix
def test_file_addresses_are_paths():
    assert names.path_of("file:///a/m%E9%20b.png") == os.fsdecode(b"/a/m\xe9 b.png")
    assert names.path_of("file://localhost/a") == "/a"
    assert not names.is_url("file:///a")
    with pytest.raises(UserError, match="another computer"):
        names.path_of("file://elsewhere/a")


@posix
@pytest.mark.parametrize("name", [b"/a/m\xe9.png", b"m\xff\xfe", "/顔".encode()])
def test_any_name_can_be_written_as_text(name):
    text = names.text_of(os.fsdecode(name))
    text.encode("utf-8")
    assert names.name_from(text) == os.fsdecode(name)


def test_addresses_are_for_driving():
    assert names.path_of("https://example.com/a.mp4") == "https://example.com/a.mp4"
    for read in (
        lambda: livepuppet.load_avatar("https://example.com/me.png"),
        lambda: livepuppet.Animator("http://a/b"),
    ):
        with pytest.raises(UserError, match="only --driving takes"):
            read()
    with pytest.raises(UserError, match="only --driving takes"):
        settings.check(settings.RULES["avatar.avatar"], "https://example.com/me.png")


@posix
@pytest.mark.parametrize(
    "name", ["2024-05-01T10:30:00.mp4", "http:x.mp4", "concat:a.mp4", "-.mp4", "%03d.mp4"]
)
def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch, clip, name):
    monkeypatch.chdir(tmp_path)
    clip.rename(name)
    with open_video(name) as video:
        assert sum(1 for _ in video) == 3


def test_natural_order_knows_only_digits_that_are_numbers():
    wanted = ["2.png", "10.png", "a.png", "²7.png", "٣.png"]
    assert len(sorted(wanted, key=natural_key)) == len(wanted)
    assert sorted(["10", "9", "²"], key=natural_key)[:2] == ["9", "10"]


def test_files_are_the_same_by_links(tmp_path, clip):
    hard, soft = tmp_path / "hard.mp4", tmp_path / "soft.mp4"
    os.link(clip, hard)
    soft.symlink_to(clip)
    for other in (clip, hard, soft, tmp_path / "x" / ".." / "clip.mp4"):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert names.same_file(clip, other)
        with pytest.raises(UserError, match="is the driving video itself"):
            names.keep_apart(other, {"the driving video": clip})
    assert not names.same_file(clip, tmp_path / "new.mp4")
    names.keep_apart(tmp_path / "new.mp4", {"the driving video": clip, "nothing": None, "not there": "x"})


def test_names_are_compared_where_there_is_no_file_yet(tmp_path):
    assert names.same_file(tmp_path / "a" / ".." / "b.mp4", tmp_path / "b.mp4")


@posix
def test_a_pipe_is_kept_for_who_reads_it_again(tmp_path, clip):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = clip.read_bytes()
    threading.Thread(target=pipe.write_bytes, args=(data,), daemon=True).start()
    assert names.is_pipe(str(pipe)) and names.is_pipe("-") and not names.is_pipe(str(clip))
    with names.as_file(str(pipe)) as copy:
        for _ in range(2):
            with open_video(copy) as video:
                assert sum(1 for _ in video) == 3
    assert not os.path.exists(copy)
    with names.as_file(str(clip)) as same:
        assert same == str(clip)


@posix
def test_a_pipe_drives_where_its_format_can_be_read_forwards(tmp_path):
    from livepuppet.realtime.inputs.opening import open_source

    data = write_clip(tmp_path / "a.ts", [red_picture(level) for level in range(0, 100, 20)]).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(data,), daemon=True).start()
    source = open_source(str(pipe))
    assert sum(1 for _ in source.frames(threading.Event())) == 5
    source.close()
    with pytest.raises(UserError, match="--loop"):
        open_source(str(pipe), loop=True)


@posix
def test_a_pipe_of_nothing_is_a_sentence(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(b"no video at all",), daemon=True).start()
    with names.as_file(str(pipe)) as copy, pytest.raises(UserError, match="cannot be read as a video"):
        open_video(copy)


@posix
def test_a_name_that_is_no_utf8_survives_settings_and_control(tmp_path, monkeypatch):
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path))
    picture, selected = os.fsdecode(b"/a/m\xe9.png"), os.fsdecode(b"m\xe9.png")
    wanted = settings.merge(
        settings.Settings(),
        {"avatar": picture, "selected": selected, "outputs": (os.fsdecode(b"o\xe9.mp4"),)},
    )
    settings.save(wanted)
    found = settings.load()
    assert found == wanted
    assert b"file:///a/m%E9.png" in (tmp_path / "settings.toml").read_bytes()
    assert do_path("select", selected) == "do/select?value=m%E9.png"


def test_outputs_never_touch_what_is_read(tmp_path, clip):
    avatar = write_picture(tmp_path / "me.png", gradient(64, 64))
    before = clip.read_bytes()
    os.link(clip, tmp_path / "same.mp4")
    os.link(avatar, tmp_path / "me.mp4")
    for output in ("same.mp4", "me.mp4"):
        with pytest.raises(UserError, match="itself"):
            livepuppet.animate(avatar, clip, tmp_path / output)
    assert clip.read_bytes() == before
    for output in ("", "-", "https://example.com/a.mp4"):
        with pytest.raises(UserError):
            livepuppet.animate(avatar, clip, output)


def test_a_folder_of_pictures_never_loses_one(tmp_path):
    from livepuppet.realtime.outputs.folder import ImageFolder

    (tmp_path / "000001.png").write_bytes(b"precious")
    folder = ImageFolder(tmp_path)
    folder.write(gradient(16, 16), 0)
    with pytest.raises(UserError, match="is there already"):
        folder.write(gradient(16, 16), 1)
    assert (tmp_path / "000001.png").read_bytes() == b"precious"


@pytest.mark.parametrize("letters", [100, 101, 249, 255])
def test_temporary_names_fit(tmp_path, letters):
    from livepuppet.core.files import Replacement, discard_leftovers
    from livepuppet.realtime.outputs.video import VideoFile

    path = tmp_path / ("x" * (letters - 4) + ".mp4")
    replacement = Replacement(path)
    assert len(replacement.part.name) < 140
    discard_leftovers(path)
    assert not replacement.part.exists()
    with VideoFile(path, 32, 32) as output:
        output.write(gradient(32, 32), 0)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    with open_video(path) as video:
        assert video.length == 1  # an ordinary MP4, as its number of frames is in front


@posix
def test_a_model_in_a_folder_whose_name_is_no_utf8(tmp_path):
    from tiny_bundle import write_bundle

    from livepuppet.realtime.engines import load_engine

    folder = write_bundle(tmp_path / os.fsdecode(b"m\xe9"))
    for engine in ("onnx", "openvino"):
        if engine == "openvino":
            pytest.importorskip("openvino")
        machine = load_engine(engine, folder, threads=1)
        assert machine.detect(red_picture(90, machine.size)).points.shape == (4, 2)


@posix
def test_weights_with_names_that_are_no_utf8(tmp_path):
    from small_model import small_model

    from livepuppet.model.checkpoint import load, read_metadata, save

    path = tmp_path / os.fsdecode(b"m\xe9.safetensors")
    save(small_model(), path, imported_from=path.name)
    assert load(path).preset.name == "small"
    assert read_metadata(path)["imported_from"] == "m\\udce9.safetensors"
