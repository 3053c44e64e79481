"""Whether another machine would render for this one, and how far away it is."""

from __future__ import annotations

import secrets
import time

from livepuppet.core.bundle import read_bundle
from livepuppet.core.errors import UserError
from livepuppet.realtime import bundled
from livepuppet.realtime.app.doctor.checks import Chapter, Finding
from livepuppet.realtime.remote.clock import ClockOffset
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.protocol import CLOCK_REPLY, CLOCK_REQUEST, VERSION, parse_json
from livepuppet.realtime.remote.standby import Worker

#: Times that the server is asked for its clock, and seconds for each answer.
EXCHANGES, PATIENCE = 10, 2.0

#: Seconds of a round trip above which the movement is seen to lag.
LAGGING = 0.1


def server(text: str) -> Chapter:
    """Ask the server whose address this is. Nothing but the model's name goes there.

    Args:
        text: as `livepuppet serve` prints it.
    """
    place = ""
    try:
        address = ServerAddress.parse(text)
        place = address.place
        connection = Connection(address)
    except UserError as error:
        # The report is shown to others.
        reason = str(error).replace(place, "the server's address") if place else str(error)
        return Chapter("Server", findings=(Finding("FAIL", "No machine would render", reason),))
    try:
        return _asked(connection, address.fingerprint is not None, secrets.token_hex(16))
    except (ConnectionError, ValueError, UserError) as error:
        remedy = "Look at what livepuppet serve prints there, and give both machines the same version."
        return Chapter("Server", findings=(Finding("FAIL", f"The server broke off ({error})", remedy),))
    finally:
        connection.close()


def _asked(connection: Connection, secure: bool, session: str) -> Chapter:
    model = read_bundle(bundled.MODEL)["preset"]["name"]
    connection.send({"version": VERSION, "model": model, "session": session})
    reply = connection.receive(PATIENCE)
    answer = parse_json(reply) if isinstance(reply, str) else {}
    if isinstance(answer.get("move"), dict) and (worker := Worker.from_json(answer["move"].get("to"))):
        # A service: this is who would render.
        there = Connection(worker.address)
        try:
            return _asked(there, secure, session)
        finally:
            there.close()
    if "welcome" not in answer:
        reason = str(answer.get("error") or answer.get("refused") or "it does not answer")[:300]
        return Chapter("Server", findings=(Finding("WARN", "The server would not render now", reason),))
    clock = ClockOffset()
    for _ in range(EXCHANGES):
        connection.send(CLOCK_REQUEST.pack(b"T", time.perf_counter()))
        reply = connection.receive(PATIENCE)
        arrived = time.perf_counter()
        if not isinstance(reply, bytes) or len(reply) != CLOCK_REPLY.size:
            raise ConnectionError("it does not tell the time")
        _, sent, received, answered = CLOCK_REPLY.unpack(reply)
        clock.add(sent, received, answered, arrived)
    round_trip = clock.round_trip * 1000
    info = (
        ("renders", f"{model}, with {str(answer.get('engine'))[:40]}"),
        ("encrypted", "yes, certificate as in the address" if secure else "no, on this computer"),
        ("round trip", f"{round_trip:.1f} ms"),
    )
    if clock.round_trip > LAGGING:
        finding = Finding(
            "WARN",
            f"The server is {round_trip:.0f} ms away, there and back: pictures come as much later",
            "Use a machine or a network that is nearer.",
        )
    else:
        finding = Finding("OK", f"The server would render, {round_trip:.1f} ms away there and back")
    return Chapter("Server", info, (finding,))
