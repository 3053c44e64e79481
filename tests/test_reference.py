"""The generated tables in docs/settings.md say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import actions, cli, keys, reference, settings

PAGE = Path(__file__).resolve().parents[1] / "docs/settings.md"


def test_the_page_agrees_with_the_code():
    text = PAGE.read_text(encoding="utf-8")
    assert not reference.missing(text)
    assert reference.filled(text) == text, (
        "python -m livepuppet.realtime.app.reference --write docs/settings.md"
    )


def test_everything_is_in_the_tables():
    text = reference.keys_table()
    for binding in keys.BINDINGS:
        assert f"`{binding.action}`" in text and binding.help in text and binding.group in text
        assert all(f"`{label}`" in text for label in binding.label.split(", "))
    assert all(f"`{name}`" in text for name in actions.ACTIONS)
    text = reference.settings_table()
    for rule in settings.RULES.values():
        assert f"| `{rule.name}` |" in text
    text = reference.commands_table()
    assert all(f"`livepuppet {name}`" in text for name in cli.COMMANDS)


def test_every_option_of_run_is_in_one_table():
    in_settings, in_flags = reference.settings_table(), reference.flags_table()
    for option in reference.run_options().values():
        flag = reference._row(reference._flag(option))[2:-2]
        assert in_settings.count(f"| {flag} |") + in_flags.count(f"| {flag} |") == 1, flag


def test_tables_are_tables():
    """Bars in cells are escaped: every row has as many cells as its head."""
    for make in reference.TABLES.values():
        rows = [line.replace(r"\|", "") for line in make().splitlines() if line.startswith("|")]
        assert len(rows) > 3 and len({row.count("|") for row in rows}) == 1


def test_writing_and_checking(tmp_path):
    path = tmp_path / "page.md"
    places = "\n\n".join(f"<!-- {name} -->\nold\n<!-- /{name} -->" for name in reference.TABLES)
    path.write_text(f"# Title\n\n{places}\n\nEnd, with \\1 and keys.\n", encoding="utf-8")
    runner = CliRunner()
    result = runner.invoke(reference.main, ["--check", str(path)])
    assert result.exit_code == 1 and "--write" in result.output
    assert runner.invoke(reference.main, ["--write", str(path)]).exit_code == 0
    assert runner.invoke(reference.main, ["--check", str(path)]).exit_code == 0
    text = path.read_text(encoding="utf-8")
    assert (
        text.startswith("# Title\n") and text.endswith("End, with \\1 and keys.\n") and "\nold\n" not in text
    )
    path.write_text(text.replace("`X`", "`Y`"), encoding="utf-8")
    assert runner.invoke(reference.main, ["--check", str(path)]).exit_code == 1


def test_a_page_without_a_place_is_out_of_date(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("nothing\n", encoding="utf-8")
    result = CliRunner().invoke(reference.main, ["--check", str(path)])
    assert result.exit_code == 1 and "<!-- keys -->" in result.output


@pytest.mark.parametrize(
    "text",
    ["<!-- keys -->", "<!-- /keys -->", "<!-- /keys --><!-- keys -->", "<!-- keys --><!-- /keys -->" * 2],
)
def test_markers_that_do_not_pair(text):
    with pytest.raises(UserError, match="keys"):
        reference.filled(text)
