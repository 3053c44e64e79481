"""An engine that nobody asked for falls back to the next one; asked for by name, it is refused."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
from media import gradient, write_picture
from tiny_bundle import write_bundle

from livepuppet.core.engine import BrokenEngine
from livepuppet.core.errors import UserError
from livepuppet.realtime.animate import animate
from livepuppet.realtime.app.doctor import engines as doctor_engines
from livepuppet.realtime.engines import OnnxEngine, load_engine, loading, onnx

pytest.importorskip("openvino", reason="with onnxruntime alone there is nothing to fall back to")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test starts with nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # The command line, once it ran in this process, keeps the log from where pytest looks.
    monkeypatch.setattr(logging.getLogger("livepuppet"), "propagate", True)
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle / "bundle", tmp_path / "copy")


def draws_wrong(self, features, avatar_keypoints, keypoints):
    return np.zeros((self.size, self.size, 3), np.uint8)


def raises(self, *arguments, **options):
    raise RuntimeError("Illegal instruction\nand the rest of a long message")


@pytest.fixture(params=["draws wrong", "raises in a frame", "raises when loaded"])
def broken(request, monkeypatch):
    """onnxruntime, the first choice, broken in one of three ways; the list of times that it was started."""
    starts, start = [], OnnxEngine.__init__

    def counted(self, *arguments, **options):
        starts.append(1)
        start(self, *arguments, **options)
        if request.param == "raises when loaded":
            raises(self)

    monkeypatch.setattr(OnnxEngine, "__init__", counted)
    if request.param == "draws wrong":
        monkeypatch.setattr(OnnxEngine, "render", draws_wrong)
    elif request.param == "raises in a frame":
        monkeypatch.setattr(OnnxEngine, "detect", raises)
    return starts


def test_the_next_one_runs_and_the_broken_one_is_not_tried_twice(bundle, broken, caplog):
    assert load_engine(None, bundle, threads=1).name == "openvino"
    (record,) = (record for record in caplog.records if record.name == loading.__name__)
    assert record.levelno == logging.WARNING and "engine onnx is left out" in record.getMessage()
    assert "\n" not in record.getMessage() and len(broken) == 1

    caplog.clear()
    assert load_engine(None, bundle, threads=1).name == "openvino"
    assert len(broken) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_asked_for_by_name_it_is_refused(bundle, broken):
    for _ in range(2):
        with pytest.raises(BrokenEngine, match="Use another --engine"):
            load_engine("onnx", bundle, threads=1)
    assert load_engine("openvino", bundle, threads=1).name == "openvino"


def test_a_mended_engine_is_the_first_choice_again_once_asked_for(bundle, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(OnnxEngine, "detect", raises)
        load_engine(None, bundle, threads=1)
    # Nobody notices that it is mended...
    assert load_engine(None, bundle, threads=1).name == "openvino"
    # ... until it is asked for, by doctor for instance.
    load_engine("onnx", bundle, threads=1, device="cpu", precision="float32")
    assert load_engine(None, bundle, threads=1).name == "onnx"


def test_when_all_are_broken_the_first_says_why_and_all_are_tried_again(bundle, broken, monkeypatch):
    monkeypatch.setattr(loading.openvino.OpenVinoEngine, "detect", raises)
    for count in (1, 2):
        with pytest.raises(BrokenEngine, match="engine onnx"):
            load_engine(None, bundle, threads=1)
        assert len(broken) == count


def test_another_model_is_another_matter(bundle, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(OnnxEngine, "detect", raises)
        load_engine(None, bundle, threads=1)
    assert load_engine(None, write_bundle(tmp_path / "other"), threads=1).name == "onnx"


def test_a_bundle_without_a_reference_is_drawn_once(tmp_path, monkeypatch):
    bundle = write_bundle(tmp_path / "bundle")
    monkeypatch.setattr(OnnxEngine, "render", raises)
    with pytest.raises(BrokenEngine, match="fails on a black picture: Illegal instruction"):
        load_engine("onnx", bundle)
    assert load_engine(None, bundle).name == "openvino"


def test_what_is_wrong_with_the_bundle_is_not_the_engines_fault(bundle, caplog):
    (bundle / "render.onnx").write_bytes(b"something else")
    with pytest.raises(UserError, match="is not the file that the model bundle was made with"):
        load_engine(None, bundle)
    with pytest.raises(UserError, match="There is no model bundle"):
        load_engine(None, bundle / "elsewhere")
    assert not caplog.records


def test_what_was_asked_for_is_not_exchanged(bundle, caplog):
    with pytest.raises(UserError, match="int8"):
        load_engine(None, bundle, precision="int8")
    # A device that only one engine has is that engine's.
    assert loading.choices(device="gpu") == ("openvino",) and loading.choices(device="cuda") == ("onnx",)
    assert not caplog.records


def test_animate_runs_with_the_engine_that_is_left(bundle, broken, tmp_path):
    avatar = write_picture(tmp_path / "avatar.png", gradient(64, 64))
    (tmp_path / "driving").mkdir()
    for index in range(2):
        write_picture(tmp_path / "driving" / f"{index}.png", np.roll(gradient(64, 64), index, 1))
    given = avatar, str(tmp_path / "driving"), str(tmp_path / "moved"), bundle
    assert animate(*given, threads=1).engine == "openvino"
    assert len(list((tmp_path / "moved").iterdir())) == 2
    with pytest.raises(BrokenEngine):
        animate(*given, engine="onnx", threads=1)


def test_doctor_tells_and_goes_on(monkeypatch):
    monkeypatch.setattr(OnnxEngine, "detect", raises)
    chapter = doctor_engines.engines(quick=True)
    assert dict(chapter.info)["onnx cpu float32"].startswith("refused: ")
    texts = {finding.text: finding.verdict for finding in chapter.findings}
    assert texts["onnx cpu float32 cannot be used"] == "WARN"
    assert texts["The default model can be run, with openvino cpu float32"] == "OK"


def test_memory_that_cannot_be_written_is_no_error(bundle, broken, monkeypatch):
    def full(kind):
        raise UserError("no space left")

    for place in ("livepuppet.core.cache", "livepuppet.realtime.engines.failures"):
        monkeypatch.setattr(f"{place}.cache_folder", full)
    assert load_engine(None, bundle, threads=1).name == "openvino"


def test_a_driver_that_does_not_start_is_broken(monkeypatch, bundle):
    """onnxruntime has the provider and cannot start it: nothing else is there for that device."""
    monkeypatch.setattr(onnx, "unavailable_reason", lambda device: None)
    with pytest.raises(BrokenEngine, match=r"could not start it|cannot run"):
        load_engine(None, bundle, device="cuda")
