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
"""What an entry costs beside its body and the names it is kept by."""


class Renderings:
    """The most recently used bodies, up to a number of bytes."""

    def __init__(self, *, memory_bytes_max: int = 16 << 20) -> None:
        self._kept: OrderedDict[tuple[WatchKey, Hashable], tuple[int, bytes, int]] = OrderedDict()
        self._bytes = 0
        self._bytes_max = memory_bytes_max

    def __len__(self) -> int:
        return len(self._kept)

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
            self._bytes -= old[2]
        size = len(body) + len(key.name) + len(str(form)) + _ENTRY_BYTES  # names are the client's
        self._kept[key, form] = (index, body, size)
        self._bytes += size
        while self._bytes > self._bytes_max:
            _, (_, _, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped
