"""The credentials of the gateway's Link fields, at coturn: which it takes, and which not.

draft-uberti-behave-turn-rest-00; RFC 9725, 4.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aioice import stun
from tests.harness.capabilities import require
from tests.harness.gateway_process import GatewayProcess
from tests.harness.routed import Place
from tests.harness.turn_client import TurnAccess, allocated, told
from tests.harness.turn_server import RELAYED, TurnServer

from callboard.gateway.http.ice_servers import IceServers

UNAUTHORISED = 401

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    require("linux")
    return Place(tmp_path)


@pytest.fixture
def turn(place: Place) -> Iterator[TurnServer]:
    files = place.files("coturn", "coturn")
    with TurnServer(place.folder / "turn", f"{place.network}.7", files) as server:
        yield server


async def test_credentials_of_link_fields_are_taken_and_stand_in_no_log(
    place: Place, turn: TurnServer
) -> None:
    flags = ["-pattern", "-log-level=debug", *turn.flags(turn.turn, turn.turns)]
    with GatewayProcess(place.folder / "gateway", *flags) as gateway:
        media = (gateway.host, gateway.ports["media-port"])
        servers = await told(f"{gateway.url}/whep/test-pattern")
        assert [(one.scheme, one.transport) for one in servers] == [
            ("turn", "udp"),
            ("turns", "tcp"),
        ]
        for server in servers:
            async with allocated(server, place.client()) as client:
                assert client.relayed[0] == turn.host
                assert RELAYED[0] <= client.relayed[1] <= RELAYED[1]
                assert await client.binding(media) == client.relayed
    assert not [one for one in servers if one.credential in gateway.log]
    assert turn.secret not in gateway.log


@pytest.mark.parametrize(
    ("secret", "wall"), [("another", 1e10), ("", 0.0)], ids=["another secret", "ended long ago"]
)
async def test_credentials_that_are_not_good_are_refused(
    turn: TurnServer, secret: str, wall: float
) -> None:
    (made,) = IceServers([turn.turn], secret or turn.secret).listed(wall)
    access = TurnAccess("turn", *turn.address, "udp", made["username"], made["credential"])
    with pytest.raises(stun.TransactionFailed) as refused:
        async with allocated(access):
            pass
    assert refused.value.response.attributes["ERROR-CODE"][0] == UNAUTHORISED
