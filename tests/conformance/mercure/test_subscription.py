"""draft-dunglas-mercure-08, Subscription: every MUST of the section."""

from __future__ import annotations

import pytest
from tests.harness.mercure_hub import MercureHub, detail

EVENT_STREAM = "text/event-stream"


async def test_get_opens_a_stream_of_server_sent_events(hub: MercureHub) -> None:
    """Subscription: GET MUST be used; updates MUST be sent as text/event-stream."""
    async with hub.stream(("match", "/a")) as stream:
        assert stream.status == 200
        assert stream.headers["Content-Type"].partition(";")[0] == EVENT_STREAM
        await hub.publish(("topic", "/a"), ("data", "hello"))
        assert (await stream.message()).data == "hello"


async def test_query_with_a_form_opens_the_same_stream(hub: MercureHub) -> None:
    """Subscription: QUERY (RFC 10008) has parameters in its body; those of the URL count, too."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with hub.stream(
        ("match", "/b"), method="QUERY", headers=form, data=b"match=%2Fa&last_event_id=earliest"
    ) as stream:
        assert stream.status == 200
        assert stream.headers["Accept-Query"] == "application/x-www-form-urlencoded"
        assert "Mercure-Last-Event-ID" in stream.headers
        for topic in ("/a", "/b"):
            await hub.publish(("topic", topic), ("data", topic))
            assert (await stream.message()).data == topic


async def test_query_needs_a_form(hub: MercureHub) -> None:
    """Subscription, RFC 10008: another format is 415, none at all 400."""
    assert (await hub.ask("QUERY", query=[("match", "/a")])).status == 400
    json = {"Content-Type": "application/json"}
    answer = await hub.ask("QUERY", headers=json, data=b'{"match": "/a"}')
    assert (answer.status, answer.headers["Accept-Query"]) == (
        415,
        "application/x-www-form-urlencoded",
    )


async def test_several_matchers_of_any_type_select_together(hub: MercureHub) -> None:
    """Subscription: all topics that match at least one matcher, in any combination."""
    async with hub.stream(
        ("match", "/a"), ("match_exact", "/b"), ("match_urlpattern", "/books/:id")
    ) as stream:
        for topic in ("/other", "/books/1", "/b", "/a"):
            await hub.publish(("topic", topic), ("data", topic))
        assert [(await stream.message()).data for _ in range(3)] == ["/books/1", "/b", "/a"]


@pytest.mark.parametrize(
    "name", ["match_regexp", "matchURLPattern", "Match", "MATCH", "match_", "matching", "match__x"]
)
async def test_an_unknown_name_in_the_match_namespace_is_refused(
    hub: MercureHub, name: str
) -> None:
    """Subscription: such a request MUST be rejected with 400."""
    assert (await hub.ask("GET", query=[("match", "/a"), (name, "/a")])).status == 400


@pytest.mark.parametrize(
    "value",
    ["a\nb", "a\rb", "a\0b", "a\x1fb", "a\x7fb", "a\x85b", "a\u200bb", "\ufeff", "a\u202eb"],
)
@pytest.mark.parametrize("name", ["match", "match_exact", "match_urlpattern"])
async def test_a_matcher_with_a_control_or_format_character_is_refused(
    hub: MercureHub, name: str, value: str
) -> None:
    """Subscription: C0, C1, DEL and Cf in a matcher MUST be rejected with 400."""
    assert (await hub.ask("GET", query=[(name, value)])).status == 400


async def test_a_matcher_that_is_no_utf_8_is_refused(hub: MercureHub) -> None:
    """Subscription: values MUST be valid UTF-8, else 400."""
    assert (await hub.ask("GET", f"{'/.well-known/mercure'}?match=%ff")).status == 400


async def test_a_malformed_url_pattern_is_refused(hub: MercureHub) -> None:
    """Subscription: a value that is not valid for its matcher type is 400."""
    assert (await hub.ask("GET", query=[("match_urlpattern", "/books/(")])).status == 400


async def test_a_request_without_a_matcher_is_refused(hub: MercureHub) -> None:
    """Subscription: there is nothing to subscribe to."""
    assert (await hub.ask("GET")).status == 400


async def test_too_many_matchers_are_refused(hub: MercureHub) -> None:
    """Subscription: requests that exceed a limit MUST be rejected with 400."""
    many = [("match", f"/{count}") for count in range(51)]
    assert (await hub.ask("GET", query=many)).status == 400


async def test_a_matcher_that_is_too_long_is_refused(hub: MercureHub) -> None:
    """Subscription: requests that exceed a limit MUST be rejected with 400."""
    assert (await hub.ask("GET", query=[("match", "/" + "x" * 5000)])).status == 400


async def test_a_query_is_parsed_as_a_form(hub: MercureHub) -> None:
    """Subscription: by the algorithm of URLSearchParams: `+` is a space, `;` and a stray `%` stand
    for themselves."""
    async with hub.stream(path="/.well-known/mercure?match=a+b;c%&match=%2Fother") as stream:
        assert stream.status == 200
        await hub.publish(("topic", "a b;c%"), ("data", "found"))
        assert (await stream.message()).data == "found"


async def test_a_private_update_stays_with_those_who_may_read_it(hub: MercureHub) -> None:
    """Subscription: the hub MUST NOT dispatch a private update to subscribers not authorized."""
    allowed = hub.access_token(detail(["subscribe"], "/a"))
    async with (
        hub.stream(("match", "/a")) as stranger,
        hub.stream(("match", "/a"), token=allowed) as friend,
    ):
        await hub.publish(("topic", "/a"), ("data", "secret"), ("private", "on"))
        await hub.publish(("topic", "/a"), ("data", "public"))
        assert (await friend.message()).data == "secret"
        assert (await stranger.message()).data == "public"


async def test_an_event_has_all_that_its_publisher_gave(hub: MercureHub) -> None:
    """Subscription: all properties of server-sent events MUST be supported."""
    async with hub.stream(("match", "/a")) as stream:
        await hub.publish(
            ("topic", "/a"), ("data", "x"), ("id", "urn:x:1"), ("type", "t"), ("retry", "1234")
        )
        event = await stream.message()
    assert (event.data, event.id, event.type) == ("x", "urn:x:1", "t")
    assert b"retry: 1234\n" in stream.raw


async def test_matchers_alone_give_no_right_to_read(hub: MercureHub) -> None:
    """Subscription: they select; access to private updates is the token's."""
    other = hub.access_token(detail(["subscribe"], "/b"))
    async with hub.stream(("match", "*"), token=other) as stream:
        await hub.publish(("topic", "/a"), ("data", "secret"), ("private", "on"))
        await hub.publish(("topic", "/b"), ("data", "mine"), ("private", "on"))
        assert (await stream.message()).data == "mine"


ORIGIN = {"Origin": "https://app.example"}
STRANGER = {"Origin": "https://evil.example"}


async def test_a_listed_origin_may_read_with_credentials(hub: MercureHub) -> None:
    """Subscription: the origin by name, and Access-Control-Allow-Credentials: true."""
    async with hub.stream(("match", "/a"), headers=ORIGIN) as stream:
        assert stream.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert stream.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Mercure-Last-Event-ID" in stream.headers["Access-Control-Expose-Headers"]
        assert "Origin" in stream.headers["Vary"]


async def test_another_origin_is_never_reflected(hub: MercureHub) -> None:
    """Subscription: Access-Control-Allow-Origin MUST NOT be reflected from arbitrary origins."""
    for method in ("OPTIONS", "GET", "POST"):
        answer = await hub.ask(method, headers=STRANGER)
        assert answer.headers.get("Access-Control-Allow-Origin") != STRANGER["Origin"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        if not (hub.prefix and method == "POST"):  # (which a file server refuses by itself)
            assert "Origin" in answer.headers["Vary"]


async def test_a_preflight_allows_what_clients_send(hub: MercureHub) -> None:
    """Subscription: hubs for browsers of other origins MUST send the CORS headers."""
    headers = ORIGIN | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,last-event-id",
    }
    answer = await hub.ask("OPTIONS", headers=headers)
    assert answer.status in (200, 204)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert {"authorization", "last-event-id", "cache-control"} <= set(allowed.split(", "))
    assert {"GET", "POST", "QUERY"} <= set(
        answer.headers["Access-Control-Allow-Methods"].split(", ")
    )


async def test_errors_may_be_read_by_listed_origins_too(hub: MercureHub) -> None:
    """Subscription: else a page could not tell a refusal from a broken network."""
    answer = await hub.ask("GET", headers=ORIGIN)
    assert answer.status == 400
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]


async def test_streams_are_not_kept_and_not_buffered(hub: MercureHub) -> None:
    """Subscription: intermediaries that buffer break streams."""
    async with hub.stream(("match", "/a")) as stream:
        assert "no-store" in stream.headers["Cache-Control"]
        assert stream.headers["X-Accel-Buffering"] == "no"


async def test_head_tells_what_get_would(hub: MercureHub) -> None:
    """RFC 9110, 9.3.2."""
    answer = await hub.ask("HEAD", query=[("match", "/a")])
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Type"].partition(";")[0] == EVENT_STREAM
    assert "Mercure-Last-Event-ID" not in answer.headers
    id = (await hub.publish(("topic", "/a"), ("data", "x"))).text
    for asked, told in ((id, id), ("urn:nobody:1", "earliest"), ("earliest", "earliest")):
        query = [("match", "/a"), ("last_event_id", asked)]
        answer = await hub.ask("HEAD", query=query)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Mercure-Last-Event-ID"] == told
        async with hub.stream(*query) as stream:
            for name in ("Mercure-Last-Event-ID", "Link", "Cache-Control"):
                assert answer.headers[name] == stream.headers[name], name
