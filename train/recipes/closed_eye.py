"""Train the network that closes an avatar's eyes; see `tasks.closed_eye`.

python -m livepuppet.train.people.closed_eyes FOLDER/validation 10 14
python -m livepuppet.train.people.closed_eyes FOLDER/training 1000 1100
python -m livepuppet.train.recipes.closed_eye FOLDER OUTPUT --minutes 40
python -m livepuppet.export.closed_eye OUTPUT/closed-eye.safetensors closed-eye.onnx
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from safetensors.torch import save_file

from livepuppet.export.closed_eye import load_closed_eye
from livepuppet.train.loop.precision import PRECISIONS, choose_device, choose_precision
from livepuppet.train.loop.trainer import Trainer
from livepuppet.train.tasks.closed_eye import ClosedEyeTask, EyePool, closed_eye_scores

logger = logging.getLogger(__name__)


def train_closed_eye(
    folder: Path,
    output: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int = 32,
    learning_rate: float = 2e-3,
    device: str = "auto",
    precision: str = "fp32",
    seed: int = 0,
    save_every: float = 120.0,
    init: Path | None = None,
    resume: bool = False,
) -> dict[str, float]:
    """Train the network and score its EMA after each checkpoint.

    Args:
        folder: holds the shards `training/eyes-*.npz` and `validation/eyes-*.npz`.
        output: folder of the checkpoint, and of the EMA's weights, closed-eye.safetensors.
        steps, minutes: the budget; one of them.
        init: weights to start from.
        resume: go on from the checkpoint in `output`.

    Returns:
        `closed_eye_scores` of the EMA on the validation shards.
    """
    place = choose_device(device)
    pool, validation = (EyePool(folder / name, place) for name in ("training", "validation"))
    task = ClosedEyeTask(pool, batch)
    if init is not None:
        task.model.load_state_dict(load_closed_eye(init).state_dict())
    logger.info("%d eyes", len(pool))

    def scores_of(trainer: Trainer) -> dict[str, float]:
        with trainer.ema_weights():
            return closed_eye_scores(task.model, validation)

    def score(trainer: Trainer) -> None:
        weights = {name: value.contiguous() for name, value in trainer.ema.module.state_dict().items()}
        save_file(weights, output / "closed-eye.safetensors")
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
        precision=choose_precision(precision, place),
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
    parser.add_argument("--save-every", type=float, default=120.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--init", type=Path)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_float32_matmul_precision("high")
    train_closed_eye(**vars(given))


if __name__ == "__main__":
    main()
