"""Answers to the offers of real clients: what is agreed on, and how it is written."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from aiortc.sdp import MediaDescription, SessionDescription
from tests.unit.gateway.sdp.conftest import OPUS, TRACKS, VIEWERS, client_offer

from callboard.gateway.sdp.answers import Answer, NoCommonCodec, Outgoing, answer, receive
from callboard.gateway.sdp.codecs import AUDIO, VIDEO, Codec
from callboard.gateway.sdp.offers import BadDescription, parse
from callboard.gateway.sdp.writing import Facts


def section(made: Answer, kind: str) -> str:
    """The lines of a media section."""
    return next(part for part in made.text.split("m=") if part.startswith(kind))


def read(made: Answer) -> list[MediaDescription]:
    """As another implementation reads an answer."""
    return SessionDescription.parse(made.text).media


@pytest.mark.parametrize("client", VIEWERS)
def test_a_viewer_gets_both_tracks_on_one_transport(client: str, facts: Facts) -> None:
    made = answer(parse(client_offer(client)), TRACKS, facts)
    assert [(one.track, one.mid) for one in made.media] == [("audio", "0"), ("video", "1")]
    assert "a=group:BUNDLE 0 1\r\n" in made.text
    assert "a=ice-lite\r\n" in made.text
    for media in read(made):
        assert (media.direction, media.rtcp_mux, media.ice_candidates_complete) == (
            "sendonly", True, True,
        )  # fmt: skip
        assert media.ice is not None and media.ice.usernameFragment == facts.ufrag
        assert media.dtls is not None and media.dtls.role == "server"
        assert (media.host, media.port) == ("198.51.100.1", 8189)
        assert [candidate.protocol for candidate in media.ice_candidates] == ["udp", "tcp"]
        assert media.ssrc[0].cname == facts.cname


@pytest.mark.parametrize(
    ("client", "audio", "video"),
    [("chromium-viewer", 111, 96), ("firefox-viewer", 109, 120), ("aiortc-viewer", 96, 97)],
)
def test_payload_types_are_the_offerers(client: str, audio: int, video: int, facts: Facts) -> None:
    made = answer(parse(client_offer(client)), TRACKS, facts)
    assert [one.payload_type for one in made.media] == [audio, video]
    assert [media.fmt for media in read(made)] == [[audio], [video]]


def test_feedback_is_what_was_offered_and_is_understood(facts: Facts) -> None:
    made = answer(parse(client_offer("chromium-viewer")), TRACKS, facts)
    audio, video = made.media
    assert video.feedback == {"nack", "nack pli", "ccm fir", "goog-remb"}
    assert audio.feedback == frozenset()
    assert "transport-cc" not in made.text
    assert re.findall(r"a=rtcp-fb:(\d+) (.*)\r", section(made, "video")) == [
        ("96", "goog-remb"), ("96", "ccm fir"), ("96", "nack"), ("96", "nack pli"),
    ]  # fmt: skip


def test_send_time_has_the_offered_identifier(facts: Facts) -> None:
    chromium = answer(parse(client_offer("chromium-viewer")), TRACKS, facts)
    firefox = answer(parse(client_offer("firefox-viewer")), TRACKS, facts)
    assert [one.send_time_id for one in chromium.media] == [2, 2]
    assert [one.send_time_id for one in firefox.media] == [0, 4]
    assert section(firefox, "video").count("a=extmap:") == 1
    assert "a=extmap" not in section(firefox, "audio")


def test_all_tracks_are_of_one_media_stream(facts: Facts) -> None:
    made = answer(parse(client_offer("firefox-viewer")), TRACKS, facts)
    assert re.findall(r"a=msid:(\S+) (\S+)", made.text) == [("live", "audio"), ("live", "video")]


def test_a_stream_without_audio_has_that_section_rejected(facts: Facts) -> None:
    made = answer(parse(client_offer("chromium-viewer")), TRACKS[:1], facts)
    audio = section(made, "audio")
    assert audio.startswith("audio 0 UDP/TLS/RTP/SAVPF 111\r\n")
    assert "a=inactive" in audio and "a=mid:0" in audio and "a=candidate" not in audio
    assert "a=group:BUNDLE 1\r\n" in made.text
    assert [one.track for one in made.media] == ["video"]


def test_every_section_of_an_offer_is_answered_in_its_place(facts: Facts) -> None:
    data = (
        b"\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=sctp-port:5000\r\n"
    )
    made = answer(parse(client_offer("chromium-viewer").rstrip() + data), TRACKS, facts)
    assert re.findall(r"m=(\w+) (\d+)", made.text) == [
        ("audio", "8189"), ("video", "8189"), ("application", "0"),
    ]  # fmt: skip


def test_a_second_section_of_a_kind_is_rejected(facts: Facts) -> None:
    body = client_offer("chromium-viewer").decode()
    video = "m=video" + body.split("m=video")[1].replace("a=mid:1", "a=mid:2")
    offered = body.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + video
    made = answer(parse(offered.encode()), TRACKS, facts)
    assert re.findall(r"m=(\w+) (\d+)", made.text)[2] == ("video", "0")


def test_what_is_not_bundled_with_the_first_section_is_rejected(facts: Facts) -> None:
    offered = client_offer("chromium-viewer").replace(b"BUNDLE 0 1", b"BUNDLE 0")
    made = answer(parse(offered), TRACKS, facts)
    assert [one.mid for one in made.media] == ["0"]


@pytest.mark.parametrize("direction", ["sendonly", "inactive"])
def test_a_section_that_receives_nothing_is_rejected(direction: str, facts: Facts) -> None:
    offered = client_offer("chromium-viewer").decode()
    audio, video = offered.split("m=video")
    sends = audio.replace("a=recvonly", f"a={direction}") + "m=video" + video
    made = answer(parse(sends.encode()), TRACKS, facts)
    assert [one.track for one in made.media] == ["video"]


def h264(profile: str) -> list[Outgoing]:
    codec = Codec(VIDEO, "H264", 90_000, parameters={"profile-level-id": profile})
    return [Outgoing("video", codec, 7)]


@pytest.mark.parametrize(
    ("profile", "chosen"),
    [("42e01f", 108), ("42c01f", 102), ("4d0028", 116), ("f4000d", 41), ("640034", 102)],
)
def test_h264_of_any_profile_takes_the_likest_format_with_fragments(
    profile: str, chosen: int, facts: Facts
) -> None:
    made = answer(parse(client_offer("chromium-viewer")), h264(profile), facts)
    assert made.media[0].payload_type == chosen
    assert "packetization-mode=1" in section(made, "video")


def test_h264_without_fragments_is_no_common_codec(facts: Facts) -> None:
    offered = client_offer("chromium-viewer").replace(b"packetization-mode=1", b"x=1")
    with pytest.raises(NoCommonCodec, match="H264"):
        answer(parse(offered), h264("42e01f"), facts)


@pytest.mark.parametrize(
    ("name", "parameters", "chosen"),
    [
        ("VP9", {}, 98), ("VP9", {"profile-id": "2"}, 100), ("AV1", {}, 45),
        ("AV1", {"profile": "1"}, 47), ("vp8", {}, 96),
    ],
)  # fmt: skip
def test_a_profile_must_be_the_streams(
    name: str, parameters: dict[str, str], chosen: int, facts: Facts
) -> None:
    track = Outgoing("video", Codec(VIDEO, name, 90_000, parameters=parameters), 7)
    made = answer(parse(client_offer("chromium-viewer")), [track], facts)
    assert made.media[0].payload_type == chosen


@pytest.mark.parametrize(("name", "number"), [("PCMU", 0), ("PCMA", 8)])
def test_static_payload_types_need_no_rtpmap(name: str, number: int, facts: Facts) -> None:
    offered = client_offer("chromium-viewer").replace(b"a=rtpmap:%d " % number, b"a=x:")
    track = Outgoing("audio", Codec(AUDIO, name, 8000), 7)
    made = answer(parse(offered), [track], facts)
    assert made.media[0].payload_type == number


def test_h265_is_not_common_with_who_does_not_offer_it(facts: Facts) -> None:
    tracks = [Outgoing("video", Codec(VIDEO, "H265", 90_000), 7), Outgoing("audio", OPUS, 8)]
    with pytest.raises(NoCommonCodec, match="H265/90000"):
        answer(parse(client_offer("firefox-viewer")), tracks, facts)


def test_video_alone_is_enough_where_audio_has_no_common_codec(facts: Facts) -> None:
    tracks = [TRACKS[0], Outgoing("audio", Codec(AUDIO, "AAC", 48_000, 2), 8)]
    made = answer(parse(client_offer("chromium-viewer")), tracks, facts)
    assert [one.track for one in made.media] == ["video"]


def test_stereo_is_told(facts: Facts) -> None:
    track = Outgoing("audio", replace(OPUS, parameters={"sprop-stereo": "1"}), 7)
    made = answer(parse(client_offer("chromium-viewer")), [track], facts)
    assert "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1\r\n" in made.text


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"a=rtcp-mux\r\n", b"", "rtcp-mux"),
        (b"a=setup:actpass", b"a=setup:passive", "server of DTLS"),
        (b"a=setup:actpass", b"a=setup:holdconn", "not a session description"),
        (b"a=ice-ufrag", b"a=x", "ice-ufrag"),
        (b"a=fingerprint:sha-256", b"a=fingerprint:sha-1", "fingerprint"),
        (b"96 97 98", b"111 97 98", "same payload type"),
    ],
)
def test_a_transport_that_cannot_be_had_is_refused_with_its_reason(
    old: bytes, new: bytes, why: str, facts: Facts
) -> None:
    offered = client_offer("chromium-viewer").replace(old, new)
    if why == "same payload type":
        offered = offered.replace(b"a=rtpmap:96 VP8", b"a=rtpmap:111 VP8").replace(
            b":96 ", b":111 "
        )
    with pytest.raises(BadDescription, match=why):
        answer(parse(offered), TRACKS, facts)


# ------------------------------------------------------------------ publishers

ACCEPTED = ("h264", "vp8", "vp9", "av1", "opus")


def test_obs_publishes_h264_and_opus(facts: Facts) -> None:
    made = receive(parse(client_offer("obs-publisher")), ACCEPTED, facts)
    audio, video = made.media
    assert (audio.codec.rtpmap, audio.payload_type, audio.ssrc) == ("opus/48000/2", 111, 812345001)
    assert (video.codec.rtpmap, video.payload_type, video.ssrc) == ("H264/90000", 96, 812345002)
    assert video.codec.parameters["profile-level-id"] == "42e01f"
    assert all(media.direction == "recvonly" for media in read(made))
    assert "a=ssrc" not in made.text and "a=msid:" not in made.text
    assert "nack pli" in made.text and "goog-remb" in made.text


def test_a_browser_publishes_its_first_codec(facts: Facts) -> None:
    made = receive(parse(client_offer("chromium-publisher")), ACCEPTED, facts)
    assert [one.codec.name for one in made.media] == ["opus", "VP8"]


def test_simulcast_is_not_answered(facts: Facts) -> None:
    made = receive(parse(client_offer("chromium-simulcast")), ACCEPTED, facts)
    assert len(made.media) == 1
    assert "simulcast" not in made.text and "a=rid" not in made.text


def test_h264_without_fragments_is_not_taken_from_a_publisher(facts: Facts) -> None:
    made = receive(parse(client_offer("chromium-publisher")), ("h264",), facts)
    assert made.media[0].codec.parameters["packetization-mode"] == "1"
    single = client_offer("obs-publisher").replace(b"packetization-mode=1", b"packetization-mode=0")
    with pytest.raises(NoCommonCodec, match="accepted are h264"):
        receive(parse(single), ("h264",), facts)


def test_a_viewers_offer_is_no_publishers(facts: Facts) -> None:
    with pytest.raises(NoCommonCodec):
        receive(parse(client_offer("chromium-viewer")), ACCEPTED, facts)
