"""Several connections of one session ("subflows", as Multipath TCP calls them, RFC 8684), so that a packet that one of them loses
holds pictures up for a moment only.

TCP hands out nothing that comes after a lost packet until it was sent again, which takes from a round trip to more than half a
second. So what has to arrive in order is numbered and goes over one subflow; where its acknowledgement is late, it is sent again over
another one, which is used from then on (hedging), and whichever copy comes first counts. On a network that is seen to lose packets,
every message goes over two of them at once (a redundant scheduler, in the words of Multipath TCP), and pictures are made smaller.
What stands alone is not numbered.

A client says hello with {"subflows": secret}, 128 random bits in hexadecimal digits. Each further connection begins with
{"subflow": secret} instead of a hello, and is answered {"subflow": true}. Beside the messages of the protocol there are

    M       a numbered message (`NUMBERED`), JSON or binary
    S       the same, which needs none before it: the newest is handed out at once, and those that it has overtaken never
    m       those before this number have arrived, and this one over that subflow (`ARRIVED`); so no picture needs a receipt of its own.
            `TOLD` is added to the subflow by an end that sees packets being lost
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
SUBFLOWS = 4

#: Kind, and number of the message, before its data; kind, number of the next one, number of the one that came, and its subflow.
NUMBERED, ARRIVED = struct.Struct("<cI"), struct.Struct("<cIIB")

#: See `m`.
TOLD = 0x80

#: Messages that wait for an acknowledgement; and messages, and bytes of them, that wait for one before them.
MOST_UNACKNOWLEDGED, MOST_HELD, MOST_HELD_BYTES = 64, 32, 4 << 20

#: Seconds beyond the usual after which an acknowledgement is late, and the usual before one came; acknowledgements that count.
SLACK, USUAL, COUNTED = 0.02, 0.1, 32

#: What is sent so many seconds after a message, where nothing has followed it, so that the loss of its last packet is noticed.
NUDGE, NUDGED_AFTER = b"n", 0.01

#: Share of what is sent that may be sent again, and bytes of that which may be saved up: a slow network is not asked for twice as much.
AGAIN, MOST_SAVED = 0.5, 256_000

#: Copies of a message where packets are lost. They are where so many of the last so many copies were held up, until no more than so
#: many of the last so many were: now and then it is a processor that has much to do.
COPIES, LOSSY, LOSSY_OF, CLEAR, CLEAR_OF = 2, 5, 100, 2, 300

#: Seconds beyond one that was sent no earlier after which a copy was held up.
HELD_UP = 0.025

#: Seconds for which a network is taken for one that loses packets after a message came twice: the other end says so thereby.
REPEATED = 2.0


@dataclass
class _Sent:
    number: int
    data: bytes
    #: Whether it needs none before it.
    alone: bool
    last: float
    #: When each subflow was given a copy.
    copies: dict[int, float] = field(default_factory=dict)
    nudged: bool = False
    arrived: bool = False


class SubflowSender:
    """The numbered messages of one end.

    Args:
        write: sends over a subflow, given by its number.

    Attributes:
        subflows: that are open, numbered from 0.
        again: messages that were sent again.
        measured: whether packets are seen to be lost.
    """

    def __init__(self, write: Callable[[int, bytes], None]):
        self._write = write
        self.subflows, self.again, self.measured = 1, 0, False
        self._told = False
        self._subflow = 0
        self._number = 0
        #: Of which no copy has arrived.
        self._waiting: deque[_Sent] = deque()
        #: Of each subflow, in order, of which it may still bring a copy.
        self._outstanding: list[deque[_Sent]] = [deque() for _ in range(SUBFLOWS)]
        self._trips: deque[float] = deque(maxlen=COUNTED)
        #: When the last copies that have arrived were sent, and acknowledged.
        self._acknowledged: deque[tuple[float, float]] = deque(maxlen=COUNTED)
        #: Whether copies were held up, of those that can tell.
        self._held_up: deque[bool] = deque(maxlen=CLEAR_OF)
        self._saved = float(MOST_SAVED)

    def send(self, message: bytes, now: float, alone: bool = False) -> int:
        """Send a message at `now`, in seconds; `alone`: which needs none before it. Returns its number.

        Raises:
            BadMessage: the other end acknowledges nothing.
        """
        if len(self._waiting) >= MOST_UNACKNOWLEDGED:
            raise BadMessage("nothing is acknowledged")
        if alone:
            # The newest counts.
            self._waiting = deque(sent for sent in self._waiting if not sent.alone)
        data = NUMBERED.pack(b"S" if alone else b"M", self._number) + message
        sent = _Sent(self._number, data, alone, now)
        self._number += 1
        self._waiting.append(sent)
        self._saved = min(self._saved + AGAIN * len(data), MOST_SAVED)
        self._subflow = self.free(now, self._subflow + alone)[0]
        for subflow in self.free(now, self._subflow)[: COPIES if self.lossy and not alone else 1]:
            self._send_over(subflow, sent, now)
        return sent.number

    def arrived(self, message: bytes, now: float) -> int:
        """An acknowledgement came. Returns the number of the newest message that was handed out over there. Raises BadMessage."""
        if len(message) != ARRIVED.size:
            raise BadMessage("length")
        _, following, number, subflow = ARRIVED.unpack(message)
        told, subflow = bool(subflow & TOLD), subflow & ~TOLD
        if max(following, number + 1) > self._number or subflow >= self.subflows:
            raise BadMessage("acknowledgement")
        self._told = told
        newest = following - 1
        outstanding = self._outstanding[subflow]
        if any(sent.number == number for sent in outstanding):
            # A subflow keeps the order.
            while True:
                sent = outstanding.popleft()
                self._copy_arrived(sent, sent.copies[subflow], now)
                if sent.number == number:
                    break
            newest = max(newest, number if sent.alone else -1)
        self._waiting = deque(sent for sent in self._waiting if sent.number >= following and not sent.arrived)
        return newest

    def check(self, now: float) -> float | None:
        """Send again what is late. Returns in how many seconds to look again; None where nothing waits."""
        if not self._waiting or self.subflows == 1:
            return None
        return min(self._nudge(now), self._hedge(now))

    def _copy_arrived(self, sent: _Sent, began: float, now: float) -> None:
        if not sent.arrived:
            sent.arrived, sent.data = True, b""
            if began == min(sent.copies.values()):
                self._trips.append(now - began)
        # Where one that was sent no earlier came long ago, the network is not slow: it has lost a packet of this one.
        self._held_up.append(
            any(began <= sent_at and now - at > HELD_UP for sent_at, at in self._acknowledged)
        )
        self._acknowledged.append((began, now))
        recent = list(self._held_up)[-LOSSY_OF:]
        if self.measured:
            self.measured = len(self._held_up) < CLEAR_OF or sum(self._held_up) > CLEAR
        else:
            self.measured = sum(recent) >= LOSSY

    @property
    def lossy(self) -> bool:
        """Whether packets are lost, by what either end sees."""
        return self.measured or self._told

    @property
    def _late(self) -> float:
        """Seconds after which an acknowledgement is late."""
        return SLACK + (statistics.median_high(self._trips) if self._trips else USUAL)

    def free(self, now: float, first: int) -> list[int]:
        """The subflows that hold nothing up, from the `first` on; where there is none, the one with least on its way."""
        late = self._late
        turn = [(first + step) % self.subflows for step in range(self.subflows)]
        outstanding = self._outstanding
        free = [one for one in turn if not outstanding[one] or now - outstanding[one][0].copies[one] < late]
        return free or [min(turn, key=lambda one: sum(len(sent.data) for sent in outstanding[one]))]

    def _nudge(self, now: float) -> float:
        newest = self._waiting[-1]
        left = newest.last + NUDGED_AFTER - now
        if newest.nudged or left > 0:
            return math.inf if newest.nudged else left
        newest.nudged = True
        if len(newest.copies) == 1:
            self._write(next(iter(newest.copies)), NUDGE)
        return math.inf

    def _hedge(self, now: float) -> float:
        oldest, late = self._waiting[0], self._late
        left = oldest.last + late - now
        if left > 0:
            return left
        free = self.free(now, self._subflow + 1)
        subflow = next((other for other in free if other not in oldest.copies), None)
        # Those whose every copy is behind one that is late.
        stuck = [sent for sent in self._waiting if not set(sent.copies) & set(free)]
        if subflow is None or sum(len(sent.data) for sent in stuck) > self._saved:
            return late
        self._subflow = subflow
        for sent in stuck:
            self._saved -= len(sent.data)
            self.again += 1
            self._send_over(subflow, sent, now)
        return late

    def _send_over(self, subflow: int, sent: _Sent, now: float) -> None:
        sent.copies[subflow] = sent.last = now
        self._outstanding[subflow].append(sent)
        self._write(subflow, sent.data)


class SubflowReceiver:
    """Puts numbered messages into order, each once."""

    def __init__(self) -> None:
        self._next = 0
        #: None: it was handed out, or overtaken.
        self._held: dict[int, bytes | None] = {}
        self._newest_alone = -1
        self._repeated = -math.inf

    def take(self, message: bytes, now: float) -> list[bytes]:
        """A numbered message came at `now`, in seconds. Returns those whose turn it is now. Raises BadMessage."""
        if len(message) <= NUMBERED.size:
            raise BadMessage("length")
        kind, number = NUMBERED.unpack_from(message)
        if number < self._next or number in self._held:
            self._repeated = now
            return []
        held = sum(len(one or b"") for one in self._held.values())
        if number > self._next and (number - self._next > MOST_HELD or held + len(message) > MOST_HELD_BYTES):
            raise BadMessage("too far ahead")
        data, turn = message[NUMBERED.size :], []
        self._held[number] = data
        if kind == b"S":
            self._held[number] = None
            if number > self._newest_alone:
                self._newest_alone = number
                turn.append(data)
        while self._next in self._held:
            due = self._held.pop(self._next)
            if due is not None:
                turn.append(due)
            self._next += 1
        return turn

    def acknowledgement(self, message: bytes, subflow: int, measured: bool = False) -> bytes:
        """What to answer to a message that came over this subflow, after `take`, by an end that sees packets being lost, or not."""
        number = NUMBERED.unpack_from(message)[1]
        return ARRIVED.pack(b"m", self._next, number, subflow | (TOLD if measured else 0))

    def lossy(self, now: float) -> bool:
        """Whether the other end thinks that packets are lost."""
        return now - self._repeated < REPEATED
