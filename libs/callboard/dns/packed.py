"""An answer as wire bytes, cut to the size a client takes, starting at a random instance.

The interchangeable records stand in a buffer twice over; an answer is a slice of it from a random
offset. So every instance comes first equally often whatever the size, and an answer costs one join;
a fixed set of ready-made shuffles would favour a few instances once only some of them fit. SRV
records bring their targets' addresses along, whose owner names are pointers into the answer section
and so are put in as it is made. Pure: the random number is an argument.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, chain

from callboard.dns.names import to_wire
from callboard.dns.records import Answer, Record
from callboard.dns.wire import HEADER, RECORD_TAIL, TC, TCP_PAYLOAD_SIZE, Type

QUESTION_POINTER = b"\xc0\x0c"
"""The asked name: it stands right behind the header (RFC 1035, 4.1.4)."""

POINTER_OFFSET_MAX = 0x3FFF

_HEAD = struct.Struct("!HHHHH")
"""The header behind the ID: flags and the four counts."""

_SRV_TARGET_AT = 2 + RECORD_TAIL.size + 6
"""Of an SRV record whose owner is a pointer: where its target begins."""

VARIANTS_MAX = 16
"""Kept per answer: sizes, flags and EDNS forms that differ. More are made each time."""


def pack_record(record: Record) -> bytes:
    """One record, its owner a pointer to the question or spelled out."""
    owner = QUESTION_POINTER if record.owner is None else record.owner
    return owner + RECORD_TAIL.pack(record.type, 1, record.ttl, len(record.data)) + record.data


def negative(head: bytes, question: bytes, soa: Record, opt: bytes) -> bytes:
    """An answer with nothing but the SOA, whose owner is the end of the asked name."""
    assert soa.owner is not None
    at = 12 + len(question) - 4 - len(soa.owner)
    owner = (0xC000 | at).to_bytes(2, "big")
    tail = RECORD_TAIL.pack(soa.type, 1, soa.ttl, len(soa.data)) + soa.data
    return b"".join((head, question, owner, tail, opt))


@dataclass(frozen=True, slots=True)
class Form:
    """How one client wants its answers: what of an answer's bytes does not depend on its name."""

    flags: int
    size: int
    """Octets the whole message may have."""
    limit: int
    """Most entries, 0 is no limit."""
    opt: bytes
    """The OPT record, or b""."""
    tell_truncation: bool


class Prepared:
    """One answer's records, packed once; `variant` gives it the form a client wants."""

    __slots__ = (
        "_additional",
        "_answer",
        "_authority",
        "_buffer",
        "_ends",
        "_even",
        "_fixed",
        "_pairs",
        "_stride",
        "_units",
        "_variants",
        "allowed",
        "count",
    )

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._fixed = b"".join(map(pack_record, answer.fixed))
        self._authority = b"".join(map(pack_record, answer.authority))
        self._additional = b"".join(map(pack_record, answer.additional))
        self.count = len(answer.entries)
        self.allowed = min(self.count, answer.limit or self.count)
        """Entries to give when all fit."""
        self._variants: dict[Form, Variant] = {}
        self._units: list[_Unit] = []
        self._even: _Buffers | None = None
        self._pairs: dict[bool, list[_Pair]] = {}
        self._buffer, self._ends, self._stride = b"", [0], 0
        if any(entry.additional or entry.optional for entry in answer.entries):
            self._units = _units(answer)
            self._even = _even_buffers(self._units)
        else:
            blobs = [pack_record(entry.record) for entry in answer.entries]
            self._buffer = b"".join(blobs) * 2
            self._ends = [0, *accumulate(map(len, blobs * 2))]
            sizes = set(map(len, blobs))
            self._stride = sizes.pop() if len(sizes) == 1 else 0

    def variant(self, form: Form, question_size: int) -> Variant:
        """The answer in a client's form; `question_size` is the same for every client."""
        known = self._variants.get(form)
        if known is None:
            known = self._make(form, question_size)
            if len(self._variants) < VARIANTS_MAX:
                self._variants[form] = known
        return known

    def keeps(self, form: Form) -> bool:
        """Whether the answer in this form is kept, so that others may keep it for no memory."""
        return form in self._variants

    def _make(self, form: Form, question_size: int) -> Variant:
        answer = self._answer
        authority, additional = self._authority, self._additional
        counts = (len(answer.authority), len(answer.additional))
        room = form.size - HEADER.size - question_size - len(form.opt) - len(self._fixed)
        if room < len(authority) + len(additional):  # glue may be left out (RFC 1034, 4.3.2)
            authority, additional, counts = b"", b"", (0, 0)
        room -= len(authority) + len(additional)
        most = min(self.allowed, form.limit or self.allowed)
        frame = Frame(
            form.flags,
            len(answer.fixed),
            counts[0],
            counts[1] + bool(form.opt),
            self._fixed,
            authority,
            additional + form.opt,
            self.allowed,
            form.size != TCP_PAYLOAD_SIZE,
            form.tell_truncation,
        )
        if room < 0:
            return Fixed(frame.without_fixed(), 0)
        if not self.count:
            return Fixed(frame, 0)
        if self._units:
            start = HEADER.size + question_size + len(self._fixed)
            return self._with_targets(frame, most, room, start)
        if self._stride:
            fitting = min(most, room // self._stride)
            return Uniform(frame, self._buffer, self._stride, self.count, fitting)
        return Ragged(frame, self._buffer, self._ends, count=self.count, most=most, room=room)

    def _with_targets(self, frame: Frame, most: int, room: int, start: int) -> Variant:
        """SRV records and their addresses. What forms have in common is held once."""
        if self._even is not None:
            even = Even.make(frame, self._even, most, room, start)
            if even is not None:
                return even
        units = self._units
        every = sum(map(_largest, units[: self.count]))
        optional = most == self.count and every <= room
        pairs = self._pairs.get(optional)
        if pairs is None:
            pairs = self._pairs[optional] = [_pair(unit, optional=optional) for unit in units]
        return Pairs(frame, pairs, most, room, start)


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the entries of an answer."""

    flags: int
    fixed_count: int
    authority_count: int
    additional_count: int
    fixed: bytes
    authority: bytes
    tail: bytes
    allowed: int
    may_truncate: bool
    tell_truncation: bool

    def head(self, given: int, additional: int = 0) -> bytes:
        """The header from the flags on, for so many entries.

        An answer from which everything was left out says so whatever the setting: without TC it
        would be called empty.
        """
        flags = self.flags
        nothing = not given and not self.fixed_count
        if given < self.allowed and self.may_truncate and (self.tell_truncation or nothing):
            flags |= TC
        return _HEAD.pack(
            flags,
            1,
            self.fixed_count + given,
            self.authority_count,
            self.additional_count + additional,
        )

    def without_fixed(self) -> Frame:
        """The same without the fixed records, which did not fit."""
        return Frame(
            self.flags | TC, 0, 0, self.additional_count, b"", b"", self.tail, 1, True, True
        )


class Variant:
    """One answer in one client's form."""

    __slots__ = ()

    def tail(self, question: bytes, draw: float) -> bytes:
        """The message behind its ID. `draw` in [0, 1) chooses which entry is first."""
        raise NotImplementedError


class Fixed(Variant):
    """An answer without interchangeable entries."""

    __slots__ = ("_head", "_tail")

    def __init__(self, frame: Frame, given: int) -> None:
        self._head = frame.head(given)
        self._tail = frame.fixed + frame.authority + frame.tail

    def tail(self, question: bytes, draw: float) -> bytes:
        return self._head + question + self._tail


class Uniform(Variant):
    """Entries of one size (A, AAAA): a slice of the doubled buffer."""

    __slots__ = ("_buffer", "_count", "_fixed", "_head", "_size", "_stride", "_tail")

    def __init__(self, frame: Frame, buffer: bytes, stride: int, count: int, fitting: int) -> None:
        self._head = frame.head(fitting)
        self._fixed = frame.fixed
        self._buffer = buffer
        self._stride = stride
        self._count = count
        self._size = stride * fitting
        self._tail = frame.authority + frame.tail

    def tail(self, question: bytes, draw: float) -> bytes:
        at = int(draw * self._count) * self._stride
        return b"".join(
            (self._head, question, self._fixed, self._buffer[at : at + self._size], self._tail)
        )


class Ragged(Variant):
    """Entries of several sizes: how many fit depends on where the slice begins."""

    __slots__ = ("_buffer", "_count", "_ends", "_frame", "_most", "_room")

    def __init__(
        self, frame: Frame, buffer: bytes, ends: list[int], *, count: int, most: int, room: int
    ) -> None:
        self._frame = frame
        self._buffer = buffer
        self._ends = ends
        self._count = count
        self._most = most
        self._room = room

    def tail(self, question: bytes, draw: float) -> bytes:
        frame, ends = self._frame, self._ends
        first = int(draw * self._count)
        at = ends[first]
        given = min(self._most, bisect_right(ends, at + self._room, first) - 1 - first)
        records = self._buffer[at : ends[first + given]]
        return b"".join(
            (frame.head(given), question, frame.fixed, records, frame.authority, frame.tail)
        )


@dataclass(frozen=True, slots=True)
class _Unit:
    """One SRV record, and what goes to ADDITIONAL with it."""

    record: bytes
    target: bytes
    additional: tuple[tuple[bytes, bytes], ...]
    """(owner, the rest of the record); owner b"" is the target."""
    optional: tuple[tuple[bytes, bytes], ...]


def _units(answer: Answer) -> list[_Unit]:
    """The entries packed, twice over."""
    units = []
    for entry in answer.entries:
        target = entry.record.data[6:] if entry.record.type == Type.SRV else to_wire("")
        parts = [
            tuple(
                (b"" if record.owner == target else record.owner or QUESTION_POINTER, rest)
                for record in records
                for rest in [
                    RECORD_TAIL.pack(record.type, 1, record.ttl, len(record.data)) + record.data
                ]
            )
            for records in (entry.additional, entry.optional)
        ]
        units.append(_Unit(pack_record(entry.record), target, parts[0], parts[1]))
    return units * 2


_Buffers = tuple[bytes, bytes, int]
"""(SRV records, their addresses with room for pointers, how many): both twice over"""


class Even(Variant):
    """SRV records of one size, each with one address of one size: two slices, and the pointers
    put in by stride."""

    __slots__ = (
        "_addresses", "_authority", "_count", "_fixed", "_given", "_head", "_high", "_low",
        "_records", "_strides", "_tail",
    )  # fmt: skip

    def __init__(self, frame: Frame, buffers: _Buffers, given: int, start: int) -> None:
        self._head = frame.head(given, given)
        self._fixed = frame.fixed
        self._authority = frame.authority
        self._tail = frame.tail
        self._given = given
        self._records, self._addresses, self._count = buffers
        count = self._count
        record = len(self._records) // (2 * count)
        self._strides = (record, len(self._addresses) // (2 * count))
        first = start + _SRV_TARGET_AT
        pointers = b"".join(_pointer(first + n * record) for n in range(given))
        self._high, self._low = pointers[0::2], pointers[1::2]

    @classmethod
    def make(cls, frame: Frame, buffers: _Buffers, most: int, room: int, start: int) -> Even | None:
        """The answer in this form; None if a pointer would not reach so far."""
        records, addresses, count = buffers
        record = len(records) // (2 * count)
        given = min(most, room // ((len(records) + len(addresses)) // (2 * count)))
        if start + given * record > POINTER_OFFSET_MAX:
            return None
        return cls(frame, buffers, given, start)

    def tail(self, question: bytes, draw: float) -> bytes:
        at = int(draw * self._count)
        record, address = self._strides
        end = at + self._given
        addresses = bytearray(self._addresses[at * address : end * address])
        addresses[0::address] = self._high
        addresses[1::address] = self._low
        records = self._records[at * record : end * record]
        return b"".join(
            (self._head, question, self._fixed, records, self._authority, addresses, self._tail)
        )


def _even_buffers(units: list[_Unit]) -> _Buffers | None:
    """The units in two buffers; None unless all are of one size, with one address each."""
    shapes = {
        (len(unit.record), len(unit.additional[0][1]), unit.additional[0][0])
        if len(unit.additional) == 1 and not unit.optional
        else (0, 0, b"")
        for unit in units
    }
    distinct = len({unit.target for unit in units}) * 2 == len(units)
    if len(shapes) != 1 or not distinct:
        return None
    record, _, owner = shapes.pop()
    if not record or owner:
        return None
    return (
        b"".join(unit.record for unit in units),
        b"".join(b"\0\0" + unit.additional[0][1] for unit in units),
        len(units) // 2,
    )


class Pairs(Variant):
    """Entries with additional records (SRV): as many as fit together with their addresses."""

    __slots__ = ("_count", "_frame", "_most", "_pairs", "_room", "_start")

    def __init__(self, frame: Frame, pairs: list[_Pair], most: int, room: int, start: int) -> None:
        self._frame = frame
        self._count = len(pairs) // 2
        self._most = most
        self._room = room
        self._start = start
        self._pairs = pairs

    def tail(self, question: bytes, draw: float) -> bytes:
        first = int(draw * self._count)
        room = self._room
        at = self._start + _SRV_TARGET_AT
        records: list[bytes] = []
        additional: list[bytes] = []
        additional_count = 0
        seen: set[bytes] = set()
        for record, target, parts, size in self._pairs[first : first + self._most]:
            length = len(record)
            if target in seen:
                room -= length
            elif at > POINTER_OFFSET_MAX:
                room -= size + len(parts) * len(target)
            else:
                room -= size
            if room < 0:
                break
            records.append(record)
            if target not in seen:
                seen.add(target)
                name = target if at > POINTER_OFFSET_MAX else (0xC000 | at).to_bytes(2, "big")
                for owner, rest in parts:
                    additional += (owner or name, rest)
                additional_count += len(parts)
            at += length
        frame = self._frame
        head = frame.head(len(records), additional_count)
        return b"".join(
            (head, question, frame.fixed, *records, frame.authority, *additional, frame.tail)
        )


_Pair = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...], int]
"""(record, target, additional records as in `_Unit`, octets of it all with names as pointers)"""


def _pair(unit: _Unit, *, optional: bool) -> _Pair:
    parts = unit.additional + (unit.optional if optional else ())
    size = len(unit.record) + sum((len(owner) or 2) + len(rest) for owner, rest in parts)
    return unit.record, unit.target, parts, size


def _pointer(at: int) -> bytes:
    return (0xC000 | at).to_bytes(2, "big")


def _largest(unit: _Unit) -> int:
    """Octets of a unit with its optional records and every name spelled out."""
    records = chain(unit.additional, unit.optional)
    return len(unit.record) + sum(len(owner or unit.target) + len(rest) for owner, rest in records)
