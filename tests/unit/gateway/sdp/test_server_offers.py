"""Offers of ours, as clients answer them."""

from __future__ import annotations

import re

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from tests.unit.gateway.sdp.conftest import TRACKS

from callboard.gateway.sdp.answers import NoCommonCodec, Outgoing
from callboard.gateway.sdp.codecs import AUDIO, VIDEO, Codec
from callboard.gateway.sdp.offers import BadDescription, parse
from callboard.gateway.sdp.server_offers import accept, offer
from callboard.gateway.sdp.writing import Facts


async def answered(text: str) -> str:
    """What aiortc answers to an offer."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        await connection.setRemoteDescription(RTCSessionDescription(text, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        return str(connection.localDescription.sdp)
    finally:
        await connection.close()


def test_an_offer_has_audio_and_video_under_the_names_of_janus(facts: Facts) -> None:
    made = offer(TRACKS, facts)
    assert re.findall(r"a=mid:(\w+)", made.text) == ["a", "v"]
    assert "a=group:BUNDLE a v\r\n" in made.text
    assert made.text.count("a=setup:actpass\r\n") == made.text.count("a=sendonly\r\n") == 2


async def test_a_client_accepts_an_offer(facts: Facts) -> None:
    made = offer(TRACKS, facts)
    read = accept(made, parse((await answered(made.text)).encode()))
    assert [(one.track, one.payload_type) for one in read.media] == [("audio", 111), ("video", 96)]
    assert read.media[1].feedback == {"nack", "nack pli", "goog-remb"}
    assert read.media[1].send_time_id == made.media[1].send_time_id


async def test_a_client_that_cannot_decode_it_refuses_everything(facts: Facts) -> None:
    made = offer([Outgoing("video", Codec(VIDEO, "VP9", 90_000), 5)], facts)
    refused = made.text.replace("m=video 8189", "m=video 0").replace("actpass", "active")
    with pytest.raises(NoCommonCodec, match="refused"):
        accept(made, parse(refused.encode()))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("a=setup:active", "a=setup:passive", "server of DTLS"),
        ("a=setup:active", "a=setup:actpass", "must be active"),
        ("a=group:BUNDLE a v", "a=x", "bundled"),
        ("a=mid:a", "a=mid:b", "order"),
        ("m=video", "m=text", "order|not a session"),
    ],
)
async def test_an_answer_that_does_not_fit_is_refused(
    old: str, new: str, why: str, facts: Facts
) -> None:
    made = offer(TRACKS, facts)
    text = await answered(made.text)
    assert old in text
    with pytest.raises(BadDescription, match=why):
        accept(made, parse(text.replace(old, new).encode()))


def test_the_answer_to_another_offer_is_refused(facts: Facts) -> None:
    made = offer(TRACKS[:1], facts)
    both = offer(TRACKS, facts).text.replace("actpass", "active")
    with pytest.raises(BadDescription, match="as many"):
        accept(made, parse(both.encode()))


@pytest.mark.parametrize(("name", "number"), [("PCMU", 0), ("PCMA", 8), ("opus", 111)])
def test_payload_types_of_audio_are_the_usual_ones(name: str, number: int, facts: Facts) -> None:
    made = offer([Outgoing("a", Codec(AUDIO, name, 48_000 if number == 111 else 8000), 1)], facts)
    assert made.media[0].payload_type == number


def test_h264_is_offered_with_fragments(facts: Facts) -> None:
    assert (
        "packetization-mode=1"
        in offer([Outgoing("v", Codec(VIDEO, "H264", 90_000), 1)], facts).text
    )
