"""The agent's side: snapshot, resume, deltas, slow readers."""

from __future__ import annotations

import asyncio

import pytest
from tests.harness.eventually import eventually
from tests.harness.farm import Farm, article_farm
from tests.harness.feeding import FakeCluster, RecordingConnection

from callboard.feed import slices as slices_module
from callboard.feed import source as source_module
from callboard.feed.copy import CatalogCopy, FeedSession
from callboard.feed.source import FeedSource, Ring, TooManyReaders, UnknownFormat
from callboard.feed.wire import Frame, FrameReader, Heartbeat, Hello, Members


def frames(connection: RecordingConnection) -> list[Frame]:
    return [received.frame for received in FrameReader().feed(bytes(connection.octets))]


def kinds(connection: RecordingConnection) -> list[str]:
    return [type(frame).__name__ for frame in frames(connection)]


class Reader:
    """A copy behind a recording connection."""

    def __init__(self, source: FeedSource, copy: CatalogCopy | None = None) -> None:
        self.copy = copy or CatalogCopy()
        self.connection = RecordingConnection()
        self.stream = source.open(self.copy.epoch, self.copy.applied_index)
        self.stream.start(self.connection)
        self._session = FeedSession(self.copy)
        self._frames = FrameReader()
        self._taken = 0

    def take(self) -> CatalogCopy:
        """Read what was written."""
        octets = bytes(self.connection.octets[self._taken :])
        self._taken += len(octets)
        for received in self._frames.feed(octets):
            self._session.receive(received, 1.0)
        return self.copy


def started(farm: Farm, cluster: FakeCluster | None = None) -> FeedSource:
    source = FeedSource(farm, (cluster or FakeCluster()).seam(), heartbeat_s=0.02)
    source.start()
    return source


async def test_new_reader_gets_everything_and_then_the_changes() -> None:
    farm = article_farm()
    source = started(farm)
    reader = Reader(source)
    await eventually(lambda: reader.take().ready)
    assert reader.copy.tables.counts == farm.tables.counts
    farm.service_on("agent-2", "late")
    assert [e.node.name for e in reader.take().health("late")] == ["agent-2"]
    assert reader.copy.applied_index == farm.applied_index
    source.stop()


async def test_stream_begins_with_hello_and_ends_its_snapshot_with_a_heartbeat() -> None:
    source = started(article_farm())
    reader = Reader(source)
    await eventually(lambda: "Heartbeat" in kinds(reader.connection))
    assert kinds(reader.connection)[:2] == ["Hello", "Members"]
    found = kinds(reader.connection)
    assert found[found.index("End") + 1] == "Heartbeat"
    source.stop()


async def test_reader_resumes_where_it_was() -> None:
    farm = article_farm()
    source = started(farm)
    first = Reader(source)
    await eventually(lambda: first.take().ready)
    first.stream.cancel()
    farm.service_on("agent-2", "late")
    again = Reader(source, first.copy)
    await eventually(lambda: again.take().health("late"))
    hello = frames(again.connection)[0]
    assert isinstance(hello, Hello)
    assert hello.resumed
    assert "Records" not in kinds(again.connection)
    source.stop()


async def test_resumed_stream_has_nothing_to_say_before_a_change_or_the_next_beat() -> None:
    source = FeedSource(article_farm(), FakeCluster().seam(), heartbeat_s=60)
    source.start()
    first = Reader(source)
    await eventually(lambda: first.take().ready)
    first.stream.cancel()
    again = Reader(source, first.copy)
    assert kinds(again.connection) == ["Hello", "Members"]
    source.stop()


@pytest.mark.parametrize(("epoch", "index"), [("other", 50), ("epoch-1", 1), ("epoch-1", 0)])
async def test_reader_of_another_epoch_or_too_old_gets_a_snapshot(epoch: str, index: int) -> None:
    source = started(article_farm())
    stream = source.open(epoch, index)
    connection = RecordingConnection()
    stream.start(connection)
    await eventually(lambda: "End" in kinds(connection))
    source.stop()


async def test_reader_ahead_of_the_agent_waits_for_it() -> None:
    farm = article_farm()
    source = started(farm)
    copy = CatalogCopy()
    reader = Reader(source, copy)
    await eventually(lambda: reader.take().ready)
    reader.stream.cancel()
    copy.applied_index += 2
    again = Reader(source, copy)
    farm.service_on("agent-2", "known")  # the change the copy has already, from another agent
    assert not again.take().health("known")
    farm.service_on("agent-2", "new")
    assert again.take().health("new")
    source.stop()


async def test_readers_at_the_same_time_share_one_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices_module, "OBJECTS_PER_FRAME_MAX", 2)
    monkeypatch.setattr(source_module, "SLICE_S", 0.0)
    source = started(article_farm())
    readers = [Reader(source) for _ in range(5)]
    snapshot = source.snapshot()
    for reader in readers:
        await eventually(lambda reader=reader: reader.take().ready)  # type: ignore[misc]
    assert source.snapshot() is snapshot
    source.stop()


async def test_change_during_a_snapshot_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices_module, "OBJECTS_PER_FRAME_MAX", 1)
    monkeypatch.setattr(source_module, "SLICE_S", 0.0)
    farm = article_farm()
    source = started(farm)
    reader = Reader(source)
    farm.node_at("agent-4", "10.4.4.4")
    farm.remove_service("agent-1", "web")
    await eventually(lambda: reader.take().applied_index == farm.applied_index)
    node = reader.copy.node("agent-4")
    assert node is not None
    assert node.address == "10.4.4.4"
    assert len(reader.copy.health("web")) == 1
    source.stop()


async def test_reader_that_is_full_goes_on_after_it_has_read() -> None:
    farm = article_farm()
    source = started(farm)
    reader = Reader(source)
    await eventually(lambda: reader.take().ready)
    reader.connection.full = True
    for number in range(5):
        farm.service_on("agent-2", f"s{number}")
    assert not reader.take().health("s4")
    reader.connection.drain()
    assert reader.take().health("s4")
    source.stop()


async def test_reader_that_falls_out_of_the_ring_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "RING_BATCHES_MAX", 3)
    farm = article_farm()
    source = started(farm)
    reader = Reader(source)
    await eventually(lambda: reader.take().ready)
    reader.connection.full = True
    for number in range(10):
        farm.service_on("agent-2", f"s{number}")
    assert reader.connection.closed == "aborted"
    assert source.cut == 1
    assert source.readers == 0
    source.stop()


async def test_reader_that_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "STALLED_READER_S", 0.05)
    farm = article_farm()
    source = started(farm)
    reader = Reader(source)
    await eventually(lambda: reader.take().ready)
    reader.connection.full = True
    farm.service_on("agent-2", "s")
    await eventually(lambda: reader.connection.closed == "aborted")
    source.stop()


async def test_replaced_store_ends_every_stream_and_then_gives_snapshots() -> None:
    farm = article_farm()
    source = started(farm)
    reader = Reader(source)
    await eventually(lambda: reader.take().ready)
    farm.replace(Farm().tables, farm.applied_index + 5, epoch="test", datacenter="dc1")
    assert reader.connection.closed == "closed"
    again = Reader(source, reader.copy)
    await eventually(lambda: "End" in kinds(again.connection))
    again.take()
    assert again.copy.tables.counts == (0, 0, 0)
    source.stop()


async def test_replaced_store_ends_the_snapshot_that_is_being_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices_module, "OBJECTS_PER_FRAME_MAX", 1)
    monkeypatch.setattr(source_module, "SLICE_S", 0.0)
    farm = article_farm()
    source = started(farm)
    Reader(source)
    given_up = source.snapshot()
    begun = asyncio.Event()
    given_up.when_more(begun.set)
    await begun.wait()
    assert not given_up.done
    farm.replace(Farm().tables, farm.applied_index + 5, epoch="test", datacenter="dc1")
    made = len(given_up.chunks)
    reader = Reader(source)
    await eventually(lambda: reader.take().ready)
    assert len(given_up.chunks) == made
    source.stop()


async def test_heartbeat_says_who_leads_and_how_old_that_is() -> None:
    cluster = FakeCluster()
    cluster.last_contact_s = float("inf")
    source = started(article_farm(), cluster)
    reader = Reader(source)
    await eventually(lambda: kinds(reader.connection).count("Heartbeat") >= 2)
    beats = [frame for frame in frames(reader.connection) if isinstance(frame, Heartbeat)]
    assert beats[-1].leader == "10.0.0.1:8300"
    assert beats[-1].last_contact_ms == 10**12
    source.stop()


async def test_members_are_sent_when_they_change() -> None:
    cluster = FakeCluster()
    source = started(article_farm(), cluster)
    reader = Reader(source)
    await eventually(lambda: kinds(reader.connection).count("Heartbeat") >= 3)
    before = kinds(reader.connection).count("Members")
    cluster.members = ()
    await eventually(lambda: kinds(reader.connection).count("Members") == before + 1)
    last = [frame for frame in frames(reader.connection) if isinstance(frame, Members)][-1]
    assert last.members == ()
    source.stop()


async def test_heartbeat_never_names_an_index_whose_changes_were_not_sent() -> None:
    farm = article_farm()
    source = started(farm)
    reader = Reader(source)
    await eventually(lambda: reader.take().ready)
    farm.applied_index += 1  # applied, and its changes not told yet
    beat = next(FrameReader().feed(source.heartbeat())).frame
    assert isinstance(beat, Heartbeat)
    assert beat.applied_index < farm.applied_index
    source.stop()


async def test_too_many_readers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "READERS_MAX", 1)
    source = started(article_farm())
    Reader(source)
    with pytest.raises(TooManyReaders):
        source.open()
    source.stop()


@pytest.mark.parametrize("index", ["x", "-1", "9" * 40, "٣", ""])
async def test_nonsense_in_the_query_is_a_new_reader(index: str) -> None:
    source = started(article_farm())
    connection = RecordingConnection()
    source.open_for({"epoch": ["epoch-1"], "index": [index]}).start(connection)
    await eventually(lambda: "End" in kinds(connection))
    source.stop()


def test_ring_finds_the_place_behind_an_index() -> None:
    ring = Ring(10)
    for index in (11, 13, 17):
        ring.append(index, b"x")
    assert [ring.place_after(index) for index in (10, 11, 12, 13, 16, 17, 99)] == [
        0, 1, 1, 2, 2, 3, 3,
    ]  # fmt: skip


@pytest.mark.parametrize("wanted", ["2", "0", "one", "1.0"])
async def test_reader_of_another_format_is_told_so(wanted: str) -> None:
    source = started(article_farm())
    with pytest.raises(UnknownFormat, match=f"unknown feed format '{wanted}': this agent writes 1"):
        source.open_for({"format": [wanted]})
    assert source.open_for({"format": ["1"]})
    source.stop()
