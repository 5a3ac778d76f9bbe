"""What an agent says of its health: /livez, /readyz and /metrics, where `-health` opens them."""

from __future__ import annotations

from callboard.agent.cluster import Cluster
from callboard.agent.settings import AgentSettings
from callboard.agent.state.store import StateStore
from callboard.chassis.health import HealthServer
from callboard.chassis.metrics import Metrics

STALE_S = 10.0
"""Without a word from a leader for so long a server is not ready."""


class AgentHealth:
    """The health listener of one agent; does nothing when none is wanted."""

    def __init__(
        self, settings: AgentSettings, metrics: Metrics, store: StateStore, cluster: Cluster
    ) -> None:
        self._cluster = cluster
        self._server: HealthServer | None = None
        if settings.health is not None:
            self._server = HealthServer(*settings.health, metrics)
            self._server.ready_when("engine", self._engine)
        engine = cluster.engine
        for name, text, read in (
            ("raft_term", "Term of the Raft log", lambda: engine.term),
            ("raft_leader", "1 while this agent leads", lambda: int(engine.is_leader)),
            ("raft_commit_index", "Highest index known committed", lambda: engine.commit_index),
            ("raft_applied_index", "Highest index applied", lambda: store.applied_index),
            ("raft_last_contact_seconds", "Age of the leader's last word", self._contact),
            ("parked_queries", "Blocking queries that wait for a change", store.waiting),
            ("gossip_members", "Members that gossip knows", lambda: cluster.directory.count),
        ):
            metrics.read_gauge(f"callboard_{name}", text, read)

    async def start(self) -> None:
        """Listen, if a listener is wanted. Raises OSError."""
        if self._server is not None:
            await self._server.start()

    async def stop(self) -> None:
        """Close the listener."""
        if self._server is not None:
            await self._server.stop()

    def _contact(self) -> float:
        return self._cluster.engine.last_contact_s

    def _engine(self) -> str | None:
        cluster = self._cluster
        if cluster.driver is not None:
            trouble = cluster.driver.trouble()
            if trouble is not None:
                return trouble
        elif not cluster.directory.alive():
            return "no server is known"
        if not cluster.engine.ready:
            return "the catalog is not loaded yet"
        if self._contact() > STALE_S:
            return f"no leader since {self._contact():.0f} s"
        return None
