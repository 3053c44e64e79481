"""What keys, the control server and scripts can have the live loop do, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from livepuppet.realtime import keys
from livepuppet.realtime.errors import UserError
from livepuppet.realtime.settings import RULES

if TYPE_CHECKING:
    from livepuppet.realtime.loop import Live

#: What one key press does to the crop: factor of its side, and share of its side.
ZOOM_STEP = 1.06
SHIFT_STEP = 0.03

#: Seconds of the countdown that a key starts.
COUNTDOWN = 3.0

#: Sliders: lowest and highest value, and what one key press adds, as the settings have them.
SLIDERS = {
    rule.name: (rule.low, rule.high, rule.step)
    for rule in RULES.values()
    if rule.section == "motion" and rule.step
}

#: Switches that can be set to true or false.
SWITCHES = ("mirror", "follow", "search", "paste", "preview", "ghost", "status", "help", "freeze", "rest")

#: In the order in which a key goes through them.
BACKGROUNDS = ("as-is", "blur", "#00ff00")


@dataclass
class Shown:
    """What the window shows beside the picture.

    Attributes:
        preview, ghost, status, help: switched by keys.
        slider: the slider that + and - change.
        sliders_until: `time.perf_counter()` until which the sliders are shown.
    """

    preview: bool = True
    ghost: bool = False
    status: bool = False
    help: bool = False
    slider: str = "strength"
    sliders_until: float = 0.0


def bound(key: str) -> tuple[str, Any] | None:
    """The action and value that a key, a name of `keys.BINDINGS`, stands for; None for other keys."""
    action = keys.ACTIONS.get(key)
    if action is None:
        return None
    return (action, int(key)) if action == "select" else (action, None)


def checked(action: str, value: Any = None) -> Any:
    """`value` in the type that `action` takes.

    Raises:
        UserError: there is no such action, or the value does not fit it.
    """
    if action in SLIDERS:
        low, high, _ = SLIDERS[action]
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not low <= number <= high:
            raise UserError(f"{action} is a number from {low:g} to {high:g}, not {value!r}.")
        return number
    if action in SWITCHES and value is not None:
        if not isinstance(value, bool):
            raise UserError(f"{action} is true or false, not {value!r}.")
        return value
    if action == "background" and value is not None:
        from livepuppet.realtime.view.stage import parse_background

        return parse_background(str(value))
    if action == "select":
        if isinstance(value, bool) or not isinstance(value, (int, str)) or not str(value):
            raise UserError(f"An avatar is chosen by its number or by its name, not {value!r}.")
        return value
    if action not in ACTIONS:
        raise UserError(f"There is no action '{action}': there is {', '.join(sorted(ACTIONS))}.")
    if value is not None:
        raise UserError(f"{action} takes no value.")
    return None


def do(live: Live, action: str, value: Any = None) -> None:
    """Do `action` in the loop's thread."""
    ACTIONS[action](live, value)


def _switch(now: bool, value: bool | None) -> bool:
    return not now if value is None else value


def _on(value: bool) -> str:
    return "on" if value else "off"


# Neutral pose


def _reset(live: Live, value: None) -> None:
    live.mover.reset()
    live.say("Neutral pose taken.")


def _calibrate(live: Live, value: None) -> None:
    live.countdown = COUNTDOWN
    live.mover.reset(COUNTDOWN)
    live.say("Look straight ahead, with a neutral expression.")


def _search(live: Live, value: bool | None) -> None:
    wanted = _switch(live.mover.settings.search, value)
    live.mover.settings = replace(live.mover.settings, search=wanted)
    live.say(
        "Looking for a better neutral pose: look straight ahead now and then."
        if wanted
        else "The neutral pose stays."
    )


def _freeze(live: Live, value: bool | None) -> None:
    wanted = _switch(live.mover.state == "frozen", value)
    live.mover.freeze(wanted)
    live.say("Frozen: press V to go on." if wanted else "Moving again.")


def _rest(live: Live, value: bool | None) -> None:
    live.resting = _switch(live.resting, value)
    live.say("The avatar rests: press 0 to go on." if live.resting else "Moving again.")


# Avatars


def _select(live: Live, value: int | str) -> None:
    index = value - 1 if isinstance(value, int) else _named(live.puppet.names, value)
    if index is None or not 0 <= index < len(live.puppet):
        # A number key without an avatar is a slip of the finger, a name is meant.
        if isinstance(value, str):
            live.say(f"There is no avatar '{value}': there is {', '.join(live.puppet.names)}.")
        return
    live.puppet.select(index)
    live.stage.set_avatar(live.puppet.avatar)
    live.say(f"Avatar {index + 1} of {len(live.puppet)}: {live.puppet.avatar.name}.")


def _named(names: list[str], text: str) -> int | None:
    """The index of the avatar of that name, of one that has it in its name, or of that number."""
    wanted = text.casefold()
    exact = [index for index, name in enumerate(names) if wanted == name.casefold()]
    part = [index for index, name in enumerate(names) if wanted in name.casefold()]
    number = [int(text) - 1] if text.isdecimal() else []
    return next(iter(exact + part + number), None)


def _previous(live: Live, value: None) -> None:
    _select(live, (live.puppet.index - 1) % len(live.puppet) + 1)


def _next(live: Live, value: None) -> None:
    _select(live, (live.puppet.index + 1) % len(live.puppet) + 1)


def _background(live: Live, value: str | None) -> None:
    if value is None:
        place = BACKGROUNDS.index(live.stage.background) if live.stage.background in BACKGROUNDS else -1
        value = BACKGROUNDS[(place + 1) % len(BACKGROUNDS)]
    live.stage.background = value
    live.say(f"Background: {value}.")


def _paste(live: Live, value: bool | None) -> None:
    live.stage.paste = _switch(live.stage.paste, value)
    live.say("The whole picture." if live.stage.paste else "The moving square only.")


# Framing


def _zoom(factor: float) -> Callable[[Live, None], None]:
    return lambda live, value: live.reframe(live.framing.zoom(factor))


def _shift(right: float, down: float) -> Callable[[Live, None], None]:
    def shift(live: Live, value: None) -> None:
        # Left is what the person sees as left.
        across = -right if live.mirror else right
        live.reframe(live.framing.shift(across * SHIFT_STEP, down * SHIFT_STEP))

    return shift


def _find(live: Live, value: None) -> None:
    live.framing.search_again()
    live.say("Looking for your face.")


def _follow(live: Live, value: bool | None) -> None:
    live.framing.following = _switch(live.framing.following, value)
    live.say(f"Following your head: {_on(live.framing.following)}.")


def _mirror(live: Live, value: bool | None) -> None:
    wanted = _switch(live.mirror, value)
    if wanted != live.mirror:
        live.mirror = wanted
        live.mover.frame_changed()
    live.say(f"Mirror {_on(wanted)}.")


# Motion


def _slider(live: Live, value: None) -> None:
    names = list(SLIDERS)
    if live.sliders_shown:
        live.show.slider = names[(names.index(live.show.slider) + 1) % len(names)]
    live.show_sliders()


def _step(direction: int) -> Callable[[Live, None], None]:
    def step(live: Live, value: None) -> None:
        name = live.show.slider
        low, high, step = SLIDERS[name]
        now = getattr(live.mover.settings, name)
        _set_slider(name)(live, round(min(max(now + direction * step, low), high), 3))

    return step


def _set_slider(name: str) -> Callable[[Live, float], None]:
    def set_slider(live: Live, value: float) -> None:
        live.mover.settings = replace(live.mover.settings, **{name: value})
        live.show.slider = name
        live.show_sliders()
        if live.window is None:
            live.say(f"{name} {value:g}")

    return set_slider


# Window


def _shown(name: str) -> Callable[[Live, bool | None], None]:
    def show(live: Live, value: bool | None) -> None:
        setattr(live.show, name, _switch(getattr(live.show, name), value))
        if name == "help" and live.window is None and live.show.help:
            live.say("\n".join(keys.help_lines()))

    return show


def _quit(live: Live, value: None) -> None:
    live.stop()


#: Name -> what it does to a session, with the value given (None where there is none).
ACTIONS: dict[str, Callable[[Live, Any], None]] = {
    "reset": _reset,
    "calibrate": _calibrate,
    "search": _search,
    "freeze": _freeze,
    "rest": _rest,
    "previous": _previous,
    "next": _next,
    "select": _select,
    "background": _background,
    "paste": _paste,
    "closer": _zoom(1 / ZOOM_STEP),
    "wider": _zoom(ZOOM_STEP),
    "shift_left": _shift(-1, 0),
    "shift_right": _shift(1, 0),
    "shift_up": _shift(0, -1),
    "shift_down": _shift(0, 1),
    "find": _find,
    "follow": _follow,
    "mirror": _mirror,
    "slider": _slider,
    "raise": _step(1),
    "lower": _step(-1),
    **{name: _set_slider(name) for name in SLIDERS},
    "preview": _shown("preview"),
    "ghost": _shown("ghost"),
    "status": _shown("status"),
    "help": _shown("help"),
    "quit": _quit,
}
