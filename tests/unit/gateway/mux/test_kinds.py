"""What a packet is by its first bytes."""

from __future__ import annotations

from collections import Counter

from callboard.gateway.mux.kinds import Kind, kind_of


def test_first_byte_tells_the_kind_as_rfc_7983_has_it() -> None:
    kinds = [kind_of(bytes([first]) + bytes(19)) for first in range(256)]
    assert set(kinds[0:4]) == {Kind.STUN}
    assert set(kinds[4:20]) == {Kind.OTHER}
    assert set(kinds[20:64]) == {Kind.DTLS}
    assert set(kinds[64:128]) == {Kind.OTHER}
    assert set(kinds[128:192]) == {Kind.RTP}
    assert set(kinds[192:]) == {Kind.OTHER}


def test_second_byte_tells_rtcp_from_rtp() -> None:
    kinds = Counter(kind_of(bytes([0x80, second]) + bytes(10)) for second in range(256))
    assert kinds == {Kind.RTCP: 32, Kind.RTP: 224}
    assert kind_of(bytes([0x80, 200]) + bytes(6)) is Kind.RTCP


def test_packet_too_short_for_its_header_is_neither() -> None:
    assert kind_of(b"") is Kind.OTHER
    assert kind_of(bytes([0x80, 96]) + bytes(9)) is Kind.OTHER
    assert kind_of(bytes([0x80, 200]) + bytes(5)) is Kind.OTHER
