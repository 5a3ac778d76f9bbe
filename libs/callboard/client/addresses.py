"""Addresses of agents, as CONSUL_HTTP_ADDR and CALLBOARD_HTTP_ADDR write them.

`host`, `host:port`, `http://host:port`, `https://host:port/prefix`, `unix:///path`; several are
separated by commas and tried in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_ADDRESS = "127.0.0.1:8500"
DEFAULT_TLS_ADDRESS = "127.0.0.1:8501"
HTTP_PORT = 8500
HTTPS_PORT = 8501


@dataclass(frozen=True, slots=True)
class Address:
    """One agent."""

    scheme: str
    """http, https or unix."""
    host: str
    """A name or IP address without brackets; the path of the socket for unix."""
    port: int
    prefix: str = ""
    """Before every path, without a slash at its end."""

    @property
    def authority(self) -> str:
        """What stands in Host and in a URL."""
        if self.scheme == "unix":
            return "127.0.0.1"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Scheme, authority and prefix."""
        scheme = "http" if self.scheme == "unix" else self.scheme
        return f"{scheme}://{self.authority}{self.prefix}"


def parse_addresses(text: str, *, tls: bool = False) -> tuple[Address, ...]:
    """All addresses of a comma list; `tls` is the default for those without a scheme.

    Raises ValueError with a text for the user.
    """
    found = tuple(_parse(word.strip(), tls=tls) for word in text.split(",") if word.strip())
    if not found:
        raise ValueError("no address is given")
    return found


def _parse(word: str, *, tls: bool) -> Address:
    if word.startswith("unix://"):
        return Address("unix", word.removeprefix("unix://"), 0)
    if "://" not in word:
        word = ("https://" if tls else "http://") + word
    try:
        parts = urlsplit(word)
        port = parts.port
    except ValueError as problem:
        raise ValueError(f"address {word!r}: {problem}") from problem
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"address {word!r} is not host:port, http://, https:// or unix://")
    default = HTTPS_PORT if parts.scheme == "https" else HTTP_PORT
    return Address(parts.scheme, parts.hostname, port or default, parts.path.rstrip("/"))
