"""Streams: limits, browsers, beats, lines of JSON, long polls, anonymous readers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.mercure_hub import MercureHub, local_hub

from callboard.hub.event import Publication
from callboard.hub.ports import HistoryBusy, Taken
from callboard.hub.subscribers.limits import ReaderLimits

ONE = ReaderLimits(readers_max=1)
BROWSERS = [
    {"Sec-Fetch-Mode": "cors"},
    {"Origin": "https://app.example"},
    {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"},
]


@pytest.mark.parametrize("sign", BROWSERS)
@pytest.mark.parametrize("path", ["/.well-known/mercure?topic=/a", "/t/a"])
async def test_a_browser_over_a_limit_hears_why_and_comes_back(
    tmp_path: Path, path: str, sign: dict[str, str]
) -> None:
    """EventSource takes any other status for the end."""
    async with local_hub(tmp_path, limits=ONE) as local:
        hub = local.hub
        async with hub.stream(path="/t/first"):
            await eventually(lambda: len(local.readers) == 1)
            headers = {"Accept": "text/event-stream", **sign}
            async with hub.stream(path=path, headers=headers) as stream:
                assert stream.status == 200
                assert "no-store" in stream.headers["Cache-Control"]
                event = await stream.event()
                body = await stream.rest()
    assert event.type == "hub.limit"
    told = json.loads(event.data)
    assert "subscribers" in told["reason"]
    assert body.startswith(b"retry: %d\n\n" % told["retry"])
    assert 5_000 <= told["retry"] <= 20_000


@pytest.mark.parametrize(
    "headers", [{}, {"Accept": "text/event-stream"}, {"Sec-Fetch-Mode": "cors", "Accept": "*/*"}]
)
async def test_all_others_over_a_limit_get_the_status(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with local_hub(tmp_path, limits=ONE) as local, local.hub.stream(path="/t/first"):
        await eventually(lambda: len(local.readers) == 1)
        answer = await local.hub.ask("GET", "/t/a", headers=headers)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_place_is_free_again_when_its_reader_has_gone(tmp_path: Path) -> None:
    async with local_hub(tmp_path, limits=ONE) as local:
        for _ in range(3):
            async with local.hub.stream(path="/t/a") as stream:
                assert stream.status == 200
                await stream.event()
            await eventually(lambda: not len(local.readers))


async def test_a_head_opens_no_stream(tmp_path: Path) -> None:
    async with local_hub(tmp_path) as local:
        answer = await local.hub.ask("HEAD", "/t/a")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert local.readers.counts.begun == 0


@pytest.mark.slow
async def test_beats_are_asked_for(tmp_path: Path) -> None:
    async with (
        local_hub(tmp_path) as local,
        local.hub.stream(("topic", "/a"), ("beat", "1")) as stream,
    ):
        assert (await stream.event()).type == "hub.hello"
        assert (await stream.event()).type == "hub.beat"


@pytest.mark.parametrize("how", ["accept", "format"])
async def test_lines_of_json_are_the_same_stream(tmp_path: Path, how: str) -> None:
    async with local_hub(tmp_path) as local:
        hub = local.hub
        headers = {"Accept": "application/x-ndjson"} if how == "accept" else {}
        query = [("topic", "/a"), ("last_event_id", "earliest"), ("poll", "2")]
        await hub.publish(("topic", "/a"), ("data", "x\ny"), ("type", "t"))
        query += [("format", "ndjson")] if how == "format" else []
        answer = await hub.ask("GET", query=query, headers=headers)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.body.splitlines()]
    (only,) = [line for line in lines if not line["type"].startswith("hub.")]
    assert (only["data"], only["type"], only["topics"]) == ("x\ny", "t", ["/a"])


async def test_a_hub_may_want_a_token_of_every_reader(tmp_path: Path) -> None:
    async with local_hub(tmp_path, anonymous=False) as local:
        hub = local.hub
        for path in ("/.well-known/mercure?topic=/a", "/t/a"):
            answer = await hub.ask("GET", path)
            assert answer.status == 401
            assert "error" not in answer.challenge
            async with hub.stream(path=path, token=hub.token(subscribe=[])) as stream:
                assert stream.status == 200


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_dead_cookie_is_never_answered_with_401_in_a_browser(
    tmp_path: Path, scheme: str
) -> None:
    async with local_hub(tmp_path) as local:
        hub = local.hub
        headers = {
            "Accept": "text/event-stream",
            "User-Agent": "Mozilla/5.0",
            "Cookie": f"mercureAuthorization={hub.token(subscribe=['*'], exp=1)}",
            "X-Forwarded-Proto": scheme,
        }
        async with hub.stream(("topic", "/a"), headers=headers) as stream:
            assert stream.status == 200
            event = await stream.event()
            await stream.rest()
    assert event.type == "hub.bye"
    assert json.loads(event.data)["reason"] == "token"


async def test_announcements_cost_nothing_where_they_are_off(tmp_path: Path) -> None:
    async with local_hub(tmp_path, subscriptions=False) as local:
        hub = local.hub
        async with hub.stream(("match", "/a")) as stream:
            await hub.publish(("topic", "/a"), ("data", "x"))
            await stream.message()
        assert local.history.head == 1
        path = "/.well-known/mercure/subscriptions"
        assert (await hub.ask("GET", path, token=hub.token(subscribe=["*"]))).status == 404
        metadata = "/.well-known/oauth-protected-resource/.well-known/mercure"
        assert "mercure_subscriptions" not in json.loads((await hub.ask("GET", metadata)).body)


async def test_a_long_poll_announces_nothing(tmp_path: Path) -> None:
    async with local_hub(tmp_path) as local:
        await local.hub.ask("GET", query=[("topic", "/a"), ("poll", "0")])
        assert local.history.head == 0


async def test_streams_of_one_request_each_get_another_subscriber(tmp_path: Path) -> None:
    async with local_hub(tmp_path) as local:
        hub: MercureHub = local.hub
        async with hub.stream(("match", "/a")), hub.stream(("match", "/a")):
            await eventually(lambda: len(local.application.presence.active) == 2)
        await eventually(lambda: not len(local.application.presence.active))


async def test_a_history_that_refuses_costs_an_announcement_and_no_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(publication: Publication, taken: Taken) -> None:
        raise HistoryBusy("too many wait")

    async with local_hub(tmp_path) as local:
        monkeypatch.setattr(local.history, "submit", refuse)
        async with local.hub.stream(("match", "/a"), ("beat", "60")) as stream:
            assert (await stream.event()).type == "hub.hello"
        await eventually(lambda: not len(local.application.presence.active))
    assert "subscription event lost" in caplog.text
