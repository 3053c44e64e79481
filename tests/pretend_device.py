"""A graphics card that is not there: tensors that say they are on one, hold their numbers on the processor, and complain.

As on a real card, an operation on tensors of two places fails, except with a single number from the processor; and what
makes the processor wait for the card (reading a number, asking which elements are not zero, copying back) is counted, by
the line of this repository that did it.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: PyTorch refuses names of devices that it was not built for, but knows this one everywhere.
CARD = torch.device("meta")
ROOT = Path(__file__).resolve().parents[1]

#: Operations that wait for the card.
WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique")


class OnCard(torch.Tensor):
    """A tensor that claims to be on `CARD`."""

    @staticmethod
    def __new__(cls, here):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=CARD,
            requires_grad=here.requires_grad,
        )

    def __init__(self, here):
        self.here = here.detach()

    def __repr__(self):
        return f"OnCard({self.here})"

    def tolist(self):
        Card.current.waited[_line()] += 1
        return self.here.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), settings=None):
        return Card.current.run(function, arguments, settings or {})


class Card(TorchDispatchMode):
    """While it is on, what is made on or sent to "meta" is an `OnCard` tensor.

    Attributes:
        waited: "file:line" -> how often the processor had to wait there.
        sent: "file:line" -> how often something was copied to the card.
    """

    current: Card

    def __init__(self):
        super().__init__()
        self.waited: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()

    def __enter__(self):
        Card.current = self
        return super().__enter__()

    def __torch_dispatch__(self, function, types, arguments=(), settings=None):
        return self.run(function, arguments, settings or {})

    def run(self, function, arguments, settings):
        """One operation, at its place."""
        tensors: list[torch.Tensor] = []
        here = _each((arguments, settings), lambda value: (tensors.append(value), _here(value))[1])
        there = [value for value in tensors if isinstance(value, OnCard)]
        name = function.overloadpacket.__name__
        target = settings.get("device")
        goes = torch.device(target).type if target is not None else None
        copies = name in ("_to_copy", "copy_")
        if there and not copies:
            for value in tensors:
                single = value.dim() == 0 or name.startswith(("index", "_index"))
                if not isinstance(value, OnCard) and not single:
                    raise RuntimeError(
                        f"{name} of a tensor on the card and one on the processor, at {_line()}"
                    )
                if not isinstance(value, OnCard) and value.dim():
                    # PyTorch sends indices by itself, and both wait.
                    self.waited[_line()] += 1
        if there and (name in WAITING or (copies and goes == "cpu")):
            self.waited[_line()] += 1
        if copies and goes == CARD.type and not there:
            self.sent[_line()] += 1
        if name == "copy_":
            result_there = isinstance(arguments[0], OnCard)
        elif goes is not None:
            result_there = goes == CARD.type
            here[1]["device"] = torch.device("cpu")
        else:
            result_there = bool(there)
        changed = [value for value in there if function._schema.is_mutable]
        generator = settings.get("generator")
        if result_there and isinstance(generator, torch.Generator) and name.startswith("rand"):
            assert generator.device.type == "cpu"
        arguments, settings = here
        with torch.utils._python_dispatch._disable_current_modes():
            result = function(*arguments, **settings)
        if changed and function._schema.is_mutable:
            for value in changed:
                if result is value.here:
                    return value
        if not result_there or name == "_local_scalar_dense":
            return result
        return _each(result, OnCard)


def _here(value: torch.Tensor) -> torch.Tensor:
    return value.here if isinstance(value, OnCard) else value


def _each(value, change):
    """`change` done to every tensor in nested lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_each(one, change) for one in value])
    if isinstance(value, dict):
        return {name: _each(one, change) for name, one in value.items()}
    return value


def _line() -> str:
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path != Path(__file__).resolve():
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "elsewhere"


@contextlib.contextmanager
def card(monkeypatch):
    """Have a card, as `CARD`; autocast does nothing on it."""
    autocast, enabled = torch.autocast, torch.is_autocast_enabled

    def at(kind, *arguments, **settings):
        return contextlib.nullcontext() if kind == CARD.type else autocast(kind, *arguments, **settings)

    # These go past the dispatcher.
    make = torch.tensor

    def tensor(data, *, dtype=None, device=None):
        made = make(data, dtype=dtype)
        return made if device is None else made.to(device)

    def new_tensor(self, data):
        return make(data, dtype=self.dtype).to(self.device)

    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(torch.Tensor, "new_tensor", new_tensor)
    monkeypatch.setattr(torch, "autocast", at)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind != CARD.type and enabled(kind))
    with Card() as there:
        yield there
