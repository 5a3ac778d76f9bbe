"""Linearizable reads without a log entry: ReadIndex (section 6.4).

A read that came before round N began may be answered once a majority has answered round N: the
leader was still the leader after the read came, so its commit index covered all that was
acknowledged before. Round ids are never reused, not even by a repeated heartbeat (etcd #20418),
and everything waiting is dropped on any change of role or term (etcd #21386).

Laws of this file (I9): a round begins only after the leader has committed an entry of its own
term; a read joins only a round that begins after it came.
"""

from __future__ import annotations

from collections import deque

from callboard.raft.errors import InvariantBroken
from callboard.raft.ready import ReadState


class ReadRounds:
    """The reads that wait, on a leader, for a round to begin or to be won."""

    __slots__ = ("_last_context", "_rounds", "_waiting", "pending", "round")

    def __init__(self) -> None:
        self._last_context = -1
        self._waiting: list[int] = []
        self._rounds: deque[tuple[int, int, list[int]]] = deque()
        self.pending = 0
        """Reads not answered yet."""
        self.round = 0
        """Id of the last round begun in this process; only ever grows."""

    def ask(self, context: int) -> None:
        """A read came."""
        if context <= self._last_context:
            raise InvariantBroken(
                "I9", f"read context {context} reused; the last was {self._last_context}"
            )
        self._last_context = context
        self._waiting.append(context)
        self.pending += 1

    @property
    def waiting(self) -> bool:
        """True if reads wait for a round to begin."""
        return bool(self._waiting)

    def begin(self, commit: int | None) -> int:
        """A round of heartbeats begins; returns its id. `commit` is None while the leader has not
        committed an entry of its term: then the round confirms leadership but takes no reads."""
        self.round += 1
        if commit is not None and self._waiting:
            self._rounds.append((self.round, commit, self._waiting))
            self._waiting = []
        return self.round

    def won(self, round_id: int) -> list[ReadState]:
        """A majority has answered round `round_id`, and so every round before it."""
        states: list[ReadState] = []
        while self._rounds and self._rounds[0][0] <= round_id:
            _, index, contexts = self._rounds.popleft()
            states.extend([ReadState(context, index) for context in contexts])
        self.pending -= len(states)
        return states

    def drop(self) -> list[int]:
        """Role or term changed: contexts of all reads not answered."""
        dropped = [context for _, _, contexts in self._rounds for context in contexts]
        dropped += self._waiting
        self._rounds.clear()
        self._waiting = []
        self.pending = 0
        return dropped
