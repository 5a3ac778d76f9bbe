"""Each fault of the TLS server, as urllib, requests, httpx, aiohttp and curl meet it."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable
from typing import get_args

import aiohttp
import httpx
import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding
from tests.harness.capabilities import require
from tests.harness.eventually import SLOW
from tests.harness.sources import ROOT
from tests.harness.tls_clients import CLIENTS, PATIENCE_S, Asked, end_transports, outcome
from tests.harness.tls_faults import ROWS, TIMED, Row, as_markdown

from callboard.testing import TLSServer
from callboard.testing.faults import FAULTS, FaultName

SHORT_S = 1.0 * SLOW
HANDSHAKES = 50


@pytest.mark.parametrize("client", CLIENTS)
def test_client_is_answered_by_a_server_without_fault(tls_server: TLSServer, client: str) -> None:
    require(*(["curl"] if client == "curl" else []))
    assert outcome(client, Asked(tls_server, PATIENCE_S * SLOW)) == "200"
    assert [one.outcome for one in tls_server.handshakes] == ["completed"]
    assert [(one.method, one.path) for one in tls_server.requests] == [("GET", "/")]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("row", ROWS, ids=[row.label for row in ROWS])
def test_client_says_what_is_wrong(tls_server: TLSServer, row: Row, client: str) -> None:
    require(*(["curl"] if client == "curl" else []))
    tls_server.fault(row.fault, pause_s=PATIENCE_S)
    credential = tls_server.client_certificate("alice", row.shows) if row.shows else None
    timeout_s = SHORT_S if row.fault in TIMED else PATIENCE_S * SLOW
    got = outcome(client, Asked(tls_server, timeout_s, credential, row.revocation))
    begins, text = row.expected(client)
    assert re.match(begins + r"\b", got), got
    if not got.isdigit():
        assert re.search(text, got), got
    told = tls_server.handshakes[0]
    if client == "aiohttp" and told.alert_from != "server":
        assert told.alert == ""
    elif got != "200" and (client, row.fault) != ("curl", "wrong host"):
        # curl looks at the host's name by itself, after the handshake
        assert told.alert == row.alert


def test_documentation_has_the_table() -> None:
    document = (ROOT / "docs/testing-tls.md").read_text("utf-8")
    assert as_markdown() in document, f"it is:\n{as_markdown()}"


def test_every_fault_is_in_the_table() -> None:
    assert {row.fault for row in ROWS} == set(FAULTS) == set(get_args(FaultName))


def test_fault_lasts_until_it_is_ended(tls_server: TLSServer) -> None:
    fault = tls_server.fault("expired")
    for _ in range(2):
        assert "expired" in outcome("urllib", Asked(tls_server))
    fault.end()
    fault.end()
    assert outcome("urllib", Asked(tls_server)) == "200"


def test_fault_of_a_block_ends_with_it(tls_server: TLSServer) -> None:
    with tls_server.fault("self-signed"), tls_server.fault("TLS 1.2 only"):
        assert "self-signed" in outcome("httpx", Asked(tls_server))
    assert outcome("httpx", Asked(tls_server)) == "200"
    assert tls_server.handshakes[-1].version == "TLSv1.3"


def test_faults_of_different_kinds_come_together(tls_server: TLSServer) -> None:
    tls_server.fault("TLS 1.2 only")
    tls_server.fault("half a body")
    assert "IncompleteRead" in outcome("urllib", Asked(tls_server))
    assert tls_server.handshakes[0].version == "TLSv1.2"
    tls_server.heal()
    assert outcome("urllib", Asked(tls_server)) == "200"


def test_fault_of_one_host_leaves_the_others(tls_server: TLSServer) -> None:
    shop = tls_server.host("shop.test")
    tls_server.fault("expired", host="shop.test")
    assert outcome("urllib", Asked(tls_server)) == "200"
    context = tls_server.ssl_context()
    with pytest.raises(httpx.ConnectError, match="expired"), httpx.Client(verify=context) as client:
        client.get(shop)


def test_fault_before_a_host_is_named_is_of_all_hosts(tls_server: TLSServer) -> None:
    with pytest.raises(ValueError, match="of all hosts"):
        tls_server.fault("stalled handshake", host="localhost")


def test_unknown_fault_names_the_nearest(tls_server: TLSServer) -> None:
    with pytest.raises(ValueError, match="no fault 'expierd': did you mean 'expired'"):
        tls_server.fault("expierd")  # type: ignore[arg-type]


def _requests_twice(server: TLSServer, between: Callable[[], object]) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.get(server.url, verify=server.ca.path, timeout=PATIENCE_S)
        between()
        session.get(server.url, verify=server.ca.path, timeout=PATIENCE_S)


def _httpx_twice(server: TLSServer, between: Callable[[], object]) -> None:
    with httpx.Client(verify=server.ssl_context(), trust_env=False) as client:
        client.get(server.url)
        between()
        client.get(server.url)


@pytest.mark.parametrize("twice", [_requests_twice, _httpx_twice])
def test_fault_ends_connections_that_clients_keep(
    tls_server: TLSServer, twice: Callable[[TLSServer, Callable[[], object]], None]
) -> None:
    with pytest.raises((requests.exceptions.SSLError, httpx.ConnectError), match="expired"):
        twice(tls_server, lambda: tls_server.fault("expired"))
    assert len(tls_server.requests) == 1


async def test_fault_ends_connections_that_aiohttp_keeps(tls_server: TLSServer) -> None:
    context = tls_server.ssl_context()
    async with aiohttp.ClientSession() as session:
        async with session.get(tls_server.url, ssl=context) as answer:
            await answer.read()
        tls_server.fault("expired")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(tls_server.url, ssl=context)
    await end_transports()


def test_refused_client_sees_the_alert_each_time(tls_server: TLSServer) -> None:
    """TLS 1.3 tells at the first read, and the client has sent its request by then."""
    tls_server.fault("client certificate required")
    context = tls_server.ssl_context()
    seen = []
    for _ in range(HANDSHAKES):
        with (
            socket.create_connection(("127.0.0.1", tls_server.port), PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            try:
                client.sendall(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 60_000)
                client.recv(1)
            except ssl.SSLError as problem:
                seen.append(problem.reason)
            except OSError as problem:
                seen.append(repr(problem))
    assert seen == ["TLSV13_ALERT_CERTIFICATE_REQUIRED"] * HANDSHAKES
    assert {one.alert for one in tls_server.handshakes} == {"certificate required"}
    assert {one.alert_from for one in tls_server.handshakes} == {"server"}


def test_client_without_certificate_in_tls_1_2_sees_handshake_failure(
    tls_server: TLSServer,
) -> None:
    tls_server.fault("client certificate required")
    tls_server.fault("TLS 1.2 only")
    assert re.search("(?i)alert.handshake.failure", outcome("urllib", Asked(tls_server)))
    assert tls_server.handshakes[0].alert == "handshake failure"


def test_client_of_tls_1_3_alone_is_refused_by_tls_1_2(tls_server: TLSServer) -> None:
    tls_server.fault("TLS 1.2 only")
    context = tls_server.ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with (
        socket.create_connection(("127.0.0.1", tls_server.port), PATIENCE_S) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"),
    ):
        context.wrap_socket(plain, server_hostname="localhost")
    (one,) = tls_server.handshakes
    assert (one.alert, one.alert_from) == ("protocol version", "server")


def test_incomplete_chain_is_whole_for_who_has_the_intermediate(tls_server: TLSServer) -> None:
    tls_server.fault("incomplete chain")
    context = tls_server.ssl_context()
    der = tls_server.ca.intermediate.public_bytes(Encoding.DER)
    context.load_verify_locations(cadata=der)
    with httpx.Client(verify=context, trust_env=False) as client:
        assert client.get(tls_server.url).status_code == 200


def test_revocation_is_noticed_by_a_context_made_before_the_fault(tls_server: TLSServer) -> None:
    context = tls_server.ssl_context(revocation=True)
    with httpx.Client(verify=context, trust_env=False) as client:
        assert client.get(tls_server.url).status_code == 200
        tls_server.fault("revoked")
        with pytest.raises(httpx.ConnectError, match="certificate revoked"):
            client.get(tls_server.url)


def test_plain_http_is_answered_on_the_port(tls_server: TLSServer) -> None:
    tls_server.fault("plain HTTP")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://localhost:{tls_server.port}", timeout=PATIENCE_S) as answer:
        assert answer.status == 200


def test_half_of_an_empty_body_is_short_as_well(tls_server: TLSServer) -> None:
    tls_server.handle("/", b"")
    tls_server.fault("half a body")
    assert "IncompleteRead(0 bytes read, 1 more expected)" in outcome("urllib", Asked(tls_server))


def test_slow_body_comes_whole_at_last(tls_server: TLSServer) -> None:
    tls_server.handle("/", b"slowly")
    tls_server.fault("slow body", pause_s=0.01)
    with httpx.Client(verify=tls_server.ssl_context(), trust_env=False) as client:
        assert client.get(tls_server.url).content == b"slowly"


def test_slow_body_goes_on_at_once_when_the_fault_ends(tls_server: TLSServer) -> None:
    tls_server.handle("/", b"slowly")
    with httpx.Client(verify=tls_server.ssl_context(), trust_env=False) as client:
        fault = tls_server.fault("slow body", pause_s=0.1)
        with client.stream("GET", tls_server.url) as answer:
            pieces = answer.iter_raw()
            first = next(pieces)
            fault.end()
            assert first + b"".join(pieces) == b"slowly"


def test_stalled_clients_do_not_hold_up_the_end() -> None:
    with TLSServer() as server:
        server.fault("stalled handshake")
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for client in clients:
            client.sendall(b"\x16\x03\x01")
    assert not [one for one in threading.enumerate() if one.name == "callboard-tls-server"]
    for client in clients:
        client.close()
