# ruff: noqa: E402
"""Another machine draws: what travels, a whole session over loopback, and who is refused or cut."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from dataclasses import replace

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
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.app import serving, settings
from livepuppet.realtime.app.serving import Service, token_for
from livepuppet.realtime.app.studio.tls import certificate
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote import painter as painter_module
from livepuppet.realtime.remote.engine import RemoteEngine, load_remote
from livepuppet.realtime.remote.numbers import Asked, BadNumbers, NoBase, Packer, Unpacker
from livepuppet.realtime.remote.painter import Address, RemotePainter
from livepuppet.realtime.remote.pictures import (
    H264,
    JPEG,
    BadPicture,
    Decoder,
    H264Encoder,
    JpegEncoder,
)
from livepuppet.realtime.remote.protocol import (
    PATH,
    VERSION,
    BadMessage,
    Canvas,
    pack_avatar,
    unpack_avatar,
    words_of,
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
    packer, unpacker = Packer(), Unpacker()
    sizes = []
    for step in range(1, 120):
        sent = moving(step)
        packet = packer.pack(step, 10 * step, Asked(sent))
        told = unpacker.unpack(packet)
        packer.acknowledged(step - 2)
        found = told.asked.motion
        assert (told.number, told.captured, told.asked.rests) == (step, 10 * step, False)
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
    told = Unpacker().unpack(Packer().pack(1, 0, Asked(None, keypoints)))
    assert np.allclose(told.asked.keypoints.points, keypoints.points, atol=1e-3)
    assert np.allclose(told.asked.keypoints.jacobians, keypoints.jacobians, atol=4e-3)
    assert Unpacker().unpack(Packer().pack(1, 0, Asked(rests=True))).asked.rests
    strange = RigMotion(HeadPose(1.0, np.eye(3), np.array([np.nan, 1e30])), np.full((3, 2), -1e30))
    found = Unpacker().unpack(Packer().pack(1, 0, Asked(strange))).asked.motion
    assert np.isfinite(found.residuals).all() and np.isfinite(found.pose.shift).all()


def test_a_packet_that_is_lost_costs_only_itself():
    packer, unpacker = Packer(), Unpacker()
    for step in range(1, 40):
        packet = packer.pack(step, 0, Asked(moving(step)))
        if step % 3:
            # Whoever did not get one acknowledges none.
            assert unpacker.unpack(packet).number == step
            packer.acknowledged(step)
    # One who knows nothing says so, and the next one stands alone.
    with pytest.raises(NoBase):
        Unpacker().unpack(packer.pack(40, 0, Asked(moving(40))))
    packer.forget()
    Unpacker().unpack(packer.pack(41, 0, Asked(moving(41))))


def test_forged_numbers_are_refused_and_harm_nothing():
    rng = np.random.default_rng(1)
    good = Packer().pack(1, 0, Asked(moving(1)))
    unpacker = Unpacker()
    for trial in range(400):
        data = bytearray(good)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        forged = bytes(data[: rng.integers(len(data) + 1)]) if trial % 2 else bytes(data)
        try:
            told = unpacker.unpack(forged)
        except BadNumbers:
            continue
        motion = told.asked.motion
        if motion is not None:
            assert np.isfinite(motion.residuals).all() and 0.01 < motion.pose.scale < 60
    for wrong in (b"", b"x", bytes(5000), good[:11], good[:20]):
        with pytest.raises(BadNumbers):
            Unpacker().unpack(wrong)


# Pictures.


@pytest.mark.parametrize("encoder", [H264Encoder, lambda shape: JpegEncoder()])
@pytest.mark.parametrize("shape", [(96, 160, 3), (63, 47, 4)])
def test_pictures_arrive_at_once(encoder, shape):
    there, back = encoder(shape), Decoder(shape)
    rows, columns = np.indices(shape[:2])
    for step in range(4):
        picture = np.stack([rows + 9 * step, columns, 99 + 0 * rows, 2 * columns][: shape[2]], -1)
        picture = picture.astype(np.uint8)
        found = back.decode(there.codec, there.encode(picture, step == 0))
        assert found.shape == shape and psnr(found, picture) > 30


def test_pictures_that_are_none_are_refused():
    back = Decoder((96, 160, 3))
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
        Canvas.of(words)


def test_words_have_bounds():
    for text in ("", "[]", "x", "[" * 5000, '{"a": "' + "x" * 9000 + '"}'):
        with pytest.raises(BadMessage):
            words_of(text)


# Addresses.


def test_addresses_are_taken_as_they_are_printed():
    pin = "ab" * 32
    address = Address.of(f"https://192.168.1.20:7471/#token={TOKEN}&fingerprint={pin}")
    assert address == Address("192.168.1.20", 7471, TOKEN, pin)
    assert Address.of(f"http://127.0.0.1:7471/#token={TOKEN}").fingerprint is None
    for wrong in (
        "",
        "192.168.1.20",
        "https://192.168.1.20:7471/",
        f"https://192.168.1.20:7471/#token={TOKEN}",
        f"https://192.168.1.20:x/#token={TOKEN}&fingerprint={pin}",
        f"https://192.168.1.20:7471/#token={TOKEN}&fingerprint=12",
    ):
        with pytest.raises(UserError, match="copied whole"):
            Address.of(wrong)
    with pytest.raises(UserError, match="Without TLS"):
        Address.of(f"http://192.168.1.20:7471/#token={TOKEN}")
    with pytest.raises(UserError, match="Say who draws"):
        load_remote(None)


# Sessions.


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture
def service(bundle):
    service = Service(load_engine("onnx", bundle, threads=1), [TOKEN], places=2)
    yield service
    service.close()


def address_of(service, token=TOKEN):
    return Address.of(service.address("127.0.0.1", token, None))


def remote(service, bundle, token=TOKEN):
    local = load_engine("onnx", bundle, threads=1)
    return RemoteEngine(local, RemotePainter(address_of(service, token), local.model_name))


def drawn(animator, picture, seconds=20.0):
    """The picture that another machine drew, once it does."""
    painter = animator.engine.painter

    def there():
        count = painter.delay.count
        image = animator(picture)
        return image if painter.delay.count > count else None

    return wait_for(there, seconds)


def test_a_picture_drawn_elsewhere_is_the_one_drawn_here(service, bundle, tmp_path):
    avatar = write_picture(tmp_path / "a.png", gradient(64, 64))
    engine = remote(service, bundle)
    here = Animator(avatar, engine=load_engine("onnx", bundle, threads=1), size=(160, 96), crop="full")
    there = Animator(avatar, engine=engine, size=(160, 96), crop="full")
    frames = [np.roll(gradient(64, 64), 3 * step, 1) for step in range(4)]
    drawn(there, frames[0])
    for frame in frames:
        here_picture, there_picture = here(frame), drawn(there, frame)
        assert psnr(here_picture, there_picture) > 30
    # Another avatar, and back: it is known there by then.
    other = write_picture(tmp_path / "b.png", 255 - gradient(64, 64))
    for animator in (here, there):
        animator.add(1, Animator(other, engine=here.engine).avatar)
        animator.select(1)
    assert psnr(here(frames[1]), drawn(there, frames[1])) > 30
    for animator in (here, there):
        animator.select(0)
    assert psnr(here(frames[2]), drawn(there, frames[2])) > 30
    there.resting = here.resting = True
    assert psnr(here(frames[3]), drawn(there, frames[3])) > 30
    engine.close()


def test_a_rig_is_drawn_from_some_fifty_bytes_a_frame():
    service = Service(load_engine("onnx", threads=1), [TOKEN])
    local = load_engine("onnx", threads=1)
    engine = RemoteEngine(local, RemotePainter(address_of(service), local.model_name))
    there, here = (Animator(bundled.AVATAR, engine=one, size=128) for one in (engine, local))
    painter = engine.painter
    sizes = []
    for number, frame in enumerate(open_video(bundled.DRIVING)):
        expected = here(frame)
        if number == 0:
            drawn(there, frame, 60)
            there.reset()
        sent = painter.bytes_up, painter.frames
        found = there(frame)
        sizes.append((painter.bytes_up - sent[0]) / (painter.frames - sent[1]))
        if number in (5, 20):
            assert psnr(found, expected) > 30
        if number == 20:
            break
    assert not painter.wants_keypoints and np.mean(sizes[2:]) <= 100
    engine.close()
    service.close()


def test_another_model_there_is_a_sentence(service, tmp_path):
    local = load_engine("onnx", threads=1)
    engine = RemoteEngine(local, RemotePainter(address_of(service), local.model_name))
    with pytest.raises(UserError, match="give both the same --model"):
        Animator(write_picture(tmp_path / "a.png", gradient(64, 64)), engine=engine, size=64)
    engine.close()


def test_a_connection_that_breaks_is_taken_up_again(bundle, tmp_path):
    engine_there = load_engine("onnx", bundle, threads=1)
    service = Service(engine_there, [TOKEN])
    engine = remote(service, bundle)
    there = Animator(write_picture(tmp_path / "a.png", gradient(64, 64)), engine=engine, size=64, crop="full")
    frame = gradient(64, 64)
    before = drawn(there, frame)
    neutral = there.retargeter.initial
    port = service.port
    service.close()
    # Meanwhile the last picture stays, and the person hears why.
    wait_for(lambda: engine.painter.trouble is not None)
    assert (there(frame) == before).all()
    assert any("Nobody answers" in one or "broke" in one for one in there.events())
    again = Service(engine_there, [TOKEN], port=port)
    assert psnr(drawn(there, frame), before) > 35
    assert there.retargeter.initial is neutral
    assert "Pictures come again." in there.events()
    engine.close()
    again.close()


def test_a_machine_that_falls_silent_is_left(service, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(painter_module, "SILENCE", 0.2)
    monkeypatch.setattr(painter_module, "PATIENCE", 0.1)
    engine = remote(service, bundle)
    there = Animator(write_picture(tmp_path / "a.png", gradient(64, 64)), engine=engine, size=64, crop="full")
    drawn(there, gradient(64, 64))
    really = serving.Drawer.ask
    monkeypatch.setattr(serving.Drawer, "ask", lambda self, number, asked: None)
    first = engine.painter._socket
    wait_for(lambda: there(gradient(64, 64)) is not None and engine.painter._socket is not first)
    monkeypatch.setattr(serving.Drawer, "ask", really)
    drawn(there, gradient(64, 64))
    engine.close()


def test_over_tls_and_only_to_the_machine_that_was_meant(bundle, tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path / "config"))
    file, key, fingerprint = certificate("127.0.0.1")
    mine, hers = token_for("me"), token_for("her")
    assert mine != hers and mine == token_for("me")
    engine_there = load_engine("onnx", bundle, threads=1)
    service = Service(engine_there, [mine, hers], secure=(file, key))
    try:
        for token in (mine, hers):
            address = Address.of(service.address("127.0.0.1", token, fingerprint))
            local = load_engine("onnx", bundle, threads=1)
            engine = RemoteEngine(local, RemotePainter(address, local.model_name))
            there = Animator(
                write_picture(tmp_path / "a.png", gradient(64, 64)), engine=engine, size=64, crop="full"
            )
            drawn(there, gradient(64, 64))
            engine.close()
        seen = []
        monkeypatch.setattr(client, "connect", lambda *a, **k: seen.append(k))
        with pytest.raises(UserError, match="another one than its address says"):
            painter_module.connected(replace(address, fingerprint="00" * 32))
        # The token was not shown to it.
        assert not seen
    finally:
        service.close()


# Who is refused.


def hello(service, **changed):
    canvas = Canvas(64, 64).words()
    return {"version": VERSION, "model": "tiny-64", "canvas": canvas, **changed}


def joined_by(service, token=TOKEN, **options):
    return client.connect(
        f"ws://127.0.0.1:{service.port}{PATH}",
        subprotocols=["livepuppet", f"token.{token}"],
        compression=None,
        open_timeout=20,
        close_timeout=1,
        **options,
    )


def first_words(wire):
    while isinstance(message := wire.recv(timeout=20), bytes):
        pass
    return json.loads(message)


def test_nobody_without_a_token_comes_in(service):
    for token in ("", "wrong", TOKEN[:-1]):
        with pytest.raises(InvalidStatus):
            joined_by(service, token)
    with pytest.raises(InvalidStatus):
        joined_by(service, origin="http://evil.example")
    with pytest.raises(UserError, match="refuses"):
        painter_module.connected(replace(address_of(service), token="wrong"))
    assert service.sessions == 0


def test_what_is_not_understood_ends_that_session_alone(service, bundle, tmp_path):
    engine = remote(service, bundle)
    there = Animator(write_picture(tmp_path / "a.png", gradient(64, 64)), engine=engine, size=64, crop="full")
    drawn(there, gradient(64, 64))
    name = engine.model_name
    for messages in (
        ["x"],
        [json.dumps(hello(service, version=99))],
        [json.dumps(hello(service, model="other"))],
        [json.dumps(hello(service, model=name, canvas={"width": 1 << 30, "height": 1}))],
        [json.dumps(hello(service, model=name, canvas={"width": 64, "height": 64, "background": "rubbish"}))],
        [json.dumps(hello(service, model=name)), b"Nrubbish"],
        [json.dumps(hello(service, model=name)), b"?"],
        [json.dumps(hello(service, model=name)), json.dumps({"canvas": Canvas(99, 64).words()})],
        [json.dumps(hello(service, model=name)), *[b"K" + bytes(4)] * 2000],
        [json.dumps(hello(service, model=name)), *[b"A" + bytes(90)] * 50],
    ):
        with joined_by(service) as wire, pytest.raises(ConnectionClosed):
            for message in messages:
                wire.send(message)
            while True:
                wire.recv(timeout=20)
        drawn(there, gradient(64, 64))
    wait_for(lambda: service.sessions == 1)
    engine.close()
    wait_for(lambda: service.sessions == 0)


def test_a_forged_avatar_is_an_error_and_no_picture(service):
    with joined_by(service) as wire:
        wire.send(json.dumps(hello(service, model=service._engine.model_name)))
        assert first_words(wire)["welcome"] == VERSION
        wire.send(b"A" + bytes(100))
        assert "error" in first_words(wire)
        wire.send(json.dumps({"show": "0" * 64}))
        assert first_words(wire) == {"need": "0" * 64}


def test_one_too_many_hears_so_at_once_and_a_silent_one_goes(service, monkeypatch):
    monkeypatch.setattr(serving, "HELLO_SECONDS", 0.3)
    with joined_by(service), joined_by(service), joined_by(service) as third:
        assert "places are taken" in first_words(third)["error"]
        wait_for(lambda: service.sessions == 0)


def test_who_reads_nothing_gets_two_pictures_and_holds_nobody_up(service, bundle, tmp_path):
    engine = remote(service, bundle)
    there = Animator(write_picture(tmp_path / "a.png", gradient(64, 64)), engine=engine, size=64, crop="full")
    drawn(there, gradient(64, 64))
    digest, message = pack_avatar(there.avatar)
    with joined_by(service) as wire:
        wire.send(json.dumps(hello(service, model=engine.model_name)))
        # Avatars are known to the session that brought them, and to no other.
        wire.send(json.dumps({"show": digest}))
        assert first_words(wire)["welcome"] == VERSION and first_words(wire) == {"need": digest}
        wire.send(message)
        assert first_words(wire)["ready"] == digest
        packer, pictures = Packer(), 0
        for number in range(1, 20):
            wire.send(b"N" + packer.pack(number, 0, Asked(rests=True)))
            time.sleep(0.01)
        drawn(there, gradient(64, 64))
        try:
            while True:
                pictures += isinstance(wire.recv(timeout=0.5), bytes)
        except TimeoutError:
            assert pictures == serving.IN_FLIGHT
    engine.close()


def test_half_open_connections_keep_nobody_out(service):
    with socket.create_connection(("127.0.0.1", service.port)) as raw:
        raw.sendall(b"GET /draw HTTP/1.1\r\nHost: 127")
        with joined_by(service) as wire:
            wire.send(json.dumps(hello(service, model=service._engine.model_name)))
            assert first_words(wire)["welcome"] == VERSION
    assert threading.active_count() < 60
