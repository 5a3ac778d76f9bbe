"""Keys that tokens are signed and verified with."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.auth import keys
from callboard.hub.auth.keys import BadKey, PrivateKey


def private_pem(key: PrivateKey, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


KINDS = [
    (rsa.generate_private_key(65537, 2048), "RS256"),
    (ec.generate_private_key(ec.SECP256R1()), "ES256"),
    (ec.generate_private_key(ec.SECP384R1()), "ES384"),
    (ec.generate_private_key(ec.SECP521R1()), "ES512"),
    (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
]


@pytest.mark.parametrize(("key", "algorithm"), KINDS)
def test_a_private_pem_key_signs_and_verifies(key: PrivateKey, algorithm: str) -> None:
    read = keys.parse(private_pem(key))
    assert read.algorithms[0] == algorithm
    assert read.signing is not None


@pytest.mark.parametrize(("key", "algorithm"), KINDS)
def test_a_public_pem_key_verifies_only(key: PrivateKey, algorithm: str) -> None:
    read = keys.parse(b"\n" + public_pem(key))
    assert read.algorithms[0] == algorithm
    assert read.signing is None


@pytest.mark.parametrize(("key", "_algorithm"), KINDS)
def test_a_pem_key_is_never_a_secret(key: PrivateKey, _algorithm: str) -> None:
    assert not any(name.startswith("HS") for name in keys.parse(public_pem(key)).algorithms)


def test_a_secret_verifies_with_hashes_that_it_is_long_enough_for() -> None:
    assert keys.parse(b"s" * 32).algorithms == ("HS256",)
    assert keys.parse(b"s" * 64).algorithms == ("HS256", "HS384", "HS512")


def test_a_secret_ends_before_the_end_of_its_line() -> None:
    for end in (b"", b"\n", b"\r\n"):
        assert keys.parse(b"s" * 32 + end).signing == b"s" * 32


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "at least 32 bytes, not 0"),
        (b"s" * 31 + b"\n", "at least 32 bytes, not 31"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a PEM key"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate"),
        (b"-----BEGIN PRIVATE KEY-----\n", "not a PEM key"),
        (private_pem(ed25519.Ed25519PrivateKey.generate(), b"password"), "encrypted"),
        (private_pem(ec.generate_private_key(ec.SECP256K1())), "curve"),
        (private_pem(rsa.generate_private_key(65537, 1024)), "2048 bits"),
        (public_pem(x25519.X25519PrivateKey.generate()), "RSA, EC or Ed25519"),  # type: ignore[arg-type]
        (public_pem(dsa.generate_private_key(2048)), "RSA, EC or Ed25519"),  # type: ignore[arg-type]
        (b"s" * (keys.FILE_BYTES_MAX + 1), "smaller"),
    ],
)
def test_what_is_no_key_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(BadKey, match=reason):
        keys.parse(content)


def test_the_file_of_a_bad_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(BadKey, match=r"short: a secret has"):
        keys.read(tmp_path / "short")


def test_keys_that_nobody_named_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    made = keys.load(data)
    again = keys.load(data)
    assert made == again
    assert made.publisher.signing != made.subscriber.signing
    for name in (keys.PUBLISHER, keys.SUBSCRIBER):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600


def test_a_named_key_is_used_beside_a_made_one(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"m" * 40)
    loaded = keys.load(tmp_path, publisher=mine)
    assert loaded.publisher.signing == b"m" * 40
    assert not (tmp_path / keys.PUBLISHER).exists()
    assert (tmp_path / keys.SUBSCRIBER).exists()


def test_a_secret_is_not_in_a_keys_text() -> None:
    assert "sssss" not in repr(keys.parse(b"s" * 32))


@given(st.binary(max_size=200) | st.binary(max_size=99).map(lambda some: b"-----BEGIN " + some))
def test_no_content_breaks_the_reader(content: bytes) -> None:
    try:
        assert keys.parse(content).algorithms
    except BadKey:
        pass
