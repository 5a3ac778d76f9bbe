"""Roles: what a program may do towards others is said by the names in its certificate.

A leaf names its program in URI SANs, `spiffe://dc1.consul/svc/hub` (SPIFFE-ID, trust domain =
datacenter.domain), and its machine as `spiffe://dc1.consul/node/agent-1`. A server of the catalog
also carries Consul's `server.dc1.consul` (`verify_server_hostname`), and a certificate made for
Consul, which has that DNS name only, is a server here too (`client.dc1.consul`: an agent,
`cli.dc1.consul`: an operator). Never the common name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SERVER = "server"
"""A server of the catalog: may take part in Raft. It is an agent as well."""
AGENT = "agent"
OPERATOR = "operator"
"""A person's tool: `callboard tls cert create -cli`."""
PROGRAMS = ("agent", "nameserver", "hub", "gateway", "sidecar", "fileserver", "issuer", "coturn")
ROLES = frozenset({SERVER, OPERATOR, *PROGRAMS})

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""What a node or program may be called in a certificate: a host name of one label."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LOOPBACK: tuple[Address, ...] = (
    ipaddress.IPv4Address("127.0.0.1"),
    ipaddress.IPv6Address("::1"),
)


class WrongRole(PermissionError):
    """A certificate is good, but not for what its holder asked."""


@dataclass(frozen=True, slots=True)
class Names:
    """The subject alternative names of a leaf."""

    dns: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    uris: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as its verified certificate says."""

    roles: frozenset[str]
    node: str
    """Name of its machine or agent; "" when the certificate does not say."""


NOBODY = Peer(frozenset(), "")


def trust_domain(datacenter: str = "dc1", domain: str = "consul") -> str:
    """The host part of our URI SANs: "dc1.consul"."""
    return f"{datacenter}.{domain.strip('.')}"


def names_for(
    role: str,
    node: str,
    *,
    datacenter: str = "dc1",
    domain: str = "consul",
    dns: Iterable[str] = (),
    addresses: Iterable[Address] = (),
) -> Names:
    """The names that a program of `role` on `node` carries; `dns` and `addresses` are added.

    Without a node ("") the certificate says the role alone. Raises ValueError for a role that is
    not in ROLES, and for a node or `dns` that would say another role too.
    """
    if role not in ROLES:
        raise ValueError(f"no role {role!r}: {', '.join(sorted(ROLES))}")
    domain = domain.strip(".")
    full = trust_domain(datacenter, domain)
    program = AGENT if role == SERVER else role
    own: list[str] = []
    uris = [f"spiffe://{full}/svc/{SERVER}"] if role == SERVER else []
    if role == SERVER:
        own += [f"server.{full}", *([f"{node}.server.{full}"] if node else [])]
    if program == AGENT and node:
        own += [f"{node}.node.{full}", f"{node}.node.{domain}"]
    if role == AGENT:
        own.append(f"client.{full}")
    service = _names_of(
        program, node, datacenter=datacenter, domain=domain, dns=(*own, *dns), addresses=addresses
    )
    made = Names(service.dns, service.addresses, (*uris, *service.uris))
    return _saying(made, {role, program}, full)


def names_of_service(
    service: str,
    node: str = "",
    *,
    datacenter: str = "dc1",
    domain: str = "consul",
    dns: Iterable[str] = (),
    addresses: Iterable[Address] = (),
) -> Names:
    """The names that an instance of any service carries; roles come from `names_for` alone.

    Raises ValueError for names that would say a role.
    """
    made = _names_of(
        service, node, datacenter=datacenter, domain=domain, dns=dns, addresses=addresses
    )
    return _saying(made, {service}, trust_domain(datacenter, domain))


def _names_of(
    service: str,
    node: str,
    *,
    datacenter: str,
    domain: str,
    dns: Iterable[str],
    addresses: Iterable[Address],
) -> Names:
    domain = domain.strip(".")
    full = trust_domain(datacenter, domain)
    named = [*([node] if node else []), "localhost"]
    named += [f"{service}.service.{full}", f"{service}.service.{domain}"]
    uris = [f"spiffe://{full}/svc/{service}", *([f"spiffe://{full}/node/{node}"] if node else [])]
    return Names(
        tuple(dict.fromkeys([*named, *dns])),
        tuple(dict.fromkeys([*LOOPBACK, *addresses])),
        tuple(uris),
    )


def _saying(names: Names, roles: Iterable[str], trust: str) -> Names:
    """These names, if they say no other roles. Raises ValueError."""
    shown = [("DNS", name.lower()) for name in names.dns] + [("URI", uri) for uri in names.uris]
    more = peer_of({"subjectAltName": tuple(shown)}, trust).roles - frozenset(roles)
    if more:
        raise ValueError(f"with these names it would be {', '.join(sorted(more))} too")
    return names


def peer_of(certificate: Mapping[str, object] | None, trust: str) -> Peer:
    """Read a certificate as `SSLSocket.getpeercert()` gives it; NOBODY without one.

    Names of another trust domain than `trust` ("dc1.consul") give no role.
    """
    if not certificate:
        return NOBODY
    roles: set[str] = set()
    node = ""
    names = certificate.get("subjectAltName", ())
    for kind, value in names if isinstance(names, tuple) else ():
        if kind == "URI" and value.startswith(f"spiffe://{trust}/"):
            what, _, name = value.removeprefix(f"spiffe://{trust}/").partition("/")
            if what == "svc" and name in ROLES:
                roles.add(name)
            elif what == "node":
                node = name
        elif kind == "DNS" and value == f"server.{trust}":
            roles |= {SERVER, AGENT}
        elif kind == "DNS" and value == f"client.{trust}":
            roles.add(AGENT)
        elif kind == "DNS" and value == f"cli.{trust}":
            roles.add(OPERATOR)
        elif kind == "DNS" and value.endswith(f".server.{trust}"):
            node = node or value.removesuffix(f".server.{trust}")
    return Peer(frozenset(roles), node)


def authorise(peer: Peer, allowed: Iterable[str], what: str) -> None:
    """Let a peer through that has one of the `allowed` roles. Raises WrongRole, in words."""
    wanted = frozenset(allowed)
    if not peer.roles & wanted:
        has = ", ".join(sorted(peer.roles)) or "no role"
        who = f" of {peer.node}" if peer.node else ""
        raise WrongRole(
            f"{what} is for {', '.join(sorted(wanted))}; the certificate{who} has {has}"
        )
