"""Seeded weights with which a model does something, without a training."""

from __future__ import annotations


def lively(model, seed: int):
    """Give a first-order model seeded weights with which every stage carries signal, as after training.

    Fresh ones draw an almost plain gray, in which nothing that goes wrong can be seen.
    """
    import torch

    torch.manual_seed(seed)
    gains = {
        "kp.weight": 3.0,
        "jacobian.weight": 0.2,
        "mask.weight": 3.0,
        "occlusion.weight": 3.0,
        "final.weight": 2.0,
    }
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.dim() == 4 and not name.endswith("down.weight"):
                gain = next((gain for end, gain in gains.items() if name.endswith(f".{end}")), 1.0)
                tensor.normal_(0, gain * (2 / tensor[0].numel()) ** 0.5)
    return model.eval()
