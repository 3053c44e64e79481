"""`livepuppet settings`: look at what is remembered, and change it."""

from __future__ import annotations

import click

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import settings as store

_profile = click.option(
    "--profile", metavar="NAME", help="The settings of that profile, instead of those that always count."
)


def _known(profile: str | None) -> str | None:
    name = store.profile_name(profile)
    there = store.profiles()
    if name is not None and name not in there:
        known = f"there is {', '.join(there)}" if there else "there are none yet"
        raise UserError(
            f"There is no profile '{name}': {known}; 'livepuppet settings set KEY VALUE --profile {name}' makes it."
        )
    return name


@click.group(short_help="Show and change what is remembered: camera, framing, sliders, profiles.")
def settings() -> None:
    """Show and change what livepuppet remembers.

    The settings are a TOML file that may also be edited by hand. What a command's options say
    counts more; a profile (--profile NAME) counts more than the settings without one.
    """


@settings.command()
@_profile
@click.option("--all", "every", is_flag=True, help="Those that have their default value, too.")
@click.option("--explain", is_flag=True, help="Say what each one is.")
def show(profile: str | None, every: bool, explain: bool) -> None:
    """Print the settings as they count now."""
    present = store.load(_known(profile), lambda sentence: click.echo(sentence, err=True))
    section = None
    for key, rule in store.RULES.items():
        value = store.value_of(present, key)
        if value == rule.default and not (every or explain):
            continue
        if rule.section != section:
            click.echo(f"{'' if section is None else chr(10)}[{rule.section}]")
            section = rule.section
        if explain:
            click.echo(f"# {rule.help} ({rule.values}; default {store.shown_value(rule.default)})")
        text = store.shown_value(value)
        click.echo(f"{rule.name} = {text if len(text) <= 100 else text[:97] + '...'}")
    if section is None:
        click.echo(
            "Everything has its default value; --all lists it, --explain says what each setting is.", err=True
        )


@settings.command()
def path() -> None:
    """Print where the settings file lies."""
    click.echo(store.settings_path())


@settings.command("set")
@click.argument("key")
@click.argument("value")
@_profile
def set_(key: str, value: str, profile: str | None) -> None:
    """Write one setting, as in: livepuppet settings set strength 0.8"""
    rule = store.rule(key)
    now = store.merge(store.load(profile), {rule.key: store.parse(rule, value)})
    notice = store.save(now, profile)
    if notice:
        click.echo(notice, err=True)
    click.echo(f"{rule.key} = {store.shown_value(store.value_of(store.load(profile), rule.key))}")


@settings.command()
@click.argument("key")
@_profile
def unset(key: str, profile: str | None) -> None:
    """Forget one setting, so that its default counts again, or with --profile the setting without a
    profile.
    """
    if not store.unset(key, profile):
        click.echo(f"{key} was not set.", err=True)


@settings.command()
def profiles() -> None:
    """Print the names of the profiles."""
    for name in store.profiles():
        click.echo(name)
