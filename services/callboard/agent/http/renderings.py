"""Bodies kept as bytes while their resource stands at the same index.

A resource's index moves whenever anything its answers show changes (blocking queries rely on it),
so a body is right exactly as long as the index is the one it was made at. What is not for every
caller (rights other than allow-all) is not kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from callboard.catalog.changes import WatchKey

_ENTRY_BYTES = 400
"""What an entry costs beside its body."""


class Renderings:
    """The most recently used bodies, up to a number of bytes."""

    def __init__(self, *, memory_bytes_max: int = 16 << 20) -> None:
        self._kept: OrderedDict[tuple[WatchKey, Hashable], tuple[int, bytes]] = OrderedDict()
        self._bytes = 0
        self._bytes_max = memory_bytes_max

    def get(self, key: WatchKey, form: Hashable, index: int) -> bytes | None:
        """The body in this form, if it was made at this index."""
        found = self._kept.get((key, form))
        if found is None or found[0] != index:
            return None
        self._kept.move_to_end((key, form))
        return found[1]

    def put(self, key: WatchKey, form: Hashable, index: int, body: bytes) -> None:
        """Keep a body, in place of an older one."""
        old = self._kept.pop((key, form), None)
        if old is not None:
            self._bytes -= len(old[1]) + _ENTRY_BYTES
        self._kept[key, form] = (index, body)
        self._bytes += len(body) + _ENTRY_BYTES
        while self._bytes > self._bytes_max:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= len(dropped) + _ENTRY_BYTES
