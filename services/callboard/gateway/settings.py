"""The gateway's settings, from its command line and environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from callboard.chassis.agents import agent_urls
from callboard.chassis.flags import FlagSet, Parsed, number, repeated, switch, text
from callboard.chassis.identity_settings import IdentitySettings, identity_flags, identity_settings
from callboard.chassis.listeners import check_plain, default_port
from callboard.chassis.settings import (
    SettingsError,
    allow_plain_of,
    count_of,
    health_of,
    log_level_of,
    port_of,
    program_flags,
    refuse_arguments,
    said,
    token_of,
)
from callboard.events.targets import hub_url
from callboard.gateway.http.ancestors import ANCESTORS, ancestors_of
from callboard.gateway.http.ice_servers import GOOD_FOR_S, IceServers
from callboard.gateway.mux.advertised import parse_entry
from callboard.gateway.sources.senders import LOOPBACK, Network, network_of
from callboard.pki.roles import trust_domain

NEIGHBOUR = "gateway"
"""Of -rtp-from: the default route's, which is what datagrams seem to come from that a container
engine forwards."""

TURN_LIFETIME_S_MIN = 60
"""The clocks of the gateway and a turn: server may differ by some seconds."""

FLAGS = FlagSet(
    """Usage: callboard gateway [options]

  Live video and audio in web pages: RTP in, WebRTC out to many. With no options on
  http://127.0.0.1:8889, media on port 8189, RTP of scripts on 5004 (video) and 5002 (audio).""",
    [
        text("bind", "IP address to listen on.", "127.0.0.1"),
        number("port", "Port for people and tools.", default_port("gateway", "http")),
        number("https-port", "Port for other programs, with an identity; -1 is off.",
               default_port("gateway", "https")),
        number("media-port", "Port of all viewers' media, UDP and TCP.",
               default_port("gateway", "media")),
        text("media-bind", "IP address of -media-port. Default: -bind's, or any where "
             "-advertise-ips names more than loopback."),
        text("advertise-ips", "Where viewers reach -media-port, separated by commas: addresses, "
             "names, either with :PORT where it is published at another ([ADDRESS]:PORT of IPv6), "
             "stun:HOST:PORT. Default: -bind's, or the default route's."),
        number("janus-port", "Port of Janus' API over HTTP; -1 is off.",
               default_port("gateway", "janus")),
        number("janus-ws-port", "Port of Janus' API over WebSocket; -1 is off.",
               default_port("gateway", "janus_ws")),
        number("rtp-port", "Port of scripts' video, plain RTP; -1 is off.",
               default_port("gateway", "rtp")),
        number("rtp-audio-port", "Port of scripts' audio; -1 is off.",
               default_port("gateway", "rtp_audio")),
        repeated("rtp-from", "Address or network that scripts send RTP from, and publish by WHIP "
                 f"without a token, besides loopback; `{NEIGHBOUR}`: the default route's gateway."),
        text("streams", "File that describes streams at ports of their own (TOML)."),
        switch("pattern", "Have a stream `test-pattern`, made in here, where no sidecar has one."),
        text("whep-token", "File with a token that viewers show. Default: everybody may watch."),
        text("whip-token", "File with a token that publishers show. Default: who publishes does so "
             "from this machine."),
        text("fanout", "What sends to viewers: native (the helper in C, where it was built, else "
             "Python) or plain (Python).", "native"),
        number("max-viewers", "At the same time.", 500),
        repeated("ice-server", "stun: or turn: URL that viewers are told of."),
        text("turn-secret", "File with the secret that turn: servers share."),
        number("turn-lifetime", "Seconds that the credentials for those are good.", GOOD_FOR_S),
        repeated("allowed-host", "A further Host to answer to, besides localhost and addresses; "
                 "`*` for any."),
        repeated("allowed-origin", "A page of another site that may watch and publish "
                 "(https://example.com); `*` for any."),
        text("frame-ancestors", "Pages that may show /watch/NAME in a frame, as in CSP: `*`, "
             "'self', 'none', or origins with spaces between.", ANCESTORS),
        switch("allow-plain", "Listen in the clear on addresses that are not loopback."),
        text("catalog", "Agents, separated by commas (URLs or names): sidecars and the hub are "
             "found there, and the gateway registers. Default: no catalog."),
        text("hub", "URL of the hub that media events are told to. Default: the catalog's."),
        text("hub-token", "File with the token for that."),
        text("node", "Name of this instance in the catalog. Default: the host's name."),
        text("advertise", "Address to register, and that sidecars send RTP to. Default: -bind's, "
             "or the default route's."),
        switch("register", "Register in the catalog.", True),
        text("datacenter", "Datacenter in other programs' certificates.", "dc1"),
        text("domain", "Domain in them.", "consul."),
        *identity_flags(),
        *program_flags(),
    ],
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Everything a gateway is told; validated by `build`."""

    bind: str = "127.0.0.1"
    port: int = 8889
    https_port: int = -1
    media_bind: str = "127.0.0.1"
    media_port: int = 8189
    advertised: tuple[str, ...] = ()
    """As given: addresses, names, stun:…; empty: `own_address(bind)`."""
    janus_port: int = -1
    janus_ws_port: int = -1
    rtp_port: int = -1
    rtp_audio_port: int = -1
    rtp_from: tuple[Network, ...] = LOOPBACK
    rtp_from_neighbour: bool = False
    streams: Path | None = None
    pattern: bool = False
    whep_token: Path | None = None
    whip_token: Path | None = None
    fanout: Literal["native", "plain"] = "native"
    max_viewers: int = 500
    ice_servers: tuple[str, ...] = ()
    turn_secret: Path | None = None
    turn_lifetime_s: int = GOOD_FOR_S
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    frame_ancestors: str = ANCESTORS
    catalog: tuple[str, ...] = ()
    hub: str = ""
    hub_token: Path | None = None
    node: str = "gateway"
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


def build(parsed: Parsed, environ: Mapping[str, str], *, host_name: str) -> GatewaySettings:
    """The settings of a command line. Raises SettingsError.

    Of the environment: ADVERTISE_IPS, ALLOW_PLAIN, BIND, EXCHANGE, ICE_SERVERS, IDENTITY,
    LOG_LEVEL, MUTUAL_TLS, PUBLIC_HOST, SOURCE, TURN_SECRET, CALLBOARD_HTTP_TOKEN (or
    CONSUL_HTTP_TOKEN).
    """
    refuse_arguments(parsed)
    bind = _address(said(parsed, environ, "bind", "BIND"), "bind")
    allow_plain = allow_plain_of(parsed, environ)
    named = parsed.text("catalog")
    try:
        check_plain([bind], allow_plain=allow_plain, what="http and RTP")
        identity = identity_settings(parsed, environ)
        catalog = agent_urls(named, secure=identity.given) if named else ()
        trusted = trust_domain(parsed.text("datacenter"), parsed.text("domain"))
        hub = hub_url(parsed.text("hub")) if parsed.text("hub") else ""
    except ValueError as problem:
        raise SettingsError(str(problem)) from None
    advertised = _advertised(said(parsed, environ, "advertise-ips", "ADVERTISE_IPS"))
    https_port = _port_or_off(parsed, "https-port")
    public = environ.get("PUBLIC_HOST", "")
    networks, neighbour = _senders(parsed.values("rtp-from"))
    ice_servers, turn_secret = _ice_servers(parsed, environ)
    return GatewaySettings(
        bind=bind,
        port=port_of(parsed.number("port")),
        https_port=https_port if identity.given else -1,
        media_bind=_media_bind(parsed.text("media-bind"), bind, advertised),
        media_port=port_of(parsed.number("media-port")),
        advertised=advertised,
        janus_port=_port_or_off(parsed, "janus-port"),
        janus_ws_port=_port_or_off(parsed, "janus-ws-port"),
        rtp_port=_port_or_off(parsed, "rtp-port"),
        rtp_audio_port=_port_or_off(parsed, "rtp-audio-port"),
        rtp_from=(*LOOPBACK, *networks),
        rtp_from_neighbour=neighbour,
        streams=_path(parsed.text("streams")),
        pattern=parsed.switch("pattern"),
        whep_token=_path(parsed.text("whep-token")),
        whip_token=_path(parsed.text("whip-token")),
        fanout=_fanout(parsed.text("fanout")),
        max_viewers=count_of(parsed, "max-viewers", at_least=0),
        ice_servers=ice_servers,
        turn_secret=turn_secret,
        turn_lifetime_s=count_of(parsed, "turn-lifetime", at_least=TURN_LIFETIME_S_MIN),
        allowed_hosts=(*parsed.values("allowed-host"), *([public] if public else [])),
        allowed_origins=parsed.values("allowed-origin"),
        frame_ancestors=_ancestors(parsed.text("frame-ancestors")),
        catalog=catalog,
        hub=hub,
        hub_token=_path(parsed.text("hub-token")),
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


def _address(value: str, flag: str) -> str:
    try:
        return str(ipaddress.ip_address(value.strip("[]")))
    except ValueError:
        raise SettingsError(f"-{flag} is an IP address, not {value!r}") from None


def _ancestors(value: str) -> str:
    try:
        return ancestors_of(value)
    except ValueError as problem:
        raise SettingsError(f"-frame-ancestors: {problem}") from None


def _advertised(value: str) -> tuple[str, ...]:
    named = tuple(word.strip() for word in value.split(",") if word.strip())
    for word in named:
        try:
            parse_entry(word)
        except ValueError as problem:
            raise SettingsError(f"-advertise-ips (ADVERTISE_IPS): {problem}") from None
    return named


def _media_bind(value: str, bind: str, advertised: tuple[str, ...]) -> str:
    if value:
        return _address(value, "media-bind")
    if all(parse_entry(word).is_loopback for word in advertised):
        return bind
    return "::" if ":" in bind else "0.0.0.0"  # (carries SRTP only)


def _senders(values: tuple[str, ...]) -> tuple[tuple[Network, ...], bool]:
    networks = []
    for value in values:
        if value == NEIGHBOUR:
            continue
        try:
            networks.append(network_of(value))
        except ValueError:
            raise SettingsError(
                f"-rtp-from is an address, a network or `{NEIGHBOUR}`, not {value!r}"
            ) from None
    return tuple(networks), NEIGHBOUR in values


def _ice_servers(parsed: Parsed, environ: Mapping[str, str]) -> tuple[tuple[str, ...], Path | None]:
    """The URLs, and the file of the secret if one of them needs it."""
    told = environ.get("ICE_SERVERS", "").split(",")
    urls = parsed.values("ice-server") or tuple(word.strip() for word in told if word.strip())
    secret = said(parsed, environ, "turn-secret", "TURN_SECRET")
    try:
        IceServers(urls, secret)
    except ValueError as problem:
        raise SettingsError(f"-ice-server (ICE_SERVERS): {problem}") from None
    if any(url.startswith("turn") for url in urls):
        return urls, _path(secret)
    if parsed.given("turn-secret"):
        raise SettingsError("-turn-secret needs an -ice-server that is a turn: URL")
    return urls, None


def _fanout(value: str) -> Literal["native", "plain"]:
    if value not in ("native", "plain"):
        raise SettingsError(f"-fanout is native or plain, not {value!r}")
    return "plain" if value == "plain" else "native"


def _port_or_off(parsed: Parsed, flag: str) -> int:
    value = parsed.number(flag)
    return value if value == -1 else port_of(value)


def _path(value: str) -> Path | None:
    return Path(value).absolute() if value else None
