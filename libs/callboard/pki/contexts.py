"""SSL contexts from files: one strict profile for every listener and every client.

TLS 1.2 with ECDHE and AEAD, or 1.3; certificates checked as strictly on Python 3.11 as 3.13 does
by itself (VERIFY_X509_STRICT). A revocation list, once named, must be there and in date: without
it nobody gets in. Only the standard library.

OpenSSL does not judge a client's certificate again when its session is resumed: it would get in
after the certificate's end, and in TLS 1.3 for ever, since each resumption brings new tickets. So
listeners that ask for certificates give none, and `check_resumed` is for what TLS 1.2 resumes
without.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""


@dataclass(frozen=True, slots=True)
class Material:
    """The files that a program proves itself and judges others by."""

    certificate: Path
    """Leaf first, then intermediates, PEM."""
    key: Path
    authorities: Path | None = None
    """CA certificates that peers must come from; during a change of CA, both."""
    revoked: Path | None = None
    """Revocation lists of those CAs."""

    def files(self) -> tuple[Path, ...]:
        """All that are named."""
        named = (self.certificate, self.key, self.authorities, self.revoked)
        return tuple(path for path in named if path is not None)


def server_context(
    material: Material,
    *,
    client: ssl.VerifyMode = ssl.CERT_NONE,
    alpn: tuple[str, ...] = (),
) -> ssl.SSLContext:
    """A listener's context; `client` says whether it asks for the other side's certificate.

    Raises OSError (ssl.SSLError among them) for files that cannot be read or do not match, and
    ValueError for a key with a passphrase, and when client certificates are asked for without
    `material.authorities`. `callboard.pki.reasons` puts either into words.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, material)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    if client is not ssl.CERT_NONE and material.authorities is None:
        raise ValueError("client certificates are asked for, but no CA is named to judge them by")
    context.verify_mode = client
    if client is not ssl.CERT_NONE:
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def check_resumed(end: ssl.SSLObject | ssl.SSLSocket) -> None:
    """Look at the client's certificate once more when a handshake that is done resumed a session.

    Raises ssl.SSLError when it has ended since.
    """
    if not end.session_reused:
        return
    certificate = end.getpeercert()
    ends = certificate.get("notAfter") if certificate else None
    if isinstance(ends, str) and ssl.cert_time_to_seconds(ends) < time.time():
        problem = ssl.SSLError(ssl.SSL_ERROR_SSL, "certificate of a resumed session has expired")
        problem.library, problem.reason = "SSL", "CERTIFICATE_EXPIRED"
        raise problem


def client_context(material: Material, *, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """The context of a connection to another program: both sides prove themselves.

    The caller names whom it means by `server_hostname`. Raises as `server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if material.authorities is None:
        raise ValueError("no CA is named to judge the other side by")
    _load(context, material)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _no_passphrase(key: Path) -> Callable[[], str]:
    """What OpenSSL asks instead of the terminal, which would stop the whole program."""

    def refuse() -> str:
        raise ValueError(f"{key}: the private key has a passphrase; one without is wanted")

    return refuse


def _load(context: ssl.SSLContext, material: Material) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(material.certificate, material.key, _no_passphrase(material.key))
    if material.authorities is not None:
        context.load_verify_locations(material.authorities)
    if material.revoked is not None:
        context.load_verify_locations(material.revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
