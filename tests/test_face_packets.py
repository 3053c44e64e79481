"""Packets of phones and trackers: what they mean, and that nothing that comes over the network does harm."""

from __future__ import annotations

import socket
import struct
import time

import face_packets
import numpy as np
import pytest
from hunting import bounded, hunted
from hypothesis import strategies

from livepuppet.core.errors import UserError
from livepuppet.realtime.driving import packets
from livepuppet.realtime.driving.packets import BadPacket
from livepuppet.realtime.driving.receiver import OWNED, Receiver, checked_address, own_address_towards
from livepuppet.realtime.rig.amounts import INDEX, NAMES
from livepuppet.realtime.rig.told import FacePose


@pytest.mark.parametrize("between", ["-", "&"])
@pytest.mark.parametrize("name", NAMES)
def test_each_amount_of_ifacialmocap_arrives(name, between):
    face = packets.phone_face(face_packets.ifacialmocap({name: 0.6}, between=between))
    assert {other for other, index in INDEX.items() if face.amounts[index]} == {name}
    assert face.amounts[INDEX[name]] == pytest.approx(0.6) and face.seen and not face.own_rest


@pytest.mark.parametrize("name", NAMES)
def test_each_amount_of_live_link_arrives(name):
    face = packets.phone_face(face_packets.live_link({name: 0.6}))
    assert {other for other, index in INDEX.items() if face.amounts[index]} == {name}


def since(one: FacePose, other: FacePose) -> tuple[float, float, float]:
    return other.since(one).head.angles


def test_heads_turn_to_where_they_are_told_to():
    rest = packets.phone_face(face_packets.ifacialmocap({}, (-20, 5, 3, 0.02, -0.1, -0.5)))
    # ARKit's axes: about y the nose goes to the picture's right, about x down, about z against the clock.
    for axis, expected in ((0, (0, 1, 0)), (1, (1, 0, 0)), (2, (0, 0, -1))):
        head = [0.0, 0, 0, 0, 0, -0.5]
        head[axis] = 12
        face = packets.phone_face(face_packets.ifacialmocap({}, head))
        straight = packets.phone_face(face_packets.ifacialmocap({}))
        assert np.allclose(since(straight, face), np.radians(12) * np.array(expected), atol=1e-6)
    near = packets.phone_face(face_packets.ifacialmocap({}, (-20, 5, 3, 0.02 + 0.063, -0.1, -0.25)))
    moved = near.since(rest).head
    assert moved.scale == pytest.approx(2.0) and moved.rotation == pytest.approx(np.eye(3))
    straight = packets.phone_face(face_packets.live_link({}))
    for told, expected in (
        ({"yaw": 0.2}, (0.2, 0, 0)),
        ({"pitch": 0.2}, (0, -0.2, 0)),
        ({"roll": 0.2}, (0, 0, -0.2)),
    ):
        face = packets.phone_face(face_packets.live_link({}, **told))
        assert np.allclose(since(straight, face), expected, atol=1e-6)


def test_openseeface_turns_nods_and_tilts():
    rest = packets.openseeface_face(face_packets.openseeface())
    assert np.allclose(rest.head.rotation, np.eye(3), atol=1e-9)
    # A head in space, as its camera sees it (x down, y right, z away), taken apart as OpenCV does.
    import cv2

    for yaw, pitch, roll in ((0.3, 0, 0), (0, 0.3, 0), (0, 0, 0.3), (0.2, -0.1, 0.15)):
        wanted = FacePose.of(yaw=yaw, pitch=pitch, roll=roll).head.rotation
        seen = packets._IN_PICTURE.T @ wanted @ packets._IN_PICTURE @ packets._about(np.pi, 0, np.pi / 2)
        angles = cv2.RQDecomp3x3(seen)[0]
        face = packets.openseeface_face(face_packets.openseeface(angles=angles))
        assert np.allclose(face.head.angles, (yaw, pitch, roll), atol=1e-5)
    moved = packets.openseeface_face(face_packets.openseeface(place=(0.0, 0.42, -1.5))).since(rest).head
    assert moved.scale == pytest.approx(2.0) and moved.shift == pytest.approx([2.0, 0.0])


@pytest.mark.parametrize(
    "told, amounts",
    [
        ({"features": {"mouth_open": 1.0}}, {"jawOpen": 0.7}),
        ({"features": {"mouth_wide": -0.6}}, {"mouthPucker": 0.6}),
        ({"features": {"mouth_wide": 0.6}}, {"mouthStretchLeft": 0.3, "mouthStretchRight": 0.3}),
        ({"features": {"mouth_corner_updown_l": -0.5}}, {"mouthSmileLeft": 0.5}),
        ({"features": {"mouth_corner_updown_r": 0.5}}, {"mouthFrownRight": 0.5}),
        ({"features": {"mouth_corner_inout_l": 0.5}}, {"mouthStretchLeft": 0.25}),
        ({"features": {"eyebrow_updown_r": 0.5}}, {"browOuterUpRight": 0.5, "browInnerUp": 0.25}),
        ({"features": {"eyebrow_updown_l": -0.5}}, {"browDownLeft": 0.5}),
        ({"features": {"eye_l": 1.0}}, {"eyeWideLeft": 0.5}),
        ({"eyes": (0.0, 1.0)}, {"eyeBlinkRight": 1.0}),
        ({"eyes": (1.0, 0.1)}, {"eyeBlinkLeft": 1.0}),
        ({"gaze": (0.14, 0.0)}, {"eyeLookOutLeft": 0.5, "eyeLookInRight": 0.5}),
        ({"gaze": (0.0, -0.1)}, {"eyeLookUpLeft": 0.5, "eyeLookUpRight": 0.5}),
    ],
)
def test_each_part_of_openseeface_arrives(told, amounts):
    face = packets.openseeface_face(face_packets.openseeface(**told))
    found = {name: float(face.amounts[index]) for name, index in INDEX.items() if face.amounts[index] > 1e-6}
    assert found == pytest.approx(amounts)


def test_without_a_face_nobody_is_seen():
    assert not packets.phone_face(face_packets.live_link({}, face=False)).seen
    assert not packets.openseeface_face(face_packets.openseeface(found=False)).seen
    assert not packets.phone_face(b"trackingStatus-0|jawOpen-30|").seen
    assert packets.openseeface_face(face_packets.openseeface(faces=2)).seen


def _damaged_live_link(at: int, value: float) -> bytes:
    packet = bytearray(face_packets.live_link({}))
    struct.pack_into(">f", packet, len(packet) - 4 * (61 - at), value)
    return bytes(packet)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x07" + face_packets.live_link({})[1:],
        face_packets.live_link({})[:-1],
        face_packets.live_link({}) + b"\0",
        _damaged_live_link(3, float("nan")),
        _damaged_live_link(3, 40.0),
        _damaged_live_link(52, 1e9),
        b"\x06\xff\xff\xff\xff" + bytes(100),
        b"hello",
        b"jawOpen-nan|",
        b"jawOpen-1e9|",
        b"jawOpen-" + b"9" * 500,
        b"=head#1,2|jawOpen-3",
        b"=head#1e300,2,3,4,5,6|jawOpen-3",
        "jawOpen-30|é".encode(),
        b"jawOpen-1|" * 500,
        bytes(packets.LONGEST + 1),
        packets.START,
    ],
)
def test_what_no_phone_sends_is_refused(packet):
    with pytest.raises(BadPacket):
        packets.phone_face(packet)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        face_packets.openseeface()[:-1],
        face_packets.openseeface() + b"1",
        face_packets.openseeface(features={"mouth_open": float("inf")}),
        face_packets.openseeface(features={"mouth_open": 1e6}),
        face_packets.openseeface(eyes=(-9, 1)),
        face_packets.openseeface(angles=(1e9, 0, 0)),
        face_packets.openseeface(place=(0, 0, 1e9)),
        face_packets.openseeface(faces=8),
    ],
)
def test_what_openseeface_does_not_send_is_refused(packet):
    with pytest.raises(BadPacket):
        packets.openseeface_face(packet)


def harmless(read, packet: bytes) -> None:
    """A face whose numbers are a face's, or `BadPacket`."""
    with bounded():
        try:
            face = read(packet)
        except BadPacket:
            return
    assert face.amounts.shape == (52,) and np.isfinite(face.amounts).all()
    assert face.amounts.min() >= -1 and face.amounts.max() <= 1
    assert np.isfinite(face.head.rotation).all() and np.isfinite(face.head.shift).all()
    assert np.allclose(face.head.rotation @ face.head.rotation.T, np.eye(3), atol=1e-6)
    assert 1e-3 < face.head.scale < 1e3


def _turned_over(good: bytes, changes: list[tuple[int, int]], length: int) -> bytes:
    packet = bytearray(good)
    for at, value in changes:
        packet[at % len(packet)] = value
    return bytes(packet[: max(length, 0)] if length < len(packet) else packet)


_CHANGES = strategies.lists(
    strategies.tuples(strategies.integers(0, 4000), strategies.integers(0, 255)), max_size=6
)


@hunted(60, packet=strategies.binary(max_size=2500))
def test_anything_at_all_is_harmless(packet):
    harmless(packets.phone_face, packet)
    harmless(packets.phone_face, b"\x06" + packet)
    harmless(packets.openseeface_face, packet)


@hunted(60, changes=_CHANGES, length=strategies.integers(0, 3000))
def test_damaged_packets_are_harmless(changes, length):
    mouth = {"jawOpen": 0.5, "eyeBlinkLeft": 1.0}
    harmless(packets.phone_face, _turned_over(face_packets.live_link(mouth), changes, length))
    harmless(packets.phone_face, _turned_over(face_packets.ifacialmocap(mouth), changes, length))
    harmless(packets.openseeface_face, _turned_over(face_packets.openseeface(), changes, length))


@hunted(60, text=strategies.text("jawOpenLRhead_-&|=#.,0123456789eE+nai ", max_size=300))
def test_any_text_is_harmless(text):
    harmless(packets.phone_face, text.encode("ascii"))


# Over the network.


@pytest.fixture
def receiver():
    receivers = []

    def make(**options) -> Receiver:
        receivers.append(Receiver(packets.phone_face, "127.0.0.1", [0], **options))
        return receivers[-1]

    yield make
    for one in receivers:
        one.close()


def wait_for(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_packets_arrive_and_bad_ones_are_counted(receiver):
    heard = receiver()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        at = ("127.0.0.1", heard.ports[0])
        for packet in (b"rubbish", face_packets.ifacialmocap({"jawOpen": 0.5}), bytes(20000), b"\x06"):
            sender.sendto(packet, at)
        wait_for(lambda: heard.counts.total() == 4)
    assert heard.counts == {"good": 1, "bad": 3}
    assert heard.newest[0].amounts[INDEX["jawOpen"]] == 0.5


def test_one_sender_at_a_time(receiver):
    heard, good = receiver(), face_packets.ifacialmocap({"jawOpen": 0.5})
    heard.take(good, "192.168.1.20", 1000.0)
    heard.take(face_packets.ifacialmocap({"jawOpen": 0.9}), "192.168.1.66", 1000.5)
    assert heard.counts == {"good": 1, "foreign": 1} and heard.newest[0].amounts[INDEX["jawOpen"]] == 0.5
    heard.take(good, "192.168.1.66", 1000.0 + OWNED)
    assert heard.counts["good"] == 2
    only = receiver(sender="192.168.1.20")
    only.take(good, "192.168.1.66", 1000.0)
    assert only.counts == {"foreign": 1} and only.newest is None


def test_ifacialmocap_is_asked_to_send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.2", 0))
        phone.settimeout(10)
        port = phone.getsockname()[1]
        # On another address the same port is free: both listen at it, as phone and computer do.
        heard = Receiver(packets.phone_face, "127.0.0.1", [port], "127.0.0.2", packets.START)
        try:
            said, source = phone.recvfrom(200)
            assert said == packets.START
            phone.sendto(face_packets.ifacialmocap({}), source)
            wait_for(lambda: heard.counts["good"])
        finally:
            heard.close()


def test_ports_and_addresses_that_cannot_be_had_are_a_sentence(receiver):
    port = receiver().ports[0]
    with pytest.raises(UserError, match=f"port {port} at 127.0.0.1 is in use"):
        Receiver(packets.phone_face, "127.0.0.1", [port])
    with pytest.raises(UserError, match="no address of this computer"):
        Receiver(packets.phone_face, "192.0.2.1", [0])
    with pytest.raises(UserError, match="no IP address"):
        checked_address("my phone")
    assert own_address_towards("127.0.0.1") == "127.0.0.1"
