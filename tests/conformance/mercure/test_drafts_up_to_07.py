"""draft-dunglas-mercure-07 and before: `topic=`, URI templates, the claim `mercure`."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from tests.harness.mercure_hub import HUB, MercureHub

BELOW = f"{HUB}/subscriptions"


@pytest.mark.parametrize(
    ("selector", "topic"),
    [
        ("/a", "/a"),
        ("*", "https://example.com/anything"),
        ("https://example.com/books/{id}", "https://example.com/books/1"),
        ("https://example.com/{+path}", "https://example.com/a/b/c"),
        ("/books/{id}/pages/{page}", "/books/1/pages/2"),
        ("/books/{id}{?lang}", "/books/1?lang=de"),
        ("/books/{id}", "/books/{id}"),
    ],
)
async def test_a_topic_selector_is_a_topic_or_a_uri_template(
    hub: MercureHub, selector: str, topic: str
) -> None:
    """Topic Selectors: a template (RFC 6570), the topic itself, or `*`."""
    async with hub.stream(("topic", selector)) as stream:
        await hub.publish(("topic", "/none/of/these"), ("data", "no"))
        await hub.publish(("topic", topic), ("data", "yes"))
        found = (await stream.message()).data
        assert found == "yes" or (selector == "*" and found == "no")


async def test_a_template_does_not_match_beyond_its_segment(hub: MercureHub) -> None:
    """Topic Selectors: `{id}` is one segment."""
    async with hub.stream(("topic", "/books/{id}")) as stream:
        await hub.publish(("topic", "/books/1/pages"), ("data", "no"))
        await hub.publish(("topic", "/books/1"), ("data", "yes"))
        assert (await stream.message()).data == "yes"


async def test_alternate_topics_reach_their_subscribers(hub: MercureHub) -> None:
    """Publication: topic may be given several times; MUST dispatch to subscribers of each."""
    async with hub.stream(("topic", "/canonical")) as one, hub.stream(("topic", "/other")) as two:
        await hub.publish(("topic", "/canonical"), ("topic", "/other"), ("data", "x"))
        assert (await one.message()).data == (await two.message()).data == "x"


@pytest.mark.parametrize("name", ["Last-Event-ID", "lastEventID", "header"])
async def test_a_stream_resumes_and_says_where(hub: MercureHub, name: str) -> None:
    """Reconciliation: header or parameter; the answer's Last-Event-ID."""
    ids = [(await hub.publish(("topic", "/a"), ("data", str(n)))).text for n in range(3)]
    headers = {"Last-Event-ID": ids[0]} if name == "header" else {}
    query = [("topic", "/a")] + ([] if headers else [(name, ids[0])])
    async with hub.stream(*query, headers=headers) as stream:
        assert stream.headers["Last-Event-ID"] == ids[0]
        assert "Mercure-Last-Event-ID" not in stream.headers
        assert [(await stream.message()).data for _ in range(2)] == ["1", "2"]


async def test_an_id_that_is_not_there_any_more_is_earliest(hub: MercureHub) -> None:
    """Reconciliation: `earliest` tells of lost events."""
    await hub.publish(("topic", "/a"), ("data", "x"))
    for asked in ("earliest", "urn:nobody:1"):
        async with hub.stream(("topic", "/a"), ("lastEventID", asked)) as stream:
            assert stream.headers["Last-Event-ID"] == "earliest"
            assert (await stream.message()).data == "x"


async def shown(hub: MercureHub, how: str, token: str) -> dict[str, Any]:
    """A token in each of the places that it may be in."""
    if how == "header":
        return {"token": token}
    if how == "cookie":
        return {"headers": {"Cookie": f"mercureAuthorization={token}"}}
    return {}


@pytest.mark.parametrize("how", ["header", "cookie", "query"])
async def test_a_subscriber_reads_private_updates_of_its_selectors(
    hub: MercureHub, how: str
) -> None:
    """Authorization: Bearer, cookie or `authorization=`; `mercure.subscribe`, templates too."""
    token = hub.token(subscribe=["/books/{id}"])
    query = [("topic", "*")] + ([("authorization", token)] if how == "query" else [])
    async with hub.stream(*query, **await shown(hub, how, token)) as stream:
        await hub.publish(("topic", "/x"), ("data", "no"), ("private", "on"))
        await hub.publish(("topic", "/books/1"), ("data", "yes"), ("private", "on"))
        assert (await stream.message()).data == "yes"


async def test_one_granted_topic_of_an_update_is_enough_to_read_it(hub: MercureHub) -> None:
    """Subscribers: canonical or alternate."""
    token = hub.token(subscribe=["/alternate"])
    async with hub.stream(("topic", "/canonical"), token=token) as stream:
        fields = [("topic", "/canonical"), ("topic", "/alternate"), ("private", "on")]
        await hub.publish(*fields, ("data", "yes"))
        assert (await stream.message()).data == "yes"


@pytest.mark.parametrize(
    ("granted", "topics", "status"),
    [
        (["*"], ["/a", "/b"], 200),
        (["/a", "/b"], ["/a", "/b"], 200),
        (["/a"], ["/a", "/b"], 403),
        (["/books/{id}"], ["/books/1"], 200),
        (["/books/{id}"], ["/books/1/2"], 403),
    ],
)
async def test_a_publisher_needs_every_topic(
    hub: MercureHub, granted: list[str], topics: list[str], status: int
) -> None:
    """Publishers: `mercure.publish` must cover the canonical topic and the alternates."""
    fields = [("topic", topic) for topic in topics]
    answer = await hub.publish(*fields, ("private", "on"), token=hub.token(publish=granted))
    assert answer.status == status


async def test_without_publish_nothing_is_published(hub: MercureHub) -> None:
    """Publishers: `mercure.publish` is not defined: MUST NOT be authorized."""
    token = hub.token(subscribe=["*"], key=hub.publisher_key)
    assert (await hub.publish(("topic", "/a"), token=token)).status == 403
    assert (await hub.ask("POST", data={"topic": "/a"})).status == 401


async def test_a_token_needs_no_exp_and_ends_with_one(hub: MercureHub) -> None:
    """Authorization: exp is optional, and enforced."""
    assert (await hub.publish(("topic", "/a"))).status == 200
    assert (await hub.publish(("topic", "/a"), token=hub.token(publish=["*"], exp=1))).status == 401


async def test_events_of_subscriptions_are_json_ld(hub: MercureHub) -> None:
    """Active Subscriptions: topic, document and payload."""
    watcher = hub.token(subscribe=[f"{BELOW}{{/topic}}{{/subscriber}}"])
    reader = hub.token(subscribe=["/a"], payload={"name": "Bob"})
    selector = f"{BELOW}{{/topic}}{{/subscriber}}"
    async with hub.stream(("topic", selector), token=watcher) as stream:
        await stream.message()
        async with hub.stream(("topic", "/a/{b}"), token=reader):
            began = await stream.message()
        ended = await stream.message()
    document = json.loads(began.data)
    assert began.type == "message"
    assert document == {
        "@context": "https://mercure.rocks/",
        "id": f"{BELOW}/%2Fa%2F%7Bb%7D/{quote(document['subscriber'], safe='')}",
        "type": "Subscription",
        "topic": "/a/{b}",
        "subscriber": document["subscriber"],
        "active": True,
        "payload": {"name": "Bob"},
    }
    assert json.loads(ended.data) == document | {"active": False}


async def test_active_subscriptions_are_listed(hub: MercureHub) -> None:
    """Active Subscriptions: the collection, that of a topic, each subscription; JSON-LD."""
    token = hub.token(subscribe=["*"])
    await hub.publish(("topic", "/x"), ("data", "an event"))
    async with hub.stream(("topic", "/a")), hub.stream(("match", "/other-generation")):
        answer = await hub.ask("GET", BELOW, token=token)
        document = json.loads(answer.body)
        (only,) = document["subscriptions"]
        of_topic = json.loads((await hub.ask("GET", f"{BELOW}/%2Fa", token=token)).body)
        single = json.loads((await hub.ask("GET", only["id"], token=token)).body)
    assert answer.headers["Content-Type"] == "application/ld+json"
    assert answer.headers["ETag"]
    assert document["@context"] == single["@context"] == "https://mercure.rocks/"
    assert (document["type"], only["type"], only["topic"]) == (
        "Subscriptions",
        "Subscription",
        "/a",
    )
    assert document["lastEventID"].startswith("#")
    assert of_topic["subscriptions"] == [only]
    assert single["id"] == only["id"]


async def test_a_hub_links_to_itself(hub: MercureHub) -> None:
    """Discovery: Link with rel=mercure."""
    async with hub.stream(("topic", "/a")) as stream:
        assert f'<{hub.url()}>; rel="mercure"' in stream.headers["Link"]
