"""What runs the model here: every engine, device and precision, what computes each stage, and how
fast.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from typing import TYPE_CHECKING, Any, cast

from livepuppet.realtime.app.doctor.checks import Chapter, Finding, ask_program, version_of

if TYPE_CHECKING:
    from livepuppet.core.engine import Precision
    from livepuppet.realtime.engines.selection import Timing

#: Frames per second below which the movement looks choppy, and below which it is no use in a call.
SMOOTH, USABLE = 24.0, 12.0

#: Side of the picture whose drawing is timed, in pixels: what a 720p camera shows of it.
LOOP_SIDE = 720

#: Frames that are not timed: they fill caches.
_WARM_UP = 5


def engines(quick: bool = False, seconds: float = 1.5) -> Chapter:
    """What can run the default model here, and the reason for each that cannot.

    Every engine that can is started, passes the quality gate, and says what computes its three
    stages.

    Args:
        quick: do not measure, and leave PyTorch unloaded.
        seconds: how long to measure each.
    """
    import onnxruntime

    from livepuppet.core.errors import UserError
    from livepuppet.realtime.engines import load_engine, offers, usable_cores
    from livepuppet.realtime.engines.loading import choices

    telemetry = "off" if os.environ.get("ORT_DISABLE_TELEMETRY") == "1" else "on"
    info = [
        (
            "onnxruntime",
            f"{onnxruntime.__version__}, with {', '.join(onnxruntime.get_available_providers())}",
        ),
        ("its telemetry", telemetry),
    ]
    if version_of("openvino"):
        info.append(("openvino", str(version_of("openvino"))))
    findings = _graphics_card(quick, info)
    works: dict[str, str] = {}
    lacking: list[tuple[str, str]] = []
    timings: dict[str, Timing] = {}
    for offer in offers(weights=not quick):
        way = _name(offer)
        if offer.missing:
            lacking.append((way, offer.missing))
            continue
        try:
            engine = load_engine(offer.name, device=offer.device, precision=offer.precision)
        except UserError as error:
            # Also of engines that nobody asks for: the next one runs in their place.
            info.append((way, f"refused: {error}"))
            findings.append(Finding("WARN", f"{way} cannot be used", str(error)))
            continue
        ran = ", ".join(f"{stage} {provider}" for stage, provider in engine.providers.items())
        if len(set(engine.providers.values())) == 1:
            ran = f"all stages {engine.provider}"
        works.setdefault(offer.name, way)
        if not quick:
            timings[way], text = _measure(engine, seconds)
            ran += f"; {text}"
        info.append((way, ran))
    info += [("not here", f"{way}: {reason}") for way, reason in _grouped(lacking)]
    chosen, why = _chosen(works, timings)
    if chosen is None:
        findings.append(
            Finding("FAIL", f"No engine can be used ({', '.join(choices())})", "Install livepuppet again.")
        )
    elif quick:
        findings.append(Finding("OK", f"The default model can be run, with {chosen}"))
    else:
        read, drawn = _live_loop(chosen, seconds)
        info.append(
            ("live loop", f"reading a face {read:.1f} ms, drawing {LOOP_SIDE} x {LOOP_SIDE} {drawn:.1f} ms")
        )
        findings.append(_speed_finding(read, drawn, usable_cores(), chosen))
    info.append(("without options", f"{chosen}, {why}" if chosen else "nothing runs"))
    return Chapter("Engines", tuple(info), tuple(findings))


def _grouped(lacking: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """One line per reason, with the engine and device, and the precisions where there are not all."""
    ways: dict[str, dict[str, list[str]]] = {}
    for way, reason in lacking:
        engine, precision = way.rsplit(" ", 1)
        ways.setdefault(reason, {}).setdefault(engine, []).append(precision)
    return [
        (
            ", ".join(
                f"{engine} {'/'.join(precisions)}" if len(precisions) < 3 else engine
                for engine, precisions in engines.items()
            ),
            reason,
        )
        for reason, engines in ways.items()
    ]


def _live_loop(way: str, seconds: float) -> tuple[float, float]:
    """Milliseconds that the live loop's two threads take for a frame, in the median: to read a face,
    and to draw the bundled avatar with its rig.

    Args:
        way: engine, device and precision.
        seconds: how long to measure.
    """
    from livepuppet.core.video import open_video
    from livepuppet.realtime.animator import Animator
    from livepuppet.realtime.bundled import AVATAR, DRIVING

    name, device, precision = way.split()
    animator = Animator(
        AVATAR, engine=name, device=device, precision=cast("Precision", precision), size=LOOP_SIDE
    )
    times: list[tuple[float, float]] = []
    end = math.inf
    for frame in open_video(str(DRIVING)):
        begin = time.perf_counter()
        plan = animator.plan(frame)
        planned = time.perf_counter()
        animator.paint(plan)
        painted = time.perf_counter()
        if plan.moved:
            times.append((planned - begin, painted - planned))
        # The first frames find the face and make the rig.
        end = min(end, painted + seconds) if len(times) > _WARM_UP else end
        if painted > end:
            break
    read, drawn = zip(*times[_WARM_UP:], strict=True)
    return 1000 * statistics.median(read), 1000 * statistics.median(drawn)


def _measure(engine: Any, seconds: float) -> tuple[Timing, str]:
    """How long frames take with the bundled avatar moving, and a text."""
    from livepuppet.realtime.engines.selection import ROUNDS, Stopwatch

    watch = Stopwatch(engine)
    for _ in range(ROUNDS):
        watch.round(seconds / ROUNDS)
    timing = watch.timing()
    median, p95 = timing.frame
    render = median - timing.detect[0]
    return timing, (
        f"detect {timing.detect[0]:.1f} ms, render {render:.1f} ms, a frame {median:.1f} ms "
        f"(95th percentile {p95:.1f} ms)"
    )


def _chosen(works: dict[str, str], timings: dict[str, Timing]) -> tuple[str | None, str]:
    """The way that runs without options, and why. What was timed here is kept: the next start goes
    by it.

    Args:
        works: name of an engine -> its first way that draws right.
        timings: by way; empty where nothing was timed.
    """
    from livepuppet.realtime.bundled import MODEL
    from livepuppet.realtime.engines import selection
    from livepuppet.realtime.engines.loading import candidates, choices

    usual = next((works[name] for name in choices() if name in works), None)
    if not selection.enabled() or usual is None:
        return usual, "the first that works"
    inputs = selection.inputs_of(MODEL, None, None, None)
    if timings:
        found = [timings[_name(way)] for way in candidates() if _name(way) in timings]
        if found:
            selection.keep(inputs, found)
    kept = selection.kept(inputs)
    order = selection.ranking(kept.timings, "detect") if kept else []
    if not order or (timings and _name(order[0].way) not in timings):
        return usual, "the usual one, as none has been timed yet"
    return _name(order[0].way), selection.reason(order, "detect")


def _name(way: Any) -> str:
    return f"{way.name} {way.device} {way.precision}"


def _speed_finding(read: float, drawn: float, cores: int, engine: str) -> Finding:
    """What the live loop can do.

    Args:
        read, drawn: milliseconds, see `_live_loop`; the two overlap where there are two cores.
    """
    fps = 1000 / (max(read, drawn) if cores != 1 else read + drawn)
    expected = f"{fps:.1f}" if fps < 10 else f"{min(fps, 30):.0f}"
    text = f"With {engine}, expect up to {expected} frames per second from a 30 FPS camera"
    if fps > 30:
        text += f" (up to {fps:.0f} from a faster one)"
    if fps >= SMOOTH:
        return Finding("OK", text)
    remedy = "Close other programs and plug in the charger."
    if drawn > read:
        remedy += f" A smaller picture is drawn faster: --size {LOOP_SIDE * 2 // 3}x{LOOP_SIDE * 2 // 3}."
    return Finding("WARN" if fps >= USABLE else "FAIL", text, remedy)


def _graphics_card(quick: bool, info: list[tuple[str, str]]) -> list[Finding]:
    findings = []
    gpu_package = version_of("onnxruntime-gpu")
    if gpu_package:
        usable = _cuda_session_works()
        info.append(("onnxruntime-gpu", f"{gpu_package}, CUDA {'can' if usable else 'cannot'} be used"))
        if not usable:
            findings.append(
                Finding(
                    "WARN",
                    "onnxruntime-gpu is installed but cannot use CUDA, so it computes on the processor without a word",
                    "Install the CUDA and cuDNN that it was built for, or pip uninstall onnxruntime-gpu and pip install "
                    "onnxruntime.",
                )
            )
    if quick or not version_of("torch"):
        return findings
    import torch

    if torch.cuda.is_available():
        info.append(
            ("PyTorch", f"{torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name(0)}")
        )
    else:
        info.append(("PyTorch", f"{torch.__version__}, no CUDA"))
        if torch.version.cuda and ask_program(["nvidia-smi", "-L"]):
            findings.append(
                Finding(
                    "WARN",
                    f"There is an NVIDIA card, but PyTorch (for CUDA {torch.version.cuda}) cannot use it",
                    "Update the card's driver, or install the PyTorch that fits it.",
                )
            )
    return findings


def _cuda_session_works() -> bool:
    """Whether a session that asks for CUDA gets it: onnxruntime falls back without an error."""
    import onnxruntime

    from livepuppet.realtime.bundled import MODEL

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return False
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(MODEL / "detect.onnx"), options, providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
        )
    except Exception:  # onnxruntime's exceptions share no base class
        return False
    return session.get_providers()[0] == "CUDAExecutionProvider"
