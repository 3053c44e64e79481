"""People as files: contact sheets, portraits and clips; and how fast they are drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch

from livepuppet.train.people.draw import Renderer
from livepuppet.train.people.motion import COLUMNS, draw_people_groups, neutral, scripted_people_clip
from livepuppet.train.people.person import Person
from livepuppet.train.people.scene import Scene
from livepuppet.train.people.shards import draw, person_and_scene, renderer_of

#: How far a strip goes to each side where a factor's own ends are not -1 and 1; nothing below 0 where it has one side alone.
ENDS: dict[str, tuple[float, float]] = {
    "yaw": (-0.7, 0.7),
    "pitch": (-0.44, 0.44),
    "roll": (-0.45, 0.45),
    "shift_x": (-0.28, 0.28),
    "shift_y": (-0.28, 0.28),
    "scale": (-0.25, 0.25),
    "smile": (-1.0, 1.0),
    "gaze_x": (-1.0, 1.0),
    "gaze_y": (-1.0, 1.0),
    "brows": (-1.0, 1.0),
}

#: What a strip moves where it is more than the column of its name: a pair of sides, or what else it needs.
MOVES: dict[str, dict[str, float]] = {
    "blinks": {"blink_left": 1.0, "blink_right": 1.0},
    "brows": {"brow_left": 1.0, "brow_right": 1.0},
    # Lips that stay closed over a jaw that opens as far as they can.
    "mouthClose": {"mouthClose": 0.5, "open": 0.625},
}

#: What a strip holds all along: what comes forward is seen from the side.
HELD: dict[str, dict[str, float]] = {"jawForward": {"yaw": 0.42}, "tongueOut": {"yaw": 0.3}}

#: Distance of the eyes, over the picture's side, in strips of what moves a part of the face alone; and where their middle is.
NEAR, NEAR_PLACE = 0.35, (0.0, -0.25)

#: Strips of the whole head.
WHOLE = frozenset(["yaw", "pitch", "roll", "shift_x", "shift_y", "scale"])

#: Width of the strips' names, over the pictures' side.
NAMED = 0.8


def strips() -> dict[str, tuple[tuple[float, float], dict[str, float]]]:
    """What each strip is called -> its ends, and what changes by how much at 1: factors, then units with both sides as one."""
    found = {}
    alone = ("mouthLeft", "mouthRight", "jawLeft", "jawRight")
    for name in (*COLUMNS, "blinks", "brows"):
        if name in ("brow_left", "brow_right", "blink_right") or (
            name.endswith("Right") and name not in alone
        ):
            continue
        paired = name.endswith("Left") and name not in alone
        moves = dict.fromkeys((name, name[:-4] + "Right") if paired else (name,), 1.0)
        called = name.removesuffix("Left") if paired else name
        found[called] = ENDS.get(name, (0.0, 1.0)), MOVES.get(name, moves)
    return found


def _tiles(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    return np.concatenate(
        [np.concatenate(pictures[k : k + columns], 1) for k in range(0, len(pictures), columns)], 0
    )


def people_sheet(seed: int, setting: str, columns: int = 8, rows: int = 4, size: int = 160) -> np.ndarray:
    """columns x rows people, each in a pose of its own: uint8 RGB."""
    renderer = renderer_of(size)
    motions = draw_people_groups(columns * rows, 1, torch.Generator().manual_seed(seed)).values.numpy()
    pictures = []
    for k, motion in enumerate(motions):
        person, scene = person_and_scene(renderer, seed * 1000 + k, setting)
        pictures.append(renderer.draw(person, person.pose(motion), scene).colour)
    return _tiles(pictures, columns)


def strip_sheet(seed: int, setting: str, columns: int = 7, size: int = 160) -> np.ndarray:
    """What each factor and unit does to one person: a named row for each, from one of its ends to the other; uint8 RGB."""
    renderer = renderer_of(size)
    person, scene = person_and_scene(renderer, seed * 1000, setting)
    near, _ = person_and_scene(renderer, seed * 1000, setting)
    near.framing = replace(near.framing, eyes=NEAR, place=NEAR_PLACE)
    rows = []
    for name, ((low, high), moves) in strips().items():
        shown = person if name in WHOLE else near
        label = np.full((size, round(NAMED * size), 3), 255, np.uint8)
        for k, text in enumerate((name, f"{low:g} to {high:g}")):
            cv2.putText(
                label, text, (6, size // 2 + 18 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA
            )
        row = [label]
        for value in np.linspace(low, high, columns):
            motion = neutral().values[0].numpy().copy()
            for moved, by in moves.items():
                motion[COLUMNS.index(moved)] = value * by
            for held, at in HELD.get(name, {}).items():
                motion[COLUMNS.index(held)] = at
            row.append(renderer.draw(shown, shown.pose(motion), scene).colour)
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows, 0)


def _in_scene(renderer: Renderer, number: int, setting: str, scene: int | None) -> tuple[Person, Scene]:
    """A person, in the light and before the background of another one's number if that is given."""
    person, own = person_and_scene(renderer, number, setting)
    return person, own if scene is None else person_and_scene(renderer, scene, setting)[1]


def portrait(number: int, setting: str, size: int, scene: int | None = None) -> np.ndarray:
    """A person looking straight ahead: uint8 RGB (size, size, 3).

    Args:
        scene: the person whose light and background are taken; None for their own.
    """
    renderer = renderer_of(size)
    person, around = _in_scene(renderer, number, setting, scene)
    return renderer.draw(person, person.pose(neutral().values[0].numpy()), around).colour


def people_performance(
    number: int, setting: str, frames: int, rate: int, size: int, seed: int, scene: int | None = None
) -> Iterator[np.ndarray]:
    """The frames of a scripted performance, uint8 RGB (size, size, 3). `scene` as of `portrait`."""
    renderer = renderer_of(size)
    person, around = _in_scene(renderer, number, setting, scene)
    for motion in scripted_people_clip(frames, rate, seed).values.numpy():
        yield renderer.draw(person, person.pose(motion), around).colour


def people_per_second(setting: str, size: int, seconds: float) -> tuple[str, float, float]:
    """The renderer's name, pictures per second with all truth, and seconds of processor per picture."""
    renderer = renderer_of(size)
    draw(0, 4, 1, size, size // 4, setting)  # textures and programs
    began, spent, pictures, seed = time.perf_counter(), time.process_time(), 0, 1
    while pictures == 0 or time.perf_counter() - began < seconds:
        draw(seed, 4, 4, size, size // 4, setting)
        pictures, seed = pictures + 16, seed + 1
    return (
        renderer.name,
        pictures / (time.perf_counter() - began),
        (time.process_time() - spent) / pictures,
    )
