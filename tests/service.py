"""A service of this process: a directory, workers of the tiny model, and clients."""

from __future__ import annotations

import time

from media import gradient

from livepuppet import Animator
from livepuppet.realtime.app.service.directory import Directory
from livepuppet.realtime.app.service.directory_server import DirectoryServer
from livepuppet.realtime.app.service.keys import Keys, Limits
from livepuppet.realtime.app.service.store import open_store
from livepuppet.realtime.app.service.tickets import Signer
from livepuppet.realtime.app.service.worker import Worker
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote.connection import ServerAddress
from livepuppet.realtime.remote.engine import RemoteEngine
from livepuppet.realtime.remote.renderer import RemoteRenderer

SECRET = "s" * 40


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while (found := condition()) is None or found is False:
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
    return found


class Service:
    """Everything is closed with it."""

    def __init__(self, bundle, limits=None):
        self.bundle = bundle
        self.keys = Keys(SECRET, limits or {"": Limits()})
        self.directory = Directory(self.keys, open_store(None), Signer(SECRET))
        self.server = DirectoryServer(self.directory, self.keys)
        self.workers: dict[str, Worker] = {}
        self.clients: list[RemoteEngine] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
        for worker in self.workers.values():
            worker.close()
        self.server.close()

    @property
    def workers_address(self):
        return self.server.workers_address("127.0.0.1", None)

    def add(self, name, node="a", places=4, **options):
        engine = load_engine("onnx", self.bundle, threads=1)
        address = ServerAddress.parse(self.workers_address)
        worker = self.workers[name] = Worker(engine, SECRET, name, node, address, places=places, **options)
        wait_for(lambda: name in self.directory._workers)
        return worker

    def renderer(self, key=""):
        """A client's, of that key."""
        local = load_engine("onnx", self.bundle, threads=1)
        address = ServerAddress.parse(self.server.address("127.0.0.1", key, None))
        engine = RemoteEngine(local, RemoteRenderer(address, local.model_name))
        self.clients.append(engine)
        return engine

    def client(self, avatar, key="", size=64):
        return Client(self.renderer(key), avatar, size)


class Client:
    """Somebody whose pictures a service renders."""

    def __init__(self, engine, avatar, size=64):
        self.engine, self.renderer = engine, engine.renderer
        self.animator = Animator(avatar, engine=engine, size=size, crop="full")

    @property
    def at(self):
        return self.renderer.worker

    @property
    def spare(self):
        return self.renderer.spare

    def picture(self, seconds=30.0):
        frame = gradient(64, 64)
        return wait_for(
            lambda: result.image if (result := self.animator.step(frame)).fresh else None, seconds
        )
