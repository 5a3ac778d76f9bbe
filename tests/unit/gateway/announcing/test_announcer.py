"""Media events reach a real hub, and nothing waits for one that is not there."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.harness.eventually import eventually
from tests.harness.sockets import free_port
from tests.harness.sse_hub import HubProcess

from callboard.events import subscribe
from callboard.gateway.announcing.announcer import NO_HUB, QUEUE_FULL, REFUSED, Announcer
from callboard.gateway.announcing.events import MediaEvent, Reading

STREAM = Reading("cam", "A camera", online=True, viewers=0, keyframes=0, octets=0)


class Streams:
    """Readings that a test changes."""

    def __init__(self) -> None:
        self.there: list[Reading] = []

    def __call__(self) -> Iterable[Reading]:
        return self.there


@asynccontextmanager
async def running(announcer: Announcer) -> AsyncIterator[Announcer]:
    await announcer.start()
    try:
        yield announcer
    finally:
        await announcer.stop()


async def test_what_happens_to_a_stream_is_told_to_the_hub(tmp_path: Path) -> None:
    streams = Streams()
    with HubProcess(tmp_path / "hub") as hub:
        announcer = Announcer(streams, lambda: hub.url, look_interval_s=0.01)
        async with running(announcer), subscribe("/media/streams/cam", hub=hub.url) as events:

            async def next_one() -> dict[str, Any]:
                async with asyncio.timeout(20):
                    found: dict[str, Any] = json.loads((await anext(events)).data)
                    return found

            waiting = asyncio.create_task(next_one())
            await eventually(lambda: hub.figures()["subscribers"] == 1)
            streams.there = [STREAM]
            assert (await waiting)["event"] == "up"
            streams.there = [replace(STREAM, viewers=3)]
            told = await next_one()
            assert (told["event"], told["viewers"], told["stream"]) == ("viewers", 3, "cam")
            streams.there = []
            assert (await next_one())["event"] == "down"
            await eventually(lambda: announcer.published == 3)


async def test_without_a_hub_events_are_dropped_and_counted() -> None:
    streams = Streams()
    async with running(Announcer(streams, lambda: None, look_interval_s=0.01)) as announcer:
        streams.there = [STREAM]
        await eventually(lambda: announcer.dropped[NO_HUB] == 1)
        streams.there = []
        await eventually(lambda: announcer.dropped[NO_HUB] == 2)
    assert announcer.published == 0


async def test_a_hub_that_does_not_answer_is_told_of_and_the_event_is_counted() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    avoided: list[str] = []
    announcer = Announcer(
        Streams(), lambda: url, avoid=avoided.append, look_interval_s=60, publish_s=0.2
    )
    async with running(announcer):
        announcer.announce([MediaEvent("/media/streams/cam", "{}")])
        await eventually(lambda: avoided)
    assert avoided == [url]
    assert announcer.dropped == {REFUSED: 1}


async def test_a_hub_that_refuses_costs_that_event_alone(tmp_path: Path) -> None:
    with HubProcess(tmp_path / "hub") as hub:
        announcer = Announcer(Streams(), lambda: hub.url, token="no.real.token", look_interval_s=60)
        async with running(announcer):
            announcer.announce([MediaEvent("/media/streams/cam", "{}")])
            await eventually(lambda: announcer.dropped[REFUSED] == 1)


async def test_while_the_hub_is_stopped_the_oldest_events_are_dropped(tmp_path: Path) -> None:
    with HubProcess(tmp_path / "hub") as hub:
        process = hub._process
        assert process is not None
        announcer = Announcer(Streams(), lambda: hub.url, look_interval_s=60, queue_max=4)
        async with running(announcer):
            process.send_signal(signal.SIGSTOP)
            try:
                announcer.announce([MediaEvent("/media/streams/cam", "0")])
                await eventually(lambda: not announcer.waiting)
                events = [MediaEvent("/media/streams/cam", str(n)) for n in range(1, 11)]
                announcer.announce(events)
                assert announcer.dropped == {QUEUE_FULL: 6}
            finally:
                process.send_signal(signal.SIGCONT)
            await eventually(lambda: announcer.published == 5)
        assert hub.figures()["history"]["head"] == 5


async def test_events_go_to_the_next_hub_when_the_first_one_has_gone(tmp_path: Path) -> None:
    with HubProcess(tmp_path / "a") as first, HubProcess(tmp_path / "b") as second:
        there = [first.url]
        announcer = Announcer(Streams(), lambda: there[0], look_interval_s=60)
        async with running(announcer):
            announcer.announce([MediaEvent("/media/streams/cam", "1")])
            await eventually(lambda: announcer.published == 1)
            there[0] = second.url
            announcer.announce([MediaEvent("/media/streams/cam", "2")])
            await eventually(lambda: announcer.published == 2)
        heads = [hub.figures()["history"]["head"] for hub in (first, second)]
    assert heads == [1, 1]


async def test_what_happens_last_is_told_before_the_end(tmp_path: Path) -> None:
    streams = Streams()
    with HubProcess(tmp_path / "hub") as hub:
        announcer = Announcer(streams, lambda: hub.url, look_interval_s=60)
        await announcer.start()
        streams.there = [STREAM]
        await announcer.stop()
        assert announcer.published == 1
        assert hub.figures()["history"]["head"] == 1


async def test_the_end_does_not_wait_long_for_a_hub_that_is_gone() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    streams = Streams()
    announcer = Announcer(streams, lambda: url, look_interval_s=60)
    await announcer.start()
    streams.there = [STREAM]
    async with asyncio.timeout(4):
        await announcer.stop()
    assert announcer.published == 0
