"""Driving without a camera: what `--driving` takes, faces from voice, pointer and packets, and whole sessions."""

from __future__ import annotations

import itertools
import json
import math
import socket
import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import av
import face_packets
import numpy as np
import pytest
import tiny_bundle
from media import gradient, write_picture
from voices import RATE, talk, write_wave

from livepuppet import Animator, open_driving
from livepuppet.core.errors import UserError
from livepuppet.realtime.app import actions
from livepuppet.realtime.app.session import Session
from livepuppet.realtime.app.settings import NeutralPose, Settings, merge
from livepuppet.realtime.bundled import AVATAR
from livepuppet.realtime.driving import parts, pointer
from livepuppet.realtime.driving.liveliness import BLINKS, Liveliness
from livepuppet.realtime.driving.opening import _address, is_face, is_sound_file, open_any, open_face
from livepuppet.realtime.driving.parts import GONE, Draft, Pointer, Tracked, Voice
from livepuppet.realtime.driving.pointer import Looking, across
from livepuppet.realtime.driving.source import MOST_RATE, FaceSource
from livepuppet.realtime.driving.talk import Talk
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.outputs.live_sound import FileSound
from livepuppet.realtime.rig.amounts import INDEX, zeros


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Three seconds of talk in a file."""
    return write_wave(tmp_path_factory.mktemp("sound") / "talk.wav", talk(3, seed=8))


@pytest.fixture(autouse=True)
def no_desktop(monkeypatch):
    """The pointer of whoever runs the tests is their own business."""
    monkeypatch.setattr(parts, "system_pointer", lambda: lambda: (0.0, 0.0))


def faces(source: FaceSource, times) -> list:
    return [source.face(now)[0] for now in times]


# What --driving means.


def test_names_of_faces_and_of_cameras(tmp_path, spoken, monkeypatch):
    for text in (
        "microphone",
        "mouse",
        "microphone+mouse",
        "phone:192.168.1.20",
        "openseeface:50000",
        str(spoken),
    ):
        assert is_face(text)
    for text in (
        "auto",
        "0",
        "camera:mouse",
        "talk.mp4",
        "http://mouse",
        "-",
        "screen",
        "mice",
        "mouse+camera",
    ):
        assert not is_face(text)
    # A file of that name wins.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mouse").write_bytes(b"a video, perhaps")
    assert not is_face("mouse") and not is_sound_file("mouse")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", (None, None)),
        ("50000", (None, 50000)),
        ("192.168.1.20", ("192.168.1.20", None)),
        ("192.168.1.20:50000", ("192.168.1.20", 50000)),
        ("fe80::1", ("fe80::1", None)),
        ("[fe80::1]:50000", ("fe80::1", 50000)),
    ],
)
def test_addresses_of_phones(text, expected):
    assert _address("phone", text) == expected


@pytest.mark.parametrize(
    "driving, sentence",
    [
        ("mouse+mouse", "twice"),
        ("phone+openseeface", "choose one"),
        ("openseeface:1+mouse", "leave mouse out"),
        ("mouse:left", "no name"),
        ("phone:my phone", "no IP address"),
        ("phone:192.168.1.20:99999", "no port"),
        ("phone:[::1", "phone:ADDRESS"),
        ("microphone:nowhere.wav", "no file"),
    ],
)
def test_what_cannot_drive_is_a_sentence(driving, sentence):
    with pytest.raises(UserError, match=sentence):
        open_face(driving)


@pytest.mark.parametrize(
    "driving, advice",
    [
        ("micro", "write microphone."),
        ("Mouse", "write mouse."),
        ("openseface", "write openseeface."),
        ("microphone+", "write microphone."),
        ("mouse+micro", r"write mouse\+microphone."),
        ("mouse+keyboard", "'keyboard' is none of them"),
    ],
)
def test_what_is_nearly_a_driver_is_no_cameras_name(driving, advice):
    with pytest.raises(UserError, match=f"no camera .*{advice}"):
        open_any(driving)


def test_other_names_are_cameras():
    with pytest.raises(UserError, match="no camera") as refusal:
        open_any("HD Webcam")
    assert "without one" not in str(refusal.value)


def test_a_port_in_use_is_a_sentence_and_leaves_nothing_open(spoken):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}"):
            open_face(f"openseeface:{port}+microphone:{spoken}")
    open_face(f"openseeface:{port}").close()


def test_who_may_send_is_said():
    free = free_port()
    for driving, listen, said in (
        (f"phone:{free}", "127.0.0.1", "Only programs on this computer"),
        (f"phone:{free}", "0.0.0.0", "Any machine of this network"),
        (f"phone:127.0.0.1:{free}", "127.0.0.1", None),
        (f"openseeface:{free}", "127.0.0.1", None),
    ):
        source = open_face(driving, listen=listen)
        source.close()
        assert (said is None and source.note is None) or said in (source.note or "")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# What a face does by itself.


def test_eyes_blink_every_few_seconds_and_sometimes_twice():
    alive, shut, begins = Liveliness(3), 0.0, []
    for step in range(round(400 / 0.04)):
        alive.update(step * 0.04)
        amounts = zeros()
        alive.write(amounts)
        now = float(amounts[INDEX["eyeBlinkLeft"]])
        if now > 0.5 >= shut:
            begins.append(step * 0.04)
        shut = now
    between = np.diff(begins)
    single = between[between > 1]
    assert BLINKS[0] <= single.min() + 0.3 and single.max() < BLINKS[1] + 0.5
    assert 0.05 < (between < 1).mean() < 0.3
    assert 70 < len(begins) < 130


def test_a_head_is_never_still_and_less_so_in_talk():
    def way(speaking: float) -> float:
        alive, places = Liveliness(1), []
        for step in range(600):
            alive.update(step / 30, speaking, 0.5 * (1 + math.sin(step)) * speaking)
            places.append(alive.head)
        steps = np.abs(np.diff(places, axis=0))
        assert steps.max() < 0.02  # no jumps
        assert np.abs(places).max() < 0.3
        return float(steps.sum())

    assert 0 < way(0.0) < 0.6 * way(1.0)


def test_the_same_seed_lives_the_same_life():
    def life(seed):
        alive = Liveliness(seed)
        for step in range(200):
            alive.update(step / 20, 0.5)
        return alive.head.tolist()

    assert life(5) == life(5) != life(6)


# The pointer.


def test_eyes_go_first_and_the_head_after_them():
    looking = Looking()
    looking.update(0.0, (0.0, 0.0))
    amounts = zeros()
    for step in range(1, 5):
        looking.update(step / 30, (0.9, 0.0))
        looking.write(amounts)
    early_gaze, early_head = float(amounts[INDEX["eyeLookOutLeft"]]), looking.head[0]
    for step in range(5, 60):
        looking.update(step / 30, (0.9, 0.0))
        looking.write(amounts)
    # The nose goes to the picture's right, where the pointer is.
    assert early_gaze > 0.6 and early_head < 0.5 * looking.head[0]
    assert looking.head[0] > 0.25 and amounts[INDEX["eyeLookOutLeft"]] < early_gaze
    assert amounts[INDEX["eyeLookInRight"]] == amounts[INDEX["eyeLookOutLeft"]]
    looking.update(2.1, (0.0, 0.9))
    looking.write(amounts)
    assert amounts[INDEX["eyeLookDownLeft"]] > 0.1


def test_places_of_a_desktop():
    assert across(0, 0, 0, 0, 1920, 1080) == (-1, -1) and across(1919, 1079, 0, 0, 1920, 1080) == (1, 1)
    # A second monitor to the left has negative pixels.
    assert across(-960, 0, -1920, 0, 3840, 1080)[0] == pytest.approx(-0.5, abs=0.01)


def test_a_desktop_that_does_not_tell_is_a_sentence_until_a_window_does(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(parts, "system_pointer", pointer.system_pointer)
    source = open_face("mouse")
    assert "no DISPLAY" in source.trouble and "window" in source.trouble
    source.point(0.8, 0.0)
    assert source.trouble is None
    assert faces(source, np.arange(0, 2, 0.05))[-1].head.angles[0] > 0.2


# The voice.


def test_a_sound_file_stands_in_for_a_microphone(spoken):
    source = open_face(f"microphone:{spoken}")
    jaws = [face.amounts[INDEX["jawOpen"]] for face in faces(source, np.arange(0, 3, 1 / 30))]
    assert max(jaws) > 0.3 and min(jaws[30:]) < 0.03
    assert source.name == "talk.wav" and source.sound == spoken
    source.close()


def test_a_file_without_sound_is_a_sentence(tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF" + bytes(60))
    empty = write_wave(tmp_path / "empty.wav", np.zeros(0, np.float32))
    for attempt in (
        lambda: open_face(f"microphone:{broken}"),
        lambda: Talk(str(broken)),
        lambda: Talk(str(empty)),
    ):
        with pytest.raises(UserError, match="give a file with a voice"):
            attempt()
    # Live, it turns out where the first face is asked for; also where it is played over and over.
    for loop in (False, True):
        source = open_face(f"microphone:{empty}", loop=loop)
        with pytest.raises(UserError, match="give a file with a voice"):
            next(source.frames(threading.Event()))
        source.close()
    assert len(list(Talk(str(write_wave(tmp_path / "short.wav", np.zeros(10, np.float32)))))) == 1


class Stalled:
    """A device that delivers a loud tone, and then nothing."""

    rate, channels = 16000, 1

    def __init__(self):
        self.left = [(0.0, talk(1, seed=4)[None])]

    def read(self, until):
        pieces, self.left = self.left, []
        return pieces

    def close(self): ...


def test_a_microphone_that_stalls_does_not_leave_the_mouth_open():
    voice = Voice(Stalled(), "a microphone")
    for now in np.arange(1.0, 4.0, 1 / 30):
        draft = Draft()
        voice.add(draft, float(now))
    assert draft.amounts[INDEX["jawOpen"]] < 0.02


def test_a_talk_is_a_clip_without_pictures(spoken):
    with Talk(str(spoken), seed=1) as clip:
        frames = list(clip)
    assert len(frames) == clip.length == 90 and clip.seconds == pytest.approx(3)
    assert [frame.time for frame in frames[:3]] == [Fraction(0), Fraction(1, 30), Fraction(2, 30)]
    with Talk(str(spoken), rate=25, seed=1) as clip:
        assert len(list(clip)) == 75


def test_sound_without_pictures_has_its_own_time(spoken):
    sound = FileSound(str(spoken))
    assert sound.span == (0, pytest.approx(3.0)) and not sound.ended
    sound.played(Fraction(0), 100.0)
    pieces = sound.read(200.0)
    assert (
        pieces[0][0] == 100.0 and sum(samples.shape[1] for _, samples in pieces) == 3 * RATE and sound.ended
    )


# Phones and trackers.


@pytest.fixture
def tracked():
    port = free_port()
    source = open_face(f"phone:{port}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        yield source, lambda packet: sender.sendto(packet, ("127.0.0.1", port))
    source.close()


def arrive(source: FaceSource, count: int) -> None:
    end = time.monotonic() + 10
    while sum(source.counts().values()) < count:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_phone_drives_and_rests_when_it_falls_silent(tracked):
    source, send = tracked
    assert source.greeting.startswith("Driven by the phone")
    send(face_packets.live_link({"jawOpen": 0.5}, yaw=0.2))
    send(b"rubbish")
    arrive(source, 2)
    face, captured = source.face(time.perf_counter())
    assert face.seen and face.amounts[INDEX["jawOpen"]] == 0.5 and face.head.angles[0] == pytest.approx(0.2)
    assert source.trouble is None and captured <= time.perf_counter()
    later, _ = source.face(time.perf_counter() + GONE + 0.1)
    assert not later.seen and "No face comes from the phone" in source.trouble
    assert source.counts() == {"packets_good": 1, "packets_bad": 1, "packets_foreign": 0}


def test_packets_of_another_version_are_said(tracked):
    source, send = tracked
    send(b"\x07" + face_packets.live_link({})[1:])
    arrive(source, 1)
    source.face(time.perf_counter() + 10)
    assert "not understood" in source.trouble


def test_a_voice_has_the_last_word_on_a_phones_mouth(spoken):
    port = free_port()
    source = open_face(f"phone:{port}+microphone:{spoken}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(face_packets.live_link({"jawOpen": 1.0, "eyeBlinkLeft": 1.0}), ("127.0.0.1", port))
        arrive(source, 1)
    face, _ = source.face(time.perf_counter())
    assert face.amounts[INDEX["jawOpen"]] < 0.3 and face.amounts[INDEX["eyeBlinkLeft"]] == 1
    source.close()


def test_a_silent_phone_rests_no_voice(spoken):
    port = free_port()
    source = open_face(f"phone:{port}+microphone:{spoken}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(
            face_packets.live_link({"eyeBlinkLeft": 1.0, "jawOpen": 1.0}, yaw=0.2), ("127.0.0.1", port)
        )
        arrive(source, 1)
    begin = time.perf_counter()
    faces = [source.face(begin + step / 30)[0] for step in range(60)]
    source.close()
    # Long after the phone's last packet the mouth still talks, and the eye that it left shut is open.
    later = faces[math.ceil(30 * GONE) + 5 :]
    assert all(face.seen for face in faces) and "No face comes from the phone" in source.trouble
    assert np.ptp([face.amounts[INDEX["jawOpen"]] for face in later]) > 0.1
    assert np.median([face.amounts[INDEX["eyeBlinkLeft"]] for face in later]) < 0.1
    assert later[0].head.angles[0] == pytest.approx(0.2, abs=0.15)


def test_a_flood_of_packets_makes_no_flood_of_faces(tracked):
    source, _ = tracked
    stop = threading.Event()
    begin = time.perf_counter()
    for _ in itertools.islice(source.frames(stop), 20):
        source._arrived.set()
    assert time.perf_counter() - begin >= 18 / MOST_RATE


def test_a_packet_is_handed_on_at_once(tracked):
    source, send = tracked
    # So slowly that only a packet's coming can be why.
    source.rate = 1e-3
    stop, seen = threading.Event(), []

    def read():
        for frame in source.frames(stop):
            seen.append(frame)
            if frame.face.seen:
                return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    wait = time.monotonic() + 10
    while not seen and time.monotonic() < wait:
        time.sleep(0.005)
    send(face_packets.ifacialmocap({"jawOpen": 0.4}))
    thread.join(10)
    stop.set()
    assert seen[-1].face.amounts[INDEX["jawOpen"]] == pytest.approx(0.4) and seen[-1].image.shape == (
        256,
        256,
        3,
    )


@pytest.fixture(scope="module")
def puppet():
    return Animator(AVATAR, size=160)


@pytest.mark.parametrize(
    "packets",
    [
        [face_packets.openseeface(features={"mouth_open": 1.0})],
        [face_packets.openseeface(eyes=(0.0, 0.0))],
        [face_packets.openseeface(angles=(180, 15, 90))],
        [face_packets.openseeface(gaze=(0.2, 0.0))],
        [face_packets.openseeface(features={"eyebrow_updown_l": 1.0, "eyebrow_updown_r": 1.0})],
        [face_packets.openseeface(features={"mouth_corner_updown_l": -1, "mouth_corner_updown_r": -1})],
    ],
    ids=["mouth", "blink", "turn", "gaze", "brows", "smile"],
)
def test_openseeface_moves_every_part_of_the_picture(puppet, packets):
    from livepuppet.realtime.driving.packets import openseeface_face

    puppet.reset()
    rest = puppet(openseeface_face(face_packets.openseeface()), 0.0).astype(np.int32)
    for step in range(10):
        moved = puppet(openseeface_face(packets[0]), 1 + step / 30).astype(np.int32)
    assert np.abs(moved - rest).max() > 40


# Whole sessions.


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return load_engine("onnx", tiny_bundle.write_bundle(folder / "tiny-64"), threads=1)


def chosen(avatar, driving, **more) -> Settings:
    told = {
        "avatar": str(avatar),
        "driving": str(driving),
        "size": "160x96",
        "outputs": ("none",),
        "enabled": False,
    }
    return merge(Settings(), {**told, **more})


def test_a_session_from_sound_records_it(tmp_path, engine, spoken):
    avatar, output = write_picture(tmp_path / "me.png", gradient(64, 64)), tmp_path / "out.mp4"
    said: list[str] = []
    settings = chosen(avatar, spoken, outputs=(str(output),))
    with Session(settings, engine, keyboard=False, notify=said.append) as session:
        session.run()
        after = session.settings_now()
    assert said[0] == "Driven by talk.wav." and session.live.stats.frames > 10
    # Nothing of a camera's framing or neutral pose is overwritten.
    assert after.neutral == NeutralPose() and after.framing.square == ()
    with av.open(str(output)) as container:
        assert container.streams.audio and float(container.duration / av.time_base) > 2


def test_a_page_says_where_the_pointer_is(tmp_path, engine):
    avatar, said = write_picture(tmp_path / "me.png", gradient(64, 64)), []
    with Session(chosen(avatar, "mouse"), engine, frames=3, keyboard=False, notify=said.append) as session:
        session.live.post("point", [0.9, -0.2])
        session.live.post("point", "0.9,-0.2")
        session.run()
        session.live.post("find")
        session.live._between_frames()
        assert session.live.mode == "live" and "There is no camera whose picture could be searched." in said
        assert session.source.face(time.perf_counter() + 0.2)[0].amounts[INDEX["eyeLookOutLeft"]] > 0.1
        for bad in (None, 1, [0.5], [2, 0], "a,b", [float("nan"), 0]):
            with pytest.raises(UserError, match="two numbers"):
                session.live.post("point", bad)


def test_a_camera_follows_no_pointer():
    class Live:
        capture, said = type("Capture", (), {"source": object()}), []
        notify = said.append

    actions.do(Live, "point", (0.1, 0.1))
    assert "--driving mouse" in Live.said[0]


def test_statistics_tell_of_packets(tmp_path, livepuppet, monkeypatch):
    from livepuppet.realtime.app.commands import run as command

    bundle = tiny_bundle.write_bundle(tmp_path / "tiny-64")
    avatar, stats, port = (
        write_picture(tmp_path / "me.png", gradient(64, 64)),
        tmp_path / "stats.json",
        free_port(),
    )
    stop = threading.Event()

    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not stop.wait(0.01):
                for packet in (face_packets.live_link({"jawOpen": 0.5}), b"no face"):
                    sender.sendto(packet, ("127.0.0.1", port))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        settings = chosen(avatar, f"phone:{port}", countdown=0.0)
        command.run_live(
            settings, bundle, "onnx", 5, stats, threads=1, keyboard=False, notify=lambda text: None
        )
    finally:
        stop.set()
        thread.join()
    told = json.loads(stats.read_text())["driving_packets"]
    assert told["packets_good"] > 0 and told["packets_bad"] > 0 and told["packets_foreign"] == 0


def test_animate_makes_a_talk_from_sound(tmp_path, engine, spoken):
    from livepuppet import animate

    output = tmp_path / "talk.mp4"
    summary = animate(gradient(64, 64), spoken, output, engine=engine, side_by_side=True)
    assert summary.frames == 90
    with av.open(str(output)) as container:
        video = container.streams.video[0]
        assert video.average_rate == 30 and video.frames == 90 and container.streams.audio
        assert video.width == 3 * video.height


def test_open_driving_hands_out_faces(spoken):
    with open_driving(f"microphone:{spoken}+mouse", rate=60) as source:
        frame = next(iter(source))
    assert frame.face.own_rest and source.source.name == "the pointer and talk.wav"


class PretendSounddevice:
    """What `Microphone` uses of sounddevice: a stream that speaks, in blocks of 10 ms, in real time."""

    class PortAudioError(Exception):
        pass

    def __init__(self, sound: np.ndarray, rate: int):
        self.sound, self.rate, self.opened = sound, rate, 0

    def InputStream(self, callback, samplerate, blocksize, **options):
        assert samplerate == self.rate and blocksize <= 0.02 * self.rate
        self.opened += 1
        stop = threading.Event()

        def speak():
            begin, at = time.perf_counter(), 0
            times = SimpleNamespace(currentTime=1.0, inputBufferAdcTime=1.0 - blocksize / samplerate)
            while not stop.is_set():
                at += blocksize
                time.sleep(max(begin + at / samplerate - time.perf_counter(), 0))
                block = np.take(self.sound, range(at - blocksize, at), mode="wrap")
                callback(block[:, None], blocksize, times, None)

        return SimpleNamespace(
            latency=0.01, start=threading.Thread(target=speak, daemon=True).start, close=stop.set
        )


def test_a_microphone_drives_and_is_recorded_though_it_is_opened_once(tmp_path, engine, monkeypatch):
    from livepuppet.realtime.outputs import microphone

    device = PretendSounddevice(talk(6, seed=8, rate=microphone.RATE), microphone.RATE)
    monkeypatch.setattr(microphone, "_sounddevice", lambda: device)
    avatar, output = write_picture(tmp_path / "me.png", gradient(64, 64)), tmp_path / "out.mp4"
    settings = chosen(avatar, "microphone", outputs=(str(output),))
    with Session(settings, engine, frames=45, keyboard=False, notify=lambda text: None) as session:
        session.run()
        assert session.live.stats.frames >= 45
    assert device.opened == 1
    with av.open(str(output)) as container:
        heard = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert np.abs(heard).max() > 0.05


def test_no_microphone_is_a_sentence(monkeypatch):
    from livepuppet.realtime.outputs import microphone

    def missing():
        raise UserError("A microphone needs the package sounddevice: pip install 'livepuppet[sound]'.")

    monkeypatch.setattr(microphone, "_sounddevice", missing)
    with pytest.raises(UserError, match="sounddevice"):
        open_face("microphone+mouse")


def test_a_silent_tracker_says_what_to_do():
    port = free_port()
    source = open_face(f"openseeface:{port}")
    source.face(time.perf_counter() + 10)
    assert f"UDP port {port}" in source.trouble and isinstance(source._parts[0], Tracked)
    source.close()


def test_what_leads_the_eyes_calms_the_head():
    draft = Draft()
    for part in (Pointer(), parts.Alive(2)):
        part.add(draft, 1.0)
    assert draft.eyes_led and draft.face().own_rest
