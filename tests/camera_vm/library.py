"""Runs inside the virtual machine: AVATAR MODEL. The README's lines, on a camera; writes /out/facts.json."""

import json
import sys
from itertools import islice

import numpy as np

import livepuppet

avatar, model = sys.argv[1:]
times, images = [], []
animator = livepuppet.Animator(avatar, model=model)
for frame in islice(livepuppet.open_camera(0), 5):
    times.append(float(frame.time))
    images.append(animator(frame))
facts = {
    "shapes": [image.shape for image in images],
    "types": [str(image.dtype) for image in images],
    "times": times,
    "spread": float(np.std(images[-1])),
}
with open("/out/facts.json", "w") as file:
    json.dump(facts, file)
