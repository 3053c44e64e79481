"""`livepuppet export --verify`: every engine that is here against float32 PyTorch, and what is done with the answer."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from livepuppet.core.errors import UserError
from livepuppet.core.images import write_png
from livepuppet.export import verify as verifying
from livepuppet.export.commands import LONGEST, MOST_CLIPS, bundled_pictures, export, pictures_of
from livepuppet.export.verify import verify
from livepuppet.realtime.engines import Offer, load_engine
from livepuppet.realtime.engines import quality_gate as gating


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test starts with nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def few_offers(monkeypatch):
    """One that runs a bundle, one that runs weights, one that is not here: real ones take long to compile."""

    def offered(model=None, weights=True):
        if model.is_dir():
            lacks = "There is no card; buy one."
            return [
                Offer("onnx", "cpu", "float32", None),
                Offer("onnx", "cuda", "float32", lacks),
                Offer("onnx", "cuda", "float16", lacks),
            ]
        return [Offer("torch", "cpu", "float32", None)]

    monkeypatch.setattr(verifying, "offers", offered)


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    """A bundle with its weights in it."""
    folder = shutil.copytree(tiny_bundle / "bundle", tmp_path / "copy")
    shutil.copy(tiny_bundle / "weights.safetensors", folder / "tiny.safetensors")
    return folder


@pytest.fixture
def sampling(monkey_bundle, tmp_path):
    """The same of a model with GridSample in its graphs."""
    folder = shutil.copytree(monkey_bundle / "bundle", tmp_path / "sampling")
    shutil.copy(monkey_bundle / "weights.safetensors", folder)
    return folder


def damage(folder) -> None:
    """Sample with nearest, as an exporter might have written it."""
    graph = onnx.load(folder / "render.onnx")
    for node in graph.graph.node:
        for entry in node.attribute:
            if node.op_type == "GridSample" and entry.name == "mode":
                entry.s = b"nearest"
    onnx.save(graph, folder / "render.onnx")
    facts = json.loads((folder / "bundle.json").read_text())
    facts["graphs"]["render"]["sha256"] = hashlib.sha256((folder / "render.onnx").read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(facts))


def run(*arguments):
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def test_a_sound_bundle_passes(copy):
    done = run(copy, "--verify")
    assert done.exit_code == 0, done.output
    assert "Against float32 PyTorch with tiny.safetensors, the worst of 5 pictures" in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[1:]] == ["onnx cpu float32", "torch cpu float32"]
    assert all(row.rstrip(" |").endswith("PASS") for row in rows[1:])
    # One line for each reason, not for each engine.
    assert "- onnx cuda float32, onnx cuda float16: There is no card; buy one." in done.stdout


def test_json_is_all_there_is_on_standard_output(copy):
    done = run(copy, "--verify", "--json")
    report = json.loads(done.stdout)
    assert [row["verdict"] for row in report["rows"]] == ["PASS", "not here", "not here", "PASS"]
    quality = report["rows"][0]["quality"]
    assert quality["pictures"] == 5 and quality["pixels_max"] <= 1 and quality["keypoints"] < 1e-4
    assert report["graphs"] == [] and report["thresholds"]["float32"]["psnr"] == 60


def test_what_is_refused_is_told_and_remembered(sampling, monkeypatch):
    damage(sampling)
    done = run(sampling, "--verify")
    assert done.exit_code == 1
    assert "REFUSED" in done.stdout and "a pixel differs by" in done.stdout
    assert "render.onnx has a GridSample that is not bilinear" in done.stdout
    # PyTorch itself is not to blame.
    assert "| torch cpu float32 |" in done.stdout and done.stdout.count("PASS") == 1
    monkeypatch.setattr(gating, "compare", None)
    with pytest.raises(UserError, match="does not draw what float32 PyTorch draws"):
        load_engine("onnx", sampling, threads=1)


def test_more_pictures_than_the_gates_own_can_refuse(copy, monkeypatch):
    """The gate has five pictures. What is wrong with others it knows from here."""
    report = verify(copy, None, [bundled_pictures(64)])
    assert not report.refused
    load_engine("onnx", copy, threads=1)
    compare = verifying.compare

    def bad_on_others(engine, reference):
        found = compare(engine, reference)
        others = not np.array_equal(reference.pictures[0], bundled_pictures(64)[0])
        return replace(found, pixels_mean=9.0) if others and engine.name == "onnx" else found

    monkeypatch.setattr(verifying, "compare", bad_on_others)
    others = list(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8))
    report = verify(copy, None, [bundled_pictures(64), others])
    assert report.pictures == 10
    assert [row.verdict for row in report.rows] == ["REFUSED", "not here", "not here", "PASS"]
    with pytest.raises(UserError, match="9 levels on average"):
        load_engine("onnx", copy, threads=1)


def test_an_engine_that_breaks_down_is_a_row_not_a_traceback(copy, monkeypatch):
    def breaks(*_, **__):
        raise RuntimeError("the driver is too old\nand more")

    monkeypatch.setattr(verifying, "load_engine", breaks)
    report = verify(copy, None, [bundled_pictures(64)])
    assert [row.verdict for row in report.rows] == ["REFUSED", "not here", "not here", "REFUSED"]
    assert "- onnx cpu float32: the driver is too old" in report.to_markdown()
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["quality"] is None


def test_without_weights_the_bundles_own_reference_is_used(copy):
    (copy / "tiny.safetensors").write_bytes(b"of another model")
    done = run(copy, "--verify")
    assert done.exit_code == 0, done.output
    assert "what float32 PyTorch drew at export (the weights are not here)" in done.stdout
    assert "torch" not in [line.split()[1] for line in done.stdout.splitlines() if line.startswith("| ")]


def test_a_bundle_without_anything_to_compare_with(copy):
    facts = json.loads((copy / "bundle.json").read_text())
    del facts["reference"]
    (copy / "bundle.json").write_text(json.dumps(facts))
    assert run(copy, "--verify").exit_code == 0  # the weights are there
    (copy / "tiny.safetensors").unlink()
    failed = run(copy, "--verify")
    assert failed.exit_code == 1 and "nothing to compare with; export it again" in failed.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["BUNDLE"], "Missing option '--output'"),
        (["BUNDLE", "--verify", "--int8"], "need the weights"),
        (["BUNDLE", "--verify", "--clips", "NOWHERE"], "There is no folder"),
        (["BUNDLE", "--verify", "--clips", "EMPTY"], "has no videos in it"),
        (["EMPTY", "--verify"], "has no bundle.json"),
    ],
)
def test_what_people_get_wrong(arguments, sentence, copy, tmp_path):
    (tmp_path / "empty").mkdir()
    names = {"BUNDLE": copy, "EMPTY": tmp_path / "empty", "NOWHERE": tmp_path / "nowhere"}
    failed = run(*(names.get(argument, argument) for argument in arguments))
    assert failed.exit_code in (1, 2) and sentence in failed.output, failed.output
    assert "Traceback" not in failed.output


# Pictures


def folder_of_clips(folder, count, frames=5, size=(48, 32)):
    import av

    folder.mkdir()
    for index in range(count):
        with av.open(str(folder / f"{index}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "bgr0"
            for frame in range(frames):
                pixels = np.full((size[1], size[0], 3), 40 * index + 10 * frame, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    return folder


def test_bundled_pictures_are_of_two_faces_in_three_poses():
    pictures = bundled_pictures(64)
    assert [picture.shape for picture in pictures] == [(64, 64, 3)] * 4
    for first in range(4):
        for second in range(first):
            assert np.abs(pictures[first].astype(int) - pictures[second]).mean() > 5


def test_clips_lend_each_other_their_faces(tmp_path):
    sets = pictures_of(folder_of_clips(tmp_path / "clips", 2), 16)
    assert [[int(picture.mean()) for picture in entry] for entry in sets] == [
        [40, 0, 10, 30],
        [0, 40, 50, 70],
    ]
    assert all(picture.shape == (16, 16, 3) for entry in sets for picture in entry)


def test_pictures_in_the_folder_become_avatars(tmp_path):
    folder = folder_of_clips(tmp_path / "clips", 2)
    write_png(folder / "face.png", np.full((20, 30, 3), 200, np.uint8))
    assert [int(entry[0].mean()) for entry in pictures_of(folder, 16)] == [200, 200]


def test_large_folders_are_sampled_and_short_clips_named(tmp_path, monkeypatch):
    monkeypatch.setattr("livepuppet.export.commands.MOST_CLIPS", 3)
    monkeypatch.setattr("livepuppet.export.commands.LONGEST", 3)
    folder = folder_of_clips(tmp_path / "clips", 5)
    assert [[int(p.mean()) for p in entry[1:]] for entry in pictures_of(folder, 16)] == [
        [0, 10, 20],
        [80, 90, 100],
        [160, 170, 180],
    ]
    assert (MOST_CLIPS, LONGEST) == (16, 300)
    folder_of_clips(tmp_path / "short", 1, frames=2)
    with pytest.raises(UserError, match="fewer than three frames"):
        pictures_of(tmp_path / "short", 16)
