"""Who may: a request's token judged, and what is said to those who may not.

A token that is shown is judged everywhere; one that is bad never makes its bearer anonymous.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from callboard.hub.auth.rates import Rates
from callboard.hub.auth.requests import Authority, Shown, shows_token, token_needed
from callboard.hub.auth.tokens import payload_of
from callboard.hub.http.ports import Door
from callboard.hub.matching.refusal import Refused
from callboard.hub.mercure.parameters import Generation
from callboard.hub.mercure.refusals import too_many
from callboard.hub.ports import Matcher, Rights
from callboard.serve import Request


class DeadToken(Refused):
    """A reader's token is expired or invalid."""


class Authorising:
    """Judges requests that come through one door."""

    def __init__(
        self,
        authority: Authority,
        door: Door,
        rates: Rates,
        *,
        anonymous: bool,
        now: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rates` are those of publishers' tokens; `anonymous`: public updates are read without a
        token. `now` is wall time in seconds."""
        self._authority = authority
        self._door = door
        self._rates = rates
        self._anonymous = anonymous
        self._now = now
        self._monotonic = monotonic

    @property
    def hub_url(self) -> str:
        """The URL that the hub is known by: what relative topics and patterns are relative to."""
        return self._authority.resource

    def shows_token(self, request: Request) -> bool:
        """Whether a request carries a token. Raises Refused (400) for a malformed one."""
        return shows_token(self._shown(request))

    def publisher(self, request: Request) -> Rights:
        """What a publisher may do. Raises Refused: 400, 401, 403."""
        return self._authority.publisher(self._shown(request), self._now())

    def require_publish(
        self, request: Request, rights: Rights, topics: tuple[str, ...], *, private: bool
    ) -> None:
        """Raises Refused (403) unless an update of all these topics may be published."""
        shown = self._shown(request)
        self._authority.require_publish(rights, topics, shown, private=private)

    def spend(self, rights: Rights) -> None:
        """Count a publication. Raises Refused (429) for a token that publishes too fast."""
        wait_s = self._rates.take(rights.token_hash, self._monotonic())
        if wait_s:
            raise too_many("this token publishes too fast", wait_s)

    def subscriber(self, request: Request, *, required: bool = True) -> Rights:
        """What a reader may do; `required` tells whether a hub that is not for everybody needs a
        token for it. Raises DeadToken, and Refused: 400, 401."""
        shown = self._shown(request)
        try:
            rights = self._authority.subscriber(shown, self._now())
        except Refused as refused:
            if refused.status == 401:
                raise DeadToken(refused.status, refused.text, refused.headers) from None
            raise
        if required and not self._anonymous and not rights.token_hash:
            raise token_needed(shown)
        return rights

    def listener(self, request: Request, topic: str) -> Rights:
        """What who asks for the private document of a topic may do. Raises Refused: 400, 401,
        403."""
        shown = self._shown(request)
        rights = self._authority.subscriber(shown, self._now())
        self._authority.require_subscribe(rights, topic, shown)
        return rights

    @staticmethod
    def generation(rights: Rights) -> Generation:
        """Of the protocol, that a token is written by."""
        return Generation.LEGACY if rights.draft == 7 else Generation.CURRENT

    @staticmethod
    def payload_of(rights: Rights) -> Callable[[Matcher], object]:
        """What a token says of each of its bearer's subscriptions."""
        return lambda matcher: payload_of(rights, matcher)

    def _shown(self, request: Request) -> Shown:
        return Shown(request.headers, request.query, self._door.scheme)
