"""Runs inside the virtual machine: a fed virtual camera, and readers that come and go. Writes /out/consumers.json."""

import json
import subprocess
import sys
import threading
import time
from fractions import Fraction

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.realtime.inputs import v4l2
from livepuppet.realtime.outputs.fanout import Fanout
from livepuppet.realtime.outputs.pool import FramePool
from livepuppet.realtime.outputs.virtual_camera import VirtualCamera

DEVICE, WIDTH, HEIGHT, RATE = "/dev/video9", 320, 240, 10
COLOURS = [
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)),
    *((128, 128, 128), (200, 150, 120), (255,) * 3, (0,) * 3),
]

#: Each is another program: it opens the camera, reads so many pictures, and prints the last one's stripes and how many
#: brightnesses of the blinking band it saw.
READ = {
    "opencv": """
import cv2
capture = cv2.VideoCapture(9, cv2.CAP_V4L2)
assert capture.isOpened()
pictures = [capture.read()[1][..., ::-1] for _ in range(count)]
capture.release()
""",
    "ffmpeg": """
import av
pictures = []
with av.open(device, format="v4l2") as container:
    for frame in container.decode(video=0):
        pictures.append(frame.to_ndarray(format="rgb24"))
        if len(pictures) == count:
            break
""",
}
SHOW = """
import json
print(json.dumps({"shape": pictures[-1].shape, "stripes": pictures[-1][160, 20::40].tolist(),
                  "bands": len({int(picture[:40].mean()) // 16 for picture in pictures})}))
"""


def reader(kind, count=8):
    script = f"device, count = {DEVICE!r}, {count}\n{READ[kind]}{SHOW}"
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process):
    output, error = process.communicate(timeout=120)
    return json.loads(output) if process.returncode == 0 else {"error": error[-1000:]}


def described():
    (device,) = (device for device in v4l2.list_devices() if device.path == DEVICE)
    return {
        "capture": device.capture,
        "output": device.output,
        "modes": [list(mode.rates) for mode in device.modes],
    }


def refused(device):
    try:
        VirtualCamera(WIDTH, HEIGHT, RATE, device).close()
    except UserError as error:
        return str(error)
    return None


def session(layout):
    facts = {"before": described()}
    camera = VirtualCamera(WIDTH, HEIGHT, RATE, DEVICE, layout)
    facts["device"] = camera.device
    said, pool, stop = [], FramePool((HEIGHT, WIDTH, 3)), threading.Event()
    fanout = Fanout([camera], said.append)
    time.sleep(2)
    # Before the first reader, as some set another rate, which the driver takes from anybody.
    facts["announced"] = described()["modes"]
    # Nothing was submitted yet: readers get black instead of waiting.
    facts["first"] = finished(reader("opencv", 3))

    def feed():
        count = 0
        while not stop.wait(1 / RATE):
            lease = pool.take()
            lease.picture[:] = np.repeat(np.uint8(COLOURS), WIDTH // len(COLOURS), axis=0)
            lease.picture[:40] = 40 * (count % 6)
            fanout.submit(lease, Fraction(count, RATE), time.perf_counter())
            lease.release()
            count += 1

    feeder = threading.Thread(target=feed)
    feeder.start()
    facts["fed"] = described()
    facts["taken"] = [refused(DEVICE), refused("puppet")]
    facts["in turn"] = [finished(reader(kind)) for kind in ("opencv", "ffmpeg", "opencv", "ffmpeg")]
    # One that is killed while it reads.
    killed = reader("opencv", 10_000)
    time.sleep(5)
    killed.kill()
    killed.communicate()
    facts["after a kill"] = finished(reader("ffmpeg"))
    # Two at once; but not opening it in the same moment, in which version 0.12 of the driver mixes up their buffers.
    first = reader("opencv", 150)
    time.sleep(6)
    facts["at once"] = [finished(reader("ffmpeg")), finished(first)]
    stop.set()
    feeder.join()
    before = fanout.states()[0]
    # The source stands still, and readers get on all the same.
    facts["standing still"] = finished(reader("opencv"))
    after = fanout.states()[0]
    fanout.close()
    facts["state"], facts["repeated"] = after.as_dict(), after.repeated - before.repeated
    facts["said"], facts["after"] = said, described()
    return facts


facts = {layout: session(layout) for layout in ("i420", "nv12")}
facts["webcam refused"] = refused("/dev/video0")
with open("/out/consumers.json", "w") as file:
    json.dump(facts, file, indent=1)
