"""WebRTC clients for tests, of aiortc: a viewer or publisher by SDP, a bare one by ICE and DTLS.

    client = await WebRtcClient.open(video="recvonly", audio="recvonly")
    await client.accept(answer_to(client.offer))
    await client.connected()
    client.received[ssrc].sequences                 # decrypted, in the order of arrival

Packets are counted and kept from aiortc's own receivers, so that nothing is decoded. aioice takes
no loopback address and speaks no TCP: the first is changed while a client gathers (here alone), for
the second there is `FramedRelay`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aioice.ice
from aiortc import (
    RTCBundlePolicy,
    RTCCertificate,
    RTCConfiguration,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceParameters
from aiortc.rtp import (
    AnyRtcpPacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
)
from aiortc.sdp import candidate_from_sdp

PLI = 1
NACK = 1
FIRST_CHECK_S = 15.0
"""For whatever a client waits for; a busy machine takes seconds for a handshake."""
_PACKETS_MAX = 4096
"""Payloads that are kept, of one SSRC: the newest."""


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """aioice gathers on 127.0.0.1 meanwhile, and nowhere else."""
    theirs = aioice.ice.get_host_addresses
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    try:
        yield
    finally:
        aioice.ice.get_host_addresses = theirs


@dataclass
class Received:
    """What came with one SSRC."""

    sequences: list[int] = field(default_factory=list)
    """Of all packets, in the order of arrival; 16 bits."""
    timestamps: list[int] = field(default_factory=list)
    payload_types: set[int] = field(default_factory=set)
    octets: int = 0
    """Of payload."""
    newest: list[RtpPacket] = field(default_factory=list)

    @property
    def missing(self) -> set[int]:
        """Numbers that did not come, between the first and the last (less than 2¹⁵ apart)."""
        if not self.sequences:
            return set()
        first = self.sequences[0]
        seen = {_signed(number - first) for number in self.sequences}
        return {(first + at) & 0xFFFF for at in range(min(seen), max(seen)) if at not in seen}


def _signed(difference: int) -> int:
    return (difference + 0x8000 & 0xFFFF) - 0x8000


class Listening:
    """What came by a DTLS transport, and what can be sent by it."""

    own_ssrc = 0x0C0FFEE0
    """The sender of our reports and requests."""

    def __init__(self) -> None:
        self.received: dict[int, Received] = {}
        self.rtcp: list[AnyRtcpPacket] = []
        self.undecipherable = 0
        """Packets that do not parse after they were decrypted."""
        self._dtls: RTCDtlsTransport | None = None

    @property
    def dtls(self) -> RTCDtlsTransport:
        """The transport that all media go by."""
        assert self._dtls is not None, "not negotiated yet"
        return self._dtls

    def listen(self, dtls: RTCDtlsTransport) -> None:
        """Take its packets from aiortc's own receivers."""
        self._dtls = dtls
        dtls._handle_rtp_data = self._take_rtp  # type: ignore[method-assign] # see the file's head
        dtls._handle_rtcp_data = self._take_rtcp  # type: ignore[method-assign] # likewise

    async def _take_rtp(self, data: bytes, arrival_time_ms: int) -> None:
        try:
            packet = RtpPacket.parse(data)
        except ValueError:
            self.undecipherable += 1
            return
        received = self.received.setdefault(packet.ssrc, Received())
        received.sequences.append(packet.sequence_number)
        received.timestamps.append(packet.timestamp)
        received.payload_types.add(packet.payload_type)
        received.octets += len(packet.payload)
        received.newest.append(packet)
        del received.newest[:-_PACKETS_MAX]

    async def _take_rtcp(self, data: bytes) -> None:
        try:
            self.rtcp += RtcpPacket.parse(data)
        except ValueError:
            self.undecipherable += 1

    @property
    def sender_reports(self) -> list[RtcpSrPacket]:
        """Those that came."""
        return [packet for packet in self.rtcp if isinstance(packet, RtcpSrPacket)]

    async def send(self, packet: bytes) -> None:
        """Encrypt and send a packet of RTP or RTCP."""
        await self.dtls._send_rtp(packet)

    async def send_pli(self, ssrc: int) -> None:
        """Ask for a keyframe (RFC 4585, 6.3.1)."""
        await self.send(bytes(RtcpPsfbPacket(fmt=PLI, ssrc=self.own_ssrc, media_ssrc=ssrc)))

    async def send_nack(self, ssrc: int, lost: Sequence[int]) -> None:
        """Ask for packets again (RFC 4585, 6.2.1)."""
        request = RtcpRtpfbPacket(fmt=NACK, ssrc=self.own_ssrc, media_ssrc=ssrc, lost=list(lost))
        await self.send(bytes(request))

    async def send_rr(
        self, ssrc: int, *, lost: float = 0.0, highest: int = 0, lsr: int = 0
    ) -> None:
        """Report on what came (RFC 3550, 6.4.2); `lost` is a share."""
        report = RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=min(int(lost * 256), 255),
            packets_lost=0,
            highest_sequence=highest,
            jitter=0,
            lsr=lsr,
            dlsr=0,
        )
        await self.send(bytes(RtcpRrPacket(ssrc=self.own_ssrc, reports=[report])))

    async def send_rtp(
        self,
        payload: bytes,
        *,
        ssrc: int,
        payload_type: int,
        sequence: int,
        timestamp: int,
        marker: bool = False,
    ) -> None:
        """Send a packet as a publisher does."""
        second = payload_type | (0x80 if marker else 0)
        numbers = (sequence & 0xFFFF, timestamp & 0xFFFFFFFF)
        await self.send(struct.pack("!BBHII", 0x80, second, *numbers, ssrc) + payload)


class BareClient(Listening):
    """ICE (controlling) and DTLS (client), without SDP."""

    def __init__(self, ice: RTCIceTransport, certificate: RTCCertificate) -> None:
        super().__init__()
        self.ice = ice
        self._certificate = certificate
        dtls = RTCDtlsTransport(ice, [certificate])
        dtls._set_role("client")
        self.listen(dtls)

    @classmethod
    async def open(cls) -> BareClient:
        """Gather on loopback."""
        gatherer = RTCIceGatherer(iceServers=[])
        with loopback_only():
            await gatherer.gather()
        ice = RTCIceTransport(gatherer)
        ice._connection.ice_controlling = True
        return cls(ice, RTCCertificate.generateCertificate())

    @property
    def fingerprints(self) -> list[str]:
        """`sha-256 AA:BB:…`, and of longer hashes."""
        return [f"{one.algorithm} {one.value}" for one in self._certificate.getFingerprints()]

    async def check(
        self, candidates: Sequence[str], ufrag: str, password: str, within_s: float = FIRST_CHECK_S
    ) -> None:
        """Do ICE with a lite agent. Raises ConnectionError, TimeoutError."""
        async with asyncio.timeout(within_s):
            for line in candidates:
                candidate = candidate_from_sdp(line.removeprefix("candidate:"))
                await self.ice.addRemoteCandidate(candidate)
            await self.ice.addRemoteCandidate(None)
            await self.ice.start(RTCIceParameters(ufrag, password, iceLite=True))
        if self.ice.state != "completed":
            raise ConnectionError(f"ICE: {self.ice.state}")

    async def handshake(self, fingerprint: str, within_s: float = FIRST_CHECK_S) -> None:
        """Do DTLS with a server whose certificate has this fingerprint."""
        theirs = RTCDtlsFingerprint(*fingerprint.split(" ", 1))
        async with asyncio.timeout(within_s):
            await self.dtls.start(RTCDtlsParameters([theirs]))
        if self.dtls.state != "connected":
            raise ConnectionError(f"DTLS: {self.dtls.state}")

    async def check_again(self, ufrag: str, password: str, *, nominate: bool = True) -> None:
        """One more check by the pair in use. Raises aioice.stun.TransactionError."""
        connection = self.ice._connection
        connection.remote_username, connection.remote_password = ufrag, password
        pair = connection._nominated[1]
        request = connection.build_request(pair, nominate=nominate)
        await pair.protocol.request(
            request, pair.remote_addr, integrity_key=password.encode(), retransmissions=2
        )

    async def close(self) -> None:
        """With a good-bye, if there was a handshake."""
        await self.dtls.stop()
        await self.ice.stop()


class WebRtcClient(Listening):
    """A viewer ("recvonly") or publisher ("sendonly") by offer and answer."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        super().__init__()
        self.pc = connection

    @classmethod
    async def open(
        cls, *, video: str | None = "recvonly", audio: str | None = None
    ) -> WebRtcClient:
        """Make an offer, with all candidates, of these directions."""
        servers = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        client = cls(RTCPeerConnection(servers))
        for kind, direction in (("audio", audio), ("video", video)):
            if direction is not None:
                client.pc.addTransceiver(kind, direction=direction)
        await client._offer()
        return client

    async def _offer(self) -> None:
        offer = await self.pc.createOffer()
        with loopback_only():
            await self.pc.setLocalDescription(offer)

    @property
    def offer(self) -> str:
        """Our description."""
        return str(self.pc.localDescription.sdp)

    async def accept(self, answer: str, *, relay: FramedRelay | None = None) -> None:
        """Take the answer; checks begin. With a relay, media go by TCP."""
        if relay is not None:
            answer = relay.in_place_of(answer)
        self._listen_at(self.pc.getTransceivers()[0])
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        self._listen_at(self.pc.getTransceivers()[0])

    async def answer(self, offer: str, *, relay: FramedRelay | None = None) -> str:
        """Answer the server's own offer; for a client opened with no media of its own."""
        if relay is not None:
            offer = relay.in_place_of(offer)
        await self.pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        self._listen_at(self.pc.getTransceivers()[0])
        answer = await self.pc.createAnswer()
        with loopback_only():
            await self.pc.setLocalDescription(answer)
        return str(self.pc.localDescription.sdp)

    @classmethod
    def waiting(cls) -> WebRtcClient:
        """A client that waits for an offer."""
        servers = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        return cls(RTCPeerConnection(servers))

    def _listen_at(self, transceiver: Any) -> None:
        dtls = transceiver.receiver.transport
        if dtls is not self._dtls:
            self.listen(dtls)

    async def connected(self, within_s: float = FIRST_CHECK_S) -> None:
        """Wait for ICE and DTLS. Raises ConnectionError, TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.pc.connectionState != "connected":
                if self.pc.connectionState in ("failed", "closed"):
                    raise ConnectionError(self.pc.connectionState)
                await asyncio.sleep(0.01)

    def ssrc_of_sender(self, kind: str) -> int:
        """The SSRC that our offer gives to what we send."""
        sender = next(one.sender for one in self.pc.getTransceivers() if one.kind == kind)
        return int(sender._ssrc)

    async def vanish(self) -> None:
        """Stop answering and sending, without a word."""
        await self.dtls.transport.stop()

    async def close(self) -> None:
        """With a good-bye."""
        await self.pc.close()


class FramedRelay:
    """Datagrams at its front, a connection with frames of RFC 4571 behind: what a client of UDP
    needs to speak ICE-TCP. Give it in place of the server's candidates."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._front: asyncio.DatagramTransport | None = None
        self._client: tuple[str, int] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._flows = asyncio.Event()
        self._flows.set()

    @classmethod
    async def open(cls, host: str, port: int) -> FramedRelay:
        """Connect to the media port by TCP."""
        relay = cls(*await asyncio.open_connection(host, port))
        loop = asyncio.get_running_loop()
        relay._front, _ = await loop.create_datagram_endpoint(
            lambda: _Front(relay), local_addr=("127.0.0.1", 0)
        )
        relay._reading = loop.create_task(relay._read())
        return relay

    @property
    def candidate(self) -> str:
        """Its front, as a candidate."""
        assert self._front is not None
        port = self._front.get_extra_info("sockname")[1]
        return f"candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host"

    def in_place_of(self, description: str) -> str:
        """A description whose only candidate is the relay's front."""
        own = f"a={self.candidate}\r\n"
        without = re.sub(r"a=candidate:[^\r\n]*\r?\n", "", description)
        return without.replace("a=end-of-candidates\r\n", f"{own}a=end-of-candidates\r\n")

    def forward(self, datagram: bytes, client: tuple[str, int]) -> None:
        """From the client to the server."""
        self._client = client
        if not self._writer.is_closing():
            self._writer.write(len(datagram).to_bytes(2, "big") + datagram)

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._flows.wait():
                length = int.from_bytes(await self._reader.readexactly(2), "big")
                packet = await self._reader.readexactly(length)
                if self._client is not None and self._front is not None:
                    self._front.sendto(packet, self._client)

    def stall(self) -> None:
        """Take nothing more from the server, as behind a link that is too slow."""
        self._flows.clear()

    def flow(self) -> None:
        """Take it again."""
        self._flows.set()

    async def close(self) -> None:
        """Close both sides."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._front is not None:
            self._front.close()
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class _Front(asyncio.DatagramProtocol):
    def __init__(self, relay: FramedRelay) -> None:
        self._relay = relay

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._relay.forward(data, addr)
