# ruff: noqa: E402
"""Another machine draws: what travels, a whole session over loopback, and who is refused or cut."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import tiny_bundle
from media import gradient, write_picture

pytest.importorskip("starlette", reason="the extra 'studio' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'studio' is not installed")
client = pytest.importorskip("websockets.sync.client", reason="the extra 'studio' is not installed")

from livepuppet import Animator
from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.app import settings
from livepuppet.realtime.app.render_server import RenderServer, token_for
from livepuppet.realtime.app.studio.tls import certificate
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote import video
from livepuppet.realtime.remote.clock import ClockOffset
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.engine import RemoteEngine, load_remote
from livepuppet.realtime.remote.packets import (
    BadPacket,
    PacketDecoder,
    PacketEncoder,
    RenderRequest,
    StalePacket,
    UnknownBase,
)
from livepuppet.realtime.remote.protocol import (
    BadMessage,
    Canvas,
    pack_avatar,
    parse_json,
    unpack_avatar,
)
from livepuppet.realtime.remote.renderer import RemoteRenderer
from livepuppet.realtime.remote.subflows import SUBFLOWS
from livepuppet.realtime.remote.video import (
    H264,
    JPEG,
    BadPicture,
    H264Encoder,
    JpegEncoder,
    VideoDecoder,
)
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.pose import HeadPose, joined

TOKEN = "t" * 40


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while (found := condition()) is None or found is False:
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


def psnr(one, other):
    return 10 * np.log10(255**2 / max(float(((one.astype(float) - other) ** 2).mean()), 1e-9))


# Numbers.


def moving(step, count=16, amounts=True):
    """What a smooth driver asks for at a step."""
    wave = np.sin(0.1 * step + np.arange(52))
    pose = HeadPose(1 + 0.1 * wave[0], joined(0.2 * wave[1:3], 0.1 * wave[3]), 0.1 * wave[4:6])
    residuals = 0.02 * wave[: 2 * count].reshape(count, 2)
    return RigMotion(pose, residuals, np.clip(wave, 0, 1).astype(np.float32) if amounts else None)


def test_numbers_arrive_as_they_were_in_few_bytes():
    packer, unpacker = PacketEncoder(), PacketDecoder()
    sizes = []
    for step in range(1, 120):
        sent = moving(step)
        packet = packer.encode(step, 10 * step, RenderRequest(sent))
        told = unpacker.decode(packet)
        packer.acknowledged(step - 2)
        found = told.request.motion
        assert (told.number, told.sent, told.request.at_rest) == (step, 10 * step, False)
        assert np.allclose(found.pose.rotation, sent.pose.rotation, atol=1e-3)
        assert found.pose.scale == pytest.approx(sent.pose.scale, abs=1e-3)
        assert np.allclose(found.pose.shift, sent.pose.shift, atol=1e-3)
        assert np.allclose(found.residuals, sent.residuals, atol=1e-3)
        assert np.allclose(found.amounts, sent.amounts, atol=5e-3)
        sizes.append(len(packet))
    assert np.mean(sizes) < 100 and max(sizes) < 200


def test_keypoints_and_rest_travel_too():
    rng = np.random.default_rng(0)
    keypoints = Keypoints(
        rng.uniform(-1, 1, (10, 2)).astype(np.float32), rng.normal(0, 1, (10, 2, 2)).astype(np.float32)
    )
    told = PacketDecoder().decode(PacketEncoder().encode(1, 0, RenderRequest(None, keypoints)))
    assert np.allclose(told.request.keypoints.points, keypoints.points, atol=1e-3)
    assert np.allclose(told.request.keypoints.jacobians, keypoints.jacobians, atol=4e-3)
    assert PacketDecoder().decode(PacketEncoder().encode(1, 0, RenderRequest(at_rest=True))).request.at_rest
    strange = RigMotion(HeadPose(1.0, np.eye(3), np.array([np.nan, 1e30])), np.full((3, 2), -1e30))
    found = PacketDecoder().decode(PacketEncoder().encode(1, 0, RenderRequest(strange))).request.motion
    assert np.isfinite(found.residuals).all() and np.isfinite(found.pose.shift).all()


def test_a_packet_that_is_lost_costs_only_itself():
    packer, unpacker = PacketEncoder(), PacketDecoder()
    for step in range(1, 40):
        packet = packer.encode(step, 0, RenderRequest(moving(step)))
        if step % 3:
            # Whoever did not get one acknowledges none.
            assert unpacker.decode(packet).number == step
            packer.acknowledged(step)
    # One who knows nothing says so, and the next one stands alone.
    with pytest.raises(UnknownBase):
        PacketDecoder().decode(packer.encode(40, 0, RenderRequest(moving(40))))
    packer.forget()
    PacketDecoder().decode(packer.encode(41, 0, RenderRequest(moving(41))))


def test_forged_numbers_are_refused_and_harm_nothing():
    rng = np.random.default_rng(1)
    good = PacketEncoder().encode(1, 0, RenderRequest(moving(1)))
    unpacker = PacketDecoder()
    for trial in range(400):
        data = bytearray(good)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        forged = bytes(data[: rng.integers(len(data) + 1)]) if trial % 2 else bytes(data)
        try:
            told = unpacker.decode(forged)
        except BadPacket:
            continue
        motion = told.request.motion
        if motion is not None:
            assert np.isfinite(motion.residuals).all() and 0.01 < motion.pose.scale < 60
    for wrong in (b"", b"x", bytes(5000), good[:11], good[:20]):
        with pytest.raises(BadPacket):
            PacketDecoder().decode(wrong)


# Pictures.


@pytest.mark.parametrize("encoder", [H264Encoder, lambda shape: JpegEncoder()])
@pytest.mark.parametrize("shape", [(96, 160, 3), (63, 47, 4)])
def test_pictures_arrive_at_once(encoder, shape):
    there, back = encoder(shape), VideoDecoder(shape)
    rows, columns = np.indices(shape[:2])
    for step in range(4):
        picture = np.stack([rows + 9 * step, columns, 99 + 0 * rows, 2 * columns][: shape[2]], -1)
        picture = picture.astype(np.uint8)
        found = np.empty(shape, np.uint8)
        back.decode(there.codec, there.encode(picture, step == 0)).write(found)
        assert psnr(found, picture) > 30


def test_pictures_that_take_too_much_become_coarser_and_finer_again(monkeypatch):
    monkeypatch.setattr(video, "MAX_BIT_RATE", 400_000)
    monkeypatch.setattr(video, "MOST_BEYOND", 30_000)
    monkeypatch.setattr(video, "FINER_AFTER", 20)
    encoder, decoder = video.H264Encoder((96, 96, 3)), video.VideoDecoder((96, 96, 3))
    random, out = np.random.default_rng(1), np.empty((96, 96, 3), np.uint8)
    sizes = []
    for number in range(40):
        data = encoder.encode(random.integers(0, 256, (96, 96, 3), np.uint8), number == 0)
        # Whoever decodes goes on.
        decoder.decode(video.H264, data).write(out)
        sizes.append(len(data))
    assert max(sizes[-4:]) < 0.6 * sizes[0]
    coarse, picture = encoder._quantizer, gradient(96, 96)
    for number in range(200):
        decoder.decode(video.H264, encoder.encode(np.roll(picture, number % 3, 0), False)).write(out)
        # Step by step, and never finer than at the start.
        assert video.QP <= encoder._quantizer <= coarse
    assert coarse > encoder._quantizer == video.QP


def test_pictures_that_are_none_are_refused():
    back = VideoDecoder((96, 160, 3))
    other = np.zeros((90, 160, 3), np.uint8)
    for codec, data in (
        (JPEG, b""),
        (JPEG, b"\xff\xd8rubbish"),
        (JPEG, JpegEncoder().encode(other)),
        (H264, b"rubbish"),
        (H264, H264Encoder(other.shape).encode(other, True)),
        (7, b"x"),
    ):
        with pytest.raises(BadPicture):
            back.decode(codec, data)


# Avatars and words.


def test_an_avatar_arrives_whole():
    picture = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    matte = picture[..., 0].copy()
    sent = Avatar(
        "secret name.png", picture[:64, :64], None, picture, Square(5, 3, 60), matte, (Square(1, 2, 9),)
    )
    digest, message = pack_avatar(sent)
    found_digest, found = unpack_avatar(message, 64)
    assert digest == found_digest and (found.original == picture).all() and (found.matte == matte).all()
    assert found.square == sent.square and found.others == sent.others and found.image.shape == (64, 64, 3)
    # Its name is nobody's business.
    assert b"secret" not in message and "secret" not in found.name


def test_forged_avatars_are_refused_before_they_are_decoded():
    _, message = pack_avatar(Avatar("a", np.zeros((64, 64, 3), np.uint8)))
    length = struct.unpack_from("<cI", message)[1]
    head, words, data = message[:5], message[5 : 5 + length], message[5 + length :]
    huge = data[:16] + struct.pack(">II", 60_000, 60_000) + data[24:]

    def with_words(**changed):
        text = json.dumps({**json.loads(words), **changed}).encode()
        return struct.pack("<cI", b"A", len(text)) + text + data

    for wrong in (
        head,
        head + words,
        head + words + huge,
        head + words + data[:40],
        head + words + b"GIF89a" + bytes(100),
        b"A\xff\xff\xff\xff" + words + data,
        with_words(square=[0, 0, 1e9]),
        with_words(square=[0, 0, -5]),
        with_words(square=["x", 0, 5]),
        with_words(square=[float("nan"), 0, 5]),
        with_words(others=[[0, 0, 1]] * 100),
    ):
        with pytest.raises(BadMessage):
            unpack_avatar(wrong, 64)


@pytest.mark.parametrize(
    "words",
    [None, [], {}, {"width": 5, "height": 64}, {"width": 99999, "height": 64}, {"width": True, "height": 64}]
    + [
        {"width": 64, "height": 64, **extra}
        for extra in ({"x": 1}, {"paste": 1}, {"fit": 3}, {"background": "x" * 99})
    ],
)
def test_canvases_have_bounds(words):
    with pytest.raises(BadMessage):
        Canvas.from_json(words)


def test_words_have_bounds():
    for text in ("", "[]", "x", "[" * 5000, '{"a": "' + "x" * 9000 + '"}'):
        with pytest.raises(BadMessage):
            parse_json(text)


def test_a_replayed_packet_is_refused():
    packer, unpacker = PacketEncoder(), PacketDecoder()
    packets = [packer.encode(step, 0, RenderRequest(moving(step))) for step in (1, 2, 3)]
    for packet in packets[:1] + packets[2:]:
        unpacker.decode(packet)
    for old in packets:
        with pytest.raises(StalePacket):
            unpacker.decode(old)


def test_clocks_are_aligned_by_the_quickest_exchange():
    clock, ahead = ClockOffset(), 1234.5
    assert clock.offset != clock.offset
    for up, down in ((0.030, 0.010), (0.002, 0.002), (0.001, 0.040), (0.020, 0.020)):
        sent = 10.0
        received = sent + up + ahead
        clock.add(sent, received, received + 0.005, sent + up + 0.005 + down)
    assert clock.offset == pytest.approx(ahead) and clock.round_trip == pytest.approx(0.004)
    # A server that lies moves nothing.
    clock.add(10.0, 99.0, 1e9, 10.1)
    clock.add(10.0, float("nan"), 0.0, 10.1)
    assert clock.offset == pytest.approx(ahead)


# Addresses.


def test_addresses_are_taken_as_they_are_printed():
    pin = "ab" * 32
    address = ServerAddress.parse(f"https://192.168.1.20:7471/#token={TOKEN}&fingerprint={pin}")
    assert address == ServerAddress("192.168.1.20", 7471, TOKEN, pin)
    assert ServerAddress.parse(f"http://127.0.0.1:7471/#token={TOKEN}").fingerprint is None
    for wrong in (
        "",
        "192.168.1.20",
        "https://192.168.1.20:7471/",
        f"https://192.168.1.20:7471/#token={TOKEN}",
        f"https://192.168.1.20:x/#token={TOKEN}&fingerprint={pin}",
        f"https://192.168.1.20:7471/#token={TOKEN}&fingerprint=12",
    ):
        with pytest.raises(UserError, match="copied whole"):
            ServerAddress.parse(wrong)
    with pytest.raises(UserError, match="Without TLS"):
        ServerAddress.parse(f"http://192.168.1.20:7471/#token={TOKEN}")
    with pytest.raises(UserError, match="Say which machine renders"):
        load_remote(None)


# Sessions.


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture
def server(bundle):
    server = RenderServer(load_engine("onnx", bundle, threads=1), [TOKEN], places=1)
    yield server
    server.close()


def remote_engine(bundle, port, token=TOKEN):
    local = load_engine("onnx", bundle, threads=1)
    address = ServerAddress("127.0.0.1", port, token, None)
    return RemoteEngine(local, RemoteRenderer(address, local.model_name))


def avatar_file(folder, name="a.png"):
    return write_picture(folder / name, gradient(64, 64))


def rendered(animator, picture, seconds=20.0):
    """The picture that another machine rendered, once it does."""
    return wait_for(lambda: result.image if (result := animator.step(picture)).fresh else None, seconds)


def test_a_picture_rendered_there_is_the_one_rendered_here(server, bundle, tmp_path):
    avatar = avatar_file(tmp_path)
    engine = remote_engine(bundle, server.port)
    here = Animator(avatar, engine=load_engine("onnx", bundle, threads=1), size=(160, 96), crop="full")
    there = Animator(avatar, engine=engine, size=(160, 96), crop="full")
    frames = [np.roll(gradient(64, 64), 3 * step, 1) for step in range(4)]
    for frame in frames:
        assert psnr(here(frame), rendered(there, frame)) > 30
    # Another avatar, and back: it is known there by then.
    other = write_picture(tmp_path / "b.png", 255 - gradient(64, 64))
    for animator in (here, there):
        animator.add(1, Animator(other, engine=here.engine).avatar)
        animator.select(1)
    assert psnr(here(frames[1]), rendered(there, frames[1])) > 30
    for animator in (here, there):
        animator.select(0)
    assert psnr(here(frames[2]), rendered(there, frames[2])) > 30
    there.resting = here.resting = True
    assert psnr(here(frames[3]), rendered(there, frames[3])) > 30
    # Where the time went, by clocks that are aligned.
    figures = wait_for(
        lambda: (
            rendered(there, frames[3]) is not None
            and (figures := engine.renderer.figures())["stages_ms"]["up"]["p50"] > 0
            and figures
        )
    )
    spent = sum(stage["p50"] for stage in figures["stages_ms"].values())
    assert 0 < figures["round_trip_ms"] < 1000 and spent < 5 * figures["delay_ms"]["max"]
    engine.close()
    wait_for(lambda: server.sessions == 0)


def test_a_rig_is_rendered_from_some_fifty_bytes_a_frame():
    server = RenderServer(load_engine("onnx", threads=1), [TOKEN])
    local = load_engine("onnx", threads=1)
    renderer = RemoteRenderer(ServerAddress("127.0.0.1", server.port, TOKEN, None), local.model_name)
    engine = RemoteEngine(local, renderer)
    there, here = (Animator(bundled.AVATAR, engine=one, size=128) for one in (engine, local))
    sizes = []
    for number, frame in enumerate(open_video(bundled.DRIVING)):
        expected = here(frame)
        if number == 0:
            rendered(there, frame, 60)
            there.reset()
        sent = renderer.bytes_up, renderer.frames
        found = rendered(there, frame)
        sizes.append((renderer.bytes_up - sent[0]) / (renderer.frames - sent[1]))
        if number in (5, 20):
            assert psnr(found, expected) > 30
        if number == 20:
            break
    assert not renderer.wants_keypoints and np.mean(sizes[2:]) <= 100
    engine.close()
    server.close()


def test_another_model_there_is_a_sentence(server, tmp_path):
    local = load_engine("onnx", threads=1)
    renderer = RemoteRenderer(ServerAddress("127.0.0.1", server.port, TOKEN, None), local.model_name)
    with pytest.raises(UserError, match="give both the same --model"):
        Animator(avatar_file(tmp_path), engine=RemoteEngine(local, renderer), size=64)
    renderer.close()


def test_frames_are_on_their_way_together_and_the_newest_wins(server, bundle, tmp_path):
    engine = remote_engine(bundle, server.port)
    there = Animator(avatar_file(tmp_path), engine=engine, size=64, crop="full")
    rendered(there, gradient(64, 64))
    plans = [there.plan(np.roll(gradient(64, 64), step, 1)) for step in range(6)]
    results = {}

    def paint(number):
        results[number] = there.paint(plans[number])

    threads = [threading.Thread(target=paint, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    fresh = [number for number in range(6) if results[number].fresh]
    # None waited for its time to run out: whatever was left out was overtaken by a newer one.
    assert fresh and engine.renderer.problem is None
    engine.close()


class Relay:
    """Passes bytes on between clients and a server, until told otherwise."""

    def __init__(self, port):
        self._to, self._pairs = port, []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.frozen: list = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._pairs.append((near, far))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source, target):
        try:
            while data := source.recv(65536):
                if source not in self.frozen and target not in self.frozen:
                    target.sendall(data)
        except OSError:
            pass

    def freeze(self, subflow=slice(None)):
        """Nothing comes through on the present connections any more, and neither end hears why."""
        self.frozen = [end for pair in self._pairs[subflow] for end in pair]

    def cut(self):
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listening.close()
        self.cut()


@pytest.mark.parametrize("how", ["cut", "freeze"])
def test_a_connection_that_breaks_is_made_again_with_the_same_session(server, bundle, tmp_path, how):
    relay = Relay(server.port)
    engine = remote_engine(bundle, relay.port)
    there = Animator(avatar_file(tmp_path), engine=engine, size=64, crop="full")
    frame = gradient(64, 64)
    before, neutral = rendered(there, frame), there.retargeter.initial
    session = next(iter(server._places.values())).session
    wait_for(lambda: engine.renderer._connection.subflows == SUBFLOWS)
    getattr(relay, how)()
    if how == "freeze":
        # The last picture stays.
        assert (there(frame) == before).all()
    wait_for(lambda: engine.renderer.problem is not None or there(frame) is None)
    assert any("broke" in message for message in there.events())
    after = rendered(there, frame)
    # The server's one place was still taken by the connection that it believed in.
    assert psnr(after, before) > 35 and there.retargeter.initial is neutral
    assert next(iter(server._places.values())).session is session
    assert "Pictures come again." in there.events()
    engine.close()
    relay.close()


@pytest.mark.parametrize("subflow", range(SUBFLOWS))
def test_a_subflow_that_stands_still_holds_nothing_up(server, bundle, tmp_path, subflow):
    relay = Relay(server.port)
    engine = remote_engine(bundle, relay.port)
    there = Animator(avatar_file(tmp_path), engine=engine, size=64, crop="full")
    frame = gradient(64, 64)
    rendered(there, frame)
    wait_for(lambda: engine.renderer._connection.subflows == SUBFLOWS)
    wait_for(lambda: there.step(frame).fresh)
    relay.freeze(slice(subflow, subflow + 1))
    for _ in range(10):
        wait_for(lambda: there.step(frame).fresh)
    assert engine.renderer.problem is None and there.events() == []
    engine.close()
    relay.close()


def test_a_server_that_was_restarted_is_told_everything_again(bundle, tmp_path):
    engine_there = load_engine("onnx", bundle, threads=1)
    server = RenderServer(engine_there, [TOKEN])
    engine = remote_engine(bundle, server.port)
    there = Animator(avatar_file(tmp_path), engine=engine, size=64, crop="full")
    frame = gradient(64, 64)
    before, neutral = rendered(there, frame), there.retargeter.initial
    server.close()
    wait_for(lambda: engine.renderer.problem is not None)
    result = there.step(frame)
    assert not result.fresh and (result.image == before).all()
    assert any("Nobody answers" in one or "broke" in one for one in there.events())
    again = RenderServer(engine_there, [TOKEN], port=server.port)
    assert psnr(rendered(there, frame), before) > 35 and there.retargeter.initial is neutral
    engine.close()
    again.close()


def test_over_tls_and_only_to_the_machine_that_was_meant(bundle, tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path / "config"))
    *files, fingerprint = certificate("127.0.0.1")
    mine, hers = token_for("me"), token_for("her")
    assert mine != hers and mine == token_for("me")
    engine_there = load_engine("onnx", bundle, threads=1)
    server = RenderServer(engine_there, [mine, hers], certificate=tuple(files))
    try:
        for token in (mine, hers):
            address = ServerAddress.parse(server.address("127.0.0.1", token, fingerprint))
            local = load_engine("onnx", bundle, threads=1)
            engine = RemoteEngine(local, RemoteRenderer(address, local.model_name))
            there = Animator(avatar_file(tmp_path), engine=engine, size=64, crop="full")
            rendered(there, gradient(64, 64))
            engine.close()
        seen = []
        monkeypatch.setattr(client, "connect", lambda *a, **k: seen.append(k))
        with pytest.raises(UserError, match="is not the one of its address"):
            Connection(replace(address, fingerprint="00" * 32))
        # The token was not shown to it, and is in no message of an error.
        assert not seen and token not in repr(address)
    finally:
        server.close()
