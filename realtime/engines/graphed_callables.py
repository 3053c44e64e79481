"""Functions of tensors whose inputs and outputs always lie in the same memory, as CUDA graphs need
them.

A frame of a small network is some hundred kernels of a few microseconds each; started one by one,
the processor takes longer to start them than the card to run them. A CUDA graph starts all of them
at once, and can because nothing of the call ever moves: every address, shape and kernel is that of
the recording.

Everything here runs on the CPU, too, where a call is the function itself over the same buffers; so
tests see all but the recording. Recording and replay are written against PyTorch's documentation
("CUDA semantics: CUDA graphs"), and have not been run on a card yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

#: Runs before the recording: cuDNN tries its algorithms, and libraries make their workspaces.
WARM_UP_RUNS = 3


class Stream:
    """Where an engine's calls run: on a card, a stream of their own, with one wait for it at the
    end of each call.

    Args:
        device: where the model is.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.cuda = device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if self.cuda else None
        self._done = torch.cuda.Event() if self.cuda else None

    def __enter__(self):
        if self.cuda:
            self._entered = torch.cuda.stream(self.stream)
            self._entered.__enter__()
        return self

    def __exit__(self, *reason):
        if self.cuda:
            self._entered.__exit__(*reason)

    def wait(self) -> None:
        """Until everything that was started here is done."""
        if self._done is not None:
            self._done.record(self.stream)
            self._done.synchronize()

    def host_buffer(self, like: Tensor) -> Tensor:
        """Uninitialised memory of the processor; on a card's behalf pinned, from which copies need
        not be waited for.
        """
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=self.cuda)


class GraphedCallable:
    """A function of tensors that is run over the same buffers every time.

    Args:
        function: of `len(given) + len(held)` tensors to a tuple of tensors. Neither reads a value
            back nor changes shapes with values.
        given: what comes anew with every call: examples in the processor's memory.
        held: what stays on the device between calls, features say: examples there. `hold` changes
            it.
        stream: where it runs.
        record: on a card, record a CUDA graph; else start every kernel anew, as on a processor.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        given: Sequence[Tensor],
        held: Sequence[Tensor],
        stream: Stream,
        record: bool = True,
    ):
        self._function = function
        self._stream = stream
        self._staged = [stream.host_buffer(value) for value in given]
        self._given = [torch.empty_like(value, device=stream.device) for value in given]
        #: Buffers on the device that `function` reads, in the order of `held`.
        self.held = [torch.empty_like(value) for value in held]
        for buffers, values in ((self._staged, given), (self._given, given), (self.held, held)):
            for buffer, value in zip(buffers, values, strict=True):
                buffer.copy_(value)
        self._graph: torch.cuda.CUDAGraph | None = None
        if stream.cuda and record:
            self._outputs = self._record()
        else:
            self._outputs = [torch.empty_like(value) for value in self._call()]
        self._returned = [stream.host_buffer(value) for value in self._outputs]

    def run(self, *arrays: np.ndarray, wanted: int | None = None) -> list[np.ndarray]:
        """The first `wanted` outputs (all by default) for new values of what is `given`, as arrays
        of their own.

        Called within the stream. Waits for the device once, at the end.
        """
        for array, staged, given in zip(arrays, self._staged, self._given, strict=True):
            np.copyto(staged.numpy(), array)
            given.copy_(staged, non_blocking=self._stream.cuda)
        self.compute()
        for buffer, value in zip(self._returned[:wanted], self._outputs[:wanted], strict=True):
            buffer.copy_(value, non_blocking=self._stream.cuda)
        self._stream.wait()
        # Copied, because the next call overwrites the buffer while the picture may still be looked
        # at.
        return [buffer.numpy().copy() for buffer in self._returned[:wanted]]

    def compute(self) -> None:
        """Run over what the buffers hold, without a copy in or out; not waited for."""
        if self._graph is not None:
            self._graph.replay()
        else:
            for buffer, value in zip(self._outputs, self._call(), strict=True):
                buffer.copy_(value)

    def _call(self) -> Sequence[Tensor]:
        return self._function(*self._given, *self.held)

    def _record(self) -> Sequence[Tensor]:
        """Record the function on the engine's stream; its outputs are the buffers that every replay
        writes.
        """
        stream = self._stream.stream
        assert stream is not None
        stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                self._call()
        stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # Another thread's call to CUDA (a second engine's) is no reason to break the recording off.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            return self._call()


def batch_buffers(example: Tensor, count: int) -> Tensor:
    """Room for `count` of a tensor with a batch of one, in the same layout."""
    layout = (
        torch.channels_last
        if example.dim() == 4 and example.is_contiguous(memory_format=torch.channels_last)
        else torch.contiguous_format
    )
    shape = (count, *example.shape[1:])
    return torch.zeros(shape, dtype=example.dtype, device=example.device).to(memory_format=layout)
