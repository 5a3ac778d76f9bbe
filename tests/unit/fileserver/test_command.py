"""`callboard fileserver` as a process, and what its command line says."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.sockets import free_port
from tests.harness.static_server import Issuing, put

from callboard.chassis.flags import FlagError
from callboard.chassis.settings import SettingsError
from callboard.fileserver.settings import FLAGS, FileserverSettings, build

ADDRESS = "127.86.14.43"
"""Of this test alone."""
COMMAND = [sys.executable, "-m", "callboard.fileserver"]
SELDOM = [
    sys.executable,
    "-c",
    "import os, sys; from callboard.fileserver import __main__, server; "
    "server.Server.__init__.__kwdefaults__['look_s'] = 3600.0; "
    "sys.exit(__main__.run(sys.argv[1:], os.environ))",
]
"""The same, but for its looking at the folder by itself every two seconds."""


@contextmanager
def running(
    folder: Path, *arguments: str, bind: str = ADDRESS, command: list[str] = COMMAND
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program in a folder, with its stderr in folder/../log."""
    environment = {**os.environ, "BIND": bind}
    with (folder.parent / "log").open("wb") as log:
        process = subprocess.Popen([*command, *arguments], cwd=folder, stderr=log, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder.parent / "log").read_text().splitlines()]


def url_of(folder: Path) -> str:
    """The address in the line that says it serves."""
    return next(str(line["url"]) for line in lines(folder) if line["message"] == "serving")


def ended(folder: Path, *arguments: str) -> str:
    """Run to the end: the one line that a start that failed has left."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=30 * SLOW,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    text = done.stderr.strip()
    assert "\n" not in text and "Traceback" not in text
    return text


def article(tmp_path: Path) -> Path:
    """A folder as the article has it: files, certificate and key side by side."""
    root = tmp_path / "www"
    issuing = Issuing(tmp_path)
    certificate, key = issuing.pair("server")
    put(root / "server.crt.pem", certificate.read_bytes())
    put(root / "server.private_key.pem", key.read_bytes())
    put(root / "index.html", b"hello")
    return root


def test_the_current_folder_is_served_and_its_key_is_not(tmp_path: Path) -> None:
    """With no flag but a free port: somebody's stack may have 1443 on all addresses."""
    root = article(tmp_path)
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.check_hostname = False
    with running(root, "--port", "0") as process:
        url = eventually_sync(lambda: url_of(root), timeout_s=20)
        assert url.startswith(f"https://{ADDRESS}:")
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            assert answer.read() == b"hello"
        for name in ("server.private_key.pem", "server.crt.pem"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(url + name, timeout=10, context=context)
            assert refused.value.code == 404
            refused.value.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    requests = [line for line in lines(root) if line["message"] == "request"]
    assert [line["status"] for line in requests] == [200, 404, 404]


def test_hup_takes_changes_at_once(tmp_path: Path) -> None:
    root = article(tmp_path)
    with running(root, "--port", "0", command=SELDOM) as process:
        eventually_sync(lambda: url_of(root), timeout_s=20)
        put(root / "new.txt", b"new")
        process.send_signal(signal.SIGHUP)
        eventually_sync(
            lambda: sum(line["message"] == "the folder is read" for line in lines(root)) == 2
        )


def test_health_tells_what_it_does(tmp_path: Path) -> None:
    root = article(tmp_path)
    port = free_port(ADDRESS)
    with running(root, "-port=0", f"-health={ADDRESS}:{port}"):
        eventually_sync(lambda: url_of(root), timeout_s=20)
        with urllib.request.urlopen(f"http://{ADDRESS}:{port}/readyz", timeout=10) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"http://{ADDRESS}:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    assert "callboard_fileserver_paths 2.0" in text
    assert 'callboard_fileserver_connections{state="idle"} 0.0' in text
    assert "callboard_certificate_days_left 0.99" in text


def test_no_certificate_names_the_command_that_makes_one(tmp_path: Path) -> None:
    text = ended(tmp_path)
    assert text.startswith("callboard fileserver: no certificate server.crt.pem: make one with")
    assert "callboard tls cert create" in text and "make certs" in text


def test_that_command_makes_what_is_missing(tmp_path: Path) -> None:
    """As docs/fileserver.md has it: a CA, the certificate that the refusal asks for, the server."""
    root = tmp_path / "www"
    put(root / "index.html", b"hello")
    callboard = [sys.executable, "-m", "callboard.chassis.command"]
    subprocess.run([*callboard, "tls", "ca", "create"], cwd=root, check=True, capture_output=True)
    command = ended(root).partition("`callboard ")[2].partition("`")[0]
    subprocess.run([*callboard, *command.split()], cwd=root, check=True, capture_output=True)
    context = ssl.create_default_context(cafile=str(root / "consul-agent-ca.pem"))
    with running(root, "-port=0", bind="127.0.0.1"):
        url = eventually_sync(lambda: url_of(root), timeout_s=20)
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            assert answer.read() == b"hello"


def test_a_port_in_use_is_told_in_a_line(tmp_path: Path) -> None:
    root = article(tmp_path)
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        text = ended(root, "-log-level=err", f"-bind={ADDRESS}", f"-port={port}")
    assert f"{ADDRESS}:{port} is in use" in json.loads(text)["message"]


def test_an_address_of_nobody_here_is_told_in_a_line(tmp_path: Path) -> None:
    text = ended(article(tmp_path), "-log-level=err", "-bind=192.0.2.1")
    assert "192.0.2.1 is no address of this machine" in text


def test_a_root_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    text = ended(article(tmp_path), "-log-level=err", f"-bind={ADDRESS}", "-port=0", "-root=nope")
    assert "nope is no folder" in text


def settings(*arguments: str, **environment: str) -> FileserverSettings:
    return build(FLAGS.parse(arguments), environment)


def test_the_defaults_are_the_articles() -> None:
    got = settings()
    assert (got.bind, got.port, got.root) == ("127.0.0.1", 1443, Path())
    assert got.pairs == ((Path("server.crt.pem"), Path("server.private_key.pem")),)


def test_flags_and_environment_are_read() -> None:
    got = settings(
        "--bind", "::1", "-cert=a", "-key=b", "-cert=c", "-key=d", "-client-ca=e", "-crl=f",
        "-idle-timeout=5s", "-max-connections=7", "-allowed-host=x", "-spa", "-index=listing",
        PUBLIC_HOST="www.callboard.org", BIND="0.0.0.0",
    )  # fmt: skip
    assert got.bind == "::1"
    assert got.pairs == ((Path("a"), Path("b")), (Path("c"), Path("d")))
    assert (got.client_ca, got.crl) == (Path("e"), Path("f"))
    assert (got.limits.idle_s, got.limits.connections) == (5.0, 7)
    assert got.allowed_hosts == ("x", "www.callboard.org")
    assert got.spa and got.listings


def test_the_page_is_the_programs_own() -> None:
    assert (settings("-page").root / "index.html").exists()


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("-cert=a", "each certificate needs its key"),
        ("-crl=a", "-crl needs -client-ca"),
        ("-index=tree", "-index is listing"),
        ("-port=99999", "99999 is no port"),
        ("-bind=0.0.0.0:443", "-bind is an IP address, not '0.0.0.0:443': see -port"),
        ("-bind=nonsense", "-bind is an IP address"),
        ("-idle-timeout=0s", "-idle-timeout is not positive"),
        ("-idle-timeout=soon", "-idle-timeout"),
        ("-max-connections=0", "-max-connections is less than 1"),
        ("-health=x", "-health is IP:PORT"),
        ("-csp=a\r\nX: y", "-csp is one line"),
        ("-log-level=loud", "Invalid log level"),
        ("extra", "unexpected argument"),
    ],
)
def test_bad_settings_are_told_in_a_line(argument: str, told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(argument)
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_an_unknown_flag_is_told() -> None:
    with pytest.raises(FlagError):
        settings("-nonsense")
