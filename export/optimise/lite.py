"""`lite-256` in forms that onnxruntime and OpenVINO run faster. A batch is of one.

Every class computes what the one that it replaces does, as far as `render` and its graph need it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.export.optimise.convolutions import linear, shaped, taking
from livepuppet.export.optimise.phases import interleave, spread, spreading
from livepuppet.export.optimise.planes import blended_maps
from livepuppet.export.optimise.sampling import Grid, Patches, Rows
from livepuppet.model.geometry import MINIMUM_DETERMINANT
from livepuppet.model.lite import (
    CORNERS,
    HEAD_RADII,
    LIDS,
    PAINT_LIMIT,
    RIGID,
    STIFFNESS,
    DenseMotion,
    Generator,
    LitePuppet,
)

#: Inputs by which onnxruntime's convolutions count.
CHANNEL_ALIGNMENT = 4


class FusedMotionMath(nn.Module):
    """The mathematics of `DenseMotion` on keypoints, in few operations of any size: a runtime takes
    a few microseconds for each.

    What is linear is one product with a constant matrix, the local motions and the head's are
    treated together, matrices are turned as vectors of four. Names are those of `DenseMotion` and
    `HeadMotion`, which say what it means.

    Args:
        motion: whose candidates, heat-maps and preferences these are.
    """

    taken: Tensor
    stiffness: Tensor
    unmoved: Tensor
    adjugate: Tensor
    across: Tensor
    quarter: Tensor
    line: Tensor
    table: Tensor
    sign: Tensor
    radii: Tensor
    sharpness: Tensor
    strength: Tensor
    head_network: nn.Module | None

    def __init__(self, motion: DenseMotion):
        super().__init__()
        grid, prior, head_motion = motion.grid, motion.mask_prior, motion.head_motion
        keypoints = motion.head.out_channels - 5
        self.side, self.rigid = len(grid), len(RIGID)
        self.threshold, self.non_rigid_threshold = motion.threshold, motion.non_rigid_threshold
        dtype = grid.dtype

        def keep(name: str, values) -> None:
            self.register_buffer(name, torch.as_tensor(values, dtype=dtype), persistent=False)

        # Of a set of points: the points, the mean of the rigid ones, how these lie about it, the
        # eyes, and the way from there to the mouth.
        rigid = torch.eye(keypoints, dtype=dtype)[list(RIGID)]
        mean = rigid.mean(0, keepdim=True)
        eyes, mouth = (
            torch.eye(keypoints, dtype=dtype)[list(which)].mean(0, keepdim=True) for which in (LIDS, CORNERS)
        )
        keep("taken", torch.cat([torch.eye(keypoints, dtype=dtype), mean, rigid - mean, eyes, mouth - eyes]))
        keep("stiffness", STIFFNESS * torch.eye(2, dtype=dtype).repeat(2, 1))
        keep("unmoved", torch.eye(2).reshape(1, 4))
        # (a, b, c, d) to the adjugate (d, -b, -c, a), and to what a and b are multiplied with for
        # the determinant.
        keep("adjugate", [[0, 0, 0, 1], [0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]])
        keep("across", [[0, 0, 0, 0], [0, 0, 0, 0], [0, -1, 0, 0], [1, 0, 0, 0]])
        keep("quarter", [[0, -1], [1, 0]])
        keep("line", grid[0, :, 0])
        keep("table", torch.cat([grid.permute(2, 0, 1), torch.ones_like(grid[None, ..., 0])]).flatten(1))
        keep("sign", [[-1], [1]])
        self.spread = -0.5 / motion.variance
        self.head_network = None
        if head_motion is not None:
            first, *others = head_motion.network
            assert isinstance(first, nn.Linear)
            weight = first.weight.detach().clone()
            weight[:, 2 * keypoints : 4 * keypoints] *= 4
            self.head_network = nn.Sequential(linear(weight, first.bias), *others)
            keep("radii", [[1 / radius] for radius in HEAD_RADII])
        if prior is not None:
            with torch.no_grad():
                keep("sharpness", prior.sharpness.exp()[:, None, None])
                # Nothing is preferred of the head's motion and of none.
                keep("strength", F.pad(10 * prior.strength, (0, 2))[:, None, None])

    def candidates(
        self, both: Tensor, source_jacobians: Tensor, driving_jacobians: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """See `DenseMotion.candidates`.

        Args:
            both: source and driving points beside each other, (K, 4).
            source_jacobians, driving_jacobians: (K, 2, 2).

        Returns:
            The motions' numbers (2, K + 1, P), by the planes (P, h * w) that come after them; the
            gate, (1, 1); and how far each keypoint moves on its own, (K, 1), or None where that is
            not asked.
        """
        keypoints = len(both)
        taken = self.taken @ both
        places, rest = taken[: keypoints + 1], taken[keypoints + 1 :]
        centred, eyes, down = rest[: self.rigid], rest[self.rigid : -1, 2:], rest[-1:, 2:]
        # Both sums of `rigid_motion`: source by driving, driving by driving.
        sums = centred.t() @ centred[:, 2:] / self.rigid + self.stiffness
        left = torch.cat([source_jacobians, sums[None, :2]])
        matrices = left @ self._inverse(torch.cat([driving_jacobians, sums[None, 2:]]))
        source, driving = places[:, :2], places[:, 2:]
        offsets = source - (matrices @ driving[..., None])[..., 0]
        change = matrices.reshape(-1, 4) - self.unmoved
        moved = (driving - source)[:keypoints].abs().max() + 0.2 * change[:keypoints].abs().max()
        gate = (moved / self.threshold).clamp(max=1.0).reshape(1, 1)
        numbers = torch.cat([matrices, offsets[..., None]], 2)
        table, ellipsoid = self.table, None
        if self.head_network is not None:
            head, ellipsoid = self._head(places[:keypoints], numbers, change, eyes, down, gate)
            numbers = torch.cat([F.pad(numbers[:keypoints], (0, 1)), head[None]])
            table = torch.cat([table, _depth(ellipsoid @ table, 0)])
        own = self._own(places[:keypoints], numbers[-1], ellipsoid) if self.non_rigid_threshold else None
        return numbers.transpose(0, 1), table, gate, own

    def _head(
        self, both: Tensor, numbers: Tensor, change: Tensor, eyes: Tensor, down: Tensor, gate: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `HeadMotion`: the numbers (2, 4) of its map and parallax, and those (2, 3) of the
        ellipsoid's frame, F and -F middle.
        """
        matrix, offset = numbers[-1, :, :2], numbers[-1:, :, 2]
        unit = (down * down).sum(1, keepdim=True).clamp_min(1e-4).sqrt()
        upright = torch.cat([down @ self.quarter, down]) / unit
        frame = upright / unit
        source, driving = both[:, :2], both[:, 2:]
        shape = torch.cat([driving - eyes, source - (driving @ matrix.t() + offset)]) @ frame.t()
        # U X U^T for a row of four numbers X.
        back = upright.t()
        turning = (back[:, None, :, None] * back[None, :, None, :]).reshape(4, 4)
        assert self.head_network is not None
        found = self.head_network(torch.cat([shape.reshape(1, -1), (change @ turning).reshape(1, -1)], 1))
        turned = ((0.3 * gate * found[:, :4]) @ turning.t()).reshape(2, 2)
        ways = found[:, 4:].reshape(3, 2)
        shift, parallax, middle = (
            torch.cat([gate * ways[:2], 0.6 * torch.tanh(ways[2:])]) @ upright * unit
        ).chunk(3)
        offset = offset + shift - eyes @ turned.t()
        frame = frame * self.radii
        head = torch.cat([matrix + turned, offset.t(), parallax.t()], 1)
        return head, torch.cat([frame, -frame @ (eyes + middle).t()], 1)

    def _own(self, both: Tensor, head: Tensor, ellipsoid: Tensor | None) -> Tensor:
        """How far each keypoint moves otherwise than the head (2, P), whose depth goes by the
        ellipsoid, from 0 to 1: (K, 1).
        """
        source, planes = both[:, :2], F.pad(both[:, 2:], (0, 1), value=1.0)
        if ellipsoid is not None:
            planes = torch.cat([planes, _depth(planes @ ellipsoid.t(), 1)], 1)
        apart = source - planes @ head.t()
        apart = (apart * apart).sum(1, keepdim=True).clamp_min(1e-12).sqrt()
        return (apart / self.non_rigid_threshold).clamp(max=1.0)

    def _inverse(self, matrices: Tensor) -> Tensor:
        """See `geometry.inverse_2x2`, of (N, 2, 2)."""
        flat = matrices.reshape(-1, 4)
        determinant = (flat * (flat @ self.across)).sum(1, keepdim=True)
        size = determinant.abs().clamp_min(MINIMUM_DETERMINANT)
        determinant = torch.where(determinant < 0, -size, size)
        return (flat @ self.adjugate / determinant).reshape(-1, 2, 2)

    def maps(self, both: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Differences of heat-maps (1, K, h, w), driving less source, and preferences (K + 2, h, w)
        of the masks.
        """
        lines = both[..., None] - self.line
        lines = lines * lines * self.spread
        values = torch.exp(lines)
        across, down = values[:, 0::2], values[:, 1::2] * self.sign
        difference = (down.transpose(1, 2) @ across)[None]
        if not hasattr(self, "strength"):
            return difference, None
        prior = F.pad(torch.exp(lines[:, 2:] * self.sharpness), (0, 0, 0, 0, 0, 2))
        strength = self.strength if own is None else self.strength * F.pad(own, (0, 0, 0, 2))[..., None]
        return difference, prior[:, 1, :, None] * (prior[:, :1] * strength)


def _depth(places: Tensor, axis: int) -> Tensor:
    """See `model.lite.depth_at`, of places in the ellipsoid's frame, whose two coordinates lie
    along `axis`.
    """
    return (1 - (places * places).sum(axis, keepdim=True)).clamp_min(1e-3).sqrt() - 1e-3**0.5


class PlanarMotion(nn.Module):
    """`DenseMotion` by planes, x and y apart.

    Args:
        motion: what is replaced.
        gathers: sample the thumbnail by `Patches`.
    """

    spare: Tensor

    def __init__(self, motion: DenseMotion, gathers: bool):
        super().__init__()
        self.network, self.head, self.residual_limit = motion.network, motion.head, motion.residual_limit
        self.steps = FusedMotionMath(motion)
        self.sampling = (Patches if gathers else Grid)(self.steps.side, "border")
        first = motion.network.first
        conv = first[0]
        assert isinstance(conv, nn.Conv2d)
        keypoints = (conv.in_channels - 6) // 4
        # The moved thumbnails come colour by colour, not motion by motion.
        moved = torch.arange(3 * (keypoints + 1)).reshape(keypoints + 1, 3).t().flatten() + keypoints
        order = torch.arange(conv.in_channels)
        order[keypoints : keypoints + len(moved)] = moved
        conv = taking(conv, order)
        # Convolutions of inputs that fill no vectors take the slow way.
        spare = -len(order) % CHANNEL_ALIGNMENT
        weight = conv.weight
        first[0] = shaped(F.pad(weight, (0, 0, 0, 0, 0, spare)), conv.bias, padding=conv.padding)
        self.register_buffer("spare", weight.new_zeros(1, spare, *motion.grid.shape[:2]), persistent=False)

    def forward(
        self,
        table: Tensor,
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> dict[str, Tensor]:
        """What `DenseMotion` returns, as far as the generator needs it.

        Args:
            table: the thumbnail, as `sampling` wants it.
        """
        side, both = self.steps.side, torch.cat([source_points[0], driving_points[0]], 1)
        numbers, planes, gate, own = self.steps.candidates(both, source_jacobians[0], driving_jacobians[0])
        count = numbers.shape[1]
        x, y = (numbers @ planes).reshape(2, count, side, side)
        warped = self.sampling.sample(table, x, y).flatten(0, 1)[None]
        difference, prior = self.steps.maps(both, own)
        evidence = torch.cat([difference, warped, self.sampling.picture(table, 3), self.spare], 1)
        head = self.head(self.network(evidence)[-1]).float()[0]
        logits = head[: count + 1]
        x, y = blended_maps(logits if prior is None else logits + prior, numbers, planes)
        residual = torch.tanh(head[count + 2 :]) * (self.residual_limit * gate)[..., None]
        return {
            "deformation": torch.stack([(x + residual[0])[None], (y + residual[1])[None]], -1),
            "occlusion_map": torch.sigmoid(head[None, count + 1 : count + 2]),
            "difference": difference,
            "gate": gate[..., None, None],
        }


class PhaseGenerator(nn.Module):
    """`Generator` that treats the full picture by phases, as its convolutions do.

    The avatar is sampled by phase and blended by phase; only the finished picture is put together.

    Args:
        generator: what is replaced.
        gathers: sample by `Patches` and `Rows`.
    """

    flow_spread: Tensor
    map_spread: Tensor

    def __init__(self, generator: Generator, gathers: bool):
        super().__init__()
        size = generator.config.size
        self.generator = generator
        self.pictures = (Patches if gathers else Grid)(size, "border")
        self.features = (Rows if gathers else Grid)(size // 4, "border")
        # Two convolutions that add up: features and picture come in different layouts, and joining
        # them costs more.
        merge, painted = generator.merge, generator.expand.out_channels
        self.merge_features = shaped(merge.weight[:, :painted], merge.bias, padding=merge.padding)
        self.merge_picture = shaped(merge.weight[:, painted:], None, padding=merge.padding)
        weight = generator.last.weight
        for name, align_corners in (("flow_spread", True), ("map_spread", False)):
            matrix = spreading(size // 4, size, align_corners).to(weight)
            self.register_buffer(name, matrix, persistent=False)

    def encode(self, avatars: Tensor) -> Tensor:
        """See `Generator.encode`; as a table."""
        return self.features.table(self.generator.encode(avatars))

    def forward(self, features: Tensor, table: Tensor, motion: dict[str, Tensor]) -> dict[str, Tensor]:
        """`prediction` of `Generator`.

        Args:
            features: of `encode`.
            table: the avatar, as `pictures` wants it.
            motion: of `DenseMotion`.
        """
        net, half = self.generator, self.pictures.side // 2
        flow, occlusion = motion["deformation"], motion["occlusion_map"]
        x, y = flow[..., 0][0], flow[..., 1][0]
        places = (spread(place, self.flow_spread) for place in (x, y))
        # Colours, then phases: the order of `pixel_unshuffle`.
        picture = self.pictures.sample(table, *places).reshape(1, 12, half, half)
        x = self.features.sample(features, x, y, occlusion[0, 0])[None]
        x = F.relu(net.join(torch.cat([x, motion["difference"]], 1)))
        deep = net.coarse_blocks(F.relu(net.down(x)))
        x = x + F.interpolate(net.up(deep), scale_factor=2.0, mode="nearest")
        x = net.fine_blocks(x)
        x = F.interpolate(F.relu(net.expand(x)), scale_factor=2.0, mode="nearest")
        x = F.relu(self.merge_features(x) + self.merge_picture(picture - 0.5))
        x = net.last(x).float()
        shown = spread(occlusion[0, 0], self.map_spread).reshape(1, 4, half, half)
        blend = torch.sigmoid(x[:, 12:]) * (motion["gate"] * (1 - PAINT_LIMIT * shown))
        prediction = picture + (0.5 + x[:, :12] - picture) * torch.cat([blend] * 3, 1)
        return {"prediction": interleave(prediction).clamp(0, 1)}


class FastLite(LitePuppet):
    """`LitePuppet` of the parts above, whose features are tables.

    Args:
        model: what is replaced; its modules become part of this.
        planes: the motion by `PlanarMotion`.
        phases: the generator by `PhaseGenerator`.
        gathers: in both, sample by gathers.
    """

    def __init__(self, model: LitePuppet, planes: bool, phases: bool, gathers: bool):
        nn.Module.__init__(self)
        self.config, self.preset = model.config, model.preset
        self.detector = model.detector
        self.motion = PlanarMotion(model.motion, gathers) if planes else model.motion
        self.generator = PhaseGenerator(model.generator, gathers) if phases else model.generator

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """See `LitePuppet.encode`: picture, thumbnail and features, each as the part that samples
        it wants it.
        """
        thumbnail = F.avg_pool2d(avatars, 4)
        motion, generator = self.motion, self.generator
        return {
            "picture": generator.pictures.table(avatars)
            if isinstance(generator, PhaseGenerator)
            else avatars,
            "thumbnail": motion.sampling.table(thumbnail) if isinstance(motion, PlanarMotion) else thumbnail,
            "features": generator.encode(avatars),
        }
