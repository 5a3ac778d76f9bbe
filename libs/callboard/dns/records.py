"""Resource records as values, and the answers they make up. Pure; packing is `packed`."""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from callboard.dns.names import labels_of, labels_to_wire, to_wire
from callboard.dns.settings import Soa
from callboard.dns.wire import Type

TXT_STRING_OCTETS_MAX = 255
RAW_TXT_PREFIX = "rfc1035-"
"""Node meta under such a key is given as it is, without `key=` (Consul: node meta in DNS)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of class IN, its data packed without compression."""

    owner: bytes | None
    """Wire name; None is the name that was asked."""
    type: int
    ttl: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One interchangeable part of an answer: the order of entries is the client's luck."""

    record: Record
    additional: tuple[Record, ...] = ()
    """What goes to ADDITIONAL with it, owned by the name that `record` points at."""
    optional: tuple[Record, ...] = ()
    """The same, left out of the whole answer when it would not fit."""


class Outcome(enum.Enum):
    """What kind of answer it is."""

    FOUND = enum.auto()
    NODATA = enum.auto()
    """The name exists, and has no record of the type: NOERROR with SOA (RFC 2308, 2.2)."""
    NXDOMAIN = enum.auto()
    OUTSIDE = enum.auto()
    """Not ours: forward it, or refuse it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question gets, before it is cut to size. Order: fixed, then entries."""

    outcome: Outcome
    fixed: tuple[Record, ...] = ()
    entries: tuple[Entry, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    limit: int = 0
    """Most entries to give; 0 is all that fit."""
    depends: tuple[str, ...] = ()
    """What it was made from, `node:<name>` and `service:<name>` in lower case; with none of it
    changed it may be given again. () is: not to be kept."""
    chase: str = ""
    """A name outside, whose addresses a recursor may add."""


NXDOMAIN = Answer(Outcome.NXDOMAIN)
NODATA = Answer(Outcome.NODATA)
OUTSIDE = Answer(Outcome.OUTSIDE)


def owned_by(answer: Answer, owner: bytes) -> Answer:
    """The same answer with the asked name spelled out: it follows a CNAME."""

    def owned(record: Record) -> Record:
        return record if record.owner is not None else replace(record, owner=owner)

    return replace(
        answer,
        fixed=tuple(owned(record) for record in answer.fixed),
        entries=tuple(replace(entry, record=owned(entry.record)) for entry in answer.entries),
    )


def address_type(packed: bytes) -> Type:
    """A for 4 octets, AAAA for 16."""
    return Type.A if len(packed) == 4 else Type.AAAA


def srv_data(weight: int, port: int, target: bytes) -> bytes:
    """Priority 1, as Consul's; the target is never compressed (RFC 2782)."""
    return struct.pack("!HHH", 1, min(max(weight, 0), 65535), port & 0xFFFF) + target


def txt_data(text: bytes) -> bytes:
    """One TXT record's data: strings of at most 255 octets, at least one."""
    size = TXT_STRING_OCTETS_MAX
    chunks = [text[at : at + size] for at in range(0, len(text), size)] or [b""]
    return b"".join(bytes((len(chunk),)) + chunk for chunk in chunks)


def meta_records(meta: Mapping[str, str], ttl: int) -> tuple[Record, ...]:
    """A node's meta as TXT, `key=value` quoted as RFC 1464 has it, in order of keys."""
    return tuple(
        Record(None, Type.TXT, ttl, txt_data(_meta_text(key, value).encode("utf-8", "replace")))
        for key, value in sorted(meta.items())
    )


def _meta_text(key: str, value: str) -> str:
    if key.lower().startswith(RAW_TXT_PREFIX):
        return value
    quoted = "".join("`" + c if c in "=`" else c for c in key)
    return f"{quoted}={value}"


def soa_record(domain: bytes, serial: int, soa: Soa) -> Record:
    """The SOA of a domain (wire name), mname `ns.`, rname `hostmaster.`, as Consul's."""
    data = b"\x02ns" + domain + b"\x0ahostmaster" + domain
    numbers = (serial & 0xFFFFFFFF, soa.refresh_s, soa.retry_s, soa.expire_s, soa.min_ttl_s)
    return Record(domain, Type.SOA, soa.min_ttl_s, data + struct.pack("!IIIII", *numbers))


def name_below(words: str, tail: bytes) -> bytes:
    """`words` (dots part labels) above a wire name; b"" if that is no valid name."""
    try:
        return labels_to_wire(labels_of(to_wire(words)) + labels_of(tail))
    except (ValueError, UnicodeError):
        return b""
