"""Training pairs of puppets: what a pool on disk and a stream on a GPU have in common.

Both hold *groups*: one identity in a few poses. Any two pictures of a group are a training pair,
whose exact keypoints, flow and visibility are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from livepuppet.train.puppets.identities import Identity, Motion
from livepuppet.train.puppets.renderer import (
    BACKGROUND,
    OCCLUDER,
    RIGID,
    Rendering,
    true_flow,
    visible_keypoints,
)
from livepuppet.train.puppets.rig import landmarks

#: Numbers per puppet up to which a field of an identity belongs to its geometry. Textures, which
#: only painting needs, have thousands.
FEW = 64


#: Layers under which a keypoint cannot be seen.
COVERING = (BACKGROUND, RIGID, OCCLUDER)

#: Pixels to render in one call: as many as a CPU's caches hold planes of, and enough to keep a GPU
#: busy.
TOGETHER = {"cpu": 1 << 17}
TOGETHER_ELSEWHERE = 1 << 23


def chunks(count: int, size: int, device: torch.device | str = "cpu") -> list[Tensor]:
    """Rows 0 ... count - 1 in portions that are best rendered together at `size`, as indices on the
    device.
    """
    each = max(1, TOGETHER.get(torch.device(device).type, TOGETHER_ELSEWHERE) // size**2)
    return list(torch.arange(count, device=device).split(each))


def geometry(identity: Identity) -> Identity:
    """The identity without its textures: enough for keypoints and flow, not for `render`."""
    rows = max(len(identity), 1)
    return Identity({name: value for name, value in identity.fields.items() if value.numel() // rows <= FEW})


@dataclass
class Pairs:
    """A batch of training pairs of the same identities, all on one device.

    Attributes:
        identity: B rows, geometry alone; None where the pool holds none, as those of people do.
        source, driving: (B, 3, S, S) RGB in [0, 1].
        source_motion, driving_motion: B rows.
        flow: (B, C, C, 2) true sampling grid from the driving picture into the source; C is mostly
            64.
        visible: (B, C, C) whether the source shows the point.
        source_points, ...: exact keypoints (B, K, 2) and Jacobians (B, K, 2, 2).
        source_seen, driving_seen: (B, K) 1 where the keypoint can be seen: in the picture, an iris
            of an open eye, and under neither hair, hat, rims of glasses, a hand nor anything else.
        others: exact points and Jacobians of another identity in `source_motion`, then those in
            `driving_motion`; None without flow.
    """

    identity: Identity | None
    source: Tensor
    driving: Tensor
    source_motion: Motion
    driving_motion: Motion
    flow: Tensor | None
    visible: Tensor | None
    source_points: Tensor
    source_jacobians: Tensor
    driving_points: Tensor
    driving_jacobians: Tensor
    source_seen: Tensor
    driving_seen: Tensor
    others: tuple[Tensor, Tensor, Tensor, Tensor] | None = None


class Puppets:
    """Groups to draw pairs from. A subclass says where they lie.

    Attributes:
        device: where batches are delivered.
        poses: pictures per group.
        setting: which of `identities.SETTINGS` the puppets are of.
    """

    device: torch.device
    poses: int
    setting: str

    def __len__(self) -> int:
        """Pictures held."""
        raise NotImplementedError

    def _send(self, rows: Tensor) -> Tensor:
        """Indices as `_rows` and `_identities` take them."""
        raise NotImplementedError

    def _rows(self, name: str, rows: Tensor) -> Tensor:
        """Rows of "pictures" (uint8, B, S, S, 3), "surfaces", "layers", "motions", "points" or
        "jacobians".
        """
        raise NotImplementedError

    def _identities(self, groups: Tensor) -> Identity | None:
        raise NotImplementedError

    def _seen(self, rows: Tensor, points: Tensor) -> Tensor:
        """(B, K) which keypoints the pictures show."""
        return visible_keypoints(points, self._rows("layers", rows).long(), COVERING)

    def _flow(
        self, identity: Identity | None, driving: Tensor, source: Tensor, source_motion: Motion
    ) -> tuple[Tensor, Tensor]:
        """True flow from the driving pictures (rows) into the source pictures, and what those show."""

        def seen(rows: Tensor) -> Rendering:
            surfaces, layers = self._rows("surfaces", rows).float(), self._rows("layers", rows).long()
            # Neither the picture nor the keypoints are asked for.
            unused = surfaces[:0]
            return Rendering(unused, surfaces, layers, unused, unused)

        assert identity is not None
        return true_flow(identity, seen(driving), source_motion, seen(source))

    def _others(
        self, identity: Identity | None, source: Tensor, driving: Tensor, motions: tuple[Motion, Motion]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Points and Jacobians of other identities in the source pictures' (rows) motions, then in
        the driving ones'.
        """
        assert identity is not None
        count = len(source)
        other = identity[torch.arange(count, device=source.device).roll(1)]
        return (*landmarks(other, motions[0]), *landmarks(other, motions[1]))

    def refresh_sometimes(self, rng: torch.Generator) -> None:
        """Called once per step: the place for fresh puppets."""

    def state(self) -> dict[str, int | str]:
        """What a checkpoint has to keep; nothing where puppets lie on disk."""
        return {}

    def load_state(self, state: dict[str, int | str]) -> None:
        """Continue where the puppets that `state` was taken of had got to."""

    def speed(self) -> dict[str, float]:
        """Images drawn by this process ("drawn"), per second ("drawn/s"), seconds ("drawing s");
        empty on disk.
        """
        return {}

    def _pictures(self, rows: Tensor) -> Tensor:
        return self._rows("pictures", rows).permute(0, 3, 1, 2).float() / 255

    def pictures_with_truth(self, batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Random pictures (B, 3, S, S) with their exact points and Jacobians, for the detector."""
        rows = self._send(torch.randint(len(self), (batch,), generator=rng))
        return self._pictures(rows), self._rows("points", rows), self._rows("jacobians", rows)

    def pairs(self, batch: int, rng: torch.Generator, still: float = 0.12, with_flow: bool = True) -> Pairs:
        """Random pairs; a share `still` of them shows no motion at all.

        Without flow, `flow` and `visible` are None: a detector needs neither.
        """
        poses = self.poses
        group = torch.randint(len(self) // poses, (batch,), generator=rng)
        source = torch.randint(poses, (batch,), generator=rng)
        step = torch.randint(1, poses, (batch,), generator=rng)
        step = torch.where(torch.rand(batch, generator=rng) < still, 0, step)
        drawn = [group, group * poses + source, group * poses + (source + step) % poses]
        # One copy to the device, whatever is looked up by it.
        sent = self._send(torch.cat(drawn))
        identity, both = self._identities(sent[:batch]), sent[batch:]
        pictures, motions = self._pictures(both), self._rows("motions", both)
        points, jacobians = self._rows("points", both), self._rows("jacobians", both)
        source_motion, driving_motion = Motion(motions[:batch]), Motion(motions[batch:])

        first, second = slice(0, batch), slice(batch, None)
        seen_points = self._seen(both, points)
        flow = visible = others = None
        if with_flow:
            with torch.autocast(pictures.device.type, enabled=False):
                flow, visible = self._flow(identity, both[second], both[first], source_motion)
                others = self._others(identity, both[first], both[second], (source_motion, driving_motion))
        return Pairs(
            identity,
            pictures[first],
            pictures[second],
            source_motion,
            driving_motion,
            flow,
            visible,
            points[first],
            jacobians[first],
            points[second],
            jacobians[second],
            seen_points[first],
            seen_points[second],
            others,
        )
