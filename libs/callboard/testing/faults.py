"""What a test server can do wrong, by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from callboard.testing.credentials import Condition

FaultName = Literal[
    "expired",
    "not yet valid",
    "wrong host",
    "self-signed",
    "untrusted root",
    "revoked",
    "incomplete chain",
    "client certificate required",
    "client certificate of a wrong CA",
    "client certificate missing",
    "TLS 1.2 only",
    "plain HTTP",
    "stalled handshake",
    "reset handshake",
    "reset",
    "half a body",
    "slow body",
]

Clients = Literal["ignored", "optional", "required", "of a wrong CA", "required by HTTP"]
"""What is asked of clients' certificates; the last tells by 400, as nginx does, not by an alert."""
Opening = Literal["TLS", "plain HTTP", "stall", "reset"]
Body = Literal["whole", "half", "slow", "reset"]

PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """All that a server does; the defaults are those of a good one."""

    certificate: Condition = "good"
    clients: Clients = "optional"
    newest: Literal["1.2", "1.3"] = "1.3"
    opening: Opening = "TLS"
    body: Body = "whole"
    pause_s: float = PAUSE_S
    """Between two bytes of a slow body."""


FAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        **{name: {"certificate": name} for name in get_args(Condition) if name != "good"},
        "client certificate required": {"clients": "required"},
        "client certificate of a wrong CA": {"clients": "of a wrong CA"},
        "client certificate missing": {"clients": "required by HTTP"},
        "TLS 1.2 only": {"newest": "1.2"},
        "plain HTTP": {"opening": "plain HTTP"},
        "stalled handshake": {"opening": "stall"},
        "reset handshake": {"opening": "reset"},
        "reset": {"body": "reset"},
        "half a body": {"body": "half"},
        "slow body": {"body": "slow"},
    }
)
"""What each fault changes of a `Behaviour`."""

OF_ONE_HOST = frozenset({"certificate", "body"})
"""What may be wrong with one host alone: the rest happens before a client says whom it wants."""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A fault that a test asked for."""

    changes: Mapping[str, Any]
    host: str | None
    """None: every host."""


def choose(name: str, host: str | None, pause_s: float) -> Chosen:
    """Look a fault up. Raises ValueError, with the nearest name, for one that there is not."""
    changes = FAULTS.get(name)
    if changes is None:
        near = difflib.get_close_matches(name, FAULTS, n=1, cutoff=0.3)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no fault {name!r}: {meant}There are: {', '.join(FAULTS)}")
    if host is not None and not changes.keys() <= OF_ONE_HOST:
        raise ValueError(f"{name!r} happens before a client names a host: it is of all hosts")
    if changes.get("body") == "slow":
        changes = {**changes, "pause_s": pause_s}
    return Chosen(changes, host)


def behaviour(base: Behaviour, chosen: Iterable[Chosen], host: str) -> Behaviour:
    """What a server does for a host when the faults `chosen` are there at once."""
    for fault in chosen:
        if fault.host in (None, host):
            base = dataclasses.replace(base, **fault.changes)
    return base
