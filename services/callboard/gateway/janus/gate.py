"""Who may come in: by the names we are called by, and the pages that call. Pure.

Pages of the same host may, whatever their port: so a demo page beside this API works. Pages of
other sites are let in by name, or they could show what cameras see at whoever opens them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from callboard.chassis.guards import HostGuard, OriginGuard

PREFLIGHT_S = 86_400


class Gate:
    """See the module."""

    def __init__(self, hosts: HostGuard | None, allowed_origins: Iterable[str] = ()) -> None:
        """`hosts`: the names that a Host header may carry; None: any. `allowed_origins`: pages of
        other sites; `*` for any."""
        self._hosts = hosts
        self._origins = OriginGuard(allowed_origins)

    def refusal(self, headers: Mapping[str, str]) -> str:
        """Why a request is refused; "" if it is not. Names of fields are in lower case."""
        host = headers.get("host", "")
        if self._hosts is not None and host and not self._hosts.allows(host):
            return "not known by that name: see the setting -allowed-host"
        origin = headers.get("origin")
        if origin is None:
            foreign = headers.get("sec-fetch-site", "none") == "cross-site"
        else:
            foreign = not self._origins.allows(origin, host)
        return "pages of that origin may not: see the setting -allowed-origin" if foreign else ""

    def origin_headers(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """What an answer says of who may read it (WHATWG Fetch, 3.2)."""
        vary = [("Vary", "Origin")]
        origin = headers.get("origin")
        if origin is None or self.refusal(headers):
            return vary
        # (clients ask with credentials if they are told to; there are none)
        allowed = [("Access-Control-Allow-Origin", origin)]
        return [*vary, *allowed, ("Access-Control-Allow-Credentials", "true")]

    def preflight_headers(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """What the answer to OPTIONS says besides."""
        if headers.get("origin") is None or self.refusal(headers):
            return []
        return [
            ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
            ("Access-Control-Allow-Headers", "Content-Type, Authorization"),
            ("Access-Control-Max-Age", str(PREFLIGHT_S)),
        ]
