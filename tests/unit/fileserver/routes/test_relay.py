"""The relay, between a client in memory and programs behind on real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from tests.harness.eventually import eventually

from callboard.catalog.discovery import HealthEntry
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.chassis.guards import OriginGuard
from callboard.chassis.logs import RateLimited
from callboard.events import Parser
from callboard.fileserver.head import parse
from callboard.fileserver.ports import PeerInfo, Relayed
from callboard.fileserver.routes.instances import Instance, Instances, agents_of
from callboard.fileserver.routes.policy import AGENT, HUB, Forward, Policy
from callboard.fileserver.routes.pool import Pool
from callboard.fileserver.routes.refusing import RETRY_MS
from callboard.fileserver.routes.relay import Relay, Traffic

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Client:
    """A client's connection: what it sends is put in, what it gets is looked at."""

    peer = PeerInfo("192.0.2.7", 40000)
    secure_host = False

    def __init__(self) -> None:
        self.got = bytearray()
        self.gone = False
        self.aborted = False
        self.closed = False
        self.to_send: asyncio.Queue[bytes] = asyncio.Queue()
        self.room = asyncio.Event()
        self.room.set()

    @property
    def queued(self) -> int:
        return 0 if self.room.is_set() else 1 << 20

    async def read(self) -> bytes:
        return await self.to_send.get()

    def write(self, data: bytes) -> None:
        self.got += data

    async def drain(self) -> None:
        await self.room.wait()
        if self.gone:
            raise ConnectionResetError("the client has gone")

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = self.closed = True

    @property
    def body(self) -> bytes:
        return bytes(self.got).partition(b"\r\n\r\n")[2]


class Behind:
    """Programs behind: each `serve` is one instance."""

    def __init__(self) -> None:
        self.servers: list[asyncio.Server] = []
        self.places: list[Instance] = []
        self.heads: list[bytes] = []
        self.connections = self.open = 0
        self.instances: Instances | None = None
        self.traffic = Traffic()
        self.pool = Pool(None)

    async def add(self, serve: Serve, service: str = AGENT) -> Instance:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            self.open += 1
            try:
                await serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                self.open -= 1
                writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        self.servers.append(server)
        port = server.sockets[0].getsockname()[1]
        self.places.append(Instance(f"{service}-{port}", "127.0.0.1", port, secure=False))
        return self.places[-1]

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head

    def answering(self, answer: bytes) -> Serve:
        """An instance that gives one answer to every request."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await self.head(reader)
                writer.write(answer)

        return serve

    def taking(self, size: int, seen: bytearray) -> Serve:
        """An instance that answers once it has a body of so many bytes, which it puts in `seen`."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.head(reader)
            seen.extend(await reader.readexactly(size))
            writer.write(OK)
            await reader.read()

        return serve

    async def ask(
        self, request: bytes, client: Client | None = None, *, forward: Forward | None = None
    ) -> tuple[Relayed, Client]:
        end = request.index(b"\r\n\r\n") + 4
        head = parse(request[:end])
        client = client or Client()
        self.instances = self.instances or Instances(
            self.places,
            lambda _: [],
            secure=False,
            service_domain="service.dc1.consul",
            rng=random.Random(1),
        )
        relay = Relay(
            forward or Forward(AGENT, head.target, b""),
            self.instances,
            self.pool,
            self.traffic,
            RateLimited(logging.getLogger("test")),
            clock=asyncio.get_running_loop().time,
        )
        async with asyncio.timeout(10):
            return await relay.relay(client, head, request[end:]), client


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    made = Behind()
    yield made
    made.pool.close()
    await eventually(lambda: made.open == 0)
    for server in made.servers:
        server.close()


GET = b"GET /v1/catalog/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_an_answer_comes_through_and_the_connection_is_used_again(behind: Behind) -> None:
    await behind.add(behind.answering(OK))
    for _ in range(3):
        ended, client = await behind.ask(GET)
        assert (ended.leftover, ended.status) == (b"", 200)
        assert client.body == b"ok"
    assert behind.connections == 1


async def test_chunks_are_passed_on_as_they_are(behind: Behind) -> None:
    chunks = b"3;x=y\r\nabc\r\n0\r\nTrailer: t\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    await behind.add(behind.answering(head + chunks))
    _, client = await behind.ask(GET)
    assert client.body == chunks
    assert b"Transfer-Encoding: chunked" in client.got


async def test_the_next_request_behind_a_body_is_given_back(behind: Behind) -> None:
    seen = bytearray()
    await behind.add(behind.taking(5, seen))
    put = b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    ended, _ = await behind.ask(put + GET)
    assert ended.leftover == GET
    assert seen == b"hello"


async def test_a_long_body_goes_on_while_it_comes(behind: Behind) -> None:
    seen = bytearray()
    await behind.add(behind.taking(12, seen))
    client = Client()
    for piece in (b"bb", b"ccccc", b"ddd"):
        client.to_send.put_nowait(piece)
    post = b"POST /hub/t/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\naa"
    ended, client = await behind.ask(post, client)
    assert seen == b"aabbcccccddd"
    assert (ended.leftover, client.body) == (b"", b"ok")


async def test_an_event_leaves_before_the_stream_ends(behind: Behind) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behind.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await ended.wait()
        writer.write(b"data: 2\n\n")

    await behind.add(serve)
    client = Client()
    asking = asyncio.create_task(behind.ask(GET, client))
    await eventually(lambda: client.body == b"data: 1\n\n")
    ended.set()
    outcome, _ = await asking
    assert client.body == b"data: 1\n\ndata: 2\n\n"
    assert outcome.leftover is None
    assert b"Connection: close" in client.got
    assert not client.aborted


async def test_a_slow_client_slows_the_program_behind_and_fills_no_memory(behind: Behind) -> None:
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await behind.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while written < 100_000_000:
            writer.write(b"x" * 100_000)
            written += 100_000
            await writer.drain()

    await behind.add(serve)
    client = Client()
    client.room.clear()
    asking = asyncio.create_task(behind.ask(GET, client))
    last = -1

    def stands_still() -> bool:
        nonlocal last
        before, last = last, written
        return before == written > 0

    await eventually(stands_still, interval_s=0.2)
    assert written < 50_000_000
    assert len(client.got) < 1_000_000
    asking.cancel()
    await asyncio.wait([asking])


async def test_a_truncated_answer_looks_like_one(behind: Behind) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behind.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    await behind.add(serve)
    outcome, client = await behind.ask(GET)
    assert client.aborted
    assert outcome.leftover is None


async def _hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def test_another_instance_answers_when_the_first_hangs_up(behind: Behind) -> None:
    await behind.add(_hangs_up)
    await behind.add(behind.answering(OK))
    for _ in range(10):
        _, client = await behind.ask(GET)
        assert client.body == b"ok"
    assert 0 < behind.traffic.retries < 10


async def test_what_may_have_been_done_is_not_sent_again(behind: Behind) -> None:
    await behind.add(_hangs_up)
    await behind.add(_hangs_up)
    post = b"POST /hub/t/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
    outcome, client = await behind.ask(post)
    assert outcome.status == 502
    assert behind.connections == 1
    assert b"502 Bad Gateway" in client.got


PUT = b"PUT /v1/session/create HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


async def test_a_put_that_may_have_been_done_is_not_sent_again(behind: Behind) -> None:
    await behind.add(_hangs_up)
    await behind.add(_hangs_up)
    outcome, _ = await behind.ask(PUT)
    assert (outcome.status, behind.connections) == (502, 1)


async def test_what_could_not_be_sent_is_sent_elsewhere_whatever_it_is(behind: Behind) -> None:
    await behind.add(_hangs_up)
    await behind.add(behind.answering(OK))
    behind.servers[0].close()
    await behind.servers[0].wait_closed()
    for _ in range(10):
        outcome, _ = await behind.ask(PUT)
        assert outcome.status == 200


async def test_a_kept_connection_that_ended_as_it_was_used_says_nothing_of_its_instance(
    behind: Behind,
) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behind.head(reader)
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")  # the next request meets the end

    await behind.add(once)
    for _ in range(3):
        outcome, client = await behind.ask(GET)
        assert (outcome.status, client.body) == (200, b"ok")
    assert behind.traffic.retries == 0
    assert behind.connections == 3


async def _is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_an_answer_that_does_not_come_is_given_up_and_not_asked_for_again(
    behind: Behind,
) -> None:
    await behind.add(_is_silent)
    await behind.add(_is_silent)
    to = Forward(AGENT, b"/v1/catalog/nodes", b"", answer_s=0.1)
    outcome, client = await behind.ask(GET, forward=to)
    assert (outcome.status, behind.connections) == (504, 1)
    assert b"504 Gateway Timeout" in client.got


async def test_a_body_that_the_client_breaks_off_is_not_the_instances_fault(
    behind: Behind,
) -> None:
    place = await behind.add(_is_silent)
    other = await behind.add(_is_silent)
    client = Client()
    client.to_send.put_nowait(b"")
    post = b"POST /hub/t/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"
    outcome, client = await behind.ask(post, client)
    assert (outcome.status, outcome.leftover) == (400, None)
    assert behind.connections == 1
    assert behind.instances is not None
    chosen = {behind.instances.choose(AGENT, 0.0) for _ in range(50)}
    assert chosen == {place, other}


async def test_a_malformed_chunk_that_comes_later_is_the_clients_fault(behind: Behind) -> None:
    await behind.add(_is_silent)
    client = Client()
    client.to_send.put_nowait(b"ZZ\r\n")
    post = b"POST /hub/t/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
    outcome, _ = await behind.ask(post, client)
    assert (outcome.status, outcome.leftover) == (400, None)


async def test_an_early_answer_ends_the_connection_behind_and_the_clients(behind: Behind) -> None:
    refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
    await behind.add(behind.answering(refusal))
    post = b"POST /hub/t/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nhalf"
    outcome, client = await behind.ask(post)
    assert (outcome.status, outcome.leftover, client.body) == (413, None, b"no")
    assert b"Connection: close" in client.got
    await eventually(lambda: behind.open == 0)


async def test_an_answer_to_head_or_without_content_has_no_body_to_wait_for(
    behind: Behind,
) -> None:
    await behind.add(behind.answering(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"))
    for _ in range(2):
        outcome, client = await behind.ask(GET)
        assert (outcome.status, outcome.leftover, client.body) == (304, b"", b"")
        outcome, _ = await behind.ask(GET.replace(b"GET", b"HEAD"))
        assert (outcome.status, outcome.leftover) == (304, b"")
    assert behind.connections == 1


async def test_an_http_1_0_client_gets_no_interim_answer_and_an_end(behind: Behind) -> None:
    await behind.add(behind.answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK))
    old = b"GET /v1/x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    outcome, client = await behind.ask(old)
    assert (outcome.status, outcome.leftover) == (200, None)
    assert client.got.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in client.got


async def test_bytes_behind_an_answer_are_never_the_next_clients(behind: Behind) -> None:
    await behind.add(behind.answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    for _ in range(3):
        _, client = await behind.ask(GET)
        assert client.body == b"ok"
    assert behind.connections == 3


async def test_a_client_that_leaves_is_told_so_in_the_log_with_its_status(behind: Behind) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behind.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await reader.read()

    await behind.add(serve)
    client = Client()
    asking = asyncio.create_task(behind.ask(GET, client))
    await eventually(lambda: client.body == b"data: 1\n\n")
    client.closed = True  # as the core does: first the connection ends, then its task
    asking.cancel()
    outcome, _ = await asking
    assert (outcome.status, outcome.cut) == (200, True)
    await eventually(lambda: behind.open == 0)


async def test_a_stream_that_is_reset_looks_cut(behind: Behind) -> None:
    killed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behind.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await killed.wait()
        sock = writer.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    await behind.add(serve)
    client = Client()
    asking = asyncio.create_task(behind.ask(GET, client))
    await eventually(lambda: client.body == b"data: 1\n\n")
    killed.set()
    outcome, _ = await asking
    assert client.aborted
    assert (outcome.status, outcome.cut) == (200, True)


async def test_an_instance_that_is_gone_is_tried_last_and_told(behind: Behind) -> None:
    gone = await behind.add(_hangs_up)
    behind.servers[0].close()
    await behind.servers[0].wait_closed()
    outcome, client = await behind.ask(GET)
    assert outcome.status == 502
    assert outcome.upstream == str(gone)
    assert client.body.endswith(b"\n")


async def test_without_an_instance_it_is_unavailable_and_the_connection_goes_on(
    behind: Behind,
) -> None:
    outcome, client = await behind.ask(GET, forward=Forward(HUB, b"/", b"/hub"))
    assert (outcome.status, outcome.leftover) == (503, b"")
    assert b"Retry-After: 1" in client.got


async def test_without_an_instance_an_event_source_is_told_to_come_back(behind: Behind) -> None:
    """Any status but 200 would end it for good."""
    asked = (
        b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nSec-Fetch-Mode: cors\r\n\r\n"
    )
    outcome, client = await behind.ask(asked, forward=Forward(HUB, b"/", b"/hub"))
    assert (outcome.status, outcome.leftover) == (503, b"")
    assert client.got.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    (event,) = (parser := Parser()).feed(client.body)
    told = json.loads(event.data)
    assert (event.type, told["retry"]) == ("hub.limit", parser.retry_ms)
    assert "hub" in told["reason"]
    assert RETRY_MS[0] <= told["retry"] <= RETRY_MS[1]


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_an_answer_that_is_none_is_a_bad_gateway(behind: Behind, answer: bytes) -> None:
    await behind.add(behind.answering(answer))
    outcome, client = await behind.ask(GET)
    assert outcome.status == 502
    assert bytes(client.got).count(b"HTTP/1.1") == 1


async def test_a_malformed_chunk_is_the_clients_fault(behind: Behind) -> None:
    await behind.add(behind.answering(OK))
    post = b"POST /hub/t/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
    outcome, _ = await behind.ask(post)
    assert (outcome.status, outcome.leftover) == (400, None)
    assert behind.connections == 0


async def test_interim_answers_are_passed_on(behind: Behind) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behind.head(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(2)
        writer.write(OK)
        await reader.read()

    await behind.add(serve)
    client = Client()
    head = b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    asking = asyncio.create_task(behind.ask(head, client))
    await eventually(lambda: client.got.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"))
    client.to_send.put_nowait(b"hi")
    outcome, _ = await asking
    assert outcome.status == 200


async def test_a_websocket_goes_both_ways_until_one_side_ends(behind: Behind) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behind.head(reader)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            b"hello"
        )
        writer.write(b"echo " + await reader.readexactly(4))

    await behind.add(serve)
    client = Client()
    request = (
        b"GET /media/janus HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    to = Forward(AGENT, b"/janus", b"/media", websocket=True)
    asking = asyncio.create_task(behind.ask(request, client, forward=to))
    await eventually(lambda: client.body == b"hello")
    client.to_send.put_nowait(b"ping")
    outcome, _ = await asking
    assert (outcome.status, outcome.leftover) == (101, None)
    assert client.body == b"helloecho ping"
    assert b"Upgrade: websocket" in client.got


async def test_a_cancelled_request_lets_go_of_the_program_behind(behind: Behind) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behind.head(reader)
        try:
            await reader.read()
        finally:
            ended.set()

    await behind.add(serve)
    asking = asyncio.create_task(behind.ask(GET))
    await eventually(lambda: behind.heads)
    asking.cancel()
    async with asyncio.timeout(5):
        await ended.wait()
    assert behind.traffic.streams == 0


def _entry(id: str, status: str, port: int, **meta: str) -> HealthEntry:
    node = Node(name="n1", id="", address="10.0.0.1")
    service = ServiceInstance(node="n1", id=id, service=HUB, port=port, meta=meta)
    check = Check(node="n1", check_id=id, name="", status=status, service_id=id)
    return HealthEntry(node, service, (check,))


def _chosen(health: Sequence[HealthEntry], *, secure: bool) -> set[str]:
    instances = Instances(
        (), lambda _: health, secure=secure, service_domain="service.dc1.consul",
        rng=random.Random(3),
    )  # fmt: skip
    found = (instances.choose(HUB, 0.0) for _ in range(50))
    return {str(each) for each in found if each is not None}


def test_only_passing_instances_are_chosen_by_the_port_that_fits() -> None:
    health = [
        _entry("hub-1", "passing", 8800, https_port="8801"),
        _entry("hub-2", "critical", 8800, https_port="8801"),
        _entry("hub-3", "passing", 8800),
        _entry("hub-4", "passing", 8800, https_port="x"),
    ]
    assert _chosen(health, secure=True) == {"hub-1 10.0.0.1:8801"}
    plain = {"hub-1 10.0.0.1:8800", "hub-3 10.0.0.1:8800", "hub-4 10.0.0.1:8800"}
    assert _chosen(health, secure=False) == plain


def test_an_instance_that_failed_is_the_last_choice_for_a_while() -> None:
    agents = agents_of(["http://a", "https://b:9"], "service.dc1.consul")
    assert [str(each) for each in agents] == ["agent a:8500", "agent b:9"]
    assert [each.server_name for each in agents] == ["", "agent.service.dc1.consul"]
    instances = Instances(
        agents, lambda _: (), secure=True, service_domain="service.dc1.consul", rng=random.Random(3)
    )
    instances.shun(agents[0], 0.0)
    assert {instances.choose(AGENT, 1.0) for _ in range(20)} == {agents[1]}
    assert instances.choose(AGENT, 1.0, [agents[1]]) == agents[0]
    assert {instances.choose(AGENT, 9.0) for _ in range(50)} == set(agents)


def test_an_address_that_is_no_url_is_refused() -> None:
    with pytest.raises(ValueError, match="no http or https URL"):
        agents_of(["agent-1"], "service.dc1.consul")


def test_the_policy_without_allowed_origins_knows_its_own() -> None:
    assert OriginGuard([]).allows("https://localhost", "localhost:1443")
    assert Policy(OriginGuard([])).allow_writes is False
