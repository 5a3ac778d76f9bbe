"""What goes wrong around the issuer: hostile exchanges, crashes, clocks, an end of the CA."""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from callboard.chassis.identity import Exchange
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.issuer import generations
from callboard.issuer.constraints import read_wanted
from callboard.issuer.service import SIGNED_MAX, Issuer
from callboard.issuer.settings import FLAGS, IssuerSettings, build
from callboard.pki import certificates, reading
from callboard.pki.authority import Authority
from callboard.pki.certificates import Constraints
from callboard.pki.roles import Names

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NETWORK = "10.85.53.0/24"


def settings(directory: Path, *more: str, network: str = NETWORK) -> IssuerSettings:
    argv = [
        f"-data-dir={directory / 'ca'}",
        f"-exchange={directory / 'exchange'}",
        "-program=agent-1=server",
        "-program=hub=hub",
        f"-network={network}",
        "-overlap=1h",
        *more,
    ]
    return build(FLAGS.parse(argv), {})


def started(directory: Path, now: datetime = NOW, network: str = NETWORK) -> Issuer:
    issuer = Issuer(settings(directory, network=network))
    issuer.open(now)
    issuer.look(now)
    return issuer


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return started(tmp_path)


@pytest.fixture
def hub(tmp_path: Path, issuer: Issuer) -> Exchange:
    """The hub's side; its certificate is there."""
    exchange = Exchange(tmp_path / "hub", tmp_path / "exchange" / "hub", "hub")
    exchange.prepare()
    issuer.look(NOW)
    assert exchange.take()
    return exchange


def other(directory: Path) -> Exchange:
    exchange = Exchange(directory / "agent-1", directory / "exchange" / "agent-1", "agent-1")
    exchange.prepare()
    return exchange


def held(exchange: Exchange) -> x509.Certificate:
    return reading.read_certificate(exchange.identity / "certificate.pem")


def rotate(directory: Path, now: datetime) -> None:
    generations.make_next(directory / "ca", read_wanted(directory / "ca"), now)


def revoke(directory: Path, certificate: x509.Certificate, now: datetime) -> None:
    newest = generations.load(directory / "ca")[-1].authority
    newest.revoke(certificate.serial_number, now)


# Hostile exchanges ---------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def secret(path: Path) -> None:
    path.symlink_to(path.parents[2] / "ca" / "1" / "ca-key.pem")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("trap", [fifo, endless, secret, huge, folder])
@pytest.mark.parametrize("name", ["request.pem", "certificate.pem", "ca.pem", "crl.pem"])
def test_whatever_lies_in_an_exchange_the_others_are_served(
    tmp_path: Path, hub: Exchange, issuer: Issuer, name: str, trap: Callable[[Path], None]
) -> None:
    key = (tmp_path / "ca" / "1" / "ca-key.pem").read_bytes()
    path = hub.exchange / name
    path.unlink()
    trap(path)
    agent = other(tmp_path)
    issuer.look(NOW)
    assert agent.take()
    assert (tmp_path / "ca" / "1" / "ca-key.pem").read_bytes() == key
    again = started(tmp_path)
    assert again.ready() is None
    if name != "request.pem" and trap is not folder:
        assert path.is_file() and not path.is_symlink(), "replaced, never followed"
        assert path.stat().st_size < 10_000


def test_a_certificate_of_ones_own_making_does_not_disturb_the_next_run(
    tmp_path: Path, hub: Exchange
) -> None:
    """As the CA's by name, and without the extensions that ours have."""
    key = certificates.new_key()
    forged = certificates.authority(key, "Callboard CA 1", NOW)
    (hub.exchange / "certificate.pem").write_bytes(certificates.pem(forged))
    again = started(tmp_path)
    assert again.programs["hub"].generation == 1
    assert hub.take()
    assert hub.usable(NOW)


def test_a_certificate_that_is_taken_away_is_put_back(hub: Exchange, issuer: Issuer) -> None:
    path = hub.exchange / "certificate.pem"
    body = path.read_bytes()
    path.unlink()
    issuer.look(NOW)
    assert path.read_bytes() == body


def test_what_cannot_be_put_out_is_signed_once(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    path = hub.exchange / "certificate.pem"
    path.unlink()
    path.mkdir()
    later = NOW + 21 * DAY
    for _ in range(5):
        issuer.look(later)
    assert len(list((tmp_path / "ca" / "1" / "ca.record").glob("*.pem"))) == 2
    path.rmdir()
    issuer.look(later)
    assert hub.take()


def test_a_program_that_asks_without_end_has_to_wait_and_the_others_need_not(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    record = tmp_path / "ca" / "1" / "ca.record"
    for _ in range(SIGNED_MAX + 5):
        asked = certificates.request(certificates.new_key(), "hub", Names())
        (hub.exchange / "request.pem").write_bytes(certificates.pem(asked))
        issuer.look(NOW)
    assert len(list(record.glob("*.pem"))) == SIGNED_MAX
    assert "waits" in issuer.programs["hub"].problem
    agent = other(tmp_path)
    issuer.look(NOW)
    assert agent.take()
    issuer.look(NOW + HOUR)
    assert not issuer.programs["hub"].problem


def test_too_many_addresses_are_refused(tmp_path: Path, hub: Exchange, issuer: Issuer) -> None:
    many = tuple(ipaddress.ip_address(f"10.85.53.{n}") for n in range(100))
    asked = certificates.request(certificates.new_key(), "hub", Names(addresses=many))
    (hub.exchange / "request.pem").write_bytes(certificates.pem(asked))
    issuer.look(NOW)
    assert "100 addresses" in issuer.programs["hub"].problem


# Two of them, crashes -------------------------------------------------------------------------


async def test_a_second_issuer_on_the_same_directory_does_not_start(tmp_path: Path) -> None:
    life, late = Lifecycle(), Lifecycle()
    await Issuer(settings(tmp_path)).start(life)
    try:
        with pytest.raises(StartRefused, match="another issuer uses the directory"):
            await Issuer(settings(tmp_path)).start(late)
    finally:
        await late.stop_all()
        await life.stop_all()
    following = Lifecycle()
    await Issuer(settings(tmp_path)).start(following)
    await following.stop_all()


def test_a_half_made_ca_disturbs_nobody_and_is_finished_by_the_next_rotate(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    rotate(tmp_path, NOW)
    (tmp_path / "ca" / "2" / "ca.pem").unlink()
    issuer.look(NOW)
    assert issuer.ready() is None
    assert len(reading.read_certificates(hub.exchange / "ca.pem")) == 1
    rotate(tmp_path, NOW)
    issuer.look(NOW)
    assert len(reading.read_certificates(hub.exchange / "ca.pem")) == 2


def test_two_rotations_at_once_make_one_ca(tmp_path: Path, issuer: Issuer) -> None:
    constraints = read_wanted(tmp_path / "ca")
    generations.make_next(tmp_path / "ca", constraints, NOW, after=1)
    with pytest.raises(FileExistsError):
        generations.make_next(tmp_path / "ca", constraints, NOW, after=1)
    assert generations.numbers(tmp_path / "ca") == [1, 2]


def test_the_key_of_a_ca_whose_removal_was_cut_short_is_removed(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    rotate(tmp_path, NOW)
    (tmp_path / "ca" / "1" / "ca.pem").unlink()
    issuer.look(NOW)
    assert issuer.ready() is None
    assert not (tmp_path / "ca" / "1").exists()


def test_after_a_change_of_ca_nothing_is_left_of_the_old_one(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    key = (tmp_path / "ca" / "1" / "ca-key.pem").read_bytes()
    rotate(tmp_path, NOW)
    for hours in range(4):
        issuer.look(NOW + hours * HOUR)
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(key not in path.read_bytes() for path in everything)
    private = [path for path in everything if b"PRIVATE KEY" in path.read_bytes()]
    assert sorted(private) == [tmp_path / "ca" / "2" / "ca-key.pem", tmp_path / "hub" / "key.pem"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in private)
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700


def test_a_lost_ca_is_followed_by_a_new_one_that_everybody_gets(
    tmp_path: Path, hub: Exchange
) -> None:
    before = held(hub)
    shutil.rmtree(tmp_path / "ca")
    started(tmp_path, NOW + DAY)
    assert hub.take()
    assert held(hub) != before
    assert hub.usable(NOW + DAY)


# Clocks, and the end of the CA ----------------------------------------------------------------


def test_a_clock_that_was_set_back_gets_certificates_and_lists_for_its_time(
    tmp_path: Path, issuer: Issuer
) -> None:
    later = NOW + 5 * DAY
    hub = Exchange(tmp_path / "hub", tmp_path / "exchange" / "hub", "hub")
    hub.prepare()
    issuer.look(later)
    assert hub.take()
    assert not hub.usable(NOW + DAY)
    issuer.look(NOW + DAY)
    assert hub.take()
    assert hub.usable(NOW + DAY)


def test_an_expired_ca_names_the_command_and_the_next_one_serves_at_once(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    later = NOW + 4000 * DAY
    issuer.look(later)
    assert "callboard issuer rotate" in (issuer.ready() or "")
    rotate(tmp_path, later)
    issuer.look(later)
    assert issuer.ready() is None
    assert hub.take()
    assert hub.usable(later)


def test_the_end_of_the_ca_is_told_a_year_ahead(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.look(NOW + 3000 * DAY)
    assert "the CA ends on" not in caplog.text
    issuer.look(NOW + 3400 * DAY)
    assert "the CA ends on 2036-02-2" in caplog.text


# Lists, revocation ----------------------------------------------------------------------------


def test_a_list_is_made_anew_at_half_its_life_and_not_before_over_restarts_too(
    tmp_path: Path, hub: Exchange
) -> None:
    path = hub.exchange / "crl.pem"
    first = path.read_bytes()
    started(tmp_path, NOW + 3 * DAY)
    assert path.read_bytes() == first
    started(tmp_path, NOW + 4 * DAY)
    assert path.read_bytes() != first


def test_a_revocation_that_a_list_leaves_out_does_not_make_lists_without_end(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    revoke(tmp_path, held(hub), NOW)
    later = NOW + 60 * DAY
    issuer.look(later)
    path = hub.exchange / "crl.pem"
    first = path.read_bytes()
    (only,) = reading.read_lists(path)
    assert len(only) == 0, "what expired long ago is not on it any more"
    issuer.look(later + HOUR)
    assert path.read_bytes() == first


def test_both_cas_have_a_list_during_a_change(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    rotate(tmp_path, NOW)
    for hours in (0, 1):
        issuer.look(NOW + hours * HOUR)
        authorities = reading.read_certificates(hub.exchange / "ca.pem")
        lists = reading.read_lists(hub.exchange / "crl.pem")
        assert [one.issuer for one in lists] == [one.subject for one in authorities]
        assert len(lists) == 2


def test_a_revoked_key_gets_nothing_from_the_next_ca_either(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    lost = (hub.exchange / "request.pem").read_bytes()
    revoke(tmp_path, held(hub), NOW)
    issuer.look(NOW)
    rotate(tmp_path, NOW)
    for hours in range(4):
        issuer.look(NOW + hours * HOUR)
    assert generations.numbers(tmp_path / "ca") == [2], "who is revoked does not hold a change up"
    now = NOW + 5 * HOUR
    assert not hub.take()
    again = started(tmp_path, now)
    assert "revoked" in again.programs["hub"].problem
    (hub.identity / "key.pem").unlink()
    Exchange(hub.identity, hub.exchange, "hub").prepare()
    again.look(now)
    assert Exchange(hub.identity, hub.exchange, "hub").take()
    (hub.exchange / "request.pem").write_bytes(lost)
    again.look(now)
    assert "was revoked" in again.programs["hub"].problem


# Other networks, gossip's key -----------------------------------------------------------------


def test_another_network_costs_the_addresses_and_names_the_command(
    tmp_path: Path, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    again = started(tmp_path, network="10.99.0.0/24")
    address = ipaddress.ip_address("10.99.0.7")
    hub = Exchange(tmp_path / "hub", tmp_path / "exchange" / "hub", "hub", (address,))
    hub.prepare()
    again.look(NOW)
    assert hub.take()
    assert "without 10.99.0.7: `callboard issuer rotate" in caplog.text
    rotate(tmp_path, NOW)
    again.look(NOW + HOUR)
    assert hub.take()
    names = held(hub).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert address in names.get_values_for_type(x509.IPAddress)


def test_another_address_of_a_program_gets_another_certificate(
    tmp_path: Path, hub: Exchange, issuer: Issuer
) -> None:
    moved = Exchange(hub.identity, hub.exchange, "hub", (ipaddress.ip_address("10.85.53.9"),))
    moved.prepare()
    issuer.look(NOW)
    assert moved.take()
    assert moved.usable(NOW)


def test_another_domain_is_refused_since_it_says_what_a_program_is(
    tmp_path: Path, issuer: Issuer
) -> None:
    other(tmp_path)
    again = Issuer(settings(tmp_path, "-domain=example"))
    again.open(NOW)
    again.look(NOW)
    assert "outside the name constraints" in again.programs["agent-1"].problem


def test_a_key_of_gossip_that_was_replaced_is_handed_out(tmp_path: Path, issuer: Issuer) -> None:
    given = tmp_path / "exchange" / "agent-1" / "gossip.key"
    first = given.read_bytes()
    ours = tmp_path / "ca" / "gossip.key"
    ours.write_bytes(b"no key\n")
    issuer.look(NOW)
    assert given.read_bytes() == first
    ours.write_bytes(b"AAAAAAAAAAAAAAAAAAAAAA==\n")
    issuer.look(NOW)
    assert given.read_bytes() == b"AAAAAAAAAAAAAAAAAAAAAA==\n"


def test_revocations_of_a_former_ca_are_taken_over_once(tmp_path: Path) -> None:
    constraints = Constraints(("consul",), ())
    old, new = (
        Authority.create(tmp_path / name, common_name=name, constraints=constraints, now=NOW)
        for name in ("old", "new")
    )
    key = certificates.new_key()
    lost = old.sign(key.public_key(), Names(("a.consul",)), now=NOW)
    old.revoke(lost.serial_number, NOW)
    for _ in range(2):
        new.refuse_keys_of(old)
    with pytest.raises(ValueError, match="a certificate of this key was revoked"):
        new.sign(key.public_key(), Names(("a.consul",)), now=NOW)
