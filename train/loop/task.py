"""What the training loop trains: a task and its losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from livepuppet.train.loop.prefetch import Prefetcher


class Task:
    """Base class of training tasks. A subclass sets the first four attributes and writes `losses`.

    Attributes:
        name: of the checkpoint's file.
        model: the network with the three calls; what is shipped and shown.
        trained: everything that training changes and saves, except the discriminator.
        batch: pairs per step, all processes together.
        discriminator: trained in turn with `trained`, by an optimiser of its own.
        prefetcher: loads the next step's batch while this one computes, if set.
        shared_batches: all processes draw the same numbers and take their slice of each batch. Only
            then are batch statistics shared, too.
        betas: of Adam; the papers use (0.5, 0.999).
        clip_norm: largest norm of `trained`'s gradient; None for no limit, as in the papers.
    """

    name: str
    model: nn.Module
    trained: nn.Module
    batch: int
    discriminator: nn.Module | None = None
    prefetcher: Prefetcher | None = None
    shared_batches: bool = False
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float | None = 5.0

    def prepare(self) -> None:
        """Called before every step: the place to set training and evaluation modes."""

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """Weighted scalar parts of the loss, of this process's share of the batch; their sum is
        minimised.
        """
        raise NotImplementedError

    def discriminator_losses(self) -> dict[str, Tensor]:
        """The discriminator's loss on the batch that `losses` saw last; called after the step of
        `trained`.
        """
        raise NotImplementedError

    def diagnostics(self) -> dict[str, float]:
        """Figures of the last batch for `HealthChecks`: "spread" and "determinant", where they
        exist.
        """
        return {}

    def state(self) -> dict:
        """Tensors and plain values to keep with a checkpoint."""
        return {}

    def load_state(self, state: dict) -> None:
        """Restore what `state` returned."""
