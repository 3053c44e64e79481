"""The engine that nobody asked for is the fastest steady one, timed once; a slowed or broken one makes way for another."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from media import gradient

import livepuppet
from livepuppet.core.errors import UserError
from livepuppet.core.memory import resident_bytes
from livepuppet.realtime.app.doctor import engines as doctor_engines
from livepuppet.realtime.engines import OnnxEngine, failures, load_engine, loading, selection
from livepuppet.realtime.engines.selection import Timing, Way, ranking

pytest.importorskip("openvino", reason="with onnxruntime alone there is nothing to choose")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test starts with nothing remembered, and times."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(selection.VARIABLE)
    monkeypatch.setattr(selection, "SECONDS", 0.0)
    monkeypatch.setattr(logging.getLogger("livepuppet"), "propagate", True)
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle / "bundle", tmp_path / "copy")


@pytest.fixture
def times(monkeypatch):
    """How often engines were timed."""
    calls, timed = [], selection.timed

    def counted(engines, *arguments):
        calls.append([engine.name for engine in engines])
        return timed(engines, *arguments)

    monkeypatch.setattr(selection, "timed", counted)
    return calls


def slowed(monkeypatch, engine, call, seconds=0.05):
    function = getattr(engine, call)

    def slow(self, *arguments):
        time.sleep(seconds)
        return function(self, *arguments)

    monkeypatch.setattr(engine, call, slow)


@pytest.mark.parametrize(("slow", "runs"), [("onnx", "openvino"), ("openvino", "onnx")])
def test_a_slowed_engine_makes_way_for_another_and_is_timed_once(bundle, monkeypatch, times, slow, runs):
    classes = {"onnx": OnnxEngine, "openvino": loading.openvino.OpenVinoEngine}
    slowed(monkeypatch, classes[slow], "render")
    first = load_engine(None, bundle, threads=1)
    assert first.name == runs and first.reason.startswith("best of 2 here (timed, a frame: ")
    second = load_engine(None, bundle, threads=1)
    assert (second.name, second.reason) == (first.name, first.reason)
    assert times == [["onnx", "openvino"]]
    # What is asked for is what runs.
    asked = load_engine(slow, bundle, threads=1)
    assert (asked.name, asked.reason) == (slow, "as asked for")


def test_other_threads_another_device_or_model_are_timed_for_themselves(bundle, tiny_bundle, times):
    load_engine(None, bundle, threads=1)
    load_engine(None, bundle, threads=2)
    assert load_engine(None, bundle, threads=1, device="cpu").device == "cpu"
    assert len(times) == 3
    load_engine(None, tiny_bundle / "bundle", threads=1)  # the same model elsewhere
    assert len(times) == 3


def test_one_that_breaks_later_is_left_out_and_taken_back_when_it_is_mended(bundle, monkeypatch, times):
    slowed(monkeypatch, loading.openvino.OpenVinoEngine, "render")
    assert load_engine(None, bundle, threads=1).name == "onnx"

    def raises(self, *arguments):
        raise RuntimeError("the driver is gone")

    with monkeypatch.context() as broken:
        # The gate goes by what it remembers, so it is loading that fails.
        broken.setattr(OnnxEngine, "__init__", raises)
        assert load_engine(None, bundle, threads=1).name == "openvino"
        assert load_engine(None, bundle, threads=1).reason == "the only engine here"
    # Nobody notices that it is mended until it is asked for.
    assert load_engine(None, bundle, threads=1).name == "openvino"
    load_engine("onnx", bundle, threads=1)
    assert load_engine(None, bundle, threads=1).name == "onnx"
    assert times == [["onnx", "openvino"]] * 2


def test_one_that_draws_wrong_is_no_candidate(bundle, monkeypatch, caplog):
    wrong = lambda self, *arguments: np.zeros((self.size, self.size, 3), np.uint8)  # noqa: E731
    monkeypatch.setattr(OnnxEngine, "render", wrong)
    assert load_engine(None, bundle, threads=1).name == "openvino"
    assert [r.getMessage() for r in caplog.records if "engine onnx float32 is left out" in r.getMessage()]
    monkeypatch.setattr(loading.openvino.OpenVinoEngine, "render", wrong)
    shutil.rmtree(bundle.parent / "cache")
    with pytest.raises(UserError, match="does not draw what float32 PyTorch draws"):
        load_engine(None, bundle, threads=1)


def test_damaged_graphs_that_nobody_asked_for_stop_no_start(bundle, monkeypatch, times):
    def damaged(*arguments, **options):
        raise UserError("The file is damaged.")

    with monkeypatch.context() as broken:
        broken.setattr(loading.openvino.OpenVinoEngine, "__init__", damaged)
        assert load_engine(None, bundle, threads=1).name == "onnx" and times == []
        with pytest.raises(UserError, match="damaged"):
            load_engine("openvino", bundle, threads=1)
        broken.setattr(OnnxEngine, "__init__", damaged)
        with pytest.raises(UserError, match="damaged"):
            load_engine(None, bundle, threads=1)


def test_one_that_ended_the_process_is_not_tried_again(bundle, times):
    inputs = selection.inputs_of(bundle, None, None, 1)
    selection.Journal(inputs).trying(Way("openvino", "cpu", "float32"))
    engine = load_engine(None, bundle, threads=1)
    assert (engine.name, engine.reason, times) == ("onnx", "the only engine here", [])
    assert "ended the process" in str(failures.reason_of(("openvino", "cpu", "float32"), bundle))


def test_an_exception_is_no_crash(bundle, monkeypatch):
    inputs = selection.inputs_of(bundle, None, None, 1)

    def stopped(way):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        selection.load_and_time([Way("onnx", "cpu", "float32")], inputs, stopped)
    assert selection.Journal(inputs).crashed() is None


def test_a_first_start_does_not_last(bundle, monkeypatch, times):
    monkeypatch.setattr(selection, "LOADING", 0.0)
    assert load_engine(None, bundle, threads=1).reason == "the only engine here"
    assert load_engine(None, bundle, threads=1).name == "onnx" and times == []


def _hold(path, held, release):
    import fcntl

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        held.set()
        release.wait(30)


def test_starts_at_once_do_not_time_at_once(bundle, monkeypatch, times):
    pytest.importorskip("fcntl")
    inputs = selection.inputs_of(bundle, None, None, 1)
    path = selection.cache_folder(selection.KIND) / f"{selection.key_of(inputs)}.lock"
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(path, held, release))
    other.start()
    assert held.wait(30)
    monkeypatch.setattr(selection, "PATIENCE", 0.3)
    # The other one is at it for too long: run what comes first, untimed.
    assert load_engine(None, bundle, threads=1).reason == "the first that works" and times == []
    # It is done: what it found is taken.
    selection.keep(
        inputs,
        [
            Timing("onnx", "cpu", "float32", (2, 2), (9, 9)),
            Timing("openvino", "cpu", "float32", (2, 2), (4, 4)),
        ],
    )
    assert load_engine(None, bundle, threads=1).name == "openvino" and times == []
    release.set()
    other.join(30)


def test_without_a_cache_nothing_is_timed_at_every_start(bundle, cache, times):
    cache.write_text("a file where the folder should be")
    assert load_engine(None, bundle, threads=1).reason == "the first that works" and times == []


def test_timing_can_be_turned_off(bundle, monkeypatch, times):
    monkeypatch.setenv(selection.VARIABLE, "off")
    assert load_engine(None, bundle, threads=1).name == "onnx" and times == []


# Who is best


def timing(name, detect, frame, slow=1.0):
    return Timing(name, "cpu", "float32", (detect, slow * detect), (frame, slow * frame))


def test_the_steadier_of_two_and_the_usual_one_unless_it_is_clearly_slower():
    usual, shaky, steady = timing("onnx", 3, 30), timing("openvino", 3, 20, slow=3.0), timing("torch", 3, 22)
    assert [one.name for one in ranking([usual, shaky, steady], "frame")] == ["torch", "onnx", "openvino"]
    near = timing("openvino", 3, 28)
    assert ranking([usual, near], "frame")[0] is usual
    assert ranking([], "frame") == []


def test_of_those_that_are_as_fast_the_one_that_takes_less_memory():
    usual, lean = (replace(timing(name, 3, 28), memory=60.0) for name in ("onnx", "torch"))
    large = replace(timing("openvino", 2.9, 27), memory=90.0)
    for use in ("frame", "detect"):
        assert [one.name for one in ranking([large, lean], use)] == ["torch", "openvino"]
        assert ranking([usual, lean, large], use)[0] is usual
        # Little less is not worth another engine than the usual one.
        assert ranking([replace(large, memory=80.0), lean], use)[0].name == "openvino"
        # Nor is it worth time; and where nothing is known of it, it decides nothing.
        slow = replace(lean, detect=(4, 4), frame=(36, 36))
        assert ranking([slow, large], use)[0] is large
        assert ranking([large, timing("torch", 3, 28)], use)[0] is large
    # Where a rig draws, nobody waits for whole frames.
    drawing = replace(timing("openvino", 3, 14), memory=90.0)
    assert (
        ranking([usual, drawing], "detect")[0] is usual and ranking([usual, drawing], "frame")[0] is drawing
    )


def test_memory_is_measured_while_engines_are_loaded(bundle):
    if not resident_bytes():
        pytest.skip("this system does not say how much memory a process has")
    load_engine(None, bundle, threads=1)
    found = selection.kept(selection.inputs_of(bundle, None, None, 1))
    onnx, openvino = (one.memory for one in found.timings)
    assert onnx is not None and openvino is not None


def test_where_a_rig_draws_detecting_counts():
    usual, other = timing("onnx", 2.5, 36), timing("openvino", 3.4, 27)
    assert ranking([usual, other], "frame")[0] is other and ranking([usual, other], "detect")[0] is usual
    # Of those that detect alike, the one that also draws faster.
    eight_bits = Timing("onnx", "cpu", "int8", (2.55, 2.55), (29, 29))
    assert ranking([usual, eight_bits, other], "detect")[0] is eight_bits
    told = selection.reason(ranking([usual, other], "detect"), "detect")
    assert told == "best of 2 here (timed, to read a face: onnx float32 2.5 ms, openvino float32 3.4 ms)"


class Watch:
    """A stopwatch whose times are made up: each round is slowed by what else goes on, each frame by chance.

    Args:
        way: name and precision.
        detect, frame: milliseconds.
    """

    def __init__(self, way, detect, frame, beside, generator):
        self.way, self.true, self.beside, self.generator = way, (detect, frame), beside, generator
        self.found = []

    def round(self):
        number = len(self.found)
        # Usual frames, and now and then one that takes twice as long.
        frames = self.generator.lognormal(0, 0.08, (7, 2)) * (1 + (self.generator.random((7, 1)) < 0.08))
        usual, slow = np.percentile(frames * self.true * self.beside[number], (50, 95), axis=0)
        self.found.append((usual, slow))

    def timing(self):
        usual, slow = np.median(np.array(self.found), axis=0)
        rounds = tuple(tuple(zip(*found, strict=True)) for found in self.found)
        return Timing(
            self.way[0], "cpu", self.way[1], (usual[0], slow[0]), (usual[1], slow[1]), rounds=rounds
        )


@pytest.mark.parametrize(
    ("use", "true", "runs"),
    [
        # Equal: the usual one. 8 bits draw faster, and detectors have the same bits: always they.
        ("frame", [("onnx", "float32", 2.5, 28), ("openvino", "float32", 2.5, 28)], 0),
        ("detect", [("onnx", "float32", 2.5, 28), ("openvino", "float32", 2.5, 28)], 0),
        ("detect", [("onnx", "float32", 2.5, 28), ("onnx", "int8", 2.5, 20)], 1),
        ("frame", [("onnx", "float32", 2.5, 28), ("onnx", "int8", 2.5, 20)], 1),
        (
            "detect",
            [("onnx", "float32", 2.5, 28), ("onnx", "int8", 2.5, 20), ("openvino", "int8", 2.5, 20)],
            1,
        ),
        (
            "frame",
            [("onnx", "float32", 2.5, 28), ("onnx", "int8", 2.5, 27), ("openvino", "int8", 2.4, 27)],
            0,
        ),
    ],
)
def test_where_times_are_close_starts_choose_the_same(monkeypatch, use, true, runs):
    generator, chosen = np.random.default_rng(0), []
    for _ in range(200):
        beside = generator.lognormal(0, 0.3, 20)
        monkeypatch.setattr(
            selection, "Stopwatch", lambda way, beside=beside: Watch(way[:2], *way[2:], beside, generator)
        )
        found = selection.timed(true)
        assert selection.ROUNDS <= len(found[0].rounds) <= selection.ROUNDS + selection.MORE_ROUNDS
        chosen.append(found.index(ranking(found, use)[0]))
    # By their times in all, without rounds, up to a third of the starts would choose another.
    assert chosen.count(runs) >= 196


def test_what_is_clearly_slower_in_nearly_every_round_is_slower():
    def told(*rounds):
        return replace(
            timing("onnx", 3, 30), rounds=tuple(((one, one), (10 * one, 10 * one)) for one in rounds)
        )

    usual, other = told(3, 3, 3, 3), replace(told(2, 2, 2, 2), name="openvino")
    assert ranking([usual, other], "frame")[0] is usual
    other = replace(other, detect=(2, 2), frame=(20, 20))
    assert ranking([usual, other], "frame")[0] is other
    # Twice it was not.
    other = replace(other, rounds=told(3, 2, 2, 3).rounds)
    assert ranking([usual, other], "frame")[0] is usual and selection._undecided([usual, other])


def test_what_is_hopeless_is_timed_no_longer_than_it_takes_to_see(bundle, monkeypatch):
    engines = [load_engine(name, bundle, threads=1) for name in ("onnx", "openvino")]
    calls = []
    slow, detect = engines[1].detect, engines[1].render
    monkeypatch.setattr(
        engines[1], "detect", lambda frame: calls.append(1) or time.sleep(0.03) or slow(frame)
    )
    monkeypatch.setattr(engines[1], "render", lambda *given: time.sleep(0.03) or detect(*given))
    found = selection.timed(engines)
    assert len(calls) == 2 + selection.FEWEST and found[1].frame[0] > 60 > found[0].frame[0]


# Who says so


def test_the_python_api_says_why(bundle):
    animator = livepuppet.Animator(gradient(64, 64), bundle, threads=1)
    assert animator.engine.reason.startswith("best of 2")


def test_doctor_times_all_and_the_next_start_goes_by_it(monkeypatch):
    def measured(engine, seconds):
        return timing(engine.name, 9.0 if engine.name == "onnx" else 3.0, 20.0), "quickly"

    monkeypatch.setattr(doctor_engines, "_measure", measured)
    two = [
        offer
        for offer in loading.offers(weights=False)
        if (offer.device, offer.precision) == ("cpu", "float32")
    ]
    monkeypatch.setattr("livepuppet.realtime.engines.offers", lambda **_: two)
    chapter = doctor_engines.engines(seconds=0.0)
    assert dict(chapter.info)["without options"].startswith("openvino cpu ")
    quick = dict(doctor_engines.engines(quick=True).info)["without options"]
    assert quick == dict(chapter.info)["without options"]
    assert "openvino float32 3.0 ms" in quick and load_engine(use="detect").name == "openvino"
