"""The hub's page and its stream, in Chromium: nothing is lost or shown twice, whatever happens to
the connection.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
from tests.harness.capabilities import require
from tests.harness.chromium import WITHIN_S, Tab, chromium, until
from tests.harness.eventually import eventually
from tests.harness.scripted_http import Asked
from tests.harness.sse_hub import HubProcess, nginx
from tests.harness.sse_server import Peer, Script, SseServer, answer, stream

from callboard import hub as hub_package
from callboard.events.encoder import block
from callboard.hub.event import Format, named, ndjson

POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
FOLDER = Path(hub_package.__file__).with_name("page")
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
HUB = "/.well-known/mercure"
HELLO = block(None, retry_ms=300) + named(
    Format.SSE, "hub.hello", {"cursor": "#e.0", "retry": 300}, id="#e.0"
)

pytestmark = pytest.mark.timeout(300)


def event(offset: int, data: str = "", type: str = "") -> bytes:
    """An update as the hub sends it."""
    return block((data or f"event {offset}").encode(), id=f"#e.{offset}", type=type)


class HubPage(Tab):
    """The page, as one sees it."""

    async def subscribe(self, beat_s: int, token: str = "''") -> None:
        """A stream beside the page's form: what comes is in `data`, when (ms) in `times`."""
        await self.run(
            "import('./eventstream.js').then(({EventStream}) => {"
            "  window.data = []; window.times = [];"
            f" const options = {{topics: ['/a'], beatS: {beat_s}, token: {token}}};"
            "  new EventStream('.well-known/mercure', options).addEventListener('update', e => {"
            "    data.push(e.detail.data); times.push(performance.now());"
            "  })"
            "})"
        )

    async def shown(self) -> list[str]:
        """The data of the events in the list, the oldest first."""
        script = "[...document.querySelectorAll('#log li')].map(li => li.lastChild.textContent)"
        return list(reversed(await self.run(script)))

    async def shows(self, *data: str) -> None:
        """Wait until the list has exactly these events."""

        async def has() -> bool:
            shown = await self.shown()
            assert len(shown) <= len(data), shown
            return shown == list(data)

        await until(has)

    async def state(self, wanted: str) -> None:
        """Wait for a state of the stream."""

        async def has() -> bool:
            return await self.text("state") == wanted

        await until(has)


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[HubPage]:
    """A browser of the test's own."""
    async with chromium(tmp_path / "profile") as opened:
        yield HubPage(opened.socket)


# ---------------------------------------------------------------------------- a scripted hub


class Scripted:
    """The page's files, and a hub whose streams and polls are what a test wrote down."""

    def __init__(self) -> None:
        self.streams: list[Script] = []
        """One for each stream in turn; the last one for all that follow."""
        self.polls: list[Script] = []
        self.asked: list[Asked] = []
        """The requests for streams and polls."""
        self.paths: list[str] = []
        self.prefix = ""
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        path = peer.request.path
        self.paths.append(path)
        inside = path.removeprefix(self.prefix)
        if inside == HUB:
            self._hub(peer)
        elif inside == "/stats":
            peer.whole(200, b'{"subscribers": 41, "cuts": {"stalled": 2}}', "application/json")
        elif inside.startswith("/t/"):
            peer.whole(200, b"#e.9\n")
        elif (file := FOLDER / (inside.strip("/") or "index.html")).is_file():
            policy = {"Content-Security-Policy": POLICY}
            peer.whole(200, file.read_bytes(), KINDS[file.suffix], policy)
        else:
            peer.whole(404)

    def _hub(self, peer: Peer) -> None:
        with self._lock:
            self.asked.append(peer.request)
            scripts = self.polls if "poll" in peer.request.query else self.streams
            script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        script(peer)

    def queries(self, name: str) -> list[str | None]:
        """A parameter of each request for a stream or a poll."""
        return [request.query.get(name) for request in self.asked]


@pytest.fixture
def hub() -> Scripted:
    """A hub without any script."""
    return Scripted()


@pytest.fixture
def url(hub: Scripted) -> Iterator[str]:
    """Its address."""
    with SseServer(hub) as server:
        yield server.url


# ---------------------------------------------------------------------------- tests


async def test_the_page_shows_every_event_as_text(tab: HubPage, hub: Scripted, url: str) -> None:
    markup = "<b id=bold>x</b>\nsecond line"
    hub.streams = [stream(HELLO, event(1, markup), event(2, "named", "deploy"), event(3))]
    await tab.open(f"{url}/")
    await tab.fill("subscribe", topics="builds /other", types="deploy")
    await tab.shows(markup, "named", "event 3")
    assert await tab.text("state") == "live"
    assert await tab.run("document.getElementById('bold')") is None
    (asked,) = hub.asked
    assert asked.target.count("topic=") == 2
    assert "topic=%2Fbuilds" in asked.target and asked.query["beat"] == "10"
    await eventually(lambda: tab.run("document.getElementById('cursor').textContent === '#e.3'"))
    assert "41" in await tab.text("stats")


async def test_the_page_shows_how_fast_events_come_and_how_late(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    now_ms = int(time.time() * 1000)
    beats = [named(Format.SSE, "hub.beat", {"time": now_ms - late}) for late in (0, 700)]
    hub.streams = [stream(HELLO, *map(event, range(1, 21)), *beats)]
    await tab.open(f"{url}/")
    await tab.fill("subscribe")

    async def late() -> bool:  # by the second beat, which took so much longer than the first
        lag = await tab.text("lag")
        return lag.endswith(" ms") and 700 <= int(lag.removesuffix(" ms")) < 5_000

    await until(late)

    async def fast() -> bool:  # twenty in five seconds, while they last
        return await tab.text("rate") == "4.0"

    await until(fast)
    assert await tab.text("events") == "20"

    async def calm() -> bool:
        return await tab.text("rate") == "0.0"

    await until(calm)


async def test_a_stream_that_ends_is_resumed_and_a_repeat_is_not_shown(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    hub.streams = [
        stream(HELLO, event(1), event(2), stay=False),
        stream(HELLO, event(2), event(3), stay=False),
        stream(HELLO, event(4)),
    ]
    await tab.open(f"{url}/")
    await tab.fill("subscribe")
    await tab.shows("event 1", "event 2", "event 3", "event 4")
    assert hub.queries("lastEventID") == [None, "#e.2", "#e.3"]


async def test_an_id_that_a_publisher_gave_has_no_order(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    hub.streams = [stream(HELLO, *(block(id.encode(), id=id) for id in ("v1.9", "v1.5", "v1.9")))]
    await tab.open(f"{url}/")
    await tab.fill("subscribe")
    await tab.shows("v1.9", "v1.5", "v1.9")


async def test_values_of_the_catalog_that_have_no_id_are_all_shown(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    values = [block(f"value {number}".encode()) for number in range(3)]
    hub.streams = [stream(HELLO, *values)]
    await tab.open(f"{url}/")
    await tab.fill("subscribe", topics="/catalog/services/web /builds")
    await tab.shows("value 0", "value 1", "value 2")


async def test_a_stream_that_is_held_back_is_polled_from_the_same_place(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    hello = named(Format.NDJSON, "hub.hello", {"cursor": "#e.5"}, id="#e.5")
    first = ndjson("#e.6", "", b"six", time_ms=1) + ndjson("#e.7", "other", b"not asked for")
    end = named(Format.NDJSON, "hub.beat", {}, id="#e.8")
    hub.streams = [Peer.stay]
    hub.polls = [
        stream(hello, first, end, stay=False),
        stream(ndjson("#e.9", "", b"nine"), stay=False),
        Peer.stay,
    ]
    await tab.open(f"{url}/")
    await tab.fill("subscribe")
    await tab.state("polling")
    await tab.shows("six", "nine")
    await eventually(lambda: len(hub.asked) == 4)
    assert hub.queries("poll") == [None, "25", "25", "25"]
    assert hub.queries("lastEventID") == [None, None, "#e.8", "#e.9"]
    asked_first, then, *others = hub.queries("since")
    assert asked_first is None and others == [None, None]
    assert then is not None and 3000 <= int(then.removesuffix("ms")) < 20_000


async def test_polls_that_bring_nothing_at_once_do_not_follow_each_other_at_once(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    times = []

    def nothing(peer: Peer) -> None:
        times.append(time.monotonic())
        hello = named(Format.NDJSON, "hub.hello", {"cursor": "#e.5", "retry": 300}, id="#e.5")
        stream(hello, stay=False)(peer)

    hub.streams, hub.polls = [Peer.stay], [nothing]
    await tab.open(f"{url}/")
    await tab.fill("subscribe")
    await eventually(lambda: len(times) > 4, WITHIN_S)
    assert times[4] - times[0] > 0.8
    assert await tab.text("state") == "polling"


async def test_no_server_is_waited_for_longer_than_ten_minutes(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    """A browser's timer of more than 24 days ends at once."""
    limit = named(Format.SSE, "hub.limit", {"reason": "too many streams", "retry": 10**13})
    hub.streams = [stream(limit)]
    await tab.open(f"{url}/")
    await tab.run(
        "{const real = setTimeout; window.waits = [];"
        " window.setTimeout = (call, ms) => {waits.push(ms); return real(call, ms);}}"
    )
    await tab.fill("subscribe")
    await tab.state("waiting")
    assert max(await tab.run("waits")) == 600_000


async def test_a_stream_without_beats_is_left_after_two_and_a_half(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    hub.streams = [stream(HELLO, event(1)), stream(HELLO, event(2))]
    await tab.open(f"{url}/")
    await tab.subscribe(beat_s=1)
    await eventually(lambda: tab.run("data.join() === 'event 1,event 2'"), WITHIN_S)
    assert await tab.run("times[1] - times[0]") >= 2400
    assert hub.queries("lastEventID") == [None, "#e.1"]


async def test_a_page_that_is_looked_at_again_renews_a_silent_stream(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    hub.streams = [stream(HELLO, event(1)), stream(HELLO, event(2))]
    await tab.open(f"{url}/")
    await tab.subscribe(beat_s=100)
    await eventually(lambda: tab.run("data.length === 1"), WITHIN_S)
    look = "document.dispatchEvent(new Event('visibilitychange')), data.length"
    assert await tab.run(look) == 1
    assert len(hub.asked) == 1, "it was heard of a moment ago"
    await tab.run("{const now = Date.now; Date.now = () => now() + 101000}")
    await tab.run(look)
    await eventually(lambda: tab.run("data.join() === 'event 1,event 2'"), WITHIN_S)


async def test_a_token_that_ends_is_asked_for_and_the_stream_goes_on(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    bye = named(Format.SSE, "hub.bye", {"reason": "token", "ends_in": 30})
    hub.streams = [stream(HELLO, event(1), bye, event(2)), stream(HELLO, event(3))]
    await tab.open(f"{url}/")
    await tab.fill("subscribe", token="old")
    await tab.shows("event 1", "event 2")
    assert await tab.run("!document.getElementById('renewal').hidden")
    await tab.fill("subscribe", token="new")
    await tab.shows("event 1", "event 2", "event 3")
    assert hub.queries("authorization") == ["old", "new"]
    assert hub.queries("lastEventID") == [None, "#e.2"]
    assert await tab.run("document.getElementById('renewal').hidden")


async def test_tokens_that_all_end_soon_are_each_used_for_half_of_their_time(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    bye = named(Format.SSE, "hub.bye", {"reason": "token", "ends_in": 20})
    hub.streams = [stream(HELLO, event(n), bye) for n in (1, 2, 3)] + [stream(HELLO, event(4))]
    await tab.open(f"{url}/")
    await tab.run(  # half of twenty seconds pass at once, and are counted
        "{const real = setTimeout; window.waits = [];"
        " const isHalf = (ms) => ms >= 8000 && ms <= 12000;"
        " window.setTimeout = (call, ms) => real(call, isHalf(ms) ? waits.push(ms) : ms);}"
    )
    await tab.subscribe(beat_s=10, token="() => `t${window.given = (window.given ?? 0) + 1}`")
    await eventually(lambda: tab.run("data.length === 4"), WITHIN_S)
    assert await tab.run("data.join()") == "event 1,event 2,event 3,event 4"
    assert await tab.run("waits.length") == 2, "the first token may have been old"
    assert hub.queries("authorization") == ["t1", "t2", "t3", "t4"]
    assert hub.queries("lastEventID") == [None, "#e.1", "#e.2", "#e.3"]


async def test_a_hub_that_wants_a_token_is_heard_although_eventsource_gives_up(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    hub.streams = [answer(401, b"a token is needed"), stream(HELLO, event(1))]
    hub.polls = [answer(401, b"a token is needed")]
    await tab.open(f"{url}/")
    await tab.fill("subscribe")
    await tab.state("token")
    assert await tab.text("reason") == "a token is needed"
    await tab.fill("subscribe", token="mine")
    await tab.shows("event 1")


async def test_a_limit_is_told_and_the_page_comes_back_when_it_is_said(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    limit = named(Format.SSE, "hub.limit", {"reason": "too many streams", "retry": 500})
    hub.streams = [stream(limit, stay=False), stream(HELLO, event(1))]
    await tab.open(f"{url}/")
    await tab.run(
        "{window.reasons = [];"
        " new MutationObserver(() => reasons.push(document.getElementById('reason').textContent))"
        " .observe(document.getElementById('reason'), {childList: true})}"
    )
    await tab.fill("subscribe")
    await tab.shows("event 1")
    assert "too many streams" in await tab.run("reasons")


async def test_a_gap_is_shown_where_it_is(tab: HubPage, hub: Scripted, url: str) -> None:
    fields: dict[str, object] = {"requested": "#e.1", "oldest": "#e.7", "newest": "#e.9", "lost": 6}
    gap = named(Format.SSE, "hub.gap", fields, id="#e.7")
    hub.streams = [stream(HELLO, event(1), gap, event(8))]
    await tab.open(f"{url}/")
    await tab.fill("subscribe")
    told = "gap: the hub keeps 6 updates no more; it goes on after #e.7"
    await tab.shows("event 1", told, "event 8")


async def test_a_history_that_was_lost_and_counts_anew_is_shown(
    tab: HubPage, hub: Scripted, url: str
) -> None:
    fields: dict[str, object] = {"requested": "#e.5", "oldest": "#e.0", "newest": "#e.1"}
    gap = named(Format.SSE, "hub.gap", fields, id="#e.0")
    hub.streams = [
        stream(HELLO, event(5), stay=False),
        stream(HELLO, gap, event(1, "anew")),
    ]
    await tab.open(f"{url}/")
    await tab.fill("subscribe")
    told = "gap: the hub keeps updates no more; it goes on after #e.0"
    await tab.shows("event 5", told, "anew")


async def test_the_page_works_below_a_prefix(tab: HubPage, hub: Scripted, url: str) -> None:
    hub.prefix = "/hub"
    hub.streams = [stream(HELLO, event(1))]
    await tab.open(f"{url}/hub/")
    await tab.fill("subscribe")
    await tab.shows("event 1")
    await tab.fill("publish", topic="a/b c", data="x")
    await eventually(lambda: tab.run("document.getElementById('published').textContent === '#e.9'"))
    assert "/hub/t/a/b%20c" in hub.paths
    assert all(path.startswith("/hub/") for path in hub.paths if path != "/favicon.ico")


@pytest.mark.parametrize("topic", ["/a/../b", "/a//b", "/a/{id}", "urn:a:b", "/"])
async def test_a_topic_that_is_no_plain_path_is_published_by_the_protocol(
    tab: HubPage, hub: Scripted, url: str, topic: str
) -> None:
    hub.streams = [lambda peer: peer.whole(200, b"#e.9")]
    await tab.open(f"{url}/")
    await tab.fill("publish", topic=topic, data="x")
    await eventually(lambda: tab.run("document.getElementById('published').textContent === '#e.9'"))
    (asked,) = hub.asked
    assert parse_qsl(asked.body.decode()) == [("topic", topic), ("data", "x")]


# ---------------------------------------------------------------------------- the real hub


@pytest.fixture
def real(tmp_path: Path) -> Iterator[HubProcess]:
    """The program, with a history of its own."""
    place = tmp_path / "hub"
    place.mkdir()
    with HubProcess(place) as hub:
        yield hub


def publish(url: str, data: str, **query: str) -> str:
    """Publish to /t/builds; the event's id."""
    target = f"{url}/t/builds?{urlencode(query)}"
    request = urllib.request.Request(target, data.encode(), method="POST")
    with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
        return str(answer.read().decode().strip())


async def test_what_the_page_publishes_it_is_shown(tab: HubPage, real: HubProcess) -> None:
    await tab.open(f"{real.url}/")
    await tab.fill("subscribe", topics="/builds")
    await tab.state("live")
    await tab.fill("publish", topic="builds", data="from the page\nin two lines")
    await tab.shows("from the page\nin two lines")
    id = await tab.text("published")
    assert id == await tab.run("document.querySelector('#log .id').textContent.trim()")
    await eventually(lambda: tab.run("document.getElementById('stats').textContent !== ''"))


async def test_a_killed_hub_costs_the_page_no_event_and_repeats_none(
    tab: HubPage, real: HubProcess
) -> None:
    await tab.open(f"{real.url}/")
    await tab.fill("subscribe", topics="/builds")
    await tab.state("live")
    said = []
    for number in range(3):
        for part in range(5):
            said.append(f"{number}.{part}")
            await asyncio.to_thread(publish, real.url, said[-1])
        real.end(signal.SIGKILL)
        await asyncio.to_thread(real.start)
        said.append(f"{number} while the page is away, or not")
        await asyncio.to_thread(publish, real.url, said[-1])
        await tab.shows(*said)
    await tab.state("live")


async def test_a_proxy_that_holds_streams_back_is_polled_through(
    tab: HubPage, real: HubProcess, tmp_path: Path
) -> None:
    require("nginx")
    held = ["proxy_ignore_headers X-Accel-Buffering"]
    async with nginx(tmp_path, real.port, held) as front:
        await tab.open(f"{front}/")
        await tab.fill("subscribe", topics="/builds")
        await eventually(lambda: real.figures()["subscribers"] == 1)
        said = ["published while the stream is held back"]
        await asyncio.to_thread(publish, real.url, said[0])
        await tab.state("polling")
        await tab.shows(*said)
        for number in range(5):
            said.append(f"event {number}")
            await asyncio.to_thread(publish, real.url, said[-1])
        await tab.shows(*said)


async def test_private_events_go_on_past_the_end_of_a_token(tab: HubPage, real: HubProcess) -> None:
    await tab.open(f"{real.url}/")
    await tab.fill(
        "subscribe", topics="/builds", token=real.token("subscribe", "/builds", lasts_s=8)
    )
    await tab.state("token")
    await asyncio.to_thread(publish, real.url, "with the first", private="on")
    await tab.shows("with the first")
    await tab.fill("subscribe", token=real.token("subscribe", "/builds"))
    await tab.state("live")
    await asyncio.to_thread(publish, real.url, "with the second", private="on")
    await tab.shows("with the first", "with the second")


async def test_a_token_that_the_hub_never_took_is_told(tab: HubPage, real: HubProcess) -> None:
    await tab.open(f"{real.url}/")
    await tab.fill("subscribe", topics="/builds", token="rubbish")
    await tab.state("token")
    await tab.fill("subscribe", token=real.token("subscribe", "/builds"))
    await tab.state("live")
