"""For users' tests: a whole agent, or a TLS server that misbehaves, in the test's own process.

    def test_finds_the_printer(catalog):
        catalog.register("printer", port=631, tags=["laser"], ttl="10s")
        ...                                    # your code, pointed at catalog.url or catalog.dns
        catalog.clock.advance(11)              # the time to live is over: critical

    def test_refuses_an_expired_certificate(tls_server):
        tls_server.fault("expired")
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(tls_server.url, verify=tls_server.ca.path)

`catalog` and `tls_server` are pytest fixtures (the package brings the plugin); `with Catalog() as
catalog` and `with TLSServer() as server` are the same without pytest. Ports of their own, so tests
may run in parallel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callboard.testing.answers import Answer, Request
    from callboard.testing.inprocess import Catalog
    from callboard.testing.tls_server import TLSServer

__all__ = ["Answer", "Catalog", "Request", "TLSServer"]

_MODULES = {
    "Answer": "answers",
    "Catalog": "inprocess",
    "Request": "answers",
    "TLSServer": "tls_server",
}


def __getattr__(name: str) -> object:
    """Import on first use: whoever needs the one does not pay for the other."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
