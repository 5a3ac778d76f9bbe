"""Strangers who begin TLS by the thousand: requests go on, and no leader is lost by it."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Callable

import pytest
from make.programs import SERVERS
from tests.harness.eventually import eventually_sync
from tests.harness.secured import Farm, traffic

THREADS = 6
FLOOD = 1500
"""Attempts in all, of whichever kind."""
PORTS = (8300, 8501)


def without_certificate(address: tuple[str, int]) -> None:
    """Make the server sign, then show nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(address, 5.0) as raw, context.wrap_socket(raw) as secured:
        secured.recv(1)


HELD: list[socket.socket] = []


def half_open(address: tuple[str, int]) -> None:
    """Say a third of a record's head, and stay."""
    raw = socket.create_connection(address, 5.0)
    raw.sendall(b"\x16\x03")
    HELD.append(raw)
    if len(HELD) > 500:
        HELD.pop(0).close()


def garbage(address: tuple[str, int]) -> None:
    """Say what is no TLS."""
    with socket.create_connection(address, 5.0) as raw:
        raw.sendall(b"CBR1" + bytes(200))
        raw.recv(100)


@pytest.mark.parametrize("attack", [without_certificate, half_open, garbage])
def test_strangers_cost_no_request_and_no_election(
    farm: Farm, attack: Callable[[tuple[str, int]], None]
) -> None:
    terms = {name: farm.metric(name, "callboard_raft_term") for name in SERVERS}
    numbers = itertools.count()
    targets = [(farm.addresses[name], port) for name in SERVERS for port in PORTS]

    def flood() -> None:
        while (number := next(numbers)) < FLOOD:
            with contextlib.suppress(OSError):
                attack(targets[number % len(targets)])

    try:
        with traffic(farm) as seen:
            threads = [threading.Thread(target=flood, daemon=True) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                assert seen.progressed()
            assert seen.progressed()
    finally:
        while HELD:
            HELD.pop().close()
    assert seen.failures == []
    assert {name: farm.metric(name, "callboard_raft_term") for name in SERVERS} == terms
    refused = 'callboard_rpc_refused_total{why="handshake"}'
    eventually_sync(lambda: sum(farm.metric(name, refused) for name in SERVERS) >= FLOOD / 4, 30.0)
    assert all(farm.ready(name) for name in SERVERS)
