"""Connections by TLS to the programs of a stack, with the certificate of one of them.

Also a program: `python -m tests.harness.tls_lines IDENTITY ADDRESSES` visits every port on new
connections, once for each line of its input, on a clock that a test can move (OpenSSL judges
certificates by the clock of the process).
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
from make.programs import FILESERVER, HTTPS_PORT, NAMESERVER, ROOT
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.faults import clock_environment

from callboard.pki.contexts import Material, client_context

TIMEOUT_S = 15.0 * SLOW
SECURE_PORT = 8501
DOT_PORT = 8853
QUESTION = "consul.service.consul"


def context_of(identity: Path) -> ssl.SSLContext:
    """Return a context with a program's certificate, as strict as programs are to each other."""
    return client_context(
        Material(
            identity / "certificate.pem",
            identity / "key.pem",
            identity / "ca.pem",
            identity / "crl.pem",
        )
    )


@dataclass
class Line:
    """One TLS connection that stands. `ask` raises OSError or AssertionError when it fails."""

    secured: ssl.SSLSocket
    asked: int = field(default=0, init=False)

    @classmethod
    def open(cls, context: ssl.SSLContext, address: str, port: int, name: str) -> Line:
        """Connect to a program by its name. Raises OSError."""
        raw = socket.create_connection((address, port), TIMEOUT_S)
        try:
            secured = context.wrap_socket(raw, server_hostname=name)
        except BaseException:
            raw.close()
            raise
        return (DnsLine if port == DOT_PORT else Line)(secured)

    def ask(self, path: str = "/v1/status/leader", body: bytes | None = None) -> bytes:
        """Make a request."""
        self.asked += 1
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self.secured
        connection.auto_open = False
        connection.request("GET" if body is None else "PUT", path, body)
        answer = connection.getresponse()
        read = answer.read()
        connection.sock = None
        assert answer.status == 200, f"{path}: {answer.status} {read[:200]!r}"
        return read

    def serial(self) -> str:
        """Return the serial number that the other side's certificate has."""
        found = self.secured.getpeercert()
        assert found is not None
        return str(found["serialNumber"])

    def close(self) -> None:
        """Hang up."""
        self.secured.close()


class DnsLine(Line):
    """DNS over TLS."""

    def ask(self, path: str = "", body: bytes | None = None) -> bytes:
        """Ask for the servers of the catalog."""
        self.asked += 1
        question = dns.message.make_query(QUESTION, "A").to_wire()
        self.secured.sendall(len(question).to_bytes(2, "big") + question)
        answer = self._read(int.from_bytes(self._read(2), "big"))
        assert dns.message.from_wire(answer).answer, "no address"
        return answer

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.secured.recv(count - len(data))
            assert more, "hung up"
            data += more
        return data


def places(addresses: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return the TLS ports that a client visits: programs and ports."""
    agents = [name for name in addresses if name.startswith("agent-")]
    return [
        *((name, SECURE_PORT) for name in agents),
        (NAMESERVER, DOT_PORT),
        (FILESERVER, HTTPS_PORT),
    ]


def visit(identity: Path, addresses: Mapping[str, str], name: str, port: int) -> None:
    """Ask one program something on a new connection; a server also writes. Raises as `Line`."""
    line = Line.open(context_of(identity), addresses[name], port, name)
    try:
        assert line.ask() != b'""', "no leader"
        if port == SECURE_PORT:
            assert line.ask(f"/v1/kv/visited/{name}", b"%d" % time.time()).strip() == b"true"
    finally:
        line.close()


class Visitor:
    """The program below, running, its clock moved by the test."""

    def __init__(self, identity: Path, addresses: Mapping[str, str], offset_file: Path) -> None:
        """Start it."""
        command = [sys.executable, "-m", "tests.harness.tls_lines", str(identity)]
        self._process = subprocess.Popen(
            [*command, json.dumps(dict(addresses))],
            env={**os.environ, **clock_environment(offset_file), "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def visit(self, moment: float) -> list[str]:
        """Visit every port once its clock shows `moment`; what failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{moment}\n")
        self._process.stdin.flush()
        found: list[str] = json.loads(self._process.stdout.readline())
        return found

    def end(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def visitor(identity: Path, addresses: Mapping[str, str], offset_file: Path) -> Iterator[Visitor]:
    """Run a Visitor until the block ends."""
    made = Visitor(identity, addresses, offset_file)
    try:
        yield made
    finally:
        made.end()


def _main(identity: Path, addresses: Mapping[str, str]) -> None:
    for line in sys.stdin:
        moment = float(line)
        eventually_sync(lambda moment=moment: time.time() >= moment, 30.0)  # type: ignore[misc]
        failures = []
        for name, port in places(addresses):
            try:
                visit(identity, addresses, name, port)
            except (OSError, AssertionError, http.client.HTTPException) as problem:
                failures.append(f"{name}:{port} {type(problem).__name__}: {problem}")
        print(json.dumps(failures), flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _main(Path(sys.argv[1]), json.loads(sys.argv[2]))
