"""Runs inside the virtual machine: what our sources do with real devices. Writes what happened to FOLDER/facts.json.

Arguments: FOLDER unplug|formats|feeder|moved.
"""

import fcntl
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.realtime.inputs.cameras import find_camera, list_cameras
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.opening import open_source
from livepuppet.realtime.inputs.webcam import Camera
from livepuppet.realtime.outputs.v4l2_writer import V4l2Writer

#: Of the control "Horizontal Movement".
MOVING, STILL = 1, 3

VIVID = Path("/sys/bus/platform/drivers/vivid")
facts: dict = {}


def plug(action: str, device: str = "vivid.0") -> None:
    (VIVID / action).write_text(device)


def control(name: str, value: int, path: str = "/dev/video0") -> None:
    """Set one of the simulated camera's controls."""
    query_control, set_control, following = 0xC044_5624, 0xC008_561C, 0x8000_0000
    with open(path, "rb+", buffering=0) as device:
        number = 0
        while True:
            query = bytearray(struct.pack("<I", number | following).ljust(68, b"\0"))
            fcntl.ioctl(device, query_control, query)
            number = struct.unpack_from("<I", query)[0]
            if query[8:40].rstrip(b"\0").decode() == name:
                fcntl.ioctl(device, set_control, bytearray(struct.pack("<Ii", number, value)))
                return


def pattern(number: int = 0, moving: bool = True) -> None:
    """Which picture it shows (5 is black), without the running clock in its corner."""
    control("OSD Text Mode", 2)
    control("Test Pattern", number)
    control("Horizontal Movement", MOVING if moving else STILL)


def wait_for(condition, seconds: float):
    """What `condition` returned as soon as it is true, and the seconds it took; None if it never came."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if result := condition():
            return result, time.monotonic() - began
        time.sleep(0.01)
    return None, seconds


def said(capture: Capture, words: str | None):
    """Whether the trouble contains the words (there is none, for None) while frames come; what it is, if so."""
    while capture.take(0.3) is None:
        pass
    trouble = capture.trouble
    return (words in (trouble or "") and trouble) if words else (trouble is None and "none")


def unplug() -> None:
    pattern()
    capture = Capture(open_source("vivid", (640, 360), 30, "YUYV"))
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        capture.take(0.5)
    facts["rate"], facts["trouble before"] = capture.measured_rate, capture.trouble
    began = time.monotonic()
    plug("unbind")
    facts["gone"], _ = wait_for(lambda: capture.trouble, 15)
    facts["seconds to notice"] = time.monotonic() - began
    facts["number free"] = not os.path.exists("/dev/video0")
    while capture.take(0.3) is not None:
        pass
    facts["ended"] = capture.ended
    facts["listed while gone"] = [str(camera) for camera in list_cameras() if camera.capture]
    time.sleep(1)
    began = time.monotonic()
    plug("bind")
    frame, _ = wait_for(lambda: capture.take(0.1), 30)
    facts["seconds to come back"] = time.monotonic() - began
    facts["frame after"] = list(frame.image.shape) if frame is not None else None
    facts["trouble after"] = capture.trouble
    for name, number, moving in (("still", 0, False), ("black", 5, True), ("moving", 0, True)):
        pattern(number, moving)
        # What was captured before says nothing about this.
        time.sleep(0.5)
        capture.take(0.5)
        words = {"still": "same picture", "black": "only black", "moving": None}[name]
        facts[name], _ = wait_for(lambda words=words: said(capture, words), 20)
    began = time.monotonic()
    capture.close()
    facts["seconds to close"] = time.monotonic() - began


def formats() -> None:
    for asked in ("YUYV", "NV12", "MJPG"):
        camera = Camera(find_camera("0"), 640, 360, 30, asked)
        facts[asked] = {"given": list(camera.given), "note": camera.note}
        camera.close()
    camera = Camera(find_camera("auto"), 10_000, 10_000, 30, "YUYV")
    facts["huge"] = {"given": list(camera.given), "note": camera.note}
    camera.close()
    for text in ("/dev/video9", "9"):
        try:
            find_camera(text, not_these=("/dev/video9",))
        except UserError as error:
            facts[text] = str(error)


def feed() -> None:
    """Noise into the virtual camera at /dev/video8 until killed."""
    random = np.random.default_rng(0)
    writer = V4l2Writer("/dev/video8", 320, 240, 10, "i420")
    while True:
        writer.write(random.integers(60, 200, (360, 320), np.uint8))
        time.sleep(0.1)


def feeder() -> None:
    """A virtual camera whose program is killed and comes back: its device must be let go, or it cannot be fed again."""
    command = [sys.executable, __file__, sys.argv[1], "feed"]
    program = subprocess.Popen(command)
    facts["fed"], _ = wait_for(
        lambda: any(camera.number == 8 and camera.capture for camera in list_cameras()), 60
    )
    capture = Capture(open_source("camera:webcam", (320, 240), 10, "YUYV"))
    frame, _ = wait_for(lambda: capture.take(0.5), 20)
    facts["before"] = list(frame.image.shape)
    program.kill()
    program.wait()
    while capture.take(0.3) is not None:
        pass
    began = time.monotonic()
    facts["gone"], _ = wait_for(lambda: "is gone" in (capture.trouble or "") and capture.trouble, 20)
    facts["seconds to notice"] = time.monotonic() - began
    time.sleep(3)
    facts["still gone"] = capture.trouble
    program = subprocess.Popen(command)
    frame, facts["seconds to come back"] = wait_for(lambda: capture.take(0.5), 60)
    facts["after"] = list(frame.image.shape) if frame is not None else None
    facts["feeder lives"] = program.poll() is None
    facts["trouble after"] = capture.trouble
    capture.close()
    program.kill()


def moved() -> None:
    """The camera comes back under another number, because something still holds the old one."""
    pattern()
    capture = Capture(open_source("auto", (640, 360), 30, "YUYV"))
    frame, _ = wait_for(lambda: capture.take(0.5), 20)
    facts["first"] = capture.source.name
    holder = os.open("/dev/video0", os.O_RDWR | os.O_NONBLOCK)
    plug("unbind")
    facts["gone"], _ = wait_for(lambda: capture.trouble, 15)
    while capture.take(0.3) is not None:
        pass
    plug("bind")
    frame, _ = wait_for(lambda: capture.take(0.5), 30)
    facts["back"] = capture.source.name if frame is not None else None
    facts["trouble after"] = capture.trouble
    capture.close()
    os.close(holder)


try:
    {"unplug": unplug, "formats": formats, "feeder": feeder, "moved": moved, "feed": feed}[sys.argv[2]]()
finally:
    Path(sys.argv[1], "facts.json").write_text(json.dumps(facts, indent=1))
