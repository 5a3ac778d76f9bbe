"""Which recursors other names go to: those given, and those of the system if it was said."""

from __future__ import annotations

from collections.abc import Iterable

from callboard.dns.forwarder import RecursorForwarder
from callboard.dns.recursors import recursor_address, without_own
from callboard.dns.settings import DnsSettings

RESOLV_CONF = "/etc/resolv.conf"
RECURSORS_MAX = 8


def system_recursors(resolv_conf: str) -> list[str]:
    """The servers named in a resolv.conf (resolv.conf(5)), those that are IP addresses."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) == 2 and words[0] == "nameserver":
            address = words[1].partition("%")[0]
            found.append(f"[{address}]" if ":" in address else address)
    return found


def forwarder(
    settings: DnsSettings, addresses: Iterable[str], port: int
) -> RecursorForwarder | None:
    """The forwarder of a front that answers at these addresses; None without a recursor.

    The front's own addresses are left out: it would ask itself. Raises ValueError.
    """
    recursors = without_own(map(recursor_address, settings.recursors), addresses, port)
    if not recursors:
        return None
    return RecursorForwarder(recursors[:RECURSORS_MAX], settings.recursor_timeout_s)
