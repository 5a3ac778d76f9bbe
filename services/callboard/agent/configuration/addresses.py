"""Turn what a user wrote for an address into IP addresses, or say why not.

Names are resolved once here (compose gives hosts by name): what we bind and advertise is an
address. go-sockaddr templates are refused by name.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from callboard.agent.configuration.files import ConfigurationError
from callboard.chassis.listeners import is_loopback

Resolve = Callable[[str], str]
"""The first IP address of a name. Raises OSError."""

UNSPECIFIED = ("0.0.0.0", "::")


def resolve_name(name: str) -> str:
    """The system's answer, IPv4 first."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    addresses = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return str(addresses[0][4][0])


def own_address(resolve: Resolve) -> str:
    """This machine's address for others: that of the interface which leads to other networks, else
    what its name resolves to; "" when neither is more than loopback."""
    found = _outgoing_address()
    if not found:
        try:
            found = resolve(socket.gethostname())
        except OSError:
            return ""
    return "" if is_loopback(found) else found


def _outgoing_address() -> str:
    """Connecting a UDP socket sends nothing: it only makes the system choose a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def ip_of(key: str, text: str, resolve: Resolve) -> str:
    """The IP address of an address or host name. Raises ConfigurationError naming `key`."""
    word = text.strip()
    if "{{" in word:
        raise ConfigurationError(
            f"{key}: {word} is a go-sockaddr template, which is not read: "
            "write an IP address or a host name"
        )
    if word.startswith(("unix://", "/")):
        raise ConfigurationError(f"{key}: unix sockets are not served yet: write an IP address")
    literal = word.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(literal))
    except ValueError:
        pass
    try:
        return resolve(word)
    except (OSError, UnicodeError) as problem:
        raise ConfigurationError(f"{key}: {word!r} cannot be resolved: {problem}") from problem


def ips_of(key: str, text: str, resolve: Resolve) -> tuple[str, ...]:
    """The addresses in a text that separates them by spaces. Raises ConfigurationError."""
    found = dict.fromkeys(ip_of(key, word, resolve) for word in text.split())
    if not found:
        raise ConfigurationError(f"{key} cannot be empty")
    return tuple(found)


def host_and_port(key: str, text: str) -> tuple[str, int]:
    """`IP:PORT` or `[IPv6]:PORT`. Raises ConfigurationError."""
    host, _, port = text.rpartition(":")
    literal = host.removeprefix("[").removesuffix("]")
    try:
        address = str(ipaddress.ip_address(literal))
        number = int(port)
    except ValueError:
        raise ConfigurationError(f"{key}: expected IP:PORT, got {text!r}") from None
    if not 0 <= number <= 65535:
        raise ConfigurationError(f"{key}: port {number} is not between 0 and 65535")
    return address, number
