"""The seams between the hub's parts: types, and no code.

http, mercure  ──►  Authority (who may)   ──►  Readers.open(Subscription, sink)
               ──►  History.submit (publish)
history (ring + Store)  ──►  readers (what is visible, in order)  ──►  connections
catalog (the feed)      ──►  readers
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from callboard.hub.cursor import CatalogPlace, Cursor, Place
from callboard.hub.event import CatalogEvent, Format, Publication, Update

# ---------------------------------------------------------------------------- matching


class Matcher(Protocol):
    """One expression that names topics. Hashable and immutable: equal texts are equal matchers."""

    @property
    def kind(self) -> str:
        """exact, all (`*`), template (RFC 6570, of drafts up to 07) or urlpattern."""

    @property
    def text(self) -> str:
        """As it was written."""

    def matches(self, topic: str) -> bool:
        """Whether a topic is one of those named; in time that is bounded by the lengths."""


class Grants(Protocol):
    """The topics that a token is good for. Immutable, hashable."""

    def allow(self, topic: str) -> bool: ...

    def covers(self, topics: tuple[str, ...], private: bool) -> bool:
        """Whether an update of these topics may be published."""


class Selector(Protocol):
    """What a stream asks for, and may see: matchers, and the grants for private updates.
    Immutable and hashable: streams that ask the same share one."""

    @property
    def matchers(self) -> tuple[Matcher, ...]: ...

    @property
    def hub(self) -> bool:
        """Whether it can match a topic of the hub's own history."""

    @property
    def catalog(self) -> bool:
        """Whether it names topics of the catalog (/catalog/…, /cluster/…): by exact text, or by a
        pattern that begins so. `*` does not."""

    def wants(self, topics: tuple[str, ...], private: bool) -> bool:
        """Whether an update goes to these streams."""

    def wants_catalog(self, topic: str) -> bool:
        """The same of a catalog topic."""


# ---------------------------------------------------------------------------- authority


@dataclass(frozen=True, slots=True)
class Rights:
    """What a request may do, by its token or without one."""

    publish: Grants | None = None
    subscribe: Grants | None = None
    """For private updates; public ones need none."""
    expires_at: float | None = None
    """Wall time: `exp` of the token. The stream ends by then."""
    subject: str = ""
    payload: object = None
    """Of the token (`mercure.payload`): shown in subscription events."""
    payloads: tuple[tuple[Grants, object], ...] = ()
    """The same of draft 08: the first whose grants allow a subscription's matcher, taken as a
    topic, is that subscription's."""
    draft: int = 0
    """Of Mercure, that the token is written by: 7 (or an earlier one) or 8; 0 without one."""
    token_hash: bytes = b""
    """b"": anonymous. Rates are counted by it."""


# ---------------------------------------------------------------------------- history


class HistoryError(Exception):
    """A publication that was not taken. But for HistoryUncertain nothing of it was seen by
    anybody, nor will be."""


class HistoryFull(HistoryError):
    """The disk is full: publications are refused until it is not (507)."""


class HistoryBusy(HistoryError):
    """Too many publications wait for the disk (503, Retry-After: 1)."""


class HistoryUncertain(HistoryError):
    """The store went away while it took a publication: it may be there or not. To publish again
    with the same Idempotency-Key is safe."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A cursor that the history does not reach back to; told in-band as `hub.gap`."""

    requested: str
    oldest: str
    """The cursor before the oldest update still there."""
    newest: str
    lost: int | None
    """How many updates (of any topic) lie in between; None: not known."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a reader begins."""

    after: int
    """Offset: what is above it is sent."""
    gap: Gap | None = None
    """What is gone already. Whoever is told it knows of all that `trimmed` says at this moment:
    `hub.gap` comes again only for what is taken later."""


Taken = Callable[[Update | HistoryError], None]
"""Told once what became of a publication, on the event loop."""


class History(Protocol):
    """The hub's own updates, in one order. All calls on the event loop."""

    @property
    def epoch(self) -> str: ...

    @property
    def head(self) -> int:
        """Offset of the newest visible update; 0 before the first."""

    @property
    def oldest(self) -> int:
        """Offset of the oldest one kept; head + 1 when none is."""

    def submit(self, publication: Publication, taken: Taken) -> None:
        """Take a publication; `taken` is called once it is acknowledged as `-acknowledge` says, or
        refused; perhaps within this call."""

    def listen(self, visible: Callable[[Sequence[Update]], None]) -> None:
        """Be told of updates as they become visible: each once, in order, without gaps."""

    def recent(self, after: int, bytes_max: int) -> Sequence[Update] | None:
        """The updates that follow `after`, from memory, of no more than about `bytes_max` (at
        least one, if there is one); None if memory does not reach back so far: `read` then."""

    async def read(self, after: int, bytes_max: int) -> Sequence[Update]:
        """The same from the store. What `after` is followed by may meanwhile have been trimmed: the
        first update's offset tells."""

    async def locate(self, cursor: Cursor, selector: Selector | None = None) -> Resume:
        """Where a cursor stands: behind it, with a gap if retention has taken anything since that
        the selector may want (None: anything at all). An unknown id is a gap that begins at the
        oldest; a cursor that says nothing of the history stands at the head."""

    def trimmed(self, selector: Selector) -> int:
        """The highest offset that retention has taken of what a selector may want. After `read`
        (never after `recent`) a reader that was below it has lost updates: a gap, told once for
        each higher value. What lies between may have other updates, which are sent all the same."""

    def gap(self, after: int, upto: int) -> Gap:
        """The gap of a reader at `after`, where `trimmed` says `upto`."""

    async def since(self, time_ms: int) -> int:
        """The offset after which updates are not older than a wall time."""

    async def last(self, count: int, selector: Selector) -> int:
        """The offset after which a selector's last `count` updates follow."""

    def place(self, offset: int) -> Place:
        """An offset with the epoch that it belongs to."""

    async def purge(self, topic: str) -> int:
        """Forget what was published to a topic; how many updates. Who asks for it is audited."""


# ---------------------------------------------------------------------------- catalog


class CatalogTopics(Protocol):
    """The catalog's topics: their values now, and the latest changes. All calls on the loop."""

    @property
    def ready(self) -> bool:
        """Whether there is a catalog. Without one a stream of its topics waits."""

    @property
    def place(self) -> CatalogPlace:
        """Where the values stand."""

    @property
    def oldest(self) -> CatalogPlace:
        """The place after which changes are known."""

    def age_s(self) -> float:
        """How old the copy is; infinite without one."""

    def state(self, selector: Selector) -> Iterator[CatalogEvent | None]:
        """The value of each topic, to be taken in slices; None: nothing yet, but time for others.
        What changes meanwhile comes again: at the end all is as of `place` then, whatever it was
        at the start. Moves no cursor before that. Ends early when the values are replaced."""

    def since(self, place: CatalogPlace, selector: Selector) -> Sequence[CatalogEvent] | None:
        """The changes after a place; None if they are not known: a gap, `state` follows. A place
        may be ahead of this hub: what `listen` tells up to there has been seen elsewhere. Leader
        and members (part 0) are at the end where they may be news, perhaps at each call."""

    def beside(self, selector: Selector) -> Sequence[CatalogEvent]:
        """Leader and members as they are, those that are wanted and known."""

    def listen(self, changed: Callable[[Sequence[CatalogEvent]], None]) -> None:
        """Be told of changes: those of one index together, in order; leader and members alone."""

    def listen_reset(self, reset: Callable[[], None]) -> None:
        """Be told when the first values are there, or when they were replaced (another history of
        the catalog, or changes that are not known one by one): every stream begins with `state`
        again, after a gap."""


# ---------------------------------------------------------------------------- readers


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one stream asks for: parsed, and authorised."""

    selector: Selector
    format: Format = Format.SSE
    cursor: Cursor | None = None
    since_ms: int | None = None
    """Wall time from which to replay; used where there is no cursor."""
    last: int | None = None
    """How many updates to replay; used where there is neither."""
    greets: bool = False
    """Begins with `hub.hello`."""
    beat_s: float = 0.0
    """Between `hub.beat` events; 0: comments keep the connection alive."""
    rights: Rights = field(default_factory=Rights)
    client: str = ""
    """Address of who asks, for limits and the log."""
    id: str = ""
    """Of the subscriber, in the subscriptions API and its events."""
    announcement: object = None
    """What is told there of the stream; None: nothing. Its maker knows the type."""
