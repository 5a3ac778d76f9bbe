"""The running issuer: looks at every exchange, signs what is due, refreshes revocation lists.

No listener but the health one: programs reach it by files only. It never stops for one program's
bad request or what lies in its exchange; the log names it once a while, and the others are served.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import os
import secrets
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from callboard.chassis.health import HealthServer
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.chassis.logs import RateLimited
from callboard.chassis.metrics import Labels, LoopLag, Metrics
from callboard.files import create, replace
from callboard.files.directories import DirectoryInUse, lock, make_durably
from callboard.issuer import generations
from callboard.issuer.constraints import wanted, write_wanted
from callboard.issuer.exchange import (
    REQUEST,
    BadRequest,
    due,
    holds,
    lying,
    read_bounded,
    read_request,
)
from callboard.issuer.generations import Generation, Phase
from callboard.issuer.lists import Lists
from callboard.issuer.naming import named
from callboard.issuer.settings import IssuerSettings
from callboard.pki.certificates import SKEW, fingerprint, pem
from callboard.pki.roles import AGENT, SERVER, Address, Names

log = logging.getLogger(__name__)

GOSSIP_KEY = "gossip.key"
GOSSIP_KEY_BYTES = 32
AUTHORITIES = "ca.pem"
"""In DATA too: what `make up` copies for people's browsers."""
REVOKED = "crl.pem"
"""In DATA too: the next run goes on with it."""
CERTIFICATE = "certificate.pem"

SIGNED_MAX = 20
SIGNED_WITHIN = timedelta(hours=1)
"""A program that asks for more certificates than SIGNED_MAX within this time has to wait: each one
stays in the record for good."""

CA_WARNED_BEFORE = timedelta(days=365)


@dataclass(slots=True)
class Served:
    """What is known of one program."""

    certificate: x509.Certificate | None = None
    generation: int = 0
    """Of the CA that signed it."""
    problem: str = ""
    signed: deque[datetime] = field(default_factory=lambda: deque(maxlen=SIGNED_MAX))
    """When certificates were signed, the last ones."""


@dataclass(frozen=True, slots=True)
class Round:
    """What all programs get in one look."""

    now: datetime
    signer: Generation
    files: Mapping[str, bytes]
    revoked: frozenset[int]


class Issuer:
    """The issuer, from `start` to its end."""

    def __init__(self, settings: IssuerSettings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        self._limited = RateLimited(log, interval_s=60.0)
        self._seldom = RateLimited(log, interval_s=3600.0)
        self._generations: list[Generation] = []
        self._lists = Lists(settings.crl_life)
        self._gossip_key = b""
        self._problem: str | None = "nothing has been looked at yet"
        self.programs = {name: Served() for name in settings.programs}
        self.signed = self.metrics.counter(
            "callboard_issuer_certificates_total", "Certificates signed.", ("program",)
        )
        self._measure()

    def _measure(self) -> None:
        self.metrics.read_gauge(
            "callboard_certificate_days_left",
            "Until a certificate ends, by program; the CA's own as `ca`.",
            self._days_left,
            ("program",),
        )
        self.metrics.read_gauge(
            "callboard_revocation_list_days_left",
            "Until the revocation list that is handed out ends.",
            lambda: _days(self._lists.ends(), datetime.now(UTC)),
        )
        self.metrics.read_gauge(
            "callboard_issuer_programs_waiting",
            "Programs without a certificate, or with a request that cannot be answered.",
            lambda: float(len(self._waiting())),
        )

    async def start(self, life: Lifecycle) -> None:
        """Open the CA, serve every exchange once, go on in the background. Raises StartRefused."""
        lag = LoopLag(self.metrics, interval_s=1.0)
        lag.start()
        life.on_stop("loop lag", lag.stop)
        try:
            self._lock(life)
            self.open(datetime.now(UTC))
            await self._start_health(life)
        except (OSError, ValueError) as problem:
            raise StartRefused(str(problem)) from problem
        self.look(datetime.now(UTC))
        life.own(self._follow(), "exchange")

    def _lock(self, life: Lifecycle) -> None:
        """Two issuers would each undo what the other has put out. Raises StartRefused, OSError."""
        directory = self._settings.data_dir
        make_durably(directory)
        try:
            descriptor = lock(directory)
        except DirectoryInUse:
            raise StartRefused(f"another issuer uses the directory {directory}") from None

        async def unlock() -> None:
            os.close(descriptor)

        life.on_stop("lock", unlock)

    def open(self, now: datetime) -> None:
        """Read the CA, or make it. Raises OSError or ValueError."""
        settings = self._settings
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        constraints = wanted(settings)
        write_wanted(settings.data_dir, constraints)
        if not generations.numbers(settings.data_dir):
            made = generations.make_next(settings.data_dir, constraints, now)
            log.info("made the CA", extra={"fingerprint": fingerprint(made.authority.certificate)})
        self._generations = generations.load(settings.data_dir)
        self._lists.read(settings.data_dir / REVOKED, self._generations, now)
        for name, served in self.programs.items():
            (settings.exchange / name).mkdir(mode=0o750, parents=True, exist_ok=True)
            self._take_up(settings.exchange / name / CERTIFICATE, served)
        _make_gossip_key(settings.data_dir / GOSSIP_KEY)

    def _take_up(self, path: Path, served: Served) -> None:
        by = {each.authority.certificate: each.number for each in self._generations}
        found = lying(path, by)
        if found is not None:
            served.certificate, served.generation = found[0], by[found[1]]

    def look(self, now: datetime) -> None:
        """One round. Never raises for what a program or its directory is like."""
        try:
            this = self._prepare(now)
        except (OSError, ValueError) as problem:
            self._problem = str(problem)
            self._limited.warning("ca", f"the CA cannot be used: {problem}")
            return
        self._problem = None
        for name in self.programs:
            self._serve(name, this)

    def _prepare(self, now: datetime) -> Round:
        """What this round hands out. Raises OSError or ValueError: then everybody keeps theirs."""
        directory = self._settings.data_dir
        self._generations = generations.load(directory)
        _carry_revocations(self._generations)
        revoked = frozenset(
            serial for each in self._generations for serial in each.authority.revoked()
        )
        phase = self._phase(now, revoked)
        self._tidy(done=phase is Phase.DONE)
        believed = [each for each in self._generations if each.in_date(now)]
        if not believed:
            raise ValueError(self._out_of_date(now))
        self._warn_of_its_end(believed[-1], now)
        signer = believed[-2] if phase is Phase.ANNOUNCED and len(believed) > 1 else believed[-1]
        files = {
            AUTHORITIES: b"".join(pem(each.authority.certificate) for each in believed),
            REVOKED: b"".join(pem(self._lists.current(each, now)) for each in believed),
        }
        for name, body in files.items():
            _put(directory / name, body, 0o644)
        self._gossip_key = _read_gossip_key(directory / GOSSIP_KEY) or self._gossip_key
        return Round(now, signer, files, revoked)

    def _tidy(self, *, done: bool) -> None:
        """Remove the oldest CA when a change is `done`, and what crashes left of earlier ones."""
        directory = self._settings.data_dir
        try:
            if done:
                old = self._generations[0]
                generations.remove(directory, old)
                self._generations.pop(0)
                self._lists.forget(old)
                log.info("the old CA is removed", extra={"generation": old.number})
            for number in generations.sweep(directory):
                log.info("what was left of an old CA is removed", extra={"generation": number})
        except OSError as problem:
            self._limited.warning("old CA", f"the old CA's key cannot be removed: {problem}")

    def _serve(self, name: str, this: Round) -> None:
        served = self.programs[name]
        directory = self._settings.exchange / name
        try:
            for file, body in this.files.items():
                _put(directory / file, body, 0o644)
            if self._settings.programs[name] in (AGENT, SERVER):
                _put(directory / GOSSIP_KEY, self._gossip_key, 0o600)
            request = read_bounded(directory / REQUEST)
            if request is not None:
                self._sign(name, request, this)
            if served.certificate is not None:
                _put(directory / CERTIFICATE, pem(served.certificate), 0o644)
            served.problem = ""
        except Exception as problem:  # whatever it is, the others are served
            served.problem = str(problem) or type(problem).__name__
            self._limited.warning(name, f"no certificate for {name}: {served.problem}")

    def _sign(self, name: str, body: bytes, this: Round) -> None:
        """A certificate, if one is due. Raises BadRequest, Refused, OSError."""
        served = self.programs[name]
        request = read_request(body)
        names = self._names(name, request.addresses, this.signer)
        reason = due(
            served.certificate,
            request.key,
            names,
            this.signer.authority.certificate,
            now=this.now,
            revoked=this.revoked,
        )
        if reason is None:
            return
        _check_rate(served.signed, this.now)
        made = this.signer.authority.sign(
            request.key, names, common_name=name, now=this.now, life=self._settings.leaf_life
        )
        served.signed.append(this.now)
        served.certificate, served.generation = made, this.signer.number
        self.signed.inc(name)
        log.info(
            "signed a certificate",
            extra={
                "program": name,
                "reason": reason,
                "serial": f"{made.serial_number:x}",
                "until": made.not_valid_after_utc,
            },
        )

    def _names(self, name: str, asked: Iterable[Address], signer: Generation) -> Names:
        names, left_out = named(self._settings, name, asked, signer.authority.constraints)
        if left_out:
            self._seldom.warning(
                f"{name} {left_out}",
                f"the CA was made without {', '.join(left_out)}: `callboard issuer rotate "
                f"-data-dir={self._settings.data_dir}` makes a new one",
                {"program": name},
            )
        return names

    def _phase(self, now: datetime, revoked: frozenset[int]) -> Phase:
        newest = self._generations[-1].number
        issued = [
            held.not_valid_before_utc + SKEW if served.generation == newest else None
            for served in self.programs.values()
            if (held := served.certificate) is not None
            and held.serial_number not in revoked
            and now <= held.not_valid_after_utc
        ]
        return generations.phase(self._generations, issued, now, self._settings.overlap)

    def _out_of_date(self, now: datetime) -> str:
        last = self._generations[-1].authority
        found = last.certificate
        what = (
            f"expired on {found.not_valid_after_utc:%Y-%m-%d}"
            if now > found.not_valid_after_utc
            else f"is not valid before {found.not_valid_before_utc:%Y-%m-%d %H:%M}, by the clock"
        )
        return (
            f"{last.place} {what}: `callboard issuer rotate -data-dir={self._settings.data_dir}` "
            "makes a new one"
        )

    def _warn_of_its_end(self, newest: Generation, now: datetime) -> None:
        end = newest.authority.certificate.not_valid_after_utc
        if end - now < CA_WARNED_BEFORE:
            self._seldom.warning(
                "end of the CA",
                f"the CA ends on {end:%Y-%m-%d}: `callboard issuer rotate "
                f"-data-dir={self._settings.data_dir}` makes a new one",
            )

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
        return self._problem

    def remark(self) -> str | None:
        """Which programs have no certificate, or a problem."""
        said = [
            f"{name} ({self.programs[name].problem or 'has not asked'})" for name in self._waiting()
        ]
        return ", ".join(said) or None

    def _waiting(self) -> list[str]:
        return [
            name
            for name, served in self.programs.items()
            if served.problem or served.certificate is None
        ]

    def _days_left(self) -> dict[Labels, float]:
        now = datetime.now(UTC)
        ends = {name: each.certificate for name, each in self.programs.items()}
        if self._generations:
            ends["ca"] = self._generations[-1].authority.certificate
        return {
            (name,): _days(held.not_valid_after_utc, now)
            for name, held in ends.items()
            if held is not None
        }


def _carry_revocations(found: Sequence[Generation]) -> None:
    """A key that an older CA has revoked gets nothing from the newer ones either."""
    for older, newer in itertools.pairwise(found):
        newer.authority.refuse_keys_of(older.authority)


def _check_rate(signed: deque[datetime], now: datetime) -> None:
    if len(signed) == SIGNED_MAX and timedelta() <= now - signed[0] < SIGNED_WITHIN:
        raise BadRequest(f"it has asked for {SIGNED_MAX} certificates within an hour: it waits")


def _put(path: Path, body: bytes, permissions: int) -> None:
    """Write a file unless that is what lies there. Raises OSError."""
    if not holds(path, body):
        with replace(path, permissions=permissions) as file:
            file.write(body)


def _days(end: datetime | None, now: datetime) -> float:
    return (end - now).total_seconds() / 86400 if end is not None else float("nan")


def _make_gossip_key(path: Path) -> None:
    """The first key of the gossip, made once."""
    try:
        with create(path) as file:
            file.write(base64.b64encode(secrets.token_bytes(GOSSIP_KEY_BYTES)) + b"\n")
    except FileExistsError:
        pass


def _read_gossip_key(path: Path) -> bytes:
    """The key that agents start with; b"" when the file has none: then the last one counts."""
    try:
        body = path.read_bytes()
        length = len(base64.b64decode(body.strip(), validate=True))
    except (OSError, ValueError) as problem:
        log.warning("%s: no key of gossip: %s", path, problem)
        return b""
    return body if length in (16, 24, 32) else b""
