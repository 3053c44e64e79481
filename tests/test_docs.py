"""The pages say what is there: commands and options exist, places in the code are found, links lead somewhere."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
from itertools import islice
from pathlib import Path

import click
import pytest
from media import write_clip

import livepuppet
from livepuppet.realtime import bundled
from livepuppet.realtime.app import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
        ROOT / "realtime/data/lite-256/MODEL_CARD.md",
    ]
)
README = ROOT / "README.md"


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _command_lines(text: str) -> list[str]:
    """`livepuppet ...` lines of all fenced blocks, and in-line ones that have options or arguments."""
    text = text.replace("\\\n", " ")
    fenced = re.findall(r"^ *```[a-z]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in fenced for line in block.splitlines()]
    inline = [span.replace("\n", " ") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    found = []
    for line in [*lines, *inline]:
        match = re.match(r"^\s*(?:\S*[/\\])?livepuppet (.*)", line)
        if match and "..." not in match[1]:
            found.append(re.split(r"  +#| \| | && ", match[1])[0].strip())
    return found


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_and_their_options_exist(page):
    for line in _command_lines(page.read_text(encoding="utf-8")):
        command: click.Command = cli.cli
        context = click.Context(command)
        words = shlex.split(line.replace("\\", "/"), comments=True)
        while isinstance(command, click.Group) and words:
            name = words.pop(0)
            found = command.get_command(context, name)
            assert found is not None, f"livepuppet {line}: there is no {name}"
            command = found
        options = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in options, f"livepuppet {line}: there is no {word}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_pages_are_for_every_reader(page):
    """No command that reads what only some have, and no link to a file that is not there."""
    text = page.read_text(encoding="utf-8")
    assert "../shared" not in text
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def test_the_install_page_lists_every_extra():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    text = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE)) == set(setup["options.extras_require"])


def test_the_glossary_says_where_things_are():
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    places = [line.rsplit("|", 2)[1] for line in text.splitlines() if line.startswith("| **")]
    assert len(places) > 40
    for place in places:
        path, source = None, ""
        for name in re.findall(r"`([^`]+)`", place):
            if "/" in name:
                path = ROOT / name
                assert path.exists(), name
                source = path.read_text(encoding="utf-8") if path.is_file() else ""
            else:
                assert re.search(rf"\b{name}\b", source), f"{name} is not in {path}"
        assert path is not None, place


@pytest.mark.parametrize(
    "word",
    [
        "discriminator",
        "EMA",
        "broadcast",
        "equivariance loss",
        "occlusion map",
        "retargeting",
        "alpha matte",
        "quality gate",
        "D1",
    ],
)
def test_the_fields_words_are_in_the_glossary(word):
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    terms = [line.split("|")[1] for line in text.splitlines() if line.startswith("| **")]
    assert any(re.search(rf"\b{word}\b", term, re.IGNORECASE) for term in terms)


def test_the_readme_is_a_front_page():
    assert len(README.read_bytes()) <= 9000
    assert (ROOT / "docs/images/hero.webp").stat().st_size < 1_500_000


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_first_python_of_a_page_runs(page, tmp_path, monkeypatch):
    text = (ROOT / page).read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    with livepuppet.open_video(bundled.DRIVING) as video:
        write_clip(tmp_path / "talk.mp4", [frame.image for frame in islice(video, 3)])
    shutil.copy(bundled.AVATAR, tmp_path / "me.png")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, page, "exec"), names)
    assert names["image"].shape == (256, 256, 3)
    with livepuppet.open_video("moved.mp4") as video:
        assert len(list(video)) == 3
