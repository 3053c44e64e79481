"""What keys, the control server and scripts can have the live loop do, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from livepuppet.core.errors import UserError
from livepuppet.core.numbers import is_whole, number_of, quoted
from livepuppet.realtime.app import keys
from livepuppet.realtime.app.settings import RULES

if TYPE_CHECKING:
    from livepuppet.realtime.app.loop import LiveLoop

#: What one key press does to the crop: factor of its side, and share of its side.
ZOOM_STEP = 1.06
SHIFT_STEP = 0.03

#: Seconds of the countdown that a key starts.
COUNTDOWN = 3.0

#: Sliders: lowest and highest value, and what one key press adds, as the settings have them.
SLIDERS: dict[str, tuple[float, float, float]] = {
    rule.name: (rule.low, rule.high, rule.step)
    for rule in RULES.values()
    if rule.section == "motion" and rule.step and rule.low is not None and rule.high is not None
}

#: Switches that can be set to true or false.
SWITCHES = (
    "mirror",
    "follow",
    "search",
    "paste",
    "sharp",
    "preview",
    "ghost",
    "status",
    "help",
    "freeze",
    "rest",
)

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
            return number_of(value, low, high)
        except ValueError:
            raise UserError(f"{action} is a number from {low:g} to {high:g}, not {quoted(value)}.") from None
    if action in SWITCHES and value is not None:
        if not isinstance(value, bool):
            raise UserError(f"{action} is true or false, not {quoted(value)}.")
        return value
    if action == "background" and value is not None:
        from livepuppet.realtime.compositing.compositor import parse_background

        return parse_background(str(value))
    if action == "select":
        if isinstance(value, bool) or not isinstance(value, (int, str)) or not str(value):
            raise UserError(f"An avatar is chosen by its number or by its name, not {quoted(value)}.")
        return value
    if action == "point":
        try:
            numbers = value.split(",") if isinstance(value, str) else tuple(value or ())
            x, y = (number_of(number, -1, 1) for number in numbers)
        except (TypeError, ValueError):
            raise UserError(
                f"A place to look at is two numbers from -1 to 1, to the right and down, not {quoted(value)}."
            ) from None
        return x, y
    if action == "render" and value is not None:
        if value not in ("here", "remote"):
            raise UserError(f"render is here or remote, not {quoted(value)}.")
        return value
    if action not in ACTIONS:
        raise UserError(f"There is no action '{action}': there is {', '.join(sorted(ACTIONS))}.")
    if value is not None:
        raise UserError(f"{action} takes no value.")
    return None


def do(live: LiveLoop, action: str, value: Any = None) -> None:
    """Do `action` in the loop's thread."""
    ACTIONS[action](live, value)


def _switch(now: bool, value: bool | None) -> bool:
    return not now if value is None else value


def _on(value: bool) -> str:
    return "on" if value else "off"


# Neutral pose


def _reset(live: LiveLoop, value: None) -> None:
    live.animator.reset()
    live.notify("Neutral pose taken.")


def _calibrate(live: LiveLoop, value: None) -> None:
    live.countdown = COUNTDOWN
    live.animator.reset(COUNTDOWN)
    live.notify("Look straight ahead, with a neutral expression.")


def _search(live: LiveLoop, value: bool | None) -> None:
    wanted = _switch(live.animator.settings.search, value)
    live.animator.settings = replace(live.animator.settings, search=wanted)
    live.notify(
        "Looking for a better neutral pose: look straight ahead now and then."
        if wanted
        else "The neutral pose stays."
    )


def _freeze(live: LiveLoop, value: bool | None) -> None:
    wanted = _switch(live.animator.retargeter.state == "frozen", value)
    live.animator.retargeter.freeze(wanted)
    live.notify("Frozen: press V to go on." if wanted else "Moving again.")


def _rest(live: LiveLoop, value: bool | None) -> None:
    live.animator.resting = _switch(live.animator.resting, value)
    live.notify("The avatar rests: press 0 to go on." if live.animator.resting else "Moving again.")


# Avatars


def _select(live: LiveLoop, value: int | str) -> None:
    index = value - 1 if isinstance(value, int) else _named(live.animator.names, value)
    if index is None or not 0 <= index < len(live.animator):
        # A number key without an avatar is a slip of the finger, a name is meant.
        if isinstance(value, str):
            live.notify(f"There is no avatar '{value}': there is {', '.join(live.animator.names)}.")
        return
    live.animator.select(index)
    live.notify(f"Avatar {index + 1} of {len(live.animator)}: {live.animator.avatar.name}.")


def _named(names: list[str], text: str) -> int | None:
    """The index of the avatar of that name, of one that has it in its name, or of that number."""
    wanted = text.casefold()
    exact = [index for index, name in enumerate(names) if wanted == name.casefold()]
    part = [index for index, name in enumerate(names) if wanted in name.casefold()]
    number = [int(text) - 1] if is_whole(text) else []
    return next(iter(exact + part + number), None)


def _previous(live: LiveLoop, value: None) -> None:
    _select(live, (live.animator.index - 1) % len(live.animator) + 1)


def _next(live: LiveLoop, value: None) -> None:
    _select(live, (live.animator.index + 1) % len(live.animator) + 1)


def _background(live: LiveLoop, value: str | None) -> None:
    if value is None:
        present = live.compositor.background
        place = BACKGROUNDS.index(present) if present in BACKGROUNDS else -1
        value = BACKGROUNDS[(place + 1) % len(BACKGROUNDS)]
    live.compositor.background = value
    live.notify(f"Background: {value}.")


def _paste(live: LiveLoop, value: bool | None) -> None:
    live.compositor.paste = _switch(live.compositor.paste, value)
    live.notify("The whole picture." if live.compositor.paste else "The moving square only.")


def _sharp(live: LiveLoop, value: bool | None) -> None:
    live.compositor.sharp = _switch(live.compositor.sharp, value)
    live.notify(
        "The avatar's own pixels are moved." if live.compositor.sharp else "The model's own picture is shown."
    )


def _render(live: LiveLoop, value: str | None) -> None:
    from livepuppet.realtime.app.rendering import render_here, render_remotely

    here = live.animator.renderer is not None if value is None else value == "here"
    (render_here if here else render_remotely)(live)


# Framing


def _zoom(factor: float) -> Callable[[LiveLoop, None], None]:
    return lambda live, value: live.animator.zoom(factor)


def _shift(right: float, down: float) -> Callable[[LiveLoop, None], None]:
    return lambda live, value: live.animator.shift(right * SHIFT_STEP, down * SHIFT_STEP)


def _find(live: LiveLoop, value: None) -> None:
    if live.animator.is_told:
        live.notify("There is no camera whose picture could be searched.")
        return
    live.animator.framing.search_again()
    live.notify("Looking for your face.")


def _follow(live: LiveLoop, value: bool | None) -> None:
    live.animator.follow = _switch(live.animator.follow, value)
    live.notify(f"Following your head: {_on(live.animator.follow)}.")


def _mirror(live: LiveLoop, value: bool | None) -> None:
    wanted = _switch(live.animator.mirror, value)
    live.animator.set_mirror(wanted)
    live.notify(f"Mirror {_on(wanted)}.")


# Motion


def _point(live: LiveLoop, value: tuple[float, float]) -> None:
    point = getattr(live.capture.source, "point", None)
    if point is None:
        live.notify("Nothing follows the pointer: start with --driving mouse.")
    else:
        point(*value)


def _slider(live: LiveLoop, value: None) -> None:
    names = list(SLIDERS)
    if live.sliders_shown:
        live.show.slider = names[(names.index(live.show.slider) + 1) % len(names)]
    live.show_sliders()


def _step(direction: int) -> Callable[[LiveLoop, None], None]:
    def step(live: LiveLoop, value: None) -> None:
        name = live.show.slider
        low, high, step = SLIDERS[name]
        now = getattr(live.animator.settings, name)
        _set_slider(name)(live, round(min(max(now + direction * step, low), high), 3))

    return step


def _set_slider(name: str) -> Callable[[LiveLoop, float], None]:
    def set_slider(live: LiveLoop, value: float) -> None:
        live.animator.settings = replace(live.animator.settings, **{name: value})
        live.show.slider = name
        live.show_sliders()
        if live.window is None:
            live.notify(f"{name} {value:g}")

    return set_slider


# Window


def _shown(name: str) -> Callable[[LiveLoop, bool | None], None]:
    def show(live: LiveLoop, value: bool | None) -> None:
        setattr(live.show, name, _switch(getattr(live.show, name), value))
        if name == "help" and live.window is None and live.show.help:
            live.notify("\n".join(keys.help_lines()))

    return show


def _quit(live: LiveLoop, value: None) -> None:
    live.stop()


#: Name -> what it does to a session, with the value given (None where there is none).
ACTIONS: dict[str, Callable[[LiveLoop, Any], None]] = {
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
    "sharp": _sharp,
    "render": _render,
    "closer": _zoom(1 / ZOOM_STEP),
    "wider": _zoom(ZOOM_STEP),
    "shift_left": _shift(-1, 0),
    "shift_right": _shift(1, 0),
    "shift_up": _shift(0, -1),
    "shift_down": _shift(0, 1),
    "find": _find,
    "follow": _follow,
    "mirror": _mirror,
    "point": _point,
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
