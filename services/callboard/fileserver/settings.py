"""The file server's settings, from its command line and environment."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callboard.chassis.agents import agent_urls
from callboard.chassis.flags import FlagSet, Parsed, number, repeated, switch, text
from callboard.chassis.identity import material
from callboard.chassis.identity_settings import IdentitySettings, identity_flags, identity_settings
from callboard.chassis.listeners import default_port
from callboard.chassis.settings import (
    SettingsError,
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
from callboard.fileserver.entries import CSP
from callboard.fileserver.limits import Limits
from callboard.pki.roles import trust_domain

CERTIFICATE = "server.crt.pem"
KEY = "server.private_key.pem"
"""Looked for in the current folder when nothing else is said."""

PAGE = Path(__file__).with_name("web")
"""The page that comes with the program."""

DEFAULTS = Limits()

_SECONDS = {
    "handshake-timeout": ("handshake_s", "For the TLS handshake."),
    "head-timeout": ("head_s", "For a request's head."),
    "idle-timeout": ("idle_s", "Between two requests of a connection."),
    "write-timeout": ("write_stall_s", "For a client that takes nothing of its answer."),
    "max-age": ("age_s", "Of a connection."),
    "drain": ("drain_s", "At the stop, for answers that are being sent."),
}

FLAGS = FlagSet(
    """Usage: callboard fileserver [options]

  Serves a folder over TLS: with no options the current one on https://127.0.0.1:1443, with
  server.crt.pem and server.private_key.pem, which lie in it and are not served.""",
    [
        text("bind", "IP address to listen on.", "127.0.0.1"),
        number("port", "Port to listen on; 0 lets the system choose.",
               default_port("fileserver", "https")),
        text("root", "Folder to serve.", "."),
        switch("page", "Serve the page that comes with the program, instead of -root."),
        repeated("cert", "Certificate with its chain, PEM. Several are told apart by host name; "
                 "give each its -key, in the same order."),
        repeated("key", "Private key of the certificate, PEM."),
        text("client-ca", "CA certificates: only clients with a certificate of theirs get in."),
        text("crl", "Revocation lists of -client-ca's CAs."),
        *identity_flags(),
        repeated("allowed-host", "A further Host to answer to, besides the certificates' names, "
                 "localhost and addresses; `*.example.com`, or `*` for any."),
        text("catalog", "Agents, separated by commas (URLs or names): /v1, /hub and /media are "
             "forwarded to instances found in their catalog."),
        text("node", "Name of this instance in the catalog. Default: the host's name."),
        switch("register", "Register in the catalog.", True),
        switch("allow-writes", "Forward writes below /v1 too, from own pages and tools."),
        repeated("allowed-origin", "A page that may write from another site (https://example.com)."),
        text("datacenter", "Datacenter in other programs' certificates.", "dc1"),
        text("domain", "Domain in them.", "consul."),
        switch("spa", "Answer paths of pages that are not there with /index.html."),
        text("index", "listing: show a folder without index.html as a list."),
        text("csp", "Content-Security-Policy of what is served.", CSP),
        switch("access-log", "Write a line for each request.", True),
        number("max-connections", "At the same time.", DEFAULTS.connections),
        number("max-connections-per-address", "Of one client address.",
               DEFAULTS.connections_per_address),
        *(text(flag, help, f"{getattr(DEFAULTS, name):.0f}s")
          for flag, (name, help) in _SECONDS.items()),
        *program_flags(),
    ],
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileserverSettings:
    """Everything a file server is told; validated by `build`."""

    bind: str = "127.0.0.1"
    port: int = 1443
    root: Path = Path()
    pairs: tuple[tuple[Path, Path], ...] = ((Path(CERTIFICATE), Path(KEY)),)
    """(certificate, key); the first for whoever names no host."""
    client_ca: Path | None = None
    crl: Path | None = None
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    allowed_hosts: tuple[str, ...] = ()
    catalog: tuple[str, ...] = ()
    """URLs of agents; without any nothing is forwarded."""
    node: str = ""
    register: bool = False
    token: str = ""
    allow_writes: bool = False
    allowed_origins: tuple[str, ...] = ()
    trust_domain: str = "dc1.consul"
    source: str = ""
    """Local address of connections to other programs; "" lets the system choose."""
    spa: bool = False
    listings: bool = False
    csp: str = CSP
    access_log: bool = True
    limits: Limits = field(default_factory=Limits)
    health: tuple[str, int] | None = None
    log_level: str = "info"
    log_json: bool = True


def build(parsed: Parsed, environ: Mapping[str, str]) -> FileserverSettings:
    """The settings of a command line. Raises SettingsError.

    Of the environment: BIND, LOG_LEVEL, PUBLIC_HOST, SOURCE, IDENTITY, EXCHANGE, MUTUAL_TLS,
    CALLBOARD_HTTP_TOKEN (or CONSUL_HTTP_TOKEN).
    """
    refuse_arguments(parsed)
    try:
        identity = identity_settings(parsed, environ)
        named = parsed.text("catalog")
        catalog = agent_urls(named, secure=identity.given) if named else ()
    except ValueError as problem:
        raise SettingsError(str(problem)) from None
    if parsed.text("index") not in ("", "listing"):
        raise SettingsError(f"-index is listing, not {parsed.text('index')!r}")
    if parsed.text("crl") and not parsed.text("client-ca"):
        raise SettingsError("-crl needs -client-ca: nobody's certificate is asked for")
    csp = parsed.text("csp")
    if not csp.isprintable() or not csp.isascii():
        raise SettingsError("-csp is one line of ASCII")
    public_host = environ.get("PUBLIC_HOST", "")
    return FileserverSettings(
        bind=_address(said(parsed, environ, "bind", "BIND")),
        port=port_of(parsed.number("port")),
        root=PAGE if parsed.switch("page") else Path(parsed.text("root")),
        pairs=_pairs(parsed, identity),
        client_ca=_path(parsed.text("client-ca")),
        crl=_path(parsed.text("crl")),
        identity=identity,
        allowed_hosts=(*parsed.values("allowed-host"), *([public_host] if public_host else [])),
        catalog=catalog,
        node=parsed.text("node") or socket.gethostname(),
        register=parsed.switch("register") and bool(catalog),
        token=token_of(environ),
        allow_writes=parsed.switch("allow-writes"),
        allowed_origins=parsed.values("allowed-origin"),
        trust_domain=trust_domain(parsed.text("datacenter"), parsed.text("domain")),
        source=environ.get("SOURCE", ""),
        spa=parsed.switch("spa"),
        listings=parsed.text("index") == "listing",
        csp=csp,
        access_log=parsed.switch("access-log"),
        limits=_limits(parsed),
        health=health_of(parsed),
        log_level=log_level_of(parsed, environ),
        log_json=parsed.switch("log-json"),
    )


def _pairs(parsed: Parsed, identity: IdentitySettings) -> tuple[tuple[Path, Path], ...]:
    certificates, keys = parsed.values("cert"), parsed.values("key")
    if len(certificates) != len(keys):
        raise SettingsError(
            f"{len(certificates)} -cert and {len(keys)} -key: each certificate needs its key"
        )
    if certificates:
        return tuple(zip(map(Path, certificates), map(Path, keys), strict=True))
    if identity.given:
        own = material(identity)
        return ((own.certificate, own.key),)
    return ((Path(CERTIFICATE), Path(KEY)),)


def _limits(parsed: Parsed) -> Limits:
    seconds = {
        name: duration_s(parsed.text(flag), flag, positive=True)
        for flag, (name, _) in _SECONDS.items()
    }
    return Limits(
        **seconds,
        connections=count_of(parsed, "max-connections", at_least=1),
        connections_per_address=count_of(parsed, "max-connections-per-address", at_least=1),
    )


def _path(value: str) -> Path | None:
    return Path(value) if value else None


def _address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise SettingsError(f"-bind is an IP address, not {value!r}: see -port") from None
    return value
