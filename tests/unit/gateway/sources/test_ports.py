"""Configured ports: what is sent there is the stream."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiortc.rtp import RTCP_PSFB_PLI, RtcpPacket, RtcpPsfbPacket
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.sockets import free_port
from tests.unit.gateway.sources.viewing import keeping_streams, kept, payloads

from callboard.gateway.live import LiveStream, Streams
from callboard.gateway.sources.configured import PortStream, parse, script_stream
from callboard.gateway.sources.ports import PortSource
from callboard.gateway.sources.senders import LOOPBACK, SECOND_SENDER

OWN = 0xCA11B0A2


@pytest.fixture
def streams() -> Streams:
    return keeping_streams()


@contextmanager
def script(streams: Streams) -> Iterator[tuple[PortSource, LiveStream]]:
    """The stream of scripts, at ports that are free."""
    stream = script_stream(free_port(), free_port(), LOOPBACK)
    assert stream is not None
    source = PortSource(streams, stream, "127.0.0.1", ssrc=OWN)
    source.start()
    live = streams.find("gst-script")
    assert live is not None
    try:
        yield source, live
    finally:
        source.close()


@contextmanager
def sender(source: PortSource, track: str) -> Iterator[socket.socket]:
    assert source.ports is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(("127.0.0.1", source.ports.numbers[track]))
        sock.settimeout(10)
        yield sock


def rtp(sequence: int, payload: bytes, payload_type: int, ssrc: int = 7) -> bytes:
    return struct.pack("!BBHII", 0x80, payload_type, sequence, sequence * 960, ssrc) + payload


async def test_what_is_sent_to_a_port_is_in_its_track(streams: Streams) -> None:
    with script(streams) as (source, live), sender(source, "audio") as sock:
        assert not live.online
        sock.send(rtp(1, b"one", 111))
        sock.send(rtp(2, b"two", 111))
        await eventually(lambda: len(kept(live, "audio")) == 2)
        assert payloads(kept(live, "audio")) == [b"one", b"two"]
        assert live.online


async def test_a_keyframe_request_goes_to_the_sender_about_its_source(streams: Streams) -> None:
    with script(streams) as (source, live), sender(source, "video") as sock:
        assert live.on_keyframe_wanted("video") is False, "nobody is there to be asked"
        sock.send(rtp(1, b"\x10\x01\x00\x00", 96, ssrc=0xABCD))
        await eventually(lambda: live.online)
        assert live.on_keyframe_wanted("video")
        (packet,) = RtcpPacket.parse(sock.recv(1000))
        assert isinstance(packet, RtcpPsfbPacket)
        assert (packet.fmt, packet.ssrc, packet.media_ssrc) == (RTCP_PSFB_PLI, OWN, 0xABCD)


async def test_a_second_script_is_refused_and_counted(streams: Streams) -> None:
    with (
        script(streams) as (source, live),
        sender(source, "audio") as first,
        sender(source, "audio") as second,
    ):
        first.send(rtp(1, b"one", 111))
        await eventually(lambda: live.online)
        second.send(rtp(9, b"two", 111, ssrc=8))
        ports = source.ports
        assert ports is not None
        await eventually(lambda: ports.refused[SECOND_SENDER] == 1)
        assert payloads(kept(live, "audio")) == [b"one"]


async def test_another_script_takes_over_in_place_when_the_first_has_ended(
    streams: Streams,
) -> None:
    with script(streams) as (source, live):
        with sender(source, "audio") as first:
            first.send(rtp(1, b"one", 111))
            await eventually(lambda: live.online)
        with sender(source, "audio") as second:

            def taken() -> bool:
                second.send(rtp(900 + len(kept(live, "audio")), b"two", 111, ssrc=8))
                return b"two" in payloads(kept(live, "audio"))

            await eventually(taken)
        numbers = [packet.sequence for packet in kept(live, "audio")]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("ssrc", [7, 8])
async def test_after_a_new_lease_whoever_comes_first_is_taken_at_once(
    streams: Streams, ssrc: int
) -> None:
    """The sidecar's pipeline may have run on meanwhile, or be another one."""
    with (
        script(streams) as (source, live),
        sender(source, "audio") as first,
        sender(source, "audio") as second,
    ):
        assert source.ports is not None
        first.send(rtp(1, b"one", 111))
        await eventually(lambda: live.online)
        source.ports.begin_anew()
        second.send(rtp(2, b"two", 111, ssrc=ssrc))
        await eventually(lambda: len(kept(live, "audio")) == 2)
        assert payloads(kept(live, "audio")) == [b"one", b"two"]
        counters = live.tracks["audio"].track.counters
        assert (counters.foreign, counters.restarts) == (0, 1)


async def test_gst_launch_of_debian_is_such_a_script(streams: Streams) -> None:
    require("gst-launch-1.0")
    with script(streams) as (source, live):
        assert source.ports is not None
        ports = source.ports.numbers
        line = (
            "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 "
            "! vp8enc deadline=1 ! rtpvp8pay mtu=1200 pt=96 "
            f"! udpsink host=127.0.0.1 port={ports['video']} "
            "audiotestsrc is-live=true samplesperbuffer=960 ! audioconvert ! audioresample "
            "! opusenc ! rtpopuspay mtu=1200 pt=111 "
            f"! udpsink host=127.0.0.1 port={ports['audio']}"
        )
        process = await asyncio.create_subprocess_exec("gst-launch-1.0", "-q", *line.split())
        try:
            await eventually(lambda: live.keyframes and len(kept(live, "audio")) > 20, 30)
        finally:
            process.kill()
            await process.wait()
        assert any(packet.keyframe for packet in kept(live, "video"))


async def test_streams_of_a_file_have_ports_of_their_own(streams: Streams) -> None:
    port = free_port()
    tracks = [{"codec": "PCMU", "port": port}]
    (stream,) = parse(
        json.dumps({"streams": [{"name": "mic", "tracks": tracks}]}).encode(), json=True
    )
    source = PortSource(streams, stream, "127.0.0.1", ssrc=OWN)
    source.start()
    live = streams.find("mic")
    assert live is not None
    with sender(source, "audio") as sock:
        sock.send(rtp(1, bytes(160), 0))
        await eventually(lambda: live.online)
    source.close()
    assert streams.find("mic") is None


async def test_a_port_that_is_taken_opens_no_stream(streams: Streams) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        stream = script_stream(other.getsockname()[1], -1, LOOPBACK)
        assert isinstance(stream, PortStream)
        with pytest.raises(OSError, match="in use"):
            PortSource(streams, stream, "127.0.0.1", ssrc=OWN).start()
    assert streams.find("gst-script") is None


async def test_a_stream_whose_name_is_taken_opens_no_port(streams: Streams) -> None:
    with script(streams):
        stream = script_stream(free_port(), -1, LOOPBACK)
        assert stream is not None
        streams_before = list(streams)
        with pytest.raises(ValueError, match="gst-script"):
            PortSource(streams, stream, "127.0.0.1", ssrc=OWN, id="another").start()
        assert list(streams) == streams_before
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", stream.ports[0]))
