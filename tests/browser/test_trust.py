"""Chromium believes a CA that `callboard tls trust` told it of, and no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.certified import Leaf, today
from tests.harness.chromium import load
from tests.harness.handmade import Made, make
from tests.harness.tls_peers import answering

from callboard.pki import certificates, reading
from callboard.pki.contexts import Material, server_context
from callboard.pki.roles import Names
from callboard.tls import command

BANK = "www.bank.example"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A CA and a server's certificate."""
    return make(tmp_path / "made")


def trust(made: Made, home: Path, *words: str) -> int:
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    argv = ["trust", "-ca", str(made.ca), "-stores=chromium", *words]
    return command.run(argv, environ)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_is_shown_once_the_ca_is_trusted_and_not_before(
    made: Made, tmp_path: Path, host: str
) -> None:
    require("chromium", "nss-certutil")
    home = tmp_path / "home"
    with answering(server_context(made.server)) as server:
        url = f"https://{host}:{server.port}/"
        assert "the page is here" not in load(url, home)
        assert trust(made, home) == 0
        assert "the page is here" in load(url, home)
        assert trust(made, home, "--uninstall") == 0
        assert "the page is here" not in load(url, home)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("flags", "believed"), [("", False), ("-name-constraint=false", True)])
def test_a_stolen_ca_cannot_pass_for_another_site_unless_it_was_made_so(
    tmp_path: Path, flags: str, believed: bool
) -> None:
    require("chromium", "nss-certutil")
    home, made = tmp_path / "home", make(tmp_path / "made", flags)
    stolen = reading.read_key(made.ca.with_name("consul-agent-ca-key.pem"))
    key = certificates.new_key()
    forged = certificates.leaf(
        key.public_key(),
        Names(dns=(BANK,)),
        reading.read_certificate(made.ca),
        stolen,
        today(),
        common_name=BANK,
    )
    certificate, key_place = Leaf(forged, key).write(tmp_path, "forged")
    assert trust(made, home) == 0
    with answering(server_context(Material(certificate, key_place))) as server:
        rule = f"--host-resolver-rules=MAP {BANK} 127.0.0.1"
        shown = load(f"https://{BANK}:{server.port}/", home, rule)
    assert ("the page is here" in shown) == believed, shown
