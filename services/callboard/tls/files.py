"""Where the verbs find and put things: Consul's file names, and one line for what goes wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from callboard.chassis import flags, verbs
from callboard.chassis.flags import Flag, FlagSet, Parsed
from callboard.chassis.verbs import Failed, UsageError
from callboard.pki.authority import Authority, OutsideConstraints, Refused
from callboard.pki.constraints import network_of
from callboard.pki.reading import Unreadable
from callboard.pki.verification import NotAccepted

DAYS_MAX = 36_500
PUBLIC = 0o644

CA_FLAGS: tuple[Flag, ...] = (
    flags.text("ca", "Certificate of the CA; #DOMAIN#-agent-ca.pem."),
    flags.text("key", "Key of the CA; #DOMAIN#-agent-ca-key.pem."),
    flags.text("domain", "Domain of the cluster.", "consul"),
)
"""Flags of every verb that needs the CA."""


def call(flag_set: FlagSet, argv: Sequence[str], verb: Callable[[Parsed], int]) -> int:
    """Run a verb; what `callboard.pki` and the disk refuse is one line, and 1."""

    def in_words(parsed: Parsed) -> int:
        try:
            return verb(parsed)
        except (Unreadable, Refused, NotAccepted) as problem:
            raise Failed(str(problem)) from problem
        except OSError as problem:
            where = f"{problem.filename}: " if problem.filename else ""
            raise Failed(f"{where}{problem.strerror or problem}") from problem

    return verbs.call(flag_set, argv, in_words)


def now() -> datetime:
    """The time that certificates are made at, in whole seconds as they are written."""
    return datetime.now(UTC).replace(microsecond=0)


def domain(parsed: Parsed) -> str:
    """The cluster's domain without dots around it."""
    return parsed.text("domain").strip(".").lower()


def ca_name(domain: str) -> str:
    """Of a CA's files, without what follows: "consul-agent-ca"."""
    return f"{domain}-agent-ca"


def ca_place(parsed: Parsed) -> Path:
    """The file of the CA's certificate."""
    return Path(parsed.text("ca") or f"{ca_name(domain(parsed))}.pem")


def ca_key_place(parsed: Parsed) -> Path:
    """The file of the CA's key."""
    if parsed.text("key") or not parsed.text("ca"):
        return Path(parsed.text("key") or f"{ca_name(domain(parsed))}-key.pem")
    return key_beside(ca_place(parsed))


def key_beside(certificate: Path) -> Path:
    """Where the key of a certificate lies: "x.pem" -> "x-key.pem"."""
    return certificate.with_name(f"{certificate.stem}-key.pem")


def crl_beside(certificate: Path) -> Path:
    """Where the revocation list of a CA lies: "x.pem" -> "x-crl.pem"."""
    return certificate.with_name(f"{certificate.stem}-crl.pem")


def authority(parsed: Parsed) -> Authority:
    """The CA that the flags name. Raises Failed, in Consul's words where the files are missing."""
    for what, path in (("CA", ca_place(parsed)), ("CA key", ca_key_place(parsed))):
        if not path.exists():
            raise Failed(f"Error reading {what}: open {path}: no such file or directory")
    key = ca_key_place(parsed)
    if os.name == "posix" and key.stat().st_mode & 0o077:
        print(f"==> WARNING: {key} is not its owner's alone: chmod 600 {key}", file=sys.stderr)
    return Authority.open(ca_place(parsed), key)


def days(parsed: Parsed, flag: str = "days") -> timedelta:
    """A life in days. Raises UsageError."""
    found = parsed.number(flag)
    if not 0 < found <= DAYS_MAX:
        raise UsageError(f"-{flag} is from 1 to {DAYS_MAX}, not {found}")
    return timedelta(days=found)


def saved(path: Path) -> None:
    """Say that a file was written."""
    print(f"==> Saved {path}")


@contextmanager
def permitted(public_host: str) -> Iterator[None]:
    """Turn names outside the CA's constraints into the command for a CA that permits them."""
    try:
        yield
    except OutsideConstraints as problem:
        wanted = [
            f"-public-host={name}" if name == public_host else f"-additional-name-constraint={name}"
            for name in problem.outside
            if network_of(name) is not None or ":" not in name
        ]
        command = " ".join(["callboard tls ca create -directory=new-ca", *wanted])
        raise Failed(
            f"{', '.join(problem.outside)}: outside the CA's name constraints, which cannot be "
            f"changed; a new CA is made by: {command}"
        ) from problem
