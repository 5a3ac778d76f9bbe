"""draft-dunglas-mercure-08, Authorization: tokens, how they are shown, what they are good for."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.harness.mercure_hub import (
    DETAIL,
    HUB,
    Answered,
    MercureHub,
    detail,
    pattern,
)

COOKIE = "__Secure-mercure_access_token"
ANY = detail(["subscribe"], "*")
PUBLISH_ANY = detail(["publish"], "*")


async def publish(hub: MercureHub, token: str, topic: str = "/a") -> Answered:
    return await hub.publish(("topic", topic), ("data", "x"), token=token)


async def subscribe(hub: MercureHub, token: str) -> Answered:
    """The head of a stream, or a refusal."""
    async with hub.stream(("match", "/a"), token=token) as stream:
        body = b"" if stream.status == 200 else await stream.rest()
        return Answered(stream.status, stream.headers, body)


def challenge(answer: Answered) -> dict[str, str]:
    """The parameters of a Bearer challenge."""
    assert answer.challenge.startswith("Bearer"), answer
    return dict(re.findall(r'(\w+)="([^"]*)"', answer.challenge))


# ------------------------------------------------------------- Presenting the Access Token


async def test_a_token_is_shown_as_bearer_whatever_its_case(hub: MercureHub) -> None:
    """Authorization HTTP Header: Bearer, a space, the token; the scheme in any case."""
    token = hub.access_token(PUBLISH_ANY)
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {token}"}
        assert (await hub.ask("POST", data={"topic": "/a"}, headers=headers)).status == 200


async def test_a_token_is_shown_in_a_cookie(hub: MercureHub) -> None:
    """Cookie: `__Secure-mercure_access_token`."""
    cookie = {"Cookie": f"x=y; {COOKIE}={hub.access_token(ANY)}"}
    async with hub.stream(("match", "/a"), headers=cookie) as stream:
        await hub.publish(("topic", "/a"), ("data", "secret"), ("private", "on"))
        assert (await stream.message()).data == "secret"


async def test_the_header_wins_over_the_cookie(hub: MercureHub) -> None:
    """Presenting the Access Token: one token MUST be used, the others MUST be ignored."""
    good, bad = hub.access_token(PUBLISH_ANY), hub.access_token(PUBLISH_ANY, key=b"x" * 32)
    cookies = [{"Cookie": f"{COOKIE}={one}", "Origin": hub.origin} for one in (bad, good)]
    for cookie, token, status in ((cookies[0], good, 200), (cookies[1], bad, 401)):
        answer = await hub.ask("POST", data={"topic": "/a"}, headers=cookie, token=token)
        assert answer.status == status


async def test_a_token_in_the_url_is_refused_and_not_ignored(hub: MercureHub) -> None:
    """URI Query Parameter: hubs MAY support it; this one does not (version 1.0, RFC 9700)."""
    query = [("match", "/a"), ("access_token", hub.access_token(ANY))]
    answer = await hub.ask("GET", query=query)
    assert answer.status == 400
    assert challenge(answer)["error"] == "invalid_request"


# ------------------------------------------------------------------------ Error Responses


async def test_without_a_token_publishing_is_challenged_without_an_error(hub: MercureHub) -> None:
    """Error Responses: 401 with a Bearer challenge that MUST NOT include an error code, and
    SHOULD point to the metadata."""
    answer = await hub.ask("POST", data={"topic": "/a"})
    assert answer.status == 401
    assert "error" not in challenge(answer)
    answer = await hub.ask("GET", f"{HUB}/subscriptions")
    assert answer.status == 401
    told = challenge(answer)
    assert "error" not in told
    assert told["resource_metadata"].endswith(
        f"/.well-known/oauth-protected-resource{hub.prefix}{HUB}"
    )


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "e30.e30.", "x" * 9_000])
async def test_a_token_that_is_none_is_invalid(hub: MercureHub, token: str) -> None:
    """Error Responses: 401 with error="invalid_token"."""
    for answer in (await publish(hub, token), await subscribe(hub, token)):
        assert answer.status == 401
        assert challenge(answer)["error"] == "invalid_token"


async def test_a_good_token_for_something_else_is_forbidden(hub: MercureHub) -> None:
    """Error Responses: 403 with error="insufficient_scope"."""
    answer = await publish(hub, hub.access_token(detail(["publish"], "/b")))
    assert answer.status == 403
    assert challenge(answer)["error"] == "insufficient_scope"


@pytest.mark.parametrize("field", ["Basic dTpw", "Bearer", "Bearer a b", "Bearer  ", "Bearer ä"])
async def test_a_malformed_presentation_is_an_invalid_request(hub: MercureHub, field: str) -> None:
    """Error Responses: 400 with error="invalid_request" in a Bearer challenge."""
    answer = await hub.ask("POST", data={"topic": "/a"}, headers={"Authorization": field})
    assert answer.status == 400
    assert challenge(answer)["error"] == "invalid_request"


async def test_a_bad_token_never_makes_its_bearer_anonymous(hub: MercureHub) -> None:
    """Error Responses: a presented token that fails MUST be 401, also where none is needed."""
    assert (await subscribe(hub, hub.access_token(ANY, exp=1))).status == 401
    cookie = {"Cookie": f"{COOKIE}={hub.access_token(ANY, exp=1)}"}
    answer = await hub.ask("GET", query=[("match", "/a")], headers=cookie)
    assert answer.status == 401


async def test_why_a_token_fails_is_not_told(hub: MercureHub) -> None:
    """Error Responses: the same for a bad signature as for an expired token."""
    expired = await publish(hub, hub.access_token(PUBLISH_ANY, exp=1))
    forged = await publish(hub, hub.access_token(PUBLISH_ANY, key=b"x" * 32))
    assert (expired.challenge, expired.text) == (forged.challenge, forged.text)


# ----------------------------------------------------------------------- Token Validation


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
async def test_an_access_token_says_that_it_is_one(hub: MercureHub, typ: str) -> None:
    """Token Validation: typ MUST be at+jwt or application/at+jwt, in any case."""
    assert (await publish(hub, hub.access_token(PUBLISH_ANY, typ=typ))).status == 200


@pytest.mark.parametrize("typ", ["JWT", "id+jwt", "secevent+jwt", ""])
async def test_another_kind_of_token_is_invalid(hub: MercureHub, typ: str) -> None:
    """Token Validation: tokens that were issued for other purposes are not accepted."""
    assert (await publish(hub, hub.access_token(PUBLISH_ANY, typ=typ))).status == 401


@pytest.mark.parametrize("claim", ["exp", "aud", "iss"])
async def test_a_token_without_a_required_claim_is_invalid(hub: MercureHub, claim: str) -> None:
    """Token Validation: exp and aud MUST be there (version 1.0: iss, too)."""
    assert (await publish(hub, hub.access_token(PUBLISH_ANY, without=[claim]))).status == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - 1},
        {"nbf": int(time.time()) + 86_400},  # the tests before this one take their time
        {"aud": "https://elsewhere.example/.well-known/mercure"},
        {"aud": []},
        {"exp": "soon"},
        {"exp": True},
    ],
)
async def test_a_token_of_another_time_or_hub_is_invalid(
    hub: MercureHub, claims: Mapping[str, Any]
) -> None:
    """Token Validation: exp and nbf MUST be enforced, aud MUST have the hub in it."""
    assert (await publish(hub, hub.access_token(PUBLISH_ANY, **claims))).status == 401


async def test_the_audience_may_be_one_of_several(hub: MercureHub) -> None:
    """Token Validation: aud is a text or a list of them."""
    token = hub.access_token(PUBLISH_ANY, aud=["https://x.example", hub.resource])
    assert (await publish(hub, token)).status == 200


async def test_an_unsigned_token_is_invalid(hub: MercureHub) -> None:
    """Token Validation: alg=none MUST NOT be accepted."""
    signed = hub.access_token(PUBLISH_ANY)
    claims = jwt.decode(signed, options={"verify_signature": False})
    assert (await publish(hub, jwt.encode(claims, "", "none", {"typ": "at+jwt"}))).status == 401
    assert (await publish(hub, signed.rpartition(".")[0] + ".")).status == 401


async def test_a_token_brings_no_key_of_its_own(hub: MercureHub) -> None:
    """Token Validation: key material of the token (jwk, jku, x5u) MUST NOT be used; alg MUST be
    compatible with the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    claims = jwt.decode(hub.access_token(PUBLISH_ANY), options={"verify_signature": False})
    own = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    token = jwt.encode(claims, key, "ES256", {"typ": "at+jwt", "jwk": own})
    assert (await publish(hub, token)).status == 401


async def test_a_subscribers_key_signs_no_publishers_token(hub: MercureHub) -> None:
    """Authorization: different keys for the two roles, so that one does not entail the other."""
    token = hub.access_token(PUBLISH_ANY, key=hub.subscriber_key)
    assert (await publish(hub, token)).status == 401


# ------------------------------------------------------------------ Authorization Details


async def test_details_of_other_types_are_ignored(hub: MercureHub) -> None:
    """Authorization Details: other types are not the hub's; without one of ours there are no
    rights."""
    other = {"type": "tenant", "topics": "acme", "actions": {"read": True}}
    assert (await publish(hub, hub.access_token(other, PUBLISH_ANY))).status == 200
    assert (await publish(hub, hub.access_token(other, key=hub.publisher_key))).status == 403


async def test_actions_that_nobody_knows_grant_nothing(hub: MercureHub) -> None:
    """Authorization Details: hubs MUST ignore action values they do not recognize."""
    token = hub.access_token(detail(["publish", "administer"], "/a"))
    assert (await publish(hub, token)).status == 200
    token = hub.access_token(detail(["administer"], "/a"), key=hub.publisher_key)
    assert (await publish(hub, token)).status == 403


MALFORMED = [
    {"actions": ["publish"]},
    {"actions": ["publish"], "topics": []},
    {"actions": ["publish"], "topics": "/a"},
    {"actions": ["publish"], "topics": ["/a"]},
    {"actions": ["publish"], "topics": [{}]},
    {"actions": ["publish"], "topics": [{"match": 1}]},
    {"actions": ["publish"], "topics": [{"match": "/a", "match_type": "regexp"}]},
    {"actions": ["publish"], "topics": [{"match": "/a", "match_type": "Exact"}]},
    {"actions": ["publish"], "topics": [{"match": "/(", "match_type": "urlpattern"}]},
    {"actions": ["publish"], "topics": [{"match": "a\nb"}]},
    {"actions": [], "topics": [{"match": "/a"}]},
    {"actions": "publish", "topics": [{"match": "/a"}]},
    {"actions": ["publish", 1], "topics": [{"match": "/a"}]},
    {"topics": [{"match": "/a"}]},
    {"actions": ["publish"], "topics": [{"match": "/a"}], "payload": "x"},
    {"actions": ["publish"], "topics": [{"match": "/a"}], "payload": None},
    {"actions": ["subscribe"], "topics": [{"match": "/a"}], "payload": 1},
    {"actions": ["subscribe"], "topics": [{"match": "/a"}], "payload": [{"x": 1}]},
]


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda one: json.dumps(one)[:90])
async def test_one_malformed_detail_makes_the_whole_token_invalid(
    hub: MercureHub, malformed: Mapping[str, object]
) -> None:
    """Authorization Details, Topic Matcher List: 401 invalid_token; the other entries MUST NOT
    be acted upon."""
    broken = {"type": DETAIL, **malformed}
    answer = await publish(hub, hub.access_token(PUBLISH_ANY, broken, key=hub.publisher_key))
    assert answer.status == 401
    assert challenge(answer)["error"] == "invalid_token"


async def test_a_token_with_too_many_matchers_is_invalid(hub: MercureHub) -> None:
    """Authorization Details: tokens exceeding a limit MUST be rejected as invalid."""
    for count, status in ((200, 200), (201, 401)):
        topics = ("/a", *(f"/{number}" for number in range(1, count)))
        token = hub.access_token(detail(["publish"], *topics))
        assert (await publish(hub, token)).status == status


@pytest.mark.parametrize(
    ("topics", "topic", "status"),
    [
        (["/a"], "/a", 200),
        (["/a"], "/A", 403),
        (["/b", "/a"], "/a", 200),
        (["*"], "urn:x", 200),
        ([{"match": "*", "match_type": "urlpattern"}], "urn:x", 200),
        ([pattern("/books/:id")], "/books/1", 200),
        ([pattern("/books/:id")], "/books/1/2", 403),
        ([pattern("/books/:id")], "https://hub.example/books/1", 200),
        ([pattern("/books/:id")], "https://elsewhere.example/books/1", 403),
        ([pattern("https://hub.example/books/:id")], "/books/1", 200),
        (["/books/1"], "https://hub.example/books/1", 403),
        ([pattern("https://example.com/*")], "https://example.com/a", 200),
        ([{"match": "/books/:id"}], "/books/1", 403),
    ],
)
async def test_a_publisher_needs_the_action_on_the_topic(
    hub: MercureHub, topics: list[str | Mapping[str, str]], topic: str, status: int
) -> None:
    """Publishers, Topic Matcher List: exact unless match_type says otherwise, `*` always all."""
    token = hub.access_token(detail(["publish"], *topics))
    assert (await publish(hub, token, topic)).status == status


async def test_the_subscribe_action_publishes_nothing(hub: MercureHub) -> None:
    """Publishers: actions MUST include publish."""
    token = hub.access_token(ANY, key=hub.publisher_key)
    assert (await publish(hub, token)).status == 403


async def test_a_subscriber_reads_what_its_details_name(hub: MercureHub) -> None:
    """Subscribers: a private update needs the subscribe action on one of its topics."""
    token = hub.access_token(detail(["subscribe"], "/books/1", pattern("/shelves/:id")))
    async with hub.stream(("match", "*"), token=token) as stream:
        for topic in ("/books/2", "/books/1", "/other", "/shelves/3"):
            await hub.publish(("topic", topic), ("data", topic), ("private", "on"))
        assert [(await stream.message()).data for _ in range(2)] == ["/books/1", "/shelves/3"]


@pytest.mark.slow
async def test_a_stream_ends_with_its_token(hub: MercureHub) -> None:
    """Subscribers: the hub MUST close the connection no later than exp."""
    expires_at = int(time.time()) + 2
    async with hub.stream(("match", "/a"), token=hub.access_token(ANY, exp=expires_at)) as stream:
        assert stream.status == 200
        body = await stream.rest()
    assert b"event: hub.bye\n" in body


# --------------------------------------------------------------------- browsers (our own)


async def test_a_browser_with_a_dead_token_hears_why_and_comes_back(hub: MercureHub) -> None:
    """Ours: an EventSource takes 401 for the end; so it gets a stream of one event."""
    headers = {
        "Accept": "text/event-stream",
        "Sec-Fetch-Mode": "cors",
        "Cookie": f"{COOKIE}={hub.access_token(ANY, exp=1)}",
    }
    async with hub.stream(("match", "/a"), headers=headers) as stream:
        assert stream.status == 200
        event = await stream.event()
        body = await stream.rest()
    assert event.type == "hub.bye"
    assert json.loads(event.data)["reason"] == "token"
    assert body.startswith(b"retry: ")


async def test_a_program_with_a_dead_token_gets_the_status(hub: MercureHub) -> None:
    """Ours: Accept alone makes no browser; conformance clients say it, too."""
    headers = {"Accept": "text/event-stream"}
    token = hub.access_token(ANY, exp=1)
    answer = await hub.ask("GET", query=[("match", "/a")], headers=headers, token=token)
    assert answer.status == 401


def test_the_tokens_of_this_suite_are_what_they_say() -> None:
    """A test of a refusal proves nothing if its token is broken by itself."""
    hub = MercureHub("", b"p" * 32, b"s" * 32, "https://hub.example")
    head, claims, _ = hub.access_token(PUBLISH_ANY).split(".")
    padded = base64.urlsafe_b64decode(head + "==")
    assert json.loads(padded)["typ"] == "at+jwt"
    assert b"authorization_details" in base64.urlsafe_b64decode(claims + "==")
