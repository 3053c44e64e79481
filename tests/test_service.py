"""A service for many people: sessions are placed, moved and taken over, and nobody else notices."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from media import gradient, write_picture

pytest.importorskip("starlette", reason="the extra 'service' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'service' is not installed")
pytest.importorskip("websockets.sync.client", reason="the extra 'service' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'service' is not installed")

from service import SECRET, Service, wait_for

from livepuppet.benchmarks import service as service_bench
from livepuppet.benchmarks import service_simulation as simulation
from livepuppet.core.errors import UserError
from livepuppet.realtime.app.commands import service as commands
from livepuppet.realtime.app.doctor import server as doctor
from livepuppet.realtime.app.service.capacity import places
from livepuppet.realtime.app.service.directory import SILENT, Directory, Full, Report
from livepuppet.realtime.app.service.fleet import ProcessFleet
from livepuppet.realtime.app.service.keys import Keys, Limits, read_limits
from livepuppet.realtime.app.service.metrics import DirectoryMetrics, MetricsServer, WorkerMetrics
from livepuppet.realtime.app.service.ray_fleet import HEALTH
from livepuppet.realtime.app.service.running import JsonLines, WorkerOptions, claim_core
from livepuppet.realtime.app.service.scaling import BUSY_SECONDS, IDLE_SECONDS, Scaling
from livepuppet.realtime.app.service.store import RedisStore, open_store
from livepuppet.realtime.app.service.tickets import BadTicket, Signer, Ticket
from livepuppet.realtime.remote import renderer, service_client
from livepuppet.realtime.remote.connection import Connection, ServerAddress


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture(scope="module")
def avatar(tmp_path_factory):
    return write_picture(tmp_path_factory.mktemp("avatar") / "a.png", gradient(64, 64))


@pytest.fixture
def service(bundle):
    with Service(bundle) as service:
        yield service


def alike(one, other):
    """The same picture but for what H.264 leaves out, which differs between key pictures and others."""
    return np.abs(one.astype(int) - other).mean() < 2


def test_a_spare_takes_over_with_the_same_picture(service, avatar):
    service.add("one", "a")
    service.add("two", "b")
    client = service.client(avatar)
    before, neutral, first = client.picture(), client.animator.retargeter.initial, client.at
    wait_for(lambda: client.spare not in (None, first))
    service.workers.pop(first).close()
    assert alike(client.picture(), before)
    assert client.at != first and client.animator.retargeter.initial is neutral
    wait_for(lambda: service.directory._sessions[client.renderer._session].worker == client.at)


def test_the_frame_that_a_lost_worker_had_is_rendered_by_the_spare(service, avatar, monkeypatch):
    # However busy this machine is: a frame that is waited for in vain has no picture after any time.
    for name in ("PATIENCE", "MOST_PATIENCE"):
        monkeypatch.setattr(renderer, name, 20.0)
    service.add("one", "a")
    service.add("two", "b")
    client = service.client(avatar)
    before, first = client.picture(), client.at
    wait_for(lambda: client.spare not in (None, first))
    worker = service.workers[first]
    place = next(iter(worker._active().values()))
    turns = worker._engine.turns
    with ExitStack() as taken:
        for _ in range(len(turns._free)):
            taken.enter_context(turns.take((1,)))
        results = []
        thread = threading.Thread(target=lambda: results.append(client.animator.step(gradient(64, 64))))
        thread.start()
        wait_for(lambda: bool(turns._waiting))
        place.connection.end_from_elsewhere({})
        thread.join(30)
    assert results[0].fresh and alike(results[0].image, before) and client.at != first


def test_who_takes_over_gives_way_until_another_worker_is_there(service, avatar, monkeypatch):
    # However busy this machine is.
    for name in ("SILENCE", "READY_SILENCE"):
        monkeypatch.setattr(service_client, name, 20.0)
    service.add("one", "a", 1)
    service.add("two", "b", 1)
    clients = [service.client(avatar) for _ in range(2)]
    for client in clients:
        client.picture()
        wait_for(lambda client=client: client.spare not in (None, client.at))
    assert {client.at for client in clients} == {"one", "two"}
    newcomer, resident = sorted(clients, key=lambda client: client.at)
    service.workers.pop("one").close()
    newcomer.picture()
    places = service.workers["two"]._active()
    guests = {session for (_, session), place in places.items() if place.session.guest}
    assert len(places) == 2 and guests == {newcomer.renderer._session}
    service.add("three", "a", 1)

    def settled():
        for client in clients:
            client.picture()
        return (resident.at, newcomer.at) == ("two", "three")

    wait_for(settled)
    newcomer.picture()
    (place,) = service.workers["three"]._active().values()
    wait_for(lambda: not place.session.guest)


def test_a_worker_that_drains_loses_no_frame(service, avatar, monkeypatch):
    # However busy this machine is: a frame that is lost has no picture after any time.
    for name in ("PATIENCE", "MOST_PATIENCE"):
        monkeypatch.setattr(renderer, name, 10.0)
    monkeypatch.setattr(service_client, "LAST_PICTURES", 10.0)
    first = service.add("one", "a")
    client = service.client(avatar)
    before = client.picture()
    service.add("two", "b")
    outcomes = []
    thread = threading.Thread(target=first.drain)
    thread.start()
    while client.at == "one":
        outcomes.append(client.animator.step(gradient(64, 64)).fresh)
    thread.join(30)
    assert alike(client.picture(), before) and all(outcomes)
    assert not first._active()


def test_one_too_many_hears_when_to_come_again(service, avatar):
    service.add("one", places=1)
    client = service.client(avatar)
    client.picture()
    with pytest.raises(UserError, match=r"try again in about 10 min"):
        service.renderer()
    client.picture()


def test_limits_of_a_key(bundle, avatar):
    limits = {"ann": Limits(sessions=1), "bob": Limits(pixels=32 * 32), "eve": Limits(minutes=0)}
    with Service(bundle, limits) as service:
        service.add("one")
        service.client(avatar, "ann").picture()
        with pytest.raises(UserError, match="1 sessions"):
            service.renderer("ann")
        with pytest.raises(UserError, match="1,024 pixels"):
            service.client(avatar, "bob")
        eve = service.client(avatar, "eve")
        # Its first report with a session counts time, the next one ends it.
        wait_for(lambda: eve.animator.step(gradient(64, 64)) and "today" in (eve.renderer.problem or ""))
        with pytest.raises(UserError, match="come again tomorrow"):
            service.renderer("eve")


# Connections.


def test_a_worker_that_says_nothing_is_left(service, avatar):
    """Its process lives and its connection stands, as where a machine hangs."""
    service.add("one", "a")
    service.add("two", "b")
    client = service.client(avatar)
    before, first = client.picture(), client.at
    wait_for(lambda: client.spare not in (None, first))
    place = next(iter(service.workers[first]._active().values()))
    place.connection._loop.call_soon_threadsafe(time.sleep, 3)
    wait_for(lambda: client.animator.step(gradient(64, 64)) and client.at != first)
    assert alike(client.picture(), before)
    # The one that comes back is told that the session goes on elsewhere, or has noticed it by itself.
    wait_for(lambda: not service.workers[first]._active())


def test_sessions_go_on_without_the_directory(service, avatar):
    service.add("one", "a")
    service.add("two", "b")
    client = service.client(avatar)
    client.picture()
    first = client.at
    wait_for(lambda: client.spare not in (None, first))
    service.server.close()
    client.picture()
    service.workers.pop(first).close()
    client.picture()
    assert client.at != first


def test_only_who_has_a_ticket_of_the_session_comes_to_a_worker(service):
    worker = service.add("one")
    ticket = Ticket("ab" * 16, "k", time.time() + 60, 10**6, 1)
    forged = Signer("another secret").sign(ticket)
    address = ServerAddress("127.0.0.1", worker.port, forged, None)
    with pytest.raises(UserError, match="refuses"):
        Connection(address)
    client = service.renderer().renderer
    stolen = Connection(client._worker.address)
    stolen.send({"version": 1, "model": client._model, "session": secrets.token_hex(16)})
    assert "another session" in json.loads(stolen.receive(10))["error"]
    stolen.close()
    # Nor are a client's tokens a worker's.
    with pytest.raises(UserError, match="refuses"):
        Connection(ServerAddress("127.0.0.1", service.server.port, service.keys.token(""), None), "/workers")


def test_a_session_brings_no_more_avatars_than_its_key_may(bundle, tmp_path):
    files = [write_picture(tmp_path / f"{shade}.png", gradient(64, 64) // shade) for shade in (1, 2, 3)]
    with Service(bundle, {"": Limits(avatars=2)}) as service:
        service.add("one")
        client = service.client(files)
        for number in (1, 2):
            client.picture()
            client.animator.select(number)
        wait_for(
            lambda: client.animator.step(gradient(64, 64)) and "2 avatars" in (client.renderer.problem or "")
        )


def test_the_doctor_asks_the_worker_that_would_render(service, monkeypatch):
    worker = service.add("one")
    monkeypatch.setattr(doctor, "read_bundle", lambda _: {"preset": {"name": worker._engine.model_name}})
    chapter = doctor.server(service.server.address("127.0.0.1", "", None))
    assert [finding.verdict for finding in chapter.findings] == ["OK"]
    worker.draining = True
    wait_for(lambda: not service.server.ready)
    chapter = doctor.server(service.server.address("127.0.0.1", "", None))
    assert [finding.verdict for finding in chapter.findings] == ["WARN"]


def test_metrics_are_read_by_prometheus(service, avatar, tmp_path):
    worker = service.add("one")
    client = service.client(avatar)
    client.picture()
    of_worker = MetricsServer(worker.metrics.registry, lambda: worker.ready, worker.refresh)
    worker.metrics_place = f"127.0.0.1:{of_worker.port}"
    wait_for(service.server.targets)
    of_directory = MetricsServer(
        service.server.metrics.registry,
        lambda: service.server.ready,
        service.server.refresh,
        targets=service.server.targets,
    )
    base = f"http://127.0.0.1:{of_directory.port}"
    try:
        assert urllib.request.urlopen(f"{base}/healthz").read() == b"ok\n"
        assert urllib.request.urlopen(f"{base}/readyz").status == 200
        text = urllib.request.urlopen(f"http://{worker.metrics_place}/metrics").read().decode()
        assert 'livepuppet_sessions{state="active"} 1.0' in text
        assert 'livepuppet_frames_total{result="drawn"}' in text
        assert 'livepuppet_stage_seconds_count{stage="render"}' in text
        assert client.renderer._session not in text and service.keys.alias("") not in text
        text = urllib.request.urlopen(f"{base}/metrics").read().decode()
        assert "livepuppet_service_sessions 1.0" in text
        assert 'livepuppet_admissions_total{result="placed"} 1.0' in text
        if shutil.which("prometheus") is None:
            pytest.skip("Prometheus is not installed: what it would read was looked at")
        scraped(base, tmp_path)
    finally:
        of_worker.close()
        of_directory.close()
    service.workers.pop("one").close()
    wait_for(lambda: not service.server.ready)


def scraped(base, folder):
    """A real Prometheus finds the worker through the directory, and both are up."""
    place = base.removeprefix("http://")
    (folder / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [
                    {"job_name": "directory", "static_configs": [{"targets": [place]}]},
                    {
                        "job_name": "workers",
                        "http_sd_configs": [{"url": f"{base}/targets", "refresh_interval": "1s"}],
                    },
                ],
            }
        )
    )
    with subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    ) as process:
        try:
            line = next(line for line in process.stderr if "Listening on" in line)
            address = line.split("address=")[1].split()[0]
            threading.Thread(target=process.stderr.read, daemon=True).start()

            def sessions():
                try:
                    with urllib.request.urlopen(
                        f"http://{address}/api/v1/query?query=livepuppet_sessions%7Bstate%3D%22active%22%7D"
                    ) as reply:
                        return json.load(reply)["data"]["result"]
                except urllib.error.URLError:
                    return None

            assert wait_for(lambda: sessions() or None)[0]["value"][1] == "1"
        finally:
            process.kill()


@pytest.mark.slow
def test_processes_are_killed_stopped_and_started_again(service, bundle, avatar):
    options = WorkerOptions(service.workers_address, SECRET, places=4, model=bundle, engine="onnx")
    fleet = ProcessFleet(options)
    try:
        fleet.scale(2)
        wait_for(lambda: service.directory.workers == 2, 120)
        client = service.client(avatar)
        before = client.picture()
        for number in (signal.SIGKILL, signal.SIGSTOP):
            wait_for(lambda: client.spare not in (None, client.at), 120)
            hurt(fleet, client, number)
            assert alike(client.picture(), before)
            wait_for(lambda: service.directory.workers == 2, 120)
        # One fewer is wanted: it leaves without a frame lost, whoever it is.
        fleet.scale(1)
        wait_for(lambda: service.directory.workers == 1 and client.at in fleet.names, 120)
        assert alike(client.picture(), before)
    finally:
        fleet.close()


def left(client, name):
    """Wait until that worker renders no more."""
    wait_for(lambda: client.animator.step(gradient(64, 64)) and client.at != name)


def hurt(fleet, client, number):
    """Send its worker a signal, and wait until the spare renders and another process has that name."""
    name = client.at
    pid = fleet.pid(name)
    os.kill(pid, number)
    left(client, name)
    if number == signal.SIGSTOP:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: fleet.pid(name) != pid, 120)


@pytest.mark.slow
def test_a_node_of_a_ray_cluster_is_killed_while_eight_use_it(bundle, avatar, monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra 'service' is not installed")
    from ray.cluster_utils import Cluster

    from livepuppet.realtime.app.service.ray_fleet import NAMESPACE, RayFleet

    # The machine may be busy.
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": dict(HEALTH)})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(cluster.address, namespace=NAMESPACE, log_to_driver=False)
    service = Service(bundle, {"": Limits(sessions=8)})
    options = WorkerOptions(
        service.workers_address, SECRET, places=8, model=bundle, engine="onnx", pinned=False
    )
    fleet = RayFleet(options)
    try:
        fleet.scale(2)
        wait_for(lambda: service.directory.workers == 2, 180)
        clients = [service.client(avatar) for _ in range(8)]
        before = [client.picture() for client in clients]
        assert len({client.at for client in clients}) == 2
        wait_for(lambda: all(client.spare not in (None, client.at) for client in clients), 60)
        name = clients[0].at
        node = ray.get(fleet.actor(name).node.remote())
        cluster.remove_node(next(one for one in nodes if one.node_id == node), allow_graceful=False)
        for client, picture in zip(clients, before, strict=True):
            # Its worker may live a little longer than the node.
            left(client, name)
            assert alike(client.picture(), picture)
        # Ray starts the worker again where there is room.
        cluster.add_node(num_cpus=1)
        wait_for(lambda: service.directory.workers == 2, 120)
    finally:
        service.__exit__()
        fleet.close()
        ray.shutdown()
        cluster.shutdown()


# What places them.


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def some_directory(limits=None, store=None):
    keys, clock = Keys(SECRET, limits or {"": Limits(sessions=100)}), Clock()
    return Directory(keys, store or open_store(None), Signer(SECRET), clock), keys, clock


def report(name, node="a", sessions=(), places=2, keys=None, key="", **changed):
    alias = keys.alias(key) if keys else ""
    return Report(name, node, "127.0.0.1", 1, None, places, dict.fromkeys(sessions, alias), **changed)


def test_sessions_are_spread_and_stay_and_their_spares_are_elsewhere():
    directory, _, _ = some_directory()
    for name, node in (("one", "a"), ("two", "a"), ("three", "b")):
        directory.report(report(name, node))
    placed = [directory.place("", f"s{number}") for number in range(6)]
    assert sorted(one.to["name"] for one in placed) == ["one"] * 2 + ["three"] * 2 + ["two"] * 2
    for one in placed:
        nodes = {"one": "a", "two": "a", "three": "b"}
        assert nodes[one.spare["name"]] != nodes[one.to["name"]] or one.to["name"] == "three"
    assert directory.place("", "s0").to["name"] == placed[0].to["name"]
    with pytest.raises(Full, match="about 2 min"):
        directory.place("", "s6")
    # Nobody is sent again to a worker that is lost, unless there is no other one.
    assert directory.place("", "s0", lost=placed[0].to["name"]).to["name"] == placed[0].to["name"]
    directory.report(report("four", "b"))
    assert directory.place("", "s0", lost=placed[0].to["name"]).to["name"] != placed[0].to["name"]


def test_a_place_is_free_when_its_session_ends_and_a_silent_worker_takes_nobody():
    directory, keys, clock = some_directory()
    directory.report(report("one", places=1))
    directory.place("", "s1")
    directory.report(report("one", places=1, sessions=["s1"], keys=keys))
    with pytest.raises(Full):
        directory.place("", "s2")
    clock.now = 90.0
    directory.report(report("one", places=1))
    clock.now = 93.0
    directory.report(report("one", places=1))
    directory.place("", "s2")
    assert directory.seconds_until_free() == 90.0
    clock.now += SILENT + 0.1
    with pytest.raises(Full):
        directory.place("", "s3")


def test_what_a_worker_says_of_sessions_heals_a_directory_that_was_restarted():
    directory, keys, _ = some_directory()
    directory.report(report("one", sessions=["s1", "s2"], keys=keys))
    with pytest.raises(Full):
        directory.place("", "s3")
    assert directory.place("", "s1").to["name"] == "one"


def test_the_worker_of_before_is_told_to_end_what_goes_on_elsewhere():
    directory, keys, _ = some_directory()
    for name in ("one", "two"):
        directory.report(report(name, name))
    assert directory.report(report("one", "one", ["s"], keys=keys)).end == {}
    assert directory.report(report("two", "two", ["s"], keys=keys)).end == {}
    assert list(directory.report(report("two", "two", ["s"], keys=keys)).end) == []
    assert list(directory.report(report("one", "one", ["s"], keys=keys)).end) == ["s"]


def reporting_directory():
    """A directory, and what it answers when a worker reports its sessions, and which of them are guests."""
    directory, keys, _ = some_directory()

    def told(name, sessions, guests=""):
        return directory.report(report(name, name, sessions, 2, keys, guests=list(guests)))

    return directory, told


def test_guests_go_to_a_worker_that_is_started_again_one_by_one():
    directory, told = reporting_directory()
    told("one", "ab")
    told("two", "cd")
    directory.lost("one")
    orders = told("two", "abcd", "ab")
    # There is nobody else.
    assert not orders.move and not orders.settled
    told("three", "")
    (moved,) = told("two", "abcd", "ab").move
    assert moved in "ab"
    # It is told again until it is there.
    assert set(told("two", "abcd", "ab").move) == {moved}
    orders = told("three", moved, moved)
    assert orders.settled == [moved] and not orders.move
    (left,) = {"a", "b"} - {moved}
    assert set(told("two", [left, "c", "d"], left).move) == {left}
    assert told("three", [moved, left], left).settled == [left]


def test_guests_stay_where_no_other_worker_has_a_place_and_are_none_where_there_is_room():
    directory, told = reporting_directory()
    told("one", "a")
    told("two", "bc")
    told("three", "de")
    directory.lost("one")
    orders = told("two", "abc", "a")
    assert not orders.move and not orders.settled
    # Somebody has left.
    directory._forget("c")
    orders = told("two", "ab", "a")
    assert orders.settled == ["a"] and not orders.move


def test_who_claims_a_place_without_one_gets_none():
    directory, keys, _ = some_directory({"": Limits(sessions=1), "b": Limits()})
    directory.report(report("one", places=1))
    directory.place("", "s1")
    for options in ({"at": "one"}, {"lost": "two"}, {"at": "one", "lost": "one"}):
        with pytest.raises(Full):
            directory.place("b", "s2", **options)
    with pytest.raises(UserError, match="another one's"):
        directory.place("b", "s1")
    # Tickets that were kept do not help, either.
    assert list(directory.report(report("one", sessions=["s1", "s9"], keys=keys)).end) == ["s9"]


def test_a_worker_that_drains_sends_its_sessions_elsewhere_as_there_is_room():
    directory, keys, _ = some_directory()
    directory.report(report("one", sessions=["s1", "s2"], keys=keys))
    directory.report(report("two", places=1))
    orders = directory.report(report("one", sessions=["s1", "s2"], keys=keys, draining=True))
    assert [move["to"]["name"] for move in orders.move.values()] == ["two"]
    directory.report(report("three", places=1))
    orders = directory.report(report("one", sessions=["s1", "s2"], keys=keys, draining=True))
    assert {move["to"]["name"] for move in orders.move.values()} == {"two", "three"}


def redis_store():
    fakeredis = pytest.importorskip("fakeredis", reason="no Redis here to try it with")
    return RedisStore(fakeredis.FakeRedis())


@pytest.mark.parametrize("made", [lambda: open_store(None), redis_store], ids=["sqlite", "redis"])
def test_what_a_store_keeps(made):
    store = made()
    store.put("s", "one", "k")
    store.put("s", "two", "k")
    assert store.find("s") == "two" and store.find("t") is None
    store.remove("s")
    assert store.find("s") is None
    store.add_seconds("k", 1.5)
    store.add_seconds("k", 2.0)
    assert store.seconds("k") == pytest.approx(3.5) and store.seconds("l") == 0
    store.close()


def test_minutes_outlive_the_directory(tmp_path):
    path = str(tmp_path / "directory.sqlite")
    store = open_store(path)
    store.add_seconds("k", 90)
    store.close()
    assert open_store(path).seconds("k") == 90
    with pytest.raises(UserError, match="cannot be opened"):
        open_store(str(tmp_path / "no" / "folder"))


def test_tickets_are_ours_and_end():
    signer = Signer(SECRET)
    ticket = Ticket("s", "k", time.time() + 60, 1, 2)
    text = signer.sign(ticket)
    assert signer.read(text) == ticket and not Signer("x").knows(text)
    for forged in ("", ".", text[:-1], "A" + text, text + "0", "é." + "0" * 64, "x" * 10_000):
        assert not signer.knows(forged)
    with pytest.raises(BadTicket, match="old"):
        signer.read(signer.sign(Ticket("s", "k", time.time() - 1, 1, 2)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ann = 3", "has to be a table"),
        ("[ann]\nminute = 3", "no limit minute"),
        ("[ann]\nminutes = 'x'", "whole number"),
        ("[ann]\nminutes = -1", "whole number"),
        ("", "names no key"),
        ("[", "cannot be read"),
    ],
)
def test_keys_that_cannot_be_understood_are_a_sentence(tmp_path, text, words):
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(UserError, match=words):
        read_limits(tmp_path / "keys.toml")


def test_keys_have_tokens_of_their_own(tmp_path):
    (tmp_path / "keys.toml").write_text("[ann]\nminutes = 3\n[bob]\n")
    keys = Keys(SECRET, read_limits(tmp_path / "keys.toml"))
    assert keys.limits("ann") == Limits(minutes=3)
    assert keys.name_of(keys.token("ann")) == "ann" and keys.of_alias(keys.alias("bob")) == "bob"
    assert keys.name_of("") is None and keys.name_of(keys.worker_token) is None
    assert len({keys.token("ann"), keys.token("bob"), keys.worker_token}) == 3


def test_workers_are_added_when_places_run_out_and_drained_when_nobody_needs_them():
    scaling = Scaling(1, 10)
    assert scaling.wanted(4, 8, 5, 0, 0.0) == 4
    assert scaling.wanted(4, 8, 6, 0, 1.0) == 4
    assert scaling.wanted(4, 8, 6, 0, 1.0 + BUSY_SECONDS) == 6
    assert scaling.wanted(4, 8, 8, 1, 30.0) > 4
    assert scaling.wanted(4, 8, 1, 1, 40.0) == 4
    assert scaling.wanted(4, 8, 1, 1, 40.0 + IDLE_SECONDS) == 3
    assert scaling.wanted(3, 6, 1, 1, 41.0 + IDLE_SECONDS) == 3
    assert scaling.wanted(0, 0, 0, 1, 0.0) == 1


def test_workers_do_not_share_a_core(monkeypatch):
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("cores cannot be chosen on this system")
    kept = os.sched_getaffinity(0)
    taken = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: taken.append(cores))
    held = [claim_core() for _ in kept]
    try:
        chosen = [next(iter(cores)) for cores in taken]
        assert len(set(chosen)) == len(chosen)
    finally:
        for one in held:
            if one is not None:
                one.close()


def test_lines_of_the_log_are_json():
    record = logging.LogRecord("livepuppet.realtime.x", 30, "", 0, "A %s", ("word",), None)
    line = json.loads(JsonLines().format(record))
    assert line["level"] == "warning" and line["message"] == "A word" and line["module"] == "realtime.x"


# The simulation.


def test_a_worker_of_the_simulation_is_as_late_as_it_has_to_be():
    rng = np.random.default_rng(0)
    alone = simulation.one_worker(1, 30.0, [0.01], rng)
    assert alone.p95 == pytest.approx(0.01, abs=1e-6) and alone.replaced == 0
    assert alone.busy == pytest.approx(0.3, abs=0.02)
    full = simulation.one_worker(4, 30.0, [0.02], rng)
    assert full.replaced > 0.5 * (1 - 1 / (4 * 30 * 0.02)) and not full.bearable


def test_batches_carry_more_people_where_the_fixed_part_is_large():
    alone = simulation.most_people(30.0, {1: 0.0045}, seconds=2)
    batched = simulation.most_people(30.0, {1: 0.0045, 2: 0.005, 4: 0.006, 8: 0.008}, seconds=2)
    assert alone == pytest.approx(1 / (30 * 0.0045), abs=1) and batched > 3 * alone
    assert places(0.0045) == int(0.7 / (30 * 0.0045))


def test_people_of_a_worker_that_takes_over_are_looked_at_and_those_who_come():
    found = service_bench.taken_over(0.004, 2, 0.4)
    assert found["rate"] == pytest.approx(62.5) and found["before_ms"] > 0 and found["after_ms"] > 0
    assert found["pictures"] > 0 and found["pictures_of_others"] > 0


def test_a_day_without_room_refuses_and_one_with_room_does_not():
    free = simulation.day(200, 4, node=2)
    assert free.refused < 0.01 and 150 < free.people < 260
    full = simulation.day(200, 4, node=2, ceiling=20)
    assert full.refused > 0.2 and full.people <= 80


# What it is deployed with.

DEPLOY = Path(__file__).parents[1] / "deploy"


def test_the_dashboard_shows_metrics_that_there_are():
    known = {
        name
        for metrics in (WorkerMetrics(), DirectoryMetrics())
        for family in metrics.registry.collect()
        for name in (family.name, f"{family.name}_total", f"{family.name}_bucket")
    }
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    shown = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"livepuppet_\w+", target["expr"])
    }
    assert len(panels) == 9 and shown <= known


def test_the_manifest_starts_what_there_is():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    cluster = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    head = cluster["spec"]["headGroupSpec"]
    assert json.loads(head["rayStartParams"]["system-config"].strip("'")) == HEALTH
    directory = next(one for one in head["template"]["spec"]["containers"] if one["name"] == "directory")
    command, *arguments = directory["args"]
    assert command == "service"
    context = commands.service.make_context("service", arguments, resilient_parsing=True)
    assert context.params["ray"] and context.params["most_workers"] == 64
    ports = {port["name"]: port["containerPort"] for port in directory["ports"]}
    assert ports == {"service": commands.PORT, "metrics": commands.METRICS_PORT}
    volumes = {one["name"] for one in head["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in directory["volumeMounts"]} == volumes
