"""What a test server does at this moment, and what it has seen."""

from __future__ import annotations

import ssl
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from callboard.pki.contexts import Material, server_context
from callboard.testing.answers import Request, Site
from callboard.testing.credentials import CA, Condition, Credential
from callboard.testing.faults import Behaviour, Chosen, Clients, behaviour
from callboard.testing.handshakes import Handshake

RECORDS_MAX = 10_000
"""Requests, and handshakes, that are kept; the oldest go first."""
LOCALHOST = "localhost"


class NamedSocket(ssl.SSLSocket):
    """A connection that knows which host its client named."""

    server_name = ""


class Scenario:
    """Shared by the test and the threads of the server."""

    def __init__(self, ca: CA, clients: Clients) -> None:
        self.ca = ca
        self.site = Site()
        self.handshakes: deque[Handshake] = deque(maxlen=RECORDS_MAX)
        self.requests: deque[Request] = deque(maxlen=RECORDS_MAX)
        self.problems: deque[Exception] = deque(maxlen=RECORDS_MAX)
        """What handlers raised."""
        self.hosts: tuple[str, ...] = (LOCALHOST,)
        self.ending = threading.Event()
        self._base = Behaviour(clients=clients)
        self._chosen: tuple[Chosen, ...] = ()
        self._lock = threading.Lock()
        self._credentials: dict[tuple[str, Condition], Credential] = {}
        self._contexts: dict[tuple[str, Condition, Clients, str], ssl.SSLContext] = {}

    def add_host(self, name: str) -> None:
        """Answer one more name, with a certificate of its own."""
        with self._lock:
            if name not in self.hosts:
                self.hosts = (*self.hosts, name)
        self.prepare()

    def choose(self, fault: Chosen) -> None:
        """Begin to do a fault."""
        with self._lock:
            self._chosen = (*self._chosen, fault)
        self.prepare()

    def forget(self, fault: Chosen | None) -> None:
        """End a fault; None: all of them."""
        with self._lock:
            self._chosen = tuple(
                one for one in self._chosen if fault is not None and one is not fault
            )

    def behaviour(self, host: str = LOCALHOST) -> Behaviour:
        """What is done for a host now."""
        return behaviour(self._base, self._chosen, host)

    def prepare(self) -> None:
        """Make what the next handshake needs, so that whatever fails does so in the test."""
        for host in self.hosts:
            self.context(host)

    def context(self, host: str = LOCALHOST) -> ssl.SSLContext:
        """The context for a host, as things stand. Raises OSError for a full disk."""
        now = self.behaviour(host)
        key = (host, now.certificate, now.clients, now.newest)
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._make(host, now)
            return self._contexts[key]

    def _make(self, host: str, now: Behaviour) -> ssl.SSLContext:
        kind = (host, now.certificate)
        if kind not in self._credentials:
            self._credentials[kind] = self.ca.server(now.certificate, (host,))
        path = Path(self._credentials[kind].path)
        context = server_context(self._material(path, now.clients), client=_asks(now.clients))
        context.sslsocket_class = NamedSocket
        context.sni_callback = self._name_host()
        if now.newest == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _material(self, path: Path, clients: Clients) -> Material:
        if clients == "ignored":
            return Material(path, path)
        if clients == "of a wrong CA":
            return Material(path, path, Path(self.ca.other_path))
        return Material(path, path, Path(self.ca.path), Path(self.ca.crl_path))

    def _name_host(self) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
        def chosen(socket: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            # what OpenSSL hands over is the SSLSocket itself where there is one
            if isinstance(socket, NamedSocket) and name:
                socket.server_name = name.lower()
                if socket.server_name in self.hosts:
                    socket.context = self.context(socket.server_name)

        return chosen


def _asks(clients: Clients) -> ssl.VerifyMode:
    if clients == "ignored":
        return ssl.CERT_NONE
    required = clients in ("required", "of a wrong CA")
    return ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
