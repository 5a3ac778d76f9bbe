"""A program's identity: its key, its certificate, whom it trusts; by files, or by the issuer.

The key is made here, once, and never leaves the identity directory. Where an exchange directory is
given too (shared with the issuer and nobody else), a request goes out by it and the certificate,
the CA and the revocation list come back; a `Keeper` takes in what the issuer renews. Whoever starts
after its certificate has ended gets a new one by the same way. Without an issuer a program goes on
with what it has; only its very first certificate cannot be done without.

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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from callboard.chassis.identity_settings import IdentitySettings
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.chassis.logs import RateLimited
from callboard.pki.contexts import Material, server_context
from callboard.pki.live import POLL_S, LiveIdentity
from callboard.pki.reasons import explain_files
from callboard.pki.roles import Address, Names

if TYPE_CHECKING:
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

WAIT_S = 60.0
"""For a first certificate; then the program leaves in words, and whoever runs it starts it anew."""

HELD_WAIT_S = 15.0
"""For a newer one than the one held, which has ended; then the program starts with that: what needs
no certificate (DNS, HTTP on loopback) works, and the rest once the issuer is back."""

WARN_CERTIFICATE = 1 / 6
WARN_LIST = 1 / 4
"""Of their lives: with less left, somebody should have renewed them long ago."""

LOOK_S = 0.2
"""Between two looks at the exchange while there is no certificate."""

TELL_S = 10.0
"""Between two lines that say what is being waited for."""

FOREVER = datetime.max.replace(tzinfo=UTC)

Term = tuple[datetime, datetime]
"""From when to when something is valid."""


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
    problem: str = ""
    """Why what lies in the exchange is not taken."""

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
        """Copy what the issuer has put out, once it fits our key and itself; whether anything was
        new. Raises OSError."""
        from callboard.files import replace  # noqa: PLC0415 - see the module

        offered, held = _files(self.exchange), _files(self.identity)
        self.problem = self._misfit(offered) if offered != held else ""
        if self.problem or offered == held:
            return False
        for name, body in offered.items():
            if body != held[name]:
                with replace(self.identity / name) as file:
                    file.write(body)
        return True

    def usable(self, now: datetime) -> bool:
        """Whether certificate and revocation list that we hold are ours, whole and in date."""
        held = _files(self.identity)
        if self._misfit(held):
            return False
        terms = certificate_term(held[CERTIFICATE]), lists_term(held[REVOKED])
        return all(begins <= now < ends for begins, ends in terms)

    def whole(self) -> bool:
        """Whether what we hold is ours and fits together, in date or not."""
        return not self._misfit(_files(self.identity))

    def ask_again(self) -> None:
        """Put the request out anew if it is gone. Raises StartRefused, OSError."""
        if not (self.exchange / REQUEST).exists():
            self.prepare()

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
        from callboard.pki import reading  # noqa: PLC0415 - see the module
        from callboard.pki.verification import names_of  # noqa: PLC0415 - see the module

        try:
            lying = reading.request_of(_read(self.exchange / REQUEST), REQUEST)
        except reading.Unreadable:
            return False
        asked = names_of(lying).addresses
        return lying.public_key() == key.public_key() and asked == self.addresses

    def _misfit(self, files: Mapping[str, bytes]) -> str:
        """Why these files are no whole: our key, its certificate, the CA of that, a list of that
        CA. Nothing, when they are."""
        from callboard.pki import reading  # noqa: PLC0415 - see the module
        from callboard.pki.verification import issued_by  # noqa: PLC0415 - see the module

        if not all(files.values()):
            return f"{', '.join(name for name, body in files.items() if not body)}: not there"
        try:
            held = reading.certificates_of(files[CERTIFICATE], CERTIFICATE)[0]
            authorities = reading.certificates_of(files[AUTHORITIES], AUTHORITIES)
            lists = reading.lists_of(files[REVOKED], REVOKED)
            key = reading.read_key(self.identity / KEY)
        except reading.Unreadable as problem:
            return str(problem)
        if held.public_key() != key.public_key():
            return f"{CERTIFICATE} is for another key"
        issuers = {one.subject for one in authorities if issued_by(held, one)}
        if not issuers:
            return f"{CERTIFICATE} is from none of the CAs in {AUTHORITIES}"
        if not any(one.issuer in issuers for one in lists):
            return f"{REVOKED} has no list of the CA of {CERTIFICATE}"
        return ""


async def obtain(
    exchange: Exchange,
    *,
    wait_s: float = WAIT_S,
    held_wait_s: float = HELD_WAIT_S,
    look_s: float = LOOK_S,
) -> None:
    """Wait for a certificate in date; at once where there is one.

    Raises StartRefused without any certificate; one that has ended is better than that.
    """
    try:
        exchange.prepare()
    except OSError as problem:
        if not exchange.whole():
            raise StartRefused(f"identity: {problem}") from problem
        log.warning("no certificate can be asked for: %s", problem)
    began = told = time.monotonic()
    while True:
        try:
            exchange.take()
        except OSError as problem:
            exchange.problem = str(problem)
        if exchange.usable(datetime.now(UTC)):
            return
        now = time.monotonic()
        if now - began > held_wait_s and exchange.whole():
            log.warning(
                "the certificate or the revocation list has ended and no newer one came: others "
                "will refuse us until the issuer is back",
                extra={"by": str(exchange.exchange)},
            )
            return
        if now - began > wait_s:
            raise StartRefused(
                f"no certificate came by {exchange.exchange} in {wait_s:.0f} s: does the issuer "
                f"run, and does it know this program? ({exchange.problem})"
            )
        if now - told >= TELL_S:
            told = now
            log.warning(
                "waiting for the issuer's certificate",
                extra={"by": str(exchange.exchange), "problem": exchange.problem},
            )
        await asyncio.sleep(look_s)


class Keeper:
    """Follows a program's identity for its whole life: exchange, files, days left."""

    def __init__(
        self, live: LiveIdentity, exchange: Exchange | None, metrics: Metrics | None
    ) -> None:
        """`metrics` None: those of another certificate of this program are what is shown."""
        self.live = live
        self._exchange = exchange
        self._limited = RateLimited(log, interval_s=600.0)
        self._one_at_a_time = asyncio.Lock()
        self._terms: dict[Path, tuple[tuple[int, ...], Term]] = {}
        if metrics is not None:
            self._count(metrics)

    def _count(self, metrics: Metrics) -> None:
        live = self.live
        metrics.read_gauge(
            "callboard_certificate_days_left",
            "Until this program's certificate ends; negative afterwards.",
            self.days_left,
        )
        if live.material.revoked is not None:
            metrics.read_gauge(
                "callboard_revocation_list_days_left",
                "Until its revocation list ends; then nobody new is let in.",
                self.list_days_left,
            )
        metrics.read_counter(
            "callboard_certificate_reloads_total",
            "How often certificate, CA or revocation list were taken anew.",
            lambda: live.generation,
        )

    def days_left(self) -> float:
        """Days until the certificate ends; not a number when it cannot be read."""
        return _days_left(self._certificate_term())

    def list_days_left(self) -> float:
        """Days until the first of the revocation lists ends; not a number without any."""
        return _days_left(self._list_term())

    async def look(self) -> None:
        """Take in what is new. Never raises: the log tells."""
        async with self._one_at_a_time:
            if self._exchange is not None:
                # fsync takes its time, and the loop may be a leader's
                await asyncio.to_thread(self._take, self._exchange)
            self.live.look()
        self._warn("certificate", self._certificate_term(), WARN_CERTIFICATE)
        self._warn("revocation list", self._list_term(), WARN_LIST)

    def _take(self, exchange: Exchange) -> None:
        try:
            exchange.ask_again()
            exchange.take()
        except (OSError, ValueError, StartRefused) as problem:
            exchange.problem = str(problem)
        if exchange.problem:
            self._limited.warning(
                "exchange", f"what the issuer gave is not taken: {exchange.problem}"
            )

    def _warn(self, what: str, term: Term | None, left: float) -> None:
        if term is None:
            return
        begins, ends = term
        if ends - datetime.now(UTC) < (ends - begins) * left:
            self._limited.warning(
                what,
                f"the {what} was not renewed and ends on {ends:%Y-%m-%d %H:%M} UTC",
                {"file": str(self.live.material.certificate.parent)},
            )

    def _certificate_term(self) -> Term | None:
        return self._term(self.live.material.certificate, certificate_term)

    def _list_term(self) -> Term | None:
        path = self.live.material.revoked
        return self._term(path, lists_term) if path is not None else None

    def _term(self, path: Path, parse: Callable[[bytes], Term]) -> Term | None:
        """From when to when a file is valid; read again only when it has changed."""
        try:
            stat = path.stat()
            signature = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            known = self._terms.get(path)
            if known is None or known[0] != signature:
                known = self._terms[path] = (signature, parse(_read(path)))
        except (OSError, ValueError):
            return None
        return known[1]

    async def follow(self, period_s: float = POLL_S) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            await self.look()


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
    files = material(settings)
    try:
        live = LiveIdentity(files)
        server_context(files, client=ssl.CERT_REQUIRED)
    except (OSError, ValueError) as problem:
        raise StartRefused(f"identity: {explain_files(problem, files)}") from problem
    keep(live, life, metrics, exchange)
    return live


def keep(
    live: LiveIdentity,
    life: Lifecycle,
    metrics: Metrics | None,
    exchange: Exchange | None = None,
) -> None:
    """Follow the files of a certificate until the program's end; see `Keeper`."""
    keeper = Keeper(live, exchange, metrics)
    life.on_reload(keeper.look)
    life.own(keeper.follow(), "identity")


def _files(directory: Path) -> dict[str, bytes]:
    return {name: _read(directory / name) for name in FROM_ISSUER}


def _read(path: Path) -> bytes:
    """A file's bytes; none where it is not there or cannot be read."""
    from callboard.pki import reading  # noqa: PLC0415 - see the module

    try:
        return reading.read_bytes(path)
    except reading.Unreadable:
        return b""


def certificate_term(body: bytes) -> Term:
    """From when to when a certificate is valid. Raises ValueError."""
    from callboard.pki import reading  # noqa: PLC0415 - see the module

    held = reading.certificates_of(body, CERTIFICATE)[0]
    return held.not_valid_before_utc, held.not_valid_after_utc


def lists_term(body: bytes) -> Term:
    """From when to when all revocation lists of a file are valid. Raises ValueError."""
    from callboard.pki import reading  # noqa: PLC0415 - see the module

    found = reading.lists_of(body, REVOKED, lines=False)
    return (
        max(one.last_update_utc for one in found),
        min(one.next_update_utc or FOREVER for one in found),
    )


def _days_left(term: Term | None) -> float:
    return (term[1] - datetime.now(UTC)).total_seconds() / 86400 if term else float("nan")
