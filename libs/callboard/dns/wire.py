"""Queries in, answers out, as bytes: RFC 1035 section 4, RFC 6891 (EDNS), RFC 8914 (errors).

The parser reads the header, the one question and the additional section's OPT, and nothing that a
query need not have: counts are checked before anything is walked, so that no packet costs more than
its first 255 octets. An answer is packed from parts; the question goes back octet for octet, so
that the case of its letters does too (0x20). Pure. What to answer is `answers`; cutting an answer
to size is `packed`.
"""

from __future__ import annotations

import enum
import struct

import msgspec

from callboard.dns.names import LABEL_OCTETS_MAX, NAME_OCTETS_MAX

HEADER = struct.Struct("!HHHHHH")
QUESTION_TAIL = struct.Struct("!HH")
RECORD_TAIL = struct.Struct("!HHIH")
"""Type, class, TTL, length of data: what follows a record's owner name."""

OWN_PAYLOAD_SIZE = 1232
"""Largest UDP answer, and what OPT announces (DNS flag day 2020: no fragments)."""

PLAIN_PAYLOAD_SIZE = 512
"""Largest UDP answer without EDNS, and the least an OPT may ask for (RFC 6891, 6.2.3)."""

TCP_PAYLOAD_SIZE = 65535

ADDITIONALS_MAX = 4
"""Most records in a query's additional section (one OPT, perhaps a signature)."""

OPTIONS_MAX = 32

CLASS_IN = 1

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE_MASK = 0x7800
EDNS_DO = 0x8000


class Type(enum.IntEnum):
    """Record types that mean something here (IANA's numbers)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    ANY = 255


class Rcode(enum.IntEnum):
    """Response codes (IANA's numbers); 16 and above need an OPT to be told in."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Ede(enum.IntEnum):
    """Extended errors given here (RFC 8914, section 4)."""

    STALE = 3
    NOT_READY = 14
    STALE_NXDOMAIN = 19
    NOT_AUTHORITATIVE = 20
    NO_REACHABLE_AUTHORITY = 22


class Option(enum.IntEnum):
    """EDNS options that are read or written here; others are ignored (RFC 6891, 6.1.2)."""

    NSID = 3
    COOKIE = 10
    EDE = 15


class Edns(msgspec.Struct, frozen=True):
    """The OPT record of a query."""

    payload_size: int
    version: int
    dnssec_ok: bool
    nsid: bool
    """The client asked who we are (RFC 5001)."""
    plain: bool
    """It has no options at all."""


class Query(msgspec.Struct, frozen=True):
    """A question that can be answered."""

    id: int
    flags: int
    """The header's second word, as it came."""
    question: bytes
    """Name, type and class, octet for octet."""
    name: bytes
    """The wire name in lower case."""
    type: int
    class_: int
    edns: Edns | None


class Malformed(msgspec.Struct, frozen=True):
    """A packet that gets an error code and no more."""

    id: int
    flags: int
    rcode: Rcode
    question: bytes = b""
    edns: Edns | None = None


def parse(packet: bytes) -> Query | Malformed | None:
    """What a packet asks. None: not a query, or too short to be answered; say nothing.

    Never raises. An answer (QR set) is dropped, so that two servers cannot be set on each other.
    """
    if len(packet) < HEADER.size:
        return None
    ident, flags, questions, answers, authorities, additionals = HEADER.unpack_from(packet)
    if flags & QR:
        return None
    if flags & OPCODE_MASK:
        return Malformed(ident, flags, Rcode.NOTIMP)
    if questions != 1 or answers:
        return Malformed(ident, flags, Rcode.FORMERR)
    end = _name_end(packet, HEADER.size)
    if end < 0 or end + 4 > len(packet):
        return Malformed(ident, flags, Rcode.FORMERR)
    kind, class_ = QUESTION_TAIL.unpack_from(packet, end)
    question = packet[HEADER.size : end + 4]
    if authorities or additionals > ADDITIONALS_MAX:
        rcode = Rcode.NOTIMP if kind == Type.IXFR else Rcode.FORMERR  # IXFR brings an SOA
        return Malformed(ident, flags, rcode, question)
    edns = None
    if additionals:
        edns, sound = _additional(packet, end + 4, additionals)
        if not sound:
            return Malformed(ident, flags, Rcode.FORMERR, question, edns)
        if edns is not None and edns.version:
            return Malformed(ident, flags, Rcode.BADVERS, question, edns)
    elif len(packet) != end + 4:
        return Malformed(ident, flags, Rcode.FORMERR, question)
    if kind in _REFUSALS:
        return Malformed(ident, flags, _REFUSALS[kind], question, edns)
    return Query(ident, flags, question, question[:-4].lower(), kind, class_, edns)


_REFUSALS: dict[int, Rcode] = {
    Type.OPT: Rcode.FORMERR,
    Type.TSIG: Rcode.FORMERR,
    Type.TKEY: Rcode.FORMERR,
    Type.AXFR: Rcode.NOTIMP,
    Type.IXFR: Rcode.NOTIMP,
}
"""Types that are no question, and zone transfers."""


def _name_end(packet: bytes, at: int) -> int:
    """Where the uncompressed name at `at` ends; -1 if it is none (a question needs no pointer)."""
    start = at
    size = len(packet)
    while at < size:
        length = packet[at]
        at += 1
        if not length:
            return at if at - start <= NAME_OCTETS_MAX else -1
        if length > LABEL_OCTETS_MAX:
            return -1
        at += length
    return -1


def _owner_end(packet: bytes, at: int) -> int:
    """Where the owner name of a record ends, compressed or not; -1 if malformed."""
    start = at
    size = len(packet)
    while at < size:
        length = packet[at]
        if length >= 0xC0:
            return at + 2
        at += 1
        if not length:
            return at
        at += length
        if length > LABEL_OCTETS_MAX or at - start > NAME_OCTETS_MAX:
            return -1
    return -1


def _additional(packet: bytes, at: int, count: int) -> tuple[Edns | None, bool]:
    """The OPT of the additional section, and whether the section is well formed to the last octet.

    Of two OPT, or one that is not the root's, the first sound one is given: the error answer
    carries an OPT too (RFC 6891, 6.1.1 and 7).
    """
    edns: Edns | None = None
    sound = True
    for _ in range(count):
        rooted = packet[at : at + 1] == b"\0"
        at = _owner_end(packet, at)
        if at < 0 or at + RECORD_TAIL.size > len(packet):
            return edns, False
        kind, size, ttl, length = RECORD_TAIL.unpack_from(packet, at)
        at += RECORD_TAIL.size + length
        if at > len(packet):
            return edns, False
        if kind != Type.OPT:
            continue
        options = _options(packet[at - length : at])
        sound = sound and edns is None and rooted and options is not None
        if edns is None:
            version, dnssec_ok = ttl >> 16 & 0xFF, bool(ttl & EDNS_DO)
            edns = Edns(size, version, dnssec_ok, Option.NSID in (options or ()), not length)
    return edns, sound and at == len(packet)


def _options(data: bytes) -> set[int] | None:
    """The codes of the options in an OPT's data; None if malformed."""
    found: set[int] = set()
    at = 0
    for _ in range(OPTIONS_MAX):
        if at == len(data):
            return found
        if at + 4 > len(data):
            return None
        code, length = QUESTION_TAIL.unpack_from(data, at)
        at += 4 + length
        if code == Option.COOKIE and length != 8 and not 16 <= length <= 40:  # RFC 7873, 5.2.2
            return None
        found.add(code)
    return found if at == len(data) else None


def edns_record(*, dnssec_ok: bool = False, rcode: int = 0, options: bytes = b"") -> bytes:
    """Our OPT record (RFC 6891, 6.1.2), with the upper bits of an extended response code."""
    ttl = (rcode >> 4) << 24 | (EDNS_DO if dnssec_ok else 0)
    return b"\0" + RECORD_TAIL.pack(Type.OPT, OWN_PAYLOAD_SIZE, ttl, len(options)) + options


def option(code: int, data: bytes) -> bytes:
    """One EDNS option, packed."""
    return QUESTION_TAIL.pack(code, len(data)) + data


def extended_error(code: Ede) -> bytes:
    """The EDE option (RFC 8914, section 2), without text: it would only cost octets."""
    return option(Option.EDE, code.to_bytes(2, "big"))


def answer_flags(query_flags: int, rcode: int, *, authoritative: bool, recursion: bool) -> int:
    """The flags word of an answer: RD and CD copied, AD and Z clear (RFC 1035, RFC 4035 3.1.6)."""
    return (
        QR
        | (query_flags & (RD | CD))
        | (AA if authoritative else 0)
        | (RA if recursion else 0)
        | (rcode & 0xF)
    )


def error(
    query: Query | Malformed, rcode: int, *, recursion: bool = False, ede: Ede | None = None
) -> bytes:
    """An answer that is a code only, with the question if there was one, and OPT if it had one."""
    flags = answer_flags(query.flags, rcode, authoritative=False, recursion=recursion)
    if isinstance(query, Malformed):
        flags |= query.flags & OPCODE_MASK
    opt = b""
    if query.edns is not None:
        options = extended_error(ede) if ede is not None else b""
        opt = edns_record(dnssec_ok=query.edns.dnssec_ok, rcode=rcode, options=options)
    head = HEADER.pack(query.id, flags, 1 if query.question else 0, 0, 0, 1 if opt else 0)
    return head + query.question + opt


def truncated(query: Query, *, recursion: bool = False) -> bytes:
    """An empty answer with TC: ask again over TCP."""
    answer = bytearray(error(query, Rcode.NOERROR, recursion=recursion))
    answer[2] |= TC >> 8
    return bytes(answer)
