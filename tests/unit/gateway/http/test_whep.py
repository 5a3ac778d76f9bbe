"""WHEP over HTTP: every status and header (draft-ietf-wish-whep-03)."""

from __future__ import annotations

import asyncio
import re

import pytest
from tests.harness.eventually import eventually
from tests.unit.gateway.http.stand import (
    Reply,
    Stand,
    receiving,
    ssrc_of,
    standing,
    watching,
)
from tests.unit.gateway.sdp.conftest import client_offer

from callboard.gateway.http.ice_servers import IceServers
from callboard.gateway.live import StreamDescription
from callboard.gateway.sdp.offers import BYTES_MAX
from callboard.gateway.session.sessions import SessionLimits

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
OFFER = client_offer("chromium-viewer")
CANDIDATES = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:JCWN\r\n"
    "a=ice-pwd:5awm4zKo9jJB8BvX9dKEGH6Q\r\n"
    "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
)
RESTART = CANDIDATES.replace("JCWN", "newu").replace("5awm", "newp")


async def post(stand: Stand, name: str = "test", **headers: str) -> Reply:
    """A browser's offer."""
    return await stand.ask("POST", f"/whep/{name}", OFFER, SDP, **headers)


async def test_options_tells_what_to_post_and_the_ice_servers() -> None:
    async with standing(ice_servers=IceServers(["stun:a.example"])) as stand:
        reply = await stand.ask("OPTIONS", "/whep/test")
        assert reply.status == 204 and reply.body == b""
        assert reply.headers["Accept-Post"] == SDP
        assert reply.links == ['<stun:a.example>; rel="ice-server"']
        assert "POST" in reply.headers["Allow"]


async def test_credentials_of_turn_are_told_to_who_may_watch_alone() -> None:
    servers = IceServers(["stun:a.example", "turn:b.example"], "shared")
    async with standing(ice_servers=servers, watch_token="s3cret") as stand:
        stranger = await stand.ask("OPTIONS", "/whep/test")
        assert stranger.links == ['<stun:a.example>; rel="ice-server"']
        told = await stand.ask("OPTIONS", "/whep/test", Authorization="Bearer s3cret")
        assert [link.partition(">")[0] for link in told.links] == [
            "<stun:a.example",
            "<turn:b.example",
        ]


async def test_an_offer_is_answered_with_a_session() -> None:
    async with standing(ice_servers=IceServers(["stun:a.example"])) as stand:
        feed = stand.stream()
        feed.frame()
        reply = await post(stand)
        assert (reply.status, reply.headers["Content-Type"]) == (201, SDP)
        assert re.fullmatch(r"/whep/test/[0-9a-f]{32}", reply.headers["Location"])
        ufrag = re.search(r"a=ice-ufrag:(\S+)", reply.text)
        assert ufrag is not None and reply.headers["ETag"] == f'"{ufrag[1]}"'
        assert reply.headers["Accept-Patch"] == FRAGMENT
        ice, events = reply.links
        assert ice == '<stun:a.example>; rel="ice-server"'
        assert events.startswith(
            f'<{reply.headers["Location"]}/sse>; rel="urn:ietf:params:whep:ext'
        )
        assert len(feed.live.viewers) == 1


async def test_head_and_get_find_out_whether_there_is_a_stream() -> None:
    async with standing() as stand:
        stand.stream()
        for method in ("HEAD", "GET"):
            reply = await stand.ask(method, "/whep/test")
            assert (reply.status, reply.body) == (200, b"")
            assert (reply.headers["Content-Type"], reply.headers["Accept-Post"]) == (SDP, SDP)
            assert (await stand.ask(method, "/whep/other")).status == 404


async def test_a_session_is_there_until_it_is_deleted() -> None:
    async with standing() as stand:
        stand.stream().frame()
        where = (await post(stand)).headers["Location"]
        assert (await stand.ask("GET", where)).status == 204
        other = where.replace("/test/", "/other/")
        for method in ("GET", "DELETE"):
            assert (await stand.ask(method, other)).status == 404
        assert (await stand.ask("DELETE", where)).status == 200
        for method in ("GET", "DELETE"):
            assert (await stand.ask(method, where)).status == 404
        assert len(stand.sessions) == len(stand.transports) == 0


@pytest.mark.parametrize(
    ("body", "kind", "status", "text"),
    [
        (OFFER, "text/plain", 415, "application/sdp"),
        (OFFER, None, 415, "application/sdp"),
        (b"", SDP, 400, "v=0"),
        (b"hello", SDP, 400, "v=0"),
        (b"\xff" * 50, SDP, 400, "UTF-8"),
        (OFFER.replace(b"a=rtcp-mux\r\n", b""), SDP, 400, "rtcp-mux"),
        (OFFER + b"a=x\r\n" * BYTES_MAX, SDP, 413, ""),
    ],
)
async def test_what_is_no_offer_is_refused_with_its_reason(
    body: bytes, kind: str | None, status: int, text: str
) -> None:
    async with standing() as stand:
        stand.stream().frame()
        reply = await stand.ask("POST", "/whep/test", body, kind)
        assert reply.status == status and text in reply.text
        assert len(stand.transports) == len(stand.sessions) == 0


async def test_an_offer_with_parameters_of_its_media_type_is_taken() -> None:
    async with standing() as stand:
        stand.stream().frame()
        reply = await stand.ask("POST", "/whep/test", OFFER, "Application/SDP; charset=utf-8")
        assert reply.status == 201


@pytest.mark.parametrize(
    "path", ["/whep/other", "/whep/", "/whep/a%20b", "/whep/%2e%2e", "/whip2/x"]
)
async def test_an_unknown_stream_is_404(path: str) -> None:
    async with standing() as stand:
        stand.stream().frame()
        assert (await stand.ask("POST", path, OFFER, SDP)).status == 404


async def test_a_stream_of_which_nothing_comes_is_409_with_a_time_to_come_back() -> None:
    async with standing() as stand:
        feed = stand.stream()
        reply = await post(stand)
        assert (reply.status, reply.headers["Retry-After"]) == (409, "2")
        feed.frame()
        assert (await post(stand)).status == 201
        feed.live.offline("nothing came for 2 s", 0.0)
        reply = await post(stand)
        assert reply.status == 409 and "nothing came for 2 s" in reply.text


async def test_a_stream_on_demand_is_begun_by_its_first_viewer() -> None:
    async with standing() as stand:
        feed = stand.stream(on_demand=True)
        wanted: list[bool] = []
        feed.live.on_wanted = wanted.append
        async with watching(stand) as (player, _):
            assert wanted == [True]
            stand.tasks.append(asyncio.get_running_loop().create_task(feed.run()))
            assert await eventually(lambda: player.frames["video"] > 10)
        assert await eventually(lambda: wanted == [True, False])


async def test_a_stream_that_cannot_be_played_says_why() -> None:
    async with standing() as stand:
        stand.streams.open(
            StreamDescription("mpeg", "MPEG", (), problem="no browser plays it"), "s"
        )
        reply = await post(stand, "mpeg")
        assert reply.status == 409 and "no browser plays it" in reply.text


async def test_a_client_without_a_common_codec_gets_an_offer_and_has_a_time_to_answer() -> None:
    async with standing() as stand:
        feed = stand.stream()
        feed.frame()
        reply = await stand.ask("POST", "/whep/test", OFFER.replace(b"VP8", b"VP7"), SDP)
        assert (reply.status, reply.headers["Content-Type"]) == (406, SDP)
        assert "a=setup:actpass" in reply.text and "VP8/90000" in reply.text
        where = reply.headers["Location"]
        assert [link for link in reply.links if f"{where}/sse" in link]
        early = await stand.ask(
            "PATCH", where, CANDIDATES, FRAGMENT, If_Match=reply.headers["ETag"]
        )
        assert early.status == 422
        assert (await stand.ask("PATCH", where, b"hello", SDP)).status == 400
        assert (await stand.ask("GET", where)).status == 204
        stand.sessions.tick(asyncio.get_running_loop().time() + 16)
        assert (await stand.ask("GET", where)).status == 404
        assert not feed.live.viewers


# ------------------------------------------------------------------ PATCH


async def test_trickled_candidates_are_taken_under_the_etag() -> None:
    async with standing() as stand:
        stand.stream().frame()
        reply = await post(stand)
        where, tag = reply.headers["Location"], reply.headers["ETag"]
        for match in (tag, f'"other", {tag}', "*"):
            patched = await stand.ask("PATCH", where, CANDIDATES, FRAGMENT, If_Match=match)
            assert (patched.status, patched.body) == (204, b"")
            assert "ETag" not in patched.headers


@pytest.mark.parametrize(
    ("body", "kind", "match", "status"),
    [
        (CANDIDATES, FRAGMENT, None, 428),
        (CANDIDATES, FRAGMENT, '"stale"', 412),
        (CANDIDATES, "text/plain", "*", 415),
        (CANDIDATES, None, "*", 415),
        ("{}", FRAGMENT, "*", 400),
        ("a=mid:0\r\n", FRAGMENT, "*", 422),
        (OFFER.decode(), SDP, "*", 422),
        ("x" * (BYTES_MAX + 1), FRAGMENT, "*", 413),
    ],
)
async def test_what_cannot_be_patched_is_refused(
    body: str, kind: str | None, match: str | None, status: int
) -> None:
    async with standing() as stand:
        stand.stream().frame()
        where = (await post(stand)).headers["Location"]
        headers = {"If-Match": match} if match is not None else {}
        reply = await stand.ask("PATCH", where, body, kind, **headers)
        assert reply.status == status
        assert (await stand.ask("GET", where)).status == 204, "the session goes on"


async def test_new_credentials_restart_ice() -> None:
    async with standing() as stand:
        stand.stream().frame()
        created = await post(stand)
        where, tag = created.headers["Location"], created.headers["ETag"]
        reply = await stand.ask("PATCH", where, RESTART, FRAGMENT, If_Match="*")
        assert (reply.status, reply.headers["Content-Type"]) == (200, FRAGMENT)
        assert reply.headers["ETag"] not in ("", tag)
        assert "a=ice-lite" in reply.text and "a=candidate:" in reply.text
        stale = await stand.ask("PATCH", where, RESTART, FRAGMENT, If_Match=tag)
        assert stale.status == 412
        again = await stand.ask("PATCH", where, RESTART, FRAGMENT, If_Match=reply.headers["ETag"])
        assert again.status == 204, "the same credentials are no restart"


async def test_media_goes_on_through_an_ice_restart() -> None:
    async with standing() as stand:
        await stand.playing()
        async with receiving(stand) as (client, created):
            ssrc = ssrc_of(created.text, "video")
            assert await eventually(lambda: len(client.received[ssrc].sequences) > 10)
            where = created.headers["Location"]
            reply = await stand.ask("PATCH", where, RESTART, FRAGMENT, If_Match="*")
            assert reply.status == 200
            seen = len(client.received[ssrc].sequences)
            assert await eventually(lambda: len(client.received[ssrc].sequences) > seen + 50)
            assert not client.received[ssrc].missing


@pytest.mark.parametrize("method", ["PATCH", "DELETE", "PUT"])
async def test_what_is_not_done_at_a_stream_is_405(method: str) -> None:
    async with standing() as stand:
        stand.stream().frame()
        reply = await stand.ask(method, "/whep/test", CANDIDATES, FRAGMENT)
        assert reply.status == 405 and "POST" in reply.headers["Allow"]


async def test_nothing_is_posted_to_a_session() -> None:
    async with standing() as stand:
        stand.stream().frame()
        where = (await post(stand)).headers["Location"]
        reply = await stand.ask("POST", where, OFFER, SDP)
        assert (reply.status, reply.headers["Allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, PATCH")
        asked = await stand.ask("OPTIONS", where)
        assert asked.headers["Accept-Patch"] == f"{FRAGMENT}, {SDP}"
        assert "Accept-Post" not in asked.headers


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize("limits", [SessionLimits(viewers=2), SessionLimits(viewers_per_stream=2)])
async def test_too_many_viewers_are_503_with_a_time_to_come_back(limits: SessionLimits) -> None:
    async with standing(limits=limits) as stand:
        stand.stream().frame()
        replies = [await post(stand) for _ in range(3)]
        assert [reply.status for reply in replies] == [201, 201, 503]
        assert replies[2].headers["Retry-After"] == "5"
        assert stand.sessions.refused == 1
        await stand.ask("DELETE", replies[0].headers["Location"])
        assert (await post(stand)).status == 201


async def test_viewers_of_one_stream_do_not_count_for_another() -> None:
    async with standing(limits=SessionLimits(viewers_per_stream=1)) as stand:
        stand.stream("a").frame()
        stand.stream("b").frame()
        assert [(await post(stand, name)).status for name in "abab"] == [201, 201, 503, 503]


# ------------------------------------------------------------------ who may


async def test_with_a_token_every_request_but_options_needs_it() -> None:
    async with standing(watch_token="s3cret") as stand:
        stand.stream().frame()
        right = {"Authorization": "Bearer s3cret"}
        where = (await post(stand, **right)).headers["Location"]
        for method, path in (
            ("POST", "/whep/test"), ("GET", "/whep/test"), ("HEAD", "/whep/test"),
            ("PATCH", where), ("DELETE", where), ("GET", where), ("POST", f"{where}/sse"),
        ):  # fmt: skip
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                reply = await stand.ask(method, path, OFFER, SDP, **headers)
                assert reply.status == 401, (method, path)
                assert reply.headers["WWW-Authenticate"].startswith("Bearer realm=")
        assert (await stand.ask("OPTIONS", "/whep/test")).status == 204
        assert (await stand.ask("DELETE", where, **right)).status == 200


async def test_pages_of_allowed_origins_may_read_everything_that_is_needed() -> None:
    async with standing(allowed_origins=["https://a.example"]) as stand:
        stand.stream().frame()
        reply = await post(stand, Origin="https://a.example")
        assert reply.headers["Access-Control-Allow-Origin"] == "https://a.example"
        exposed = reply.headers["Access-Control-Expose-Headers"]
        assert all(name in exposed for name in ("Location", "ETag", "Link", "Retry-After"))
        preflight = await stand.ask(
            "OPTIONS", reply.headers["Location"], Origin="https://a.example",
            Access_Control_Request_Method="PATCH",
        )  # fmt: skip
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        assert "If-Match" in preflight.headers["Access-Control-Allow-Headers"]
        for origin in ("https://b.example", "null"):
            other = await stand.ask("OPTIONS", "/whep/test", Origin=origin)
            assert "Access-Control-Allow-Origin" not in other.headers
            assert "Access-Control-Allow-Methods" not in other.headers


async def test_paths_have_the_prefix_of_a_known_proxy() -> None:
    forwarded = {"X-Forwarded-Prefix": "/media", "X-Forwarded-For": "203.0.113.7"}
    async with standing(proxied=True) as stand:
        stand.stream().frame()
        reply = await post(stand, **forwarded)
        assert reply.headers["Location"].startswith("/media/whep/test/")
        assert reply.links[-1].startswith("</media/whep/test/")
    async with standing() as stand:
        stand.stream().frame()
        assert (await post(stand, **forwarded)).headers["Location"].startswith("/whep/")


@pytest.mark.parametrize(
    ("host", "is_told"),
    [("localhost:1443", True), ("127.0.0.1:8889", True), ("[::1]", True), ("192.0.2.9", False)],
)
async def test_loopback_candidates_are_for_who_called_us_by_loopback(
    host: str, is_told: bool
) -> None:
    async with standing() as stand:
        stand.stream().frame()
        reply = await post(stand, Host=host)
        assert ("127.0.0.1" in "".join(re.findall("a=candidate.*", reply.text))) == is_told


async def test_many_at_once_have_sessions_of_their_own() -> None:
    async with standing() as stand:
        stand.stream().frame()
        replies = await asyncio.gather(*(post(stand) for _ in range(20)))
        assert {reply.status for reply in replies} == {201}
        wheres = {reply.headers["Location"] for reply in replies}
        assert len(wheres) == len({reply.headers["ETag"] for reply in replies}) == 20
        for where in wheres:
            await stand.ask("DELETE", where)
        assert len(stand.transports) == len(stand.sessions) == 0


async def test_a_player_and_a_bare_client_watch_together() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with watching(stand) as (player, _), receiving(stand) as (client, reply):
            assert await eventually(lambda: player.frames["video"] > 5)
            assert await eventually(lambda: ssrc_of(reply.text, "video") in client.received)
            assert len(feed.live.viewers) == 2
