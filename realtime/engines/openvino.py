"""The engine that runs a bundle with OpenVINO: on processors, Intel's graphics and NPUs."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from livepuppet.core.bundle import graphs_of, read_bundle
from livepuppet.core.cache import remember_bytes, remembered_bytes
from livepuppet.core.engine import STAGES, BrokenEngine, Precision
from livepuppet.core.errors import UserError
from livepuppet.core.files import sha256
from livepuppet.core.names import text_of
from livepuppet.realtime.engines.bundles import BundleEngine
from livepuppet.realtime.engines.cores import usable_cores
from livepuppet.realtime.engines.quality_gate import machine_info

#: Compiled graphs that are kept in the user's cache: a model has three, for each device, precision
#: and number of threads.
MOST_KEPT = 36

#: What OpenVINO calls the devices.
DEVICES = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}

#: What it calls the precisions, as a hint and among a device's capabilities. An int8 graph says
#: itself what is int8.
_HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "f32"}
_CAPABILITIES = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16", "int8": "INT8"}


class OpenVinoEngine(BundleEngine):
    """Runs a bundle with OpenVINO.

    Compiled models are kept in the user's cache, so that later starts take a fraction of a second.

    Args:
        bundle: folder that `livepuppet export` wrote.
        threads: of the CPU; `usable_cores()` by default.
        device: `cpu`, `gpu` (Intel's) or `npu`.
        precision: `float32`; `bfloat16` or `float16` where the device computes in it; `int8` where
            the bundle has such graphs. By default float32 on processors, float16 elsewhere; see
            `fastest_precision`.

    Raises:
        UserError: OpenVINO is not installed, the bundle is not to be used, or the device or
            precision is not to be had.
    """

    name = "openvino"

    def __init__(
        self,
        bundle: str | os.PathLike,
        threads: int | None = None,
        device: str | None = None,
        precision: Precision | None = None,
    ):
        folder = Path(bundle)
        metadata = read_bundle(folder)
        self.device = device or "cpu"
        self.precision: Precision = precision or fastest_precision(self.device)
        if missing := unavailable_reason(self.device, self.precision):
            raise UserError(missing)
        graphs = graphs_of(folder, metadata, "int8" if self.precision == "int8" else "float32")
        cores = usable_cores() if threads is None else threads
        # As onnxruntime's: beside `detect` another thread paints. Two threads take 6.2 ms of a core for it, one 3.7.
        of_detect = cores - 1 if threads is None and cores > 1 else cores
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
        }
        core, self._requests, self.providers = _core(), {}, {}
        for stage in STAGES:
            if self.device == "cpu":
                settings["INFERENCE_NUM_THREADS"] = of_detect if stage == "detect" else cores
            try:
                compiled = _compiled(core, graphs[stage], DEVICES[self.device], settings)
            except RuntimeError as error:
                raise BrokenEngine(
                    f"OpenVINO cannot run {graphs[stage]}: {_reason(error)}; update openvino, or use --engine onnx."
                ) from error
            self._requests[stage] = compiled.create_infer_request()
            self.providers[stage] = _active_provider(compiled, self.precision)
        self.provider: str = self.providers["render"]
        super().__init__(folder, metadata)

    def _names_of(self, stage: str) -> tuple[list[str], list[str]]:
        request = self._requests[stage]
        return _names(request.model_inputs), _names(request.model_outputs)

    def _run(self, stage: str, outputs: list[str], inputs: dict) -> list:
        request = self._requests[stage]
        # Inputs are read where they lie. Outputs lie in memory that the next call overwrites, so
        # they are copied.
        request.infer(inputs, share_inputs=True, share_outputs=True)
        return [np.array(request.get_tensor(name).data) for name in outputs]


def _compiled(core: Any, graph: Path, device: str, settings: dict[str, Any]) -> Any:
    """The graph compiled for a device: from the user's cache where it is there.

    Not by OpenVINO's own cache (`CACHE_DIR`): it maps files into memory that another process may be
    writing, which ends both (SIGBUS), and believes what is damaged.
    """
    if "EXPORT_IMPORT" not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        return core.compile_model(_model_of(core, graph), device, settings)
    inputs = {"graph": sha256(graph), "device": device, "settings": settings, **machine_info()}
    with suppress(KeyError, RuntimeError):
        return core.import_model(io.BytesIO(remembered_bytes("openvino", inputs)), device, settings)
    compiled = core.compile_model(_model_of(core, graph), device, settings)
    with suppress(RuntimeError):
        remember_bytes("openvino", inputs, compiled.export_model().getvalue(), MOST_KEPT)
    return compiled


def _model_of(core: Any, graph: Path) -> Any:
    """What `compile_model` takes: a name, or what it read where the name is no UTF-8."""
    name = str(graph)
    return name if text_of(name) == name else core.read_model(io.BytesIO(graph.read_bytes()))


def unavailable_reason(device: str, precision: Precision = "float32") -> str | None:
    """The sentence that says why OpenVINO cannot compute so, and how it could; None where it can."""
    if importlib.util.find_spec("openvino") is None:
        return (
            "The openvino engine is not installed: pip install 'livepuppet[openvino]', or use --engine onnx."
        )
    if device not in DEVICES:
        return f"OpenVINO has no device called '{device}' here; use --device {', '.join(DEVICES)}."
    there = _core().available_devices
    if not any(name.split(".")[0] == DEVICES[device] for name in there):
        return (
            f"OpenVINO finds no {device} in this computer (it finds {', '.join(there) or 'nothing'}); install the device's "
            "driver, or use --device cpu."
        )
    if _CAPABILITIES[precision] not in _core().get_property(DEVICES[device], "OPTIMIZATION_CAPABILITIES"):
        return f"This {device} does not compute in {precision} (as OpenVINO says); use --precision float32."
    return None


def fastest_precision(device: str) -> Precision:
    """What to compute in when nobody asks: 16 bits on graphics cards, which are made for them.

    Never bfloat16 on processors, though some have it: OpenVINO then rounds sampling positions too
    (all but what follows the last convolution), and a position in bfloat16 is off by up to a pixel.
    Where it does so, the gate refuses it.
    """
    if device != "cpu" and unavailable_reason(device, "float16") is None:
        return "float16"
    return "float32"


def _core():
    """OpenVINO's one object for everything; slow to make, so made once."""
    global _CORE
    if _CORE is None:
        # Its converters of other formats are of no use here, and importing them takes as long as
        # all the rest of it (0.2 s). OpenVINO does without where they cannot be imported.
        converters = "openvino.tools.ovc"
        unwanted = converters not in sys.modules
        if unwanted:
            # None stops an import, see the documentation of `sys.modules`.
            sys.modules[converters] = None  # pyright: ignore[reportArgumentType]
        try:
            import openvino
        finally:
            if unwanted:
                del sys.modules[converters]
        _CORE = openvino.Core()
    return _CORE


_CORE = None


def _names(outputs) -> list[str]:
    return [name for output in outputs for name in output.get_names()]


def _reason(error: Exception) -> str:
    """OpenVINO's messages name the lines of its own source first, what was wrong last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _active_provider(compiled, precision: Precision) -> str:
    """The devices and the precision that the compiled model itself names."""
    devices = ", ".join(compiled.get_property("EXECUTION_DEVICES"))
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return f"OpenVINO {devices} {'int8 and ' if precision == 'int8' else ''}{hint}"
