"""What an agent's membership needs to be told. Read from flags and files elsewhere."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callboard.swim.config import Config, SerfConfig, lan
from callboard.swim.keyring import KEY_BYTES

PORT = 8301
"""Consul's serf_lan port."""


def decode_key(text: str) -> bytes:
    """A gossip key as `keygen` prints it: base64 of 16, 24 or 32 bytes. Raises ValueError."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("invalid encryption key: it is not base64") from None
    if len(key) not in KEY_BYTES:
        raise ValueError(f"invalid encryption key: {len(key)} bytes, must be 16, 24 or 32")
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one agent's membership."""

    name: str
    """The node's name."""
    bind: str = "0.0.0.0"
    """The address gossip listens on, UDP and TCP; datagrams leave from it."""
    port: int = PORT
    """The port; 0 takes a free one."""
    advertise: str = ""
    """The address others reach us at; "" is `bind`, or how we reach the network if that is any."""
    advertise_port: int = 0
    """The port others reach us at; 0 is the one bound."""
    source: str = ""
    """The address outgoing streams leave from; "" is `bind`, or the system's choice."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What we tell of ourselves, at most 512 bytes encoded."""
    keys: tuple[bytes, ...] = ()
    """The keys of an encrypted cluster, the primary first; none is plain text."""
    keyring_path: Path | None = None
    """The file that keeps them once they are changed; None keeps nothing."""
    retry_join: tuple[str, ...] = ()
    """Peers, "host", "host:port" or "[v6]:port": joined at start and whenever none is alive."""
    retry_interval_s: float = 30.0
    """The longest pause between two rounds of retry_join; the first rounds come quickly."""
    retry_max: int = 0
    """After so many intervals in which nobody was joined the joiner gives up; 0 is never."""
    rejoin_after_leave: bool = False
    """Call the remembered peers even if the last run left the cluster."""
    snapshot_path: Path | None = None
    """The file that remembers peers over a restart; None remembers nothing."""
    resolve_timeout_s: float = 5.0
    """How long one name look-up may take."""
    profile: Callable[[str, str, int], Config] = lan
    """The protocol's constants, from name, address and port."""
    serf: SerfConfig = field(default_factory=SerfConfig)
    """Who is forgotten when."""
