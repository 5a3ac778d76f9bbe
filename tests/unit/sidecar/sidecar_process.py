"""A sidecar as a process under Debian's Python, and who takes leases of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import av
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtp import RtcpPacket, RtcpPsfbPacket, RtcpSrPacket
from tests.harness.asking import Reply, http
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.sockets import free_port

from callboard.media import rtp
from callboard.media.rtp import RtpPacket

ROOT = Path(__file__).parents[3]
PYTHON = "/usr/bin/python3"
"""Debian's: gi is its package."""
WITHIN_S = 20.0
DATAGRAM_BYTES_MAX = 2048
OPUS_RATE, VIDEO_RATE = 48_000, 90_000
NTP_BEFORE_UNIX_S = 2_208_988_800
"""From 1900 to 1970 (RFC 5905, 6)."""


@dataclass
class Sidecar:
    """A running one."""

    process: subprocess.Popen[bytes]
    port: int
    health: int
    log: Path
    tls: ssl.SSLContext | None = None

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request to the control port."""
        scheme = "https" if self.tls is not None else "http"
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        told = {"Content-Type": "application/json"} | dict(headers or {})
        url = f"{scheme}://127.0.0.1:{self.port}{path}"
        return http(method, url, sent, headers=told, tls=self.tls)

    def take(self, stream: str, **receivers: Receiver) -> str:
        """A lease; its ID."""
        ports = {track: receiver.port for track, receiver in receivers.items()}
        reply = self.ask("POST", "/leases", {"stream": stream, "ports": ports})
        assert reply.status == 201, reply.body
        assert reply.json()["lasts_s"] == 10
        return str(reply.json()["lease"])

    def ready(self) -> Reply:
        """What /readyz says."""
        return http("GET", f"http://127.0.0.1:{self.health}/readyz")

    def metric(self, line: str) -> float:
        """A value of /metrics by name and labels; 0.0 when it is not there."""
        text = http("GET", f"http://127.0.0.1:{self.health}/metrics").body.decode()
        values = [one.rpartition(" ")[2] for one in text.splitlines() if one.startswith(line + " ")]
        return float(values[0]) if values else 0.0

    def end(self) -> int:
        """End it by SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WITHIN_S * SLOW)


def run(*flags: str, libraries: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One that ends by itself; `libraries` has what it finds before Debian's."""
    argv = [PYTHON, "-m", "callboard.sidecar", "-log-json=false", *flags]
    environ = _environ()
    if libraries is not None:
        environ["PYTHONPATH"] += f":{libraries}"
    return subprocess.run(
        argv, env=environ, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}/libs:{ROOT}/services"}


@contextlib.contextmanager
def running(
    folder: Path,
    *flags: str,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[Sidecar]:
    """A sidecar at loopback that answers; `tls` is for who asks it."""
    port, health = port or free_port(), free_port()
    log = folder / "sidecar.log"
    argv = [
        *(PYTHON, "-m", "callboard.sidecar", f"-bind={host}", f"-port={port}"),
        *(f"-health=127.0.0.1:{health}", "-node=box", "-log-json=false", *flags),
    ]
    with log.open("ab") as file:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=_environ()
        )
    try:
        made = Sidecar(process, port, health, log, tls)

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            socket.create_connection((host, port), timeout=1).close()
            return True

        eventually_sync(answers, WITHIN_S)
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(WITHIN_S)


def encode(muxer: str, path: Path, *tracks: str) -> None:
    """Make a file; tracks are what gst-launch-1.0 takes, and end in `! m.`."""
    line = f"{muxer} name=m ! filesink location={path} {' '.join(tracks)}"
    subprocess.run(["gst-launch-1.0", "-q", *line.split()], check=True, timeout=60)


class Receiver:
    """One UDP port that RTP comes to."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.source: tuple[str, int] = ("", 0)
        """Of the last packet."""
        self.sources: set[tuple[str, int]] = set()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def packets(self, for_s: float) -> Iterator[bytes]:
        """What comes, for so long."""
        deadline = time.monotonic() + for_s
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data, self.source = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
            except TimeoutError:
                return
            self.sources.add(self.source)
            yield data

    def first(
        self, wanted: Callable[[bytes], bool] = lambda _: True, within_s: float = WITHIN_S
    ) -> bytes:
        """The first packet that is wanted."""
        for data in self.packets(within_s * SLOW):
            if wanted(data):
                return data
        raise AssertionError(f"no such packet within {within_s} s")

    def first_rtp(self, within_s: float = WITHIN_S) -> RtpPacket:
        """The first packet of RTP."""
        return rtp.parse(self.first(lambda data: not rtp.is_rtcp(data), within_s))

    def report(self, within_s: float = WITHIN_S) -> RtcpSrPacket:
        """The first sender report."""
        for data in self.packets(within_s * SLOW):
            if rtp.is_rtcp(data):
                found = [one for one in RtcpPacket.parse(data) if isinstance(one, RtcpSrPacket)]
                if found:
                    return found[0]
        raise AssertionError(f"no sender report within {within_s} s")

    def drain(self) -> int:
        """Take what waits; how many packets that were."""
        self._socket.settimeout(0)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while self._socket.recvfrom(DATAGRAM_BYTES_MAX):
                count += 1
        return count

    def ask_keyframe(self, ssrc: int, *, by: str = "") -> None:
        """Send a PLI to where RTP comes from (RFC 4585, 6.3.1); `by` another address than ours."""
        receiver_report = struct.pack("!BBHI", 0x80, 201, 1, 1)
        packet = receiver_report + bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=ssrc))
        if not by:
            self._socket.sendto(packet, self.source)
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((by, 0))
            other.sendto(packet, self.source)


def begins_keyframe(packet: RtpPacket) -> bool:
    """Whether a packet is the first of a VP8 keyframe (RFC 7741, 4.3: the P bit)."""
    descriptor, rest = VpxPayloadDescriptor.parse(packet.payload)
    begins = descriptor.partition_start == 1 and descriptor.partition_id == 0
    return begins and bool(rest) and not rest[0] & 1


def beeps(packets: Iterable[RtpPacket], level: float) -> list[int]:
    """The timestamps at which Opus gets louder than `level` (1.0 is full), after quiet."""
    decoder = av.CodecContext.create("opus", "r")
    found: list[int] = []
    quiet = 0
    for packet in packets:
        for frame in decoder.decode(av.Packet(packet.payload)):
            assert isinstance(frame, av.AudioFrame) and frame.sample_rate == OPUS_RATE
            samples = array("f", bytes(frame.planes[0]))[: frame.samples]
            assert frame.format.name == "fltp"
            for number, value in enumerate(samples):
                if abs(value) < level:
                    quiet += 1
                    continue
                if quiet > OPUS_RATE // 2:
                    found.append((packet.timestamp + number) % (1 << 32))
                quiet = 0
    return found


def wall_s(report: RtcpSrPacket, timestamp: int, clock_rate: int) -> float:
    """The time since 1970 that a sender report gives a timestamp."""
    told = report.sender_info
    ahead = rtp.distance(timestamp, told.rtp_timestamp, 32)
    return told.ntp_timestamp / (1 << 32) - NTP_BEFORE_UNIX_S + ahead / clock_rate


def lumas(receiver: Receiver, for_s: float) -> Iterator[tuple[bytes, int, int, RtpPacket]]:
    """Decoded pictures from the first keyframe on: luma, its width, octets a row, and the last
    packet of the frame."""
    decoder = av.CodecContext.create("vp8", "r")
    data, begun = b"", False
    for received in receiver.packets(for_s):
        if rtp.is_rtcp(received):
            continue
        packet = rtp.parse(received)
        begun = begun or begins_keyframe(packet)
        if not begun:
            continue
        data += VpxPayloadDescriptor.parse(packet.payload)[1]
        if packet.marker:
            for frame in decoder.decode(av.Packet(data)):
                plane = frame.planes[0]
                yield bytes(plane), frame.width, plane.line_size, packet
            data = b""
