"""The two training tasks of fine-tuning on one person's recording."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from livepuppet.model.lite import LitePuppet
from livepuppet.train.deform import Deformation, mirror
from livepuppet.train.loop.task import Task
from livepuppet.train.loop.trainer import Trainer
from livepuppet.train.losses.reconstruction import (
    downsample,
    gradient_loss,
    pyramid_l1,
    ssim_loss,
    weighted_mean,
)
from livepuppet.train.metrics.inference import batches, evaluating, to_batch
from livepuppet.train.puppets.pool import PuppetPool
from livepuppet.train.tasks.lite_animator import AnimatorTask, importance
from livepuppet.train.tasks.lite_detector import PARTNER, DetectorTask
from livepuppet.train.webcam import webcam

#: Names of the two snapshots.
HALF, WHOLE = "half of the training", "all of the training"


class Snapshots:
    """EMA weights half-way and at the end of a training, kept with its checkpoint. `on_save` of the
    trainer.

    Attributes:
        kept: name -> state dict of the task's `trained`.
    """

    def __init__(self):
        self.kept: dict[str, dict[str, Tensor]] = {}

    def __call__(self, trainer: Trainer) -> None:
        name = WHOLE if trainer.progress >= 1 else HALF if trainer.progress >= 0.5 else None
        if name and name not in self.kept:
            self.kept[name] = {name: value.clone() for name, value in trainer.ema_state.items()}


class PersonTask(Task):
    """Trains on a recording and on puppets, which keep the model from forgetting.

    Args:
        model: the default model.
        frames: uint8 RGB (T, S, S, 3) to learn from.
        batch: images or pairs of the recording, and as many of puppets, per step.
    """

    model: LitePuppet

    def __init__(self, model: LitePuppet, frames: np.ndarray, batch: int):
        self.model, self.frames, self.batch = model, frames, batch
        self.snapshots = Snapshots()

    def state(self) -> dict:
        return self.snapshots.kept

    def load_state(self, state: dict) -> None:
        self.snapshots.kept = state


class PersonDetectorTask(PersonTask):
    """The detector learns its own answers, averaged over augmented views of each frame.

    It stays in evaluation mode: its batch statistics are those of all that it has seen, and points
    are read as in use (`KeypointDetector.locate`, which is differentiable).

    Args:
        model: whose `detector` is trained.
        frames: uint8 RGB (T, S, S, 3) to learn from.
        pool: puppets.
        batch: images of the recording, and as many of puppets, per step.
        views: over which each frame's target is averaged.
        seed: of these views.
    """

    name = "detector"

    def __init__(
        self,
        model: LitePuppet,
        frames: np.ndarray,
        pool: PuppetPool,
        batch: int = 8,
        views: int = 6,
        seed: int = 0,
    ):
        super().__init__(model, frames, batch)
        self.trained = model.detector
        model.detector.requires_grad_(True)
        self.points, self.jacobians = augmented_keypoints(model, frames, views, seed)
        self.puppets = DetectorTask(model, pool, batch)

    def prepare(self) -> None:
        self.model.eval()

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        rows = torch.randint(len(self.frames), (self.batch,), generator=rng)
        points, jacobians = self.points[rows], self.jacobians[rows]
        image = downsample(to_batch(self.frames[rows.numpy()]), 2)
        change = Deformation.similarity(self.batch, rng, points, angle=0.2, log_scale=0.15, shift=0.08)
        found, found_jacobians = self.model.detector.from_half(webcam(change.warp_image(image), rng, 0.6))
        inside = (points.abs().amax(-1, keepdim=True) < 1).float()
        # FOMM's Eq. 11 and 12 with the averaged keypoints in place of a single detection's.
        carried = change.jacobians(found.detach()) @ found_jacobians
        parts = {
            "person points": 20 * ((change.points(found) - points).abs() * inside).mean(),
            "person jacobians": ((carried - jacobians).abs() * inside[..., None]).mean(),
        }
        return parts | {f"puppet {name}": part for name, part in self.puppets.losses(rng).items()}


@torch.no_grad()
def augmented_keypoints(
    model: LitePuppet, frames: np.ndarray, views: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Points (T, K, 2) and Jacobians (T, K, 2, 2) of frames, means over augmented views of each.

    Every view is turned, scaled and shifted a little, half of them are mirrored. On six real clips
    the keypoints' motion was 15 to 25 % nearer to optical flow than that of single detections in
    four, and as near in the others.
    """
    rng = torch.Generator().manual_seed(seed)
    all_points, all_jacobians = [], []
    with evaluating(model):
        for image in batches(frames):
            image = downsample(image, 2)
            points, jacobians = torch.zeros(()), torch.zeros(())
            for view in range(views):
                change = Deformation.similarity(len(image), rng, image, 0.12, 0.12, 0.06)
                seen = change.warp_image(image)
                if view % 2:
                    found = model.detector.from_half(seen.flip(-1))
                    _, *found = mirror(seen, *found, PARTNER)
                else:
                    found = model.detector.from_half(seen)
                points = points + change.points(found[0]) / views
                jacobians = jacobians + change.jacobians(found[0]) @ found[1] / views
            all_points.append(points)
            all_jacobians.append(jacobians)
    return torch.cat(all_points), torch.cat(all_jacobians)


class PersonAnimatorTask(PersonTask):
    """Dense motion and generator reconstruct the recording's frames from each other; the detector
    is frozen.

    Args:
        model: whose `motion` and `generator` are trained.
        frames: uint8 RGB (T, S, S, 3) to learn from.
        pool: puppets.
        batch: pairs of the recording, and as many of puppets, per step.
    """

    name = "animator"

    def __init__(self, model: LitePuppet, frames: np.ndarray, pool: PuppetPool, batch: int = 4):
        super().__init__(model, frames, batch)
        self.puppets = AnimatorTask(model, pool, batch, half=False)
        self.trained = self.puppets.trained
        self.trained.requires_grad_(True)

    def prepare(self) -> None:
        self.puppets.prepare()

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        rows = torch.randint(len(self.frames), (2 * self.batch,), generator=rng).numpy()
        images = to_batch(self.frames[rows])
        if torch.rand((), generator=rng) < 0.5:
            images = images.flip(-1)
        with torch.no_grad():
            points, jacobians = self.model.detector.from_half(webcam(downsample(images, 2), rng, 0.3))
        (source, driving), (source_points, driving_points) = images.chunk(2), points.chunk(2)
        source_jacobians, driving_jacobians = jacobians.chunk(2)
        motion = self.model.motion(
            downsample(source, 4), source_points, source_jacobians, driving_points, driving_jacobians
        )
        # The window is in cells of the flow.
        top, left, cells = window = self.puppets.window(rng, motion["deformation"].shape[1])
        output = self.model.generator(self.model.generator.encode(source), source, motion, window)
        rows, columns = slice(4 * top, 4 * (top + cells)), slice(4 * left, 4 * (left + cells))
        target = driving[:, :, rows, columns]
        weight = importance(driving_points, driving.shape[-1])[:, :, rows, columns]
        prediction, blend = output["prediction"], output["blend"]
        parts = {
            "person pyramid": 10 * pyramid_l1(prediction, target, weight=weight),
            "person gradients": 8 * gradient_loss(prediction, target, weight=weight),
            "person ssim": 0.7 * ssim_loss(prediction, target, weight=weight),
            # There is no true flow: the bare warp has to come close, or generated pixels would hide
            # its errors.
            "person warp": 4 * pyramid_l1(output["warped"], target, weight=weight),
            "person painted": 2
            * weighted_mean((output["painted"] - target).abs(), weight * (0.1 + blend.detach())),
        }
        return parts | {f"puppet {name}": part for name, part in self.puppets.losses(rng).items()}
