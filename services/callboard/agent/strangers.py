"""Finds out that a server in our gossip belongs to another cluster, and has both sides say so.

Two clusters whose gossip has met (a data directory of another cluster, a wrong -retry-join) would
go on side by side without a word, for a leader dials its own voters only. So each server shakes
hands once with every other server it hears of: the handshake names the clusters, and a refusal is
in the log of both. Nothing is done about it: which of the two is wrong, a person knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from callboard.agent.rpc import LocalMember, RpcClient, RpcError

log = logging.getLogger(__name__)

ASK_TIMEOUT_S = 5.0
AGAIN_S = 60.0
"""A server that could not be greeted is left alone for so long."""


class Strangers:
    """Shakes hands with new servers. `look` is cheap: call it whenever something changed."""

    def __init__(
        self, member: LocalMember, client: RpcClient, others: Callable[[], Mapping[str, str]]
    ) -> None:
        """`others()`: node id → "ip:port" of every other live server."""
        self._member = member
        self._client = client
        self._others = others
        self._met: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """Greet whom we have not met at its present address, once we belong to a cluster."""
        if not self._member.cluster_id:
            return
        for node_id, address in self._others().items():
            if self._met.get(node_id) != address:
                self._met[node_id] = address
                task = asyncio.get_running_loop().create_task(self._greet(node_id, address))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Greet nobody any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _greet(self, node_id: str, address: str) -> None:
        try:
            await self._client.call(address, "status", b"", ASK_TIMEOUT_S)
        except RpcError as problem:
            # Forgotten after a while, so that news of anybody is then a reason to try again.
            asyncio.get_running_loop().call_later(AGAIN_S, self._met.pop, node_id, None)
            log.warning("cannot greet a server", extra={"addr": address, "reason": str(problem)})
