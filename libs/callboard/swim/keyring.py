"""The keys of an encrypted cluster: AES-GCM with a primary key, and others still understood.

Memberlist's security.go. Version 0 pads as PKCS7, version 1 does not; we send 1 and understand
both. A key can be rotated: install it everywhere, make it primary everywhere, remove the old.
Nonces come from outside, since nothing here is random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from callboard.swim.packing import DecodeError

NONCE_BYTES = 12
TAG_BYTES = 16
VERSION_BYTES = 1
KEY_BYTES = (16, 24, 32)
BLOCK_BYTES = 16

OVERHEAD_BYTES = VERSION_BYTES + NONCE_BYTES + TAG_BYTES
"""How much longer an encrypted message of version 1 is."""


class Keyring:
    """The keys in use, the primary first. What cannot be is a ValueError, in memberlist's words."""

    def __init__(self, keys: Sequence[bytes], nonce: Callable[[], bytes]) -> None:
        """`nonce` returns NONCE_BYTES fresh random bytes at each call."""
        if not keys:
            raise ValueError("a keyring needs at least one key")
        self._nonce = nonce
        self._ciphers: dict[bytes, AESGCM] = {}
        for key in keys:
            self.install(key)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Every key, the primary first."""
        return tuple(self._ciphers)

    def install(self, key: bytes) -> None:
        """Understand messages under `key` too."""
        if len(key) not in KEY_BYTES:
            raise ValueError("key size must be 16, 24 or 32 bytes")
        self._ciphers.setdefault(key, AESGCM(key))

    def use(self, key: bytes) -> None:
        """Make an installed key the primary. Raises ValueError if it is not installed."""
        if key not in self._ciphers:
            raise ValueError("Requested key is not in the keyring")
        cipher = self._ciphers.pop(key)
        self._ciphers = {key: cipher, **self._ciphers}

    def remove(self, key: bytes) -> None:
        """Forget a key. Raises ValueError for the primary key."""
        if key == self.keys[0]:
            raise ValueError("Removing the primary key is not allowed")
        self._ciphers.pop(key, None)

    def copy(self) -> Keyring:
        """The same keys, to try a change on."""
        return Keyring(self.keys, self._nonce)

    def encrypt(self, message: bytes, associated: bytes = b"") -> bytes:
        """Version byte, nonce, ciphertext and tag, under the primary key."""
        nonce = self._nonce()
        cipher = next(iter(self._ciphers.values()))
        return b"\x01" + nonce + cipher.encrypt(nonce, message, associated or None)

    def decrypt(self, message: bytes, associated: bytes = b"") -> bytes:
        """Open a message under any installed key. Raises DecodeError."""
        if len(message) < OVERHEAD_BYTES:
            raise DecodeError("encrypted message is too short")
        version = message[0]
        if version > 1:
            raise DecodeError(f"unknown encryption version {version}")
        nonce = message[VERSION_BYTES : VERSION_BYTES + NONCE_BYTES]
        sealed = message[VERSION_BYTES + NONCE_BYTES :]
        for cipher in self._ciphers.values():
            try:
                plain = cipher.decrypt(nonce, sealed, associated or None)
            except InvalidTag:
                continue
            return _unpad(plain) if version == 0 else plain
        raise DecodeError("no installed key opens the message")


def _unpad(plain: bytes) -> bytes:
    """Strip PKCS7 padding (it was authenticated, so a bad one is a strange peer, no oracle)."""
    padding = plain[-1] if plain else 0
    if not 1 <= padding <= BLOCK_BYTES or padding > len(plain):
        raise DecodeError("bad padding in encrypted message")
    return plain[:-padding]
