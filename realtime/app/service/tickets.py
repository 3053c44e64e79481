"""Signed tickets: what the directory lets a session do, shown to whichever worker renders it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import asdict, dataclass

#: Seconds for which a ticket is valid. Clients get a new one with every new worker or spare.
VALID = 12 * 3600.0

#: Longest ticket, in characters.
LONGEST = 600


class BadTicket(ValueError):
    """It is forged, damaged, or too old."""


@dataclass(frozen=True)
class Ticket:
    """What one session may do.

    Attributes:
        session: the client's name for it.
        key: whose it is, a name that tells nothing to who reads it.
        until: when it ends, in seconds of the epoch.
        pixels: of a canvas, at most.
        avatars: that the session may bring, at most.
    """

    session: str
    key: str
    until: float
    pixels: int
    avatars: int


class Signer:
    """Signs and reads tickets. All machines of a service share its secret."""

    def __init__(self, secret: str):
        self._secret = hashlib.sha256(b"livepuppet ticket " + secret.encode()).digest()

    def sign(self, ticket: Ticket) -> str:
        """Made of letters, digits, `-`, `_` and a point, as websocket protocols have them."""
        body = base64.urlsafe_b64encode(json.dumps(asdict(ticket)).encode()).rstrip(b"=")
        return f"{body.decode()}.{self._mac(body)}"

    def read(self, text: str) -> Ticket:
        """Raises BadTicket."""
        body, _, mac = text.partition(".")
        # Nothing of it is read before it is known to be ours.
        if len(text) > LONGEST or not hmac.compare_digest(self._mac(body.encode()).encode(), mac.encode()):
            raise BadTicket("It is not signed by this service.")
        ticket = Ticket(**json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
        if ticket.until < time.time():
            raise BadTicket("It is too old.")
        return ticket

    def knows(self, text: str) -> bool:
        """Whether it is a valid ticket."""
        try:
            self.read(text)
        except BadTicket:
            return False
        return True

    def _mac(self, body: bytes) -> str:
        return hmac.new(self._secret, body, hashlib.sha256).hexdigest()
