"""AES-GCM under several keys (memberlist's security.go)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from callboard.swim.keyring import OVERHEAD_BYTES, Keyring
from callboard.swim.packing import DecodeError

OLD, NEW = bytes(range(16)), bytes(range(32))
NONCE = b"n" * 12


def ring(*keys: bytes) -> Keyring:
    return Keyring(keys, lambda: NONCE)


def test_message_is_version_nonce_ciphertext_and_tag() -> None:
    sealed = ring(OLD).encrypt(b"hello")
    assert sealed == b"\x01" + NONCE + AESGCM(OLD).encrypt(NONCE, b"hello", None)
    assert len(sealed) == len(b"hello") + OVERHEAD_BYTES


@pytest.mark.parametrize("size", [16, 24, 32])
def test_every_key_size_opens_what_it_sealed(size: int) -> None:
    keys = ring(bytes(size))
    assert keys.decrypt(keys.encrypt(b"x", b"aad"), b"aad") == b"x"


def test_key_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="key size must be 16, 24 or 32 bytes"):
        ring(b"short")


def test_keyring_without_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        ring()


def test_version_0_is_unpadded() -> None:
    padded = b"hello" + bytes([11]) * 11
    sealed = b"\x00" + NONCE + AESGCM(OLD).encrypt(NONCE, padded, None)
    assert ring(OLD).decrypt(sealed) == b"hello"


def test_version_0_with_impossible_padding_is_refused() -> None:
    sealed = b"\x00" + NONCE + AESGCM(OLD).encrypt(NONCE, b"hello\x00", None)
    with pytest.raises(DecodeError, match="padding"):
        ring(OLD).decrypt(sealed)


def test_message_under_any_installed_key_opens() -> None:
    assert ring(NEW, OLD).decrypt(ring(OLD).encrypt(b"x")) == b"x"


def test_message_under_an_unknown_key_is_refused() -> None:
    with pytest.raises(DecodeError, match="no installed key"):
        ring(NEW).decrypt(ring(OLD).encrypt(b"x"))


def test_other_associated_data_is_refused() -> None:
    with pytest.raises(DecodeError):
        ring(OLD).decrypt(ring(OLD).encrypt(b"x", b"header"), b"another")


def test_unknown_version_is_refused() -> None:
    with pytest.raises(DecodeError, match="version 2"):
        ring(OLD).decrypt(b"\x02" + bytes(40))


def test_key_is_rotated_by_install_use_remove() -> None:
    keys = ring(OLD)
    keys.install(NEW)
    assert list(keys.keys) == [OLD, NEW]
    keys.use(NEW)
    assert list(keys.keys) == [NEW, OLD]
    keys.remove(OLD)
    assert list(keys.keys) == [NEW]


def test_primary_key_is_never_removed() -> None:
    with pytest.raises(ValueError, match="primary"):
        ring(OLD, NEW).remove(OLD)


def test_key_that_is_not_installed_cannot_be_used() -> None:
    with pytest.raises(ValueError, match="not in the keyring"):
        ring(OLD).use(NEW)


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        ring(OLD).decrypt(data)
