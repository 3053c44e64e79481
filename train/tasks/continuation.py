"""Learning to continue keypoints (Monkey-Net, image-to-video translation).

Trained with L1, as published: from one frame the network predicts the median of what might come,
which is a movement only where the first frame shows which way things go.
"""

from __future__ import annotations

import torch
from torch import Tensor

from livepuppet.model.prediction import MotionPredictor, loss_parts
from livepuppet.train.data.sequences import Sequences, even_windows
from livepuppet.train.loop.distributed import rank_slice
from livepuppet.train.loop.task import Task

#: As published for moving GIFs.
BATCH, LEARNING_RATE = 256, 1e-3


class ContinuationTask(Task):
    """Continue random windows of frames; every clip is equally likely, whatever its length.

    Args:
        predictor: to train.
        data: keypoints of clips of at least `predictor.config.frames` frames each.
        batch: windows per step.
    """

    name = "motion"
    model: MotionPredictor
    shared_batches = True

    def __init__(self, predictor: MotionPredictor, data: Sequences, batch: int = BATCH):
        self.model, self.trained = predictor, predictor
        self.sequences, self.batch = data, batch
        self.starts, self.lengths = torch.tensor(data.starts), torch.tensor(data.lengths)

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        config = self.model.config
        clips = torch.randint(len(self.sequences), (self.batch,), generator=rng)
        room = self.lengths[clips] - config.frames + 1
        offsets = (torch.rand(self.batch, generator=rng, dtype=torch.float64) * room).long()
        rows = (self.starts[clips] + offsets)[rank_slice(self.batch)].to(self.sequences.points.device)
        points, matrices = self.sequences.windows(rows, config.frames)
        given = config.from_frames
        predicted, predicted_matrices = self.model(points[:, :given], matrices[:, :given])
        return loss_parts(predicted, predicted_matrices, points, matrices, config)


def note_means(predictor: MotionPredictor, data: Sequences) -> None:
    """Keep in the predictor what the training clips do on average, to be compared with."""
    config = predictor.config
    points, _ = data.windows(even_windows(data, config.frames), config.frames)
    predictor.mean_position.copy_(points.mean(0))
    predictor.mean_offset.copy_((points - points[:, config.from_frames - 1 : config.from_frames]).mean(0))
