"""`callboard gateway doctor` at a gateway that tells of coturn: what is good, and what is named.

RFC 9725, 4.6; RFC 8656.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.harness.gateway_process import GatewayProcess
from tests.harness.routed import Place
from tests.harness.sockets import free_port
from tests.harness.turn_server import TurnServer

from callboard.gateway.__main__ import run as gateway_run

pytestmark = pytest.mark.timeout(120)

TOKEN = "watch-me"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    require("linux")
    return Place(tmp_path)


@pytest.fixture
def turn(place: Place) -> Iterator[TurnServer]:
    files = place.files("coturn", "coturn")
    with TurnServer(place.folder / "turn", f"{place.network}.7", files) as server:
        yield server


def found(
    gateway: GatewayProcess, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[list[str], str]:
    """What is said of ICE servers, and all that is; no stream is watched."""
    argv = ["doctor", f"-gateway={gateway.url}", "-stream=nobody", *words]
    assert gateway_run(argv, {}) == 1  # (for there is no such stream)
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line[5:9] in ("turn", "stun")]
    return lines, shown


def test_each_server_is_asked_once_and_what_it_gave_is_given_back(
    place: Place, turn: TurnServer, capsys: pytest.CaptureFixture[str]
) -> None:
    tcp = turn.turn.replace("=udp", "=tcp")
    stun = f"stun:{turn.address[0]}:{turn.address[1]}"
    (place.folder / "token").write_text(TOKEN)
    flags = [*turn.flags(turn.turn, tcp, turn.turns, stun), f"-whep-token={place.folder / 'token'}"]
    with GatewayProcess(place.folder / "gateway", "-pattern", *flags) as gateway:
        told = f"-whep-token={place.folder / 'token'}"
        authorities = f"-ca-file={place.door_files.authorities}"
        lines, shown = found(gateway, capsys, told, authorities)
        untold, _ = found(gateway, capsys, authorities)
    relayed = rf"relays: {re.escape(turn.host)}:49\d\d\d after \d+ ms"
    assert len(lines) == 4
    for line, url in zip(lines, (turn.turn, tcp, turn.turns), strict=False):
        assert re.fullmatch(rf"ok   turn        {re.escape(url)} {relayed}", line), line
    assert re.fullmatch(rf"ok   stun        {stun} answers in \d+ ms: we are 127\..*", lines[3])
    eventually_sync(lambda: turn.log.count("lifetime=0") == 3)
    assert turn.log.count("ALLOCATE processed, success") == 3
    assert [line[5:9] for line in untold] == ["stun"]  # who shows no token is told of no relay
    assert ":viewer" not in shown


def test_a_wrong_secret_a_closed_port_and_a_certificate_of_nobody_are_named(
    place: Place, turn: TurnServer, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port(turn.host)
    closed = [f"turn:{turn.host}:{port}?transport={transport}" for transport in ("udp", "tcp")]
    flags = turn.flags(turn.turn, *closed, turn.turns)
    turn.secret_file.write_text("another\n")
    with GatewayProcess(place.folder / "gateway", "-pattern", *flags) as gateway:
        lines, _ = found(gateway, capsys)
    assert lines[0].startswith(f"bad  turn        {turn.turn}: 401 ")
    assert "static-auth-secret" in lines[0] and "clock" in lines[0]
    for line, transport in zip(lines[1:3], ("UDP", "TCP"), strict=True):
        assert f": nobody listens by {transport} at {turn.host}:{port}: " in line
    assert lines[3].startswith(
        f"bad  turn        {turn.turns}: its TLS certificate is not accepted"
    )
    assert lines[3].endswith("-ca-file")
