"""How much of each motion a model transfers, on puppets it never saw.

*Response*: the change of the image, projected onto the true change; 1 is right, 0 is none. L1 would
reward a blurred eye for every blink it half shows; the response does not. The ceiling for warping
is the response of the avatar under the *true* flow: what no warp can show (a mouth's inside, closed
lids), a model has to generate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from livepuppet.model.geometry import warp
from livepuppet.model.transfer import transfer
from livepuppet.train.metrics.inference import device_of, evaluating
from livepuppet.train.puppets.identities import Identity, Motion, draw_identities, draw_motions, generator
from livepuppet.train.puppets.renderer import Rendering, render, true_flow, visible_keypoints

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

#: One more factor: any pose and expression to any other, as in training.
FREE = "free"

#: Factors by what moves, so that no group dominates a mean.
GROUPS = {
    "head": ("yaw", "pitch", "roll", "shift", "scale"),
    "mouth": ("open", "smile", "pucker"),
    "eyes": ("blink", "wink", "gaze", "brow"),
}


@dataclass
class Probe:
    """Puppets of which one factor changes, with the truth, and another puppet in the same motion.

    Attributes:
        factor: its name.
        source, truth: (B, 3, S, S) before and after.
        driver, driver_after: (B, 3, S, S) the other puppet before and after.
        warped: (B, 3, S, S) the source under the true flow, nothing generated.
        points, points_after: (B, K, 2) exact keypoints of `source` and `truth`, in [-1, 1].
        driver_points, driver_points_after: the same of the other puppet.
        seen: (B, K) 1 where the keypoint can be seen in both source and truth.
        source_shown: (B, S, S) 1 where the source shows what is there in the truth.
    """

    factor: str
    source: Tensor
    truth: Tensor
    driver: Tensor
    driver_after: Tensor
    warped: Tensor
    points: Tensor
    points_after: Tensor
    driver_points: Tensor
    driver_points_after: Tensor
    seen: Tensor
    source_shown: Tensor


def draw_probes(
    identities: int = 12,
    seed: int = 77,
    size: int = 256,
    factors: tuple[str, ...] = tuple(CHANGES),
    setting: str = "plain",
) -> list[Probe]:
    """Render the probes of some factors; identities, poses and drivers follow from the seed and the
    setting.
    """
    rng = generator(seed)
    puppets = draw_identities(2 * identities, rng, setting)
    base = draw_motions(identities, rng).values * 0.35
    base = Motion(base).replace(open=0.0, pucker=0.0, blink_left=0.0, blink_right=0.0)
    free = draw_motions(identities, rng), draw_motions(identities, rng)
    drivers, avatars = puppets[identities:], puppets[:identities]
    drawn = _draw(avatars, base, size), _draw(drivers, base, size)
    probes = []
    for factor in factors:
        if factor == FREE:
            before, after = free
            source, driver = _draw(avatars, before, size), _draw(drivers, before, size)
        else:
            before, (source, driver) = base, drawn
            amounts = CHANGES[factor].items()
            after = base.replace(**{name: getattr(base, name) + amount for name, amount in amounts})
        truth, driver_after = _draw(avatars, after, size), _draw(drivers, after, size)
        flow, shown = _join(
            true_flow(avatars[k : k + 1], _row(truth, k), before[k : k + 1], _row(source, k))
            for k in range(identities)
        )
        probes.append(
            Probe(
                factor,
                source.picture,
                truth.picture,
                driver.picture,
                driver_after.picture,
                warp(source.picture, flow, "border"),
                source.points,
                truth.points,
                driver.points,
                driver_after.points,
                visible_keypoints(source.points, source.layer) * visible_keypoints(truth.points, truth.layer),
                shown,
            )
        )
    return probes


PARTS = ("picture", "surface", "layer", "points", "jacobians")


def _draw(identity: Identity, motion: Motion, size: int) -> Rendering:
    """Render one after the other: a whole batch does not fit into a CPU's caches."""
    drawn = [render(identity[k : k + 1], motion[k : k + 1], size) for k in range(len(identity))]
    return Rendering(*_join(tuple(getattr(one, name) for name in PARTS) for one in drawn))


def _row(drawn: Rendering, k: int) -> Rendering:
    return Rendering(*(getattr(drawn, name)[k : k + 1] for name in PARTS))


def _join(rows) -> tuple[Tensor, ...]:
    return tuple(torch.cat(column) for column in zip(*rows, strict=True))


def response(before: Tensor, after: Tensor, source: Tensor, truth: Tensor) -> float:
    """Projection of the shown change (after - before) on the true one (truth - source), mean over
    the batch.
    """
    true_change = (truth - source).flatten(1)
    shown = (after - before).flatten(1)
    return ((shown * true_change).sum(1) / true_change.square().sum(1).clamp_min(1e-6)).mean().item()


@torch.no_grad()
def responses(model, probes: list[Probe]) -> dict[str, dict[str, float]]:
    """Responses and errors per factor.

    Returns:
        "self": response when driven by the puppet's own change; "cross": by another puppet's,
        relative transfer; "warp": as self, of the warped avatar alone; "true flow": of the avatar
        under the true flow.
        "l1", "copy", "true flow l1": mean absolute errors, images in [0, 1], of the cross output,
        of the avatar left alone, and under the true flow.
        "explained": 1 - squared error of the cross output over the avatar's; falls below 0 where it
            does harm.
        "keypoint slope": the detected keypoints' displacement projected on the true one, avatars
            and drivers: 1 is right.
        "flow px", "cross flow px", "still px": distance, at the true driving keypoints that are to
        be seen, of the source place that the model's deformation names (driven by itself, by the
        other puppet) from the true one, and that of no motion, in pixels. What a model does not
        have (deformation, landmarks as keypoints) is left out.
    """
    table: dict[str, dict[str, float]] = {}
    at_rest: dict[tuple[int, int], tuple] = {}
    with evaluating(model):
        for probe in probes:
            rows: dict[str, list[float]] = {}
            moved_by, displaced = [], []
            for k in range(len(probe.source)):
                # Nearly all factors start from the same images.
                key = (id(probe.source), k)
                if key not in at_rest:
                    at_rest[key] = _at_rest(model, probe, k)
                for name, value in _one(model, probe, k, at_rest[key], moved_by, displaced).items():
                    rows.setdefault(name, []).append(value)
            table[probe.factor] = {name: sum(values) / len(values) for name, values in rows.items()}
            if moved_by:
                found, true = torch.cat(moved_by), torch.cat(displaced)
                slope = (found * true).sum() / true.square().sum().clamp_min(1e-9)
                table[probe.factor]["keypoint slope"] = slope.item()
    return table


def _at_rest(model, probe: Probe, k: int) -> tuple:
    """A puppet's keypoints, its driver's, its features, and its image when nothing moves."""
    one, device = slice(k, k + 1), device_of(model)
    source = probe.source[one].to(device)
    avatar, features = model.detect(source), model.encode(source)
    before = model.render(features, *avatar, *avatar)["prediction"]
    return avatar, model.detect(probe.driver[one].to(device)), features, before


def _one(
    model, probe: Probe, k: int, at_rest: tuple, moved_by: list[Tensor], displaced: list[Tensor]
) -> dict[str, float]:
    """Figures of one puppet of a probe; found and true displacements of keypoints are put on the
    lists.
    """
    one, device = slice(k, k + 1), device_of(model)
    source, truth, driver_after = (
        image[one].to(device) for image in (probe.source, probe.truth, probe.driver_after)
    )
    avatar, initial, features, before = at_rest
    own, later = model.detect(truth), model.detect(driver_after)
    moved = model.render(features, *avatar, *own)
    across = model.render(features, *avatar, *transfer(avatar, initial, later))
    shown, ideal = across["prediction"], probe.warped[one].to(device)
    row = {
        "self": response(before, moved["prediction"], source, truth),
        "cross": response(before, shown, source, truth),
    }
    if "warped" in moved:
        row["warp"] = response(source, moved["warped"], source, truth)
    row |= {
        "true flow": response(source, ideal, source, truth),
        "l1": (shown - truth).abs().mean().item(),
        "copy": (source - truth).abs().mean().item(),
        "true flow l1": (ideal - truth).abs().mean().item(),
        "explained": 1
        - ((shown - truth).square().sum() / (source - truth).square().sum().clamp_min(1e-6)).item(),
    }
    if avatar[0].shape[1] != probe.points.shape[1]:
        return row
    moved_by += [(own[0] - avatar[0])[0].cpu(), (later[0] - initial[0])[0].cpu()]
    displaced += [
        (probe.points_after - probe.points)[k],
        (probe.driver_points_after - probe.driver_points)[k],
    ]
    if "deformation" in moved and probe.seen[k].sum() > 0:
        points, after, seen = probe.points[one], probe.points_after[one], probe.seen[k]
        half = (source.shape[-1] - 1) / 2

        def away(places: Tensor) -> float:
            distance = (places - points).norm(dim=-1)[0]
            return ((distance * seen).sum() / seen.sum()).item() * half

        row["flow px"] = away(flow_at(moved["deformation"].cpu(), after))
        row["cross flow px"] = away(flow_at(across["deformation"].cpu(), after))
        row["still px"] = away(after)
    return row


def flow_at(deformation: Tensor, points: Tensor) -> Tensor:
    """A sampling grid (B, h, w, 2) at points (B, N, 2): (B, N, 2), all in [-1, 1]."""
    planes = deformation.permute(0, 3, 1, 2).float()
    return warp(planes, points[:, None], "border")[:, :, 0].transpose(1, 2)


def grouped(table: dict[str, dict[str, float]], name: str = "cross") -> dict[str, float]:
    """Means over `GROUPS`, each response clipped to [0, 1], so that overshoot does not compensate
    for a lack.
    """
    held = {factor: min(max(row[name], 0.0), 1.0) for factor, row in table.items()}
    means = {}
    for group, factors in GROUPS.items():
        there = [held[factor] for factor in factors if factor in held]
        if there:
            means[group] = sum(there) / len(there)
    return means


#: Standard deviation in pixels of 256 of the keypoints of a still face under a webcam's noise.
JITTER = 0.5


@torch.no_grad()
def at_rest(model, images: Tensor, jitter: float = JITTER, seed: int = 5) -> list[dict[str, float]]:
    """How well each avatar is reproduced when nothing moves, and when keypoints have noise.

    Args:
        images: (B, 3, S, S).
        jitter: deviation of every coordinate of the driving keypoints, in pixels of 256.

    Returns:
        one row each: "levels", mean difference in levels of 255; "sharpness", variance of the
        Laplacian over the avatar's; "trembling levels" and "trembling sharpness", the same under
        keypoint noise (mean of two draws).
    """
    rng, device, rows = generator(seed), device_of(model), []
    with evaluating(model):
        for image in images.to(device).split(1):
            points, jacobians = model.detect(image)
            features = model.encode(image)

            def shown(amount: float, found=(points, jacobians), features=features) -> Tensor:
                noise = torch.randn(found[0].shape, generator=rng).to(found[0]) * amount * 2 / 255
                return model.render(features, *found, found[0] + noise, found[1])["prediction"]

            back, trembling = shown(0.0), [shown(jitter) for _ in range(2)]
            rows.append(
                {
                    "levels": (back - image).abs().mean().item() * 255,
                    "sharpness": (sharpness(back) / sharpness(image).clamp_min(1e-9)).item(),
                    "trembling levels": sum((one - image).abs().mean().item() for one in trembling) / 2 * 255,
                    "trembling sharpness": sum(
                        (sharpness(one) / sharpness(image).clamp_min(1e-9)).item() for one in trembling
                    )
                    / 2,
                }
            )
    return rows


def sharpness(images: Tensor) -> Tensor:
    """Variance of the Laplacian of the gray images (B, 3, H, W): (B,)."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None].to(images)
    return torch.nn.functional.conv2d(images.mean(1, keepdim=True), kernel).flatten(1).var(1)


def mean_rows(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {
        name: sum(row[name] for row in rows if name in row) / sum(name in row for row in rows)
        for name in names
    }
