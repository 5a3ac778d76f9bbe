"""pytest plugin: `catalog`, an agent for one test, and `tls_server`, a TLS server for one test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from callboard.testing.inprocess import Catalog
    from callboard.testing.tls_server import TLSServer


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    """A whole agent in this process, empty, gone after the test."""
    from callboard.testing.inprocess import Catalog  # noqa: PLC0415 - every pytest run loads this

    with Catalog() as running:
        yield running


@pytest.fixture
def tls_server() -> Iterator[TLSServer]:
    """A TLS server in this process that is right until told otherwise, gone after the test."""
    from callboard.testing.tls_server import TLSServer  # noqa: PLC0415 - as above

    with TLSServer() as running:
        yield running
