"""The sidecar's settings, from its command line and environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callboard.chassis.agents import agent_urls
from callboard.chassis.flags import FlagSet, Parsed, number, switch, text
from callboard.chassis.identity_settings import IdentitySettings, identity_flags, identity_settings
from callboard.chassis.listeners import check_plain, default_port
from callboard.chassis.settings import (
    SettingsError,
    allow_plain_of,
    health_of,
    log_level_of,
    port_of,
    program_flags,
    refuse_arguments,
    said,
    token_of,
)
from callboard.pki.roles import trust_domain

FLAGS = FlagSet(
    """Usage: python3 -m callboard.sidecar [options]

  Live streams made with GStreamer, for gateways that hold a lease. With no options a test pattern,
  leased at http://127.0.0.1:8090.""",
    [
        text("bind", "IP address to listen on, and to send from.", "127.0.0.1"),
        number("port", "Port for gateways: by mutual TLS with an identity, else plain.",
               default_port("sidecar", "control")),
        text("streams", "File that describes streams (TOML). Default: the test pattern alone."),
        switch("allow-plain", "Listen in the clear on addresses that are not loopback."),
        text("catalog", "Agents, separated by commas (URLs or names), to register at. Default: "
             "no catalog."),
        text("node", "Name of this instance in the catalog. Default: the host's name."),
        text("advertise", "Address to register. Default: -bind's, or the default route's."),
        text("datacenter", "Datacenter in other programs' certificates.", "dc1"),
        text("domain", "Domain in them.", "consul."),
        *identity_flags(),
        *program_flags(),
    ],
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """Everything a sidecar is told; validated by `build`."""

    bind: str = "127.0.0.1"
    port: int = 8090
    streams: Path | None = None
    catalog: tuple[str, ...] = ()
    node: str = "sidecar"
    advertise: str = ""
    trust_domain: str = "dc1.consul"
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    health: tuple[str, int] | None = None
    log_level: str = "info"
    log_json: bool = True
    token: str = ""
    """For the catalog."""
    source: str = ""
    """The local address that the catalog is spoken to from; "" lets the system choose."""


def build(parsed: Parsed, environ: Mapping[str, str], *, host_name: str) -> SidecarSettings:
    """The settings of a command line. Raises SettingsError.

    Of the environment: ALLOW_PLAIN, BIND, EXCHANGE, IDENTITY, LOG_LEVEL, MUTUAL_TLS, SOURCE,
    CALLBOARD_HTTP_TOKEN (or CONSUL_HTTP_TOKEN).
    """
    refuse_arguments(parsed)
    bind = _address(said(parsed, environ, "bind", "BIND"))
    allow_plain = allow_plain_of(parsed, environ)
    named, streams = parsed.text("catalog"), parsed.text("streams")
    try:
        identity = identity_settings(parsed, environ)
        if not identity.given:
            check_plain([bind], allow_plain=allow_plain, what="leases")
        catalog = agent_urls(named, secure=identity.given) if named else ()
        trusted = trust_domain(parsed.text("datacenter"), parsed.text("domain"))
    except ValueError as problem:
        raise SettingsError(str(problem)) from None
    return SidecarSettings(
        bind=bind,
        port=port_of(parsed.number("port")),
        streams=Path(streams).absolute() if streams else None,
        catalog=catalog,
        node=parsed.text("node") or host_name,
        advertise=parsed.text("advertise"),
        trust_domain=trusted,
        identity=identity,
        health=health_of(parsed),
        log_level=log_level_of(parsed, environ),
        log_json=parsed.switch("log-json"),
        token=token_of(environ),
        source=environ.get("SOURCE", ""),
    )


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value.strip("[]")))
    except ValueError:
        raise SettingsError(f"-bind is an IP address, not {value!r}") from None
