"""The Python client of a catalog: register, resolve, watch, key/value; sync and async.

    from callboard.client import Client

    with Client() as catalog:
        catalog.register("web", port=80, tags=["rails"])
        for instance in catalog.resolve("web"):
            print(instance.address, instance.port)

It speaks Consul's HTTP API, takes a list of addresses and moves on when one is gone. Names are
imported when first used: the `callboard` verbs need the transport alone, in milliseconds. Locks
are not here: they need sessions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callboard.client.asynchronous import AsyncClient
    from callboard.client.calls import Answer, Instance
    from callboard.client.errors import ApiError, ClientError, Unreachable
    from callboard.client.synchronous import Client

__all__ = [
    "Answer",
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "Instance",
    "Unreachable",
]

_MODULES = {
    "Answer": "calls",
    "ApiError": "errors",
    "AsyncClient": "asynchronous",
    "Client": "synchronous",
    "ClientError": "errors",
    "Instance": "calls",
    "Unreachable": "errors",
}


def __getattr__(name: str) -> object:
    """Import a public name's module at its first use (PEP 562)."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
