"""Numbers and planes held within bounds, with hard and with soft ends."""

from __future__ import annotations

import numpy as np


def held(value):
    """`value` within 0 and 1; of float32 stays float32."""
    # np.clip takes ten times as long for small planes.
    return np.minimum(np.maximum(value, np.float32(0)), np.float32(1))


def smooth(low: float, high: float, value):
    """0 to 1 between two values, with soft ends."""
    t = held((value - low) / (high - low))
    return t * t * (3 - 2 * t)
