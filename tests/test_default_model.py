"""The model that is shipped: its files agree, and it does what the model card says."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from livepuppet.core.files import sha256
from livepuppet.core.images import read_image
from livepuppet.core.transfer import movement_scale, transfer
from livepuppet.model import checkpoint
from livepuppet.model.lite import LANDMARKS
from livepuppet.realtime import bundled
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.framing.crop import centred_square, cut

#: Least responses across identities, on two puppets per factor; measured on twelve they are in the model card.
LEAST = {
    "yaw": 0.55,
    "pitch": 0.65,
    "roll": 0.55,
    "shift": 0.65,
    "scale": 0.7,
    "open": 0.5,
    "smile": 0.65,
    "pucker": 0.45,
    "blink": 0.6,
    "wink": 0.55,
    "gaze": 0.2,
    "brow": 0.5,
}


@pytest.fixture(scope="module")
def engine():
    return load_engine("onnx")


@pytest.fixture(scope="module")
def avatar():
    image = read_image(bundled.AVATAR)
    return cut(image, centred_square(*image.shape[:2]), 256)


@pytest.fixture(scope="module")
def frames():
    with av.open(str(bundled.DRIVING)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_bundle_and_weights_are_of_one_training():
    weights = bundled.MODEL / "lite-256.safetensors"
    facts = json.loads((bundled.MODEL / "bundle.json").read_text())
    assert facts["weights_sha256"] == sha256(weights)
    assert tuple(facts["keypoint_names"]) == LANDMARKS
    assert sum(path.stat().st_size for path in bundled.MODEL.iterdir()) < 19e6
    assert "livepuppet train" in (bundled.MODEL / "MODEL_CARD.md").read_text()


def test_both_engines_draw_the_same(engine, avatar, frames):
    other = load_engine("torch", threads=1)
    drawn = []
    for machine in (engine, other):
        features, own = machine.encode(avatar), machine.detect(avatar)
        initial, driving = machine.detect(frames[0]), machine.detect(frames[110])
        scale = movement_scale(own, initial)
        drawn.append(machine.render(features, own, transfer(driving, initial, own, scale)).astype(int))
    assert np.abs(drawn[0] - drawn[1]).max() <= 3
    assert np.abs(drawn[0] - drawn[1]).mean() < 0.1
    assert np.abs(drawn[0] - avatar).mean() > 2  # and it did move


def test_an_avatar_that_does_not_move_comes_back_sharp(engine, avatar):
    keypoints = engine.detect(avatar)
    back = engine.render(engine.encode(avatar), keypoints, keypoints)
    assert np.abs(back.astype(int) - avatar).max() <= 2


@pytest.mark.parametrize(
    "factors",
    [("yaw", "open", "blink"), pytest.param(tuple(LEAST), marks=pytest.mark.slow)],
    ids=["three", "all"],
)
def test_motion_crosses_over_to_puppets_never_seen(factors):
    from livepuppet.train.metrics.responses import draw_probes, responses

    torch.set_num_threads(1)
    model = checkpoint.load(bundled.MODEL / "lite-256.safetensors")
    table = responses(model, draw_probes(2, seed=5, factors=factors))
    shown = {factor: row["cross"] for factor, row in table.items()}
    assert all(shown[factor] > LEAST[factor] for factor in factors), shown


def test_the_detector_finds_landmarks_of_puppets_never_seen():
    from livepuppet.train.tasks.lite_detector import detector_error, draw_test

    torch.set_num_threads(1)
    model = checkpoint.load(bundled.MODEL / "lite-256.safetensors")
    error = detector_error(model, *draw_test(24, seed=79, size=256))
    lids = [error[f"{name} px"] for name in LANDMARKS if "lid" in name]
    assert error["mean px"] < 6 and sum(lids) / len(lids) < 5


def test_keypoints_glide_between_the_cells_of_the_heat_maps(engine):
    cells = (_keypoints(engine, bundled.DRIVING, 3) + 1) * (63 / 2)
    on_a_cell = np.abs(cells - np.round(cells)) < 0.02
    # Of evenly spread ones 4 % would be. Here it is 42 %, and 19 % in clips of real faces; read at the
    # training temperature it was 85 % and 72 %.
    assert on_a_cell.mean() < 0.5


def _keypoints(engine, clip: Path, every: int = 1) -> np.ndarray:
    with av.open(str(clip)) as container:
        images = [
            f.to_ndarray(format="rgb24") for k, f in enumerate(container.decode(video=0)) if k % every == 0
        ]
    return np.stack([engine.detect(image).points for image in images])


def _between(points: np.ndarray, one: str, other: str) -> np.ndarray:
    """Distance of two keypoints along the clip, as a share of the eyes' distance."""

    def at(name):
        return points[:, LANDMARKS.index(name)]

    eyes = np.linalg.norm(at("left iris") - at("right iris"), axis=-1)
    return np.linalg.norm(at(one) - at(other), axis=-1) / eyes


def test_lips_of_a_real_face_part_when_its_mouth_opens(engine, shared):
    gap = _between(_keypoints(engine, shared / "clips" / "face05.mp4", 3), "upper lip", "lower lip")
    assert gap.max() > 4 * np.median(gap) and gap.max() > 0.3


def test_lids_of_a_real_face_meet_when_it_blinks(engine, shared):
    points = _keypoints(engine, shared / "clips" / "face08.mp4")
    gap = _between(points, "left upper lid", "left lower lid") + _between(
        points, "right upper lid", "right lower lid"
    )
    # A shut eye should bring this near 0. This detector reaches 0.53: half-blinks, which a better one must mend.
    assert gap.min() < 0.6 * np.median(gap)
