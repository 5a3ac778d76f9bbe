"""`callboard tls ca create`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import Failed, UsageError
from callboard.pki.authority import Authority
from callboard.pki.certificates import Constraints, fingerprint
from callboard.pki.constraints import constraints_for
from callboard.tls import files

FLAGS = FlagSet(
    """Usage: callboard tls ca create [options]

  Create a new CA:

  $ callboard tls ca create
  ==> Saved consul-agent-ca.pem
  ==> Saved consul-agent-ca-key.pem

  It signs for -domain, localhost, private networks, and what is added here, and for nothing else:
  programs that trust it believe it nothing about other names. That cannot be changed later.""",
    [
        flags.repeated(
            "additional-name-constraint", "DNS name, address or network to sign for as well."
        ),
        flags.number("days", "Days that the CA is valid for.", 1825),
        flags.text("directory", "Directory for the files.", "."),
        flags.text("domain", "Domain of the cluster.", "consul"),
        flags.switch("name-constraint", "Sign for certain names only.", True),
        flags.text("public-host", "Name or address that the outside reaches this stack by."),
    ],
)


def create(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Make a CA: its key, once, and its certificate."""
    return files.call(FLAGS, argv, _create)


def _create(parsed: Parsed) -> int:
    if parsed.args:
        raise UsageError(f"unexpected argument {parsed.args[0]!r}")
    directory = Path(parsed.text("directory"))
    life = files.days(parsed)
    constraints = _constraints(parsed)
    name = files.ca_name(files.domain(parsed))
    place, key_place = directory / f"{name}.pem", directory / f"{name}-key.pem"
    for path in (place, key_place):
        if path.exists() or path.is_symlink():
            raise Failed(f"{path} already exists.")
    try:
        made = Authority.create(
            directory,
            common_name=f"Callboard CA {secrets.token_hex(4)}",
            constraints=constraints,
            now=files.now(),
            life=life,
            name=name,
        )
    except FileExistsError as problem:
        raise Failed(f"{problem.filename or place} already exists.") from problem
    files.saved(place)
    files.saved(key_place)
    print(f"==> SHA-256 fingerprint {fingerprint(made.certificate)}")
    return 0


def _constraints(parsed: Parsed) -> Constraints | None:
    additional = list(parsed.values("additional-name-constraint"))
    if parsed.text("public-host"):
        additional.append(parsed.text("public-host"))
    if not parsed.switch("name-constraint"):
        if additional:
            raise UsageError("-name-constraint=false permits every name: there is none to add")
        return None
    try:
        return constraints_for(files.domain(parsed), additional=additional)
    except ValueError as problem:
        raise UsageError(str(problem)) from problem
