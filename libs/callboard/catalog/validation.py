"""Limits that Consul puts on names, metadata, weights, ports and addresses; each gives a text.

Sources: consul.md §5.11 and Consul's documentation of service definitions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from callboard.catalog.objects import ServiceAddress, Weights

META_PAIRS_MAX = 64
META_KEY_MAX = 128
META_VALUE_MAX = 512
META_RESERVED = "consul-"
"""Keys of a service's metadata may not begin so (a node's from an agent do)."""
DNS_LABEL_MAX = 63

_META_KEY = re.compile(r"[a-zA-Z0-9_-]+")
_DNS_LABEL = re.compile(r"[a-zA-Z0-9-]+")
_HEX = frozenset("0123456789abcdefABCDEF")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def meta_error(meta: Mapping[str, str], reserved: str = "") -> str | None:
    """Why the metadata is refused, or None; no key may begin with `reserved`, if that is given."""
    if len(meta) > META_PAIRS_MAX:
        return f"Node metadata cannot contain more than {META_PAIRS_MAX} key/value pairs"
    for key, value in meta.items():
        reason = None
        if not key:
            reason = "Key cannot be blank"
        elif not _META_KEY.fullmatch(key):
            reason = "Key contains invalid characters"
        elif reserved and key.startswith(reserved):
            reason = f"Key prefix '{reserved}' is reserved for internal use"
        elif len(key) > META_KEY_MAX:
            reason = f"Key is too long (limit: {META_KEY_MAX} characters)"
        elif len(value) > META_VALUE_MAX:
            reason = f"Value is too long (limit: {META_VALUE_MAX} characters)"
        if reason is not None:
            return f"Couldn't load metadata pair ('{key}', '{value}'): {reason}"
    return None


def weights_error(weights: Weights) -> str | None:
    """Why the weights are refused, or None."""
    if weights.passing < 1:
        return "Passing must be greater than 0"
    if weights.warning < 0:
        return "Warning must be greater or equal than 0"
    if weights.passing > 65535 or weights.warning > 65535:
        return "DNS Weight must be between 0 and 65535"
    return None


def port_error(port: int) -> str | None:
    """Why the port is refused, or None (0 = none)."""
    return None if 0 <= port <= 65535 else f"Invalid port {port}: must be between 0 and 65535"


def address_error(address: str) -> str | None:
    """Why the service's address is refused, or None: "any" is nobody's address."""
    return "Invalid service address" if address in ("0.0.0.0", "::", "[::]") else None


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID as Consul writes them."""
    return _UUID.fullmatch(text) is not None


def uuid_error(text: str) -> str | None:
    """Why the text is no UUID, in the words of Consul's parser; or None."""
    if is_uuid(text):
        return None
    if len(text) != 36:
        return "uuid string is wrong length"
    wrong = next((each for each in text.replace("-", "") if each not in _HEX), None)
    if wrong is not None:
        return f"encoding/hex: invalid byte: U+{ord(wrong):04X} '{wrong}'"
    return "uuid is improperly formatted"


def name_warning(what: str, name: str) -> str | None:
    """Why a name will not be found by DNS, or None. It is only logged."""
    if not _DNS_LABEL.fullmatch(name):
        return (
            f"{what} name {name!r} will not be discoverable via DNS due to invalid characters;"
            " valid characters include all alpha-numerics and dashes"
        )
    if len(name) > DNS_LABEL_MAX:
        return (
            f"{what} name {name!r} will not be discoverable via DNS due to it being too long;"
            f" valid lengths are between 1 and {DNS_LABEL_MAX} bytes"
        )
    return None


def filled_addresses(
    address: str, port: int, tagged: Mapping[str, ServiceAddress]
) -> dict[str, ServiceAddress]:
    """Tagged addresses with lan_ipv4 and wan_ipv4 (or …_ipv6) added from an IP address."""
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return dict(tagged)
    own = ServiceAddress(address, port)
    return {f"lan_ipv{version}": own, f"wan_ipv{version}": own, **tagged}
