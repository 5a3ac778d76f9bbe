"""The names in a program's certificate: from the issuer's own table, within what its CA permits."""

from __future__ import annotations

from collections.abc import Iterable

from callboard.issuer.constraints import public_address
from callboard.issuer.exchange import allowed
from callboard.issuer.settings import IssuerSettings
from callboard.pki.certificates import Constraints
from callboard.pki.constraints import outside
from callboard.pki.roles import Address, Names, names_for

PUBLIC = "fileserver"
"""The role that carries the public host."""


def named(
    settings: IssuerSettings,
    program: str,
    asked: Iterable[Address],
    constraints: Constraints | None,
) -> tuple[Names, tuple[str, ...]]:
    """The names of a program, and which of them are left out because the CA does not permit them.

    `asked` are the addresses of its request: those in the networks allowed are taken. Only a
    node's bare name, addresses and the public host can be left out: a stack may have got another
    network, another program or a public host after its CA was made, and works without. The rest
    says what a program is; the CA that does not permit it refuses to sign.
    """
    role = settings.programs[program]
    dns: list[str] = []
    addresses = list(allowed(asked, settings.networks))
    if role == PUBLIC and settings.public_host:
        address = public_address(settings.public_host)
        if address is None:
            dns.append(settings.public_host)
        else:
            addresses.append(address)
    names = names_for(
        role,
        program,
        datacenter=settings.datacenter,
        domain=settings.domain,
        dns=dns,
        addresses=addresses,
    )
    dispensable = {program, *dns, *map(str, addresses)}
    left_out = tuple(one for one in outside(names, constraints) if one in dispensable)
    kept = Names(
        tuple(one for one in names.dns if one not in left_out),
        tuple(one for one in names.addresses if str(one) not in left_out),
        names.uris,
    )
    return kept, left_out
