"""The engine that runs weights with PyTorch, on a processor or a graphics card."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from livepuppet.core.engine import STAGES, Features, Precision, checked_image, checked_numbers
from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices
from livepuppet.core.numbers import is_whole
from livepuppet.core.processor import processor_flags

if TYPE_CHECKING:
    from torch import Tensor

    from livepuppet.model.base import Model
    from livepuppet.realtime.engines.graphed_callables import GraphedCallable

#: Devices and precisions that PyTorch is offered for.
CHOICES: tuple[tuple[str, Precision], ...] = (
    ("cpu", "float32"),
    ("cpu", "bfloat16"),
    ("cuda", "float32"),
    ("cuda", "float16"),
    ("cuda", "bfloat16"),
    ("mps", "float32"),
)


def unavailable_reason(device: str, precision: Precision = "float32") -> str | None:
    """The sentence that says why PyTorch cannot compute so, and how it could; None where it can.

    Args:
        device: of `CHOICES`; a card's number may follow, as in "cuda:1".
    """
    if importlib.util.find_spec("torch") is None:
        return "The torch engine needs PyTorch: pip install 'livepuppet[train]', or use --engine onnx."
    import torch

    kind, _, number = device.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        return (
            f"PyTorch cannot use the device '{device}', for it finds no CUDA card: install the CUDA build of PyTorch and the "
            "card's driver, or use --device cpu."
        )
    if kind == "cuda" and is_whole(number) and int(number) >= torch.cuda.device_count():
        return f"PyTorch cannot use the device '{device}', for it finds {torch.cuda.device_count()} CUDA cards; use --device cuda."
    if kind == "mps" and not torch.backends.mps.is_available():
        return "PyTorch cannot use the device 'mps', for it finds no Apple graphics; use --device cpu."
    if kind in ("cpu", "cuda", "mps") and (kind, precision) not in CHOICES:
        offered = ", ".join(other for name, other in CHOICES if name == kind)
        return f"The torch engine does not compute in {precision} on {kind}; use --precision {offered}."
    if precision == "bfloat16" and kind == "cpu" and not _processor_has_bfloat16():
        return "This processor has no instructions for bfloat16, and without them it is slower than float32; use --precision float32."
    if precision == "bfloat16" and kind == "cuda" and not torch.cuda.is_bf16_supported():
        return "This card does not compute in bfloat16; use --precision float16."
    return None


def _processor_has_bfloat16() -> bool:
    """AVX-512 BF16 or AMX of x86, BF16 of ARM. (Without them oneDNN computes in float32 and rounds
    every layer.)
    """
    if flags := processor_flags():
        return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    import torch

    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


class TorchEngine:
    """Runs weights with PyTorch, on a GPU where there is one.

    Channels last; in 16 bits by `torch.autocast`, from which the networks keep positions out by
    themselves, with weights in 16 bits once and for all. On a card `detect` and `render` are CUDA
    graphs; see `graphed_callables`. (No card was to be had yet: what runs on CUDA alone is written
    against PyTorch 2.13's documentation.)

    Args:
        weights: file that `livepuppet train` or `livepuppet import` wrote; or a `Model`, which is the
            engine's from then on.
        device: `cpu`, `cuda`, `cuda:1`, ...; by default `cuda` where PyTorch can use it.
        threads: of the CPU, for the whole process; PyTorch's own choice by default.
        precision: by default float16 on `cuda`, else float32.
        plain: nothing of the above but the device: float32 with PyTorch's own settings (on a card
            TF32 in convolutions), every kernel started by Python. What benchmarks compare with.
        compile: have `torch.compile` write kernels for `detect` and `render`. The first call takes
            a minute, so it is never done unasked.
        graph: on a card, record CUDA graphs of `detect` and `render`.
        tf32: on a card, let float32 convolutions round their inputs to TF32. It never is done
            unasked: keypoints lose the bits that keep them still.

    Raises:
        UserError: PyTorch is missing, the device or the precision is, or the file is not such
            weights.
    """

    name = "torch"
    deforms = True

    def __init__(
        self,
        weights: str | os.PathLike | Model,
        device: str | None = None,
        threads: int | None = None,
        precision: Precision | None = None,
        *,
        plain: bool = False,
        compile: bool = False,
        graph: bool = True,
        tf32: bool = False,
    ):
        try:
            import torch

            from livepuppet.model.checkpoint import CheckpointError, load
            from livepuppet.realtime.engines.graphed_callables import Stream
        except ModuleNotFoundError as error:
            raise UserError(
                f"The torch engine needs the package '{error.name}': install it with pip install 'livepuppet[train]', "
                "or use --engine onnx."
            ) from error
        self._torch = torch
        if plain and precision not in (None, "float32"):
            raise ValueError("plain is float32")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.precision: Precision = precision or (
            "float16" if device.startswith("cuda") and not plain else "float32"
        )
        if missing := self._unavailable_reason(device):
            raise UserError(missing)
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._device = torch.device(device)
            # A `Model`, or what speaks like one (`plans.PlannedModel`).
            model = weights if isinstance(weights, torch.nn.Module) else load(weights)
            self._model: Any = model.to(self._device)
        except CheckpointError as error:
            raise UserError(str(error)) from error
        except (
            RuntimeError,
            AssertionError,
        ) as error:  # what torch says of devices that it does not know or have
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"PyTorch cannot use the device '{device}': {reason}; use --device cpu."
            ) from error
        preset = self._model.preset
        self.reason = ""
        self.model_name: str = preset.name
        self.size: int = preset.size
        self.num_keypoints: int = preset.num_keypoints
        self.keypoint_names: tuple[str, ...] = tuple(preset.keypoint_names)
        self.matrices: Matrices = preset.matrices
        self.device = str(self._device)
        self._graph, self._tf32 = graph, tf32
        self.provider: str = self._active_provider(plain, compile)
        self.providers: dict[str, str] = dict.fromkeys(STAGES, self.provider)
        self._plain = plain
        self._stream = Stream(self._device)
        self._detect: Callable[..., Sequence[Tensor]] = self._detect_batch
        self._render: Callable[..., Sequence[Tensor]] = self._render_batch
        self._detect_calls: dict[int, GraphedCallable] = {}
        self._render_calls: dict[int, GraphedCallable] = {}
        #: Whose features lie in the buffers of each render call.
        self._loaded: dict[int, list[Features | None]] = {}
        if plain:
            return
        self._prepare(weights)
        if compile:
            self._detect = torch.compile(self._detect, fullgraph=True, dynamic=False)
            self._render = torch.compile(self._render, fullgraph=True, dynamic=False)

    def _unavailable_reason(self, device: str) -> str | None:
        return unavailable_reason(device, self.precision)

    def _prepare(self, weights: str | os.PathLike | Model) -> None:
        """Bring `self._model`, just loaded from these weights, into the form that runs fast."""
        from livepuppet.model.norms import without_norms

        # torch's stub knows `to` of one tensor's memory format, not of a module's.
        self._model = without_norms(self._model).to(memory_format=self._torch.channels_last)  # pyright: ignore[reportCallIssue]
        if self.precision != "float32":
            with self._running():
                dtype = getattr(self._torch, self.precision)
                keep_weights_in(self._torch, self._model, self._device, dtype)

    def detect(self, frame: np.ndarray) -> Keypoints:
        """See `Engine.detect`."""
        return self.detect_many(checked_image(frame, self.size)[None])[0]

    def encode(self, avatar: np.ndarray) -> Features:
        """See `Engine.encode`."""
        picture = self._torch.from_numpy(checked_image(avatar, self.size)[None])
        with self._running():
            features = self._model.encode(self._to_model(picture.to(self._device)))
            self._stream.wait()
        return features

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        """See `Engine.render`."""
        return self.render_many([features], [avatar_keypoints], [keypoints])[0]

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine.render_deformation`."""
        picture, deformation = self._draw([features], [avatar_keypoints], [keypoints], wanted=2)
        return picture[0], deformation[0]

    def detect_many(self, frames: np.ndarray) -> list[Keypoints]:
        """Keypoints of B pictures, RGB uint8 (B, S, S, 3), in one run: several people's frames on
        one card.

        Every B is compiled for itself, once. ValueError for any other shape or type.
        """
        frames = np.stack([checked_image(frame, self.size) for frame in frames])
        count, k = len(frames), self.num_keypoints
        with self._running():
            if self._plain:
                numbers = self._detect(self._torch.from_numpy(frames).to(self._device))[0].cpu().numpy()
            else:
                (numbers,) = self._detect_call(count).run(frames)
        points, matrices, confidence = np.split(numbers, [2 * k, 6 * k], axis=1)
        return [
            Keypoints(points[i].reshape(k, 2), matrices[i].reshape(k, 2, 2), confidence[i])
            for i in range(count)
        ]

    def render_many(
        self,
        features: Sequence[Features],
        avatar_keypoints: Sequence[Keypoints],
        keypoints: Sequence[Keypoints],
    ) -> np.ndarray:
        """B avatars, each moved to its own keypoints, in one run: RGB uint8 (B, S, S, 3). See
        `render`.

        An avatar that keeps its place in the list costs nothing beyond its own frame; one that
        changes it is copied.
        """
        return self._draw(features, avatar_keypoints, keypoints, wanted=1)[0]

    def _draw(
        self,
        features: Sequence[Features],
        avatar_keypoints: Sequence[Keypoints],
        keypoints: Sequence[Keypoints],
        wanted: int,
    ) -> list[np.ndarray]:
        """Pictures (B, S, S, 3) and, if `wanted` is 2, deformations (B, h, w, 2)."""
        numbers = np.stack(
            [
                np.concatenate([array.ravel() for one in pair for array in self._numbers(one)])
                for pair in zip(avatar_keypoints, keypoints, strict=True)
            ]
        )
        if len(numbers) != len(features):
            raise ValueError(f"{len(features)} avatars' features and {len(numbers)} avatars' keypoints")
        self._names = list(features[0])
        with self._running():
            if self._plain:
                batch = [self._torch.cat([one[name] for one in features]) for name in features[0]]
                values = self._render(self._torch.from_numpy(numbers).to(self._device), *batch)
                return [value.cpu().numpy() for value in values[:wanted]]
            return self._render_call(features).run(numbers, wanted=wanted)

    def _numbers(self, keypoints: Keypoints) -> tuple[np.ndarray, np.ndarray]:
        return checked_numbers(keypoints, self.num_keypoints)

    def device_milliseconds(self, batch: int, frames: int) -> list[float]:
        """How long a card alone takes for `detect` and `render` of B people, a number per frame: no
        copies, and nothing waited for between frames.

        Raises:
            ValueError: the device is no card, or B people's frames have not been run before.
        """
        if not self._stream.cuda or self._plain or batch not in self._render_calls:
            raise ValueError(f"nothing of {batch} people is recorded on {self.device}")
        detect, render = self._detect_calls[batch], self._render_calls[batch]
        with self._running():
            marks = [self._torch.cuda.Event(enable_timing=True) for _ in range(frames + 1)]
            marks[0].record()
            for mark in marks[1:]:
                detect.compute()
                render.compute()
                mark.record()
            marks[-1].synchronize()
        return [begin.elapsed_time(end) for begin, end in itertools.pairwise(marks)]

    # What the device computes, for a batch of any size. Numbers travel as one row per picture: one
    # copy instead of four.

    def _detect_batch(self, frames):
        found = self._model.detect_with_confidence(self._to_model(frames))
        return (self._torch.cat([value.float().flatten(1) for value in found], 1),)

    def _render_batch(self, numbers, *features):
        k = self.num_keypoints
        pieces = numbers.split([2 * k, 4 * k, 2 * k, 4 * k], 1)
        keypoints = [piece.unflatten(1, (k, 2, 2)[: 2 + i % 2]) for i, piece in enumerate(pieces)]
        drawn = self._model.render(dict(zip(self._names, features, strict=True)), *keypoints)
        pictures = (drawn["prediction"].float().permute(0, 2, 3, 1) * 255).round().clamp(0, 255)
        return pictures.to(self._torch.uint8).contiguous(), drawn["deformation"].float().contiguous()

    def _to_model(self, frames):
        return frames.permute(0, 3, 1, 2).float() / 255

    # The same over buffers.

    def _detect_call(self, count: int) -> GraphedCallable:
        if count not in self._detect_calls:
            from livepuppet.realtime.engines.graphed_callables import GraphedCallable

            example = self._torch.zeros(count, self.size, self.size, 3, dtype=self._torch.uint8)
            self._detect_calls[count] = GraphedCallable(
                self._detect, [example], [], self._stream, self._graph
            )
        return self._detect_calls[count]

    def _render_call(self, features: Sequence[Features]) -> GraphedCallable:
        """The call for so many avatars, with these in its buffers."""
        from livepuppet.realtime.engines.graphed_callables import GraphedCallable, batch_buffers

        count = len(features)
        if count not in self._render_calls:
            held = [batch_buffers(features[0][name], count) for name in self._names]
            numbers = self._torch.zeros(count, 12 * self.num_keypoints)
            self._render_calls[count] = GraphedCallable(
                self._render, [numbers], held, self._stream, self._graph
            )
            self._loaded[count] = [None] * count
        call, loaded = self._render_calls[count], self._loaded[count]
        for place, one in enumerate(features):
            if loaded[place] is not one:
                for buffer, name in zip(call.held, self._names, strict=True):
                    buffer[place].copy_(one[name][0])
                loaded[place] = one
        return call

    @contextlib.contextmanager
    def _running(self):
        """Everything that the device computes happens in here."""
        torch = self._torch
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if not self._plain:
                stack.enter_context(self._stream)
                stack.enter_context(self._settings())
            yield

    def _settings(self):
        """Of PyTorch, for the time of a call: other engines of this process have theirs."""
        torch = self._torch
        stack = contextlib.ExitStack()
        if self._device.type == "cuda":
            # TF32 has no more bits of mantissa than float16: what computes in float32 (the whole
            # network that finds keypoints, also where the others have 16 bits) does so because that
            # is not enough.
            stack.enter_context(
                torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=self._tf32)
            )
        if self.precision != "float32":
            # Weights are in 16 bits already; and a cache would have to outlive the recording of a
            # CUDA graph.
            kind, dtype = self._device.type, getattr(torch, self.precision)
            stack.enter_context(torch.autocast(kind, dtype=dtype, cache_enabled=False))
        return stack

    def _active_provider(self, plain: bool, compile: bool) -> str:
        parts = [f"PyTorch {self._device}"]
        if self._device.type == "cuda":
            parts.append(f"({self._torch.cuda.get_device_name(self._device)})")
        if self.precision != "float32":
            parts.append(self.precision)
        if plain:
            parts.append("plain")
        elif self._device.type == "cuda" and self._graph:
            parts.append("CUDA graphs")
        if self._tf32:
            parts.append("TF32")
        if compile:
            parts.append("compiled")
        return " ".join(parts)


def keep_weights_in(torch, model, device, dtype) -> None:
    """Have weights in 16 bits where `torch.autocast` would turn them so in every call; the same
    numbers.

    Which ones is seen by making the three calls once: parts that compute positions leave autocast
    by themselves, and keep their weights in float32. Called within autocast.
    """
    found = set()
    hooks = [
        module.register_forward_pre_hook(
            lambda module, _: found.add(module) if torch.is_autocast_enabled(device.type) else None
        )
        for module in model.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    size = model.preset.size
    picture = torch.zeros(1, 3, size, size, device=device)
    points, matrices, _ = model.detect_with_confidence(picture)
    model.render(model.encode(picture), points, matrices, points, matrices)
    for hook in hooks:
        hook.remove()
    for module in found:
        module.to(dtype)
