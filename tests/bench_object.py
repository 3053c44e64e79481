"""What the tests of `livepuppet bench` run in another process."""

import os
import sys
import time

from livepuppet.core.errors import UserError


class Thing:
    """Answers, prints, fails and crashes when asked to."""

    def __init__(self, name: str, fails: bool = False):
        if fails:
            raise UserError(f"There is no {name}.")
        print("a library's chatter")
        self.ready = {"name": name, "process": os.getpid()}

    def double(self, value: float) -> float:
        os.write(1, b"more of it, from native code\n")
        return 2 * value

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def refuse(self) -> None:
        raise UserError("Give another one.")

    def stumble(self) -> None:
        raise KeyError("lost")

    def crash(self) -> None:
        print("the driver is gone", file=sys.stderr, flush=True)
        os._exit(3)


class InProcess:
    """A `Worker` that is none: the object lives here, so that tests can look at it and need not wait for a process."""

    def __init__(self, target: str, environment=None, **arguments):
        import importlib

        module, name = target.split(":")
        self.thing = getattr(importlib.import_module(module), name)(**arguments)
        self.ready = self.thing.ready

    def __call__(self, method: str, **arguments):
        return getattr(self.thing, method)(**arguments)

    def close(self) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass
