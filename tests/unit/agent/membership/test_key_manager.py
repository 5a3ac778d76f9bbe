"""Keys changed while gossip runs: in the whole cluster, on the disk, and what goes wrong."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.gossip_agents import Agent, Agents, agents

from callboard.agent.membership import key_manager
from callboard.agent.membership.key_manager import WAITING_MAX
from callboard.agent.membership.keyring_file import read_keyring, write_keyring
from callboard.swim.core import Swim
from callboard.swim.key_queries import KeyAction, KeyQuery
from callboard.swim.queries import Queries
from callboard.swim.serf_messages import Query

OLD, NEW = bytes(32), bytes(range(32))


def told(key: bytes) -> str:
    return base64.b64encode(key).decode()


async def cluster(group: Agents, folder: Path, count: int = 3) -> list[Agent]:
    """Agents that know each other, encrypted by OLD."""
    running: list[Agent] = []
    for number in range(count):
        path = folder / f"{number}.keyring"
        agent = await group.start(f"a{number}", keys=(OLD,), keyring_path=path)
        if running:
            await agent.membership.join([running[0].address])
        running.append(agent)
    for agent in running:
        await eventually(lambda: sees_all(agent, running))  # noqa: B023
    return running


def sees_all(agent: Agent, running: Sequence[Agent]) -> bool:
    names = [one.membership.local_member.name for one in running]
    return all(agent.status(name) == "alive" for name in names)


async def rotate(asked: Agent) -> None:
    for action, key in (
        (KeyAction.INSTALL, NEW),
        (KeyAction.USE, NEW),
        (KeyAction.REMOVE, OLD),
    ):
        tally = await asked.membership.keys.ask(action, key)
        assert tally.failure == "", (action, tally)
        assert tally.nodes == tally.responses == len(asked.membership.members())


async def test_rotation_reaches_everybody_and_loses_nobody(tmp_path: Path) -> None:
    async with agents() as group:
        running = await cluster(group, tmp_path)
        for number in range(3):
            assert read_keyring(tmp_path / f"{number}.keyring") == ()
        await rotate(running[1])
        tally = await running[2].membership.keys.ask(KeyAction.LIST)
        assert tally.keys == tally.primary_keys == {told(NEW): 3}
        for number, agent in enumerate(running):
            assert read_keyring(tmp_path / f"{number}.keyring") == (NEW,)
            assert sees_all(agent, running)
            assert not any("failed" in agent.seen(f"a{other}") for other in range(3))
        late = await group.start("late", keys=(NEW,))
        assert await late.membership.join([running[0].address]) == 1
        await eventually(lambda: sees_all(late, running))


async def test_member_that_gossip_missed_is_asked_again_directly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents() as group:
        running = await cluster(group, tmp_path)
        monkeypatch.setattr(Queries, "_spread", lambda self, data: None)
        monkeypatch.setattr(Swim, "broadcast_user", lambda self, name, data: None)
        tally = await running[0].membership.keys.ask(KeyAction.LIST)
        assert (tally.failure, tally.keys) == ("", {told(OLD): 3})


async def test_answers_by_way_of_others_count_once(tmp_path: Path) -> None:
    async with agents() as group:
        running = await cluster(group, tmp_path)
        tally = await running[0].membership.keys.ask(KeyAction.LIST, relay_factor=2)
        assert (tally.failure, tally.responses, tally.keys) == ("", 3, {told(OLD): 3})


async def test_who_does_not_answer_is_told_as_missing(tmp_path: Path) -> None:
    async with agents() as group:
        running = await cluster(group, tmp_path)
        await group.kill(running[2])
        tally = await running[0].membership.keys.ask(KeyAction.INSTALL, NEW)
        assert tally.failure == "2/3 nodes reported success"
        await eventually(lambda: running[0].status("a2") == "failed")
        tally = await running[0].membership.keys.ask(KeyAction.INSTALL, NEW)
        assert (tally.failure, tally.nodes) == ("", 2)


@pytest.mark.parametrize(
    ("action", "key", "message"),
    [
        (KeyAction.USE, NEW, "Requested key is not in the keyring"),
        (KeyAction.REMOVE, OLD, "Removing the primary key is not allowed"),
        (KeyAction.INSTALL, b"short", "key size must be 16, 24 or 32 bytes"),
    ],
)
async def test_what_cannot_be_changes_nothing_anywhere(
    tmp_path: Path, action: KeyAction, key: bytes, message: str
) -> None:
    async with agents() as group:
        running = await cluster(group, tmp_path, 2)
        tally = await running[0].membership.keys.ask(action, key)
        assert tally.failure == "2/2 nodes reported failure"
        assert tally.messages == {"a0": message, "a1": message}
        tally = await running[0].membership.keys.ask(KeyAction.LIST)
        assert tally.keys == {told(OLD): 2}
    assert [read_keyring(tmp_path / f"{number}.keyring") for number in range(2)] == [(), ()]


async def test_without_encryption_there_are_no_keys_to_change() -> None:
    async with agents() as group:
        alone = await group.start("alone")
        tally = await alone.membership.keys.ask(KeyAction.LIST)
        assert tally.messages == {"alone": "Keyring is empty (encryption not enabled)"}
        for action in (KeyAction.INSTALL, KeyAction.USE, KeyAction.REMOVE):
            tally = await alone.membership.keys.ask(action, NEW)
            assert tally.failure == "1/1 nodes reported failure"
            assert tally.messages == {"alone": "No keyring to modify (encryption not enabled)"}


async def test_key_that_cannot_be_kept_is_not_taken(tmp_path: Path) -> None:
    """Else the next restart would come with the old keyring, and nobody would hear it."""
    async with agents() as group:
        path = tmp_path / "none" / "local.keyring"
        alone = await group.start("alone", keys=(OLD,), keyring_path=path)
        tally = await alone.membership.keys.ask(KeyAction.INSTALL, NEW)
        assert tally.failure == "1/1 nodes reported failure"
        assert "cannot keep the keyring" in tally.messages["alone"]
        path.parent.mkdir()
        tally = await alone.membership.keys.ask(KeyAction.LIST)
        assert tally.keys == {told(OLD): 1}
        assert (await alone.membership.keys.ask(KeyAction.INSTALL, NEW)).failure == ""
        assert read_keyring(path) == (OLD, NEW)


def hanging_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[asyncio.Event, list[tuple[bytes, ...]]]:
    """Keyrings are written once the event is set; what was written, in order."""
    loop, hangs, written = asyncio.get_running_loop(), asyncio.Event(), []

    def slowly(path: Path, keys: Sequence[bytes]) -> None:
        asyncio.run_coroutine_threadsafe(hangs.wait(), loop).result(30)
        written.append(tuple(keys))
        write_keyring(path, keys)

    monkeypatch.setattr(key_manager, "write_keyring", slowly)
    return hangs, written


async def test_disk_that_hangs_stops_neither_gossip_nor_the_order_of_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, written = hanging_disk(monkeypatch)
    async with agents() as group:
        path = tmp_path / "local.keyring"
        alone = await group.start("alone", keys=(OLD,), keyring_path=path)
        keys = alone.membership.keys
        first = await keys.ask(KeyAction.INSTALL, NEW)
        assert first.failure == "0/1 nodes reported success"
        second = asyncio.ensure_future(keys.ask(KeyAction.USE, NEW))
        hangs.set()
        assert (await second).failure == ""
        assert written == [(OLD, NEW), (NEW, OLD)]
        assert read_keyring(path) == (NEW, OLD)
        assert (await keys.ask(KeyAction.LIST)).primary_keys == {told(NEW): 1}


async def test_questions_that_wait_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, written = hanging_disk(monkeypatch)
    async with agents() as group:
        path = tmp_path / "local.keyring"
        alone = await group.start("alone", keys=(OLD,), keyring_path=path)
        keys = alone.membership.keys
        for number in range(WAITING_MAX + 10):
            query = Query(number, number, ("127.0.0.1", 9), "b", (), 0, 0, 1, "", b"")
            keys.was_asked(KeyQuery(query, KeyAction.INSTALL, bytes([number]) * 16))
        hangs.set()
        await eventually(lambda: len(written) == WAITING_MAX)
        keys.was_asked(KeyQuery(query, KeyAction.INSTALL, NEW))
        await eventually(lambda: len(written) == WAITING_MAX + 1)
        assert len(written[-1]) == WAITING_MAX + 2
