"""What a process on this machine listens on, as the kernel tells it (Linux)."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LISTEN = {"tcp": "0A", "udp": "07"}
"""State of a socket that takes what comes: LISTEN, and a datagram socket without a peer."""

Listening = tuple[str, int, str]
"""(address, port, "tcp" or "udp")"""


def listening(pid: int) -> set[Listening]:
    """Return every place where a process takes connections or datagrams."""
    own = set(_inodes(pid))
    return {place for inode, place in _all() if inode in own}


def _inodes(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = str(entry.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]


def _all() -> Iterator[tuple[str, Listening]]:
    for kind in ("tcp", "udp"):
        for suffix in ("", "6"):
            for line in Path(f"/proc/net/{kind}{suffix}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN[kind]:
                    host, _, port = fields[1].partition(":")
                    yield fields[9], (_address(host), int(port, 16), kind)


def _address(digits: str) -> str:
    """Words of 32 bits, each in the machine's order."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return str(ipaddress.ip_address(packed))
