"""Train the matting network; see `tasks.matting`.

python -m livepuppet.train.people.mattes FOLDER/validation 10 14
python -m livepuppet.train.people.mattes FOLDER/training 1000 1300
python -m livepuppet.train.people.mattes FOLDER/drawn 1300 1400 people-drawn
python -m livepuppet.train.recipes.matting FOLDER OUTPUT --minutes 120
python -m livepuppet.export.matting OUTPUT/matting.safetensors matting.onnx

On a GPU `--minutes 6 --batch 192 --puppets 4096` are enough.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from livepuppet.train.loop.precision import Precision, choose_device
from livepuppet.train.loop.trainer import Trainer
from livepuppet.train.tasks.matting import MattePool, MattingTask, PuppetMattes, matting_scores

logger = logging.getLogger(__name__)


def train_matting(
    folder: Path,
    output: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int = 32,
    learning_rate: float = 2e-3,
    puppets: int = 512,
    device: str = "auto",
    seed: int = 0,
    save_every: float = 120.0,
    init: Path | None = None,
    resume: bool = False,
) -> dict[str, float]:
    """Train the network and score its EMA after each checkpoint.

    Args:
        folder: holds the shards `training/mattes-*.npz`, `validation/mattes-*.npz` and, where they are wanted,
            `drawn/mattes-*.npz`.
        output: folder of the checkpoint, and of the EMA's weights, matting.safetensors.
        steps, minutes: the budget; one of them.
        puppets: how many puppets are drawn to train on beside people.
        init: weights to start from.
        resume: go on from the checkpoint in `output`.

    Returns:
        `matting_scores` of the EMA on the validation shards.
    """
    place = choose_device(device)
    if place.type == "cuda":
        torch.backends.cudnn.benchmark = True
    pool = MattePool([folder / "training", folder / "drawn"], place)
    validation = MattePool([folder / "validation"], place)
    task = MattingTask(pool, PuppetMattes(place, puppets, seed) if puppets else None, batch)
    if init is not None:
        task.model.load_state_dict(load_file(init))
    logger.info("%d pictures of people, %d puppets", pool.count, puppets)

    def scores_of(trainer: Trainer) -> dict[str, float]:
        with trainer.ema_weights():
            return matting_scores(task.model, validation)

    def score(trainer: Trainer) -> None:
        weights = {name: value.contiguous() for name, value in trainer.ema.module.state_dict().items()}
        save_file(weights, output / "matting.safetensors")
        scores = scores_of(trainer)
        logger.info("step %d: %s", trainer.step, ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))

    trainer = Trainer(
        task,
        output,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        seed=seed,
        save_every=save_every,
        on_save=score,
        precision=Precision("bf16" if place.type == "cuda" else "fp32", place),
        fingerprint={"network": task.name, "batch": batch, "seed": seed},
    )
    if resume:
        trainer.resume()
    trainer.run()
    score(trainer)
    return scores_of(trainer)


def main() -> None:
    """The command in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--puppets", type=int, default=512)
    parser.add_argument("--save-every", type=float, default=120.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--init", type=Path)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train_matting(**vars(given))


if __name__ == "__main__":
    main()
