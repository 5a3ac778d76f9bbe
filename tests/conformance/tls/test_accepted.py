"""Certificates of `callboard tls` are accepted by OpenSSL, GnuTLS, NSS and Go, and by Python.

As a server's and as a client's; each judge is also shown what it must refuse.
"""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.handmade import SERVER, Made
from tests.harness.sockets import free_port
from tests.harness.tls_peers import answering, ask, process, run

from callboard.pki.contexts import Material, client_context, server_context
from callboard.tls import command

BAD_NAME = "www.example.com"


def strict(made: Made) -> ssl.SSLContext:
    """A client by Python's own defaults, and as strict as 3.13 is."""
    context = ssl.create_default_context(cafile=str(made.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def listener(made: Made) -> ssl.SSLContext:
    return server_context(made.server, client=ssl.CERT_REQUIRED)


# Python


def test_python_accepts_the_server(made: Made, foreign: Made) -> None:
    with answering(server_context(made.server)) as server:
        assert b"200 OK" in ask(strict(made), server.port, SERVER)
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(strict(foreign), server.port, SERVER)


# OpenSSL


def openssl(made: Made, leaf: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run(
        "openssl", "verify", "-x509_strict", "-CAfile", str(made.ca), *options, str(leaf),
        directory=made.directory,
    )  # fmt: skip


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_accepts_the_chain(made: Made, foreign: Made, purpose: str) -> None:
    require("openssl")
    lists = ("-crl_check", "-CRLfile", str(made.server.revoked))
    leaf = made.server.certificate
    done = openssl(made, leaf, "-purpose", purpose, "-verify_hostname", SERVER, *lists)
    assert (done.returncode, done.stdout) == (0, f"{leaf}: OK\n")
    assert openssl(made, leaf, "-verify_hostname", BAD_NAME).returncode != 0
    assert openssl(foreign, leaf).returncode != 0


def test_openssl_refuses_what_is_revoked(made: Made) -> None:
    require("openssl")
    lists = ("-crl_check", "-CRLfile", str(made.server.revoked))
    done = openssl(made, made.directory / "dc1-client-consul-0.pem", *lists)
    assert done.returncode != 0
    assert "certificate revoked" in done.stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssls_client_and_ours_prove_themselves_to_each_other(
    made: Made, foreign: Made, version: str
) -> None:
    require("openssl")

    def connect(port: int, own: Material, ca: Path) -> subprocess.CompletedProcess[str]:
        return run(
            "openssl", "s_client", version, "-connect", f"127.0.0.1:{port}", "-x509_strict",
            "-verify_return_error", "-verify_hostname", SERVER, "-CAfile", str(ca),
            "-cert", str(own.certificate), "-key", str(own.key), "-quiet",
            directory=made.directory, text="GET / HTTP/1.1\r\n\r\n",
        )  # fmt: skip

    with answering(listener(made)) as server:
        assert "the page is here" in connect(server.port, made.client, made.ca).stdout
        assert "the page is here" not in connect(server.port, foreign.client, made.ca).stdout
        assert "the page is here" not in connect(server.port, made.client, foreign.ca).stdout
        assert len(server.peers) == 1


def test_openssls_server_accepts_ours(made: Made, foreign: Made) -> None:
    require("openssl")
    port = free_port()
    argv = [
        "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-x509_strict", "-www",
        "-Verify", "1", "-verify_return_error", "-CAfile", str(made.ca),
        "-cert", str(made.server.certificate), "-key", str(made.server.key),
    ]  # fmt: skip
    with process(argv, port, made.directory):
        assert b"200 ok" in ask(client_context(made.client), port, SERVER)
        with pytest.raises(OSError):
            ask(_believing(foreign, made), port, SERVER)


# GnuTLS


def test_gnutls_accepts_the_chain(made: Made, foreign: Made) -> None:
    require("certtool")

    def verify(by: Made, name: str = SERVER) -> subprocess.CompletedProcess[str]:
        return run(
            "certtool", "--verify", "--verify-profile", "medium", "--verify-hostname", name,
            "--load-ca-certificate", str(by.ca), "--load-crl", str(by.server.revoked),
            "--infile", str(made.server.certificate), directory=made.directory,
        )  # fmt: skip

    done = verify(made)
    assert done.returncode == 0 and "The certificate is trusted" in done.stdout, done.stdout
    assert verify(made, BAD_NAME).returncode != 0
    assert verify(foreign).returncode != 0


def test_gnutlss_client_and_ours_prove_themselves_to_each_other(made: Made, foreign: Made) -> None:
    require("gnutls-cli")

    def connect(port: int, own: Made, ca: Path) -> subprocess.CompletedProcess[str]:
        return run(
            "gnutls-cli", f"--port={port}", "127.0.0.1", f"--x509cafile={ca}",
            f"--verify-hostname={SERVER}", f"--x509certfile={own.client.certificate}",
            f"--x509keyfile={own.client.key}", directory=made.directory,
            text="GET / HTTP/1.1\r\n\r\n",
        )  # fmt: skip

    with answering(listener(made)) as server:
        done = connect(server.port, made, made.ca)
        assert "the page is here" in done.stdout, done.stdout
        assert "the page is here" not in connect(server.port, foreign, made.ca).stdout
        assert "the page is here" not in connect(server.port, made, foreign.ca).stdout


# NSS


@pytest.mark.parametrize("usage", ["V", "C"])
def test_nss_accepts_the_chain(made: Made, foreign: Made, tmp_path: Path, usage: str) -> None:
    """V: an SSL server's certificate, C: an SSL client's."""
    require("nss-certutil")
    database = f"sql:{tmp_path}"

    def certutil(*words: str) -> subprocess.CompletedProcess[str]:
        return run("certutil", *words, "-d", database, directory=tmp_path)

    def add(name: str, trust: str, file: Path) -> None:
        assert certutil("-A", "-n", name, "-t", trust, "-i", str(file)).returncode == 0

    assert certutil("-N", "--empty-password").returncode == 0
    add("CA", "CT,,", made.ca)
    add("good", ",,", made.server.certificate)
    add("foreign", ",,", foreign.server.certificate)
    done = certutil("-V", "-e", "-u", usage, "-n", "good")
    assert (done.returncode, done.stdout) == (0, "certutil: certificate is valid\n")
    assert certutil("-V", "-e", "-u", usage, "-n", "foreign").returncode != 0


# Go


def caddy(config: str, made: Made, directory: Path) -> list[str]:
    directory.mkdir(exist_ok=True)
    (directory / "Caddyfile").write_text(
        "{\n admin off\n auto_https off\n skip_install_trust\n}\n" + config
    )
    return ["caddy", "run", "--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]


def test_gos_server_accepts_ours(made: Made, foreign: Made, tmp_path: Path) -> None:
    require("caddy")
    port = free_port()
    config = f"""
:{port} {{
  bind 127.0.0.1
  tls {made.server.certificate} {made.server.key} {{
    client_auth {{
      mode require_and_verify
      trusted_ca_cert_file {made.ca}
    }}
  }}
  respond "the page is here"
}}
"""
    with process(caddy(config, made, tmp_path), port, tmp_path):
        assert b"the page is here" in ask(client_context(made.client), port, SERVER)
        with pytest.raises(OSError):
            ask(_believing(foreign, made), port, SERVER)


def test_gos_client_and_ours_prove_themselves_to_each_other(
    made: Made, foreign: Made, tmp_path: Path
) -> None:
    require("caddy", "curl")

    def through_caddy(own: Made, ca: Path, name: str, upstream: int) -> str:
        port = free_port()
        config = f"""
http://127.0.0.1:{port} {{
  bind 127.0.0.1
  reverse_proxy https://127.0.0.1:{upstream} {{
    transport http {{
      tls_trusted_ca_certs {ca}
      tls_client_auth {own.client.certificate} {own.client.key}
      tls_server_name {name}
    }}
  }}
}}
"""
        with process(caddy(config, own, tmp_path), port, tmp_path):
            url = f"http://127.0.0.1:{port}/"
            return run("curl", "-s", "--max-time", "20", url, directory=tmp_path).stdout

    with answering(listener(made)) as server:
        assert "the page is here" in through_caddy(made, made.ca, SERVER, server.port)
        assert "the page is here" not in through_caddy(foreign, made.ca, SERVER, server.port)
        assert "the page is here" not in through_caddy(made, foreign.ca, SERVER, server.port)
        assert "the page is here" not in through_caddy(made, made.ca, BAD_NAME, server.port)


# Consul


def test_who_made_a_ca_by_consul_goes_on_with_it(tmp_path: Path) -> None:
    require("consul")
    for line in ("ca create", "cert create -server", "cert create -client"):
        assert run("consul", "tls", *line.split(), directory=tmp_path).returncode == 0
    with contextlib.chdir(tmp_path):
        for line in (
            "verify -role server -name server.dc1.consul dc1-server-consul-0.pem",
            "verify -role agent dc1-client-consul-0.pem",
            "cert create -server",
            "verify -role server dc1-server-consul-1.pem",
            "renew dc1-client-consul-0.pem",
            "verify -role agent dc1-client-consul-0.pem",
        ):
            assert command.run(line.split(), {}) == 0, line


def test_consul_goes_on_with_a_ca_that_was_made_here(made: Made, tmp_path: Path) -> None:
    """It verifies what it signs, name constraints included, before it writes."""
    require("consul")
    for line in ("-server", "-client"):
        done = run(
            "consul", "tls", "cert", "create", line,
            f"-ca={made.ca}", f"-key={made.directory / 'consul-agent-ca-key.pem'}",
            directory=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    with contextlib.chdir(tmp_path):
        line = f"verify -ca {made.ca} -role server dc1-server-consul-0.pem"
        assert command.run(line.split(), {}) == 0


def _believing(own: Made, ca: Made) -> ssl.SSLContext:
    """A client with a foreign certificate that does trust the server."""
    context = strict(ca)
    context.load_cert_chain(own.client.certificate, own.client.key)
    return context
