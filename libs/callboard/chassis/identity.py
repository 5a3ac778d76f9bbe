"""A program's identity: its key, its certificate, whom it trusts; by files, or by the issuer.

The key is made here, once, and never leaves the identity directory. Where an exchange directory is
given too (shared with the issuer and nobody else), a request goes out by it and the certificate,
the CA and the revocation list come back; a `Keeper` takes in what the issuer renews. Whoever starts
after its certificate has ended gets a new one by the same way.

    identity directory (mode 0700)   exchange directory
    key.pem          0600, once      request.pem      PKCS #10, ours
    certificate.pem                  certificate.pem  the issuer's answer
    ca.pem                           ca.pem           CA certificates, two during a change
    crl.pem                          crl.pem          their revocation lists

Imports nothing but the standard library until a key or certificate is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from callboard.chassis.identity_settings import IdentitySettings
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.pki.contexts import Material, server_context
from callboard.pki.live import POLL_S, LiveIdentity
from callboard.pki.roles import Names

if TYPE_CHECKING:
    from cryptography import x509

    from callboard.chassis.metrics import Metrics
    from callboard.pki.certificates import Key

log = logging.getLogger(__name__)

KEY = "key.pem"
CERTIFICATE = "certificate.pem"
AUTHORITIES = "ca.pem"
REVOKED = "crl.pem"
REQUEST = "request.pem"
FROM_ISSUER = (AUTHORITIES, REVOKED, CERTIFICATE)
"""In the order they are taken: whoever reads a new certificate has its CA by then."""

FILE_BYTES_MAX = 1 << 20
"""Of one file of an exchange: a CA bundle and a revocation list of thousands fit."""

WAIT_S = 60.0
"""For a first certificate; then the program leaves in words, and whoever runs it starts it anew."""

LOOK_S = 0.2
"""Between two looks at the exchange while there is no certificate."""

TELL_S = 10.0
"""Between two lines that say what is being waited for."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def material(settings: IdentitySettings) -> Material:
    """The files of an identity that is given."""
    if settings.certificate is not None and settings.key is not None:
        return Material(settings.certificate, settings.key, settings.authorities, settings.revoked)
    directory = settings.directory
    assert directory is not None, "no identity is given"
    revoked = directory / REVOKED
    return Material(
        directory / CERTIFICATE,
        directory / KEY,
        directory / AUTHORITIES,
        revoked if settings.exchange is not None or revoked.exists() else None,
    )


@dataclass(slots=True)
class Exchange:
    """The program's side of an exchange with the issuer."""

    identity: Path
    exchange: Path
    node: str
    addresses: tuple[Address, ...] = ()
    _taken: dict[str, bytes] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make directory and key if they are not there, and put a request out that fits them.

        Raises StartRefused for a key that cannot be read: it is never made anew by itself.
        """
        from callboard.files import replace  # noqa: PLC0415 - see the module
        from callboard.pki import certificates  # noqa: PLC0415 - see the module

        self.identity.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.exchange.mkdir(mode=0o750, parents=True, exist_ok=True)
        key = self._key()
        names = Names(addresses=self.addresses)
        if not self._asked(key):
            made = certificates.pem(certificates.request(key, self.node, names))
            with replace(self.exchange / REQUEST) as file:
                file.write(made)

    def take(self) -> bool:
        """Copy what the issuer has put out, if it fits our key; whether anything was new."""
        from callboard.files import replace  # noqa: PLC0415 - see the module

        offered = {name: _read(self.exchange / name) for name in FROM_ISSUER}
        if all(body == self._taken.get(name) for name, body in offered.items()):
            return False
        certificate = offered[CERTIFICATE]
        if certificate is None or offered[AUTHORITIES] is None or not self._fits(certificate):
            return False
        new = False
        for name, body in offered.items():
            if body is None or body == self._taken.get(name):
                continue
            if body != _read(self.identity / name):
                with replace(self.identity / name) as file:
                    file.write(body)
                new = True
            self._taken[name] = body
        return new

    def usable(self, now: datetime) -> bool:
        """Whether the certificate that we hold is ours and in date."""
        held = _certificate(_read(self.identity / CERTIFICATE))
        return (
            held is not None
            and held.not_valid_before_utc <= now < held.not_valid_after_utc
            and self._fits_key(held)
            and (self.identity / AUTHORITIES).exists()
            and (self.identity / REVOKED).exists()
        )

    def _key(self) -> Key:
        from callboard.files import create  # noqa: PLC0415 - see the module
        from callboard.pki import certificates, reading  # noqa: PLC0415 - see the module

        path = self.identity / KEY
        try:
            with create(path) as file:
                file.write(certificates.key_pem(certificates.new_key()))
            log.info("made a private key: %s", path)
        except FileExistsError:
            pass
        try:
            return reading.read_key(path)
        except reading.Unreadable as problem:
            raise StartRefused(str(problem)) from problem

    def _asked(self, key: Key) -> bool:
        """Whether the request that lies there is ours, for the addresses we have."""
        from cryptography import x509  # noqa: PLC0415 - see the module

        try:
            lying = x509.load_pem_x509_csr(_read(self.exchange / REQUEST) or b"")
            found = lying.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            addresses = tuple(found.value.get_values_for_type(x509.IPAddress))
        except x509.ExtensionNotFound:
            addresses = ()
        except ValueError:
            return False
        return lying.public_key() == key.public_key() and addresses == self.addresses

    def _fits(self, body: bytes) -> bool:
        held = _certificate(body)
        return held is not None and self._fits_key(held)

    def _fits_key(self, held: x509.Certificate) -> bool:
        from callboard.pki import reading  # noqa: PLC0415 - see the module

        try:
            return held.public_key() == reading.read_key(self.identity / KEY).public_key()
        except reading.Unreadable:
            return False


async def obtain(exchange: Exchange, *, wait_s: float = WAIT_S, look_s: float = LOOK_S) -> None:
    """Wait for a certificate in date; at once where there is one. Raises StartRefused."""
    try:
        exchange.prepare()
    except OSError as problem:
        raise StartRefused(f"identity: {problem}") from problem
    began = told = time.monotonic()
    while True:
        exchange.take()
        if exchange.usable(datetime.now(UTC)):
            return
        now = time.monotonic()
        if now - began > wait_s:
            raise StartRefused(
                f"no certificate came by {exchange.exchange} in {wait_s:.0f} s: does the issuer "
                "run, and does it know this program?"
            )
        if now - told >= TELL_S:
            told = now
            log.warning(
                "waiting for the issuer's certificate", extra={"by": str(exchange.exchange)}
            )
        await asyncio.sleep(look_s)


class Keeper:
    """Follows a program's identity for its whole life: exchange, files, days left."""

    def __init__(self, live: LiveIdentity, exchange: Exchange | None, metrics: Metrics) -> None:
        self.live = live
        self._exchange = exchange
        metrics.read_gauge(
            "callboard_certificate_days_left",
            "Until this program's certificate ends; negative afterwards.",
            self.days_left,
        )
        metrics.read_counter(
            "callboard_certificate_reloads_total",
            "How often certificate, CA or revocation list were taken anew.",
            lambda: live.generation,
        )

    def days_left(self) -> float:
        """Days until the certificate ends; not a number when it cannot be read."""
        held = _certificate(_read(self.live.material.certificate))
        if held is None:
            return float("nan")
        return (held.not_valid_after_utc - datetime.now(UTC)).total_seconds() / 86400

    def look(self) -> None:
        """Take in what is new. Never raises: the log tells."""
        if self._exchange is not None:
            try:
                self._exchange.take()
            except OSError as problem:
                log.warning("what the issuer gave could not be taken: %s", problem)
        self.live.look()

    async def follow(self, period_s: float = POLL_S) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            self.look()


async def open_identity(
    settings: IdentitySettings,
    node: str,
    life: Lifecycle,
    metrics: Metrics,
    addresses: Iterable[str] = (),
) -> LiveIdentity | None:
    """A program's identity, followed until its end; None when it has none.

    `addresses` are asked for as SANs, where the issuer allows them. Raises StartRefused.
    """
    if not settings.given:
        return None
    exchange = None
    if settings.exchange is not None and settings.directory is not None:
        asked = tuple(ipaddress.ip_address(address) for address in addresses)
        exchange = Exchange(settings.directory, settings.exchange, node, asked)
        await obtain(exchange)
    try:
        live = LiveIdentity(material(settings))
        server_context(live.material, client=ssl.CERT_REQUIRED)
    except (OSError, ValueError) as problem:
        raise StartRefused(f"identity: {problem}") from problem
    keeper = Keeper(live, exchange, metrics)
    life.on_reload(keeper.look)
    life.own(keeper.follow(), "identity")
    return live


def _read(path: Path) -> bytes | None:
    """A file's bytes; None when it is not there or cannot be read, cut where nobody needs more."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError:
        return None


def _certificate(body: bytes | None) -> x509.Certificate | None:
    """The first certificate of a PEM; None for anything else."""
    from cryptography import x509  # noqa: PLC0415 - see the module

    try:
        return x509.load_pem_x509_certificate(body) if body else None
    except ValueError:
        return None
