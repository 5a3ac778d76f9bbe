"""`callboard hub doctor` says what works, and what stands in the way."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.handmade import make
from tests.harness.scripted_http import refusing_address
from tests.harness.sse_server import Peer, SseServer

from callboard.chassis.findings import Finding, Grade
from callboard.events.encoder import block
from callboard.hub.commands import doctor, findings
from callboard.hub.commands.findings import Watched
from callboard.pki.contexts import server_context

SSE = {"content-type": "text/event-stream"}
Served = Callable[[Peer], None]


def texts(found: object) -> list[str]:
    assert hasattr(found, "__iter__")
    return [f"{each.grade.value} {each.subject}: {each.text}" for each in found]


def only(found: object) -> Finding:
    assert hasattr(found, "__iter__")
    (finding,) = found
    assert isinstance(finding, Finding)
    return finding


def token(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.e30"


# -------------------------------------------------------------------------------- judging


def test_a_stream_that_comes_at_once_is_not_buffered() -> None:
    seen = Watched(200, headers=SSE, first_byte_s=0.004, hello_s=0.004, beats_s=[1.0, 2.0])
    assert texts(findings.judge_buffering(seen, 1.0)) == [
        "ok buffering: none: first byte after 4 ms",
        "ok heartbeat: 2 came, at most 1.0 s apart; 1 s was asked for",
    ]


def test_a_stream_of_which_nothing_comes_is_held_back() -> None:
    finding = only(findings.judge_buffering(Watched(200, headers=SSE), 1.0))
    assert finding.grade is Grade.BAD
    assert "proxy_buffering off" in finding.text


def test_beats_that_come_in_bursts_are_bad() -> None:
    seen = Watched(200, headers=SSE, first_byte_s=0.0, hello_s=0.0, beats_s=[4.0, 4.0, 4.1])
    *_, beats = findings.judge_buffering(seen, 1.0)
    assert (beats.grade, beats.text[:31]) == (Grade.BAD, "3 came, at most 4.0 s apart; 1 ")


def test_a_stream_that_ends_is_bad() -> None:
    seen = Watched(200, headers=SSE, first_byte_s=0.0, hello_s=0.0, ended_s=2.0)
    *_, beats = findings.judge_buffering(seen, 1.0)
    assert (beats.grade, beats.text) == (Grade.BAD, "the stream ended after 2.0 s")


def test_what_is_no_hub_is_said_so() -> None:
    page = Watched(200, headers={"content-type": "text/html"})
    assert only(findings.judge_answer(page)).text == "no hub is here: the answer is of text/html"
    missing = Watched(404, text="404 page not found")
    assert only(findings.judge_answer(missing)).text == "404 Not Found: 404 page not found"


@pytest.mark.parametrize(
    ("ahead_s", "grade"), [(0.2, "ok"), (-4.0, "ok"), (61.0, "bad"), (-61.0, "bad")]
)
def test_clocks_that_differ_are_bad(ahead_s: float, grade: str) -> None:
    assert only(findings.judge_clock(Watched(hub_ahead_s=ahead_s))).grade.value == grade


@pytest.mark.parametrize(
    ("headers", "grade"),
    [
        ({}, "note"),
        ({"access-control-allow-origin": "*"}, "note"),
        (
            {
                "access-control-allow-origin": "*",
                "access-control-allow-headers": "Authorization, Last-Event-ID",
            },
            "ok",
        ),
        (
            {
                "access-control-allow-origin": "https://page.example",
                "access-control-allow-credentials": "true",
            },
            "bad",
        ),
    ],
)
def test_cors_is_judged(headers: dict[str, str], grade: str) -> None:
    found = only(findings.judge_cors(204, headers, "https://page.example"))
    assert found.grade.value == grade


def test_http_is_judged() -> None:
    seen = Watched(200, version=10, headers={"via": "1.1 squid"})
    assert texts(findings.judge_protocol(seen, None, secure=False)) == [
        "note http: HTTP/1.0: an old proxy in between, or a simple one",
        "note http: between, or in front: 1.1 squid",
    ]
    assert only(findings.judge_protocol(Watched(200), "h2", secure=True)).text.startswith("HTTP/2")


def test_a_token_is_judged_by_what_stands_in_it_and_by_the_hub() -> None:
    given = token(exp=1000, mercure={"publish": ["*"], "subscribe": ["/a", "/b"]})
    assert texts(findings.judge_token(given, Watched(200, headers=SSE), 900.0)) == [
        "ok token: taken",
        "ok token: expires in 100 s",
        "ok token: to publish: *",
        "ok token: to subscribe: /a, /b",
    ]
    refused = Watched(401, headers={"www-authenticate": 'Bearer error="invalid_token"'})
    assert texts(findings.judge_token(given, refused, 1030.0))[:2] == [
        "bad token: refused: 401 Unauthorized: invalid_token",
        "bad token: expired 30 s ago",
    ]


def test_a_token_of_draft_08_is_read_too() -> None:
    detail = {"actions": ["publish"], "topics": [{"match": "/a"}, {"match": "/b"}]}
    given = token(exp=30, authorization_details=[detail])
    assert texts(findings.judge_token(given, Watched(200, headers=SSE), 0.0))[1:] == [
        "note token: expires in 30 s",
        "ok token: to publish: /a, /b",
        "note token: nothing to subscribe",
    ]


def test_reading_that_needs_a_token_is_bad_without_one() -> None:
    found = only(findings.judge_token("", Watched(401), 0.0))
    assert found.text == "none was shown, and reading needs one: 401 Unauthorized"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["mercure", "authorization_details", "exp", "publish", "topics", "actions"])


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, JSON) | JSON) | JSON)
def test_no_token_is_an_error(claims: object) -> None:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
    assert list(findings.judge_token(f"a.{body}.b", Watched(200), 0.0))


@given(st.text())
def test_no_text_given_as_a_token_is_an_error(text: str) -> None:
    list(findings.judge_token(text, Watched(200), 0.0))


# -------------------------------------------------------------------------------- examining


def examined(url: str, *words: str, code: int) -> Callable[[pytest.CaptureFixture[str]], str]:
    def run(capsys: pytest.CaptureFixture[str]) -> str:
        assert doctor.run([*words, url], {}) == code
        return capsys.readouterr().out

    return run


def hub(stream: Served) -> Served:
    """What a hub answers beside its streams."""

    def serve(peer: Peer) -> None:
        if peer.request.method == "OPTIONS":
            peer.whole(204)
        elif "oauth" in peer.request.path:
            peer.whole(200, b'{"resource":"x"}', "application/json")
        elif "poll" in peer.request.query:
            peer.whole(200, b"id: #a.1\n\n", "text/event-stream")
        else:
            stream(peer)

    return serve


def hello(ahead_s: float = 0.0) -> bytes:
    told = {"hub": "hub-1", "time": int((time.time() + ahead_s) * 1000)}
    return block(json.dumps(told).encode(), type="hub.hello")


@pytest.mark.slow
def test_a_healthy_hub_has_nothing_bad(capsys: pytest.CaptureFixture[str]) -> None:
    def stream(peer: Peer) -> None:
        peer.head()
        peer.send(hello())
        while True:
            time.sleep(1)
            peer.send(block(b"{}", type="hub.beat"))

    with SseServer(hub(stream)) as server:
        shown = examined(server.url, code=0)(capsys)
    assert "ok   hub         a hub answers, hub-1\n" in shown
    assert "ok   buffering   none: first byte after " in shown
    assert "ok   heartbeat   4 came" in shown
    assert "ok   mercure     draft 08 (match=), and topic= of 0.x\n" in shown
    assert server.asked[0].target == "/.well-known/mercure?topic=%2Fcallboard%2Fdoctor&beat=1"


@pytest.mark.slow
def test_a_proxy_that_buffers_is_found_and_that_long_polls_pass(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with SseServer(hub(lambda peer: peer.stay())) as server:
        shown = examined(server.url, code=1)(capsys)
    assert "bad  buffering   nothing came within 3 s" in shown
    assert "ok   long poll   answered with 200" in shown


def test_a_clock_that_is_wrong_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    def stream(peer: Peer) -> None:
        peer.head()
        peer.send(hello(ahead_s=-100))

    with SseServer(hub(stream)) as server:
        shown = examined(server.url, code=1)(capsys)
    assert "bad  clock       the hub's is 100 s behind ours" in shown
    assert "bad  heartbeat   the stream ended after " in shown


def test_a_token_that_is_refused_is_said_in_the_hubs_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(peer: Peer) -> None:
        challenge = 'Bearer error="invalid_token", error_description="the token has expired"'
        peer.whole(401, b"", headers={"WWW-Authenticate": challenge})

    with SseServer(hub(refuse)) as server:
        shown = examined(server.url, "-token", token(exp=5), code=1)(capsys)
    assert "refused: 401 Unauthorized: invalid_token: the token has expired\n" in shown
    assert "bad  token       expired " in shown


def test_what_is_no_hub_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with SseServer(lambda peer: peer.whole(200, b"<p>", "text/html")) as server:
        assert "no hub is here" in examined(server.url, code=1)(capsys)
    with SseServer(lambda peer: peer.whole(404, b"no such page")) as server:
        shown = examined(server.url, code=1)(capsys)
    assert shown.splitlines()[1] == "bad  hub         404 Not Found: no such page"
    assert "cors" not in shown


def test_nobody_is_found_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = examined(refusing_address(), code=1)(capsys)
    assert shown.startswith("bad  reach ")
    assert len(shown.splitlines()) == 1


def test_http_2_is_noticed_over_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make(tmp_path / "made")
    context = server_context(made.server)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with SseServer(lambda peer: peer.whole(404), tls=context) as server:
        shown = examined(server.url, "-ca-file", str(made.ca), code=1)(capsys)
    assert "ok   http        HTTP/2 for browsers\n" in shown


@pytest.mark.parametrize(
    "words", [["a", "b"], ["-nonsense", "x"], ["ftp://x"], ["-token-file", "/nowhere"]]
)
def test_a_command_line_without_sense_is_refused(words: list[str]) -> None:
    assert doctor.run(words, {}) == 1
