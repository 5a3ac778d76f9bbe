"""Streams of sidecars: who lists what, leases, and what happens when one has gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.unit.gateway.sources.sending import TestedSidecar, described
from tests.unit.gateway.sources.viewing import Viewer, keeping_streams, kept

from callboard.gateway.live import LiveStream, NotPlayable
from callboard.gateway.sources.instances import Instance
from callboard.gateway.sources.keeping import ControlError, Gone
from callboard.gateway.sources.senders import ADDRESS
from callboard.gateway.sources.sidecars import Listed, Sidecars
from callboard.media.leases import Progress, State


class Farm:
    """A catalog of sidecars, and the gateway's view of them."""

    def __init__(self) -> None:
        self.streams = keeping_streams()
        self.there: dict[Instance, TestedSidecar] = {}
        self.made_way: list[str] = []
        self.sidecars = Sidecars(
            self.streams,
            lambda: tuple(self.there),
            lambda instance: self.there[instance],
            bind="127.0.0.1",
            rng=random.Random(1),
            make_way=self.made_way.append,
            look_s=0.02,
            renew_s=0.2,
        )

    def add(self, id: str, *lists: Listed, host: str = "127.0.0.1") -> TestedSidecar:
        """A sidecar is in the catalog from now on."""
        sidecar = TestedSidecar(id, host, list(lists))
        self.there[Instance(id, host, 8090)] = sidecar
        return sidecar

    def remove(self, id: str) -> None:
        """It is not there any more."""
        self.there = {each: it for each, it in self.there.items() if each.id != id}

    async def online(self, name: str) -> LiveStream:
        """A stream, once media comes."""

        def there() -> bool:
            live = self.streams.find(name)
            return live is not None and live.online

        await eventually(there)
        return self.found(name)

    def found(self, name: str) -> LiveStream:
        live = self.streams.find(name)
        assert live is not None
        return live


@pytest.fixture
async def farm() -> AsyncIterator[Farm]:
    async with running() as made:
        yield made


@asynccontextmanager
async def running() -> AsyncIterator[Farm]:
    made = Farm()
    made.sidecars.start()
    try:
        yield made
    finally:
        await made.sidecars.stop()
        for sidecar in made.there.values():
            sidecar.forget_leases()


CAM = Listed(described("cam"))
ON_DEMAND = Listed(described("film", on_demand=True))
PER_VIEWER = Listed(described("clip", on_demand=True), per_viewer=True)


def streams_of(farm: Farm) -> list[str]:
    return [live.name for live in farm.streams]


async def test_a_stream_that_is_always_on_is_leased_at_once_and_live(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM)
    live = await farm.online("cam")
    assert live.source == "sidecar-1"
    assert kept(live, "audio")[0].payload.startswith(b"cam ")
    assert (sidecar.taken, farm.sidecars.answering) == (1, 1)
    assert farm.made_way == ["cam"]


async def test_a_stream_on_demand_is_leased_with_its_first_viewer(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", ON_DEMAND)
    await eventually(lambda: streams_of(farm) == ["film"])
    assert sidecar.taken == 0
    Viewer(farm.found("film"))
    await farm.online("film")
    assert sidecar.taken == 1


async def test_a_stream_that_cannot_be_played_is_listed_and_not_leased(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", Listed(described("cam", problem="it is AAC")))
    await eventually(lambda: sidecar.asked > 3 and streams_of(farm))
    assert farm.found("cam").description.problem == "it is AAC"
    assert sidecar.taken == 0
    assert farm.made_way == [], "what plays under that name goes on"
    with pytest.raises(NotPlayable, match="AAC"):
        await farm.streams.watch("cam")


async def test_each_viewer_of_a_clip_has_a_lease_of_its_own(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", PER_VIEWER)
    await eventually(lambda: [it.name for it in farm.streams.offered()] == ["clip"])
    first, second = [await farm.streams.watch("clip") for _ in range(2)]
    viewers = [Viewer(first), Viewer(second)]
    await eventually(lambda: first.online and second.online)
    for live in (first, second):
        assert kept(live, "audio")[0].payload == b"clip 0"
    assert len(sidecar.leases) == 2
    viewers[0].leave()
    await eventually(lambda: len(sidecar.leases) == 1)
    assert second.online
    assert [it.viewers for it in farm.streams.personal("clip")] == [{viewers[1]}]


def has_been_asked(sidecar: TestedSidecar, times: int) -> bool:
    """For leases."""
    return sidecar.taken == times


def descriptors() -> int:
    """Open ones of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_viewer_who_leaves_while_a_clip_is_opened_leaves_nothing_behind(
    farm: Farm,
) -> None:
    sidecar = farm.add("sidecar-1", PER_VIEWER)
    await eventually(farm.streams.offered)
    sidecar.dawdles = asyncio.Event()
    before = descriptors()
    for number in range(1, 21):
        opening = asyncio.create_task(farm.streams.watch("clip"))
        await eventually(partial(has_been_asked, sidecar, number))
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
    assert farm.streams.personal("clip") == []
    assert descriptors() <= before + 2
    sidecar.dawdles.set()
    assert (await farm.streams.watch("clip")).name == "clip"


async def test_a_viewer_s_clip_is_paused_and_sought_in_for_that_viewer_alone(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", PER_VIEWER)
    sidecar.films = frozenset({"clip"})
    await eventually(farm.streams.offered)
    first, second = [await farm.streams.watch("clip") for _ in range(2)]
    viewers = [Viewer(first), Viewer(second)]
    assert first.film is not None and second.film is not None
    assert (await first.film.pause()).state is State.PAUSED
    assert (await first.film.seek(3.5)).position_s == 3.5
    assert await second.film.progress() == Progress(State.PLAYING, 0.0, 60.0)
    assert (await first.film.start()).state is State.PLAYING
    sidecar.films = frozenset()
    sidecar.forget_leases()
    with pytest.raises(ConnectionError, match="404"):
        await first.film.pause()
    for viewer in viewers:
        viewer.leave()


async def test_a_clip_that_the_sidecar_does_not_give_is_an_error_for_its_viewer(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", PER_VIEWER)
    await eventually(farm.streams.offered)
    sidecar.failing = ControlError("503 too many")
    with pytest.raises(ConnectionError, match="503 too many"):
        await farm.streams.watch("clip")
    assert not farm.streams.personal("clip")


async def test_viewers_of_a_clip_are_sent_away_when_its_sidecar_has_gone(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", PER_VIEWER)
    await eventually(farm.streams.offered)
    viewer = Viewer(await farm.streams.watch("clip"))
    sidecar.failing = Gone("connection refused")
    await eventually(lambda: viewer.ended)
    assert viewer.ended == "the sidecar has gone"
    assert not farm.streams.offered()


async def test_when_a_sidecar_has_gone_its_streams_are_offline_at_once(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM)
    live = await farm.online("cam")
    viewer = Viewer(live)
    sidecar.failing = Gone("connection refused")
    await eventually(lambda: not live.online, 1.0)
    assert live.reason == "the sidecar has gone"
    assert viewer.ended == ""
    assert farm.sidecars.answering == 0


async def test_a_stream_goes_on_in_place_when_its_sidecar_comes_back(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM)
    live = await farm.online("cam")
    viewer = Viewer(live)
    sidecar.failing = Gone("connection refused")
    await eventually(lambda: not live.online)
    sidecar.forget_leases()
    sidecar.failing = None
    assert await farm.online("cam") is live
    assert viewer.ended == ""
    numbers = [packet.sequence for packet in kept(live, "audio")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_viewers_of_a_stream_on_demand_are_waited_for_no_second_time(farm: Farm) -> None:
    """It is leased at once where it comes back: they are still there."""
    sidecar = farm.add("sidecar-1", ON_DEMAND)
    await eventually(lambda: streams_of(farm))
    live = farm.found("film")
    Viewer(live)
    await farm.online("film")
    sidecar.failing = Gone("connection refused")
    await eventually(lambda: not live.online)
    sidecar.forget_leases()
    sidecar.failing = None
    await farm.online("film")
    assert sidecar.taken == 2


async def test_a_sidecar_that_stands_by_takes_over(farm: Farm) -> None:
    first = farm.add("sidecar-1", CAM)
    live = await farm.online("cam")
    Viewer(live)
    second = farm.add("sidecar-2", CAM)
    await eventually(lambda: second.asked > 3)
    assert (live.source, second.taken) == ("sidecar-1", 0)
    first.failing = Gone("connection refused")
    first.forget_leases()
    await eventually(lambda: live.source == "sidecar-2")
    await farm.online("cam")
    assert farm.found("cam") is live


async def test_one_that_is_slow_once_is_not_gone(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM)
    live = await farm.online("cam")
    sidecar.failing = ControlError("no answer in time")
    asked = sidecar.asked
    await asyncio.sleep(0)
    sidecar.failing = None
    await eventually(lambda: sidecar.asked > asked)
    assert live.source == "sidecar-1"
    assert sidecar.taken == 1


async def test_one_that_does_not_answer_twice_is_gone(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM)
    live = await farm.online("cam")
    Viewer(live)
    sidecar.failing = ControlError("no answer in time")
    await eventually(lambda: live.source == "")


async def test_a_sidecar_that_leaves_the_catalog_is_asked_no_more(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM)
    await farm.online("cam")
    farm.remove("sidecar-1")
    await eventually(lambda: streams_of(farm) == [])
    await eventually(lambda: sidecar.released == 1)
    assert not sidecar.leases


async def test_a_stream_that_is_listed_no_more_is_given_back(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM, ON_DEMAND)
    await farm.online("cam")
    sidecar.lists.remove(CAM)
    await eventually(lambda: streams_of(farm) == ["film"])
    await eventually(lambda: not sidecar.leases)


async def test_a_lease_that_is_lost_is_taken_anew(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM)
    live = await farm.online("cam")
    sidecar.forget_leases()
    await eventually(lambda: sidecar.taken == 2, 8)
    await farm.online("cam")
    assert farm.found("cam") is live


async def test_a_lease_is_renewed_while_the_stream_is_there(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM)
    await farm.online("cam")
    await eventually(lambda: sidecar.leases["lease-1"].renewed >= 1, 8)
    assert sidecar.taken == 1


async def test_packets_of_other_hosts_are_refused_and_counted(farm: Farm) -> None:
    sidecar = farm.add("sidecar-1", CAM, host="127.0.0.7")
    await farm.online("cam")
    assert farm.sidecars.refused == {}
    sidecar.forget_leases()
    sidecar.host = "127.0.0.8"
    await eventually(lambda: farm.sidecars.refused[ADDRESS] > 0, 8)


async def test_a_stream_of_a_publisher_is_left_to_it_until_it_ends(farm: Farm) -> None:
    theirs = farm.streams.open(described("cam"), "a publisher")
    sidecar = farm.add("sidecar-1", CAM)
    await eventually(lambda: sidecar.asked > 3)
    assert (theirs.source, sidecar.taken) == ("a publisher", 0)
    farm.streams.close(theirs, "it has ended", 0.0)
    live = await farm.online("cam")
    assert live.source == "sidecar-1"


async def test_a_name_that_is_none_harms_no_other_stream(farm: Farm) -> None:
    farm.add("sidecar-1", Listed(described("no name")), CAM)
    await farm.online("cam")
    assert streams_of(farm) == ["cam"]


async def test_at_the_end_all_leases_are_given_back() -> None:
    async with running() as farm:
        sidecar = farm.add("sidecar-1", CAM, PER_VIEWER)
        await farm.online("cam")
        Viewer(await farm.streams.watch("clip"))
        await eventually(lambda: len(sidecar.leases) == 2)
    assert (sidecar.released, sidecar.leases) == (2, {})
    assert streams_of(farm) == []


async def test_the_end_does_not_wait_long_for_a_sidecar_that_hangs() -> None:
    hanging = asyncio.Event()

    class Hanging(TestedSidecar):
        async def release(self, lease: str) -> None:
            await hanging.wait()

    farm = Farm()
    sidecar = Hanging(lists=[CAM])
    farm.there[Instance("sidecar-1", "127.0.0.1", 8090)] = sidecar
    farm.sidecars.start()
    await farm.online("cam")
    async with asyncio.timeout(5):
        await farm.sidecars.stop()
    assert streams_of(farm) == []
    sidecar.forget_leases()
