"""The fan-out in Python: for where no C compiler was, and to hold the other one to.

group.send ─► each leg: numbers ─► header ─► payload ─► srtp_protect ─► sendmsg, or pair.send
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterable, Sequence

from callboard.gateway.fanout.header import (
    PACKET_BYTES_MAX,
    check_identity,
    check_payload,
    send_time,
    write_header,
)
from callboard.gateway.fanout.libsrtp import Protector, session_at
from callboard.gateway.fanout.members import Member, Members
from callboard.gateway.fanout.numbering import Memory, Offsets
from callboard.gateway.fanout.runs import PACKETS_MAX, SEGMENT, UDP_SEGMENT, runs
from callboard.gateway.fanout.sockaddr import SocketAddress, socket_address
from callboard.gateway.ports import Pair, Srtp
from callboard.gateway.stream.packet import Packet

_Written = tuple[Packet, memoryview | None]
_FULL = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)


class PlainFanout:
    """Sends by a UDP socket of any family, from one thread. `clock` gives seconds."""

    def __init__(self, sock: socket.socket, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.socket = sock
        self.clock = clock
        self.protectors = [Protector(PACKET_BYTES_MAX) for _ in range(PACKETS_MAX)]
        """For the packets of a run."""

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
    ) -> PlainLeg:
        """See `ports.Fanout.leg`. Raises ValueError for numbers that fit no header and addresses
        that the socket cannot reach."""
        check_identity(ssrc, payload_type, send_time_id)
        offsets = Offsets(sequence, timestamp)
        return PlainLeg(
            self,
            srtp,
            pair,
            offsets,
            ssrc=ssrc,
            payload_type=payload_type,
            send_time_id=send_time_id,
        )

    def group(self) -> PlainGroup:
        """A new group."""
        return PlainGroup()


class PlainGroup(Members):
    """See `ports.Group`."""

    def send(self, *packets: Packet) -> None:
        """Send to all. Raises ValueError for a payload over PAYLOAD_BYTES_MAX."""
        for packet in packets:
            check_payload(packet)
        for run in runs(packets):
            for receiver in tuple(self._members):
                if receiver not in self._members:
                    continue
                if isinstance(receiver, PlainLeg):
                    receiver.send_run(run)
                else:
                    receiver.send(run)


class PlainLeg(Member):
    """See `ports.Leg`."""

    def __init__(
        self,
        fanout: PlainFanout,
        srtp: Srtp,
        pair: Pair,
        offsets: Offsets,
        *,
        ssrc: int,
        payload_type: int,
        send_time_id: int,
    ) -> None:
        super().__init__()
        self.ssrc = ssrc
        self.payload_type = payload_type
        self.packets = 0
        self.octets = 0
        self.dropped = 0
        self._fanout = fanout
        self._srtp: Srtp | None = srtp
        self._session = session_at(srtp.sending)
        self._offsets = offsets
        self._memory = Memory()
        self._send_time_id = send_time_id
        self.move(pair)

    @property
    def next_number(self) -> int:
        """See `ports.Leg.next_number`."""
        return self._memory.next

    def was_sent(self, number: int) -> bool:
        """See `ports.Leg.was_sent`."""
        return self._memory.knows(number)

    def send(self, packets: Iterable[Packet]) -> None:
        """Send packets to this viewer alone. Raises ValueError for a payload over
        PAYLOAD_BYTES_MAX."""
        for run in runs(packets):
            for packet in run:
                check_payload(packet)
            self.send_run(run)

    def send_run(self, run: Sequence[Packet]) -> None:
        """Send a run, whose payloads are not too long."""
        if self.closed:
            return
        now = send_time(self._fanout.clock()) if self._send_time_id else 0
        if self._address is None:
            self._send_by_pair(run, now)
        elif len(run) == 1:
            self._send_one(run[0], self._written(run[0], now, 0))
        else:
            self._send_together(
                [(packet, self._written(packet, now, place)) for place, packet in enumerate(run)]
            )

    def _send_together(self, written: Sequence[_Written]) -> None:
        copies = [copy for _, copy in written if copy is not None]
        if len(copies) > 1:
            cut = [(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT.pack(len(copies[0])))]
            try:
                self._fanout.socket.sendmsg(copies, cut, socket.MSG_DONTWAIT, self._address)
            except OSError as problem:
                if problem.errno in _FULL:
                    self.dropped += len(written)
                    return
                # the kernel cannot cut it (an older one), or the packets are longer than what the
                # path carries whole: one by one
            else:
                self.packets += len(copies)
                self.dropped += len(written) - len(copies)
                self.octets += sum([len(one.payload) for one, copy in written if copy is not None])
                return
        for packet, copy in written:
            self._send_one(packet, copy)

    def _send_one(self, packet: Packet, copy: memoryview | None) -> None:
        sent, address = copy is not None, self._address
        if copy is not None and address is not None:
            try:
                self._fanout.socket.sendto(copy, socket.MSG_DONTWAIT, address)
            except OSError:
                sent = False
        self._count(packet, sent=sent)

    def _send_by_pair(self, run: Sequence[Packet], now: int) -> None:
        for packet in run:
            if self.closed:  # its connection broke with the packet before
                return
            following, pair = self._memory.next, self._pair
            copy = None if self.refused else self._written(packet, now, 0)
            sent = copy is not None and pair.send(bytes(copy))
            self._count(packet, sent=sent)
            if copy is not None and not sent and pair is self._pair:
                self.refused = True
                self._memory.take_back(following)

    def _count(self, packet: Packet, *, sent: bool) -> None:
        if sent:
            self.packets += 1
            self.octets += len(packet.payload)
        else:
            self.dropped += 1

    def _written(self, packet: Packet, now: int, place: int) -> memoryview | None:
        """Its copy, encrypted, good until the next one of that place in a run; None if it must not
        be sent."""
        offsets = self._offsets
        numbers = self._memory.use(
            (packet.sequence + offsets.sequence) & 0xFFFF,
            (packet.timestamp + offsets.timestamp) & 0xFFFFFFFF,  # (as timestamp_of has it)
            now,
        )
        if numbers is None:
            return None
        protector = self._fanout.protectors[place]
        view, payload = protector.view, packet.payload
        second = self.payload_type | (0x80 if packet.marker else 0)
        head = write_header(view, second, self.ssrc, numbers, self._send_time_id)
        end = head + len(payload)
        view[head:end] = payload
        return protector.protect(self._session, end)

    def rebase(self, sequence: int, timestamp: int) -> None:
        """Change the offsets. What was sent before is not sent again: its numbers are used up."""
        self._offsets = Offsets(sequence, timestamp)
        self._memory.forbid_what_was_used()
        self.refused = False

    def sequence_of(self, number: int, newest: int) -> int:
        """See `ports.Leg.sequence_of`."""
        return self._offsets.sequence_of(number, newest)

    def timestamp_of(self, timestamp: int) -> int:
        """See `ports.Leg.timestamp_of`."""
        return self._offsets.timestamp_of(timestamp)

    def move(self, pair: Pair) -> None:
        """Send by another pair. Raises ValueError for an address that the socket cannot reach."""
        address: SocketAddress | None = None
        if not pair.reliable:
            address = socket_address(pair.address, self._fanout.socket.family)
        self._pair = pair
        self._address = address
        self.refused = False

    def close(self) -> None:
        """Leave all groups; send nothing more."""
        super().close()
        self._srtp = None
