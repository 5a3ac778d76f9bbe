"""A server's dealings with the leader elsewhere: proposals carried to it, read barriers shared.

All readers of one loop tick share one question to the leader; a question under way is never
joined, for a barrier must begin after the call it answers (I9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from callboard.agent.ports import Applied, ProposalUnknown
from callboard.agent.rpc import RpcClient, RpcFailed, RpcUnreachable
from callboard.agent.rpc.engine_wire import (
    GRACE_S,
    INDEX,
    OUTCOME,
    Barrier,
    NotLeaderHere,
    Proposal,
    from_rpc,
)
from callboard.agent.rpc.wire import ENCODER

ROUNDS_MAX = 2
"""Questions under way; more readers wait for the next, and share it."""
ROUND_TIMEOUT_S = 2.0


class RemoteProposals:
    """Carries proposals to the leader elsewhere; gives up on one that leads no more.

    A leader that was stopped, or cut off, keeps its connections: without this its callers would
    wait for their whole time.
    """

    def __init__(self, client: RpcClient, grace_s: float) -> None:
        """`grace_s`: how long a former leader may still answer what it was asked."""
        self._client = client
        self._grace_s = grace_s
        self._under_way: dict[asyncio.Timeout, str] = {}

    async def propose(self, address: str, command: bytes, timeout_s: float) -> Applied:
        """Have the leader at `address` commit a command.

        Raises NotLeaderHere if nothing was done, ProposalUnknown if nobody knows, EngineError.
        """
        body = ENCODER.encode(Proposal(timeout_s, command))
        try:
            async with asyncio.timeout(None) as patience:
                self._under_way[patience] = address
                try:
                    answer = await self._client.call(
                        address, "propose_here", body, timeout_s + GRACE_S
                    )
                finally:
                    del self._under_way[patience]
            outcome = OUTCOME.decode(answer)
        except TimeoutError as problem:
            raise ProposalUnknown(f"{address} leads no more and does not answer") from problem
        except RpcUnreachable as problem:
            if problem.sent:
                raise ProposalUnknown(str(problem)) from problem
            raise NotLeaderHere(str(problem)) from problem
        except RpcFailed as problem:
            raise from_rpc(str(problem)) from problem
        except msgspec.MsgspecError as problem:
            raise ProposalUnknown(f"{address}: malformed answer") from problem
        return Applied(outcome.index, outcome.value)

    def leader_is(self, address: str) -> None:
        """Another leader is known ("" is none): those asked before have little time left."""
        if not address:
            return
        until = asyncio.get_running_loop().time() + self._grace_s
        for patience, asked in self._under_way.items():
            if asked != address and patience.when() is None:
                patience.reschedule(until)


class RemoteReads:
    """Read barriers of a member that does not lead."""

    def __init__(
        self,
        client: RpcClient,
        *,
        leader_address: Callable[[], str],
        wait_applied: Callable[[int, asyncio.Future[int]], None],
    ) -> None:
        """`leader_address()` is "" while unknown; `wait_applied(index, future)` resolves the
        future once the index is applied here."""
        self._client = client
        self._leader_address = leader_address
        self._wait_applied = wait_applied
        self._callers: list[asyncio.Future[int]] = []
        self._scheduled = False
        self._asked = ""
        self._rounds: set[asyncio.Task[int]] = set()
        self._loop = asyncio.get_running_loop()

    def read(self) -> asyncio.Future[int]:
        """A barrier asked for after this call; fails with NotLeaderHere: ask again."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._callers.append(future)
        self._schedule()
        return future

    def leader_is(self, address: str) -> None:
        """Another leader is known ("" is none): questions to the one before are asked anew."""
        if address and address != self._asked:
            for task in self._rounds:
                task.cancel()

    async def stop(self) -> None:
        """Give up the questions under way."""
        rounds = list(self._rounds)
        for task in rounds:
            task.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)

    def _schedule(self) -> None:
        if not self._scheduled and len(self._rounds) < ROUNDS_MAX:
            self._scheduled = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        callers = [future for future in self._callers if not future.done()]
        self._callers.clear()
        if callers:
            task = self._loop.create_task(self._ask_leader())
            self._rounds.add(task)
            # By callback, not in the task: one that is cancelled before it began runs nothing.
            task.add_done_callback(lambda ended: self._answer(ended, callers))

    def _answer(self, task: asyncio.Task[int], callers: list[asyncio.Future[int]]) -> None:
        self._rounds.discard(task)
        problem = NotLeaderHere("given up") if task.cancelled() else task.exception()
        for future in callers:
            if problem is None:
                self._wait_applied(task.result(), future)
            elif not future.done():
                future.set_exception(NotLeaderHere(str(problem)))
        if self._callers:
            self._schedule()

    async def _ask_leader(self) -> int:
        address = self._leader_address()
        if not address:
            raise NotLeaderHere("no leader is known")
        self._asked = address
        body = ENCODER.encode(Barrier(ROUND_TIMEOUT_S))
        try:
            answer = await self._client.call(
                address, "read_index_here", body, ROUND_TIMEOUT_S + GRACE_S
            )
            return INDEX.decode(answer)
        except (RpcUnreachable, RpcFailed, msgspec.MsgspecError) as problem:
            raise NotLeaderHere(str(problem)) from problem
