"""Examine a gateway, and what stands between a viewer and its media."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from callboard.chassis import flags
from callboard.chassis.findings import Finding, Grade, Report
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.settings import SettingsError, health_of
from callboard.chassis.verbs import Failed, UsageError, call, read_text
from callboard.client.transport import TlsOptions
from callboard.gateway.commands import findings, ice_findings, relaying
from callboard.gateway.commands.findings import IceAnswer, Listed
from callboard.gateway.commands.reaching import reach_all
from callboard.gateway.commands.watching import DECODED, Watching
from callboard.gateway.http.places import asks_loopback
from callboard.gateway.mux.advertised import Entry, parse_entry, resolve
from callboard.gateway.mux.udp import BUFFER_BYTES

GATEWAY = "http://127.0.0.1:8889"
TIMEOUT_S = 5.0
"""For an answer by HTTP, and for a name."""
OPEN_S = 12.0
"""For an answer to an offer: a stream made for one viewer may take ten seconds to open."""
WATCH_S = 5.0
"""To connect, and then for the first picture."""
BODY_BYTES_MAX = 1 << 20
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")

FLAGS = FlagSet(
    """Usage: callboard gateway doctor [options]

  Ask a gateway as a viewer would, and say what works and what stands in the way: streams, tokens,
  STUN and TURN servers, candidates, the media port by UDP and TCP, DTLS, the first keyframe.
  Watches one stream (or each -stream) for some seconds, and makes one allocation at each TURN
  server. The exit code is 1 if something is bad.

  $ callboard gateway doctor -gateway https://www.example.org/media -stream studio""",
    [
        flags.text("gateway", "URL of the gateway, as viewers ask it.", GATEWAY),
        flags.repeated("stream", "Stream to watch. Default: one that is live, or on demand."),
        flags.text("whep-token", "File with the token that viewers show."),
        flags.text("ca-file", "Certificate authorities that https is verified by, and turns: "
                   "besides the machine's (CALLBOARD_CACERT)."),
        flags.text("advertise-ips", "What the gateway is told by the flag of that name "
                   "(ADVERTISE_IPS): its names are resolved from here."),
        flags.text("health", "IP:PORT of the gateway's -health, to read what it has counted."),
    ],
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What is examined."""

    gateway: str
    """URL, without a slash at its end."""
    streams: tuple[str, ...] = ()
    token: str = ""
    ca_file: str = ""
    advertised: tuple[tuple[str, Entry], ...] = ()
    """Word and meaning."""
    health: tuple[str, int] | None = None
    watch_s: float = WATCH_S

    @property
    def by_loopback(self) -> bool:
        """Whether the gateway takes us for somebody of its own machine, by the name it is given."""
        return asks_loopback({"host": urlsplit(self.gateway).netloc})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer by HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_s: float
    url: str

    @property
    def text(self) -> str:
        """Of the body."""
        return self.body.decode("utf-8", "replace")


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard gateway doctor`."""
    return call(FLAGS, argv, lambda parsed: _examine(parsed, environ))


def _examine(parsed: Parsed, environ: Mapping[str, str]) -> int:
    asked = _asked(parsed, environ)
    for name in ("aiortc", "aioice"):  # what they find is told by the findings
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return asyncio.run(_print(asked))


async def _print(asked: Asked) -> int:
    report = Report()
    async with contextlib.aclosing(examine(asked)) as found:
        async for finding in found:
            report.show(finding)
    return report.exit_code


def _asked(parsed: Parsed, environ: Mapping[str, str]) -> Asked:
    """Raises UsageError, Failed."""
    if parsed.args:
        raise UsageError(f"unexpected argument {parsed.args[0]!r}")
    gateway = parsed.text("gateway").rstrip("/")
    parts = urlsplit(gateway)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise UsageError(f"-gateway is an http:// or https:// URL, not {gateway!r}")
    advertised = parsed.text("advertise-ips") or environ.get("ADVERTISE_IPS", "")
    try:
        words = [word.strip() for word in advertised.split(",") if word.strip()]
        entries = tuple((word, parse_entry(word)) for word in words)
        health = health_of(parsed)
    except (SettingsError, ValueError) as problem:
        raise UsageError(str(problem)) from None
    token = parsed.text("whep-token")
    return Asked(
        gateway,
        parsed.values("stream"),
        read_text(Path(token), "-whep-token") if token else "",
        parsed.text("ca-file") or environ.get("CALLBOARD_CACERT", ""),
        entries,
        health,
    )


async def examine(asked: Asked) -> AsyncGenerator[Finding, None]:
    """All findings, as they are found. Raises Failed for a file that cannot be used."""
    async with _Client(asked) as client:
        try:
            answer = await client.ask("GET", f"{asked.gateway}/streams")
        except OSError as problem:
            yield Finding(Grade.BAD, "api", f"{asked.gateway}: {_reason(problem)}")
            return
        try:
            if answer.status != 200:
                raise ValueError(" ".join(f"{answer.status} {answer.text[:200]}".split()))
            streams = findings.parse_streams(answer.body)
        except ValueError as problem:
            yield Finding(Grade.BAD, "api", f"no gateway is at {asked.gateway}: {problem}")
            return
        took = f"{answer.took_s * 1000:.0f} ms"
        yield Finding(Grade.GOOD, "api", f"{asked.gateway} answers in {took}")
        for finding in findings.judge_streams(streams, asked.streams):
            yield finding
        async for finding in _ice_servers(client, streams):
            yield finding
        answered: list[IceAnswer] = []
        for stream in _to_watch(streams, asked.streams):
            async for finding in _watch(client, stream, answered):
                yield finding
        if asked.advertised:
            candidates = [each for answer in answered for each in answer.candidates]
            found = await _resolved(asked.advertised)
            for finding in findings.judge_advertised(found, candidates):
                yield finding
        for finding in _judge_machine(asked):
            yield finding
        async for finding in _counted(client):
            yield finding


def _to_watch(streams: Sequence[Listed], wanted: Sequence[str]) -> list[Listed]:
    if wanted:
        return [stream for stream in streams if stream.name in wanted and stream.can_be_watched]
    able = [stream for stream in streams if stream.can_be_watched]
    return sorted(able, key=lambda stream: stream.state != findings.LIVE)[:1]


# --------------------------------------------------------------------------------- ICE servers


async def _ice_servers(client: _Client, streams: Sequence[Listed]) -> AsyncGenerator[Finding, None]:
    """Those that viewers are told of before an offer: the same for every stream."""
    wanted = client.asked.streams
    named = [*(each.name for each in _to_watch(streams, wanted)), *wanted]
    name = next(iter([*named, *(each.name for each in streams)]), "any")
    try:
        answer = await client.ask("OPTIONS", f"{client.asked.gateway}/whep/{name}")
    except OSError as problem:
        yield Finding(Grade.BAD, "turn", f"OPTIONS /whep/{name}: {_reason(problem)}")
        return
    servers = ice_findings.parse_servers(answer.headers.get("link", ""))
    for finding in ice_findings.judge_links(answer.status, f"/whep/{name}", servers):
        yield finding
    tried = await relaying.ask_all(servers, client.trust)
    for finding in ice_findings.judge_tried(tried, time.time()):
        yield finding


# --------------------------------------------------------------------------------- watching


async def _watch(
    client: _Client, stream: Listed, answered: list[IceAnswer]
) -> AsyncGenerator[Finding, None]:
    """Watch one stream; its answer is added to `answered`."""
    kinds = [kind for kind, codec in stream.codecs if codec.upper() in DECODED]
    watching = Watching(kinds or ["video"])
    session = ""
    try:
        offer = await watching.offer()
        answer = await client.post(stream.name, offer)
        session = urljoin(answer.url, answer.headers.get("location", ""))
        if answer.status not in (201, 406):
            yield findings.judge_refusal(stream.name, answer.status, answer.text)
            return
        ice = findings.parse_ice(answer.text)
        answered.append(ice)
        took = f"{answer.took_s * 1000:.0f} ms"
        yield Finding(Grade.GOOD, "answer", f"{stream.name}: {answer.status} in {took}")
        for finding in findings.judge_candidates(ice, client.asked.by_loopback):
            yield finding
        for finding in findings.judge_reached(await reach_all(ice)):
            yield finding
        untried = _why_not_played(stream, watching, answer.status)
        if untried:
            yield Finding(Grade.NOTE, "media", untried)
        elif ice.candidates:
            watch_s = client.asked.watch_s
            played = await watching.play(answer.text, watch_s)
            for finding in findings.judge_played(played, watch_s):
                yield finding
    except OSError as problem:
        yield Finding(Grade.BAD, "answer", f"{stream.name}: {_reason(problem)}")
    except ValueError as problem:
        yield Finding(Grade.BAD, "answer", f"{stream.name}: the answer is no good: {problem}")
    finally:
        if session:
            await client.leave(session)
        await watching.close()


def _why_not_played(stream: Listed, watching: Watching, status: int) -> str:
    if status == 406:
        codecs = " and ".join(codec for _, codec in stream.codecs)
        return f"not tried: {codecs} cannot be decoded here, browsers may"
    if not watching.has_address:
        return "not tried: this machine has no address but its loopback ones"
    return ""


# --------------------------------------------------------------------------------- around it


async def _resolved(words: Sequence[tuple[str, Entry]]) -> dict[str, Sequence[str] | str]:
    """The addresses of each word, or why there are none."""

    async def one(word: str, entry: Entry) -> Sequence[str] | str:
        if entry.is_address:
            return [] if entry.stun_port else [entry.host]
        try:
            found = await asyncio.wait_for(resolve(entry.host), TIMEOUT_S)
        except (OSError, UnicodeError, TimeoutError) as problem:
            return _reason(problem)
        return list(dict.fromkeys(found))

    return dict(
        zip(
            (word for word, _ in words),
            await asyncio.gather(*(one(*each) for each in words)),
            strict=True,
        )
    )


def _judge_machine(asked: Asked) -> Sequence[Finding]:
    """The kernel's settings, if the gateway is on this machine."""
    if not asked.by_loopback:
        return ()
    try:
        rmem_max = int(RMEM_MAX.read_text("ascii"))
    except (OSError, ValueError):
        return ()  # not Linux, or hidden in a container
    return (findings.judge_buffer(rmem_max, BUFFER_BYTES),)


async def _counted(client: _Client) -> AsyncGenerator[Finding, None]:
    """What the health port tells."""
    if client.asked.health is None:
        return
    host, port = client.asked.health
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        ready = await client.ask("GET", f"{where}/readyz")
        counted = await client.ask("GET", f"{where}/metrics")
    except OSError as problem:
        yield Finding(Grade.BAD, "ready", f"-health {host}:{port}: {_reason(problem)}")
        return
    for finding in findings.judge_readiness(ready.status, ready.text):
        yield finding
    for finding in findings.judge_metrics(counted.text):
        yield finding


def _reason(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    return getattr(problem, "strerror", None) or str(problem) or type(problem).__name__


class _Client:
    """Requests of a viewer. What fails is an OSError."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.trust: ssl.SSLContext
        """What judges servers that browsers speak to."""
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> _Client:
        try:
            tls = TlsOptions(ca_file=self.asked.ca_file).context()
            self.trust = relaying.trusting(self.asked.ca_file)
        except OSError as problem:
            raise Failed(f"-ca-file: {problem.strerror or problem}") from None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls),
            headers={"Authorization": f"Bearer {self.asked.token}"} if self.asked.token else None,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, stream: str, offer: str) -> Answer:
        """A viewer's offer."""
        url = f"{self.asked.gateway}/whep/{stream}"
        return await self.ask("POST", url, offer.encode(), within_s=OPEN_S)

    async def leave(self, session: str) -> None:
        """End a session; that it does not answer any more is no matter. Elsewhere than at the
        gateway nobody is asked: the token is for it alone."""
        if urlsplit(session)[:2] != urlsplit(self.asked.gateway)[:2]:
            return
        with contextlib.suppress(OSError):
            await self.ask("DELETE", session)

    async def ask(
        self, method: str, url: str, body: bytes | None = None, *, within_s: float = TIMEOUT_S
    ) -> Answer:
        """A whole answer. Raises OSError (TimeoutError, ConnectionError, …)."""
        began = time.monotonic()
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                data=body,
                headers={"Content-Type": "application/sdp"} if body is not None else None,
                timeout=aiohttp.ClientTimeout(total=within_s),
                allow_redirects=False,
            ) as response:
                head: dict[str, str] = {}
                for name, value in response.headers.items():  # (RFC 9110, 5.3: several are a list)
                    there = head.get(name.lower())
                    head[name.lower()] = value if there is None else f"{there}, {value}"
                told = bytearray()
                async for chunk in response.content.iter_any():
                    told += chunk
                    if len(told) > BODY_BYTES_MAX:
                        raise ConnectionError(f"an answer of more than {BODY_BYTES_MAX} octets")
                return Answer(response.status, head, bytes(told), time.monotonic() - began, url)
        except (aiohttp.ClientError, ValueError) as problem:
            if isinstance(problem, OSError):
                raise
            raise ConnectionError(str(problem) or type(problem).__name__) from problem
