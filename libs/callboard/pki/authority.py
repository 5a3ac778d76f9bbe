"""A CA in a directory: its key, what it has signed, what it has revoked, the number of its list.

    ca.pem           the certificate (0644)
    ca-key.pem       its key (0600), made once
    ca.record/       one file each, made once and never changed:
        SERIAL.pem       a certificate that was signed
        SERIAL.revoked   when it was revoked
        crl-NUMBER       a revocation list's number was taken

Each fact is a file of its own, created whole or not at all: two processes may sign and revoke at
once, and none of it gets lost. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from callboard.files import create
from callboard.pki import certificates, constraints, reading, verification
from callboard.pki.certificates import CLIENT_AUTH, SERVER_AUTH, Constraints, Key, Revoked
from callboard.pki.reading import Unreadable
from callboard.pki.roles import Names
from callboard.pki.verification import NotAccepted

PUBLIC = 0o644
NAME = "ca"
"""Of the files, without what follows: "ca.pem"."""


class Refused(ValueError):
    """The CA does not do what was asked; one line that says why."""


class OutsideConstraints(Refused):
    """Names that the CA must not sign for."""

    def __init__(self, outside: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.outside = outside


@dataclass(frozen=True, slots=True)
class Issued:
    """One line of the record."""

    certificate: x509.Certificate
    revoked: datetime | None

    @property
    def serial(self) -> int:
        """The certificate's serial number."""
        return self.certificate.serial_number


class Authority:
    """A CA whose files are at hand; made by `create`, `load` or `open`."""

    def __init__(self, place: Path, certificate: x509.Certificate, key: Key) -> None:
        """`place` is the certificate's file; the record lies beside it."""
        self.place = place
        self.certificate = certificate
        self._key = key
        self._record = place.with_suffix(".record")

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        common_name: str,
        constraints: Constraints | None,
        now: datetime,
        life: timedelta = certificates.CA_LIFE,
        name: str = NAME,
    ) -> Authority:
        """Make a CA. Raises FileExistsError when there is one, OSError, Unreadable.

        A key without a certificate is what a crash between the two leaves: it is used.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        place, key_place = _places(directory, name)
        if place.exists():
            raise FileExistsError(17, "File exists", str(place))
        try:
            with create(key_place) as file:
                file.write(certificates.key_pem(certificates.new_key(), traditional=True))
        except FileExistsError:
            pass
        key = reading.read_key(key_place)
        made = certificates.authority(key, common_name, now, life=life, constraints=constraints)
        with create(place, permissions=PUBLIC) as file:
            file.write(certificates.pem(made))
        return cls(place, made, key)

    @classmethod
    def load(cls, directory: Path, name: str = NAME) -> Authority:
        """The CA of a directory; its dates are not looked at. Raises Unreadable, Refused."""
        return cls.open(*_places(directory, name))

    @classmethod
    def open(cls, certificate: Path, key: Path) -> Authority:
        """The CA of two files. Raises Unreadable, Refused."""
        found = reading.read_certificate(certificate)
        if not verification.is_authority(found):
            raise Refused(f"{certificate}: not the certificate of a CA")
        private = reading.read_key(key)
        if found.public_key() != private.public_key():
            raise Refused(f"{key}: not the key of {certificate}")
        return cls(certificate, found, private)

    @property
    def constraints(self) -> Constraints | None:
        """What it may sign for; None: everything. Raises Refused for kinds that are not known."""
        try:
            return constraints.constraints_of(self.certificate)
        except ValueError as problem:
            raise Refused(f"{self.place}: {problem}") from problem

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        names: Names,
        *,
        now: datetime,
        life: timedelta = certificates.LEAF_LIFE,
        purposes: Iterable[x509.ObjectIdentifier] = (SERVER_AUTH, CLIENT_AUTH),
        common_name: str = "",
    ) -> x509.Certificate:
        """A leaf for `names`, verified and recorded.

        Raises Refused (OutsideConstraints among them) before anything is signed, OSError when the
        record cannot be written: then the certificate is not handed out.
        """
        purposes = tuple(purposes)
        if not isinstance(public_key.curve, ec.SECP256R1):
            raise Refused("a key on P-256 (ECDSA) is wanted")
        self._check_dates(now)
        self._check_names(names)
        self._check_key(public_key)
        made = certificates.leaf(
            public_key,
            names,
            self.certificate,
            self._key,
            now,
            common_name=common_name or (*names.dns, *map(str, names.addresses), *names.uris)[0],
            life=life,
            purposes=purposes,
        )
        try:
            verification.verify([made], [self.certificate], now, purposes=purposes)
        except NotAccepted as problem:
            raise Refused(f"what {self.place} signs is not good: {problem}") from problem
        self._record.mkdir(mode=0o700, exist_ok=True)
        with create(self._record / f"{made.serial_number:x}.pem") as file:
            file.write(certificates.pem(made))
        return made

    def revoke(self, serial: int, now: datetime) -> datetime:
        """Put a certificate on the lists from now on; when that was. Twice is no error.

        With it go all others of the same key: renewal keeps the key, so whoever has it could show
        an older certificate that is still in date. Raises Unreadable, OSError.
        """
        found = self._of_serial(serial)
        same_key = [] if found is None else [one.serial for one in self.issued(found.public_key())]
        self._record.mkdir(mode=0o700, exist_ok=True)
        for each in (*same_key, serial):
            try:
                with create(self._record / f"{each:x}.revoked") as file:
                    file.write(_line(now))
            except FileExistsError:
                pass
        return _date(self._record / f"{serial:x}.revoked")

    def refuse_keys_of(self, other: Authority) -> None:
        """Have keys that another CA has revoked refused here too, as when this one follows it.

        Raises Unreadable, OSError.
        """
        for serial, since in other.revoked().items():
            found = other._of_serial(serial)
            if found is None:
                continue
            self._record.mkdir(mode=0o700, exist_ok=True)
            for name, body in (
                (f"{serial:x}.pem", certificates.pem(found)),
                (f"{serial:x}.revoked", _line(since)),
            ):
                if (self._record / name).exists():
                    continue
                with create(self._record / name) as file:
                    file.write(body)

    def revocation_list(
        self, now: datetime, life: timedelta = certificates.CRL_LIFE
    ) -> x509.CertificateRevocationList:
        """The next list, with a number of its own. Raises Refused for a CA out of date, OSError.

        A certificate stays on it until a whole life of a list after its own end (RFC 5280, 3.3).
        """
        self._check_dates(now)
        # first the number, then what is on it: a higher one never has less
        number = self._take_number(now)
        revoked = [
            Revoked(serial, since)
            for serial, since in sorted(self.revoked().items())
            if not self._long_expired(serial, now - life)
        ]
        return certificates.revocation_list(
            self.certificate, self._key, revoked, now, number=number, life=life
        )

    def issued(self, public_key: object = None) -> list[Issued]:
        """What it has signed, of one key or all, oldest first. Raises Unreadable."""
        revoked = self.revoked()
        found = [
            reading.read_certificate(path)
            for path in self._record.glob("*.pem")
            if _serial(path) is not None
        ]
        found.sort(key=lambda one: (one.not_valid_before_utc, one.serial_number))
        return [
            Issued(one, revoked.get(one.serial_number))
            for one in found
            if public_key is None or one.public_key() == public_key
        ]

    def revoked(self) -> dict[int, datetime]:
        """Serial numbers that are revoked, and since when. Raises Unreadable."""
        return {
            serial: _date(path)
            for path in self._record.glob("*.revoked")
            if (serial := _serial(path)) is not None
        }

    def _check_dates(self, now: datetime) -> None:
        try:
            verification.check_dates(self.certificate, now, f"the CA {self.place}")
        except NotAccepted as problem:
            raise Refused(str(problem)) from problem

    def _check_names(self, names: Names) -> None:
        if names == Names():
            raise Refused("a certificate without names is of no use to anybody")
        outside = constraints.outside(names, self.constraints)
        if outside:
            raise OutsideConstraints(
                outside,
                f"{', '.join(outside)}: outside the name constraints of {self.place}, "
                "which cannot be changed: make a new CA that permits it",
            )

    def _check_key(self, public_key: ec.EllipticCurvePublicKey) -> None:
        for serial in self.revoked():
            found = self._of_serial(serial)
            if found is not None and found.public_key() == public_key:
                raise Refused("a certificate of this key was revoked: make a new key")

    def _of_serial(self, serial: int) -> x509.Certificate | None:
        path = self._record / f"{serial:x}.pem"
        return reading.read_certificate(path) if path.exists() else None

    def _take_number(self, now: datetime) -> int:
        self._record.mkdir(mode=0o700, exist_ok=True)
        while True:
            taken = self._numbers()
            number = max(taken, default=0) + 1
            try:
                with create(self._record / f"crl-{number}") as file:
                    file.write(_line(now))
            except FileExistsError:
                continue
            if max(self._numbers(), default=0) != number:
                continue  # it was taken before, and removed by who took the next one
            for path in taken.values():
                path.unlink(missing_ok=True)
            return number

    def _numbers(self) -> dict[int, Path]:
        """Those that were taken, at least the highest of them."""
        return {_number(path): path for path in self._record.glob("crl-*")}

    def _long_expired(self, serial: int, moment: datetime) -> bool:
        found = self._of_serial(serial)
        return found is not None and found.not_valid_after_utc < moment


def _places(directory: Path, name: str) -> tuple[Path, Path]:
    return directory / f"{name}.pem", directory / f"{name}-key.pem"


def _serial(path: Path) -> int | None:
    try:
        return int(path.stem, 16)
    except ValueError:
        return None


def _number(path: Path) -> int:
    text = path.name.removeprefix("crl-")
    return int(text) if text.isdecimal() else 0


def _line(when: datetime) -> bytes:
    return when.astimezone(UTC).isoformat(timespec="seconds").encode() + b"\n"


def _date(path: Path) -> datetime:
    body = reading.read_bytes(path)
    try:
        found = datetime.fromisoformat(body.decode().strip())
    except ValueError as problem:
        raise Unreadable(f"{path}: no date in it") from problem
    return found if found.tzinfo else found.replace(tzinfo=UTC)
