"""`callboard gateway doctor` says what works, and what stands in a viewer's way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.harness.gateway_process import GatewayProcess
from tests.harness.scripted_http import refusing_address
from tests.harness.sse_server import Peer, SseServer
from tests.harness.webrtc_client import loopback_only
from tests.unit.gateway.http.stand import AUDIO_TRACK, FRAME_S, Stand, standing

from callboard.gateway.__main__ import run as gateway_run
from callboard.gateway.commands import doctor
from callboard.gateway.commands.doctor import Asked, examine
from callboard.gateway.live import TrackDescription
from callboard.gateway.sdp.codecs import VIDEO, Codec

TOKEN = "watch-me"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "token").write_text(f"{TOKEN}\n")
    with GatewayProcess(folder, "-pattern", f"-whep-token={folder / 'token'}") as process:
        yield process


def examined(
    capsys: pytest.CaptureFixture[str], url: str, *words: str, code: int, **environ: str
) -> str:
    """What is printed."""
    with loopback_only():
        assert gateway_run(["doctor", f"-gateway={url}", *words], environ) == code
    return capsys.readouterr().out


def with_token(gateway: GatewayProcess) -> str:
    return f"-whep-token={gateway.folder / 'token'}"


@pytest.mark.slow
def test_a_healthy_gateway_has_nothing_bad(
    gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    health = f"-health=127.0.0.1:{gateway.ports['health']}"
    shown = examined(capsys, gateway.url, with_token(gateway), health, code=0)
    for line in (
        r"ok   api         http://127\.0\.0\.1:\d+ answers in \d+ ms",
        r"ok   stream      test-pattern: (on demand|live), VP8 and opus.*",
        r"ok   answer      test-pattern: 201 in \d+ ms",
        r"ok   candidate   udp 127\.0\.0\.1:(\d+), tcp 127\.0\.0\.1:\1",
        r"note candidate   all are loopback addresses: Firefox.*",
        r"ok   reach       udp 127\.0\.0\.1:\d+ answers in \d+ ms",
        r"ok   reach       tcp 127\.0\.0\.1:\d+ answers in \d+ ms",
        r"ok   media       ICE and DTLS are through after \d+ ms",
        r"ok   video       the first picture after \d+ ms",
        r"ok   audio       the first sound after \d+ ms",
        r"ok   ready       ok",
    ):
        assert re.search(f"^{line}$", shown, re.M), (line, shown)
    assert not re.search("^.{5}(turn|stun) ", shown, re.M)  # it was told of no ICE servers
    assert gateway.streams()["test-pattern"]["viewers"] == 0


def test_a_token_that_lacks_or_is_wrong_is_found(
    gateway: GatewayProcess, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shown = examined(capsys, gateway.url, code=1)
    wanted = "a token is needed: Authorization: Bearer …: -whep-token FILE"
    assert f"bad  token       {wanted}\n" in shown
    (tmp_path / "wrong").write_text("x")
    shown = examined(capsys, gateway.url, f"-whep-token={tmp_path / 'wrong'}", code=1)
    assert "bad  token       the token is not right: -whep-token FILE\n" in shown


def test_a_stream_that_is_not_there_and_names_without_address_are_found(
    gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    advertised = "localhost,nowhere.invalid"
    shown = examined(capsys, gateway.url, "-stream=studio", code=1, ADVERTISE_IPS=advertised)
    assert "bad  stream      studio: there is none of that name\n" in shown
    assert re.search(r"^ok   advertise   localhost is .*127\.0\.0\.1", shown, re.M)
    assert "bad  advertise   nowhere.invalid does not resolve: " in shown
    assert "media" not in shown


def test_nobody_is_found_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = examined(capsys, f"http://{refusing_address()}", code=1)
    assert shown.startswith("bad  api         http://127.0.0.1:") and len(shown.splitlines()) == 1


@pytest.mark.parametrize("body", [b"<p>", b"{}"])
def test_what_is_no_gateway_is_found(body: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with SseServer(lambda peer: peer.whole(200, body, "text/html")) as server:
        shown = examined(capsys, server.url, code=1)
    assert shown.startswith("bad  api         no gateway is at http://127.0.0.1:")
    with SseServer(lambda peer: peer.whole(404, b"no such page")) as server:
        assert "404 no such page" in examined(capsys, server.url, code=1)


STREAMS = b'[{"name": "a", "state": "live", "tracks": [{"kind": "video", "codec": "VP8"}]}]'


def test_the_token_goes_to_nobody_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with SseServer(lambda peer: peer.whole(200)) as elsewhere:

        def serve(peer: Peer) -> None:
            if peer.request.method == "GET":
                peer.whole(200, STREAMS, "application/json")
            else:
                peer.whole(201, b"v=0", headers={"Location": f"{elsewhere.url}/whep/a/1"})

        with SseServer(serve) as server:
            token = f"-whep-token={tmp_path / 'token'}"
            shown = examined(capsys, server.url, token, code=1)
        assert server.asked[-1].headers["authorization"] == f"Bearer {TOKEN}"
        assert not elsewhere.asked
    assert "bad  answer      a: the answer is no good: it has no ICE credentials\n" in shown


def test_a_session_is_left_when_its_answer_is_no_good(capsys: pytest.CaptureFixture[str]) -> None:
    def serve(peer: Peer) -> None:
        if peer.request.method == "GET":
            peer.whole(200, STREAMS, "application/json")
        else:
            peer.whole(201, b"v=0", headers={"Location": "a/1"})

    with SseServer(serve) as server:
        examined(capsys, server.url, code=1)
    assert (server.asked[-1].method, server.asked[-1].path) == ("DELETE", "/whep/a/1")


@pytest.mark.parametrize(
    "words",
    [["a"], ["-nonsense"], ["-gateway=ftp://x"], ["-whep-token=/nowhere"], ["-health=x"],
     ["-advertise-ips=not/a/name"], ["-ca-file=/nowhere", "-gateway=https://localhost:1"]],
)  # fmt: skip
def test_a_command_line_without_sense_is_refused(words: list[str]) -> None:
    assert doctor.run(words, {}) == 1


# -------------------------------------------------------------------------------- in one loop


async def found(asked: Asked) -> list[str]:
    with loopback_only():
        return [str(finding) async for finding in examine(asked)]


async def _without_keyframes(stand: Stand) -> None:
    feed = stand.stream("test")
    while True:
        if not feed.sent % 8:
            feed.sent += 1
        feed.frame()
        await asyncio.sleep(FRAME_S)


@pytest.mark.slow
async def test_a_source_without_keyframes_is_found() -> None:
    async with standing() as stand:
        stand.tasks.append(asyncio.create_task(_without_keyframes(stand)))
        await asyncio.sleep(0)
        lines = await found(Asked(stand.origin, watch_s=2.0))
    (video,) = (line for line in lines if line.startswith("bad"))
    assert re.fullmatch(
        r"bad  video       \d+ packets came in 2 s, but no picture could be shown: no keyframe.*",
        video,
    )
    assert any(line.startswith("ok   audio       the first sound after") for line in lines)


async def test_a_codec_that_is_not_decoded_here_is_said_so_and_its_sound_is_heard() -> None:
    vp9 = TrackDescription("video", Codec(VIDEO, "VP9", 90_000))
    async with standing() as stand:
        stand.stream("silent", vp9).frame()
        lines = await found(Asked(stand.origin))
        assert "note media       not tried: VP9 cannot be decoded here, browsers may" in lines
        assert any(line.startswith("ok   reach       tcp") for line in lines)
        assert not [line for line in lines if line.startswith("bad")]
        assert not stand.sessions.viewers("silent")
        feed = stand.stream("heard", vp9, AUDIO_TRACK)
        stand.tasks.append(asyncio.create_task(feed.run()))
        await asyncio.sleep(0)
        lines = await found(replace(Asked(stand.origin), streams=("heard",)))
        assert any(line.startswith("ok   audio       the first sound after") for line in lines)
