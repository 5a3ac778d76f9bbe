"""Streams at ports of their own, as a file describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.sdp.codecs import Codec
from callboard.gateway.sources.configured import BadStreams, load, parse, script_stream
from callboard.gateway.sources.senders import LOOPBACK, network_of

STUDIO: dict[str, Any] = {
    "name": "studio",
    "title": "The studio",
    "from": ["192.0.2.10", "10.1.0.0/16"],
    "tracks": [
        {"codec": "h264", "port": 5006, "payload_type": 97,
         "parameters": {"profile-level-id": "42e01f"}},
        {"codec": "h264", "port": 5010, "payload_type": 97,
         "parameters": {"profile-level-id": "42e01f"}},
        {"codec": "OPUS", "port": 5008, "payload_type": 111},
    ],
}  # fmt: skip


STUDIO_TOML = """
[[streams]]
name = "studio"
title = "The studio"
from = ["192.0.2.10", "10.1.0.0/16"]
tracks = [
    { codec = "H264", port = 5006, payload_type = 97, parameters.profile-level-id = "42e01f" },
    { codec = "H264", port = 5010, payload_type = 97, parameters.profile-level-id = "42e01f" },
    { codec = "opus", port = 5008, payload_type = 111 },
]
"""


def file(*streams: object) -> bytes:
    return json.dumps({"streams": streams}).encode()


def changed(**fields: object) -> dict[str, Any]:
    return {**STUDIO, **fields}


def test_a_file_says_what_comes_to_which_port_and_from_whom(tmp_path: Path) -> None:
    path = tmp_path / "streams.json"
    path.write_bytes(file(STUDIO))
    written = tmp_path / "streams.toml"
    written.write_text(STUDIO_TOML)
    (studio,) = load(path)
    assert load(written) == (studio,)
    described = studio.description
    assert (described.name, described.title) == ("studio", "The studio")
    assert [track.id for track in described.tracks] == ["video", "video-2", "audio"]
    h264 = Codec("video", "H264", 90_000, parameters={"profile-level-id": "42e01f"})
    assert [track.codec for track in described.renditions("video")] == [h264, h264]
    assert described.codec("audio") == Codec("audio", "opus", 48_000, 2)
    assert [track.payload_type for track in described.tracks] == [97, 97, 111]
    assert studio.ports == (5006, 5010, 5008)
    assert studio.senders == (*LOOPBACK, network_of("192.0.2.10"), network_of("10.1.0.0/16"))


def test_a_codec_with_a_fixed_payload_type_need_not_tell_it() -> None:
    stream = {"name": "phone", "tracks": [{"codec": "PCMA", "port": 5020}]}
    (phone,) = parse(file(stream), json=True)
    assert phone.description.tracks[0].payload_type == 8
    assert phone.description.title == "phone"


TRACK = {"codec": "VP8", "port": 1, "payload_type": 96}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "truncated"),
        (b"[]", "object"),
        (b"{}", "streams"),
        (file({"name": "a"}), "tracks"),
        (file(changed(colour="red")), "colour"),
        (file(changed(name="a b")), "no name of a stream"),
        (file(changed(name=".")), "no name of a stream"),
        (file(changed(**{"from": ["everywhere"]})), "everywhere"),
        (file(changed(tracks=[])), "one to 8 tracks"),
        (file(changed(tracks=[{**TRACK, "port": n + 1} for n in range(9)])), "one to 8 tracks"),
        (file(changed(tracks=[{**TRACK, "codec": "MP3"}])), "codec is one of VP8"),
        (file(changed(tracks=[{**TRACK, "port": 0}])), "no port"),
        (file(changed(tracks=[{**TRACK, "port": "1"}])), "Expected `int`"),
        (file(changed(tracks=[{**TRACK, "payload_type": 72}])), "payload_type"),
        (file(changed(tracks=[{"codec": "VP8", "port": 1}])), "payload_type"),
        (file(changed(tracks=[TRACK, TRACK])), "port 1 is another track's"),
        (file(changed(tracks=[TRACK, {**TRACK, "port": 2, "codec": "VP9"}])), "the same codec"),
        (file(STUDIO, STUDIO), "twice"),
        (b" " * ((1 << 20) + 1), "octets"),
        (b"[" * 100_000, "recursion|depth|object"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_told_where(text: bytes, why: str) -> None:
    with pytest.raises(BadStreams, match=why):
        parse(text, json=True)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused_in_words(text: bytes, json: bool) -> None:
    with pytest.raises(BadStreams):
        parse(text, json=json)


@pytest.mark.parametrize("text", [b"streams = 1", b"[[streams]]", b"x = " + b"[" * 100_000])
def test_so_is_wrong_toml(text: bytes) -> None:
    with pytest.raises(BadStreams):
        parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "tracks", "codec", "port", "from", "payload_type"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_values_are_a_stream_or_refused_in_words(value: object) -> None:
    try:
        for stream in parse(json.dumps({"streams": [value]}).encode(), json=True):
            assert len(stream.ports) == len(stream.description.tracks)
    except BadStreams:
        pass


def test_scripts_send_vp8_and_opus_to_the_two_ports() -> None:
    script = script_stream(5004, 5002, LOOPBACK)
    assert script is not None
    assert script.description.name == "gst-script"
    assert script.ports == (5004, 5002)
    tracks = [(it.id, it.codec.name, it.payload_type) for it in script.description.tracks]
    assert tracks == [("video", "VP8", 96), ("audio", "opus", 111)]


def test_a_port_of_scripts_that_is_off_has_no_track() -> None:
    script = script_stream(-1, 5002, LOOPBACK)
    assert script is not None
    assert [track.id for track in script.description.tracks] == ["audio"]
    assert script_stream(-1, -1, LOOPBACK) is None
