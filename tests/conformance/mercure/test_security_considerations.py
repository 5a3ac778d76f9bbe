"""draft-dunglas-mercure-08, Security Considerations: what other sections do not say already."""

from __future__ import annotations

import pytest
from tests.harness.mercure_hub import MercureHub, detail

COOKIES = ("__Secure-mercure_access_token", "mercureAuthorization")


def cookie(hub: MercureHub, name: str) -> str:
    token = hub.token(publish=["*"])
    if name.startswith("__Secure"):
        token = hub.access_token(detail(["publish"], "*"))
    return f"{name}={token}"


@pytest.mark.parametrize("name", COOKIES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Referer": "https://evil.example/page"},
        {"Referer": "no url"},
    ],
)
async def test_a_cookie_alone_publishes_nothing(
    hub: MercureHub, name: str, headers: dict[str, str]
) -> None:
    """Security Considerations: CSRF MUST be mitigated: Origin or Referer must be there and
    known."""
    headers = headers | {"Cookie": cookie(hub, name)}
    answer = await hub.ask("POST", data={"topic": "/a"}, headers=headers)
    assert answer.status == 403


@pytest.mark.parametrize("name", COOKIES)
async def test_a_cookie_publishes_from_a_page_that_is_known(hub: MercureHub, name: str) -> None:
    """Security Considerations: the source origin matches the target's, or is on the list."""
    for headers in (
        {"Origin": hub.origin},
        {"Referer": f"{hub.origin}/page"},
        {"Origin": "https://app.example"},
    ):
        answer = await hub.ask(
            "POST", data={"topic": "/a"}, headers=headers | {"Cookie": cookie(hub, name)}
        )
        assert answer.status == 200


@pytest.mark.parametrize("data", ["x\nevent: forged", "x\r\rid: forged\rdata: y", "\n\ndata: z\n"])
async def test_no_field_is_injected_by_data(hub: MercureHub, data: str) -> None:
    """Server-Sent Events Field Injection: one data field per line is a security requirement."""
    async with hub.stream(("match", "/a")) as stream:
        id = (await hub.publish(("topic", "/a"), ("data", data))).text
        await hub.publish(("topic", "/a"), ("data", "end"))
        event = await stream.message()
        assert (event.id, event.type) == (id, "message")
        assert event.data == data.replace("\r\n", "\n").replace("\r", "\n")
        assert (await stream.message()).data == "end"


async def test_subscription_events_cannot_be_forged(hub: MercureHub) -> None:
    """Reserved Hub Namespace: nobody publishes there, whatever its token."""
    for topic in (
        "/.well-known/mercure/subscriptions/exact/%2Fa/x",
        "https://hub.example/.well-known/%6Dercure/subscriptions/x",
    ):
        answer = await hub.publish(("topic", topic), ("data", '{"active": true}'))
        assert answer.status in (400, 403)


async def test_a_request_that_is_too_large_is_refused(hub: MercureHub) -> None:
    """Resource Limits: the size of a publication is bounded."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"topic=%2Fa&data=" + b"x" * 900_000 + b"&more=" + b"y" * 140_000
    answer = await hub.ask("POST", data=body, headers=headers, token=hub.token(publish=["*"]))
    assert answer.status == 413


async def test_errors_are_one_line_of_text(hub: MercureHub) -> None:
    """Ours: whoever is refused can read why."""
    for answer in (
        await hub.ask("GET"),
        await hub.ask("POST"),
        await hub.ask("PATCH"),
        await hub.ask("GET", "/nowhere"),
        await hub.publish(("data", "x")),
    ):
        assert answer.status >= 400
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert 0 < len(answer.text) < 200
        assert answer.text.count("\n") == 1
