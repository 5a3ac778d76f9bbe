"""What the container of the profile `turn` starts: coturn with a secret, a certificate, one peer.

Here as a process: a real issuer beside it, and an address that is no loopback, since coturn relays
to none of those.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aioice import stun
from tests.harness.capabilities import require
from tests.harness.certified import today
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.gateway_process import GatewayProcess
from tests.harness.lone import running
from tests.harness.namespaces import NetworkNamespace
from tests.harness.sources import ROOT
from tests.harness.turn_client import TurnAccess, allocated, told

from callboard.chassis.listeners import default_port
from callboard.issuer.exchange import read_request
from callboard.pki import certificates, reading
from callboard.pki.verification import names_of

START = ROOT / "services" / "coturn" / "start.sh"
WITHIN_S = 30.0
FORBIDDEN = 403
TURN, TURNS = default_port("coturn", "turn"), default_port("coturn", "turns")
MEDIA = default_port("gateway", "media")

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True, slots=True)
class Coturn:
    """The script, running."""

    folder: Path
    address: str
    process: subprocess.Popen[bytes]

    @property
    def secret_file(self) -> Path:
        return self.folder / "access" / "secret"

    @property
    def log(self) -> str:
        return (self.folder / "coturn.log").read_text(errors="replace")

    def trusting(self) -> ssl.SSLContext:
        """A client's context that believes the issuer's CA alone."""
        return ssl.create_default_context(cafile=self.folder / "exchange" / "coturn" / "ca.pem")

    def certificate(self) -> int:
        """The serial number of what is shown at the port of TLS to who asks for localhost."""
        with (
            socket.create_connection((self.address, TURNS), WITHIN_S) as raw,
            self.trusting().wrap_socket(raw, server_hostname="localhost") as secured,
        ):
            shown = secured.getpeercert()
            assert shown is not None
            return int(str(shown["serialNumber"]), 16)


@pytest.fixture
def here() -> Iterator[str]:
    """An address of this machine, of nobody else, that is not loopback."""
    with NetworkNamespace() as apart:
        yield apart.here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the exchange, the secret and all else are."""
    for name in ("exchange/coturn", "access", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@contextmanager
def issuing(folder: Path) -> Iterator[None]:
    """An issuer that knows one program."""
    argv = ["issuer", f"-data-dir={folder / 'issuer'}", f"-exchange={folder / 'exchange'}"]
    argv += ["-program=coturn=coturn"]
    with running(argv, folder / "issuer.log", folder):
        yield


@contextmanager
def started(folder: Path, address: str) -> Iterator[Coturn]:
    """The script; it may not be ready yet."""
    require("coturn", "openssl")
    environment = {
        "PATH": os.environ["PATH"],
        "ACCESS": str(folder / "access"),
        "BIND": address,
        "EXCHANGE": str(folder / "exchange" / "coturn"),
        "GATEWAY_ADDRESS": address,
        "IDENTITY": str(folder / "identity"),
        "TMPDIR": str(folder / "scratch"),
    }
    with (folder / "coturn.log").open("ab") as log:
        process = subprocess.Popen(
            [START], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield Coturn(folder, address, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(WITHIN_S * SLOW)


def ready(coturn: Coturn) -> bool:
    assert coturn.process.poll() is None, coturn.log[-2000:]
    return coturn.certificate() > 0


async def test_viewers_are_relayed_to_the_gateway_and_to_nobody_else(
    folder: Path, here: str
) -> None:
    servers = [f"turn:{here}:{TURN}?transport=udp", f"turns:localhost:{TURNS}?transport=tcp"]
    with issuing(folder), started(folder, here) as coturn:
        eventually_sync(lambda: ready(coturn), WITHIN_S)
        flags = [f"-turn-secret={coturn.secret_file}", *(f"-ice-server={url}" for url in servers)]
        flags += [f"-media-bind={here}", f"-media-port={MEDIA}", "-pattern"]
        with GatewayProcess(folder / "gateway", *flags) as gateway:
            plain, secured = await told(f"{gateway.url}/whep/test-pattern")
            for access in (plain, secured):
                await check_peers(coturn, access, here)
        secret = coturn.secret_file.read_text()
        assert secret not in coturn.log
    assert len(secret) == 64


async def check_peers(coturn: Coturn, access: TurnAccess, here: str) -> None:
    """The gateway answers by the relay; others are refused before anything is sent to them."""
    place = TurnAccess(
        access.scheme, here, access.port, access.transport, access.username, access.credential
    )
    trusting = coturn.trusting()
    trusting.check_hostname = False  # (asked for by address; `certificate` asks by name)
    async with allocated(place, trusting) as client:
        assert await client.binding((here, MEDIA)) == client.relayed
        for other in ("127.0.0.1", "192.0.2.1", "10.0.0.1", here.rpartition(".")[0] + ".254"):
            with pytest.raises(stun.TransactionFailed) as refused:
                await client.bind((other, MEDIA))
            assert refused.value.response.attributes["ERROR-CODE"][0] == FORBIDDEN, other


def renew(folder: Path) -> None:
    """What an issuer does when two thirds of a certificate's life have passed."""
    exchange, authority = folder / "exchange" / "coturn", folder / "issuer" / "1"
    held = reading.read_certificate(exchange / "certificate.pem")
    made = certificates.leaf(
        read_request((exchange / "request.pem").read_bytes()).key,
        names_of(held),
        reading.read_certificate(authority / "ca.pem"),
        reading.read_key(authority / "ca-key.pem"),
        today(),
        common_name="coturn",
    )
    draft = exchange / "certificate.new"
    draft.write_bytes(certificates.pem(made))
    draft.replace(exchange / "certificate.pem")


def test_a_new_certificate_is_shown_without_a_restart(folder: Path, here: str) -> None:
    with started(folder, here) as coturn:
        with issuing(folder):
            eventually_sync(lambda: ready(coturn), WITHIN_S)
        before = coturn.certificate()
        renew(folder)  # (a live issuer would put its own back)
        changed: bool = eventually_sync(lambda: coturn.certificate() != before, WITHIN_S)
        assert changed
        assert coturn.process.poll() is None


def test_a_restart_keeps_secret_and_key_and_needs_no_issuer(folder: Path, here: str) -> None:
    with issuing(folder), started(folder, here) as coturn:
        eventually_sync(lambda: ready(coturn), WITHIN_S)
        secret, certificate = coturn.secret_file.read_bytes(), coturn.certificate()
        coturn.process.terminate()
        assert coturn.process.wait(WITHIN_S * SLOW) in (0, 128 + signal.SIGTERM)
    for path in (coturn.secret_file, folder / "identity" / "key.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with started(folder, here) as coturn:
        eventually_sync(lambda: ready(coturn), WITHIN_S)
        assert (coturn.secret_file.read_bytes(), coturn.certificate()) == (secret, certificate)
