"""Names outside the domain, read and asked with a full DNS library: the cold path.

Only answers of recursors come through here. Their octets are parsed under limits, since a parser
written for answers may be made to work very hard: RFC 1035 compression allows it.
"""

from __future__ import annotations

from callboard.dns.names import labels_to_wire, to_wire
from callboard.dns.records import Record
from callboard.dns.wire import HEADER, Type, edns_record

REPLY_OCTETS_MAX = 8192
REPLY_RECORDS_MAX = 64


def address_query(name: str, qtype: int) -> bytes:
    """A query for a name's addresses, with EDNS. ID 0: the forwarder puts its own."""
    question = to_wire(name) + qtype.to_bytes(2, "big") + b"\0\1"
    return HEADER.pack(0, 0x0100, 1, 0, 0, 1) + question + edns_record()


def addresses_in(reply: bytes) -> tuple[Record, ...]:
    """The A, AAAA and CNAME records of a recursor's answer; () of one that cannot be read."""
    if len(reply) > REPLY_OCTETS_MAX or len(reply) < HEADER.size:
        return ()
    if sum(HEADER.unpack_from(reply)[2:]) > REPLY_RECORDS_MAX:
        return ()
    from dnslib import DNSError, DNSRecord  # noqa: PLC0415 - seldom needed, and on the start path

    try:
        parsed = DNSRecord.parse(reply)
    except (DNSError, RecursionError, UnicodeError, ValueError):
        return ()
    found = []
    for record in parsed.rr:
        if record.rtype in (Type.A, Type.AAAA):
            data = bytes(record.rdata.data)
        elif record.rtype == Type.CNAME:
            data = _wire(record.rdata.label.label)
        else:
            continue
        owner = _wire(record.rname.label)
        if owner and data:
            found.append(Record(owner, record.rtype, record.ttl, data))
    return tuple(found)


def _wire(labels: tuple[bytes, ...]) -> bytes:
    try:
        return labels_to_wire(labels)
    except ValueError:
        return b""
