"""A script that sends the built-in pattern by plain RTP, as `examples/gst-test-pattern.sh` does.

sender = PatternSender(gateway)
sender.start()
await sender.stop()      # what starts after that is another source: its SSRCs and clocks differ
"""

from __future__ import annotations

import asyncio
import random
import socket
import time

from tests.harness.gateway_process import GatewayProcess

from callboard.gateway.sources.pattern import Made, PatternSource

TITLE = "RTP from a script"
PAYLOAD_SPECIFIC = 206
"""Feedback that asks for a keyframe (RFC 4585, 6.3), of what a gateway sends."""


class PatternSender:
    """Sends to a gateway's ports for scripts."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._host = gateway.host
        self._ports = {"video": gateway.ports["rtp-port"], "audio": gateway.ports["rtp-audio-port"]}
        self._socket: socket.socket | None = None
        self._source: PatternSource | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self._host, 0))
        self._socket.setblocking(False)
        rng = random.Random(time.monotonic_ns())
        self._source = PatternSource(self._send, rng=rng)
        self._source.start()
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    async def stop(self) -> None:
        """End, without a good-bye."""
        if self._source is None or self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        await self._source.stop()
        self._socket.close()
        self._source = self._socket = None

    def _send(self, made: Made, now: float) -> None:
        assert self._socket is not None
        for track, packets, report in (
            ("audio", made.audio, made.audio_report),
            ("video", made.video, made.video_report),
        ):
            for packet in [*packets, *([report] if report is not None else [])]:
                self._socket.sendto(packet, (self._host, self._ports[track]))

    def _read(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(2048)
        if self._source is not None and len(data) >= 12 and data[1] == PAYLOAD_SPECIFIC:
            self._source.request_keyframe()
