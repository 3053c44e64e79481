"""Figures on clips of real faces, for which nobody knows the truth: optical flow and the frames themselves stand in.

*Following*: keypoints' motion over `STEP` frames against optical flow, and the model's dense motion against it.
*Reconstruction*: each frame from the clip's first, beside leaving that alone and beside the bare warp. *Mouth*: how much
of a mouth's opening is shown. *Steadiness*: keypoints of a face that holds still. *Confidence*: on faces, and on the
same pictures cut into tiles and shuffled, which show none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from livepuppet.model.geometry import make_grid
from livepuppet.model.lite import LANDMARKS
from livepuppet.train.data.reading import DataError, at_size, list_clips, part_of, read_frames
from livepuppet.train.deform import Deformation, webcam
from livepuppet.train.lite.animator import importance
from livepuppet.train.losses import shrink, weighted_mean
from livepuppet.train.measure.watching import (
    batches,
    device_of,
    evaluating,
    flow_between,
    gray,
    optical_flow,
    to_batch,
)

#: Frames that motion is measured over: a fifth of a second at 25 a second, so that it is larger than the flow's own error.
STEP = 5

#: Most frames of a clip that are looked at.
MOST_FRAMES = 300

#: Optical flow is believed where it leads back to within so many pixels of 256 when it is followed there and back.
AGREE = 1.5

#: Pixels of 256: root mean square flow over `STEP` frames from which on a clip "moves", and mean flow between neighbouring
#: frames below which a face holds still.
MOVES, STILL = 1.0, 0.25

#: A clip shows an open mouth if the lips' gap grows by this share of the mouth's width.
OPENS = 0.3

#: Noise of a webcam indoors: of reading (levels of 255), and of light (its square per level).
READ_NOISE, LIGHT_NOISE = 2.0, 0.12

#: Keypoints left out of the face's mean motion: they are often covered, or, the irises, move by themselves.
NOT_FACE = ("collar", "chin", "forehead", "iris")

MOUTH = ("left mouth corner", "right mouth corner", "upper lip", "lower lip")


# ---------------------------------------------------------------------------------------------------------------- clips


@dataclass(frozen=True)
class FaceClip:
    """A clip of one face, and pairs of its frames with the optical flow between them.

    Attributes:
        name: its file's name.
        frames: uint8 RGB (T, S, S, 3).
        first: (N,) numbers of the pairs' earlier frames; the later ones are `step` on.
        step: frames between the two.
        there, back: float32 (N, S, S, 2) in pixels, flow from the earlier frame to the later one and back.
        there_agrees, back_agrees: bool (N, S, S), whether the two undo each other.
    """

    name: str
    frames: np.ndarray
    first: np.ndarray
    step: int
    there: np.ndarray
    back: np.ndarray
    there_agrees: np.ndarray
    back_agrees: np.ndarray

    @property
    def movement(self) -> float:
        """Root mean square of the flow in the middle of the picture, in pixels of 256."""
        inside = middle(self.frames.shape[1])
        return float(np.sqrt(np.square(self.back[:, inside]).sum(-1).mean()) * 256 / self.frames.shape[1])

    @property
    def moves(self) -> bool:
        return self.movement >= MOVES


def face_clip(name: str, frames: np.ndarray, pairs: int = 24, step: int = STEP) -> FaceClip:
    """Pair frames uint8 RGB (T, S, S, 3), T >= 2, evenly over the clip, and compute the flow between them."""
    step = min(step, len(frames) - 1)
    last = len(frames) - 1 - step
    first = np.unique(np.linspace(0, last, min(pairs, last + 1)).round().astype(int))
    earlier, later = gray(frames[first]), gray(frames[first + step])
    there = np.stack([flow_between(a, b) for a, b in zip(earlier, later, strict=True)])
    back = np.stack([flow_between(b, a) for a, b in zip(earlier, later, strict=True)])
    limit = AGREE * frames.shape[1] / 256
    return FaceClip(
        name, frames, first, step, there, back, agreeing(there, back, limit), agreeing(back, there, limit)
    )


def agreeing(there: np.ndarray, back: np.ndarray, limit: float) -> np.ndarray:
    """bool (N, S, S): where `back`, taken where `there` leads, returns to within `limit` pixels; both (N, S, S, 2)."""
    side = there.shape[1]
    place = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).astype(np.float32)
    agrees = np.empty(there.shape[:3], bool)
    for k, (one, other) in enumerate(zip(there, back, strict=True)):
        at = place + one
        returned = cv2.remap(other, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        outside = ((at < 0) | (at > side - 1)).any(-1)
        agrees[k] = (np.linalg.norm(one + returned, axis=-1) < limit) & ~outside
    return agrees


def read_clips(
    folder: Path, size: int, skipped: list[str], limit: int | None = None, pairs: int = 24
) -> Iterator[FaceClip]:
    """The clips of a folder, framed square by their middle; a sentence about each unreadable one goes to `skipped`.

    Raises:
        DataError: there is no folder, or no clip in it.
    """
    clips, unreadable = list_clips(part_of(folder, None))
    skipped += unreadable
    for clip in clips[:limit]:
        try:
            wanted = range(min(clip.length, MOST_FRAMES))
            frames = at_size(read_frames(clip, wanted, size), size)
        except DataError as error:
            skipped.append(str(error))
            continue
        yield face_clip(clip.name, frames, pairs)


def middle(side: int) -> np.ndarray:
    """bool (side, side): the ellipse in which the face of a clip framed square lies, most of the time."""
    y, x = np.mgrid[:side, :side] / (side - 1) * 2 - 1
    return (x / 0.72) ** 2 + (y / 0.84) ** 2 < 1


# ------------------------------------------------------------------------------------------------------------- following


@dataclass(frozen=True)
class Followed:
    """What keypoints did, and what optical flow says they should have done. Pixels of the model's pictures.

    Attributes:
        face, face_flow: (N, 2) mean motion of the keypoints, and of the flow in the inner face.
        points, flow: (N, K, 2) each keypoint's motion, and the flow at its place.
        believed: bool (N, K), whether the flow there is to be believed.
        error, still_error: end-point error of the model's dense motion, and of none, in the middle of the picture.
        names: of the keypoints.
    """

    face: np.ndarray
    face_flow: np.ndarray
    points: np.ndarray
    flow: np.ndarray
    believed: np.ndarray
    error: float | None
    still_error: float
    names: tuple[str, ...]


@torch.no_grad()
def follow(model, clip: FaceClip) -> Followed:
    """Let a model watch the pairs of a clip; its dense motion is that from the earlier frame, as source, to the later."""
    size, device = clip.frames.shape[1], device_of(model)
    half, inside = (size - 1) / 2, middle(size)
    names = tuple(getattr(model.preset, "keypoint_names", ()) or ())
    facial = [k for k, name in enumerate(names) if not any(word in name for word in NOT_FACE)]
    earlier, later, errors, still = [], [], [], []
    place = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(np.float32)
    with evaluating(model):
        for k, first in enumerate(clip.first):
            source, driving = (
                to_batch(clip.frames[number : number + 1]).to(device) for number in (first, first + clip.step)
            )
            own, moved = model.detect(source), model.detect(driving)
            earlier.append((own[0][0].float().cpu().numpy() + 1) * half)
            later.append((moved[0][0].float().cpu().numpy() + 1) * half)
            counts = inside & clip.back_agrees[k]
            if not counts.any():
                continue
            still.append(np.linalg.norm(clip.back[k][counts], axis=-1).mean())
            output = model.render(model.encode(source), *own, *moved)
            if "deformation" in output:
                flow = output["deformation"].float().cpu().permute(0, 3, 1, 2)
                flow = torch.nn.functional.interpolate(
                    flow, (size, size), mode="bilinear", align_corners=True
                )
                shown = (flow[0].permute(1, 2, 0).numpy() + 1) * half - place
                errors.append(np.linalg.norm(shown - clip.back[k], axis=-1)[counts].mean())
    earlier, later = np.stack(earlier), np.stack(later)
    cells = earlier.round().clip(0, size - 1).astype(int)
    rows = np.arange(len(cells))[:, None]
    chosen = facial or list(range(earlier.shape[1]))
    return Followed(
        face=(later - earlier)[:, chosen].mean(1),
        face_flow=_inner_flow(clip, earlier[:, chosen]),
        points=later - earlier,
        flow=clip.there[rows, cells[..., 1], cells[..., 0]],
        believed=clip.there_agrees[rows, cells[..., 1], cells[..., 0]],
        error=float(np.mean(errors)) if errors else None,
        still_error=float(np.mean(still)) if still else 0.0,
        names=names,
    )


def _inner_flow(clip: FaceClip, points: np.ndarray) -> np.ndarray:
    """Mean flow (N, 2) in the box of facial keypoints (N, k, 2) in pixels, where it is to be believed."""
    size, found = clip.frames.shape[1], []
    for k, one in enumerate(points):
        low = np.floor(one.min(0)).clip(0, size - 2).astype(int)
        high = np.maximum(np.ceil(one.max(0)).clip(0, size - 1).astype(int), low + 1)
        box = slice(low[1], high[1] + 1), slice(low[0], high[0] + 1)
        flow, believed = clip.there[k][box], clip.there_agrees[k][box]
        found.append(flow[believed].mean(0) if believed.any() else flow.mean((0, 1)))
    return np.stack(found)


def agreement(found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Correlation (Pearson's) and slope (through the origin: 1 is as far as the flow) of motions (N, 2), across and down."""
    figures = {}
    for axis, name in enumerate("xy"):
        a, b = found[:, axis].astype(np.float64), true[:, axis].astype(np.float64)
        spread = a.std() * b.std()
        across = ((a - a.mean()) * (b - b.mean())).mean()
        figures[f"correlation {name}"] = float(across / spread) if spread > 1e-9 else 0.0
        figures[f"slope {name}"] = float((a * b).sum() / max(float((b * b).sum()), 1e-9))
    return figures


def together(followed: Sequence[Followed]) -> dict[str, float]:
    """Agreement over the pairs of all clips, of the face as a whole and of single keypoints, and mean end-point errors."""
    figures = agreement(
        np.concatenate([one.face for one in followed]), np.concatenate([one.face_flow for one in followed])
    )
    single = agreement(
        np.concatenate([one.points[one.believed] for one in followed]),
        np.concatenate([one.flow[one.believed] for one in followed]),
    )
    figures |= {f"single {name}": value for name, value in single.items()}
    errors = [one.error for one in followed if one.error is not None]
    if errors:
        figures["flow error px"] = float(np.mean(errors))
    figures["no motion px"] = float(np.mean([one.still_error for one in followed]))
    return figures


def by_keypoint(followed: Sequence[Followed]) -> dict[str, dict[str, float]]:
    """Agreement of each keypoint over the pairs of all clips."""
    table = {}
    for k, name in enumerate(followed[0].names):
        rows = [(one.points[one.believed[:, k], k], one.flow[one.believed[:, k], k]) for one in followed]
        found, true = (np.concatenate([row[side] for row in rows]) for side in (0, 1))
        if len(found):
            table[name] = agreement(found, true)
    return table


# -------------------------------------------------------------------------------------------------------- reconstruction


@torch.no_grad()
def reconstruction(model, sources: np.ndarray, frames: np.ndarray) -> dict[str, float]:
    """How near a model comes to frames, driven by them: mean absolute errors in [0, 1], over all sources and frames.

    Args:
        sources: uint8 RGB (N, S, S, 3), the same person.
        frames: uint8 RGB (T, S, S, 3), which drive and should be shown.

    Returns:
        "L1"; "warp L1" of the bare warp; "copy L1" of the source left alone; "face L1", weighted towards eyes and mouth;
        "mouth response", the shown change around the mouth projected on the true one: 1 is right, 0 nothing. L1 alone
        rewards a mouth that hedges.
    """
    rows, shown_change, true_change = [], 0.0, 0.0
    device = device_of(model)
    with evaluating(model):
        for source in sources:
            source = to_batch(source[None]).to(device)
            features, avatar = model.encode(source), model.detect(source)
            for truth in batches(frames, 1):
                truth = truth.to(device)
                driving = model.detect(truth)
                shown = model.render(features, *avatar, *driving)
                weight = importance(driving[0], truth.shape[-1])
                mouth = around_mouth(driving[0], truth.shape[-1])
                change = mouth * (truth - source)
                shown_change += (change * (shown["prediction"] - source)).sum().item()
                true_change += (change * (truth - source)).sum().item()
                rows.append(
                    [
                        (shown["prediction"] - truth).abs().mean().item(),
                        (shown["warped"] - truth).abs().mean().item(),
                        (source - truth).abs().mean().item(),
                        weighted_mean((shown["prediction"] - truth).abs(), weight).item(),
                    ]
                )
    figures = dict(zip(("L1", "warp L1", "copy L1", "face L1"), np.mean(rows, 0).tolist(), strict=True))
    return figures | {"mouth response": shown_change / max(true_change, 1e-9)}


def around_mouth(points: Tensor, size: int) -> Tensor:
    """Weights (B, 1, size, size): a Gaussian of the mouth's width around the middle of corners and lips (B, K, 2)."""
    left, right, upper, lower = (points[:, LANDMARKS.index(name)] for name in MOUTH)
    centre = (left + right + upper + lower)[:, None] / 4
    width = (right - left).norm(dim=-1).clamp(0.05, 0.5)
    grid = make_grid(size, size).to(points)
    return torch.exp(
        -0.5 * (grid - centre[:, :, None]).square().sum(-1) / (width[:, None, None] / 2).square()
    )[:, None]


def mouth_opening(model, frames: np.ndarray, points: np.ndarray, count: int = 4) -> dict[str, float]:
    """How much of a mouth's opening is shown.

    Args:
        frames: uint8 RGB (T, S, S, 3).
        points: (T, K, 2) in pixels, detected in them.

    Returns:
        "lip gap px", between its 2nd and 98th percentile; "lip gap", the same over the mouth's width; and where that is at
        least `OPENS`, "open mouth response": of `count` frames with the widest gap, from one with a small one.
    """
    left, right, upper, lower = (points[:, LANDMARKS.index(name)] for name in MOUTH)
    gap = np.linalg.norm(lower - upper, axis=-1)
    low, high = np.percentile(gap, (2, 98))
    width = float(np.median(np.linalg.norm(right - left, axis=-1)))
    figures = {"lip gap px": float(high - low), "lip gap": float((high - low) / max(width, 1.0))}
    if figures["lip gap"] >= OPENS:
        order = np.argsort(gap)
        shut, wide = order[len(order) // 20], order[-count:]
        figures["open mouth response"] = reconstruction(model, frames[shut : shut + 1], frames[wide])[
            "mouth response"
        ]
    return figures


# ------------------------------------------------------------------------------------------------------------ steadiness


@torch.no_grad()
def watch(model, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Keypoints (T, K, 2) in pixels of frames uint8 RGB (T, S, S, 3), and confidence (T, K) where the model tells it."""
    sure = hasattr(model, "detect_with_confidence")
    points, confidence = [], []
    with evaluating(model):
        for batch in batches(frames):
            batch = batch.to(device_of(model))
            found = model.detect_with_confidence(batch) if sure else model.detect(batch)
            points.append(found[0].float().cpu().numpy())
            if sure:
                confidence.append(found[2].float().cpu().numpy())
    pixels = (np.concatenate(points) + 1) * (frames.shape[1] - 1) / 2
    return pixels, np.concatenate(confidence) if sure else None


def wandering(points: np.ndarray, flow: np.ndarray) -> float | None:
    """Mean step of keypoints (T, K, 2) between neighbouring frames where the face holds still, in pixels.

    Args:
        flow: (T - 1, S, S, 2) of `optical_flow`.

    Returns:
        None where it never holds still: fewer than three steps with a mean flow below `STILL`.
    """
    side = flow.shape[1]
    amount = np.linalg.norm(flow[:, middle(side)], axis=-1).mean(1) * 256 / side
    still = amount < STILL
    if still.sum() < 3:
        return None
    return float(np.linalg.norm(np.diff(points, axis=0)[still], axis=-1).mean())


def trembling(model, picture: np.ndarray, count: int = 8, seed: int = 11) -> float:
    """Root mean square step of keypoints, in pixels, of one uint8 RGB (S, S, 3) under a webcam's noise, drawn anew."""
    random = np.random.default_rng(seed)
    light = np.broadcast_to(picture.astype(np.float32), (count, *picture.shape))
    deviation = np.sqrt(READ_NOISE**2 + LIGHT_NOISE * light)
    noisy = light + deviation * random.standard_normal(light.shape, np.float32)
    points, _ = watch(model, noisy.round().clip(0, 255).astype(np.uint8))
    return float(np.sqrt(np.square(np.diff(points, axis=0)).sum(-1).mean()))


def shuffled(picture: np.ndarray, tiles: int = 8, seed: int = 2) -> np.ndarray:
    """A picture uint8 RGB (S, S, 3) cut into tiles x tiles squares in a random order: its colours, and no face."""
    side = picture.shape[0] // tiles
    rows = picture[: side * tiles, : side * tiles].reshape(tiles, side, tiles, side, 3).swapaxes(1, 2)
    order = np.random.default_rng(seed).permutation(tiles * tiles)
    mixed = rows.reshape(-1, side, side, 3)[order].reshape(tiles, tiles, side, side, 3).swapaxes(1, 2)
    return at_size(mixed.reshape(1, side * tiles, side * tiles, 3), picture.shape[0])[0]


def faceless(size: int, seed: int = 3) -> np.ndarray:
    """Pictures uint8 RGB (6, size, size, 3) without any face: plain, shaded, noise fine and coarse, stripes, boxes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    coarse = cv2.resize(
        random.random((6, 6, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    boxes = np.full((size, size, 3), 0.7)
    for _ in range(8):
        left, top, width, height = (random.random(4) * [0.8, 0.8, 0.4, 0.4] * size).astype(int)
        boxes[top : top + height, left : left + width] = random.random(3)
    pictures = [
        np.full((size, size, 3), 0.5),
        np.repeat((0.2 + 0.6 * x)[..., None], 3, -1),
        random.random((size, size, 3)),
        coarse,
        np.repeat((0.5 + 0.4 * np.sin(40 * (x + 0.5 * y)))[..., None], 3, -1),
        boxes,
    ]
    return (np.stack(pictures) * 255).round().clip(0, 255).astype(np.uint8)


@torch.no_grad()
def steadiness(model, frames: np.ndarray, flow: np.ndarray) -> dict[str, float]:
    """How well keypoints of a lite model follow a face; lengths in pixels of the model's pictures.

    Args:
        frames: uint8 RGB (T, S, S, 3), neighbours in time.
        flow: of `optical_flow`.

    Returns:
        "wander px": how far a keypoint is from where it was found, when the picture is turned, darkened or noisy;
        "flow error px" and "flow slope" of keypoints' motion against the flow at their places (1 is right);
        "lip range px", "lid range px": between the 2nd and 98th percentile of the gap.
    """
    rng = torch.Generator().manual_seed(3)
    half = (frames.shape[1] - 1) / 2
    points, apart = [], []
    with evaluating(model):
        for picture in batches(frames):
            picture = shrink(picture, 2)
            found = model.detector.from_half(picture)[0]
            points.append(found)
            for strength in (0.0, 0.0, 0.5, 0.5):
                change = Deformation.similarity(len(picture), rng, picture, 0.12, 0.12, 0.06)
                seen = webcam(change.picture(picture), rng, strength) if strength else change.picture(picture)
                again = change.points(model.detector.from_half(seen)[0])
                apart.append((again - found).norm(dim=-1).mean().item() * half)
    points = torch.cat(points).numpy()
    pixels = (points + 1) * half
    moved = np.diff(pixels, axis=0)
    places = pixels[:-1].round().clip(0, frames.shape[1] - 1).astype(int)
    true = flow[np.arange(len(flow))[:, None], places[..., 1], places[..., 0]]

    def gap(lower: str, upper: str) -> float:
        rows = [[k for k, name in enumerate(LANDMARKS) if word in name] for word in (lower, upper)]
        below, above = (pixels[:, k, 1].mean(1) for k in rows)
        low, high = np.percentile(below - above, (2, 98))
        return float(high - low)

    return {
        "wander px": float(np.mean(apart)),
        "flow error px": float(np.linalg.norm(moved - true, axis=-1).mean()),
        "flow slope": float((moved * true).sum() / max(float((true * true).sum()), 1e-6)),
        "lip range px": gap("lower lip", "upper lip"),
        "lid range px": gap("lower lid", "upper lid"),
    }


# --------------------------------------------------------------------------------------------------------------- a clip


def few(frames: np.ndarray, count: int = 16) -> np.ndarray:
    """At most `count` of the frames, evenly spaced."""
    return frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)]


def figures(model, clip: FaceClip, followed: Followed, count: int = 24) -> dict[str, float | bool | None]:
    """All figures of one clip; names with "px" are in pixels of the model's pictures. What cannot be said is left out."""
    points, confidence = watch(model, clip.frames)
    row: dict[str, float | bool | None] = {"frames": len(clip.frames), "movement px": clip.movement}
    row |= reconstruction(model, clip.frames[:1], few(clip.frames[1:], count))
    row |= together([followed])
    row["moves"] = clip.moves
    row["better than no motion"] = None
    if clip.moves and followed.error is not None:
        row["better than no motion"] = followed.error < followed.still_error
    row |= mouth_opening(model, clip.frames, points)
    row["still wander px"] = wandering(points, optical_flow(clip.frames))
    row["noise wander px"] = trembling(model, clip.frames[0])
    if confidence is not None:
        row["confidence"] = float(confidence.mean())
        tiles = np.stack([shuffled(frame) for frame in few(clip.frames, 3)])
        row["confidence, shuffled"] = float(watch(model, tiles)[1].mean())
    return {name: value for name, value in row.items() if value is not None}
