"""The tables of commands, keys, settings and options in docs/settings.md, made from the code.

python -m livepuppet.realtime.app.reference                           # print them
python -m livepuppet.realtime.app.reference --write docs/settings.md  # fill what stands between <!-- keys --> and <!-- /keys -->
python -m livepuppet.realtime.app.reference --check docs/settings.md  # exit status 1 where that is out of date
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import actions, cli, keys, settings


def _row(*cells: str) -> str:
    # A bar would end the cell.
    whole = [_CHOICE.sub(_choice, cell).replace("|", r"\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(whole)} |"


#: Code with choices. GitHub wants their bars escaped, MkDocs shows the backslash: HTML suits both.
_CHOICE = re.compile(r"`([^`]*\|[^`]*)`")


def _choice(found: re.Match) -> str:
    return f"<code>{html.escape(found[1]).replace('|', ' &#124; ')}</code>"


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([_row(*heads), "|" + " --- |" * len(heads), *rows])


def commands_table() -> str:
    """Every command of `livepuppet`."""
    return _table(
        ("command", "what it does"),
        [_row(f"`livepuppet {name}`", text) for name, (_, text) in cli.COMMANDS.items()],
    )


def keys_table() -> str:
    """Every key of `livepuppet run`, under its heading, with the name that `livepuppet control` has
    for it.
    """
    rows, group = [], None
    for binding in keys.BINDINGS:
        if binding.group != group:
            group = binding.group
            rows.append(_row(f"**{group}**", "", ""))
        # Keys that are commas, brackets or bars stay readable as code.
        labels = ", ".join(f"`{label}`" for label in binding.label.split(", "))
        rows.append(_row(labels, binding.help, f"`{binding.action}`"))
    bound = {binding.action for binding in keys.BINDINGS}
    unbound = [name for name in actions.ACTIONS if name not in bound]
    text = _table(("key", "what it does", "by `livepuppet control`"), rows)
    if unbound:
        names = ", ".join(f"`{name}`" for name in unbound)
        text += f"\n\nWithout a key of their own, by `livepuppet control set NAME=VALUE`: {names}."
    return text


def run_options() -> dict[str, click.Option]:
    """The options of `livepuppet run` by the name of their value."""
    from livepuppet.realtime.app.commands.run import run

    return {option.name or "": option for option in run.params if isinstance(option, click.Option)}


def _flag(option: click.Option) -> str:
    """`--mirror/--no-mirror`, or `--size WxH`."""
    names = "/".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return f"`{names}`"
    value = option.metavar or _choices(option) or _kind(option)
    return f"`{names} {value}`"


def _kind(option: click.Option) -> str:
    name = option.type.name.removesuffix(" range")
    return "NUMBER" if name in ("integer", "float") else name.upper()


def _choices(option: click.Option) -> str:
    return "|".join(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else ""


def settings_table() -> str:
    """Every setting with its option, values and default, section by section; and the options that
    are no settings.
    """
    options = run_options()
    rows, section = [], None
    for rule in settings.RULES.values():
        if rule.section != section:
            section = rule.section
            rows.append(_row(f"**[{section}]** {settings.SECTIONS[section].splitlines()[0]}", "", "", ""))
        flag = _flag(options[rule.name]) if rule.name in options else ""
        default = f"`{settings.shown_value(rule.default)}`"
        if rule.low is not None and rule.high is not None:
            default += f" ({rule.low:g} to {rule.high:g})"
        rows.append(_row(f"`{rule.name}`", flag, default, rule.help))
    return _table(("setting", "option of `run`", "default (range)", "what it is"), rows)


def flags_table() -> str:
    """The options of `livepuppet run` that are no settings: they count for one session."""
    known = {rule.name for rule in settings.RULES.values()}
    rows = [
        _row(_flag(option), " ".join((option.help or "").split()) + _default(option))
        for name, option in run_options().items()
        if name not in known and not option.hidden
    ]
    return _table(("option", "what it does"), rows)


def _default(option: click.Option) -> str:
    if not option.show_default or option.default is None:
        return ""
    return f" [default: {option.default}]"


#: Name in the markers -> what makes the text between them.
TABLES: dict[str, Callable[[], str]] = {
    "commands": commands_table,
    "keys": keys_table,
    "settings": settings_table,
    "flags": flags_table,
}


def filled(text: str) -> str:
    """`text` with every table that it has the markers of made anew.

    Raises:
        UserError: a marker stands alone.
    """
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if text.count(begin) != text.count(end) or text.count(begin) > 1:
            raise UserError(f"There have to be one {begin} and one {end}, in this order.")
        if begin in text:
            pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
            content = f"{begin}\n{make()}\n{end}"
            text, count = pattern.subn(lambda match, content=content: content, text)
            if count != 1:
                raise UserError(f"{begin} has to stand before {end}.")
    return text


def missing(text: str) -> list[str]:
    """Names of the tables that `text` has no place for."""
    return [name for name in TABLES if f"<!-- {name} -->" not in text]


@click.command()
@click.option("--write", type=click.Path(path_type=Path), metavar="FILE", help="Fill the tables there.")
@click.option(
    "--check", type=click.Path(path_type=Path), metavar="FILE", help="Fail where they are out of date."
)
def main(write: Path | None, check: Path | None) -> None:
    """Make the tables of commands, keys, settings and options."""
    path = write or check
    if path is None:
        for name, make in TABLES.items():
            click.echo(f"<!-- {name} -->\n{make()}\n<!-- /{name} -->\n")
        return
    before = path.read_text(encoding="utf-8")
    after = filled(before)
    for name in missing(before):
        click.echo(f"{path} has no <!-- {name} --> and <!-- /{name} -->.", err=True)
    if write:
        path.write_text(after, encoding="utf-8")
    elif after != before or missing(before):
        click.echo(
            f"{path} is out of date: python -m livepuppet.realtime.app.reference --write {path}", err=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
