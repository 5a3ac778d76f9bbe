"""What recursors send back, hostile ones too."""

from __future__ import annotations

import time

import dns.message
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.dns.foreign import address_query, addresses_in
from callboard.dns.wire import Query, parse


def reply(*records: str) -> bytes:
    message = dns.message.make_response(dns.message.make_query("www.example.com", "A"))
    for line in records:
        name, ttl, kind, data = line.split(" ", 3)
        message.answer.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    return message.to_wire()


def test_query_is_one_we_would_answer_ourselves() -> None:
    query = parse(address_query("www.example.com", 28))
    assert isinstance(query, Query)
    assert (query.name, query.type) == (b"\x03www\x07example\x03com\0", 28)
    assert query.edns is not None


def test_addresses_and_aliases_are_taken_and_nothing_else() -> None:
    found = addresses_in(
        reply(
            "www.example.com. 60 CNAME web.example.com.",
            "web.example.com. 30 A 192.0.2.1",
            "web.example.com. 30 AAAA 2001:db8::1",
            'web.example.com. 30 TXT "x"',
        )
    )
    assert [(record.type, record.ttl) for record in found] == [(5, 60), (1, 30), (28, 30)]
    assert found[0].data == b"\x03web\x07example\x03com\0"
    assert found[1].data == b"\xc0\0\2\1"


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_any_octets_are_records_or_nothing(octets: bytes) -> None:
    addresses_in(octets)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 400), st.binary(max_size=6))
def test_damaged_answer_is_records_or_nothing(at: int, octets: bytes) -> None:
    good = reply("www.example.com. 60 CNAME web.example.com.", "web.example.com. 30 A 192.0.2.1")
    at %= len(good)
    addresses_in(good[:at] + octets + good[at + len(octets) :])


def test_answer_made_to_be_slow_is_not_parsed() -> None:
    header = b"\0\0\x81\x80\0\1\xff\xff\0\0\0\0"
    begun = time.perf_counter()
    assert addresses_in(header + b"\xc0\x0c" * 3000) == ()
    loop = b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + b"".join(
        (0xC000 | 12 + 2 * n + 2).to_bytes(2, "big") for n in range(4000)
    )
    assert addresses_in(loop[:8000]) == ()
    assert time.perf_counter() - begun < 1
