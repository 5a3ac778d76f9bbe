"""Memberships on real sockets of loopback, quick enough for tests, and all stopped at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from callboard.agent.membership import Member, MemberEvent, Membership, NameConflict, Settings
from callboard.agent.membership.resolver import Resolver
from callboard.swim.config import Config, SerfConfig, lan


def quick(name: str, address: str, port: int) -> Config:
    """The protocol, about four times as fast as in a data centre: a death shows in 2 s."""
    return replace(
        lan(name, address, port),
        probe_interval_s=0.3,
        probe_timeout_s=0.15,
        gossip_interval_s=0.05,
        push_pull_interval_s=2.0,
        stream_timeout_s=2.0,
    )


QUICK_SERF = SerfConfig(reconnect_interval_s=0.5, leave_propagate_s=0.1, broadcast_timeout_s=2.0)


@dataclass
class Agent:
    """A running membership and what it has told."""

    membership: Membership
    events: list[MemberEvent] = field(default_factory=list)
    conflicts: list[NameConflict] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)
    """The agent's name, once it gave up joining."""

    @property
    def address(self) -> str:
        """Where to join it."""
        member = self.membership.local_member
        return f"{member.address}:{member.port}"

    def status(self, name: str) -> str:
        """A member's status as this agent sees it; "" for a stranger."""
        member = self.membership.member(name)
        return "" if member is None else str(member.status)

    def member(self, name: str) -> Member:
        """A member that must be known."""
        member = self.membership.member(name)
        assert member is not None, f"{name} is not known"
        return member

    def seen(self, name: str) -> list[str]:
        """The kinds of events about one member, in order."""
        return [str(event.kind) for event in self.events if event.member.name == name]


class Agents:
    """Starts agents at addresses of their own."""

    def __init__(self) -> None:
        self.running: list[Agent] = []
        self._count = 0

    async def start(
        self,
        name: str,
        settings: Settings | None = None,
        *,
        resolver: Resolver | None = None,
        **changes: object,
    ) -> Agent:
        """Start one; `changes` are fields of Settings."""
        self._count += 1
        settings = settings or Settings(
            name=name,
            bind=f"127.12.0.{self._count}",
            port=0,
            tags={"role": "callboard", "id": f"id-{name}"},
            profile=quick,
            serf=QUICK_SERF,
            retry_interval_s=0.5,
        )
        settings = replace(settings, **changes)  # type: ignore[arg-type]
        gave_up: list[str] = []
        agent = Agent(
            Membership(settings, resolver=resolver, gave_up=lambda: gave_up.append(name)),
            gave_up=gave_up,
        )
        agent.membership.listen(agent.events.append)
        agent.membership.listen_conflicts(agent.conflicts.append)
        await agent.membership.start()
        self.running.append(agent)
        return agent

    async def kill(self, agent: Agent) -> None:
        """Stop one without a word."""
        self.running.remove(agent)
        await agent.membership.stop()


@asynccontextmanager
async def agents() -> AsyncIterator[Agents]:
    """A place to start agents in; all are stopped at the end."""
    group = Agents()
    try:
        yield group
    finally:
        for agent in group.running:
            await agent.membership.stop()
