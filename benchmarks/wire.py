"""Two networks on this machine with a wire between them that delays and loses packets, for kernels without netem. Needs root.

python -m livepuppet.benchmarks.wire ROUND_TRIP_MS LOSS_PERCENT NAME    # the wire itself, until its input is closed
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from livepuppet.core.errors import UserError

#: Addresses of the two ends, in networks that nobody else sees.
ADDRESSES = ("10.77.0.1", "10.77.0.2")

#: Largest packet, as of most VPNs.
MTU = 1400

# From linux/if_tun.h and sched.h.
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI, _CLONE_NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000


@dataclass
class Wire:
    """Two ends.

    Attributes:
        prefixes: what a command begins with that is to run at the first and at the second end.
        counts: bytes and packets from the first end, and from the second, headers of IP among them; known once it is taken down.
    """

    prefixes: tuple[list[str], list[str]]
    counts: dict = field(default_factory=dict)


@contextmanager
def wire(round_trip: float, loss: float) -> Iterator[Wire]:
    """Lay a wire.

    Args:
        round_trip: in milliseconds.
        loss: in percent, of either direction.

    Raises:
        UserError: it cannot be laid here.
    """
    name = f"lp{os.getpid()}"
    namespaces = [f"{name}{end}" for end in "ab"]
    if not (sys.platform.startswith("linux") and os.geteuid() == 0 and os.path.exists("/dev/net/tun")):
        raise UserError("A wire with loss needs Linux, root, /dev/net/tun and the program ip (iproute2).")
    process = None
    laid = Wire(tuple(["ip", "netns", "exec", namespace] for namespace in namespaces))  # type: ignore[arg-type]
    try:
        for namespace in namespaces:
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        command = [sys.executable, "-m", "livepuppet.benchmarks.wire", str(round_trip), str(loss), name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None and process.stdout is not None
        if process.stdout.readline().strip() != "up":
            raise UserError(
                "The wire could not be laid: run python -m livepuppet.benchmarks.wire 20 3 lp by hand."
            )
        for namespace, own, other in zip(namespaces, ADDRESSES, reversed(ADDRESSES), strict=True):
            _ip("-n", namespace, "addr", "add", own, "peer", other, "dev", "t0")
            _ip("-n", namespace, "link", "set", "t0", "up", "mtu", str(MTU))
        yield laid
        process.stdin.close()
        laid.counts.update(json.loads(process.stdout.readline()))
    finally:
        if process is not None:
            process.kill()
            process.wait()
        for namespace in namespaces:
            subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL, check=False)


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or error
        raise UserError(
            f"ip {' '.join(arguments)} failed ({str(told).strip()}): is iproute2 installed?"
        ) from error


def _opened(namespace: str) -> int:
    """A TUN device in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(other, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"t0", _IFF_TUN | _IFF_NO_PI))
        libc.setns(own, _CLONE_NEWNET)
    finally:
        os.close(own)
        os.close(other)
    return device


def _carry(round_trip: float, loss: float, name: str) -> None:
    ends = [_opened(f"{name}{end}") for end in "ab"]
    print("up", flush=True)
    chance, waiting, order = random.Random(1), [], 0
    counts = [{"packets": 0, "bytes": 0, "lost": 0} for _ in ends]
    while True:
        left = max(0.0, waiting[0][0] - time.perf_counter()) if waiting else 1.0
        keyboard = sys.stdin.fileno()
        ready = select.select([*ends, keyboard], [], [], left)[0]
        if keyboard in ready:
            print(json.dumps(dict(zip(("first", "second"), counts, strict=True))), flush=True)
            return
        now = time.perf_counter()
        for end in ready:
            place = ends.index(end)
            for _ in range(64):
                try:
                    packet = os.read(end, 2048)
                except BlockingIOError:
                    break
                count = counts[place]
                count["packets"] += 1
                count["bytes"] += len(packet)
                if chance.random() < loss / 100:
                    count["lost"] += 1
                    continue
                heapq.heappush(waiting, (now + round_trip / 2000, order, ends[1 - place], packet))
                order += 1
        while waiting and waiting[0][0] <= time.perf_counter():
            _, _, end, packet = heapq.heappop(waiting)
            try:
                os.write(end, packet)
            except OSError:
                count = counts[1 - ends.index(end)]
                count["lost"] += 1


if __name__ == "__main__":
    _carry(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
