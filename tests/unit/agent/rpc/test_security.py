"""Mutual TLS on the rpc port: who may speak what, by role and name, and for how long."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness.certified import CA, Leaf, material
from tests.harness.eventually import eventually
from tests.unit.agent.rpc.test_calls import member, talk_raw

from callboard.agent.rpc import (
    Channel,
    Dialer,
    LocalMember,
    Peer,
    RpcClient,
    RpcFailed,
    RpcServer,
    RpcUnreachable,
    links,
)
from callboard.agent.rpc import security as rules
from callboard.agent.rpc.connection import FramedConnection, FrameReceiver
from callboard.agent.rpc.links import PeerLink
from callboard.agent.rpc.security import RpcSecurity
from callboard.pki import certificates
from callboard.pki.live import LiveIdentity
from callboard.pki.roles import Names, names_for
from callboard.pki.standing import Standing

TRUST = "dc1.consul"


@dataclass
class Farm:
    """A CA and the identities it has signed for, each in a folder of its own."""

    place: Path
    authority: CA

    def identity(self, names: Names, name: str, *, authority: CA | None = None) -> LiveIdentity:
        signer = authority or self.authority
        return LiveIdentity(material(self.place / name, signer.leaf(names), signer))

    def server(self, number: int = 1) -> RpcSecurity:
        return self.of("server", f"agent-{number}")

    def of(self, role: str, node: str, **names: str) -> RpcSecurity:
        made = names_for(role, node, **names)  # type: ignore[arg-type]
        return RpcSecurity(self.identity(made, f"{role}-{node}"), TRUST)


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    """A farm of one CA."""
    return Farm(tmp_path, CA(constraints=None))


class Told:
    """A channel that remembers what came."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def mount(self, peer: Peer, connection: FramedConnection) -> FrameReceiver:
        return self

    def frame_received(self, kind: int, body: bytes) -> None:
        self.bodies.append(body)

    def connection_lost(self, reason: str) -> None:
        """Nothing depends on it."""


@dataclass
class Serving:
    """A listening server."""

    rpc: RpcServer
    security: RpcSecurity
    raft: Told

    @property
    def address(self) -> str:
        return self.rpc.address


@asynccontextmanager
async def serving(security: RpcSecurity, who: LocalMember | None = None) -> AsyncIterator[Serving]:
    server = RpcServer(who or member(1), security=security)
    told = Told()

    async def echo(peer: Peer, body: bytes) -> bytes:
        return body

    server.register("echo", echo)
    server.register("promise", echo, servers_only=True)
    for channel in (Channel.RAFT, Channel.HEARTBEAT, Channel.SNAPSHOT):
        server.mount(channel, told.mount)
    await server.start("127.0.0.1", 0)
    try:
        yield Serving(server, security, told)
    finally:
        await server.stop()


@asynccontextmanager
async def calling(
    security: RpcSecurity | None, who: LocalMember | None = None
) -> AsyncIterator[RpcClient]:
    client = RpcClient(Dialer(who or member(2), security=security))
    try:
        yield client
    finally:
        await client.stop()


async def refused(security: RpcSecurity | None, address: str, channel: Channel) -> str:
    """Dial and return why that was refused."""
    dialer = Dialer(member(2), security=security)
    with pytest.raises(RpcUnreachable) as caught:
        await dialer.dial(address, channel)
    assert not caught.value.sent
    return str(caught.value)


async def test_servers_call_each_other_and_speak_raft(farm: Farm) -> None:
    async with serving(farm.server(1)) as there, calling(farm.server(2)) as client:
        assert await client.call(there.address, "echo", b"x" * 100_000, 5.0) == b"x" * 100_000
        assert await client.call(there.address, "promise", b"x", 5.0) == b"x"
        dialer = Dialer(member(2), security=farm.server(2))
        for channel in (Channel.RAFT, Channel.HEARTBEAT, Channel.SNAPSHOT):
            dialed = await dialer.dial(there.address, channel)
            dialed.connection.close()
        assert there.security.refused == {}


@pytest.mark.parametrize("channel", [Channel.RAFT, Channel.HEARTBEAT, Channel.SNAPSHOT])
@pytest.mark.parametrize("role", ["agent", "nameserver", "hub", "operator", "issuer"])
async def test_nobody_but_servers_speaks_raft(
    farm: Farm, role: str, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(farm.server()) as there:
        why = await refused(farm.of(role, "agent-2"), there.address, channel)
        text = f"channel {channel} is for server; the certificate of agent-2 has {role}"
        assert text in why
        assert there.security.refused == {"role": 1}
        assert text in [getattr(record, "reason", "") for record in caplog.records]


async def test_client_agent_calls_but_not_what_is_for_servers(farm: Farm) -> None:
    async with serving(farm.server()) as there, calling(farm.of("agent", "agent-2")) as client:
        assert await client.call(there.address, "echo", b"x", 5.0) == b"x"
        with pytest.raises(RpcFailed, match="promise is for servers of the catalog"):
            await client.call(there.address, "promise", b"x", 5.0)


@pytest.mark.parametrize("role", ["nameserver", "hub", "gateway", "fileserver", "operator"])
async def test_nobody_but_agents_calls(farm: Farm, role: str) -> None:
    async with serving(farm.server()) as there:
        why = await refused(farm.of(role, "agent-2"), there.address, Channel.RPC)
        assert f"channel rpc is for agent, server; the certificate of agent-2 has {role}" in why


async def test_certificate_of_another_node_is_refused(farm: Farm) -> None:
    async with serving(farm.server()) as there:
        why = await refused(farm.server(3), there.address, Channel.RAFT)
        assert "the certificate is agent-3's, and agent-2 uses it" in why
        assert there.security.refused == {"name": 1}


async def test_certificate_without_a_node_speaks_for_any(farm: Farm) -> None:
    async with serving(farm.server()) as there, calling(farm.of("server", "")) as client:
        assert await client.call(there.address, "echo", b"x", 5.0) == b"x"


async def test_roles_of_another_trust_domain_are_none(farm: Farm) -> None:
    async with serving(farm.server()) as there:
        stranger = farm.of("server", "agent-2", datacenter="dc2")
        stranger.server_name = f"server.{TRUST}"
        why = await refused(stranger, there.address, Channel.RAFT)
        assert "has no role" in why


async def test_listener_that_is_no_server_is_not_believed(farm: Farm) -> None:
    async with serving(farm.of("agent", "agent-1")) as there:
        why = await refused(farm.server(2), there.address, Channel.RPC)
        assert "Hostname mismatch, certificate is not valid for 'server.dc1.consul'" in why


async def test_listener_with_another_servers_certificate_is_not_believed(farm: Farm) -> None:
    async with serving(farm.server(3)) as there:
        why = await refused(farm.server(2), there.address, Channel.RPC)
        assert "the certificate is agent-3's, and agent-1 uses it" in why


async def test_peers_of_another_ca_are_told_so(farm: Farm, tmp_path: Path) -> None:
    stranger = Farm(tmp_path / "stranger", CA("another CA", constraints=None)).server(2)
    async with serving(farm.server()) as there:
        assert "its certificate is not accepted" in await refused(
            stranger, there.address, Channel.RPC
        )
        await eventually(lambda: there.security.refused["handshake"] == 1)


async def test_dialler_without_tls_is_hung_up_on_in_words(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(farm.server()) as there:
        await refused(None, there.address, Channel.RPC)
        await eventually(lambda: there.security.refused["handshake"] == 1)
        reasons = [getattr(record, "reason", "") for record in caplog.records]
        assert "it does not speak TLS: has it mutual TLS off?" in reasons


async def test_listener_without_tls_is_told_of_in_words(farm: Farm) -> None:
    server = RpcServer(member(1))
    await server.start("127.0.0.1", 0)
    try:
        why = await refused(farm.server(2), server.address, Channel.RPC)
        assert "has it mutual TLS off?" in why
    finally:
        await server.stop()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_garbage_and_silence_end_and_hold_nobody_up(
    farm: Farm, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.agent.rpc.server.HANDSHAKE_TIMEOUT_S", 0.5)
    async with serving(farm.server()) as there, calling(farm.server(2)) as client:
        talking = asyncio.create_task(talk_raw(there.rpc, said))
        assert await client.call(there.address, "echo", b"x", 5.0) == b"x"
        await talking
        await eventually(lambda: there.security.refused["handshake"] == 1)


async def test_peer_that_shakes_hands_and_says_nothing_ends(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.agent.rpc.server.HANDSHAKE_TIMEOUT_S", 0.3)
    dialling = farm.server(2).dialling
    async with serving(farm.server()) as there:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", there.rpc.port, ssl=dialling, server_hostname=f"server.{TRUST}"
        )
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_many_refused_diallers_write_few_lines(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(farm.server()) as there:
        with caplog.at_level(logging.WARNING):
            dialer = Dialer(member(2), security=farm.of("agent", "agent-2"))
            for _ in range(30):
                with pytest.raises(RpcUnreachable):
                    await dialer.dial(there.address, Channel.RAFT)
        said = [record.message for record in caplog.records]
        assert said.count("connection refused by the other agent") == 1
        assert said.count("rejected an rpc connection") < 30


# Change of certificates, lists and age -------------------------------------------------------


def replace(path: Path, body: bytes) -> None:
    path.unlink()
    path.write_bytes(body)


@dataclass
class Two:
    """A server, a peer that has called it, and the judge of the server."""

    there: Serving
    client: RpcClient
    peer: Leaf
    identity: LiveIdentity
    standing: Standing

    async def call(self) -> bytes:
        return await self.client.call(self.there.address, "echo", b"x", 5.0)

    def look(self) -> None:
        assert self.identity.look()
        self.standing.look()


@asynccontextmanager
async def two(farm: Farm, tmp_path: Path) -> AsyncIterator[Two]:
    identity = farm.identity(names_for("server", "agent-1"), "here")
    security = RpcSecurity(identity, TRUST)
    leaf = farm.authority.leaf(names_for("agent", "agent-2"))
    peer = RpcSecurity(LiveIdentity(material(tmp_path / "peer", leaf, farm.authority)), TRUST)
    standing = Standing(identity)
    standing.watch(security.judge)
    async with serving(security) as there, calling(peer) as client:
        made = Two(there, client, leaf, identity, standing)
        assert await made.call() == b"x"
        yield made


async def test_revoked_peer_is_cut_and_does_not_come_back(farm: Farm, tmp_path: Path) -> None:
    async with two(farm, tmp_path) as pair:
        listed = farm.authority.list(pair.peer, number=2)
        replace(tmp_path / "here" / "crl.pem", certificates.pem(listed))
        pair.look()
        await eventually(lambda: pair.client.peer(pair.there.address) is None)
        with pytest.raises(RpcUnreachable, match="our certificate was revoked"):
            await pair.call()
        assert pair.there.security.refused == {"standing": 1, "handshake": 1}


async def test_peer_stays_through_a_change_that_does_not_touch_it(
    farm: Farm, tmp_path: Path
) -> None:
    async with two(farm, tmp_path) as pair:
        before = pair.client.peer(pair.there.address)
        following = CA("the next CA", constraints=None)
        both = [farm.authority.certificate, following.certificate]
        replace(tmp_path / "here" / "ca.pem", b"".join(map(certificates.pem, both)))
        lists = [farm.authority.list(number=2), following.list()]
        replace(tmp_path / "here" / "crl.pem", b"".join(map(certificates.pem, lists)))
        pair.look()
        assert await pair.call() == b"x"
        assert pair.client.peer(pair.there.address) is before
        assert pair.there.security.refused == {}


async def test_old_call_connection_is_made_anew_and_loses_no_call(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.agent.rpc.client.PING_INTERVAL_S", 0.05)
    gate = asyncio.Event()
    async with serving(farm.server()) as there, calling(farm.server(2)) as client:

        async def wait(peer: Peer, body: bytes) -> bytes:
            await gate.wait()
            return body

        there.rpc.register("wait", wait)
        waiting = asyncio.create_task(client.call(there.address, "wait", b"late", 30.0))
        await eventually(lambda: client.peer(there.address) is not None)
        monkeypatch.setattr(rules, "AGE_MAX_S", 0.0)
        await eventually(lambda: client.peer(there.address) is None)
        assert await client.call(there.address, "echo", b"x", 5.0) == b"x"
        gate.set()
        assert await waiting == b"late"


@pytest.mark.parametrize("why", ["age", "our files changed"])
async def test_old_link_is_made_anew(farm: Farm, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(links, "AGE_LOOK_S", 0.1)
    async with serving(farm.server()) as there:
        identity = farm.identity(names_for("server", "agent-2"), "linking")
        dialer = Dialer(member(2), security=RpcSecurity(identity, TRUST))
        made = await linked(dialer, there.address)
        first = made._connection
        if why == "age":
            monkeypatch.setattr(rules, "AGE_MAX_S", -1.0)
        else:
            identity.generation += 1
        await eventually(lambda: made.connected and made._connection is not first)
        await eventually(lambda: made.send(b"after") or None)
        await eventually(lambda: there.raft.bodies[-1:] == [b"after"])
        await made.stop()


async def linked(dialer: Dialer, address: str) -> PeerLink:
    of: Callable[[str], str | None] = lambda node: address
    link = PeerLink(dialer, "id-1", Channel.RAFT, of, random.Random(1))
    link.start()
    await eventually(lambda: link.connected)
    return link


async def test_listener_hangs_up_on_who_never_renews(
    farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(farm, tmp_path) as pair:
        pair.standing.look()
        assert await pair.call() == b"x"
        monkeypatch.setattr(rules, "AGE_MAX_S", -1.0)
        pair.standing.look()
        await eventually(lambda: pair.client.peer(pair.there.address) is None)
