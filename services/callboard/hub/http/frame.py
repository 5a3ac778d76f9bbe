"""What every endpoint of the hub has in common: its queries, its errors, who may read."""

from __future__ import annotations

import hashlib

from callboard.hub.auth.origins import Origins
from callboard.hub.http.ports import Door
from callboard.hub.matching.refusal import Refused
from callboard.hub.mercure.forms import BadForm, decode
from callboard.hub.ports import HistoryBusy, HistoryError, HistoryFull, HistoryUncertain
from callboard.serve import Answer, Request, Settled, resources
from callboard.serve.exchange import Detach
from callboard.serve.resources import NOSNIFF, Header, Resource, failed, text


def tagged(request: Request, answer: Answer) -> Answer:
    """An answer with the tag of its body; 304 to who has that already (RFC 9110, 13.1.2)."""
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    answer.headers.append(("ETag", tag))
    if tag in request.headers.get("if-none-match", ""):
        return Answer(304, b"", answer.headers)
    return answer


class Frame(resources.Frame):
    """Makes routes of the hub's resources."""

    def __init__(self, origins: Origins, door: Door) -> None:
        super().__init__(door)
        self._origins = origins

    def origin_headers(self, request: Request) -> list[Header]:
        """See Frame."""
        return list(self._origins.headers(request.headers))

    def options(self, resource: Resource, request: Request) -> Answer:
        """See Frame."""
        return Answer(204, b"", list(self._origins.preflight(request.headers)))

    def prepare(self, request: Request) -> None:
        """Read the query as forms are read (Mercure's clients are no Go programs)."""
        try:
            request.query = decode(request.raw_query)
        except BadForm as problem:
            raise Refused(400, f"not a query: {problem}") from problem

    def settle(self, request: Request, settled: Settled) -> Settled:
        """A stream's head gets its headers here."""
        if isinstance(settled, Detach):
            settled.head.headers += [NOSNIFF, *self.origin_headers(request)]
        return settled

    def answer_to(self, problem: Exception) -> Answer:
        """See Frame."""
        return answer_to(problem)


def answer_to(problem: Exception) -> Answer:
    """The answer that an exception becomes."""
    if isinstance(problem, Refused):
        return text(problem.status, problem.text, *problem.headers)
    if isinstance(problem, HistoryFull):
        return text(507, str(problem) or "the disk is full: nothing is taken until it is not")
    if isinstance(problem, HistoryBusy):
        waits = str(problem) or "too many publications wait for the disk"
        return text(503, waits, ("Retry-After", "1"))
    if isinstance(problem, HistoryUncertain):
        # without Retry-After: who publishes again without a key may publish twice
        why = f"{str(problem) or 'no answer in time'}: it may have been published"
        return text(504, f"{why}; to publish it again with the same Idempotency-Key is safe")
    if isinstance(problem, HistoryError):
        return text(503, str(problem) or "the publication was not taken", ("Retry-After", "5"))
    return failed(problem)
