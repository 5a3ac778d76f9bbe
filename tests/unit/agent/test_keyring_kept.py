"""Gossip's keys over an agent's restarts: the keyring that was kept counts, not -encrypt."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from callboard.agent.membership.keyring_file import read_keyring
from callboard.agent.service import Agent
from callboard.agent.settings import Ports, development
from callboard.swim.key_queries import KeyAction

OLD, NEW = bytes(32), bytes(range(32))


@asynccontextmanager
async def running(folder: Path | None, key: bytes = b"") -> AsyncIterator[Agent]:
    """An agent with this data directory, given this key."""
    settings = replace(
        development("here"),
        data_dir=folder,
        encrypt_key=key,
        ports=Ports(http=0, dns=0, server=0, serf_lan=0),
    )
    agent = Agent(settings)
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop()


def keys_of(agent: Agent) -> tuple[bytes, ...]:
    keyring = agent.cluster.membership.keys.keyring
    return () if keyring is None else keyring.keys


async def test_key_given_at_the_first_start_is_kept_for_the_owner_alone(tmp_path: Path) -> None:
    async with running(tmp_path, OLD) as agent:
        assert keys_of(agent) == (OLD,)
        assert agent.cluster.membership.stats()["encrypted"] == "true"
    path = tmp_path / "serf" / "local.keyring"
    assert read_keyring(path) == (OLD,)
    assert path.stat().st_mode & 0o777 == 0o600
    async with running(tmp_path) as agent:
        assert keys_of(agent) == (OLD,)


async def test_rotated_keyring_wins_over_the_key_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, OLD) as agent:
        for action, key in (
            (KeyAction.INSTALL, NEW),
            (KeyAction.USE, NEW),
            (KeyAction.REMOVE, OLD),
        ):
            assert (await agent.cluster.membership.keys.ask(action, key)).failure == ""
    with caplog.at_level(logging.WARNING):
        async with running(tmp_path, OLD) as agent:
            assert keys_of(agent) == (NEW,)
        assert "the keyring counts" in caplog.text
        caplog.clear()
        async with running(tmp_path, NEW) as agent:
            assert keys_of(agent) == (NEW,)
        assert "the keyring counts" not in caplog.text


async def test_without_a_key_nothing_is_kept_and_gossip_is_plain(tmp_path: Path) -> None:
    async with running(tmp_path) as agent:
        assert keys_of(agent) == ()
    assert read_keyring(tmp_path / "serf" / "local.keyring") == ()


async def test_agent_in_memory_changes_its_keys_in_memory() -> None:
    async with running(None, OLD) as agent:
        assert (await agent.cluster.membership.keys.ask(KeyAction.INSTALL, NEW)).failure == ""
        assert keys_of(agent) == (OLD, NEW)
