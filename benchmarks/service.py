"""A service on this machine: what people notice of workers that die, hang and drain, and of nodes that are gone, and how many people
it would carry.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from livepuppet.benchmarks.service_simulation import Day, day, most_people, one_worker
from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.service.capacity import places, service_seconds
from livepuppet.realtime.app.service.directory import Directory
from livepuppet.realtime.app.service.directory_server import DirectoryServer
from livepuppet.realtime.app.service.fleet import ProcessFleet
from livepuppet.realtime.app.service.keys import Keys, Limits
from livepuppet.realtime.app.service.running import WorkerOptions
from livepuppet.realtime.app.service.store import open_store
from livepuppet.realtime.app.service.tickets import Signer
from livepuppet.realtime.app.service.worker import GIVEN_AWAY
from livepuppet.realtime.app.turns import Rhythm, Turns
from livepuppet.realtime.avatars import load_avatar
from livepuppet.realtime.engines import Engine, load_engine
from livepuppet.realtime.remote.connection import ServerAddress
from livepuppet.realtime.remote.engine import RemoteEngine
from livepuppet.realtime.remote.renderer import RemoteRenderer
from livepuppet.realtime.remote.service_client import Busy

#: Workers, and people, of the service that is hurt; frames a second of each; people of a cluster of which a node is lost.
WORKERS, PEOPLE, RATE, OF_CLUSTER = 2, 2, 10.0, 8

#: Sessions whose memory is measured, and their frames a second.
SESSIONS, SLOW = 4, 2.0

#: Seconds that things may take before it is given up.
PATIENCE = 120.0

#: Seconds before and after a worker is hurt.
QUIET = 3.0

#: What is done, and by which signal.
KILLED, STOPPED, DRAINED, LOST = (
    "a worker is killed",
    "a worker is stopped silently",
    "a worker is drained",
    "a node is lost",
)
_SIGNALS = {KILLED: signal.SIGKILL, STOPPED: signal.SIGSTOP, DRAINED: signal.SIGTERM}

HEADING = (
    "| what happens | people | longest wait for a picture ms (median, worst) | frames without a new picture, of all | p95 of the others ms, before -> after |",
    "|---|--:|--:|--:|--:|",
)

#: People of a worker, and as many who come to it from one that died; and seconds for which they are looked at.
TAKEN_OVER, TURNS_SECONDS = 4, 4.0

#: Rates of people that are simulated, share of a socket's cores that is counted on, and people at once.
RATES, SOCKET, MANY = (30.0, 20.0, 15.0), 32, 10_000


class Person:
    """A client with a camera of its own, in a thread: frames of the bundled clip, so many a second."""

    def __init__(
        self,
        address: ServerAddress,
        local: Engine,
        frames: Sequence[np.ndarray],
        rate: float = RATE,
        avatar: Avatar | Path = bundled.AVATAR,
    ):
        #: Seconds between frames.
        self.every = 1 / rate
        self._renderer = RemoteRenderer(address, local.model_name)
        self._engine = RemoteEngine(local, self._renderer)
        self._animator = Animator(avatar, engine=self._engine, size=(640, 480))
        self._frames, self._stop = frames, threading.Event()
        #: Of each frame: when it was given, seconds until the picture, and whether that was new.
        self.log: list[tuple[float, float, bool]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def at(self) -> str | None:
        return self._renderer.worker

    @property
    def spare(self) -> str | None:
        return self._renderer.spare

    def _run(self) -> None:
        number, due = 0, time.perf_counter()
        while not self._stop.is_set():
            began = time.perf_counter()
            fresh = self._animator.step(self._frames[number % len(self._frames)]).fresh
            self.log.append((began, time.perf_counter() - began, fresh))
            number, due = number + 1, max(due + self.every, time.perf_counter())
            self._stop.wait(max(due - time.perf_counter(), 0))

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._engine.close()


@contextmanager
def directory_of(people: int) -> Iterator[tuple[Directory, ServerAddress, WorkerOptions]]:
    """A directory on loopback, and what its workers are started with, each of which has room for so many people when others die."""
    keys = Keys("bench", {"": Limits(sessions=1000)})
    directory = Directory(keys, open_store(None), Signer("bench"))
    server = DirectoryServer(directory, keys)
    options = WorkerOptions(
        server.workers_address("127.0.0.1", None),
        "bench",
        places=math.ceil(GIVEN_AWAY * people),
        engine="onnx",
    )
    try:
        yield directory, ServerAddress.parse(server.address("127.0.0.1", "", None)), options
    finally:
        server.close()


@contextmanager
def running(workers: int, people: int) -> Iterator[tuple[Directory, ServerAddress, ProcessFleet]]:
    """A service on loopback."""
    with directory_of(people) as (directory, address, options):
        fleet = ProcessFleet(options)
        try:
            fleet.scale(workers)
            _wait(lambda: directory.workers == workers, "The workers do not start.")
            yield directory, address, fleet
        finally:
            fleet.close()


def hurt(people: int = PEOPLE, rate: float = RATE) -> dict[str, Any]:
    """Kill, stop and drain a worker while people use it, and have one too many come.

    Returns:
        rows: see `line`; milliseconds until one too many hears of it.
    """
    local, frames = load_engine("onnx", threads=1, use="detect"), _frames()
    with running(WORKERS, people) as (directory, address, fleet):
        crowd = [Person(address, local, frames, rate) for _ in range(people)]
        try:
            _wait(lambda: all(one.spare for one in crowd), "No spare gets ready.")
            time.sleep(QUIET)
            refused = _refused(address, local)
            rows = []
            for what in (KILLED, STOPPED, DRAINED):
                _wait(lambda: directory.workers >= WORKERS and all(one.spare for one in crowd), "No spare.")
                time.sleep(QUIET)
                name = crowd[0].at
                pid = None if name is None else fleet.pid(name)
                assert name is not None and pid is not None

                def stop(number: int = _SIGNALS[what], pid: int = pid) -> None:
                    os.kill(pid, number)

                rows.append(_hurt_one(what, crowd, name, stop))
                if what == STOPPED:
                    os.kill(pid, signal.SIGKILL)
            return {
                "rows": rows,
                "busy_ms": round(1000 * refused, 1),
            }
        finally:
            for one in crowd:
                one.close()


def memory(sessions: int = SESSIONS) -> dict[str, float]:
    """Megabytes of a worker: of its first session, and, of so many each, of a further one with the same avatar, and with its own."""
    local, frames = load_engine("onnx", threads=1, use="detect"), _frames()
    ready = load_avatar(bundled.AVATAR, local.size)
    own = [replace(ready, original=np.roll(ready.original, number, 1)) for number in range(sessions + 1)]
    crowd: list[Person] = []
    with running(1, 4 * sessions) as (_, address, fleet):
        (name,) = fleet.names
        try:
            found = [private_bytes(fleet.pid(name))]
            for avatars in (own[:1], sessions * own[:1], own[1:]):
                crowd += [Person(address, local, frames, SLOW, avatar) for avatar in avatars]
                time.sleep(QUIET)
                found.append(private_bytes(fleet.pid(name)))
        finally:
            for one in crowd:
                one.close()
    first, same, others = np.diff(found) / 1e6
    return {
        "first": round(float(first), 1),
        "same": round(float(same) / sessions, 1),
        "own": round(float(others) / sessions, 1),
    }


def lose_a_node(people: int = OF_CLUSTER, rate: float = RATE) -> dict:
    """Two nodes of a Ray cluster on this machine, each with a worker; one of them falls silent, and is gone.

    Returns:
        A row, see `line`.

    Raises:
        UserError: Ray is missing.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("Nodes are lost with the package ray: pip install 'livepuppet[service]'.") from error
    from livepuppet.realtime.app.service.ray_fleet import HEALTH, NAMESPACE, RayFleet

    local, frames = load_engine("onnx", threads=1, use="detect"), _frames()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": dict(HEALTH)})
    crowd: list[Person] = []
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(cluster.address, namespace=NAMESPACE, log_to_driver=False)
        with directory_of(people) as (directory, address, options):
            fleet = RayFleet(options)
            try:
                fleet.scale(2)
                _wait(lambda: directory.workers == 2, "The workers do not start.")
                crowd += [Person(address, local, frames, rate) for _ in range(people)]
                _wait(lambda: all(one.spare not in (None, one.at) for one in crowd), "No spare.")
                time.sleep(QUIET)
                name = crowd[0].at
                assert name is not None
                actor = fleet.actor(name)
                pid, its = ray.get([actor.pid.remote(), actor.node.remote()])
                node = next(one for one in nodes if one.node_id == its)

                def stop() -> None:
                    # Its processes say nothing any more, not even that they end.
                    os.kill(pid, signal.SIGSTOP)
                    cluster.remove_node(node, allow_graceful=False)

                return _hurt_one(LOST, crowd, name, stop)
            finally:
                for one in crowd:
                    one.close()
                fleet.close()
    finally:
        ray.shutdown()
        cluster.shutdown()


def _frames() -> list[np.ndarray]:
    return [frame.image for _, frame in zip(range(60), open_video(bundled.DRIVING), strict=False)]


def _hurt_one(what: str, crowd: Sequence[Person], name: str, stop: Callable[[], None]) -> dict:
    """A row: what those notice whose worker has that name."""
    hit = [one for one in crowd if one.at == name]
    others = [one for one in crowd if one.at != name]
    at = time.perf_counter()
    stopping = threading.Thread(target=stop)
    stopping.start()
    time.sleep(QUIET + 2)
    stopping.join()
    waits = [_longest_wait(one, at) for one in hit]
    log = [entry for one in hit for entry in one.log if entry[0] >= at]
    return {
        "what": what,
        "people": len(hit),
        "waits_ms": [round(1000 * seconds) for seconds in waits if seconds == seconds],
        "never": sum(seconds != seconds for seconds in waits),
        "missing": sum(not fresh for _, _, fresh in log),
        "frames": len(log),
        "others_before_ms": _p95(others, at - QUIET, at),
        "others_after_ms": _p95(others, at, at + QUIET),
    }


def _longest_wait(one: Person, at: float) -> float:
    """Seconds, at most, from when a frame was given until there was its picture or a later one's, from `at` on; NaN where none came any
    more.
    """
    waits, since = [], None
    for began, took, fresh in one.log:
        if began + took < at:
            continue
        since = began if since is None else since
        if fresh:
            waits.append(began + took - since)
            since = None
    return max(waits) if since is None and waits else float("nan")


def _p95(people: Sequence[Person], start: float, end: float) -> float | None:
    took = [took for one in people for began, took, _ in one.log if start <= began < end]
    return round(1000 * float(np.quantile(took, 0.95)), 1) if took else None


def _refused(address: ServerAddress, local: Engine) -> float:
    """Seconds until one too many hears that all places are taken."""
    others: list[RemoteRenderer] = []
    try:
        while True:
            began = time.perf_counter()
            others.append(RemoteRenderer(address, local.model_name))
    except Busy:
        return time.perf_counter() - began
    finally:
        for other in others:
            other.close()


def private_bytes(pid: int | None) -> int:
    """Memory that would be free without that process; Linux."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _wait(condition: Callable[[], bool], sentence: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise UserError(sentence)
        time.sleep(0.02)


def line(row: dict) -> str:
    """A row of the table."""
    others = "-"
    if row["others_before_ms"] is not None:
        others = f"{row['others_before_ms']} -> {row['others_after_ms']}"
    back = f"{statistics.median(row['waits_ms']):.0f}, {max(row['waits_ms'])}" if row["waits_ms"] else "-"
    back += f", {row['never']} never" if row["never"] else ""
    return f"| {row['what']} | {row['people']} | {back} | {row['missing']} of {row['frames']} | {others} |"


def simulated(
    engine: Engine, batches: dict[int, float] | None = None, cores: int = SOCKET, many: int = MANY
) -> Iterator[str]:
    """What one core, one socket and one card carry, and what many people at once need, in sentences.

    Args:
        engine: of one thread; its times are measured.
        batches: milliseconds of a batch by its size, of a card, as `bench streams` measures them.
        cores: of a socket.
        many: people at once.
    """
    seconds = service_seconds(engine)
    median, slow = 1000 * statistics.median(seconds), 1000 * float(np.quantile(seconds, 0.95))
    each = places(statistics.median(seconds))
    yield f"A picture of 640x480, rendered and encoded on one core: {median:.1f} ms (p95 {slow:.1f}); places of a worker: {each}."
    for rate in RATES:
        people = most_people(rate, seconds)
        load = one_worker(max(people, 1), rate, seconds, np.random.default_rng(1))
        yield (
            f"At {rate:g} FPS a core carries {people} with p95 under 50 ms (p95 {1000 * load.p95:.0f} ms, core {load.busy:.0%} "
            f"in use), a socket of {cores} cores {people * cores}; to count on (70 %): {int(0.7 * people * cores)}."
        )
    yield _of_taken_over(taken_over(statistics.median(seconds)))
    yield _of_day(many, cores, each, day(many, each, node=cores))
    if batches:
        for rate in RATES:
            of_card = {size: ms / 1000 for size, ms in batches.items()}
            people = most_people(rate, of_card)
            yield f"At {rate:g} FPS a card of those batches carries {people}; to count on (70 %): {int(0.7 * people)}."


def taken_over(seconds: float, people: int = TAKEN_OVER, of: float = TURNS_SECONDS) -> dict[str, Any]:
    """What people notice of as many more who come to their worker from one that died: real turns at rendering, in which rendering
    only takes time, and nobody else's.

    Args:
        seconds: of a picture.
        people: of each kind; those who were there ask for half of what the worker renders.
        of: seconds of each part.
    """
    rate = 0.5 / (people * seconds)
    alone = _in_turns(seconds, rate, people, 0, of)
    after = _in_turns(seconds, rate, people, people, of)
    return {
        "rate": rate,
        "before_ms": 1000 * float(np.quantile(alone[False], 0.95)),
        "after_ms": 1000 * float(np.quantile(after[False], 0.95)),
        "pictures": len(after[False]) / (people * of),
        "pictures_of_others": len(after[True]) / (people * of),
    }


def _in_turns(seconds: float, rate: float, here: int, guests: int, of: float) -> dict[bool, list[float]]:
    """Seconds from frames until their pictures were rendered, of guests and others."""
    turns, waits, stop = Turns(1), {False: [0.0], True: [0.0]}, threading.Event()

    def render(guest: bool, phase: float) -> None:
        rhythm, due = Rhythm(), time.perf_counter() + phase / rate
        if not guest:
            turns.expect(rhythm)
        while not stop.wait(max(due - time.perf_counter(), 0)):
            rhythm.came(due)
            with turns.take((1,), guest):
                # The newest frame that has come meanwhile.
                missed = int(max(time.perf_counter() - due, 0) * rate)
                due += missed / rate
                time.sleep(seconds)
            waits[guest].append(time.perf_counter() - due)
            due += 1 / rate

    phases = np.random.default_rng(1).random(here + guests)
    threads = [
        threading.Thread(target=render, args=(number >= here, phase)) for number, phase in enumerate(phases)
    ]
    for thread in threads:
        thread.start()
    time.sleep(of)
    stop.set()
    for thread in threads:
        thread.join()
    return waits


def _of_taken_over(found: dict[str, Any], people: int = TAKEN_OVER) -> str:
    return (
        f"{people} people at {found['rate']:.1f} FPS whose worker takes over {people} more of a worker that died: p95 "
        f"{found['before_ms']:.1f} -> {found['after_ms']:.1f} ms, {found['pictures']:.1f} pictures a second; who came has "
        f"{found['pictures_of_others']:.1f}."
    )


def _of_day(many: int, cores: int, each: int, found: Day) -> str:
    return (
        f"A day with {many:,} people at once in the evening: at most {found.workers:,} workers of {each} places "
        f"({-(-found.workers // cores):,} sockets of {cores} cores), {found.worker_hours / 24:,.0f} on average; refused {found.refused:.2%}; "
        f"{found.lost} workers lost with their machines, {found.moved} sessions taken over, {found.ended} ended."
    )
