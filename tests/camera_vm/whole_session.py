"""Runs inside the virtual machine: `livepuppet run` from a real camera into a real virtual camera, steered and disturbed.

Arguments: AVATARS MODEL. Writes /out/facts.json.
"""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from livepuppet.realtime.app import control

# The machine starts without its loopback network, through which the session is steered (SIOCSIFFLAGS: up, running).
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))

avatars, model = sys.argv[1], sys.argv[2]
os.environ["LIVEPUPPET_CONFIG"] = "/tmp/livepuppet-config"
# See session.sh.
os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V3"
VIVID = Path("/sys/bus/platform/drivers/vivid")
facts: dict = {}
log = open("/out/run.log", "w")  # noqa: SIM115 - lives as long as the process that writes it

command = [sys.executable, "-m", "livepuppet", "run", "--avatar", avatars, "--model", model]
command += ["--driving", "0", "--camera-size", "320x240", "--crop", "full", "--size", "320x240"]
command += ["--output", "virtual:/dev/video9", "--countdown", "0", "--stats", "/out/stats.json"]
subprocess.run([sys.executable, str(Path(__file__).with_name("move_pattern.py")), "/dev/video0"], check=False)
run = subprocess.Popen(command, stderr=log)


class Consumer(threading.Thread):
    """Another program that shows the virtual camera: keeps the newest picture."""

    def __init__(self):
        super().__init__(daemon=True)
        self.picture, self.count, self.leave = None, 0, False

    def run(self):
        capture = cv2.VideoCapture()
        while not capture.open(9, cv2.CAP_V4L2):
            time.sleep(0.3)
        while not self.leave:
            ok, picture = capture.read()
            if ok:
                self.picture, self.count = picture, self.count + 1
        capture.release()


def state():
    try:
        return control.ask("state")
    except Exception:
        return {}


def wait(condition, seconds=120):
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and run.poll() is None:
        if condition():
            return True
        time.sleep(0.2)
    return False


def seen_colour(consumer):
    """Which of the avatars, all red or all blue, the consumer shows."""
    if consumer.picture is None:
        return "nothing"
    blue, _, red = consumer.picture[60:180, 100:220].reshape(-1, 3).mean(axis=0)
    return "red" if red > blue + 40 else "blue" if blue > red + 40 else "neither"


consumer = Consumer()
consumer.start()
facts["live"] = wait(lambda: state().get("mode") == "live" and state()["frames"] > 5)
facts["first avatar"] = wait(lambda: seen_colour(consumer) == "red")
before = state()["frames"]
control.ask("avatar", {"number": 2})
facts["second avatar"] = wait(lambda: seen_colour(consumer) == "blue")
control.ask("do/reset", {})
facts["goes on after a reset"] = wait(lambda: state().get("frames", 0) > before + 10)

consumer.leave = True
consumer.join(20)
frames = state()["frames"]
facts["goes on without a consumer"] = wait(lambda: state().get("frames", 0) > frames + 10)
consumer = Consumer()
consumer.start()
facts["a consumer comes back"] = wait(lambda: seen_colour(consumer) == "blue")

picture = consumer.picture.astype(int)
(VIVID / "unbind").write_text("vivid.0")
facts["gone"] = wait(lambda: state().get("mode") == "no picture")
facts["trouble"] = state().get("trouble")
count = consumer.count
facts["pictures go on"] = wait(lambda: consumer.count > count + 5)
# The sentence stands on the last picture.
facts["banner"] = wait(lambda: np.abs(consumer.picture.astype(int) - picture).max() > 60)
(VIVID / "bind").write_text("vivid.0")
facts["back"] = wait(lambda: state().get("mode") == "live")
frames = state()["frames"]
facts["goes on"] = wait(lambda: state().get("frames", 0) > frames + 10)
facts["trouble after"] = state().get("trouble")
facts["avatar after"] = state().get("avatar")
facts["outputs"] = state().get("outputs")

run.send_signal(signal.SIGTERM)
try:
    facts["exit status"] = run.wait(60)
except subprocess.TimeoutExpired:
    facts["exit status"] = "hangs"
    run.kill()
consumer.leave = True
consumer.join(20)
# Both devices are free again: another program can feed and read them.
again = subprocess.run([*command, "--frames", "3"], stderr=log, timeout=200, check=False)
facts["a second run"] = again.returncode
Path("/out/facts.json").write_text(json.dumps(facts, indent=1))
