"""coturn as a local process: the TURN server that the compose profile `turn` has in a container.

with TurnServer(folder, host) as server:
    gateway flags: *server.flags
    urls: server.turn ("turn:…?transport=udp"), server.turns ("turns:…?transport=tcp")
"""

from __future__ import annotations

import secrets
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.harness.capabilities import require
from tests.harness.eventually import SLOW, eventually_sync

from callboard.chassis.listeners import default_port
from callboard.pki.contexts import Material

WITHIN_S = 20.0
RELAYED = (49160, 49199)
"""Ports of allocations."""


class TurnServer:
    """`turnserver` at a loopback address of its own; a context manager. All blocks."""

    def __init__(self, folder: Path, host: str, files: Material | None = None) -> None:
        """`files` are for TURN over TLS; without them there is none."""
        require("coturn")
        self.host = host
        self.secret = secrets.token_hex(16)
        self.folder = folder
        self._files = files
        self._process: subprocess.Popen[bytes] | None = None
        port, secured = default_port("coturn", "turn"), default_port("coturn", "turns")
        self.address = (host, port)
        self.turn = f"turn:{host}:{port}?transport=udp"
        self.turns = f"turns:{host}:{secured}?transport=tcp"
        self.secret_file = folder / "turn-secret"

    def flags(self, *urls: str) -> list[str]:
        """What a gateway is told, to tell its viewers of these."""
        return [f"-turn-secret={self.secret_file}", *(f"-ice-server={url}" for url in urls)]

    @property
    def log(self) -> str:
        """What it wrote so far."""
        path = self.folder / "turnserver.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> TurnServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.secret_file.touch(0o600)
        self.secret_file.write_text(f"{self.secret}\n")
        settings = self.folder / "turnserver.conf"
        settings.touch(0o600)
        settings.write_text("".join(f"{line}\n" for line in self._settings()))
        with (self.folder / "turnserver.log").open("ab") as log:
            self._process = process = subprocess.Popen(
                ["turnserver", "-c", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        try:
            eventually_sync(lambda: process.poll() is not None or self._answers(), WITHIN_S)
            assert process.poll() is None, self.log[-2000:]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(WITHIN_S * SLOW)

    def _answers(self) -> bool:
        """Whether its port takes connections: it opens them all at once."""
        with suppress(OSError):
            socket.create_connection(self.address, 1).close()
            return True
        return False

    def _settings(self) -> list[str]:
        first, last = RELAYED
        lines = [
            f"listening-ip={self.host}",
            f"listening-port={self.address[1]}",
            f"relay-ip={self.host}",
            f"min-port={first}",
            f"max-port={last}",
            "realm=callboard",
            "fingerprint",
            "use-auth-secret",
            f"static-auth-secret={self.secret}",
            "no-cli",
            "no-multicast-peers",
            "allow-loopback-peers",  # (the gateway of a test is one)
            "no-dtls",
            "log-file=stdout",
            "verbose",
            f"userdb={self.folder / 'turndb'}",
            f"pidfile={self.folder / 'turnserver.pid'}",
        ]
        if self._files is None:
            return [*lines, "no-tls"]
        tls = f"tls-listening-port={default_port('coturn', 'turns')}"
        return [*lines, tls, f"cert={self._files.certificate}", f"pkey={self._files.key}"]
