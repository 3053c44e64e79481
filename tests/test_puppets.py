"""The procedural puppets: seeded, exactly invertible, and true to their own flow."""

import av
import pytest
import torch

from livepuppet.model.geometry import warp
from livepuppet.model.lite import LANDMARKS
from livepuppet.train.puppets.clips import performance, write_clip
from livepuppet.train.puppets.identities import (
    FACTORS,
    Motion,
    draw_groups,
    draw_identities,
    draw_motions,
    generator,
    scripted_clip,
)
from livepuppet.train.puppets.renderer import BACKGROUND, EYEBALL, MOUTH, SKIN, render, true_flow
from livepuppet.train.puppets.rig import Face, landmarks

NEUTRAL = Motion(torch.zeros(1, len(FACTORS)))


def test_a_seed_draws_the_same_puppets_again():
    first, second = (draw_identities(3, generator(5)) for _ in range(2))
    assert all(torch.equal(first.fields[name], second.fields[name]) for name in first.fields)
    assert torch.equal(draw_motions(4, generator(6)).values, draw_motions(4, generator(6)).values)


def test_the_expression_is_exactly_invertible_on_skin():
    rng = generator(1)
    identity, motion = draw_identities(16, rng), draw_motions(16, rng)
    face = Face(identity, motion, 2)
    u = torch.rand(16, 400, generator=rng) * 1.2 - 0.6
    v = torch.rand(16, 400, generator=rng) * 1.6 - 0.7
    x, y = face.posed(u, v)
    u_back, v_back, *_ = face.rest(x, y)
    # Points within an opening have no skin; on the lids' and lips' edges the map has a kink. Under a wide smile the
    # lifted skin beside the mouth folds over the cheek in some columns; there two points share one place.
    rest, offset = face.knots(u)
    on_skin = ~((v > rest[2] - 0.01) & (v < rest[3] + 0.01)) & ((v - rest[5]).abs() > 0.01)
    folded = rest[5] + offset[5] < rest[4] + offset[4] + 0.02
    assert folded.float().mean() < 0.15
    on_skin &= ~folded
    assert (u_back - u)[on_skin].abs().max() < 5e-3
    assert (v_back - v)[on_skin].abs().max() < 2e-2


def test_a_closed_eye_shows_no_eyeball_and_an_open_one_does():
    identity = draw_identities(6, generator(2))
    still = Motion(torch.zeros(6, len(FACTORS)))
    opened = render(identity, still, 96).layer
    closed = render(identity, still.replace(blink_left=1.0, blink_right=1.0), 96).layer
    assert all((layer == EYEBALL).sum() >= 8 for layer in opened)
    assert not (closed == EYEBALL).any()


def test_an_open_mouth_has_an_inside_and_lips_part():
    identity = draw_identities(6, generator(3))
    still = Motion(torch.zeros(6, len(FACTORS)))
    opened = render(identity, still.replace(open=1.0), 96)
    shut = render(identity, still, 96)
    assert all((layer == MOUTH).sum() > 20 for layer in opened.layer)
    assert not (shut.layer == MOUTH).any()
    gap = (
        opened.points[:, LANDMARKS.index("lower lip"), 1] - opened.points[:, LANDMARKS.index("upper lip"), 1]
    )
    assert (gap > 0.1).all()


def test_the_true_flow_carries_the_source_onto_the_driving_picture():
    rng = generator(4)
    identity = draw_identities(8, rng)
    one, two = (draw_motions(8, rng) for _ in range(2))
    # Without shading, which stays with the room when a head turns, colour is carried by motion alone.
    identity.fields["ambient"] = torch.ones(8)
    identity.fields["gloss"] = torch.zeros(8)
    source, driving = render(identity, one, 96), render(identity, two, 96)
    flow, visible = true_flow(identity, driving, one, source)
    carried = warp(source.picture, flow)
    error = ((carried - driving.picture).abs().mean(1) * visible).sum() / visible.sum()
    copied = ((source.picture - driving.picture).abs().mean(1) * visible).sum() / visible.sum()
    assert error < 0.25 * copied
    assert 0.6 < visible.mean() < 1


def test_no_motion_is_the_identity_flow_and_sees_everything():
    rng = generator(5)
    identity, motion = draw_identities(4, rng), draw_motions(4, rng)
    picture = render(identity, motion, 64)
    flow, visible = true_flow(identity, picture, motion, picture)
    eye = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="xy"), -1)
    off = (flow - eye).abs().amax(-1)
    assert (off < 0.02).float().mean() > 0.99
    assert visible.mean() > 0.97


def test_landmarks_lie_where_the_renderer_paints_them():
    identity = draw_identities(12, generator(6))
    straight = Motion(torch.zeros(12, len(FACTORS)))
    picture = render(identity, straight, 128)
    points, _ = landmarks(identity, straight)
    for name, layer in (("left iris", EYEBALL), ("right iris", EYEBALL), ("collar", None), ("chin", SKIN)):
        where = ((points[:, LANDMARKS.index(name)] + 1) / 2 * 127).round().long().clamp(0, 127)
        seen = picture.layer[torch.arange(12), where[:, 1], where[:, 0]]
        assert (seen != BACKGROUND).float().mean() >= 0.9
        if layer == EYEBALL:
            assert (seen == layer).float().mean() >= 0.75  # glasses' rims and hair may lie over an eye


def test_jacobians_are_the_derivative_of_the_points():
    # A rigid shift and growth of the whole head scales every head keypoint's Jacobian by the same factor.
    identity = draw_identities(5, generator(7))
    still = Motion(torch.zeros(5, len(FACTORS)))
    _, small = landmarks(identity, still)
    _, large = landmarks(identity, still.replace(scale=0.2))
    head = slice(0, len(LANDMARKS) - 1)
    assert torch.allclose(large[:, head], small[:, head] * torch.tensor(0.2).exp(), atol=1e-4)
    # A roll in the picture turns them.
    _, rolled = landmarks(identity, still.replace(roll=0.3))
    angle = torch.tensor(0.3)
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    assert torch.allclose(rolled[:, head], turn @ small[:, head], atol=1e-4)


def test_groups_hold_still_heads_among_them():
    motions = draw_groups(50, 4, generator(8)).values.view(50, 4, -1)
    yaw_spread = motions[:, :, 0].std(1)
    assert 10 <= (yaw_spread < 0.06).sum() <= 35
    assert motions[:, :, FACTORS.index("blink_left")].std(1).min() > 0


@pytest.mark.parametrize("frames", [1, 25, 250])
def test_a_scripted_clip_starts_neutral_and_is_smooth(frames):
    clip = scripted_clip(frames, 25)
    assert len(clip) == frames
    assert clip.yaw[0].abs() < 1e-3 and clip.open[0] < 1e-3 and clip.blink_left[0] < 1e-3
    if frames == 250:
        assert clip.values.diff(dim=0).abs().max() < 0.45
        assert clip.yaw.abs().max() > 0.3 and clip.open.max() > 0.7
        assert clip.blink_left.max() > 0.9 and clip.blink_right.max() > 0.8


def test_a_clip_of_a_puppet_can_be_played(tmp_path):
    identity = draw_identities(1, generator(9))
    write_clip(tmp_path / "clip.mp4", performance(identity, 5, 25, 32, 0), 25)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (32, 32, 3)
