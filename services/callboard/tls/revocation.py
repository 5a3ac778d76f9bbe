"""`callboard tls revoke` and `callboard tls crl`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from callboard.chassis import flags
from callboard.chassis.flags import Flag, FlagSet, Parsed
from callboard.chassis.verbs import Failed, UsageError
from callboard.files import replace
from callboard.pki import certificates, reading, verification
from callboard.pki.authority import Authority
from callboard.tls import files

SERIAL = re.compile(r"[0-9a-fA-F]{1,40}")
"""RFC 5280, 4.1.2.2: at most 20 octets."""

LIST_FLAGS: tuple[Flag, ...] = (
    *files.CA_FLAGS,
    flags.number("days", "Days that the list is valid for; write it anew before.", 7),
    flags.text("out", "File for the list; #CA#-crl.pem."),
)

REVOKE = FlagSet(
    """Usage: callboard tls revoke [options] CERTIFICATE|SERIAL...

  Take certificates back, and write the CA's revocation list. Programs that read the list refuse
  them from then on, and end connections of theirs that stand.

  $ callboard tls revoke dc1-client-consul-0.pem
  ==> Revoked dc1-client-consul-0.pem
  ==> Saved consul-agent-ca-crl.pem""",
    LIST_FLAGS,
)
CRL = FlagSet(
    """Usage: callboard tls crl [options]

  Write the CA's revocation list anew. A program that was given a list lets nobody in once it has
  expired, so do this more often than every -days.

  $ callboard tls crl
  ==> Saved consul-agent-ca-crl.pem""",
    LIST_FLAGS,
)


def revoke(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Revoke certificates, and write the list."""
    return files.call(REVOKE, argv, _revoke)


def crl(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Write the list."""
    return files.call(CRL, argv, _crl)


def _revoke(parsed: Parsed) -> int:
    if not parsed.args:
        raise UsageError("Please name the certificate to revoke, or its serial number")
    authority = files.authority(parsed)
    serials = [(word, _serial(word, authority)) for word in parsed.args]
    for word, serial in serials:
        authority.revoke(serial, files.now())
        print(f"==> Revoked {word}")
    return _write(parsed, authority)


def _crl(parsed: Parsed) -> int:
    if parsed.args:
        raise UsageError(f"unexpected argument {parsed.args[0]!r}")
    return _write(parsed, files.authority(parsed))


def _write(parsed: Parsed, authority: Authority) -> int:
    life = files.days(parsed)
    beside = files.crl_beside(authority.place)
    place = Path(parsed.text("out") or beside)
    made = authority.revocation_list(files.now(), life)
    verification.check_revocation_list(made, authority.certificate, files.now())
    with replace(place, permissions=files.PUBLIC) as file:
        file.write(certificates.pem(made))
    files.saved(place)
    return 0


def _serial(word: str, authority: Authority) -> int:
    """A certificate's file, or a serial number in hexadecimal as `show` prints it."""
    path = Path(word)
    if not path.exists():
        if not SERIAL.fullmatch(word.replace(":", "")):
            raise Failed(f"{word}: no such file, and no serial number")
        return int(word.replace(":", ""), 16)
    found = reading.read_certificate(path)
    if not verification.issued_by(found, authority.certificate):
        raise Failed(f"{path}: not from the CA {authority.place}")
    return found.serial_number
