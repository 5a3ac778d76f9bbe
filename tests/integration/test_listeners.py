"""Every port of the listener table, on the programs that stand: strangers are refused everywhere.

Rows and programs come from the table and from the stack: a new program is tested by being there.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aioice import stun
from make.programs import GATEWAY, HEALTH_PORT, NAMES, SIDECAR
from tests.harness.bootstrapped import GOSSIP, agent
from tests.harness.capabilities import require
from tests.harness.certified import CA, material
from tests.harness.eventually import SLOW
from tests.harness.pings import answers, keyring_of
from tests.harness.process_driver import ProcessStack, own_network
from tests.harness.stack import AGENTS, SERVERS, Stack

from callboard.chassis.listeners import LISTENERS, Listener, Security
from callboard.pki.contexts import Material, client_context
from callboard.pki.reasons import explain
from callboard.pki.roles import names_for
from callboard.swim.codec import Codec, encode
from callboard.swim.messages import MessageType, Ping

TIMEOUT_S = 10.0 * SLOW
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
TLS_ALERT = b"\x15"
TOLD = b"HTTP/1.1 400 Bad Request\r\n"
"""A web server may tell a browser that it came with the wrong scheme."""


@dataclass(frozen=True, slots=True)
class Place:
    """One listener of one running program."""

    service: str
    row: Listener

    def __str__(self) -> str:
        return f"{self.service}-{self.row.name}"


def instances(row: Listener) -> tuple[str, ...]:
    """The services of the stack that have this listener."""
    if row.program == "agent":
        return SERVERS if row.name == "server" else AGENTS
    return (row.program,) if row.program in NAMES else ()


def places(security: Security) -> list[Place]:
    """Every listener of this kind that stands."""
    rows = [row for row in LISTENERS if row.security is security]
    return [Place(service, row) for row in rows for service in instances(row)]


def of(security: Security) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", places(security), ids=str)


def inside(stack: Stack, place: Place) -> tuple[str, int]:
    """Where other programs reach it, published or not."""
    if place.service == SIDECAR and stack.kind == "processes":
        require("python3-gi")
    return stack.inside_address(place.service), place.row.port


@contextlib.contextmanager
def connected(stack: Stack, place: Place) -> Iterator[socket.socket]:
    """A TCP connection to a listener, with a time limit for everything."""
    with socket.create_connection(inside(stack, place), TIMEOUT_S) as raw:
        raw.settimeout(TIMEOUT_S)
        yield raw


def exchange(stack: Stack, place: Place, context: ssl.SSLContext, name: str | None) -> bytes:
    """Shake hands, ask something, return the first bytes of an answer. Raises ssl.SSLError."""
    with (
        connected(stack, place) as raw,
        context.wrap_socket(raw, server_hostname=name) as secured,
    ):
        secured.sendall(REQUEST)
        return secured.recv(100)


def careless() -> ssl.SSLContext:
    """A client that believes every server, so that it is the server that refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """A server's certificate in all but who signed it."""
    authority = CA()
    place = tmp_path_factory.mktemp("stranger")
    return material(place, authority.leaf(names_for("server", "agent-1")), authority)


def test_the_table_has_a_listener_of_each_kind_that_stands() -> None:
    for kind in (Security.MUTUAL_TLS, Security.SERVER_TLS, Security.ENCRYPTED, Security.PLAIN):
        assert places(kind), kind


@of(Security.MUTUAL_TLS)
def test_mutual_tls_refuses_who_has_no_certificate(stack: Stack, place: Place) -> None:
    with pytest.raises(ssl.SSLError) as caught:
        exchange(stack, place, careless(), None)
    assert explain(caught.value) == "it wants a certificate of us, and we showed none"


@of(Security.MUTUAL_TLS)
def test_mutual_tls_refuses_who_has_a_wrong_certificate(
    stack: Stack, place: Place, stranger: Material
) -> None:
    context = careless()
    context.load_cert_chain(stranger.certificate, stranger.key)
    with pytest.raises(ssl.SSLError) as caught:
        exchange(stack, place, context, None)
    assert explain(caught.value) == "it does not know the CA of our certificate"


@of(Security.MUTUAL_TLS)
def test_mutual_tls_proves_itself_by_the_stacks_ca_only(
    stack: Stack, place: Place, stranger: Material
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        exchange(stack, place, client_context(stranger), "localhost")


@pytest.mark.parametrize(
    "place", places(Security.MUTUAL_TLS) + places(Security.SERVER_TLS), ids=str
)
@pytest.mark.parametrize(
    "said",
    [REQUEST, b"CBR1" + bytes(60), random.Random(1).randbytes(500)],
    ids=["http", "rpc", "noise"],
)
def test_tls_ports_answer_plain_bytes_by_hanging_up(
    stack: Stack, place: Place, said: bytes
) -> None:
    with connected(stack, place) as raw:
        got = b""
        with contextlib.suppress(ConnectionError):
            raw.sendall(said)
            while data := raw.recv(4096):
                got += data
    assert got[:1] in (b"", TLS_ALERT) or got.startswith(TOLD), f"served in the clear: {got!r}"


@of(Security.SERVER_TLS)
def test_server_tls_asks_no_certificate_and_proves_itself(
    stack: Stack, place: Place, stranger: Material, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(stack.authority())
    trusting = ssl.create_default_context(cafile=str(authority))
    for name in ("localhost", place.service):
        with (
            connected(stack, place) as raw,
            trusting.wrap_socket(raw, server_hostname=name) as secured,
        ):
            assert secured.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        exchange(stack, place, client_context(stranger), "localhost")


# Gossip --------------------------------------------------------------------------------------


def test_a_ping_is_answered_where_gossip_is_plain(tmp_path: Path) -> None:
    """What the next test sends is a ping that an agent would answer."""
    require("linux")
    place = f"{own_network()}.1"
    with agent(place, tmp_path):
        assert answers((place, GOSSIP), "one", None)


def gossiping() -> list[Place]:
    return [place for place in places(Security.ENCRYPTED) if place.row.name == "serf_lan"]


@pytest.mark.parametrize("place", gossiping(), ids=str)
@pytest.mark.parametrize("key", [None, b"k" * 32], ids=["plain", "another key"])
def test_gossip_refuses_what_its_key_did_not_encrypt(
    stack: Stack, place: Place, key: bytes | None
) -> None:
    keyring = keyring_of(key) if key else None
    assert not answers(inside(stack, place), place.service, keyring)
    codec = Codec(keyring)
    with connected(stack, place) as raw:
        got = b""
        with contextlib.suppress(ConnectionError):
            raw.sendall(codec.seal_datagram(encode(Ping(1, place.service)), checksum=False))
            raw.shutdown(socket.SHUT_WR)
            while data := raw.recv(4096):
                got += data
    # (memberlist tells that something was wrong, sealed by the key that the stranger has not)
    assert got[:1] in (b"", bytes([MessageType.ENCRYPT]))


# Media ---------------------------------------------------------------------------------------


def test_the_media_port_answers_strangers_with_nothing_but_their_own_address(stack: Stack) -> None:
    """A DTLS hello, RTP, RTCP and noise of who has no session are dropped; only a plain request of
    STUN is answered, whoever sends it."""
    (place,) = [place for place in places(Security.ENCRYPTED) if place.row.program == "gateway"]
    noise = random.Random(2)
    hello = b"\x16\xfe\xff" + bytes(8) + b"\x00\x40" + noise.randbytes(64)
    media = [b"\x80\x60" + noise.randbytes(100), b"\x80\xc8\x00\x06" + noise.randbytes(24)]
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.settimeout(TIMEOUT_S)
        raw.connect(inside(stack, place))
        for said in (hello, *media, noise.randbytes(500), bytes(request)):
            raw.send(said)
        answer = stun.parse_message(raw.recv(2048))
        own = raw.getsockname()
    assert answer.transaction_id == request.transaction_id
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == own


def chosen() -> range:
    """The ports that the system gives to who asks for none."""
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()
    return range(int(first), int(last) + 1)


# What is open at all -------------------------------------------------------------------------


@pytest.mark.only("processes")
@pytest.mark.parametrize("service", NAMES)
def test_a_program_listens_where_the_table_says_and_nowhere_else(
    stack: Stack, service: str
) -> None:
    assert isinstance(stack, ProcessStack)
    if service == SIDECAR:
        require("python3-gi")
    found = stack.listening(service)
    assert {address for address, _, _ in found} == {stack.inside_address(service)}
    program = "agent" if service in AGENTS else service
    allowed = {
        (row.port, kind)
        for row in LISTENERS
        if row.program == program
        for kind in row.protocol.split("+")
    }
    allowed.add((HEALTH_PORT, "tcp"))
    opened = {(port, kind) for _, port, kind in found}
    if service in (GATEWAY, SIDECAR):  # RTP of leases: ports that the system chooses
        opened = {(port, kind) for port, kind in opened if kind != "udp" or port not in chosen()}
    assert opened <= allowed
    secured = {
        (place.row.port, "tcp")
        for kind in (Security.MUTUAL_TLS, Security.SERVER_TLS)
        for place in places(kind)
        if place.service == service
    }
    assert secured <= opened, "a port of the table is not open"
