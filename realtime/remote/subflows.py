"""Several connections of one session ("subflows"), so that a packet that one of them loses holds pictures up for a moment only.

TCP hands out nothing that comes after a lost packet until it was sent again, which takes from a round trip to more than half a
second. So what has to arrive in order is numbered and goes over one subflow; where its acknowledgement is late, it is sent again over
another one, which is used from then on (hedging), and whichever copy comes first counts. What stands alone is not numbered.

A client says hello with {"subflows": secret}, 128 random bits in hexadecimal digits. Each further connection begins with
{"subflow": secret} instead of a hello, and is answered {"subflow": true}. Beside the messages of the protocol there are

    M       a numbered message (`NUMBERED`), JSON or binary
    m       those before this number have arrived (`ARRIVED`), over the subflow that brought the last one
    n       nothing (`NUDGE`): what comes behind a lost packet tells TCP that it is lost

The end of any subflow is the end of the connection.
"""

from __future__ import annotations

import math
import statistics
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from livepuppet.realtime.remote.protocol import BadMessage

#: Of one session.
SUBFLOWS = 3

#: Kind, and number of the message, before its data; kind, and number of the next one.
NUMBERED = ARRIVED = struct.Struct("<cI")

#: Messages that wait for an acknowledgement; and messages, and bytes of them, that wait for one before them.
MOST_UNACKNOWLEDGED, MOST_HELD, MOST_HELD_BYTES = 64, 32, 4 << 20

#: Seconds beyond the usual after which an acknowledgement is late, and the usual before one came; acknowledgements that count.
SLACK, USUAL, COUNTED = 0.02, 0.1, 32

#: What is sent so many seconds after a message, where nothing has followed it, so that the loss of its last packet is noticed.
NUDGE, NUDGED_AFTER = b"n", 0.01

#: Share of what is sent that may be sent again, and bytes of that which may be saved up: a slow network is not asked for twice as much.
AGAIN, MOST_SAVED = 0.5, 256_000


@dataclass
class _Sent:
    number: int
    data: bytes
    first: float
    last: float
    subflows: set[int] = field(default_factory=set)
    nudged: bool = False


class SubflowSender:
    """The numbered messages of one end.

    Args:
        write: sends over a subflow, given by its number.

    Attributes:
        subflows: that are open, numbered from 0.
        subflow: that is used now.
        again: messages that were sent again.
    """

    def __init__(self, write: Callable[[int, bytes], None]):
        self._write = write
        self.subflows, self.subflow, self.again = 1, 0, 0
        self._number = 0
        self._waiting: deque[_Sent] = deque()
        self._trips: deque[float] = deque(maxlen=COUNTED)
        self._saved = float(MOST_SAVED)

    def send(self, message: bytes, now: float) -> None:
        """Send a message at `now`, in seconds. Raises BadMessage where the other end acknowledges nothing."""
        if len(self._waiting) >= MOST_UNACKNOWLEDGED:
            raise BadMessage("nothing is acknowledged")
        sent = _Sent(self._number, NUMBERED.pack(b"M", self._number) + message, now, now)
        self._number += 1
        self._waiting.append(sent)
        self._saved = min(self._saved + AGAIN * len(sent.data), MOST_SAVED)
        self._send_over(self.subflow, sent, now)

    def arrived(self, message: bytes, now: float) -> None:
        """An acknowledgement came. Raises BadMessage."""
        if len(message) != ARRIVED.size:
            raise BadMessage("length")
        following = ARRIVED.unpack(message)[1]
        if following > self._number:
            raise BadMessage("acknowledgement")
        while self._waiting and self._waiting[0].number < following:
            sent = self._waiting.popleft()
            if len(sent.subflows) == 1:
                self._trips.append(now - sent.first)

    def check(self, now: float) -> float | None:
        """Send again what is late. Returns in how many seconds to look again; None where nothing waits."""
        if not self._waiting or self.subflows == 1:
            return None
        return min(self._nudge(now), self._hedge(now))

    def _nudge(self, now: float) -> float:
        newest = self._waiting[-1]
        left = newest.last + NUDGED_AFTER - now
        if newest.nudged or left > 0:
            return math.inf if newest.nudged else left
        newest.nudged = True
        self._write(self.subflow, NUDGE)
        return math.inf

    def _hedge(self, now: float) -> float:
        late = SLACK + (statistics.median_high(self._trips) if self._trips else USUAL)
        oldest = self._waiting[0]
        left = oldest.last + late - now
        if left > 0:
            return left
        others = ((self.subflow + step) % self.subflows for step in range(1, self.subflows))
        subflow = next((other for other in others if other not in oldest.subflows), None)
        if subflow is None or sum(len(sent.data) for sent in self._waiting) > self._saved:
            return late
        self.subflow = subflow
        for sent in self._waiting:
            if subflow not in sent.subflows:
                self._saved -= len(sent.data)
                self.again += 1
                self._send_over(subflow, sent, now)
        return late

    def _send_over(self, subflow: int, sent: _Sent, now: float) -> None:
        sent.subflows.add(subflow)
        sent.last = now
        self._write(subflow, sent.data)


class SubflowReceiver:
    """Puts numbered messages into order, each once."""

    def __init__(self) -> None:
        self._next = 0
        self._held: dict[int, bytes] = {}

    def take(self, message: bytes) -> list[bytes]:
        """A numbered message came. Returns those whose turn it is now. Raises BadMessage."""
        if len(message) <= NUMBERED.size:
            raise BadMessage("length")
        number = NUMBERED.unpack_from(message)[1]
        if number < self._next or number in self._held:
            return []
        held = sum(map(len, self._held.values()))
        if number > self._next and (number - self._next > MOST_HELD or held + len(message) > MOST_HELD_BYTES):
            raise BadMessage("too far ahead")
        self._held[number] = message[NUMBERED.size :]
        turn = []
        while self._next in self._held:
            turn.append(self._held.pop(self._next))
            self._next += 1
        return turn

    @property
    def acknowledgement(self) -> bytes:
        """What to answer."""
        return ARRIVED.pack(b"m", self._next)
