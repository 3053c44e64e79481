"""TensorRT's engines of a model's three calls, and how they are run.

An engine is a file ("plan") that TensorRT wrote for one card, one driver and one version of itself.
It is data for TensorRT alone, unlike the programs that torch-tensorrt can save, which PyTorch
unpickles; but TensorRT trusts a plan's content, so that only files of our own are loaded, see
`tensorrt.read_plan`.

Written against TensorRT 11.0 and torch-tensorrt 2.13.0; neither could be run yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from livepuppet.core.engine import STAGES
from livepuppet.core.errors import UserError
from livepuppet.model.base import Model
from livepuppet.realtime.engines.programs import (
    convolution_types,
    examples,
    not_convertible,
    positions_in_16_bits,
    program_of,
)


def checked_program(model: Model, stage: str, dtype: torch.dtype | None) -> torch.export.ExportedProgram:
    """The program that TensorRT is to compile, once it is seen that it computes in the types that
    were asked for.

    Raises:
        UserError: TensorRT would have to leave operators to PyTorch, or positions would lie in 16
            bits, or convolutions would not.
    """
    program = program_of(model, stage, dtype)
    problems = [f"TensorRT has no {name}" for name in not_convertible(program)]
    problems += positions_in_16_bits(program)
    kinds = convolution_types(program)
    # The detector computes positions, all of it; the other two calls are pictures' networks.
    expected = torch.float32 if stage == "detect" or dtype is None else dtype
    if set(kinds) != {expected}:
        problems.append(f"its convolutions compute in {_named(kinds)}")
    if problems:
        raise UserError(
            f"'{stage}' of this model cannot be compiled for TensorRT ({'; '.join(problems)}); use --engine torch."
        )
    return program


def build_plan(model: Model, stage: str, dtype: torch.dtype | None, timing_cache: str) -> bytes:
    """Have TensorRT compile a call for the card that the model is on; takes minutes. Not run yet.

    Args:
        model: in evaluation mode, in float32, without batch norms.
        dtype: of `Call`.
        timing_cache: file in which TensorRT keeps how fast its kernels were, for the next build.
    """
    import torch_tensorrt  # pyright: ignore[reportMissingImports]

    return torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
        checked_program(model, stage, dtype),
        arg_inputs=list(examples(model, stage, dtype)),
        device=next(model.parameters()).device,
        # TensorRT 11 takes every type from the program. What is float32 in there has its reasons,
        # so TF32, whose mantissa is float16's, is not wanted.
        disable_tf32=True,
        truncate_double=True,
        require_full_compilation=True,
        min_block_size=1,
        timing_cache_path=timing_cache,
    )


class Plan:
    """A TensorRT engine that is called like a function of tensors. Not run yet.

    Args:
        content: of `build_plan`.
        device: the card.
        inputs: tensors of the types and shapes that it will be called with.

    Raises:
        ValueError: TensorRT cannot read it, or it takes something else.
    """

    def __init__(self, content: bytes, device: torch.device, inputs: Sequence[Tensor]):
        # Where it is not installed, this very package's module of that name is found.
        import tensorrt as package

        tensorrt: Any = package

        with torch.cuda.device(device):
            self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
            self._engine = self._runtime.deserialize_cuda_engine(content)
            if self._engine is None:
                raise ValueError("TensorRT cannot read this plan")
            self._context = self._engine.create_execution_context()
        self._device = device
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self._inputs = [name for name in names if modes[name] == tensorrt.TensorIOMode.INPUT]
        # torch-tensorrt calls them output0, output1, ...
        outputs = [name for name in names if modes[name] == tensorrt.TensorIOMode.OUTPUT]
        self._outputs = sorted(outputs, key=lambda name: int(name.removeprefix("output")))
        types = {
            tensorrt.DataType.FLOAT: torch.float32,
            tensorrt.DataType.HALF: torch.float16,
            tensorrt.DataType.BF16: torch.bfloat16,
        }
        self._specs = {
            name: (tuple(self._engine.get_tensor_shape(name)), types[self._engine.get_tensor_dtype(name)])
            for name in names
        }
        taken = [self._specs[name] for name in self._inputs]
        given = [(tuple(value.shape), value.dtype) for value in inputs]
        if taken != given:
            raise ValueError(f"this plan takes {taken}, not {given}")

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs for these inputs, computed on PyTorch's current stream; can be recorded in a CUDA
        graph.
        """
        # Held until the end of the call, so that their memory is not given to somebody else.
        inputs = tuple(value.contiguous() for value in inputs)
        outputs = tuple(
            torch.empty(shape, dtype=dtype, device=self._device)
            for shape, dtype in (self._specs[name] for name in self._outputs)
        )
        for name, value in zip((*self._inputs, *self._outputs), (*inputs, *outputs), strict=True):
            self._context.set_tensor_address(name, value.data_ptr())
        if not self._context.execute_async_v3(torch.cuda.current_stream(self._device).cuda_stream):
            raise RuntimeError("TensorRT could not run this plan")
        return outputs


class PlannedModel:
    """A model whose three calls are run by plans, one picture after the other. Speaks to engines as
    the model itself does.

    Args:
        preset: of the model.
        names: of its features.
        plans: per stage, what runs it: a `Plan`, or anything of the same inputs and outputs.
    """

    def __init__(self, preset, names: list[str], plans: dict[str, Callable[..., Sequence[Tensor]]]):
        if missing := set(STAGES) - set(plans):
            raise ValueError(f"no plan for {', '.join(sorted(missing))}")
        self.preset = preset
        self._names = names
        self._plans = plans

    def detect_with_confidence(self, frames: Tensor) -> tuple[Tensor, ...]:
        """See the model's."""
        return self._each("detect", frames)

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """See the model's."""
        return dict(zip(self._names, self._each("encode", avatars), strict=True))

    def render(self, features: dict[str, Tensor], *keypoints: Tensor) -> dict[str, Tensor]:
        """`prediction` and `deformation`; see the model's."""
        values = self._each("render", *(features[name] for name in self._names), *keypoints)
        return dict(zip(("prediction", "deformation"), values, strict=True))

    def _each(self, stage: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        plan, count = self._plans[stage], len(inputs[0])
        if count == 1:
            return tuple(plan(*inputs))
        rows = [plan(*(value[i : i + 1] for value in inputs)) for i in range(count)]
        return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))


def _named(kinds: Counter) -> str:
    return " and ".join(str(kind).removeprefix("torch.") for kind in kinds) or "nothing"
