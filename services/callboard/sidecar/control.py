"""The control port: what there is to be had, leases of it, and films; what is said is in
`callboard.media`.

RTP goes to the address that the request comes from. By mutual TLS a certificate of the role
`gateway` is wanted, 403 else. A page in a browser is refused: what it could reach on this machine
is not meant for it.
"""

from __future__ import annotations

import ipaddress
import ssl
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote

from callboard.media.leases import REQUEST_BYTES_MAX, Asked, BadMessage, Granted, Seek
from callboard.media.streams import listing
from callboard.pki.roles import WrongRole, authorise, peer_of
from callboard.sidecar.leases import TooMany
from callboard.sidecar.pipeline.films import Closed
from callboard.sidecar.serving import BoundedServer, Handler
from callboard.sidecar.supervisor import NoFilm, NoSuchStream, NotPlayable, Supervisor

GATEWAY = "gateway"
"""The role that may take leases."""
LEASES = "/leases"
BROWSERS = ("Origin", "Sec-Fetch-Site")
"""Headers that browsers send, and programs do not."""


class ControlServer(BoundedServer):
    """The port, from `start` to `stop`."""

    def __init__(
        self,
        host: str,
        port: int,
        supervisor: Supervisor,
        *,
        tls: ssl.SSLContext | None,
        trust: str,
    ) -> None:
        """`trust` is the trust domain of roles ("dc1.consul"). Raises OSError."""
        self.supervisor = supervisor
        self.trust = trust
        super().__init__(host, port, _Control, tls=tls)


class _Control(Handler):
    body_bytes_max = REQUEST_BYTES_MAX

    def route(self, method: str, path: str, body: bytes) -> None:
        """See the module."""
        refused = self._refusal()
        if refused is not None:
            self.answer(HTTPStatus.FORBIDDEN, refused)
        elif path == "/streams":
            if method in ("GET", "HEAD"):
                self.answer(HTTPStatus.OK, listing(self._supervisor.streams()))
            else:
                self._not_allowed("GET, HEAD")
        elif path == LEASES:
            if method == "POST":
                self._take(body)
            else:
                self._not_allowed("POST")
        elif path.startswith(f"{LEASES}/"):
            lease, _, verb = path.removeprefix(f"{LEASES}/").partition("/")
            if verb:
                self._steer(method, unquote(lease), verb, body)
            else:
                self._lease(method, unquote(lease))
        elif path.startswith("/streams/") and path.endswith("/keyframe"):
            self._keyframe(
                method, unquote(path.removeprefix("/streams/").removesuffix("/keyframe"))
            )
        else:
            self.answer(HTTPStatus.NOT_FOUND, "there are /streams and /leases")

    @property
    def _supervisor(self) -> Supervisor:
        return cast(ControlServer, self.server).supervisor

    def _refusal(self) -> str | None:
        if any(name in self.headers for name in BROWSERS):
            return "pages in browsers are not answered"
        if not isinstance(self.connection, ssl.SSLSocket):
            return None
        peer = peer_of(self.connection.getpeercert(), cast(ControlServer, self.server).trust)
        try:
            authorise(peer, (GATEWAY,), "this port")
        except WrongRole as problem:
            return str(problem)
        return None

    def _take(self, body: bytes) -> None:
        try:
            asked = Asked.from_json(body)
            lease, lasts_s = self._supervisor.take(asked.stream, self._host(), asked.ports)
        except BadMessage as problem:
            self.answer(HTTPStatus.BAD_REQUEST, str(problem))
        except NoSuchStream:
            self.answer(HTTPStatus.NOT_FOUND, "there is no such stream")
        except NotPlayable as problem:
            self.answer(HTTPStatus.CONFLICT, str(problem))
        except TooMany as problem:
            self.answer(HTTPStatus.SERVICE_UNAVAILABLE, str(problem))
        else:
            self.answer(HTTPStatus.CREATED, Granted(lease, lasts_s).to_json())

    def _lease(self, method: str, lease: str) -> None:
        if method not in ("PUT", "DELETE"):
            self._not_allowed("PUT, DELETE")
            return
        if method == "DELETE":
            told = b"{}" if self._supervisor.release(lease) else None
        else:
            renewed = self._supervisor.renew(lease)
            told = None if renewed is None else renewed.to_json()
        if told is None:
            self.answer(HTTPStatus.NOT_FOUND, "there is no such lease")
        else:
            self.answer(HTTPStatus.OK, told)

    def _steer(self, method: str, lease: str, verb: str, body: bytes) -> None:
        if verb not in ("start", "pause", "seek"):
            self.answer(HTTPStatus.NOT_FOUND, "a lease has start, pause and seek")
            return
        if method != "POST":
            self._not_allowed("POST")
            return
        try:
            film = self._supervisor.film(lease)
            if film is None:
                self.answer(HTTPStatus.NOT_FOUND, "there is no such lease")
            elif verb == "seek":
                self.answer(HTTPStatus.OK, film.seek(Seek.from_json(body).position_s).to_json())
            else:
                told = film.go_on() if verb == "start" else film.pause()
                self.answer(HTTPStatus.OK, told.to_json())
        except Closed:  # (it has ended in between)
            self.answer(HTTPStatus.NOT_FOUND, "there is no such lease")
        except NoFilm as problem:
            self.answer(HTTPStatus.CONFLICT, str(problem))
        except BadMessage as problem:
            self.answer(HTTPStatus.BAD_REQUEST, str(problem))

    def _keyframe(self, method: str, stream: str) -> None:
        if method != "POST":
            self._not_allowed("POST")
        elif self._supervisor.ask_keyframe(stream):
            self.answer(HTTPStatus.ACCEPTED, "it is asked for")
        else:
            self.answer(HTTPStatus.NOT_FOUND, "there is no such stream")

    def _not_allowed(self, allow: str) -> None:
        self.answer(HTTPStatus.METHOD_NOT_ALLOWED, f"allowed: {allow}", allow=allow)

    def _host(self) -> str:
        """Where the request comes from; IPv4 in IPv6 is IPv4."""
        address = ipaddress.ip_address(str(self.client_address[0]).partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return str(mapped or address)
