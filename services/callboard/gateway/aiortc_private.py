"""All that touches the private parts of aiortc, and pylibsrtp's cffi objects: DTLS as a server over
packets of ours, and the ciphers of SRTP that come of it.

aiortc's `RTCDtlsTransport` drives OpenSSL through the handshake, checks and exports keys. It wants
an `RTCIceTransport`; `_Wire` has the three names of it that are used. What is overridden:

- `_create_ssl_context` of the certificate: one context for all peers, since making one takes 5 ms;
  and OpenSSL is told the size of datagrams (it takes 256 bytes otherwise, and flights get longer).
- `_write_ssl`: sends all that OpenSSL has to say, in datagrams of `DATAGRAM_BYTES_MAX`, at once.
- `_validate_peer_identity`: a peer that has one of the fingerprints is the right one.
- SRTP does not come here at all: `Ciphers` is called directly.

tests/unit/gateway/test_aiortc_private.py pins each of these calls.
"""

from __future__ import annotations

import asyncio
import datetime
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
    State,
    certificate_digest,
)
from OpenSSL import SSL

# pylibsrtp keeps its cffi objects out of __all__; they are typed nowhere
from pylibsrtp import Session, ffi, lib  # type: ignore[attr-defined]

DATAGRAM_BYTES_MAX = 1200
"""Of DTLS: fits a path of 1,280 bytes (IPv6's least), with its headers and TURN's."""
WAITING_MAX = 64
"""Datagrams of DTLS that wait to be taken; a handshake has ten. More are dropped: the other side
repeats them."""
PACKET_BYTES_MAX = 2048
"""Of SRTP and SRTCP, both ways."""
SSRCS_MAX = 64
"""Of one peer: each costs libsrtp a stream, for good."""
RENEW_BEFORE = datetime.timedelta(days=7)

_TRAILER_BYTES_MAX = 4 + 16 + 128
"""SRTP_MAX_SRTCP_TRAILER_LEN."""
_RECORD_HEAD_BYTES = 13
_FINGERPRINTS = ("sha-256", "sha-384", "sha-512")
_REPLAYED = (9, 10)
"""srtp_err_status_replay_fail, srtp_err_status_replay_old."""


class Forged(Exception):
    """A packet that is not the peer's, or is damaged."""


class Replayed(Exception):
    """A packet that came before, or comes too late to tell."""


class Certificate(RTCCertificate):
    """A self-signed certificate (ECDSA, P-256), good for 30 days, and its context for OpenSSL."""

    _context: SSL.Context | None = None

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
            self._context.set_options(SSL.OP_NO_QUERY_MTU)
        return self._context

    @property
    def fingerprint(self) -> str:
        """As in a=fingerprint (RFC 8122, 5): `sha-256 AA:BB:…`."""
        first = self.getFingerprints()[0]
        return f"{first.algorithm} {first.value}"


class Certificates:
    """The certificate that all peers of a process share; a new one before it expires."""

    def __init__(self) -> None:
        self._current: Certificate | None = None

    def current(self) -> Certificate:
        """For a new peer."""
        now = datetime.datetime.now(datetime.UTC)
        if self._current is None or self._current.expires - now < RENEW_BEFORE:
            self._current = Certificate.generateCertificate()
        return self._current


class Ciphers:
    """The two SRTP sessions of one peer (RFC 5764): see `ports.Srtp`. Used by one thread."""

    def __init__(self, sending: Session, receiving: Session, profile: str) -> None:
        self.profile = profile
        """Its name in OpenSSL, `SRTP_AEAD_AES_256_GCM`."""
        self._sending = sending
        self._receiving = receiving
        self._ssrcs: set[bytes] = set()

    @property
    def sending(self) -> int:
        """libsrtp's session for what goes out, as a pointer; good while this object lives."""
        return int(ffi.cast("uintptr_t", self._sending._srtp[0]))

    def protect_rtcp(self, data: bytes) -> bytes:
        """Encrypt a compound packet. Raises ValueError for what libsrtp refuses: no RTCP, too
        long."""
        if len(data) > PACKET_BYTES_MAX:
            raise ValueError(f"{len(data)} bytes of RTCP")
        code, protected = _process(lib.srtp_protect_rtcp, self._sending, data)
        if code:
            raise ValueError(f"libsrtp refuses to encrypt RTCP: status {code}")
        return protected

    def unprotect_rtp(self, packet: bytes) -> bytes:
        """Decrypt a packet. Raises Forged, Replayed."""
        return self._unprotect(lib.srtp_unprotect, packet, packet[8:12])

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Decrypt a compound packet. Raises Forged, Replayed."""
        return self._unprotect(lib.srtp_unprotect_rtcp, packet, packet[4:8])

    def _unprotect(self, function: Any, packet: bytes, ssrc: bytes) -> bytes:
        if len(packet) > PACKET_BYTES_MAX:
            raise Forged(f"{len(packet)} bytes")
        if ssrc not in self._ssrcs and len(self._ssrcs) >= SSRCS_MAX:
            raise Forged(f"more than {SSRCS_MAX} SSRCs")
        code, plain = _process(function, self._receiving, packet)
        if code in _REPLAYED:
            raise Replayed
        if code:
            raise Forged(f"status {code}")
        self._ssrcs.add(ssrc)
        return plain


_packet = ffi.new("char[]", PACKET_BYTES_MAX + _TRAILER_BYTES_MAX)
_view = memoryview(ffi.buffer(_packet))
_count = ffi.new("int *")


def _process(function: Any, session: Session, data: bytes) -> tuple[int, bytes]:
    """Call libsrtp on a copy of a packet, in the one buffer. Returns its status and the result."""
    _view[: len(data)] = data
    _count[0] = len(data)
    code = int(function(session._srtp[0], _packet, _count))
    return code, b"" if code else bytes(_view[: _count[0]])


class _Wire:
    """What `RTCDtlsTransport` uses of an `RTCIceTransport`."""

    role = "controlled"

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._taker: asyncio.Future[None] | None = None
        self._closed = False

    def feed(self, datagram: bytes) -> bool:
        if self._closed or len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting.append(datagram)
        self._wake()
        return True

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._wake()

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    async def _recv(self) -> bytes:
        while not self._waiting:
            if self._closed:
                raise ConnectionError("closed")
            self._taker = asyncio.get_running_loop().create_future()
            await self._taker
        return self._waiting.popleft()

    async def _send(self, data: bytes) -> None:
        raise AssertionError("_write_ssl is overridden: nothing else sends")


def _nowhere(datagram: bytes) -> None:
    """What is said after the end."""


def _nobody() -> None:
    """Nobody asked."""


class DtlsServer(RTCDtlsTransport):
    """DTLS with one peer, who is the client (a=setup:active)."""

    def __init__(self, certificate: Certificate, send: Callable[[bytes], object]) -> None:
        """`send` is called with each datagram for the peer."""
        self._wire = _Wire()
        # a shim of its own: it has what is used of the real one
        super().__init__(self._wire, [certificate])  # type: ignore[arg-type]
        self._send_datagram = send
        self._refusal = "the DTLS handshake failed"
        self.on_closed: Callable[[], None] = _nobody
        """Called when the peer has closed an accepted connection."""
        self._set_role("server")
        self.on("statechange", self._state_changed)

    def feed(self, datagram: bytes) -> bool:
        """Take a datagram of the peer; False if too many wait. They may come before `accept`."""
        return self._wire.feed(datagram)

    async def accept(self, fingerprints: Sequence[str]) -> Ciphers:
        """Do the handshake with a peer that has a certificate with one of these fingerprints
        (`sha-256 AA:BB:…`). Raises ConnectionError; waits for as long as the peer says nothing."""
        wanted = [RTCDtlsFingerprint(*one.split(maxsplit=1)) for one in fingerprints if " " in one]
        if not wanted:
            raise ConnectionError("the peer's description has no fingerprint")
        await self.start(RTCDtlsParameters(fingerprints=wanted))
        if self._state is not State.CONNECTED:
            raise ConnectionError(self._refusal)
        assert self._ssl is not None
        profile = self._ssl.get_selected_srtp_profile().decode("ascii")
        return Ciphers(self._tx_srtp, self._rx_srtp, profile)

    def close(self) -> None:
        """Say good-bye (close_notify, or the alert that a handshake ended with), and stop."""
        self.on_closed = _nobody
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._ssl is not None:
            try:
                self._ssl.shutdown()
            except SSL.Error:  # there is no connection yet
                pass
            self._flush()
        self._wire.close()
        # no cycles are left: OpenSSL's 100 KB go with the last reference, not with the collector
        self._send_datagram = _nowhere
        self.remove_all_listeners()

    def _state_changed(self) -> None:
        if self._state is State.CLOSED:
            self.on_closed()

    def _validate_peer_identity(
        self,
        remoteParameters: RTCDtlsParameters,  # noqa: N803 - aiortc's name
    ) -> None:
        assert self._ssl is not None
        certificate = self._ssl.get_peer_certificate(as_cryptography=True)
        for wanted in remoteParameters.fingerprints:
            algorithm = wanted.algorithm.lower()
            if certificate is None or algorithm not in _FINGERPRINTS:
                continue
            if wanted.value.strip().upper() == certificate_digest(certificate, algorithm):
                return
        self._refusal = "the peer's certificate has none of the fingerprints of its description"
        self._set_state(State.FAILED)

    async def _write_ssl(self) -> None:
        self._flush()

    def _flush(self) -> None:
        assert self._ssl is not None
        said = bytearray()
        while True:
            try:
                said += self._ssl.bio_read(1 << 16)
            except SSL.Error:
                break
        for datagram in datagrams(bytes(said)):
            self._send_datagram(datagram)

    async def _do_handshake(self) -> None:
        assert self._ssl is not None
        self._ssl.set_ciphertext_mtu(DATAGRAM_BYTES_MAX)
        await super()._do_handshake()


def datagrams(flight: bytes) -> list[bytes]:
    """Records of DTLS (RFC 6347, 4.1) as they go into datagrams: none is cut."""
    packed: list[bytes] = []
    begin = end = 0
    while end < len(flight):
        length = int.from_bytes(flight[end + 11 : end + _RECORD_HEAD_BYTES], "big")
        after = min(end + _RECORD_HEAD_BYTES + length, len(flight))
        if after - begin > DATAGRAM_BYTES_MAX and end > begin:
            packed.append(flight[begin:end])
            begin = end
        end = after
    return [*packed, flight[begin:]] if begin < len(flight) else packed
