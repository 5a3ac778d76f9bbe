"""`make certs`: a CA and a certificate for localhost in certs/out, for programs run by hand.

Run again it keeps what is good, renews a certificate that has used two thirds of its life, and adds
PUBLIC_HOST where the CA may sign it. Keys are never written over.
"""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from make.programs import ROOT

from callboard.pki import constraints, reading, verification
from callboard.pki.certificates import fingerprint, to_be_renewed
from callboard.tls import command

CA = "consul-agent-ca.pem"
CERTIFICATE = "server.crt.pem"
KEY = "server.private_key.pem"


def main(directory: Path = ROOT / "certs" / "out", public_host: str = "") -> int:
    """Make what is missing in `directory`; 1 when it could not, with a line that says why."""
    directory.mkdir(parents=True, exist_ok=True)
    host = [f"-public-host={public_host}"] if public_host else []
    with contextlib.chdir(directory):
        if not Path(CA).exists() and command.run(["ca", "create", *host], {}):
            return 1
        try:
            problem = _problem(public_host)
            argv = _certificate(public_host)
        except (reading.Unreadable, ValueError) as unreadable:
            problem = str(unreadable)
        if problem:
            again = f"make certs PUBLIC_HOST={public_host}" if public_host else "make certs"
            print(f"{problem}: rm -r {directory} && {again}", file=sys.stderr)
            return 1
        if argv and command.run([*argv[:-1], *host, argv[-1]], {}):
            return 1
        found = reading.read_certificate(Path(CA))
    _tell(directory, fingerprint(found))
    return 0


def _problem(public_host: str) -> str:
    """Why the CA that is there cannot be used any more, in words; "" when it can."""
    found = reading.read_certificate(Path(CA))
    if found.not_valid_after_utc < datetime.now(UTC):
        return f"{CA} expired on {verification.moment(found.not_valid_after_utc)}"
    if constraints.outside(
        constraints.names_of_host(public_host), constraints.constraints_of(found)
    ):
        return f"{CA} was made without PUBLIC_HOST={public_host}, and cannot be changed"
    return ""


def _certificate(public_host: str) -> list[str]:
    """The `callboard tls` command that the certificate needs; [] when it is good."""
    if not Path(CERTIFICATE).exists():
        files = [f"-cert-out={CERTIFICATE}", f"-key-out={KEY}"]
        return ["cert", "create", "-service=fileserver", *files]
    found = reading.read_certificate(Path(CERTIFICATE))
    verification.check_pair(found, reading.read_key(Path(KEY)))
    if not verification.issued_by(found, reading.read_certificate(Path(CA))):
        raise verification.NotAccepted(f"{CERTIFICATE} is not from {CA}")
    held, wanted = verification.names_of(found), constraints.names_of_host(public_host)
    has_all = set(wanted.dns) <= set(held.dns) and set(wanted.addresses) <= set(held.addresses)
    if has_all and not to_be_renewed(found, datetime.now(UTC)):
        return []
    return ["renew", CERTIFICATE]


def _tell(directory: Path, seen: str) -> None:
    place = os.path.relpath(directory)
    print(f"==> {place} has a CA and, for localhost, {CERTIFICATE} and {KEY}")
    print(f"    SHA-256 fingerprint of the CA: {seen}")
    print("    Have this machine trust it (what that means: certs/README.md):")
    print(f"      ./callboard tls trust -ca {place}/{CA}")


if __name__ == "__main__":
    sys.exit(main(public_host=os.environ.get("PUBLIC_HOST", "")))
