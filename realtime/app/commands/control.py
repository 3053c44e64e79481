"""`livepuppet control`: have the session that runs do something."""

from __future__ import annotations

import json
import sys

import click

from livepuppet.core.errors import UserError
from livepuppet.core.numbers import is_whole
from livepuppet.realtime.app import control as remote
from livepuppet.realtime.app import keys
from livepuppet.realtime.app.requests import read_value


def _pairs(arguments: tuple[str, ...]) -> dict:
    pairs = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise UserError(f"'{argument}' is not KEY=VALUE, as in: livepuppet control set strength=0.8")
        pairs[name.strip()] = read_value(value.strip())
    if not pairs:
        raise UserError("Say what to set, as in: livepuppet control set strength=0.8")
    return pairs


def _avatar(arguments: tuple[str, ...]) -> dict:
    text = " ".join(arguments)
    if not text:
        raise UserError("Say which avatar, by name or number, as in: livepuppet control avatar cat")
    return {"number": int(text)} if is_whole(text) else {"name": text}


def _url(arguments: tuple[str, ...], port: int | None) -> str:
    if not arguments:
        raise UserError("Say for which action, as in: livepuppet control url next")
    action, value = arguments[0], " ".join(arguments[1:]) or None
    return remote.address_of(remote.do_path(action, value, remote.control_token()), port)


def _json(value: object) -> str:
    """Letters as they are where standard output has all of them."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(value, indent=2)
    return text


def _actions_help() -> str:
    width = max(len(binding.action) for binding in keys.BINDINGS)
    lines = [f"  {binding.action:<{width}}  {binding.help}" for binding in keys.BINDINGS]
    return "\b\nActions:\n" + "\n".join(lines)


@click.command(
    short_help="Have the running session switch avatars, reset, ... from a script.",
    epilog=_actions_help(),
)
@click.argument("what", metavar="ACTION|avatar|set|state|url|token")
@click.argument("arguments", nargs=-1, metavar="[VALUE]...")
@click.option("--port", type=click.IntRange(1, 65535), help="Where it listens. [default: found by itself]")
def control(what: str, arguments: tuple[str, ...], port: int | None) -> None:
    """Have the livepuppet that runs on this computer do something.

    \b
      livepuppet control next                 any action of the list below
      livepuppet control mirror on            an action with a value
      livepuppet control avatar cat           by name or number
      livepuppet control set strength=0.8 mirror=on
      livepuppet control state                what goes on, as JSON
      livepuppet control url next             address for a Stream Deck (with the token: keep it to yourself)
      livepuppet control token                what other programs have to show
    """
    if what == "token":
        click.echo(remote.control_token())
    elif what == "url":
        click.echo(_url(arguments, port))
    elif what == "state":
        click.echo(_json(remote.ask("state", port=port)))
    elif what == "avatar":
        remote.ask("avatar", _avatar(arguments), port=port)
    elif what == "set":
        remote.ask("set", _pairs(arguments), port=port)
    else:
        body = {"value": read_value(" ".join(arguments))} if arguments else {}
        remote.ask(remote.do_path(what), body, port=port)
