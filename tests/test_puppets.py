"""The procedural puppets: seeded, exactly invertible, and true to their own flow."""

import av
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from livepuppet.model.geometry import warp
from livepuppet.model.lite import LANDMARKS
from livepuppet.train.cli.puppets import puppets
from livepuppet.train.puppets import renderer
from livepuppet.train.puppets.canvas import bounding_box
from livepuppet.train.puppets.clips import performance, write_clip
from livepuppet.train.puppets.draws import smooth
from livepuppet.train.puppets.identities import (
    FACTORS,
    SETTINGS,
    SINGLE,
    Motion,
    draw_groups,
    draw_identities,
    draw_motions,
    generator,
    scripted_clip,
)
from livepuppet.train.puppets.renderer import (
    BACKGROUND,
    BODY,
    EYEBALL,
    MOUTH,
    OCCLUDER,
    SKIN,
    render,
    true_flow,
)
from livepuppet.train.puppets.rig import Face, landmarks
from livepuppet.train.puppets.scenery import occluder_centre

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


#: Brightness of six plain puppets of seed 1234 in motions of seed 4321, in 3 x 3 cells, as first drawn.
PLAIN = (
    (0.1446, 0.2666, 0.2113, 0.1435, 0.5125, 0.3467, 0.1608, 0.4429, 0.2834),
    (0.6167, 0.4774, 0.7679, 0.6242, 0.3306, 0.6867, 0.6507, 0.2471, 0.7619),
    (0.5223, 0.5915, 0.7533, 0.4232, 0.5171, 0.6465, 0.2814, 0.3655, 0.5154),
    (0.3953, 0.1409, 0.3856, 0.3852, 0.2493, 0.4114, 0.5087, 0.3036, 0.5278),
    (0.1642, 0.0912, 0.187, 0.108, 0.1543, 0.1858, 0.1982, 0.3641, 0.1774),
    (0.2656, 0.3918, 0.2469, 0.5416, 0.5581, 0.4532, 0.6309, 0.4756, 0.6589),
)


def test_plain_puppets_are_what_they_always_were():
    identity, motion = draw_identities(6, generator(1234)), draw_motions(6, generator(4321))
    picture = render(identity, motion, 64).picture
    cells = F.adaptive_avg_pool2d(picture.mean(1, keepdim=True), 3)[:, 0].flatten(1)
    assert (cells - torch.tensor(PLAIN)).abs().max() < 1 / 255
    assert picture[5].mean((1, 2)).tolist() == pytest.approx([0.44466, 0.45517, 0.50593], abs=2e-3)
    textures = [identity.fields[name].double().abs().sum() for name in ("texture", "background_texture")]
    assert [float(x) for x in textures] == pytest.approx([59521.027, 29926.738], rel=1e-4)
    groups = draw_groups(8, 4, generator(99)).values
    assert groups.abs().sum() == pytest.approx(90.41263, abs=1e-3)
    assert groups[5, :4].tolist() == pytest.approx([-0.08659, -0.3373, 0.06711, 0.13808], abs=1e-4)


def test_a_setting_that_there_is_not_is_named():
    with pytest.raises(ValueError, match=r"'poor'.*plain, rich, foreign"):
        draw_identities(1, generator(0), "poor")
    with pytest.raises(ValueError, match="'poor'"):
        draw_groups(1, 2, generator(0), "poor")


def test_settings_have_the_same_fields_and_differ():
    drawn = {setting: draw_identities(5, generator(10), setting) for setting in SETTINGS}
    names = set(drawn["plain"].fields)
    for setting, identity in drawn.items():
        assert set(identity.fields) == names
        assert all(len(value) == 5 and value.isfinite().all() for value in identity.fields.values())
        again = draw_identities(5, generator(10), setting)
        assert all(torch.equal(again.fields[name], identity.fields[name]) for name in names)
    assert drawn["foreign"].nose_long.min() > 0.36 >= drawn["rich"].nose_long.max()
    assert drawn["rich"].base_scale.std() > drawn["plain"].base_scale.std()


def unlit(identity):
    """Without shading and shadows, which stay with the room when a head turns: colour is carried by motion alone."""
    for name in ("gloss", "fill", "rim", "metal", "cast", "wrinkles", "lens_shine", "tint", "wet"):
        identity.fields[name] = torch.zeros_like(identity.fields[name])
    identity.fields["ambient"] = torch.ones_like(identity.ambient)
    return identity


@pytest.mark.parametrize("setting", ["rich", "foreign"])
def test_the_true_flow_carries_rich_sources_too(setting):
    rng = generator(14)
    identity = unlit(draw_identities(8, rng, setting))
    one, two = (draw_motions(8, rng) for _ in range(2))
    source, driving = render(identity, one, 96), render(identity, two, 96)
    flow, visible = true_flow(identity, driving, one, source)
    error = ((warp(source.picture, flow) - driving.picture).abs().mean(1) * visible).sum()
    copied = ((source.picture - driving.picture).abs().mean(1) * visible).sum()
    assert error < 0.25 * copied
    assert 0.6 < visible.mean() < 1
    flow, visible = true_flow(identity, source, one, source)
    eye = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="xy"), -1)
    assert ((flow - eye).abs().amax(-1) < 0.02).float().mean() > 0.99
    assert visible.mean() > 0.97


@pytest.mark.parametrize("setting", ["rich", "foreign"])
def test_landmarks_and_the_true_flow_agree(setting):
    rng = generator(15)
    identity = draw_identities(12, rng, setting)
    one, two = (draw_motions(12, rng) for _ in range(2))
    source, driving = render(identity, one, 96), render(identity, two, 96)
    flow, visible = true_flow(identity, driving, one, source)

    def at_landmarks(planes):
        return F.grid_sample(planes, driving.points[:, :, None], mode="nearest", align_corners=True)[..., 0]

    found = F.grid_sample(flow.movedim(-1, 1), driving.points[:, :, None], align_corners=True)[
        ..., 0
    ].movedim(1, 2)
    layer = at_landmarks(driving.layer[:, None].float())[:, 0]
    seen = (at_landmarks(visible[:, None])[:, 0] > 0) & (
        (layer == SKIN) | (layer == EYEBALL) | (layer == BODY)
    )
    seen &= driving.points.abs().amax(-1) < 1
    pixels = (found - source.points).norm(dim=-1) * 64
    for name, limit in {
        "nose tip": 0.5,
        "chin": 1.0,
        "left brow": 1.0,
        "forehead": 0.5,
        "left iris": 4.0,
    }.items():
        k = LANDMARKS.index(name)
        assert seen[:, k].sum() >= 4, name
        assert pixels[:, k][seen[:, k]].mean() < limit, name


def test_a_head_is_drawn_whole_in_its_box(monkeypatch):
    # Boxes cut out around the heads change nothing, nor do other puppets of the batch and what they need.
    rng = generator(16)
    identity, motion = draw_identities(8, rng, "rich"), draw_motions(8, rng)
    for name in ("antenna", "brim", "headphones", "bun", "locks", "long_hair", "glasses_on"):
        identity.fields[name][:4] = 0.3
    alone = torch.cat([render(identity[k : k + 1], motion[k : k + 1], 64).picture for k in range(8)])
    together = render(identity, motion, 64)
    monkeypatch.setattr(
        renderer,
        "bounding_box",
        lambda b, size, device: bounding_box([[0.0, size, 0.0, size]] * len(b), size, device),
    )
    whole = render(identity, motion, 64)
    assert (alone - whole.picture).abs().max() < 1e-4
    assert (together.picture - whole.picture).abs().max() < 1e-4
    assert torch.equal(together.layer, whole.layer)


def test_what_is_held_before_the_face_moves_on_its_own():
    rng = generator(17)
    identity, one, two = draw_identities(6, rng, "rich"), draw_motions(6, rng), draw_motions(6, rng)
    identity.fields["occluder"] = torch.ones(6)
    identity.fields["occluder_kind"] = (torch.arange(6) % 2).float()
    identity.fields["occluder_place"] = torch.tensor([[0.1, 0.1, 0.15, 0.3]]).repeat(6, 1)
    identity.fields["occluder_sway"] = torch.tensor([0.0, 0.0, 0.0, 0.2, 0.2, 0.2])
    source, driving = render(identity, one, 96), render(identity, two, 96)
    flow, visible = true_flow(identity, driving, one, source)
    eye = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="xy"), -1)
    moved = occluder_centre(identity, one) - occluder_centre(identity, two)
    assert (moved[:3] == 0).all() and (moved[3:].norm(dim=1) > 1e-3).all()
    carried = warp(source.picture, flow)
    for k in range(6):
        held = driving.layer[k] == OCCLUDER
        assert held.sum() > 100
        assert ((flow[k] - eye)[held] - moved[k]).abs().max() < 1e-5
        inside = held & (flow[k].abs().amax(-1) < 0.97)
        assert visible[k][inside].mean() > 0.85
        assert ((carried[k] - driving.picture[k]).abs().mean(0) * visible[k])[held].mean() < 0.03
        # What the source hides behind it cannot be seen there.
        hidden = F.grid_sample(
            (source.layer[k] == OCCLUDER).float()[None, None],
            flow[k][None],
            mode="nearest",
            align_corners=True,
        )[0, 0]
        assert not (visible[k] * (hidden > 0) * ~held).any()


@pytest.mark.parametrize("name", sorted(renderer._OPTIONAL - {"flat", "background_noise", "hair_on", "cel"}))
def test_every_part_of_a_rich_puppet_can_be_seen(name):
    identity = draw_identities(3, generator(18), "rich")
    smiling = Motion(torch.zeros(3, len(FACTORS))).replace(smile=0.8, open=0.5, yaw=0.2)
    for owner in ("glasses_on", "beard", "hair_on", "teeth"):
        if name in ("tint", "lens_shine", "beard_grain", "teeth_detail", "hair_curl"):
            identity.fields[owner] = torch.ones(3)
    identity.fields["hat_on"] = torch.zeros(3)
    identity.fields["animal_ear"] = torch.ones(3)
    value = identity.fields[name]
    pictures = []
    for amount in (0.0, 0.6):
        identity.fields[name] = torch.full_like(value, amount)
        pictures.append(render(identity, smiling, 64).picture)
    assert (pictures[0] - pictures[1]).abs().max() > 0.02


def test_rich_groups_hold_all_else_still_when_one_thing_changes():
    motions = draw_groups(400, 4, generator(19), "rich").values.view(400, 4, -1)
    assert motions.isfinite().all()
    changed = (motions - motions[:, :1]).abs().amax(1) > 0
    single = changed.sum(1) <= 2
    assert 0.28 < single.float().mean() < 0.42
    for name, (columns, low, high) in SINGLE.items():
        expected = torch.zeros(len(FACTORS), dtype=torch.bool)
        expected[[FACTORS.index(column) for column in columns]] = True
        own = single & (changed & expected).any(1) & ~(changed & ~expected).any(1)
        assert own.sum() >= 4, name
        values = motions[own][:, :, FACTORS.index(columns[0])]
        assert values.max() - values.min() > 0.7 * (high - low), name
    still_head = (
        ~single & (motions[:, :, 0].std(1) < 0.05) & (motions[:, :, FACTORS.index("smile")].std(1) > 0.05)
    )
    assert 0.2 < still_head.float().mean() < 0.45
    first = motions[:, 0]
    calm = (first[:, FACTORS.index("open")] < 0.05) & (first[:, 0].abs() < 0.1) & (first[:, 9].abs() < 0.1)
    assert calm.float().mean() > 0.4


def test_smooth_is_bicubic_interpolation():
    noise = torch.randn(2, 3, 7, 24, generator=generator(20))
    usual = F.interpolate(noise, size=(96, 96), mode="bicubic", align_corners=True)
    assert (smooth(noise, 96) - usual).abs().max() < 1e-5


def test_the_speed_command_tells_each_setting():
    result = CliRunner().invoke(puppets, ["speed", "--size", "32", "--batch", "4", "--seconds", "0"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()[1:]] == list(SETTINGS)
    result = CliRunner().invoke(puppets, ["speed", "--device", "abacus"])
    assert result.exit_code == 2 and "--device cpu" in result.output


def test_keypoints_are_hidden_by_what_lies_over_them():
    layer = torch.full((1, 8, 8), renderer.SKIN)
    points = torch.zeros(1, len(LANDMARKS), 2)
    points[0, 0] = torch.tensor([1.2, 0.0])
    irises = ["iris" in name for name in LANDMARKS]
    for over, hidden in ((renderer.SKIN, irises), (renderer.EYEBALL, [False] * len(irises))):
        layer[:] = over
        seen = renderer.visible_keypoints(points, layer)
        assert seen[0].tolist() == [float(k > 0 and not hidden[k]) for k in range(len(LANDMARKS))]
    layer[:] = renderer.RIGID
    assert renderer.visible_keypoints(points, layer)[0].sum() == len(LANDMARKS) - 1 - sum(irises)
    assert not renderer.visible_keypoints(points, layer, (renderer.RIGID,)).any()
