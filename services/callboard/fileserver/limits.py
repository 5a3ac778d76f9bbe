"""How long and how much a client may: one value for each state of a connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and counts; a connection past its time is closed."""

    handshake_s: float = 10.0
    """From the accepted connection to the end of the TLS handshake."""
    head_s: float = 10.0
    """From a head's first byte (or the handshake's end) to its empty line."""
    idle_s: float = 60.0
    """Between two requests."""
    write_stall_s: float = 30.0
    """Of a client that takes nothing of its answer."""
    linger_s: float = 2.0
    """Of a client that is told why it is refused, to read it."""
    age_s: float = 3600.0
    """Of a connection, however busy: a revoked certificate does not live on in it."""
    drain_s: float = 5.0
    """At the program's stop, for requests that are being answered."""
    connections: int = 4096
    connections_per_address: int = 256

    @property
    def tick_s(self) -> float:
        """How often times are looked at."""
        times = (self.handshake_s, self.head_s, self.idle_s, self.write_stall_s, self.linger_s)
        return max(0.01, min(0.5, min(times) / 4))
