"""Read moving frames from a virtual camera, as another program would, and keep them.

Arguments: DEVICE FRAMES FOLDER [SECONDS].
"""

import sys
import time
from pathlib import Path

import cv2
import numpy as np

device, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
deadline = time.monotonic() + float(sys.argv[4] if len(sys.argv) > 4 else 240)
number = int(device.removeprefix("/dev/video"))

capture = cv2.VideoCapture()
# With exclusive_caps the device cannot be read before somebody writes to it.
while not capture.open(number, cv2.CAP_V4L2):
    if time.monotonic() > deadline:
        sys.exit(f"{device} did not become readable")
    time.sleep(0.5)
folder.mkdir(parents=True, exist_ok=True)
kept, last = 0, None
while kept < count and time.monotonic() < deadline:
    ok, picture = capture.read()
    # Only pictures that moved count: a loopback device goes on showing the last one.
    if ok and (last is None or np.abs(picture.astype(int) - last).mean() > 0.2):
        cv2.imwrite(str(folder / f"{kept:03d}.png"), picture)
        kept, last = kept + 1, picture
capture.release()
print(f"{kept} different frames read back from {device}")
sys.exit(0 if kept == count else 1)
