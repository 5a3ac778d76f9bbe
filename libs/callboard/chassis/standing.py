"""Judges a program's standing connections anew when its trust changes (`callboard.pki.standing`).

Apart from `identity`, so that whoever only reads settings imports no cryptography.
"""

from __future__ import annotations

from collections.abc import Callable

from callboard.chassis.lifecycle import Lifecycle
from callboard.pki.live import Judge, LiveIdentity

Holder = Callable[[Judge], object]
"""Ends its connections whose certificate (DER) the judge says something about."""


def judge_standing(life: Lifecycle, identity: LiveIdentity | None, *holders: Holder) -> None:
    """Have `holders` end connections that would not be made any more, until the program's end.

    Without an identity there is nothing to judge. At a reload it is done at once.
    """
    if identity is None:
        return
    from callboard.pki.standing import Standing  # noqa: PLC0415 - cryptography: 40 ms

    standing = Standing(identity)
    for holder in holders:
        standing.watch(holder)
    life.on_reload(standing.look)
    life.own(standing.follow(), "standing connections")
