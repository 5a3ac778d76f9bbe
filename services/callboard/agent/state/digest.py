"""The state's hash, kept up to date object by object (I12: equal on all replicas).

The sum modulo 2^64 of a hash of every object: a put adds the new one and subtracts the old, in
any order, so replicas agree whether they applied the log or restored a snapshot. It finds
divergence; it is no defence against forgery.
"""

from __future__ import annotations

from hashlib import blake2b
from zlib import crc32

import msgspec

from callboard.catalog.objects import KeyValue

MASK = (1 << 64) - 1

_FACTOR = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: spreads small indexes over 64 bits (Knuth, TAOCP 6.4)."""

_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


_SEEDS: dict[str, int] = {}


def object_hash(value: object) -> int:
    """64 bits of an object's canonical encoding."""
    encoded = _ENCODER.encode((type(value).__name__, value))
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "little")


def position_hash(kind: str, name: str) -> int:
    """A cheap odd factor for the index of a resource: the hash of an index is their product."""
    seed = _SEEDS.get(kind)
    if seed is None:
        seed = _SEEDS[kind] = crc32(kind.encode())
    return (crc32(name.encode("utf-8", "surrogatepass"), seed) << 1) | 1


def key_value_hash(entry: KeyValue) -> int:
    """A hash of a key's entry that stays cheap when a hundred thousand go at once."""
    checksum = crc32(entry.value, crc32(entry.key.encode("utf-8", "surrogatepass")))
    indexes = entry.modify_index * _FACTOR + entry.create_index * 31 + entry.lock_index * 1009
    return ((checksum << 1) | 1) * (indexes + entry.flags * 97) + crc32(entry.session.encode())
