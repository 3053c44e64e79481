"""What the tasks that train on procedural puppets share."""

from __future__ import annotations

from livepuppet.model.lite import LitePuppet
from livepuppet.train.loop.task import Task
from livepuppet.train.puppets.pairs import Puppets


class PuppetTask(Task):
    """Draws pairs from puppets, whose place in a stream it keeps with its checkpoints.

    Args:
        model: the default model.
        pool: puppets to train on, from disk or drawn meanwhile.
        batch: pairs per step.
    """

    model: LitePuppet

    def __init__(self, model: LitePuppet, pool: Puppets, batch: int):
        self.model, self.pool, self.batch = model, pool, batch

    def state(self) -> dict:
        return {"puppets": self.pool.state()}

    def load_state(self, state: dict) -> None:
        self.pool.load_state(state["puppets"])
