"""An ICE-lite agent (RFC 8445, 2.5), always the controlled one: it answers checks, and sends none.

    check ─► credentials ─► attributes ─► role ─► valid: the pair is known, its peer consents
                 │ 400, 401     │ 420       │ 487        └─ USE-CANDIDATE: media goes this way

Time is seconds, and an argument. What a check costs is bounded, and so is what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from callboard.gateway.ice import binding
from callboard.gateway.ice.credentials import Credentials
from callboard.gateway.ports import Pair

PAIRS_MAX = 16
"""Ways to one peer that are remembered: the one checked longest ago is forgotten for a new one."""
CONSENT_S = 30.0
"""Without a valid check for so long, the peer has gone (RFC 7675, 5.1)."""
STALE_S = 15.0
"""A nominated pair without a check for so long gives way to another nominated one that has some:
who nominates aggressively (RFC 5245, 8.1.1.2) keeps up only the pair that it chose. Browsers check
each 2.5 to 5 s."""


@dataclass(slots=True)
class _Known:
    checked: float
    nominated: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check."""

    answer: bytes
    authentic: bool = False
    """Whether its sender has our password."""
    valid: bool = False
    """Whether it was answered with success, too."""
    forgotten: Pair | None = None
    """The pair that made room for this one."""
    retired: str | None = None
    """The username fragment of before a restart: it is not good any more."""


class Agent:
    """Our side of the ICE session with one peer."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        """Of the newest description."""
        self._former: Credentials | None = None
        self._pairs: dict[Pair, _Known] = {}
        self.selected: Pair | None = None
        """Where media goes: the last valid nominated pair."""
        self._consented: float | None = None

    @property
    def ufrags(self) -> tuple[str, ...]:
        """The username fragments that are good now."""
        former = (self._former.ufrag,) if self._former is not None else ()
        return (self.credentials.ufrag, *former)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The known ones: each has passed a check."""
        return tuple(self._pairs)

    @property
    def deadline(self) -> float | None:
        """When the peer has gone unless another check comes; None before the first one."""
        return self._consented + CONSENT_S if self._consented is not None else None

    def check(self, request: binding.Request, pair: Pair, now: float) -> Checked:
        """Answer a Binding request that came by `pair`."""
        if request.username is None or not request.protected:
            return Checked(binding.error(request, 400, None))
        credentials = self._credentials_of(request.username)
        if credentials is None or not request.made_with(credentials.key):
            return Checked(binding.error(request, 401, None))
        if request.unknown:
            return Checked(binding.error(request, 420, credentials.key), authentic=True)
        if request.from_controlled:
            # a lite agent never takes the controlling role: the other one must (7.3.1.1)
            return Checked(binding.error(request, 487, credentials.key), authentic=True)
        retired = None
        if self._former is not None and credentials is self.credentials:
            retired, self._former = self._former.ufrag, None
        self._consented = now
        forgotten = self._touch(pair, now, nominated=request.nominates)
        answer = binding.success(request, pair.address, credentials.key)
        return Checked(answer, True, True, forgotten, retired)

    def _credentials_of(self, username: str) -> Credentials | None:
        ours, colon, _ = username.partition(":")
        if not colon:
            return None
        for credentials in (self.credentials, self._former):
            if credentials is not None and credentials.ufrag == ours:
                return credentials
        return None

    def _touch(self, pair: Pair, now: float, *, nominated: bool) -> Pair | None:
        known = self._pairs.pop(pair, None)
        forgotten = None
        if known is None:
            known = _Known(now, False)
            if len(self._pairs) >= PAIRS_MAX:
                forgotten = next(old for old in self._pairs if old is not self.selected)
                del self._pairs[forgotten]
        known.checked = now
        known.nominated |= nominated
        self._pairs[pair] = known  # behind all others: they are in the order of their last checks
        if nominated or (known.nominated and self._is_stale(now)):
            self.selected = pair
        return forgotten

    def _is_stale(self, now: float) -> bool:
        known = self._pairs.get(self.selected) if self.selected is not None else None
        return known is None or now - known.checked > STALE_S

    def lose(self, pair: Pair) -> None:
        """A pair that is no more (its connection was closed, or another peer has its address now):
        media goes by the nominated one that was checked last."""
        self._pairs.pop(pair, None)
        if self.selected is pair:
            left = [other for other, known in self._pairs.items() if known.nominated]
            self.selected = left[-1] if left else None

    def restart(self, credentials: Credentials) -> str | None:
        """Take new credentials (2.4); those of now are good until a check with the new ones is
        valid. Returns the username fragment that is not good any more: of a restart before that
        nobody followed."""
        retired = self._former.ufrag if self._former is not None else None
        self._former, self.credentials = self.credentials, credentials
        return retired
