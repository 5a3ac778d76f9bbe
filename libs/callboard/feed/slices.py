"""A version of the catalog cut into RECORDS frames: for streams and for images. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol, TypeVar

from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.feed.wire import OBJECTS_PER_FRAME_MAX, Records

T = TypeVar("T")


class Pinned(Protocol):
    """One version of the catalog, for slow readers."""

    def nodes(self) -> Iterator[Node]: ...

    def services(self) -> Iterator[ServiceInstance]: ...

    def checks(self) -> Iterator[Check]: ...


def record_frames(pinned: Pinned) -> Iterator[Records]:
    """A version of the catalog as RECORDS frames."""
    for nodes in _slices(pinned.nodes()):
        yield Records(nodes=nodes)
    for services in _slices(pinned.services()):
        yield Records(services=services)
    for checks in _slices(pinned.checks()):
        yield Records(checks=checks)


def _slices(objects: Iterator[T]) -> Iterator[tuple[T, ...]]:
    while part := tuple(islice(objects, OBJECTS_PER_FRAME_MAX)):
        yield part
