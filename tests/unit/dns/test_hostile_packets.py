"""Packets nobody should send: each gets the right error or silence (RFC 1035, 6891, 7873, 9619)."""

from __future__ import annotations

import random
import struct

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest
from dnslib import DNSRecord
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.harness.dnscase import ask, query
from tests.harness.farm import article_farm

from callboard.dns.responder import Condition, Responder
from callboard.dns.settings import DnsSettings
from callboard.dns.wire import Malformed, Query, parse

NAME = b"\x03web\x07service\x06consul\0"
QUESTION = NAME + b"\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def front(**options: object) -> Responder:
    return Responder(
        article_farm(),
        DnsSettings(**options),  # type: ignore[arg-type]
        draw=random.Random(1).random,
        clock=lambda: 1.7e9,
    )


FRONT = front()


def packet(
    body: bytes, *, flags: int = 0, counts: tuple[int, int, int, int] = (1, 0, 0, 0)
) -> bytes:
    return struct.pack("!HHHHHH", 0x1234, flags, *counts) + body


def send(data: bytes) -> bytes | None:
    reply = FRONT.respond(data)
    assert reply is None or isinstance(reply, bytes)
    return reply


def rcode_of(reply: bytes | None) -> str:
    assert reply is not None
    return dns.rcode.to_text(dns.message.from_wire(reply).rcode())


SILENT = {
    "nothing": b"",
    "half a header": b"\x12\x34\0\0\0\1",
    "an answer": packet(QUESTION, flags=0x8000),
    "an answer without a question": packet(b"", flags=0x8180, counts=(0, 0, 0, 0)),
}


@pytest.mark.parametrize("data", SILENT.values(), ids=SILENT)
def test_is_not_answered(data: bytes) -> None:
    assert send(data) is None


ERRORS = {
    "FORMERR no question": packet(b"", counts=(0, 0, 0, 0)),
    "FORMERR two questions": packet(QUESTION * 2, counts=(2, 0, 0, 0)),
    "FORMERR question counted but absent": packet(b""),
    "FORMERR an answer record": packet(QUESTION + OPT, counts=(1, 1, 0, 0)),
    "FORMERR an authority record": packet(QUESTION + OPT, counts=(1, 0, 1, 0)),
    "FORMERR 65535 additional records": packet(QUESTION, counts=(1, 0, 0, 65535)),
    "FORMERR a label of 64": packet(b"\x40" + b"a" * 64 + b"\0\0\1\0\1"),
    "FORMERR a pointer in the question": packet(b"\xc0\x0c\0\1\0\1"),
    "FORMERR a name of 256": packet((b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1"),
    "FORMERR a name without an end": packet(b"\x03web"),
    "FORMERR no type": packet(NAME),
    "FORMERR octets behind the end": packet(QUESTION + b"x"),
    "FORMERR two OPT": packet(QUESTION + OPT * 2, counts=(1, 0, 0, 2)),
    "FORMERR OPT of a name": packet(QUESTION + b"\1a" + OPT, counts=(1, 0, 0, 1)),
    "FORMERR OPT longer than the packet": packet(
        QUESTION + OPT[:-1] + b"\x09", counts=(1, 0, 0, 1)
    ),
    "FORMERR half an option": packet(QUESTION + OPT[:-1] + b"\x03\0\3\0", counts=(1, 0, 0, 1)),
    "FORMERR a cookie of 7": packet(
        QUESTION + OPT[:-1] + b"\x0b\0\x0a\0\7" + b"c" * 7, counts=(1, 0, 0, 1)
    ),
    "FORMERR type OPT asked": packet(NAME + b"\0\x29\0\1"),
    "NOTIMP STATUS": packet(QUESTION, flags=0x1000),
    "NOTIMP NOTIFY": packet(QUESTION, flags=0x2000),
    "NOTIMP UPDATE": packet(QUESTION, flags=0x2800),
    "NOTIMP opcode 15": packet(b"", flags=0x7800, counts=(0, 0, 0, 0)),
    "NOTIMP AXFR": packet(NAME + b"\0\xfc\0\1"),
    "NOTIMP IXFR": packet(NAME + b"\0\xfb\0\1"),
    "NOTIMP IXFR with its SOA": packet(NAME + b"\0\xfb\0\1" + OPT, counts=(1, 0, 1, 0)),
    "REFUSED class CH": packet(NAME + b"\0\1\0\3"),
    "REFUSED class ANY": packet(NAME + b"\0\1\0\xff"),
    "BADVERS EDNS 1": packet(QUESTION + OPT[:6] + b"\1" + OPT[7:], counts=(1, 0, 0, 1)),
}


@pytest.mark.parametrize("what", ERRORS)
def test_is_answered_with_its_error(what: str) -> None:
    rcode, _, _ = what.partition(" ")
    reply = send(ERRORS[what])
    assert rcode_of(reply) == rcode
    assert reply is not None
    assert reply[:2] == b"\x12\x34"


WITH_OPT = [
    "FORMERR two OPT",
    "FORMERR OPT of a name",
    "FORMERR half an option",
    "FORMERR a cookie of 7",
    "BADVERS EDNS 1",
]


@pytest.mark.parametrize("what", WITH_OPT)
def test_error_to_an_edns_query_has_an_opt(what: str) -> None:
    reply = send(ERRORS[what])
    assert reply is not None
    assert dns.message.from_wire(reply).edns == 0


def test_labels_may_hold_any_octet() -> None:
    for label in (b"\0", b".", b"\xff", b" "):
        name = b"\1" + label + b"\x04node\x06consul\0"
        assert rcode_of(send(packet(name + b"\0\1\0\1"))) == "NXDOMAIN"


def test_case_of_the_question_comes_back() -> None:
    question = b"\x03wEb\x07sErVice\x06CONsul\0\0\1\0\1"
    reply = send(packet(question))
    assert reply is not None
    assert reply[12 : 12 + len(question)] == question
    assert rcode_of(reply) == "NOERROR"


@pytest.mark.parametrize(
    ("sent", "kept"), [(0x0100, 0x0100), (0x0010, 0x0010), (0x0020, 0), (0x0040, 0), (0x0080, 0)]
)
def test_rd_and_cd_are_copied_and_other_flags_are_clear(sent: int, kept: int) -> None:
    reply = send(packet(QUESTION, flags=sent))
    assert reply is not None
    assert int.from_bytes(reply[2:4], "big") == 0x8400 | kept


def test_opt_of_an_answer_is_our_own() -> None:
    reply = ask(send, query("web.service.consul", "A", use_edns=0, payload=4096, want_dnssec=True))
    assert (reply.edns, reply.payload) == (0, 1232)
    assert reply.ednsflags & dns.flags.DO


def test_answer_without_edns_has_no_opt() -> None:
    assert ask(send, query("web.service.consul", "A")).edns == -1


def test_unknown_options_are_ignored_and_not_sent_back() -> None:
    message = query("web.service.consul", "A", use_edns=0)
    message.use_edns(0, options=[dns.edns.GenericOption("65001", b"x"), dns.edns.CookieOption(
        b"12345678", b"")])  # fmt: skip
    assert ask(send, message).options == ()


def test_nsid_is_given_on_request_only() -> None:
    named = front(server_id="front-1")
    message = query("web.service.consul", "A")
    message.use_edns(0, options=[dns.edns.NSIDOption(b"")])

    def send_named(data: bytes) -> bytes:
        reply = named.respond(data)
        assert isinstance(reply, bytes)
        return reply

    assert ask(send_named, message).options == (dns.edns.NSIDOption(b"front-1"),)
    assert ask(send_named, query("web.service.consul", "A", use_edns=0)).options == ()


@pytest.mark.parametrize(
    ("condition", "name", "code"),
    [
        (Condition.STALE, "web.service.consul", 3),
        (Condition.STALE, "nosuch.service.consul", 19),
        (Condition.EXPIRED, "web.service.consul", 22),
        (Condition.FRESH, "example.com", 20),
    ],
)
def test_extended_error_says_what_is_the_matter(condition: Condition, name: str, code: int) -> None:
    old = front()
    old.respond(query("web.service.consul", "A", use_edns=0).to_wire())
    old.set_condition(condition)
    reply = old.respond(query(name, "A", use_edns=0).to_wire())
    assert isinstance(reply, bytes)
    errors = dns.message.from_wire(reply).options
    assert [option.code for option in errors] == [code]


def test_expired_catalog_is_a_server_failure() -> None:
    old = front()
    old.set_condition(Condition.EXPIRED)
    for name in ("web.service.consul", "nosuch.service.consul"):
        reply = old.respond(query(name, "A").to_wire())
        assert isinstance(reply, bytes)
        assert rcode_of(reply) == "SERVFAIL"


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=600))
@example(packet(QUESTION))
def test_any_octets_get_an_answer_or_silence(data: bytes) -> None:
    reply = send(data)
    if reply is not None:
        dns.message.from_wire(reply)


def _mutate(base: bytes, cuts: list[tuple[int, int, int]]) -> bytes:
    data = bytearray(base)
    for at, value, how in cuts:
        where = at % (len(data) + 1)
        if how == 0:
            data[where : where + 1] = bytes((value,))
        elif how == 1:
            data[where:where] = bytes((value,))
        elif how == 2:
            del data[where : where + value % 8]
        else:
            data[where:] = b""
    return bytes(data)


mutated = st.builds(
    _mutate,
    st.sampled_from(
        [*ERRORS.values(), packet(QUESTION), packet(QUESTION + OPT, counts=(1, 0, 0, 1))]
    ),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255), st.integers(0, 3)), max_size=6),
)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(mutated)
def test_damaged_queries_get_an_answer_or_silence_and_agree_with_another_parser(
    data: bytes,
) -> None:
    reply = send(data)
    parsed = parse(data)
    if reply is not None:
        dns.message.from_wire(reply)
    if isinstance(parsed, Query):
        _compare(data, parsed)
    elif isinstance(parsed, Malformed):
        assert reply is not None
        assert len(reply) <= len(data) + len(OPT)


def _compare(data: bytes, ours: Query) -> None:
    try:
        theirs = DNSRecord.parse(data)
    except Exception:
        return  # it wants labels in UTF-8, and reads record data that is none of our business
    assert theirs.header.id == ours.id
    assert bytes(theirs.questions[0].qname.label and b".".join(theirs.q.qname.label)).lower() == (
        b".".join(_labels(ours.name))
    )
    assert (theirs.q.qtype, theirs.q.qclass) == (ours.type, ours.class_)


def _labels(wire: bytes) -> list[bytes]:
    labels = []
    while wire[0]:
        labels.append(wire[1 : 1 + wire[0]])
        wire = wire[1 + wire[0] :]
    return labels


def test_large_hostile_message_costs_nothing() -> None:
    records = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\0" * 5000
    data = packet(QUESTION + records, counts=(1, 0, 0, 5000))
    assert rcode_of(send(data)) == "FORMERR"


words = st.sampled_from(
    [b"web", b"_web", b"_tcp", b"rails", b"agent-1", b"node", b"service", b"addr", b"query",
     b"dc1", b"dc", b"ns", b"default", b"0a000001", b"consul", b"arpa", b"in-addr", b"WEB", b"_"]
)  # fmt: skip
names = st.lists(words | st.binary(min_size=1, max_size=20), max_size=6)
kinds = st.sampled_from(
    [1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 43, 48, 65, 249, 250, 251, 252, 255, 257, 666]
) | st.integers(0, 65535)


@settings(max_examples=1000, deadline=None)
@given(names, kinds, st.booleans(), st.booleans())
def test_any_name_of_any_type_gets_a_well_formed_answer(
    labels: list[bytes], kind: int, tcp: bool, edns: bool
) -> None:
    wire = b"".join(bytes((len(label),)) + label for label in [*labels, b"consul"]) + b"\0"
    data = packet(
        wire + kind.to_bytes(2, "big") + b"\0\1" + (OPT if edns else b""),
        counts=(1, 0, 0, int(edns)),
    )
    reply = FRONT.respond(data, tcp=tcp)
    assert isinstance(reply, bytes)
    assert reply[12 : 12 + len(wire)] == wire
    parsed = dns.message.from_wire(reply)
    assert parsed.edns == (0 if edns else -1)
