"""Both ways of sending, behind one name."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.unit.gateway.fanout.viewers import OpenFanout, Screen, Stand

from callboard.gateway.fanout.build import build
from callboard.gateway.fanout.native import NativeFanout
from callboard.gateway.fanout.plain import PlainFanout
from callboard.gateway.ports import Fanout


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C helper, without a warning."""
    require("linux", "cc")
    out = tmp_path_factory.mktemp("fanout") / "_fanout.so"
    assert build(out, ["-Wconversion", "-Wno-sign-conversion", "-Werror"])
    return out


@pytest.fixture(params=["native", "plain"])
def open_fanout(request: pytest.FixtureRequest) -> OpenFanout:
    """Makes the one and the other."""
    if request.param == "plain":
        return lambda sock, clock: PlainFanout(sock, clock=clock)
    library: Path = request.getfixturevalue("library")

    def native(sock: socket.socket, clock: Callable[[], float]) -> Fanout:
        return NativeFanout(sock, library, clock=clock)

    return native


@pytest.fixture
def stand(open_fanout: OpenFanout) -> Iterator[Stand]:
    """A fan-out that sends by a UDP socket on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        now = [1000.0]
        screen = Screen()
        yield Stand(open_fanout(sock, lambda: now[-1]), sock, screen, now)
        screen.close()
