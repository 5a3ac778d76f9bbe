"""Servers as local processes, ours and peers: ports, a certificate, what they cost. Linux.

Processor time and memory are those of a server's process and its children, from /proc.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

from callboard.files import create
from callboard.pki import certificates
from callboard.pki.roles import LOOPBACK, Names

READY_TIMEOUT_S = 20.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def free_ports(count: int = 2) -> tuple[int, ...]:
    """So many ports that are free now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = tuple(int(probe.getsockname()[1]) for probe in probes)
    for probe in probes:
        probe.close()
    return ports


class Certified(NamedTuple):
    """Files of a server for localhost."""

    certificate: Path
    key: Path
    authority: Path


def certify(folder: Path) -> Certified:
    """A certificate for localhost, its key, and who issued it, in `folder`."""
    now, issuer_key, key = datetime.now(UTC), certificates.new_key(), certificates.new_key()
    issuer = certificates.authority(issuer_key, "benchmark", now)
    names = Names(("localhost",), LOOPBACK)
    leaf = certificates.leaf(
        key.public_key(), names, issuer, issuer_key, now, common_name="benchmark"
    )
    made = Certified(folder / "cert.crt", folder / "cert.key", folder / "ca.crt")
    bodies = certificates.pem(leaf), certificates.key_pem(key), certificates.pem(issuer)
    for place, body in zip(made, bodies, strict=True):
        with create(place) as file:
            file.write(body)
    return made


class Server:
    """One server process (and its children); `with` starts and ends it."""

    def __init__(self, name: str, command: Sequence[str], port: int, log: Path) -> None:
        self.name = name
        self.port = port
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill(signal.SIGTERM)

    def start(self) -> None:
        """Start it (again, with its data), and wait until it listens."""
        environment = {**os.environ}
        # What is installed has its bytecode: no start compiles it.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self._process.kill()
        last = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
        raise TimeoutError(f"{self.name} does not listen:\n{last}")

    def kill(self, how: signal.Signals) -> None:
        """End it and wait for it."""
        assert self._process is not None
        self._process.send_signal(how)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def pids(self) -> list[int]:
        """The process and its children."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_s(self) -> float:
        """Processor seconds, user and system, so far."""
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS_PER_S

    def resident_bytes(self) -> int:
        """Resident memory (without the kernel's buffers)."""
        pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self.pids())
        return sum(map(int, pages)) * PAGE_BYTES

    def sockets(self) -> int:
        """How many sockets it has open."""
        count = 0
        for pid in self.pids():
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    count += str(entry.readlink()).startswith("socket:")
                except FileNotFoundError:
                    continue
        return count
