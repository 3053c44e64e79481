"""The next step's batch, loaded by a thread while this step computes.

Why not `torch.utils.data.DataLoader`: a step draws its clips and its random deformations from one
generator, seeded by the step's number, which is what lets a resumed training end in the same bits.
A `DataLoader` would need the steps' numbers in its sampler and one decoder cache (up to 2 GB) per
worker process; this thread shares the one cache there is. Decoders and OpenCV release the GIL.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from livepuppet.train.loop.distributed import rank_slice

if TYPE_CHECKING:
    from livepuppet.train.data.clips import ClipSet


class Prefetcher:
    """Wraps a `ClipSet`, whose methods it has, and loads its next batch in the background.

    Every step's draws are seeded by the step's number, so the next step's are known now. A
    prefetched batch is used only if the step then asks for exactly it, so prefetching changes no
    number.

    Args:
        data: a `ClipSet`.
        batch: pairs per step, all processes together.
    """

    def __init__(self, data: ClipSet, batch: int):
        self._data, self._batch = data, batch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._pending: tuple[list, Future] | None = None

    def prefetch(self, rng: torch.Generator) -> None:
        """Start loading what a step that draws from `rng` (which is used up) will ask for first."""
        choices = self._data.draw(self._batch, rng)[rank_slice(self._batch)]
        self._pending = (choices, self._thread.submit(self._data.load, choices))

    def draw(self, batch: int, rng: torch.Generator) -> list:
        """See `ClipSet.draw`. Touches no file, so it does not wait."""
        return self._data.draw(batch, rng)

    def load(self, choices: list) -> tuple[Tensor, Tensor]:
        """See `ClipSet.load`."""
        pending, self._pending = self._pending, None
        if pending is not None:
            loaded = pending[1].result()
            if pending[0] == choices:
                return loaded
        return self._data.load(choices)

    def pairs(self, batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """See `ClipSet.pairs`."""
        return self.load(self.draw(batch, rng))

    def __len__(self) -> int:
        return len(self._data)

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        # The clip set's cache belongs to one thread at a time.
        if self._pending is not None:
            self._pending[1].exception()
        return getattr(self._data, name)
