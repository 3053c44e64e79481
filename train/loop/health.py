"""Health checks: what goes wrong in a training without stopping it, each reported once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

#: Keypoints have collapsed if their positions deviate less than this, mean over images, in units of
#: [-1, 1] (0.03 is one pixel of 64). Collapsed trainings showed 0.02 to 0.03; keypoints that
#: rightly share one small shape 0.045; whole figures 0.15 to 0.3.
COLLAPSED_SPREAD = 0.03

#: A Jacobian with a larger determinant maps the neighbourhood of a pixel to a sixth of the image.
EXPLODED_DETERMINANT = 50.0

#: Steps over which figures are averaged, and steps before which most checks stay silent.
WINDOW, PATIENCE = 100, 1000

#: The loss is stuck if after PATIENCE steps it is above this share of its first value, and diverges
#: if it is above this multiple of its best.
STUCK_RATIO, DIVERGED_RATIO = 0.98, 3.0


@dataclass
class HealthChecks:
    """Watches one training.

    Attributes:
        reported: names of the checks that failed already.
        means: running means of the figures.
        steps: seen so far.
    """

    reported: list[str] = field(default_factory=list)
    means: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    first_loss: float = math.nan
    best_loss: float = math.inf

    def update(self, loss: float, diagnostics: dict[str, float]) -> list[str]:
        """Take a step into account; returns a message for each check that fails for the first time.

        Args:
            loss: the step's total.
            diagnostics: "spread" (mean deviation of keypoint positions over the keypoints, in units
                of [-1, 1]) and "determinant" (largest |det J|), where the task has them.
        """
        self.steps += 1
        for name, value in {"loss": loss, **diagnostics}.items():
            if math.isfinite(value):
                weight = max(1 / WINDOW, 1 / self.steps)
                self.means[name] = (1 - weight) * self.means.get(name, value) + weight * value
        loss = self.means.get("loss", math.nan)
        if self.steps == WINDOW:
            self.first_loss = loss
        if self.steps >= WINDOW:
            self.best_loss = min(self.best_loss, loss)
        failed = []
        if self.means.get("determinant", 0) > EXPLODED_DETERMINANT and self.steps >= WINDOW:
            failed.append(
                (
                    "jacobians",
                    f"Jacobians explode (determinants around {self.means['determinant']:.0f}, 1 is no change): if the "
                    "sheet shows it too, start again with a lower --learning-rate or a larger --batch.",
                )
            )
        if self.steps >= PATIENCE:
            failed += self._after_patience(loss)
        new = [(name, message) for name, message in failed if name not in self.reported]
        self.reported += [name for name, _ in new]
        return [message for _, message in new]

    def _after_patience(self, loss: float) -> list[tuple[str, str]]:
        failed = []
        if self.means.get("spread", math.inf) < COLLAPSED_SPREAD:
            failed.append(
                (
                    "collapsed",
                    f"Keypoints have collapsed (they deviate by {self.means['spread']:.3f}, half the image is 1) and "
                    "cannot tell one motion from another: look at the sheet; if it stays so, start again with another "
                    "--seed, a larger --batch, or clips that move more (livepuppet train check).",
                )
            )
        if loss > STUCK_RATIO * self.first_loss:
            failed.append(
                (
                    "stuck",
                    f"The loss is stuck ({loss:.3g} after {self.steps} steps, {self.first_loss:.3g} at first): check the "
                    "clips with livepuppet train check, and try another --learning-rate.",
                )
            )
        if loss > DIVERGED_RATIO * self.best_loss > 0:
            failed.append(
                (
                    "diverged",
                    f"The loss diverges ({loss:.3g}, it had been {self.best_loss:.3g}): resume from an earlier "
                    "checkpoint with a lower --learning-rate.",
                )
            )
        return failed
