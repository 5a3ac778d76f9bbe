"""The key of gossip rotated in a cluster of serf's agents and ours: by `serf keys`, and by us."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.gossip_agents import Agent, agents
from tests.harness.real_serf import SerfAgent, serf_agent, until

from callboard.agent.membership.keyring_file import read_keyring
from callboard.swim.key_queries import KeyAction

pytestmark = pytest.mark.slow

OLD, NEW, THIRD = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 80))


def told(key: bytes) -> str:
    return base64.b64encode(key).decode()


def counted(output: str) -> dict[str, str]:
    """The keys that `serf keys -list` shows, and how many have each."""
    rows = [line.split() for line in output.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2 and row[1].startswith("[")}


async def done(serf: SerfAgent, *arguments: str) -> str:
    """Run `serf keys` until everybody has answered; its output. In its local profile serf sends
    a query to two members only, who send it on to two: now and then one is missed."""

    async def succeeded() -> str:
        code, output = await serf.run("keys", *arguments)
        assert code == 0, output
        return output

    return await eventually(succeeded, 20.0, interval_s=0.1)


async def said(serf: SerfAgent, argument: str, text: str) -> str:
    """Run `serf keys` until it fails with this text; its output."""

    async def failed() -> str:
        code, output = await serf.run("keys", argument)
        assert code == 1, output
        assert text in output, output
        return output

    return await eventually(failed, 20.0, interval_s=0.1)


@dataclass
class Mixed:
    """Three agents of ours and two of serf's, under OLD."""

    ours: list[Agent]
    theirs: list[SerfAgent]

    async def whole(self) -> bool:
        """Everybody sees everybody alive, and nobody of ours ever saw one fail."""
        names = ["ours0", "ours1", "ours2", *(serf.name for serf in self.theirs)]
        for agent in self.ours:
            if any(agent.status(name) != "alive" for name in names):
                return False
            assert not any("failed" in agent.seen(name) for name in names)
        for serf in self.theirs:
            members = await serf.members()
            if any(members.get(name, {}).get("status") != "alive" for name in names):
                return False
        return True


@asynccontextmanager
async def mixed(folder: Path, old: bytes = OLD) -> AsyncIterator[Mixed]:
    async with (
        serf_agent(folder, (old,)) as one,
        serf_agent(folder, (old,)) as two,
        agents() as group,
    ):
        ours = [
            await group.start(
                f"ours{number}", keys=(old,), keyring_path=folder / f"ours{number}.keyring"
            )
            for number in range(3)
        ]
        for address in (one.address, two.address, ours[1].address, ours[2].address):
            assert await ours[0].membership.join([address]) == 1
        made = Mixed(ours, [one, two])
        await until(made.whole)
        yield made


async def test_serf_rotates_our_keys(tmp_path: Path) -> None:
    async with mixed(tmp_path) as cluster:
        serf = cluster.theirs[0]
        for step in (("-install", NEW), ("-use", NEW), ("-remove", OLD)):
            await done(serf, f"{step[0]}={told(step[1])}")
        output = await done(serf, "-list")
        assert counted(output) == {told(NEW): "[5/5]"}
        for number, agent in enumerate(cluster.ours):
            assert agent.membership.keys.keyring is not None
            assert agent.membership.keys.keyring.keys == (NEW,)
            assert read_keyring(tmp_path / f"ours{number}.keyring") == (NEW,)
        await until(cluster.whole)


@pytest.mark.parametrize("relay_factor", [0, 2])
async def test_we_rotate_serfs_keys(tmp_path: Path, relay_factor: int) -> None:
    async with mixed(tmp_path) as cluster:
        keys = cluster.ours[0].membership.keys
        for action, key in (
            (KeyAction.INSTALL, NEW),
            (KeyAction.USE, NEW),
            (KeyAction.REMOVE, OLD),
        ):
            tally = await keys.ask(action, key, relay_factor)
            assert (tally.failure, tally.responses) == ("", 5), (action, tally)
        assert counted(await done(cluster.theirs[1], "-list")) == {told(NEW): "[5/5]"}
        await until(cluster.whole)
        async with serf_agent(tmp_path, (NEW,)) as late:
            assert "Successfully joined" in await late.command("join", cluster.ours[1].address)
            await eventually(lambda: cluster.ours[0].status(late.name) == "alive")


async def test_lists_of_both_agree(tmp_path: Path) -> None:
    async with mixed(tmp_path) as cluster:
        tally = await cluster.ours[1].membership.keys.ask(KeyAction.INSTALL, THIRD)
        assert tally.failure == ""
        tally = await cluster.ours[1].membership.keys.ask(KeyAction.LIST)
        assert tally.keys == {told(OLD): 5, told(THIRD): 5}
        assert tally.primary_keys[told(OLD)] in (3, 5)  # older serfs do not tell theirs
        output = await done(cluster.theirs[0], "-list")
        assert counted(output) == {told(OLD): "[5/5]", told(THIRD): "[5/5]"}


async def test_refusals_are_the_same_words(tmp_path: Path) -> None:
    """A key that is not installed, and the primary one: each member says so, ours as theirs."""
    async with mixed(tmp_path) as cluster:
        serf, keys = cluster.theirs[0], cluster.ours[0].membership.keys
        for flag, action, key in (
            ("-use", KeyAction.USE, NEW),
            ("-remove", KeyAction.REMOVE, OLD),
            ("-install", KeyAction.INSTALL, b"short"),
        ):
            output = await said(serf, f"{flag}={told(key)}", "5/5 nodes reported failure")
            tally = await keys.ask(action, key)
            assert tally.failure == "5/5 nodes reported failure"
            assert len(set(tally.messages.values())) == 1, tally.messages
            for name, message in tally.messages.items():
                assert name in output
                assert message in output


async def test_serf_hears_that_we_are_not_encrypted(tmp_path: Path) -> None:
    async with serf_agent(tmp_path) as serf, agents() as group:
        ours = await group.start("ours")
        assert await ours.membership.join([serf.address]) == 1
        code, output = await serf.run("keys", f"-install={told(NEW)}")
        assert code == 1
        tally = await ours.membership.keys.ask(KeyAction.INSTALL, NEW)
        assert tally.failure == "2/2 nodes reported failure"
        assert len(set(tally.messages.values())) == 1, tally.messages
        listed = await ours.membership.keys.ask(KeyAction.LIST)
        assert len(set(listed.messages.values())) == 1, listed.messages
        assert "encryption not enabled" in output or "Failed" in output
