"""/v1/operator/keyring, as Consul 1.8.7 answers it (its WAN pool apart)."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable
from typing import cast

import pytest
from tests.harness.api import KEY, ApiSite, api_site
from tests.harness.raw_http import connect

from callboard.agent.http.frame import Call
from callboard.agent.http.problems import ApiError
from callboard.catalog.authorizer import ALLOW_ALL, DENY_ALL
from callboard.pki.roles import Peer
from callboard.serve import Answer, Request

PATH = "/v1/operator/keyring"
OLD = base64.b64encode(KEY).decode()
NEW = base64.b64encode(bytes(32)).decode()
NOT_INSTALLED = (
    "2 errors occurred:\n\t* dc1 (LAN) error: 1/1 nodes reported failure\n"
    "\t* agent-1: Requested key is not in the keyring\n\n"
)


async def ask(site: ApiSite, method: str, query: str = "", body: object = None) -> tuple[int, str]:
    sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    async with connect(site.port) as client:
        answer = await client.request(method, f"{PATH}{query}", sent)
    return answer.status, answer.body.decode()


async def test_keys_are_listed_with_how_many_members_have_them() -> None:
    async with api_site() as site:
        assert await ask(site, "GET") == (
            200,
            '[{"WAN":false,"Datacenter":"dc1","Segment":"",'
            f'"Keys":{{"{OLD}":1}},"PrimaryKeys":{{"{OLD}":1}},"NumNodes":1}}]',
        )


async def test_key_is_rotated_by_post_put_and_delete() -> None:
    async with api_site() as site:
        for method, key in (("POST", NEW), ("PUT", NEW), ("DELETE", OLD)):
            assert await ask(site, method, body={"Key": key}) == (200, "")
        (pool,) = json.loads((await ask(site, "GET"))[1])
        assert (pool["Keys"], pool["PrimaryKeys"]) == ({NEW: 1}, {NEW: 1})


async def test_failure_is_500_with_every_members_words() -> None:
    async with api_site() as site:
        assert await ask(site, "PUT", body={"Key": NEW}) == (500, NOT_INSTALLED)
        site.membership.keys.silent = 2
        assert await ask(site, "GET") == (
            500,
            "1 error occurred:\n\t* dc1 (LAN) error: 1/3 nodes reported success\n\n",
        )


@pytest.mark.parametrize(
    ("method", "query", "body", "status", "text"),
    [
        ("POST", "", b"", 400, "Bad request: Request decode failed: EOF"),
        (
            "POST",
            "",
            b"nope",
            400,
            "Bad request: Request decode failed: invalid character 'o' in literal null "
            "(expecting 'u')",
        ),
        (
            "POST",
            "",
            b'{"Key":3}',
            400,
            "Bad request: Request decode failed: json: cannot unmarshal number into Go struct "
            "field keyringArgs.Key of type string",
        ),
        (
            "POST",
            "",
            b"[]",
            400,
            "Bad request: Request decode failed: json: cannot unmarshal array into Go value of "
            "type agent.keyringArgs",
        ),
        (
            "POST",
            "",
            b'{"Foo":1}',
            400,
            'Bad request: Request decode failed: json: unknown field "Foo"',
        ),
        ("PUT", "?relay-factor=9&local-only=x", b"nope", 400, "Bad request: Request decode"),
        (
            "GET",
            "?relay-factor=9&local-only=x",
            b"",
            400,
            "Bad request: Invalid relay-factor: Relay factor must be in range: [0, 5]",
        ),
        ("GET", "?relay-factor=-1", b"", 400, "Bad request: Invalid relay-factor: Relay factor"),
        (
            "GET",
            "?relay-factor=x",
            b"",
            400,
            'Bad request: Error parsing relay factor: strconv.Atoi: parsing "x": invalid syntax',
        ),
        (
            "GET",
            "?relay-factor=99999999999999999999",
            b"",
            400,
            "Bad request: Error parsing relay factor: strconv.Atoi: parsing "
            '"99999999999999999999": value out of range',
        ),
        (
            "GET",
            "?local-only=x",
            b"",
            400,
            'Bad request: Error parsing local-only: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        (
            "PUT",
            "?local-only=true",
            b"{}",
            400,
            "Bad request: Invalid use of local-only: local-only can only be set for list requests",
        ),
        (
            "POST",
            "",
            b'{"Key":"!!"}',
            500,
            "1 error occurred:\n\t* dc1 (LAN) error: illegal base64 data at input byte 0\n\n",
        ),
        (
            "POST",
            "",
            b'{"Key":"x!"}',
            500,
            "1 error occurred:\n\t* dc1 (LAN) error: illegal base64 data at input byte 1\n\n",
        ),
        (
            "POST",
            "",
            b'{"Key":"AAAA"}',
            500,
            "2 errors occurred:\n\t* dc1 (LAN) error: 1/1 nodes reported failure\n"
            "\t* agent-1: key size must be 16, 24 or 32 bytes\n\n",
        ),
        (
            "DELETE",
            "",
            json.dumps({"Key": OLD}).encode(),
            500,
            "2 errors occurred:\n\t* dc1 (LAN) error: 1/1 nodes reported failure\n"
            "\t* agent-1: Removing the primary key is not allowed\n\n",
        ),
        ("PATCH", "", b"{}", 405, "method PATCH not allowed"),
    ],
)
async def test_what_cannot_be_done_is_told_in_consuls_words(
    method: str, query: str, body: bytes, status: int, text: str
) -> None:
    async with api_site() as site:
        told = await ask(site, method, query, body)
        assert told[0] == status
        assert told[1].startswith(text)
        (pool,) = json.loads((await ask(site, "GET"))[1])
        assert pool["Keys"] == {OLD: 1}


@pytest.mark.parametrize("body", [b'{"key":"%s"}', b'{"Key":"%s","Token":"x"}', b'{"Key":"%s"} x'])
async def test_bodies_that_consul_takes_are_taken(body: bytes) -> None:
    async with api_site() as site:
        assert await ask(site, "POST", "?local-only=false", body % NEW.encode()) == (200, "")


async def test_key_that_is_there_or_unknown_is_no_error() -> None:
    async with api_site() as site:
        assert await ask(site, "POST", body={"Key": OLD}) == (200, "")
        assert await ask(site, "DELETE", body={"Key": NEW}) == (200, "")


async def test_relay_factor_is_handed_on() -> None:
    async with api_site() as site:
        await ask(site, "GET", "?relay-factor=3")
        await ask(site, "POST", "?relay-factor=2", {"Key": NEW})
        assert site.membership.keys.relay_factors == [3, 2]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_client_agent_sends_to_a_server(method: str) -> None:
    async with api_site(server=False) as site:
        assert await ask(site, method, body={"Key": "!"}) == (
            500,
            "keyring operations must run against a server node",
        )


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_without_rights_no_key_is_told_or_changed(method: str) -> None:
    async with api_site(authorize=lambda request: DENY_ALL) as site:
        assert await ask(site, method, body={"Key": NEW}) == (403, "Permission denied")
        assert site.membership.keys.relay_factors == []


def peer(role: str) -> Peer:
    return Peer(frozenset({role}), "")


async def listed_to(site: ApiSite, client: str, of: Peer | None = None) -> int:
    """The status of a list asked from this address, or by this certificate."""
    resource = next(each for each in site.api.resources if each.pattern == PATH)
    request = Request("GET", PATH, b"", {}, {}, b"", (client, 1), of)
    try:
        answer = await cast(
            "Awaitable[Answer]", resource.methods["GET"](Call(request, "", ALLOW_ALL))
        )
    except ApiError as refused:
        assert str(refused) == "the keys of gossip are for agents and operators"
        return refused.status
    return answer.status


async def test_keys_are_for_this_machine_agents_and_operators() -> None:
    async with api_site() as site:
        assert await listed_to(site, "127.0.0.9") == await listed_to(site, "::1") == 200
        assert await listed_to(site, "10.0.0.1") == 403
        for role in ("server", "agent", "operator"):
            assert await listed_to(site, "10.0.0.1", peer(role)) == 200
        for role in ("hub", "gateway", "fileserver", "sidecar", "nameserver"):
            assert await listed_to(site, "127.0.0.1", peer(role)) == 403
    async with api_site(allow_plain=True) as site:
        assert await listed_to(site, "10.0.0.1") == 200
