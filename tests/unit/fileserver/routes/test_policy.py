"""What is forwarded, as what, and what is refused."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.chassis.guards import OriginGuard
from callboard.fileserver.head import BadHead, parse
from callboard.fileserver.ports import Refusal
from callboard.fileserver.routes.policy import AGENT, GATEWAY, HUB, Forward, Policy
from callboard.hub.auth.requests import Shown, token_needed
from callboard.serve.wire import BadTarget, decode_path, decode_query, split_target

POLICY = Policy(OriginGuard(["https://friend.example"]))


def decide(
    target: str, method: str = "GET", *fields: str, policy: Policy = POLICY
) -> Forward | Refusal | None:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost:1443", *fields, "", ""]
    return policy.decide(parse("\r\n".join(lines).encode()))


def status(target: str, method: str = "GET", *fields: str, policy: Policy = POLICY) -> int:
    decided = decide(target, method, *fields, policy=policy)
    assert isinstance(decided, Refusal), decided
    return decided.status


def forwarded(target: str, method: str = "GET", *fields: str) -> Forward:
    decided = decide(target, method, *fields)
    assert isinstance(decided, Forward), decided
    return decided


@pytest.mark.parametrize("target", ["/", "/index.html", "/v1", "/v10/x", "/hubs", "/mediaX/a"])
def test_other_paths_are_the_files(target: str) -> None:
    assert decide(target) is None


def test_the_catalogs_paths_keep_their_prefix() -> None:
    found = forwarded("/v1/catalog/nodes?pretty")
    assert (found.service, found.target, found.prefix) == (AGENT, b"/v1/catalog/nodes?pretty", b"")


@pytest.mark.parametrize(
    ("target", "service", "inside", "prefix"),
    [
        ("/hub/t/builds?id=1", HUB, b"/t/builds?id=1", b"/hub"),
        ("/hub", HUB, b"/", b"/hub"),
        ("/hub?x", HUB, b"/?x", b"/hub"),
        ("/media/whep/a", GATEWAY, b"/whep/a", b"/media"),
        (
            "/.well-known/oauth-protected-resource/hub/.well-known/mercure",
            HUB,
            b"/.well-known/oauth-protected-resource/.well-known/mercure",
            b"/hub",
        ),
    ],
)
def test_hub_and_gateway_see_their_own_paths(
    target: str, service: str, inside: bytes, prefix: bytes
) -> None:
    found = forwarded(target)
    assert (found.service, found.target, found.prefix) == (service, inside, prefix)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/internal/feed",
        "/v1/internal",
        "/v1/%69nternal/feed",
        "/v1/internal/ui/nodes?x",
        "/v1/operator/keyring",
        "/v1/%6fperator/keyring?local-only=true",
        "/v1/operator",
    ],
)
def test_the_feed_between_programs_is_never_forwarded(target: str) -> None:
    assert status(target) == 404


@pytest.mark.parametrize(
    "target",
    [
        "/v1//internal/feed",
        "/v1/./internal/feed",
        "/v1/x/../internal/feed",
        "/v1/x/%2e%2e/internal/feed",
        "/v1/x%2f..%2finternal/feed",
        "/hub/../v1/internal/feed",
        "/v1/x/..",
        "/v1/%5cinternal",
    ],
)
def test_a_path_that_two_readers_could_read_differently_is_refused(target: str) -> None:
    assert status(target) == 400


SEGMENTS = st.sampled_from(
    ["v1", "internal", "operator", "feed", "keyring", "kv", "hub", "media", "", ".", "..", "a b",
     "%69nternal", "%2e", "%2E%2e", "%2f", "internal%2ffeed", "%252e%252e", "x;y", "%5c", "%00",
     "Internal", "%F0%9F", "v1%2Finternal"]
)  # fmt: skip


@given(st.lists(SEGMENTS, min_size=1, max_size=6), st.sampled_from(["", "?raw", "?%72aw=&x"]))
def test_no_spelling_of_a_path_reaches_what_agents_keep_for_programs(
    segments: list[str], query: str
) -> None:
    try:
        decided = decide("/" + "/".join(segments).replace(" ", "+") + query)
    except BadHead:
        return
    if not isinstance(decided, Forward) or decided.service != AGENT:
        return
    try:
        seen = decode_path(split_target(decided.target)[0])  # as an agent reads it
    except BadTarget:
        return
    for reading in (seen, posixpath.normpath(seen)):
        assert not (reading + "/").startswith(("/v1/internal/", "/v1/operator/"))
    asked = decode_query(split_target(decided.target)[1])
    assert decided.plain_text is (seen.startswith("/v1/kv/") and "raw" in asked)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_the_catalog_is_read_only_whatever_header_comes(method: str) -> None:
    for field in ("X-Consul-Token: t", "Authorization: Bearer t", "X-Forwarded-For: 127.0.0.1"):
        assert status("/v1/agent/service/deregister/web", method, field) == 403


def test_allow_writes_opens_the_catalog_to_own_pages_and_tools() -> None:
    opened = Policy(OriginGuard([]), allow_writes=True)
    assert isinstance(decide("/v1/kv/a", "PUT", policy=opened), Forward)
    assert status("/v1/kv/a", "PUT", "Origin: https://evil.example", policy=opened) == 403
    assert status("/v1/kv/a", "PUT", "Sec-Fetch-Site: cross-site", policy=opened) == 403


@pytest.mark.parametrize(
    "fields",
    [
        ("Origin: https://evil.example",),
        ("Origin: null",),
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site",),
        ("Origin: https://localhost.evil.example:1443",),
        ("Origin: https://localhost:3000",),
        ("Origin: https://localhost",),
        ("Origin: http://localhost:1443",),
    ],
)
def test_a_page_of_another_site_changes_nothing(fields: tuple[str, ...]) -> None:
    assert status("/hub/t/x", "POST", "Authorization: Bearer t", *fields) == 403
    assert status("/media/whep/a", "POST", *fields) == 403


def test_a_page_of_another_site_opens_no_websocket() -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Origin: https://evil.example")
    assert status("/media/janus", "GET", *upgrade) == 403


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("Origin: https://localhost:1443",),
        ("Origin: https://friend.example", "Sec-Fetch-Site: cross-site"),
        ("Sec-Fetch-Site: same-origin",),
    ],
)
def test_own_pages_allowed_origins_and_tools_may_watch(fields: tuple[str, ...]) -> None:
    assert forwarded("/media/whep/a", "POST", *fields).service == GATEWAY


def test_a_host_without_a_port_is_the_origin_of_port_443() -> None:
    lines = ["POST /media/whep/a HTTP/1.1", "Host: {}", "Origin: https://Example.org", "", ""]
    for host in ("example.org", "example.org:443"):
        head = parse("\r\n".join(lines).format(host).encode())
        assert isinstance(POLICY.decide(head), Forward)


WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket")


def test_only_hub_and_gateway_are_asked_for_websockets_and_for_nothing_else() -> None:
    assert forwarded("/media/janus", "GET", *WEBSOCKET).websocket
    assert forwarded("/hub/live", "GET", *WEBSOCKET).websocket
    assert not forwarded("/v1/catalog/nodes", "GET", *WEBSOCKET).websocket
    assert not forwarded("/media/janus", "POST", *WEBSOCKET).websocket
    assert not forwarded("/media/janus", "GET", *WEBSOCKET, "Content-Length: 5").websocket
    h2c = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    assert not forwarded("/media/janus", "GET", *h2c).websocket


def test_a_topic_in_a_path_of_the_hub_may_be_a_url() -> None:
    topic = "/hub/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2Fbooks"
    assert forwarded(topic).service == HUB
    assert status("/hub/t/%2e%2e/x") == 400


def test_a_blocking_query_may_take_its_ten_minutes() -> None:
    assert forwarded("/v1/catalog/nodes?index=7&wait=10m").answer_s > 600
    assert forwarded("/v1/agent/service/web?hash=x").answer_s > 600
    assert forwarded("/v1/catalog/nodes").answer_s <= 120


def test_publishing_a_picture_without_a_credential_is_refused_and_watching_is_not() -> None:
    assert status("/media/whip/a", "POST") == 401
    assert status("/media/%77hip/a", "POST") == 401
    assert forwarded("/media/whip/a", "POST", "Authorization: Bearer x").service == GATEWAY
    assert forwarded("/media/whep/a", "POST").service == GATEWAY


def test_publishing_without_a_credential_is_refused_and_with_one_left_to_the_hub() -> None:
    assert status("/hub/t/x", "POST") == 401
    assert status("/hub/t/x", "POST", "Cookie: other=1") == 401
    for credential in (
        "Authorization: Bearer x",
        "Cookie: a=b; mercureAuthorization=x",
        "Cookie: __Secure-mercure_access_token=x",
    ):
        assert forwarded("/hub/t/x", "POST", credential).service == HUB


def test_a_webhook_passes_without_a_token_as_the_hub_verifies_its_signature() -> None:
    found = forwarded("/hub/hooks/ci", "POST", "X-Hub-Signature-256: sha256=00")
    assert (found.service, found.target, found.prefix) == (HUB, b"/hooks/ci", b"/hub")
    assert forwarded("/hub/hooks/a%20b", "POST", "X-Gitlab-Token: x").target == b"/hooks/a%20b"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/hub/hooks"),
        ("POST", "/hub/hooks/"),
        ("POST", "/hub/hooks/ci/more"),
        ("POST", "/hub/hooks/ci%2Fmore"),
        ("POST", "/hub/hooks/%2Ft%2Fx"),
        ("POST", "/hub/hooks%2Fci"),
        ("POST", "/hub/Hooks/ci"),
        ("POST", "/hub/t/hooks/ci"),
        ("POST", "/hub/t/x?/hub/hooks/ci"),
        ("DELETE", "/hub/hooks/ci"),
        ("PUT", "/hub/hooks/ci"),
    ],
)
def test_nothing_else_passes_as_a_webhook(method: str, target: str) -> None:
    assert status(target, method, "X-Hub-Signature-256: sha256=00") == 401


def test_a_path_that_leaves_the_hooks_is_refused() -> None:
    for target in ("/hub/hooks/../t/x", "/hub/hooks/%2e%2e/t/x", "/hub/hooks/x%2f..%2f..%2ft%2fx"):
        assert status(target, "POST") == 400


@pytest.mark.parametrize("field", ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"])
def test_a_page_of_another_site_sends_no_webhook(field: str) -> None:
    assert status("/hub/hooks/ci", "POST", "X-Gitlab-Token: x", field) == 403


@pytest.mark.parametrize("host", ["localhost:1443", "Example.org", "example.org:443", "[::1]:1443"])
@pytest.mark.parametrize("target", ["/hub/t/x", "/hub/.well-known/mercure", "/hub/hooks/"])
def test_the_gate_names_the_metadata_that_the_hub_would(host: str, target: str) -> None:
    head = parse(f"POST {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    decided = POLICY.decide(head)
    assert isinstance(decided, Refusal)
    told = {"x-forwarded-host": host, "x-forwarded-proto": "https", "x-forwarded-prefix": "/hub"}
    hubs_own = token_needed(Shown(told, {}))
    assert (decided.status, decided.headers) == (hubs_own.status, hubs_own.headers)
    assert "oauth-protected-resource/hub/.well-known/mercure" in decided.headers[0][1]


def test_the_gateways_refusal_names_no_metadata_of_the_hub() -> None:
    decided = decide("/media/whip/a", "POST")
    assert isinstance(decided, Refusal)
    assert decided.headers == (("WWW-Authenticate", 'Bearer realm="gateway"'),)


def test_a_raw_value_is_somebodys_bytes() -> None:
    assert forwarded("/v1/kv/a?raw").plain_text
    assert forwarded("/v1/kv/a?dc=dc1&raw=true").plain_text
    assert forwarded("/v1/kv/a?%72aw").plain_text
    assert forwarded("/v1/%6bv/a?raw").plain_text
    assert not forwarded("/v1/kv/a").plain_text


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "BREW"])
def test_other_methods_are_not_forwarded(method: str) -> None:
    assert status("/v1/catalog/nodes", method) == 405
