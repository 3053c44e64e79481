"""Webcams without a webcam: finding the right one, what it gives, black and frozen pictures, unplugging."""

from __future__ import annotations

import itertools
import threading
import time

import cv2
import numpy as np
import pytest
from media import red_picture

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.commands.devices import report
from livepuppet.realtime.inputs import cameras, webcam
from livepuppet.realtime.inputs.cameras import CameraInfo, find_again, find_camera
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.opening import open_source
from livepuppet.realtime.inputs.playback import Playback
from livepuppet.realtime.inputs.watch import ImageWatch
from livepuppet.realtime.inputs.webcam import Camera, parse_pixel_format

PHONE = CameraInfo(0, "Phone", "/dev/video0", virtual=True)
DESK = CameraInfo(1, "Desk camera", "/dev/video1", bus="usb-1")
TWIN = CameraInfo(2, "Desk camera", "/dev/video2", bus="usb-2")
LOCKED = CameraInfo(4, "Locked", "/dev/video4", capture=False, problem="Permission denied")
OURS = CameraInfo(9, "Desk puppet", "/dev/video9", virtual=True)


def plugged(monkeypatch, *there: CameraInfo) -> None:
    monkeypatch.setattr(cameras, "list_cameras", lambda: list(there))
    monkeypatch.setattr(webcam, "list_cameras", lambda: list(there))


# Which camera.


def test_auto_is_the_first_real_camera(monkeypatch):
    plugged(monkeypatch, PHONE, LOCKED, DESK, TWIN, OURS)
    assert find_camera("auto") is DESK
    assert find_camera("auto", not_these=("/dev/video1",)) is TWIN


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ([], "There is no camera here, none .* plug one in"),
        ([PHONE, OURS], r"only virtual ones \(0 \(Phone\)\)"),
        ([PHONE, LOCKED], r"4 \(Locked\) cannot be opened \(Permission denied\)"),
    ],
    ids=["none", "virtual", "locked"],
)
def test_auto_says_why_there_is_none(monkeypatch, there, message):
    plugged(monkeypatch, *there)
    with pytest.raises(UserError, match=message):
        find_camera("auto", not_these=("/dev/video9",))


@pytest.mark.parametrize("text", ["9", "/dev/video9", "camera:puppet", "puppet"])
@pytest.mark.parametrize("ours", ["/dev/video9", "9", "desk PUPPET"])
def test_our_own_output_is_no_camera(monkeypatch, text, ours):
    plugged(monkeypatch, DESK, OURS)
    assert find_camera(text) is OURS
    with pytest.raises(UserError, match="/dev/video9 is the output: drive from another"):
        find_camera(text, not_these=(ours,))


def test_our_own_output_does_not_make_a_name_ambiguous(monkeypatch):
    plugged(monkeypatch, DESK, OURS)
    with pytest.raises(UserError, match="Several cameras match 'desk'"):
        find_camera("desk")
    assert find_camera("desk", not_these=("/dev/video9",)) is DESK


def test_an_unplugged_camera_is_found_under_another_number(monkeypatch):
    moved = CameraInfo(5, "Desk camera", "/dev/video5", bus="usb-3")
    plugged(monkeypatch, PHONE, moved)
    assert find_again(DESK) is moved
    # Its twin was there all the time, so it is not the one that came back.
    plugged(monkeypatch, TWIN)
    assert find_again(DESK, twins=[DESK, TWIN]) is None
    plugged(monkeypatch, TWIN, moved)
    assert find_again(DESK, twins=[DESK, TWIN]) is moved
    # In the same socket before in another one, and not before it can be read.
    back = CameraInfo(7, "Desk camera", "/dev/video7", bus="usb-1")
    plugged(monkeypatch, moved, back)
    assert find_again(DESK) is back
    plugged(monkeypatch, CameraInfo(1, "Desk camera", "/dev/video1", problem="Permission denied"))
    assert find_again(DESK) is None


def test_what_drives_is_opened_by_its_kind(monkeypatch, tmp_path):
    plugged(monkeypatch, DESK)
    folder = tmp_path / "desk"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), red_picture(9))
    monkeypatch.chdir(tmp_path)
    source = open_source("desk")
    assert isinstance(source, Playback)
    assert source.trouble is source.silence is source.note is None
    with pytest.raises(UserError, match=r"There is no file nowhere\.mp4"):
        open_source("nowhere.mp4")
    with pytest.raises(UserError, match="There is no camera 'lamp'"):
        open_source("lamp")
    with pytest.raises(UserError, match="is the output"):
        open_source("camera:desk", not_these=["/dev/video1"])


@pytest.mark.parametrize("text", ["", "MJPEG", "YU V", "12", "MJP\N{DEGREE SIGN}"])
def test_pixel_formats_that_are_none(text):
    with pytest.raises(UserError, match="is not four letters"):
        parse_pixel_format(text)
    assert parse_pixel_format(" yuyv ") == "YUYV"


# What it shows.


def noise(seed: int, mean: int = 120, spread: int = 6) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.clip(random.normal(mean, spread, (90, 160, 3)), 0, 255).astype(np.uint8)


def watched(pictures, step: float = 0.5) -> list[str | None]:
    watch = ImageWatch("black", "frozen")
    return [watch.look(picture, index * step) for index, picture in enumerate(pictures)]


def test_a_living_picture_is_no_trouble():
    assert watched(noise(index) for index in range(10)) == [None] * 10


def test_a_black_picture_is_said_after_a_while_and_taken_back():
    dark = [noise(index, 8, 3) for index in range(6)]
    assert watched([noise(90), *dark, noise(91)]) == [None] * 5 + ["black", "black", None]


def test_a_dim_room_is_not_black():
    dim = [noise(index, 12, 4) for index in range(8)]
    for picture in dim:
        picture[20:40, 60:80] += 60
    assert watched(dim) == [None] * 8


def test_a_frozen_picture_is_said_after_a_while_and_taken_back():
    still = noise(1)
    almost = [still, still + (noise(5) > 120).astype(np.uint8), still, still, still, still]
    assert watched([noise(0), *almost, noise(2)]) == [None] * 5 + ["frozen", "frozen", None]


def test_slow_change_is_change():
    # One step of brightness per picture would pass for stillness if neighbours were compared.
    assert watched(noise(0, 100, 0) + index for index in range(12)) == [None] * 12


def test_a_source_may_stand_still_by_right():
    watch = ImageWatch("black")
    assert [watch.look(noise(0), second) for second in range(5)] == [None] * 5


def test_watching_takes_any_size_and_a_change_of_it():
    watch = ImageWatch("black", "frozen")
    for index, (height, width) in enumerate([(1, 1), (1080, 1920), (31, 33), (720, 1280)]):
        assert watch.look(np.full((height, width, 3), 200, np.uint8), index * 10.0) is None


# Unplugged and back. OpenCV's class, as far as `Camera` uses it, over cameras that this test plugs in and out.


class Plug:
    """What is at which number: a camera's frames, counted, as long as it is plugged in."""

    def __init__(self):
        self.at: dict[int, CameraInfo] = {}
        self.opened: list[tuple[int, dict]] = []
        self.size, self.fourcc, self.gray = (8, 6), "MJPG", False
        self.age = 0.004
        self.count = 0

    def video_capture(self, number, backend=None, parameters=()):
        return FakeCapture(self, number, dict(zip(parameters[::2], parameters[1::2], strict=True)))


class FakeCapture:
    def __init__(self, plug: Plug, number: int, parameters: dict):
        self.plug, self.number, self.held = plug, number, number in plug.at
        plug.opened.append((number, parameters))

    def open(self, number, backend):
        return self.isOpened()

    def isOpened(self):
        return self.held

    def get(self, wanted):
        if wanted == cv2.CAP_PROP_FOURCC:
            return float(cv2.VideoWriter.fourcc(*self.plug.fourcc))
        if wanted == cv2.CAP_PROP_POS_MSEC:
            return 1000 * (time.perf_counter() - self.plug.age)
        return 0.0

    def grab(self):
        time.sleep(0.002)
        self.held = self.held and self.number in self.plug.at
        self.plug.count += self.held
        return self.held

    def retrieve(self):
        width, height = self.plug.size
        picture = np.random.default_rng(self.plug.count).integers(0, 200, (height, width, 3), np.uint8)
        picture[..., 0] = 255
        return True, picture[..., 0] if self.plug.gray else picture

    def read(self):
        return self.retrieve() if self.grab() else (False, None)

    def release(self):
        self.held = False


@pytest.fixture
def plug(monkeypatch):
    plug = Plug()
    plug.at = {1: CameraInfo(1, "Desk camera", bus="usb-1")}
    monkeypatch.setattr("cv2.VideoCapture", plug.video_capture)
    monkeypatch.setattr(cameras, "list_cameras", lambda: list(plug.at.values()))
    monkeypatch.setattr(webcam, "list_cameras", lambda: list(plug.at.values()))
    for name, seconds in (
        ("PATIENCE_SECONDS", 0.05),
        ("RETRY_SECONDS", 0.01),
        ("FIRST_PICTURE_SECONDS", 0.05),
    ):
        monkeypatch.setattr(webcam, name, seconds)
    return plug


def wait_for(condition, seconds: float = 5.0):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)
    return result


def test_a_camera_is_asked_for_what_was_chosen_and_gives_rgb(plug):
    camera = Camera(plug.at[1], 640, 480, 25, "yuyv")
    number, asked = plug.opened[0]
    assert number == 1 and camera.name == "camera 1 (Desk camera)" and camera.rate == 25
    # The format before the size, which is looked for among those of the format.
    assert list(asked) == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
    ]
    assert list(asked.values()) == [cv2.VideoWriter.fourcc(*"YUYV"), 640, 480, 25]
    stop = threading.Event()
    frame = next(camera.frames(stop))
    assert frame.image[..., 2].min() == 255 and frame.image[..., 0].max() < 200
    camera.close()


def test_a_gray_camera_gives_three_channels(plug):
    plug.gray = True
    camera = Camera(plug.at[1])
    assert next(camera.frames(threading.Event())).image.shape == (6, 8, 3)
    camera.close()


def test_what_a_camera_gives_instead_is_said(plug):
    plug.size, plug.fourcc = (640, 480), "YUYV"
    camera = Camera(plug.at[1], 1280, 720)
    assert camera.given == (640, 480, "YUYV")
    assert "gives 640x480 YUYV instead of 1280x720 MJPG" in camera.note
    plug.fourcc = "\0\0\0\0"
    assert Camera(plug.at[1], 640, 480).note is None
    assert "gives 640x480 instead of" in Camera(plug.at[1], 1280, 720).note


def test_the_drivers_capture_time_counts_where_it_can_be_believed(plug):
    for age, believed in ((0.02, True), (0.5, True), (5.0, False), (-0.5, False)):
        plug.age = age
        camera = Camera(plug.at[1])
        before = time.perf_counter()
        frame = next(camera.frames(threading.Event()))
        after = time.perf_counter()
        waited, took = after - frame.captured, after - before
        assert waited >= 0
        assert (waited >= age) if believed else (waited <= took), age
        camera.close()


def test_a_camera_that_delivers_nothing_is_refused_at_the_start(plug):
    info = plug.at.pop(1)
    with pytest.raises(UserError, match="delivers no pictures"):
        Camera(info)


def test_an_unplugged_camera_is_waited_for_and_goes_on_under_another_number(plug):
    source = Camera(plug.at[1])
    capture = Capture(source)
    before = wait_for(lambda: capture.take(1))
    assert capture.trouble is None
    plug.at.clear()
    said = wait_for(lambda: capture.trouble)
    assert said.startswith("The camera 1 (Desk camera) is gone: plug it in again")
    wait_for(lambda: capture.take(0.05) is None)
    assert not capture.ended and capture.trouble == said
    # Another camera that comes is not it, nor one that delivers nothing yet.
    plug.at[1] = CameraInfo(1, "Other camera")
    time.sleep(0.05)
    assert capture.take(0) is None
    plug.at[3] = CameraInfo(3, "Desk camera", bus="usb-2")
    after = wait_for(lambda: capture.take(1))
    assert capture.trouble is None and source.name == "camera 3 (Desk camera)"
    assert after.time > before.time and after.captured > before.captured
    capture.close()
    assert not capture.source._capture.isOpened()


def test_capture_ends_while_the_camera_is_gone(plug):
    capture = Capture(Camera(plug.at[1]))
    wait_for(lambda: capture.take(1))
    plug.at.clear()
    wait_for(lambda: capture.trouble)
    capture.close()
    assert capture.ended


def test_capture_ends_while_the_camera_is_back_but_mute(plug, monkeypatch):
    monkeypatch.setattr(webcam, "FIRST_PICTURE_SECONDS", 60.0)
    info = plug.at[1]
    capture = Capture(Camera(info))
    wait_for(lambda: capture.take(1))
    plug.at.clear()
    wait_for(lambda: capture.trouble)
    monkeypatch.setattr(FakeCapture, "retrieve", lambda self: (False, None))
    plug.at[1] = info
    wait_for(lambda: len(plug.opened) == 2)
    capture.close()
    assert capture.ended and not capture._thread.is_alive()


def test_pictures_that_are_left_out_are_not_decoded(plug, monkeypatch):
    decoded, original = [], FakeCapture.retrieve
    monkeypatch.setattr(FakeCapture, "retrieve", lambda self: (decoded.append(1), original(self))[1])
    camera = Camera(plug.at[1])
    camera.every = 3
    decoded.clear()
    frames = list(itertools.islice(camera.frames(threading.Event()), 9))
    assert [frame is not None for frame in frames] == [False, False, True] * 3 and len(decoded) == 3
    camera.close()


def test_single_bad_pictures_are_survived(plug, monkeypatch):
    original = FakeCapture.retrieve
    monkeypatch.setattr(
        FakeCapture,
        "retrieve",
        lambda self: (False, None) if self.plug.count % 3 == 0 else original(self),
    )
    camera = Camera(plug.at[1])
    stop = threading.Event()
    for count, _ in enumerate(camera.frames(stop), 1):
        assert camera.trouble is None
        if count == 10:
            stop.set()
    assert len(plug.opened) == 1
    camera.close()


# The list.


def test_the_list_says_what_auto_takes_and_tells_twins_apart():
    lines = report([PHONE, DESK, TWIN, LOCKED], "Linux", [(1920, 1080), (1280, 1024)])
    text = "\n".join(lines)
    assert lines[0] == "Cameras (--driving auto takes 1)"
    assert "  1  Desk camera  at usb-1" in lines and "  2  Desk camera  at usb-2" in lines
    assert "  4  Locked - cannot be opened (Permission denied)" in lines
    assert "1280x1024  (--driving screen:2)" in text
    assert "/dev/video0  Phone  (fed by a program, so taken; --driving 0 reads it)" in text


def test_the_list_tells_free_virtual_cameras_from_fed_ones():
    free = CameraInfo(9, "puppet", "/dev/video9", capture=False, virtual=True, output=True)
    both = CameraInfo(8, "old", "/dev/video8", capture=True, virtual=True, output=True)
    text = "\n".join(report([both, free], "Linux"))
    assert "puppet  (free; --output virtual:/dev/video9)" in text
    assert "old  (free; browsers need exclusive_caps=1; --output virtual:/dev/video8)" in text
    assert "Screens" not in text and "auto" not in text
