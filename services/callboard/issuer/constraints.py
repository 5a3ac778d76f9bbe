"""What the issuer's CA may sign for: the stack's own names and networks, and the public host.

They are fixed in the CA when it is made. What is wanted now (the issuer was started with another
network or public host since) lies beside it, for the next CA.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from callboard.files import replace
from callboard.issuer.settings import IssuerSettings, Network
from callboard.pki.certificates import Constraints

WANTED = "wanted.json"
"""Constraints for the next CA: {"dns": [...], "networks": [...]}."""

LOOPBACK: tuple[Network, ...] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1/128"),
)


def public_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A public host that is an address; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def wanted(settings: IssuerSettings) -> Constraints:
    """The constraints that fit these settings."""
    dns = [settings.domain, "localhost", *settings.programs]
    networks: list[Network] = [*LOOPBACK, *settings.networks]
    if settings.public_host:
        address = public_address(settings.public_host)
        if address is None:
            dns.append(settings.public_host)
        else:
            networks.append(ipaddress.ip_network(address))
    return Constraints(tuple(dict.fromkeys(dns)), tuple(dict.fromkeys(networks)))


def write_wanted(directory: Path, constraints: Constraints) -> None:
    """Keep them for `rotate`."""
    text = json.dumps(
        {
            "dns": constraints.dns,
            "networks": [str(network) for network in constraints.networks],
        }
    )
    with replace(directory / WANTED, "w") as file:
        file.write(text)


def read_wanted(directory: Path) -> Constraints:
    """What `write_wanted` wrote. Raises OSError, or ValueError with a text for the user."""
    path = directory / WANTED
    try:
        found = json.loads(path.read_text("utf-8"))
        return Constraints(
            tuple(map(str, found["dns"])),
            tuple(ipaddress.ip_network(each) for each in found["networks"]),
        )
    except (ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"{path}: unreadable: {problem}") from problem
