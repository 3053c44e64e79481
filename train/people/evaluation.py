"""What a model makes of people it never saw: probes like the puppets', and what only a mesh can tell.

The number of a person is its identity: those from `HELD_OUT` on are in no pool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from livepuppet.model.geometry import warp
from livepuppet.model.lite import LANDMARKS
from livepuppet.realtime.rig.pose import HeadPose
from livepuppet.train.metrics.inference import device_of, evaluating
from livepuppet.train.metrics.reading import LENGTH, RATE, Performance
from livepuppet.train.metrics.responses import CHANGES, FREE, GROUPS, Probe
from livepuppet.train.metrics.starts import BEGINNING, Started
from livepuppet.train.people import landmarks, motion, truth
from livepuppet.train.people.person import Person
from livepuppet.train.people.shards import person_and_scene, renderer_of
from livepuppet.train.puppets.identities import Motion, generator

#: Persons from this number on are for evaluation.
HELD_OUT = 10_000_000

#: Numbers of one seed of evaluation.
EACH = 10_000

#: Half the width of the band round a head's outline, in pixels of 256.
BAND = 8

#: Factors at which outline and background are looked at.
MOVING = ("yaw", "roll", "shift", FREE)

#: Parts whose landmark errors are quoted, by a word in their landmarks' names.
PARTS = ("lid", "iris", "brow", "nose", "mouth corner", "lip", "chin", "forehead", "collar")

_IRISES = [LANDMARKS.index(f"{side} iris") for side in landmarks.SIDES]


@dataclass
class PeopleProbe(Probe):
    """A probe of people, with their mattes.

    Attributes:
        head: (B, S, S) the head's alpha in the truth, in [0, 1].
        empty: (B, S, S) 1 where both source and truth show the background.
    """

    head: Tensor
    empty: Tensor


class _Shown:
    """One person in one motion, with what flow and visibility are found from."""

    def __init__(self, renderer, person, scene, values: np.ndarray, whole: bool):
        self.posed = person.pose(values)
        drawn = renderer.draw(person, self.posed, scene)
        self.picture, self.alpha = drawn.colour, drawn.alpha
        self.points, _ = person.coarse_points(self.posed)
        self.triangle = self.weights = self.depth = self.seen = None
        if whole:
            at = renderer.points(person, self.posed, renderer.size)
            self.triangle, self.depth = at.triangle, at.depth
            self.weights = truth.weights_of(person, self.posed, self.triangle)
            labels = np.append(truth.triangle_labels(renderer.assets, person), 0)[self.triangle]
            places = person.coarse_places(self.posed)
            self.seen = truth.seen_points(person, LANDMARKS, places, labels, self.depth)


def draw_people_probes(
    identities: int,
    seed: int,
    size: int,
    factors: tuple[str, ...] = (*CHANGES, FREE),
    setting: str = "people",
) -> list[Probe]:
    """As `responses.draw_probes`, of people; each avatar is driven by another held-out person.

    Where heads move, truth is the movement as the driver's camera sees it: the avatar's eyes go as far as the driver's, in eye
    distances of each. Cameras stand higher and lower, nearer and to the side, so one and the same lean in space takes one face
    upwards in its picture and another one down, which no picture of the driver tells.

    Raises:
        AssetsError: people cannot be drawn here.
    """
    renderer, rng = renderer_of(size), generator(seed)
    calm = motion.widen(motion.draw_people_motions(identities, rng).values[:, : len(motion.FACTORS)] * 0.35)
    calm = Motion(calm).replace(open=0.0, pucker=0.0, blink_left=0.0, blink_right=0.0)
    free = [motion.draw_people_motions(identities, rng) for _ in range(2)]
    columns: dict[str, list[dict[str, np.ndarray]]] = {factor: [] for factor in factors}
    for k in range(identities):
        pairs = {}
        for factor in factors:
            before, after = (free[0], free[1]) if factor == FREE else (calm, calm)
            if factor != FREE:
                amounts = CHANGES[factor].items()
                after = calm.replace(**{name: getattr(calm, name) + value for name, value in amounts})
            pairs[factor] = before.values[k].numpy(), after.values[k].numpy()
        people = [
            person_and_scene(renderer, HELD_OUT + seed * EACH + number, setting)
            for number in (2 * k, 2 * k + 1)
        ]
        (avatar, _), (driver, _) = people
        own = {
            factor: (pair[0], _as_seen(avatar, driver, *pair)) if factor in GROUPS["head"] else pair
            for factor, pair in pairs.items()
        }
        sides = []
        for (person, scene), poses, whole in zip(people, (own, pairs), (True, False), strict=True):
            shown: dict[bytes, _Shown] = {}
            for values in (values for pair in poses.values() for values in pair):
                if values.tobytes() not in shown:
                    shown[values.tobytes()] = _Shown(renderer, person, scene, values, whole)
            sides.append([[shown[values.tobytes()] for values in poses[factor]] for factor in factors])
        for factor, mine, theirs in zip(factors, *sides, strict=True):
            columns[factor].append(_row(avatar, mine, theirs))
    return [_probe(factor, rows) for factor, rows in columns.items()]


def _as_seen(avatar: Person, driver: Person, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The motion `after` (len(COLUMNS),) with that shift with which the avatar's eyes go as far as the driver's, in eye distances."""

    def eyes(person: Person, values: np.ndarray) -> np.ndarray:
        return person.landmarks_in(values)[0][_IRISES]

    def size(person: Person) -> float:
        left, right = eyes(person, motion.neutral().values[0].numpy())
        return float(np.linalg.norm(right - left))

    ways = [motion.COLUMNS.index(name) for name in ("shift_x", "shift_y")]
    gone = eyes(driver, after).mean(0) - eyes(driver, before).mean(0)
    wanted = eyes(avatar, before).mean(0) + gone * (size(avatar) / size(driver))
    after = after.copy()
    # A shift of 1 is about one unit of the picture.
    for _ in range(6):
        after[ways] += (wanted - eyes(avatar, after).mean(0)).astype(after.dtype)
    return after


def _row(person: Person, mine: list[_Shown], theirs: list[_Shown]) -> dict[str, np.ndarray]:
    (source, moved), (driver, driver_after) = mine, theirs
    flow, shown = truth.flow(person, moved.triangle, moved.weights, source.posed, source.depth)
    return {
        "source": source.picture,
        "truth": moved.picture,
        "driver": driver.picture,
        "driver_after": driver_after.picture,
        "flow": flow.astype(np.float32),
        "points": source.points,
        "points_after": moved.points,
        "driver_points": driver.points,
        "driver_points_after": driver_after.points,
        "seen": source.seen & moved.seen,
        "source_shown": shown,
        "head": moved.alpha[..., 1] / np.float32(255),
        "empty": (source.alpha[..., 0] == 0) & (moved.alpha[..., 0] == 0),
    }


def _probe(factor: str, rows: list[dict[str, np.ndarray]]) -> PeopleProbe:
    found = {name: torch.from_numpy(np.stack([row[name] for row in rows])).float() for name in rows[0]}
    for name in ("source", "truth", "driver", "driver_after"):
        found[name] = found[name].permute(0, 3, 1, 2) / 255
    warped = warp(found["source"], found.pop("flow"), "border")
    return PeopleProbe(factor=factor, warped=warped, **found)


def held_out_pictures(
    count: int, seed: int, size: int, setting: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures (B, 3, S, S) of people in poses of their own, exact points and Jacobians, and which points are seen (B, K)."""
    renderer, rng = renderer_of(size), generator(seed)
    motions = motion.draw_people_motions(count, rng).values.numpy()
    pictures, points, jacobians, seen = [], [], [], []
    for k, values in enumerate(motions):
        person, scene = person_and_scene(renderer, HELD_OUT + seed * EACH + EACH // 2 + k, setting)
        shown = _Shown(renderer, person, scene, values, True)
        pictures.append(shown.picture)
        points.append(shown.points)
        jacobians.append(person.coarse_points(shown.posed)[1])
        seen.append(shown.seen)
    return (
        torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255,
        *(torch.from_numpy(np.stack(some)).float() for some in (points, jacobians, seen)),
    )


@torch.no_grad()
def landmark_errors(model, pictures: Tensor, points: Tensor, seen: Tensor) -> dict[str, float]:
    """Mean errors of the detector at landmarks that can be seen, over the true distance of the eyes.

    Returns:
        "all", then one for each of `PARTS`; "all px" in pixels.
    """
    with evaluating(model):
        found = torch.cat([model.detect(one.to(device_of(model)))[0].cpu() for one in pictures.split(8)])
    apart = (points[:, _IRISES[0]] - points[:, _IRISES[1]]).norm(dim=-1)
    # Of a face in profile the distance of the eyes says nothing.
    apart = apart.clamp_min(0.5 * apart.median().item())[:, None]
    error = (found - points).norm(dim=-1)

    def mean(value: Tensor, columns: list[int]) -> float:
        weight = seen[:, columns]
        return ((value[:, columns] * weight).sum() / weight.sum().clamp_min(1)).item()

    every = list(range(len(LANDMARKS)))
    result = {"all": mean(error / apart, every), "all px": mean(error, every) * (pictures.shape[-1] - 1) / 2}
    for part in PARTS:
        result[part] = mean(error / apart, [k for k, name in enumerate(LANDMARKS) if part in name])
    return result


def band(head: np.ndarray, width: float) -> np.ndarray:
    """(S, S) bool within `width` pixels of the outline of a head's alpha (S, S)."""
    inside = (head > 0.5).astype(np.uint8)
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 3) + cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    return away <= width


@torch.no_grad()
def edges(model, probes: list[PeopleProbe]) -> dict[str, dict[str, float]]:
    """How wrong a model, driven by the person itself, is round the head and where nothing is.

    Returns:
        per factor of `MOVING`: "outline" and "outline copy", mean absolute error (pictures in [0, 1]) of the model's picture
        and of the avatar left alone within `BAND` pixels of the truth's head; "background", of the model's picture where
        both pictures show unmoved background.
    """
    table = {}
    with evaluating(model):
        device = device_of(model)
        for probe in probes:
            if probe.factor not in MOVING:
                continue
            rows = []
            for k in range(len(probe.source)):
                source, true = (x[k : k + 1].to(device) for x in (probe.source, probe.truth))
                at_rest, moved, features = model.detect(source), model.detect(true), model.encode(source)
                shown = model.render(features, *at_rest, *moved)["prediction"]
                near = band(probe.head[k].numpy(), BAND * source.shape[-1] / 256)
                empty = probe.empty[k].numpy() > 0
                wrong, left = ((x - true).abs().mean(1)[0].cpu().numpy() for x in (shown, source))
                rows.append(
                    (
                        wrong[near].mean() if near.any() else np.nan,
                        left[near].mean() if near.any() else np.nan,
                        wrong[empty].mean() if empty.any() else np.nan,
                    )
                )
            outline, copy, background = np.nanmean(np.array(rows), 0).tolist()
            table[probe.factor] = {"outline": outline, "outline copy": copy, "background": background}
    return table


#: Bad moments for a clip to begin at, as motions; a blurred one looks ahead.
STARTS: dict[str, dict[str, float]] = {
    "neutral": {},
    "open": {"open": 0.8},
    "shut": {"blink_left": 1.0, "blink_right": 1.0},
    "turned": {"yaw": math.radians(30)},
    "blurred": {},
}

#: Deviation of the blur, in pixels of 256.
BLUR = 3.0


def draw_performances(
    count: int, seed: int, size: int, setting: str = "people", frames: int = LENGTH
) -> list[Performance]:
    """Held-out people who perform what `motion.scripted_people_clip` says, each in its own way.

    Raises:
        AssetsError: people cannot be drawn here.
    """
    renderer = renderer_of(size)
    return [_performance(renderer, k, seed, setting, frames)[0] for k in range(count)]


def draw_starts(count: int, seed: int, size: int, frames: int, setting: str = "people") -> list[Started]:
    """The same people with frames of `STARTS` to begin with; angles and amounts are since the neutral pose.

    Raises:
        AssetsError: people cannot be drawn here.
    """
    renderer, found = renderer_of(size), []
    for k in range(count):
        performance, person, scene = _performance(renderer, k, seed, setting, frames)
        begun, starts = motion.scripted_people_clip(1, RATE, seed + k), {}
        for name, changes in STARTS.items():
            values = begun.replace(**changes).values.numpy()[0]
            picture = renderer.colour(person, person.pose(values), scene)
            if name == "blurred":
                picture = cv2.GaussianBlur(picture, (0, 0), BLUR * size / 256)
            starts[name] = picture[None].repeat(BEGINNING, 0)
        found.append(Started(performance, starts))
    return found


def _performance(
    renderer, k: int, seed: int, setting: str, frames: int
) -> tuple[Performance, Person, object]:
    up = np.diag([1.0, -1.0, 1.0])
    person, scene = person_and_scene(renderer, HELD_OUT + (seed + 1) * EACH - 1 - k, setting)
    motions = motion.scripted_people_clip(frames, RATE, seed + k).values.numpy()
    pictures, angles, first = [], [], None
    for values in motions:
        posed = person.pose(values)
        pictures.append(renderer.colour(person, posed, scene))
        # Room and mesh have y up, pictures have it down.
        turn = up @ truth.camera_rotation(person) @ posed.head[:3, :3] @ up
        first = turn if first is None else first
        angles.append(HeadPose(1.0, turn @ first.T, np.zeros(2)).angles)
    amounts = np.stack([motion.amounts_row(values) for values in motions])
    return Performance(np.stack(pictures), np.array(angles), amounts - amounts[0]), person, scene
