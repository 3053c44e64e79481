# ruff: noqa: E402
"""Calls in which the far side draws: what travels, a whole call over loopback, and who is refused or ignored."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny_bundle
from media import gradient, read_clip, red_picture, write_clip, write_picture
from test_remote import moving, psnr

pytest.importorskip("starlette", reason="the extra 'studio' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'studio' is not installed")
client = pytest.importorskip("websockets.sync.client", reason="the extra 'studio' is not installed")

from websockets.exceptions import ConnectionClosed, InvalidStatus

from livepuppet import Animator
from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.realtime import bundled
from livepuppet.realtime.app import call_server, settings
from livepuppet.realtime.app.call_server import CallServer, nobody
from livepuppet.realtime.app.stats import LiveStats
from livepuppet.realtime.app.studio.tls import certificate
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote import call as calls
from livepuppet.realtime.remote.call import BURST, CALL_PATH, Budget, CallSender, Receipt
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.datagrams import TAG, ForeignDatagram, Keys, Seal
from livepuppet.realtime.remote.engine import RemoteEngine
from livepuppet.realtime.remote.packets import COARSEST, PacketDecoder, PacketEncoder, RenderRequest
from livepuppet.realtime.remote.protocol import CLOCK_REQUEST, VERSION, pack_avatar
from livepuppet.realtime.remote.receiving import CallSource, RequestFrame

TOKEN = "t" * 40


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while (found := condition()) is None or found is False:
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


# What travels.


def test_coarser_packets_are_shorter_and_leave_both_ends_alike():
    lengths = []
    for coarse in range(COARSEST + 1):
        packer, unpacker, sizes = PacketEncoder(), PacketDecoder(), []
        for step in range(1, 60):
            packet = packer.encode(step, 0, RenderRequest(moving(step)), coarse)
            found = unpacker.decode(packet).request.motion
            for ours, theirs in zip(packer._sent[step][1], unpacker._known[step][1], strict=True):
                assert np.array_equal(ours, theirs)
            packer.acknowledged(step)
            sizes.append(len(packet))
            assert np.abs(found.amounts - moving(step).amounts).max() <= (1 << coarse) / 160
            # The pose is never coarser.
            assert np.allclose(found.pose.shift, moving(step).pose.shift, atol=1 / 2048)
        lengths.append(np.mean(sizes))
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < 0.8 * lengths[0]


def test_datagrams_open_with_their_own_key_alone():
    keys = Keys.from_json(json.loads(json.dumps(Keys.make().as_dict())))
    up, down = Seal(keys.call, keys.up), Seal(keys.call, keys.down)
    sealed = up.close(7, b"numbers")
    assert up.open(sealed) == (7, b"numbers") and b"numbers" not in sealed
    assert len(sealed) == 8 + len(b"numbers") + TAG
    rng = np.random.default_rng(0)
    others = [down.close(7, b"numbers"), Seal(keys.call ^ 1, keys.up).close(7, b"numbers"), b"", sealed[:-1]]
    for _ in range(100):
        forged = bytearray(sealed)
        forged[rng.integers(len(forged))] ^= 1 << int(rng.integers(8))
        others.append(bytes(forged))
    for other in (*others, sealed + b"x", bytes(5000)):
        with pytest.raises(ForeignDatagram):
            up.open(other)
    for wrong in ({}, {"call": -1}, {"up": "xyz"}, {"down": "00"}, {"call": 1.5}, {"up": 3}):
        with pytest.raises((ValueError, KeyError, TypeError)):
            Keys.from_json({**keys.as_dict(), **wrong} if wrong else {})


def test_receipts_arrive_as_they_were():
    found = Receipt.unpack(Receipt(70_000, 123.4567, 0.0123, 70_000, 0.05).pack())
    assert found == Receipt(70_000, 123.4567, 0.0123, 70_000 & 0xFFFF, 0.05)
    with pytest.raises(ValueError):
        Receipt.unpack(bytes(3))


def test_no_more_is_spent_than_there_is():
    budget, sent, now = Budget(12_000), 0, 0.0
    while now < 20.0:
        if budget.left(now) >= 0:
            budget.spend(100)
            sent += 100
        now += 1 / 60
    # What was saved up, the rate, and one packet that was begun.
    assert sent * 8 <= 12_000 * (20 + BURST) + 800
    assert sent * 8 >= 12_000 * 19.5


def test_the_newest_frame_wins_and_silence_is_told():
    source, stop = CallSource("Nobody yet."), threading.Event()
    assert source.trouble == "Nobody yet."
    frames = source.frames(stop)
    for number in range(5):
        source.put(RenderRequest(at_rest=bool(number % 2)), 100.0 - number)
    first = next(frames)
    assert isinstance(first, RequestFrame) and not first.request.at_rest and source.trouble is None
    source.put(RenderRequest(), 1.0)
    # Times grow whatever is told.
    second = next(frames)
    assert second.captured > first.captured and second.arrived > 0
    source.stopped("It has left.")
    assert source.trouble == "It has left."
    stop.set()
    assert next(frames, None) is None


# A receiver without a window: what it is asked for is looked at here.


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


class Live:
    """Stands in for a `LiveLoop`: calls are made at once, frames are drawn where a test asks for one."""

    def __init__(self, engine, source, size=64):
        self.animator = Animator([nobody(engine.size)], engine=engine, size=size)
        self.stats, self.source = LiveStats(), source
        self._lock, self._stop = threading.RLock(), threading.Event()
        self._frames = source.frames(self._stop)
        self.drawn = 0

    def call(self, step):
        with self._lock:
            step()

    def draw(self):
        """The next frame, drawn."""
        frame = next(self._frames)
        with self._lock:
            self.drawn += 1
            return self.animator.step(frame, frame.captured)

    @property
    def waiting(self):
        return self.source._newest is not None


def receiving(bundle, files=None, address="127.0.0.1", size=64):
    source = CallSource(call_server.WAITING)
    live = Live(load_engine("onnx", bundle, threads=1), source, size)
    return CallServer(live, source, TOKEN, address, 0, files)


@pytest.fixture
def server(bundle):
    server = receiving(bundle)
    yield server
    server.close()


def calling(bundle, server, tmp_path, fingerprint=None):
    """An animator that sends, and its sender."""
    local = load_engine("onnx", bundle, threads=1)
    sender = CallSender(ServerAddress("127.0.0.1", server.port, TOKEN, fingerprint), local.model_name)
    avatar = write_picture(tmp_path / "a.png", gradient(64, 64))
    return Animator(avatar, engine=RemoteEngine(local, sender), size=64, crop="full"), sender


def seen(animator, server, number=0):
    """Send frames until one is drawn."""

    def sent():
        animator.step(np.roll(gradient(64, 64), number, 1), time.perf_counter())
        return server._live.waiting

    wait_for(sent)
    return server._live.draw()


def join(server, token=TOKEN, **options):
    return client.connect(
        f"ws://127.0.0.1:{server.port}{CALL_PATH}",
        subprotocols=["livepuppet", f"token.{token}"],
        compression=None,
        open_timeout=20,
        close_timeout=1,
        **options,
    )


def hello(server, session=None, **changed):
    name = server._live.animator.engine.model_name
    return json.dumps(
        {"version": VERSION, "model": name, "session": session or secrets.token_hex(16), **changed}
    )


def next_json(wire):
    while isinstance(message := wire.recv(timeout=20), bytes):
        pass
    return json.loads(message)


def enter(wire, server, session=None):
    """Say hello. Returns a function that sends a datagram, and the keys."""
    wire.send(hello(server, session))
    told = next_json(wire)["datagrams"]
    keys = Keys.from_json(told)
    return keys, ("127.0.0.1", told["port"])


def datagram(keys, number, at_rest=True):
    packet = PacketEncoder().encode(number, 0, RenderRequest(at_rest=at_rest))
    return Seal(keys.call, keys.up).close(number, packet[4:])


def test_a_picture_drawn_there_is_the_one_drawn_here(server, bundle, tmp_path):
    animator, sender = calling(bundle, server, tmp_path)
    seen(animator, server)
    here = Animator(animator.avatar, engine=load_engine("onnx", bundle, threads=1), size=64, crop="full")
    here(gradient(64, 64), 0.0)
    for number in range(1, 6):
        found = seen(animator, server, number)
        assert found.moved and found.image.shape == (64, 64, 3)
        keypoints = animator.retargeter._shown if found.keypoints is None else found.keypoints
        assert psnr(found.image, here.draw(keypoints)) > 45
    wait_for(lambda: seen(animator, server) is not None and sender._came > 2)
    figures = sender.figures()
    assert figures["way"] == "datagrams" and figures["wire_kbit_s"] > figures["payload_kbit_s"] > 0
    assert "kbit/s of numbers" in sender.sentence()
    # Receipts come later than pictures.
    wait_for(lambda: seen(animator, server) is not None and server.datagrams > 2)
    assert server.foreign == 0
    # Whoever leaves takes all of it along.
    sender.close()
    wait_for(lambda: len(server._live.animator) == 1 and server._live.source.trouble == call_server.LEFT)
    assert not server._avatars and server._live.animator.avatar.name == "nobody"


def test_a_rig_needs_its_amounts_and_no_more():
    engine = load_engine("onnx", threads=1)
    animator = Animator(bundled.AVATAR, engine=engine, size=128)
    parts = animator.shown_residuals
    assert animator.drawn_by_rig and animator.has_rig and parts is not None
    motion, whole = moving(3), np.empty((128, 128, 3), np.uint8)
    animator.render_request(motion, None, False, whole)
    residuals = np.zeros_like(motion.residuals)
    residuals[parts] = motion.residuals[parts]
    masked = np.empty_like(whole)
    animator.render_request(type(motion)(motion.pose, residuals, motion.amounts), None, False, masked)
    assert np.array_equal(whole, masked)
    packet = PacketEncoder().encode(1, 0, RenderRequest(type(motion)(motion.pose, residuals, motion.amounts)))
    told = PacketDecoder().decode(packet).request
    found = animator.plan(RequestFrame(np.zeros((4, 4, 3), np.uint8), 0, 1.0, request=told), 1.0)
    assert animator.is_asked and found.moved and found.driving is None and not found.rests
    assert psnr(animator.paint(found).image, whole) > 45


def test_where_datagrams_do_not_come_through_the_connection_does(server, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(calls._Datagrams, "send", lambda self, packet: 0)
    animator, sender = calling(bundle, server, tmp_path)
    for number in range(3):
        seen(animator, server, number)
    assert sender.figures()["way"] == "connection" and server.datagrams == 0
    # Nothing queues where nothing is acknowledged.
    monkeypatch.setattr(CallSender, "_take_receipt", lambda *_: None)
    for _ in range(30):
        animator.step(gradient(64, 64), time.perf_counter())
    assert sender.held_back > 10 and len(sender._in_stream) <= calls.MOST_IN_STREAM
    sender.close()


def test_what_is_lost_costs_only_itself(server, bundle, tmp_path, monkeypatch):
    chance, whole = np.random.default_rng(0), calls._Datagrams.send
    monkeypatch.setattr(
        calls._Datagrams, "send", lambda self, packet: 0 if chance.random() < 0.3 else whole(self, packet)
    )
    complaints = []
    told = CallSender._obey
    monkeypatch.setattr(
        CallSender,
        "_obey",
        lambda self, wire, said: complaints.append("no_base" in said) or told(self, wire, said),
    )
    animator, sender = calling(bundle, server, tmp_path)
    for number in range(30):
        seen(animator, server, number)
    wait_for(lambda: seen(animator, server) is not None and sender._came >= 20)
    assert sender.frames > 30 and not any(complaints)
    sender.close()


def test_a_call_that_breaks_goes_on_with_the_same_avatar(server, bundle, tmp_path):
    animator, sender = calling(bundle, server, tmp_path)
    seen(animator, server)
    initial, avatars = animator.retargeter.initial, dict(server._avatars)
    shown = server._live.animator._prepared[-1]
    for _ in range(2):
        before = server._connection
        sender._connection.cut()
        wait_for(lambda before=before: server._connection not in (None, before))
        assert seen(animator, server) is not None
    # Nothing was brought or taken anew.
    assert server._live.animator._prepared[-1] is shown and dict(server._avatars) == avatars
    assert animator.retargeter.initial is initial
    sender.close()


def test_a_receiver_that_was_restarted_is_told_everything_again(bundle, tmp_path):
    first = receiving(bundle)
    animator, sender = calling(bundle, first, tmp_path)
    seen(animator, first)
    first.close()
    source = CallSource(call_server.WAITING)
    live = Live(load_engine("onnx", bundle, threads=1), source)
    second = CallServer(live, source, TOKEN, "127.0.0.1", first.port)
    try:
        assert seen(animator, second).moved
    finally:
        sender.close()
        second.close()


def test_over_tls_and_only_to_the_machine_that_was_meant(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path / "config"))
    *files, fingerprint = certificate("127.0.0.1")
    server = receiving(bundle, (files[0], files[1]))
    address = ServerAddress.parse(server.address("127.0.0.1", TOKEN, fingerprint))
    assert address.fingerprint is not None
    try:
        animator, sender = calling(bundle, server, tmp_path, address.fingerprint)
        assert seen(animator, server) is not None
        wait_for(lambda: seen(animator, server) is not None and server.datagrams > 2)
        sender.close()
        with pytest.raises(UserError, match="certificate"):
            CallSender(ServerAddress("127.0.0.1", server.port, TOKEN, "0" * 64), "tiny")
    finally:
        server.close()


def test_capture_times_are_told_by_our_clock():
    call = call_server._Call(Keys.make(), None)
    assert call.captured(123, 50.0) == 50.0
    call.set_clock(-1000.0)
    # Taken at 1049.9 of the sender's clock.
    assert call.captured(10_499_000, 50.0) == pytest.approx(49.9)
    assert call.captured(10_499_000 - 100 * 10_000, 50.0) == 50.0
    for wrong in (None, "1", float("nan"), 1e300, [1]):
        with pytest.raises(ValueError):
            call.set_clock(wrong)


# Who is refused, and who is ignored.


def test_nobody_without_a_token_comes_in(server):
    for token in ("", "wrong", TOKEN[:-1], TOKEN + "x"):
        with pytest.raises(InvalidStatus):
            join(server, token)
    for options in (
        {"origin": "http://evil.example"},
        {"additional_headers": {"Sec-Fetch-Site": "cross-site"}},
    ):
        with pytest.raises(InvalidStatus):
            join(server, **options)
    with pytest.raises(UserError, match="refuses"):
        Connection(ServerAddress("127.0.0.1", server.port, "wrong", None), CALL_PATH, "livepuppet receive")
    raw = socket.create_connection(("127.0.0.1", server.port))
    with raw:
        # A name that was bent to this computer.
        lines = (
            f"GET {CALL_PATH} HTTP/1.1",
            "Host: evil.example",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: livepuppet, token.{TOKEN}",
        )
        raw.sendall("\r\n".join((*lines, "", "")).encode())
        assert b" 403 " in raw.recv(200)
    assert server._session is None


@pytest.mark.parametrize(
    "messages",
    [
        ["x"],
        [b"rubbish"],
        [{"version": 99}],
        [{"model": "other"}],
        [{"session": "../../etc"}],
        [{}, b"Nrubbish"],
        [{}, b"?"],
        [{}, b"T"],
        [{}, "[" * 5000],
        [{}, json.dumps({"clock": "now"})],
        [{}, *[CLOCK_REQUEST.pack(b"T", 0.0)] * 1000],
        [{}, *[b"N" + PacketEncoder().encode(1, 0, RenderRequest())] * 1000],
        [{}, b"A" + bytes(90)],
        [{}, b"A" + bytes(call_server.LARGEST_MESSAGE)],
    ],
)
def test_whoever_breaks_the_rules_loses_the_connection_and_the_next_one_comes_in(
    server, bundle, tmp_path, messages
):
    with join(server) as wire, pytest.raises(ConnectionClosed):
        for message in messages:
            wire.send(hello(server, **message) if isinstance(message, dict) else message)
        while True:
            wire.recv(timeout=20)
    wait_for(lambda: server._connection is None and len(server._live.animator) == 1)
    animator, sender = calling(bundle, server, tmp_path)
    assert seen(animator, server) is not None
    sender.close()


def test_an_avatar_that_was_not_asked_for_is_refused(server):
    avatar = Avatar("a", gradient(64, 64))
    digest, message = pack_avatar(avatar)
    with join(server) as wire:
        enter(wire, server)
        wire.send(json.dumps({"show": digest}))
        assert next_json(wire) == {"need": digest}
        wire.send(message)
        told = next_json(wire)
        assert told["ready"] == digest and told["keypoints"] is True and told["parts"] is None
        other = Avatar("b", np.ascontiguousarray(gradient(64, 64)[::-1]))
        wire.send(pack_avatar(other)[1])
        with pytest.raises(ConnectionClosed):
            while True:
                wire.recv(timeout=20)


def test_one_sender_at_a_time_and_nothing_is_left_for_the_next(server, bundle, tmp_path):
    animator, sender = calling(bundle, server, tmp_path)
    seen(animator, server)
    digest = next(iter(server._avatars))
    with join(server) as wire:
        wire.send(hello(server))
        assert "Somebody sends already" in next_json(wire)["error"]
    assert seen(animator, server) is not None
    sender._stop.set()
    sender._connection.cut()
    wait_for(lambda: server._connection is None)
    # Its place is kept for it, until somebody else comes; who gets nothing of it.
    assert server._avatars and server._live.source.trouble == call_server.BROKE
    with join(server) as wire:
        enter(wire, server)
        wire.send(json.dumps({"show": digest}))
        assert next_json(wire) == {"need": digest}
        assert not server._avatars
    sender.close()


def test_a_place_is_kept_for_a_while(server, monkeypatch):
    monkeypatch.setattr(call_server, "KEPT_SECONDS", 0.2)
    with join(server) as wire:
        enter(wire, server)
        wire.socket.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: server._session is None)
    assert server._live.source.trouble == call_server.LEFT
    monkeypatch.setattr(call_server, "HELLO_SECONDS", 0.3)
    with join(server) as silent, pytest.raises(ConnectionClosed):
        silent.recv(timeout=20)


def test_datagrams_of_others_and_replays_draw_nothing(server):
    with join(server) as wire, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        keys, place = enter(wire, server)
        sender.settimeout(20)
        first = datagram(keys, 7)
        sender.sendto(first, place)
        number, body = Seal(keys.call, keys.down).open(sender.recv(2048))
        assert number == 1 and Receipt.unpack(body).number == 7
        wait_for(lambda: server._live.waiting)
        server._live.draw()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            thief.settimeout(0.3)
            good = server.datagrams
            wrong = Keys(keys.call, keys.down, keys.up)
            for other in (
                first,
                datagram(keys, 3),
                datagram(wrong, 9),
                b"",
                bytes(30),
                bytes(5000),
                first[:20],
            ):
                for _ in range(3):
                    thief.sendto(other, place)
            # Nobody else is ever answered.
            with pytest.raises(TimeoutError):
                thief.recv(2048)
        assert not server._live.waiting and server.datagrams >= good
        sender.sendto(datagram(keys, 8), place)
        wait_for(lambda: server._live.waiting)


def test_a_flood_of_datagrams_costs_no_frame(server, bundle, tmp_path):
    animator, sender = calling(bundle, server, tmp_path)
    seen(animator, server)
    stop = threading.Event()
    place = server._socket.getsockname()

    def flood():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            while not stop.is_set():
                for _ in range(50):
                    attacker.sendto(bytes(200), place)
                time.sleep(0.002)

    attacker = threading.Thread(target=flood, daemon=True)
    attacker.start()
    try:
        wait_for(lambda: server.foreign > 500)
        # What is drowned goes over the connection.
        for number in range(10):
            assert seen(animator, server, number) is not None
    finally:
        stop.set()
        attacker.join()
        sender.close()


def test_a_sender_that_sends_too_fast_is_not_drawn_faster(server):
    with join(server) as wire, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        keys, place = enter(wire, server)
        for number in range(1, 1500):
            sender.sendto(datagram(keys, number), place)
        wait_for(lambda: server.datagrams > 0)
        time.sleep(0.3)
        assert server._call.came <= 2 * call_server.MOST_MESSAGES + 150


# What is measured.


def test_pictures_are_compared():
    from livepuppet.benchmarks import call_rates

    picture = gradient(256, 256)
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
    one, other = (call_rates._luma(image) for image in (picture, noisy))
    assert call_rates.ms_ssim(one, one) == pytest.approx(1.0)
    assert 0.3 < call_rates.ms_ssim(one, other) < 0.99
    frames = [np.roll(noisy, shift, 1) for shift in range(0, 24, 2)]
    points = []
    for crf in (23, 41):
        payload, wire, shown = call_rates.h264(frames, 25.0, crf)
        assert len(shown) == len(frames) and wire > payload > 0
        similar = call_rates.ms_ssim(call_rates._luma(shown[-1]), call_rates._luma(frames[-1]))
        quality = call_rates.Quality(0.0, 0.0, similar, 0.0)
        points.append(call_rates.Point(payload, wire, quality))
    good, bad = points
    assert good.payload > bad.payload and good.quality.ms_ssim > bad.quality.ms_ssim
    between = call_rates.rate_at(points, (good.quality.ms_ssim + bad.quality.ms_ssim) / 2)
    assert bad.payload < between < good.payload
    assert call_rates.rate_at(points, 1.0) is None and call_rates.rate_at(points, 0.0) == bad.payload


# On the command line.


def test_send_and_receive_on_the_command_line(bundle, tmp_path):
    avatar = write_picture(tmp_path / "avatar.png", gradient(64, 64))
    driving = write_clip(
        tmp_path / "driving.mp4", [red_picture(level) for level in range(100, 180, 2)], rate=50
    )
    environment = {**os.environ, settings.FOLDER_VARIABLE: str(tmp_path / "config")}
    output, stats = tmp_path / "out.mp4", tmp_path / "stats.json"
    command = [sys.executable, "-m", "livepuppet", "receive", "--port", "0", "--model", str(bundle)]
    command += ["--size", "128x96", "--frames", "10", "--output", str(output), "--stats", str(stats)]
    receiver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        address = next(line for line in receiver.stderr if "--to" in line).split("'")[1]
        command = [
            sys.executable,
            "-m",
            "livepuppet",
            "send",
            "--avatar",
            str(avatar),
            "--driving",
            str(driving),
        ]
        command += ["--loop", "--crop", "full", "--model", str(bundle), "--neutral", "first"]
        sender = subprocess.Popen(
            command,
            env={**environment, "LIVEPUPPET_RECEIVER": address},
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        try:
            receiver.communicate(timeout=120)
        finally:
            sender.terminate()
            told = sender.communicate(timeout=60)[1]
    finally:
        receiver.kill()
    assert receiver.returncode == 0 and sender.returncode == 0, told
    # What leaves this machine is told, the token is not.
    assert "your avatar's picture goes there once" in told and "kbit/s of numbers" in told
    assert address.partition("token=")[2] not in told
    found = json.loads(stats.read_text())
    assert found["frames"] == 10 and found["driving"] == "the sender"
    assert read_clip(output)[0][-1][:, 40:90].mean() > 40


def test_a_sender_draws_nothing_and_a_receiver_has_no_studio(livepuppet, tmp_path):
    to = ("--to", f"http://127.0.0.1:1/#token={TOKEN}")
    result = livepuppet("send", *to, "--output", str(tmp_path / "a.mp4"))
    assert result.returncode == 2 and "to livepuppet receive" in result.stderr
    result = livepuppet("send", "--to", "https://example")
    assert result.returncode == 2 and "has to be copied whole" in result.stderr
    result = livepuppet("receive", "--output", "studio")
    assert result.returncode == 2 and "studio is for who drives" in result.stderr
