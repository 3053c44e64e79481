"""What a session needs and takes long to make, begun in another thread before the session asks for it."""

from __future__ import annotations

import threading

import cv2
import numpy as np

from livepuppet.core.threads import COMPUTING, start_thread
from livepuppet.realtime.framing.faces import read_cascades


def begin() -> threading.Thread:
    """Begin. None of it holds Python's lock while it computes; who needs it sooner waits for it."""
    return start_thread(_work, "early", threading.Event(), COMPUTING)


def _work() -> None:
    # OpenCV's tables of Lab, which rigs are made by: a tenth of a second in the first conversion.
    cv2.cvtColor(np.zeros((1, 1, 3), np.uint8), cv2.COLOR_RGB2LAB)
    read_cascades()
