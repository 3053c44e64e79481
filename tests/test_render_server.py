# ruff: noqa: E402
"""The server of remote rendering: who is refused, what is bounded, and that nobody else notices."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
import tiny_bundle
from media import gradient, write_picture

pytest.importorskip("starlette", reason="the extra 'studio' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'studio' is not installed")
client = pytest.importorskip("websockets.sync.client", reason="the extra 'studio' is not installed")

from websockets.exceptions import ConnectionClosed, InvalidStatus

from livepuppet import Animator
from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.realtime.app import flow, render_server
from livepuppet.realtime.app.render_server import RenderServer
from livepuppet.realtime.app.studio import server as studio_server
from livepuppet.realtime.app.turns import LEAST, Rhythm, Turns
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.engine import RemoteEngine
from livepuppet.realtime.remote.packets import PacketEncoder, RenderRequest
from livepuppet.realtime.remote.protocol import (
    ACKNOWLEDGE,
    CLOCK_REPLY,
    CLOCK_REQUEST,
    PATH,
    PICTURE,
    VERSION,
    Canvas,
    pack_avatar,
)
from livepuppet.realtime.remote.renderer import RemoteRenderer

TOKEN = "t" * 40
CANVAS = Canvas(64, 64)


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while (found := condition()) is None or found is False:
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture
def server(bundle):
    server = RenderServer(load_engine("onnx", bundle, threads=1), [TOKEN, TOKEN[::-1] + "2"], places=2)
    yield server
    server.close()


@pytest.fixture
def bystander(server, bundle, tmp_path):
    """A client that behaves, and a function that asserts that it still gets pictures."""
    local = load_engine("onnx", bundle, threads=1)
    address = ServerAddress("127.0.0.1", server.port, TOKEN, None)
    engine = RemoteEngine(local, RemoteRenderer(address, local.model_name))
    avatar = write_picture(tmp_path / "a.png", gradient(64, 64))
    animator = Animator(avatar, engine=engine, size=64, crop="full")

    def gets_pictures():
        wait_for(lambda: animator.step(gradient(64, 64)).fresh)

    gets_pictures.animator = animator
    gets_pictures()
    yield gets_pictures
    engine.close()


def join(server, token=TOKEN, **options):
    return client.connect(
        f"ws://127.0.0.1:{server.port}{PATH}",
        subprotocols=["livepuppet", f"token.{token}"],
        compression=None,
        open_timeout=20,
        close_timeout=1,
        **options,
    )


def hello(server, session=None, **changed):
    name = server._engine.model_name
    return json.dumps(
        {"version": VERSION, "model": name, "session": session or secrets.token_hex(16), **changed}
    )


def canvas(**changed):
    return json.dumps({"canvas": {**CANVAS.as_dict(), **changed}})


def next_json(wire):
    while isinstance(message := wire.recv(timeout=20), bytes):
        pass
    return json.loads(message)


def next_picture(wire, seconds=20.0):
    while not (isinstance(message := wire.recv(timeout=seconds), bytes) and message[:1] == b"P"):
        pass
    return PICTURE.unpack_from(message)[1]


def enter(wire, server, avatar=None, session=None, **changed):
    """Say hello, and bring an avatar."""
    wire.send(hello(server, session))
    assert next_json(wire)["welcome"] == VERSION
    wire.send(canvas(**changed))
    if avatar is not None:
        digest, message = pack_avatar(avatar)
        wire.send(message)
        assert next_json(wire)["ready"] == digest


def frame(number, packets=None):
    return b"N" + (packets or PacketEncoder()).encode(number, 0, RenderRequest(at_rest=True))


def test_nobody_without_a_token_comes_in(server):
    for token in ("", "wrong", TOKEN[:-1], TOKEN + "x"):
        with pytest.raises(InvalidStatus):
            join(server, token)
    with pytest.raises(InvalidStatus):
        join(server, origin="http://evil.example")
    with pytest.raises(UserError, match="refuses"):
        Connection(ServerAddress("127.0.0.1", server.port, "wrong", None))
    assert server.sessions == 0


@pytest.mark.parametrize(
    "messages",
    [
        ["x"],
        [b"rubbish"],
        [{"version": 99}],
        [{"model": "other"}],
        [{"session": "../../etc"}],
        [{}, b"N" + bytes(20)],
        [{}, canvas(width=1 << 30)],
        [{}, canvas(background="rubbish")],
        [{}, canvas(), b"Nrubbish"],
        [{}, canvas(), b"?"],
        [{}, canvas(), b"T"],
        [{}, canvas(), "[" * 5000],
        [{}, canvas(), *[b"K" + bytes(4)] * 2000],
        [{}, canvas(), *[CLOCK_REQUEST.pack(b"T", 0.0)] * 2000],
        [{}, canvas(), *[b"A" + bytes(90)] * 50],
        [{}, canvas(), b"A" + bytes(render_server.LARGEST_MESSAGE)],
    ],
)
def test_whoever_breaks_the_rules_loses_the_connection_and_nobody_else_does(server, bystander, messages):
    with join(server) as wire, pytest.raises(ConnectionClosed):
        for message in messages:
            wire.send(hello(server, **message) if isinstance(message, dict) else message)
        while True:
            wire.recv(timeout=20)
    bystander()
    wait_for(lambda: server.connections == 1 and server.sessions == 1)


def test_a_forged_avatar_is_an_error_and_no_picture(server):
    with join(server) as wire:
        enter(wire, server)
        wire.send(b"A" + bytes(100))
        assert "error" in next_json(wire)
        wire.send(json.dumps({"show": "0" * 64}))
        assert next_json(wire) == {"need": "0" * 64}


def test_a_session_sees_nothing_of_another_one(server, bystander):
    digest, _ = pack_avatar(bystander.animator.avatar)
    renderer = bystander.animator.engine.renderer
    with join(server) as wire:
        enter(wire, server)
        # Its avatar's hash, which has leaked, opens nothing.
        wire.send(json.dumps({"show": digest}))
        assert next_json(wire) == {"need": digest}
        wire.send(frame(1))
        with pytest.raises(TimeoutError):
            next_picture(wire, 0.3)
        bystander()
    # Nor does its session's name, with another person's token.
    with join(server, TOKEN[::-1] + "2") as wire:
        enter(wire, server, session=renderer._session)
        wire.send(json.dumps({"show": digest}))
        assert next_json(wire) == {"need": digest}
        bystander()


def test_replayed_packets_render_nothing(server, bystander):
    with join(server) as wire:
        enter(wire, server, bystander.animator.avatar)
        first = frame(7)
        wire.send(first)
        assert next_picture(wire) == 7
        wire.send(ACKNOWLEDGE.pack(b"K", 7))
        for _ in range(20):
            wire.send(first)
        wire.send(frame(3))
        wire.send(frame(8))
        assert next_picture(wire) == 8


def test_one_too_many_hears_so_at_once_and_a_silent_one_goes(server, monkeypatch):
    monkeypatch.setattr(render_server, "HELLO_SECONDS", 0.5)
    with join(server) as one, join(server) as two, join(server) as three:
        for wire in (one, two):
            wire.send(hello(server))
            assert next_json(wire)["welcome"] == VERSION
        three.send(hello(server))
        assert "places are taken" in next_json(three)["error"]
    with join(server) as silent, pytest.raises(ConnectionClosed):
        silent.recv(timeout=20)
    wait_for(lambda: server.sessions == 0)


def test_the_place_of_one_who_is_away_is_given_to_one_who_is_here(server, bystander):
    name = secrets.token_hex(16)
    with join(server) as wire:
        enter(wire, server, session=name)
        wire.socket.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: server.connections == 1)
    assert server.sessions == 2
    with join(server) as wire:
        enter(wire, server)
        assert server.sessions == 2
    bystander()


def test_a_session_that_is_away_for_long_is_deleted(server, monkeypatch):
    monkeypatch.setattr(render_server, "KEPT_SECONDS", 0.2)
    with join(server) as wire:
        enter(wire, server)
        wire.socket.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: server.sessions == 0)


def test_who_acknowledges_nothing_gets_two_pictures(server, bystander):
    with join(server) as wire:
        enter(wire, server, bystander.animator.avatar)
        packets, pictures = PacketEncoder(), 0
        for number in range(1, 20):
            wire.send(frame(number, packets))
            time.sleep(0.01)
        bystander()
        try:
            while True:
                next_picture(wire, 0.5)
                pictures += 1
        except TimeoutError:
            assert pictures == flow.MIN_IN_FLIGHT


def test_who_lies_about_what_arrived_and_reads_nothing_is_cut(server, bystander, monkeypatch):
    monkeypatch.setattr(studio_server, "SLOW_READER_SECONDS", 0.3)
    with socket.socket() as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(("127.0.0.1", server.port))
        # Nothing is read from the socket: the queue of the client would hold up to so many messages.
        with join(server, sock=small, max_queue=1) as wire:
            noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
            enter(wire, server, Avatar("noise", noise[:64, :64], None, noise), width=1280, height=720)
            place = next(p for key, p in server._places.items() if p.session.canvas.width == 1280)
            packets, number = PacketEncoder(), 0
            deadline = time.monotonic() + 20
            try:
                while place.connection is not None:
                    assert time.monotonic() < deadline
                    number += 1
                    wire.send(json.dumps({"key": True}))
                    wire.send(frame(number, packets))
                    wire.send(ACKNOWLEDGE.pack(b"K", number))
                    time.sleep(0.02)
            except ConnectionClosed:
                pass
    bystander()


def test_sessions_render_in_the_order_in_which_they_asked_and_share_pictures():
    turns, order = Turns(1), []

    def render(number):
        with turns.take((2, number + 1, 3)) as picture:
            order.append(number)
            assert picture.shape == (2, number + 1, 3)

    threads = [threading.Thread(target=render, args=(number,)) for number in range(5)]
    with turns.take((480, 640, 3)) as first:
        for number, thread in enumerate(threads):
            thread.start()
            wait_for(lambda number=number: len(turns._waiting) == number + 1)
    for thread in threads:
        thread.join(20)
    assert order == [0, 1, 2, 3, 4]
    with turns.take((480, 640, 3)) as again:
        assert np.shares_memory(again, first)
    # Whoever fails gives the turn back.
    with pytest.raises(ZeroDivisionError), turns.take((1,)):
        1 / 0  # noqa: B018
    assert len(turns._free) == 1


def test_a_rhythm_tells_when_the_next_frame_is_due():
    rhythm = Rhythm()
    assert rhythm.due(0.0) == float("inf")
    for number in range(20):
        rhythm.came(0.1 * number)
    assert rhythm.due(1.95) == pytest.approx(2.0)
    # It may be a little late; after that the next one is waited for.
    assert rhythm.due(2.005) == pytest.approx(2.0)
    assert rhythm.due(2.05) == pytest.approx(2.1)
    # Who stopped, and who begins again, is not waited for.
    assert rhythm.due(3.5) == float("inf")
    rhythm.came(3.6)
    assert rhythm.due(3.65) == float("inf")


def test_guests_render_where_they_make_nobody_late():
    now, order = [0.0], []
    turns, rhythm = Turns(1, lambda: now[0]), Rhythm()
    turns.expect(rhythm)

    def render(name, guest, seconds=0.02):
        with turns.take((1,), guest):
            order.append(name)
            now[0] += seconds

    def waiting(name, guest):
        thread = threading.Thread(target=render, args=(name, guest))
        thread.start()
        wait_for(lambda: len(turns._guests if guest else turns._waiting) > 0)
        return thread

    for number in range(10):
        rhythm.came(0.1 * number)
    now[0] = 0.91
    render("first guest", True)  # ends at .93
    assert order == ["first guest"]
    now[0] = 0.985
    threads = [waiting("second guest", True)]
    # It would end after the frame that is due at 1.0 has come.
    assert not any(thread.join(0.1) or not thread.is_alive() for thread in threads)
    now[0] = 1.0
    rhythm.came(1.0)
    with turns.take((1,)):
        order.append("resident")
        threads.append(waiting("third guest", True))
        threads.append(waiting("another resident", False))
        now[0] = 1.02
    for thread in threads:
        thread.join(20)
    assert order == ["first guest", "resident", "another resident", "second guest", "third guest"]
    # However much the others take, a guest has a turn now and then.
    now[0] = 1.095
    thread = waiting("fourth guest", True)
    assert thread.join(0.1) or thread.is_alive()
    now[0] = 1.09 + LEAST
    rhythm.came(1.095 + LEAST)
    thread.join(20)
    assert order[-1] == "fourth guest"
    turns.forget(rhythm)
    now[0] += 0.001
    render("fifth guest", True)
    assert order[-1] == "fifth guest"


def test_a_frame_that_a_newer_one_overtook_while_it_waited_for_its_turn_is_not_rendered(server):
    with join(server) as wire, ExitStack() as taken:
        enter(wire, server, Avatar("a", gradient(64, 64)))
        turns = server._engine.turns
        for _ in range(len(turns._free)):
            taken.enter_context(turns.take((1,)))
        packets = PacketEncoder()
        wire.send(frame(1, packets))
        wait_for(lambda: bool(turns._waiting))
        session = next(iter(server._places.values())).session
        wire.send(frame(2, packets))
        wait_for(lambda: session._newest is not None)
        taken.close()
        assert next_picture(wire) == 2


def test_sessions_that_show_the_same_hold_it_once(server):
    with join(server) as one, join(server, TOKEN[::-1] + "2") as other:
        for wire in (one, other):
            enter(wire, server, Avatar("a", gradient(64, 64)))
        animators = [place.session._animator for place in server._places.values()]
        avatars = {id(animator.avatar) for animator in animators}
        layers = {id(animator.compositor._layers) for animator in animators}
        assert len(animators) == 2 and len(avatars) == len(layers) == 1
        # A spare's session has no encoder.
        assert all(place.session._encoder is None for place in server._places.values())


def test_half_open_connections_keep_nobody_out(server, bystander):
    raw = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(80)]
    try:
        raw[-1].sendall(b"GET /render HTTP/1.1\r\nHost: 127")
        with join(server) as wire:
            enter(wire, server)
        bystander()
    finally:
        for one in raw:
            one.close()
    assert threading.active_count() < 60


def test_pictures_do_not_wait_for_acknowledgements_of_those_before(server):
    # Nagle's algorithm held each one back until the next message came.
    connections = []
    original = studio_server.BoundedWebSocket.connection_made
    with pytest.MonkeyPatch.context() as patch:

        def made(self, transport):
            connections.append(transport.get_extra_info("socket"))
            original(self, transport)

        patch.setattr(studio_server.BoundedWebSocket, "connection_made", made)
        with join(server) as wire:
            wire.send(hello(server))
            next_json(wire)
            assert connections[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_clock_is_told(server):
    with join(server) as wire:
        enter(wire, server)
        wire.send(CLOCK_REQUEST.pack(b"T", 12.5))
        kind, sent, received, answered = CLOCK_REPLY.unpack(wire.recv(timeout=20))
        assert (kind, sent) == (b"T", 12.5) and received <= answered
