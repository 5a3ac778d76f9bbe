"""The agent's side of the feed: one snapshot for all who ask at the same time, then deltas.

    source = FeedSource(store, cluster)       # once an agent
    source.start()
    stream = source.open(epoch, index)        # once a reader; `serve` starts and cancels it

Nothing is queued per reader: the last changes stand in a ring, encoded once, and a reader has a
place in it. A reader that falls out of the ring is cut; it resumes, or takes a snapshot. Snapshots
are encoded in slices from a pinned version, and kept for a moment for those who come next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from callboard.catalog.changes import Change
from callboard.catalog.discovery import Listener
from callboard.feed.slices import Pinned, record_frames
from callboard.feed.wire import (
    FORMAT,
    Heartbeat,
    Hello,
    Member,
    Members,
    SnapshotHash,
    pack,
    pack_changes,
)

if TYPE_CHECKING:
    from callboard.serve.exchange import StreamConnection

log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S = 1.0
RING_OCTETS_MAX = 8 << 20
RING_BATCHES_MAX = 20_000
SLICE_S = 0.004
"""Longest time on the loop for one slice of a snapshot."""

SNAPSHOT_KEPT_S = 10.0
"""A finished snapshot serves newcomers for so long, with the deltas since."""

READERS_MAX = 1000
CONTACT_MAX_S = 1e9
"""What "never" is told as."""

STALLED_READER_S = 30.0
"""A reader that took nothing for so long is cut."""


class Pinnable(Protocol):
    """The catalog's tables."""

    def pin(self) -> Pinned: ...


class FeedStore(Protocol):
    """What is fed: an agent's state store."""

    @property
    def datacenter(self) -> str: ...

    @property
    def applied_index(self) -> int: ...

    @property
    def tables(self) -> Pinnable: ...

    def listen(self, listener: Listener, *, reset: Callable[[], None] | None = None) -> None: ...

    def unlisten(self, listener: Listener) -> None: ...


@dataclass(frozen=True, slots=True)
class FeedCluster:
    """What an agent knows of its cluster, asked each second."""

    agent: str
    """This agent's node name."""
    epoch: Callable[[], str]
    """Names the history that indexes count in: the cluster's id."""
    leader: Callable[[], str]
    """The leader's address; "" while none is known."""
    term: Callable[[], int]
    last_contact_s: Callable[[], float]
    members: Callable[[], Sequence[Member]]


class FeedSource:
    """All readers of one agent."""

    def __init__(
        self, store: FeedStore, cluster: FeedCluster, *, heartbeat_s: float = HEARTBEAT_INTERVAL_S
    ) -> None:
        self.store = store
        self.cluster = cluster
        self.ring = Ring(store.applied_index)
        self._heartbeat_s = heartbeat_s
        self._readers: set[FeedStream] = set()
        self._snapshot: Snapshot | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._members: tuple[Member, ...] = ()
        self._fed_index = store.applied_index
        self._last_beat_index = store.applied_index
        self.cut = 0
        """Readers cut because they were too slow."""

    def start(self) -> None:
        """Listen to the store and beat. Call on the event loop."""
        self._fed_index = self._last_beat_index = self.store.applied_index
        self.ring.restart(self._fed_index)
        self.store.listen(self._changed, reset=self._reset)
        self._members = tuple(self.cluster.members())
        self._beat()

    def stop(self) -> None:
        """End every stream."""
        if self._timer is not None:
            self._timer.cancel()
        self.store.unlisten(self._changed)
        for reader in list(self._readers):
            reader.end()
        self._drop_snapshot()

    @property
    def readers(self) -> int:
        """How many streams are open."""
        return len(self._readers)

    def open(self, epoch: str = "", index: int = 0) -> FeedStream:
        """A stream for a reader whose copy is of `epoch` and `index` (none: "" and 0).

        Raises TooManyReaders.
        """
        if len(self._readers) >= READERS_MAX:
            raise TooManyReaders
        resumed = epoch == self.cluster.epoch() and index >= self.ring.floor and index > 0
        return FeedStream(self, index if resumed else None)

    def open_for(self, query: Mapping[str, Sequence[str]]) -> FeedStream:
        """The stream a request's query (`?format=&epoch=&index=`) asks for; a nonsensical place is
        that of a new reader.

        Raises UnknownFormat, TooManyReaders.
        """
        wanted = (query.get("format") or [str(FORMAT)])[0]
        if wanted != str(FORMAT):
            raise UnknownFormat(f"unknown feed format {wanted[:20]!r}: this agent writes {FORMAT}")
        index = (query.get("index") or ["0"])[0]
        known = index.isascii() and index.isdecimal() and len(index) < 20
        return self.open((query.get("epoch") or [""])[0], int(index) if known else 0)

    # -- for its streams --------------------------------------------------------------------

    def add(self, reader: FeedStream) -> None:
        """A stream was started."""
        self._readers.add(reader)

    def remove(self, reader: FeedStream) -> None:
        """A stream has ended."""
        self._readers.discard(reader)

    def snapshot(self) -> Snapshot:
        """The snapshot to send now: one under way, one just made, or a new one."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.expired or snapshot.index < self.ring.floor:
            self._drop_snapshot()  # (whoever reads one below the floor has been cut)
            self._snapshot = snapshot = Snapshot(self.store)
        return snapshot

    def hello(self, *, resumed: bool) -> bytes:
        """The HELLO frame of a stream that begins now."""
        epoch, index = self.cluster.epoch(), self.store.applied_index
        return pack(Hello(FORMAT, epoch, index, resumed, self.store.datacenter, self.cluster.agent))

    def members_frame(self) -> bytes:
        """The MEMBERS frame of now."""
        return pack(Members(tuple(self.cluster.members())))

    def heartbeat(self) -> bytes:
        """The HEARTBEAT frame of now.

        Its index is one up to which every change is known to be in the ring: a store may have
        applied more than it has told us, and a reader would take that for received.
        """
        cluster = self.cluster
        contact_ms = int(min(cluster.last_contact_s(), CONTACT_MAX_S) * 1000)
        return pack(Heartbeat(cluster.leader(), cluster.term(), self._fed_index, contact_ms))

    # -- events -----------------------------------------------------------------------------

    def _changed(self, changes: Sequence[Change]) -> None:
        index = self._fed_index = max(self.store.applied_index, changes[-1].index)
        self.ring.append(index, pack_changes(index, list(changes)))
        for reader in list(self._readers):
            reader.advance()

    def _reset(self) -> None:
        """The whole store was replaced: every copy has to be taken anew."""
        self._fed_index = self._last_beat_index = self.store.applied_index
        self.ring.restart(self._fed_index)
        for reader in list(self._readers):
            reader.end()
        self._drop_snapshot()

    def _drop_snapshot(self) -> None:
        """Give up the snapshot, and what of it is not encoded yet."""
        if self._snapshot is not None:
            self._snapshot.cancel()
            self._snapshot = None

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._heartbeat_s, self._beat)
        if self._snapshot is not None and self._snapshot.expired:
            self._drop_snapshot()
        # changes are told within milliseconds: what was applied a beat ago is in the ring
        self._fed_index = max(self._fed_index, self._last_beat_index)
        self._last_beat_index = self.store.applied_index
        if not self._readers:
            return
        beat = self.heartbeat()
        members = tuple(self.cluster.members())
        if members != self._members:
            self._members = members
            beat = pack(Members(members)) + beat
        for reader in list(self._readers):
            reader.beat(beat)


class UnknownFormat(Exception):
    """The reader wants frames of a format that is not written here."""


class TooManyReaders(Exception):
    """`READERS_MAX` streams are open."""


class Ring:
    """The last changes, encoded, in log order; bounded in batches and octets."""

    def __init__(self, index: int) -> None:
        self.floor = index
        """A copy at this index or above can be brought up from here."""
        self.first = 0
        """The place of the oldest batch kept; places count up and are never used again."""
        self._batches: deque[tuple[int, bytes]] = deque()
        self._octets = 0

    @property
    def end(self) -> int:
        """The place of the next batch."""
        return self.first + len(self._batches)

    def restart(self, index: int) -> None:
        """Forget everything: what follows is on top of `index`."""
        self.first = self.end + 1  # whoever has a place falls out
        self._batches.clear()
        self._octets = 0
        self.floor = index

    def append(self, index: int, octets: bytes) -> None:
        """The next batch; the oldest go if there are too many."""
        self._batches.append((index, octets))
        self._octets += len(octets)
        while self._octets > RING_OCTETS_MAX or len(self._batches) > RING_BATCHES_MAX:
            self.floor, dropped = self._batches.popleft()
            self._octets -= len(dropped)
            self.first += 1

    def place_after(self, index: int) -> int:
        """Where a copy at `index` (not below the floor) goes on."""
        low, high = 0, len(self._batches)
        while low < high:
            middle = (low + high) // 2
            if self._batches[middle][0] <= index:
                low = middle + 1
            else:
                high = middle
        return self.first + low

    def at(self, place: int) -> bytes:
        """The batch at a place between `first` and `end`."""
        return self._batches[place - self.first][1]


class Snapshot:
    """One pinned version, encoded in slices while its readers take what is there."""

    def __init__(self, store: FeedStore) -> None:
        pinned = store.tables.pin()
        self.index = store.applied_index
        self.chunks: list[bytes] = []
        self.done = False
        self._finished_at = 0.0
        self._waiting: list[Callable[[], None]] = []
        self._slices = record_frames(pinned)
        self._hash = SnapshotHash()
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._encode)

    @property
    def expired(self) -> bool:
        """Whether it is done and too old for newcomers."""
        return self.done and self._loop.time() - self._finished_at > SNAPSHOT_KEPT_S

    def when_more(self, callback: Callable[[], None]) -> None:
        """Call back once there are more chunks, or the last."""
        self._waiting.append(callback)

    def cancel(self) -> None:
        """Stop encoding."""
        self._handle.cancel()

    def _encode(self) -> None:
        until = time.perf_counter() + SLICE_S
        while not self.done:
            records = next(self._slices, None)
            if records is None:
                self.chunks.append(pack(self._hash.end(self.index)))
                self._finished_at = self._loop.time()
                self.done = True
            else:
                octets = pack(records)
                self._hash.add(records, octets)
                self.chunks.append(octets)
            if time.perf_counter() >= until:
                break
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
        if not self.done:
            self._handle = self._loop.call_later(0, self._encode)


class FeedStream:
    """One reader: a place in the snapshot, then a place in the ring."""

    def __init__(self, source: FeedSource, resume_at: int | None) -> None:
        self._source = source
        self._resume_at = resume_at
        self._connection: StreamConnection | None = None
        self._snapshot: Snapshot | None = None
        self._chunk = 0
        self._place = 0
        self._blocked_since: float | None = None
        self._up_to_date = False

    def start(self, connection: StreamConnection) -> None:
        """Begin to write."""
        source = self._source
        self._connection = connection
        source.add(self)
        resumable = self._resume_at is not None and self._resume_at >= source.ring.floor
        head = source.hello(resumed=resumable)
        if resumable and self._resume_at is not None:
            self._up_to_date = True  # its copy has an age: it can wait for the next beat
            self._place = source.ring.place_after(self._resume_at)
            if self._write(head + source.members_frame()):
                self._follow()
            return
        self._snapshot = source.snapshot()
        # the ring goes on from where the snapshot was pinned
        self._place = source.ring.place_after(self._snapshot.index)
        if self._write(head + source.members_frame()):
            self._send_snapshot()

    def cancel(self) -> None:
        """The client has gone, or the server drains."""
        self._connection = None
        self._source.remove(self)

    def end(self) -> None:
        """Close the stream from our side."""
        connection = self._connection
        self.cancel()
        if connection is not None:
            connection.close()

    def advance(self) -> None:
        """There is a new batch in the ring."""
        if self._snapshot is None and self._blocked_since is None:
            self._follow()
        elif self._place < self._source.ring.first:
            self._cut("fell out of the ring")

    def beat(self, octets: bytes) -> None:
        """A second has passed: say so, if the reader is up to date; cut one that has stalled."""
        loop = asyncio.get_running_loop()
        if self._blocked_since is not None:
            if loop.time() - self._blocked_since > STALLED_READER_S:
                self._cut("takes nothing")
        elif self._snapshot is None:
            self._write(octets)

    # -- writing ----------------------------------------------------------------------------

    def _send_snapshot(self) -> None:
        snapshot = self._snapshot
        if snapshot is None or self._connection is None:
            return
        while self._chunk < len(snapshot.chunks):
            chunk = snapshot.chunks[self._chunk]
            self._chunk += 1
            if not self._write(chunk):
                return
        if snapshot.done:
            self._snapshot = None
            self._follow()
        else:
            snapshot.when_more(self._send_snapshot)

    def _follow(self) -> None:
        """Send what is new in the ring; behind a snapshot a heartbeat, which tells its age."""
        ring = self._source.ring
        while self._connection is not None and self._place < ring.end:
            if self._place < ring.first:
                self._cut("fell out of the ring")
                return
            batch = ring.at(self._place)
            self._place += 1
            if not self._write(batch):
                return
        if not self._up_to_date:
            self._up_to_date = True
            self._write(self._source.heartbeat())

    def _write(self, octets: bytes) -> bool:
        """Write; False if the rest has to wait (or the stream is over)."""
        connection = self._connection
        if connection is None:
            return False
        if connection.write(octets):
            return True
        self._blocked_since = asyncio.get_running_loop().time()
        connection.on_drain(self._drained)
        return False

    def _drained(self) -> None:
        if self._connection is None:
            return
        self._blocked_since = None
        if self._snapshot is not None:
            self._send_snapshot()
        else:
            self._follow()

    def _cut(self, why: str) -> None:
        self._source.cut += 1
        log.warning("a reader of the feed was cut", extra={"why": why})
        connection = self._connection
        self.cancel()
        if connection is not None:
            connection.abort()
