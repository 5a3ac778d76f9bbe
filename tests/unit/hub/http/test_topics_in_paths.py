"""/t/: topics in paths, bodies as data, and who needs a token for it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from tests.harness.mercure_hub import APP, MercureHub, local_hub

from callboard.chassis.guards import HostGuard
from callboard.hub.http.ports import Door

OPEN = Door(open=True)


async def post(
    hub: MercureHub, path: str = "/t/builds", data: bytes = b"hello", **more: str
) -> tuple[int, str]:
    """Publish without a token; `more` are headers."""
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    answer = await hub.ask("POST", path, data=data, headers=headers)
    return answer.status, answer.text


async def test_what_is_posted_to_a_path_is_read_from_it(tmp_path: Path) -> None:
    async with (
        local_hub(tmp_path, door=OPEN) as local,
        local.hub.stream(path="/t/builds") as stream,
    ):
        status, text = await post(local.hub)
        event = await stream.message()
    assert (status, text) == (200, f"{event.id}\n")
    assert event.data == "hello"


async def test_a_stream_of_a_path_begins_with_a_greeting(tmp_path: Path) -> None:
    async with local_hub(tmp_path, door=OPEN) as local, local.hub.stream(path="/t/a") as stream:
        hello = await stream.event()
        assert hello.type == "hub.hello"
        assert "retry" in json.loads(hello.data)


async def test_the_path_is_the_topic_decoded_once(tmp_path: Path) -> None:
    async with local_hub(tmp_path, door=OPEN) as local:
        hub = local.hub
        for path, topic in (
            ("/t/a/b", "/a/b"),
            ("/t/caf%C3%A9", "/café"),
            ("/t/a%252Fb", "/a%2Fb"),
            ("/t/a%20b", "/a b"),
            ("/t/https://example.com/x", "/https://example.com/x"),
        ):
            async with hub.stream(("match", topic)) as stream:
                assert (await post(hub, path, topic.encode()))[0] == 200
                assert (await stream.message()).data == topic


@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "text/plain", "x/y", "junk"]
)
async def test_a_body_is_the_data_whatever_its_content_type(tmp_path: Path, kind: str) -> None:
    async with local_hub(tmp_path, door=OPEN) as local, local.hub.stream(path="/t/a") as stream:
        await post(local.hub, "/t/a", b"topic=x&data=%41", Content_Type=kind)
        assert (await stream.message()).data == "topic=x&data=%41"


async def test_id_type_private_and_retry_are_parameters(tmp_path: Path) -> None:
    async with local_hub(tmp_path, door=OPEN) as local:
        hub = local.hub
        async with hub.stream(path="/t/a") as stream:
            await post(hub, "/t/a?private", b"secret")
            status, text = await post(hub, "/t/a?id=urn:x:1&type=build&retry=2000", b"x")
            event = await stream.message()
        assert (status, text) == (200, "urn:x:1\n")
        assert (event.data, event.id, event.type) == ("x", "urn:x:1", "build")
        assert b"retry: 2000\n" in stream.raw


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("/t/a", b"\xff", 400),
        ("/t/a?id=%23x", b"", 400),
        ("/t/a?type=hub.gap", b"", 400),
        ("/t/a?retry=soon", b"", 400),
        ("/t/a?id=1&id=2", b"", 400),
        ("/t/a%0Ab", b"", 400),
        ("/t/.well-known/mercure/subscriptions/x", b"", 403),
        ("/t/catalog/services/web", b"", 403),
        ("/t/" + "a" * 2000, b"", 413),
        ("/t/a", b"x" * 270_000, 413),
    ],
)
async def test_what_may_not_be_published_is_refused(
    tmp_path: Path, path: str, data: bytes, status: int
) -> None:
    async with local_hub(tmp_path, door=OPEN) as local:
        answered, text = await post(local.hub, path, data)
        assert answered == status
        assert text.strip()
        assert local.history.head == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Host", "farm.example"),
        ("X-Forwarded-Prefix", "/hub"),
        ("Forwarded", "for=192.0.2.1"),
        ("Via", "1.1 proxy"),
    ],
)
async def test_what_came_through_a_proxy_needs_a_token(
    tmp_path: Path, name: str, value: str
) -> None:
    async with local_hub(tmp_path, door=OPEN) as local:
        hub = local.hub
        headers = {name: value}
        assert (await hub.ask("POST", "/t/a", data=b"x", headers=headers)).status == 401
        token = hub.token(publish=["/a"])
        answer = await hub.ask("POST", "/t/a", data=b"x", headers=headers, token=token)
        assert answer.status == 200


async def test_a_door_that_is_not_open_needs_a_token_to_publish(tmp_path: Path) -> None:
    async with local_hub(tmp_path) as local:
        hub = local.hub
        assert (await post(hub))[0] == 401
        for granted, status in ((["/builds"], 200), (["/other"], 403)):
            token = hub.token(publish=granted)
            answer = await hub.ask("POST", "/t/builds", data=b"x", token=token)
            assert answer.status == status
        async with hub.stream(path="/t/builds") as stream:
            assert stream.status == 200, "public updates are read without one"


async def test_a_token_that_is_shown_is_judged_where_none_is_needed(tmp_path: Path) -> None:
    async with local_hub(tmp_path, door=OPEN) as local:
        hub = local.hub
        for token, status in (
            ("garbage", 401),
            (hub.token(publish=["*"], exp=1), 401),
            (hub.token(publish=["/other"]), 403),
            (hub.token(publish=["/builds"]), 200),
        ):
            answer = await hub.ask("POST", "/t/builds", data=b"x", token=token)
            assert answer.status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "own"}, 200),
        ({"Origin": APP}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_a_page_of_another_site_publishes_nothing_without_a_token(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    """Its visitor's browser reaches 127.0.0.1, and a simple request has no preflight."""
    async with local_hub(tmp_path, door=OPEN) as local:
        origin = local.hub.origin
        sent = {name: origin if value == "own" else value for name, value in headers.items()}
        assert (await local.hub.ask("POST", "/t/a", data=b"x", headers=sent)).status == status


async def test_a_name_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """DNS rebinding: a page's own name comes to mean 127.0.0.1."""
    guard = HostGuard(names=["hub"], domains=[], is_node=lambda name: False)
    async with local_hub(tmp_path, door=Door(open=True, hosts=guard)) as local:
        for host, status in (("evil.example", 403), ("hub:8800", 200), ("localhost", 200)):
            assert (await post(local.hub, Host=host))[0] == status


async def test_a_topic_is_purged_with_a_publishers_token_and_audited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_hub(tmp_path, door=OPEN) as local:
        hub = local.hub
        for topic in ("/a", "/b", "/a"):
            await post(hub, f"/t{topic}", topic.encode())
        assert (await hub.ask("DELETE", "/t/a")).status == 401, "also at an open door"
        assert (await hub.ask("DELETE", "/t/a", token=hub.token(publish=["/b"]))).status == 403
        token = hub.token(publish=["/a"], sub="ops")
        with caplog.at_level(logging.WARNING):
            answer = await hub.ask("DELETE", "/t/a", token=token)
        assert (answer.status, answer.text) == (200, "2 updates forgotten\n")
        (line,) = [one for one in caplog.records if one.message == "topic purged"]
        assert (vars(line)["topic"], vars(line)["updates"], vars(line)["subject"]) == (
            "/a",
            2,
            "ops",
        )
        async with hub.stream(("match", "*"), ("last_event_id", "earliest")) as stream:
            assert (await stream.message()).data == "/b"


async def test_a_topic_is_purged_by_name_too(tmp_path: Path) -> None:
    async with local_hub(tmp_path) as local:
        hub = local.hub
        token = hub.token(publish=["*"])
        await hub.publish(("topic", "urn:x"), ("data", "x"))
        for query, status in (
            ([], 400),
            ([("topic", "urn:x"), ("topic", "urn:y")], 400),
            ([("topic", "*")], 400),
            ([("topic", "urn:x")], 200),
        ):
            answer = await hub.ask("DELETE", query=query, token=token)
            assert answer.status == status
        assert answer.text == "1 updates forgotten\n"


async def test_a_key_makes_a_repeated_post_the_same_publication(tmp_path: Path) -> None:
    async with local_hub(tmp_path, door=OPEN) as local:
        first = await post(local.hub, Idempotency_Key="k")
        assert await post(local.hub, Idempotency_Key="k") == first
        assert await post(local.hub, "/t/other", Idempotency_Key="k") != first
        assert local.history.head == 2


async def test_the_key_of_one_publisher_says_nothing_to_another(tmp_path: Path) -> None:
    async with local_hub(tmp_path) as local:
        hub, headers = local.hub, {"Idempotency-Key": "k"}
        ids = []
        for subject in ("a", "b", "a"):
            token = hub.token(publish=["*"], sub=subject)
            answer = await hub.ask("POST", "/t/x", data=b"x", headers=headers, token=token)
            ids.append(answer.text)
        assert ids[0] == ids[2] != ids[1]
        assert local.history.head == 2
