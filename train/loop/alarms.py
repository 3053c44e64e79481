"""What goes wrong in a training without stopping it, noticed and said once each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

#: Keypoints whose positions deviate less than this, as a mean over pictures, lie in one heap. In units of [-1, 1]: one
#: pixel of 64. Heaps that a training never left were seen at 0.02 to 0.03; keypoints that rightly share one small shape at
#: 0.045, on whole figures at 0.15 to 0.3.
CLUMPED = 0.03

#: A Jacobian's determinant beyond this turns a neighbourhood of a pixel into a sixth of the picture and more.
EXPLODED = 50.0

#: Steps over which figures are averaged before they are judged, and before which nothing is said.
MEMORY, PATIENCE = 100, 1000

#: The loss is stuck if after PATIENCE steps it is not below this share of what it was at first, and running away if
#: it is above this multiple of its best.
STUCK, AWAY = 0.98, 3.0


@dataclass
class Alarms:
    """Watches one training. `look` after every step returns what is newly wrong, one sentence each.

    Attributes:
        said: names of what was said already.
    """

    said: list[str] = field(default_factory=list)
    means: dict[str, float] = field(default_factory=dict)
    seen: int = 0
    first_loss: float = math.nan
    best_loss: float = math.inf

    def look(self, loss: float, signs: dict[str, float]) -> list[str]:
        """New sentences.

        Args:
            loss: the step's total.
            signs: "spread" (mean deviation of keypoint positions over the keypoints, units of [-1, 1]) and
                "determinant" (largest |det J|), each if the task has it.
        """
        self.seen += 1
        for name, value in {"loss": loss, **signs}.items():
            if math.isfinite(value):
                weight = max(1 / MEMORY, 1 / self.seen)
                self.means[name] = (1 - weight) * self.means.get(name, value) + weight * value
        loss = self.means.get("loss", math.nan)
        if self.seen == MEMORY:
            self.first_loss = loss
        if self.seen >= MEMORY:
            self.best_loss = min(self.best_loss, loss)
        wrong = []
        if self.means.get("determinant", 0) > EXPLODED and self.seen >= MEMORY:
            wrong.append(
                (
                    "jacobians",
                    f"Jacobians explode (determinants around {self.means['determinant']:.0f}, 1 is no change): if the "
                    "pictures show it too, start again with a lower --learning-rate or a larger --batch.",
                )
            )
        if self.seen >= PATIENCE:
            wrong += self._after_patience(loss)
        new = [(name, sentence) for name, sentence in wrong if name not in self.said]
        self.said += [name for name, _ in new]
        return [sentence for _, sentence in new]

    def _after_patience(self, loss: float) -> list[tuple[str, str]]:
        wrong = []
        if self.means.get("spread", math.inf) < CLUMPED:
            wrong.append(
                (
                    "clumped",
                    f"Keypoints lie in one heap (they deviate by {self.means['spread']:.3f}, half the picture is 1) and "
                    "cannot tell one motion from another: look at the sheet; if it stays so, start again with another "
                    "--seed, a larger --batch, or clips that move more (--check-data).",
                )
            )
        if loss > STUCK * self.first_loss:
            wrong.append(
                (
                    "stuck",
                    f"The loss is stuck ({loss:.3g} after {self.seen} steps, {self.first_loss:.3g} at first): check the "
                    "clips with --check-data, and try another --learning-rate.",
                )
            )
        if loss > AWAY * self.best_loss > 0:
            wrong.append(
                (
                    "away",
                    f"The loss runs away ({loss:.3g}, it had been {self.best_loss:.3g}): resume from an earlier "
                    "checkpoint with a lower --learning-rate.",
                )
            )
        return wrong
