"""Connections that stand when trust changes: their certificates are judged again.

TLS judges at the handshake only; a peer that is revoked the minute after would stay for as long as
its connection. `Standing` reads the files anew when they change and asks whoever holds connections
to end those whose certificate was revoked, has expired, or comes from a CA that is gone. Revoked
is at once; the others have a minute in which whoever dialled makes the connection anew by itself,
so that a change of certificates or of the CA costs no request. A list that is merely out of date
ends nothing: new connections are refused by then, and cutting the old ones too would turn an
issuer's outage into everybody's. Nor does an issuer that never was among the CAs: the handshake
accepted it through an intermediate, which is not at hand any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography import x509

from callboard.pki import reading, verification
from callboard.pki.contexts import Material
from callboard.pki.live import POLL_S, Judge

log = logging.getLogger(__name__)

GRACE_S = 60.0
ACCEPTED_MAX = 4096
"""Certificates whose judgement is remembered."""


class Followed(Protocol):
    """Files that are taken in anew when they change: `LiveIdentity` is such."""

    @property
    def material(self) -> Material:
        """The files; of these only the CAs and the lists are read here."""

    @property
    def generation(self) -> int:
        """How often they were taken in anew."""


@dataclass(frozen=True, slots=True)
class _Trust:
    authorities: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]


class _Revoked(verification.NotAccepted):
    """A certificate is on a list."""


class Standing:
    """Judges what was accepted once by what an identity's files say now."""

    def __init__(
        self,
        live: Followed,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._live = live
        self._now = now
        self._holders: list[Callable[[Judge], object]] = []
        self._generation = -1
        self._trust = _Trust((), ())
        self._former: tuple[x509.Certificate, ...] = ()
        """CAs that are gone."""
        self._accepted: dict[bytes, datetime] = {}
        """By the files as they are: certificate -> until when."""
        self._doomed: dict[bytes, datetime] = {}
        """Not accepted any more, without being revoked: certificate -> since when."""

    def watch(self, holder: Callable[[Judge], object]) -> None:
        """Have `holder` end its connections whose certificate the judge says something about."""
        self._holders.append(holder)

    def look(self) -> None:
        """Judge all now. Never raises: with files that cannot be read nothing is ended."""
        generation = self._live.generation
        if self._generation != generation:
            self._take(generation, self._read())
        self._ask()

    async def follow(self, period_s: float = POLL_S) -> None:
        """Look again and again, until cancelled; long lists are read beside the loop."""
        while True:
            generation = self._live.generation
            if self._generation != generation:
                self._take(generation, await asyncio.to_thread(self._read))
            self._ask()
            await asyncio.sleep(period_s)

    def _read(self) -> _Trust | None:
        material = self._live.material
        try:
            return _Trust(
                reading.read_certificates(material.authorities) if material.authorities else (),
                reading.read_lists(material.revoked) if material.revoked else (),
            )
        except reading.Unreadable as problem:
            log.warning("standing connections are not judged anew: %s", problem)
            return None

    def _take(self, generation: int, read: _Trust | None) -> None:
        if read is not None:
            known = dict.fromkeys((*self._former, *self._trust.authorities))
            self._former = tuple(one for one in known if one not in read.authorities)
            self._trust, self._generation = read, generation
            self._accepted.clear()

    def _ask(self) -> None:
        if len(self._doomed) >= ACCEPTED_MAX:
            self._doomed.clear()
        if self._generation >= 0:
            for holder in self._holders:
                holder(self.judge)

    def judge(self, der: bytes) -> str | None:
        """Why this certificate is not accepted any more; None while it is."""
        until = self._accepted.get(der)
        if until is not None and self._now() <= until:
            return None
        try:
            leaf = x509.load_der_x509_certificate(der)
            self._check(leaf)
        except _Revoked as problem:
            return str(problem)
        except ValueError as problem:
            since = self._doomed.setdefault(der, self._now())
            late = self._now() - since >= timedelta(seconds=GRACE_S)
            return str(problem) if late else None
        if len(self._accepted) >= ACCEPTED_MAX:
            self._accepted.clear()
        self._accepted[der] = leaf.not_valid_after_utc
        self._doomed.pop(der, None)
        return None

    def _check(self, leaf: x509.Certificate) -> None:
        who = verification.common_name(leaf.subject)
        verification.check_dates(leaf, self._now(), who)
        if not _from(leaf, self._trust.authorities) and _from(leaf, self._former):
            raise verification.NotAccepted(
                f"{who} comes from {verification.common_name(leaf.issuer)}, "
                "which is not among the CAs any more"
            )
        for listed in self._trust.lists:
            line = listed.get_revoked_certificate_by_serial_number(leaf.serial_number)
            if listed.issuer == leaf.issuer and line is not None:
                since = verification.moment(line.revocation_date_utc)
                raise _Revoked(f"{who} was revoked on {since}")


def _from(leaf: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    return any(verification.issued_by(leaf, one) for one in authorities)
