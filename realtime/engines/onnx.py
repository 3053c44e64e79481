"""The engine that runs a bundle with onnxruntime: on any processor, and on graphics cards by its
other providers.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from livepuppet.core.bundle import graphs_of, read_bundle
from livepuppet.core.engine import STAGES, BrokenEngine, Precision
from livepuppet.core.errors import UserError
from livepuppet.core.files import sha256
from livepuppet.core.names import text_of
from livepuppet.realtime.engines.bundles import BundleEngine
from livepuppet.realtime.engines.cores import usable_cores

#: What onnxruntime calls each device, and how one comes by it.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "pip install --force-reinstall onnxruntime"),
    "cuda": (
        "CUDAExecutionProvider",
        "pip uninstall onnxruntime, then pip install onnxruntime-gpu[cuda,cudnn]",
    ),
    "tensorrt": (
        "TensorrtExecutionProvider",
        "pip uninstall onnxruntime, then pip install onnxruntime-gpu[cuda,cudnn] tensorrt-cu12",
    ),
    "directml": (
        "DmlExecutionProvider",
        "on Windows: pip uninstall onnxruntime, then pip install onnxruntime-directml",
    ),
    "coreml": ("CoreMLExecutionProvider", "on a Mac: pip install --force-reinstall onnxruntime"),
}

#: Where pictures and features of a device other than the processor live, as `OrtValue` calls it.
#: CoreML takes and gives ordinary memory, and so does DirectML unless one manages its resources
#: oneself.
_MEMORY = {"cuda": "cuda", "tensorrt": "cuda"}


class OnnxEngine(BundleEngine):
    """Runs a bundle with onnxruntime. Needs no PyTorch.

    What was asked for is what runs: onnxruntime itself falls back to the processor without an
    error.

    Args:
        bundle: folder that `livepuppet export` wrote.
        threads: of the CPU; by default `usable_cores()`, one less for `detect`, which runs beside the
            thread that paints the frame before.
        device: a key of `PROVIDERS`.
        precision: `float32`, or a variant that the bundle has.

    Raises:
        UserError: the folder is no bundle, is damaged, or is of a newer livepuppet; the device or
            the precision is not to be had.
    """

    name = "onnx"

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
        self.precision: Precision = precision or "float32"
        if missing := unavailable_reason(self.device):
            raise UserError(missing)
        self._graphs = graphs_of(folder, metadata, self.precision)
        cores = usable_cores() if threads is None else threads
        self._threads: dict[str, int] = dict.fromkeys(STAGES, cores)
        if threads is None and cores > 1:
            # On two cores of a Xeon with AVX-512, in a live loop: 1.1 ms of a core less per frame, and no more delay.
            self._threads["detect"] = cores - 1
        self._sessions = {}
        if self.device == "cpu":
            # Who runs what is plain, and where a rig draws, two of the three never run: they are
            # opened when they first do (0.1 s).
            self.providers: dict[str, str] = dict.fromkeys(STAGES, PROVIDERS["cpu"][0])
        else:
            self.providers = {stage: _active_provider(self._session(stage)) for stage in STAGES}
        self.provider: str = self.providers["render"]
        self._memory = _MEMORY.get(self.device)
        super().__init__(folder, metadata)

    def _session(self, stage: str):
        if stage not in self._sessions:
            self._sessions[stage] = _session(self._graphs[stage], self._threads[stage], self.device)
        return self._sessions[stage]

    def _names_of(self, stage: str) -> tuple[list[str], list[str]]:
        session = self._session(stage)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        return [entry.name for entry in inputs], [output.name for output in outputs]

    def _run(self, stage: str, outputs: list[str], inputs: dict) -> list:
        if self._memory is None:
            return list(self._session(stage).run(outputs, inputs))
        return self._run_on_device(stage, outputs, inputs, self._memory)

    def _run_on_device(self, stage: str, outputs: list[str], inputs: dict, memory: str) -> list:
        """As `_run`; features stay in the device's memory, where `render` wants them. Not run on a
        real device yet.
        """
        session = self._session(stage)
        binding = session.io_binding()
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, memory if stage == "encode" else "cpu")
        session.run_with_iobinding(binding)
        values = binding.get_outputs()
        return values if stage == "encode" else [value.numpy() for value in values]


def unavailable_reason(device: str) -> str | None:
    """The sentence that says why onnxruntime cannot use a device and how it could; None where it
    has the provider.
    """
    import onnxruntime

    if device not in PROVIDERS:
        return f"onnxruntime has no device called '{device}' here; use --device {', '.join(PROVIDERS)}."
    provider, remedy = PROVIDERS[device]
    if provider in onnxruntime.get_available_providers():
        return None
    return f"This onnxruntime cannot use {device} (it has no {provider}); {remedy}, or use --device cpu."


def graph_name(path: Path) -> str | bytes:
    """A graph for a runtime that takes names as UTF-8: its content where its name is none."""
    name = str(path)
    return name if text_of(name) == name else path.read_bytes()


def _session(path: Path, threads: int, device: str):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads spin, and take the cores from the next session's call and from the camera and
    # encoder: spinning freely, `detect` of fomm-256 took 43 ms between renders, against 16 ms with
    # a stop after each call. On two busy cores lite-256 took 206 ms with that stop alone, and 110
    # to 140 ms when threads spin for 50 us at most. (Older onnxruntimes ignore the second setting.)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
    # So that it can be asked who runs what; onnxruntimes before 1.24 ignore it.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.log_severity_level = 3
    provider = PROVIDERS[device][0]
    # What a card's provider cannot do, the processor does; `_active_provider` tells.
    providers: list[str | tuple[str, dict[str, str]]] = [(provider, _settings(device, path))]
    if device == "tensorrt" and PROVIDERS["cuda"][0] in onnxruntime.get_available_providers():
        providers.append((PROVIDERS["cuda"][0], _settings("cuda", path)))
    if device != "cpu":
        providers.append("CPUExecutionProvider")
    try:
        session = onnxruntime.InferenceSession(graph_name(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base class
        reason = str(error).splitlines()[0]
        raise BrokenEngine(
            f"onnxruntime cannot run {path}: {reason}; update onnxruntime or export it again."
        ) from error
    if provider not in session.get_providers():
        raise BrokenEngine(
            f"onnxruntime has {provider} but could not start it (a driver or library of the wrong version, mostly): "
            f"{PROVIDERS[device][1]}, or use --device cpu."
        )
    return session


def _settings(device: str, graph: Path) -> dict[str, str]:
    """Of the provider. TensorRT's engines are kept, since building them takes minutes."""
    if device == "cuda":
        # The fastest convolutions are looked for once, at start; TF32's ten bits of mantissa are
        # not float32.
        return {"cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0"}
    if device == "tensorrt":
        from livepuppet.core.cache import cache_folder

        # onnxruntime knows its kept engines by names in the graph, not by weights: each graph has a
        # folder of its own. Types are the graph's: `trt_fp16_enable` (or int8) would let TensorRT
        # choose them, and round sampling grids.
        folder = str(cache_folder(f"onnxruntime-tensorrt/{sha256(graph)[:32]}"))
        return {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "True",
        }
    return {}


def _active_provider(session) -> str:
    """The provider that got the operators; where they were shared out, how many each got."""
    try:
        parts = session.get_provider_graph_assignment_info()
    except Exception:  # an onnxruntime before 1.24 does not tell
        return ", ".join(session.get_providers())
    counts = Counter()
    for part in parts:
        counts[part.ep_name] += len(part.get_nodes())
    if len(counts) < 2:
        return next(iter(counts), session.get_providers()[0])
    total = sum(counts.values())
    return ", ".join(f"{name} ({count} of {total} operators)" for name, count in counts.most_common())
