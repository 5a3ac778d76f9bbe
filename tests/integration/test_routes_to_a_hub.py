"""Through 1443 to a real hub: who publishes without a token, and what the others are told."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from tests.harness.asking import http
from tests.harness.eventually import SLOW, eventually
from tests.harness.routed import Door, Place
from tests.harness.sse_hub import HubProcess
from tests.harness.tls_clients import end_transports

SECRET = b"a secret of a hook that is long enough"
BODY = b'{"ref": "main"}'
RESOURCE = "/.well-known/oauth-protected-resource/hub/.well-known/mercure"


@pytest.fixture(scope="module")
def hub(place: Place) -> Iterator[HubProcess]:
    """A hub in the catalog; its neighbours publish without a token, and it has a webhook."""
    (place.folder / "ci.secret").write_bytes(SECRET)
    hook = {"style": "github", "secret_file": "ci.secret", "topic": "/ci/{event}"}
    hooks = place.folder / "hooks.json"
    hooks.write_text(json.dumps({"ci": hook}))
    with HubProcess(place.folder / "hub", f"-hooks={hooks}") as made:
        service = {"Name": "hub", "ID": "hub-1", "Address": "127.0.0.1", "Port": made.port}
        answer = http("PUT", place.api("agent/service/register"), json.dumps(service).encode())
        assert answer.status == 200, answer
        yield made


@pytest.fixture(scope="module")
def door(place: Place, hub: HubProcess) -> Iterator[Door]:
    """A file server before both."""
    with place.door() as made:
        yield made


@pytest.fixture
async def client(place: Place, door: Door) -> AsyncIterator[aiohttp.ClientSession]:
    """A client over TLS that trusts the CA, once the hub is found."""
    timeout = aiohttp.ClientTimeout(total=20 * SLOW)
    connector = aiohttp.TCPConnector(ssl=place.client(), force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def found() -> bool:
            async with session.get(f"{door.url}/hub/stats") as answer:
                return answer.status == 200

        there: bool = await eventually(found)
        assert there
        yield session
    await end_transports()


def signed(secret: bytes) -> dict[str, str]:
    """Return the fields of a delivery of BODY."""
    signature = hmac.new(secret, BODY, hashlib.sha256).hexdigest()
    return {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={signature}"}


async def test_a_webhook_with_the_right_signature_is_published(
    door: Door, client: aiohttp.ClientSession, hub: HubProcess
) -> None:
    before = hub.figures()["published"]
    url = f"{door.url}/hub/hooks/ci"
    async with client.post(url, data=BODY, headers=signed(SECRET)) as answer:
        assert answer.status == 200, await answer.text()
    assert hub.figures()["published"] == before + 1


@pytest.mark.parametrize(
    "sent",
    [
        ("ci", signed(b"another secret, of somebody else"), 401),
        ("ci", {}, 401),
        ("none", signed(SECRET), 404),
        ("ci", signed(SECRET) | {"Origin": "https://evil.example"}, 403),
        ("ci", signed(SECRET) | {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_a_webhook_of_another_is_refused(
    door: Door,
    client: aiohttp.ClientSession,
    hub: HubProcess,
    sent: tuple[str, dict[str, str], int],
) -> None:
    name, fields, status = sent
    before = hub.figures()["published"]
    async with client.post(f"{door.url}/hub/hooks/{name}", data=BODY, headers=fields) as answer:
        assert answer.status == status
        assert "needs a token" not in await answer.text()
    assert hub.figures()["published"] == before


@pytest.mark.parametrize("path", ["/.well-known/mercure", "/t/x"])
async def test_a_publisher_without_a_token_publishes_nothing_and_is_told_of_the_metadata(
    door: Door, client: aiohttp.ClientSession, hub: HubProcess, path: str
) -> None:
    before = hub.figures()["published"]
    update = {"topic": "x", "data": "y"}
    url = f"{door.url}/hub{path}"
    async with client.post(url, data=update) as answer:
        assert answer.status == 401
        told = answer.headers["WWW-Authenticate"]
    assert told == f'Bearer resource_metadata="{door.url}{RESOURCE}"'
    async with client.post(url, data=update, headers={"Authorization": "Bearer x"}) as answer:
        assert answer.status == 401
        hubs_own = answer.headers["WWW-Authenticate"]
    assert hubs_own.replace('error="invalid_token", ', "") == told
    assert hub.figures()["published"] == before
    async with client.get(told.split('"')[1]) as answer:
        assert (answer.status, (await answer.json())["resource_name"]) == (200, "Callboard hub")
