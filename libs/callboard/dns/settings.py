"""The settings of a DNS front, with Consul's defaults (its `dns_config`, `domain`, `recursors`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TEN_YEARS_S = 10 * 365 * 24 * 3600.0
TTL_MAX_S = (1 << 31) - 1
"""RFC 2181, 8."""


@dataclass(frozen=True, slots=True)
class Soa:
    """The numbers of the SOA record (Consul: dns_config.soa), in seconds. Raises ValueError for
    one that the record does not hold."""

    refresh_s: int = 3600
    retry_s: int = 600
    expire_s: int = 86400
    min_ttl_s: int = 0
    """Also the TTL of the SOA itself, and so of every negative answer (RFC 2308, 5)."""

    def __post_init__(self) -> None:
        for seconds in (self.refresh_s, self.retry_s, self.expire_s, self.min_ttl_s):
            if not 0 <= seconds <= TTL_MAX_S:
                raise ValueError(f"an SOA of {seconds} s: not between 0 and {TTL_MAX_S}")


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """What a front answers and how. Raises ValueError for a domain that is no domain name."""

    domain: str = "consul."
    alt_domain: str = ""
    """A second domain with the same names below it; "" is none. Targets use `domain`."""
    node_ttl_s: int = 0
    service_ttl_s: Mapping[str, int] = field(default_factory=dict)
    """Service name, "prefix*" or "*" to TTL in seconds; the name wins, then the longest prefix."""
    only_passing: bool = False
    """Drop instances with a warning too, not only critical ones."""
    udp_answer_limit: int = 3
    """Most answer records in a UDP answer without EDNS."""
    a_record_limit: int = 0
    """Most A and AAAA records in any answer, TCP too; 0 is no limit."""
    enable_truncate: bool = False
    """Set TC when records were left out. Consul's default is not to."""
    node_meta_txt: bool = True
    """Add a node's meta as TXT to the ADDITIONAL section of SRV answers."""
    nameserver_addresses: tuple[str, ...] = ()
    """What `ns.<domain>` answers, and makes it the one NS. Empty: the agents, as Consul does."""
    recursors: tuple[str, ...] = ()
    """"ip" or "ip:port" of servers for other names; empty: other names are REFUSED."""
    recursor_timeout_s: float = 2.0
    max_stale_s: float = TEN_YEARS_S
    """How old the catalog may be and still be answered from; past it SERVFAIL."""
    stale_after_s: float = 5.0
    """From this age on an answer says that it is stale (RFC 8914, codes 3 and 19)."""
    answers_per_second: int = 500
    """UDP answers to one network (/24, /56) that is not private; 0 is no limit. See `ratelimit`."""
    server_id: str = ""
    """The NSID (RFC 5001), given on request only; "" is none."""
    soa: Soa = Soa()

    def service_ttl(self, service: str) -> int:
        """The TTL of a service's records."""
        table = self.service_ttl_s
        if not table:
            return 0
        exact = table.get(service)
        if exact is not None:
            return exact
        fitting = [key for key in table if key.endswith("*") and service.startswith(key[:-1])]
        return table[max(fitting, key=len)] if fitting else 0
