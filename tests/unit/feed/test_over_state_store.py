"""The feed over the agent's own state store: random commands, and the copy is the same catalog."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import dns.message
from tests.harness.dnscase import lines, query
from tests.harness.eventually import eventually
from tests.harness.feeding import FakeCluster, RecordingConnection

from callboard.agent.state.store import StateStore
from callboard.catalog.commands import Command, Deregister, KeyValueSet, Register, encode_command
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.dns.responder import Responder
from callboard.dns.settings import DnsSettings
from callboard.feed.copy import CatalogCopy, FeedSession
from callboard.feed.source import FeedSource
from callboard.feed.wire import FrameReader
from callboard.raft.messages import SnapshotMetadata


class Agent:
    """A state store with its feed, and the log that filled it."""

    def __init__(self) -> None:
        self.store = StateStore("dc1")
        self.store.ready = True
        self.source = FeedSource(self.store, FakeCluster().seam(), heartbeat_s=0.01)
        self.source.start()

    def commit(self, *commands: Command) -> None:
        """Apply a batch, then tell of it, as the consensus driver does."""
        for command in commands:
            result = self.store.apply(self.store.applied_index + 1, encode_command(command))
            assert not isinstance(result, str), result
        self.store.drain_woken()


class Reader:
    """A copy that can be disconnected and resumed."""

    def __init__(self) -> None:
        self.copy = CatalogCopy()
        self.resumed = 0
        self._connection = RecordingConnection()
        self._cancel: Callable[[], None] = lambda: None

    def connect(self, agent: Agent) -> None:
        """Drop the old stream, if any, and open another."""
        self._cancel()
        self._connection = RecordingConnection()
        self._session, self._frames = FeedSession(self.copy), FrameReader()
        stream = agent.source.open(self.copy.epoch, self.copy.applied_index)
        stream.start(self._connection)
        self._cancel = stream.cancel

    def take(self) -> CatalogCopy:
        """Read all there is."""
        octets = bytes(self._connection.octets)
        self._connection.octets.clear()
        for received in self._frames.feed(octets):
            self._session.receive(received, 1.0)
            self.resumed += getattr(received.frame, "resumed", False)
        return self.copy


def picture(view: StateStore | CatalogCopy) -> object:
    """Everything a reader can see."""
    return (
        list(view.nodes()),
        {name: list(view.health(name)) for name in view.service_names()},
        {node.name: list(view.node_checks(node.name)) for node in view.nodes()},
        [node.name for node in view.nodes_at("10.0.0.1")],
    )


def random_command(rng: random.Random, agent: Agent) -> Command:
    name = f"n{rng.randint(1, 4)}"
    node = Node(name=name, address=f"10.0.0.{rng.randint(1, 3)}")
    id = rng.choice("ab")
    match rng.randint(0, 6):
        case 0:
            return Register(node)
        case 1 | 2:
            service = ServiceInstance(id=id, service=rng.choice(["web", "db"]), port=80)
            check = Check(check_id=f"s{id}", status="passing", service_id=id)
            return Register(node, service, (check,))
        case 3:
            status = rng.choice(["passing", "critical"])
            return Register(node, None, (Check(check_id="serfHealth", status=status),))
        case 4 if agent.store.node(name) is not None:
            return Deregister(name, service_id=id)
        case 5 if rng.random() < 0.3:
            return Deregister(name)
        case _:
            return KeyValueSet("k", b"v")


async def test_random_history_is_copied_exactly_through_any_interruption() -> None:
    rng = random.Random(11)
    agent, reader = Agent(), Reader()
    agent.commit(Register(Node(name="n1", address="10.0.0.1")))
    reader.connect(agent)
    for _ in range(300):
        agent.commit(*(random_command(rng, agent) for _ in range(rng.randint(1, 5))))
        match rng.randint(0, 5):
            case 0:
                reader.connect(agent)
            case 1:
                reader.take()
            case 2:
                await asyncio.sleep(0)
    await eventually(lambda: picture(reader.take()) == picture(agent.store))
    await eventually(lambda: reader.take().applied_index == agent.store.applied_index)
    assert reader.resumed
    agent.source.stop()


async def test_restored_store_gives_its_readers_a_new_snapshot() -> None:
    agent, other, reader = Agent(), Agent(), Reader()
    agent.commit(Register(Node(name="n1", address="10.0.0.1")))
    for _ in range(5):
        other.commit(Register(Node(name="n2", address="10.0.0.2")))
    reader.connect(agent)
    await eventually(lambda: reader.take().ready)
    metadata = SnapshotMetadata(index=other.store.applied_index, term=1)
    agent.store.restore(metadata, other.store.snapshot())
    agent.store.drain_woken()
    reader.connect(agent)
    await eventually(lambda: picture(reader.take()) == picture(other.store))
    agent.source.stop()
    other.source.stop()


async def test_dns_answers_the_same_from_the_store_and_from_its_copy() -> None:
    agent, reader = Agent(), Reader()
    reader.connect(agent)
    for number in range(5):
        node = Node(name=f"n{number}", address=f"10.0.0.{number}")
        agent.commit(Register(node, ServiceInstance(id="web", service="web", port=80)))
    await eventually(lambda: reader.take().applied_index == agent.store.applied_index)

    def answer(view: StateStore | CatalogCopy, kind: str) -> list[str]:
        front = Responder(view, DnsSettings(), draw=lambda: 0.0, clock=lambda: 1.7e9)
        reply = front.respond(query("web.service.consul", kind, use_edns=0).to_wire())
        assert isinstance(reply, bytes)
        return lines(dns.message.from_wire(reply).answer)

    for kind in ("A", "SRV", "ANY"):
        assert answer(agent.store, kind) == answer(reader.copy, kind)
        assert len(answer(agent.store, kind)) == 5
    agent.source.stop()
