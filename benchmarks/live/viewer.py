"""A viewer for load: whole ICE and DTLS by aiortc; then packets are counted as they come, one in
fifty is decrypted, and a report is sent each second, as browsers do. Nothing is decoded or asked
for again.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import aioice.ice
import pylibsrtp
from aiortc import RTCCertificate, RTCDtlsTransport, RTCIceGatherer, RTCIceTransport
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters, SRTPProtectionProfile
from aiortc.rtcicetransport import RTCIceParameters
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket
from aiortc.sdp import MediaDescription, SessionDescription
from OpenSSL import SSL

RECEIVE_BUFFER_BYTES = 1 << 20
"""Of each viewer's socket, asked of the kernel (SO_RCVBUFFORCE)."""
DECRYPTED_EACH = 50
CONNECT_WITHIN_S = 30.0
_RECEIVE_BUFFER_FORCE = 33
"""SO_RCVBUFFORCE; Python has no name for it."""
_OWN_SSRC = 0x0C0FFEE1


class Certificate(RTCCertificate):
    """One for all viewers, with one context for OpenSSL: viewers are not what is measured."""

    _context: SSL.Context | None = None

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
        return self._context


class Counting(aioice.ice.StunProtocol):
    """aioice's socket, but RTP and RTCP go to the viewer at once."""

    viewer: Viewer | None = None

    def datagram_received(self, data: bytes | str, addr: tuple[object, ...]) -> None:
        """See asyncio.DatagramProtocol."""
        if 127 < cast(bytes, data)[0] < 192:
            if self.viewer is not None:
                self.viewer.take(cast(bytes, data))
        else:
            super().datagram_received(data, addr)


def install() -> None:
    """aioice makes such sockets from now on."""
    aioice.ice.StunProtocol = Counting  # type: ignore[misc] # its one name for it


class Count:
    """Of one SSRC."""

    __slots__ = ("first", "highest", "received")

    def __init__(self, first: int) -> None:
        self.received = 0
        self.first = first
        self.highest = first - 1
        """Sequence number, extended."""

    @property
    def missing(self) -> int:
        """Numbers that have not come, between the first and the highest."""
        return self.highest - self.first + 1 - self.received

    def take(self, sequence: int) -> None:
        """Count one packet."""
        step = (sequence - self.highest) & 0xFFFF
        if step < 0x8000:
            self.highest += step
        self.received += 1


class Viewer:
    """From `open` to `close`."""

    def __init__(self, ice: RTCIceTransport, certificate: Certificate) -> None:
        self.ice = ice
        self.dtls = RTCDtlsTransport(ice, [certificate])
        self.dtls._set_role("client")
        self.certificate = certificate
        self.counts: dict[bytes, Count] = {}
        self.undecryptable = 0
        self.decrypted = 0
        self.first = asyncio.Event()
        """Set with the first packet."""

    @classmethod
    async def open(cls, certificate: Certificate, *, controlling: bool) -> Viewer:
        """Gather candidates."""
        gatherer = RTCIceGatherer(iceServers=[])
        await gatherer.gather()
        ice = RTCIceTransport(gatherer)
        connection = ice._connection
        connection.ice_controlling = controlling
        viewer = cls(ice, certificate)
        for protocol in connection._protocols:
            assert isinstance(protocol, Counting)
            protocol.viewer = viewer
            sock: socket.socket = protocol.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, RECEIVE_BUFFER_BYTES)
        return viewer

    # ------------------------------------------------------------------ descriptions

    def offer(self) -> str:
        """To receive Opus and VP8."""
        audio = ["a=rtpmap:111 opus/48000/2"]
        video = ["a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli"]
        media = [("audio", "0", 111, audio), ("video", "1", 96, video)]
        return self._description(media, "actpass")

    def answer(self, offer: str) -> str:
        """To all that is offered."""
        media = []
        for section in SessionDescription.parse(offer).media:
            payload_type = int(section.fmt[0])
            codec = next(c for c in section.rtp.codecs if c.payloadType == payload_type)
            lines = [f"a=rtpmap:{payload_type} {codec}"]
            lines += [
                f"a=rtcp-fb:{payload_type} {each.type} {each.parameter or ''}".strip()
                for each in codec.rtcpFeedback
                if each.type == "nack"
            ]
            media.append((section.kind, section.rtp.muxId, payload_type, lines))
        return self._description(media, "active")

    def _description(self, media: list[tuple[str, str, int, list[str]]], setup: str) -> str:
        own = self.ice.iceGatherer.getLocalParameters()
        finger = self.certificate.getFingerprints()[0]
        lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
        lines.append("a=group:BUNDLE " + " ".join(mid for _, mid, _, _ in media))
        for kind, mid, payload_type, codec in media:
            lines += [
                f"m={kind} 9 UDP/TLS/RTP/SAVPF {payload_type}",
                "c=IN IP4 0.0.0.0",
                *(f"a=mid:{mid}", "a=recvonly", "a=rtcp-mux"),
                *(f"a=ice-ufrag:{own.usernameFragment}", f"a=ice-pwd:{own.password}"),
                *(f"a=fingerprint:{finger.algorithm} {finger.value}", f"a=setup:{setup}"),
                *codec,
            ]
            for candidate in self.ice._connection.local_candidates:
                lines.append(f"a=candidate:{candidate.to_sdp()}")
            lines.append("a=end-of-candidates")
        return "\r\n".join(lines) + "\r\n"

    # ------------------------------------------------------------------ connection

    async def connect(self, description: str) -> None:
        """ICE and DTLS with whom this is of. Raises ConnectionError, TimeoutError."""
        parsed = SessionDescription.parse(description)
        first: MediaDescription = parsed.media[0]
        ice, dtls = first.ice, first.dtls
        if ice is None or ice.usernameFragment is None or ice.password is None or dtls is None:
            raise ConnectionError("no ICE or DTLS in the description")
        lite = "\na=ice-lite" in description
        async with asyncio.timeout(CONNECT_WITHIN_S):
            for candidate in first.ice_candidates:
                await self.ice.addRemoteCandidate(candidate)
            await self.ice.addRemoteCandidate(None)
            theirs = RTCIceParameters(ice.usernameFragment, ice.password, iceLite=lite)
            await self.ice.start(theirs)
            if self.ice.state != "completed":
                raise ConnectionError(f"ICE: {self.ice.state}")
            finger = dtls.fingerprints[0]
            await self.dtls.start(
                RTCDtlsParameters([RTCDtlsFingerprint(finger.algorithm, finger.value)])
            )
            if self.dtls.state != "connected":
                raise ConnectionError(f"DTLS: {self.dtls.state}")

    @property
    def profile(self) -> str:
        """The cipher."""
        return self.dtls._ssl.get_selected_srtp_profile().decode() if self.dtls._ssl else ""

    async def close(self) -> None:
        """With a good-bye."""
        for protocol in self.ice._connection._protocols:
            if isinstance(protocol, Counting):
                protocol.viewer = None
        await self.dtls.stop()
        await self.ice.stop()

    # ------------------------------------------------------------------ packets

    def take(self, data: bytes) -> None:
        """One packet of SRTP or SRTCP."""
        if 192 <= data[1] <= 223:
            return
        sequence = data[2] << 8 | data[3]
        count = self.counts.get(data[8:12])
        if count is None:
            count = self.counts[data[8:12]] = Count(sequence)
            self.first.set()
        count.take(sequence)
        if count.received % DECRYPTED_EACH == 0 and self.dtls._rx_srtp is not None:
            try:
                self.dtls._rx_srtp.unprotect(data)
                self.decrypted += 1
            except pylibsrtp.Error:
                self.undecryptable += 1

    async def report(self) -> None:
        """A receiver report on each track."""
        reports = [
            RtcpReceiverInfo(
                ssrc=int.from_bytes(ssrc, "big"),
                fraction_lost=0,
                packets_lost=0,
                highest_sequence=count.highest & 0xFFFFFFFF,
                jitter=0,
                lsr=0,
                dlsr=0,
            )
            for ssrc, count in self.counts.items()
        ]
        if reports and self.dtls.state == "connected":
            await self.dtls._send_rtp(bytes(RtcpRrPacket(ssrc=_OWN_SSRC, reports=reports)))

    def seen(self) -> tuple[int, int]:
        """Packets received, and missing, on all tracks since it is there."""
        counts = self.counts.values()
        return sum(one.received for one in counts), sum(one.missing for one in counts)
