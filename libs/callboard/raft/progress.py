"""How far one member is behind its leader, and how fast it may be fed.

Invariant: 0 <= match < next. `match` is what the member acknowledged in the leader's term, `next`
what is sent to it next. No message is made here; replication.py does that.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from callboard.raft.errors import InvariantBroken

NEVER = float("-inf")


class ProgressState(IntEnum):
    """How a member is fed."""

    PROBE = 1
    """Where its log parts from ours is unknown: one append at a time."""
    REPLICATE = 2
    """Its log is known to follow ours: appends are pipelined, up to the window."""
    SNAPSHOT = 3
    """It needs entries that were compacted: nothing is sent until the snapshot is reported."""


class Progress:
    """The leader's view of one other member."""

    __slots__ = (
        "acked_round",
        "catching_up",
        "heard_at",
        "inflight",
        "inflight_bytes",
        "match",
        "next",
        "paused",
        "pending_snapshot",
        "sends",
        "sends_void",
        "sent_commit",
        "state",
        "voteless",
    )

    def __init__(self, next_index: int) -> None:
        self.match = 0
        self.next = next_index
        self.state = ProgressState.PROBE
        self.paused = False
        """PROBE: an append is under way, wait for its answer or for a heartbeat's."""
        self.inflight: deque[tuple[int, int]] = deque()
        """REPLICATE: (last index, bytes) of each append not acknowledged yet."""
        self.inflight_bytes = 0
        self.pending_snapshot = 0
        """Index of the last snapshot sent."""
        self.catching_up = False
        """It was sent a snapshot and has not reached our commit index since: the log that follows
        the snapshot is kept, or it would need one after another."""
        self.sent_commit = 0
        """The commit index it was last told."""
        self.sends = 0
        """Appends sent so far; each carries its number, and a rejection tells it back."""
        self.sends_void = 0
        """Rejections of appends up to this one are old news: we have gone back since."""
        self.heard_at = NEVER
        """When it last answered in this term."""
        self.acked_round = 0
        """The latest heartbeat round it answered (ReadIndex)."""
        self.voteless = False
        """It says that it lost its data: it is fed, and counts in no quorum."""

    def __repr__(self) -> str:
        parts = [f"{self.state.name} match={self.match} next={self.next}"]
        if self.paused:
            parts.append("paused")
        if self.inflight:
            parts.append(f"inflight={len(self.inflight)}")
        if self.state is ProgressState.SNAPSHOT:
            parts.append(f"pending={self.pending_snapshot}")
        if self.voteless:
            parts.append("voteless")
        return " ".join(parts)

    def probe(self, next_index: int) -> None:
        """Go back to one append at a time, from `next_index`."""
        self._enter(ProgressState.PROBE)
        self._set(self.match, max(next_index, self.match + 1))

    def replicate(self) -> None:
        """Feed it pipelined from what it acknowledged."""
        self._enter(ProgressState.REPLICATE)
        self._set(self.match, self.match + 1)

    def await_snapshot(self, index: int) -> None:
        """Wait until the snapshot at `index` is acknowledged or reported."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.catching_up = True

    def acknowledge(self, index: int) -> bool:
        """It holds our log up to `index`; False if that was known (a late or doubled answer)."""
        while self.inflight and self.inflight[0][0] <= index:
            self.inflight_bytes -= self.inflight.popleft()[1]
        if index <= self.match:
            return False
        self._set(index, max(self.next, index + 1))
        return True

    def reject(self, rejected: int, hint: int, send: int) -> bool:
        """It does not hold our entry `rejected`; try `hint` next. False if that is old news.

        `send` is the number of the append it rejects. Without it each of the many rejections
        that follow one loss in a full pipeline would send the whole window once more.
        """
        if self.state is ProgressState.SNAPSHOT or send <= self.sends_void:
            return False
        if self.state is ProgressState.REPLICATE:
            # Whatever it acknowledged it cannot reject: such an answer was overtaken.
            if rejected <= self.match:
                return False
            self.probe(self.match + 1)
            return True
        # Only the probe under way can be rejected; anything else was overtaken.
        if rejected != self.next - 1:
            return False
        self._set(self.match, max(min(rejected, hint + 1), self.match + 1))
        self.paused = False
        return True

    def forget(self, next_index: int) -> None:
        """It lost its data and says so: what it acknowledged is void (it counts nowhere)."""
        self._enter(ProgressState.PROBE)
        self._set(0, max(next_index, 1))

    def sent(self, last: int, size: int) -> None:
        """A pipelined append up to `last` left."""
        self._set(self.match, last + 1)
        self.inflight.append((last, size))
        self.inflight_bytes += size

    def _enter(self, state: ProgressState) -> None:
        self.sends_void = self.sends
        self.state = state
        self.paused = False
        self.inflight.clear()
        self.inflight_bytes = 0

    def _set(self, match: int, next_index: int) -> None:
        if not 0 <= match < next_index:
            raise InvariantBroken("progress", f"match {match} is not below next {next_index}")
        self.match = match
        self.next = next_index
