"""`callboard tls renew`: the key stays, the certificate is replaced in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import Failed, UsageError
from callboard.files import replace
from callboard.pki import certificates, reading, verification
from callboard.pki.authority import Authority
from callboard.pki.roles import Names
from callboard.tls import cert, files

FLAGS = FlagSet(
    """Usage: callboard tls renew [options] CERTIFICATE...

  Replace certificates by newer ones for the same keys and names, atomically: a program that reads
  them meanwhile has the old one or the new one, and either fits the key.

  $ callboard tls renew dc1-server-consul-0.pem
  ==> Using consul-agent-ca.pem and consul-agent-ca-key.pem
  ==> Renewed dc1-server-consul-0.pem""",
    [
        *files.CA_FLAGS,
        flags.repeated("additional-dnsname", "A DNS name to add."),
        flags.repeated("additional-ipaddress", "An address to add."),
        flags.number("days", "Days that it is valid for; as many as the old one."),
        flags.text("public-host", "Name or address that the outside reaches the program by."),
    ],
)


def renew(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Renew certificates."""
    return files.call(FLAGS, argv, _renew)


def _renew(parsed: Parsed) -> int:
    if not parsed.args:
        raise UsageError("Please name the certificate to renew")
    life = files.days(parsed) if parsed.given("days") else None
    dns, addresses = cert.additional_names(parsed)
    authority = files.authority(parsed)
    print(f"==> Using {files.ca_place(parsed)} and {files.ca_key_place(parsed)}")
    for path in map(Path, parsed.args):
        with files.permitted(parsed.text("public-host")):
            _renew_one(path, authority, life, Names(tuple(dns), tuple(addresses)))
        print(f"==> Renewed {path}")
    return 0


def _renew_one(path: Path, authority: Authority, life: timedelta | None, added: Names) -> None:
    chain = reading.read_certificates(path)
    held = chain[0]
    public_key = held.public_key()
    if not verification.issued_by(held, authority.certificate):
        raise Failed(f"{path}: not from the CA {authority.place}")
    if held.serial_number in authority.revoked():
        raise Failed(f"{path}: revoked; a new key is wanted: callboard tls cert create")
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise Failed(f"{path}: its key is not on P-256")
    names = verification.names_of(held)
    made = authority.sign(
        public_key,
        Names(
            tuple(dict.fromkeys([*names.dns, *added.dns])),
            tuple(dict.fromkeys([*names.addresses, *added.addresses])),
            names.uris,
        ),
        now=files.now(),
        life=life or _life(held),
        purposes=verification.usages_of(held) or (certificates.SERVER_AUTH,),
        common_name=verification.common_name(held.subject),
    )
    key_place = files.key_beside(path)
    if key_place.exists():
        verification.rehearse([made], reading.read_key(key_place), [authority.certificate])
    with replace(path, permissions=files.PUBLIC) as file:
        file.write(b"".join(map(certificates.pem, [made, *chain[1:]])))


def _life(held: x509.Certificate) -> timedelta:
    return held.not_valid_after_utc - held.not_valid_before_utc - certificates.SKEW
