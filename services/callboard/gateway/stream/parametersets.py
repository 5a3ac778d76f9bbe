"""Parameter sets of H.264 and H.265: kept, and put before keyframes that come without.

A viewer that joins begins with a keyframe, and a decoder begins with parameter sets: an encoder
that sends them once, or a packet that was lost, would leave it in the dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from callboard.gateway.stream.formats import ParameterSetRules
from callboard.gateway.stream.packet import PAYLOAD_BYTES_MAX
from callboard.media.rtp import distance

SETS_MAX = 16
"""Of one kind; what a frame brings beyond is not kept."""


class ParameterSets:
    """The sets of one track, and how far the frame has come that is being received."""

    def __init__(self, rules: ParameterSetRules, known: Iterable[bytes] = ()) -> None:
        """`known`: sets from the description (sprop-parameter-sets and friends), decoded."""
        self._rules = rules
        self._first = rules.kinds[0]
        self._known = tuple(known)
        self._sets: dict[int, list[bytes]] = {}
        self._bundle: list[bytes] | None = None
        self._leading = True
        """The first kind of set is a sign that a keyframe follows."""
        self._timestamp: int | None = None
        """Of the frame that is being received, and the rest is about that frame:"""
        self._marked = False
        """A decoder can begin with it, and the packet to begin with has been told."""
        self._picture = False
        """The keyframe's first slice has come."""
        self._brought: set[int] = set()
        """Kinds of sets that have come."""
        self._here: set[int] = set()
        """Those that have come from the marked packet on."""
        self.forget()

    def forget(self) -> None:
        """Another source begins: what is known is what the description says."""
        self._sets = {kind: [] for kind in self._rules.kinds}
        for unit in self._known:
            for kind, found in self._rules.inspect(unit)[1]:
                self._sets[kind].append(found)
        self._bundle = None
        self._begin_frame(None)
        self._leading = True

    def begins(self, payload: bytes) -> bool:
        """Whether a keyframe, or what goes before it, begins with a packet."""
        begins, found = self._rules.inspect(payload)
        return begins or (self._leading and any(kind == self._first for kind, _ in found))

    def look(
        self, payload: bytes, timestamp: int, *, late: bool = False
    ) -> tuple[bool, Sequence[bytes]]:
        """For a packet: whether a decoder can begin with it (or with the first of what goes before
        it), and the payloads to be sent before it. For a late packet, nothing goes before it."""
        begins, found = self._rules.inspect(payload)
        if not begins and not found:
            return False, ()
        if timestamp != self._timestamp:
            if late and self._is_past(timestamp):
                return False, ()
            self._begin_frame(timestamp)
        for kind, unit in found:
            self._keep(kind, unit)
        marked_before = self._marked
        if (self._leading or begins) and any(kind == self._first for kind, _ in found):
            self._marked = True
        if self._marked:
            self._here.update(kind for kind, _ in found)
        before: Sequence[bytes] = ()
        if begins and not self._picture:
            self._picture = True
            if not late and len(self._here) < len(self._rules.kinds):
                before = self._bundled()
                self._marked = self._marked or bool(before)
        return self._marked and not marked_before, before

    def _is_past(self, timestamp: int) -> bool:
        """Whether a later frame has come so far that this one's is not followed any more."""
        return self._timestamp is not None and distance(timestamp, self._timestamp, 32) < 0

    def _begin_frame(self, timestamp: int | None) -> None:
        if self._marked and not self._picture:
            # The source sends sets before other frames, too: then only a slice tells a keyframe.
            self._leading = False
        self._timestamp = timestamp
        self._marked = self._picture = False
        self._brought.clear()
        self._here.clear()

    def _keep(self, kind: int, unit: bytes) -> None:
        """The sets of the last frame that brought any of a kind take the place of the older ones,
        so their ids need not be read."""
        sets = self._sets[kind]
        if kind not in self._brought:
            self._brought.add(kind)
            if sets != [unit]:
                self._bundle = None
                sets.clear()
        if unit not in sets and len(sets) < SETS_MAX:
            sets.append(unit)
            self._bundle = None

    def _bundled(self) -> list[bytes]:
        """All sets as payloads; none if there is not one of each kind."""
        if not all(self._sets.values()):
            return []
        if self._bundle is None:
            every = [unit for kind in self._rules.kinds for unit in self._sets[kind]]
            self._bundle = self._rules.bundle(every, PAYLOAD_BYTES_MAX) or []
        return self._bundle
