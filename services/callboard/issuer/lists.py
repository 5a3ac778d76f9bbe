"""The revocation lists that are handed out: kept until half their life has passed or somebody was
revoked, over restarts too, since each new one makes every program load its files anew."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from callboard.issuer.generations import Generation
from callboard.pki import reading
from callboard.pki.verification import NotAccepted, check_revocation_list

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """A list, and all that was revoked when it was made (it leaves out what expired long ago)."""

    made: x509.CertificateRevocationList
    revoked: frozenset[int]


class Lists:
    """The newest list of each generation."""

    def __init__(self, life: timedelta) -> None:
        self._life = life
        self._held: dict[int, Listed] = {}

    def read(self, path: Path, generations: Iterable[Generation], now: datetime) -> None:
        """Go on with the lists of an earlier run, as far as they are there and good."""
        try:
            found = reading.read_lists(path)
        except reading.Unreadable:
            return
        for generation in generations:
            for one in found:
                try:
                    check_revocation_list(one, generation.authority.certificate, now)
                except NotAccepted:
                    continue
                serials = frozenset(line.serial_number for line in one)
                self._held[generation.number] = Listed(one, serials)

    def current(self, generation: Generation, now: datetime) -> x509.CertificateRevocationList:
        """The list to hand out now. Raises OSError, Unreadable, Refused when it takes a new one
        and that cannot be made, unless the old one is in date and says all there is to say."""
        held = self._held.get(generation.number)
        revoked = frozenset(generation.authority.revoked())
        if held is not None and held.revoked == revoked and self._young(held.made, now):
            return held.made
        try:
            made = generation.authority.revocation_list(now=now, life=self._life)
        except OSError as problem:
            if held is None or held.revoked != revoked or _ended(held.made, now):
                raise
            log.warning("the revocation list cannot be renewed: %s", problem)
            return held.made
        self._held[generation.number] = Listed(made, revoked)
        log.info("made a revocation list", extra={"revoked": len(revoked)})
        return made

    def forget(self, generation: Generation) -> None:
        """Its CA is gone."""
        self._held.pop(generation.number, None)

    def ends(self) -> datetime | None:
        """When the first of them ends; None without any."""
        return min((_end(held.made) for held in self._held.values()), default=None)

    def _young(self, made: x509.CertificateRevocationList, now: datetime) -> bool:
        return made.last_update_utc <= now and _end(made) - now > self._life / 2


def _end(made: x509.CertificateRevocationList) -> datetime:
    end = made.next_update_utc
    assert end is not None, "ours have an end"
    return end


def _ended(made: x509.CertificateRevocationList, now: datetime) -> bool:
    return not made.last_update_utc <= now < _end(made)
