"""Remembered answers of registrations, so that a retry is answered and not applied again (I13).

Bounded by count and filled in log order, hence equal on every replica; part of the snapshot.
"""

from __future__ import annotations

from zlib import crc32

from callboard.agent.state.digest import MASK

REQUESTS_MAX = 4096
"""Newest requests remembered. At 1,000 registrations a second that is 4 s of retries."""

Answer = bool | str


class RequestLog:
    """Request id → the answer given when it was applied."""

    def __init__(self) -> None:
        self._answers: dict[bytes, Answer] = {}
        self._digest = 0

    @property
    def digest(self) -> int:
        """Hash of all remembered requests."""
        return self._digest & MASK

    def answer(self, request_id: bytes) -> Answer | None:
        """What this request was answered before; None if it is new (or too old, or unnamed)."""
        return self._answers.get(request_id) if request_id else None

    def remember(self, request_id: bytes, answer: Answer) -> None:
        if not request_id:
            return
        self._answers[request_id] = answer
        self._digest += _term(request_id, answer)
        if len(self._answers) > REQUESTS_MAX:
            oldest = next(iter(self._answers))
            self._digest -= _term(oldest, self._answers.pop(oldest))

    def dump(self) -> list[tuple[bytes, Answer]]:
        """Oldest first, for a snapshot."""
        return list(self._answers.items())


def _term(request_id: bytes, answer: Answer) -> int:
    return ((crc32(request_id) << 32) | crc32(repr(answer).encode())) + 1
