"""The network that closes an avatar's eyes: what it sees, its training on pairs of eyes, its graph, and what the rig makes of it."""

import cv2
import numpy as np
import pytest
import torch

from livepuppet.core.errors import UserError
from livepuppet.model.closed_eye import INPUTS, ClosedEye
from livepuppet.realtime.rig import closed_eyes
from livepuppet.realtime.rig.closed_eyes import HEIGHT, LEFT, PER_WIDTH, TOP, WIDTH, closed_eye, frame_of
from livepuppet.realtime.rig.contours import EyeContours

SKIN, IRIS = (196, 146, 120), (60, 90, 130)


def drawn_eye(turn: float = 0.0) -> tuple[np.ndarray, EyeContours]:
    """A plain eye whose left corner, in a picture of 300 x 200 pixels, is at (100, 100), 100 pixels wide; turned by `turn`."""
    u = np.linspace(0, 1, 17)
    arc = 1 - (2 * u - 1) ** 2
    across, down = (np.array([np.cos(turn + add), np.sin(turn + add)]) for add in (0, np.pi / 2))

    def curve(height: float) -> np.ndarray:
        return (100, 100) + 100 * u[:, None] * across + height * arc[:, None] * down

    upper, lower, crease = curve(-22), curve(16), curve(-34)
    iris = np.array([100, 100]) + 50 * across - 4 * down
    picture = np.full((200, 300, 3), SKIN, np.uint8)
    opening = np.concatenate([upper, lower[::-1]])
    cv2.fillPoly(picture, [np.rint(opening * 16).astype(np.int32)], (240, 238, 234), cv2.LINE_AA, 4)
    ball = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(ball, [np.rint(opening).astype(np.int32)], 255)
    disc = cv2.circle(np.zeros_like(ball), tuple(np.rint(iris).astype(int).tolist()), 18, 255, -1)
    picture[(ball > 0) & (disc > 0)] = IRIS
    eye = EyeContours(
        *(points.astype(np.float32) for points in (upper, lower)),
        crease=crease.astype(np.float32),
        iris=iris.astype(np.float32),
        radius=18.0,
    )
    return picture, eye


def shard(folder, count: int = 4) -> None:
    """One shard of plain eyes on skin of several tones."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    x = np.array([96, 80, 64, 48, 32, 48, 64, 80], np.float32)
    y = np.array([46, 38, 34, 38, 46, 52, 55, 52], np.float32)
    lids = np.repeat(np.stack([x, y], 1)[None], count, 0)
    met = lids.copy()
    met[:, 1:4, 1] = (52, 54, 52)
    closed = np.repeat(rng.integers(60, 220, (count, 1, 1, 3), np.uint8), HEIGHT, 1).repeat(WIDTH, 2)
    opened = closed.copy()
    for one in opened:
        cv2.fillPoly(one, [lids[0].astype(np.int32)], (240, 240, 240))
        cv2.circle(one, (64, 44), 9, (40, 60, 90), -1)
    np.savez(folder / "eyes-000001.npz", open=opened, closed=closed, lids=lids, met=met)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_the_frame_is_upright_with_the_inner_corner_on_the_left(side, turn):
    _, eye = drawn_eye(turn)
    inner, outer = (eye.upper[-1], eye.upper[0]) if side == "left" else (eye.upper[0], eye.upper[-1])
    axes = frame_of(inner, outer, side)
    places = np.array([[-LEFT * PER_WIDTH, -TOP * PER_WIDTH], [(1 - LEFT) * PER_WIDTH, -TOP * PER_WIDTH]])
    np.testing.assert_allclose(places @ axes[:, :2].T + axes[:, 2], [inner, outer], atol=1e-4)
    # Further down in the frame is further down in the eye.
    down = eye.lower[8] - eye.upper[8]
    assert axes[:, 1] @ down > 0.99 * np.hypot(*axes[:, 1]) * np.hypot(*down)


def test_what_lies_between_the_lids_says_nothing():
    torch.manual_seed(0)
    network = ClosedEye().eval()
    eye = torch.rand(1, INPUTS, HEIGHT, WIDTH)
    eye[:, 3:] = 0
    eye[:, 3, 30:50, 40:90] = 1
    other = eye.clone()
    other[:, :3, 30:50, 40:90] = torch.rand(1, 3, 20, 50)
    with torch.no_grad():
        torch.testing.assert_close(network(eye), network(other), atol=1e-5, rtol=0)
        # There everything is drawn anew.
        assert (network(eye)[:, 3, 30:50, 40:90] == 1).all()


def test_the_network_sees_training_as_it_sees_avatars(tmp_path, monkeypatch):
    """The masks of opening and lid are the same for points of people and for contours of avatars."""
    from livepuppet.train.tasks.closed_eye import shown

    picture, eye = drawn_eye()
    seen = []
    monkeypatch.setattr(
        closed_eyes, "_seen", lambda shown: seen.append(shown) or np.zeros((4, HEIGHT, WIDTH))
    )
    closed_eye(picture, eye, "right")
    u = np.array([1, 0.75, 0.5, 0.25, 0, 0.25, 0.5, 0.75])
    height = np.array([0, -16.5, -22, -16.5, 0, 12, 16, 12])
    lids = np.stack([(u - LEFT) * PER_WIDTH, height / 100 * PER_WIDTH - TOP * PER_WIDTH], 1)
    met = lids.copy()
    meet = closed_eyes.where_lids_meet(16 * (1 - np.square(np.linspace(-1, 1, 97))), 100.0)
    met[1:4, 1] = np.interp(u[1:4], np.linspace(0, 1, 97), meet) / 100 * PER_WIDTH - TOP * PER_WIDTH
    rows = shown(*(torch.from_numpy(one[None]).float() for one in (np.zeros((3, HEIGHT, WIDTH)), lids, met)))
    for mask, own in zip(rows[0, 3:].numpy(), seen[0][0, 3:], strict=True):
        assert (np.abs(mask - own) > 0.5).mean() < 0.01 < (own > 0.5).mean()


def test_framing_takes_points_along(tmp_path):
    from livepuppet.train.tasks.closed_eye import EyePool, _framed

    shard(tmp_path / "training")
    pool = EyePool(tmp_path / "training")
    opened, closed, lids, met = pool.rows(torch.arange(4))
    marked = torch.zeros_like(opened)
    for k, (x, y) in enumerate(lids[0, [0, 2, 4]].round().int().tolist()):
        marked[:, k, y - 1 : y + 2, x - 1 : x + 2] = 1
    rng = torch.Generator().manual_seed(2)
    moved, _, points, _ = _framed(marked, closed, lids, met, rng)
    for picture, own in zip(moved, points, strict=True):
        for k, point in enumerate(own[[0, 2, 4]]):
            rows, columns = torch.nonzero(picture[k] > 0.3, as_tuple=True)
            middle = torch.stack([columns.float().mean(), rows.float().mean()])
            # Points are shaken by .7 pixels on purpose.
            assert (middle - point).norm() < 3


def test_training_learns_to_close_eyes(tmp_path):
    from livepuppet.train.recipes.closed_eye import train_closed_eye

    for name in ("training", "validation"):
        shard(tmp_path / name)
    torch.manual_seed(0)
    scores = train_closed_eye(tmp_path, tmp_path / "out", steps=40, batch=4, learning_rate=4e-3)
    assert (tmp_path / "out/closed-eye.safetensors").exists()
    # Its moving average lags behind in so few steps.
    assert scores["lids"] < 0.6 * scores["open"]


def test_the_graph_draws_what_the_network_does(tmp_path):
    import onnxruntime

    from livepuppet.export.closed_eye import export_closed_eye, load_closed_eye

    torch.manual_seed(0)
    network = ClosedEye().eval()
    export_closed_eye(network, tmp_path / "eye.onnx")
    eye = torch.rand(1, INPUTS, HEIGHT, WIDTH)
    session = onnxruntime.InferenceSession(str(tmp_path / "eye.onnx"), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"eye": eye.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, network(eye).numpy(), atol=2e-3)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="train the network of closed eyes first"):
        load_closed_eye(tmp_path / "other.safetensors")


@pytest.mark.parametrize("content", [None, b"no shard"])
def test_shards_that_cannot_be_used_are_said(tmp_path, content):
    from livepuppet.train.tasks.closed_eye import EyePool

    if content is not None:
        (tmp_path / "eyes-000001.npz").write_bytes(content)
    with pytest.raises(UserError, match="draw some first" if content is None else "delete it"):
        EyePool(tmp_path)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("skin", [SKIN, (70, 44, 34), (150, 150, 150)])
def test_the_shipped_network_closes_eyes_with_skin(side, skin):
    """Nothing is left of iris and white, a gray face stays gray, and what is far from the eye stays as it is."""
    picture, eye = drawn_eye()
    picture = picture.copy()
    picture[(picture == SKIN).all(2)] = skin
    noise = np.random.default_rng(1).normal(0, 3, picture.shape[:2])[..., None]
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    colours, before = closed_eye(picture, eye, side)
    lid = colours[38:52, 48:80]
    assert np.abs(lid.mean((0, 1)) / np.array(skin) - 1).max() < 0.3
    assert np.abs(lid.mean((0, 1)) - np.array(skin)).max() < 45
    ratios = lid.mean((0, 1)) / np.array(skin)
    assert np.ptp(ratios) < 0.12
    assert np.abs(colours - before)[:6].mean() < 4 and np.abs(colours - before)[:, :8].mean() < 4


@pytest.mark.parametrize("at", [(-60.0, -40.0), (0.0, 0.0), (240.0, 150.0)])
def test_eyes_at_the_pictures_edge_are_closed_as_well(at):
    picture, eye = drawn_eye()
    upper, lower, crease, iris = (
        (points + at).astype(np.float32) for points in (eye.upper, eye.lower, eye.crease, eye.iris)
    )
    colours, before = closed_eye(picture, EyeContours(upper, lower, crease, iris, eye.radius), "left")
    assert colours.shape == before.shape == (HEIGHT, WIDTH, 3) and np.isfinite(colours).all()
