"""People as files: contact sheets, portraits and clips; and how fast they are drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from livepuppet.train.people.draw import Renderer
from livepuppet.train.people.motion import COLUMNS, draw_people_groups, neutral, scripted_people_clip
from livepuppet.train.people.person import Person
from livepuppet.train.people.scene import Scene
from livepuppet.train.people.shards import draw, person_and_scene, renderer_of

#: What a strip sheet shows: each changes alone from neutral.
CHANGES: tuple[dict[str, float], ...] = (
    {},
    {"smile": 1.0},
    {"smile": -0.7},
    {"open": 0.5},
    {"open": 1.0},
    {"pucker": 1.0},
    {"blink_left": 0.5, "blink_right": 0.5},
    {"blink_left": 1.0, "blink_right": 1.0},
    {"blink_left": 1.0},
    {"gaze_x": 1.0},
    {"gaze_x": -1.0},
    {"gaze_y": 1.0},
    {"gaze_y": -1.0},
    {"brow_left": 1.0, "brow_right": 1.0},
    {"brow_left": -1.0, "brow_right": -1.0},
    {"browInnerUp": 1.0},
    {"yaw": 0.7},
    {"pitch": 0.4},
    {"roll": 0.4},
    {"shift_x": 0.28, "shift_y": 0.2},
    {"scale": 0.2},
    {"tongueOut": 0.8, "open": 0.3},
    {"mouthFunnel": 1.0},
    {"mouthStretchLeft": 1.0, "mouthStretchRight": 1.0},
    {"mouthRollLower": 1.0, "mouthRollUpper": 1.0},
    {"mouthLeft": 1.0},
    {"jawRight": 1.0},
    {"noseSneerLeft": 1.0, "noseSneerRight": 1.0},
    {"cheekPuff": 1.0},
    {"eyeSquintLeft": 1.0, "eyeSquintRight": 1.0},
    {"eyeWideLeft": 1.0, "eyeWideRight": 1.0},
)


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


def strip_sheet(seed: int, setting: str, columns: int = 8, rows: int = 4, size: int = 160) -> np.ndarray:
    """What each of `CHANGES` does to `columns` people: one row per change. `rows` says nothing here."""
    renderer = renderer_of(size)
    columns_of = []
    for k in range(columns):
        person, scene = person_and_scene(renderer, seed * 1000 + k, setting)
        pictures = []
        for change in CHANGES:
            motion = neutral().values[0].numpy().copy()
            for name, value in change.items():
                motion[COLUMNS.index(name)] = value
            pictures.append(renderer.draw(person, person.pose(motion), scene).colour)
        columns_of.append(np.concatenate(pictures, 0))
    return np.concatenate(columns_of, 1)


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
