"""How many pictures a second the renderer draws, per setting."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from livepuppet.train.puppets.identities import SETTINGS, draw_groups, draw_identities, generator
from livepuppet.train.puppets.pool import keep_freed_memory
from livepuppet.train.puppets.renderer import render


def pictures_per_second(
    size: int, batch: int, device: torch.device, seconds: float = 3.0
) -> Iterator[tuple[str, float, float]]:
    """Draw batches of 4 poses of batch / 4 identities, the settings by turns, so that a busy
    machine slows all alike.

    Args:
        size: side of the pictures.
        batch: pictures per call of `render`, at least 1.
        device: where to draw.
        seconds: per setting, at least one batch.

    Yields:
        The setting, pictures rendered per second, and identities drawn per second (on the CPU).
    """
    keep_freed_memory()
    poses = 4 if batch % 4 == 0 else 1
    spent = dict.fromkeys(SETTINGS, 0.0)
    drawing = dict.fromkeys(SETTINGS, 0.0)
    rounds = 0

    def settle() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    # The first round warms up and is not counted.
    while rounds < 2 or spent[SETTINGS[0]] < seconds:
        for setting in SETTINGS:
            rng = generator(rounds)
            begin = time.perf_counter()
            identities = draw_identities(batch // poses, rng, setting)
            drawn = time.perf_counter()
            rows = torch.arange(batch) // poses
            identities = identities[rows].to(device)
            motions = draw_groups(batch // poses, poses, rng, setting).to(device)
            start = settle()
            render(identities, motions, size)
            end = settle()
            if rounds:
                drawing[setting] += drawn - begin
                spent[setting] += end - start
        rounds += 1
    for setting in SETTINGS:
        counted = (rounds - 1) * batch
        yield setting, counted / spent[setting], counted / poses / drawing[setting]
