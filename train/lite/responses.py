"""How much of each motion a model shows, on puppets it never saw.

*Response*: the change in the picture, projected on the true change; 1 is right, 0 nothing. Plain L1 would reward a
blurred eye for every blink it half shows; the response does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from livepuppet.train.lite.animator import transfer
from livepuppet.train.puppets.identities import Identity, Motion, draw_identities, draw_motions, generator
from livepuppet.train.puppets.renderer import render

#: Factor -> the amounts that change from the neutral pose.
CHANGES: dict[str, dict[str, float]] = {
    "yaw": {"yaw": 0.35},
    "pitch": {"pitch": 0.2},
    "roll": {"roll": 0.25},
    "shift": {"shift_x": 0.15, "shift_y": 0.06},
    "scale": {"scale": 0.15},
    "open": {"open": 0.8},
    "smile": {"smile": 0.9},
    "pucker": {"pucker": 0.8},
    "blink": {"blink_left": 1.0, "blink_right": 1.0},
    "wink": {"blink_left": 1.0},
    "gaze": {"gaze_x": 0.8},
    "brow": {"brow_left": 0.8, "brow_right": 0.8},
}


@dataclass
class Probe:
    """Puppets of which one factor changes, with the truth and another puppet in the same motion.

    Attributes:
        factor: its name.
        source, truth: (B, 3, S, S) before and after.
        driver, driver_after: (B, 3, S, S) the other puppet before and after.
    """

    factor: str
    source: Tensor
    truth: Tensor
    driver: Tensor
    driver_after: Tensor


def draw_probes(
    identities: int = 12, seed: int = 77, size: int = 256, factors: tuple[str, ...] = tuple(CHANGES)
) -> list[Probe]:
    """Render the probes of some factors; identities, poses and drivers follow from the seed."""
    rng = generator(seed)
    puppets = draw_identities(2 * identities, rng)
    base = draw_motions(identities, rng).values * 0.35
    base = Motion(base).replace(open=0.0, pucker=0.0, blink_left=0.0, blink_right=0.0)
    drivers, avatars = puppets[identities:], puppets[:identities]

    def draw(identity: Identity, motion: Motion) -> Tensor:
        return torch.cat(
            [render(identity[k : k + 1], motion[k : k + 1], size).picture for k in range(len(identity))]
        )

    source, driver = draw(avatars, base), draw(drivers, base)
    probes = []
    for factor in factors:
        amounts = CHANGES[factor]
        after = base.replace(**{name: base.__getattr__(name) + amount for name, amount in amounts.items()})
        probes.append(Probe(factor, source, draw(avatars, after), driver, draw(drivers, after)))
    return probes


def response(before: Tensor, after: Tensor, source: Tensor, truth: Tensor) -> float:
    """Projection of the shown change (after - before) on the true one (truth - source), mean over the batch."""
    true_change = (truth - source).flatten(1)
    shown = (after - before).flatten(1)
    return ((shown * true_change).sum(1) / true_change.square().sum(1).clamp_min(1e-6)).mean().item()


@torch.no_grad()
def responses(model, probes: list[Probe]) -> dict[str, dict[str, float]]:
    """Responses per factor.

    Returns:
        "self": driven by the puppet's own change; "cross": by another puppet's, relative transfer; "warp": as self,
        the bare warp without painting; "l1" and "copy": mean absolute error of the cross output and of the avatar.
    """
    was = model.training
    model.eval()
    table: dict[str, dict[str, float]] = {}
    for probe in probes:
        rows = {"self": [], "cross": [], "warp": [], "l1": [], "copy": []}
        for k in range(len(probe.source)):
            one = slice(k, k + 1)
            source, truth = probe.source[one], probe.truth[one]
            avatar, own = model.detect(source), model.detect(truth)
            initial, later = model.detect(probe.driver[one]), model.detect(probe.driver_after[one])
            features = model.encode(source)
            before = model.render(features, *avatar, *avatar)["prediction"]
            moved = model.render(features, *avatar, *own)
            across = model.render(features, *avatar, *transfer(avatar, initial, later))["prediction"]
            rows["self"].append(response(before, moved["prediction"], source, truth))
            rows["cross"].append(response(before, across, source, truth))
            if "warped" in moved:
                rows["warp"].append(response(source, moved["warped"], source, truth))
            rows["l1"].append((across - truth).abs().mean().item())
            rows["copy"].append((source - truth).abs().mean().item())
        table[probe.factor] = {name: sum(values) / len(values) for name, values in rows.items() if values}
    model.train(was)
    return table


@torch.no_grad()
def identity_error(model, probes: list[Probe]) -> tuple[float, float]:
    """What comes back when nothing moves: mean difference in levels of 255, and sharpness over the avatar's.

    Sharpness is the variance of the Laplacian.
    """
    was = model.training
    model.eval()
    source = probes[0].source
    back = []
    for k in range(len(source)):
        keypoints = model.detect(source[k : k + 1])
        back.append(model.render(model.encode(source[k : k + 1]), *keypoints, *keypoints)["prediction"])
    back = torch.cat(back)
    model.train(was)
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]

    def sharpness(picture: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(picture.mean(1, keepdim=True), kernel).flatten(1).var(1)

    return ((back - source).abs().mean() * 255).item(), (sharpness(back) / sharpness(source)).mean().item()
