"""The name server's settings, from its command line and environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callboard.chassis.agents import agent_urls
from callboard.chassis.flags import FlagSet, Parsed, number, repeated, switch, text
from callboard.chassis.identity_settings import IdentitySettings, identity_flags, identity_settings
from callboard.chassis.listeners import check_plain, default_port
from callboard.chassis.settings import (
    SettingsError,
    allow_plain_of,
    count_of,
    duration_s,
    health_of,
    log_level_of,
    port_of,
    program_flags,
    refuse_arguments,
    said,
    token_of,
)
from callboard.dns.names import Domains
from callboard.dns.recursors import recursor_address
from callboard.dns.settings import TEN_YEARS_S, TTL_MAX_S, DnsSettings

MODES = ("feed", "poll")

FLAGS = FlagSet(
    """Usage: callboard nameserver -catalog=URL[,URL] [options]

  Answers DNS from a copy of the catalog, which it keeps by the feed of one of the agents named.
  The copy outlives them, and with -data-dir the name server too.""",
    [
        text("bind", "IP address to answer on.", "127.0.0.1"),
        number("port", "UDP and TCP port to answer on.", default_port("nameserver", "dns")),
        text("catalog", "Agents, separated by commas: URLs, or names (https://NAME:8501 with an "
             "identity, http://NAME:8500 without).", "http://127.0.0.1:8500"),
        text("data-dir", "Directory for the copy on disk; without one it is in memory only."),
        text("domain", "Domain to answer for.", "consul."),
        text("alt-domain", "A second domain with the same names."),
        text("datacenter", "Refuse the feed of any other datacenter."),
        repeated("recursor", "IP[:PORT] of a server for other names, or `system`: those of "
                 "/etc/resolv.conf. Without one, other names are refused."),
        text("max-stale", "How old the copy may be and still be answered from.", "87600h"),
        text("node-ttl", "TTL of node records.", "0s"),
        repeated("service-ttl", "NAME=DURATION, PREFIX*=DURATION or *=DURATION."),
        switch("only-passing", "Leave out instances with a warning too."),
        switch("enable-truncate", "Set TC when records were left out of a UDP answer."),
        number("udp-answer-limit", "Most records in a UDP answer without EDNS.", 3),
        number("a-record-limit", "Most A and AAAA records in any answer; 0 is no limit."),
        text("mode", "feed, or poll: blocking queries, to any Consul-compatible server.", "feed"),
        *identity_flags(),
        number("dot-port", "Port of DNS over TLS, with an identity; -1 is off.",
               default_port("nameserver", "dot")),
        text("node", "Name of this instance in the catalog. Default: the host's name."),
        text("advertise", "Address to register, and of ns.<domain>. Default: -bind's, or the one "
             "of the default route."),
        switch("register", "Register in the catalog (feed mode only).", True),
        switch("allow-plain", "Answer on addresses that are not loopback."),
        *program_flags("/livez, /readyz, /metrics and /v1/dns/status"),
    ],
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NameserverSettings:
    """Everything a name server is told; validated by `build`."""

    bind: str = "127.0.0.1"
    port: int = 8600
    catalog: tuple[str, ...] = ("http://127.0.0.1:8500",)
    data_dir: Path | None = None
    datacenter: str = ""
    mode: str = "feed"
    dns: DnsSettings = field(default_factory=DnsSettings)
    system_recursors: bool = False
    """Take the recursors of /etc/resolv.conf too."""
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    dot_port: int = -1
    """Of DNS over TLS; -1: off."""
    node: str = "nameserver"
    advertise: str = ""
    register: bool = False
    health: tuple[str, int] | None = None
    log_level: str = "info"
    log_json: bool = True
    token: str = ""
    source: str = ""
    """Local address of connections to agents; "" lets the system choose."""


def build(parsed: Parsed, environ: Mapping[str, str], *, host_name: str) -> NameserverSettings:
    """The settings of a command line. Raises SettingsError.

    Of the environment: ALLOW_PLAIN, BIND, EXCHANGE, IDENTITY, LOG_LEVEL, MUTUAL_TLS, SOURCE,
    CALLBOARD_HTTP_TOKEN (or CONSUL_HTTP_TOKEN).
    """
    refuse_arguments(parsed)
    bind = said(parsed, environ, "bind", "BIND")
    allow_plain = allow_plain_of(parsed, environ)
    try:
        check_plain([bind], allow_plain=allow_plain, what="dns")
        identity = identity_settings(parsed, environ)
        catalog = agent_urls(parsed.text("catalog"), secure=identity.given)
    except ValueError as problem:
        raise SettingsError(str(problem)) from None
    if parsed.text("mode") not in MODES:
        raise SettingsError(f"-mode is {' or '.join(MODES)}, not {parsed.text('mode')!r}")
    recursors = parsed.values("recursor")
    directory = parsed.text("data-dir")
    return NameserverSettings(
        bind=bind,
        port=port_of(parsed.number("port")),
        catalog=catalog,
        identity=identity,
        dot_port=_dot_port(parsed.number("dot-port")) if identity.given else -1,
        data_dir=Path(directory) if directory else None,
        datacenter=parsed.text("datacenter"),
        mode=parsed.text("mode"),
        dns=_dns(parsed, tuple(each for each in recursors if each != "system")),
        system_recursors="system" in recursors,
        node=parsed.text("node") or host_name,
        advertise=parsed.text("advertise"),
        register=parsed.switch("register") and parsed.text("mode") == "feed",
        health=health_of(parsed),
        log_level=log_level_of(parsed, environ),
        log_json=parsed.switch("log-json"),
        token=token_of(environ),
        source=environ.get("SOURCE", ""),
    )


def _dns(parsed: Parsed, recursors: tuple[str, ...]) -> DnsSettings:
    try:
        Domains(parsed.text("domain"), parsed.text("alt-domain"))
        for recursor in recursors:
            recursor_address(recursor)
    except ValueError as problem:
        raise SettingsError(str(problem)) from None
    polling = parsed.text("mode") == "poll"
    return DnsSettings(
        domain=parsed.text("domain"),
        alt_domain=parsed.text("alt-domain"),
        node_ttl_s=_ttl(parsed.text("node-ttl"), "node-ttl"),
        service_ttl_s=dict(map(_service_ttl, parsed.values("service-ttl"))),
        only_passing=parsed.switch("only-passing"),
        udp_answer_limit=count_of(parsed, "udp-answer-limit", at_least=1),
        a_record_limit=count_of(parsed, "a-record-limit", at_least=0),
        enable_truncate=parsed.switch("enable-truncate"),
        recursors=recursors,
        max_stale_s=min(duration_s(parsed.text("max-stale"), "max-stale"), TEN_YEARS_S),
        # a poll is answered every few seconds, a feed beats each second
        stale_after_s=15.0 if polling else 5.0,
    )


def _ttl(value: str, flag: str) -> int:
    """Whole seconds that fit a record (RFC 2181, 8)."""
    seconds = int(duration_s(value, flag))
    if seconds > TTL_MAX_S:
        raise SettingsError(f"-{flag} is more than {TTL_MAX_S} s")
    return seconds


def _service_ttl(value: str) -> tuple[str, int]:
    name, equals, duration = value.partition("=")
    if not equals or not name:
        raise SettingsError(f"-service-ttl is NAME=DURATION, not {value!r}")
    return name.lower(), _ttl(duration, "service-ttl")


def _dot_port(value: int) -> int:
    return value if value == -1 else port_of(value)
