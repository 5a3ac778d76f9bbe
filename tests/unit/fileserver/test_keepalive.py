"""What the kernel is told to ask of silent connections, on real sockets."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.harness.eventually import eventually
from tests.harness.static_server import serving

from callboard.fileserver import server
from callboard.fileserver.routes import upstream
from callboard.fileserver.routes.instances import Instance
from callboard.fileserver.routes.pool import Pool

NAMES = {
    "idle_s": (socket.TCP_KEEPIDLE, 1),
    "between_s": (socket.TCP_KEEPINTVL, 1),
    "probes": (socket.TCP_KEEPCNT, 1),
    "unacknowledged_s": (socket.TCP_USER_TIMEOUT, 1000),
}


def asked(sock: socket.socket) -> dict[str, int]:
    """What is set, by the names of `keep_alive`; without what is not."""
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    found = {
        name: sock.getsockopt(socket.IPPROTO_TCP, option) // unit
        for name, (option, unit) in NAMES.items()
    }
    return {name: value for name, value in found.items() if value}


async def test_clients_have_it_of_their_listener(tmp_path: Path) -> None:
    async with serving(tmp_path) as made:
        await made.connect()
        await eventually(lambda: made.server.connections)
        (connection,) = made.server.connections
        assert asked(connection.sock) == server.KEEPALIVE


async def test_programs_behind_are_asked_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as made:
        pool = Pool(None)
        behind = await pool.take(Instance("hub-1", *made.address, secure=False))
        assert behind._transport is not None
        assert asked(behind._transport.get_extra_info("socket")) == upstream.KEEPALIVE
        pool.drop(behind)
