"""The issuer's side of the exchange with one program: when to sign, and what.

`due` decides, from what lies there and what ought to; it reads no file and no clock. Names and role
come from the issuer's own table, never from the request: of that only the key is taken, and the
addresses that lie in the networks allowed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from callboard.pki import reading
from callboard.pki.certificates import Network, to_be_renewed
from callboard.pki.roles import Address, Names
from callboard.pki.verification import issued_by, names_of

REQUEST = "request.pem"

FILE_BYTES_MAX = 64 * 1024
"""Of a request: one with a hundred addresses has 3 kB."""

ADDRESSES_MAX = 64
"""In a request: each is in every handshake of that program."""


class BadRequest(ValueError):
    """A request that cannot be signed; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a program asks for."""

    key: ec.EllipticCurvePublicKey
    addresses: tuple[Address, ...]
    """That it would like to have in its certificate."""


def read_request(body: bytes) -> Request:
    """A PKCS #10 request, its signature checked. Raises BadRequest."""
    try:
        request = reading.request_of(body, REQUEST)
        signed = request.is_signature_valid
    except Exception as problem:  # signatures of kinds that are not known: the library's errors
        raise BadRequest(str(problem)) from problem
    key, addresses = request.public_key(), names_of(request).addresses
    if not signed:
        raise BadRequest("the request is not signed with its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise BadRequest("the key is not on P-256")
    if len(addresses) > ADDRESSES_MAX:
        raise BadRequest(f"it asks for {len(addresses)} addresses: more than {ADDRESSES_MAX}")
    return Request(key, addresses)


def allowed(addresses: Iterable[Address], networks: Iterable[Network]) -> tuple[Address, ...]:
    """Those addresses that lie in one of the networks."""
    nets = tuple(networks)
    return tuple(a for a in addresses if any(a in net for net in nets if net.version == a.version))


def due(
    held: x509.Certificate | None,
    key: ec.EllipticCurvePublicKey,
    names: Names,
    issuer: x509.Certificate,
    *,
    now: datetime,
    revoked: Container[int],
) -> str | None:
    """Why a new certificate is to be made, in words for the log; None when the held one is good.

    A revoked certificate is not renewed for the key that it was made for: whoever has that key
    might be whom it was revoked for. Raises BadRequest then.
    """
    if held is None:
        return "there was none"
    if held.public_key() != key:
        return "another key"
    if held.serial_number in revoked:
        raise BadRequest(
            "its certificate is revoked: remove key.pem from the program's identity directory, "
            "and it will ask with a new key"
        )
    if not issued_by(held, issuer):
        return "another CA"
    if names_of(held) != names:
        return "other names"
    if now < held.not_valid_before_utc:
        return "it is not valid yet: the clock was set back"
    if to_be_renewed(held, now):
        return "two thirds of its life have passed"
    return None


def lying(
    path: Path, authorities: Iterable[x509.Certificate]
) -> tuple[x509.Certificate, x509.Certificate] | None:
    """The certificate that lies in an exchange since an earlier run, and the CA that signed it.

    None when it is of none of these CAs: the program can write there too.
    """
    try:
        (held, *_) = reading.certificates_of(read_bounded(path) or b"", path.name)
    except ValueError:
        return None
    return next(((held, each) for each in authorities if issued_by(held, each)), None)


def holds(path: Path, body: bytes) -> bool:
    """Whether this is what lies there; what is no plain file holds nothing."""
    try:
        return read_bounded(path, len(body)) == body
    except BadRequest:
        return False


def read_bounded(path: Path, limit: int = FILE_BYTES_MAX) -> bytes | None:
    """A file that a program may have written, at most `limit` bytes; None when it is not there.

    Raises BadRequest for one that is too long or no plain file (a link would have us read, and
    show, what is ours).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        # (by an opener: what is no file to Python, a folder say, is closed again)
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadRequest(f"{path.name} is no plain file")
            body = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise BadRequest(f"{path.name}: {problem.strerror}") from problem
    if len(body) > limit:
        raise BadRequest(f"{path.name} is longer than {limit} bytes")
    return body
