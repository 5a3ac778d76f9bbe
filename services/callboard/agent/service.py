"""An agent's life: what starts in which order, and stops in the reverse.

    disks, identity           who we are; another process on the directory is found here
    rpc, gossip, engine       so that others find us before we are asked anything
    local registry            what the data directory and the files announce
    http, dns                 answer 500 and SERVFAIL until the catalog is loaded
    health                    tells when it is

On the way out the listeners go first, then the registry's last words are written, then leadership
is handed over, then gossip falls silent. A server that leaves for good says goodbye before all that
and goes on answering for a while (`leave_drain_time`), so that nobody comes to a closed door.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from callboard.agent.checks.clock import Clock, LoopClock, MovableClock
from callboard.agent.cluster import Cluster
from callboard.agent.configuration import Built, load_definitions, reread
from callboard.agent.configuration.gossip_key import with_gossip_key
from callboard.agent.consensus.identity import IdentityError
from callboard.agent.consensus.records import LogCorrupt
from callboard.agent.consensus.segment_log import ForeignLog, LogFailed
from callboard.agent.consensus.snapshots import SnapshotCorrupt
from callboard.agent.front import Front
from callboard.agent.health import AgentHealth
from callboard.agent.local.anti_entropy import AntiEntropy
from callboard.agent.local.journal import LocalJournal
from callboard.agent.local.node import describe_node
from callboard.agent.local.persistence import CheckStates
from callboard.agent.local.registry import LocalRegistry
from callboard.agent.maintenance import Maintenance
from callboard.agent.membership.errors import MembershipError
from callboard.agent.membership.reconciler import Reconciler, Timing
from callboard.agent.ports import LocalError
from callboard.agent.settings import AgentSettings, Ports, development
from callboard.agent.state.snapshot import SnapshotError
from callboard.agent.state.store import StateStore
from callboard.catalog.definitions import Definitions
from callboard.catalog.objects import Node
from callboard.chassis import lifecycle, logs
from callboard.chassis.identity import open_identity
from callboard.chassis.metrics import Metrics
from callboard.chassis.standing import judge_standing
from callboard.pki.live import Judge, LiveIdentity
from callboard.raft.errors import InvariantBroken, UnsupportedEntry

log = logging.getLogger(__name__)

SETTLE_TIMEOUT_S = 5.0

REFUSALS = (
    OSError,
    ValueError,
    IdentityError,
    LogCorrupt,
    ForeignLog,
    LogFailed,
    SnapshotCorrupt,
    SnapshotError,
    InvariantBroken,
    UnsupportedEntry,
    MembershipError,
    LocalError,
)
"""Why an agent may not start: the text of each tells a person all there is to know. (ValueError is
what guards raise for settings; ConfigurationError is one.)"""


class Agent:
    """One agent. `start`, then `stop`; create it within the running event loop."""

    def __init__(
        self,
        settings: AgentSettings,
        definitions: Definitions | None = None,
        *,
        clock: Clock | None = None,
        fatal: Callable[[str], None] = log.critical,
        ended: Callable[[], None] = lambda: None,
        metrics: Metrics | None = None,
        identity: LiveIdentity | None = None,
    ) -> None:
        """`fatal` is told why the process must leave; `ended` that a leave asks it to stop;
        `identity` is how it proves itself to others, who are then asked to do the same."""
        self.settings = settings
        self._definitions = definitions or Definitions()
        self._fatal = fatal
        self._ended = ended
        self._left = False
        self._drained_at = 0.0
        """The loop's time until which a server that leaves goes on answering."""
        self._ready = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        rng = random.SystemRandom()
        self.clock = clock or LoopClock()
        self.store = StateStore(settings.datacenter)
        self.front = Front(settings, self.store, rng=rng, metrics=metrics, identity=identity)
        self.cluster = Cluster(
            settings,
            self.store,
            rng=rng,
            after_apply=self.front.wake,
            fatal=fatal,
            metrics=self.front.metrics,
            identity=identity,
        )
        self._journal = LocalJournal(settings.data_dir, on_fatal=fatal)
        self._states = CheckStates(self._journal, time.time)
        self.local = self._make_registry(rng)
        self.local.on_critical_too_long = self._reap
        self._node_meta = dict(settings.node_meta)
        self._anti_entropy = AntiEntropy(
            engine=self.cluster.engine,
            registry=self.local,
            node=self.node,
            fetch=lambda: self.cluster.state_of.fetch(settings.node_name),
            members=lambda: self.cluster.directory.count,
            server=settings.server,
            rng=rng,
        )
        self._reconciler = Reconciler(
            catalog=self.store,
            engine=self.cluster.engine,
            members=self.cluster.members,
            datacenter=settings.datacenter,
            now=time.monotonic,
            rng=rng,
            timing=Timing(reconnect_timeout_s=settings.reconnect_timeout_s),
        )
        self._maintenance = Maintenance(self.store, self.cluster.engine, time.monotonic)
        self._health = AgentHealth(settings, self.front.metrics, self.store, self.cluster)

    def _make_registry(self, rng: random.Random) -> LocalRegistry:
        settings = self.settings
        return LocalRegistry(
            node_name=settings.node_name,
            journal=self._journal,
            states=self._states,
            clock=self.clock,
            rng=rng,
            output_interval_s=settings.check_update_interval_s,
            output_bytes_max=settings.check_output_bytes_max,
            discard_output=settings.discard_check_output,
        )

    @property
    def http_port(self) -> int:
        """The HTTP API's port."""
        return self.front.http_port

    @property
    def dns_port(self) -> int:
        """The DNS port, UDP and TCP."""
        return self.front.dns_port

    def node(self) -> Node:
        """This agent's node as the catalog shall have it."""
        return describe_node(
            name=self.settings.node_name,
            node_id=self.cluster.node_id,
            address=self.cluster.membership.local_member.address,
            datacenter=self.settings.datacenter,
            meta=self._node_meta,
        )

    def judge(self, judge: Judge) -> None:
        """Hang up on those whose certificate is not accepted any more."""
        self.front.judge(judge)
        if self.cluster.security is not None:
            self.cluster.security.judge(judge)

    async def start(self) -> None:
        """Start everything; returns without waiting for a leader. Raises what cannot be started."""
        await self.cluster.start()
        if self.cluster.driver is not None:
            self.cluster.driver.listen(self._engine_changed)
            self.cluster.membership.listen(lambda event: self._reconciler.poke())
            self._reconciler.start()
            self._maintenance.start()
            self._engine_changed()
        else:
            self.cluster.engine.listen(self._anti_entropy.request_full)
        self.local.attach(self._anti_entropy)
        self._states.load()
        self.local.load(self._definitions)
        self._states.start()
        self._anti_entropy.start()
        await self.front.start(self.cluster, self.local, reload=self.reload, leave=self.leave)
        await self._health.start()

    async def stop(self) -> None:
        """Stop everything that was started, in the order that the module tells."""
        await asyncio.sleep(self._drained_at - asyncio.get_running_loop().time())
        await self._health.stop()
        await self.front.stop()
        await self._anti_entropy.stop()
        await self._reconciler.stop()
        await self._maintenance.stop()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.local.runner.close()
        await self._states.stop()
        self._journal.close()
        await self.cluster.stop()

    async def leave(self) -> None:
        """Leave the cluster for good; the process is asked to stop once the answer is out.

        A server then dwells (Consul: performance.leave_drain_time, from here on), so that what is
        on its way to it is still answered.
        """
        if not self._left:
            self._left = True
            loop = asyncio.get_running_loop()
            if self.settings.server:
                self._drained_at = loop.time() + self.settings.leave_drain_time_s
            await self.cluster.leave()
            loop.call_later(0.1, self._ended)

    async def reload(self) -> None:
        """Read the configuration files again: definitions, node meta, log level.

        Raises ConfigurationError; the agent then goes on as it was.
        """
        if self.settings.command_line:
            built = reread(self.settings)
            self._node_meta = dict(built.settings.node_meta)
            logs.set_level(built.settings.log_level)
            definitions = built.definitions
        else:
            definitions = load_definitions(self.settings)
        await self.local.reload(definitions)
        self._anti_entropy.request_full()
        log.info("reloaded")

    async def settle(self) -> None:
        """Wait until the engine is ready and what is registered here is in the catalog."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            await self._ready.wait()
            await self._anti_entropy.flush(SETTLE_TIMEOUT_S)

    def _engine_changed(self) -> None:
        driver = self.cluster.driver
        assert driver is not None
        if driver.ready and not self.store.ready:
            self._anti_entropy.request_full()
            self._ready.set()
        self.store.ready = driver.ready
        self.store.epoch = driver.cluster_id
        self._reconciler.poke()

    def _reap(self, service_id: str) -> None:
        self._spawn(self._deregister(service_id))

    async def _deregister(self, service_id: str) -> None:
        try:
            await self.local.deregister_service(service_id)
        except LocalError as problem:
            log.warning("not deregistered", extra={"service": service_id, "error": str(problem)})

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def for_tests(node: str, datacenter: str) -> Agent:
    """A small agent for a test in the same process: in memory, on ports the system chooses, with
    a clock that can be moved. Used by `callboard.testing`."""
    settings = replace(
        development(node),
        datacenter=datacenter,
        ports=Ports(http=0, dns=0, server=0, serf_lan=0),
    )
    return Agent(settings, clock=MovableClock(asyncio.get_running_loop()))


def run(built: Built) -> int:
    """The program `callboard agent`: run until a signal; the exit code."""

    async def start(life: lifecycle.Lifecycle) -> None:
        settings, metrics = built.settings, Metrics()
        identity = await open_identity(
            settings.identity, settings.node_name, life, metrics, [settings.advertise_address]
        )
        try:
            settings = with_gossip_key(settings)
            agent = Agent(
                settings,
                built.definitions,
                fatal=life.fatal,
                ended=lambda: life.stop("left"),
                metrics=metrics,
                identity=identity,
            )
        except REFUSALS as problem:
            raise lifecycle.StartRefused(str(problem)) from problem

        async def stop() -> None:
            if _leaves_by(life.signal, settings):
                await agent.leave()
            await agent.stop()
            if settings.pid_file is not None:
                settings.pid_file.unlink(missing_ok=True)

        life.on_stop("agent", stop, deadline_s=settings.leave_drain_time_s + 15.0)
        life.on_reload(agent.reload)
        try:
            await agent.start()
        except REFUSALS as problem:
            raise lifecycle.StartRefused(str(problem)) from problem
        judge_standing(life, identity, agent.judge)
        lifecycle.calm_collector()
        _write_pid(settings)
        log.info(
            "agent runs",
            extra={
                "node": settings.node_name,
                "node_id": agent.cluster.node_id,
                "server": settings.server,
                "datacenter": settings.datacenter,
                "http": agent.http_port,
            },
        )

    return lifecycle.run(start)


def _leaves_by(signal_name: str, settings: AgentSettings) -> bool:
    if signal_name == "SIGINT":
        return not settings.skip_leave_on_interrupt
    return signal_name == "SIGTERM" and settings.leave_on_terminate


def _write_pid(settings: AgentSettings) -> None:
    if settings.pid_file is not None:
        try:
            settings.pid_file.write_text(f"{os.getpid()}\n")
        except OSError as problem:
            print(f"pid file not written: {problem}", file=sys.stderr)
