"""The papers' measures, on coloured things that a perfect model and broken ones move."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from livepuppet.model.geometry import make_grid, warp
from livepuppet.train.metrics import evaluation, external, reconstruct, shapes
from livepuppet.train.metrics.distances import FrechetMetric, IdentityMetric, LandmarkMetric
from livepuppet.train.metrics.frechet import Moments, frechet_distance
from livepuppet.train.metrics.pixels import PixelMetric
from livepuppet.train.metrics.shapes import ShapeMetric
from livepuppet.train.metrics.tables import TableError, table
from livepuppet.train.sheets.clips import sheet

SIDE = 32


def thing(left: int, top: int, colour=(200, 40, 120), side: int = 8) -> np.ndarray:
    """A square on black, RGB uint8 (SIDE, SIDE, 3)."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[top : top + side, left : left + side] = colour
    return image


class Clips:
    """Shapes that move by whole pixels; what `evaluation.Clips` asks for."""

    names = ("across.png", "down.png", "aslant.png")
    skipped: ClassVar[list[str]] = []
    paths = (
        [(4 + 2 * t, 12) for t in range(6)],
        [(12, 20 - 2 * t) for t in range(6)],
        [(8 + t, 9 + t) for t in range(6)],
    )
    colours = ((200, 40, 120), (30, 90, 60), (255, 255, 255))

    def __len__(self):
        return len(self.names)

    def frames(self, k):
        return np.stack([thing(x, y, self.colours[k]) for x, y in self.paths[k]])


class Mover(nn.Module):
    """Finds the thing exactly and shifts the whole image by its motion: a perfect puppeteer of things on black.

    Args:
        gain: share of the motion that it makes; 1 is right.
        show: what it does to the moved image.
    """

    preset = SimpleNamespace(size=SIDE, matrices="jacobian")

    def __init__(self, gain=1.0, show=lambda image: image):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.gain, self.show = gain, show

    def detect(self, frames):
        there = (frames.amax(1) > 0.1).float()
        weight = there / there.sum((1, 2), keepdim=True)
        centre = (weight[..., None] * make_grid(SIDE, SIDE)).sum((1, 2))
        # The second keypoint stays where it is, on the background.
        points = torch.stack([centre, torch.zeros_like(centre)], 1)
        return points, torch.eye(2).expand(len(frames), 2, 2, 2)

    def encode(self, avatars):
        return {"picture": avatars}

    def render(self, features, source_points, source_matrices, driving_points, driving_matrices):
        shift = self.gain * (source_points - driving_points)[:, :1, None]
        grid = make_grid(SIDE, SIDE) + shift
        return {"prediction": self.show(warp(features["picture"], grid)), "deformation": grid}


def figures(model, mode="reconstruction", measures=(PixelMetric, ShapeMetric), **options):
    clips = Clips()
    if mode == "reconstruction":
        shown = evaluation.reconstructions(model, clips, range(3), batch=4, **options)
    else:
        shown = evaluation.animations(
            model, clips, [(0, 1), (1, 2), (2, 0)], mode == "relative", batch=4, **options
        )
    return evaluation.score(shown, [measure() for measure in measures])[0]


def test_a_perfect_reconstruction_scores_perfectly():
    found = figures(Mover())
    assert found["L1"] < 1e-4 and found["L1 warp"] < 1e-4
    assert found["AKD px"] < 1e-3 and found["landing px"] < 1e-3
    assert found["MKR"] == 0 and found["colour error"] < 1e-3
    assert found["area ratio"] == pytest.approx(1)
    # The keypoint on the thing follows it exactly; the one on the background does not at all.
    assert found["follow correlation best"] == pytest.approx(1)
    assert found["follow slope best"] == pytest.approx(1)
    assert found["follow slope median"] == pytest.approx(0.5)


def test_copying_the_source_scores_as_the_baseline_says():
    found = figures(Mover(gain=0.0))
    assert found["L1"] == pytest.approx(found["L1 copy"]) and found["L1"] > 0.01
    assert found["AKD px"] == pytest.approx(found["AKD copy px"]) and found["AKD px"] > 1
    assert found["landing px"] == pytest.approx(found["landing copy px"], abs=1e-3)
    clips = Clips()
    byhand = np.mean([np.abs(clips.frames(k) / 255 - clips.frames(k)[:1] / 255).mean() for k in range(3)])
    assert found["L1 copy"] == pytest.approx(byhand, rel=1e-5)


def test_half_the_motion_lands_half_way():
    found = figures(Mover(gain=0.5))
    assert found["landing px"] == pytest.approx(found["landing copy px"] / 2, abs=1e-3)
    assert found["AKD px"] == pytest.approx(found["AKD copy px"] / 2, abs=0.3)


def test_a_thing_that_is_gone_is_missing_and_a_wrong_colour_an_error():
    assert figures(Mover(show=lambda image: image * 0.1))["MKR"] == 1
    assert figures(Mover(show=lambda image: image + 0.5))["MKR"] == 1
    assert figures(Mover(show=lambda image: image.flip(1)))["colour error"] > 0.1


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_animation_moves_the_thing_by_or_to_the_drivers(mode):
    found = figures(Mover(), mode)
    assert "L1" not in found and "landing px" not in found
    assert found["AKD px"] < 1e-3 and found["AKD copy px"] > 1 and found["MKR"] == 0
    assert found["colour error"] < 1e-3 and (found["scored"] == 1) == (mode == "absolute")
    # The truth of one way is not that of the other.
    shown = next(iter(evaluation.animations(Mover(), Clips(), [(0, 1)], mode == "relative")))
    other = figures_of([shown.__class__(**{**shown.__dict__, "relative": not shown.relative})])
    assert other["AKD px"] > 1


def figures_of(shown):
    return evaluation.score(shown, [ShapeMetric()])[0]


def test_batches_and_thinning_change_nothing_but_the_count():
    whole = next(iter(evaluation.reconstructions(Mover(), Clips(), [0], batch=6)))
    parts = next(iter(evaluation.reconstructions(Mover(), Clips(), [0], batch=4)))
    assert np.array_equal(whole.result, parts.result) and np.allclose(whole.l1, parts.l1)
    thinned = next(iter(evaluation.reconstructions(Mover(), Clips(), [0], every=2, batch=4)))
    assert np.array_equal(thinned.result, whole.result[::2])


def test_random_pairs_are_of_different_clips_and_follow_from_the_seed():
    pairs = evaluation.random_pairs(4, 50, 1)
    assert len(set(pairs)) == 12 and all(a != b and 0 <= b < 4 for a, b in pairs)
    assert evaluation.random_pairs(100, 5, 1) == evaluation.random_pairs(100, 5, 1)
    assert evaluation.random_pairs(100, 5, 1) != evaluation.random_pairs(100, 5, 2)
    with pytest.raises(ValueError, match="two"):
        evaluation.random_pairs(1, 5, 1)


def test_things_refuse_images_without_a_black_background():
    black, white = np.zeros((3, SIDE, SIDE, 3), np.uint8), np.full((3, SIDE, SIDE, 3), 255, np.uint8)
    for frames, word in ((black, "shows none"), (white, "background")):
        with pytest.raises(shapes.ShapeError, match=word):
            figures_of([reconstruct.show(Mover(), "clip", frames[0], frames)])


def test_a_thing_too_dark_to_be_found_is_left_out_and_counted():
    bright = list(evaluation.reconstructions(Mover(gain=0.5), Clips(), [0]))
    black = np.zeros((len(bright[0].result), SIDE, SIDE, 3), np.uint8)
    alone, both = (
        figures_of(bright),
        figures_of([*bright, reconstruct.show(Mover(), "dark", black[0], black)]),
    )
    assert alone["scored"] == 1 and both["scored"] == 0.5
    assert both["AKD px"] == alone["AKD px"] > 0 and both["MKR"] == alone["MKR"]


def test_a_sheet_shows_source_driving_result():
    shown = list(evaluation.reconstructions(Mover(), Clips(), [0, 1]))
    image = sheet(shown)
    assert image.dtype == np.uint8 and image.shape == (4 * 128, 4 * 128, 3)
    # The last column's clean result is the driving frame, enlarged.
    assert np.array_equal(image[384:511, 384:511], shown[1].driving[-1].repeat(4, 0).repeat(4, 1)[:127, :127])


def centroid(images):
    """A detector of the user's: one landmark, missing where the image is dark."""
    found = shapes.find(images, 200)
    return found.centre[:, None], (found.area > 0)[:, None]


def test_landmarks_of_the_users_detector_give_akd_and_mkr():
    def measured(model):
        return figures(model, measures=[lambda: LandmarkMetric(centroid)])

    assert measured(Mover())["AKD px"] < 1e-3 and measured(Mover())["MKR"] == 0
    still = measured(Mover(gain=0.0))
    assert still["AKD px"] == pytest.approx(still["AKD copy px"]) and still["AKD px"] > 1
    dark = measured(Mover(show=lambda image: image * 0.1))
    assert dark["MKR"] == 1 and "AKD px" not in dark
    # Two of the three things are bright enough for this detector to find at all.
    assert still["found"] == pytest.approx(2 / 3)


def test_exact_landmarks_stand_in_for_the_detectors_own():
    clips = Clips()
    truth = shapes.find(clips.frames(0), 100).centre[:, None] + [0.0, 3.0]
    shown = reconstruct.show(Mover(), "clip", clips.frames(0)[0], clips.frames(0), truth=truth)
    found = evaluation.score([shown], [LandmarkMetric(centroid)])[0]
    assert found["AKD px"] == pytest.approx(3, abs=1e-3) and found["AKD detector px"] == pytest.approx(3)


def mean_colour(images):
    return images.mean((1, 2)) / 255


def test_identity_is_compared_with_the_driving_frame_or_the_source():
    measure = [lambda: IdentityMetric(mean_colour)]
    assert figures(Mover(), measures=measure)["AED"] < 1e-4
    assert figures(Mover(show=lambda image: image.flip(1)), measures=measure)["AED"] > 1e-3
    # The thing keeps its own colour when another's motion drives it.
    assert figures(Mover(), "relative", measures=measure)["AED"] < 5e-4


def test_frechet_distance_of_gaussians_in_closed_form():
    mean1, mean2 = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
    variance1, variance2 = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.0])
    wanted = np.square(mean1 - mean2).sum() + np.square(np.sqrt(variance1) - np.sqrt(variance2)).sum()
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]

    def gaussian(mean, variance):
        return turn @ mean, turn @ np.diag(variance) @ turn.T

    first, second = gaussian(mean1, variance1), gaussian(mean2, variance2)
    assert frechet_distance(first, second) == pytest.approx(wanted)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    # Without a common turn the product of covariances is not symmetric; the distance is still the same both ways.
    skew = second[0], np.array([[2.0, 0.9, 0.1], [0.9, 1.0, 0.0], [0.1, 0.0, 0.5]])
    assert frechet_distance(first, skew) == pytest.approx(frechet_distance(skew, first))


def test_moments_bit_by_bit_are_those_of_all():
    rows = np.random.default_rng(1).normal(1e4, 1.0, (50, 4))
    moments = Moments()
    for part in np.array_split(rows, 7):
        moments.add(part)
    mean, covariance = moments.gaussian()
    assert np.allclose(mean, rows.mean(0)) and np.allclose(covariance, np.cov(rows.T))


def test_fid_is_nothing_for_a_perfect_model_and_warns_of_few_frames():
    def measured(model, activations):
        measure = FrechetMetric(activations)
        found = evaluation.score(evaluation.reconstructions(model, Clips(), range(3)), [measure])[0]
        return found["FID"], measure.notes

    assert measured(Mover(), mean_colour)[0] == pytest.approx(0, abs=1e-6)
    assert measured(Mover(show=lambda image: image.flip(1)), mean_colour)[0] > 1e-4
    assert measured(Mover(), mean_colour)[1] == []
    notes = measured(Mover(), lambda images: images.reshape(len(images), -1)[:, :40])[1]
    assert len(notes) == 1 and "18 frames" in notes[0]


def network(path, size, outputs, batch="N"):  # any batch, or a fixed one
    """An ONNX file whose answer is the mean colour's first two channels, as landmarks, and its first, as visibility."""
    from onnx import TensorProto, checker, helper, save

    nodes = [
        helper.make_node("GlobalAveragePool", ["pictures"], ["mean"]),
        helper.make_node("Slice", ["mean", "zero", "two", "one"], ["pair"]),
        helper.make_node("Reshape", ["pair", "points_shape"], ["points"]),
        helper.make_node("Mul", ["points", "factor"], ["pixels"]),
        helper.make_node("Slice", ["mean", "zero", "one", "one"], ["red"]),
        helper.make_node("Reshape", ["red", "seen_shape"], ["seen"]),
    ]
    constants = {"zero": [0], "one": [1], "two": [2], "points_shape": [-1, 1, 2], "seen_shape": [-1, 1]}
    tensors = [helper.make_tensor(k, TensorProto.INT64, [len(v)], v) for k, v in constants.items()]
    tensors.append(helper.make_tensor("factor", TensorProto.FLOAT, [1], [size]))
    shapes = {"mean": ["N", 3, 1, 1], "points": ["N", 1, 2], "pixels": ["N", 1, 2], "seen": ["N", 1]}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in outputs],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    save(model, path)
    return str(path)


def test_networks_in_onnx_files(tmp_path):
    plain = np.zeros((3, SIDE, SIDE, 3), np.uint8)
    plain[:] = np.array([51, 102, 0])  # a fifth and two fifths
    plain[2] = np.array([204, 102, 0])
    wanted = np.array([[0.2, 0.4], [0.2, 0.4], [0.8, 0.4]]) * SIDE - 0.5
    for name, batch in (("points", "N"), ("points", 2), ("pixels", "N")):
        find = external.landmark_finder(network(tmp_path / "a.onnx", 16, [name], batch))
        points, visible = find(plain)
        # As pixels they are those of the network's own, smaller image: the centre of pixel p lies at p + 0.5.
        assert np.allclose(points[:, 0], wanted + (0.5 * SIDE / 16 if name == "pixels" else 0), atol=1e-4)
        assert visible.all()
    find = external.landmark_finder(network(tmp_path / "b.onnx", 16, ["points", "seen"]))
    assert find(plain)[1][:, 0].tolist() == [False, False, True]
    vectors = external.embedding(network(tmp_path / "c.onnx", 16, ["mean"]))(plain)
    assert vectors.shape == (3, 3) and np.allclose(vectors[0], [0.2, 0.4, 0], atol=1e-4)


def test_the_users_python(tmp_path, monkeypatch):
    (tmp_path / "my_detector.py").write_text(
        "import numpy as np\n"
        "def points(images): return np.full((len(images), 4, 2), np.nan)\n"
        "def flat(images): return np.zeros((len(images), 4))\n"
        "def broken(images): return images.nothing\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    images = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    assert not external.landmark_finder("my_detector:points")(images)[1].any()
    assert external.embedding("my_detector:flat")(images).shape == (2, 4)
    for given, use, sentence in (
        ("my_detector:flat", external.landmark_finder, r"have to be \(2, L, 2\)"),
        ("my_detector:points", external.embedding, r"has to be \(2, D\)"),
        ("my_detector:broken", external.embedding, "failed on 2 images: AttributeError"),
    ):
        with pytest.raises(external.ExternalError, match=sentence):
            use(given)(images)
    for given, sentence in (
        ("my_detector:missing", "no function 'missing'"),
        ("no_such_module:f", "cannot be imported"),
        ("nonsense", "neither FILE.onnx nor MODULE:FUNCTION"),
        ("nothing.onnx", "There is no file"),
    ):
        with pytest.raises(external.ExternalError, match=sentence):
            external.landmark_finder(given)


def test_broken_networks_get_a_sentence(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(external.ExternalError, match="onnxruntime can run"):
        external.embedding(str(tmp_path / "broken.onnx"))


def test_the_default_models_detector_on_puppets():
    """Exact landmarks of puppets agree with what the detector finds, to a few pixels."""
    from livepuppet.train.metrics.puppet_clips import PuppetClips

    torch.set_num_threads(1)
    clips = PuppetClips(128, seed=5, clips=2, length=3)
    points, visible = external.landmark_finder("lite")(clips.frames(0))
    assert points.shape == clips.truth(0).shape == (3, 16, 2) and visible.mean() > 0.8
    assert np.linalg.norm(points - clips.truth(0), axis=-1).mean() < 4
    assert not np.array_equal(clips.frames(0), clips.frames(1))


def evaluation_file(folder, name="a", **figures):
    facts = {
        "file": f"{name}.safetensors",
        "data": "shapes",
        "mode": "reconstruction",
        "clips": 3,
        "frames": 96,
    }
    facts |= {"figures": figures, "trained by": {"command": "livepuppet train", "steps": "500"}}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(facts))
    return path


def test_a_table_of_evaluations(tmp_path):
    first = evaluation_file(tmp_path, "a", L1=0.01234, MKR=0.125)
    second = evaluation_file(tmp_path, "b", **{"L1": 0.5, "landing px": 1.234})
    lines = table([first, second]).splitlines()
    assert lines[0] == "| weights | set | mode | steps | clips | frames | L1 | MKR | landing px |"
    assert lines[2] == "| a.safetensors | shapes | reconstruction | 500 | 3 | 96 | 0.0123 | 12.5% |  |"
    assert "1.23 |" in lines[3] and "`livepuppet train`" in lines[-1]
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(TableError, match=r"c\.json is not what"):
        table([tmp_path / "c.json"])


@pytest.fixture
def weights(tiny_model, tmp_path):
    from livepuppet.model.checkpoint import save

    save(tiny_model, tmp_path / "tiny.safetensors", command="none")
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def stacked(tmp_path):
    """A folder with a test part of three stacked images."""
    import cv2

    (tmp_path / "data" / "test").mkdir(parents=True)
    for k in range(3):
        clip = np.stack([np.pad(frame, ((0, 32), (0, 32), (0, 0))) for frame in Clips().frames(k)])
        cv2.imwrite(str(tmp_path / "data" / "test" / f"{k}.png"), np.concatenate(clip, axis=1)[..., ::-1])
    return tmp_path / "data"


def run(*arguments):
    from click.testing import CliRunner

    from livepuppet.train.cli.evaluate import evaluate

    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


def test_the_command(weights, stacked, tmp_path):
    torch.set_num_threads(1)
    written, drawn = tmp_path / "out.json", tmp_path / "out.png"
    (tmp_path / "pairs.csv").write_text("source,driving\n0,2\n")
    for options in ((), ("--mode", "animation", "--pairs", tmp_path / "pairs.csv", "--absolute")):
        common = (
            "--data",
            stacked,
            "--landmarks",
            "shapes",
            "--every",
            3,
            "--json",
            written,
            "--sheet",
            drawn,
        )
        result = run(weights, *common, *options)
        assert result.exit_code == 0, result.output
        facts = json.loads(written.read_text())
        assert facts["frames"] == (2 if options else 6) and facts["data"] == "data"
        assert str(tmp_path) not in written.read_text()
        assert ("L1" in facts["figures"]) == (not options) and drawn.exists()
    result = run("--table", written)
    assert result.exit_code == 0 and "| tiny.safetensors | data | animation, absolute |" in result.output


def test_the_commands_sentences(weights, stacked, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, sentence in (
        ((weights, "--data", tmp_path / "empty"), "empty"),
        ((weights, "--data", tmp_path / "nowhere"), "nowhere"),
        ((weights, "--data", stacked, "--landmarks", "nonsense"), "neither FILE.onnx"),
        ((weights, weights), "--table"),
        (("--table", weights), "cannot be read as JSON"),
        ((weights, "--data", stacked, "--device", "nonsense"), "is not one of 'auto'"),
    ):
        result = run(*arguments)
        assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), result.output
        assert sentence in result.output and "Traceback" not in result.output
