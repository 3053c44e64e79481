"""How far one driver's own face goes: learned as it is seen, or known beforehand of a file.

Behind glasses, far from the camera or between narrow lids a shut eye is read as one that is half
shut. But blinks are whole, and short: the depth of those that were seen tells how a whole one
reads. Nobody knows which smiles were whole; but who is read to smile further than people do, or
less far, time and again, is half misread and half like that. And what a face at rest trembles by
is not shown at all.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from livepuppet.realtime.rig.amounts import INDEX, NAMES

#: A blink begins where an eye is shut by this much, ends at this share of its depth, and lasts no
#: longer than so many seconds. Shallower ones are glances, and where an eye shuts by less than the last
#: share of the other one's way, that is a wink.
BEGINS, ENDS, LONGEST, SHALLOWEST, BOTH = 0.2, 0.5, 0.4, 0.35, 0.5

#: Blinks that are remembered, and the one of them, from the shallowest, that counts as whole; readings
#: are never stretched by more than the inverse of the last.
REMEMBERED, WHOLE, LEAST = 12, 0.7, 0.3

#: Frames over which noise is measured, after how many it is known first, and how often anew.
FRAMES, FIRST, EVERY = 200, 30, 15

#: Amounts within this many deviations of noise are rest, and beyond that as they are; noise is no more
#: than this.
QUIET, MOST_NOISE = 3.0, 0.012

#: How far people's stronger smiles are read to go, and what is none yet. A smile ends when it is
#: back at half of its height.
USUALLY, SMILED, OVER = 0.75, 0.4, 0.5

#: Of the smiles that are remembered the one, from the weakest, that counts; the share of its
#: difference from what is usual that is the reader's error (of logarithms), approached as if so
#: many usual ones had been seen before; and the most that it may change.
STRONG, MISREAD, BEFORE, MOST = 0.8, 0.5, 2.0, 1.3

#: Seconds within which a change of strength comes about, so that none is seen.
EASES = 2.0

_SMILES = [INDEX["mouthSmileLeft"], INDEX["mouthSmileRight"]]

_BLINKS = [INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]


class DriverRange:
    """Learns from amounts, and stretches and steadies them. One thread at a time.

    Attributes:
        learning: whether `__call__` learns; off once all is known.
    """

    def __init__(self) -> None:
        self.learning = True
        self._depths: deque[np.ndarray] = deque(maxlen=REMEMBERED)
        self._whole = np.ones(2)
        self._deepest: np.ndarray | None = None
        self._since = 0.0
        self._last: deque[np.ndarray] = deque(maxlen=2)
        self._bends: deque[np.ndarray] = deque(maxlen=FRAMES)
        self._count = 0
        self._noise = np.zeros(len(NAMES), np.float32)
        self._smiles: deque[float] = deque(maxlen=REMEMBERED)
        self._highest = 0.0
        self._strength = 1.0
        self._shown_strength: float | None = None
        self._shown_at = 0.0

    @property
    def whole(self) -> np.ndarray:
        """What is read of the left and right eye in a whole blink, float64 (2,); 1 before one was seen."""
        return self._whole

    @property
    def strength(self) -> float:
        """By what smiles are multiplied in the end; 1 before some were seen."""
        return self._strength

    def __call__(self, amounts: np.ndarray, time: float) -> np.ndarray:
        """Amounts (52,) at `time` seconds as the avatar is to show them, float32.

        They may go beyond 1; what is shown does not.
        """
        if self.learning:
            self.learn(amounts, time)
        shown = amounts * _eased(np.abs(amounts) / np.maximum(QUIET * self._noise, 1e-9))
        shown[_SMILES] *= self._eased_strength(time)
        shown = np.minimum(shown, 1.0)
        blinks = amounts[_BLINKS].astype(np.float64)
        # The deeper, the more: what is nearly open is not stretched.
        stretched = blinks * (1 + (1 / self._whole - 1) * _eased(blinks / self._whole))
        shown[_BLINKS] = np.where(self._whole < 1, np.minimum(stretched, 1.0), shown[_BLINKS])
        # Blinks of one eye may read shallower than the other's. Who winks with that other one does not wink with this one.
        more = int(blinks.argmax())
        shown[_BLINKS[1 - more]] = min(shown[_BLINKS[1 - more]], shown[_BLINKS[more]])
        return shown.astype(np.float32)

    def learn(self, amounts: np.ndarray, time: float) -> None:
        """Take one frame into account."""
        self._learn_blinks(amounts[_BLINKS].astype(np.float64), time)
        self._learn_smiles(float(amounts[_SMILES].max()))
        self._last.append(amounts)
        if len(self._last) == 2:
            before, now = self._last
            self._bends.append(np.abs(now - before))
        self._count += 1
        if self._count >= FIRST and self._count % EVERY == 0:
            # Differences of two noises: the quieter third of the time, so that motion does not count.
            quiet = np.quantile(np.stack(self._bends), 0.33, axis=0)
            self._noise = np.minimum(quiet / (0.43 * np.sqrt(2)), MOST_NOISE).astype(np.float32)

    def _learn_smiles(self, height: float) -> None:
        highest = self._highest
        if height > OVER * highest:
            self._highest = max(height, highest)
            return
        self._highest = height
        if highest > SMILED:
            self._smiles.append(highest)
            believed = MISREAD * len(self._smiles) / (len(self._smiles) + BEFORE)
            change = (USUALLY / float(np.quantile(self._smiles, STRONG))) ** believed
            self._strength = min(max(change, 1 / MOST), MOST)

    def _eased_strength(self, time: float) -> float:
        shown, passed = self._shown_strength, time - self._shown_at
        self._shown_at = time
        if shown is None or not self.learning:
            shown = self._strength
        elif passed > 0:
            shown += (1 - math.exp(-passed / EASES)) * (self._strength - shown)
        self._shown_strength = shown
        return shown

    def _learn_blinks(self, blinks: np.ndarray, time: float) -> None:
        depth = float(blinks.max())
        if self._deepest is None:
            if depth > BEGINS:
                # Nobody saw when eyes went shut that are so from the first.
                self._deepest, self._since = blinks, time if self._count else -np.inf
            return
        self._deepest = np.maximum(self._deepest, blinks)
        deepest = float(self._deepest.max())
        if depth > max(ENDS * deepest, BEGINS):
            return
        alike = self._deepest.min() > BOTH * deepest
        if 0 < time - self._since <= LONGEST and deepest > SHALLOWEST and alike:
            self._depths.append(self._deepest)
            self._whole = np.clip(np.quantile(np.stack(self._depths), WHOLE, axis=0), LEAST, 1.0)
        self._deepest = None


def _eased(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0.0, 1.0)
    return share * share * (3 - 2 * share)
