"""Let the crop follow a head that moves away, slowly, and keep what was measured in the old crop
comparable.

A crop that moves with the head takes away the very motion that is to be transferred. So the square
rests while the head stays near its place, moves gently when it leaves for good, and everything
remembered of the driver (D1 above all) is re-expressed in the new square: the difference of the
two, which is all that is transferred, stays the same.
"""

from __future__ import annotations

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices, carried
from livepuppet.core.square import Square

#: How far the head may be from its place (shares of the side; natural logarithm of its size) before
#: the square moves, and how near it is brought back once it does.
DEAD_BAND = np.array([0.12, 0.3])
CENTRED = np.array([0.02, 0.05])

#: Seconds over which the head's place is averaged, so that a nod or a word is no move: position,
#: size.
SMOOTHING = np.array([0.5, 0.5, 2.5])

#: Largest speed per second and its change per second squared: sides for the position, logarithm for
#: the size.
SPEED = np.array([0.3, 0.3, 0.15])
ACCELERATION = np.array([0.6, 0.6, 0.2])

#: With absorption the move itself shows, as a drift of the avatar: a fifth of the speed.
ABSORBING = 0.2

#: How much of the way the square goes per second while slower than its limits.
GAIN = np.array([1.5, 1.5, 0.8])

#: The square that is cut goes along in steps of this many sides (natural logarithm of its size),
#: and to where it comes to rest. A detector of strides is not quite equivariant: a shift changes
#: its landmarks by about 1 pixel in 256, whether it is one of 1 pixel or of 16. A square that
#: crawls makes them tremble twice as much as one that takes these steps.
STEP = np.array([1 / 32, 0.04])

#: Mean confidence under which the keypoints say nothing of where the head is. Of real faces in a
#: fair crop it is 0.55 (in the dark) to 0.85, of walls and cloth mostly under 0.3.
SURE = 0.5

#: Frames from whose median the head's own place in the crop is taken.
HOME_FRAMES = 15

#: A pause in seconds after which speeds and averages mean nothing any more.
PAUSE = 0.5


def reexpressed(
    keypoints: Keypoints, old: Square, new: Square, size: int = 256, matrices: Matrices = "jacobian"
) -> Keypoints:
    """Keypoints that were found in the square `old`, as they would be found in the square `new` of
    the same picture.

    Exact for a detector that is equivariant: points follow the mapping between the squares,
    matrices its scale.

    Args:
        size: side of the cut squares in pixels: -1 and 1 are the centres of the outermost ones,
            half a pixel inside.
        matrices: what the keypoints' matrices are.
    """
    zoom = old.side / new.side
    shift = np.array(
        [old.x + old.side / 2 - new.x - new.side / 2, old.y + old.side / 2 - new.y - new.side / 2]
    )
    shift = shift * (2 / new.side * size / (size - 1))
    reading = keypoints.reading
    return Keypoints(
        (keypoints.points * zoom + shift).astype(np.float32),
        carried(zoom * np.eye(2), keypoints.jacobians, matrices).astype(np.float32),
        keypoints.confidence,
        None if reading is None else reading.mapped(lambda points: points * zoom + shift),
    )


class Follower:
    """Moves a square after the head whose keypoints are found in it.

    Where in the square the head belongs is taken from the first frames after `reset`, so that a
    person's own zoom and shift are kept. Works with any model's keypoints: the head is their mean
    and their spread.

    Args:
        absorb: move so slowly that the motion need not be re-expressed; see `Framing.follow`.
    """

    def __init__(self, absorb: bool = False):
        self.absorb = absorb
        self.reset()

    def reset(self) -> None:
        """Learn the head's place in the square anew: after a jump of the square, or another driver."""
        self._first: list[np.ndarray] = []
        self._home: np.ndarray | None = None
        self._head: np.ndarray | None = None
        self._time: float | None = None
        self._speed = np.zeros(3)
        self._moving = np.zeros(2, bool)
        self._ahead: Square | None = None

    def stop(self, square: Square) -> None:
        """Say that the square could not go where it was to go, and is here."""
        self._ahead, self._speed = square, np.zeros(3)

    def move(self, square: Square, keypoints: Keypoints, time: float) -> Square:
        """The square to cut next, given the keypoints of the present one at `time` in seconds;
        often the same.
        """
        step = 0.0 if self._time is None else time - self._time
        self._time = time
        found = keypoints.confidence is None or float(np.mean(keypoints.confidence)) >= SURE
        if not 0 < step < PAUSE:
            self._head, self._speed, step = None, np.zeros(3), 0.0
        if found:
            self._see(square, keypoints, step)
        if self._home is None or self._head is None or step == 0:
            return square
        ahead = self._ahead or square
        wanted = self._wanted(ahead) if found else np.zeros(3)
        limit = ABSORBING if self.absorb else 1.0
        change = np.clip(wanted - self._speed, -ACCELERATION * step, ACCELERATION * step)
        self._speed = np.clip(self._speed + change, -SPEED * limit, SPEED * limit)
        moved = self._speed * step
        # About the head's place, not the middle: zooming then leaves the head where it is.
        side = ahead.side * float(np.exp(moved[2]))
        x, y = np.array([ahead.x, ahead.y]) + self._home[:2] * (ahead.side - side) + moved[:2] * ahead.side
        self._ahead = ahead = Square(float(x), float(y), side)
        apart = np.array(
            [np.hypot(ahead.x - square.x, ahead.y - square.y) / square.side, abs(np.log(side / square.side))]
        )
        # A square that absorbs the motion has to crawl: its steps would show.
        due = self.absorb or not self._speed.any() or (apart >= STEP).any()
        return ahead if due else square

    def _see(self, square: Square, keypoints: Keypoints, step: float) -> None:
        """Take the head's place into the average: in the picture's pixels, which do not move with
        the square.
        """
        mean = keypoints.points.mean(axis=0)
        spread = float(np.sqrt(np.square(keypoints.points - mean).sum(axis=1).mean()))
        place = np.array([*(mean + 1) / 2, max(spread, 1e-3) / 2])
        if self._home is None:
            self._first.append(place)
            if len(self._first) < HOME_FRAMES:
                return
            self._home = np.median(self._first, axis=0)
        head = np.array(
            [
                square.x + place[0] * square.side,
                square.y + place[1] * square.side,
                np.log(place[2] * square.side),
            ]
        )
        if self._head is None:
            self._head = head
        self._head = self._head + (1 - np.exp(-step / SMOOTHING)) * (head - self._head)

    def _wanted(self, square: Square) -> np.ndarray:
        """Speed that would bring the head home: zero inside the dead band, or once it is back."""
        assert self._head is not None and self._home is not None
        home = np.array(
            [
                square.x + self._home[0] * square.side,
                square.y + self._home[1] * square.side,
                np.log(self._home[2] * square.side),
            ]
        )
        away = (self._head - home) / np.array([square.side, square.side, 1.0])
        distance = np.array([np.hypot(*away[:2]), abs(away[2])])
        self._moving = np.where(self._moving, distance > CENTRED, distance > DEAD_BAND)
        return np.clip(GAIN * away, -SPEED, SPEED) * self._moving[[0, 0, 1]]
