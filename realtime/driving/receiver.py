"""Packets of faces over UDP: from whom they may come, and the newest good one."""

from __future__ import annotations

import ipaddress
import logging
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from livepuppet.core.errors import UserError
from livepuppet.core.threads import start_thread
from livepuppet.realtime.driving.packets import LONGEST, BadPacket
from livepuppet.realtime.rig.told import FacePose

logger = logging.getLogger(__name__)

#: A sender that has been silent for so many seconds may be followed by another one.
OWNED = 2.0

#: Seconds between start messages while nothing comes.
KNOCK = 2.0

#: Bytes that the system may keep for us: more would be old faces.
BUFFER = 64 * 1024

_IDLE = 0.2

#: Linux, macOS, Windows: the address is not of this computer.
_NOT_OURS = (99, 49, 10049)

#: To ask which way leads to an address.
_ANY_PORT = 9


class Receiver:
    """Listens until closed, in a thread of its own. The newest face wins.

    Args:
        read: makes a face of a packet, or raises `BadPacket`.
        address: of this computer, to listen at: 127.0.0.1 hears this computer alone, 0.0.0.0 the whole network.
        ports: to listen at.
        sender: the only address to hear; None hears whoever sends first, until that one is silent.
        start: sent to the sender, at `ports[0]`, while it is silent; None where nothing has to be.
        arrived: called after each good packet, in the thread.

    Attributes:
        counts: packets by what became of them: `good`, `bad` (no such packet), `foreign` (of another sender).

    Raises:
        UserError: a port is in use, or the address is none of this computer's.
    """

    def __init__(
        self,
        read: Callable[[bytes], FacePose],
        address: str,
        ports: Sequence[int],
        sender: str | None = None,
        start: bytes | None = None,
        arrived: Callable[[], object] = lambda: None,
    ):
        self._read, self._sender, self._start = read, sender, start
        #: Called after each good packet, in the thread; may be replaced.
        self.arrived = arrived
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._newest: tuple[FacePose, float] | None = None
        self._owner: tuple[str, float] | None = None
        self._sockets = []
        try:
            for port in ports:
                self._sockets.append(_bound(address, port))
        except UserError:
            self._close_sockets()
            raise
        self.ports = [one.getsockname()[1] for one in self._sockets]
        self._knock_at = (sender, ports[0]) if sender is not None and start is not None else None
        self._stop = threading.Event()
        self._thread = start_thread(self._listen, "faces", self._stop)

    @property
    def newest(self) -> tuple[FacePose, float] | None:
        """The last good face, and `time.perf_counter()` of its coming; None before the first."""
        with self._lock:
            return self._newest

    def _listen(self) -> None:
        knocked = -KNOCK
        with selectors.DefaultSelector() as ready:
            for one in self._sockets:
                ready.register(one, selectors.EVENT_READ)
            while not self._stop.is_set():
                now = time.perf_counter()
                newest = self.newest
                silent = newest is None or now - newest[1] > KNOCK
                if (
                    self._knock_at is not None
                    and self._start is not None
                    and silent
                    and now - knocked >= KNOCK
                ):
                    knocked = now
                    # A phone that is not there yet is asked again.
                    with suppress(OSError):
                        self._sockets[0].sendto(self._start, self._knock_at)
                for key, _ in ready.select(_IDLE):
                    # What an unreachable phone answers comes out here, too.
                    with suppress(OSError):
                        packet, source = key.fileobj.recvfrom(LONGEST + 1)  # type: ignore[union-attr]
                        self.take(packet, source[0], time.perf_counter())

    def take(self, packet: bytes, source: str, now: float) -> None:
        """One packet that came from the address `source`."""
        owner = self._owner
        if self._sender is not None:
            foreign = source != self._sender
        else:
            foreign = owner is not None and owner[0] != source and now - owner[1] < OWNED
        if foreign:
            self.counts["foreign"] += 1
            return
        try:
            face = self._read(packet)
        except BadPacket as error:
            self.counts["bad"] += 1
            if self.counts["bad"] == 1:
                logger.warning("A packet from %s is not understood (%s) and dropped.", source, error)
            return
        self._owner = source, now
        self.counts["good"] += 1
        with self._lock:
            self._newest = face, now
        self.arrived()

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(timeout=3)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for one in self._sockets:
            one.close()


def _bound(address: str, port: int) -> socket.socket:
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(kind, socket.SOCK_DGRAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        if getattr(error, "errno", None) in _NOT_OURS:
            raise UserError(
                f"{address} is no address of this computer: give one of its own, or 0.0.0.0."
            ) from error
        raise UserError(
            f"UDP port {port} at {address} is in use or not allowed ({error.strerror or error}): close the other program "
            "that receives faces, or give another port, as in phone:192.168.1.20:50000."
        ) from error
    bound.setblocking(False)
    return bound


def checked_address(text: str) -> str:
    """An IP address in its usual form. Raises UserError."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise UserError(
            f"'{text[:60]}' is no IP address: give it as the phone shows it, as in 192.168.1.20."
        ) from None


def own_address_towards(other: str) -> str:
    """This computer's address on the network on which `other` is. Raises UserError."""
    kind = socket.AF_INET6 if ":" in other else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: the system only picks the way.
            probe.connect((other, _ANY_PORT))
            return probe.getsockname()[0]
        except OSError as error:
            raise UserError(
                f"There is no way to {other} from here ({error.strerror or error}): join the phone's network first."
            ) from error
