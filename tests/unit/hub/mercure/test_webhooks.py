"""Webhooks of other services."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.mercure.webhooks import (
    STRIPE_WINDOW_S,
    BadHook,
    BadSignature,
    Delivery,
    Hook,
    verify,
)

SECRET = b"It's a Secret to Everybody"
NOW_S = 1_790_000_000.0
BODY = b"Hello, World!"


def hook(style: str) -> Hook:
    return Hook("ci", style, SECRET, "/ci")


def signed(body: bytes, secret: bytes = SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def stripe(body: bytes, at_s: float = NOW_S, secret: bytes = SECRET) -> str:
    stamp = str(int(at_s))
    return f"t={stamp},v1={signed(stamp.encode() + b'.' + body, secret)}"


def test_githubs_own_example_is_verified() -> None:
    """GitHub, "Validating webhook deliveries": its test values."""
    known = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": f"sha256={known}", "x-github-event": "push"}
    headers["x-github-delivery"] = "72d3162e-cc78"
    assert verify(hook("github"), headers, BODY, NOW_S) == Delivery("push", "72d3162e-cc78")


def test_gitlab_shows_the_secret_itself() -> None:
    headers = {"x-gitlab-token": SECRET.decode(), "x-gitlab-event": "Merge Request Hook"}
    assert verify(hook("gitlab"), headers, BODY, NOW_S) == Delivery("merge-request-hook", "")
    with pytest.raises(BadSignature):
        verify(hook("gitlab"), {"x-gitlab-token": "another"}, BODY, NOW_S)
    with pytest.raises(BadSignature):
        verify(hook("gitlab"), {}, BODY, NOW_S)


def test_stripe_signs_the_time_with_the_body() -> None:
    body = json.dumps({"id": "evt_1", "type": "invoice.paid"}).encode()
    headers = {"stripe-signature": stripe(body)}
    assert verify(hook("stripe"), headers, body, NOW_S) == Delivery("invoice.paid", "evt_1")


@pytest.mark.parametrize("off_s", [-STRIPE_WINDOW_S - 2, STRIPE_WINDOW_S + 2])
def test_a_signature_of_stripe_that_is_not_of_now_is_refused(off_s: float) -> None:
    headers = {"stripe-signature": stripe(BODY, NOW_S + off_s)}
    with pytest.raises(BadSignature, match="old"):
        verify(hook("stripe"), headers, BODY, NOW_S)


def test_one_of_several_signatures_of_stripe_is_enough() -> None:
    """Two secrets are good while one is rolled."""
    field = stripe(BODY).replace(",v1=", f",v1={'0' * 64},v1=")
    verify(hook("stripe"), {"stripe-signature": field}, BODY, NOW_S)


@pytest.mark.parametrize(
    "field", ["", "v1=00", "t=1,t=2,v1=0", "t=now,v1=0", "t=\u0661,v1=0", f"t={'9' * 99},v1=0"]
)
def test_a_malformed_signature_of_stripe_is_refused(field: str) -> None:
    with pytest.raises(BadSignature):
        verify(hook("stripe"), {"stripe-signature": field}, BODY, NOW_S)


@pytest.mark.parametrize("body", [b"no json", b"[]", b"[" * 100_000, b'{"type": 5}'])
def test_what_stripe_never_sends_is_taken_if_it_is_signed(body: bytes) -> None:
    made = verify(hook("stripe"), {"stripe-signature": stripe(body)}, body, NOW_S)
    assert made.event in ("other", "5")


@pytest.mark.parametrize("before", ["", "sha256="])
def test_a_plain_hook_is_the_mac_alone(before: str) -> None:
    headers = {"x-signature-256": before + signed(BODY), "x-event": "deploy"}
    assert verify(hook("plain"), headers, BODY, NOW_S) == Delivery("deploy", "")


@pytest.mark.parametrize("style", ["github", "plain", "stripe"])
def test_another_secret_or_another_body_is_refused(style: str) -> None:
    def headers(body: bytes, secret: bytes) -> dict[str, str]:
        mac = signed(body, secret)
        return {
            "x-hub-signature-256": f"sha256={mac}",
            "x-signature-256": mac,
            "stripe-signature": stripe(body, secret=secret),
        }

    with pytest.raises(BadSignature):
        verify(hook(style), headers(BODY, b"x" * 16), BODY, NOW_S)
    with pytest.raises(BadSignature):
        verify(hook(style), headers(BODY + b"!", SECRET), BODY, NOW_S)
    with pytest.raises(BadSignature):
        verify(hook(style), {}, BODY, NOW_S)


@pytest.mark.parametrize("event", ["", "a/b", "../x", "x" * 65, "{name}", "\u00e9"])
def test_an_event_that_may_not_stand_in_a_topic_is_other(event: str) -> None:
    headers = {"x-signature-256": signed(BODY), "x-event": event}
    assert verify(hook("plain"), headers, BODY, NOW_S).event == "other"


@pytest.mark.parametrize(
    ("style", "secret", "topic"),
    [("gitea", SECRET, "/a"), ("github", b"short", "/a"), ("github", SECRET, "/a/{branch}")],
)
def test_a_hook_that_cannot_work_is_refused(style: str, secret: bytes, topic: str) -> None:
    with pytest.raises(BadHook):
        Hook("ci", style, secret, topic)


HEADERS = st.dictionaries(
    st.sampled_from(["x-hub-signature-256", "x-gitlab-token", "stripe-signature", "x-event"]),
    st.text(st.characters(max_codepoint=255), max_size=80),
)


@given(st.sampled_from(["github", "gitlab", "plain", "stripe"]), HEADERS, st.binary(max_size=50))
def test_nothing_unsigned_is_taken(style: str, headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(hook(style), headers, body, NOW_S)
