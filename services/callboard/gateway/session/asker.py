"""Who wants a session. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants a session."""

    client: str
    """For the log."""
    loopback: bool = False
    """It called us by localhost or a loopback address: it may be told loopback candidates."""
