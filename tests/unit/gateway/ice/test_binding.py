"""Binding requests and answers, held to aioice's reading of them and to RFC 5769's vectors."""

from __future__ import annotations

import struct

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.ice.requests import OURS, TRANSACTION, add, check, plain

from callboard.gateway.ice import binding
from callboard.gateway.ports import Address

RFC_5769_REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74"
    "002400046e0001ff80290008932ff9b151263b36000600096576746a3a683676592020200008"
    "00149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
"""RFC 5769, 2.1."""
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
WITHOUT_FINGERPRINT = stun.set_body_length(RFC_5769_REQUEST[:-8], len(RFC_5769_REQUEST) - 28)


def test_request_of_rfc_5769_is_read() -> None:
    request = binding.parse(RFC_5769_REQUEST)
    assert isinstance(request, binding.Request)
    assert request.username == "evtj:h6vY"
    assert request.made_with(PASSWORD)
    assert not request.made_with(b"VOkJxbRl1RmTxUk/WvJxBu")
    assert request.from_controlled
    assert request.has_fingerprint
    assert not request.nominates
    assert request.unknown == ()


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_nothing(data: bytes) -> None:
    assert isinstance(binding.parse(data), binding.Request | binding.Mapped | None)


@given(
    kind=st.sampled_from([0x0001, 0x0101, 0x0111, 0x0011]),
    attributes=st.lists(
        st.tuples(st.sampled_from(sorted(stun.ATTRIBUTES_BY_TYPE)), st.binary(max_size=24)),
        max_size=6,
    ),
)
def test_any_attributes_parse_or_are_nothing(
    kind: int, attributes: list[tuple[int, bytes]]
) -> None:
    head = struct.pack("!HHI12s", kind, 0, stun.COOKIE, TRANSACTION)
    parsed = binding.parse(add(head, *attributes))
    assert isinstance(parsed, binding.Request | binding.Mapped | None)
    if isinstance(parsed, binding.Request):
        parsed.made_with(b"some key")
        answer = binding.success(parsed, Address("192.0.2.1", 1), b"some key")
        assert stun.parse_message(answer).check_message_integrity(b"some key")


@given(data=st.data())
def test_request_with_a_changed_byte_is_never_taken_for_genuine(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(WITHOUT_FINGERPRINT) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(WITHOUT_FINGERPRINT)
    changed[at] ^= flip
    genuine, parsed = (binding.parse(WITHOUT_FINGERPRINT), binding.parse(bytes(changed)))
    assert isinstance(genuine, binding.Request)
    assert genuine.made_with(PASSWORD)
    assert not (isinstance(parsed, binding.Request) and parsed.made_with(PASSWORD))


def test_wrong_cookie_is_not_stun() -> None:
    data = bytearray(plain())
    data[4] ^= 1
    assert binding.parse(bytes(data)) is None


def test_wrong_fingerprint_is_not_stun() -> None:
    data = bytearray(binding.request(TRANSACTION))
    data[-1] ^= 1
    assert binding.parse(bytes(data)) is None


def test_message_longer_than_a_check_is_not_parsed() -> None:
    assert binding.parse(add(plain(), (0x8022, bytes(1600)))) is None


def test_indication_is_nothing() -> None:
    message = stun.Message(stun.Method.BINDING, stun.Class.INDICATION, TRANSACTION)
    assert binding.parse(bytes(message)) is None


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_success_tells_the_sender_its_address(host: str) -> None:
    answer = stun.parse_message(binding.success(check(), Address(host, 4711), OURS.key))
    assert answer.message_class == stun.Class.RESPONSE
    assert answer.transaction_id == TRANSACTION
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == (host, 4711)
    assert answer.check_message_integrity(OURS.key)
    assert "FINGERPRINT" in answer.attributes


@pytest.mark.parametrize("code", [400, 401, 420, 487])
def test_error_names_its_code(code: int) -> None:
    answer = stun.parse_message(binding.error(check(), code, OURS.key))
    assert answer.message_class == stun.Class.ERROR
    assert answer.attributes["ERROR-CODE"] == (code, binding.REASONS[code])
    assert answer.check_message_integrity(OURS.key)


def test_error_420_names_what_was_not_understood() -> None:
    request = check(extra=((0x0031, b"x"), (0x0032, b"yy"), (0x8777, b"optional")))
    assert request.unknown == (0x0031, 0x0032)
    answer = binding.error(request, 420, OURS.key)
    assert struct.pack("!HHHH", 0x000A, 4, 0x0031, 0x0032) in answer


def test_unsigned_attributes_do_not_count() -> None:
    request = check(behind=((0x0031, b"x"), (0x0025, b"")))
    assert request.unknown == ()
    assert not request.nominates


def test_answer_to_a_stranger_has_a_fingerprint_if_he_has() -> None:
    for data, has in ((plain(), False), (binding.request(TRANSACTION), True)):
        request = binding.parse(data)
        assert isinstance(request, binding.Request)
        answer = stun.parse_message(binding.success(request, Address("192.0.2.1", 1), None))
        assert ("FINGERPRINT" in answer.attributes) is has


def test_answer_to_a_stranger_is_hardly_longer_than_what_he_sent() -> None:
    request = binding.parse(plain())
    assert isinstance(request, binding.Request)
    for host, more in (("192.0.2.1", 12), ("2001:db8::1", 24)):
        answer = binding.success(request, Address(host, 1), None)
        assert len(answer) == len(plain()) + more
    for signed in (check(), check(key=b"wrong")):
        assert len(binding.error(signed, 401, None)) <= len(bytes(signed.message))


def test_answer_of_a_server_is_read() -> None:
    query = binding.parse(binding.request(TRANSACTION))
    assert isinstance(query, binding.Request)
    answer = binding.success(query, Address("198.51.100.7", 8189), None)
    assert binding.parse(answer) == binding.Mapped(TRANSACTION, Address("198.51.100.7", 8189))
    refusal = binding.error(query, 400, None)
    assert binding.parse(refusal) == binding.Mapped(TRANSACTION, None)
