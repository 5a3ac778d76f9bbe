"""Requests over http.client, to the first of several agents that answers.

Blocking, standard library only: a `callboard` verb must be done before a person notices it began.
A connection is kept and used again. An agent that cannot be reached is left for the next; a request
that was sent is sent again elsewhere only when it reads (GET): a write may have been done.
"""

from __future__ import annotations

import base64
import http.client
import select
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from callboard.client.addresses import Address
from callboard.client.errors import ApiError, Unreachable
from callboard.pki.reasons import explain

CONNECT_TIMEOUT_S = 3.0
"""To one address, when there are others to try; half of what a person waits."""

REQUEST_TIMEOUT_S = 60.0
"""For an answer; blocking queries add their wait."""

BODY_BYTES_MAX = 1 << 30
"""Longest answer taken."""

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How https addresses are verified, and what we show them."""

    ca_file: str = ""
    ca_path: str = ""
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """A context for clients. Raises OSError whose text names the file it cannot use."""
        with _naming(self.ca_file or self.ca_path):
            context = ssl.create_default_context(
                cafile=self.ca_file or None, capath=self.ca_path or None
            )
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate_file:
            with _naming(", ".join(filter(None, (self.certificate_file, self.key_file)))):
                context.load_cert_chain(self.certificate_file, self.key_file or None)
        return context


@contextmanager
def _naming(files: str) -> Iterator[None]:
    """OpenSSL's errors do not say which file."""
    try:
        yield
    except OSError as problem:
        text = problem.strerror
        if isinstance(problem, ssl.SSLError):
            text = explain(problem) if problem.reason else "not readable as PEM"
        raise OSError(problem.errno, f"{files}: {text}") from problem


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    address: Address = field(repr=False)

    @property
    def text(self) -> str:
        """The body as text, for errors."""
        return self.body.decode("utf-8", "replace").strip()

    def expect(self, *statuses: int) -> Response:
        """Itself, when its status is one of these (200 when none is named); else ApiError."""
        if self.status not in (statuses or (200,)):
            raise ApiError(self.status, self.text)
        return self


class Transport:
    """A connection to one agent out of several; not for several threads at once."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        token: str = "",
        basic_auth: str = "",
        tls: TlsOptions | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """`basic_auth` is "user:password"."""
        self._addresses = tuple(addresses)
        self._tls = tls or TlsOptions()
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._current = 0
        self._headers = {"Accept": "application/json", "User-Agent": "callboard"}
        if token:
            self._headers["X-Consul-Token"] = token
        if basic_auth:
            word = base64.b64encode(basic_auth.encode()).decode()
            self._headers["Authorization"] = f"Basic {word}"

    def request(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: bytes | None = None,
        *,
        extra_timeout_s: float = 0.0,
    ) -> Response:
        """Send one request; `path` is already escaped. Raises Unreachable.

        A read that an agent fails (500: no leader, not loaded yet) is asked of the next one too;
        when all fail, the last answer counts.
        """
        target = path + ("?" + urlencode(query) if query else "")
        failed: Response | None = None
        last: Unreachable | None = None
        for number in self._turns():
            try:
                response = self._try(number, method, target, body, extra_timeout_s)
            except Unreachable as problem:
                last = problem
                self.close()
                if problem.sent and method != "GET":
                    raise
                continue
            if method != "GET" or response.status < 500:
                return response
            failed = response
        if failed is not None:
            return failed
        assert last is not None
        raise last

    def close(self) -> None:
        """Close the connection that is kept, if any."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _turns(self) -> Iterator[int]:
        """Numbers of the addresses to try, the one that answered last before the others."""
        count = len(self._addresses)
        first = self._current
        yield from ((first + step) % count for step in range(count))

    def _try(
        self, number: int, method: str, target: str, body: bytes | None, extra_timeout_s: float
    ) -> Response:
        address = self._addresses[number]
        what = f'{method.capitalize()} "{address.url}{target}"'
        connection = self._connect(number, what)
        sent = False
        try:
            assert connection.sock is not None
            connection.sock.settimeout(self._timeout_s + extra_timeout_s)
            connection.request(method, address.prefix + target, body, self._headers)
            sent = True
            answer = connection.getresponse()
            payload = answer.read(BODY_BYTES_MAX)
            headers = {name.lower(): value for name, value in answer.getheaders()}
            if answer.will_close:
                self.close()
            return Response(answer.status, headers, payload, address)
        except TimeoutError as problem:
            text = f"{what}: context deadline exceeded (Client.Timeout exceeded)"
            raise Unreachable(text, sent=sent) from problem
        except (OSError, http.client.HTTPException) as problem:
            reason = "EOF" if isinstance(problem, http.client.BadStatusLine) else _words(problem)
            raise Unreachable(f"{what}: {reason}", sent=sent) from problem

    def _connect(self, number: int, what: str) -> http.client.HTTPConnection:
        """The kept connection if it is still good, else a new one."""
        kept = self._connection
        if kept is not None and number == self._current and _is_quiet(kept.sock):
            return kept
        self.close()
        address = self._addresses[number]
        try:
            connection = self._new_connection(address)
        except OSError as problem:
            raise Unreachable(f"{what}: tls: {problem.strerror}") from problem
        connection.timeout = CONNECT_TIMEOUT_S if len(self._addresses) > 1 else self._timeout_s
        try:
            connection.connect()
        except OSError as problem:
            connection.close()
            raise Unreachable(f"{what}: {_dial_text(address, problem)}") from problem
        self._connection, self._current = connection, number
        return connection

    def _new_connection(self, address: Address) -> http.client.HTTPConnection:
        if address.scheme == "unix":
            return _UnixConnection(address.host)
        if address.scheme == "http":
            return http.client.HTTPConnection(address.host, address.port)
        return _TlsConnection(address, self._tls)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("127.0.0.1")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _TlsConnection(http.client.HTTPConnection):
    """HTTPSConnection with a server name of one's own."""

    def __init__(self, address: Address, tls: TlsOptions) -> None:
        super().__init__(address.host, address.port)
        self._context = tls.context()
        self._name = tls.server_name or address.host

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)


def _is_quiet(sock: socket.socket | None) -> bool:
    """Whether a kept connection is open and has nothing to say (its end would be readable)."""
    if sock is None:
        return False
    return not select.select([sock], [], [], 0)[0]


def _words(problem: Exception) -> str:
    return f"tls: {explain(problem)}" if isinstance(problem, ssl.SSLError) else str(problem)


def _dial_text(address: Address, problem: OSError) -> str:
    """As Go's net.Dial says it: `dial tcp 127.0.0.1:8500: connect: connection refused`."""
    if address.scheme == "unix":
        return f"dial unix {address.host}: connect: {(problem.strerror or str(problem)).lower()}"
    where = f"dial tcp {address.authority}"
    if isinstance(problem, socket.gaierror):
        return f"dial tcp: lookup {address.host}: no such host"
    if isinstance(problem, TimeoutError):
        return f"{where}: i/o timeout"
    if isinstance(problem, ssl.SSLError):
        return f"tls: {explain(problem)}"
    return f"{where}: connect: {(problem.strerror or str(problem)).lower()}"
