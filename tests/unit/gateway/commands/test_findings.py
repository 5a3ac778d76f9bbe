"""What `callboard gateway doctor` makes of what it saw."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.chassis.findings import Finding
from callboard.gateway.commands import findings
from callboard.gateway.commands.findings import (
    Candidate,
    IceAnswer,
    Listed,
    Played,
    Reach,
    Reached,
)

UDP, TCP = Candidate("udp", "192.0.2.1", 8189), Candidate("tcp", "192.0.2.1", 8189)
OTHER = Candidate("udp", "198.51.100.1", 8189)
NEAR = Candidate("udp", "127.0.0.1", 8189)


def texts(found: Iterable[Finding]) -> list[str]:
    return [f"{each.grade.value} {each.subject}: {each.text}" for each in found]


def grades(found: Iterable[Finding]) -> list[str]:
    return [each.grade.value for each in found]


# -------------------------------------------------------------------------------- streams


def test_streams_are_told_with_their_state_and_why() -> None:
    streams = [
        Listed("a", "live", "", (("video", "VP8"), ("audio", "opus")), 2, 812_300),
        Listed("b", "on demand", "", (("video", "H264"),)),
        Listed("c", "not playable", "AAC"),
        Listed("d", "offline", "nothing came for 2 s"),
    ]
    assert texts(findings.judge_streams(streams, ())) == [
        "ok stream: a: live, VP8 and opus, 812 kbit/s, viewers: 2",
        "ok stream: b: on demand, H264: it starts with its first viewer",
        "note stream: c: not playable: AAC",
        "note stream: d: offline: nothing came for 2 s",
    ]


def test_a_stream_that_was_asked_for_and_cannot_be_watched_is_bad() -> None:
    streams = [Listed("a", "offline", "gone"), Listed("b", "live")]
    assert texts(findings.judge_streams(streams, ("a", "c")))[::2] == [
        "bad stream: a: offline: gone",
        "bad stream: c: there is none of that name",
    ]


def test_without_any_stream_that_can_be_watched_it_is_bad() -> None:
    assert grades(findings.judge_streams([], ())) == ["bad"]
    assert grades(findings.judge_streams([Listed("a", "offline")], ())) == ["note", "bad"]


def test_a_list_of_streams_is_read() -> None:
    told = [
        {
            "name": "a",
            "state": "live",
            "reason": "",
            "viewers": 3,
            "bits_per_second": 5,
            "tracks": [{"kind": "video", "codec": "VP8"}, {"kind": "video", "codec": "VP8"}],
        }
    ]
    assert findings.parse_streams(json.dumps(told).encode()) == [
        Listed("a", "live", "", (("video", "VP8"),), 3, 5)
    ]


@pytest.mark.parametrize(
    "body", [b"", b"<p>", b"{}", b"[1]", b'[{"name": 1}]', b"\xff", b"[" * 9999]
)
def test_what_is_no_list_of_streams_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        findings.parse_streams(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "state", "tracks", "kind", "codec", "viewers", "reason"]),
            inner,
        )
    ),
    max_leaves=10,
)


@given(JSON)
def test_no_answer_is_more_than_an_error(told: object) -> None:
    with contextlib.suppress(ValueError):
        list(findings.judge_streams(findings.parse_streams(json.dumps(told).encode()), ("a",)))


# -------------------------------------------------------------------------------- candidates

ANSWER = """v=0\r
a=ice-ufrag:abcd\r
a=ice-pwd:0123456789abcdefghijkl\r
a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host\r
a=candidate:2 1 tcp 1518280447 192.0.2.1 8189 typ host tcptype passive\r
a=candidate:3 1 udp 1677724415 198.51.100.1 8189 typ srflx raddr 0.0.0.0 rport 8189\r
a=candidate:4 1 udp 1677724415 gateway.example 8189 typ host\r
a=candidate:5 1 udp 1677724415 192.0.2.1 99999 typ host\r
a=end-of-candidates\r
"""


def test_an_answer_is_read_and_what_has_no_address_is_left_out() -> None:
    found = findings.parse_ice(ANSWER)
    assert (found.ufrag, found.password) == ("abcd", "0123456789abcdefghijkl")
    reflexive = Candidate("udp", "198.51.100.1", 8189, "srflx")
    assert found.candidates == (UDP, TCP, reflexive)


@given(st.text() | st.builds("a=ice-ufrag:a\na=ice-pwd:b\na=candidate:{}".format, st.text()))
def test_no_text_given_as_an_answer_is_more_than_an_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        list(findings.judge_candidates(findings.parse_ice(text), True))


def test_loopback_candidates_alone_are_a_note_and_none_is_bad() -> None:
    def judged(*candidates: Candidate, by_loopback: bool = True) -> list[str]:
        return texts(findings.judge_candidates(IceAnswer("a", "b", candidates), by_loopback))

    assert judged(NEAR, UDP) == ["ok candidate: udp 127.0.0.1:8189, udp 192.0.2.1:8189"]
    assert judged(NEAR)[1].startswith("note candidate: all are loopback addresses: Firefox")
    (none,) = judged(by_loopback=False)
    assert none.startswith("bad candidate: the answer has none") and "ADVERTISE_IPS" in none


def reached(candidate: Candidate, reach: Reach) -> Reached:
    return Reached(candidate, reach, 4.0)


def test_a_candidate_that_answers_is_good() -> None:
    found = findings.judge_reached([reached(UDP, Reach.ANSWERED)])
    assert texts(found) == ["ok reach: udp 192.0.2.1:8189 answers in 4 ms"]


@pytest.mark.parametrize("reach", [Reach.SILENT, Reach.REFUSED, Reach.STRANGER])
def test_udp_that_is_blocked_is_bad_and_a_spare_one_is_a_note(reach: Reach) -> None:
    blocked = [reached(UDP, reach), reached(TCP, Reach.ANSWERED)]
    assert grades(findings.judge_reached(blocked)) == ["bad", "ok"]
    spare = [reached(UDP, Reach.ANSWERED), reached(OTHER, reach), reached(TCP, reach)]
    assert grades(findings.judge_reached(spare)) == ["ok", "note", "note"]
    neither = [reached(UDP, reach), reached(TCP, reach)]
    assert grades(findings.judge_reached(neither)) == ["bad", "bad"]


# -------------------------------------------------------------------------------- media


def test_the_first_picture_and_sound_are_told() -> None:
    played = Played(0.05, "connected", {"video": 0.1, "audio": 0.12}, {})
    assert texts(findings.judge_played(played, 5.0)) == [
        "ok media: ICE and DTLS are through after 50 ms",
        "ok video: the first picture after 100 ms",
        "ok audio: the first sound after 120 ms",
    ]


def test_what_did_not_connect_did_not_come_or_has_no_keyframe_is_bad() -> None:
    assert texts(findings.judge_played(Played(state="connecting"), 5.0)) == [
        "bad media: ICE and DTLS were not through in 5 s: connecting"
    ]
    played = Played(0.05, "connected", {"video": None, "audio": None}, {"video": 90})
    assert texts(findings.judge_played(played, 5.0))[1:] == [
        "bad video: 90 packets came in 5 s, but no picture could be shown: no keyframe, and the "
        "source answers no request for one",
        "bad audio: nothing came in 5 s",
    ]


def test_a_refusal_is_told_in_the_gateways_words() -> None:
    assert texts([findings.judge_refusal("a", 401, "the token is not right\n")]) == [
        "bad token: the token is not right: -whep-token FILE"
    ]
    assert texts([findings.judge_refusal("a", 503, "as many as may be\n")]) == [
        "bad answer: a: 503 as many as may be"
    ]


# -------------------------------------------------------------------------------- around it


def test_advertised_names_are_judged() -> None:
    words: dict[str, list[str] | str] = {
        "192.0.2.1": ["192.0.2.1"],
        "live.example": ["203.0.113.9"],
        "nowhere.example": "Name or service not known",
        "stun:192.0.2.7": [],
    }
    assert texts(findings.judge_advertised(words, [UDP])) == [
        "ok advertise: 192.0.2.1",
        "note advertise: live.example is 203.0.113.9 here, and no candidate is: another gateway's?",
        "bad advertise: nowhere.example does not resolve: Name or service not known",
        "note advertise: stun:192.0.2.7: no candidate is from it: no NAT, or the server does not "
        "answer the gateway",
    ]
    reflexive = Candidate("udp", "198.51.100.1", 8189, "srflx")
    assert grades(findings.judge_advertised({"stun:192.0.2.7": []}, [reflexive])) == ["ok"]


def test_a_small_receive_buffer_is_a_note() -> None:
    assert grades([findings.judge_buffer(212_992, 4 << 20)]) == ["note"]
    assert grades([findings.judge_buffer(4 << 20, 4 << 20)]) == ["ok"]


def test_readiness_is_judged() -> None:
    assert texts(findings.judge_readiness(200, "ok\n")) == ["ok ready: ok"]
    assert texts(findings.judge_readiness(200, "ok\ncatalog: 9 s old\n")) == [
        "note ready: catalog: 9 s old"
    ]
    assert texts(findings.judge_readiness(503, "gateway: starting\n")) == [
        "bad ready: gateway: starting"
    ]


def test_what_was_counted_is_told_if_it_is_worth_it() -> None:
    counted = """# TYPE callboard_gateway_events_published_total counter
callboard_gateway_events_published_total 12.0
callboard_gateway_events_dropped_total{reason="no hub"} 3.0
callboard_gateway_events_dropped_total{reason="refused"} 0.0
callboard_gateway_refused_packets_total{reason="sender"} 7.0
callboard_gateway_media_unsent_total 0.0
"""
    assert texts(findings.judge_metrics(counted)) == [
        "note hub: 12 media events were taken, and none of these: no hub 3",
        "note rtp: packets of sources were refused (-rtp-from, one sender a port): sender 7",
    ]
    told = findings.judge_metrics("callboard_gateway_events_published_total 2.0\n")
    assert texts(told) == ["ok hub: 2 media events were taken"]


@given(st.text() | st.builds("callboard_gateway_media_unsent_total {}".format, st.text()))
def test_no_text_given_as_metrics_is_an_error(text: str) -> None:
    list(findings.judge_metrics(text))
