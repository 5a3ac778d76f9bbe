"""Descriptions and fragments that are not what they should be: one error, and soon."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.sdp.conftest import PUBLISHERS, TRACKS, VIEWERS, client_offer

from callboard.gateway.sdp import fragments
from callboard.gateway.sdp.answers import answer, receive
from callboard.gateway.sdp.offers import BYTES_MAX, BadDescription, Description, parse
from callboard.gateway.sdp.server_offers import accept, offer
from callboard.gateway.sdp.writing import Facts

FACTS = Facts("ufrag", "password-of-22-characters", "sha-256 AA", (), 1)


def use(body: bytes) -> None:
    """Everything that is done with a description of others."""
    try:
        description = parse(body)
    except BadDescription:
        return
    for judge in (_answer, _receive, _accept):
        try:
            judge(description)
        except BadDescription:
            continue


def _answer(description: Description) -> None:
    assert not set(answer(description, TRACKS, FACTS).text) - ALLOWED


def _receive(description: Description) -> None:
    assert not set(receive(description, ("vp8", "h264", "opus"), FACTS).text) - ALLOWED


def _accept(description: Description) -> None:
    accept(offer(TRACKS, FACTS), description)


ALLOWED = {*map(chr, range(32, 127)), "\r", "\n"}
bodies = st.sampled_from([client_offer(name) for name in (*VIEWERS, *PUBLISHERS)])
lines = st.sampled_from(
    sorted({line for name in (*VIEWERS, *PUBLISHERS) for line in client_offer(name).split(b"\r\n")})
)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    use(body)
    use(b"v=0\r\n" + body)


@given(bodies, st.data())
def test_mutated_offers_are_refused_or_answered(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    until = data.draw(st.integers(at, min(len(body), at + 40)))
    use(body[:at] + data.draw(st.binary(max_size=12)) + body[until:])


@given(bodies, st.data())
def test_offers_with_lines_moved_left_out_and_repeated(body: bytes, data: st.DataObject) -> None:
    parts = body.split(b"\r\n")
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(parts) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, data.draw(lines))
            case _:
                parts[at] = parts[at][: data.draw(st.integers(0, len(parts[at])))]
        parts = parts or [b""]
    use(b"\r\n".join(parts))


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=20))
def test_no_text_of_an_offer_becomes_a_line_of_the_answer(text: str) -> None:
    body = client_offer("chromium-viewer").decode()
    for old in (
        "a=mid:0",
        "=minptime",
        "minptime",
        "minptime=1",
        "opus/48000",
        "SAVPF 111",
        "useinbandfec=1",
        "video 9",
    ):
        use(body.replace(old, old + text).encode())


def test_parameters_that_no_line_can_hold_are_not_repeated() -> None:
    offered = client_offer("chromium-viewer").replace(b"minptime=10", "ä=1;b=ö;c".encode())
    made = answer(parse(offered), TRACKS, FACTS)
    assert "a=fmtp:111 c;useinbandfec=1\r\n" in made.text


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "v=0"),
        (b"hello", "v=0"),
        (b"v=0\r\ns=-\r\n", "no media section"),
        (b"v=0\r\nm=audio\r\n", "not a session description"),
        (b"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 72\r\n", "not a session description"),
        (b"v=0\r\na=x:\xff\xfe\r\n", "UTF-8"),
        (b"v=0\r\na=x\x0bm=audio 9 RTP/AVP 0\r\n", "control characters"),
        (b"v=0\r\n" + b" " * BYTES_MAX, "bytes"),
        (b"v=0\r\n" + b"m=audio 9 RTP/AVP 0\r\n" * 65, "media sections"),
        (client_offer("chromium-viewer").replace(b"a=mid:1", b"a=mid:0"), "same mid"),
        (client_offer("chromium-viewer").replace(b"ufrag:", b"ufrag:\xc3\xa4 "), "ice-ufrag"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, why: str) -> None:
    with pytest.raises(BadDescription, match=why):
        parse(body)


@pytest.mark.parametrize(
    "line", [b"a=rtcp-fb:* nack\r\n", b"a=ssrc:1 cname:x\r\n", b"a=fmtp:127 x=1\r\n"]
)
def test_lines_that_multiply_each_other_are_refused_before_they_are_parsed(line: bytes) -> None:
    head = b"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 127\r\n"
    maps = b"a=rtpmap:127 x/1\r\n" * 1000
    body = head + maps + line * ((BYTES_MAX - len(head) - len(maps)) // len(line))
    begun = time.process_time()
    with pytest.raises(BadDescription, match="too many"):
        parse(body)
    assert time.process_time() - begun < 0.5


@given(st.binary(max_size=400), st.booleans())
def test_any_fragment_is_refused_or_read(body: bytes, known: bool) -> None:
    whole = b"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n" if known else b""
    try:
        read = fragments.parse(whole + body)
    except fragments.BadFragment:
        return
    assert bool(read.ufrag) == bool(read.password)
