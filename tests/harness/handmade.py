"""Certificates as `callboard tls` makes them, in a directory: for judges that are not ours."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

from callboard.pki.contexts import Material
from callboard.tls import command

SERVER = "server.dc1.consul"


@dataclass(frozen=True, slots=True)
class Made:
    """A CA with a server's and a client's certificate in one directory."""

    directory: Path
    ca: Path
    server: Material
    client: Material


def make(directory: Path, flags: str = "") -> Made:
    """Make a CA (with `flags`) and certificates by the command line, and the revocation list."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(directory), contextlib.redirect_stdout(io.StringIO()):
        for line in (
            f"ca create {flags}",
            "cert create -server -node agent-1",
            "cert create -service hub -node hub-1",
            "cert create -client",
            "revoke dc1-client-consul-0.pem",
        ):
            assert command.run(line.split(), {}) == 0, line
    ca, revoked = directory / "consul-agent-ca.pem", directory / "consul-agent-ca-crl.pem"

    def files(name: str) -> Material:
        return Material(directory / f"{name}.pem", directory / f"{name}-key.pem", ca, revoked)

    return Made(directory, ca, files("dc1-server-consul-0"), files("dc1-hub-consul-0"))
