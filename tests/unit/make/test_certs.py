"""`make certs` makes what is missing, keeps what is good, and says what stands in the way."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from make import certs
from tests.harness.certified import CA, today

from callboard.pki import certificates, reading, verification


def state(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_it_makes_a_ca_and_a_pair_for_localhost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certs.main(tmp_path) == 0
    ca = reading.read_certificate(tmp_path / certs.CA)
    assert certificates.fingerprint(ca) in capsys.readouterr().out
    found = reading.read_certificate(tmp_path / certs.CERTIFICATE)
    for name in ("localhost", "127.0.0.1", "::1"):
        verification.verify([found], [ca], today(), name=name)
    for key in (certs.KEY, "consul-agent-ca-key.pem"):
        assert stat.S_IMODE((tmp_path / key).stat().st_mode) == 0o600


def test_run_again_it_changes_nothing(tmp_path: Path) -> None:
    assert certs.main(tmp_path, "cam.example.org") == 0
    before = state(tmp_path)
    assert certs.main(tmp_path, "cam.example.org") == 0
    assert certs.main(tmp_path) == 0
    assert state(tmp_path) == before


def test_a_ca_made_without_the_public_host_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certs.main(tmp_path) == 0
    before = state(tmp_path)
    assert certs.main(tmp_path, "cam.example.org") == 1
    assert capsys.readouterr().err == (
        "consul-agent-ca.pem was made without PUBLIC_HOST=cam.example.org, and cannot be changed: "
        f"rm -r {tmp_path} && make certs PUBLIC_HOST=cam.example.org\n"
    )
    assert state(tmp_path) == before


@pytest.mark.parametrize("host", ["cam.example.org", "203.0.113.9"])
def test_a_public_host_is_added_where_the_ca_may_sign_it(tmp_path: Path, host: str) -> None:
    assert certs.main(tmp_path, host) == 0
    ca = reading.read_certificate(tmp_path / certs.CA)
    found = reading.read_certificate(tmp_path / certs.CERTIFICATE)
    verification.verify([found], [ca], today(), name=host)


def test_a_certificate_past_two_thirds_of_its_life_is_renewed_for_its_key(tmp_path: Path) -> None:
    ca = CA(now=today() - timedelta(days=200))
    ca.write(tmp_path, "consul-agent-ca")
    (tmp_path / "consul-agent-ca-key.pem").write_bytes(certificates.key_pem(ca.key))
    old = ca.leaf(now=today() - timedelta(days=21), life=timedelta(days=30))
    (tmp_path / certs.CERTIFICATE).write_bytes(certificates.pem(old.certificate))
    (tmp_path / certs.KEY).write_bytes(certificates.key_pem(old.key))
    assert certs.main(tmp_path) == 0
    found = reading.read_certificate(tmp_path / certs.CERTIFICATE)
    assert found.not_valid_after_utc > old.certificate.not_valid_after_utc
    verification.check_pair(found, old.key)


@pytest.mark.parametrize("file", [certs.CA, certs.CERTIFICATE, certs.KEY])
def test_rubbish_is_told_and_left(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certs.main(tmp_path) == 0
    (tmp_path / file).write_bytes(b"rubbish")
    before = state(tmp_path)
    assert certs.main(tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{file}: no ") and said.count("\n") == 1
    assert state(tmp_path) == before


def test_an_expired_ca_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = CA(now=today() - timedelta(days=200), life=timedelta(days=100))
    old.write(tmp_path, "consul-agent-ca")
    assert certs.main(tmp_path) == 1
    assert capsys.readouterr().err.startswith("consul-agent-ca.pem expired on ")


def test_a_certificate_of_another_ca_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certs.main(tmp_path) == 0
    CA().write(tmp_path, "consul-agent-ca")
    assert certs.main(tmp_path) == 1
    told = "server.crt.pem is not from consul-agent-ca.pem: rm -r "
    assert capsys.readouterr().err.startswith(told)
