"""Be a camera with a clock: feed a loopback device until killed. Arguments: DEVICE WIDTH HEIGHT
RATE.
"""

import sys
import threading
from fractions import Fraction

from livepuppet.benchmarks.latency import ClockCamera
from livepuppet.realtime.outputs.virtual_camera import VirtualCamera

device, width, height, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
camera = VirtualCamera(width, height, rate, device)
for frame in ClockCamera(width, height, rate, float("inf")).frames(threading.Event()):
    if frame is not None:
        camera.write(frame.image, Fraction(frame.time))
