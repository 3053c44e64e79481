"""The settings file: what is remembered, what a wrong line says, and that nothing in it is lost."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import sys

import numpy as np
import pytest

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.realtime.app import actions, settings
from livepuppet.realtime.app.cli import main
from livepuppet.realtime.app.settings import RULES, NeutralPose, Settings, changed, load, merge, save, store


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder for the settings; it is not made yet."""
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path / "config"))
    return tmp_path / "config"


def write(text: str, encoding: str = "utf-8") -> None:
    settings.settings_path().parent.mkdir(exist_ok=True)
    settings.settings_path().write_bytes(text.encode(encoding))


def text() -> str:
    return settings.settings_path().read_text(encoding="utf-8")


def test_without_a_file_everything_has_its_default(folder):
    assert load() == Settings()
    assert settings.profiles() == []
    assert not folder.exists()


def test_every_setting_has_a_rule_that_its_default_obeys():
    assert len({rule.name for rule in RULES.values()}) == len(RULES)
    for key, rule in RULES.items():
        assert rule.help.endswith(".") and rule.values, key
        assert settings.check(rule, rule.default) == rule.default
        assert settings.value_of(Settings(), key) == rule.default
    assert set(settings.SECTIONS) == {rule.section for rule in RULES.values()}


def test_sliders_have_the_ranges_of_the_actions():
    for name, (low, high, step) in actions.SLIDERS.items():
        rule = settings.rule(name)
        assert (rule.low, rule.high, rule.step) == (low, high, step)


def test_what_was_saved_is_loaded(tmp_path):
    pose = Keypoints(np.random.default_rng(0).normal(size=(4, 2)), np.tile(np.eye(2), (4, 1, 1)))
    wanted = merge(
        Settings(),
        {
            "strength": 0.8,
            "source.camera_size": "640x480",
            "camera-rate": 25,
            "mirror": True,
            "outputs": ["virtual:/dev/video9", "window"],
            "square": [10, 20, 300.5],
            "avatar": tmp_path / "cät.png",
            "background": "#00ff00",
            "port": 9000,
        },
    )
    wanted = dataclasses.replace(wanted, neutral=NeutralPose.of(pose, "lite-256"))
    assert save(wanted) is None
    assert load() == wanted
    found = load().neutral.keypoints("lite-256", 4)
    np.testing.assert_allclose(found.points, pose.points, atol=1e-5)
    np.testing.assert_allclose(found.jacobians, pose.jacobians, atol=1e-5)
    assert load().neutral.keypoints("fomm-256", 4) is None
    assert load().neutral.keypoints("lite-256", 10) is None
    save(dataclasses.replace(wanted, neutral=NeutralPose.of(None, "")))
    assert load().neutral.keypoints("lite-256", 4) is None


def test_defaults_are_not_written():
    save(merge(Settings(), {"strength": 0.8}))
    assert "strength" in text() and "smoothing" not in text()


def test_given_wins_over_profile_over_base_over_default():
    write("[motion]\nstrength = 0.5\nshift = 0.5\n[profile.stream.motion]\nstrength = 1.5\n")
    assert load().motion.strength == 0.5
    stream = load("stream")
    assert (stream.motion.strength, stream.motion.shift, stream.motion.turn) == (1.5, 0.5, 1.0)
    assert merge(stream, {"strength": 2, "shift": None}).motion.strength == 2
    assert merge(stream, {"strength": 2, "shift": None}).motion.shift == 0.5


def test_a_profile_holds_only_what_differs_from_the_base():
    save(merge(Settings(), {"shift": 0.5}))
    save(merge(load("stream"), {"strength": 1.5}), "stream")
    assert settings.profiles() == ["stream"]
    assert text().count("shift") == 1
    save(merge(load(), {"shift": 0.2}))
    assert load("stream").motion == dataclasses.replace(Settings().motion, strength=1.5, shift=0.2)


def test_a_new_profile_is_said():
    said = []
    assert load("stream", said.append) == Settings()
    assert len(said) == 1 and "stream" in said[0]
    save(Settings(), "stream")
    load("stream", said.append)
    assert settings.profiles() == ["stream"] and len(said) == 1


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65])
def test_profiles_have_sensible_names(name):
    with pytest.raises(UserError, match="letters"):
        load(name)


@pytest.mark.parametrize("name", ["my stream", "späße", 'a.b"c', "motion"])
def test_profiles_may_have_odd_names(name):
    save(merge(load(name), {"strength": 1.5}), name)
    assert settings.profiles() == [name]
    assert load(name).motion.strength == 1.5 and load().motion.strength == 1.0


def test_edits_by_hand_survive():
    write(
        "# mine\r\n[motion] # moves\r\nsmoothing = 0.5   # calm\r\nstrength = 0.7\r\nwobble = 3\r\n\r\n[later]\r\nnew = 1\r\n"
    )
    said = []
    before = load(notify=said.append)
    assert len(said) == 1 and "motion.wobble" in said[0] and "later" in said[0]
    save(merge(before, {"strength": 0.9, "mirror": True}))
    after = settings.settings_path().read_bytes().decode()
    for kept in (
        "# mine",
        "[motion] # moves",
        "smoothing = 0.5   # calm",
        "wobble = 3",
        "[later]",
        "new = 1",
    ):
        assert kept in after
    assert load() == merge(before, {"strength": 0.9, "mirror": True})


def test_tables_in_any_order_are_changed_in_place():
    write("[profile.a.motion]\nturn = 0.1\n[motion]\nturn = 0.2\n[profile.b.motion]\nturn = 0.3\n")
    save(merge(load(), {"strength": 0.9}))
    save(merge(load("a"), {"strength": 0.8}), "a")
    save(merge(load("b"), {"strength": 0.7, "mirror": True}), "b")
    found = [(load(name).motion.turn, load(name).motion.strength) for name in (None, "a", "b")]
    assert found == [(0.2, 0.9), (0.1, 0.8), (0.3, 0.7)]
    assert load("b").source.mirror and not load("a").source.mirror


def test_dotted_keys_and_inline_tables_are_understood():
    write("motion.strength = 0.6\npicture = {fit = 'fill'}\n")
    assert load().motion.strength == 0.6 and load().picture.fit == "fill"
    save(merge(load(), {"turn": 0.5, "paste": False}))
    assert load().motion.turn == 0.5 and load().picture.fit == "fill" and not load().picture.paste


def test_an_editors_byte_order_mark():
    write("[motion]\nstrength = 0.6\n", "utf-8-sig")
    assert load().motion.strength == 0.6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[motion]\nstrength = \n", "line 2 is no TOML"),
        (
            "[motion]\n\nstrength = 'loud'\n",
            r"line 3: motion.strength has to be a number from 0 to 2, not 'loud'",
        ),
        ("[motion]\nstrength = 7\n", "from 0 to 2, not 7; .*settings unset motion.strength"),
        ("[motion]\nstrength = nan\n", "from 0 to 2"),
        ("[motion]\nstrength = true\n", "from 0 to 2"),
        ("[source]\nmirror = 'yes'\n", "true or false"),
        ("[source]\ncamera_size = 'large'\n", "1280x720"),
        ("[control]\nport = 1.5\n", "whole number"),
        ("[picture]\nfit = 'full'\n", "letterbox or fill"),
        ("[picture]\nbackground = 'green'\n", "#00ff00"),
        ("[framing]\nsquare = [1, 2]\n", "three numbers"),
        ("[framing]\nsquare = [1, 2, 0]\n", "three numbers"),
        ("[neutral]\npoints = [[1, 2], [3]]\n", "pairs of numbers"),
        ("[output]\noutputs = 'window'\n", "a list of texts"),
        ("motion = 3\n", "has to be a section"),
        ("profile = 3\n", "has to be a table"),
    ],
)
def test_what_is_wrong_is_named(content, message):
    write(content)
    with pytest.raises(UserError, match=message) as caught:
        load()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert text() == content


def test_a_wrong_value_in_a_profile_is_wrong_there_only():
    write("[motion]\nstrength = 1.5\n[profile.a.motion]\nturn = 1\nstrength = 9\n")
    assert load().motion.strength == 1.5 and load("b").motion.strength == 1.5
    with pytest.raises(UserError, match=r"line 5: .*unset motion.strength --profile a"):
        load("a")
    assert settings.unset("motion.strength", "a")
    assert load("a").motion.strength == 1.5


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"#" * (store.LARGEST_FILE + 1)])
def test_other_files_are_refused(content):
    settings.settings_path().parent.mkdir()
    settings.settings_path().write_bytes(content)
    with pytest.raises(UserError, match="move it away"):
        load()


def test_a_broken_file_is_kept_aside_only_when_it_has_to_be_overwritten(folder):
    for count in (1, 2):
        write(f"[motion\n# {count}")
        with pytest.raises(UserError):
            load()
        assert text() == f"[motion\n# {count}"
        said = settings.remember(Settings(), merge(Settings(), {"strength": 0.8}))
        assert "kept as settings.toml.broken" in said
        assert load().motion.strength == 0.8
    assert (folder / "settings.toml.broken").read_text() == "[motion\n# 1"
    assert (folder / "settings.toml.broken-2").read_text() == "[motion\n# 2"


def test_only_what_changed_is_remembered():
    """A setting given for one session, and another session's change, are left alone."""
    loaded = load()
    now = merge(loaded, {"camera_rate": 60.0})
    save(merge(load(), {"turn": 0.3}))
    end = merge(now, {"strength": 0.8})
    assert changed(now, end) == {"motion.strength": 0.8}
    assert settings.remember(now, end) is None
    assert load() == merge(Settings(), {"turn": 0.3, "strength": 0.8})


def test_nothing_changed_writes_nothing(folder):
    assert settings.remember(Settings(), Settings()) is None
    save(Settings())
    assert not folder.exists()


def test_a_full_disk_is_one_sentence_and_loses_nothing(folder, monkeypatch):
    save(merge(Settings(), {"strength": 0.8}))
    before = text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = settings.remember(load(), merge(load(), {"strength": 0.5}))
    assert "No space left on device" in said and said.endswith(".")
    assert text() == before
    assert [path.name for path in folder.iterdir()] == ["settings.toml"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path / "file" / "config"))
    said = settings.remember(Settings(), merge(Settings(), {"strength": 0.5}))
    assert "could not be written" in said or "cannot be read" in said


@pytest.mark.skipif(os.name != "posix", reason="links and permissions as Unix has them")
def test_a_link_stays_a_link_and_permissions_stay(tmp_path, folder):
    folder.mkdir()
    target = tmp_path / "dotfiles.toml"
    target.write_text("[motion]\nstrength = 0.5\n")
    target.chmod(0o640)
    settings.settings_path().symlink_to(target)
    save(merge(load(), {"strength": 0.8}))
    assert settings.settings_path().is_symlink()
    assert "0.8" in target.read_text() and stat.S_IMODE(target.stat().st_mode) == 0o640


def test_files_are_remembered_with_their_whole_path(tmp_path, monkeypatch):
    (tmp_path / "talk.mp4").write_text("")
    monkeypatch.chdir(tmp_path)
    save(merge(Settings(), {"avatar": "cat.png", "driving": "talk.mp4"}))
    assert load().avatar.avatar == str(tmp_path / "cat.png")
    assert load().source.driving == str(tmp_path / "talk.mp4")
    for text in ("0", "Desk camera", "rtsp://example.org/stream.sdp"):
        save(merge(load(), {"driving": text}))
        assert load().source.driving == text


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("strength", "0.8", 0.8),
        ("mirror", "On", True),
        ("control.enabled", "no", False),
        ("port", "9000", 9000),
        ("outputs", "virtual, window", ("virtual", "window")),
        ("outputs", "['window']", ("window",)),
        ("square", "1,2,3", (1.0, 2.0, 3.0)),
        ("square", "", ()),
        ("background", "#a0B1c2", "#a0B1c2"),
        ("camera-size", "640x480", "640x480"),
    ],
)
def test_typed_values(key, typed, value):
    rule = settings.rule(key)
    assert settings.parse(rule, typed) == value
    assert type(settings.parse(rule, typed)) is type(value)


@pytest.mark.parametrize(
    ("key", "typed"),
    [
        ("strength", "loud"),
        ("strength", "3"),
        ("mirror", "2"),
        ("port", "80.5"),
        ("square", "a,b,c"),
        ("fit", "x"),
    ],
)
def test_typed_values_that_do_not_fit(key, typed):
    with pytest.raises(UserError, match=f"has to be .*not .*{typed[0]}"):
        settings.parse(settings.rule(key), typed)


def test_names_nobody_knows():
    with pytest.raises(UserError, match="did you mean strength"):
        settings.rule("strenght")
    with pytest.raises(UserError, match="livepuppet settings show"):
        merge(Settings(), {"qqqq": 1})
    with pytest.raises(UserError, match="press X"):
        settings.parse(settings.rule("points"), "1")


def run(*arguments: str, status: int | None = None) -> None:
    """The command as people run it; `status` is the exit status that is expected, None for success."""
    if status is None:
        main(["settings", *arguments])
        return
    with pytest.raises(SystemExit) as caught:
        main(["settings", *arguments])
    assert caught.value.code == status


def test_the_command(capsys, folder):
    run("show")
    said = capsys.readouterr()
    assert said.out == "" and "default value" in said.err
    run("set", "strength", "0.8")
    assert capsys.readouterr().out == "motion.strength = 0.8\n"
    run("set", "strength", "1.2", "--profile", "stream")
    run("profiles")
    assert capsys.readouterr().out.endswith("stream\n")
    run("show", "--profile", "stream")
    assert capsys.readouterr().out == "[motion]\nstrength = 1.2\n"
    run("unset", "strength", "--profile", "stream")
    run("show", "--profile", "stream")
    assert capsys.readouterr().out == "[motion]\nstrength = 0.8\n"
    run("unset", "strength")
    assert load().motion.strength == 1.0
    run("show", "--explain")
    explained = capsys.readouterr().out
    assert all(f"{rule.name} = " in explained and rule.help in explained for rule in RULES.values())
    run("path")
    assert capsys.readouterr().out.strip() == str(folder / "settings.toml")


def test_the_command_says_what_is_wrong(capsys):
    for arguments in (
        ("set", "strength", "loud"),
        ("set", "strenght", "1"),
        ("show", "--profile", "typo"),
        ("unset", "strenght"),
    ):
        run(*arguments, status=2)
        said = capsys.readouterr().err
        assert said.startswith("livepuppet: ") and said.count("\n") == 1
    write("[motion")
    run("set", "strength", "1", status=2)
    assert text() == "[motion"


def test_a_wrong_line_can_be_removed_by_the_command(capsys):
    write("[motion]\nwobble = 1\nstrength = 'loud'\n")
    run("unset", "motion.strength")
    run("unset", "motion.wobble")
    assert load() == Settings()


def test_start_up_without_a_file_imports_no_toml():
    import subprocess

    script = "import sys; from livepuppet.realtime.app import settings; settings.load(); print('tomlkit' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "False", result.stderr
