"""The hub's settings, from its command line and environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callboard.catalog.durations import DurationError, parse_duration
from callboard.chassis.agents import agent_urls
from callboard.chassis.flags import FlagSet, Parsed, number, repeated, switch, text
from callboard.chassis.identity_settings import IdentitySettings, identity_flags, identity_settings
from callboard.chassis.listeners import check_plain, default_port, is_loopback
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
from callboard.hub.history.store import Acknowledge, Bound, Retention
from callboard.hub.matching.urls import HUB_URL, is_hub_url
from callboard.hub.subscribers.limits import ReaderLimits, Times
from callboard.pki.roles import trust_domain

DATA = "callboard-hub"
"""The data directory where none is named: in the current one."""

FLAGS = FlagSet(
    """Usage: callboard hub [options]
       callboard hub token|doctor [options]

  Passes events on to whoever subscribes, and keeps them: Mercure-compatible, resumable. With no
  options on http://127.0.0.1:8800, with its history and its keys in ./callboard-hub.""",
    [
        text("bind", "IP address to listen on.", "127.0.0.1"),
        number("port", "Port for people and tools.", default_port("hub", "http")),
        number("https-port", "Port for other programs, with an identity; -1 is off.",
               default_port("hub", "https")),
        text("tls-cert", "Certificate with its chain, PEM: -port then speaks TLS."),
        text("tls-key", "Its private key."),
        switch("allow-plain", "Listen in the clear on addresses that are not loopback, and let "
               "/t/ be used there without a token."),
        text("data-dir", "Directory for history and keys.", DATA),
        text("store", "postgresql://… for a history that several hubs share. Default: SQLite in "
             "-data-dir."),
        text("acknowledge", "When a publication is acknowledged and seen: durable (on the disk), "
             "written (committed) or memory.", Acknowledge.DURABLE.value),
        repeated("keep", "COUNT,SIZE,AGE or PREFIX=COUNT,SIZE,AGE: what is kept of the topics that "
                 "begin with it. A part may be empty: no bound."),
        text("publisher-key", "Key that publishers' tokens are verified with: a secret or PEM. "
             "Default: made in -data-dir."),
        text("subscriber-key", "The same of subscribers' tokens."),
        text("resource", "URL that this hub is known by: what tokens of Mercure 1.0 are for (aud), "
             "and what relative topics are relative to in URL patterns.", HUB_URL),
        repeated("issuer", "Who may have signed such a token (iss). Default: whoever has the key."),
        switch("anonymous", "Let public updates be read without a token.", True),
        switch("subscriptions", "Announce subscriptions as events, and list them."),
        repeated("allowed-host", "A further Host to answer to, besides localhost and addresses; "
                 "`*` for any."),
        repeated("allowed-origin", "A page of another site that may read with credentials and "
                 "publish (https://example.com)."),
        text("hooks", "File that describes webhooks (JSON)."),
        number("publish-rate", "Publications a second that one token is good for; 0 is no limit.",
               1000),
        text("heartbeat", "Between two signs of life of a stream.", "20s"),
        text("life", "Of a stream, give or take a fifth; 0s is no limit.", "10m"),
        text("stall", "A reader that takes nothing for so long is cut.", "30s"),
        number("max-subscribers", "Streams at the same time.", 50_000),
        number("max-subscribers-per-address", "Of one client address; 0 is no limit."),
        text("catalog", "Agents, separated by commas (URLs or names): the catalog's changes become "
             "topics, and the hub registers there. Default: no catalog."),
        text("node", "Name of this instance in the catalog. Default: the host's name."),
        text("advertise", "Address to register. Default: -bind's, or the default route's."),
        switch("register", "Register in the catalog.", True),
        text("datacenter", "Datacenter in other programs' certificates.", "dc1"),
        text("domain", "Domain in them.", "consul."),
        *identity_flags(),
        *program_flags(),
    ],
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Everything a hub is told; validated by `build`."""

    bind: str = "127.0.0.1"
    port: int = 8800
    https_port: int = -1
    tls: tuple[Path, Path] | None = None
    """Certificate and key of `port`; None: in the clear."""
    open: bool = True
    """Whether /t/ needs no token on `port`: loopback, or -allow-plain."""
    data_dir: Path = Path(DATA)
    store: str = ""
    acknowledge: Acknowledge = Acknowledge.DURABLE
    retention: Retention = field(default_factory=Retention)
    publisher_key: Path | None = None
    subscriber_key: Path | None = None
    resource: str = HUB_URL
    issuers: frozenset[str] = frozenset()
    """Empty: whoever has the key."""
    anonymous: bool = True
    subscriptions: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    hooks: Path | None = None
    publish_rate: int = 1000
    times: Times = field(default_factory=Times)
    limits: ReaderLimits = field(default_factory=ReaderLimits)
    catalog: tuple[str, ...] = ()
    """URLs of agents; without any there are no topics of the catalog."""
    node: str = "hub"
    advertise: str = ""
    register: bool = False
    trust_domain: str = "dc1.consul"
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    health: tuple[str, int] | None = None
    log_level: str = "info"
    log_json: bool = True
    token: str = ""
    """For the catalog."""
    source: str = ""


def build(parsed: Parsed, environ: Mapping[str, str], *, host_name: str) -> HubSettings:
    """The settings of a command line. Raises SettingsError.

    Of the environment: ALLOW_PLAIN, BIND, EXCHANGE, IDENTITY, LOG_LEVEL, MUTUAL_TLS, PUBLIC_HOST,
    SOURCE, CALLBOARD_HTTP_TOKEN (or CONSUL_HTTP_TOKEN), HUB_STORE (it may have a password in it).
    """
    refuse_arguments(parsed)
    bind = said(parsed, environ, "bind", "BIND")
    allow_plain = allow_plain_of(parsed, environ)
    tls = _tls(parsed)
    store = _store(said(parsed, environ, "store", "HUB_STORE"))
    acknowledge = _acknowledge(parsed.text("acknowledge"))
    if store and acknowledge is not Acknowledge.DURABLE:
        raise SettingsError("a history in PostgreSQL is durable: -acknowledge is for SQLite")
    named = parsed.text("catalog")
    try:
        if tls is None:
            check_plain([bind], allow_plain=allow_plain, what="http")
        identity = identity_settings(parsed, environ)
        catalog = agent_urls(named, secure=identity.given) if named else ()
        trusted = trust_domain(parsed.text("datacenter"), parsed.text("domain"))
    except ValueError as problem:
        raise SettingsError(str(problem)) from None
    https_port = parsed.number("https-port")
    public = environ.get("PUBLIC_HOST", "")
    return HubSettings(
        bind=bind,
        port=port_of(parsed.number("port")),
        https_port=_port_or_off(https_port) if identity.given else -1,
        tls=tls,
        open=is_loopback(bind) or allow_plain,
        data_dir=Path(parsed.text("data-dir")).absolute(),
        store=store,
        acknowledge=acknowledge,
        retention=_retention(parsed.values("keep")),
        publisher_key=_path(parsed.text("publisher-key")),
        subscriber_key=_path(parsed.text("subscriber-key")),
        resource=_resource(parsed.text("resource")),
        issuers=frozenset(parsed.values("issuer")),
        anonymous=parsed.switch("anonymous"),
        subscriptions=parsed.switch("subscriptions"),
        allowed_hosts=(*parsed.values("allowed-host"), *([public] if public else [])),
        allowed_origins=parsed.values("allowed-origin"),
        hooks=_path(parsed.text("hooks")),
        publish_rate=count_of(parsed, "publish-rate", at_least=0),
        times=_times(parsed),
        limits=_limits(parsed),
        catalog=catalog,
        node=parsed.text("node") or host_name,
        advertise=parsed.text("advertise"),
        register=parsed.switch("register") and bool(catalog),
        trust_domain=trusted,
        identity=identity,
        health=health_of(parsed),
        log_level=log_level_of(parsed, environ),
        log_json=parsed.switch("log-json"),
        token=token_of(environ),
        source=environ.get("SOURCE", ""),
    )


def _tls(parsed: Parsed) -> tuple[Path, Path] | None:
    certificate, key = parsed.text("tls-cert"), parsed.text("tls-key")
    if bool(certificate) != bool(key):
        raise SettingsError("-tls-cert and -tls-key go together")
    return (Path(certificate), Path(key)) if certificate else None


def _resource(value: str) -> str:
    if not is_hub_url(value):
        raise SettingsError(f"-resource is an http or https URL without a fragment, not {value!r}")
    return value


def _store(value: str) -> str:
    if value and not value.startswith(("postgresql://", "postgres://")):
        raise SettingsError("-store is a postgresql:// URL")
    return value


def _acknowledge(value: str) -> Acknowledge:
    try:
        return Acknowledge(value)
    except ValueError:
        modes = ", ".join(mode.value for mode in Acknowledge)
        raise SettingsError(f"-acknowledge is one of {modes}, not {value!r}") from None


def _times(parsed: Parsed) -> Times:
    return Times(
        heartbeat_s=duration_s(parsed.text("heartbeat"), "heartbeat", positive=True),
        life_s=duration_s(parsed.text("life"), "life"),
        stall_s=duration_s(parsed.text("stall"), "stall", positive=True),
    )


def _limits(parsed: Parsed) -> ReaderLimits:
    return ReaderLimits(
        readers_max=count_of(parsed, "max-subscribers", at_least=0),
        per_client_max=count_of(parsed, "max-subscribers-per-address", at_least=0),
    )


_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _retention(values: tuple[str, ...]) -> Retention:
    default, prefixes = Retention().default, {}
    for value in values:
        prefix, equals, bounds = value.rpartition("=")
        if equals and not prefix:
            raise SettingsError(f"-keep={value}: no prefix before =")
        bound = _bound(value, bounds)
        if equals:
            prefixes[prefix] = bound
        else:
            default = bound
    return Retention(default, prefixes)


def _bound(value: str, bounds: str) -> Bound:
    """A `Bound` of COUNT,SIZE,AGE."""
    parts = [part.strip() for part in bounds.split(",")]
    if len(parts) != 3:
        raise SettingsError(f"-keep={value} is not COUNT,SIZE,AGE")
    count, size, age = parts
    unit = size[-1:].upper() if size and not size[-1].isdecimal() else ""
    digits = size[: len(size) - len(unit)]
    if (count and not count.isdecimal()) or (size and (unit not in _SIZES or not digits)):
        raise SettingsError(f"-keep={value}: COUNT is a number, SIZE one with K, M, G or T")
    if digits and not digits.isdecimal():
        raise SettingsError(f"-keep={value}: SIZE is a number with K, M, G or T")
    try:
        age_s = parse_duration(age) / 1e9 if age else None
    except DurationError as problem:
        raise SettingsError(f"-keep={value}: {problem}") from None
    return Bound(
        int(count) if count else None, int(digits) * _SIZES[unit] if digits else None, age_s
    )


def _path(value: str) -> Path | None:
    return Path(value).absolute() if value else None


def _port_or_off(value: int) -> int:
    return value if value == -1 else port_of(value)
