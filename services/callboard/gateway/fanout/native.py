"""The fan-out in C (fanout.c), by ctypes: one call a run of packets, for all legs of a group.

Legs by the UDP socket are handed to C together; others (TCP) are protected in C one by one, and go
by `pair.send`. The GIL is not held meanwhile; legs and groups are used by one thread all the same.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from callboard.gateway.fanout.header import (
    PACKET_BYTES_MAX,
    check_identity,
    check_payload,
    send_time,
)
from callboard.gateway.fanout.libsrtp import TRAILER_BYTES_MAX, protect_pointer
from callboard.gateway.fanout.members import Member, Members
from callboard.gateway.fanout.numbering import REMEMBERED, Offsets, index_of
from callboard.gateway.fanout.runs import PACKETS_MAX, runs
from callboard.gateway.fanout.sockaddr import packed_address
from callboard.gateway.ports import Pair, Receiver, Srtp
from callboard.gateway.stream.packet import Packet

LAYOUT = 2
"""Of fanout.c: counted up with each change of what passes between the two."""
_BUFFER_BYTES = PACKET_BYTES_MAX + TRAILER_BYTES_MAX
_ADDRESS_BYTES = 28
"""Of struct sockaddr_in6."""


class LayoutError(Exception):
    """The library was built from another fanout.c."""


class _Sent(ctypes.Structure):
    _fields_ = (
        ("lap", ctypes.c_uint32),
        ("timestamp", ctypes.c_uint32),
        ("send_time", ctypes.c_uint32),
    )


class _Leg(ctypes.Structure):
    _fields_ = (
        ("session", ctypes.c_void_p),
        ("packets", ctypes.c_uint64),
        ("octets", ctypes.c_uint64),
        ("dropped", ctypes.c_uint64),
        ("next", ctypes.c_uint64),
        ("floor", ctypes.c_uint64),
        ("ssrc", ctypes.c_uint32),
        ("timestamp_offset", ctypes.c_uint32),
        ("sequence_offset", ctypes.c_uint16),
        ("payload_type", ctypes.c_uint8),
        ("send_time_id", ctypes.c_uint8),
        ("address_bytes", ctypes.c_uint32),
        ("address", ctypes.c_uint8 * _ADDRESS_BYTES),
        ("sent", _Sent * REMEMBERED),
    )


class _Packet(ctypes.Structure):
    _fields_ = (
        ("sequence", ctypes.c_uint32),
        ("timestamp", ctypes.c_uint32),
        ("send_time", ctypes.c_uint32),
        ("payload_bytes", ctypes.c_uint32),
        ("payload", ctypes.c_char_p),
        ("marker", ctypes.c_uint8),
    )


def _load(library: Path) -> ctypes.CDLL:
    """Raises OSError, AttributeError (not such a library), LayoutError."""
    if sys.platform != "linux":
        raise OSError("sendmmsg is Linux'")
    loaded = ctypes.CDLL(str(library))
    told = (ctypes.c_uint32 * 6)()
    loaded.fanout_layout.argtypes = (ctypes.c_void_p,)
    loaded.fanout_layout.restype = None
    loaded.fanout_layout(told)
    wanted = (
        LAYOUT,
        ctypes.sizeof(_Leg),
        _Leg.sent.offset,
        ctypes.sizeof(_Packet),
        _BUFFER_BYTES,
        PACKETS_MAX,
    )
    if tuple(told) != wanted:
        raise LayoutError(f"{library} was built from another fanout.c: {tuple(told)}, not {wanted}")
    pointer = ctypes.c_void_p
    loaded.fanout_send.argtypes = (
        *(ctypes.c_int, pointer, ctypes.c_uint32),
        *(pointer, pointer, ctypes.c_uint32),
    )
    loaded.fanout_send.restype = None
    loaded.fanout_protect.argtypes = (pointer, pointer, pointer, pointer)
    loaded.fanout_protect.restype = ctypes.c_int
    return loaded


class NativeFanout:
    """Sends by a UDP socket of any family, from one thread. `clock` gives seconds.

    Raises OSError if `library` cannot be loaded, LayoutError if it is another version's.
    """

    def __init__(
        self,
        sock: socket.socket,
        library: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        loaded = _load(library)
        self.socket = sock
        self.clock = clock
        self._send: Callable[..., None] = loaded.fanout_send
        self._protect: Callable[..., int] = loaded.fanout_protect
        self._srtp_protect = ctypes.c_void_p(protect_pointer())
        self._packets = (_Packet * PACKETS_MAX)()
        self._packets_at = ctypes.byref(self._packets)
        # of 8-byte words: srtp_protect wants packets aligned
        self._buffer = (ctypes.c_uint64 * (_BUFFER_BYTES // 8 + 1))()

    def leg(
        self,
        srtp: Srtp,
        pair: Pair,
        *,
        ssrc: int,
        payload_type: int,
        sequence: int,
        timestamp: int,
        send_time_id: int = 0,
    ) -> NativeLeg:
        """See `ports.Fanout.leg`. Raises ValueError for numbers that fit no header and addresses
        that the socket cannot reach."""
        check_identity(ssrc, payload_type, send_time_id)
        record = _Leg(ssrc=ssrc, payload_type=payload_type, send_time_id=send_time_id)
        return NativeLeg(self, record, srtp, pair, Offsets(sequence, timestamp))

    def group(self) -> NativeGroup:
        """A new group."""
        return NativeGroup(self)

    def send(self, legs: Any, count: int, packets: Sequence[Packet]) -> None:
        """Send to `count` legs of an array of pointers."""
        fd = self.socket.fileno()  # asked each time: a closed one's number is soon another's
        for run in runs(packets):
            self._take(run)
            self._send(fd, legs, count, self._srtp_protect, self._packets_at, len(run))

    def protect(self, leg: Any, packet: Packet) -> bytes | None:
        """A leg's copy, encrypted; None if it must not be sent."""
        self._take((packet,))
        count = self._protect(leg, self._srtp_protect, self._packets_at, self._buffer)
        return ctypes.string_at(self._buffer, count) if count else None

    def _take(self, run: Sequence[Packet]) -> None:
        now = send_time(self.clock())
        for passed, packet in zip(self._packets, run, strict=False):
            passed.sequence = packet.sequence & 0xFFFFFFFF
            passed.timestamp = packet.timestamp & 0xFFFFFFFF
            passed.send_time = now
            passed.payload_bytes = len(packet.payload)
            passed.payload = packet.payload
            passed.marker = packet.marker


class NativeGroup(Members):
    """See `ports.Group`."""

    def __init__(self, fanout: NativeFanout) -> None:
        super().__init__()
        self._fanout = fanout
        self._sorted: tuple[Any, int, tuple[Receiver, ...]] | None = None

    def changed(self) -> None:
        """Members are sorted anew before the next packet."""
        self._sorted = None

    def send(self, *packets: Packet) -> None:
        """Send to all. Raises ValueError for a payload over PAYLOAD_BYTES_MAX."""
        for packet in packets:
            check_payload(packet)
        legs, count, others = self._sorted or self._sort()
        if count:
            self._fanout.send(legs, count, packets)
        for receiver in others:
            if receiver in self._members:
                receiver.send(packets)

    def _sort(self) -> tuple[Any, int, tuple[Receiver, ...]]:
        direct, others = [], []
        for member in self._members:
            if isinstance(member, NativeLeg) and member.goes_by(self._fanout):
                direct.append(member.at)
            else:
                others.append(member)
        legs = (ctypes.c_void_p * len(direct))(*direct)
        self._sorted = (legs, len(direct), tuple(others))
        return self._sorted


class NativeLeg(Member):
    """See `ports.Leg`."""

    def __init__(
        self, fanout: NativeFanout, record: _Leg, srtp: Srtp, pair: Pair, offsets: Offsets
    ) -> None:
        super().__init__()
        self._fanout = fanout
        self._record = record
        self.at = ctypes.addressof(record)
        """Of what C knows of it."""
        self._alone = (ctypes.c_void_p * 1)(self.at)
        self._srtp: Srtp | None = srtp
        record.session = srtp.sending
        self._take(offsets)
        self.move(pair)

    @property
    def ssrc(self) -> int:
        """As negotiated."""
        return int(self._record.ssrc)

    @property
    def payload_type(self) -> int:
        """Likewise."""
        return int(self._record.payload_type)

    @property
    def packets(self) -> int:
        """Sent so far."""
        return int(self._record.packets)

    @property
    def octets(self) -> int:
        """Of payload, likewise."""
        return int(self._record.octets)

    @property
    def dropped(self) -> int:
        """See `ports.Leg.dropped`."""
        return int(self._record.dropped)

    def goes_by(self, fanout: NativeFanout) -> bool:
        """Whether its packets go by the UDP socket of `fanout`."""
        return fanout is self._fanout and self._record.address_bytes > 0

    @property
    def next_number(self) -> int:
        """See `ports.Leg.next_number`."""
        return int(self._record.next)

    def was_sent(self, number: int) -> bool:
        """See `ports.Leg.was_sent`."""
        record = self._record
        index = index_of(number, record.next)
        if index < record.floor or index + REMEMBERED < record.next:
            return False
        lap, place = divmod(index, REMEMBERED)
        return bool(record.sent[place].lap == lap + 1)

    def send(self, packets: Iterable[Packet]) -> None:
        """Send packets to this viewer alone. Raises ValueError for a payload over
        PAYLOAD_BYTES_MAX."""
        for run in runs(packets):
            for packet in run:
                check_payload(packet)
            if self.closed:
                return
            if self._record.address_bytes:
                self._fanout.send(self._alone, 1, run)
            else:
                self._send_by_pair(run)

    def _send_by_pair(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            if self.closed:  # its connection broke with the packet before
                return
            following, pair = self._record.next, self._pair
            protected = None if self.refused else self._fanout.protect(self.at, packet)
            if protected is not None and pair.send(protected):
                self._record.packets += 1
                self._record.octets += len(packet.payload)
                continue
            self._record.dropped += 1
            if protected is not None and pair is self._pair:
                self.refused = True
                self._take_back(following)

    def _take_back(self, following: int) -> None:
        """See `Memory.take_back`."""
        record = self._record
        if record.next == following + 1:
            record.sent[following % REMEMBERED].lap = 0
            record.next = following
        record.floor = record.next

    def rebase(self, sequence: int, timestamp: int) -> None:
        """Change the offsets. What was sent before is not sent again: its numbers are used up."""
        self._take(Offsets(sequence, timestamp))
        self._record.floor = self._record.next
        self.refused = False

    def _take(self, offsets: Offsets) -> None:
        self._offsets = offsets
        self._record.sequence_offset = offsets.sequence
        self._record.timestamp_offset = offsets.timestamp

    def sequence_of(self, number: int, newest: int) -> int:
        """See `ports.Leg.sequence_of`."""
        return self._offsets.sequence_of(number, newest)

    def timestamp_of(self, timestamp: int) -> int:
        """See `ports.Leg.timestamp_of`."""
        return self._offsets.timestamp_of(timestamp)

    def move(self, pair: Pair) -> None:
        """Send by another pair. Raises ValueError for an address that the socket cannot reach."""
        address = b""
        if not pair.reliable:
            address = packed_address(pair.address, self._fanout.socket.family)
        self._pair = pair
        self.refused = False
        self._record.address_bytes = len(address)
        ctypes.memmove(self._record.address, address, len(address))
        for group in self.groups:
            group.changed()

    def close(self) -> None:
        """Leave all groups; send nothing more."""
        super().close()
        self._srtp = None
        self._record.session = None
