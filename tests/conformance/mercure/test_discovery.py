"""draft-dunglas-mercure-08, Discovery; RFC 9728."""

from __future__ import annotations

import json

from tests.harness.mercure_hub import DETAIL, HUB, MercureHub

METADATA = "/.well-known/oauth-protected-resource"


async def test_a_stream_links_to_its_hub(hub: MercureHub) -> None:
    """Hub Discovery: a Link with rel=mercure whose target is a hub."""
    async with hub.stream(("match", "/a")) as stream:
        assert f'<{hub.url()}>; rel="mercure"' in stream.headers["Link"]


async def test_a_topics_stream_links_to_its_topic(hub: MercureHub) -> None:
    """Topic Discovery: rel=self is what to subscribe to."""
    async with hub.stream(path="/t/books/a%20b") as stream:
        assert '</books/a%20b>; rel="self"' in stream.headers["Link"]
        assert f'<{hub.url()}>; rel="mercure"' in stream.headers["Link"]


async def test_the_hub_tells_what_tokens_it_takes(hub: MercureHub) -> None:
    """Protected Resource Metadata: MUST include `resource`."""
    prefix, hub_prefix = hub.prefix, hub.prefix
    hub.prefix = ""
    answer = await hub.ask("GET", f"{METADATA}{hub_prefix}{HUB}")
    hub.prefix = prefix
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    document = json.loads(answer.body)
    assert document["resource"] == hub.resource
    assert document["authorization_details_types_supported"] == [DETAIL]
    assert document["bearer_methods_supported"] == ["header"]
    assert document["mercure_cookie"] == "__Secure-mercure_access_token"
    assert set(document["mercure_matcher_types_supported"]) == {"exact", "urlpattern"}
    assert document["mercure_subscriptions"] is True


async def test_a_challenge_points_to_the_metadata(hub: MercureHub) -> None:
    """Protected Resource Metadata: resource_metadata SHOULD point to this document."""
    challenge = (await hub.ask("GET", f"{HUB}/subscriptions")).challenge
    where = challenge.partition('resource_metadata="')[2].partition('"')[0]
    assert where == f"{hub.origin}{METADATA}{hub.prefix}{HUB}"


async def test_what_a_proxy_says_of_its_name_is_in_every_url(hub: MercureHub) -> None:
    """Hub Discovery: the URL that is advertised may have any prefix."""
    if hub.prefix:
        return  # (a real proxy is in front, and says what is so)
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "farm.example:1443",
        "X-Forwarded-Prefix": "/hub",
    }
    async with hub.stream(("match", "/a"), headers=headers) as stream:
        assert f"<https://farm.example:1443/hub{HUB}>" in stream.headers["Link"]
    answer = await hub.ask("POST", data={"topic": "/a"}, headers=headers)
    assert f'"https://farm.example:1443{METADATA}/hub{HUB}"' in answer.challenge
