"""The agent among agents: identity, rpc, gossip, and the engine on top; started in this order.

A server runs Raft and serves other agents; a client agent forwards to servers. What differs
between the two is here, and in `service` only which parts exist.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from callboard.agent.configuration import ConfigurationError
from callboard.agent.consensus.disk import Disk, LocalDisk, MemoryDisk
from callboard.agent.consensus.driver import RaftDriver
from callboard.agent.consensus.identity import load_node_id
from callboard.agent.consensus.serving import ConsensusService
from callboard.agent.consensus.settings import ConsensusSettings
from callboard.agent.consensus.surroundings import Surroundings
from callboard.agent.membership.directory import ServerDirectory
from callboard.agent.membership.errors import JoinError
from callboard.agent.membership.keyring_file import KeyringError, read_keyring, write_keyring
from callboard.agent.membership.membership import Membership
from callboard.agent.membership.settings import Settings as GossipSettings
from callboard.agent.membership.tags import AgentTags
from callboard.agent.node_state import METHOD as NODE_STATE
from callboard.agent.node_state import StateElsewhere, StateHere
from callboard.agent.rpc import Dialer, LocalMember, RpcClient, RpcServer
from callboard.agent.rpc.connection import join_address
from callboard.agent.rpc.forwarding import ForwardingEngine
from callboard.agent.rpc.security import RpcSecurity
from callboard.agent.settings import OFF, AgentSettings, keyring_path
from callboard.agent.state.store import StateStore
from callboard.agent.strangers import Strangers
from callboard.chassis.metrics import Metrics
from callboard.files.directories import DirectoryInUse
from callboard.pki.live import LiveIdentity
from callboard.pki.roles import trust_domain
from callboard.swim.config import Config as SwimConfig
from callboard.swim.config import SerfConfig, lan
from callboard.swim.events import NameConflict
from callboard.swim.serf_members import SerfMember

log = logging.getLogger(__name__)

RETRY_EXHAUSTED = "agent: max join retry exhausted, exiting"
"""Consul's text."""


class Cluster:
    """What an agent has to do with others. `engine`, `membership` and `directory` are for use."""

    def __init__(
        self,
        settings: AgentSettings,
        store: StateStore,
        *,
        rng: random.Random,
        after_apply: Callable[[], None],
        fatal: Callable[[str], None],
        metrics: Metrics,
        identity: LiveIdentity | None = None,
    ) -> None:
        """`identity`: speak mutual TLS with other agents."""
        self._settings = settings
        self._store = store
        self._fatal = fatal
        self._metrics = metrics
        self._gossips = False
        metrics.read_counter(
            "callboard_gossip_garbage_total",
            "What came to the gossip port and was no gossip of this cluster.",
            lambda: self.membership.garbage if self._gossips else 0,
        )
        self._contest = Contest()
        self._now = asyncio.get_running_loop().time
        self._disks: list[Disk] = []
        data = self._disk("")
        try:
            self.node_id = load_node_id(data, settings.node_id)
        except BaseException:
            data.close()
            raise
        self.local = LocalMember(self.node_id, settings.node_name, settings.datacenter)
        security = self.security = self._make_security(identity)
        self.rpc = RpcServer(self.local, security=security)
        self._dialer = Dialer(self.local, source_address=settings.source_address, security=security)
        self.client = RpcClient(self._dialer)
        self.membership: Membership
        self._pressing: asyncio.Task[None] | None = None
        self.directory = ServerDirectory(self.members, settings.datacenter, self.node_id)
        self._strangers = Strangers(self.local, self.client, self.directory.others)
        self.driver: RaftDriver | None = None
        self.engine: RaftDriver | ForwardingEngine
        if settings.server:
            driver = self.driver = self.engine = self._make_driver(data, rng, after_apply)
            metrics.read_counter(
                "callboard_raft_state_hashes_compared_total",
                "State hashes of the leader that were compared with our own, and equal.",
                lambda: driver.hashes_compared,
            )
            here = StateHere(store, self.engine)
            self.state_of: StateHere | StateElsewhere = here
            ConsensusService(self.driver).register(self.rpc)
            self.rpc.register(NODE_STATE, here.serve)
        else:
            self.engine = ForwardingEngine(self.client, self.directory.alive, rng=rng)
            self.state_of = StateElsewhere(self.client, self.directory.alive)

    async def start(self) -> None:
        """Listen for rpc (servers), join gossip, run the engine."""
        settings = self._settings
        if settings.server:
            await self.rpc.start(settings.bind_address, settings.ports.server)
        self.membership = Membership(
            self._gossip_settings(), gave_up=lambda: self._fatal(RETRY_EXHAUSTED)
        )
        self.membership.listen(lambda event: self._members_changed())
        self.membership.listen_conflicts(self._name_conflict)
        await self.membership.start()
        self._gossips = True
        self.directory.changed()
        if settings.start_join:
            await self.membership.join(settings.start_join)
        if self.driver is not None:
            self.driver.listen(self._strangers.look)
        await self.engine.start()

    async def leave(self) -> None:
        """Hand leadership over and say goodbye in gossip; the leader then removes this node from
        the catalog."""
        if self.driver is not None and await self.driver.transfer_leadership():
            log.info("leadership handed over before leaving")
        if self._gossips:
            await self.membership.leave()

    async def stop(self) -> None:
        """Stop what was started, the engine first: a leader hands over while rpc and gossip still
        run."""
        if self._pressing is not None:
            self._pressing.cancel()
            await asyncio.gather(self._pressing, return_exceptions=True)
        await self.engine.stop()
        await self._strangers.stop()
        await self.client.stop()
        await self.rpc.stop()
        if self._gossips:
            await self.membership.stop()
        for disk in self._disks:
            disk.close()

    def _members_changed(self) -> None:
        self.directory.changed()
        if self.driver is not None:
            self._strangers.look()

    def members(self) -> list[SerfMember]:
        """Everyone gossip knows, ourselves included."""
        return self.membership.members()

    def _disk(self, folder: str) -> Disk:
        directory = self._settings.data_dir
        disk: Disk = _local_disk(directory / folder) if directory else MemoryDisk()
        self._disks.append(disk)
        return disk

    def _make_security(self, identity: LiveIdentity | None) -> RpcSecurity | None:
        settings, security = self._settings, None
        if identity is not None:
            trust = trust_domain(settings.datacenter, settings.domain)
            security = RpcSecurity(identity, trust)
        self._metrics.read_counter(
            "callboard_rpc_refused_total",
            "What mutual TLS turned away from rpc: at the handshake, by role, by name, or later "
            "(standing).",
            security.figures if security is not None else dict,
            ("why",),
        )
        return security

    def _make_driver(
        self, data: Disk, rng: random.Random, after_apply: Callable[[], None]
    ) -> RaftDriver:
        settings = self._settings
        return RaftDriver(
            ConsensusSettings(
                bootstrap_expect=settings.bootstrap_expect,
                raft_multiplier=settings.raft_multiplier,
            ),
            self.local,
            Surroundings(
                data=data,
                raft=self._disk("raft"),
                state=self._store,
                server=self.rpc,
                client=self.client,
                dialer=self._dialer,
                address_of=self.directory.address_of,
                servers=self.directory.others,
                after_apply=after_apply,
                on_fatal=self._fatal,
                state_hash=self._store.state_hash,
                observe_commit_s=self._metrics.histogram(
                    "callboard_raft_commit_seconds",
                    "From a proposal's append on the leader until it was applied there.",
                ).observe,
                observe_write_s=self._metrics.histogram(
                    "callboard_raft_log_write_seconds",
                    "Of one write of the log, until it was durable.",
                ).observe,
                rng=rng,
            ),
        )

    def _gossip_settings(self) -> GossipSettings:
        settings = self._settings
        tags = AgentTags(
            node_id=self.node_id,
            datacenter=settings.datacenter,
            server=settings.server,
            rpc_port=self.rpc.port if settings.server else 0,
            expect=settings.bootstrap_expect if settings.bootstrap_expect > 1 else 0,
            bootstrap=settings.bootstrap_expect == 1,
        )
        port = settings.ports.serf_lan
        folder = _gossip_folder(settings.data_dir)
        kept_at = keyring_path(settings.data_dir) if settings.data_dir else None
        return GossipSettings(
            name=settings.node_name,
            bind=settings.bind_address,
            port=0 if port == OFF else port,
            advertise=settings.advertise_address,
            source=settings.source_address,
            tags=tags.to_wire(),
            keys=self._gossip_keys(kept_at),
            keyring_path=kept_at,
            retry_join=settings.retry_join,
            retry_interval_s=settings.retry_interval_s,
            retry_max=settings.retry_max,
            rejoin_after_leave=settings.rejoin_after_leave,
            snapshot_path=folder / "local.snapshot" if folder is not None else None,
            profile=self._profile,
            serf=SerfConfig(reconnect_timeout_s=settings.reconnect_timeout_s),
        )

    def _gossip_keys(self, path: Path | None) -> tuple[bytes, ...]:
        """The keyring that was kept, else -encrypt, which is kept from now on.

        Raises ConfigurationError.
        """
        given = self._settings.encrypt_key
        if path is None:
            return (given,) if given else ()
        try:
            kept = read_keyring(path)
            if not kept and given:
                write_keyring(path, (given,))
        except KeyringError as problem:
            raise ConfigurationError(str(problem)) from problem
        except OSError as problem:
            raise ConfigurationError(f"{path}: cannot be written: {problem.strerror}") from problem
        if kept and given and given != kept[0]:
            log.warning(
                "the key given for gossip is not the primary one of the keyring that was kept: "
                "the keyring counts",
                extra={"path": str(path)},
            )
        return kept or ((given,) if given else ())

    def _profile(self, name: str, address: str, port: int) -> SwimConfig:
        gossip = self._settings.gossip
        return replace(
            lan(name, address, port),
            gossip_nodes=gossip.gossip_nodes,
            gossip_interval_s=gossip.gossip_interval_s,
            probe_interval_s=gossip.probe_interval_s,
            probe_timeout_s=gossip.probe_timeout_s,
            retransmit_mult=gossip.retransmit_mult,
            suspicion_mult=gossip.suspicion_mult,
        )

    def _name_conflict(self, conflict: NameConflict) -> None:
        if not (conflict.about_us and conflict.we_are_later):
            return
        if self._contest.lasts_too_long(self._now()):
            self._fatal(
                f"another live agent uses the node name {conflict.name!r}: "
                f"{conflict.other[0]}:{conflict.other[1]}; give this one another name (-node)"
            )
        elif self._pressing is None or self._pressing.done():
            work = self._press(join_address(*conflict.other))
            self._pressing = asyncio.get_running_loop().create_task(work, name="name-contest")

    async def _press(self, address: str) -> None:
        """Ask the holder of our name whether it is still alive, until it is not or we give in."""
        asked_until = self._now() + 2 * Contest.PATIENCE_S
        while self._now() < asked_until:
            await asyncio.sleep(Contest.GAP_S / 3)
            try:
                await self.membership.join([address])
            except JoinError:
                return


class Contest:
    """How long our name has been contested. A replaced machine's old self is still alive to
    others for some seconds, so the first word of a conflict says little."""

    PATIENCE_S = 20.0
    """Longer than gossip takes to declare the former holder of a name dead."""
    GAP_S = 6.0
    """A conflict not heard of for so long is over."""

    def __init__(self) -> None:
        self._since = self._last = float("-inf")

    def lasts_too_long(self, now: float) -> bool:
        """Heard of it again at `now`: whether it is time to give in."""
        if now - self._last > self.GAP_S:
            self._since = now
        self._last = now
        return now - self._since >= self.PATIENCE_S


def _local_disk(path: Path) -> LocalDisk:
    """Open a data directory. Raises ConfigurationError for one that cannot be had."""
    try:
        return LocalDisk(path)
    except DirectoryInUse as problem:
        raise ConfigurationError(f"data_dir: {problem.strerror}") from problem
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise ConfigurationError(f"data_dir: cannot use {path}: {reason}") from problem


def _gossip_folder(data_dir: Path | None) -> Path | None:
    """What gossip keeps over restarts, made if need be."""
    if data_dir is None:
        return None
    folder = data_dir / "serf"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
