"""What viewers and publishers have in common: an identifier, a transport, an end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum

from callboard.gateway.ports import Peer
from callboard.gateway.sdp.answers import Answer, Negotiated
from callboard.gateway.sdp.fragments import Fragment, write
from callboard.gateway.sdp.writing import Facts

log = logging.getLogger(__name__)

CONNECT_WITHIN_S = 15.0
"""From the answer to the end of DTLS' handshake and the nomination; then it is dropped."""


class State(Enum):
    """Where a session is."""

    OFFERED = "offered"
    """Our offer is not answered yet."""
    CONNECTING = "connecting"
    CONNECTED = "connected"
    ENDED = "ended"


class Session:
    """One peer, from the descriptions to the good-bye."""

    def __init__(
        self,
        id: str,
        stream: str,
        peer: Peer,
        facts: Facts,
        *,
        client: str,
        now: float,
        on_ended: Callable[[Session], None],
    ) -> None:
        self.id = id
        self.stream = stream
        """The stream's name."""
        self.client = client
        """Who asked, as the log has it."""
        self.created_at = now
        self._since = now
        """When we began to wait for the peer."""
        self.connected_at: float | None = None
        self.state = State.OFFERED
        self.reason = ""
        """Why it has ended."""
        self.when_connected: list[Callable[[], None]] = []
        """Called once media can go."""
        self.when_ended: list[Callable[[], None]] = []
        """Called once it is over."""
        self.candidates: Callable[[], tuple[str, ...]] = lambda: facts.candidates
        """Where we are reached, asked at a restart: names may have moved since the first answer."""
        self._peer = peer
        self._facts = facts
        self._agreed: Answer | None = None
        self._remote_ufrag = ""
        self._on_ended = on_ended
        self._connecting: asyncio.Task[None] | None = None
        peer.on_closed = self.end
        peer.on_rtcp = self.take_rtcp
        peer.on_rtp = self.take_rtp

    # ------------------------------------------------------------------ descriptions

    @property
    def description(self) -> str:
        """Our answer, or offer."""
        return self._agreed.text if self._agreed is not None else ""

    @property
    def agreed_media(self) -> tuple[Negotiated, ...]:
        """What was agreed on; empty before."""
        return self._agreed.media if self._agreed is not None else ()

    @property
    def etag(self) -> str:
        """A strong entity tag of the ICE session (RFC 9725, 4.3.1)."""
        return f'"{self._facts.ufrag}"'

    def agree(self, agreed: Answer, ufrag: str, fingerprints: Sequence[str]) -> None:
        """The descriptions are exchanged: connect. To be called once, on the loop."""
        assert self._agreed is None, "there is one exchange of descriptions"
        self._agreed = agreed
        self._remote_ufrag = ufrag
        self.state = State.CONNECTING
        self._since = asyncio.get_running_loop().time()
        self._connecting = asyncio.get_running_loop().create_task(
            self._connect(tuple(fingerprints)), name=f"connect {self.id[:6]}"
        )

    def is_restart(self, fragment: Fragment) -> bool:
        """Whether a fragment restarts ICE: it has other credentials than the session's."""
        return bool(fragment.ufrag) and fragment.ufrag != self._remote_ufrag

    def restart(self, fragment: Fragment) -> str:
        """Restart ICE: our fragment. Media goes on by the old pair meanwhile."""
        assert self._agreed is not None
        ufrag, password = self._peer.restart()
        self._remote_ufrag = fragment.ufrag
        self._facts = replace(
            self._facts, ufrag=ufrag, password=password, candidates=self.candidates()
        )
        first = self._agreed.media[0]
        return write(self._facts, first.codec.kind, first.mid, first.payload_type)

    # ------------------------------------------------------------------ life

    def end(self, reason: str) -> None:
        """It is over; idempotent."""
        if self.state is State.ENDED:
            return
        connected = self.state is State.CONNECTED
        self.state, self.reason = State.ENDED, reason
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()
        try:
            self.closing(connected=connected)
        except Exception:
            log.exception("a session's good-bye failed", extra=self._named())
        self._peer.close()
        log.info("a session has ended", extra={**self._named(), "reason": reason})
        self._on_ended(self)
        for tell in self.when_ended:
            tell()

    def tick(self, now: float) -> None:
        """Do what is due; called some times a second."""
        late = now - self._since > CONNECT_WITHIN_S
        if late and self.state is State.OFFERED:
            self.end(f"no answer to our offer within {CONNECT_WITHIN_S:g} s")
        elif late and self.state is State.CONNECTING:
            self.end(f"not connected within {CONNECT_WITHIN_S:g} s")

    async def _connect(self, fingerprints: tuple[str, ...]) -> None:
        try:
            await self._peer.connect(fingerprints, CONNECT_WITHIN_S)
        except (ConnectionError, TimeoutError) as problem:
            self.end(f"not connected: {problem or f'nothing within {CONNECT_WITHIN_S:g} s'}")
            return
        except Exception:
            log.exception("connecting failed", extra=self._named())
            self.end("internal error")
            return
        if self.state is not State.CONNECTING:
            return
        now = asyncio.get_running_loop().time()
        self.state, self.connected_at = State.CONNECTED, now
        spent_ms = round(1000 * (now - self.created_at))
        log.info("a session is connected", extra={**self._named(), "after_ms": spent_ms})
        try:
            self.connected(now)
            for tell in self.when_connected:
                tell()
        except Exception:
            log.exception("a session failed", extra=self._named())
            self.end("internal error")

    def _named(self) -> dict[str, object]:
        return {"session": self.id[:6], "stream": self.stream, "client": self.client}

    # ------------------------------------------------------------------ for viewers and publishers

    def connected(self, now: float) -> None:
        """The ciphers are there."""
        raise NotImplementedError

    def closing(self, *, connected: bool) -> None:
        """Say good-bye, if there is whom to say it to, and let go of everything."""
        raise NotImplementedError

    def take_rtp(self, data: bytes, now: float) -> None:
        """A packet of RTP came. Viewers send none, and are not listened to."""

    def take_rtcp(self, data: bytes, now: float) -> None:
        """A compound packet of RTCP came."""
        raise NotImplementedError
