"""How many streams there may be, and how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """Numbers of streams; 0 is no limit."""

    readers_max: int = 50_000
    per_client_max: int = 0
    per_token_max: int = 0


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds."""

    heartbeat_s: float = 20.0
    """Below what proxies wait (nginx and ALB 60, Cloudflare 100)."""
    life_s: float = 600.0
    """Of a connection, give or take a fifth, so that readers do not come back together."""
    stall_s: float = 30.0
    """A reader whose client took nothing for so long is cut."""
