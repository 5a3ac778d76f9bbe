"""A TLS server for the tests of a client: right by default, wrong in any way on demand."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from callboard.testing import resolution
from callboard.testing.answers import Answer, Handler, Request
from callboard.testing.connection import Connection
from callboard.testing.credentials import CA, Condition, Credential
from callboard.testing.faults import PAUSE_S, Chosen, FaultName, choose
from callboard.testing.handshakes import Handshake
from callboard.testing.listening import Listening
from callboard.testing.scenario import LOCALHOST, Scenario

__all__ = ["Answer", "Fault", "Handshake", "Request", "TLSServer"]

LOCAL = ("localhost", "127.0.0.1", "::1")
BUNDLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
)
"""Environment variables that clients read their trusted CAs' file from."""


class Fault:
    """A fault that is being done; as a context manager it ends with the block."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        """Be right again."""
        if self._end is not None:
            self._end()
            self._end = None

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class TLSServer:
    """A running server. `start` and `stop`, or a `with` block.

    Args:
        folder: what to serve; None: each path answers 200 until `handle` or `serve` says more.
        hosts: names besides localhost, as `host` adds them.
        client_certificates: whether a client is asked for its certificate. "optional" takes
            clients that show none.
        ca: the CA of another server that still runs: clients trust both by one file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        hosts: Sequence[str] = (),
        client_certificates: Literal["ignored", "optional", "required"] = "optional",
        ca: CA | None = None,
    ) -> None:
        self._folder = folder
        self._hosts = tuple(hosts)
        self._clients: Literal["ignored", "optional", "required"] = client_certificates
        self._given_ca = ca
        self._listening: Listening | None = None
        self._started: Scenario | None = None
        self.problems: Sequence[Exception] = ()
        """What handlers raised, also after the end; that of a `with` block raises the first."""

    def __enter__(self) -> TLSServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if problem is None and self.problems:
            raise self.problems[0]

    def start(self) -> None:
        """Start; it answers on return. Raises OSError without a free port or a writable disk."""
        if self._started is not None:
            raise RuntimeError("the server is started already")
        scenario = Scenario(self._given_ca or CA(), self._clients)
        try:
            if self._folder is not None:
                scenario.site.serve(Path(self._folder), None)
            scenario.prepare()
            self._listening = Listening(
                lambda client, listening: Connection(client, listening, scenario)
            )
        except BaseException:
            self._close(scenario)
            raise
        self._started, self.problems = scenario, scenario.problems
        try:
            for name in self._hosts:
                self.host(name)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop; no thread, port or file is left on return."""
        if self._started is None or self._listening is None:
            return
        scenario, self._started = self._started, None
        scenario.ending.set()
        self._listening.stop()
        self._listening = None
        for name in scenario.hosts:
            if name != LOCALHOST:
                resolution.remove(name)
        self._close(scenario)

    @property
    def port(self) -> int:
        """The port, chosen by the system, on 127.0.0.1 and ::1."""
        return self._running.port

    @property
    def url(self) -> str:
        """`https://localhost:N`, no slash at the end; 200 with nothing configured."""
        return f"https://{LOCALHOST}:{self.port}"

    @property
    def ca(self) -> CA:
        """Whom a client must trust: `ca.path` is a PEM file."""
        return self._scenario.ca

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables that have clients trust the CA and go past proxies."""
        past = ",".join((*LOCAL, *(name for name in self._scenario.hosts if name != LOCALHOST)))
        return {**dict.fromkeys(BUNDLES, self.ca.path), "NO_PROXY": past, "no_proxy": past}

    @property
    def curl(self) -> list[str]:
        """The beginning of a curl command that trusts the CA and finds the named hosts."""
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", self.ca.path]
        for name in self._scenario.hosts:
            command += ["--resolve", f"{name}:{self.port}:{resolution.LOOPBACK}"]
        return command

    @property
    def requests(self) -> list[Request]:
        """The requests that came, oldest first."""
        return list(self._scenario.requests)

    @property
    def handshakes(self) -> list[Handshake]:
        """The handshakes that ended, oldest first; those under way are waited for."""
        self._running.settle()
        return list(self._scenario.handshakes)

    def handle(
        self, path: str, answer: Handler, *, method: str | None = None, host: str | None = None
    ) -> str:
        """Answer a path with bytes, text, an `Answer`, or what a callable makes of a `Request`.

        The newest answer of a path counts; `method` and `host` narrow it. Once there is one, paths
        without any answer 404. Returns the URL. A callable runs in a thread of the server, and
        what it raises is a 500 and comes out at the end of the test.
        """
        named = self._known(host)
        self._scenario.site.handle(path, answer, method, named)
        return f"https://{named or LOCALHOST}:{self.port}{path}"

    def serve(self, folder: str | os.PathLike[str], *, host: str | None = None) -> None:
        """Serve the files of a folder, index.html for a folder in it."""
        self._scenario.site.serve(Path(folder), self._known(host))

    def host(self, name: str) -> str:
        """Add a host, chosen by SNI, with a certificate of its own; returns its URL.

        In this process the name leads here until `stop`, whatever the system's resolver says
        (clients that resolve by other means than `socket.getaddrinfo` need to be told).
        """
        name = name.encode("idna").decode("ascii").lower()
        if name not in self._scenario.hosts:
            self._scenario.add_host(name)
            resolution.add(name)
        return f"https://{name}:{self.port}"

    def ssl_context(
        self, client: Credential | None = None, *, revocation: bool = False
    ) -> ssl.SSLContext:
        """A client's context that trusts the CA and nobody else.

        With `client` it shows that certificate; with `revocation` it reads the CA's revocation
        list as well, and so is the one that notices "revoked".
        """
        context = ssl.create_default_context(cafile=self.ca.path)
        if revocation:
            context.load_verify_locations(self.ca.crl_path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if client is not None:
            context.load_cert_chain(client.path)
        return context

    def client_certificate(self, name: str = "client", condition: Condition = "good") -> Credential:
        """A certificate for a client, by the server's CA; `condition` says what is the matter."""
        return self.ca.client(condition, name)

    def fault(self, name: FaultName, *, host: str | None = None, pause_s: float = PAUSE_S) -> Fault:
        """Do wrong from now on, or in a `with` block: `fault("expired")`.

        Connections that are open between two requests are ended, so that the next request meets
        the fault. `host` narrows faults of certificate and body to one host; `pause_s` is the time
        between two bytes of "slow body". Raises ValueError for a name that there is not.
        """
        scenario = self._scenario
        chosen = choose(name, self._known(host), pause_s)
        try:
            scenario.choose(chosen)
        except BaseException:
            scenario.forget(chosen)
            raise
        self._running.end_idle()
        return Fault(lambda: self._forget(chosen))

    def heal(self) -> None:
        """End all faults."""
        self._forget(None)

    def _forget(self, chosen: Chosen | None) -> None:
        if self._started is not None and self._listening is not None:
            self._started.forget(chosen)
            self._listening.end_idle()

    def _known(self, host: str | None) -> str | None:
        if host is None:
            return None
        name = host.encode("idna").decode("ascii").lower()
        if name not in self._scenario.hosts:
            raise ValueError(f"no host {host!r}: add it by host({host!r})")
        return name

    def _close(self, scenario: Scenario) -> None:
        if self._given_ca is None:
            scenario.ca.close()

    @property
    def _scenario(self) -> Scenario:
        if self._started is None:
            raise RuntimeError("the server is not started")
        return self._started

    @property
    def _running(self) -> Listening:
        if self._listening is None:
            raise RuntimeError("the server is not started")
        return self._listening
