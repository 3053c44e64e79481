"""The camera's end: numbers go to a machine that draws, its pictures come back."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.durations import Durations
from livepuppet.core.errors import UserError
from livepuppet.core.threads import start_thread
from livepuppet.realtime.remote.numbers import Asked, Packer
from livepuppet.realtime.remote.pictures import BadPicture, Decoder
from livepuppet.realtime.remote.protocol import (
    LARGEST_MESSAGE,
    NUMBER,
    PATH,
    PICTURE,
    VERSION,
    Canvas,
    pack_avatar,
    words_of,
)

logger = logging.getLogger(__name__)

#: Seconds: a picture is waited for; no answer at all, after which the connection is taken up anew; after the first attempt to
#: take it up, and more after each further one, up to the next; and for an attempt to succeed.
PATIENCE, SILENCE, AGAIN, MOST_WAIT, CONNECTING = 0.25, 1.0, 0.2, 1.0, 3.0

#: Seconds that the first avatar may take to be ready.
PREPARING = 30.0


@dataclass(frozen=True)
class Address:
    """Where the machine that draws is.

    Attributes:
        host, port: of it.
        token: to show there.
        fingerprint: SHA-256 of its certificate, in lower-case hexadecimal digits; None without TLS, on this computer.
    """

    host: str
    port: int
    token: str
    fingerprint: str | None

    @classmethod
    def of(cls, text: str) -> Address:
        """Of what `livepuppet serve` prints: `https://HOST:PORT/#token=...&fingerprint=...`. Raises UserError."""
        wrong = UserError(
            "The address of the server has to be copied whole, as livepuppet serve prints it: "
            "https://HOST:PORT/#token=...&fingerprint=..."
        )
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError:
            raise wrong from None
        told = {name: values[0] for name, values in parse_qs(parts.fragment).items()}
        fingerprint = told.get("fingerprint", "").replace(":", "").lower()
        if parts.scheme not in ("http", "https") or not parts.hostname or not port or not told.get("token"):
            raise wrong
        if parts.scheme == "http":
            if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
                raise UserError("Without TLS only this computer can be asked: give the https address.")
            return cls(parts.hostname, port, told["token"], None)
        if len(fingerprint) != 64 or set(fingerprint) - set("0123456789abcdef"):
            raise wrong
        return cls(parts.hostname, port, told["token"], fingerprint)


def connected(address: Address) -> Any:
    """A websocket to it.

    Raises:
        UserError: nobody answers there, it is another machine, or it refuses.
    """
    try:
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect
    except ImportError as error:
        raise UserError(
            "Drawing elsewhere needs the package websockets: pip install 'livepuppet[studio]'."
        ) from error
    place = f"{address.host}:{address.port}"
    try:
        plain = socket.create_connection((address.host, address.port), timeout=CONNECTING)
    except OSError as error:
        raise UserError(
            f"Nobody answers at {place} ({error.strerror or error}): start livepuppet serve there, and let the firewall pass it."
        ) from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = plain if address.fingerprint is None else _secured(plain, address)
        # The token travels only once it is known to whom.
        opening = connect(
            f"ws://{place}{PATH}",
            sock=wire,
            subprotocols=["livepuppet", f"token.{address.token}"],  # type: ignore[list-item]
            compression=None,
            max_size=LARGEST_MESSAGE,
            open_timeout=CONNECTING,
            close_timeout=0.2,
            ping_interval=None,
        )
        # Entered, as newer websockets want it; `_closed` closes it.
        return opening.__enter__()
    except InvalidStatus as error:
        plain.close()
        raise UserError(f"{place} refuses: copy the address again, with its token.") from error
    except (OSError, WebSocketException, TimeoutError) as error:
        plain.close()
        raise UserError(f"{place} is no livepuppet serve, or another version ({error}).") from error


def _secured(plain: socket.socket, address: Address) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nobody vouches for the certificate: it is known by its fingerprint.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    wire = context.wrap_socket(plain, server_hostname=None)
    found = hashlib.sha256(wire.getpeercert(binary_form=True) or b"").hexdigest()
    if not hmac.compare_digest(found, address.fingerprint or ""):
        wire.close()
        raise UserError(
            f"The certificate of {address.host} is another one than its address says: somebody may listen on the way. "
            "Copy the address again from the machine that draws."
        )
    return wire


class RemotePainter:
    """Has pictures drawn elsewhere, and takes the connection up again where it breaks: all that makes a session is here.

    Args:
        address: of the machine that draws.
        model: the preset's name, which has to be the same there.

    Attributes:
        place: host and port of that machine.
        trouble: one sentence while nothing comes, else None.
        delay: seconds from numbers to picture, and those of them that were drawn in.
        drawing: see `delay`.
        bytes_up, bytes_down, frames: bytes of numbers and of pictures, and frames sent.

    Raises:
        UserError: see `connected`.
    """

    def __init__(self, address: Address, model: str):
        self._address, self._model = address, model
        self.place = f"{address.host}:{address.port}"
        self.trouble: str | None = None
        self.delay, self.drawing = Durations(), Durations()
        self.bytes_up = self.bytes_down = self.frames = 0
        self._packer = Packer()
        self._number = 0
        self._canvas: Canvas | None = None
        self._avatar: tuple[Avatar, str, bytes] | None = None
        self._ready: str | None = None
        self.wants_keypoints = False
        self._decoder: Decoder | None = None
        self._picture: tuple[int, np.ndarray] | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._socket = connected(address)
        self._greeted, self._failures = False, 0
        self._heard = time.monotonic()
        self._thread = start_thread(self._run, "remote", self._stop)

    def prepare(self, avatar: Avatar, canvas: Canvas) -> None:
        """Wait until whoever draws has the first avatar.

        Raises:
            UserError: they refuse, or it takes too long.
        """
        with self._changed:
            self._agree(avatar, canvas)
            self._changed.wait_for(lambda: self._ready is not None or self.trouble is not None, PREPARING)
            if self._ready is None:
                raise UserError(
                    self.trouble or f"{self.place} does not begin to draw: look at what it says there."
                )

    def paint(self, avatar: Avatar, canvas: Canvas, asked: Asked, out: np.ndarray) -> bool:
        """Have a picture drawn, and wait for it for a moment.

        Args:
            avatar, canvas: what is drawn, and on what.
            asked: its pose.
            out: it is written there, uint8 `canvas.shape`.

        Returns:
            False where there is none yet.
        """
        with self._changed:
            self._agree(avatar, canvas)
            ready = self._socket is not None and self._avatar is not None and self._ready == self._avatar[1]
            if not ready:
                return self._last(out)
            self._number += 1
            number, began = self._number, time.perf_counter()
            packet = self._packer.pack(number, int(began * 1e4), asked)
            self.bytes_up += len(packet)
            self.frames += 1
        self._tell(b"N" + packet)
        with self._changed:
            self._changed.wait_for(lambda: self._picture is not None and self._picture[0] >= number, PATIENCE)
            there = self._picture is not None and self._picture[0] >= number
            if there:
                self.delay.add(time.perf_counter() - began)
            elif time.monotonic() - self._heard > SILENCE:
                self._break()
            return self._last(out)

    def close(self) -> None:
        self._stop.set()
        with self._changed:
            self._break()
        self._thread.join(3)

    # With `_changed` held.

    def _last(self, out: np.ndarray) -> bool:
        if self._picture is None or self._picture[1].shape != out.shape:
            return False
        np.copyto(out, self._picture[1])
        return True

    def _agree(self, avatar: Avatar, canvas: Canvas) -> None:
        if self._canvas != canvas:
            anew = self._canvas is None or self._canvas.shape != canvas.shape
            self._canvas = canvas
            if anew:
                self._decoder = Decoder(canvas.shape)
                if self._greeted:
                    self._break()
            elif self._greeted:
                self._tell({"canvas": canvas.words()})
        if self._avatar is None or self._avatar[0] is not avatar:
            self._avatar = (avatar, *pack_avatar(avatar))
            if self._greeted:
                self._tell({"show": self._avatar[1]})
        self._greet()

    def _greet(self) -> None:
        """Say who we are and what we want, once there is a connection."""
        if self._greeted or self._socket is None or self._canvas is None or self._avatar is None:
            return
        self._greeted = True
        self._heard = time.monotonic()
        self._tell({"version": VERSION, "model": self._model, "canvas": self._canvas.words()})
        self._tell({"show": self._avatar[1]})

    def _break(self) -> None:
        wire, self._socket = self._socket, None
        self._greeted, self._ready = False, None
        if wire is not None:
            with suppress(Exception):
                wire.socket.shutdown(socket.SHUT_RDWR)
            threading.Thread(target=_closed, args=(wire,), daemon=True).start()

    # By any thread.

    def _tell(self, message: bytes | dict) -> None:
        wire = self._socket
        if wire is None:
            return
        try:
            wire.send(json.dumps(message) if isinstance(message, dict) else message)
        except Exception:
            # The reading thread finds out, and connects again.
            with suppress(Exception):
                wire.socket.close()

    # The reading thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            wire = self._socket
            if wire is None:
                self._connect()
                continue
            try:
                message = wire.recv(timeout=0.5)
            except TimeoutError:
                continue
            except Exception:
                with self._changed:
                    if self._socket is wire:
                        self._break()
                    if self.trouble is None and not self._stop.is_set():
                        self.trouble = f"The connection to {self.place} broke: it is taken up again."
                        self._changed.notify_all()
                self._stop.wait(min(AGAIN * self._failures, MOST_WAIT))
                self._failures += 1
                continue
            self._heard = time.monotonic()
            try:
                self._take(message)
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("The machine that draws sent what is not understood (%s).", error)

    def _connect(self) -> None:
        try:
            wire = connected(self._address)
        except UserError as error:
            self.trouble = str(error)
            self._failures += 1
            self._stop.wait(min(AGAIN * self._failures, MOST_WAIT))
            return
        with self._changed:
            self._packer.forget()
            if self._canvas is not None:
                self._decoder = Decoder(self._canvas.shape)
            self._socket = wire
            self._greet()

    def _take(self, message: bytes | str) -> None:
        if isinstance(message, str):
            self._obey(words_of(message))
            return
        if message[:1] != b"P" or len(message) < PICTURE.size:
            return
        self.bytes_down += len(message)
        _, number, codec, _, seconds = PICTURE.unpack_from(message)
        decoder = self._decoder
        if decoder is None:
            return
        try:
            picture = decoder.decode(codec, message[PICTURE.size :])
        except BadPicture:
            self._tell(NUMBER.pack(b"K", number))
            self._tell({"key": True})
            return
        self._tell(NUMBER.pack(b"K", number))
        with self._changed:
            self._packer.acknowledged(number)
            self._picture = number, picture
            self.trouble, self._failures = None, 0
            self._changed.notify_all()
        self.drawing.add(float(seconds))

    def _obey(self, words: dict) -> None:
        with self._changed:
            avatar = self._avatar
            if "need" in words and avatar is not None and words["need"] == avatar[1]:
                message: bytes | dict | None = avatar[2]
            elif "ready" in words:
                self._ready, self.wants_keypoints = str(words["ready"]), bool(words.get("keypoints"))
                message = None
            else:
                message = None
                if words.get("alone") is True:
                    self._packer.forget()
                if "error" in words:
                    self.trouble = f"The machine that draws says: {str(words['error'])[:300]}"
            self._changed.notify_all()
        if message is not None:
            self._tell(message)


def _closed(wire: Any) -> None:
    with suppress(Exception):
        wire.close()
