"""A first-order training with everything in it (batch statistics, discriminator, schedule), in small. Also a program:

python small_training.py DATA OUTPUT STEPS [STEP]     killed by its own SIGKILL at STEP; several under torchrun
"""

import os
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from livepuppet.model.discriminator import DiscriminatorConfig
from livepuppet.model.fomm import FommConfig
from livepuppet.model.presets import Preset, build
from livepuppet.train.data.augment import Augment
from livepuppet.train.data.clips import ClipSet
from livepuppet.train.loop import distributed
from livepuppet.train.loop.prefetch import Prefetcher
from livepuppet.train.loop.schedules import Milestones
from livepuppet.train.loop.trainer import Trainer
from livepuppet.train.losses.weights import LossWeights
from livepuppet.train.tasks.fomm import FommTask

SIZE, BATCH = 32, 4


def draw_clips(folder: Path) -> Path:
    """Two clips of a bright square that wanders over a textured ground."""
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        ground = rng.integers(0, 120, (SIZE, SIZE, 3), np.uint8)
        for t in range(5):
            image = ground.copy()
            image[8:18, 3 + 3 * t : 12 + 3 * t] = 220
            cv2.imwrite(str(folder / name / f"{t}.png"), image)
    return folder


def small_task(data: Path) -> FommTask:
    """Always the same one."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    config = FommConfig(
        size=SIZE,
        num_keypoints=3,
        jacobian_maps=3,
        detector_reduction=1,
        detector_expansion=4,
        detector_maximum=8,
        detector_blocks=2,
        motion_reduction=1,
        motion_expansion=4,
        motion_maximum=8,
        motion_blocks=2,
        generator_expansion=4,
        generator_maximum=8,
        generator_residual_blocks=1,
    )
    model = build(Preset("small", SIZE, 3, config))
    clips = Prefetcher(ClipSet(data, SIZE, Augment(flip=True, time_flip=True)), BATCH)
    task = FommTask(
        model,
        clips,
        BATCH,
        LossWeights(generator_gan=1.0, feature_matching=(10.0,)),
        discriminator=DiscriminatorConfig(expansion=4, maximum=8, blocks=1, spectral_norm=True),
    )
    task.betas, task.clip_norm = (0.5, 0.999), None
    return task


def small_trainer(data: Path, output: Path, steps: int, **settings) -> Trainer:
    """Checkpoints after every step unless told otherwise."""
    settings = {"save_every": 0.0, "schedule": Milestones((0.5,)), **settings}
    trainer = Trainer(small_task(data), output, steps, learning_rate=1e-3, **settings)
    for optimiser in (trainer.optimiser, trainer.discriminator_optimiser):
        # Biases before a norm have a gradient of pure rounding error, which Adam would blow up to its full rate.
        optimiser.param_groups[0]["eps"] = 1e-2
    return trainer


def main() -> None:
    data, output, steps, *rest = sys.argv[1:]
    with distributed.process_group(torch.device("cpu")):
        trainer = small_trainer(Path(data), Path(output), int(steps))
        if rest:
            losses = trainer.task.losses

            def killed(rng):
                if trainer.step == int(rest[0]):
                    os.kill(os.getpid(), signal.SIGKILL)
                return losses(rng)

            trainer.task.losses = killed
        trainer.run(quiet=True)
        if distributed.world_size() > 1:
            try:
                distributed.barrier_or_fail("no clips here" if distributed.rank() else None)
            except BaseException as error:
                (Path(output) / f"ends{distributed.rank()}").write_text(f"{type(error).__name__} {error}")


if __name__ == "__main__":
    main()
