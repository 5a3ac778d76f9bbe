"""The issuer's settings, from its command line and environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from callboard.chassis.flags import FlagSet, Parsed, repeated, text
from callboard.chassis.settings import (
    SettingsError,
    duration_s,
    health_of,
    log_level_of,
    program_flags,
    refuse_arguments,
    said,
)
from callboard.pki.certificates import Network
from callboard.pki.constraints import checked_name
from callboard.pki.roles import LABEL, ROLES

FLAGS = FlagSet(
    """Usage: callboard issuer -data-dir=DIR -exchange=DIR -program=NAME=ROLE... [options]
       callboard issuer rotate -data-dir=DIR

  Keeps the CA in -data-dir, and below -exchange one directory per program, shared with that
  program alone: its request goes in there, its certificate comes out. `rotate` makes the next CA;
  the running issuer moves every program to it, without an interruption.""",
    [
        text("data-dir", "Directory of the CA and its key."),
        text("exchange", "Directory with one directory for each program."),
        repeated("program", "NAME=ROLE of a program that gets a certificate."),
        text("datacenter", "Datacenter in the names.", "dc1"),
        text("domain", "Domain of the names.", "consul."),
        repeated("network", "CIDR that addresses in certificates may come from; loopback always."),
        text("public-host", "Name or address that the file server is reached by from outside."),
        text("leaf-life", "Life of a certificate; renewed when two thirds have passed.", "720h"),
        text("crl-life", "Life of a revocation list; renewed when half has passed.", "168h"),
        text("overlap", "How long both CAs are trusted before and after the change.", "2m"),
        text("poll", "Between two looks at the exchange.", "1s"),
        *program_flags(),
    ],
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """Everything the issuer is told; validated by `build`."""

    data_dir: Path
    exchange: Path
    programs: Mapping[str, str]
    """Name -> role."""
    datacenter: str = "dc1"
    domain: str = "consul"
    networks: tuple[Network, ...] = ()
    public_host: str = ""
    leaf_life: timedelta = timedelta(days=30)
    crl_life: timedelta = timedelta(days=7)
    overlap: timedelta = timedelta(minutes=2)
    poll_s: float = 1.0
    health: tuple[str, int] | None = None
    log_level: str = "info"
    log_json: bool = True


def build(parsed: Parsed, environ: Mapping[str, str]) -> IssuerSettings:
    """The settings of a command line. Raises SettingsError.

    Of the environment: LOG_LEVEL, PUBLIC_HOST.
    """
    refuse_arguments(parsed)
    try:
        networks = tuple(ipaddress.ip_network(each) for each in parsed.values("network"))
    except ValueError as problem:
        raise SettingsError(str(problem)) from None
    return IssuerSettings(
        data_dir=_directory(parsed, "data-dir"),
        exchange=_directory(parsed, "exchange"),
        programs=_programs(parsed.values("program")),
        datacenter=parsed.text("datacenter"),
        domain=parsed.text("domain").strip("."),
        networks=networks,
        public_host=_public_host(parsed, environ),
        leaf_life=_life(parsed, "leaf-life"),
        crl_life=_life(parsed, "crl-life"),
        overlap=_life(parsed, "overlap"),
        poll_s=_life(parsed, "poll").total_seconds(),
        health=health_of(parsed),
        log_level=log_level_of(parsed, environ),
        log_json=parsed.switch("log-json"),
    )


def _directory(parsed: Parsed, flag: str) -> Path:
    if not parsed.text(flag):
        raise SettingsError(f"-{flag} is missing")
    return Path(parsed.text(flag))


def _programs(values: tuple[str, ...]) -> dict[str, str]:
    programs: dict[str, str] = {}
    for value in values:
        name, _, role = value.partition("=")
        if not LABEL.fullmatch(name) or role not in ROLES:
            raise SettingsError(
                f"-program is NAME=ROLE, not {value!r}; roles are {', '.join(sorted(ROLES))}"
            )
        if name in programs:
            raise SettingsError(f"-program {name} is given twice")
        programs[name] = role
    if not programs:
        raise SettingsError("-program is missing: nobody would get a certificate")
    return programs


def _life(parsed: Parsed, flag: str) -> timedelta:
    return timedelta(seconds=duration_s(parsed.text(flag), flag, positive=True))


def _public_host(parsed: Parsed, environ: Mapping[str, str]) -> str:
    given = said(parsed, environ, "public-host", "PUBLIC_HOST")
    host = given.strip()
    if not host:
        return ""
    with suppress(ValueError):
        return str(ipaddress.ip_address(host.strip("[]")))
    with suppress(ValueError):
        if not host.startswith("*"):
            return checked_name(host)
    raise SettingsError(
        f"-public-host (PUBLIC_HOST) is a name or an address, without scheme and port: {host!r}"
    )
