"""CAs, leaves and their files for tests, made in memory by the project's own modules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from callboard.pki import certificates
from callboard.pki.certificates import CLIENT_AUTH, SERVER_AUTH, Constraints, Key, Revoked
from callboard.pki.constraints import constraints_for
from callboard.pki.contexts import Material
from callboard.pki.roles import Names, names_for

PERMITTED = constraints_for(additional=["agent-1", "agent-2", "hub-1"])


def today() -> datetime:
    """Return the time in whole seconds, as certificates hold it."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    def write(self, directory: Path, name: str = "leaf") -> tuple[Path, Path]:
        """Write both as PEM files, over those that lie there; answer certificate, key."""
        directory.mkdir(parents=True, exist_ok=True)
        places = directory / f"{name}.pem", directory / f"{name}-key.pem"
        places[0].write_bytes(certificates.pem(self.certificate))
        places[1].write_bytes(certificates.key_pem(self.key))
        return places


class CA:
    """A CA whose key is at hand."""

    def __init__(
        self,
        name: str = "test CA",
        *,
        constraints: Constraints | None = PERMITTED,
        now: datetime | None = None,
        life: timedelta = certificates.CA_LIFE,
    ) -> None:
        self.key = certificates.new_key()
        self.certificate = certificates.authority(
            self.key, name, now or today(), life=life, constraints=constraints
        )

    def leaf(
        self,
        names: Names | None = None,
        *,
        key: Key | None = None,
        now: datetime | None = None,
        life: timedelta = certificates.LEAF_LIFE,
        purposes: tuple[x509.ObjectIdentifier, ...] = (SERVER_AUTH, CLIENT_AUTH),
    ) -> Leaf:
        """Sign a leaf, whatever is wrong with it; one of the server agent-1 when not told."""
        key = key or certificates.new_key()
        names = names or names_for("server", "agent-1")
        made = certificates.leaf(
            key.public_key(),
            names,
            self.certificate,
            self.key,
            now or today(),
            common_name=(*names.dns, "nameless")[0],
            life=life,
            purposes=purposes,
        )
        return Leaf(made, key)

    def list(
        self,
        *revoked: Leaf,
        number: int = 1,
        now: datetime | None = None,
        life: timedelta = certificates.CRL_LIFE,
    ) -> x509.CertificateRevocationList:
        """Sign a revocation list."""
        now = now or today()
        lines = [Revoked(one.certificate.serial_number, now) for one in revoked]
        return certificates.revocation_list(
            self.certificate, self.key, lines, now, number=number, life=life
        )

    def write(self, directory: Path, name: str = "ca") -> Path:
        """Write the certificate as a PEM file, over one that lies there."""
        directory.mkdir(parents=True, exist_ok=True)
        place = directory / f"{name}.pem"
        place.write_bytes(certificates.pem(self.certificate))
        return place


def material(directory: Path, leaf: Leaf, authority: CA, *revoked: Leaf) -> Material:
    """Write a program's files; the revocation list has `revoked` on it."""
    certificate, key = leaf.write(directory)
    listed = directory / "crl.pem"
    listed.write_bytes(certificates.pem(authority.list(*revoked)))
    return Material(certificate, key, authority.write(directory), listed)
