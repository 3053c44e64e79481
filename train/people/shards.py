"""People in shards, as pools hold them, and renderers that are made once per process."""

from __future__ import annotations

import functools

import numpy as np
import torch

from livepuppet.train.people.assets import assets_folder, load_assets
from livepuppet.train.people.draw import Renderer
from livepuppet.train.people.motion import draw_people_groups
from livepuppet.train.people.person import Framing, Person, draw_person
from livepuppet.train.people.scene import Scene, draw_scene, with_bystander
from livepuppet.train.people.truth import draw_group
from livepuppet.train.puppets.identities import FACTORS

#: Version of what a shard holds and how.
LAYOUT = 1

#: Share of pictures with somebody behind, of how many people, and the first of their numbers: no pool reaches it.
BYSTANDERS, DIFFERENT, FIRST_BYSTANDER = 0.08, 32, 900_000_000

#: Among how many identities of "people-mix" one is a drawing.
ONE_DRAWN = 4


@functools.lru_cache(maxsize=4)
def _renderer(folder, size: int) -> Renderer:
    return Renderer(load_assets(folder), size)


def renderer_of(size: int) -> Renderer:
    """The renderer of this process for pictures of a size.

    Raises:
        AssetsError: people cannot be drawn here.
    """
    return _renderer(assets_folder(), size)


def is_drawn(setting: str, number: int) -> bool:
    """Whether the identity of a number is a drawing in a setting of `puppets.identities.PEOPLE`."""
    return setting == "people-drawn" or (setting == "people-mix" and number % ONE_DRAWN == ONE_DRAWN - 1)


def person_and_scene(renderer: Renderer, number: int, setting: str) -> tuple[Person, Scene]:
    """The identity of a number; light and background follow from the same."""
    drawn = is_drawn(setting, number)
    person = draw_person(renderer.assets, number, drawn)
    rng = np.random.default_rng([number, 1907])
    scene = draw_scene(renderer.assets, rng, renderer.skin_luminance(person), drawn)
    rng = np.random.default_rng([number, 2603])
    if rng.random() < BYSTANDERS:
        scene = with_bystander(scene, _bystander(renderer, int(rng.integers(DIFFERENT)), drawn), rng)
    return person, scene


@functools.lru_cache(maxsize=2 * DIFFERENT)
def _bystander(renderer: Renderer, number: int, drawn: bool) -> np.ndarray:
    """One of a few people to stand behind others: (S, S, 4) premultiplied linear colours, and opacity."""
    person = draw_person(renderer.assets, FIRST_BYSTANDER + number, drawn)
    person.framing = Framing(0.085, 0.5, (0.0, -0.35))
    rng = np.random.default_rng([number, 11])
    scene = draw_scene(renderer.assets, rng, renderer.skin_luminance(person), drawn)
    motion = draw_people_groups(1, 1, torch.Generator().manual_seed(number)).values[0].numpy().copy()
    motion[FACTORS.index("shift_x")] = motion[FACTORS.index("shift_y")] = 0
    return renderer.figure(person, person.pose(motion), scene)


def draw(seed: int, groups: int, poses: int, size: int, coarse: int, setting: str) -> dict[str, np.ndarray]:
    """The arrays of a shard: those of `truth.draw_group`, one row per picture; "backgrounds", one per group; and

    "motions": (groups * poses, len(COLUMNS)).
    "other_points", "other_jacobians": of the shard's next identity in each picture's motion.
    """
    renderer = renderer_of(size)
    motions = draw_people_groups(groups, poses, torch.Generator().manual_seed(seed)).values.numpy()
    motions = motions.reshape(groups, poses, -1)
    found: dict[str, list[np.ndarray]] = {}
    for g in range(groups):
        person, scene = person_and_scene(renderer, seed * groups + g, setting)
        arrays = draw_group(renderer, person, scene, motions[g], coarse)
        arrays["backgrounds"] = arrays.pop("background")[None]
        before = motions[(g - 1) % groups]
        others = [person.landmarks_in(motion) for motion in before]
        arrays["other_points"] = np.stack([points for points, _ in others])
        arrays["other_jacobians"] = np.stack([jacobians for _, jacobians in others])
        for name, value in arrays.items():
            found.setdefault(name, []).append(value)
    # An identity did what the one before it does.
    for name in ("other_points", "other_jacobians"):
        found[name] = found[name][1:] + found[name][:1]
    return {name: np.concatenate(values) for name, values in found.items()} | {
        "motions": motions.reshape(groups * poses, -1),
        "groups": np.array(groups),
        "coarse": np.array(coarse),
        "layout": np.array(LAYOUT),
        "drawn by": np.array(renderer.name),
    }
