"""Train the three close-up networks on a folder of crops; see `tasks.close_up`.

python -m livepuppet.train.people.crops FOLDER/validation 10 14
python -m livepuppet.train.people.crops FOLDER/training 1000 1120
python -m livepuppet.train.recipes.close_up eye FOLDER OUTPUT --minutes 120
python -m livepuppet.train.recipes.close_up mouth FOLDER OUTPUT --minutes 120
python -m livepuppet.train.recipes.close_up head FOLDER OUTPUT --minutes 120
python -m livepuppet.export.close_ups OUTPUT close-ups.onnx

Trained networks learn something more with `--init FOLDER --learning-rate 5e-4`, and so do those that ship, with
`--init realtime/data/rig/close-ups.onnx`.

On a GPU `--minutes 10 --batch 1024 --learning-rate 3e-3` are enough, for all three at once.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from livepuppet.core.errors import UserError
from livepuppet.export.close_ups import CONFIGS, load_close_up
from livepuppet.model.close_up import CloseUp
from livepuppet.model.lite import ConvNorm
from livepuppet.train.loop.precision import PRECISIONS, choose_device, choose_precision
from livepuppet.train.loop.trainer import Trainer
from livepuppet.train.tasks.close_up import (
    KINDS,
    CloseUpTask,
    CropPool,
    close_up_scores,
    framed,
    roll_of,
)

logger = logging.getLogger(__name__)


def train_close_up(
    kind: str,
    folder: Path,
    output: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int = 64,
    learning_rate: float = 2e-3,
    device: str = "auto",
    precision: str = "fp32",
    seed: int = 0,
    resume: bool = False,
    init: Path | None = None,
) -> dict[str, float]:
    """Train the network of one kind of crop, and score its EMA after each checkpoint.

    Args:
        kind: "eye", "mouth" or "head".
        folder: holds the shards `training/crops-*.npz` and `validation/crops-*.npz`.
        output: folder of the checkpoint, and of the EMA's weights, KIND.safetensors.
        steps, minutes: the budget; one of them.
        batch: crops per step.
        learning_rate: the peak.
        device: see `choose_device`.
        precision: see `choose_precision`. "bf16" is a fifth faster on CPUs with AMX (Sapphire Rapids and later).
        resume: go on from the checkpoint in `output`, if there is one.
        init: folder with the KIND.safetensors to begin with, or the graph of all three that `export.close_ups` wrote.

    Returns:
        `close_up_scores` of the EMA on the validation shards.

    Raises:
        UserError: the folders hold no crops that can be used, or `init` no weights of this network.
        TrainingError: there is no such device, or the training was stopped.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.backends.cudnn.benchmark = True
    began = time.perf_counter()
    task = CloseUpTask(CropPool(folder / "training", kind, chosen), batch)
    if init is not None:
        begun = of_graph(init, kind, task.pool) if init.suffix == ".onnx" else load_close_up(init, kind)
        task.model.load_state_dict(begun.state_dict())
    validation = CropPool(folder / "validation", kind, chosen)
    logger.info("%d crops read in %.0f s", len(task.pool.pictures), time.perf_counter() - began)
    # A GPU reads more of them in the time that it takes to start.
    pairs = 512 if chosen.type == "cuda" else 32

    def scores_of(trainer: Trainer) -> dict[str, float]:
        return close_up_scores(trainer.ema.module, validation, pairs=pairs)

    def score(trainer: Trainer) -> None:
        weights = {name: value.cpu().contiguous() for name, value in trainer.ema_state.items()}
        save_file(weights, output / f"{kind}.safetensors")
        scores = scores_of(trainer)
        logger.info("step %d: %s", trainer.step, ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))

    trainer = Trainer(
        task,
        output / kind,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        precision=choose_precision(precision, chosen),
        seed=seed,
        save_every=60.0 if chosen.type == "cuda" else 120.0,
        on_save=score,
        fingerprint={"network": task.name, "batch": batch, "seed": seed},
    )
    if resume:
        trainer.resume()
    trainer.run()
    return scores_of(trainer)


@torch.no_grad()
def of_graph(path: Path, kind: str, pool: CropPool, batches: int = 4, pairs: int = 64) -> CloseUp:
    """The network of one kind out of an exported graph, ready to train.

    Export folds batch norms into the convolutions before them. Here each gets back the statistics of its layer on crops of `pool`,
    and the scale and shift that undo them, so that the network gives what the graph gives.

    Raises:
        UserError: the file is no graph of these networks.
    """
    import onnx
    from onnx import numpy_helper

    network = CloseUp(CONFIGS[kind]).to(pool.device).eval()
    try:
        graph = {one.name: one for one in onnx.load(path).graph.initializer}

        def read(name: str) -> torch.Tensor:
            return torch.from_numpy(numpy_helper.to_array(graph[f"{kind}.{name}"]).copy()).to(pool.device)

        state = network.state_dict()
        known = {
            name: read(name).view_as(value) for name, value in state.items() if f"{kind}.{name}" in graph
        }
        layers = {name: one for name, one in network.named_modules() if isinstance(one, ConvNorm)}
        shifts = {layers[name]: read(f"{name}.0.weight_bias") for name in layers}
        network.load_state_dict(state | known)
    except Exception as error:
        raise UserError(f"{path} is no graph of close-up networks ({error!r}).") from error

    def give_back(layer: nn.Module, inputs: tuple[torch.Tensor], _: object) -> torch.Tensor:
        assert isinstance(layer, ConvNorm)
        convolution, norm = layer[0], layer[1]
        assert (
            isinstance(norm, nn.BatchNorm2d)
            and norm.running_mean is not None
            and norm.running_var is not None
        )
        values = convolution(inputs[0])
        norm.running_mean.copy_(values.mean((0, 2, 3)))
        norm.running_var.copy_(values.var((0, 2, 3)))
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(shifts[layer] + norm.running_mean)
        return layer.forward(inputs[0])

    hooks = [layer.register_forward_hook(give_back) for layer in layers.values()]
    rng = torch.Generator().manual_seed(0)
    size, roll = CONFIGS[kind].size, roll_of(kind)
    network(torch.cat([framed(pool.pairs(pairs, rng), size, rng, roll=roll).picture for _ in range(batches)]))
    for hook in hooks:
        hook.remove()
    return network


def main() -> None:
    """The command in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--init", type=Path)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    train_close_up(
        given.kind,
        given.folder,
        given.output,
        steps=given.steps,
        minutes=given.minutes,
        batch=given.batch,
        learning_rate=given.learning_rate,
        device=given.device,
        precision=given.precision,
        resume=given.resume,
        init=given.init,
    )


if __name__ == "__main__":
    main()
