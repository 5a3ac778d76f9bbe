"""Both clients with a real hub: killed, drained, behind proxies, out of history."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.sse_hub import HubProcess, nginx
from tests.harness.sse_taking import Taking

from callboard.events import Gap, Publisher, Refused, publish, synchronous
from callboard.hub.commands import doctor
from callboard.hub.commands.asking import Asking

pytestmark = pytest.mark.timeout(300)
WITHIN_S = 40.0


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with HubProcess(tmp_path_factory.mktemp("hub")) as process:
        yield process


@pytest.fixture
def hub(shared: HubProcess) -> HubProcess:
    """A hub that is everybody's: each test has a topic of its own."""
    return shared


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return "tests/" + str(request.node.name).replace("[", "/").rstrip("]")


class Publishing:
    """Publishes numbers, one after the other, whatever happens to the hub."""

    def __init__(self, url: str) -> None:
        self.count = 0
        self._task = asyncio.get_running_loop().create_task(self._run(url))

    async def stop(self) -> list[str]:
        """Stop; all that was acknowledged, and what may have been taken last."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        return [str(number) for number in range(self.count)]

    async def _run(self, url: str) -> None:
        async with Publisher(url) as publisher:
            while True:
                await publisher.publish("numbers", str(self.count))
                self.count += 1
                await asyncio.sleep(0)


async def test_what_is_published_comes(kind: str, hub: HubProcess, topic: str) -> None:
    async with Taking(kind, topic, hub=hub.url, lines=True) as taking:
        await taking.begun()
        if kind == "async":
            id = await publish(topic, "a\nb", hub=hub.url, type="x")
        else:
            id = await asyncio.to_thread(
                lambda: synchronous.publish(topic, "a\nb", hub=hub.url, type="x")
            )
        await taking.until("a\nb")
    (event,) = taking.events
    assert (event.id, event.type, event.topics) == (id, "x", (f"/{topic}",))
    assert event.time_ms is not None


@pytest.mark.parametrize("signs", [[signal.SIGKILL, signal.SIGKILL], [signal.SIGTERM]])
async def test_a_hub_that_ends_and_comes_back_loses_and_repeats_nothing(
    tmp_path: Path, signs: list[signal.Signals]
) -> None:
    """For both clients at once: each waits some seconds before it comes back."""
    with HubProcess(tmp_path) as hub:
        begin: dict[str, Any] = {"hub": hub.url, "last_event_id": "earliest"}
        async with (
            Taking("async", "numbers", **begin) as first,
            Taking("sync", "numbers", **begin) as second,
        ):
            publishing = Publishing(hub.url)
            for sign in signs:
                await asyncio.gather(first.more(20, WITHIN_S), second.more(20, WITHIN_S))
                await asyncio.to_thread(hub.end, sign)
                await asyncio.to_thread(hub.start)
            await asyncio.gather(first.more(20, WITHIN_S), second.more(20, WITHIN_S))
            expected = await publishing.stop()
            least = len(expected)
            await eventually(lambda: len(first.data) >= least <= len(second.data), WITHIN_S)
            assert first.problem is second.problem is None
    for taking in (first, second):
        # of the publication that was stopped halfway it is not known whether it was taken
        assert taking.data[: len(expected)] == expected
        assert taking.data[len(expected) :] in ([], [str(len(expected))])


async def test_a_later_subscription_begins_where_it_is_told(
    kind: str, hub: HubProcess, topic: str
) -> None:
    ids = [await publish(topic, str(number), hub=hub.url) for number in range(5)]
    for options, data in (
        ({"last_event_id": ids[2]}, ["3", "4"]),
        ({"last_event_id": "earliest"}, ["0", "1", "2", "3", "4"]),
        ({"last": 1}, ["4"]),
        ({"since": "1h"}, ["0", "1", "2", "3", "4"]),
    ):
        wishes: dict[str, Any] = dict(options)
        async with Taking(kind, topic, hub=hub.url, **wishes) as taking:
            await taking.until(*data)


async def test_a_key_that_was_used_gives_the_first_events_id(hub: HubProcess, topic: str) -> None:
    first = await publish(topic, "x", hub=hub.url, idempotency_key="k")
    assert await publish(topic, "x", hub=hub.url, idempotency_key="k") == first
    assert await publish(topic, "x", hub=hub.url) != first


async def test_what_the_hub_no_longer_has_is_told_once(tmp_path: Path) -> None:
    with HubProcess(tmp_path, "-keep=3,,") as hub:
        first = await publish("builds", "0", hub=hub.url)
        for number in range(1, 8):
            await publish("builds", str(number), hub=hub.url)
        await eventually(lambda: hub.figures()["history"]["oldest"] == 6, WITHIN_S)
        await asyncio.to_thread(hub.end, signal.SIGTERM)  # memory still had them all
        await asyncio.to_thread(hub.start)
        for kind in ("async", "sync"):
            async with Taking(kind, "builds", hub=hub.url, last_event_id=first) as taking:
                await eventually(lambda: taking.data[-1:] == ["7"])
            gap, *shown = taking.events
            assert isinstance(gap, Gap)
            assert gap.requested == first
            assert gap.lost == 4
            assert [event.data for event in shown] == ["5", "6", "7"]


async def test_private_events_need_a_token_and_outlive_it(
    kind: str, hub: HubProcess, topic: str
) -> None:
    """The first token ends soon: the hub says so, and the client comes back with another."""
    lives = [34.0, 600.0]

    def renew() -> str:
        return hub.token("subscribe", "*", lasts_s=lives.pop(0) if lives else 600.0)

    async with Taking(kind, topic, hub=hub.url, token=renew) as taking:
        await taking.begun()
        await publish(topic, "before", hub=hub.url, private=True)
        await eventually(lambda: not lives, WITHIN_S)
        await publish(topic, "after", hub=hub.url, private=True)
        await taking.until("before", "after", timeout_s=WITHIN_S)


async def test_a_dead_token_is_refused_in_the_hubs_words(
    kind: str, hub: HubProcess, topic: str
) -> None:
    dead = hub.token("subscribe", "*", lasts_s=-60)
    async with Taking(kind, topic, hub=hub.url, token=dead) as taking:
        problem = await taking.failure()
    assert isinstance(problem, Refused)
    assert (problem.status, problem.error) == (401, "invalid_token")


async def test_publishing_by_the_protocol_needs_a_token(hub: HubProcess, topic: str) -> None:
    with pytest.raises(Refused) as caught:
        await publish([topic, "b"], "x", hub=hub.url)
    assert caught.value.status == 401
    token = hub.token("publish", "*")
    async with Taking("async", [topic, "b"], hub=hub.url) as taking:
        await taking.begun()
        await publish([topic, "b"], "x", hub=hub.url, token=token)
        await taking.until("x")


async def test_a_stream_passes_nginx_with_its_defaults(
    kind: str, hub: HubProcess, topic: str, tmp_path: Path
) -> None:
    require("nginx")
    async with nginx(tmp_path, hub.port) as url, Taking(kind, topic, hub=url) as taking:
        await taking.begun()
        await publish(topic, "x", hub=hub.url)
        await taking.until("x")
        assert not taking.stream._course.polling


@pytest.mark.slow
async def test_where_nginx_holds_streams_back_long_polls_bring_each_event_once(
    kind: str, hub: HubProcess, topic: str, tmp_path: Path
) -> None:
    require("nginx")
    buffers = ["proxy_buffering on", "proxy_ignore_headers X-Accel-Buffering"]
    before = hub.figures()["subscribed"]
    async with (
        nginx(tmp_path, hub.port, buffers) as url,
        Taking(kind, topic, hub=url) as taking,
    ):
        # the hub serves a stream that never comes: what goes into it comes by the first poll
        await eventually(lambda: hub.figures()["subscribed"] > before)
        await publish(topic, "0", hub=hub.url)
        await taking.until("0")
        assert taking.stream._course.polling
        for number in range(1, 30):
            await publish(topic, str(number), hub=hub.url)
        await taking.until(*map(str, range(30)))
        await taking.begun()
        await publish(topic, "last", hub=hub.url)
        await taking.until(*map(str, range(30)), "last")


@pytest.mark.slow
async def test_the_doctor_finds_nothing_bad_at_a_hub_and_a_proxy_that_buffers(
    hub: HubProcess, tmp_path: Path
) -> None:
    require("nginx")

    def found(url: str, token: str = "") -> list[str]:
        return list(map(str, doctor.examine(Asking(url, token, None))))

    buffers = ["proxy_ignore_headers X-Accel-Buffering"]
    async with nginx(tmp_path, hub.port, buffers) as url:
        direct, behind = await asyncio.gather(
            asyncio.to_thread(found, hub.url, hub.token("subscribe", "*")),
            asyncio.to_thread(found, url),
        )
    assert not [line for line in direct if line.startswith("bad")]
    assert "ok   hub         a hub answers, hub-1" in direct
    assert "ok   token       taken" in direct
    assert [line[:43] for line in behind if line.startswith("bad")] == [
        "bad  buffering   nothing came within 3 s: a"
    ]
    assert "ok   long poll   answered with 200: clients fall back to it" in behind
