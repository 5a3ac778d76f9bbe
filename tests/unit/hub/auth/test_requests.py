"""Where a request carries its token, and what is said when it may not (RFC 6750, RFC 9728)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.auth import tokens
from callboard.hub.auth.keys import Keys, of_secret
from callboard.hub.auth.origins import Origins
from callboard.hub.auth.requests import (
    COOKIE,
    LEGACY_COOKIE,
    Authority,
    Shown,
    shows_token,
)
from callboard.hub.matching.refusal import Refused

NOW = 1_800_000_000.0
KEYS = Keys(of_secret(b"p" * 32), of_secret(b"s" * 32))
METADATA = "https://hub.example.com:8443/.well-known/oauth-protected-resource/.well-known/mercure"
AUTHORITY = Authority(KEYS, origins=Origins(["https://app.example.com"]))

READ = tokens.sign(KEYS.subscriber, {"mercure": {"subscribe": ["/a"]}}, access_token=False)
OTHER = tokens.sign(KEYS.subscriber, {"mercure": {"subscribe": ["/b"]}}, access_token=False)
EXPIRED = tokens.sign(KEYS.subscriber, {"mercure": {}, "exp": 1}, access_token=False)
WRITE = tokens.sign(
    KEYS.publisher, {"mercure": {"publish": ["/a"], "subscribe": ["*"]}}, access_token=False
)


def shown(
    bearer: str | None = None, cookie: str | None = None, query: Any = None, **headers: str
) -> Shown:
    fields = {"host": "Hub.example.com:8443", **headers}
    if bearer is not None:
        fields["authorization"] = bearer
    if cookie is not None:
        fields["cookie"] = cookie
    return Shown(fields, query or {}, "https")


def reads(one: Shown) -> str:
    """Which topic its token may read; "" for nobody's."""
    rights = AUTHORITY.subscriber(one, NOW)
    if rights.subscribe is None:
        assert not rights.token_hash
        return ""
    return next(topic for topic in ("/a", "/b") if rights.subscribe.allow(topic))


def refusal(one: Shown, *, writes: bool = False) -> tuple[int, str]:
    judge = AUTHORITY.publisher if writes else AUTHORITY.subscriber
    with pytest.raises(Refused) as refused:
        judge(one, NOW)
    return refused.value.status, dict(refused.value.headers).get("WWW-Authenticate", "")


def challenge(error: str) -> str:
    named = f'error="{error}", ' if error else ""
    return f'Bearer {named}resource_metadata="{METADATA}"'


def test_a_token_is_taken_from_each_of_its_places() -> None:
    assert reads(shown(f"Bearer {READ}")) == "/a"
    assert reads(shown(f"bearer  {READ}")) == "/a"
    assert reads(shown(cookie=f"x=y; {COOKIE}={READ}")) == "/a"
    assert reads(shown(cookie=f'{LEGACY_COOKIE}="{READ}"')) == "/a"
    assert reads(shown(query={"authorization": [READ], "topic": ["/a"]})) == "/a"


def test_the_field_wins_over_the_query_and_the_query_over_the_cookie() -> None:
    query = {"authorization": [READ]}
    assert reads(shown(f"Bearer {OTHER}", f"{COOKIE}={READ}", query)) == "/b"
    assert reads(shown(None, f"{COOKIE}={OTHER}", query)) == "/a"
    assert reads(shown(None, f"{LEGACY_COOKIE}={OTHER}; {COOKIE}={READ}")) == "/a"


def test_what_is_ignored_is_not_even_judged() -> None:
    assert reads(shown(f"Bearer {READ}", f"{COOKIE}=garbage", {"authorization": ["x"]})) == "/a"


def test_without_a_token_a_reader_is_nobody() -> None:
    assert reads(shown()) == ""
    assert reads(shown(cookie=f"x=y; {COOKIE}=; other")) == ""
    assert not shows_token(shown())


@pytest.mark.parametrize("token", ["x", "a.b.c", EXPIRED, WRITE, READ[:-4] + "AAAA"])
@pytest.mark.parametrize("place", ["field", "query", "cookie"])
def test_a_bad_token_never_makes_its_bearer_anonymous(token: str, place: str) -> None:
    one = {
        "field": shown(f"Bearer {token}", f"{COOKIE}={READ}"),
        "query": shown(None, f"{COOKIE}={READ}", {"authorization": [token]}),
        "cookie": shown(None, f"{COOKIE}={token}; {LEGACY_COOKIE}={READ}"),
    }[place]
    assert shows_token(one)
    assert refusal(one) == (401, challenge("invalid_token"))


@pytest.mark.parametrize(
    "one",
    [
        shown(""),
        shown("Bearer"),
        shown("Bearer "),
        shown("Basic YTpi"),
        shown(READ),
        shown(f"Bearer {READ}, Bearer {READ}"),
        shown(f"Bearer {READ} x"),
        shown("Bearer é"),
        shown(query={"authorization": [READ, READ]}),
        shown(query={"authorization": [""]}),
        shown(query={"access_token": [READ]}),
        shown(f"Bearer {READ}", query={"access_token": [READ]}),
        shown(query={"authorization": [READ], "match": ["/a"]}),
        shown(query={"authorization": [READ], "match_urlpattern": ["/a"]}),
    ],
)
def test_a_token_that_is_shown_wrongly_is_a_bad_request(one: Shown) -> None:
    assert refusal(one) == (400, challenge("invalid_request"))


def test_publishing_needs_a_token() -> None:
    assert refusal(shown(), writes=True) == (401, challenge(""))


def test_the_publishers_key_vouches_for_publishing_and_no_other() -> None:
    rights = AUTHORITY.publisher(shown(f"Bearer {WRITE}"), NOW)
    assert rights.publish is not None
    assert rights.subscribe is None
    assert refusal(shown(f"Bearer {READ}"), writes=True)[0] == 401
    assert refusal(shown(f"Bearer {WRITE}"))[0] == 401


def test_a_good_token_that_does_not_reach_is_403() -> None:
    one = shown(f"Bearer {WRITE}")
    rights = AUTHORITY.publisher(one, NOW)
    AUTHORITY.require_publish(rights, ("/a",), one, private=True)
    with pytest.raises(Refused) as refused:
        AUTHORITY.require_publish(rights, ("/a", "/b"), one, private=False)
    assert refused.value.status == 403
    assert dict(refused.value.headers)["WWW-Authenticate"] == challenge("insufficient_scope")


def test_reading_a_topic_that_is_private_as_a_whole() -> None:
    for one, status in ((shown(), 401), (shown(f"Bearer {OTHER}"), 403)):
        with pytest.raises(Refused) as refused:
            AUTHORITY.require_subscribe(AUTHORITY.subscriber(one, NOW), "/a", one)
        assert refused.value.status == status
    one = shown(f"Bearer {READ}")
    AUTHORITY.require_subscribe(AUTHORITY.subscriber(one, NOW), "/a", one)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://hub.example.com:8443"},
        {"origin": "https://app.example.com"},
        {"referer": "https://app.example.com/page?x#y"},
        {"referer": "https://hub.example.com:8443/"},
    ],
)
def test_our_own_pages_and_the_allowed_ones_publish_with_a_cookie(headers: dict[str, str]) -> None:
    one = shown(cookie=f"{COOKIE}={WRITE}", **headers)
    assert AUTHORITY.publisher(one, NOW).publish is not None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": ""},
        {"origin": "null"},
        {"origin": "https://evil.example.com"},
        {"origin": "http://hub.example.com:8443"},
        {"origin": "https://hub.example.com"},
        {"origin": "https://hub.example.com:9000"},
        {"origin": "https://evil.example.com", "referer": "https://app.example.com/"},
        {"referer": ""},
        {"referer": "app.example.com"},
        {"referer": "https://app.example.com.evil.example.com/"},
        {"referer": "https://app.example.com@evil.example.com/"},
        {"referer": "http://[bad"},
    ],
)
def test_other_pages_do_not(headers: dict[str, str]) -> None:
    one = shown(cookie=f"{COOKIE}={WRITE}", **headers)
    assert refusal(one, writes=True) == (403, "")


def test_a_star_among_the_allowed_origins_lets_nobody_publish_with_a_cookie() -> None:
    authority = Authority(KEYS, origins=Origins(["*"]))
    with pytest.raises(Refused):
        authority.publisher(
            shown(cookie=f"{COOKIE}={WRITE}", origin="https://evil.example.com"), NOW
        )


def test_a_bearer_token_is_taken_from_every_page() -> None:
    one = shown(f"Bearer {WRITE}", origin="https://evil.example.com")
    assert AUTHORITY.publisher(one, NOW).publish is not None


@pytest.mark.parametrize("host", ['a"b', "a\\b", "a b", "é", ""])
def test_no_host_breaks_out_of_the_challenge(host: str) -> None:
    with pytest.raises(Refused) as refused:
        AUTHORITY.publisher(Shown({"host": host, "x-forwarded-prefix": f"/{host}"}, {}), NOW)
    assert dict(refused.value.headers)["WWW-Authenticate"] == (
        'Bearer resource_metadata="/.well-known/oauth-protected-resource/.well-known/mercure"'
    )


def test_why_a_token_failed_is_in_the_log_and_not_in_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO"), pytest.raises(Refused) as refused:
        AUTHORITY.subscriber(shown(f"Bearer {EXPIRED}"), NOW)
    assert refused.value.text == "the token is not valid"
    assert [record.reason for record in caplog.records] == ["expired"]  # type: ignore[attr-defined]
    assert EXPIRED not in caplog.text


@given(
    st.dictionaries(
        st.sampled_from(["authorization", "cookie", "host", "origin", "referer"]),
        st.text(max_size=40)
        | st.sampled_from(["Bearer x", f"Bearer {WRITE}", f"{COOKIE}={WRITE}", "a=b,c;d=;=e"]),
    ),
    st.dictionaries(st.sampled_from(["authorization", "match", "x"]), st.lists(st.text())),
)
def test_no_request_breaks_the_judge(headers: dict[str, str], query: dict[str, list[str]]) -> None:
    for judge in (AUTHORITY.publisher, AUTHORITY.subscriber):
        try:
            judge(Shown(headers, query), NOW)
        except Refused as refused:
            assert refused.status in (400, 401, 403)
