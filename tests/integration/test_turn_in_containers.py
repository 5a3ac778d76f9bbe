"""coturn beside the gateway: the compose profile `turn`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import cast

import pytest
from aioice import stun
from make.programs import FILESERVER, GATEWAY, GATEWAY_PORT, HTTPS_PORT
from tests.harness.asking import http
from tests.harness.capabilities import require
from tests.harness.catalog import wait_for_leader
from tests.harness.compose_driver import ComposeStack
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.hub_stream import trusting
from tests.harness.live_farm import TITLE, WATCH
from tests.harness.playing import RELAY_ONLY, chromium
from tests.harness.stack import AGENTS, Plan, Stack
from tests.harness.turn_client import allocated, told

from callboard.chassis.listeners import default_port

pytestmark = [pytest.mark.only("containers"), pytest.mark.timeout(600)]

COTURN = "coturn"
FORBIDDEN = 403
WITHIN_S = 30.0 * SLOW
MEDIA = default_port("gateway", "media")


def ready(stack: Stack) -> bool:
    """As the compose file asks."""
    test = cast(ComposeStack, stack).container_attributes(COTURN)["Config"]["Healthcheck"]["Test"]
    return stack.exec(COTURN, test[1:]).code == 0


async def check_relays(stack: Stack) -> None:
    """By UDP and by TLS, to the gateway and to nobody else."""
    servers = await told(stack.url(GATEWAY, "/whep/test-pattern", GATEWAY_PORT))
    assert [(one.scheme, one.host) for one in servers] == [
        ("turn", "localhost"),
        ("turns", "localhost"),
    ]
    assert servers[0].port == stack.addr(COTURN, default_port(COTURN, "turn"), "udp")[1]
    assert servers[1].port == stack.addr(COTURN, default_port(COTURN, "turns"))[1]
    for server in servers:
        async with allocated(server, trusting(stack)) as client:
            seen = await client.binding((stack.inside_address(GATEWAY), MEDIA))
            assert seen == client.relayed
            assert seen[0] == stack.inside_address(COTURN)
            for other in (*AGENTS, FILESERVER):
                with pytest.raises(stun.TransactionFailed) as refused:
                    await client.bind((stack.inside_address(other), MEDIA))
                assert refused.value.response.attributes["ERROR-CODE"][0] == FORBIDDEN
            with pytest.raises(stun.TransactionFailed):
                await client.bind(("127.0.0.1", default_port(COTURN, "turn")))


def made(stack: Stack) -> int:
    """Pictures that the sidecar has sent."""
    told = http("GET", stack.url(GATEWAY, "/streams/test-pattern", GATEWAY_PORT)).json()
    return int(next(track["frames"] for track in told["tracks"] if track["id"] == "video"))


def check_hardened(stack: Stack) -> None:
    status = stack.exec(COTURN, ["cat", "/proc/self/status"]).out
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapBnd"], 16) == 0 and fields["NoNewPrivs"] == "1"
    assert fields["Uid"].split() == ["10001"] * 4
    assert "Read-only file system" in stack.exec(COTURN, ["touch", "/usr/new"]).err
    for path in ("/access/secret", "/data/identity/key.pem", "/tmp/turnserver.conf"):
        assert stack.exec(COTURN, ["stat", "-c", "%a %u", path]).out.split() == ["600", "10001"]


def check_secret_is_in_a_volume_only(stack: Stack) -> None:
    """Whoever may ask the engine sees environment, arguments and logs."""
    secret = stack.exec(COTURN, ["cat", "/access/secret"]).out.strip()
    assert len(secret) == 64
    assert stack.exec(GATEWAY, ["cat", "/turn/secret"]).out.strip() == secret
    assert "Read-only" in stack.exec(GATEWAY, ["touch", "/turn/new"]).err
    for name in (COTURN, GATEWAY):
        attributes = cast(ComposeStack, stack).container_attributes(name)
        assert secret not in json.dumps([attributes["Config"], attributes["Args"]])
        assert secret not in stack.logs(name)
        arguments = stack.exec(name, ["bash", "-c", "cat /proc/[0-9]*/cmdline"]).out
        assert secret not in arguments


async def check_a_browser_watches(stack: Stack) -> None:
    """One that only relays, by UDP as by default."""
    host, port = stack.addr(FILESERVER, HTTPS_PORT)
    async with chromium(script=RELAY_ONLY) as browser:
        page = await browser.open(f"https://{host}:{port}/live/")
        await page.choose(TITLE)
        await page.press(WATCH)
        await page.plays()
        figures = await page.figures()
        assert figures["local"]["candidateType"] == "relay"
        assert figures["remote"]["address"] == stack.inside_address(GATEWAY)
        await page.shows_in_order(made=lambda: made(stack))


def test_viewers_are_relayed_to_the_gateway_and_to_nobody_else(
    fresh: Callable[[Plan], Stack],
) -> None:
    require("chromium")
    stack = fresh(Plan(turn=True))
    wait_for_leader(stack)
    asyncio.run(check_relays(stack))
    check_hardened(stack)
    check_secret_is_in_a_volume_only(stack)
    asyncio.run(check_a_browser_watches(stack))
    stack.kill(COTURN)
    stack.start(COTURN)
    eventually_sync(lambda: ready(stack), WITHIN_S)
    asyncio.run(check_relays(stack))  # the secret and the key are the same
