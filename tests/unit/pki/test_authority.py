"""The CA in a directory: what it signs, what it refuses, what it remembers."""

from __future__ import annotations

import ipaddress
import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.harness.certified import CA, PERMITTED, today

from callboard.pki import certificates, verification
from callboard.pki.authority import Authority, OutsideConstraints, Refused
from callboard.pki.reading import Unreadable
from callboard.pki.roles import Names, names_for

NOW = today()
HUB = names_for("hub", "hub-1")


def make(directory: Path, life: timedelta = certificates.CA_LIFE) -> Authority:
    return Authority.create(
        directory, common_name="CA 1", constraints=PERMITTED, now=NOW, life=life
    )


def number_of(found: x509.CertificateRevocationList) -> int:
    return found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_a_new_ca_keeps_its_key_to_its_owner(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    assert stat.S_IMODE((tmp_path / "ca/ca-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    assert Authority.load(tmp_path / "ca").certificate == made.certificate
    assert made.constraints == PERMITTED


def test_a_ca_is_made_once(tmp_path: Path) -> None:
    made = make(tmp_path)
    with pytest.raises(FileExistsError):
        make(tmp_path)
    assert Authority.load(tmp_path).certificate == made.certificate


def test_of_those_who_make_a_ca_at_once_one_wins(tmp_path: Path) -> None:
    made: list[Authority] = []
    lost: list[FileExistsError] = []
    gate = threading.Barrier(8)

    def race() -> None:
        gate.wait()
        try:
            made.append(make(tmp_path))
        except FileExistsError as problem:
            lost.append(problem)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(made), len(lost)) == (1, 7)
    assert Authority.load(tmp_path).certificate == made[0].certificate


def test_a_key_that_a_crash_left_without_its_certificate_is_used(tmp_path: Path) -> None:
    make(tmp_path)
    key = (tmp_path / "ca-key.pem").read_bytes()
    (tmp_path / "ca.pem").unlink()
    make(tmp_path)
    assert (tmp_path / "ca-key.pem").read_bytes() == key
    Authority.load(tmp_path)


def test_a_leaf_has_the_names_and_the_record_has_the_leaf(tmp_path: Path) -> None:
    made = make(tmp_path)
    key = certificates.new_key()
    leaf = made.sign(key.public_key(), HUB, now=NOW)
    assert verification.names_of(leaf) == HUB
    assert leaf.public_key() == key.public_key()
    assert [one.certificate for one in Authority.load(tmp_path).issued()] == [leaf]


@pytest.mark.parametrize(
    "names",
    [
        Names(dns=("hub-1", "www.example.com")),
        Names(dns=("notconsul",)),
        Names(dns=("hub-1",), addresses=(ipaddress.ip_address("8.8.8.8"),)),
    ],
)
def test_names_outside_the_constraints_are_refused_before_signing(
    tmp_path: Path, names: Names
) -> None:
    made = make(tmp_path)
    with pytest.raises(OutsideConstraints, match="outside the name constraints") as caught:
        made.sign(certificates.new_key().public_key(), names, now=NOW)
    assert len(caught.value.outside) == 1
    assert "\n" not in str(caught.value)
    assert made.issued() == []


def test_a_certificate_without_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="without names"):
        make(tmp_path).sign(certificates.new_key().public_key(), Names(), now=NOW)


def test_an_expired_ca_signs_nothing(tmp_path: Path) -> None:
    made = make(tmp_path, life=timedelta(days=10))
    later = NOW + timedelta(days=11)
    with pytest.raises(Refused, match=r"the CA .*ca\.pem expired on "):
        made.sign(certificates.new_key().public_key(), HUB, now=later)
    with pytest.raises(Refused, match="expired on "):
        made.revocation_list(later)


def test_a_leaf_does_not_outlive_its_ca(tmp_path: Path) -> None:
    made = make(tmp_path, life=timedelta(days=10))
    leaf = made.sign(certificates.new_key().public_key(), HUB, now=NOW, life=timedelta(days=30))
    assert leaf.not_valid_after_utc == made.certificate.not_valid_after_utc


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(Refused, match="P-256"):
        make(tmp_path).sign(other.public_key(), HUB, now=NOW)


def test_a_foreign_key_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "ca-key.pem").write_bytes(certificates.key_pem(certificates.new_key()))
    with pytest.raises(Refused, match=r"ca-key\.pem: not the key of .*ca\.pem$"):
        Authority.load(tmp_path)


def test_a_leaf_is_no_ca(tmp_path: Path) -> None:
    ca = CA()
    certificate, key = ca.leaf().write(tmp_path)
    with pytest.raises(Refused, match=r"leaf\.pem: not the certificate of a CA"):
        Authority.open(certificate, key)


def test_a_missing_ca_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"ca\.pem: No such file or directory"):
        Authority.load(tmp_path)


def test_numbers_of_lists_grow_over_restarts(tmp_path: Path) -> None:
    make(tmp_path)
    numbers = [number_of(Authority.load(tmp_path).revocation_list(NOW)) for _ in range(4)]
    assert numbers == [1, 2, 3, 4]


def test_lists_made_at_once_have_numbers_of_their_own(tmp_path: Path) -> None:
    made = make(tmp_path)
    numbers: list[int] = []
    threads = [
        threading.Thread(target=lambda: numbers.append(number_of(made.revocation_list(NOW))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(set(numbers)) == sorted(numbers) and len(numbers) == 8


def test_what_is_revoked_stays_revoked_over_restarts(tmp_path: Path) -> None:
    made = make(tmp_path)
    leaf = made.sign(certificates.new_key().public_key(), HUB, now=NOW)
    other = made.sign(certificates.new_key().public_key(), HUB, now=NOW)
    made.revoke(leaf.serial_number, NOW)
    again = Authority.load(tmp_path)
    found = again.revocation_list(NOW)
    verification.check_revocation_list(found, made.certificate, NOW)
    assert [line.serial_number for line in found] == [leaf.serial_number]
    assert {one.serial: one.revoked for one in again.issued()} == {
        leaf.serial_number: NOW,
        other.serial_number: None,
    }


def test_revoking_twice_keeps_the_first_date(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert made.revoke(7, NOW) == NOW
    assert made.revoke(7, NOW + timedelta(days=1)) == NOW


def test_with_a_certificate_all_of_its_key_are_revoked(tmp_path: Path) -> None:
    """Renewal keeps the key: the one before, still in date, would let its thief in."""
    made = make(tmp_path)
    key = certificates.new_key().public_key()
    before, after = (made.sign(key, HUB, now=NOW) for _ in range(2))
    made.revoke(after.serial_number, NOW)
    assert set(made.revoked()) == {before.serial_number, after.serial_number}


def test_a_key_whose_certificate_was_revoked_gets_no_other(tmp_path: Path) -> None:
    made = make(tmp_path)
    key = certificates.new_key().public_key()
    made.revoke(made.sign(key, HUB, now=NOW).serial_number, NOW)
    with pytest.raises(Refused, match="make a new key"):
        made.sign(key, HUB, now=NOW)


def test_a_revoked_certificate_leaves_the_list_after_its_end(tmp_path: Path) -> None:
    made = make(tmp_path)
    leaf = made.sign(certificates.new_key().public_key(), HUB, now=NOW, life=timedelta(days=30))
    made.revoke(leaf.serial_number, NOW)
    week = timedelta(days=7)
    assert len(list(made.revocation_list(NOW + timedelta(days=36), week))) == 1
    assert len(list(made.revocation_list(NOW + timedelta(days=38), week))) == 0


def test_a_record_with_rubbish_in_it_is_told(tmp_path: Path) -> None:
    made = make(tmp_path)
    made.revoke(7, NOW)
    (tmp_path / "ca.record/9.revoked").write_text("soon")
    with pytest.raises(Unreadable, match=r"9\.revoked: no date in it"):
        made.revocation_list(NOW)
