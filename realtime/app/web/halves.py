"""Graphs whose weights are stored in half as many bits, for the way to the page, which makes the others again: 16 for 32, or 8 for 16. ONNX's
own forms of that would have every engine read them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import numpy as np

#: Fields of ONNX's messages (onnx.proto): the model's graph, its weights, and of those type and bytes; the type float32.
_GRAPH, _INITIALIZER, _TYPE, _RAW, _FLOAT = 7, 5, 2, 9, 1

#: The type float16.
_HALF = 10

#: So many weights of 8 bits share a scale.
BLOCK = 64

#: Weights with fewer bytes stay as they are.
_SMALLEST = 256


def halved(graph: bytes) -> bytes:
    """The graph with its float32 weights in float16: the length of a JSON list (uint32, little-endian), that list of the weights'
    [first, last) bytes in the whole graph, then the graph with half as many bytes in their places: the lower ones of all weights of a
    span, then the upper ones, which are alike, so that gzip packs them.

    Raises:
        ValueError: a weight is too large for float16.
    """
    spans = [span for span in _weights(graph, 0, len(graph)) if span[1] - span[0] >= _SMALLEST]
    parts, done = [], 0
    for first, last in spans:
        weights = np.frombuffer(graph[first:last], "<f4")
        half = weights.astype("<f2")
        if not np.isfinite(half).all():
            raise ValueError("a weight is too large for 16 bits")
        parts += [graph[done:first], half.view(np.uint8).reshape(-1, 2).T.tobytes()]
        done = last
    told = json.dumps(spans).encode()
    return b"".join([struct.pack("<I", len(told)), told, *parts, graph[done:]])


def quartered(graph: bytes) -> bytes:
    """The graph with its float16 weights as whole numbers of 8 bits: as `halved`, but in the weights' places there are first the scales of
    all blocks of `BLOCK` weights (float16), then the numbers, -127 to 127; the last block may be shorter.
    """
    spans = [span for span in _weights(graph, 0, len(graph), kind=_HALF) if span[1] - span[0] >= _SMALLEST]
    parts, done = [], 0
    for first, last in spans:
        weights = np.frombuffer(graph[first:last], "<f2").astype(np.float32)
        padded = np.pad(weights, (0, -len(weights) % BLOCK)).reshape(-1, BLOCK)
        scales = (np.abs(padded).max(1, keepdims=True) / 127).astype("<f2")
        steps = np.rint(padded / np.maximum(scales.astype(np.float32), 1e-8)).clip(-127, 127)
        parts += [
            graph[done:first],
            scales.tobytes(),
            steps.astype(np.int8).ravel()[: len(weights)].tobytes(),
        ]
        done = last
    told = json.dumps(spans).encode()
    return b"".join([struct.pack("<I", len(told)), told, *parts, graph[done:]])


def _weights(
    data: bytes, start: int, stop: int, field: int = _GRAPH, kind: int = _FLOAT
) -> Iterator[tuple[int, int]]:
    """Places of weights of a `kind` in the message between these bytes of a model, or of its graph."""
    for number, first, last in _fields(data, start, stop):
        if number == field == _GRAPH:
            yield from _weights(data, first, last, _INITIALIZER, kind)
        elif number == field:
            found = {key: place for key, *place in _fields(data, first, last)}
            if found.get(_TYPE) == [kind, kind] and _RAW in found:
                yield found[_RAW][0], found[_RAW][1]


def _fields(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Numbers of a message's fields, and where their contents begin and end; of whole numbers themselves, twice."""

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < stop:
        key = number()
        kind = key & 7
        if kind == 0:
            value = number()
            yield key >> 3, value, value
            continue
        length = number() if kind == 2 else {1: 8, 5: 4}[kind]
        yield key >> 3, at, at + length
        at += length
