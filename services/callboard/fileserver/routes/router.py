"""The router: policy, instances and connections, for the core's `Router` seam."""

from __future__ import annotations

import asyncio
import logging

from callboard.chassis.logs import RateLimited
from callboard.fileserver.head import Head
from callboard.fileserver.ports import PeerInfo, Refusal, Route
from callboard.fileserver.routes.instances import Instances
from callboard.fileserver.routes.policy import Policy
from callboard.fileserver.routes.pool import Pool
from callboard.fileserver.routes.relay import Relay, Traffic

log = logging.getLogger(__name__)

SWEEP_S = 10.0


class CatalogRouter:
    """Forwards what the policy lets through to instances of the catalog."""

    def __init__(self, policy: Policy, instances: Instances, pool: Pool) -> None:
        self._policy = policy
        self._instances = instances
        self.pool = pool
        self._limited = RateLimited(log)
        self._sweeper: asyncio.Task[None] | None = None
        self.traffic = Traffic()

    def start(self) -> None:
        """Look after idle connections until `stop`."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="routes")

    async def stop(self) -> None:
        """Close idle connections; those in use end with their requests."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.pool.close()

    def route(self, head: Head, peer: PeerInfo) -> Route | Refusal | None:
        """See `ports.Router`."""
        decided = self._policy.decide(head)
        if decided is None or isinstance(decided, Refusal):
            return decided
        return Relay(
            decided,
            self._instances,
            self.pool,
            self.traffic,
            self._limited,
            clock=asyncio.get_running_loop().time,
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.pool.sweep()
