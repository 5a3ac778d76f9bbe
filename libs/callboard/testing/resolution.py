"""Names that lead to this machine, in this process alone, while a test needs them.

`socket.getaddrinfo` is what urllib, requests, httpx and aiohttp resolve by; for every other name it
does what it did.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from typing import Any

LOOPBACK = "127.0.0.1"

_lock = threading.Lock()
_names: Counter[str] = Counter()
_system: Any = None
"""What resolves other names; None while none of ours is there."""


def add(name: str) -> None:
    """Let a name lead to 127.0.0.1, until it was removed as often as added."""
    global _system  # noqa: PLW0603 - the function that is replaced is one per process as well
    with _lock:
        _names[name] += 1
        if _system is None:
            _system = socket.getaddrinfo
            socket.getaddrinfo = _getaddrinfo


def remove(name: str) -> None:
    """Undo `add`."""
    global _system  # noqa: PLW0603
    with _lock:
        _names[name] -= 1
        if _names[name] <= 0:
            del _names[name]
        # one who replaced it after us still calls ours: then it stays, and passes all through
        if not _names and socket.getaddrinfo is _getaddrinfo:
            socket.getaddrinfo = _system
            _system = None


def _getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    with _lock:
        ours = isinstance(name, str) and name.lower().rstrip(".") in _names
        system = _system
    return (system or socket.getaddrinfo)(LOOPBACK if ours else host, *args, **kwargs)
