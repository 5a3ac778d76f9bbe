"""Who may send to a port: one sender at a time, from addresses that are allowed. Pure.

Plain RTP shows no credential: the address it comes from is all there is to judge by. A port is one
sender's; another one takes over only once the first is silent, so that two scripts with the same
command line do not mix their packets.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Source = tuple[str, int]
"""A host and a port."""

TAKEOVER_S = 2.0
"""A sender that is silent for so long may be followed by another; a stream is offline then."""

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

ADDRESS = "address"
"""Why a packet is refused: its sender's address is not allowed."""
SECOND_SENDER = "second sender"
"""Why a packet is refused: another one is sending."""

KNOWN_MAX = 256
"""Hosts whose judgement is remembered."""


class Senders:
    """Judges the senders of one port."""

    def __init__(self, networks: Iterable[Network], takeover_s: float = TAKEOVER_S) -> None:
        self._networks = tuple(networks)
        self._takeover_s = takeover_s
        self._heard_at = float("-inf")
        self._judged: dict[str, bool] = {}
        self.current: Source | None = None
        """Who sends; None before the first and after `forget`."""
        self.refused: Counter[str] = Counter()
        """Packets, by reason."""

    def refusal(self, source: Source, now: float) -> str | None:
        """Why a packet of RTP from there is refused; None: it is taken, as the sender's."""
        if source != self.current:
            why = None
            if not self._allowed(source[0]):
                why = ADDRESS
            elif self.current is not None and now - self._heard_at < self._takeover_s:
                why = SECOND_SENDER
            if why is not None:
                self.refused[why] += 1
                return why
            self.current = source
        self._heard_at = now
        return None

    def knows(self, host: str) -> bool:
        """Whether the sender is on this host: its RTCP may come from another port of it."""
        return self.current is not None and self.current[0] == host

    def expects(self, networks: Iterable[Network]) -> None:
        """Other addresses are allowed from now on; a sender that no longer is has gone."""
        self._networks = tuple(networks)
        self._judged.clear()
        if self.current is not None and not self._allowed(self.current[0]):
            self.forget()

    def forget(self) -> None:
        """The sender has gone: the next one need not wait."""
        self.current = None

    def _allowed(self, host: str) -> bool:
        known = self._judged.get(host)
        if known is None:
            if len(self._judged) >= KNOWN_MAX:
                self._judged.clear()
            known = self._judged[host] = is_in(host, self._networks)
        return known


def network_of(text: str) -> Network:
    """A network, or the one address. Raises ValueError."""
    return ipaddress.ip_network(text.strip("[]"))


def is_in(host: str, networks: Iterable[Network]) -> bool:
    """Whether an address is in one of the networks; IPv4 in IPv6 is IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in networks)
