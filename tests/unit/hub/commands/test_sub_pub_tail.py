"""`callboard sub`, `pub` and `tail`: what they ask, what they print, how they fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from tests.harness import sse_server
from tests.harness.handmade import make
from tests.harness.scripted_http import refusing_address
from tests.harness.sse_server import Peer, Script, SseServer, answer

from callboard.events.encoder import block
from callboard.hub.commands import pub, sub, tail
from callboard.pki.contexts import server_context

HELLO = b'retry: 20\nid: #a.0\nevent: hub.hello\ndata: {"cursor":"#a.0"}\n\n'


def stream(*parts: bytes) -> Script:
    """A stream that ends; 204 then says that nothing more will come."""
    return sse_server.stream(HELLO, *parts, stay=False)


def lines(*events: Mapping[str, object]) -> Script:
    def serve(peer: Peer) -> None:
        peer.head(kind="application/x-ndjson")
        hello = {"type": "hub.hello", "data": '{"retry":20}', "id": "#a.0"}
        peer.send(b"".join(json.dumps(each).encode() + b"\n" for each in [hello, *events]))

    return serve


done = answer(204)


def test_sub_prints_the_data_of_events(capsys: pytest.CaptureFixture[str]) -> None:
    with SseServer(
        stream(block(b"a\nb", id="#a.1", type="x"), block(b"c", id="#a.2")), done
    ) as hub:
        assert sub.run(["-hub", hub.url, "builds"], {}) == 0
    assert capsys.readouterr().out == "a\nb\nc\n"
    assert hub.asked[0].target == "/t/builds?beat=10"
    assert hub.asked[1].headers["last-event-id"] == "#a.2"


def test_sub_reads_several_topics_over_one_stream() -> None:
    with SseServer(done) as hub:
        assert sub.run(["-hub", hub.url, "a", "/b/{id}"], {}) == 0
    assert hub.asked[0].target == "/.well-known/mercure?topic=%2Fa&topic=%2Fb%2F%7Bid%7D&beat=10"


def test_sub_says_how_far_back() -> None:
    with SseServer(done) as hub:
        words = ["-hub", hub.url, "-since", "10m", "-last=3", "-beat=5", "a"]
        assert sub.run(words, {}) == 0
        assert sub.run(["-hub", hub.url, "-id", "#a.7", "a"], {}) == 0
    assert hub.asked[0].query == {"since": "10m", "last": "3", "beat": "5"}
    assert hub.asked[1].headers["last-event-id"] == "#a.7"


def test_sub_ends_after_as_many_events_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    gap = block(b'{"lost":3}', id="#a.5", type="hub.gap")
    events = [block(b"%d" % n, id=f"#a.{n}") for n in range(6, 10)]
    with SseServer(sse_server.stream(HELLO, gap, *events, stay=True)) as hub:
        assert sub.run(["-hub", hub.url, "-count", "3", "a"], {}) == 0
    assert capsys.readouterr().out == "6\n7\n8\n"


@pytest.mark.parametrize("verb", [sub, tail])
def test_an_option_behind_a_topic_is_told(
    verb: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb.run(["builds", "-hub", "http://127.0.0.1:1"], {}) == 1
    assert "options come before topics: -hub" in capsys.readouterr().err


def test_sub_prints_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    event = {"id": "#a.1", "type": "x", "topics": ["/a"], "time": 5, "data": "a\nb"}
    gap = {"id": "#a.5", "type": "hub.gap", "data": '{"lost":3}'}
    with SseServer(lines(event, gap), done) as hub:
        assert sub.run(["-hub", hub.url, "-json", "a"], {}) == 0
    printed = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert printed == [event, gap]


def test_sub_tells_of_a_gap_beside_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    gap = block(b'{"lost":3}', id="#a.5", type="hub.gap")
    with SseServer(stream(gap, block(b"x", id="#a.6")), done) as hub:
        assert sub.run(["-hub", hub.url, "a"], {}) == 0
    shown = capsys.readouterr()
    assert shown.out == "x\n"
    assert shown.err == "(3 events are missing here: the hub has them no more)\n"


def test_sub_says_why_it_lost_a_stream_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def away(peer: Peer) -> None:
        peer.whole(503, b"no hub is healthy", headers={"Retry-After": "0"})

    first, second = stream(block(b"x", id="#a.1")), stream(block(b"y", id="#a.2"))
    with SseServer(first, away, second, done) as hub:
        assert sub.run(["-hub", hub.url, "a"], {}) == 0
    shown = capsys.readouterr()
    assert shown.out == "x\ny\n"
    lost = "(lost the stream of events: 503 Service Unavailable: no hub is healthy)\n"
    assert shown.err == lost


def test_tail_begins_with_the_last_events() -> None:
    with SseServer(done) as hub:
        assert tail.run(["-hub", hub.url, "builds"], {}) == 0
        assert tail.run(["-hub", hub.url, "-n=0", "builds"], {}) == 0
    assert [asked.query["last"] for asked in hub.asked] == ["10", "0"]


def test_pub_prints_the_id(capsys: pytest.CaptureFixture[str]) -> None:
    with SseServer(answer(200, b"#a.5\n")) as hub:
        words = ["-hub", hub.url, "-id", "7", "-type=x", "-private", "builds", "-1"]
        assert pub.run(words, {}) == 0
    assert capsys.readouterr().out == "#a.5\n"
    (asked,) = hub.asked
    assert (asked.path, asked.body) == ("/t/builds", b"-1")
    assert asked.query == {"id": "7", "type": "x", "private": "on"}


@pytest.mark.parametrize("words", [["builds", "-"], ["builds"]])
@pytest.mark.parametrize(
    ("given", "sent"),
    [(b"a\nb\n", b"a\nb"), (b"a\n\n", b"a\n"), (b"a\r\n", b"a"), (b"", b""), (b"a", b"a")],
)
def test_pub_reads_the_standard_input(words: list[str], given: bytes, sent: bytes) -> None:
    code = "import sys\nfrom callboard.hub.commands import pub\nsys.exit(pub.run(sys.argv[1:], {}))"
    with SseServer(answer(200, b"#a.5")) as hub:
        argv = [sys.executable, "-c", code, "-hub", hub.url, *words]
        subprocess.run(argv, input=given, check=True, timeout=60, capture_output=True)
    assert hub.asked[0].body == sent


def test_where_the_hub_is_comes_from_the_environment_too(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("from the file\n")
    with SseServer(answer(200, b"#a.5")) as hub:
        environ = {"CALLBOARD_HUB_ADDR": hub.url, "CALLBOARD_HUB_TOKEN": "from the variable"}
        assert pub.run(["a", "x"], environ) == 0
        assert pub.run(["-token-file", str(token), "a", "x"], environ) == 0
        assert pub.run(["-token", "from the flag", "a", "x"], environ) == 0
    given = [asked.headers["authorization"].removeprefix("Bearer ") for asked in hub.asked]
    assert given == ["from the variable", "from the file", "from the flag"]


def test_a_token_file_is_read_again_for_every_connection(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")

    def renew(peer: Peer) -> None:
        token.write_text("second")
        peer.whole(401)

    with SseServer(renew, done) as hub:
        assert sub.run(["-hub", hub.url, "-token-file", str(token), "a"], {}) == 0
    given = [asked.headers["authorization"] for asked in hub.asked]
    assert given == ["Bearer first", "Bearer second"]


def test_https_is_verified_by_the_file_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(tmp_path / "made")
    with SseServer(stream(block(b"x")), done, tls=server_context(made.server)) as hub:
        assert sub.run(["-hub", hub.url, "a"], {}) == 1
        assert "certificate verify failed" in capsys.readouterr().err
        assert sub.run(["-hub", hub.url, "-ca-file", str(made.ca), "a"], {}) == 0
        assert sub.run(["-hub", hub.url, "a"], {"CALLBOARD_CACERT": str(made.ca)}) == 0
    assert capsys.readouterr().out == "x\n"


def test_a_refusal_is_printed_in_the_hubs_words(capsys: pytest.CaptureFixture[str]) -> None:
    with SseServer(answer(403, b"this token may not publish here\n")) as hub:
        assert pub.run(["-hub", hub.url, "a", "x"], {}) == 1
        assert sub.run(["-hub", hub.url, "a"], {}) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "Error publishing: 403 Forbidden: this token may not publish here"
    assert second == "Error subscribing: 403 Forbidden: this token may not publish here"


def test_a_hub_that_is_not_there_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert sub.run(["-hub", refusing_address(), "a"], {}) == 1
    assert capsys.readouterr().err.startswith("Error subscribing: http://127.0.0.1:")


@pytest.mark.parametrize(
    ("verb", "words", "text"),
    [
        (sub.run, [], "which topics?"),
        (tail.run, [], "which topic?"),
        (pub.run, [], "which topic, which data?"),
        (pub.run, ["a", "b", "c"], "which topic, which data?"),
        (sub.run, ["-hub", "ftp://x", "a"], "no hub's URL"),
        (sub.run, ["-token-file", "/nowhere/token", "a"], "/nowhere/token"),
        (sub.run, ["-hub", "https://x", "-ca-file", "/nowhere/ca", "a"], "/nowhere/ca"),
        (sub.run, ["-beat=-1", "a"], "beat_s is 0, or at least 1"),
        (sub.run, ["-last=x", "a"], "invalid value"),
        (sub.run, [""], "a topic has a name"),
    ],
)
def test_a_command_line_without_sense_is_refused(
    verb: object, words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(verb)
    assert verb(words, {}) == 1
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["sub", "pub", "tail", "doctor"])
def test_a_verb_starts_without_the_hub_and_without_an_event_loop(verb: str) -> None:
    """It is a process of its own, and is to be done before a person notices."""
    heavy = ("aiohttp", "fastapi", "uvicorn", "cryptography", "asyncio", "jwt", "hypothesis")
    code = (
        f"import sys, callboard.hub.commands.{verb}\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    argv = [sys.executable, "-c", code]
    shown = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.strip() == "[]"
