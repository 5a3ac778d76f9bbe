"""Ports of this machine: which one is free, and what a process listens on (Linux)."""

from __future__ import annotations

import ipaddress
import itertools
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LISTEN = {"tcp": "0A", "udp": "07"}
"""State of a socket that takes what comes: LISTEN, and a datagram socket without a peer."""

ESTABLISHED = "01"

_CHOICE = range(10_100, 32_768)
"""Below those that Linux gives by itself (net.ipv4.ip_local_port_range), as the engine does; above
10,080, which browsers refuse (WHATWG Fetch, 2.10)."""
_begin = random.randrange(len(_CHOICE))
_chosen = itertools.cycle(itertools.chain(_CHOICE[_begin:], _CHOICE[:_begin]))

Listening = tuple[str, int, str]
"""(address, port, "tcp" or "udp")"""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of an address that was free by TCP and UDP a moment ago. Nobody is given it who
    leaves the choice to the kernel or to the engine, and who asks again gets another one."""
    for port in itertools.islice(_chosen, len(_CHOICE)):
        with suppress(OSError), socket.socket() as stream:
            stream.bind((host, port))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
                datagram.bind((host, port))
                return port
    raise OSError(f"no port of {host} from {_CHOICE[0]} to {_CHOICE[-1]} is free")


def listening(pid: int) -> set[Listening]:
    """Return every place where a process takes connections or datagrams."""
    own = set(_inodes(pid))
    return {place for inode, place in _all() if inode in own}


@dataclass(frozen=True, slots=True)
class Connection:
    """One end of a TCP connection."""

    local: tuple[str, int]
    remote: tuple[str, int]


def established(pid: int) -> set[Connection]:
    """Return the TCP connections of a process."""
    own = set(_inodes(pid))
    return {
        Connection(_place(fields[1]), _place(fields[2]))
        for fields in _table("tcp")
        if fields[3] == ESTABLISHED and fields[9] in own
    }


def _inodes(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = str(entry.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]


def _all() -> Iterator[tuple[str, Listening]]:
    for kind in ("tcp", "udp"):
        for fields in _table(kind):
            if fields[3] == LISTEN[kind]:
                yield fields[9], (*_place(fields[1]), kind)


def _table(kind: str) -> Iterator[list[str]]:
    for suffix in ("", "6"):
        for line in Path(f"/proc/net/{kind}{suffix}").read_text().splitlines()[1:]:
            yield line.split()


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    return _address(host), int(port, 16)


def _address(digits: str) -> str:
    """Words of 32 bits, each in the machine's order."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return str(ipaddress.ip_address(packed))
