"""STUN and TURN servers that clients are told of, with credentials that end by themselves. Pure.

Source: RFC 9725, 4.6 (Link); draft-uberti-behave-turn-rest-00 (coturn's use-auth-secret): the user
name is the time until when it is good, the password its HMAC-SHA1 by the shared secret.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable

GOOD_FOR_S = 12 * 3600
"""Unless told otherwise. An allocation that stands outlives its credentials only until it is
refreshed, so this bounds how long one viewing by TURN lasts (RFC 8656, 7)."""
_URL = re.compile(r"(?:stun|stuns|turn|turns):[A-Za-z0-9.:_\[\]-]+(?:\?transport=(?:udp|tcp))?")


class IceServers:
    """What there is."""

    def __init__(
        self,
        urls: Iterable[str] = (),
        secret: str = "",
        user: str = "viewer",
        good_for_s: int = GOOD_FOR_S,
    ) -> None:
        """Raises ValueError for what is no URL of such a server, and for turn: without a secret."""
        self._urls = tuple(urls)
        self._secret = secret.encode()
        self._user = user
        self._good_for_s = good_for_s
        for url in self._urls:
            if not _URL.fullmatch(url):
                raise ValueError(f"{url!r} is no stun:, stuns:, turn: or turns: URL")
            if url.startswith("turn") and not secret:
                raise ValueError(f"{url} needs the secret that the server shares")

    def links(self, wall: float, *, trusted: bool = True) -> list[tuple[str, str]]:
        """The Link fields; `wall` is seconds since 1970. Who is not `trusted` is told of no server
        that needs credentials."""
        urls = [url for url in self._urls if trusted or not url.startswith("turn")]
        return [("Link", f"<{url}>; {self._parameters(url, wall)}") for url in urls]

    def listed(self, wall: float) -> list[dict[str, str]]:
        """The same as RTCPeerConnection's iceServers."""
        return [{"urls": url, **self._credentials(url, wall)} for url in self._urls]

    def _parameters(self, url: str, wall: float) -> str:
        credentials = self._credentials(url, wall)
        parameters = ['rel="ice-server"', *(f'{key}="{v}"' for key, v in credentials.items())]
        if credentials:
            parameters.append('credential-type="password"')
        return "; ".join(parameters)

    def _credentials(self, url: str, wall: float) -> dict[str, str]:
        if not url.startswith("turn"):
            return {}
        name = f"{int(wall) + self._good_for_s}:{self._user}"
        code = hmac.digest(self._secret, name.encode(), "sha1")
        return {"username": name, "credential": base64.b64encode(code).decode()}
