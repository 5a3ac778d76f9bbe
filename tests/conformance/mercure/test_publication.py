"""draft-dunglas-mercure-08, Publication: every MUST of the section."""

from __future__ import annotations

import aiohttp
import pytest
from tests.harness.mercure_hub import HUB, MercureHub, detail, pattern

CONTROLS = ["a\nb", "a\rb", "a\0b", "a\x01b", "a\x7fb", "a\x9fb", "a\u200bb", "a\ufeffb"]


async def test_a_publication_is_answered_with_the_events_id(hub: MercureHub) -> None:
    """Publication: 2xx, and the body MUST be the id, as text/plain; charset=utf-8."""
    async with hub.stream(("match", "/a")) as stream:
        answer = await hub.publish(("topic", "/a"), ("data", "x"))
        event = await stream.message()
    assert answer.status == 200
    assert answer.headers["Content-Type"].lower() == "text/plain; charset=utf-8"
    assert answer.text == event.id


async def test_an_id_that_the_hub_makes_is_a_fragment_or_an_iri(hub: MercureHub) -> None:
    """Publication: MUST be an IRI, or a relative reference that is a fragment."""
    id = (await hub.publish(("topic", "/a"))).text
    assert id.startswith("#") or ":" in id


async def test_a_publishers_id_is_kept(hub: MercureHub) -> None:
    """Publication: id is the event's id property."""
    assert (await hub.publish(("topic", "/a"), ("id", "urn:x:7"))).text == "urn:x:7"


async def test_other_formats_than_a_form_are_refused(hub: MercureHub) -> None:
    """Publication: the request MUST be application/x-www-form-urlencoded."""
    token = hub.token(publish=["*"])
    multipart = aiohttp.FormData(default_to_multipart=True)
    multipart.add_field("topic", "/a")
    assert (await hub.ask("POST", data=multipart, token=token)).status == 415
    json = {"Content-Type": "application/json"}
    assert (await hub.ask("POST", data=b"{}", headers=json, token=token)).status == 415


async def test_a_form_that_is_no_utf_8_is_refused(hub: MercureHub) -> None:
    """Publication: names and values MUST be UTF-8."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for data in (b"topic=/a&data=%ff", b"topic=%c3%28", b"topic=/a&%ff=1"):
        answer = await hub.ask("POST", data=data, headers=form, token=hub.token(publish=["*"]))
        assert answer.status == 400


async def test_a_publication_without_a_topic_is_refused(hub: MercureHub) -> None:
    """Publication: topic is required."""
    assert (await hub.publish(("data", "x"))).status == 400
    assert (await hub.publish(("topic", ""), ("data", "x"))).status == 400


async def test_further_topics_are_alternates(hub: MercureHub) -> None:
    """Publication (version 1.0): the first topic is canonical, others are alternates; each
    subscriber gets the update once."""
    async with hub.stream(("match", "/b"), ("match", "/a")) as stream:
        await hub.publish(("topic", "/a"), ("topic", "/b"), ("data", "1"))
        await hub.publish(("topic", "/c"), ("topic", "/b"), ("data", "2"))
        assert [(await stream.message()).data for _ in range(2)] == ["1", "2"]


@pytest.mark.parametrize("value", CONTROLS)
@pytest.mark.parametrize("name", ["topic", "id", "type"])
async def test_control_and_format_characters_are_refused(
    hub: MercureHub, name: str, value: str
) -> None:
    """Terminology, Publication: MUST NOT be in topic, id or type; 400."""
    fields = [("topic", "/a"), ("data", "x")]
    fields = [pair for pair in fields if pair[0] != name]
    assert (await hub.publish(*fields, (name, value))).status == 400


@pytest.mark.parametrize("id", ["#1", "#", "earliest"])
async def test_ids_of_the_hub_may_not_be_given(hub: MercureHub, id: str) -> None:
    """Publication: an id MUST NOT begin with # and MUST NOT be `earliest`."""
    assert (await hub.publish(("topic", "/a"), ("id", id))).status == 400


@pytest.mark.parametrize("retry", ["-1", "1.5", "abc", "1e3", "\u0663", " 1", "1 "])
async def test_retry_consists_of_digits(hub: MercureHub, retry: str) -> None:
    """Publication: MUST consist solely of ASCII digits, else 400."""
    assert (await hub.publish(("topic", "/a"), ("retry", retry))).status == 400


async def test_the_type_of_the_hubs_own_events_is_refused(hub: MercureHub) -> None:
    """Publication (version 1.0): `mercure` is the hub's own type; so are ours, `hub.…`."""
    for type in ("mercure", "hub.gap"):
        assert (await hub.publish(("topic", "/a"), ("type", type))).status == 400


async def test_the_topic_that_means_all_topics_is_refused(hub: MercureHub) -> None:
    """Matcher Types: a topic that is `*` is not addressable."""
    assert (await hub.publish(("topic", "*"), ("data", "x"))).status == 400


@pytest.mark.parametrize(
    "topic",
    [
        HUB,
        f"{HUB}/",
        f"{HUB}/subscriptions/exact/%2Fa/x",
        "https://hub.example.com/.well-known/mercure/subscriptions/x",
        "//hub.example.com/.well-known/mercure",
        "/.well-known/%6Dercure/subscriptions",
        "/.well-known/mercure/../mercure/x",
        "/a/../.well-known/mercure",
        "/%2E%2E/.well-known/./mercure",
        "https://user@hub.example.com:8/.well-known/mercure?x#y",
    ],
)
async def test_the_hubs_own_namespace_is_refused(hub: MercureHub, topic: str) -> None:
    """Publication, Reserved Hub Namespace: after resolution and decoding, under every authority;
    MUST be rejected (403; version 1.0: 400)."""
    assert (await hub.publish(("topic", topic), ("data", "x"))).status in (400, 403)
    several = await hub.publish(("topic", "/a"), ("topic", topic), ("data", "x"))
    assert several.status in (400, 403)


@pytest.mark.parametrize("topic", ["/.well-known/mercurex", "/x/.well-known/mercure", "https://["])
async def test_other_topics_are_not_the_hubs_own(hub: MercureHub, topic: str) -> None:
    """Publication: only the hub's path and what is below it; a topic that is no URL is not."""
    assert (await hub.publish(("topic", topic), ("data", "x"))).status == 200


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("hello\nworld", "hello\nworld"),
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("\n", "\n"),
        ("", ""),
        ("a\n\nb\n", "a\n\nb\n"),
        (" leading", " leading"),
        ("id: 1\nevent: x\ndata: y", "id: 1\nevent: x\ndata: y"),
        ("line\u2028separator\x0bnext\x85", "line\u2028separator\x0bnext\x85"),
        ("grün \U0001f600", "grün \U0001f600"),
    ],
)
async def test_data_is_written_a_field_a_line(hub: MercureHub, sent: str, received: str) -> None:
    """Publication: MUST be one data field per line, cut at CR, LF and CRLF (and nowhere else)."""
    async with hub.stream(("match", "/a")) as stream:
        await hub.publish(("topic", "/a"), ("data", sent))
        event = await stream.message()
    assert (event.data, event.type) == (received, "message")


async def test_data_may_be_left_out(hub: MercureHub) -> None:
    """Publication: data is optional."""
    async with hub.stream(("match", "/a")) as stream:
        assert (await hub.publish(("topic", "/a"))).status == 200
        assert (await stream.message()).data == ""


@pytest.mark.parametrize("value", ["on", "", "0", "false"])
async def test_private_by_presence_whatever_its_value(hub: MercureHub, value: str) -> None:
    """Publication: hubs MUST NOT interpret the value of private."""
    async with hub.stream(("match", "/a")) as stream:
        await hub.publish(("topic", "/a"), ("data", "secret"), ("private", value))
        await hub.publish(("topic", "/a"), ("data", "public"))
        assert (await stream.message()).data == "public"


async def test_unknown_fields_are_ignored(hub: MercureHub) -> None:
    """Publication: hubs MUST ignore fields they do not recognize."""
    assert (await hub.publish(("topic", "/a"), ("target", "x"), ("future", "y"))).status == 200


@pytest.mark.parametrize(
    ("name", "length"),
    [("topic", 5_000), ("id", 5_000), ("type", 5_000), ("data", 300_000)],
)
async def test_what_is_over_a_limit_is_too_large(hub: MercureHub, name: str, length: int) -> None:
    """Publication: requests exceeding a limit MUST be rejected with 413."""
    fields = [] if name == "topic" else [("topic", "/a")]
    answer = await hub.publish(*fields, (name, "x" * length))
    assert answer.status == 413


async def test_all_topics_of_an_update_need_the_right(hub: MercureHub) -> None:
    """Publication (version 1.0), Publishers: 403 with insufficient_scope."""
    token = hub.access_token(detail(["publish"], "/a", pattern("/books/:id")))
    assert (await hub.publish(("topic", "/a"), token=token)).status == 200
    assert (await hub.publish(("topic", "/books/1"), ("topic", "/a"), token=token)).status == 200
    refused = await hub.publish(("topic", "/a"), ("topic", "/b"), token=token)
    assert refused.status == 403
    assert 'error="insufficient_scope"' in refused.challenge


async def test_the_same_key_publishes_once(hub: MercureHub) -> None:
    """Ours: Idempotency-Key makes a repeated request the same publication."""
    token, form = hub.token(publish=["*"]), {"topic": "/once", "data": "x"}
    key = {"Idempotency-Key": "a1b2"}
    async with hub.stream(("match", "/once")) as stream:
        first = await hub.ask("POST", data=form, headers=key, token=token)
        second = await hub.ask("POST", data=form, headers=key, token=token)
        await hub.publish(("topic", "/once"), ("data", "end"))
        assert first.text == second.text
        assert [(await stream.message()).data for _ in range(2)] == ["x", "end"]
