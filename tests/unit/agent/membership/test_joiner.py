"""Finding the cluster: by address and by name, again and again."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field

import pytest
from tests.harness.eventually import eventually

from callboard.agent.membership.errors import JoinError, StreamError
from callboard.agent.membership.joiner import Joiner
from callboard.agent.membership.resolver import Resolver
from callboard.swim.messages import Address

OWN: Address = ("10.0.0.9", 8301)


@dataclass
class Network:
    """Who answers, who is known, and who was called."""

    answering: set[Address] = field(default_factory=set)
    known: set[Address] = field(default_factory=set)
    called: list[Address] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)

    async def contact(self, address: Address) -> None:
        self.called.append(address)
        if address not in self.answering:
            raise StreamError("connection refused")
        self.known.add(address)

    def lookup(self, host: str) -> list[str]:
        if host not in self.names:
            raise socket.gaierror(-2, "Name or service not known")
        return self.names[host]

    def joiner(self) -> Joiner:
        return Joiner(
            contact=self.contact,
            is_known=lambda address: address in self.known,
            has_live_peers=lambda: bool(self.known),
            own=lambda: frozenset({OWN}),
            resolver=Resolver(self.lookup),
            resolve_timeout_s=1.0,
            default_port=8301,
        )


async def test_number_contacted_is_returned() -> None:
    network = Network({("10.0.0.1", 8301), ("10.0.0.2", 7946)})
    peers = ["10.0.0.1", "10.0.0.2:7946", "10.0.0.3"]
    assert await network.joiner().join(peers) == 2


async def test_join_of_nobody_names_every_reason() -> None:
    with pytest.raises(JoinError, match=r"10.0.0.3:8301: connection refused") as raised:
        await Network().joiner().join(["10.0.0.3", "nobody", "x:y"])
    assert "nobody: lookup nobody: no such host" in str(raised.value)
    assert "x:y: not an address" in str(raised.value)


async def test_reaching_oneself_is_no_success() -> None:
    network = Network({OWN})
    with pytest.raises(JoinError, match="agent's own"):
        await network.joiner().join(["10.0.0.9"])
    assert network.called == []


async def test_serfs_way_to_write_a_member_is_understood() -> None:
    network = Network({("10.0.0.1", 7946)})
    assert await network.joiner().join(["agent-1/10.0.0.1:7946"]) == 1


async def test_every_address_of_a_name_is_contacted() -> None:
    network = Network({("10.0.0.1", 8301)}, names={"agents": ["10.0.0.1", "10.0.0.2"]})
    assert await network.joiner().join(["agents"]) == 1
    assert network.called == [("10.0.0.1", 8301), ("10.0.0.2", 8301)]


async def kept(network: Network, *peers: str, remembered: tuple[Address, ...] = ()) -> Joiner:
    joiner = network.joiner()
    task = asyncio.create_task(joiner.keep(peers, remembered, 0.05))
    try:
        await eventually(lambda: network.known)
    finally:
        task.cancel()
    return joiner


async def test_peer_that_comes_later_is_joined() -> None:
    network = Network()
    asyncio.get_running_loop().call_later(0.2, lambda: network.answering.add(("10.0.0.1", 8301)))
    await kept(network, "10.0.0.1")
    assert len(network.called) > 1


async def test_name_is_looked_up_again_in_every_round() -> None:
    network = Network({("10.0.0.2", 8301)}, names={"agent-1": ["10.0.0.1"]})
    asyncio.get_running_loop().call_later(
        0.2, lambda: network.names.update({"agent-1": ["10.0.0.2"]})
    )
    await kept(network, "agent-1")
    assert network.known == {("10.0.0.2", 8301)}


async def test_remembered_peers_are_called_while_we_are_alone() -> None:
    network = Network({("10.0.0.7", 8301)})
    await kept(network, remembered=(("10.0.0.7", 8301),))
    assert network.known == {("10.0.0.7", 8301)}


async def test_known_peers_are_not_called_again_and_missing_ones_are() -> None:
    network = Network({("10.0.0.1", 8301)})
    joiner = network.joiner()
    task = asyncio.create_task(joiner.keep(["10.0.0.1", "10.0.0.2"], (), 0.02))
    try:
        await eventually(lambda: network.called.count(("10.0.0.2", 8301)) > 3)
    finally:
        task.cancel()
    assert network.called.count(("10.0.0.1", 8301)) == 1


async def test_agent_that_is_alone_again_looks_at_once() -> None:
    network = Network({("10.0.0.1", 8301)})
    joiner = network.joiner()
    task = asyncio.create_task(joiner.keep(["10.0.0.1"], (), 3600.0))
    try:
        await eventually(lambda: network.known)
        network.known.clear()
        joiner.wake()
        await eventually(lambda: network.known)
    finally:
        task.cancel()


async def test_attempts_are_given_up_after_so_many_intervals() -> None:
    network = Network()
    started = asyncio.get_running_loop().time()
    with pytest.raises(JoinError, match=r"10.0.0.1:8301: connection refused"):
        await network.joiner().keep(["10.0.0.1"], (), 0.1, 2)
    assert asyncio.get_running_loop().time() - started >= 0.2


async def test_agent_that_once_joined_never_gives_up() -> None:
    network = Network({("10.0.0.1", 8301)})
    joiner = network.joiner()
    task = asyncio.create_task(joiner.keep(["10.0.0.1"], (), 0.02, 1))
    try:
        await eventually(lambda: network.known)
        network.known.clear()
        network.answering.clear()
        network.called.clear()
        await eventually(lambda: len(network.called) > 3)
        assert not task.done()
    finally:
        task.cancel()
