"""State, changes, and what a reader is told after them."""

from __future__ import annotations

import pytest
from tests.harness.told_catalog import (
    EVERYTHING,
    THE_LOG,
    Hub,
    Log,
    Reader,
    by_index,
    decoded,
    identified,
    wanting,
)

from callboard.catalog.commands import Deregister, KeyValueSet, Register
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.feed.wire import Delta, FeedError, Member, pack
from callboard.hub.catalog import stepwise, topics, values
from callboard.hub.catalog.topics import epoch_text
from callboard.hub.cursor import CatalogPlace, Cursor
from callboard.hub.cursor import parse as parse_cursor

N1 = Node(name="n1", address="10.0.0.1")
N2 = Node(name="n2", address="10.0.0.2")
HEALTHY = Check(check_id="serfHealth", status="passing")
FAILED = Check(check_id="serfHealth", status="critical")
WEB = ServiceInstance(id="web-1", service="web", port=80)
WEB_CHECK = Check(check_id="web/1", status="passing", service_id="web-1")


@pytest.fixture
def log() -> Log:
    """Indexes 1 to 3: n1 with a check and `web` with a check on it; n2; a key."""
    log = Log()
    log.commit(Register(N1, WEB, (HEALTHY, WEB_CHECK)))
    log.commit(Register(N2))
    log.commit(KeyValueSet("k", b"v"))
    return log


@pytest.fixture
def hub(log: Log) -> Hub:
    """Stands at index 3 by a snapshot, and has had a heartbeat."""
    hub = Hub(log)
    hub.snapshot(3)
    hub.beat()
    hub.events.clear()
    hub.told.clear()
    return hub


def told(hub: Hub, upto: int | None = None) -> list[str]:
    """What the hub makes of the changes up to now, as "index.part topic"."""
    before = len(hub.events)
    hub.tell(hub.log.index if upto is None else upto)
    hub.make()
    return [f"{it.index}.{it.part} {it.topic}" for it in hub.events[before:]]


def following(hub: Hub, index: int, part: int = 0) -> list[tuple[int, int]] | None:
    """The places of what `since` gives after one."""
    events = hub.topics.since(CatalogPlace(hub.topics.place.epoch, index, part), THE_LOG)
    return None if events is None else [(event.index, event.part) for event in events]


# ------------------------------------------------------------------------------- state


def test_state_is_each_topic_as_the_http_api_has_it(hub: Hub, log: Log) -> None:
    state = hub.state()
    assert list(state) == [
        "/catalog/checks/n1/serfHealth",
        "/catalog/checks/n1/web%2F1",
        "/catalog/nodes/n1",
        "/catalog/nodes/n2",
        "/catalog/services/web",
        "/cluster/leader",
        "/cluster/members",
    ]
    entries = state["/catalog/services/web"]
    assert isinstance(entries, list)
    (entry,) = entries
    assert entry["Node"]["Address"] == "10.0.0.1"
    assert entry["Service"]["Port"] == 80
    assert [check["CheckID"] for check in entry["Checks"]] == ["serfHealth", "web/1"]
    node = state["/catalog/nodes/n1"]
    assert isinstance(node, dict)
    assert node["Services"]["web-1"]["Service"] == "web"
    assert state["/cluster/leader"] == {"Leader": "10.0.0.1:8300", "Term": 1}
    assert state["/cluster/members"] == [
        {"Name": "agent-1", "Addr": "10.0.0.1", "Status": "alive", "Server": True}
    ]


def test_state_moves_no_cursor_and_says_its_index(hub: Hub) -> None:
    events = [event for event in hub.topics.state(EVERYTHING) if event is not None]
    assert {(event.part, event.index, event.last) for event in events} == {(0, 3, False)}
    assert {decoded(event)["Index"] for event in events} == {3}


def test_a_stream_gets_the_state_of_what_it_asks_for_alone(hub: Hub) -> None:
    assert list(hub.state(wanting("/catalog/services/{name}"))) == ["/catalog/services/web"]
    assert list(hub.state(wanting("/catalog/nodes/n2", "/cluster/leader", "/t"))) == [
        "/catalog/nodes/n2",
        "/cluster/leader",
    ]
    assert hub.state(wanting("/catalog/services/none", "/catalog/nodes/N1")) == {}


def test_many_topics_that_are_not_wanted_are_passed_over_in_breaths(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "UNWANTED_PER_BREATH", 1)
    wanted = wanting("/catalog/{kind}/n2")
    given = list(hub.topics.state(wanted))
    assert [event.topic for event in given if event] == ["/catalog/nodes/n2"]
    assert given.count(None) == 4


def test_what_changes_while_the_state_is_taken_comes_again(hub: Hub, log: Log) -> None:
    reader = Reader(EVERYTHING)
    walk = hub.topics.state(EVERYTHING)
    for _ in range(4):
        reader.take(filter(None, [next(walk)]))
    log.commit(Register(N1, None, (FAILED,)))
    log.commit(Deregister("n2"))
    told(hub)
    hub.beat(leader="10.0.0.2:8300", term=2)
    reader.take(event for event in walk if event is not None)
    assert reader.values == hub.state()
    assert hub.topics.since(hub.topics.place, THE_LOG) == []


def test_a_change_at_the_very_end_of_the_state_is_in_it_too(hub: Hub, log: Log) -> None:
    reader = Reader(EVERYTHING)
    for number, event in enumerate(hub.topics.state(EVERYTHING)):
        reader.take(filter(None, [event]))
        if number < 20:
            log.commit(Register(Node(name=f"late-{number}", address="10.1.1.1")))
            told(hub)
            hub.beat(term=number + 2)
    assert reader.values == hub.state()


def test_state_begins_anew_when_the_ring_has_lost_what_changed_meanwhile(log: Log) -> None:
    hub = Hub(log, ring_events_max=2)
    hub.snapshot(3)
    reader = Reader(EVERYTHING)
    walk = hub.topics.state(EVERYTHING)
    reader.take(filter(None, [next(walk)]))
    for port in range(81, 85):
        service = ServiceInstance(id="web-1", service="web", port=port)
        log.commit(Register(N1, service))
        told(hub)
    reader.take(event for event in walk if event is not None)
    assert reader.values == hub.state()


def test_state_ends_when_the_values_are_replaced(hub: Hub, log: Log) -> None:
    walk = hub.topics.state(EVERYTHING)
    next(walk)
    hub.snapshot(log.commit(Deregister("n1")))
    assert list(walk) == []


# ------------------------------------------------------------------------------- changes


def test_parts_of_an_index_are_its_topics_in_the_order_of_their_names(hub: Hub, log: Log) -> None:
    log.commit(Deregister("n1"))
    assert told(hub) == [
        "4.1 /catalog/checks/n1/serfHealth",
        "4.2 /catalog/checks/n1/web%2F1",
        "4.3 /catalog/nodes/n1",
        "4.4 /catalog/services/web",
    ]
    assert [event.last for event in hub.events] == [False, False, False, True]
    assert [decoded(event)["Value"] for event in hub.events] == [None] * 4
    assert hub.told == [4]
    assert list(hub.state(THE_LOG)) == ["/catalog/nodes/n2"]


def test_a_check_touches_itself_and_its_service_and_no_node(hub: Hub, log: Log) -> None:
    log.commit(Register(N1, None, (Check(check_id="web/1", status="warning", service_id="web-1"),)))
    assert told(hub) == ["4.1 /catalog/checks/n1/web%2F1", "4.2 /catalog/services/web"]


def test_a_check_of_a_node_touches_all_services_on_it(hub: Hub, log: Log) -> None:
    log.commit(Register(N1, ServiceInstance(id="db", service="db")))
    told(hub)
    log.commit(Register(N1, None, (FAILED,)))
    assert told(hub) == [
        "5.1 /catalog/checks/n1/serfHealth",
        "5.2 /catalog/services/db",
        "5.3 /catalog/services/web",
    ]


def test_an_address_touches_the_node_and_its_services(hub: Hub, log: Log) -> None:
    log.commit(Register(Node(name="n1", address="10.0.0.9")))
    assert told(hub) == ["4.1 /catalog/nodes/n1", "4.2 /catalog/services/web"]


def test_an_instance_of_another_name_leaves_its_old_service(hub: Hub, log: Log) -> None:
    log.commit(Register(N1, ServiceInstance(id="web-1", service="shop")))
    assert told(hub) == [
        "4.1 /catalog/checks/n1/web%2F1",
        "4.2 /catalog/nodes/n1",
        "4.3 /catalog/services/shop",
        "4.4 /catalog/services/web",
    ]
    assert decoded(hub.events[-1])["Value"] is None


def test_names_in_two_spellings_are_two_topics_with_the_same_instances(hub: Hub, log: Log) -> None:
    log.commit(Register(N2, ServiceInstance(id="w", service="Web")))
    assert told(hub) == [
        "4.1 /catalog/nodes/n2",
        "4.2 /catalog/services/Web",
        "4.3 /catalog/services/web",
    ]
    state = hub.state()
    assert state["/catalog/services/Web"] == state["/catalog/services/web"]


def test_keys_move_the_place_and_tell_nothing(hub: Hub, log: Log) -> None:
    log.commit(KeyValueSet("k", b"w"))
    hub.beat(log.index)
    assert hub.events == []
    assert hub.index == 4


def test_changes_of_one_batch_are_told_index_by_index_with_the_values_of_each(
    hub: Hub, log: Log
) -> None:
    for port in (81, 82, 83):
        log.commit(Register(N1, ServiceInstance(id="web-1", service="web", port=port)))
    told(hub)
    ports = [
        (event.index, decoded(event)["Value"][0]["Service"]["Port"])  # type: ignore[index]
        for event in hub.events
        if event.topic == "/catalog/services/web"
    ]
    assert ports == [(4, 81), (5, 82), (6, 83)]
    assert hub.told == [2, 2, 2]


def test_an_index_is_told_when_its_last_frame_is_there(hub: Hub, log: Log) -> None:
    log.commit(Register(N1, None, (FAILED,)))
    log.commit(Deregister("n1"))
    changes = len(log.between(3, 5))
    hub.tell(5, frame=2, cut_off_after=changes // 2)
    hub.make()
    assert set(by_index(hub.events)) == {4}
    assert hub.index == 4
    hub.connect(resumed=True)
    hub.tell(5, frame=3)
    hub.make()
    assert {index: len(events) for index, events in by_index(hub.events).items()} == {4: 2, 5: 4}
    other = Hub(log)
    other.snapshot(4)
    told(other)
    assert identified(other.events) == identified(by_index(hub.events)[5])


def test_a_snapshot_while_an_index_is_incomplete_takes_its_place(hub: Hub, log: Log) -> None:
    log.commit(Deregister("n1"))
    hub.tell(4, frame=1, cut_off_after=1)
    hub.make()
    hub.snapshot(4)
    hub.make()
    assert hub.events == []
    assert hub.resets == 2
    assert list(hub.state(THE_LOG)) == ["/catalog/nodes/n2"]


def test_a_snapshot_while_an_index_is_made_takes_its_place(hub: Hub, log: Log) -> None:
    log.commit(Deregister("n1"))
    hub.tell(4)
    making = hub.topics.steps()
    next(making)
    hub.snapshot(4)
    assert list(making) == []
    assert hub.events == []
    assert hub.resets == 2
    assert hub.index == 4


# ------------------------------------------------------------------------------- resuming


def test_since_gives_what_follows_a_part_of_an_index(hub: Hub, log: Log) -> None:
    log.commit(Deregister("n1"))
    log.commit(Deregister("n2"))
    told(hub)
    assert following(hub, 3) == [(4, 1), (4, 2), (4, 3), (4, 4), (5, 1)]
    assert following(hub, 4, 2) == [(4, 3), (4, 4), (5, 1)]
    assert following(hub, 4, 4) == following(hub, 4) == [(5, 1)]
    assert following(hub, 5) == following(hub, 5, 1) == following(hub, 900) == []


def test_since_gives_what_the_stream_asks_for_alone(hub: Hub, log: Log) -> None:
    place = hub.topics.place
    log.commit(Deregister("n1"))
    told(hub)
    events = hub.topics.since(place, wanting("/catalog/nodes/{n}"))
    assert events is not None
    assert [event.topic for event in events] == ["/catalog/nodes/n1"]


def test_a_place_before_the_snapshot_or_of_another_epoch_is_a_gap(hub: Hub) -> None:
    epoch = hub.topics.place.epoch
    assert hub.topics.oldest == CatalogPlace(epoch, 3)
    assert hub.topics.since(CatalogPlace(epoch, 3), THE_LOG) == []
    assert hub.topics.since(CatalogPlace(epoch, 3, 1), THE_LOG) is None
    assert hub.topics.since(CatalogPlace(epoch, 2), THE_LOG) is None
    assert hub.topics.since(CatalogPlace("other", 3), THE_LOG) is None


def test_the_ring_drops_whole_indexes(log: Log) -> None:
    hub = Hub(log, ring_events_max=5)
    hub.snapshot(3)
    place = hub.topics.place
    log.commit(Register(N1, None, (FAILED,)))
    told(hub)
    assert hub.topics.since(place, THE_LOG)
    log.commit(Deregister("n1"))
    told(hub)
    assert hub.topics.oldest.index == 4
    assert hub.topics.ring_events == 4
    assert hub.topics.since(place, THE_LOG) is None
    rest = hub.topics.since(CatalogPlace(place.epoch, 4), THE_LOG)
    assert rest is not None
    assert len(rest) == 4


def test_the_ring_is_bounded_in_bytes(log: Log) -> None:
    hub = Hub(log, ring_bytes_max=20_000)
    hub.snapshot(3)
    for port in range(200):
        log.commit(Register(N1, ServiceInstance(id="web-1", service="web", port=port)))
    told(hub)
    assert 10_000 < hub.topics.ring_bytes <= 20_000
    assert hub.topics.ring_events > 10


def test_cursors_carry_the_epoch_without_its_hyphens(hub: Hub) -> None:
    place = hub.topics.place
    assert place.epoch == "5f0c0bd22b0e4a3c9d536c1c7f0a1d11"
    assert parse_cursor(str(Cursor(catalog=place))) == Cursor(catalog=place)


@pytest.mark.parametrize("epoch", ["", "a" * 33, "é", "epoch_1"])
def test_an_epoch_that_is_no_uuid_still_makes_a_cursor(epoch: str) -> None:
    place = CatalogPlace(epoch_text(epoch), 7)
    assert parse_cursor(str(Cursor(catalog=place))) == Cursor(catalog=place)


# ------------------------------------------------------------------------------- snapshots


def test_the_first_snapshot_is_a_reset(log: Log) -> None:
    hub = Hub(log)
    assert not hub.topics.ready
    assert hub.topics.age_s() == float("inf")
    assert hub.topics.since(CatalogPlace("", 0), THE_LOG) is None
    assert hub.state() == {}
    hub.snapshot(3)
    assert hub.topics.ready
    assert hub.resets == 1


def test_a_snapshot_that_differs_is_a_reset(hub: Hub, log: Log) -> None:
    place = hub.topics.place
    hub.snapshot(log.commit(Register(N1, None, (FAILED,))))
    assert hub.resets == 2
    assert hub.topics.since(place, THE_LOG) is None
    assert hub.topics.oldest == hub.topics.place == CatalogPlace(place.epoch, 4)


def test_a_snapshot_that_says_the_same_later_goes_on_from_where_the_hub_was(
    hub: Hub, log: Log
) -> None:
    place = hub.topics.place
    log.commit(Register(N1, None, (FAILED,)))
    told(hub)
    log.commit(Register(N2, ServiceInstance(id="brief", service="brief")))
    log.commit(Deregister("n2", service_id="brief"))
    hub.snapshot(6)
    assert hub.resets == 1
    assert following(hub, 3) == [(4, 1), (4, 2)]
    assert following(hub, 4, 1) == [(4, 2)]
    assert following(hub, 4) == following(hub, 6) == []
    assert hub.topics.oldest == place
    log.commit(Deregister("n1"))
    told(hub)
    assert following(hub, 4) == following(hub, 6) == [(7, 1), (7, 2), (7, 3), (7, 4)]


def test_what_is_remembered_of_values_is_forgotten_at_a_snapshot(
    hub: Hub, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "READ_PARTS_MIN", 1)
    before = hub.state()["/catalog/services/web"]
    hub.snapshot(log.commit(Register(N1, ServiceInstance(id="web-1", service="web", port=81))))
    assert hub.state()["/catalog/services/web"] != before


def test_a_place_that_such_a_snapshot_has_passed_over_is_a_gap(hub: Hub, log: Log) -> None:
    log.commit(Register(N2, ServiceInstance(id="brief", service="brief")))
    log.commit(Deregister("n2", service_id="brief"))
    hub.snapshot(5)
    assert following(hub, 4) is following(hub, 4, 1) is following(hub, 5, 1) is None
    log.commit(Deregister("n1"))
    told(hub)
    log.commit(KeyValueSet("k", b"w"))
    hub.snapshot(7)
    assert hub.topics.oldest.index == 5
    assert following(hub, 3) is following(hub, 4) is following(hub, 5, 1) is None
    assert following(hub, 5) == [(6, 1), (6, 2), (6, 3), (6, 4)]
    assert following(hub, 6) == following(hub, 7) == []


def test_a_second_such_snapshot_brings_nothing_back_that_the_ring_has_dropped(log: Log) -> None:
    hub = Hub(log, ring_events_max=4)
    hub.snapshot(3)
    hub.snapshot(log.commit(KeyValueSet("k", b"w")))
    log.commit(Register(N1, None, (FAILED,)))
    log.commit(Deregister("n1"))
    told(hub)
    hub.snapshot(log.commit(KeyValueSet("k", b"x")))
    assert hub.topics.oldest.index == 5
    assert following(hub, 4) is None
    assert following(hub, 5) == [(6, 1), (6, 2), (6, 3), (6, 4)]


def test_a_snapshot_of_where_we_are_changes_nothing(hub: Hub, log: Log) -> None:
    place = hub.topics.place
    log.commit(Register(N1, None, (FAILED,)))
    told(hub)
    hub.snapshot(4)
    assert hub.resets == 1
    events = hub.topics.since(place, THE_LOG)
    assert events is not None
    assert len(events) == 2


def test_a_snapshot_that_is_behind_is_refused(hub: Hub, log: Log) -> None:
    log.commit(Deregister("n1"))
    told(hub)
    with pytest.raises(FeedError, match="behind"):
        hub.snapshot(3)
    assert hub.index == 4
    assert list(hub.state(THE_LOG)) == ["/catalog/nodes/n2"]


def test_another_history_is_a_reset_with_another_epoch(hub: Hub) -> None:
    other = Log()
    other.commit(Register(N2))
    hub.log, hub.epoch = other, "another"
    hub.snapshot(1)
    assert hub.resets == 2
    assert hub.topics.place == CatalogPlace("another", 1)
    assert hub.state() == {"/catalog/nodes/n2": hub.state(THE_LOG)["/catalog/nodes/n2"]}


def test_after_a_doubt_the_next_snapshot_is_a_reset(hub: Hub, log: Log) -> None:
    hub.topics.copy.doubt()
    assert hub.topics.copy.epoch == ""
    hub.snapshot(3)
    assert hub.resets == 2
    log.commit(Register(N1, None, (FAILED,)))
    assert told(hub)[0] == "4.1 /catalog/checks/n1/serfHealth"


# ------------------------------------------------------------------------------- bad input


def test_changes_in_disorder_end_the_stream_and_nothing_else(hub: Hub, log: Log) -> None:
    log.commit(Register(N1, None, (FAILED,)))
    log.commit(Deregister("n1"))
    changes = log.between(3, 5)
    hub.log = Log()
    hub.log.changes = changes[::-1]
    with pytest.raises(FeedError, match="a change of index 4 after one of 5"):
        hub.tell(5)
    hub.log = log
    hub.connect(resumed=True)
    hub.tell(5)
    hub.make()
    assert set(by_index(hub.events)) == {4, 5}
    assert list(hub.state(THE_LOG)) == ["/catalog/nodes/n2"]


def test_a_stream_that_brings_more_than_can_wait_is_left_and_nothing_is_lost(
    hub: Hub, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepwise, "WAITING_MAX", 10)
    for port in range(20):
        log.commit(Register(N1, ServiceInstance(id="web-1", service="web", port=port)))
    with pytest.raises(FeedError, match="wait"):
        hub.tell(log.index)
    hub.make()
    for upto in range(hub.index + 1, log.index + 1):
        hub.connect(resumed=True)
        hub.tell(upto)
        hub.make()
    assert hub.topics.copy.waiting == 0
    assert [index for index, _ in by_index(hub.events).items()] == sorted(
        {change.index for change in log.between(3, log.index)}
    )


# ------------------------------------------------------------------------------- beside the log


def test_a_new_leader_is_told_at_once_and_moves_no_cursor(hub: Hub) -> None:
    hub.beat(leader="10.0.0.2:8300", term=2)
    (event,) = hub.events
    assert (event.topic, event.part) == ("/cluster/leader", 0)
    assert decoded(event)["Value"] == {"Leader": "10.0.0.2:8300", "Term": 2}
    hub.beat(leader="10.0.0.2:8300", term=2)
    assert len(hub.events) == 1


def test_members_are_told_when_one_comes_or_fails(hub: Hub) -> None:
    hub.beat(
        members=[Member("b", "10.0.0.2", "failed", False), Member("a", "10.0.0.1", "alive", True)]
    )
    (event,) = hub.events
    assert event.topic == "/cluster/members"
    assert [it["Name"] for it in decoded(event)["Value"]] == ["a", "b"]  # type: ignore[attr-defined]


def test_there_is_no_leader_before_one_was_told(log: Log) -> None:
    hub = Hub(log)
    hub.snapshot(3)
    assert hub.state(wanting("/cluster/leader", "/cluster/members")) == {}


def test_since_repeats_the_leader_only_if_it_may_be_news(hub: Hub, log: Log) -> None:
    leader = wanting("/cluster/leader")

    def repeated(index: int) -> bool:
        return bool(hub.topics.since(CatalogPlace(hub.topics.place.epoch, index), leader))

    assert repeated(hub.index)  # nobody can know that a reader of this place has it
    for _ in range(int(topics.SETTLED_S) + 1):
        hub.beat(log.commit(KeyValueSet("k", b"v")))
    settled = hub.index
    assert repeated(5)
    for _ in range(3):
        hub.beat(log.commit(KeyValueSet("k", b"v")))
    assert not repeated(hub.index)
    hub.beat(leader="10.0.0.2:8300", term=2)
    assert repeated(settled)
    assert repeated(hub.index)


def test_the_age_is_that_of_the_last_heartbeat(hub: Hub) -> None:
    assert hub.topics.age_s() == 0.0
    hub.now += 7.0
    assert hub.topics.age_s() == 7.0


def test_a_frame_without_changes_is_no_event(hub: Hub) -> None:
    hub.receive(pack(Delta(9, True, ())))
    hub.make()
    assert hub.events == []
    assert hub.index == 9
