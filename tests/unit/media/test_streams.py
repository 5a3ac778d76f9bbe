"""What a sidecar lists, and requests for leases."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.sources.control import parse_streams
from callboard.media.leases import REQUEST_BYTES_MAX, Asked, BadMessage
from callboard.media.streams import Stream, Track, listing, parse_listing

VP8 = Track("video", "video", "VP8", 90_000, 96, parameters={"max-fr": "25"})
OPUS = Track("audio", "audio", "opus", 48_000, 111, channels=2)


def test_the_gateway_reads_what_is_listed() -> None:
    stream = Stream("test-pattern", "A title", (VP8, OPUS), on_demand=True)
    (listed,) = parse_streams(listing((stream,)))
    described = listed.description
    assert (described.name, described.title, described.on_demand) == (
        "test-pattern",
        "A title",
        True,
    )
    assert described.problem == "" and not listed.per_viewer
    video, audio = described.tracks
    assert (video.id, video.payload_type, video.codec.rtpmap) == ("video", 96, "VP8/90000")
    assert video.codec.parameters == {"max-fr": "25"}
    assert (audio.id, audio.payload_type, audio.codec.rtpmap) == ("audio", 111, "opus/48000/2")


def test_the_gateway_reads_why_a_stream_is_not_playable() -> None:
    (listed,) = parse_streams(listing((Stream("camera", "Camera", (), problem="no such device"),)))
    assert listed.description.problem == "no such device"


def test_what_is_listed_is_read_back() -> None:
    streams = (Stream("a", "A", (VP8, OPUS), on_demand=True), Stream("b", "B", (), problem="no"))
    assert parse_listing(listing(streams)) == streams


def test_a_request_is_read() -> None:
    body = b'{"stream": "test-pattern", "ports": {"video": 40000, "audio": 40002}}'
    assert Asked.from_json(body) == Asked("test-pattern", {"video": 40000, "audio": 40002})


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 3000, "no JSON"),
        (b"[]", "an object is wanted"),
        (b'{"ports": {"video": 1}}', "the name of a stream"),
        (b'{"stream": "../x", "ports": {"video": 1}}', "the name of a stream"),
        (b'{"stream": 5, "ports": {"video": 1}}', "the name of a stream"),
        (b'{"stream": "a"}', "ports"),
        (b'{"stream": "a", "ports": {}}', "ports"),
        (b'{"stream": "a", "ports": {"text": 1}}', "there is no track 'text'"),
        (b'{"stream": "a", "ports": {"video": 0}}', "no port for video"),
        (b'{"stream": "a", "ports": {"video": 65536}}', "no port for video"),
        (b'{"stream": "a", "ports": {"video": true}}', "no port for video"),
        (b'{"stream": "a", "ports": {"video": "40000"}}', "no port for video"),
        (b" " * (REQUEST_BYTES_MAX + 1), "octets"),
    ],
)
def test_what_is_no_request_is_refused_in_words(body: bytes, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        Asked.from_json(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["stream", "ports", "video", "audio", "x"]), inner)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    try:
        asked = Asked.from_json(body)
    except BadMessage:
        return
    assert asked.stream and all(0 < port < 65536 for port in asked.ports.values())
