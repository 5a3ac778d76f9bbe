"""What verbs that speak with a hub share: which hub, by which token, how it is trusted."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from callboard.chassis import flags
from callboard.chassis.flags import Flag, Parsed
from callboard.chassis.verbs import Failed, UsageError, read_text
from callboard.client.transport import TlsOptions
from callboard.events.errors import EventsError
from callboard.events.targets import DEFAULT_HUB, hub_url

HUB_FLAGS: tuple[Flag, ...] = (
    flags.text("hub", f"URL of the hub (CALLBOARD_HUB_ADDR). Default: {DEFAULT_HUB}."),
    flags.text("token", "Token to show (CALLBOARD_HUB_TOKEN)."),
    flags.text("token-file", "File that holds it (CALLBOARD_HUB_TOKEN_FILE); read again for every "
               "connection."),
    flags.text("ca-file", "Certificate authorities that https is verified by (CALLBOARD_CACERT)."),
)  # fmt: skip
"""Flags of every verb that speaks with a hub."""


@dataclass(frozen=True, slots=True)
class Asking:
    """The hub a verb speaks with."""

    hub: str
    """URL, without a slash at its end."""
    token: str | Callable[[], str]
    tls: ssl.SSLContext | None
    """None: http."""
    ca_file: str = ""
    """What `tls` verifies by; "": what the system trusts."""

    @property
    def token_now(self) -> str:
        """The token itself."""
        return self.token() if callable(self.token) else self.token


def asking(parsed: Parsed, environ: Mapping[str, str], url: str = "") -> Asking:
    """By the command line, then the environment; `url` stands for -hub. Raises UsageError,
    Failed."""
    try:
        hub = hub_url(
            url or parsed.text("hub") or environ.get("CALLBOARD_HUB_ADDR", "") or DEFAULT_HUB
        )
    except ValueError as problem:
        raise UsageError(str(problem)) from problem
    tls = None
    ca_file = parsed.text("ca-file") or environ.get("CALLBOARD_CACERT", "")
    if hub.startswith("https://"):
        try:
            tls = TlsOptions(ca_file=ca_file).context()
        except OSError as problem:
            raise Failed(f"-ca-file: {problem.strerror or problem}") from problem
    return Asking(hub, _token(parsed, environ), tls, ca_file)


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn what a hub or its client says into the verb's failure."""
    try:
        yield
    except (EventsError, ValueError) as problem:
        raise Failed(f"{what}: {problem}") from problem


def _token(parsed: Parsed, environ: Mapping[str, str]) -> str | Callable[[], str]:
    """The flag, the flag's file, the variable, the variable's file: the first that is given."""
    for text, file in (
        (parsed.text("token"), parsed.text("token-file")),
        (environ.get("CALLBOARD_HUB_TOKEN", ""), environ.get("CALLBOARD_HUB_TOKEN_FILE", "")),
    ):
        if text:
            return text.strip()
        if file:
            path = Path(file)
            read_text(path, "token")
            return lambda: read_text(path, "token")
    return ""
