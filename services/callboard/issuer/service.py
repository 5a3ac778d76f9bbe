"""The running issuer: looks at every exchange, signs what is due, refreshes revocation lists.

No listener but the health one: programs reach it by files only. It never stops for one program's
bad request; the log names it once a while, and the others are served.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from callboard.chassis.health import HealthServer
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.chassis.logs import RateLimited
from callboard.chassis.metrics import Labels, LoopLag, Metrics
from callboard.files import create, replace
from callboard.issuer import generations
from callboard.issuer.constraints import public_address, wanted, write_wanted
from callboard.issuer.exchange import allowed, due, read_bounded, read_request
from callboard.issuer.generations import Generation, Phase
from callboard.issuer.settings import IssuerSettings
from callboard.pki.certificates import SKEW, fingerprint, pem
from callboard.pki.constraints import outside
from callboard.pki.roles import AGENT, SERVER, Address, Names, names_for

log = logging.getLogger(__name__)

GOSSIP_KEY = "gossip.key"
GOSSIP_KEY_BYTES = 32
AUTHORITIES = "ca.pem"
"""In DATA too: what `make up` copies for people's browsers."""

FILE_SERVER = "fileserver"
"""The role that carries the public host."""


@dataclass(slots=True)
class Served:
    """What is known of one program."""

    certificate: x509.Certificate | None = None
    generation: int = 0
    """Of the CA that signed it."""
    problem: str = ""
    written: dict[str, bytes] = field(default_factory=dict)


class Issuer:
    """The issuer, from `start` to its end."""

    def __init__(self, settings: IssuerSettings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        self._limited = RateLimited(log, interval_s=60.0)
        self._generations: list[Generation] = []
        self._lists: dict[int, x509.CertificateRevocationList] = {}
        self._gossip_key = b""
        self.programs = {name: Served() for name in settings.programs}
        self.signed = self.metrics.counter(
            "callboard_issuer_certificates_total", "Certificates signed.", ("program",)
        )
        self.metrics.read_gauge(
            "callboard_certificate_days_left",
            "Until a certificate ends, by program; the CA's own as `ca`.",
            self._days_left,
            ("program",),
        )

    async def start(self, life: Lifecycle) -> None:
        """Open the CA, serve every exchange once, go on in the background. Raises StartRefused."""
        lag = LoopLag(self.metrics, interval_s=1.0)
        lag.start()
        life.on_stop("loop lag", lag.stop)
        try:
            self.open(datetime.now(UTC))
            await self._start_health(life)
        except (OSError, ValueError) as problem:
            raise StartRefused(str(problem)) from problem
        self.look(datetime.now(UTC))
        life.own(self._follow(), "exchange")

    def open(self, now: datetime) -> None:
        """Read the CA, or make it; say what it cannot sign. Raises OSError or ValueError."""
        settings = self._settings
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        constraints = wanted(settings)
        write_wanted(settings.data_dir, constraints)
        if not generations.numbers(settings.data_dir):
            made = generations.make_next(settings.data_dir, constraints, now)
            log.info("made the CA", extra={"fingerprint": fingerprint(made.authority.certificate)})
        self._generations = generations.load(settings.data_dir)
        for name, served in self.programs.items():
            (settings.exchange / name).mkdir(mode=0o750, parents=True, exist_ok=True)
            path = settings.exchange / name / "certificate.pem"
            served.certificate, served.generation = self._lying(path)
        self._gossip_key = _gossip_key(settings.data_dir / GOSSIP_KEY)

    def look(self, now: datetime) -> None:
        """One round. Never raises for what a program or its directory is like."""
        try:
            self._generations = generations.load(self._settings.data_dir)
            phase = self._phase(now)
            if phase is Phase.DONE:
                old = self._generations.pop(0)
                generations.remove(self._settings.data_dir, old)
                self._lists.pop(old.number, None)
                log.info("the old CA is removed", extra={"generation": old.number})
            signer = self._generations[0 if phase is Phase.ANNOUNCED else -1]
            bundle = b"".join(pem(each.authority.certificate) for each in self._generations)
            lists = b"".join(pem(self._revocation_list(each, now)) for each in self._generations)
            self._put(self._settings.data_dir / AUTHORITIES, bundle, 0o644)
        except (OSError, ValueError) as problem:
            self._limited.warning("ca", f"the CA cannot be used: {problem}")
            return
        for name in self.programs:
            self._serve(name, signer, {AUTHORITIES: bundle, "crl.pem": lists}, now)

    def _serve(
        self, name: str, signer: Generation, common: Mapping[str, bytes], now: datetime
    ) -> None:
        served = self.programs[name]
        directory = self._settings.exchange / name
        try:
            for file, body in common.items():
                self._put(directory / file, body, 0o644)
            if self._settings.programs[name] in (AGENT, SERVER):
                self._put(directory / GOSSIP_KEY, self._gossip_key, 0o600)
            request = read_bounded(directory / "request.pem")
            if request is not None:
                self._sign(name, request, signer, now)
            served.problem = ""
        except (OSError, ValueError) as problem:
            served.problem = str(problem)
            self._limited.warning(name, f"no certificate for {name}: {problem}")

    def _sign(self, name: str, body: bytes, signer: Generation, now: datetime) -> None:
        served = self.programs[name]
        request = read_request(body)
        path = self._settings.exchange / name / "certificate.pem"
        names = self._names(name, request.addresses, signer)
        revoked = {serial for each in self._generations for serial in each.authority.revoked()}
        reason = due(
            served.certificate,
            request.key,
            names,
            signer.authority.certificate,
            now=now,
            revoked=revoked,
        )
        if reason is None:
            return
        made = signer.authority.sign(
            request.key, names, common_name=name, now=now, life=self._settings.leaf_life
        )
        with replace(path) as file:
            file.write(pem(made))
        served.certificate, served.generation = made, signer.number
        self.signed.inc(name)
        log.info(
            "signed a certificate",
            extra={"program": name, "reason": reason, "until": made.not_valid_after_utc},
        )

    def _names(self, name: str, asked: tuple[Address, ...], signer: Generation) -> Names:
        settings = self._settings
        role = settings.programs[name]
        dns: list[str] = []
        addresses = list(allowed(asked, settings.networks))
        if role == FILE_SERVER and settings.public_host:
            address = public_address(settings.public_host)
            host = Names((), (address,)) if address else Names((settings.public_host,))
            if not outside(host, signer.authority.constraints):
                dns += host.dns
                addresses += host.addresses
            else:
                self._limited.warning(
                    "public host",
                    f"the CA was made without {settings.public_host}: `callboard issuer rotate "
                    f"-data-dir={settings.data_dir}` makes a new one",
                )
        return names_for(
            role,
            name,
            datacenter=settings.datacenter,
            domain=settings.domain,
            dns=dns,
            addresses=addresses,
        )

    def _phase(self, now: datetime) -> Phase:
        newest = self._generations[-1]
        issued = [
            served.certificate.not_valid_before_utc + SKEW
            if served.certificate is not None and served.generation == newest.number
            else None
            for served in self.programs.values()
            if served.certificate is not None
        ]
        return generations.phase(self._generations, issued, now, self._settings.overlap)

    def _lying(self, path: Path) -> tuple[x509.Certificate | None, int]:
        """The certificate that lies in an exchange since an earlier run, and who signed it."""
        try:
            held = x509.load_pem_x509_certificate(read_bounded(path) or b"")
        except ValueError:
            return None, 0
        for each in self._generations:
            if each.authority.certificate.subject == held.issuer:
                return held, each.number
        return held, 0

    def _revocation_list(
        self, generation: Generation, now: datetime
    ) -> x509.CertificateRevocationList:
        held = self._lists.get(generation.number)
        revoked = set(generation.authority.revoked())
        fresh = (
            held is not None
            and {entry.serial_number for entry in held} == revoked
            and (held.next_update_utc or now) - now > self._settings.crl_life / 2
        )
        if not fresh or held is None:
            held = generation.authority.revocation_list(now=now, life=self._settings.crl_life)
            self._lists[generation.number] = held
            log.info("made a revocation list", extra={"revoked": len(revoked)})
        return held

    def _put(self, path: Path, body: bytes, permissions: int) -> None:
        """Write a file unless that is what lies there."""
        try:
            if path.read_bytes() == body:
                return
        except FileNotFoundError:
            pass
        with replace(path, permissions=permissions) as file:
            file.write(body)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_s)
            self.look(datetime.now(UTC))

    async def _start_health(self, life: Lifecycle) -> None:
        if self._settings.health is None:
            return
        health = HealthServer(*self._settings.health, self.metrics)
        health.ready_when("ca", self.ready)
        health.remark("programs", self.remark)
        await health.start()
        life.on_stop("health", health.stop)

    def ready(self) -> str | None:
        """Why nothing can be signed."""
        return None if self._generations else "there is no CA"

    def remark(self) -> str | None:
        """Which programs have no certificate, or a problem."""
        said = [
            f"{name} ({served.problem or 'has not asked'})"
            for name, served in self.programs.items()
            if served.problem or served.certificate is None
        ]
        return ", ".join(said) or None

    def _days_left(self) -> dict[Labels, float]:
        now = datetime.now(UTC)
        ends = {name: each.certificate for name, each in self.programs.items()}
        if self._generations:
            ends["ca"] = self._generations[-1].authority.certificate
        return {
            (name,): (held.not_valid_after_utc - now).total_seconds() / 86400
            for name, held in ends.items()
            if held is not None
        }


def _gossip_key(path: Path) -> bytes:
    """The first key of the gossip, made once."""
    try:
        with create(path) as file:
            file.write(base64.b64encode(secrets.token_bytes(GOSSIP_KEY_BYTES)) + b"\n")
    except FileExistsError:
        pass
    return path.read_bytes()
