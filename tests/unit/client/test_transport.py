"""The blocking transport: addresses, failover, and what it says of failures."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.harness.scripted_http import ScriptedHttp, refusing_address

from callboard.client.addresses import Address, parse_addresses
from callboard.client.errors import ApiError, Unreachable
from callboard.client.transport import Transport


@pytest.fixture
def agent() -> Iterator[ScriptedHttp]:
    with ScriptedHttp() as server:
        yield server


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", Address("http", "127.0.0.1", 8500)),
        ("agent-1:18500", Address("http", "agent-1", 18500)),
        ("http://h:1/", Address("http", "h", 1)),
        ("https://h", Address("https", "h", 8501)),
        ("https://h:9/catalog/", Address("https", "h", 9, "/catalog")),
        ("[::1]:8500", Address("http", "::1", 8500)),
        ("unix:///run/a.sock", Address("unix", "/run/a.sock", 0)),
    ],
)
def test_addresses_are_read_as_consul_writes_them(text: str, address: Address) -> None:
    assert parse_addresses(text) == (address,)


def test_a_list_of_addresses_keeps_its_order() -> None:
    assert [address.host for address in parse_addresses("b, a,,c")] == ["b", "a", "c"]


@pytest.mark.parametrize("text", ["", ",", "ftp://a", "http://", "h:port", "h:99999", "http://[::"])
def test_an_address_without_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_addresses(text)


def test_an_ipv6_address_is_in_brackets_in_urls() -> None:
    assert parse_addresses("[::1]:8500")[0].url == "http://[::1]:8500"


def transport(*addresses: str, timeout_s: float = 5.0) -> Transport:
    return Transport(parse_addresses(",".join(addresses)), timeout_s=timeout_s)


def test_the_first_that_answers_is_asked(agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/x?a=b+c", {"ok": 1}, headers={"X-Consul-Index": "7"})
    asker = transport(refusing_address(), agent.address)
    response = asker.request("GET", "/v1/x", [("a", "b c")])
    asker.close()
    assert (response.status, response.headers["x-consul-index"]) == (200, "7")


def test_the_one_that_answered_is_asked_again_first(agent: ScriptedHttp) -> None:
    agent.on("GET", "/", "")
    with ScriptedHttp() as other:
        other.on("GET", "/", "")
        asker = transport(refusing_address(), agent.address, other.address)
        asker.request("GET", "/")
        asker.request("GET", "/")
        asker.close()
        assert (len(agent.asked), len(other.asked)) == (2, 0)


def test_a_connection_is_used_again(agent: ScriptedHttp) -> None:
    agent.on("GET", "/", "")
    asker = transport(agent.address)
    asker.request("GET", "/")
    kept = asker._connection
    asker.request("GET", "/")
    assert asker._connection is kept
    asker.close()


def test_a_connection_the_agent_closed_is_made_anew(agent: ScriptedHttp) -> None:
    agent.on("PUT", "/", "true")
    asker = transport(agent.address)
    asker.request("PUT", "/")
    assert asker._connection is not None
    asker._connection.sock.shutdown(socket.SHUT_RDWR)
    assert asker.request("PUT", "/").text == "true"
    asker.close()


class Mute:
    """Takes connections, reads a request, and hangs up without an answer."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.asked = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                if connection.recv(65536):
                    self.asked += 1
                    # (to close before all is read would be a reset)
                    connection.shutdown(socket.SHUT_WR)
                    with suppress(OSError):
                        while connection.recv(65536):
                            pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def mute() -> Iterator[Mute]:
    server = Mute()
    yield server
    server.close()


def test_a_read_that_got_no_answer_is_asked_elsewhere(agent: ScriptedHttp, mute: Mute) -> None:
    agent.on("GET", "/", "here")
    asker = transport(mute.address, agent.address)
    assert asker.request("GET", "/").text == "here"
    asker.close()


def test_a_write_that_got_no_answer_is_not_repeated(agent: ScriptedHttp, mute: Mute) -> None:
    agent.on("PUT", "/", "true")
    asker = transport(mute.address, agent.address)
    with pytest.raises(Unreachable, match="EOF") as failure:
        asker.request("PUT", "/", body=b"x")
    asker.close()
    assert failure.value.sent
    assert agent.asked == []


def test_silence_ends_at_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asker = transport(f"127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.05)
        with pytest.raises(Unreachable, match="context deadline exceeded"):
            asker.request("GET", "/")
        asker.close()


def test_a_name_nobody_knows_is_told() -> None:
    asker = transport("nobody.invalid:8500")
    with pytest.raises(Unreachable, match=r"lookup nobody\.invalid: no such host"):
        asker.request("GET", "/")


def test_a_unix_socket_that_is_not_there_is_told() -> None:
    asker = transport("unix:///nowhere.sock")
    with pytest.raises(Unreachable, match=r"dial unix /nowhere\.sock: connect: no such file"):
        asker.request("GET", "/")


def test_a_unix_socket_is_spoken_with(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        server = threading.Thread(target=serve)
        server.start()
        asker = transport(f"unix://{path}")
        assert asker.request("GET", "/").text == "ok"
        asker.close()
        server.join(5)


def test_an_unexpected_status_is_an_error_with_the_body(agent: ScriptedHttp) -> None:
    agent.on("GET", "/", "No cluster leader", status=500)
    asker = transport(agent.address)
    with pytest.raises(ApiError, match=r"Unexpected response code: 500 \(No cluster leader\)"):
        asker.request("GET", "/").expect(200, 404)
    asker.close()
