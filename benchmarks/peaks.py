"""What this machine can do at most: multiplications per second in one large matrix product, and
bytes per second in a copy.

Nothing reaches either in earnest; shares of them say how much is left.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

#: Side of the square matrices: large enough for the processor's caches to be used well, 34 ms at
#: 500 GFLOP/s.
SIDE = {"cpu": 2048, "cuda": 8192}

#: Bytes of the block that is copied: far more than any cache holds.
COPIED = 256 << 20

#: Each is repeated for so long, and the best counts: a peak is what is possible.
SECONDS = 1.0


class Peaks:
    """Measures, in a `Worker`.

    Args:
        device: `cpu` or `cuda`.
        threads: of the CPU, as many as the engines get.
        precisions: to measure besides float32.

    Attributes:
        ready: gflops: {precision: {by: GFLOP/s}} of every library that could be asked; gbytes: read
            and written per second.
    """

    def __init__(self, device: str = "cpu", threads: int = 1, precisions: tuple[str, ...] = ("float32",)):
        self.ready = {
            "device": device,
            "threads": threads,
            "gflops": {precision: _products(device, threads, precision) for precision in precisions},
            "gbytes": _copy_cuda() if device == "cuda" else _copy(threads),
        }


def best(peaks: dict | None, precision: str) -> tuple[float, str] | None:
    """The largest GFLOP/s that any library reached, and which; None where none computes so.

    Args:
        peaks: of `Peaks.ready`.
    """
    found = (peaks or {}).get("gflops", {}).get(precision, {})
    return max(((value, name) for name, value in found.items()), default=None)


def _products(device: str, threads: int, precision: str) -> dict[str, float]:
    side = SIDE[device]
    makers = {"torch": _torch_product, "openvino": _openvino_product}
    found = {}
    for name, make in makers.items():
        if importlib.util.find_spec(name) is None or (device == "cuda" and name != "torch"):
            continue
        call = make(device, threads, precision, side)
        if call is not None:
            found[name] = round(2 * side**3 / _best(call) / 1e9, 3)
    if device == "cpu" and precision == "float32" and not found:
        # NumPy takes as many threads as there are cores, whatever the engines get.
        matrix = np.ones((side, side), np.float32)
        found["numpy"] = round(2 * side**3 / _best(lambda: matrix @ matrix) / 1e9, 1)
    return found


def _torch_product(device: str, threads: int, precision: str, side: int) -> Callable[[], object] | None:
    import torch

    if precision == "int8":
        return None
    if device == "cpu":
        torch.set_num_threads(max(1, threads))
        if precision != "float32" and "avx512" not in torch.backends.cpu.get_cpu_capability().lower():
            return None  # converted back and forth: no peak of anything
    a = torch.ones(side, side, device=device, dtype=getattr(torch, precision))
    out = torch.empty_like(a)

    def call() -> None:
        torch.mm(a, a, out=out)
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def _openvino_product(device: str, threads: int, precision: str, side: int) -> Callable[[], object] | None:
    import openvino

    if precision == "int8":
        return None
    from openvino import opset13 as operators

    core = openvino.Core()
    needed = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}[precision]
    if needed not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    left = operators.parameter([side, side], np.float32)
    # Weights are constants, as in a network: the library may lay them out as it likes.
    right = operators.constant(np.ones((side, side), np.float32))
    # Its stub has two classes called Model, of which one makes the other.
    model = openvino.Model([operators.matmul(left, right, False, False)], [left])  # pyright: ignore
    hint = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[precision]
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    a = np.ones((side, side), np.float32)
    return lambda: request.infer([a], share_inputs=True, share_outputs=True)


def _best(call: Callable[[], object]) -> float:
    """Seconds of the fastest of many calls."""
    call()
    least, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - start)
    return least


def _copy(threads: int) -> float:
    """GB per second of memory, read and written, when each thread copies a part of a large block."""
    threads = max(1, threads)
    source, target = (np.ones(COPIED // 8, np.float64) for _ in range(2))
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        # NumPy copies without Python's lock.
        seconds = _best(lambda: list(pool.map(lambda part: np.copyto(*part), parts)))
    return round(2 * COPIED / seconds / 1e9, 4)


def _copy_cuda() -> float:
    import torch

    source = torch.ones(COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def call() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    return round(2 * COPIED / _best(call) / 1e9, 4)
