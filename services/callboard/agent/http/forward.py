"""Requests of a client agent's API, forwarded whole to a server, and answered whole.

The client agent has guarded the request and will finish the answer (pretty, gzip); the server does
the rest. The call waits as long as a blocking query may; a client that goes cancels its call, and
so the query parked at the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from callboard.agent.http.context import ApiContext, Forwarding
from callboard.agent.http.frame import Frame, Resource
from callboard.agent.http.parameters import first
from callboard.agent.http.problems import answer_to, text_answer
from callboard.agent.rpc.errors import RpcFailed, RpcUnreachable
from callboard.agent.rpc.wire import decode_body
from callboard.catalog.durations import DurationError, parse_duration, seconds
from callboard.serve import Answer, Detach, Outcome, Parked, Request, Streamed

METHOD = "http"
MARGIN_S = 10.0
"""What a call may take beyond its wait and the hold for a leader."""
RETRY_S = 0.1
NO_SERVERS = "No known Consul servers"
_HEADERS = ("x-consul-token", "authorization", "content-type", "cache-control")


class ForwardedRequest(msgspec.Struct, array_like=True, frozen=True):
    """A request on the wire. Only append fields, with defaults."""

    method: str
    path: str
    raw_path: bytes
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    client: tuple[str, int]


class ForwardedAnswer(msgspec.Struct, array_like=True, frozen=True):
    """An answer on the wire. Only append fields, with defaults."""

    status: int
    body: bytes
    headers: list[tuple[str, str]]
    content_type: str | None


_ENCODER = msgspec.msgpack.Encoder()
_REQUEST = msgspec.msgpack.Decoder(ForwardedRequest)
_ANSWER = msgspec.msgpack.Decoder(ForwardedAnswer)


class Forwarder:
    """The client agent's side: parks each request on a call."""

    def __init__(self, context: ApiContext, forwarding: Forwarding) -> None:
        self._context = context
        self._forwarding = forwarding

    def __call__(self, request: Request) -> Outcome:
        """Forward a request; cancelled when its client goes."""
        return _ForwardedCall(self, request)

    async def answer(self, request: Request) -> Answer:
        """Ask the servers in turn until one answers; hold for a while when there is none."""
        body = _ENCODER.encode(
            ForwardedRequest(
                request.method,
                request.path,
                request.raw_path,
                request.query,
                {name: request.headers[name] for name in _HEADERS if name in request.headers},
                request.body,
                request.client,
            )
        )
        until = self._context.now() + self._context.hold_timeout_s
        timeout_s = self._timeout_s(request)
        while True:
            servers = list(self._forwarding.servers())
            self._context.rng.shuffle(servers)
            for address in servers:
                try:
                    raw = await self._forwarding.call(address, METHOD, body, timeout_s)
                except RpcFailed as problem:
                    return text_answer(500, str(problem))
                except RpcUnreachable as problem:
                    if problem.sent and request.method != "GET":
                        return text_answer(500, f"rpc error: {problem}")
                    continue
                try:
                    found = _ANSWER.decode(raw)
                except msgspec.MsgspecError as problem:
                    return text_answer(500, f"malformed answer of a server: {problem}")
                return Answer(found.status, found.body, list(found.headers), found.content_type)
            if self._context.now() >= until:
                return text_answer(500, NO_SERVERS)
            await asyncio.sleep(RETRY_S)

    def _timeout_s(self, request: Request) -> float:
        http = self._context.http
        wait_s = 0.0
        if first(request, "index"):
            wait_s = http.default_query_time_s
            try:
                asked_s = seconds(parse_duration(first(request, "wait") or "0"))
                wait_s = min(asked_s, http.max_query_time_s) if asked_s > 0 else wait_s
            except DurationError:
                wait_s = 0.0
        return wait_s * (1 + 1 / 16) + self._context.hold_timeout_s + MARGIN_S


class _ForwardedCall:
    """A `Parked` request: the task of its call, owned and cancelled here."""

    def __init__(self, forwarder: Forwarder, request: Request) -> None:
        self._forwarder = forwarder
        self._request = request
        self._task: asyncio.Task[None] | None = None

    def start(self, deliver: Callable[[Answer], None]) -> None:
        """See Parked."""
        self._task = asyncio.get_running_loop().create_task(self._run(deliver))

    def cancel(self) -> None:
        """See Parked."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, deliver: Callable[[Answer], None]) -> None:
        try:
            answer = await self._forwarder.answer(self._request)
        except Exception as problem:
            answer = answer_to(problem)
        deliver(answer)


class ForwardedService:
    """The server's side: the handler of the rpc method `http`."""

    def __init__(self, frame: Frame, find: Callable[[str], Resource | None]) -> None:
        self._frame = frame
        self._find = find

    async def __call__(self, body: bytes) -> bytes:
        """Serve a forwarded request; if the call is cancelled, so is what it parked."""
        wire = decode_body(_REQUEST, body)
        request = Request(
            wire.method, wire.path, wire.raw_path, wire.query, wire.headers, wire.body, wire.client
        )
        answer = await self._serve(request)
        return _ENCODER.encode(
            ForwardedAnswer(answer.status, answer.body, answer.headers, answer.content_type)
        )

    async def _serve(self, request: Request) -> Answer:
        resource = self._find(request.path)
        if resource is None or not resource.replicated:
            return text_answer(400, f"{request.path} is not forwarded")
        outcome = self._frame.serve_forwarded(resource, request)
        if isinstance(outcome, Answer):
            return outcome
        settled = await outcome if isinstance(outcome, Awaitable) else outcome
        if isinstance(settled, Answer):
            return settled
        if isinstance(settled, Streamed | Detach):
            return text_answer(400, "a stream is not forwarded")
        return await _wait(settled)


async def _wait(parked: Parked) -> Answer:
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def deliver(answer: Answer) -> None:
        if not answered.done():
            answered.set_result(answer)

    parked.start(deliver)
    try:
        return await answered
    finally:
        if not answered.done() or answered.cancelled():
            parked.cancel()
