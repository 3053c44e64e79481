"""The sending end of a call in which the far side draws: the avatar once, and then numbers alone.

Over the connection (one websocket), as in `protocol`, to the receiver:
    {"version", "model", "session"}, {"show": hash}, A, T
    {"clock": seconds}                          what the receiver's clock shows more than ours
    N                                           a packet, where datagrams do not come through
To the sender:
    {"welcome", "datagrams": {"port", ...}}     hello is accepted; where datagrams go, with their keys (`datagrams.Keys`)
    {"need"}, {"error"}, {"no_base"}, T
    {"ready": hash, "keypoints", "rig", "parts"}  the avatar is drawn: whether packets need keypoints, the rig's motion, and of which
                                                keypoints the residuals show
    K                                           `Receipt`, of packets that came over the connection
Over datagrams packets go up, without their number, which is the datagram's; and a `Receipt` comes down for every second one or so.
"""

from __future__ import annotations

import math
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.durations import Durations
from livepuppet.core.threads import start_thread
from livepuppet.realtime.remote.client import RemoteClient
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.datagrams import OVERHEAD, ForeignDatagram, Keys, Seal
from livepuppet.realtime.remote.packets import COARSEST, RenderRequest
from livepuppet.realtime.remote.protocol import Canvas
from livepuppet.realtime.remote.renderer import Outcome

#: Of the websocket.
CALL_PATH = "/call"

#: Bits a second, at most: of packets, and of everything on the network, in both directions, with all headers.
MOST_PAYLOAD, MOST_WIRE = 12_000, 30_000

#: Seconds of these that may be spent at once.
BURST = 0.5

#: Shares of them left below which packets are coarser, by 1 and by 2.
COARSER_BELOW = (0.5, 0.25)

#: Seconds without a datagram's receipt after which packets go over the connection, and between datagrams that are tried nevertheless.
DATAGRAMS_SILENT, PROBING = 0.4, 0.25

#: Packets over the connection without a receipt, at most, and seconds for which they count.
MOST_IN_STREAM, STREAM_SECONDS = 6, 1.0

#: What a message over the connection costs beside its contents: headers of IPv4, TCP (with time stamps), TLS and websocket.
STREAM_OVERHEAD = 20 + 32 + 22 + 6

#: Seconds of silence after which the receiver is asked for a sign of life, and between times that it is told of the clock.
QUIET, CLOCK_TOLD = 0.35, 10.0

#: Of a packet that came: number of the newest one, the receiver's clock then, and how long the receipt took, in tenths of milliseconds;
#: how many came, modulo 2**16; milliseconds from the camera to the outputs, 0 where that is not known.
_RECEIPT = struct.Struct("<IIHHH")

TICKS = 10_000


@dataclass(frozen=True)
class Receipt:
    """What the receiver says of the packets that came.

    Attributes:
        number: of the newest packet.
        received: when it came, in seconds of the receiver's clock, modulo 2**32 ticks.
        held: seconds until the receipt was sent.
        came: packets so far, modulo 2**16.
        delay: seconds from the sender's camera to the receiver's outputs, usually; 0 where that is not known.
    """

    number: int
    received: float
    held: float
    came: int
    delay: float

    def pack(self) -> bytes:
        """As bytes."""
        return _RECEIPT.pack(
            self.number,
            int(self.received * TICKS) & 0xFFFFFFFF,
            min(int(self.held * TICKS), 0xFFFF),
            self.came & 0xFFFF,
            min(round(self.delay * 1000), 0xFFFF),
        )

    @classmethod
    def unpack(cls, data: bytes) -> Receipt:
        """Raises ValueError."""
        if len(data) != _RECEIPT.size:
            raise ValueError("receipt")
        number, received, held, came, delay = _RECEIPT.unpack(data)
        return cls(number, received / TICKS, held / TICKS, came, delay / 1000)


class Budget:
    """At most so many bits a second, of which `BURST` seconds may be saved up.

    Args:
        rate: in bits a second.
    """

    def __init__(self, rate: float):
        self._rate, self._most = rate / 8, rate / 8 * BURST
        self._left, self._filled = self._most, -math.inf

    def left(self, now: float) -> float:
        """Share of what can be saved up that may be spent at `now`, in seconds; below 0 where too much was."""
        self._left = min(self._left + self._rate * max(now - self._filled, 0.0), self._most)
        self._filled = now
        return self._left / self._most

    def spend(self, size: int) -> None:
        """Count so many bytes."""
        self._left -= size


class Pace:
    """Keeps a call within `MOST_PAYLOAD` and `MOST_WIRE`: packets are coarser where little is left, and frames left out where nothing is."""

    def __init__(self) -> None:
        self._payload, self._wire = Budget(MOST_PAYLOAD), Budget(MOST_WIRE)

    def _left(self, now: float) -> float:
        return min(self._payload.left(now), self._wire.left(now))

    def coarse(self, now: float) -> int:
        """How coarse a packet has to be at `now`, in seconds."""
        left = self._left(now)
        return min(sum(left < share for share in COARSER_BELOW), COARSEST)

    def may_send(self, now: float) -> bool:
        """Whether a packet may go."""
        return self._left(now) >= 0

    def spend(self, payload: int, wire: int) -> None:
        """Count bytes: of a packet, and with all headers; or of a receipt, with headers alone."""
        self._payload.spend(payload)
        self._wire.spend(wire)


def what_shows(request: RenderRequest, motion: bool, parts: list[int] | None) -> RenderRequest:
    """What of a request is drawn where a rig wants `motion`, and of its residuals those of `parts` (None: all)."""
    found = request.motion if motion else None
    if found is not None and parts is not None and found.amounts is not None:
        residuals = np.zeros_like(found.residuals)
        residuals[parts] = found.residuals[parts]
        found = replace(found, residuals=residuals)
    return replace(request, motion=found)


class CallSender(RemoteClient):
    """Sends frames to a receiver that draws them. `Animator` takes it for a `RemoteRenderer` whose pictures never come.

    Args:
        address: as `livepuppet receive` prints it.
        model: the preset's name, which has to be the same there.

    Attributes:
        delay: seconds from our camera to the receiver's outputs, as it tells them.
        held_back: frames that were left out so as to send no more than may be.
        wire_up, wire_down: bytes of the packets and their receipts with all headers, as those are known to be.

    Raises:
        UserError: see `Connection`.
    """

    path, program = CALL_PATH, "livepuppet receive"

    def __init__(self, address: ServerAddress, model: str):
        self.delay = Durations()
        self.held_back = self.wire_up = self.wire_down = 0
        self._pace = Pace()
        self._wants_motion = True
        self._parts: list[int] | None = None
        self._datagrams: _Datagrams | None = None
        self._datagram_heard = self._probed = -math.inf
        self._tell_clock_at = 0.0
        self._in_stream: deque[tuple[int, float]] = deque()
        self._way = "datagrams"
        #: Packets that were sent and that came, and those that came on this connection.
        self._sent = self._came = self._came_here = 0
        self._began: float | None = None
        super().__init__(address, model)

    # Called by those who have frames.

    def render(
        self, avatar: Avatar, canvas: Canvas, request: RenderRequest, captured: float, out: np.ndarray
    ) -> Outcome:
        """Send a frame, unless that would be more than may be sent. `out` is left alone. Arguments: as of `RemoteRenderer`."""
        with self._sending:
            self._synchronise(avatar, canvas)
            with self._changed:
                if not self._shown:
                    return "sent"
                connection, now = self._connection, time.perf_counter()
                self._began = now if self._began is None else self._began
                wanted = what_shows(request, self._wants_motion, self._parts)
                coarse = self._pace.coarse(now)
                packet = self._packets.encode(self._number + 1, int(captured * TICKS), wanted, coarse)
                if not self._send(connection, packet, now):
                    self.held_back += 1
                    return "sent"
                self._number += 1
                self._sent += 1
                self._remember(self._number, now)
                self.bytes_up += len(packet)
                self.frames += 1
        return "sent"

    def figures(self) -> dict:
        """Rates and delay so far, for JSON; times in milliseconds, rates in kbit/s."""
        seconds = 0.0 if self._began is None else time.perf_counter() - self._began
        per_second = 8 / 1000 / max(seconds, 1e-3)
        return {
            "receiver": self.place,
            "way": self._way,
            "frames": self.frames,
            "held_back": self.held_back,
            "frames_per_second": round(self.frames / max(seconds, 1e-3), 1),
            "bytes_up_per_frame": round(self.bytes_up / max(self.frames, 1), 1),
            "payload_kbit_s": round(self.bytes_up * per_second, 1),
            "wire_kbit_s": round((self.wire_up + self.wire_down) * per_second, 1),
            "wire_up_kbit_s": round(self.wire_up * per_second, 1),
            "lost": round(1 - min(self._came / self._sent, 1.0), 3) if self._sent else 0.0,
            "round_trip_ms": _milliseconds(self.clock.round_trip),
            "clock_offset_ms": _milliseconds(self.clock.offset),
            "delay_ms": self.delay.summary(),
        }

    def sentence(self) -> str:
        """The same for people."""
        figures = self.figures()
        late = ""
        if self.delay.count:
            late = f" Camera to picture there: p50 {figures['delay_ms']['p50']:.0f} ms."
        return (
            f"Sent to {self.place}: {figures['bytes_up_per_frame']:.0f} bytes a frame, {figures['payload_kbit_s']} kbit/s of numbers, "
            f"{figures['wire_kbit_s']} kbit/s with all headers and receipts ({figures['way']}); {figures['held_back']} frames held "
            f"back, {figures['lost']:.1%} lost; round trip {figures['round_trip_ms']} ms.{late}"
        )

    def close(self) -> None:
        super().close()
        with self._changed:
            self._close_datagrams()

    # With `_changed` held.

    @property
    def _datagrams_silent(self) -> bool:
        return time.perf_counter() - self._datagram_heard > DATAGRAMS_SILENT

    def _send(self, connection: Connection | None, packet: bytes, now: float) -> bool:
        """Send a packet the way that is open, both where that is not known. Returns whether it went."""
        assert connection is not None
        while self._in_stream and now - self._in_stream[0][1] > STREAM_SECONDS:
            self._in_stream.popleft()
        datagrams, silent = self._datagrams, self._datagrams_silent
        by_datagram = datagrams is not None and (not silent or now - self._probed >= PROBING)
        by_stream = (datagrams is None or silent) and len(self._in_stream) < MOST_IN_STREAM
        if not (by_datagram or by_stream) or not self._pace.may_send(now):
            return False
        self._way = "connection" if by_stream else "datagrams"
        size = 0
        if by_datagram and datagrams is not None:
            size += datagrams.send(packet)
            self._probed = now
        if by_stream:
            connection.send(b"N" + packet)
            self._in_stream.append((self._number + 1, now))
            size += len(packet) + 1 + STREAM_OVERHEAD
        self.wire_up += size
        self._pace.spend(len(packet), size)
        return True

    def _disconnected(self) -> Connection | None:
        self._close_datagrams()
        self._in_stream.clear()
        return super()._disconnected()

    def _close_datagrams(self) -> None:
        if self._datagrams is not None:
            self._datagrams.close()
        self._datagrams, self._datagram_heard = None, -math.inf
        self._came_here = 0
        self._tell_clock_at = 0.0

    # The reading threads: of the connection, and of datagrams.

    def _keep_alive(self, connection: Connection) -> None:
        now = time.monotonic()
        if now - self._heard < QUIET:
            # Receipts are signs of life, and tell the time.
            self._asked_clock = now
        super()._keep_alive(connection)
        offset = self.clock.offset
        if offset == offset and now >= self._tell_clock_at:
            # The first exchange was seldom the quickest.
            self._tell_clock_at = now + (1.0 if self._tell_clock_at == 0 else CLOCK_TOLD)
            connection.send({"clock": offset})

    def _take(self, connection: Connection, message: bytes | str) -> None:
        if isinstance(message, bytes) and message[:1] == b"K":
            self._take_receipt(connection, message[1:], len(message) + STREAM_OVERHEAD)
        else:
            super()._take(connection, message)

    def _take_receipt(
        self, connection: Connection, data: bytes, size: int, by_datagram: bool = False
    ) -> None:
        arrived, receipt = time.perf_counter(), Receipt.unpack(data)
        with self._changed:
            if self._connection is not connection:
                return
            self._heard = time.monotonic()
            if by_datagram:
                self._datagram_heard = arrived
            else:
                connection.widen()
            self._packets.acknowledged(receipt.number)
            while self._in_stream and self._in_stream[0][0] <= receipt.number:
                self._in_stream.popleft()
            self.problem, self._refusal, self._failures = None, None, 0
            more = (receipt.came - self._came_here) & 0xFFFF
            if more < 0x8000:
                self._came, self._came_here = self._came + more, self._came_here + more
            self.wire_down += size
            self._pace.spend(0, size)
            sent = self._sent_at.pop(receipt.number, None)
        if sent is not None:
            self.clock.add(sent, receipt.received, receipt.received + receipt.held, arrived)
        if receipt.delay:
            self.delay.add(receipt.delay)

    def _obey(self, connection: Connection, message: dict) -> None:
        if "ready" in message:
            parts = message.get("parts")
            with self._changed:
                self._wants_motion = message.get("rig") is not False
                self._parts = None
                if isinstance(parts, list) and all(type(part) is int and 0 <= part < 128 for part in parts):
                    self._parts = parts
        datagrams = message.get("datagrams")
        if "welcome" in message and isinstance(datagrams, dict):
            self._open_datagrams(connection, datagrams)
        super()._obey(connection, message)

    def _open_datagrams(self, connection: Connection, told: dict) -> None:
        keys, port = Keys.from_json(told), told.get("port")
        if type(port) is not int or not 0 < port < 65536:
            raise ValueError("port")

        def took(data: bytes, size: int) -> None:
            self._take_receipt(connection, data, size, by_datagram=True)

        # Where there is no way for them, the connection is.
        with suppress(OSError):
            opened = _Datagrams(keys, connection.peer, port, took)
            with self._changed:
                if self._connection is connection:
                    self._close_datagrams()
                    self._datagrams = opened
                    return
            opened.close()


class _Datagrams:
    """A socket, and the thread that reads it.

    Args:
        took: called with a receipt and its size with all headers.

    Raises:
        OSError: the system has none for that address.
    """

    def __init__(self, keys: Keys, address: str, port: int, took) -> None:
        self._up, self._down = Seal(keys.call, keys.up), Seal(keys.call, keys.down)
        six = ":" in address
        self._overhead, self._took = OVERHEAD[6 if six else 4], took
        self._socket = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.settimeout(0.25)
            self._socket.connect((address, port))
        except OSError:
            self._socket.close()
            raise
        self._stop = threading.Event()
        start_thread(self._read, "datagrams", self._stop)

    def send(self, packet: bytes) -> int:
        """Send a packet. Returns its size with all headers."""
        datagram = self._up.close(int.from_bytes(packet[:4], "little"), packet[4:])
        # One that cannot be sent is one that is lost.
        with suppress(OSError):
            self._socket.send(datagram)
        return len(datagram) + self._overhead

    def close(self) -> None:
        """The thread closes the socket."""
        self._stop.set()

    def _read(self) -> None:
        newest = -1
        with self._socket:
            while not self._stop.is_set():
                try:
                    datagram = self._socket.recv(2048)
                except OSError:
                    # Nothing came, or nobody listens there.
                    self._stop.wait(0.01)
                    continue
                with suppress(ForeignDatagram, ValueError):
                    number, body = self._down.open(datagram)
                    if number > newest:
                        newest = number
                        self._took(body, len(datagram) + self._overhead)


def _milliseconds(seconds: float) -> float | None:
    return round(seconds * 1000, 2) if seconds == seconds else None
