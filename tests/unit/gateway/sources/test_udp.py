"""Ports that RTP comes in by, with real sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.harness.eventually import eventually

from callboard.gateway.sources.senders import ADDRESS, LOOPBACK, SECOND_SENDER, network_of
from callboard.gateway.sources.udp import (
    MALFORMED,
    NO_SENDER,
    OTHER_SOURCE,
    PAYLOAD_TYPE,
    IngestSocket,
    is_rtp,
)


def sender_report(ssrc: int) -> bytes:
    return struct.pack("!BBHIQIII", 0x80, 200, 6, ssrc, 0, 0, 0, 0)


SR = sender_report(7)


class Taken:
    """What a port gave."""

    def __init__(self) -> None:
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []

    def on_rtp(self, data: bytes, now: float) -> None:
        self.rtp.append(data)

    def on_rtcp(self, data: bytes, now: float) -> None:
        self.rtcp.append(data)


@pytest.fixture
def taken() -> Taken:
    return Taken()


@contextmanager
def port(taken: Taken, *, senders: str = "", takeover_s: float = 60.0) -> Iterator[IngestSocket]:
    made = IngestSocket(
        "127.0.0.1",
        0,
        payload_types=[96],
        senders=[network_of(senders)] if senders else LOOPBACK,
        on_rtp=taken.on_rtp,
        on_rtcp=taken.on_rtcp,
        takeover_s=takeover_s,
    )
    try:
        yield made
    finally:
        made.close()


@contextmanager
def sender(to: IngestSocket, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.connect(("127.0.0.1", to.port))
        sock.settimeout(10)
        yield sock


def rtp(sequence: int, payload: bytes = b"x", payload_type: int = 96) -> bytes:
    return struct.pack("!BBHII", 0x80, payload_type, sequence, 0, 7) + payload


async def test_rtp_and_rtcp_are_told_apart_on_one_port(taken: Taken) -> None:
    with port(taken) as ingest, sender(ingest) as sock:
        sock.send(rtp(1))
        sock.send(SR)
        await eventually(lambda: taken.rtcp)
        assert (taken.rtp, taken.rtcp) == ([rtp(1)], [SR])
        assert (ingest.packets, ingest.octets) == (1, 13)


async def test_feedback_goes_to_where_rtp_comes_from_until_reports_come(taken: Taken) -> None:
    with port(taken) as ingest, sender(ingest) as media, sender(ingest) as reports:
        assert not ingest.send(b"nobody")
        media.send(rtp(1))
        await eventually(lambda: taken.rtp)
        assert ingest.send(b"one")
        assert media.recv(100) == b"one"
        reports.send(SR)
        await eventually(lambda: taken.rtcp)
        assert ingest.send(b"two")
        assert reports.recv(100) == b"two"


async def test_reports_of_a_refused_sender_are_not_taken_and_get_no_feedback(taken: Taken) -> None:
    """A second script on the same host; the first one sends no reports."""
    with port(taken) as ingest, sender(ingest) as first, sender(ingest) as second:
        first.send(rtp(1))
        second.send(sender_report(8))
        second.send(SR[:7])
        await eventually(lambda: ingest.refused[OTHER_SOURCE] == 2)
        assert not taken.rtcp
        assert ingest.send(b"feedback")
        assert first.recv(100) == b"feedback"


async def test_a_second_sender_is_refused_and_counted_until_the_first_is_forgotten(
    taken: Taken,
) -> None:
    with port(taken) as ingest, sender(ingest) as first, sender(ingest) as second:
        first.send(rtp(1))
        second.send(rtp(2))
        await eventually(lambda: ingest.refused[SECOND_SENDER] == 1)
        assert taken.rtp == [rtp(1)]
        ingest.forget_sender()
        second.send(rtp(3))
        await eventually(lambda: len(taken.rtp) == 2)
        assert taken.rtp[1] == rtp(3)


async def test_a_second_sender_takes_over_after_silence(taken: Taken) -> None:
    with port(taken, takeover_s=0.1) as ingest, sender(ingest) as first, sender(ingest) as second:
        first.send(rtp(1))
        await eventually(lambda: taken.rtp)

        def took_over() -> bool:
            second.send(rtp(2))
            return rtp(2) in taken.rtp

        await eventually(took_over)
        first.send(rtp(3))
        await eventually(lambda: ingest.refused[SECOND_SENDER] > 0)
        assert rtp(3) not in taken.rtp


async def test_packets_of_other_addresses_are_refused(taken: Taken) -> None:
    with port(taken, senders="127.0.0.9") as ingest, sender(ingest) as sock:
        sock.send(rtp(1))
        sock.send(SR)
        await eventually(lambda: ingest.refused[NO_SENDER] == 1)
        assert ingest.refused[ADDRESS] == 1
        assert not taken.rtp
        assert not taken.rtcp
        with sender(ingest, "127.0.0.9") as allowed:
            allowed.send(rtp(2))
            await eventually(lambda: taken.rtp)
        ingest.expects([network_of("127.0.0.1")])
        sock.send(rtp(3))
        await eventually(lambda: len(taken.rtp) == 2)


async def test_what_is_no_rtp_of_the_track_is_refused_and_counted(taken: Taken) -> None:
    with port(taken) as ingest, sender(ingest) as sock:
        for data in (b"", b"\x80", b"\x00" * 20, rtp(1)[:11], rtp(1, payload_type=97)):
            sock.send(data)
        await eventually(lambda: ingest.refused[PAYLOAD_TYPE] == 1)
        assert ingest.refused[MALFORMED] == 4
        assert ingest.senders.current is None


async def test_the_largest_datagram_is_whole(taken: Taken) -> None:
    large = rtp(1, bytes(60_000))
    with port(taken) as ingest, sender(ingest) as sock:
        sock.send(large)
        await eventually(lambda: taken.rtp)
        assert taken.rtp == [large]


async def test_nothing_is_lost_of_a_burst_that_is_read_over_several_turns(taken: Taken) -> None:
    with port(taken) as ingest, sender(ingest) as sock:
        for number in range(200):  # all of it before the loop turns
            sock.send(rtp(number))
        await eventually(lambda: len(taken.rtp) == 200)
        assert taken.rtp == [rtp(number) for number in range(200)]


async def test_a_port_may_be_closed_by_whoever_is_given_a_packet() -> None:
    seen: list[bytes] = []

    def close(data: bytes, now: float) -> None:
        seen.append(data)
        ingest.close()

    ingest = IngestSocket(
        "127.0.0.1", 0, payload_types=[96], senders=LOOPBACK, on_rtp=close, on_rtcp=close
    )
    with sender(ingest) as sock:
        sock.send(rtp(1))
        sock.send(rtp(2))
        await eventually(lambda: seen)
    assert seen == [rtp(1)]
    assert not ingest.send(b"x")
    ingest.close()


async def test_a_port_that_is_taken_is_an_error(taken: Taken) -> None:
    with port(taken) as ingest, pytest.raises(OSError, match="in use"):
        IngestSocket(
            "127.0.0.1",
            ingest.port,
            payload_types=[96],
            senders=LOOPBACK,
            on_rtp=taken.on_rtp,
            on_rtcp=taken.on_rtcp,
        )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (rtp(1)[:11], "shorter than a header"),
        (b"\x81" + rtp(1, b"")[1:], "one CSRC, which is not there"),
        (b"\x90" + rtp(1, b"\0\0\0")[1:], "an extension without its length"),
        (b"\x90" + rtp(1, b"\xbe\xde\0\1\0\0\0")[1:], "an extension that is cut off"),
        (b"\xa0" + rtp(1, b"ab\x04")[1:], "more padding than there are octets"),
        (b"\xa0" + rtp(1, b"ab\x00")[1:], "padding that does not count itself"),
        (b"\x40" + rtp(1)[1:], "version 1"),
    ],
)
def test_a_header_that_does_not_fit_is_no_rtp(data: bytes, why: str) -> None:
    assert not is_rtp(data), why
