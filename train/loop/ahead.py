"""The next step's pictures, loaded by a thread while this step computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from livepuppet.train.loop.distributed import share


class Ahead:
    """A data set whose next batch is read in the background. Speaks as the set itself does.

    The trainer seeds every step's draws from the step's number, so the next step's are known now; what is loaded
    ahead is used only if the step then asks for just that, so the thread changes no number of the training.

    Args:
        data: a `ClipSet`.
        batch: pairs per step, all processes together.
    """

    def __init__(self, data, batch: int):
        self._data, self._batch = data, batch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next batch")
        self._waiting: tuple[list, Future] | None = None

    def look_ahead(self, rng: torch.Generator) -> None:
        """Begin to load what a step that draws from `rng` (which is used up) will ask for first."""
        choices = self._data.draw(self._batch, rng)[share(self._batch)]
        self._waiting = (choices, self._thread.submit(self._data.load, choices))

    def draw(self, batch: int, rng: torch.Generator) -> list:
        """See `ClipSet.draw`; numbers only, so it needs not wait."""
        return self._data.draw(batch, rng)

    def load(self, choices: list) -> tuple[Tensor, Tensor]:
        """See `ClipSet.load`."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            loaded = waiting[1].result()
            if waiting[0] == choices:
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
        # The set's cache is one thread's at a time.
        if self._waiting is not None:
            self._waiting[1].exception()
        return getattr(self._data, name)
