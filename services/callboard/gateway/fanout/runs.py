"""Runs: packets that go to a viewer as one message, which the kernel cuts into datagrams again.

A frame's packets come together, and all but the last are of one length: handing them over at once
(UDP_SEGMENT, generic segmentation offload, udp(7); Linux 4.18) costs one way through the kernel in
place of one each. On the wire nothing differs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from callboard.gateway.stream.packet import Packet

PACKETS_MAX = 16
"""In a run; the kernel takes 64, and 65,507 bytes."""
UDP_SEGMENT = 103
"""An ancillary message of SOL_UDP; Python has no name for it."""
SEGMENT = struct.Struct("=H")


def runs(packets: Iterable[Packet]) -> Iterator[list[Packet]]:
    """The packets, in order, as runs: all of one length, but the last, which may be shorter."""
    run: list[Packet] = []
    size = 0
    for packet in packets:
        length = len(packet.payload)
        if run and (length > size or len(run) == PACKETS_MAX):
            yield run
            run = []
        if not run:
            size = length
        run.append(packet)
        if length < size:
            yield run
            run = []
    if run:
        yield run
