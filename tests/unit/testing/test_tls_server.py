"""The TLS server for users' tests when nothing is wrong: what it serves, records and leaves."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync

from callboard.testing import Answer, Request, TLSServer

TIMEOUT_S = 10.0


def get(server: TLSServer, url: str | None = None) -> bytes:
    """The body of a URL, by urllib; proxies of the environment are passed by."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=server.ssl_context())
    )
    with opener.open(url or server.url, timeout=TIMEOUT_S) as answer:
        body: bytes = answer.read()
    return body


def kept_alive(server: TLSServer) -> http.client.HTTPSConnection:
    """A connection that stays open between requests."""
    return http.client.HTTPSConnection(
        "localhost", server.port, context=server.ssl_context(), timeout=TIMEOUT_S
    )


def threads() -> list[str]:
    """Names of the server's threads."""
    return [one.name for one in threading.enumerate() if one.name == "callboard-tls-server"]


def test_url_answers_with_nothing_configured(tls_server: TLSServer) -> None:
    assert get(tls_server) == b"callboard.testing: it works\n"


def test_both_loopback_addresses_answer(tls_server: TLSServer) -> None:
    for host in ("127.0.0.1", "[::1]"):
        if host == "[::1]" and not _has_ipv6():
            continue
        assert get(tls_server, f"https://{host}:{tls_server.port}")


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError as problem:
            assert problem.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
            return False
    return True


def test_handler_of_bytes_text_answer_and_callable(tls_server: TLSServer) -> None:
    tls_server.handle("/bytes", b"\x00\x01")
    tls_server.handle("/text", "grüße")
    tls_server.handle("/answer", Answer(201, b"made", {"X-Made": "yes"}))
    tls_server.handle("/echo", lambda request: request.method + request.query["a"][0])
    base = tls_server.url
    assert get(tls_server, f"{base}/bytes") == b"\x00\x01"
    assert get(tls_server, f"{base}/text").decode() == "grüße"
    assert get(tls_server, f"{base}/answer") == b"made"
    assert get(tls_server, f"{base}/echo?a=b%20c") == b"GETb c"


def test_path_without_handler_is_404_that_names_those_there_are(tls_server: TLSServer) -> None:
    tls_server.handle("/known", b"")
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        get(tls_server, f"{tls_server.url}/other")
    with caught.value as answer:
        assert answer.read() == b"nothing at /other; there are /known\n"


def test_handler_of_one_method_leaves_the_others(tls_server: TLSServer) -> None:
    url = tls_server.handle("/", b"any")
    tls_server.handle("/", b"posted", method="POST")
    connection = kept_alive(tls_server)
    for method, body in (("GET", b"any"), ("POST", b"posted"), ("PUT", b"any")):
        connection.request(method, "/")
        assert connection.getresponse().read() == body
    connection.close()
    assert url == f"{tls_server.url}/"


def test_exception_of_a_handler_is_500_and_ends_the_block() -> None:
    def wrong(_: Request) -> bytes:
        raise AssertionError("not what was asked")

    with pytest.raises(AssertionError, match="not what was asked"), TLSServer() as server:
        server.handle("/", wrong)
        with pytest.raises(urllib.error.HTTPError, match="500") as caught:
            get(server)
        caught.value.close()


def test_folder_is_served(tmp_path: Path) -> None:
    (tmp_path / "www" / "sub").mkdir(parents=True)
    (tmp_path / "www" / "page.html").write_bytes(b"<p>")
    (tmp_path / "www" / "sub" / "index.html").write_bytes(b"index")
    (tmp_path / "secret").write_bytes(b"secret")
    with TLSServer(tmp_path / "www") as server:
        assert get(server, f"{server.url}/page.html") == b"<p>"
        assert get(server, f"{server.url}/sub/") == b"index"
        for outside in ("/../secret", "/%2e%2e/secret", "//../../secret", "/none", "/a%00b"):
            connection = kept_alive(server)
            connection.request("GET", outside)
            assert connection.getresponse().status == 404, outside
            connection.close()


def test_folder_that_is_none_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        TLSServer(tmp_path / "none").start()
    assert threads() == []


def test_host_that_is_no_name_is_refused_and_leaves_nothing() -> None:
    with pytest.raises(UnicodeError), TLSServer(hosts=["shop.test", "a..b"]):
        pass
    assert threads() == []


def test_requests_are_recorded(tls_server: TLSServer) -> None:
    alice = tls_server.client_certificate("alice")
    context = tls_server.ssl_context(alice)
    connection = http.client.HTTPSConnection("localhost", tls_server.port, context=context)
    connection.request("POST", "/a%20b?c=d", b"body", {"X-One": "1"})
    connection.getresponse().read()
    connection.close()
    (request,) = tls_server.requests
    assert (request.method, request.path, request.query) == ("POST", "/a b", {"c": ["d"]})
    assert (request.headers["x-one"], request.body) == ("1", b"body")
    assert request.peer == "alice"
    assert request.peer_certificate == alice.certificate


def test_chunked_body_is_recorded_whole(tls_server: TLSServer) -> None:
    connection = kept_alive(tls_server)
    connection.request("PUT", "/", iter([b"one, ", b"two"]), encode_chunked=True)
    connection.getresponse().read()
    connection.close()
    assert tls_server.requests[0].body == b"one, two"


def test_connection_stays_open_between_requests(tls_server: TLSServer) -> None:
    connection = kept_alive(tls_server)
    for _ in range(3):
        connection.request("GET", "/")
        connection.getresponse().read()
    connection.close()
    assert [one.outcome for one in tls_server.handshakes] == ["completed"]


def test_requests_sent_at_once_are_answered_in_turn(tls_server: TLSServer) -> None:
    tls_server.handle("/1", b"first")
    tls_server.handle("/2", b"second")
    with (
        socket.create_connection(("127.0.0.1", tls_server.port), TIMEOUT_S) as plain,
        tls_server.ssl_context().wrap_socket(plain, server_hostname="localhost") as client,
    ):
        request = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
        client.sendall(request % (1, b"") + request % (2, b"Connection: close\r\n"))
        with client.makefile("rb") as answers:
            text = answers.read()
    assert text.index(b"first") < text.index(b"second")


def test_handshake_tells_version_and_server_name(tls_server: TLSServer) -> None:
    get(tls_server)
    (one,) = tls_server.handshakes
    assert (one.completed, one.version, one.server_name) == (True, "TLSv1.3", "localhost")


def test_named_hosts_have_certificates_and_answers_of_their_own(tls_server: TLSServer) -> None:
    shop = tls_server.host("shop.test")
    tls_server.host("müller.test")
    tls_server.handle("/", b"shop", host="shop.test")
    tls_server.handle("/", b"all the others")
    assert get(tls_server, shop) == b"shop"
    assert get(tls_server, f"https://xn--mller-kva.test:{tls_server.port}") == b"all the others"
    assert get(tls_server) == b"all the others"
    assert [one.server_name for one in tls_server.handshakes][:1] == ["shop.test"]
    context = tls_server.ssl_context()
    with (
        socket.create_connection(("127.0.0.1", tls_server.port), TIMEOUT_S) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'other\.test'"),
    ):
        context.wrap_socket(plain, server_hostname="other.test")


def test_names_lead_here_only_while_the_server_is_there() -> None:
    before = socket.getaddrinfo
    with TLSServer(hosts=["shop.test"]) as one, TLSServer(hosts=["shop.test"]) as other:
        assert get(one, f"https://shop.test:{one.port}")
        one.stop()
        assert get(other, f"https://shop.test:{other.port}")
    assert socket.getaddrinfo is before


def test_host_that_was_not_added_is_told(tls_server: TLSServer) -> None:
    with pytest.raises(ValueError, match=r"no host 'shop\.test': add it by host"):
        tls_server.handle("/", b"", host="shop.test")


def test_two_servers_may_share_a_ca(tls_server: TLSServer) -> None:
    with TLSServer(ca=tls_server.ca) as other:
        assert get(tls_server, other.url)
    assert Path(tls_server.ca.path).exists()


def test_environment_makes_curl_trust_the_ca_and_pass_by_proxies(tls_server: TLSServer) -> None:
    require("curl")
    proxied = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        ["curl", "-sS", tls_server.url],
        env={**proxied, **tls_server.environ},
        capture_output=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    assert done.stdout == get(tls_server)


def test_key_is_for_its_owner_alone(tls_server: TLSServer) -> None:
    path = Path(tls_server.client_certificate().path)
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0


def test_client_that_says_nothing_holds_up_nobody(tls_server: TLSServer) -> None:
    with socket.create_connection(("127.0.0.1", tls_server.port), TIMEOUT_S):
        assert get(tls_server)


def test_nothing_is_left_after_the_end() -> None:
    with TLSServer() as server:
        address, folder = ("127.0.0.1", server.port), Path(server.ca.path).parent
        connection = kept_alive(server)
        connection.request("GET", "/")
        connection.getresponse().read()
        silent = socket.create_connection(address, TIMEOUT_S)
    assert threads() == []
    assert not folder.exists()
    with pytest.raises(OSError), socket.create_connection(address, timeout=1):
        pass
    connection.close()
    silent.close()


def test_end_comes_at_once_whatever_a_connection_is_at() -> None:
    """Also while a socket becomes one of TLS, as these have hardly been accepted."""
    for _ in range(50):
        server = TLSServer()
        server.start()
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        began = time.monotonic()
        server.stop()
        assert threads() == []
        assert time.monotonic() - began < 5.0
        for client in silent:
            client.close()


def test_clients_that_are_gone_leave_no_thread(tls_server: TLSServer) -> None:
    for _ in range(5):
        get(tls_server)
    eventually_sync(lambda: len(threads()) == 1)


def test_server_that_is_not_started_says_so() -> None:
    server = TLSServer()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.url
    with server:
        pass
    with pytest.raises(RuntimeError, match="not started"):
        server.fault("expired")


def imported_by(statement: str) -> set[str]:
    """The modules, but those of the standard library, that a statement brings into a process."""
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "after = {name for name in set(sys.modules) - before}\n"
        "print(*{n for n in after if n.partition('.')[0] not in sys.stdlib_module_names})"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, check=True, text=True
    )
    return set(done.stdout.split())


def test_plugin_costs_nothing_to_those_who_do_not_use_it() -> None:
    loaded = imported_by("import pytest, callboard.testing.plugin")
    ours = {name for name in loaded if name.startswith("callboard.")}
    assert ours == {"callboard.testing", "callboard.testing.plugin"}
    assert not {name for name in loaded if name.startswith("cryptography")}


def test_server_imports_cryptography_and_nothing_else() -> None:
    loaded = imported_by("import callboard.testing.tls_server")
    assert {name.partition(".")[0] for name in loaded} == {
        "callboard", "cryptography", "_cffi_backend", "_openssl",
    }  # fmt: skip
    packages = {".".join(name.split(".")[1:2]) for name in loaded if name.startswith("callboard.")}
    assert packages == {"pki", "testing"}
