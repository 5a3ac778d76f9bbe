"""ICE fragments (RFC 8840): trickled candidates, restarts."""

from __future__ import annotations

import pytest

from callboard.gateway.sdp.fragments import BadFragment, Fragment, parse, write
from callboard.gateway.sdp.writing import Facts

TRICKLED = b"""a=group:BUNDLE 0 1
m=audio 9 UDP/TLS/RTP/SAVPF 111
a=mid:0
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0
a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0
a=end-of-candidates
"""
"""After RFC 9725, figure 5."""


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_fragment_has_credentials_and_candidates(end: bytes) -> None:
    read = parse(TRICKLED.replace(b"\n", end))
    assert read == Fragment("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1", 2, True, ("0",))


def test_a_fragment_may_name_no_credentials() -> None:
    lines = [line for line in TRICKLED.split(b"\n") if b"ice-" not in line]
    read = parse(b"\n".join(lines))
    assert (read.ufrag, read.password, read.candidates) == ("", "", 2)


def test_end_of_candidates_may_come_alone() -> None:
    assert parse(b"m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=end-of-candidates\r\n").ended


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "x="),
        (b"{}", "x="),
        (b"\xff", "UTF-8"),
        (b"a=ice-ufrag:abcd\r\n", "one a=ice-ufrag and one"),
        (TRICKLED + b"a=ice-ufrag:other\n", "one a=ice-ufrag"),
        (TRICKLED.replace(b"EsAw", b"E w"), "malformed"),
        (TRICKLED.replace(b"P2uYro", b""), "malformed"),
        (b"a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n", "media section"),
        (b"a=x\n" * 3000, "lines"),
        (b"a=" + b"x" * 70_000, "bytes"),
    ],
)
def test_what_is_no_fragment_is_refused_with_its_reason(body: bytes, why: str) -> None:
    with pytest.raises(BadFragment, match=why):
        parse(body)


def test_the_answer_to_a_restart_has_new_credentials_and_all_candidates(facts: Facts) -> None:
    read = parse(write(facts, "audio", "0", 111).encode())
    assert read == Fragment(facts.ufrag, facts.password, 2, True, ("0",))
