"""The names in a program's certificate: from the issuer's own table, within what its CA permits."""

from __future__ import annotations

from collections.abc import Iterable

from callboard.issuer.exchange import allowed
from callboard.issuer.settings import IssuerSettings
from callboard.pki.certificates import Constraints
from callboard.pki.constraints import names_of_host, outside
from callboard.pki.roles import Address, Names, names_for

PUBLIC = frozenset({"fileserver", "coturn"})
"""Roles that carry the public host: browsers come to them from outside."""


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
    host = names_of_host(settings.public_host if role in PUBLIC else "")
    addresses = (*allowed(asked, settings.networks), *host.addresses)
    names = names_for(
        role,
        program,
        datacenter=settings.datacenter,
        domain=settings.domain,
        dns=host.dns,
        addresses=addresses,
    )
    dispensable = {program, *host.dns, *map(str, addresses)}
    left_out = tuple(one for one in outside(names, constraints) if one in dispensable)
    kept = Names(
        tuple(one for one in names.dns if one not in left_out),
        tuple(one for one in names.addresses if str(one) not in left_out),
        names.uris,
    )
    return kept, left_out
