"""Certificates, their keys, the CA and revocation list of clients: read together, changed together.

Every change makes fresh contexts, for new connections only: a context in use cannot be changed
safely (see `pki.live`). Files that do not fit together are refused and the old ones stay. Several
certificates are told apart by SNI; each context trusts the same clients, since a change of context
during the handshake does not change whom the first one asked for.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from callboard.pki.contexts import Material, server_context
from callboard.pki.reasons import explain_files

log = logging.getLogger(__name__)

Signature = tuple[tuple[int, int, int, int], ...]


class CredentialsError(Exception):
    """Certificates that cannot be served with; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What new connections get."""

    context: ssl.SSLContext
    names: tuple[str, ...]
    """DNS names in all certificates."""
    ends: datetime
    """When the first of the certificates ends."""


class Credentials:
    """The files, and the newest contexts made from them."""

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        authorities: Path | None = None,
        revoked: Path | None = None,
    ) -> None:
        """(certificate, key) pairs, the first for whoever names no host; `authorities`: clients
        must have a certificate of these CAs. Raises CredentialsError."""
        self._materials = [
            Material(certificate, key, authorities, revoked) for certificate, key in pairs
        ]
        self._files = tuple(
            dict.fromkeys(path for material in self._materials for path in material.files())
        )
        self.loaded = self._load()
        self._signature = self._look()
        self._refused: Signature | None = None
        self.generation = 0
        """How often files were taken anew."""
        self.refusals = 0
        """How often changed files were not taken."""

    @property
    def material(self) -> Material:
        """The first certificate's files; CAs and lists are the same for all."""
        return self._materials[0]

    def key_inodes(self) -> frozenset[tuple[int, int]]:
        """(device, inode) of the private keys' files, as they are now."""
        found = set()
        for material in self._materials:
            with contextlib.suppress(OSError):
                stat = material.key.stat()
                found.add((stat.st_dev, stat.st_ino))
        return frozenset(found)

    def look(self) -> bool:
        """Take changed files in; whether that was so. Never raises: the log tells."""
        seen = self._look()
        if seen in (self._signature, self._refused):
            return False
        try:
            self.loaded = self._load()
        except CredentialsError as problem:
            self._refused = seen
            self.refusals += 1
            log.warning("certificate files not taken, the old ones stay: %s", problem)
            return False
        self._signature, self._refused = seen, None
        self.generation += 1
        log.info("certificate files taken anew", extra={"ends": self.loaded.ends.isoformat()})
        return True

    def days_left(self) -> float:
        """Until the first of the certificates ends."""
        return (self.loaded.ends - datetime.now(UTC)).total_seconds() / 86400

    def _look(self) -> Signature:
        """What stat says of each file; zeros for one that is not there."""
        found = []
        for path in self._files:
            try:
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size))
            except OSError:
                found.append((0, 0, 0, 0))
        return tuple(found)

    def _load(self) -> Loaded:
        contexts: list[tuple[ssl.SSLContext, tuple[str, ...]]] = []
        ends: list[datetime] = []
        for material in self._materials:
            certificate = _certificate(material)
            contexts.append((_context(material), _dns_names(certificate)))
            ends.append(certificate.not_valid_after_utc)
        first = contexts[0][0]
        if len(contexts) > 1:
            by_name = {}
            for context, names in reversed(contexts):
                by_name.update(dict.fromkeys(names, context))
            first.sni_callback = _chooser(by_name)
        names = tuple(dict.fromkeys(name for _, own in contexts for name in own))
        return Loaded(first, names, min(ends))


def _chooser(
    by_name: dict[str, ssl.SSLContext],
) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    """The callback that changes to the context of the name a client asks for."""

    def choose(sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is None:
            return
        name = name.lower().rstrip(".")
        wildcard = "*." + name.partition(".")[2]
        context = by_name.get(name) or by_name.get(wildcard)
        if context is not None:
            sock.context = context

    return choose


def _how(material: Material) -> str:
    """What makes the files that are missing."""
    return (
        "make one with `callboard tls cert create -service fileserver -cert-out "
        f"{material.certificate} -key-out {material.key}`, or in a clone with `make certs`"
    )


def _certificate(material: Material) -> x509.Certificate:
    path = material.certificate
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise CredentialsError(f"no certificate {path}: {_how(material)}") from None
    except OSError as problem:
        raise CredentialsError(f"the certificate {problem.filename}: {problem.strerror}") from None
    except ValueError:
        raise CredentialsError(f"{path} is no certificate in PEM") from None


def _context(material: Material) -> ssl.SSLContext:
    """A listener's context. Raises CredentialsError, naming the file that is at fault."""
    _check_key(material)
    client = ssl.CERT_NONE if material.authorities is None else ssl.CERT_REQUIRED
    try:
        return server_context(material, client=client, alpn=("http/1.1",))
    except (OSError, ValueError) as problem:
        raise CredentialsError(explain_files(problem, material)) from None


def _check_key(material: Material) -> None:
    """OpenSSL says little of what is no key."""
    path = material.key
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        raise CredentialsError(f"no private key {path}: {_how(material)}") from None
    except OSError as problem:
        raise CredentialsError(f"the private key {path}: {problem.strerror}") from None
    if b"PRIVATE KEY-----" not in body:
        raise CredentialsError(f"{path} is no private key in PEM")


def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in found.value.get_values_for_type(x509.DNSName))
