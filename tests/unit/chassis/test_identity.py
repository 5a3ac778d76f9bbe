"""A program's identity: flags, the wait for a certificate, what is taken from the issuer."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.harness.eventually import eventually

from callboard.chassis.flags import FlagSet
from callboard.chassis.identity import Exchange, Keeper, material, obtain, open_identity
from callboard.chassis.identity_settings import IdentitySettings, identity_flags, identity_settings
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.chassis.metrics import Metrics
from callboard.pki import certificates
from callboard.pki.certificates import pem
from callboard.pki.live import LiveIdentity
from callboard.pki.roles import names_for

FLAGS = FlagSet("Usage", identity_flags())
NOW = datetime.now(UTC)


def settings(*argv: str, **environ: str) -> IdentitySettings:
    return identity_settings(FLAGS.parse(argv), environ)


class Issuer:
    """Signs what lies in an exchange, at once."""

    def __init__(self, exchange: Path) -> None:
        self.exchange = exchange
        self.key = certificates.new_key()
        self.certificate = certificates.authority(self.key, "CA", NOW)

    def answer(self, *, until: datetime = NOW + timedelta(days=30), listed: datetime = NOW) -> None:
        request = x509.load_pem_x509_csr((self.exchange / "request.pem").read_bytes())
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        made = certificates.leaf(
            key,
            names_for("hub", "hub"),
            self.certificate,
            self.key,
            until - timedelta(days=30),
            common_name="hub",
        )
        lines = certificates.revocation_list(self.certificate, self.key, [], listed, number=1)
        (self.exchange / "ca.pem").write_bytes(pem(self.certificate))
        (self.exchange / "crl.pem").write_bytes(pem(lines))
        (self.exchange / "certificate.pem").write_bytes(pem(made))


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    (tmp_path / "exchange").mkdir()
    return Exchange(tmp_path / "identity", tmp_path / "exchange", "hub")


def loaded(exchange: Exchange) -> LiveIdentity:
    return LiveIdentity(material(IdentitySettings(exchange.identity, exchange.exchange)))


def test_without_any_flag_there_is_no_identity() -> None:
    assert not settings().given


def test_directory_and_exchange_come_from_the_environment_and_flags_win() -> None:
    found = settings("-identity=/a", IDENTITY="/b", EXCHANGE="/c")
    assert (found.directory, found.exchange) == (Path("/a"), Path("/c"))
    assert found.given


def test_mutual_tls_off_is_the_one_setting_that_speaks_in_the_clear() -> None:
    assert not settings("-identity=/a", MUTUAL_TLS="off").given
    assert settings("-identity=/a", "-mutual-tls=on", MUTUAL_TLS="off").given


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("-exchange=/x",), "-exchange needs -identity"),
        (("-cert-file=/c",), "-cert-file and -key-file go together"),
        (("-cert-file=/c", "-key-file=/k"), "-ca-file"),
        (("-identity=/a", "-cert-file=/c", "-key-file=/k"), "two ways"),
        (("-mutual-tls=maybe",), "on or off"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(argv: tuple[str, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        settings(*argv)


async def test_the_program_waits_for_the_issuer_and_goes_on_once_it_has_answered(
    exchange: Exchange,
) -> None:
    waiting = asyncio.create_task(obtain(exchange, look_s=0.01))
    issuer = Issuer(exchange.exchange)
    await eventually((exchange.exchange / "request.pem").exists)
    issuer.answer()
    async with asyncio.timeout(5):
        await waiting
    loaded(exchange)


async def test_the_key_is_made_once_and_kept_over_starts(exchange: Exchange) -> None:
    exchange.prepare()
    key = (exchange.identity / "key.pem").read_bytes()
    request = (exchange.exchange / "request.pem").stat().st_mtime_ns
    Exchange(exchange.identity, exchange.exchange, "hub").prepare()
    assert (exchange.identity / "key.pem").read_bytes() == key
    assert (exchange.exchange / "request.pem").stat().st_mtime_ns == request


async def test_a_key_that_cannot_be_read_is_refused_and_left_as_it_is(exchange: Exchange) -> None:
    exchange.identity.mkdir()
    path = exchange.identity / "key.pem"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nhalf")
    with pytest.raises(StartRefused, match=r"key\.pem: no readable private key"):
        exchange.prepare()
    assert path.read_bytes().endswith(b"half")


async def test_without_an_issuer_the_program_leaves_in_words(exchange: Exchange) -> None:
    with pytest.raises(StartRefused, match="does the issuer run"):
        await obtain(exchange, wait_s=0.05, look_s=0.01)


async def test_with_a_certificate_in_date_no_issuer_is_needed(exchange: Exchange) -> None:
    exchange.prepare()
    Issuer(exchange.exchange).answer()
    await obtain(exchange, look_s=0.01)
    for path in exchange.exchange.iterdir():
        path.unlink()
    await obtain(Exchange(exchange.identity, exchange.exchange, "hub"), wait_s=0.0)


async def test_a_certificate_for_another_key_is_not_taken(exchange: Exchange) -> None:
    exchange.prepare()
    issuer = Issuer(exchange.exchange)
    issuer.answer()
    exchange.take()
    mine = (exchange.identity / "certificate.pem").read_bytes()
    stranger = certificates.new_key()
    foreign = certificates.leaf(
        stranger.public_key(),
        names_for("server", "hub"),
        issuer.certificate,
        issuer.key,
        NOW,
        common_name="hub",
    )
    (exchange.exchange / "certificate.pem").write_bytes(pem(foreign))
    assert not exchange.take()
    assert (exchange.identity / "certificate.pem").read_bytes() == mine


@pytest.mark.parametrize("body", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
async def test_garbage_from_the_exchange_is_not_taken(exchange: Exchange, body: bytes) -> None:
    exchange.prepare()
    Issuer(exchange.exchange).answer()
    (exchange.exchange / "certificate.pem").write_bytes(body)
    assert not exchange.take()
    assert not exchange.usable(NOW)


async def test_an_ended_certificate_is_waited_for_anew(exchange: Exchange) -> None:
    exchange.prepare()
    issuer = Issuer(exchange.exchange)
    issuer.answer(until=NOW - timedelta(days=1))
    waiting = asyncio.create_task(obtain(exchange, look_s=0.01))
    await eventually((exchange.identity / "certificate.pem").exists)
    assert not waiting.done()
    issuer.answer()
    async with asyncio.timeout(5):
        await waiting
    assert exchange.usable(datetime.now(UTC))


@pytest.mark.parametrize(
    ("until", "listed"),
    [(NOW - timedelta(days=1), NOW), (NOW + timedelta(days=9), NOW - timedelta(days=8))],
    ids=["certificate", "list"],
)
async def test_without_an_issuer_an_ended_identity_is_better_than_none(
    exchange: Exchange, caplog: pytest.LogCaptureFixture, until: datetime, listed: datetime
) -> None:
    exchange.prepare()
    Issuer(exchange.exchange).answer(until=until, listed=listed)
    await obtain(exchange, held_wait_s=0.05, look_s=0.01)
    assert "no newer one came" in caplog.text
    loaded(exchange)


async def test_an_exchange_that_cannot_be_used_stops_only_whom_nothing_was_given_yet(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.prepare()
    Issuer(exchange.exchange).answer()
    await obtain(exchange)
    shutil.rmtree(exchange.exchange)
    exchange.exchange.write_text("a file")
    await obtain(exchange)
    assert "no certificate can be asked for" in caplog.text
    live = loaded(exchange)
    await Keeper(live, exchange, Metrics()).look()
    assert "what the issuer gave is not taken" in caplog.text
    fresh = Exchange(exchange.identity.with_name("fresh"), exchange.exchange, "hub")
    with pytest.raises(StartRefused, match="identity: "):
        await obtain(fresh)


@pytest.mark.parametrize("missing", ["ca.pem", "crl.pem", "certificate.pem"])
async def test_half_an_answer_is_not_taken(exchange: Exchange, missing: str) -> None:
    exchange.prepare()
    Issuer(exchange.exchange).answer()
    (exchange.exchange / missing).unlink()
    assert not exchange.take()
    assert missing in exchange.problem
    assert not (exchange.identity / "ca.pem").exists()


@pytest.mark.parametrize("foreign", ["ca.pem", "crl.pem"])
async def test_files_of_two_cas_are_not_taken_together(exchange: Exchange, foreign: str) -> None:
    """As a reader may find them while the issuer writes one after the other."""
    exchange.prepare()
    issuer = Issuer(exchange.exchange)
    issuer.answer()
    exchange.take()
    other = Issuer(exchange.exchange)
    other.certificate = certificates.authority(other.key, "another CA", NOW)
    kept = (exchange.exchange / foreign).read_bytes()
    other.answer()
    (exchange.exchange / foreign).write_bytes(kept)
    assert not exchange.take()
    assert exchange.usable(NOW)


async def test_garbage_in_the_identity_directory_is_replaced(exchange: Exchange) -> None:
    exchange.prepare()
    Issuer(exchange.exchange).answer()
    exchange.take()
    (exchange.identity / "crl.pem").write_bytes(b"half a li")
    assert not exchange.usable(NOW)
    await obtain(Exchange(exchange.identity, exchange.exchange, "hub"), wait_s=0.0)
    assert exchange.usable(datetime.now(UTC))


async def test_the_keeper_takes_what_is_renewed_and_counts_the_days(exchange: Exchange) -> None:
    exchange.prepare()
    issuer = Issuer(exchange.exchange)
    issuer.answer()
    await obtain(exchange)
    live = loaded(exchange)
    context = live.for_clients()
    keeper = Keeper(live, exchange, Metrics())
    assert 29.9 < keeper.days_left() < 30.1
    assert 6.9 < keeper.list_days_left() < 7.1
    before = context.current
    await keeper.look()
    assert context.current is before
    issuer.answer(until=NOW + timedelta(days=40))
    await keeper.look()
    assert context.current is not before
    assert 39.9 < keeper.days_left() < 40.1


async def test_two_looks_at_once_take_everything_once(exchange: Exchange) -> None:
    exchange.prepare()
    issuer = Issuer(exchange.exchange)
    issuer.answer()
    await obtain(exchange)
    live = loaded(exchange)
    keeper = Keeper(live, exchange, Metrics())
    issuer.answer(until=NOW + timedelta(days=40))
    await asyncio.gather(*(keeper.look() for _ in range(5)))
    assert live.generation == 1


@pytest.mark.parametrize(
    ("until", "listed", "text"),
    [
        (4, 7, "the certificate was not renewed"),
        (29, 1, "the revocation list was not renewed"),
        (29, 7, ""),
    ],
)
async def test_the_keeper_tells_in_time_that_nobody_renews(
    exchange: Exchange, caplog: pytest.LogCaptureFixture, until: int, listed: int, text: str
) -> None:
    exchange.prepare()
    issuer = Issuer(exchange.exchange)
    issuer.answer(until=NOW + timedelta(days=until), listed=NOW - timedelta(days=7 - listed))
    await obtain(exchange)
    live = loaded(exchange)
    caplog.clear()  # of what preparing told, where another test has set the level
    await Keeper(live, exchange, Metrics()).look()
    assert (text in caplog.text) if text else not caplog.text


async def test_a_request_that_vanished_is_put_out_again(exchange: Exchange) -> None:
    exchange.prepare()
    issuer = Issuer(exchange.exchange)
    issuer.answer()
    await obtain(exchange)
    live = loaded(exchange)
    keeper = Keeper(live, exchange, Metrics())
    shutil.rmtree(exchange.exchange)
    await keeper.look()
    issuer.answer(until=NOW + timedelta(days=40))
    await keeper.look()
    assert 39.9 < keeper.days_left() < 40.1


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        ("another", "are no pair"),
        ("garbage", r"certificate\.pem"),
        ("missing", "no file .*certificate"),
    ],
)
async def test_files_that_do_not_load_are_named(
    tmp_path: Path, certificate: str, text: str
) -> None:
    key, issuer = certificates.new_key(), certificates.new_key()
    authority = certificates.authority(issuer, "CA", NOW)
    made = certificates.leaf(
        certificates.new_key().public_key(),
        names_for("hub", "hub"),
        authority,
        issuer,
        NOW,
        common_name="hub",
    )
    (tmp_path / "key.pem").write_bytes(certificates.key_pem(key))
    (tmp_path / "ca.pem").write_bytes(pem(authority))
    if certificate != "missing":
        body = pem(made) if certificate == "another" else b"garbage"
        (tmp_path / "certificate.pem").write_bytes(body)
    with pytest.raises(StartRefused, match=text):
        await open_identity(IdentitySettings(tmp_path), "hub", Lifecycle(), Metrics())
