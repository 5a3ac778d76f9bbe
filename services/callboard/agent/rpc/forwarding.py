"""ForwardingEngine: the `Engine` of a client agent, which asks servers for everything.

It keeps to one server while that answers, and goes to the next when it does not. What it says
without asking (leader, term, last contact) comes from the last status it was told.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

import msgspec

from callboard.agent.ports import (
    Applied,
    EngineError,
    Leader,
    NoLeader,
    ProposalUnknown,
)
from callboard.agent.rpc.client import RpcClient
from callboard.agent.rpc.engine_wire import (
    GRACE_S,
    INDEX,
    OUTCOME,
    STATUS,
    Barrier,
    NotLeaderHere,
    Proposal,
    Status,
    from_rpc,
)
from callboard.agent.rpc.errors import RpcFailed, RpcUnreachable
from callboard.agent.rpc.wire import ENCODER

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 1.0
STATUS_TIMEOUT_S = 1.0
RETRY_S = 0.1
NO_SERVERS = "No known Consul servers"
"""Consul's text for a client agent that knows no server."""


class ForwardingEngine:
    """Proposals and barriers by way of any live server."""

    def __init__(
        self,
        client: RpcClient,
        servers: Callable[[], Sequence[str]],
        *,
        now: Callable[[], float] = time.monotonic,
        rng: random.Random,
    ) -> None:
        """`servers()`: the "ip:port" of every server that membership knows alive."""
        self._client = client
        self._servers = servers
        self._now = now
        self._rng = rng
        self._preferred = ""
        self._status: Status | None = None
        self._status_at = now()
        self._task: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Begin to ask for the status each second."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def listen(self, listener: Callable[[], None]) -> None:
        """Be called, on the loop, whenever leader, term or readiness changed."""
        self._listeners.append(listener)

    async def call(self, method: str, body: bytes, timeout_s: float) -> bytes:
        """Call a method at the preferred server, or at the next one if it cannot be reached.

        Never sent twice: once it may have arrived, RpcUnreachable is raised. RpcFailed is the
        server's own answer. Raises NoLeader if no server could be reached within the time.
        """
        deadline = self._now() + timeout_s
        while True:
            for address in self._candidates():
                remaining_s = deadline - self._now()
                if remaining_s <= 0:
                    break
                try:
                    answer = await self._client.call(address, method, body, remaining_s)
                except RpcUnreachable as problem:
                    if self._preferred == address:
                        self._preferred = ""
                    if problem.sent:
                        raise
                    continue
                self._preferred = address
                return answer
            if self._now() + RETRY_S >= deadline:
                raise NoLeader(NO_SERVERS)
            await asyncio.sleep(RETRY_S)

    # Engine --------------------------------------------------------------------------------

    async def propose(self, command: bytes, timeout_s: float = 7.0) -> Applied:
        """Commit `command`; returns once applied on a server. NoLeader, ProposalUnknown."""
        body = ENCODER.encode(Proposal(timeout_s, command))
        try:
            outcome = OUTCOME.decode(await self.call("propose", body, timeout_s + GRACE_S))
        except RpcUnreachable as problem:
            raise ProposalUnknown(str(problem)) from problem
        except RpcFailed as problem:
            raise _engine_error(problem) from problem
        except msgspec.MsgspecError as problem:
            raise ProposalUnknown("malformed answer") from problem
        return Applied(outcome.index, outcome.value)

    async def read_index(self, timeout_s: float = 7.0) -> int:
        """The index of a read barrier; the server that gave it has applied it. NoLeader."""
        deadline = self._now() + timeout_s
        while True:
            remaining_s = max(0.001, deadline - self._now())
            try:
                body = ENCODER.encode(Barrier(remaining_s))
                return INDEX.decode(await self.call("read_index", body, remaining_s + GRACE_S))
            except RpcFailed as problem:
                raise _engine_error(problem) from problem
            except (RpcUnreachable, msgspec.MsgspecError) as problem:
                # Reading twice does no harm.
                if self._now() + RETRY_S >= deadline:
                    raise NoLeader(str(problem)) from problem
                await asyncio.sleep(RETRY_S)

    @property
    def ready(self) -> bool:
        """Whether the server last asked is ready."""
        return self._status is not None and self._status.ready

    @property
    def leader(self) -> Leader | None:
        """The leader as the server last asked knows it."""
        if self._status is None or not self._status.leader_id:
            return None
        return Leader(self._status.leader_id, self._status.leader_address)

    @property
    def is_leader(self) -> bool:
        """A client agent never leads."""
        return False

    @property
    def term(self) -> int:
        return self._status.term if self._status is not None else 0

    @property
    def last_contact_s(self) -> float:
        """The server's last contact, and how long ago it told it."""
        told = self._status.last_contact_s if self._status is not None else 0.0
        return told + max(0.0, self._now() - self._status_at)

    @property
    def commit_index(self) -> int:
        return self._status.commit if self._status is not None else 0

    @property
    def voters(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._status.voters) if self._status is not None else ()

    # Private -------------------------------------------------------------------------------

    def _candidates(self) -> list[str]:
        """All servers, the preferred one first, the others in random order."""
        others = list(self._servers())
        self._rng.shuffle(others)
        if self._preferred in others:
            others.remove(self._preferred)
            others.insert(0, self._preferred)
        return others

    async def _watch(self) -> None:
        while True:
            await self._ask_status()
            await asyncio.sleep(STATUS_INTERVAL_S if self._status is not None else RETRY_S)

    async def _ask_status(self) -> None:
        for address in self._candidates():
            try:
                answer = await self._client.call(address, "status", b"", STATUS_TIMEOUT_S)
                status = STATUS.decode(answer)
            except (RpcUnreachable, RpcFailed, msgspec.MsgspecError):
                continue
            self._told(status)
            if status.ready:
                self._preferred = address
                return

    def _told(self, status: Status) -> None:
        before, self._status, self._status_at = self._status, status, self._now()
        shown = (status.leader_id, status.leader_address, status.term, status.ready)
        if before is None or shown != (
            before.leader_id,
            before.leader_address,
            before.term,
            before.ready,
        ):
            for listener in self._listeners:
                listener()


def _engine_error(problem: RpcFailed) -> EngineError:
    found = from_rpc(str(problem))
    return NoLeader(str(found)) if isinstance(found, NotLeaderHere) else found
