"""How far a store was, written down beside it: a store found behind its mark is a restored one.

The mark is at most as far as what is on the disk, so a crash never looks like a restored store.
A store that has updates and no mark is taken for a restored one, too: to restore a copy is to put
the database back without its mark.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from callboard.files import replace

OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class Mark:
    """An epoch and the head in it."""

    epoch: str
    head: int


def read(path: Path) -> Mark | None:
    """The mark; None where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_bytes())
        epoch, head = found["epoch"], found["head"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not isinstance(epoch, str) or not isinstance(head, int) or isinstance(head, bool):
        return None
    return Mark(epoch, head)


def write(path: Path, mark: Mark) -> None:
    """Replace it; on the disk on return. Raises OSError."""
    with replace(path, "wb", permissions=OWNER_ONLY) as file:
        file.write(json.dumps({"epoch": mark.epoch, "head": mark.head}).encode() + b"\n")
