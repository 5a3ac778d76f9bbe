"""What `callboard gateway doctor` makes of the ICE servers that a gateway tells of. Pure.

Sources: RFC 9725, 4.6 and RFC 8288 (Link); RFC 7064, 7065 (URLs); RFC 8656, 7.4 (error codes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from callboard.chassis.findings import Finding, Grade

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*;\s*({_TOKEN})\s*(?:=\s*("(?:[^"\\]|\\.)*"|{_TOKEN}))?')
_TARGET = re.compile(r"[\s,]*<([^>]*)>")
_URL = re.compile(
    r"(stuns?|turns?):(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?"
    r"(?:\?transport=(udp|tcp))?",
    re.I | re.ASCII,
)
PORT, SECURED_PORT = 3478, 5349
"""Unless the URL has one."""
NAME_MISMATCH, ADDRESS_MISMATCH = 62, 64
"""OpenSSL's X509_V_ERR_…"""
UNKNOWN_CA = (18, 19, 20, 21)
"""Self-signed, or an issuer that nobody here knows."""


@dataclass(frozen=True, slots=True)
class IceServer:
    """One that viewers are told of."""

    url: str
    scheme: str = ""
    """stun, stuns, turn or turns; "" if the URL cannot be read."""
    host: str = ""
    port: int = 0
    transport: str = ""
    """udp or tcp: to the server."""
    username: str = ""
    credential: str = ""

    @property
    def relays(self) -> bool:
        """Whether it is a TURN server."""
        return self.scheme.startswith("turn")

    @property
    def is_secured(self) -> bool:
        """Whether it is spoken to by TLS."""
        return self.scheme.endswith("s")

    @property
    def can_be_asked(self) -> bool:
        """Whether there is all that a request needs; TLS over UDP is not spoken here."""
        known = bool(self.username and self.credential) or not self.relays
        return bool(self.scheme) and known and not self._is_dtls

    @property
    def _is_dtls(self) -> bool:
        return self.is_secured and self.transport == "udp"

    @property
    def where(self) -> str:
        """Transport and address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport.upper()} at {host}:{self.port}"


class Fate(Enum):
    """What came of one request to a server."""

    ANSWERED = "answered"
    UNRESOLVED = "its name has no address"
    SILENT = "no answer"
    REFUSED = "nobody listens"
    UNREACHABLE = "no way there"
    UNTRUSTED = "its certificate is not accepted"
    NO_TLS = "no handshake"
    STRANGER = "it does not speak STUN"
    DENIED = "it answered by an error"


@dataclass(frozen=True, slots=True)
class Tried:
    """One server that was asked."""

    server: IceServer
    fate: Fate
    address: tuple[str, int] | None = None
    """The relayed one of TURN, the mapped one of STUN."""
    took_ms: float = 0.0
    code: int = 0
    """DENIED: STUN's; UNTRUSTED: OpenSSL's (X509_V_ERR_…)."""
    why: str = ""


# ------------------------------------------------------------------------------- reading


def parse_servers(link: str) -> list[IceServer]:
    """The ice-server links of a Link field, or of several joined by commas. Whatever cannot be
    read ends it."""
    found, at = [], 0
    while target := _TARGET.match(link, at):
        at = target.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(link, at):
            at = parameter.end()
            # the first one counts (RFC 8288, 3.3)
            parameters.setdefault(parameter[1].lower(), _unquoted(parameter[2] or ""))
        if "ice-server" in parameters.get("rel", "").lower().split():
            username, credential = (parameters.get(key, "") for key in ("username", "credential"))
            found.append(_server(target[1].strip(), username, credential))
    return list(dict.fromkeys(found))


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _server(url: str, username: str, credential: str) -> IceServer:
    parts = _URL.fullmatch(url)
    if parts is None:
        return IceServer(url)
    scheme = parts[1].lower()
    port = int(parts[3]) if parts[3] else SECURED_PORT if scheme.endswith("s") else PORT
    if not 0 < port < 1 << 16:
        return IceServer(url)
    transport = (parts[4] or ("tcp" if scheme.endswith("s") else "udp")).lower()
    return IceServer(url, scheme, parts[2].strip("[]"), port, transport, username, credential)


# ------------------------------------------------------------------------------- judging


def judge_links(status: int, asked: str, servers: Sequence[IceServer]) -> Iterator[Finding]:
    """What OPTIONS at the path `asked` told; only what keeps a server from being asked."""
    if not 200 <= status < 300:
        text = f"OPTIONS {asked}: {status}: which ICE servers there are is not told before an offer"
        yield Finding(Grade.NOTE, "turn", text)
    for server in servers:
        if server.can_be_asked:
            continue
        if not server.scheme:
            text = f"{server.url[:200]} is no URL of a STUN or TURN server"
            yield Finding(Grade.BAD, "turn", text)
        elif server.is_secured and server.transport == "udp":
            text = f"{server.url}: not tried: TLS over UDP is not spoken here, nor by all browsers"
            yield Finding(Grade.NOTE, _subject(server), text)
        else:
            text = f"{server.url}: no username and credential are told with it"
            yield Finding(Grade.BAD, _subject(server), text)


def judge_tried(tried: Sequence[Tried], wall_s: float) -> Iterator[Finding]:
    """One finding a server; `wall_s`: this machine's seconds since 1970."""
    for each in tried:
        good = each.fate is Fate.ANSWERED
        text = _answered(each) if good else _failed(each, wall_s)
        grade = Grade.GOOD if good else Grade.BAD
        yield Finding(grade, _subject(each.server), f"{each.server.url}{text}")


def _subject(server: IceServer) -> str:
    return "turn" if server.relays else "stun"


def _answered(tried: Tried) -> str:
    host, port = tried.address or ("no address", 0)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    took = f"{tried.took_ms:.0f} ms"
    if tried.server.relays:
        return f" relays: {address} after {took}"
    return f" answers in {took}: we are {address} to it"


def _failed(tried: Tried, wall_s: float) -> str:
    server, why = tried.server, " ".join(tried.why.split())[:300]
    match tried.fate:
        case Fate.UNRESOLVED:
            return f": {server.host} does not resolve: {why}"
        case Fate.SILENT:
            return f": no answer by {server.where}: a firewall, or a server that does not run"
        case Fate.REFUSED:
            return f": nobody listens by {server.where}: does it run, and is the port published?"
        case Fate.UNTRUSTED:
            return f": its TLS certificate is not accepted: {why}{_certificate_help(tried)}"
        case Fate.NO_TLS:
            return f": no TLS by {server.where}: {why}"
        case Fate.STRANGER:
            kind = "TURN" if server.relays else "STUN"
            return f": what is there by {server.where} is no {kind} server: {why}"
        case Fate.DENIED:
            return f": {tried.code} {why}".rstrip() + _denied_help(tried, wall_s)
    return f": no way to {server.where}: {why}"


def _certificate_help(tried: Tried) -> str:
    if tried.code in (NAME_MISMATCH, ADDRESS_MISMATCH):
        return f": does it name {tried.server.host}?"
    if tried.code in UNKNOWN_CA:
        return ": browsers need its CA (callboard tls trust), and this doctor needs -ca-file"
    return ""


_DENIED = {
    403: "it forbids us to have a relay",
    437: "it takes us for somebody else's connection: ask again",
    441: "it has another credential for this user",
    442: "it relays no UDP",
    486: "its quota is used up (coturn's user-quota, total-quota)",
    508: "it has no port or memory left (coturn's min-port, max-port)",
}


def _denied_help(tried: Tried, wall_s: float) -> str:
    if tried.code != 401:
        told = _DENIED.get(tried.code, "")
        return f": {told}" if told else ""
    # coturn's use-auth-secret: the user name begins with the time until when it is good
    ends = re.match(r"([0-9]{1,15})(?::|$)", tried.server.username)
    if ends and int(ends[1]) < wall_s:
        ago_s = wall_s - int(ends[1])
        return f": the credentials ended {ago_s:.0f} s ago by this clock: is the gateway's slow?"
    return ": is its secret (static-auth-secret) that of -turn-secret, and is its clock right?"
