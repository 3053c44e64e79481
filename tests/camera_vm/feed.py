"""Play a clip into a loopback camera, over and over, until killed: DEVICE CLIP WIDTH HEIGHT."""

import sys
import time

import cv2
import pyvirtualcam

from livepuppet.realtime.inputs.clips import open_clip

device, path, width, height = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with pyvirtualcam.Camera(width, height, 10, device=device) as camera:
    while True:
        for frame in open_clip(path):
            camera.send(cv2.resize(frame.picture, (width, height), interpolation=cv2.INTER_AREA))
            time.sleep(0.1)
