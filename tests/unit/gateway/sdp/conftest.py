"""Offers as real clients make them, and the facts of a transport."""

from __future__ import annotations

from pathlib import Path

import pytest

from callboard.gateway.sdp.answers import Outgoing
from callboard.gateway.sdp.codecs import AUDIO, VIDEO, Codec
from callboard.gateway.sdp.writing import Facts

DATA = Path(__file__).parent / "data"
VIEWERS = ("chromium-viewer", "firefox-viewer", "aiortc-viewer")
PUBLISHERS = ("chromium-publisher", "chromium-simulcast", "obs-publisher")

VP8 = Codec(VIDEO, "VP8", 90_000)
OPUS = Codec(AUDIO, "opus", 48_000, 2)
TRACKS = (Outgoing("video", VP8, 1001), Outgoing("audio", OPUS, 1002))


def client_offer(name: str) -> bytes:
    """An offer of a client, as it is sent."""
    return (DATA / f"{name}.sdp").read_bytes().replace(b"\n", b"\r\n")


@pytest.fixture
def facts() -> Facts:
    """A transport of two candidates."""
    return Facts(
        ufrag="oursufrag",
        password="ours-password-of-22-characters",
        fingerprint="sha-256 " + ":".join(["AB"] * 32),
        candidates=(
            "candidate:1 1 udp 2130706431 198.51.100.1 8189 typ host",
            "candidate:2 1 tcp 2105524479 198.51.100.1 8189 typ host tcptype passive",
        ),
        session_id=4711,
    )
