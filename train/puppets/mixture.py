"""Several pools as one: puppets and people in one batch."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from livepuppet.train.losses.reconstruction import downsample
from livepuppet.train.puppets.identities import Motion
from livepuppet.train.puppets.pairs import Pairs, Puppets


class Mixture(Puppets):
    """Draws each example from one of several pools, by their shares.

    Args:
        pools: of flow of the same side, on the same device. Images are brought to the side of the smallest.
        shares: how often each is drawn from, in any unit.

    Raises:
        ValueError: not as many shares as pools, or a share that is not positive.
    """

    def __init__(self, pools: list[Puppets], shares: list[float]):
        if len(pools) != len(shares) or not pools or min(shares) <= 0:
            raise ValueError("a mixture needs one positive share for each of its pools")
        self.pools, self.shares = pools, torch.tensor(shares, dtype=torch.float64)
        self.device, self.poses = pools[0].device, pools[0].poses
        self.setting = " + ".join(pool.setting for pool in pools)

    def __len__(self) -> int:
        return sum(len(pool) for pool in self.pools)

    def refresh_sometimes(self, rng: torch.Generator) -> None:
        for pool in self.pools:
            pool.refresh_sometimes(rng)

    def state(self) -> dict[str, int | str]:
        return {
            f"{k} {name}": value for k, pool in enumerate(self.pools) for name, value in pool.state().items()
        }

    def load_state(self, state: dict[str, int | str]) -> None:
        for k, pool in enumerate(self.pools):
            mine = {name.split(" ", 1)[1]: value for name, value in state.items() if name.startswith(f"{k} ")}
            if mine:
                pool.load_state(mine)

    def speed(self) -> dict[str, float]:
        return next((speed for pool in self.pools if (speed := pool.speed())), {})

    def _counts(self, batch: int, rng: torch.Generator) -> list[int]:
        drawn = torch.multinomial(self.shares, batch, True, generator=rng)
        return torch.bincount(drawn, minlength=len(self.pools)).tolist()

    def pictures_with_truth(self, batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        counts = self._counts(batch, rng)
        found = [
            pool.pictures_with_truth(count, rng)
            for pool, count in zip(self.pools, counts, strict=True)
            if count
        ]
        pictures, points, jacobians = zip(*found, strict=True)
        return _of_one_side(list(pictures)), torch.cat(points), torch.cat(jacobians)

    def pairs(self, batch: int, rng: torch.Generator, still: float = 0.12, with_flow: bool = True) -> Pairs:
        counts = self._counts(batch, rng)
        found = [
            pool.pairs(count, rng, still, with_flow)
            for pool, count in zip(self.pools, counts, strict=True)
            if count
        ]
        if len(found) == 1:
            return found[0]
        joined: dict[str, Any] = {}
        for field in fields(Pairs):
            values = [getattr(pairs, field.name) for pairs in found]
            joined[field.name] = (
                _of_one_side(values) if field.name in ("source", "driving") else _joined(values)
            )
        # Identities are of different kinds; what they are asked for is in `others`.
        joined["identity"] = None
        return Pairs(**joined)


def _of_one_side(pictures: list[Tensor]) -> Tensor:
    """Pictures (B, 3, S, S) of several sides, as one batch of the least."""
    side = min(picture.shape[-1] for picture in pictures)
    return torch.cat([downsample(picture, picture.shape[-1] // side) for picture in pictures])


def _joined(values: list):
    first = values[0]
    if isinstance(first, Motion):
        # People move by more factors than puppets; those that a pool lacks are 0.
        wide = max(value.values.shape[1] for value in values)
        return Motion(
            torch.cat(
                [torch.nn.functional.pad(value.values, (0, wide - value.values.shape[1])) for value in values]
            )
        )
    if isinstance(first, tuple):
        return tuple(torch.cat(some) for some in zip(*values, strict=True))
    return torch.cat(values) if isinstance(first, Tensor) else None
