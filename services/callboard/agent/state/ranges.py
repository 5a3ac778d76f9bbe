"""A sorted set of keys with the newest index of any range: what makes prefix reads cheap.

Keys stand in blocks of at most twice BLOCK_SIZE with the newest index of each block; a prefix costs
two partial blocks and one number for each whole one. Order is by code point, which for UTF-8 is
byte order (Consul lists keys in byte order).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterator

BLOCK_SIZE = 256


class _Block:
    __slots__ = ("indexes", "keys", "newest")

    def __init__(self, keys: list[str], indexes: list[int]) -> None:
        self.keys = keys
        self.indexes = indexes
        self.newest = max(indexes)


class KeyRanges:
    """Sorted keys, each with the index of its last change."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._firsts: list[str] = []

    def touch(self, key: str, index: int) -> None:
        """Add the key, or move it to `index`."""
        if not self._blocks:
            self._insert_block(0, _Block([key], [index]))
            return
        at = max(0, bisect_right(self._firsts, key) - 1)
        block = self._blocks[at]
        place = bisect_left(block.keys, key)
        if place < len(block.keys) and block.keys[place] == key:
            block.indexes[place] = index
        else:
            block.keys.insert(place, key)
            block.indexes.insert(place, index)
            if place == 0:
                self._firsts[at] = key
        block.newest = max(block.newest, index)
        if len(block.keys) > 2 * BLOCK_SIZE:
            self._split(at)

    def touch_below(self, prefix: str, index: int, among: Container[str]) -> None:
        """Move those keys that begin with the prefix and are `among` these to `index`."""
        for block, start, stop in self._spans(prefix):
            for place in range(start, stop):
                if block.keys[place] in among:
                    block.indexes[place] = index
                    block.newest = index

    def newest(self, prefix: str) -> int:
        """The newest index of any key that begins with the prefix; 0 if none does."""
        result = 0
        for block, start, stop in self._spans(prefix):
            whole = start == 0 and stop == len(block.keys)
            newest = block.newest if whole else max(block.indexes[start:stop], default=0)
            result = max(result, newest)
        return result

    def below(self, prefix: str) -> list[str]:
        """The keys that begin with the prefix, in byte order."""
        keys: list[str] = []
        for block, start, stop in self._spans(prefix):
            keys += block.keys[start:stop]
        return keys

    def discard(self, keep: Callable[[str], bool]) -> None:
        """Remove every key that is not to be kept."""
        blocks: list[_Block] = []
        for block in self._blocks:
            places = [place for place, key in enumerate(block.keys) if keep(key)]
            if len(places) == len(block.keys):
                blocks.append(block)
            elif places:
                blocks.append(
                    _Block(
                        [block.keys[place] for place in places],
                        [block.indexes[place] for place in places],
                    )
                )
        self._blocks = blocks
        self._firsts = [block.keys[0] for block in blocks]

    def _spans(self, prefix: str) -> Iterator[tuple[_Block, int, int]]:
        """Each block with keys below the prefix: (block, first place, place after the last)."""
        end = _successor(prefix)
        at = max(0, bisect_right(self._firsts, prefix) - 1)
        for block in self._blocks[at:]:
            if end is not None and block.keys[0] >= end:
                return
            start = bisect_left(block.keys, prefix) if block.keys[0] < prefix else 0
            whole = end is None or block.keys[-1] < end
            stop = len(block.keys) if end is None or whole else bisect_left(block.keys, end)
            if start < stop:
                yield block, start, stop

    def _split(self, at: int) -> None:
        block = self._blocks[at]
        self._blocks[at] = _Block(block.keys[:BLOCK_SIZE], block.indexes[:BLOCK_SIZE])
        self._insert_block(at + 1, _Block(block.keys[BLOCK_SIZE:], block.indexes[BLOCK_SIZE:]))

    def _insert_block(self, at: int, block: _Block) -> None:
        self._blocks.insert(at, block)
        self._firsts.insert(at, block.keys[0])


def _successor(prefix: str) -> str | None:
    """The least string above every string that begins with the prefix; None: there is none."""
    trimmed = prefix.rstrip("\U0010ffff")
    return trimmed[:-1] + chr(ord(trimmed[-1]) + 1) if trimmed else None
