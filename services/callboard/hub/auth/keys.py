"""Keys that tokens are signed and verified with.

One key, one family of algorithms, told by the key and never by the token (RFC 8725, 3.1 and 3.2):
a secret is HMAC's alone, and a PEM file is never a secret.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from callboard.files import create

PUBLISHER, SUBSCRIBER = "publisher.key", "subscriber.key"
"""Names of the keys that are made, in the data directory."""
SECRET_BYTES_MIN = 32
RSA_BITS_MIN = 2048
FILE_BYTES_MAX = 64 * 1024

_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class BadKey(ValueError):
    """A file that is no key for tokens; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key."""

    algorithms: tuple[str, ...]
    """That a token may be signed with (RFC 7518, 3.1); the first is what we sign with."""
    verifying: PublicKey | bytes = field(repr=False)
    signing: PrivateKey | bytes | None = field(repr=False)
    """None: only tokens of others can be verified."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The hub's two, so that who may sign for readers does not sign for publishers."""

    publisher: Key
    subscriber: Key


def load(data_dir: Path, publisher: Path | None = None, subscriber: Path | None = None) -> Keys:
    """The keys of these files; a secret in the data directory, made if need be, for a file that is
    not named. Raises BadKey, OSError."""
    return Keys(
        read(publisher) if publisher else _made(data_dir / PUBLISHER),
        read(subscriber) if subscriber else _made(data_dir / SUBSCRIBER),
    )


def read(path: Path) -> Key:
    """The key in a file. Raises BadKey, OSError."""
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    try:
        return parse(content)
    except BadKey as problem:
        raise BadKey(f"{path}: {problem}") from problem


def parse(content: bytes) -> Key:
    """The key in a file's content: a PEM key, or a secret (one line end after it is not part of
    it). Raises BadKey."""
    if len(content) > FILE_BYTES_MAX:
        raise BadKey("a key is smaller")
    if b"-----BEGIN " in content:
        return _pem(content.strip())
    return of_secret(content.removesuffix(b"\n").removesuffix(b"\r"))


def of_secret(secret: bytes) -> Key:
    """HMAC with a secret; only with hashes that are no longer than it is (RFC 7518, 3.2)."""
    if len(secret) < SECRET_BYTES_MIN:
        raise BadKey(f"a secret has at least {SECRET_BYTES_MIN} bytes, not {len(secret)}")
    sizes = {"HS256": 32, "HS384": 48, "HS512": 64}
    usable = tuple(name for name, size in sizes.items() if len(secret) >= size)
    return Key(usable, secret, secret)


def _pem(content: bytes) -> Key:
    if b"-----BEGIN CERTIFICATE" in content:
        raise BadKey("this is a certificate; a public key is wanted")
    signing = None
    try:
        if b"PRIVATE KEY-----" in content:
            signing = load_pem_private_key(content, None)
            verifying = signing.public_key()
        else:
            verifying = load_pem_public_key(content)
    except TypeError:
        raise BadKey("the private key is encrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("not a PEM key") from None
    if not isinstance(verifying, PublicKey) or not isinstance(signing, PrivateKey | None):
        raise BadKey("a key for tokens is an RSA, EC or Ed25519 key")
    return Key(_algorithms(verifying), verifying, signing)


def _algorithms(key: PublicKey) -> tuple[str, ...]:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_BITS_MIN:
            raise BadKey(f"an RSA key has at least {RSA_BITS_MIN} bits, not {key.key_size}")
        return "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise BadKey(f"the curve is one of {', '.join(_CURVES)}, not {key.curve.name}")
        return (_CURVES[key.curve.name],)
    return ("EdDSA",)


def _made(path: Path) -> Key:
    """The secret in a file, which is made if it is not there: text, so that other tools can use
    it as it is."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with create(path) as file:
                file.write(secrets.token_urlsafe(SECRET_BYTES_MIN).encode() + b"\n")
        except FileExistsError:
            pass  # another hub, or `callboard hub token`, was faster
    return read(path)
