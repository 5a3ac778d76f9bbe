"""Agents and the DNS front as local processes whose certificates the test itself hands out.

The stack of the integration suite has an issuer; here the test is the CA, so that leaf, CA and
revocation list change at the moment it wants. Clients write, read and resolve all the while.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from make.programs import CLIENT, HTTP_PORT, NAMESERVER, SERVERS, Layout
from tests.harness.asking import ask, http
from tests.harness.certified import CA, Leaf, material
from tests.harness.eventually import eventually_sync
from tests.harness.process_driver import own_network

from callboard.agent.rpc import Channel, LocalMember
from callboard.agent.rpc.wire import ENCODER, MAGIC, FrameKind, encode_frame, hello_of
from callboard.pki import certificates
from callboard.pki.contexts import Material, client_context
from callboard.pki.roles import Names, names_for

PROGRAMS = (*SERVERS, CLIENT, NAMESERVER)
DNS_PORT = 8600
STOP_S = 15.0
PAUSE_S = 0.01
"""Between two requests of one client."""


class Farm:
    """Three servers, a client agent and the front; `up`, hurt, `down`."""

    def __init__(self, directory: Path) -> None:
        """Lay it out."""
        network = own_network()
        self.addresses = {name: f"{network}.{n}" for n, name in enumerate(PROGRAMS, start=1)}
        self._layout = Layout(addresses=self.addresses, directory=directory)
        self._directory = directory
        self.more: tuple[str, ...] = ()
        """Further flags of agents."""
        self.authority = CA("first CA", constraints=None)
        self.leaves: dict[str, Leaf] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.operator: Material = material(
            directory / "operator", self.authority.leaf(names_for("operator", "")), self.authority
        )

    def identity(self, name: str) -> Path:
        """Return a program's identity directory."""
        return self._layout.data(name) / "identity"

    def names(self, name: str) -> Names:
        """Return the names that a program's certificate has."""
        role = "server" if name in SERVERS else "agent" if name == CLIENT else name
        return names_for(role, name, addresses=[ipaddress.ip_address(self.addresses[name])])

    def up(self) -> None:
        """Hand out certificates, start all, wait until all are ready."""
        for name in PROGRAMS:
            self.identity(name).mkdir(mode=0o700, parents=True)
            self.renew(name)
            self.trust(name, [self.authority])
        for name in PROGRAMS:
            self.start(name)
        for name in PROGRAMS:
            eventually_sync(lambda name=name: self.ready(name), 60.0)  # type: ignore[misc]

    def down(self) -> None:
        """Kill all."""
        for process in self.processes.values():
            process.kill()
            process.wait(STOP_S)

    def start(self, name: str) -> None:
        """Start one program."""
        environment = {
            **os.environ,
            **self._layout.environment(name),
            "IDENTITY": str(self.identity(name)),
        }
        del environment["EXCHANGE"]
        with self._layout.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*self._layout.argv(name), *(self.more if name != NAMESERVER else ())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
            )

    def ready(self, name: str) -> bool:
        """Say whether /readyz answers 200."""
        assert self.processes[name].poll() is None, self.log(name)
        try:
            with urllib.request.urlopen(self._layout.health_url(name), timeout=2.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def log(self, name: str) -> str:
        """Return what a program has written."""
        return self._layout.log(name).read_text("utf-8", "replace")

    def metric(self, name: str, line: str) -> float:
        """Return a value of /metrics by its name and labels; 0.0 when it is not there."""
        url = self._layout.health_url(name, "/metrics")
        for told in http("GET", url).body.decode().splitlines():
            if told.startswith(f"{line} "):
                return float(told.rpartition(" ")[2])
        return 0.0

    # certificates ----------------------------------------------------------------------------

    def renew(self, name: str, authority: CA | None = None) -> None:
        """Sign a new certificate for a program's one key."""
        known = self.leaves.get(name)
        signer = authority or self.authority
        leaf = signer.leaf(self.names(name), key=known.key if known else None)
        self.leaves[name] = leaf
        if known is None:
            self._put(name, "key.pem", certificates.key_pem(leaf.key))
        self._put(name, "certificate.pem", certificates.pem(leaf.certificate))

    def rekey(self, name: str) -> None:
        """Give a program, which is down, a new key and certificate."""
        del self.leaves[name]
        self.renew(name)

    def trust(self, name: str, authorities: Sequence[CA], revoked: Sequence[Leaf] = ()) -> None:
        """Have a program judge others by these CAs and their lists."""
        bundle = b"".join(certificates.pem(one.certificate) for one in authorities)
        lists = [one.list(*(revoked if one is self.authority else ())) for one in authorities]
        self._put(name, "ca.pem", bundle)
        self._put(name, "crl.pem", b"".join(certificates.pem(one) for one in lists))

    def take_in(self, *names: str) -> None:
        """Have running programs look at their files now; return once they have."""
        reloads = "callboard_certificate_reloads_total"
        for name in names or PROGRAMS:
            before = self.metric(name, reloads)
            self.processes[name].send_signal(signal.SIGHUP)
            eventually_sync(
                lambda name=name, before=before: self.metric(name, reloads) > before,  # type: ignore[misc]
                30.0,
            )

    def shown(self, name: str, port: int) -> x509.Certificate:
        """Return the certificate that a program shows to a new connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(self.operator.certificate, self.operator.key)
        address = (self.addresses[name], port)
        pem = ""
        with (
            socket.create_connection(address, 10.0) as raw,
            context.wrap_socket(raw) as secured,
        ):
            pem = ssl.DER_cert_to_PEM_cert(secured.getpeercert(True) or b"")
        return x509.load_pem_x509_certificate(pem.encode())

    def asks(self, name: str, files: Material) -> int:
        """Ask an agent's https port with a person's files; the status. Raises OSError."""
        return self.asks_with(client_context(files), name)

    def asks_with(self, context: ssl.SSLContext, name: str) -> int:
        """The same with a context."""
        url = f"https://{self.addresses[name]}:8501/v1/status/leader"
        with urllib.request.urlopen(url, timeout=10.0, context=context) as answer:
            return int(answer.status)

    def greet(self, context: ssl.SSLContext, name: str, channel: str) -> bytes:
        """Shake hands on a server's 8300 for a channel; what it answers."""
        member = LocalMember("someone", NAMESERVER, "dc1")
        hello = ENCODER.encode(hello_of(member, Channel(channel)))
        with (
            socket.create_connection((self.addresses[name], 8300), 10.0) as raw,
            context.wrap_socket(raw, server_hostname="server.dc1.consul") as secured,
        ):
            secured.sendall(MAGIC + encode_frame(FrameKind.HELLO, hello))
            answer = b""
            while data := secured.recv(4096):
                answer += data
            return answer

    def _put(self, name: str, file: str, body: bytes) -> None:
        place = self.identity(name) / file
        fresh = place.with_suffix(".new")
        fresh.touch(0o600)
        fresh.write_bytes(body)
        fresh.replace(place)


@dataclass
class Traffic:
    """What clients did, and what went wrong."""

    done: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def progressed(self) -> bool:
        """Wait until every client was answered again; say so."""
        before = dict(self.done)
        return eventually_sync(
            lambda: bool(before) and all(self.done[name] > count for name, count in before.items()),
            30.0,
        )


@contextmanager
def traffic(farm: Farm) -> Iterator[Traffic]:
    """Write and read at every agent, and resolve at the front, until the block ends."""
    seen = Traffic()
    ended = threading.Event()

    def client(name: str) -> None:
        count = 0
        while not ended.is_set():
            began = time.monotonic()
            try:
                if name == NAMESERVER:
                    _resolve(farm.addresses[name])
                else:
                    _write_and_read(farm.addresses[name], name, count)
            except Exception as problem:
                took_s = time.monotonic() - began
                seen.failures.append(f"{name} after {took_s:.3f} s: {problem!r}")
            count += 1
            seen.done[name] = count
            ended.wait(PAUSE_S)

    threads = [threading.Thread(target=client, args=(name,), daemon=True) for name in PROGRAMS]
    for thread in threads:
        thread.start()
    try:
        eventually_sync(lambda: len(seen.done) == len(PROGRAMS), 30.0)
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join(30.0)


def _write_and_read(address: str, name: str, count: int) -> None:
    url = f"http://{address}:{HTTP_PORT}/v1/kv/{name}"
    written = http("PUT", url, b"%d" % count, timeout_s=15.0)
    assert written.body.strip() == b"true", written
    read = http("GET", url + "?raw", timeout_s=15.0)
    assert read.body == b"%d" % count, read


def _resolve(address: str) -> None:
    answer = ask((address, DNS_PORT), "consul.service.consul")
    assert answer.answer, answer
