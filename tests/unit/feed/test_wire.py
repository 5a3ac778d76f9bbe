"""The frames: golden bytes, round trips, and octets nobody should send."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.catalog.changes import Change
from callboard.catalog.objects import Node, ServiceInstance
from callboard.feed.copy import CatalogCopy, FeedSession
from callboard.feed.wire import (
    CHANGES_PER_FRAME_MAX,
    FORMAT,
    Delta,
    FeedError,
    Frame,
    FrameReader,
    Heartbeat,
    Hello,
    Received,
    Records,
    SnapshotHash,
    WireChange,
    pack,
    pack_changes,
    read_change,
)


def frames(octets: bytes) -> list[object]:
    return [received.frame for received in FrameReader().feed(octets)]


def test_octets_of_a_heartbeat_do_not_change() -> None:
    beat = Heartbeat("10.0.0.1:8300", 3, 77, 20)
    assert pack(beat).hex() == "000000139505ad31302e302e302e313a38333030034d14"


def test_octets_of_a_hello_do_not_change() -> None:
    hello = Hello(FORMAT, "e", 5, False, "dc1", "a")
    assert pack(hello).hex() == "0000000d970101a16505c2a3646331a161"


def test_frames_survive_any_cut() -> None:
    sent: list[Frame] = [
        Hello(FORMAT, "epoch", 5, False, "dc1", "agent-1"),
        Records(nodes=(Node(name="n", address="10.0.0.1"),)),
        Heartbeat("x", 1, 2, 3),
    ]
    octets = b"".join(pack(frame) for frame in sent)
    for cut in range(len(octets)):
        reader = FrameReader()
        got = [r.frame for part in (octets[:cut], octets[cut:]) for r in reader.feed(part)]
        assert got == sent


def test_changes_survive() -> None:
    changes = [
        Change(7, "put", "service", "n", "web", ServiceInstance(id="web", service="web", node="n")),
        Change(7, "delete", "node", "m", "", Node(name="m")),
    ]
    (delta,) = frames(pack_changes(7, changes))
    assert isinstance(delta, Delta)
    assert delta.last
    back = [read_change(change) for change in delta.changes]
    assert back[0] == changes[0]
    assert (back[1].operation, back[1].node, back[1].value) == ("delete", "m", None)


def test_large_batch_is_sent_in_parts_of_which_one_is_the_last() -> None:
    changes = [
        Change(9, "delete", "node", f"n{n}", "", None) for n in range(CHANGES_PER_FRAME_MAX * 2 + 1)
    ]
    parts = frames(pack_changes(9, changes))
    assert [part.last for part in parts] == [False, False, True]  # type: ignore[attr-defined]


def heavy(count: int) -> list[ServiceInstance]:
    """Instances as long as a registration may be."""
    tags = tuple(f"{n:01000d}" for n in range(900))
    return [ServiceInstance(id=f"s{n}", service="web", node="n", tags=tags) for n in range(count)]


def test_snapshot_of_very_long_objects_is_taken() -> None:
    records = Records(nodes=(Node(name="n"),), services=tuple(heavy(20)))
    octets = pack(records)
    assert max(len(received.octets) for received in FrameReader().feed(octets)) < 2 << 20
    digest = SnapshotHash()
    digest.add(records, octets)
    copy = CatalogCopy()
    hello = pack(Hello(FORMAT, "e", 5, False, "dc1", "a"))
    receive(FeedSession(copy), hello, octets, pack(digest.end(5)))
    assert copy.tables.counts == (1, 20, 0)


def test_batch_of_very_long_changes_is_sent_in_parts_of_which_one_is_the_last() -> None:
    changes = [Change(9, "put", "service", "n", each.id, each) for each in heavy(20)]
    parts = frames(pack_changes(9, changes))
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]  # type: ignore[attr-defined]
    ids = [change.id for part in parts for change in part.changes]  # type: ignore[attr-defined]
    assert ids == [each.id for each in heavy(20)]


def test_later_fields_are_ignored() -> None:
    body = msgspec.msgpack.encode([5, "leader", 1, 2, 3, "new"])
    (beat,) = frames(len(body).to_bytes(4, "big") + body)
    assert beat == Heartbeat("leader", 1, 2, 3)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", msgspec.msgpack.encode([99]), msgspec.msgpack.encode({"a": 1}),
     msgspec.msgpack.encode([5, 1, 1, 1, 1]), b"\x91" * 5000],
)  # fmt: skip
def test_malformed_frame_is_an_error(body: bytes) -> None:
    with pytest.raises(FeedError):
        frames(len(body).to_bytes(4, "big") + body)


def test_frame_that_is_too_long_is_an_error_before_it_is_there() -> None:
    with pytest.raises(FeedError, match="octets"):
        frames(b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "change",
    [
        WireChange(1, "put", "kettle", "n", ""),
        WireChange(1, "move", "node", "n", ""),
        WireChange(1, "put", "node", "n", "", msgspec.Raw(b"\x05")),
        WireChange(1, "put", "service", "n", ""),
    ],
    ids=["unknown kind", "unknown operation", "no map", "no value"],
)
def test_malformed_change_is_an_error(change: WireChange) -> None:
    with pytest.raises(FeedError):
        read_change(change)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_octets_are_frames_or_an_error(parts: list[bytes]) -> None:
    session = FeedSession(CatalogCopy())
    reader = FrameReader()
    try:
        for part in parts:
            for received in reader.feed(len(part).to_bytes(4, "big") + part):
                session.receive(received, 1.0)
    except FeedError:
        pass


def receive(session: FeedSession, *octets: bytes) -> None:
    for received in FrameReader().feed(b"".join(octets)):
        session.receive(received, 100.0)


def snapshot(index: int, names: list[str], *, epoch: str = "e") -> bytes:
    digest = SnapshotHash()
    records = Records(nodes=tuple(Node(name=name, address="10.0.0.1") for name in names))
    octets = pack(records)
    digest.add(records, octets)
    hello = pack(Hello(FORMAT, epoch, index, False, "dc1", "a"))
    return hello + octets + pack(digest.end(index))


def test_copy_is_ready_only_after_the_end_record() -> None:
    copy = CatalogCopy()
    session = FeedSession(copy)
    octets = snapshot(5, ["n1", "n2"])
    end = [r.octets for r in FrameReader().feed(octets)][-1]
    receive(session, octets[: -len(end)])
    assert not copy.ready
    assert copy.node("n1") is None
    receive(session, end)
    assert copy.ready
    assert copy.applied_index == 5
    assert copy.node("n1") is not None


def test_snapshot_with_a_missing_frame_is_not_taken() -> None:
    parts = [r.octets for r in FrameReader().feed(snapshot(5, ["n1"]))]
    copy = CatalogCopy()
    with pytest.raises(FeedError, match="end record"):
        receive(FeedSession(copy), parts[0], parts[2])
    assert not copy.ready


def test_snapshot_with_an_altered_frame_is_not_taken() -> None:
    octets = snapshot(5, ["n1"]).replace(b"n1", b"n9")
    copy = CatalogCopy()
    with pytest.raises(FeedError, match="end record"):
        receive(FeedSession(copy), octets)
    assert not copy.ready


def test_copy_never_goes_back_in_one_epoch() -> None:
    copy = CatalogCopy()
    receive(FeedSession(copy), snapshot(9, ["n1"]))
    with pytest.raises(FeedError, match="behind"):
        receive(FeedSession(copy), snapshot(5, []))
    assert copy.node("n1") is not None
    receive(FeedSession(copy), snapshot(5, [], epoch="another"))
    assert copy.node("n1") is None


def test_catalog_of_another_epoch_is_taken_and_told(caplog: pytest.LogCaptureFixture) -> None:
    copy = CatalogCopy()
    receive(FeedSession(copy), snapshot(9, ["n1"]))
    receive(FeedSession(copy), snapshot(10, ["n1"]))
    assert not caplog.records
    assert copy.histories == 0
    receive(FeedSession(copy), snapshot(5, [], epoch="another"))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "another history" in record.getMessage()
    told = [vars(record)[key] for key in ("epoch", "index", "known_epoch", "known_index")]
    assert told == ["another", 5, "e", 10]
    assert copy.histories == 1


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (Hello(99, "e", 1, False, "dc1", "a"), "format"),
        (Hello(FORMAT, "e", 1, True, "dc1", "a"), "resumes"),
        (Hello(FORMAT, "e", 1, False, "dc2", "a"), "datacenter"),
    ],
)
def test_stream_that_cannot_be_followed_is_refused(hello: Hello, why: str) -> None:
    with pytest.raises(FeedError, match=why):
        FeedSession(CatalogCopy("dc1")).receive(Received(hello, b""), 1.0)


def test_delta_that_is_known_already_is_skipped() -> None:
    copy = CatalogCopy()
    session = FeedSession(copy)
    receive(session, snapshot(9, ["n1"]))
    receive(session, pack_changes(8, [Change(8, "delete", "node", "n1", "", None)]))
    assert copy.node("n1") is not None
    receive(session, pack_changes(10, [Change(10, "delete", "node", "n1", "", None)]))
    assert copy.node("n1") is None
    assert copy.applied_index == 10


def test_listeners_get_a_snapshot_as_a_difference_or_a_reset() -> None:
    copy = CatalogCopy()
    seen: list[Change] = []
    resets: list[int] = []
    copy.listen(seen.extend)
    copy.listen(lambda changes: None, reset=lambda: resets.append(1))
    receive(FeedSession(copy), snapshot(5, ["n1", "n2"]))
    receive(FeedSession(copy), snapshot(6, ["n2", "n3"]))
    assert [(c.operation, c.node) for c in seen[-2:]] == [("delete", "n1"), ("put", "n3")]
    assert resets == [1, 1]


def test_age_counts_from_the_leaders_last_word() -> None:
    copy = CatalogCopy()
    assert copy.age_s(100.0) == float("inf")
    session = FeedSession(copy)
    receive(session, snapshot(5, []), pack(Heartbeat("", 1, 5, 3000)))
    assert copy.age_s(102.0) == pytest.approx(5.0)


def test_older_leader_is_not_taken_for_the_leader() -> None:
    copy = CatalogCopy()
    receive(FeedSession(copy), snapshot(5, []), pack(Heartbeat("new", 7, 5, 0)))
    receive(FeedSession(copy), snapshot(5, []), pack(Heartbeat("old", 6, 5, 0)))
    assert (copy.leader, copy.term) == ("new", 7)
    receive(FeedSession(copy), snapshot(2, [], epoch="another"), pack(Heartbeat("x", 1, 2, 0)))
    assert (copy.leader, copy.term) == ("x", 1)


def test_heartbeat_of_an_agent_that_is_behind_makes_nothing_fresher() -> None:
    copy = CatalogCopy()
    session = FeedSession(copy)
    receive(session, snapshot(5, []), pack(Heartbeat("x", 1, 4, 0)))
    assert copy.age_s(100.0) == float("inf")
