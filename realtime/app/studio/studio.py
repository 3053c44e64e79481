"""The studio of one session: its server, and the addresses to open."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import control
from livepuppet.realtime.app.requests import Refusal, Requests
from livepuppet.realtime.app.studio.access import Access
from livepuppet.realtime.app.studio.controller import Controller
from livepuppet.realtime.app.studio.routes import application
from livepuppet.realtime.app.studio.server import Server, is_ours
from livepuppet.realtime.app.studio.tls import certificate

if TYPE_CHECKING:
    from livepuppet.realtime.app.session import Session


class Studio:
    """Serves the page, the picture and the control commands of a session, until closed.

    Args:
        session: opened.
        port: to listen at; None for the usual one, or a free one where that is taken.
        listen: address for other machines, with TLS; None for this computer alone.

    Attributes:
        controller: what pages see and do.
        access: who was refused.
        address: of the page, without the token.
        fingerprint: of the certificate; None without TLS.

    Raises:
        UserError: it cannot listen there.
    """

    def __init__(self, session: Session, port: int | None, listen: str | None = None):
        self._token = control.control_token()
        self.fingerprint: str | None = None
        files = None
        if listen is not None:
            listen = checked_address(listen)
            *files, self.fingerprint = certificate(listen)
        self.controller = Controller(session, lambda: self.address_of("/"))
        requests = Requests(session.live.post, session.live.state)
        routes = application(self.controller, requests)
        self.access = Access(routes, self._token, open_to=listen is not None, secure=files is not None)
        address = listen or "127.0.0.1"
        secure = (files[0], files[1]) if files else None
        try:
            usual = session.settings.control.port
            try:
                self._server = Server(
                    self.access, address, usual if port is None else port, self._refused, secure
                )
            except UserError:
                if port is not None or not usual or not is_ours(address):
                    raise
                # A second livepuppet beside this one is no reason not to run.
                self._server = Server(self.access, address, 0, self._refused, secure)
        except BaseException:
            self.controller.close()
            raise
        self.port = self._server.port
        named = reachable(address)
        self.address = f"{'https' if files else 'http'}://{named}:{self.port}"
        if files is None:
            # By TLS `livepuppet control` would have to know the certificate.
            control.remember_port(self.port)

    def _refused(self, what: str) -> None:
        self.access.report(Refusal(400, f"{what[0].upper()}{what[1:]}."))

    def address_of(self, page: str) -> str:
        """The address of `/studio`, `/panel` or `/` with the token: keep it to yourself."""
        return f"{self.address}{page}?token={quote(self._token)}"

    def close(self) -> None:
        """Stop listening; the session goes on. Safe to call twice."""
        control.forget_port(self.port)
        self._server.close()
        self.controller.close()


def checked_address(text: str) -> str:
    """An address to listen at. Raises UserError."""
    try:
        return str(ipaddress.ip_address(text.strip("[] ")))
    except ValueError:
        raise UserError(
            f"'{text[:60]}' is no address to listen at: give one of this computer's, as in --listen 192.168.1.20, or "
            "0.0.0.0 for all of them."
        ) from None


def reachable(address: str) -> str:
    """How to write an address that others can open, of what a server listens at."""
    parsed = ipaddress.ip_address(address)
    if parsed.is_unspecified:
        return _own_address(parsed.version)
    return f"[{address}]" if parsed.version == 6 else address


def _own_address(version: int) -> str:
    """By which others of the network reach this computer: the address that it would send from, else its
    name. Nothing is sent.
    """
    family, elsewhere = (socket.AF_INET, "192.0.2.1") if version == 4 else (socket.AF_INET6, "2001:db8::1")
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((elsewhere, 9))
        own = probe.getsockname()[0]
        if not ipaddress.ip_address(own).is_loopback:
            return f"[{own}]" if version == 6 else own
    return f"{socket.gethostname().partition('.')[0].lower()}.local"
