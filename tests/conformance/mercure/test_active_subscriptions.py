"""draft-dunglas-mercure-08, Active Subscriptions: events and the web API (forms of version 1.0)."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from tests.harness.mercure_hub import HUB, Answered, EventStream, MercureHub, detail, pattern

BELOW = f"{HUB}/subscriptions"
WATCH = detail(["subscribe"], pattern(f"{BELOW}*"), pattern(f"{BELOW}/*"))
A = quote("/a", safe="")
URN = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@asynccontextmanager
async def watching(hub: MercureHub) -> AsyncIterator[EventStream]:
    """A stream of subscription events, after its own."""
    token = hub.access_token(WATCH)
    async with hub.stream(("match_urlpattern", f"{BELOW}/*"), token=token) as stream:
        await stream.message()
        yield stream


async def read(hub: MercureHub, path: str = BELOW, token: str | None = None) -> Answered:
    return await hub.ask("GET", path, token=hub.access_token(WATCH) if token is None else token)


async def documents(hub: MercureHub, path: str = BELOW) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((await read(hub, path)).body)["subscriptions"]
    return found


async def test_beginning_and_end_of_a_subscription_are_published(hub: MercureHub) -> None:
    """Subscription Events: an update MUST be published for each; its topic and its document."""
    reader = hub.access_token(detail(["subscribe"], "/a", payload={"name": "Bob"}))
    async with watching(hub) as stream:
        async with hub.stream(("match", "/a"), token=reader):
            began = await stream.message()
        ended = await stream.message()
    document = json.loads(began.data)
    assert began.type == ended.type == "mercure"
    assert URN.fullmatch(document["subscriber"])
    assert document == {
        "id": f"{BELOW}/exact/{A}/{quote(document['subscriber'], safe='')}",
        "type": "subscription",
        "match": "/a",
        "match_type": "exact",
        "subscriber": document["subscriber"],
        "active": True,
        "payload": {"name": "Bob"},
    }
    assert json.loads(ended.data) == document | {"active": False}


async def test_each_matcher_is_a_subscription_of_one_subscriber(hub: MercureHub) -> None:
    """Subscription: one for every topic matcher parameter; {match} is percent-encoded once."""
    text = "https://example.com/%41/:id"
    async with watching(hub) as stream, hub.stream(("match", "/a"), ("match_urlpattern", text)):
        found = [json.loads((await stream.message()).data) for _ in range(2)]
    assert [one["match_type"] for one in found] == ["exact", "urlpattern"]
    assert len({one["subscriber"] for one in found}) == 1
    assert f"/urlpattern/{quote(text, safe='')}/" in found[1]["id"]


async def test_each_stream_is_another_subscriber(hub: MercureHub) -> None:
    """Subscription Events: {subscriber} MUST be unique among active subscriptions, and nothing
    that a client sends may set it."""
    forged = {"Subscriber": "urn:uuid:forged"}
    async with (
        hub.stream(("match", "/a"), ("subscriber", "forged"), headers=forged),
        hub.stream(("match", "/a")),
    ):
        found = await documents(hub, f"{BELOW}/exact/{A}")
    assert len({one["subscriber"] for one in found}) == 2
    assert "forged" not in json.dumps(found)


async def test_events_are_for_those_who_may_read_them(hub: MercureHub) -> None:
    """Subscription Events: the update MUST be private."""
    async with hub.stream(("match", "*")) as stranger, hub.stream(("match", "/a")):
        await hub.publish(("topic", "/x"), ("data", "public"))
        assert (await stranger.message()).data == "public"


async def test_a_token_attaches_its_first_payload_that_matches(hub: MercureHub) -> None:
    """Payloads: the first subscribe detail whose topics match the matcher's own text."""
    token = hub.access_token(
        detail(["subscribe"], "/a", payload={"n": 1}),
        detail(["subscribe"], pattern("/books/:id"), payload={"n": 2}),
        detail(["subscribe"], "*", payload={"n": 3}),
    )
    matchers = [("match", "/a"), ("match_urlpattern", "/books/:id"), ("match", "/other")]
    async with hub.stream(*matchers, token=token):
        found = await documents(hub)
    payloads = {one["match"]: one["payload"]["n"] for one in found}
    assert payloads == {"/a": 1, "/books/:id": 2, "/other": 3}


async def test_collections_and_single_documents_are_found_by_path(hub: MercureHub) -> None:
    """Subscription API: MUST expose the collection, that of a matcher, and each subscription."""
    async with hub.stream(("match", "/a"), ("match", "/b")):
        assert {one["match"] for one in await documents(hub)} == {"/a", "/b"}
        assert len(await documents(hub, f"{BELOW}/exact")) == 2
        (only,) = await documents(hub, f"{BELOW}/exact/{A}")
        answer = await read(hub, only["id"])
        single = json.loads(answer.body)
        assert single.pop("last_event_id")
        assert single == only
    assert answer.headers["Content-Type"] == "application/json"


async def test_a_collection_says_what_it_is(hub: MercureHub) -> None:
    """Subscription API: id and type; no subscription is an empty list."""
    document = json.loads((await read(hub, f"{BELOW}/exact/{A}")).body)
    assert document["id"] == f"{BELOW}/exact/{A}"
    assert document["type"] == "subscriptions"
    assert document["subscriptions"] == []


async def test_what_is_not_active_is_not_found(hub: MercureHub) -> None:
    """Subscription API: a subscription that does not exist MUST be 404."""
    assert (await read(hub, f"{BELOW}/exact/{A}/urn%3Auuid%3Anobody")).status == 404
    async with watching(hub) as stream:
        async with hub.stream(("match", "/a")):
            (only,) = await documents(hub, f"{BELOW}/exact/{A}")
            assert json.loads((await stream.message()).data)["active"]
        assert not json.loads((await stream.message()).data)["active"]
        assert (await read(hub, only["id"])).status == 404


async def test_the_api_needs_the_right_to_its_path(hub: MercureHub) -> None:
    """Subscription API: the path is the topic that must be granted; 401 without a token, 403."""
    assert (await read(hub, token="")).status == 401
    other = hub.access_token(detail(["subscribe"], "/a"))
    answer = await read(hub, token=other)
    assert answer.status == 403
    assert 'error="insufficient_scope"' in answer.challenge
    exact = hub.access_token(detail(["subscribe"], f"{BELOW}/exact/{A}"))
    assert (await read(hub, f"{BELOW}/exact/{A}", exact)).status == 200
    assert (await read(hub, BELOW, exact)).status == 403
    assert (await read(hub, token=hub.access_token(detail(["subscribe"], "*")))).status == 200


async def test_changes_follow_from_the_cursor_that_is_told(hub: MercureHub) -> None:
    """Subscription API: the last event's id, passed back, loses no event in between."""
    before = await read(hub)
    found = re.search(r'rel="mercure"; last-event-id="([^"]+)"', before.headers["Link"])
    assert found is not None
    async with hub.stream(("match", "/between")):
        token = hub.access_token(WATCH)
        matcher = ("match_urlpattern", f"{BELOW}/*")
        async with hub.stream(matcher, ("last_event_id", found[1]), token=token) as stream:
            assert json.loads((await stream.message()).data)["match"] == "/between"


async def test_an_empty_history_tells_earliest(hub: MercureHub) -> None:
    """Subscription API: MUST be `earliest` if no events have been dispatched yet."""
    answer = await read(hub)
    assert 'last-event-id="earliest"' in answer.headers["Link"]
    assert json.loads(answer.body)["last_event_id"] == "earliest"


async def test_an_unchanged_document_is_not_sent_again(hub: MercureHub) -> None:
    """Subscription API: ETag; clients SHOULD validate that what they keep is fresh."""
    first = await read(hub)
    tag = {"If-None-Match": first.headers["ETag"]}
    again = await hub.ask("GET", BELOW, headers=tag, token=hub.access_token(WATCH))
    assert (again.status, again.body) == (304, b"")
    assert "must-revalidate" in first.headers["Cache-Control"]
