"""What strangers send to a running agent: each gets a clear error, and the agent serves on."""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.harness.asking import addresses, ask
from tests.harness.bootstrapped import DNS, GOSSIP, HTTP, RPC, Agent, agent
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.harness.process_driver import own_network

MIB = 1 << 20
REGISTER = "/v1/agent/service/register"
CHECK = "/v1/agent/check/register"
CATALOG = "/v1/catalog/register"
PARKED = b"GET /v1/kv/none?index=100000&wait=5m HTTP/1.1\r\nHost: localhost\r\n\r\n"
QUESTION = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\3one\4node\6consul\0" + b"\0\1\0\1"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One agent for all tests of this module."""
    require("linux")
    with agent(f"{own_network()}.1", tmp_path_factory.mktemp("bad-input")) as one:
        yield one


@pytest.fixture
def one(kept: Agent) -> Iterator[Agent]:
    """The agent; after the test it must serve as before."""
    yield kept
    assert kept.lone.process.poll() is None, kept.lone.log.read_text()[-5000:]
    assert kept.puts()
    assert addresses(ask((kept.place, DNS), "one.node.consul")) == [kept.place]


# HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        (REGISTER, b'{"Name":', "Request decode failed: unexpected EOF"),
        (REGISTER, b"", "Request decode failed: EOF"),
        (REGISTER, b"[1]", "Request decode failed: json: cannot unmarshal array into Go value"),
        (REGISTER, b'{"Name": "w", "Port": "80"}', "cannot unmarshal string into Go struct field"),
        (REGISTER, b'{"Name": "w", "Tags": "a"}', "cannot unmarshal string into Go struct field"),
        (REGISTER, b'{"Name": "w", "Frob": 1}', 'json: unknown field "Frob"'),
        (CATALOG, b'{"Node": 1}', "cannot unmarshal number into Go struct field"),
        (CATALOG, b'{"Node": "\xff"}', "Request decode failed: "),
        (CATALOG, b"[" * 100_000, "Request decode failed: "),
        ("/v1/catalog/deregister", b"{", "Request decode failed: unexpected EOF"),
        (CHECK, b'{"Name": "c", "TTL": "10 parsecs"}', 'unknown unit " parsecs" in duration'),
        (CHECK, b'{"Name": "c", "HTTP": "http://x", "Interval": "x"}', 'invalid duration "x"'),
        (CHECK, b'{"Name": "c", "TTL": "-10s"}', "TTL must be > 0"),
    ],
)
def test_a_malformed_body_is_400(one: Agent, path: str, body: bytes, text: str) -> None:
    answer = one.ask("PUT", path, body)
    assert (answer.status, text in answer.body.decode()) == (400, True), answer.body


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("index=1&wait=10parsecs", b"Invalid wait time"),
        ("index=1&wait=x", b"Invalid wait time"),
        ("index=x", b"Invalid index"),
    ],
)
def test_a_malformed_wait_is_400(one: Agent, query: str, text: bytes) -> None:
    answer = one.ask("GET", f"/v1/kv/a?{query}")
    assert (answer.status, answer.body) == (400, text)


@pytest.mark.parametrize(
    ("path", "size"), [("/v1/kv/a", 512 * 1024 + 1), (REGISTER, MIB + 1), (CATALOG, 3 * MIB)]
)
def test_an_oversize_body_is_413_and_logged(one: Agent, path: str, size: int) -> None:
    answer = one.ask("PUT", path, bytes(size))
    assert answer.status == 413
    assert b"too large, max size:" in answer.body
    eventually_sync(lambda: one.lone.said(f"Request body({size} bytes) too large"))


def test_a_refused_request_is_logged_with_its_reason(one: Agent) -> None:
    """Lines are bounded in rate: the other tests may have had this second's."""

    def told() -> bool:
        one.ask("PUT", CATALOG, b'{"Node": "n", "Marker": 1}')
        return one.lone.said('unknown field \\"Marker\\"')

    eventually_sync(told, 10.0, 0.2)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_unknown_host_is_403(one: Agent, method: str) -> None:
    answer = one.ask(method, "/v1/kv/alive", headers={"Host": "rebound.example"})
    assert answer.status == 403
    assert b"allowed_hosts" in answer.body


@pytest.mark.parametrize(
    "host", ["localhost:8500", "127.0.0.1", "[::1]:8500", "one", "one.node.consul", "web.consul"]
)
def test_a_known_host_is_served(one: Agent, host: str) -> None:
    assert one.ask("GET", "/v1/status/leader", headers={"Host": host}).status == 200


def test_hosts_and_origins_that_are_allowed_are_served(tmp_path: Path) -> None:
    require("linux")
    file = tmp_path / "agent.json"
    allowed = {"allowed_hosts": ["board.example"], "allowed_origins": ["http://page.example"]}
    file.write_text(json.dumps(allowed))
    wrap = ["env", "PUBLIC_HOST=public.example"]
    with agent(f"{own_network()}.1", tmp_path, "-config-file", str(file), wrap=wrap) as one:
        for host, origin, status in (
            ("board.example", "http://page.example", 200),
            ("public.example:8500", "http://public.example", 200),
            ("other.example", "http://page.example", 403),
            ("board.example", "http://other.example", 403),
        ):
            headers = {"Host": host, "Origin": origin}
            assert one.ask("PUT", "/v1/kv/a", b"1", headers).status == status, headers


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_write_from_a_page_of_another_host_is_403(one: Agent, method: str, origin: str) -> None:
    answer = one.ask(method, "/v1/kv/alive", b"", {"Origin": origin})
    assert answer.status == 403
    assert b"allowed_origins" in answer.body


def test_a_page_of_our_own_host_may_write_whatever_its_port(one: Agent) -> None:
    origin = {"Origin": f"http://{one.place}:3000"}
    assert one.ask("PUT", "/v1/kv/alive", b"1", origin).body.strip() == b"true"


def test_a_page_of_another_host_may_read(one: Agent) -> None:
    headers = {"Origin": "http://evil.example"}
    assert one.ask("GET", "/v1/kv/alive", headers=headers).status == 200


@pytest.mark.parametrize("reset", [False, True])
def test_abandoned_parked_requests_are_freed_within_a_second(one: Agent, reset: bool) -> None:
    with ExitStack() as clients:
        for _ in range(50):
            client = clients.enter_context(one.connected())
            client.sendall(PARKED)
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        eventually_sync(lambda: one.metric("callboard_parked_queries") == 50)
        opened = one.metric("process_open_fds")
    eventually_sync(lambda: one.metric("callboard_parked_queries") == 0, 1.0)
    eventually_sync(lambda: one.metric("process_open_fds") <= opened - 50, 1.0)


# DNS -----------------------------------------------------------------------------------------


def asked(one: Agent, packet: bytes, timeout_s: float = 0.3) -> bytes | None:
    """Send a datagram to the DNS port; the answer, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_s)
        client.sendto(packet, (one.place, DNS))
        try:
            return client.recv(65535)
        except TimeoutError:
            return None


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (QUESTION[:-3], 1),
        (QUESTION[:4] + b"\0\2" + QUESTION[6:], 1),
        (QUESTION[:4] + b"\0\0" + QUESTION[6:12], 1),
        (QUESTION[:12] + b"\xc0\x0c\0\1\0\1", 1),
        (QUESTION[:2] + b"\x28\0" + QUESTION[4:], 4),
    ],
    ids=["cut", "two questions", "no question", "compression loop", "update"],
)
def test_a_bad_dns_packet_gets_its_error(one: Agent, packet: bytes, code: int) -> None:
    answer = asked(one, packet, 5.0)
    assert answer is not None
    assert (answer[:2], answer[3] & 15) == (packet[:2], code)


@pytest.mark.parametrize(
    "packet", [b"", b"\0" * 5, QUESTION[:2] + b"\x81\0" + QUESTION[4:]], ids=["", "short", "answer"]
)
def test_what_is_no_question_gets_silence(one: Agent, packet: bytes) -> None:
    assert asked(one, packet) is None


def test_garbage_on_the_dns_stream_harms_nobody(one: Agent) -> None:
    for garbage in (b"\0\0", b"\0\5abcde", os.urandom(2000)):
        with one.connected(DNS) as client:
            client.sendall(garbage)
        assert addresses(ask((one.place, DNS), "one.node.consul", tcp=True)) == [one.place]


# RPC and gossip ------------------------------------------------------------------------------

GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    bytes(100),
    b"\xff" * 100,
    b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3" + bytes(range(32)),
    random.Random(1).randbytes(5000),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=["http", "zeros", "ones", "tls", "random"])
def test_garbage_on_the_rpc_port_is_hung_up_on_and_logged(one: Agent, garbage: bytes) -> None:
    with one.connected(RPC) as client:
        name = "{}:{}".format(*client.getsockname())
        client.sendall(garbage)
        assert ends(client)
    eventually_sync(lambda: one.lone.said(f'"addr": "{name}", "reason": "not our protocol"'))


@pytest.mark.parametrize("garbage", GARBAGE, ids=["http", "zeros", "ones", "tls", "random"])
def test_garbage_on_the_gossip_stream_is_hung_up_on(one: Agent, garbage: bytes) -> None:
    with one.connected(GOSSIP) as client:
        client.sendall(garbage)
        assert ends(client)


def ends(client: socket.socket) -> bool:
    """Read until the other side hangs up."""
    try:
        while client.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_garbage_datagrams_on_the_gossip_port_are_dropped_and_logged(one: Agent) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for kind in range(256):
            client.sendto(bytes([kind]) + os.urandom(kind), (one.place, GOSSIP))
            client.sendto(bytes([kind]), (one.place, GOSSIP))
    eventually_sync(lambda: one.lone.said("dropped what is no gossip of this cluster"))
    members = one.ask("GET", "/v1/agent/members").json()
    assert [member["Name"] for member in members] == ["one"]


# descriptors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [HTTP, RPC, GOSSIP, DNS])
def test_an_agent_out_of_descriptors_serves_again_when_it_has_some(one: Agent, port: int) -> None:
    pid = one.lone.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened + 2, before[1]))
    try:
        with ExitStack() as clients:
            for _ in range(20):
                clients.enter_context(one.connected(port))
            if port == HTTP:
                eventually_sync(lambda: one.lone.said("Too many open files"))
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    eventually_sync(one.puts)
    with one.connected(port) as client:
        assert client.fileno() >= 0


def test_many_clients_do_not_keep_the_log_from_its_next_segment(tmp_path: Path) -> None:
    """Descriptors are kept for files: no client makes an agent leave."""
    require("linux")
    place = f"{own_network()}.1"
    limited = ["prlimit", "--nofile=128", "--"]
    with agent(place, tmp_path, wrap=limited) as one, ExitStack() as clients:
        writer = one.connected()
        clients.callback(writer.close)
        for _ in range(200):
            clients.enter_context(one.connected())
        eventually_sync(lambda: one.lone.said("connection limit reached"))
        body = bytes(500_000)
        head = f"PUT /v1/kv/big HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.settimeout(15.0)
        for _ in range(40):
            writer.sendall(head.encode() + body)
            assert b" 200 " in writer.recv(65536)
        assert len(list((tmp_path / "data" / "raft").glob("*.log"))) > 1
        assert one.lone.process.poll() is None


def test_an_agent_takes_as_many_descriptors_as_it_is_granted(tmp_path: Path) -> None:
    require("linux")
    wrap = ["prlimit", "--nofile=200:400", "--"]
    with agent(f"{own_network()}.1", tmp_path, wrap=wrap) as one:
        assert resource.prlimit(one.lone.process.pid, resource.RLIMIT_NOFILE) == (400, 400)
