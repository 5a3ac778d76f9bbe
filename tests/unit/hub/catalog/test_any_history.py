"""Whatever happens to the catalog, and wherever hubs and readers are cut off."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.told_catalog import (
    THE_LOG,
    Hub,
    Log,
    Reader,
    by_index,
    identified,
    random_command,
)

SEEDS = st.integers(0, 2**32)


def grown(rng: random.Random, log: Log, count: int) -> None:
    for _ in range(count):
        log.commit(random_command(rng, log))


def follow(rng: random.Random, hub: Hub, upto: int) -> None:
    """Take the changes up to an index in batches and frames of any size, some cut off, and make
    events now and then."""
    while hub.topics.copy.applied_index < upto:
        batch = rng.randint(hub.topics.copy.applied_index + 1, upto)
        cut_off_after = rng.choice([None, None, 0, 1, 2])
        if not hub.log.between(hub.topics.copy.applied_index, batch):
            hub.beat(batch)
        hub.tell(batch, frame=rng.randint(1, 5), cut_off_after=cut_off_after)
        if cut_off_after is not None:
            hub.connect(resumed=True)
        if rng.random() < 0.5:
            hub.make()
        if rng.random() < 0.3:
            hub.beat()
    hub.make()


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_two_hubs_tell_the_same_of_every_index_that_both_know(seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    grown(rng, log, 60)
    hubs = [Hub(log), Hub(log)]
    for hub in hubs:
        hub.snapshot(rng.randint(1, log.index))
        follow(rng, hub, log.index)
    oldest = max(hub.topics.oldest.index for hub in hubs)
    one, other = ([it for it in hub.events if it.index > oldest] for hub in hubs)
    assert identified(one) == identified(other)
    assert hubs[0].state(THE_LOG) == hubs[1].state(THE_LOG)
    for index, events in by_index(one).items():
        assert [event.part for event in events] == list(range(1, len(events) + 1))
        assert [event.last for event in events] == [False] * (len(events) - 1) + [True]
        assert [event.topic for event in events] == sorted({event.topic for event in events})
        assert log.between(index - 1, index)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_a_reader_that_goes_from_hub_to_hub_misses_nothing_and_sees_nothing_twice(
    seed: int,
) -> None:
    rng = random.Random(seed)
    log = Log()
    grown(rng, log, 20)
    hubs = [Hub(log), Hub(log), Hub(log)]
    for hub in hubs:
        hub.snapshot(rng.randint(1, log.index))
        follow(rng, hub, log.index)
    reader = Reader(THE_LOG)
    reader.take(event for event in hubs[0].topics.state(THE_LOG) if event is not None)
    place = begun = hubs[0].topics.place
    for _ in range(20):
        grown(rng, log, rng.randint(0, 4))
        hub = rng.choice(hubs)
        follow(rng, hub, rng.randint(min(hub.index, log.index), log.index))
        events = hub.topics.since(place, THE_LOG)
        assert events is not None
        reader.take(events[: rng.randint(0, len(events))])
        place = reader.place(hub) if reader.seen else place
    for hub in hubs:
        follow(rng, hub, log.index)
    last = hubs[1].topics.since(place, THE_LOG)
    assert last is not None
    reader.take(last)
    witness = Hub(log)
    witness.snapshot(begun.index)
    follow(rng, witness, log.index)
    assert reader.seen == [(it.index, it.part) for it in witness.events if it.part]
    assert reader.values == hubs[1].state(THE_LOG) == witness.state(THE_LOG)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_state_taken_while_all_moves_is_where_the_changes_go_on(seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    grown(rng, log, 30)
    hub = Hub(log, ring_events_max=rng.choice([3, 10, 1000]))
    hub.snapshot(20)
    reader = Reader(THE_LOG)
    moves = 40
    making = hub.topics.steps()
    for event in hub.topics.state(THE_LOG):
        reader.take([event] if event else [])
        if moves and rng.random() < 0.7:
            moves -= 1
            grown(rng, log, 1)
            hub.tell(log.index)
            making = making if next(making, hub) is None else hub.topics.steps()
    if not hub.topics.copy.waiting:
        assert reader.values == replayed(hub, log, hub.index)
    place = hub.topics.place
    for _ in making:
        pass
    hub.make()
    events = hub.topics.since(place, THE_LOG)
    if events is not None:  # (None: an index of more topics than the ring takes)
        reader.take(events)
        assert reader.values == hub.state(THE_LOG)


def replayed(hub: Hub, log: Log, index: int) -> dict[str, object]:
    """The values of an index, by a hub that came by them in a snapshot."""
    other = Hub(log, epoch=hub.epoch)
    other.snapshot(index)
    return other.state(THE_LOG)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_state_and_deltas_lead_to_the_state_of_a_snapshot(seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    grown(rng, log, 20)
    hub = Hub(log)
    hub.snapshot(10)
    reader = Reader(THE_LOG)
    reader.take(event for event in hub.topics.state(THE_LOG) if event is not None)
    hub.topics.listen(reader.take)
    grown(rng, log, 40)
    follow(rng, hub, log.index)
    assert reader.values == replayed(hub, log, log.index)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=20), SEEDS)
def test_no_stream_of_changes_in_any_order_breaks_a_hub(
    told: list[tuple[int, bool]], seed: int
) -> None:
    rng = random.Random(seed)
    log = Log()
    grown(rng, log, 30)
    hub = Hub(log)
    hub.snapshot(5)
    for upto, cut_off in told:
        if upto > hub.topics.copy.applied_index:
            hub.tell(upto, frame=2, cut_off_after=1 if cut_off else None)
            hub.connect(resumed=True)
        if cut_off:
            hub.make()
    follow(rng, hub, log.index)
    assert hub.state(THE_LOG) == replayed(hub, log, log.index)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_a_reader_holds_what_there_is_whatever_snapshots_came_between(seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    grown(rng, log, 20)
    hubs = [Hub(log), Hub(log)]
    for hub in hubs:
        hub.snapshot(log.index)
    reader, place = Reader(THE_LOG), None
    for _ in range(30):
        grown(rng, log, rng.choice([0, 1, 1, 4]))
        hub = rng.choice(hubs)
        if rng.random() < 0.4:
            hub.snapshot(rng.randint(hub.topics.copy.applied_index, log.index))
        else:
            follow(rng, hub, rng.randint(hub.topics.copy.applied_index, log.index))
        hub.make()
        if place is not None and place.index > hub.index:
            continue  # it waits until the hub is there
        events = hub.topics.since(place, THE_LOG) if place is not None else None
        if events is None:
            reader.values.clear()
            events = [event for event in hub.topics.state(THE_LOG) if event is not None]
        reader.take(events)
        place = hub.topics.place
        assert reader.values == hub.state(THE_LOG)
