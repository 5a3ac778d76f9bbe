"""Errors on their way out: one place that says which status and text each becomes.

ApiError               what an endpoint refuses itself
LocalError             the agent's own registry refuses (its own status)
DecodeError            400, Go's decoder's text
DefinitionError        400
RegistrationError      500, as nearly all of Consul's server-side validation
NoLeader               500 `No cluster leader`
NotReady               500
anything else          500, logged
"""

from __future__ import annotations

import logging

from callboard.agent.ports import EngineError, LocalError, NoLeader, NotReady, ProposalUnknown
from callboard.catalog.decode import DecodeError
from callboard.catalog.definitions import DefinitionError
from callboard.catalog.registration import RegistrationError
from callboard.serve import Answer

log = logging.getLogger(__name__)
PLAIN = "text/plain; charset=utf-8"
NOT_READY = "Agent is not ready: its catalog is not loaded yet"


class ApiError(Exception):
    """An answer that is an error: status and plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def text_answer(status: int, text: str) -> Answer:
    """A plain text answer."""
    return Answer(status, text.encode("utf-8", "replace"), content_type=PLAIN)


def answer_to(problem: Exception) -> Answer:
    """The answer an exception becomes."""
    if isinstance(problem, ApiError | LocalError):
        return text_answer(problem.status, str(problem))
    if isinstance(problem, DecodeError | DefinitionError):
        return text_answer(400, str(problem))
    if isinstance(problem, RegistrationError):
        return text_answer(500, str(problem))
    if isinstance(problem, NoLeader):
        return text_answer(500, "No cluster leader")
    if isinstance(problem, NotReady):
        return text_answer(500, NOT_READY)
    if isinstance(problem, ProposalUnknown):
        return text_answer(500, "leadership lost while committing log")
    if isinstance(problem, EngineError):
        return text_answer(500, str(problem) or "rpc error")
    log.error("request failed", exc_info=problem)
    return text_answer(500, "internal server error")
