"""Gossip's ping by hand: whether an agent answers what a key sealed, or none."""

from __future__ import annotations

import contextlib
import os
import socket

from tests.harness.eventually import SLOW

from callboard.swim.codec import Codec, encode
from callboard.swim.keyring import NONCE_BYTES, Keyring
from callboard.swim.messages import Ack, Ping

ATTEMPTS = 3


def keyring_of(key: bytes, *others: bytes) -> Keyring:
    """A keyring that seals by `key`, and opens by the others too."""
    return Keyring([key, *others], lambda: os.urandom(NONCE_BYTES))


def answers(address: tuple[str, int], node: str, keyring: Keyring | None) -> bool:
    """Say whether a ping, sealed by this key or by none, is answered."""
    codec = Codec(keyring)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0 * SLOW)
        for sequence in range(ATTEMPTS):
            sock.sendto(codec.seal_datagram(encode(Ping(sequence, node)), checksum=True), address)
            with contextlib.suppress(TimeoutError):
                data = sock.recv(65536)
                return any(isinstance(one, Ack) for one in codec.open_datagram(data))
    return False
