"""How a server without a log comes to belong to a cluster: founded once, or not at all.

It asks all servers that membership knows. If one belongs to a cluster already, ours is that one:
with a vote if we are among its founders and never had a log, else as a stranger without one. If
none does, and `expect` servers are known, the founders are those with the lowest ids; the cluster
is founded once every founder has promised itself to exactly this set. A promise holds for some
seconds and excludes every other set, so two clusters can never share a server. It is durable
before it is given: a restart does not break it, and a founder without one is not new but has lost
its directory, and with it what it voted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from callboard.agent.consensus.identity import (
    ClusterMark,
    cluster_id_of,
    keep_promises,
    load_promises,
)
from callboard.agent.consensus.surroundings import Surroundings
from callboard.agent.rpc import LocalMember, Peer, RpcClient, RpcError
from callboard.agent.rpc.engine_wire import STATUS, Status
from callboard.agent.rpc.wire import ENCODER

log = logging.getLogger(__name__)

ASK_INTERVAL_S = 0.05
ASK_TIMEOUT_S = 1.0
PROMISE_S = 10.0
"""How long a promise excludes others; the cluster is founded within a fraction of it, or asked
for anew."""
FOUND_WITHIN_S = 3.0


_VOTERS = msgspec.msgpack.Decoder(tuple[str, ...])


async def ask_status(client: RpcClient, address: str) -> Status | None:
    """The status of the server at `address`; None if it does not answer."""
    try:
        return STATUS.decode(await client.call(address, "status", b"", ASK_TIMEOUT_S))
    except (RpcError, msgspec.MsgspecError):
        return None


class Formation:
    """Runs until this server belongs to a cluster."""

    def __init__(
        self,
        member: LocalMember,
        expect: int,
        around: Surroundings,
        *,
        on_failed: Callable[[Exception], None],
    ) -> None:
        """`on_failed`: the disk failed, the process must leave (I11). Raises OSError."""
        self._member = member
        self._expect = expect
        self._servers = around.servers
        self._client = around.client
        self._now = around.now
        self._disk = around.data
        self._on_failed = on_failed
        self._promises = load_promises(self._disk)
        self._promised = self._promises[-1] if self._promises else ()
        self._promised_until = self._now() + PROMISE_S
        self.stranger = ""
        """Id of the cluster that exists without us; "" while none is known."""

    async def run(self) -> ClusterMark:
        """Ask until the cluster is known."""
        while True:
            mark = await self._attempt()
            if mark is not None:
                return mark
            await asyncio.sleep(ASK_INTERVAL_S)

    async def promise(self, peer: Peer, body: bytes) -> bytes:
        """Serve "promise": whether we found a cluster with exactly these voters."""
        try:
            voters = _VOTERS.decode(body)
        except msgspec.MsgspecError as problem:
            raise RpcError(f"malformed promise: {problem}") from problem
        return ENCODER.encode(self._may_found(voters))

    def _may_found(self, voters: tuple[str, ...]) -> bool:
        now = self._now()
        if self._member.cluster_id or self.stranger:
            return False
        if self._member.node_id not in voters or len(voters) != self._expect:
            return False
        if self._promised not in ((), voters) and now < self._promised_until:
            return False
        try:
            self._keep(voters)
        except OSError as problem:
            self._on_failed(problem)
            return False
        self._promised, self._promised_until = voters, now + PROMISE_S
        return True

    def _keep(self, voters: tuple[str, ...]) -> None:
        """Make the promise durable. (Who is alone promises nobody anything.)"""
        if len(voters) > 1 and (not self._promises or self._promises[-1] != voters):
            promises = (*(each for each in self._promises if each != voters), voters)
            keep_promises(self._disk, promises)
            self._promises = promises

    async def _attempt(self) -> ClusterMark | None:
        began_at = self._now()
        servers = {i: a for i, a in self._servers().items() if i != self._member.node_id}
        answers = await asyncio.gather(
            *(ask_status(self._client, address) for address in servers.values())
        )
        statuses = {status.node_id: status for status in answers if status is not None}
        addresses = {
            status.node_id: address
            for address, status in zip(servers.values(), answers, strict=True)
            if status is not None
        }
        clusters = [status for status in statuses.values() if status.cluster_id]
        if clusters:
            ours = (each for each in clusters if self._member.node_id in dict(each.voters))
            return self._existing(next(ours, clusters[0]))
        founders = self._founders(statuses)
        if founders is None or not self._may_found(founders):
            return None
        body = ENCODER.encode(founders)
        promises = await asyncio.gather(
            *(
                self._ask_promise(addresses[founder], body)
                for founder in founders
                if founder != self._member.node_id
            )
        )
        if not all(promises) or self._now() - began_at > FOUND_WITHIN_S:
            return None
        cluster_id = cluster_id_of(self._member.datacenter, founders)
        log.info("founding the cluster", extra={"cluster": cluster_id, "voters": list(founders)})
        return ClusterMark(cluster_id, founders)

    def _existing(self, status: Status) -> ClusterMark | None:
        voters = tuple(voter for voter, _ in status.voters)
        if self._member.node_id in voters:
            log.info("joining the cluster as a founder", extra={"cluster": status.cluster_id})
            return ClusterMark(status.cluster_id, voters, may_vote=voters in self._promises)
        if self.stranger != status.cluster_id:
            self.stranger = status.cluster_id
            log.warning(
                "a cluster exists and this server is not among its voters: it starts without a "
                "vote and holds no data until it replaces one of them",
                extra={"cluster": status.cluster_id, "voters": list(voters)},
            )
        return None

    def _founders(self, statuses: Mapping[str, Status]) -> tuple[str, ...] | None:
        """The founders as far as we see, sorted; None if too few are known, or without us."""
        if self._expect == 0:
            return None
        own = self._member.node_id
        known = sorted(
            {own, *(i for i, status in statuses.items() if status.expect == self._expect)}
        )
        founders = tuple(known[: self._expect])
        return founders if len(founders) == self._expect and own in founders else None

    async def _ask_promise(self, address: str, body: bytes) -> bool:
        try:
            answer = await self._client.call(address, "promise", body, ASK_TIMEOUT_S)
            return msgspec.msgpack.decode(answer, type=bool)
        except (RpcError, msgspec.MsgspecError):
            return False
