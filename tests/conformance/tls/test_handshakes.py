"""What a listener of ours lets nobody do, as OpenSSL's own client tries it."""

from __future__ import annotations

import ssl

import pytest
from tests.harness.capabilities import require
from tests.harness.handmade import SERVER, Made
from tests.harness.tls_peers import answering, run

from callboard.pki.contexts import server_context

REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def tried(made: Made, asked: ssl.VerifyMode, text: str, *options: str) -> str:
    """What `openssl s_client` says when it is told `text`."""
    require("openssl")
    shown = ("-cert", str(made.client.certificate), "-key", str(made.client.key))
    with answering(server_context(made.server, client=asked)) as server:
        done = run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername", SERVER,
            "-CAfile", str(made.ca), *shown, *options, text=text,
            directory=made.directory,
        )  # fmt: skip
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout
    return done.stdout


def test_tickets_allow_no_early_data(made: Made) -> None:
    """What is sent in the first flight can be sent again by whoever heard it (RFC 8446, 8)."""
    said = tried(made, ssl.CERT_NONE, REQUEST, "-tls1_3", "-ign_eof")
    assert "200 OK" in said
    limits = [line.strip() for line in said.splitlines() if "Max Early Data:" in line]
    assert limits and set(limits) == {"Max Early Data: 0"}


def test_who_shows_a_certificate_gets_no_ticket(made: Made) -> None:
    said = tried(made, ssl.CERT_REQUIRED, REQUEST, "-tls1_3", "-ign_eof")
    assert "200 OK" in said
    assert "Post-Handshake New Session Ticket" not in said
    assert "session ticket lifetime hint" not in said


@pytest.mark.parametrize("asked", [ssl.CERT_NONE, ssl.CERT_REQUIRED])
def test_a_client_starts_no_other_handshake(made: Made, asked: ssl.VerifyMode) -> None:
    """In TLS 1.2 a line "R" has s_client renegotiate; in 1.3 there is no such thing."""
    said = tried(made, asked, "R\n", "-tls1_2")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    assert "200 OK" not in said
