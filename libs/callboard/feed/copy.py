"""A copy of the catalog, kept by the feed: what the name server and others answer from.

A copy is `ready` only once a whole snapshot was checked against its end record, or a disk image
was; a new snapshot is built beside the old tables, which serve until it is complete. It never goes
back to a lower index of the same epoch, whatever agent it reads. Pure: `now` is monotonic seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from callboard.catalog.changes import Change
from callboard.catalog.discovery import HealthEntry, Listener
from callboard.catalog.interning import Interner
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.catalog.tables import CatalogTables
from callboard.feed.wire import (
    FORMAT,
    Delta,
    End,
    FeedError,
    Heartbeat,
    Hello,
    Member,
    Members,
    Received,
    Records,
    SnapshotHash,
    read_change,
)

log = logging.getLogger(__name__)

OBJECTS_MAX = 5_000_000
"""Nodes, services and checks together; a larger snapshot is not taken."""


class CatalogCopy:
    """A `DiscoveryView` that a feed, a disk image or polling fills."""

    def __init__(self, datacenter: str = "") -> None:
        """With a datacenter given, a feed of another one is refused."""
        self._tables = CatalogTables()
        self._listeners: dict[Listener, Callable[[], None] | None] = {}
        self._ready = False
        self._datacenter = datacenter
        self._as_of: float | None = None
        self.applied_index = 0
        self.epoch = ""
        """"" while the copy is of no history that could be resumed."""
        self.leader = ""
        self.term = 0
        self.members: tuple[Member, ...] = ()
        self.version = 0
        """Goes up with every change, also with one that leaves the index where it is (a poll's
        answers may come in another order than they were made in)."""
        self.histories = 0
        """How often the copy was replaced by a catalog of another epoch: a cluster that was set up
        anew, or another one behind the same addresses."""

    # -- the view ---------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether a complete catalog is there."""
        return self._ready

    @property
    def datacenter(self) -> str:
        return self._datacenter

    @property
    def tables(self) -> CatalogTables:
        """The tables as they are now; another object after a snapshot."""
        return self._tables

    def node(self, name: str) -> Node | None:
        return self._tables.node(name)

    def nodes(self) -> Sequence[Node]:
        return self._tables.nodes()

    def nodes_at(self, address: str) -> Sequence[Node]:
        return self._tables.nodes_at(address)

    def services_at(self, address: str) -> Sequence[ServiceInstance]:
        return self._tables.services_at(address)

    def service_names(self) -> Mapping[str, tuple[str, ...]]:
        return self._tables.service_names()

    def service_instances(self, name: str) -> Sequence[ServiceInstance]:
        return self._tables.service_instances(name)

    def node_services(self, node: str) -> Sequence[ServiceInstance]:
        return self._tables.node_services(node)

    def node_checks(self, node: str) -> Sequence[Check]:
        return self._tables.node_checks(node)

    def health(self, service: str) -> Sequence[HealthEntry]:
        return self._tables.health(service)

    def listen(self, listener: Listener, *, reset: Callable[[], None] | None = None) -> None:
        self._listeners[listener] = reset

    def unlisten(self, listener: Listener) -> None:
        self._listeners.pop(listener, None)

    # -- how old it is ----------------------------------------------------------------------

    def age_s(self, now: float) -> float:
        """Seconds since the copy was last known to be what the leader had; infinite without a
        copy."""
        return float("inf") if self._as_of is None else max(0.0, now - self._as_of)

    def current_as_of(self, now: float) -> None:
        """The copy is what the leader had at `now`; an older time than known changes nothing."""
        if self._as_of is None or now > self._as_of:
            self._as_of = now

    # -- writers ----------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> None:
        """Make a batch of changes and tell the listeners."""
        made = [each for change in changes if (each := self._tables.apply(change)) is not None]
        if made:
            self.version += 1
            for listener in list(self._listeners):
                listener(made)

    def replace(self, tables: CatalogTables, index: int, *, epoch: str, datacenter: str) -> None:
        """Take another, complete catalog. Raises FeedError if it is older than this one."""
        if self._ready and epoch and epoch == self.epoch and index < self.applied_index:
            raise FeedError(f"index {index} is behind our {self.applied_index}")
        if self._ready and epoch != self.epoch:
            self._warn_of_another_history(tables, index, epoch)
            self.leader, self.term = "", 0
        changes: list[Change] | None = None
        if any(reset is None for reset in self._listeners.values()):
            changes = self._tables.difference(tables, index)
        self._tables = tables
        self.applied_index = index
        self.epoch = epoch
        self._datacenter = datacenter
        self._ready = True
        self.version += 1
        for listener, reset in list(self._listeners.items()):
            if reset is not None:
                reset()
            elif changes:
                listener(changes)

    def reset_listeners(self) -> None:
        """Let those who can begin anew: they may have missed a change."""
        for reset in list(self._listeners.values()):
            if reset is not None:
                reset()

    def _warn_of_another_history(self, tables: CatalogTables, index: int, epoch: str) -> None:
        self.histories += 1
        log.warning(
            "the catalog is of another history: what was known is replaced",
            extra={
                "epoch": epoch,
                "index": index,
                "objects": sum(tables.counts),
                "known_epoch": self.epoch,
                "known_index": self.applied_index,
                "known_objects": sum(self._tables.counts),
            },
        )


class FeedSession:
    """One stream into a copy: what its frames may be, and what they do."""

    def __init__(self, copy: CatalogCopy) -> None:
        self._copy = copy
        self._hello: Hello | None = None
        self._interner = Interner()
        self._building: CatalogTables | None = None
        self._hash = SnapshotHash()
        self._objects = 0

    @property
    def complete(self) -> bool:
        """Whether the copy is what this stream's agent has: resumed, or its snapshot is whole."""
        return self._hello is not None and self._building is None

    @property
    def agent(self) -> str:
        """The node name of the agent that speaks; "" before its HELLO."""
        return self._hello.agent if self._hello else ""

    def receive(self, received: Received, now: float) -> None:
        """Take the next frame. Raises FeedError: the stream is then of no more use."""
        frame = received.frame
        if isinstance(frame, Hello):
            self._greet(frame)
        elif self._hello is None:
            raise FeedError("the stream does not begin with HELLO")
        elif isinstance(frame, Records):
            self._take(frame, received.octets)
        elif isinstance(frame, End):
            self._finish(frame)
        elif isinstance(frame, Members):
            self._copy.members = frame.members
        elif self._building is not None:
            raise FeedError("a change inside the snapshot")
        elif isinstance(frame, Delta):
            self._apply(frame)
        else:
            self._beat(frame, now)

    def _greet(self, hello: Hello) -> None:
        copy = self._copy
        if self._hello is not None:
            raise FeedError("a second HELLO")
        if hello.format != FORMAT:
            raise FeedError(f"format {hello.format} is not known here ({FORMAT} is)")
        if copy.datacenter and hello.datacenter != copy.datacenter:
            raise FeedError(f"the feed is of datacenter {hello.datacenter!r}")
        if hello.resumed and (not copy.ready or hello.epoch != copy.epoch):
            raise FeedError("the stream resumes a copy that is not ours")
        self._hello = hello
        if not hello.resumed:
            self._building = CatalogTables()

    def _take(self, records: Records, octets: bytes) -> None:
        tables = self._building
        if tables is None:
            raise FeedError("records outside a snapshot")
        self._hash.add(records, octets)
        share = self._interner
        for node in records.nodes:
            tables.put_node(share.node(node, node.create_index, node.modify_index))
        for it in records.services:
            tables.put_service(share.service(it, it.node, it.create_index, it.modify_index))
        for check in records.checks:
            share_check = share.check(check, check.node, check.create_index, check.modify_index)
            tables.put_check(share_check)
        self._objects += len(records.nodes) + len(records.services) + len(records.checks)
        if self._objects > OBJECTS_MAX:
            raise FeedError(f"a snapshot of more than {OBJECTS_MAX} objects")

    def _finish(self, end: End) -> None:
        tables, hello = self._building, self._hello
        if tables is None or hello is None:
            raise FeedError("an end without a snapshot")
        if end != self._hash.end(end.index) or tables.counts != (
            end.nodes,
            end.services,
            end.checks,
        ):
            raise FeedError("the snapshot is not what its end record says")
        self._copy.replace(tables, end.index, epoch=hello.epoch, datacenter=hello.datacenter)
        self._building = None

    def _apply(self, delta: Delta) -> None:
        copy = self._copy
        if delta.index <= copy.applied_index:
            return  # known already: the stream was resumed below where we stand
        copy.apply([read_change(change) for change in delta.changes])
        if delta.last:
            copy.applied_index = delta.index

    def _beat(self, beat: Heartbeat, now: float) -> None:
        copy = self._copy
        if beat.term >= copy.term:  # an agent that is behind may know of an older leader
            copy.leader, copy.term = beat.leader, beat.term
        if beat.applied_index < copy.applied_index:
            return  # an agent that is behind says nothing of how fresh we are
        copy.applied_index = beat.applied_index
        copy.current_as_of(now - beat.last_contact_ms / 1000)
