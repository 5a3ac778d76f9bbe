"""Examine a hub, and what stands between it and here."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from callboard.chassis import flags
from callboard.chassis.findings import Finding, Grade, Report
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import UsageError, call
from callboard.client.transport import TlsOptions
from callboard.events.course import HELLO_S, json_fields
from callboard.events.errors import REFUSAL_BYTES, reason_of
from callboard.events.parser import EventTooLong, Parser
from callboard.events.synchronous import connect, headers_of, path_of
from callboard.events.targets import WELL_KNOWN, Target
from callboard.hub.commands import findings
from callboard.hub.commands.asking import HUB_FLAGS, Asking, asking
from callboard.hub.commands.findings import Watched

TOPIC = "/callboard/doctor"
"""Nobody publishes to it."""
BEAT_S = 1.0
LISTEN_S = 4.5
"""To heartbeats."""
TIMEOUT_S = 5.0
ORIGIN = "https://page.example"
METADATA = "/.well-known/oauth-protected-resource" + WELL_KNOWN

FLAGS = FlagSet(
    """Usage: callboard hub doctor [options] [URL]

  Ask a hub as a browser's page or a client would, and say what works and what stands in the way:
  proxies that buffer, heartbeats, HTTP, clocks, CORS, tokens. Takes five seconds; publishes
  nothing. The exit code is 1 if something is bad.

  $ callboard hub doctor https://www.example.org/hub""",
    [
        flags.text("origin", "A page's site, to ask whether it may read.", ORIGIN),
        *HUB_FLAGS,
    ],
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard hub doctor`."""
    return call(FLAGS, argv, lambda parsed: _examine(parsed, environ))


def _examine(parsed: Parsed, environ: Mapping[str, str]) -> int:
    if len(parsed.args) > 1:
        raise UsageError(f"unexpected argument {parsed.args[1]!r}")
    asked = asking(parsed, environ, parsed.args[0] if parsed.args else "")
    report = Report()
    for finding in examine(asked, parsed.text("origin")):
        report.show(finding)
    return report.exit_code


def examine(asked: Asking, origin: str = ORIGIN) -> Iterator[Finding]:
    """All findings, as they are found."""
    began = time.monotonic()
    try:
        connect(asked.hub, asked.tls, TIMEOUT_S).close()
    except OSError as problem:
        yield Finding(Grade.BAD, "reach", f"{asked.hub}: {reason_of(problem)}")
        return
    took_ms = (time.monotonic() - began) * 1000
    yield Finding(Grade.GOOD, "reach", f"{asked.hub} in {took_ms:.0f} ms")
    token = asked.token_now
    seen = watch(asked, token)
    yield from findings.judge_answer(seen)
    yield from findings.judge_buffering(seen, BEAT_S)
    if seen.held_back:
        yield _long_poll(asked, token)
    secure = asked.tls is not None
    yield from findings.judge_protocol(seen, _alpn(asked) if secure else None, secure)
    yield from findings.judge_clock(seen)
    if seen.status == 404:
        return
    yield from _generation(asked)
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization,last-event-id",
    }
    try:
        status, headers, _ = _ask(asked, "OPTIONS", WELL_KNOWN, preflight)
        yield from findings.judge_cors(status, headers, origin)
    except (OSError, http.client.HTTPException) as problem:
        yield Finding(Grade.NOTE, "cors", f"a preflight got no answer: {reason_of(problem)}")
    yield from findings.judge_token(token, seen, time.time())


def watch(asked: Asking, token: str) -> Watched:
    """Open a stream, and look at it until a few heartbeats came, or should have."""
    seen = Watched()
    url = Target(asked.hub + WELL_KNOWN, [("topic", TOPIC)]).url_with([("beat", f"{BEAT_S:g}")])
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip", **_bearer(token)}
    try:
        connection = connect(url, asked.tls, TIMEOUT_S)
    except OSError:
        return seen
    try:
        raw: socket.socket = connection.sock
        began = time.monotonic()
        connection.request("GET", path_of(url), headers=headers)
        raw.settimeout(HELLO_S)
        response = connection.getresponse()
        seen.status, seen.version = response.status, response.version
        seen.headers = headers_of(response)
        if seen.is_stream:
            _listen(response, raw, seen, began)
        else:
            seen.text = response.read1(REFUSAL_BYTES).decode("utf-8", "replace")
    except TimeoutError:
        pass  # what did not come is what `seen` shows
    except (OSError, http.client.HTTPException, EventTooLong):
        seen.ended_s = time.monotonic() - began
    finally:
        connection.close()
    return seen


def _listen(
    response: http.client.HTTPResponse, raw: socket.socket, seen: Watched, began: float
) -> None:
    """Take down what comes, and when."""
    parser = Parser()
    while True:
        ends_s = HELLO_S if seen.first_byte_s is None else (seen.hello_s or 0.0) + LISTEN_S
        left_s = ends_s - (time.monotonic() - began)
        if left_s <= 0:
            return
        raw.settimeout(left_s)
        chunk = response.read1(65536)
        at_s = time.monotonic() - began
        if not chunk:
            seen.ended_s = at_s
            return
        if seen.first_byte_s is None:
            seen.first_byte_s = at_s
        for event in parser.feed(chunk):
            if event.type == "hub.hello":
                seen.hello_s, seen.hello = at_s, json_fields(event.data)
                seen.hub_ahead_s = _ahead_s(seen)
            elif event.type == "hub.beat":
                seen.beats_s.append(at_s)


def _ahead_s(seen: Watched) -> float | None:
    """Of the hub's clock, by its greeting, else by the head's date."""
    told_ms = seen.hello.get("time")
    if isinstance(told_ms, int | float):
        return told_ms / 1000 - time.time()
    try:
        return parsedate_to_datetime(seen.headers.get("date", "")).timestamp() - time.time()
    except ValueError:
        return None


def _long_poll(asked: Asking, token: str) -> Finding:
    place = Target(WELL_KNOWN, [("topic", TOPIC), ("poll", "1")]).url_with(())
    headers = {"Accept": "text/event-stream", **_bearer(token)}
    try:
        status, _, _ = _ask(asked, "GET", place, headers)
    except (OSError, http.client.HTTPException) as problem:
        return Finding(Grade.BAD, "long poll", f"no answer either: {reason_of(problem)}")
    grade = Grade.GOOD if status == 200 else Grade.BAD
    return Finding(grade, "long poll", f"answered with {status}: clients fall back to it")


def _generation(asked: Asking) -> Iterator[Finding]:
    try:
        status, _, body = _ask(asked, "GET", METADATA, {"Accept": "application/json"})
    except (OSError, http.client.HTTPException):
        return
    told = status == 200 and "resource" in json_fields(body)
    text = "draft 08 (match=), and topic= of 0.x" if told else "drafts up to 07 (0.x): topic= only"
    yield Finding(Grade.GOOD if told else Grade.NOTE, "mercure", text)


def _alpn(asked: Asking) -> str | None:
    """What TLS agrees on if HTTP/2 is offered; None if there is no agreement."""
    parts = urlsplit(asked.hub)
    context = TlsOptions(ca_file=asked.ca_file).context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    host = parts.hostname or ""
    try:
        with (
            socket.create_connection((host, parts.port or 443), timeout=TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as wrapped,
        ):
            return wrapped.selected_alpn_protocol()
    except OSError:
        return None


def _ask(
    asked: Asking, method: str, place: str, headers: Mapping[str, str]
) -> tuple[int, Mapping[str, str], bytes]:
    """A whole answer. Raises OSError, HTTPException."""
    connection = connect(asked.hub, asked.tls, TIMEOUT_S)
    try:
        prefix = urlsplit(asked.hub).path
        connection.request(method, prefix + place, headers=dict(headers))
        response = connection.getresponse()
        return response.status, headers_of(response), response.read(65536)
    finally:
        connection.close()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
