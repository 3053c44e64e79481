"""Play a clip into a loopback camera, over and over, until killed: DEVICE CLIP WIDTH HEIGHT."""

import sys
import time
from fractions import Fraction

import cv2

from livepuppet.core.video import open_video
from livepuppet.realtime.outputs.virtual_camera import VirtualCamera

device, path, width, height = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
camera = VirtualCamera(width, height, 10, device)
while True:
    for frame in open_video(path):
        camera.write(cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA), Fraction(0))
        time.sleep(0.1)
