"""One browser: its ICE session, its DTLS, its ciphers.

    check ─► Agent ─┬─ valid ─────► DTLS ─► Ciphers
                    └─ nominated ─► connected: media goes by this pair, and DTLS, too

DTLS does not wait for the nomination: Chromium says hello with its first check, and nominates 50 ms
later. Who does a handshake by a pair that passed a check listens there (RFC 8445, 12.1.1, lets full
agents send on such a pair). Media is sent by the nominated pair alone; what the peer sends is taken
from any that passed a check.

Packets come synchronously from the media port; nothing waits here but datagrams of DTLS, and those
have a bound (`aiortc_private`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from callboard.gateway.aiortc_private import Certificate, Ciphers, DtlsServer, Forged, Replayed
from callboard.gateway.ice.agent import CONSENT_S, Agent, Checked
from callboard.gateway.ice.binding import Request
from callboard.gateway.ice.credentials import Credentials
from callboard.gateway.mux.counters import MediaCounters
from callboard.gateway.mux.kinds import Kind
from callboard.gateway.mux.pairs import MuxPair
from callboard.gateway.ports import Pair, Srtp

log = logging.getLogger(__name__)


class Register(Protocol):
    """Where peers are found by their username fragments."""

    counters: MediaCounters

    def enter(self, peer: BrowserPeer) -> Credentials:
        """Give a peer credentials, by which its checks find it from now on."""

    def strike(self, ufrag: str) -> None:
        """Checks with this username fragment are nobody's from now on."""

    def forget(self, peer: BrowserPeer) -> None:
        """A peer is closed."""


def _ignore_pair(pair: Pair) -> None:
    """Nobody asked."""


def _ignore_packet(packet: bytes, now: float) -> None:
    """Nobody asked."""


def _ignore_reason(reason: str) -> None:
    """Nobody asked."""


class BrowserPeer:
    """See `ports.Peer`. Made by `MediaTransports.peer`."""

    def __init__(self, register: Register, certificate: Certificate) -> None:
        self._register = register
        self._counters = register.counters
        self._certificate = certificate
        self._agent = Agent(register.enter(self))
        self._dtls = DtlsServer(certificate, self._send_dtls)
        self._dtls.on_closed = self._dtls_closed
        self._ciphers: Ciphers | None = None
        self._greeted: Pair | None = None
        """What DTLS came by last."""
        self._pair: Pair | None = None
        """What was nominated last."""
        self._begun = asyncio.Event()
        self._nominated = asyncio.Event()
        self._closed = False
        self._tell_nobody()

    def _tell_nobody(self) -> None:
        self.on_pair: Callable[[Pair], None] = _ignore_pair
        self.on_rtp: Callable[[bytes, float], None] = _ignore_packet
        self.on_rtcp: Callable[[bytes, float], None] = _ignore_packet
        self.on_closed: Callable[[str], None] = _ignore_reason
        self.on_writable: Callable[[Pair], None] = _ignore_pair
        """Called when the pair that media goes by had dropped RTP (a connection whose queue was
        full) and has room again: a keyframe is due."""

    # ------------------------------------------------------------------ for sessions

    @property
    def ufrag(self) -> str:
        """Of the description we give."""
        return self._agent.credentials.ufrag

    @property
    def password(self) -> str:
        """Likewise."""
        return self._agent.credentials.password

    @property
    def fingerprint(self) -> str:
        """Of the certificate: `sha-256 AA:BB:…`."""
        return self._certificate.fingerprint

    @property
    def srtp(self) -> Srtp:
        """After `connect`. Raises ConnectionError before."""
        if self._ciphers is None:
            raise ConnectionError("not connected")
        return self._ciphers

    @property
    def profile(self) -> str:
        """The SRTP profile, as OpenSSL names it; empty before `connect`."""
        return self._ciphers.profile if self._ciphers is not None else ""

    @property
    def pair(self) -> Pair:
        """The last valid nominated one. Raises ConnectionError before the first."""
        if self._pair is None:
            raise ConnectionError("no pair is nominated")
        return self._pair

    async def connect(self, fingerprints: Sequence[str], within_s: float) -> None:
        """Wait for DTLS with a peer that has one of these certificates, and for ICE's nomination.
        Raises ConnectionError, TimeoutError; the peer is closed then, as when it is cancelled."""
        connected = False
        try:
            async with asyncio.timeout(within_s):
                await self._wait(self._begun)
                self._ciphers = await self._dtls.accept(fingerprints)
                await self._wait(self._nominated)
            connected = True
        except TimeoutError:
            raise TimeoutError(f"no {self._missing} within {within_s:g} s") from None
        finally:
            if not connected:
                self.close()

    def restart(self) -> tuple[str, str]:
        """See `ports.Peer.restart`. Raises ConnectionError once it is closed."""
        if self._closed:
            raise ConnectionError("closed")
        retired = self._agent.restart(self._register.enter(self))
        if retired is not None:
            self._register.strike(retired)
        return self.ufrag, self.password

    def send_rtcp(self, data: bytes) -> None:
        """Encrypt and send a compound packet; dropped before `connect` and after `close`. Raises
        ValueError for what is no RTCP."""
        if self._ciphers is not None and self._pair is not None and not self._closed:
            self._pair.send(self._ciphers.protect_rtcp(data))

    def close(self) -> None:
        """Say good-bye and forget it; idempotent. `on_closed` is not called."""
        if self._closed:
            return
        self._closed = True
        self._dtls.close()
        for ufrag in self._agent.ufrags:
            self._register.strike(ufrag)
        self._register.forget(self)
        for pair in self._agent.pairs:
            self._release(pair)
        self._begun.set()
        self._nominated.set()
        self._tell_nobody()  # also so that no cycle of references is left

    # ------------------------------------------------------------------ for the media port

    def check(self, request: Request, pair: MuxPair, now: float) -> Checked:
        """Answer a Binding request with one of our username fragments."""
        checked = self._agent.check(request, pair, now)
        if checked.retired is not None:
            self._register.strike(checked.retired)
        if checked.forgotten is not None:
            self._release(checked.forgotten)
        if checked.valid:
            self._counters.checks += 1
            pair.keep(self)
            self._follow()
        return checked

    def received(self, kind: Kind, packet: bytes, pair: MuxPair, now: float) -> None:
        """Take a packet of DTLS, RTP or RTCP that came by one of our pairs."""
        if kind is Kind.DTLS:
            self._greeted = pair
            self._begun.set()
            if not self._dtls.feed(packet):
                self._counters.dtls_dropped += 1
            return
        if self._ciphers is None:
            self._counters.strangers += 1
            return
        rtcp = kind is Kind.RTCP
        unprotect = self._ciphers.unprotect_rtcp if rtcp else self._ciphers.unprotect_rtp
        try:
            plain = unprotect(packet)
        except Replayed:
            self._counters.srtp_replayed += 1
            return
        except Forged:
            self._counters.srtp_forged += 1
            return
        (self.on_rtcp if rtcp else self.on_rtp)(plain, now)

    def lost(self, pair: MuxPair) -> None:
        """A pair is no more. If there is no other, ours stays until the peer has gone."""
        self._agent.lose(pair)
        self._follow()

    def writable(self, pair: MuxPair) -> None:
        """A pair has room again."""
        if pair is self._pair and self._ciphers is not None:
            self.on_writable(pair)

    def sweep(self, now: float) -> None:
        """Look whether the peer has gone; called now and then."""
        deadline = self._agent.deadline
        if deadline is not None and now >= deadline:
            self._counters.peers_gone += 1
            self._gone(f"silent for {CONSENT_S:g} s")

    # ------------------------------------------------------------------ between the parts

    async def _wait(self, event: asyncio.Event) -> None:
        await event.wait()
        if self._closed:
            raise ConnectionError("closed before it was connected")

    @property
    def _missing(self) -> str:
        if self._agent.deadline is None:
            return "valid check"
        return "DTLS handshake" if self._ciphers is None else "nomination"

    def _follow(self) -> None:
        """Send by the pair that is selected now."""
        former, selected = self._pair, self._agent.selected
        if selected is None or selected is former or self._closed:
            return
        self._pair = selected
        self._begun.set()
        self._nominated.set()
        if former is not None and self._ciphers is not None:
            self.on_pair(selected)

    def _release(self, pair: Pair) -> None:
        mine: MuxPair = pair  # type: ignore[assignment] # all pairs of its agent came by `check`
        if mine.owner is self:
            mine.release()

    def _send_dtls(self, datagram: bytes) -> None:
        pair = self._pair or self._greeted
        if pair is not None:
            pair.send(datagram)

    def _dtls_closed(self) -> None:
        self._gone("closed by the peer")

    def _gone(self, reason: str) -> None:
        connected = self._ciphers is not None and self._pair is not None
        told = self.on_closed if connected else _ignore_reason
        self.close()
        log.debug("a peer has gone", extra={"reason": reason})
        told(reason)
