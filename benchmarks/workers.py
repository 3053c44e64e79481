"""Processes of their own for what is measured: memory, threads and libraries of one engine are
nobody else's.

    with Worker("livepuppet.benchmarks.model_times:Timed", engine="onnx") as timed:
        timed.ready                        # what the object's `ready` holds
        timed("block", seconds=1.0)        # its method `block`

An object in another process, whose methods take and give what JSON can hold. A crash there is an
error here, and costs one row of a table.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from livepuppet.core.errors import LivePuppetError, UserError


class WorkerError(LivePuppetError, RuntimeError):
    """What went wrong in the other process, in one sentence."""


class Worker:
    """An object of a class with the attribute `ready`, made in a process of its own.

    Args:
        target: "module:class".
        environment: variables that differ from this process's.
        arguments: of the class, by name.

    Attributes:
        ready: what the object's attribute holds.

    Raises:
        UserError: the object's constructor did.
        WorkerError: anything else went wrong in there.
    """

    def __init__(self, target: str, environment: Mapping[str, str] | None = None, **arguments: Any):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "livepuppet.benchmarks.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            self.ready = self._ask({"target": target, "arguments": arguments})
        except BaseException:
            self.close()
            raise

    def __call__(self, method: str, **arguments: Any) -> Any:
        """The method's result. Raises UserError where it does, and WorkerError where anything else
        goes wrong.
        """
        return self._ask({"method": method, "arguments": arguments})

    def within(self, limit: float, method: str, **arguments: Any) -> Any:
        """The same, but the process is ended, and WorkerError raised, if it takes longer than
        `limit` seconds.
        """
        return self._ask({"method": method, "arguments": arguments}, limit)

    def _ask(self, question: dict, limit: float | None = None) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        late = threading.Event()
        timer = threading.Timer(limit or 0, lambda: (late.set(), self._process.kill()))
        timer.daemon = True
        if limit is not None:
            timer.start()
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            raise WorkerError(f"not done in {limit:.0f} s" if late.is_set() else self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise (UserError if answer["expected"] else WorkerError)(answer["error"])
        return answer["result"]

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"the process ended with status {status}" + (f" ({lines[-1]})" if lines else "")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is None:
                continue
            try:
                stream.close()
            except OSError:  # what it was never told is still in the pipe
                continue

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error) -> None:
        self.close()


def serve() -> None:
    """Be the other process: questions on standard input, answers on standard output, a line of JSON
    each.
    """
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    served = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if served is None:
                module, name = question["target"].split(":")
                served = getattr(importlib.import_module(module), name)(**question["arguments"])
                answer = {"result": served.ready}
            else:
                answer = {"result": getattr(served, question["method"])(**question["arguments"])}
        except Exception as error:
            expected = isinstance(error, UserError)
            reason = str(error) if expected else f"{type(error).__name__}: {error}"
            answer = {"error": reason, "expected": expected}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
