"""The issuer and a program's side of the exchange, on real directories, with a clock by hand."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from callboard.chassis.identity import Exchange, material
from callboard.chassis.identity_settings import IdentitySettings
from callboard.issuer import generations
from callboard.issuer.constraints import read_wanted
from callboard.issuer.service import Issuer
from callboard.issuer.settings import FLAGS, IssuerSettings, build
from callboard.pki.certificates import new_key, pem, request
from callboard.pki.contexts import server_context
from callboard.pki.roles import Names

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Issuer]:
    """An issuer for agent-1 (server), agent-4 (agent), hub and fileserver."""

    def made(*more: str) -> Issuer:
        issuer = Issuer(settings(tmp_path, *more))
        issuer.open(NOW)
        return issuer

    return made


def settings(directory: Path, *more: str) -> IssuerSettings:
    for name in ("agent-1", "agent-4", "hub", "fileserver"):
        (directory / "exchange" / name).mkdir(parents=True, exist_ok=True)
    argv = [
        f"-data-dir={directory / 'ca'}",
        f"-exchange={directory / 'exchange'}",
        "-program=agent-1=server",
        "-program=agent-4=agent",
        "-program=hub=hub",
        "-program=fileserver=fileserver",
        "-network=10.85.53.0/24",
        *more,
    ]
    return build(FLAGS.parse(argv), {})


def side(directory: Path, name: str, *addresses: str) -> Exchange:
    """The program's side of an exchange, its request put out."""
    exchange = Exchange(
        directory / name,
        directory / "exchange" / name,
        name,
        tuple(ipaddress.ip_address(address) for address in addresses),
    )
    exchange.prepare()
    return exchange


def held(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / name / "certificate.pem").read_bytes())


def names_of(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_a_program_gets_a_certificate_that_loads_with_its_key(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make()
    hub = side(tmp_path, "hub")
    assert not hub.usable(NOW)
    issuer.look(NOW)
    assert hub.take()
    assert hub.usable(NOW)
    directory = IdentitySettings(directory=tmp_path / "hub", exchange=tmp_path / "exchange" / "hub")
    server_context(material(directory), client=ssl.CERT_REQUIRED)
    assert (tmp_path / "hub" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_the_role_comes_from_the_issuers_table_and_never_from_the_request(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make()
    key = new_key()
    claims = Names(
        ("server.dc1.consul", "evil.example"),
        (ipaddress.ip_address("10.85.53.9"), ipaddress.ip_address("192.0.2.1")),
        ("spiffe://dc1.consul/svc/server",),
    )
    asked = tmp_path / "exchange" / "hub" / "request.pem"
    asked.write_bytes(pem(request(key, "server", claims)))
    issuer.look(NOW)
    got = x509.load_pem_x509_certificate(asked.with_name("certificate.pem").read_bytes())
    names = names_of(got)
    assert "spiffe://dc1.consul/svc/hub" in names
    assert "10.85.53.9" in names
    assert not {"server.dc1.consul", "evil.example", "192.0.2.1"} & set(names)
    assert "spiffe://dc1.consul/svc/server" not in names


def test_a_certificate_is_renewed_at_two_thirds_of_its_life_with_the_same_key(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make()
    hub = side(tmp_path, "hub")
    issuer.look(NOW)
    hub.take()
    first = held(tmp_path, "hub")
    issuer.look(NOW + 19 * DAY)
    assert not hub.take() or held(tmp_path, "hub") == first
    issuer.look(NOW + 21 * DAY)
    assert hub.take()
    second = held(tmp_path, "hub")
    assert second.serial_number != first.serial_number
    assert second.public_key() == first.public_key()


def test_whoever_starts_after_its_certificate_has_ended_gets_a_new_one(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make()
    hub = side(tmp_path, "hub")
    issuer.look(NOW)
    hub.take()
    later = NOW + 400 * DAY
    again = side(tmp_path, "hub")
    assert not again.usable(later)
    issuer.look(later)
    again.take()
    assert again.usable(later)


def test_ninety_days_never_leave_a_program_without_a_valid_certificate_and_list(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make()
    hub = side(tmp_path, "hub")
    for hours in range(0, 90 * 24, 12):
        now = NOW + timedelta(hours=hours)
        issuer.look(now)
        hub.take()
        assert hub.usable(now)
        lists = x509.load_pem_x509_crl((tmp_path / "hub" / "crl.pem").read_bytes())
        assert lists.next_update_utc is not None
        assert lists.next_update_utc - now >= 3 * DAY
        assert held(tmp_path, "hub").not_valid_after_utc - now > 9 * DAY


def test_a_revoked_certificate_is_on_the_list_and_not_renewed_for_its_key(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make()
    hub = side(tmp_path, "hub")
    issuer.look(NOW)
    hub.take()
    revoked = held(tmp_path, "hub")
    (only,) = generations.load(tmp_path / "ca")
    only.authority.revoke(revoked.serial_number, NOW)
    issuer.look(NOW + DAY)
    hub.take()
    lists = x509.load_pem_x509_crl((tmp_path / "hub" / "crl.pem").read_bytes())
    assert lists.get_revoked_certificate_by_serial_number(revoked.serial_number) is not None
    assert held(tmp_path, "hub") == revoked
    assert "revoked" in issuer.programs["hub"].problem
    (tmp_path / "hub" / "key.pem").unlink()
    anew = side(tmp_path, "hub")
    issuer.look(NOW + DAY)
    anew.take()
    assert anew.usable(NOW + DAY)


@pytest.mark.parametrize(
    "body", [b"", b"garbage", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", b"x" * 100_000]
)
def test_a_bad_request_is_told_and_the_others_are_served(
    tmp_path: Path, make: Callable[..., Issuer], body: bytes
) -> None:
    issuer = make()
    (tmp_path / "exchange" / "agent-1" / "request.pem").write_bytes(body)
    hub = side(tmp_path, "hub")
    issuer.look(NOW)
    assert issuer.programs["agent-1"].problem
    assert hub.take()


def test_a_link_in_an_exchange_shows_nothing_of_the_issuers(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make()
    link = tmp_path / "exchange" / "hub" / "request.pem"
    link.symlink_to(tmp_path / "ca" / "1" / "ca-key.pem")
    issuer.look(NOW)
    assert issuer.programs["hub"].problem
    assert b"PRIVATE" not in b"".join(
        path.read_bytes() for path in link.parent.iterdir() if not path.is_symlink()
    )


def test_agents_get_the_gossip_key_and_others_do_not(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    make().look(NOW)
    exchange = tmp_path / "exchange"
    keys = {name: exchange / name / "gossip.key" for name in ("agent-1", "agent-4", "hub")}
    assert keys["agent-1"].read_bytes() == keys["agent-4"].read_bytes()
    assert keys["agent-1"].stat().st_mode & 0o777 == 0o600
    assert not keys["hub"].exists()


def test_a_change_of_ca_goes_by_both_trusted_then_all_signed_anew_then_the_old_one_gone(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make("-overlap=1h")
    hub = side(tmp_path, "hub")
    issuer.look(NOW)
    hub.take()
    directory = tmp_path / "ca"
    generations.make_next(directory, read_wanted(directory), NOW + DAY)

    issuer.look(NOW + DAY)
    hub.take()
    authorities = tmp_path / "hub" / "ca.pem"
    both = x509.load_pem_x509_certificates(authorities.read_bytes())
    assert len(both) == 2
    assert held(tmp_path, "hub").issuer == both[0].subject

    now = NOW + DAY + timedelta(hours=1)
    issuer.look(now)
    hub.take()
    assert held(tmp_path, "hub").issuer == both[1].subject
    assert len(x509.load_pem_x509_certificates(authorities.read_bytes())) == 2

    now += timedelta(hours=1)
    issuer.look(now)
    hub.take()
    assert x509.load_pem_x509_certificates(authorities.read_bytes()) == [both[1]]
    assert generations.numbers(directory) == [2]
    assert hub.usable(now)


def test_a_restart_of_the_issuer_during_a_change_forgets_nobody(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make("-overlap=1h")
    hub = side(tmp_path, "hub")
    issuer.look(NOW)
    hub.take()
    directory = tmp_path / "ca"
    generations.make_next(directory, read_wanted(directory), NOW + DAY)
    again = Issuer(settings(tmp_path, "-overlap=1h"))
    again.open(NOW + 2 * DAY)
    again.look(NOW + 2 * DAY)
    assert generations.numbers(directory) == [1, 2]


def test_a_public_host_is_in_the_file_servers_names_alone(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make("-public-host=board.example.org")
    hub, files = side(tmp_path, "hub"), side(tmp_path, "fileserver")
    issuer.look(NOW)
    hub.take()
    files.take()
    assert "board.example.org" in names_of(held(tmp_path, "fileserver"))
    assert "board.example.org" not in names_of(held(tmp_path, "hub"))


def test_a_ca_made_without_the_public_host_names_the_command_and_serves_on(
    tmp_path: Path, make: Callable[..., Issuer], caplog: pytest.LogCaptureFixture
) -> None:
    make().look(NOW)
    issuer = make("-public-host=board.example.org")
    files = side(tmp_path, "fileserver")
    issuer.look(NOW)
    assert files.take()
    assert "board.example.org" not in names_of(held(tmp_path, "fileserver"))
    assert "callboard issuer rotate" in caplog.text


def test_a_read_only_exchange_is_told_by_the_programs_name(
    tmp_path: Path, make: Callable[..., Issuer]
) -> None:
    issuer = make()
    hub = tmp_path / "exchange" / "hub"
    hub.rmdir()
    hub.write_text("a file where a folder ought to be")
    issuer.look(NOW)
    assert issuer.programs["hub"].problem
    assert "hub (" in (issuer.remark() or "")
