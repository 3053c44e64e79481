"""Learning rate schedules: a factor on the peak.

Not `torch.optim.lr_scheduler`: a budget of minutes makes the rate a function of the share of the
training that is done, not of the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine down to a floor; for budgets in steps or in minutes.

    Attributes:
        warm_up: steps.
        floor: the last factor.
    """

    warm_up: int = 100
    floor: float = 0.02

    def factor(self, step: int, progress: float) -> float:
        """For the 0-based `step` at `progress` (0 to 1) of the training."""
        warm = min(1.0, (step + 1) / self.warm_up)
        return warm * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Milestones:
    """Constant, times `decay` at each milestone: the published schedules.

    Attributes:
        shares: shares of the whole training, 0 to 1, at which the rate falls (60 of 100 epochs:
            0.6).
        decay: the papers' 0.1.
    """

    shares: tuple[float, ...] = ()
    decay: float = 0.1

    def factor(self, step: int, progress: float) -> float:
        """For the 0-based `step` at `progress` (0 to 1) of the training."""
        return self.decay ** sum(progress >= share for share in self.shares)
