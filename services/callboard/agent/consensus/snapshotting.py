"""Makes snapshots of the own state, streams them to members too far behind, installs received ones.

The loop gives at most 5 ms at a time to making one; writing is the snapshots' thread's. Which
snapshot counts is the log's word: its record is written after the file is durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator

from callboard.agent.consensus.member import RaftMember
from callboard.agent.consensus.network import Network
from callboard.agent.consensus.settings import ConsensusSettings
from callboard.agent.consensus.snapshots import SnapshotWriter
from callboard.agent.consensus.transfer import SnapshotInbox
from callboard.agent.ports import StateMachine
from callboard.raft.messages import Message, SnapshotMetadata

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Between two attempts to send a snapshot to the same member."""


class Snapshotting:
    """The snapshots of one running member."""

    def __init__(
        self,
        settings: ConsensusSettings,
        state: StateMachine,
        inbox: SnapshotInbox,
        network: Network,
        latest: SnapshotMetadata | None,
    ) -> None:
        self._settings = settings
        self._state = state
        self._inbox = inbox
        self._network = network
        self._latest_index = latest.index if latest is not None else 0
        self._member: RaftMember | None = None
        self._making: asyncio.Task[None] | None = None
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(self, member: RaftMember) -> None:
        """The member whose state this is."""
        self._member = member

    @property
    def latest_index(self) -> int:
        """Index of the last snapshot."""
        return self._latest_index

    def applied(self, index: int) -> None:
        """The applied index moved: perhaps it is time for a snapshot."""
        if self._member is None or self._making is not None:
            return
        log_of_member = self._member.core.log
        first = max(self._latest_index, log_of_member.offset) + 1
        if index < first:
            return
        if (
            index - self._latest_index >= self._settings.snapshot_threshold
            or log_of_member.bytes_between(first, index) >= self._settings.snapshot_bytes
        ):
            self.begin()

    def begin(self) -> None:
        """Pin the state as it is now, and write it while applying goes on."""
        member = self._member
        if member is None or self._making is not None:
            return
        metadata = SnapshotMetadata(
            member.applier.applied,
            member.applier.applied_term,
            member.core.membership.configuration,
        )
        # The first chunk is asked for here: a generator pins nothing before that.
        chunks = self._state.snapshot()
        first = next(chunks, b"")
        self._making = self._own(self._make(member, metadata, first, chunks))

    async def stop(self) -> None:
        """Give up what is under way; a half-made file is removed at the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Making --------------------------------------------------------------------------------

    async def _make(
        self,
        member: RaftMember,
        metadata: SnapshotMetadata,
        first: bytes,
        chunks: Iterator[bytes],
    ) -> None:
        try:
            writer = await self._inbox.run(self._inbox.store.begin, metadata)
            await self._write(writer, first, chunks)
        except OSError as problem:
            member.fail(problem)
            return
        finally:
            self._making = None
        if metadata.index <= self._latest_index or member.dead:
            return  # A leader's snapshot overtook ours.
        self._latest_index = metadata.index
        member.writer.compact(metadata, lambda: self._compacted(member, metadata))

    async def _write(self, writer: SnapshotWriter, first: bytes, chunks: Iterator[bytes]) -> None:
        try:
            await self._inbox.run(writer.add, first)
            for chunk in chunks:
                await self._inbox.run(writer.add, chunk)
            await self._inbox.run(writer.finish)
        except BaseException:
            writer.close()
            raise

    def _compacted(self, member: RaftMember, metadata: SnapshotMetadata) -> None:
        keep_from = max(1, metadata.index + 1 - self._settings.snapshot_trailing)
        try:
            kept_from = member.core.compact(metadata, keep_from)
        except Exception as problem:
            member.fail(problem)
            return
        log.info("snapshot written", extra={"index": metadata.index, "log_kept_from": kept_from})
        self._own(self._remove_older(metadata))

    async def _remove_older(self, metadata: SnapshotMetadata) -> None:
        try:
            await self._inbox.run(self._inbox.store.remove_older, metadata)
        except OSError as problem:
            log.warning("cannot remove an old snapshot", extra={"reason": str(problem)})

    # Sending -------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Stream the snapshot of a SNAPSHOT message; one stream per member."""
        if message.receiver not in self._sending:
            self._sending[message.receiver] = self._own(self._send(message))

    async def _send(self, message: Message) -> None:
        peer = message.receiver
        delivered = False
        try:
            delivered = await self._network.send_snapshot(message, self._inbox)
            if not delivered:
                # Until this is reported the core sends no other: a dead peer is not stormed.
                await asyncio.sleep(RETRY_S)
        finally:
            del self._sending[peer]
            if self._member is not None and not self._member.dead:
                self._member.core.report_snapshot(peer, delivered)
                self._member.schedule()
        assert message.snapshot is not None
        log.info(
            "snapshot sent" if delivered else "snapshot not delivered",
            extra={"peer": peer, "index": message.snapshot.index},
        )

    # Installing ----------------------------------------------------------------------------

    def install(self, metadata: SnapshotMetadata) -> None:
        """Replace log and state by a received snapshot (I10)."""
        self._latest_index = max(self._latest_index, metadata.index)
        self._own(self._install(metadata))

    async def _install(self, metadata: SnapshotMetadata) -> None:
        member = self._member
        assert member is not None
        try:
            # Read and checked before the log is given up for it.
            chunks = await self._inbox.run(lambda: list(self._inbox.store.chunks(metadata)))
        except Exception as problem:
            member.fail(problem)
            return
        reset = asyncio.Event()
        member.writer.reset(metadata, reset.set)
        await reset.wait()
        await member.installed(metadata, iter(chunks))
        if member.dead:
            return
        log.info("snapshot installed", extra={"index": metadata.index, "term": metadata.term})
        await self._remove_older(metadata)

    def _own(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
