"""The datagrams of a call, whose keys travel over its TLS connection: a foreign one opens with none of them.

A datagram is the call's number, its own, and a body sealed by AES-128 in CCM mode with a tag of 8 bytes (RFC 6655), of which the two
numbers are the associated data and the second the nonce. So no number may be used twice, for other contents, under the same key.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from typing import Any

from livepuppet.core.errors import UserError

#: The call's number, and the datagram's.
HEAD = struct.Struct("<II")

#: Bytes of a tag, and longest datagram: no network fragments it.
TAG, LONGEST = 8, 1200

#: What every packet needs beside its contents: headers of IPv4 or IPv6, and UDP.
OVERHEAD = {4: 28, 6: 48}


class ForeignDatagram(ValueError):
    """A datagram that is not of this call."""


@dataclass(frozen=True)
class Keys:
    """What both ends know of a call's datagrams.

    Attributes:
        call: its number.
        up, down: keys of 16 bytes, of the two directions.
    """

    call: int
    up: bytes
    down: bytes

    @classmethod
    def make(cls) -> Keys:
        """New ones."""
        return cls(secrets.randbits(32), secrets.token_bytes(16), secrets.token_bytes(16))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"call": self.call, "up": self.up.hex(), "down": self.down.hex()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Keys:
        """Raises ValueError, KeyError or TypeError."""
        up, down = bytes.fromhex(value["up"]), bytes.fromhex(value["down"])
        if (
            type(value["call"]) is not int
            or not 0 <= value["call"] < 1 << 32
            or len(up) != 16
            or len(down) != 16
        ):
            raise ValueError("keys")
        return cls(value["call"], up, down)


class Seal:
    """Seals and opens the datagrams of one direction. Not thread safe.

    Args:
        call: its number.
        key: of 16 bytes.

    Raises:
        UserError: the package that it takes is missing.
    """

    def __init__(self, call: int, key: bytes):
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESCCM
        except ImportError as error:
            raise UserError(
                "Calls need the package cryptography: pip install 'livepuppet[studio]'."
            ) from error
        self._call, self._cipher = call, AESCCM(key, TAG)

    def close(self, number: int, body: bytes) -> bytes:
        """The datagram with this number."""
        head = HEAD.pack(self._call, number)
        return head + self._cipher.encrypt(_nonce(number), body, head)

    def open(self, datagram: bytes) -> tuple[int, bytes]:
        """Number and body. Raises ForeignDatagram."""
        if not HEAD.size + TAG <= len(datagram) <= LONGEST:
            raise ForeignDatagram("length")
        call, number = HEAD.unpack_from(datagram)
        if call != self._call:
            raise ForeignDatagram("call")
        from cryptography.exceptions import InvalidTag

        try:
            body = self._cipher.decrypt(_nonce(number), datagram[HEAD.size :], datagram[: HEAD.size])
        except InvalidTag:
            raise ForeignDatagram("tag") from None
        return number, body


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
