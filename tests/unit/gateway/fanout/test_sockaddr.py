"""Addresses as sockets want them: asked of the kernel."""

from __future__ import annotations

import ctypes
import socket
import sys

import pytest
from tests.harness.capabilities import require

from callboard.gateway.fanout.sockaddr import packed_address, socket_address
from callboard.gateway.ports import Address


@pytest.mark.parametrize(
    ("host", "family", "told"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("::1", socket.AF_INET6, "::1"),
        ("127.0.0.1", socket.AF_INET6, "::ffff:127.0.0.1"),
    ],
)
def test_kernel_reads_the_packed_address_as_python_reads_the_other(
    host: str, family: int, told: str
) -> None:
    require("linux")
    address = Address(host, 4711)
    libc = ctypes.CDLL(None, use_errno=True)
    names = []
    for connect in ("packed", "python"):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            if connect == "packed":
                packed = packed_address(address, family)
                assert libc.connect(sock.fileno(), packed, len(packed)) == 0
            else:
                sock.connect(socket_address(address, family))
            names.append(sock.getpeername())
    assert names[0] == names[1]
    assert names[0][:2] == (told, 4711)


def test_link_local_address_keeps_its_interface() -> None:
    index = socket.if_nametoindex("lo")
    named, numbered = Address("fe80::1%lo", 9), Address(f"fe80::1%{index}", 9)
    assert socket_address(named, socket.AF_INET6) == ("fe80::1", 9, 0, index)
    assert packed_address(named, socket.AF_INET6) == packed_address(numbered, socket.AF_INET6)
    assert packed_address(named, socket.AF_INET6)[-4:] == index.to_bytes(4, sys.byteorder)


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1.5", "fe80::1::2"])
def test_what_is_no_address_is_refused(host: str) -> None:
    for told in (socket_address, packed_address):
        with pytest.raises(ValueError, match="does not appear to be"):
            told(Address(host, 9), socket.AF_INET6)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="is not a port"):
        socket_address(Address("127.0.0.1", port), socket.AF_INET)
