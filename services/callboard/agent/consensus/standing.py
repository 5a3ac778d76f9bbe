"""Where a server agent stands in consensus: what its driver tells of it, and changes nothing.

Read by HTTP, DNS, the feed, metrics and other servers ("status"), at any moment of the driver's
life: before the cluster is founded, while it runs, after it has failed.
"""

from __future__ import annotations

from callboard.agent.consensus.formation import Formation
from callboard.agent.consensus.member import RaftMember
from callboard.agent.consensus.settings import ConsensusSettings
from callboard.agent.consensus.state_hashes import HashExchange
from callboard.agent.consensus.surroundings import Surroundings
from callboard.agent.ports import Leader
from callboard.agent.rpc import LocalMember


class Standing:
    """The readable side of `RaftDriver`, which fills in member, formation and failure."""

    def __init__(
        self, settings: ConsensusSettings, local: LocalMember, surroundings: Surroundings
    ) -> None:
        self._settings = settings
        self._local = local
        self._around = surroundings
        self._member: RaftMember | None = None
        self._formation: Formation | None = None
        self._hashes = HashExchange(surroundings.state_hash, surroundings.client)
        self._ready = False
        self._failed = ""
        self._started_at = surroundings.now()

    @property
    def ready(self) -> bool:
        """True from the first read barrier on: all known committed at the last stop, and all
        that the leader had committed when it was asked, is applied."""
        return self._ready and not self._failed

    @property
    def leader(self) -> Leader | None:
        """The leader as this member knows it."""
        if self._member is None or not self._member.core.leader:
            return None
        return Leader(self._member.core.leader, self.leader_address)

    @property
    def leader_address(self) -> str:
        """ "ip:port" of the leader's RPC listener, "" while unknown."""
        if self._member is None or not self._member.core.leader:
            return ""
        return self._around.address_of(self._member.core.leader) or ""

    @property
    def is_leader(self) -> bool:
        return self._member is not None and self._member.is_leader

    @property
    def term(self) -> int:
        return self._member.core.term if self._member is not None else 0

    @property
    def last_contact_s(self) -> float:
        """Seconds since the leader was last heard, or since the start; 0.0 on a live leader."""
        since_start_s = self._around.now() - self._started_at
        if self._member is None:
            return since_start_s
        return min(self._member.last_contact_s(), since_start_s)

    @property
    def commit_index(self) -> int:
        return self._member.core.commit if self._member is not None else 0

    @property
    def applied_index(self) -> int:
        """The last index applied here."""
        return self._around.state.applied_index

    @property
    def voters(self) -> tuple[tuple[str, str], ...]:
        """(node id, "ip:port") of every voter."""
        if self._member is None:
            return ()
        voters = self._member.core.membership.configuration.voters
        return tuple((voter, self._around.address_of(voter) or "") for voter in voters)

    @property
    def cluster_id(self) -> str:
        """The id of the cluster, "" while this server belongs to none."""
        return self._local.cluster_id

    @property
    def node_id(self) -> str:
        """Our own."""
        return self._local.node_id

    @property
    def founds_with(self) -> int:
        """With how many servers we would found a cluster now; 0: we would not.

        A server that has not looked into its directory yet belongs to a cluster, for all it
        knows: it must not count as a founder, nor may others promise anything because of it.
        """
        looking = self._formation is not None and self._member is None
        return self._settings.bootstrap_expect if looking else 0

    @property
    def hashes_compared(self) -> int:
        """How many state hashes of the leader were found equal to ours; for metrics."""
        return self._hashes.compared

    def trouble(self) -> str | None:
        """Why this server is not healthy, or None."""
        if self._failed:
            return self._failed
        if self._member is None:
            if self._formation is not None and self._formation.stranger:
                return "a cluster exists without this server: it has no vote and no data"
            return "not part of a cluster yet"
        if self._member.stalled_for_s:
            return f"the disk does not answer since {self._member.stalled_for_s:.1f} s"
        if self._member.core.voteless:
            return "this server lost its log: it follows, but has no vote until it is replaced"
        return None if self._ready else "the log is not applied yet"
