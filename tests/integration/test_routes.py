"""Through 1443: a real agent behind the file server, and stand-ins for hub and gateway."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness.asking import get, http
from tests.harness.capabilities import require
from tests.harness.certified import material
from tests.harness.eventually import SLOW, eventually
from tests.harness.routed import Door, Place, StandIn, carries_events
from tests.harness.static_server import Raw, put
from tests.harness.tls_clients import end_transports
from yarl import URL

from callboard.pki import certificates
from callboard.pki.roles import names_for

SCRIPT = b"<script>alert(document.domain)</script>"

Ask = Callable[..., Coroutine[Any, Any, aiohttp.ClientResponse]]
Stand = Callable[..., Coroutine[Any, Any, StandIn]]


@pytest.fixture(scope="module")
def door(place: Place) -> Iterator[Door]:
    """A file server before it, all in the clear behind."""
    with place.door() as made:
        yield made


@pytest.fixture(scope="module")
def secured(place: Place) -> Iterator[Door]:
    """A file server that speaks mutual TLS to agent, hub and gateway."""
    with place.door(secure=True) as made:
        yield made


@pytest.fixture(params=["plain", "mutual TLS"])
def each(request: pytest.FixtureRequest, door: Door, secured: Door) -> Door:
    """Both file servers, one after the other."""
    return door if request.param == "plain" else secured


@pytest.fixture
async def client(place: Place) -> AsyncIterator[aiohttp.ClientSession]:
    """A client over TLS that trusts the CA."""
    timeout = aiohttp.ClientTimeout(total=20 * SLOW)
    connector = aiohttp.TCPConnector(ssl=place.client(), force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield session
    await end_transports()


@pytest.fixture
async def stand(place: Place) -> AsyncIterator[Stand]:
    """Start stand-ins that are gone afterwards."""
    made: list[StandIn] = []

    async def start(service: str, id: str = "", **more: Any) -> StandIn:
        one = StandIn(place, service, id or f"{service}-1", **more)
        await one.start()
        made.append(one)
        return one

    yield start
    for one in made:
        await one.stop()
    await end_transports()


@asynccontextmanager
async def raw(door: Door, place: Place) -> AsyncIterator[Raw]:
    """Connect to send bytes as they are."""
    reader, writer = await asyncio.open_connection(
        door.address, 1443, ssl=place.client(), server_hostname="localhost"
    )
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


async def until(fact: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until it is so."""
    await eventually(fact)


async def routed(client: aiohttp.ClientSession, url: str, status: int = 200) -> dict[str, str]:
    """Ask until the answer has this status; its header fields."""

    fields: dict[str, str] = {}

    async def asked() -> bool:
        async with client.get(url) as answer:
            fields.update(answer.headers)
            return answer.status == status

    await until(asked)
    return fields


# the catalog ------------------------------------------------------------------------------------


async def test_the_catalog_is_read_through_the_door(
    door: Door, place: Place, client: aiohttp.ClientSession
) -> None:
    async with client.get(f"{door.url}/v1/catalog/nodes") as answer:
        assert answer.status == 200
        assert [node["Node"] for node in await answer.json()] == ["agent-1"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "sandbox"
        assert "Strict-Transport-Security" not in answer.headers
    async with client.get(f"{door.url}/") as answer:
        assert await answer.text() == "the page"


async def test_a_blocking_query_waits_through_the_door(
    door: Door, place: Place, client: aiohttp.ClientSession
) -> None:
    http("PUT", place.api("kv/wait"), b"1")
    url = f"{door.url}/v1/kv/wait"
    async with client.get(url) as answer:
        index = answer.headers["X-Consul-Index"]

    async def blocked() -> list[dict[str, str]]:
        async with client.get(url, params={"index": index, "wait": "1m"}) as answer:
            found: list[dict[str, str]] = await answer.json()
            return found

    asking = asyncio.create_task(blocked())
    await eventually(lambda: door.metric("callboard_routes_requests ") == 1)
    assert not asking.done()
    http("PUT", place.api("kv/wait"), b"2")
    [entry] = await asking
    assert base64.b64decode(entry["Value"]) == b"2"


@pytest.mark.parametrize("query", ["raw", "%72aw=1"])
async def test_a_raw_value_that_is_a_script_is_text_in_a_box(
    door: Door, place: Place, client: aiohttp.ClientSession, query: str
) -> None:
    http("PUT", place.api("kv/page.html"), SCRIPT)
    url = URL(f"{door.url}/v1/kv/page.html?{query}", encoded=True)
    async with client.get(url) as answer:
        assert await answer.read() == SCRIPT
        assert answer.headers.getall("Content-Type") == ["text/plain; charset=utf-8"]
        assert answer.headers.getall("X-Content-Type-Options") == ["nosniff"]
        assert answer.headers.getall("Content-Security-Policy") == ["sandbox"]


@pytest.mark.parametrize("fields", [{}, {"X-Consul-Token": "t"}, {"Authorization": "Bearer t"}])
async def test_nobody_deregisters_through_the_door(
    door: Door,
    place: Place,
    client: aiohttp.ClientSession,
    fields: dict[str, str],
) -> None:
    body = json.dumps({"Name": "web", "Port": 80}).encode()
    http("PUT", place.api("agent/service/register"), body)
    url = f"{door.url}/v1/agent/service/deregister/web"
    async with client.put(url, headers=fields) as answer:
        assert answer.status == 403
    async with client.put(f"{door.url}/v1/kv/mine", data=b"x", headers=fields) as answer:
        assert answer.status == 403
    assert "web" in get(place.api("agent/services"))
    assert http("GET", place.api("kv/mine")).status == 404


async def test_allow_writes_opens_the_catalog_to_tools_and_own_pages(
    place: Place, client: aiohttp.ClientSession
) -> None:
    with place.door("-allow-writes", "-allowed-origin=https://friend.example") as opened:
        url = f"{opened.url}/v1/kv/opened"
        for origin, status in (
            (None, 200),
            (opened.url, 200),
            ("https://friend.example", 200),
            ("https://evil.example", 403),
            (f"https://{opened.address}", 403),
        ):
            headers = {"Origin": origin} if origin else {}
            body = (origin or "tool").encode()
            async with client.put(url, data=body, headers=headers) as answer:
                assert answer.status == status, (origin, await answer.text())
            assert (http("GET", place.api("kv/opened?raw")).body == body) is (status == 200)


@pytest.mark.parametrize("path", ["internal/feed", "%69nternal/feed", "operator/keyring"])
async def test_what_programs_and_operators_ask_is_not_there(
    door: Door, secured: Door, client: aiohttp.ClientSession, path: str
) -> None:
    for one in (door, secured):
        async with client.get(URL(f"{one.url}/v1/{path}", encoded=True)) as answer:
            assert answer.status == 404


async def test_a_name_that_is_not_ours_is_refused_before_anybody_is_asked(
    door: Door, client: aiohttp.ClientSession
) -> None:
    for host in ("evil.example", "evil.example:1443", "127.0.0.1.evil.example"):
        async with client.get(f"{door.url}/v1/catalog/nodes", headers={"Host": host}) as answer:
            assert answer.status == 403


async def test_an_allowed_host_needs_no_setting_of_the_agents(
    place: Place, client: aiohttp.ClientSession
) -> None:
    with place.door("-allowed-host=www.example.org") as named:
        headers = {"Host": "www.example.org"}
        async with client.get(f"{named.url}/v1/catalog/nodes", headers=headers) as answer:
            assert answer.status == 200
            assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


async def test_the_agent_is_asked_by_mutual_tls(
    secured: Door, client: aiohttp.ClientSession
) -> None:
    async with client.get(f"{secured.url}/v1/status/leader") as answer:
        assert answer.status == 200


async def test_the_last_known_instances_are_asked_when_the_catalog_is_gone(tmp_path: Path) -> None:
    require("linux")
    own = Place(tmp_path)
    hub = StandIn(own, "hub", "hub-1")
    connector = aiohttp.TCPConnector(ssl=own.client(), force_close=True)
    try:
        with own.door() as alone:
            async with aiohttp.ClientSession(connector=connector) as session:
                async with session.get(f"{alone.url}/hub/x") as answer:
                    assert answer.status == 503
                    assert "not known here yet" in await answer.text()
                with own.catalog():
                    await hub.start()
                    await routed(session, f"{alone.url}/hub/x")
                async with session.get(f"{alone.url}/hub/x") as answer:
                    assert answer.status == 200, "the last known instances are gone"
                async with session.get(f"{alone.url}/v1/catalog/nodes") as answer:
                    assert answer.status == 502
                    assert answer.headers["Retry-After"] == "1"
    finally:
        await hub.kill()


# hub and gateway --------------------------------------------------------------------------------


async def test_a_program_sees_its_own_path_and_where_the_request_came_from(
    door: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    hub = await stand("hub")
    await routed(client, f"{door.url}/hub/t/builds?last=1")
    seen = hub.told[-1]
    assert (seen.method, seen.target) == ("GET", "/t/builds?last=1")
    assert seen.headers["X-Forwarded-Prefix"] == "/hub"
    assert seen.headers["X-Forwarded-Proto"] == "https"
    assert seen.headers["Host"] == f"{door.address}:1443"
    assert seen.headers["X-Forwarded-For"].startswith("127.")
    async with client.head(f"{door.url}/hub/x") as answer:
        assert (answer.status, answer.headers["X-By"]) == (200, hub.id)
    await routed(client, f"{door.url}/.well-known/oauth-protected-resource/hub/t")
    seen = hub.told[-1]
    assert seen.target == "/.well-known/oauth-protected-resource/t"
    assert seen.headers["X-Forwarded-Prefix"] == "/hub"


async def test_an_event_arrives_before_the_stream_ends(
    door: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    hub = await stand("hub")
    await routed(client, f"{door.url}/hub/x")
    await carries_events(client, f"{door.url}/hub/events", hub)


async def test_a_client_that_leaves_ends_the_stream_behind(
    door: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    hub = await stand("hub")
    await routed(client, f"{door.url}/hub/x")
    async with client.get(f"{door.url}/hub/events"):
        assert len(hub.streams) == 1
    await eventually(lambda: not hub.streams)

    def told() -> bool:
        lines = door.process.log.read_text().splitlines()
        return any("/hub/events" in line and '"status": 200' in line and '"cut": true' in line
                   for line in lines)  # fmt: skip

    await eventually(told)


async def test_a_websocket_goes_both_ways(
    each: Door, place: Place, client: aiohttp.ClientSession, stand: Stand
) -> None:
    gateway = await stand("gateway", files=place.files("gateway", "") if each.secure else None)
    await routed(client, f"{each.url}/media/x")
    url = f"{each.url}/media/echo"
    async with client.ws_connect(url, protocols=("janus-protocol",), origin=each.url) as socket:
        assert socket.protocol == "janus-protocol"
        for number in range(3):
            await socket.send_str(f"hello {number}")
            assert await socket.receive_str() == f"gateway-1: hello {number}"
        big = bytes(range(256)) * 4000
        await socket.send_bytes(big)
        assert await socket.receive_bytes() == big
    assert gateway.told[-1].headers["X-Forwarded-Prefix"] == "/media"
    await eventually(lambda: not gateway.streams)


async def test_a_websocket_ends_with_the_program_behind(
    door: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    gateway = await stand("gateway")
    await routed(client, f"{door.url}/media/x")
    async with client.ws_connect(f"{door.url}/media/echo") as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "gateway-1: hello"
        await gateway.kill()
        message = await socket.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


async def test_a_page_of_another_site_opens_no_websocket(
    door: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    await stand("gateway")
    await routed(client, f"{door.url}/media/x")
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        await client.ws_connect(f"{door.url}/media/echo", origin="https://evil.example")


async def test_a_form_of_another_site_and_an_anonymous_publisher_reach_nobody(
    door: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    hub = await stand("hub")
    await routed(client, f"{door.url}/hub/x")
    before = len(hub.told)
    url = f"{door.url}/hub/t/builds"
    form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": "mercureAuthorization=t"}
    for more in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        async with client.post(url, data=b"a=b", headers=form | more) as answer:
            assert answer.status == 403
    async with client.post(url, data=b"hello") as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer resource_metadata=")
    assert len(hub.told) == before
    token = {"Authorization": "Bearer t", "Origin": door.url}
    async with client.post(url, data=b"hello", headers=token) as answer:
        assert answer.status == 200
    assert hub.told[-1].body == b"hello"
    assert hub.told[-1].headers["Authorization"] == "Bearer t"


async def test_an_instance_that_does_not_answer_is_left_for_another(
    door: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    gone, here = await stand("hub", "hub-1"), await stand("hub", "hub-2")
    seen = set()

    async def both() -> bool:
        async with client.get(f"{door.url}/hub/x") as answer:
            seen.add(answer.headers.get("X-By"))
        return {"hub-1", "hub-2"} <= seen

    await until(both)
    await gone.kill()  # and its check still passes
    for _ in range(20):
        async with client.get(f"{door.url}/hub/x") as answer:
            assert (answer.status, answer.headers["X-By"]) == (200, here.id)
        async with client.post(
            f"{door.url}/hub/t/x", data=b"hello", headers={"Authorization": "Bearer t"}
        ) as answer:
            assert answer.status == 200


async def test_an_instance_that_is_critical_is_not_asked(
    door: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    hub = await stand("hub")
    await routed(client, f"{door.url}/hub/x")
    hub.fail()
    await routed(client, f"{door.url}/hub/x", 503)


async def test_a_stream_of_a_killed_instance_looks_cut_and_is_had_again_elsewhere(
    door: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    one = await stand("hub", "hub-1")
    await routed(client, f"{door.url}/hub/x")
    async with client.get(f"{door.url}/hub/events") as answer:
        one.events.put_nowait(b"data: 1\n\n")
        assert await answer.content.readexactly(9) == b"data: 1\n\n"
        other = await stand("hub", "hub-2")
        await one.kill()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()

    async def again() -> bool:
        async with client.get(f"{door.url}/hub/events") as answer:
            if answer.status != 200:
                return False
            other.events.put_nowait(b"data: 2\n\n")
            return await answer.content.readexactly(9) == b"data: 2\n\n"

    await until(again)


async def test_requests_behind_each_other_are_judged_one_by_one_and_answered_in_order(
    door: Door, place: Place, client: aiohttp.ClientSession, stand: Stand
) -> None:
    hub = await stand("hub")
    await routed(client, f"{door.url}/hub/x")
    host = f"Host: {door.address}:1443\r\n"
    post = f"POST /hub/t/x HTTP/1.1\r\n{host}Authorization: Bearer t\r\n"
    hidden = f"PUT /v1/kv/hidden HTTP/1.1\r\n{host}Content-Length: 1\r\n\r\nx"
    async with raw(door, place) as connection:
        connection.send(
            (
                f"{post}Transfer-Encoding: chunked\r\n\r\n{len(hidden):x}\r\n{hidden}\r\n0\r\n\r\n"
                f"{post}Content-Length: {len(hidden)}\r\n\r\n{hidden}"
                f"HEAD /hub/head HTTP/1.1\r\n{host}\r\n"
                f"GET /index.html HTTP/1.1\r\n{host}\r\n"
                f"GET /v1/kv/hidden HTTP/1.1\r\n{host}\r\n{hidden}"
            ).encode()
        )
        replies = [await connection.reply(method=m) for m in ("POST", "POST", "HEAD", "GET", "GET")]
        assert [reply.status for reply in replies] == [200, 200, 200, 200, 404]
        assert replies[3].body == b"the page"
        assert (await connection.reply()).status == 403
    assert [told.body for told in hub.told[-3:-1]] == [hidden.encode()] * 2
    assert http("GET", place.api("kv/hidden")).status == 404


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
    ],
)
async def test_a_body_that_two_readers_could_end_differently_reaches_nobody(
    door: Door, place: Place, client: aiohttp.ClientSession, stand: Stand, fields: str
) -> None:
    hub = await stand("hub")
    await routed(client, f"{door.url}/hub/x")
    before = len(hub.told)
    async with raw(door, place) as connection:
        post = f"POST /hub/t/x HTTP/1.1\r\nHost: {door.address}\r\nAuthorization: Bearer t\r\n"
        connection.send(f"{post}{fields}\r\n0\r\n\r\nGET /hub/y HTTP/1.1\r\n\r\n".encode("latin-1"))
        assert (await connection.reply()).status in (400, 501)
        assert await connection.rest() == b""
    assert len(hub.told) == before


# mutual TLS behind ------------------------------------------------------------------------------


async def test_programs_are_asked_by_mutual_tls_at_the_port_their_meta_tells(
    secured: Door, place: Place, client: aiohttp.ClientSession, stand: Stand
) -> None:
    hub = await stand("hub", files=place.files("hub", ""))
    fields = await routed(client, f"{secured.url}/hub/x")
    assert fields["X-By"] == hub.id


@pytest.mark.parametrize("role", ["gateway", "sidecar", "agent"])
async def test_a_program_with_anothers_certificate_is_no_hub(
    secured: Door, place: Place, client: aiohttp.ClientSession, stand: Stand, role: str
) -> None:
    hub = await stand("hub", files=place.files(role, ""))
    await routed(client, f"{secured.url}/hub/x", 502)
    assert not hub.told
    await eventually(lambda: secured.process.said("Hostname mismatch"))


async def test_a_program_that_is_revoked_is_cut_off_in_the_middle_of_a_stream(
    tmp_path: Path,
) -> None:
    require("linux")
    own = Place(tmp_path)
    leaf = own.authority.leaf(names_for("hub", "", addresses=[ip_address(own.agent)]))
    hub = StandIn(own, "hub", "hub-1", files=material(tmp_path / "hub", leaf, own.authority))
    connector = aiohttp.TCPConnector(ssl=own.client(), force_close=True)
    try:
        with own.catalog(), own.door(secure=True) as door:
            await hub.start()
            async with aiohttp.ClientSession(connector=connector) as session:
                await routed(session, f"{door.url}/hub/x")
                async with session.get(f"{door.url}/hub/events") as answer:
                    hub.events.put_nowait(b"data: 1\n\n")
                    assert await answer.content.readexactly(9) == b"data: 1\n\n"
                    revoked = own.authority.list(leaf, number=2)
                    assert own.door_files.revoked is not None
                    put(own.door_files.revoked, certificates.pem(revoked))
                    door.process.process.send_signal(signal.SIGHUP)
                    with pytest.raises(aiohttp.ClientPayloadError):
                        await answer.content.read()
                await routed(session, f"{door.url}/hub/x", 502)
            await end_transports()
    finally:
        await hub.kill()
        await end_transports()


async def test_a_program_of_another_ca_is_no_hub(
    secured: Door, client: aiohttp.ClientSession, stand: Stand, tmp_path: Path
) -> None:
    stranger = Place(tmp_path)
    hub = await stand("hub", files=stranger.files("hub", ""))
    await routed(client, f"{secured.url}/hub/x", 502)
    assert not hub.told


async def test_a_program_in_the_clear_is_not_asked_by_one_with_an_identity(
    secured: Door, client: aiohttp.ClientSession, stand: Stand
) -> None:
    hub = await stand("hub")
    async with client.get(f"{secured.url}/hub/x") as answer:
        assert answer.status == 503
        assert "mutual TLS" in await answer.text()
    assert not hub.told


# what is written down ---------------------------------------------------------------------------


async def test_no_credential_is_written_into_any_log(
    door: Door, secured: Door, place: Place, client: aiohttp.ClientSession, stand: Stand
) -> None:
    secret = "s3cret-t0ken"
    await stand("hub", "hub-1")
    await stand("hub", "hub-2", files=place.files("hub", ""))
    headers = {
        "Authorization": f"Bearer {secret}",
        "X-Consul-Token": secret,
        "Cookie": f"mercureAuthorization={secret}",
    }
    for one in (door, secured):
        await routed(client, f"{one.url}/hub/x")
        for path in ("hub/x", "hub/t/%2e%2e", "v1/catalog/nodes", "v1/nothing", "none"):
            for method in ("GET", "POST", "BREW"):
                async with client.request(
                    method, f"{one.url}/{path}?token={secret}&authorization={secret}",
                    headers=headers,
                ) as answer:  # fmt: skip
                    await answer.read()
        await eventually(lambda one=one: one.process.said('"path": "/none"'))  # type: ignore[misc]
    logs = [path for path in place.folder.glob("*.log") if path.stat().st_size]
    assert len(logs) >= 3
    for log in logs:
        assert secret not in log.read_text(), log
