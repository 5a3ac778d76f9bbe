"""Name constraints (RFC 5280 section 4.2.1.10): what a CA may sign for, asked before it signs.

A verifier would refuse a leaf outside them anyway, but late and in words that nobody understands.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from cryptography import x509

from callboard.pki.certificates import Constraints, Network
from callboard.pki.roles import Names

LOOPBACK: tuple[Network, ...] = (
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)
PRIVATE: tuple[Network, ...] = (
    *LOOPBACK,
    ipaddress.IPv4Network("10.0.0.0/8"),
    ipaddress.IPv4Network("172.16.0.0/12"),
    ipaddress.IPv4Network("192.168.0.0/16"),
    ipaddress.IPv4Network("169.254.0.0/16"),
    ipaddress.IPv6Network("fc00::/7"),
    ipaddress.IPv6Network("fe80::/10"),
)
"""Networks that belong to no one in particular: a stolen CA is of no use elsewhere."""


def constraints_for(
    domain: str = "consul",
    *,
    networks: Iterable[Network] = PRIVATE,
    additional: Iterable[str] = (),
) -> Constraints:
    """The constraints of a CA for a domain: it, localhost, `networks`, and `additional`.

    An additional one is a DNS name, an address or a network. Raises ValueError for neither.
    """
    domain = domain.strip(".").lower()
    dns, nets = [domain, "localhost"], list(networks)
    for one in additional:
        network = network_of(one)
        if network is not None:
            nets.append(network)
        else:
            dns.append(checked_name(one))
    return Constraints(tuple(dict.fromkeys(dns)), tuple(dict.fromkeys(nets)))


def network_of(text: str) -> Network | None:
    """An address or network, None for anything else: "10.0.0.7" is 10.0.0.7/32."""
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def checked_name(text: str) -> str:
    """A DNS name in lower case without its last dot. Raises ValueError when it is none."""
    name = text.strip().rstrip(".").lower()
    try:
        name = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253 or not all(_is_label(label) for label in labels):
        raise ValueError(f"{text!r} is no DNS name")
    return name


def names_of_host(host: str) -> Names:
    """What a certificate carries for a host that is given as a name or an address; nothing for "".

    Raises ValueError when it is neither.
    """
    if not host:
        return Names()
    if network_of(host) is None:
        return Names(dns=(checked_name(host),))
    return Names(addresses=(ipaddress.ip_address(host.strip("[]")),))


def constraints_of(certificate: x509.Certificate) -> Constraints | None:
    """What a CA certificate permits; None when it has no constraints.

    Raises ValueError for kinds of constraints that are not made here (excluded names, URIs).
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    if found.excluded_subtrees:
        raise ValueError("the CA's name constraints exclude names: such are not understood here")
    dns: list[str] = []
    networks: list[Network] = []
    for one in found.permitted_subtrees or ():
        if isinstance(one, x509.DNSName):
            dns.append(one.value.lower())
        elif isinstance(one, x509.IPAddress) and isinstance(
            one.value, ipaddress.IPv4Network | ipaddress.IPv6Network
        ):
            networks.append(one.value)
        else:
            raise ValueError(
                f"the CA's name constraints have a {type(one).__name__}: Chromium refuses such"
            )
    return Constraints(tuple(dns), tuple(networks))


def outside(names: Names, constraints: Constraints | None) -> tuple[str, ...]:
    """Those of `names` that a CA with `constraints` must not sign for, as text."""
    if constraints is None:
        return ()
    wrong: list[str] = []
    if constraints.dns:
        wrong += [name for name in names.dns if not _below_any(name, constraints.dns)]
    if constraints.networks:
        wrong += [
            str(address)
            for address in names.addresses
            if not any(
                address in network
                for network in constraints.networks
                if network.version == address.version
            )
        ]
    return tuple(wrong)


def _below_any(name: str, permitted: Iterable[str]) -> bool:
    name = name.lower()
    return any(
        name == one or name.endswith(f".{one}")
        for one in (each.removeprefix(".") for each in permitted)
    )


def _is_label(label: str) -> bool:
    return (
        0 < len(label) <= 63
        and all(character.isalnum() or character in "-_" for character in label)
        and not label.startswith("-")
        and not label.endswith("-")
    )
