"""What the issuer's CA may sign for: the stack's own names and networks, and the public host.

They are fixed in the CA when it is made. What is wanted now (the issuer was started with another
network or public host since) lies beside it, for the next CA.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from callboard.files import replace
from callboard.issuer.settings import IssuerSettings
from callboard.pki.certificates import Constraints
from callboard.pki.constraints import LOOPBACK, constraints_for

WANTED = "wanted.json"
"""Constraints for the next CA: {"dns": [...], "networks": [...]}."""


def wanted(settings: IssuerSettings) -> Constraints:
    """The constraints that fit these settings."""
    host = [settings.public_host] if settings.public_host else []
    return constraints_for(
        settings.domain,
        networks=(*LOOPBACK, *settings.networks),
        additional=(*settings.programs, *host),
    )


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
