"""Whatever lies in a file: an object that was read whole, or one line that names the file."""

from __future__ import annotations

import base64
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.certified import CA

from callboard.pki import certificates, reading, verification
from callboard.pki.reading import Unreadable
from callboard.pki.roles import names_for

AUTHORITY = CA()
LEAF = AUTHORITY.leaf()
CERTIFICATE = certificates.pem(LEAF.certificate)
KEY = certificates.key_pem(LEAF.key)
LIST = certificates.pem(AUTHORITY.list(LEAF))
REQUEST = certificates.pem(certificates.request(LEAF.key, "x", names_for("hub", "hub-1")))

Reader = Callable[[bytes, str], object]
READERS: list[tuple[Reader, bytes]] = [
    (reading.certificates_of, CERTIFICATE),
    (reading.key_of, KEY),
    (reading.request_of, REQUEST),
    (reading.lists_of, LIST),
    (partial(reading.lists_of, lines=False), LIST),
]
every_reader = pytest.mark.parametrize(("read", "good"), READERS)


def der_of(body: bytes) -> bytes:
    return base64.b64decode(b"".join(body.splitlines()[1:-1]))


def pem_of(der: bytes, like: bytes) -> bytes:
    lines = like.splitlines()
    return b"\n".join([lines[0], base64.b64encode(der), lines[-1], b""])


def reads_or_tells(read: Reader, body: bytes) -> None:
    try:
        read(body, "x.pem")
    except Unreadable as problem:
        assert str(problem).startswith("x.pem: ")
        assert "\n" not in str(problem)


@every_reader
def test_what_is_written_here_is_read(read: Reader, good: bytes) -> None:
    read(good, "x.pem")
    read(b"# a remark before\n" + good + b"and after\n", "x.pem")


@every_reader
@pytest.mark.parametrize("body", [b"", b"\0" * 100, b"-----BEGIN", "ä".encode("latin-1")])
def test_nothing_is_told(read: Reader, good: bytes, body: bytes) -> None:
    with pytest.raises(Unreadable, match=r"^x\.pem: no .* in it \(PEM is wanted\)$"):
        read(body, "x.pem")


@every_reader
@given(body=st.binary(max_size=300))
def test_any_bytes_are_read_or_told(read: Reader, good: bytes, body: bytes) -> None:
    reads_or_tells(read, body)
    reads_or_tells(read, pem_of(body, good))


@every_reader
@settings(max_examples=300)
@given(data=st.data())
def test_any_change_to_a_good_file_is_read_or_told(
    read: Reader, good: bytes, data: st.DataObject
) -> None:
    der = bytearray(der_of(good))
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    reads_or_tells(read, pem_of(bytes(der), good))
    reads_or_tells(read, pem_of(bytes(der[: data.draw(st.integers(0, len(der)))]), good))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_certificate_that_can_be_read_is_judged(data: st.DataObject) -> None:
    """No error but NotAccepted, and none that was changed is accepted."""
    der = bytearray(der_of(CERTIFICATE))
    place = data.draw(st.integers(0, len(der) - 1))
    der[place] ^= data.draw(st.integers(1, 255))
    try:
        found = reading.certificates_of(pem_of(bytes(der), CERTIFICATE), "x.pem")
    except Unreadable:
        return
    with pytest.raises(verification.NotAccepted):
        verification.verify(found, [AUTHORITY.certificate], LEAF.certificate.not_valid_before_utc)


def test_signature_that_says_it_has_unused_bits_is_refused() -> None:
    """They are read by who may accept it; a signature that ends in a bit of 0 stays good."""
    leaves = (AUTHORITY.leaf().certificate for _ in range(200))
    leaf = next(each for each in leaves if not each.signature[-1] & 1)
    der = bytearray(der_of(certificates.pem(leaf)))
    assert der[-len(leaf.signature) - 1] == 0
    der[-len(leaf.signature) - 1] = 1
    with pytest.raises(Unreadable, match=r"x\.pem: .*signature is not of whole bytes"):
        reading.certificates_of(pem_of(bytes(der), CERTIFICATE), "x.pem")


def test_all_certificates_and_lists_of_a_file_are_read() -> None:
    other = CA("other")
    two = CERTIFICATE + certificates.pem(other.certificate)
    assert len(reading.certificates_of(two, "x.pem")) == 2
    lists = LIST + certificates.pem(other.list())
    assert [verification.common_name(one.issuer) for one in reading.lists_of(lists, "x.pem")] == [
        "test CA",
        "other",
    ]


def test_a_key_with_a_passphrase_is_told() -> None:
    locked = LEAF.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(Unreadable, match="has a passphrase"):
        reading.key_of(locked, "x.pem")


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]
)
def test_a_key_of_another_kind_is_told(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    body = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(Unreadable, match=r"P-256 \(ECDSA\) is wanted"):
        reading.key_of(body, "x.pem")


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"gone\.pem: No such file or directory$"):
        reading.read_certificate(tmp_path / "gone.pem")
    with pytest.raises(Unreadable, match=r": Is a directory$"):
        reading.read_key(tmp_path)
    with pytest.raises(Unreadable, match="embedded null byte"):
        reading.read_key(tmp_path / "a\0b")


def test_a_file_without_an_end_is_not_read_into_memory(tmp_path: Path) -> None:
    long = tmp_path / "long.pem"
    with long.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Unreadable, match="longer than"):
        reading.read_certificate(long)


def test_readers_at_the_same_time_leave_warnings_as_they_were() -> None:
    before = list(warnings.filters)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as readers:
            list(readers.map(lambda _: reading.certificates_of(CERTIFICATE, "x.pem"), range(2000)))
    finally:
        sys.setswitchinterval(interval)
    assert warnings.filters == before
