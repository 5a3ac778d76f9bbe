"""Janus' API as a part of the gateway's program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from tests.harness.in_process import running

from callboard.gateway.janus.websockets import SUBPROTOCOL
from callboard.gateway.service import GatewayProgram
from callboard.gateway.settings import GatewaySettings


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(
        port=0, media_port=0, node="gateway-1", pattern=True, janus_port=0, janus_ws_port=0
    )


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def test_both_listeners_are_there(
    settings: GatewaySettings, client: aiohttp.ClientSession
) -> None:
    async with running(GatewayProgram(settings)) as gateway:
        assert gateway.janus.http is not None
        assert gateway.janus.websockets is not None
        url = f"http://127.0.0.1:{gateway.janus.http.port}/janus/info"
        async with client.get(url) as answer:
            assert (await answer.json())["janus"] == "server_info"
        async with client.get(url, headers={"Host": "rebound.example"}) as answer:
            assert answer.status == 403
        ws = f"ws://127.0.0.1:{gateway.janus.websockets.port}/"
        async with client.ws_connect(ws, protocols=[SUBPROTOCOL]) as socket:
            await socket.send_json({"janus": "ping", "transaction": "t"})
            assert (await socket.receive_json())["janus"] == "pong"


async def test_listener_that_is_off_is_not_there(settings: GatewaySettings) -> None:
    async with running(GatewayProgram(replace(settings, janus_port=-1))) as gateway:
        assert gateway.janus.http is None
        assert gateway.janus.websockets is not None
    async with running(
        GatewayProgram(replace(settings, janus_port=-1, janus_ws_port=-1))
    ) as gateway:
        assert gateway.janus.websockets is None


async def test_token_of_viewers_is_needed(
    settings: GatewaySettings, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("open-sesame\n")
    async with running(GatewayProgram(replace(settings, whep_token=token))) as gateway:
        assert gateway.janus.http is not None
        url = f"http://127.0.0.1:{gateway.janus.http.port}/janus"
        create = {"janus": "create", "transaction": "t"}
        async with client.post(url, json=create) as answer:
            assert (await answer.json())["error"]["code"] == 403
        async with client.post(url, json={**create, "token": "open-sesame"}) as answer:
            assert (await answer.json())["janus"] == "success"
