"""What can go wrong between a client and an agent.

ClientError
├── Unreachable   no address could be reached: nothing was done (or it is not known)
└── ApiError      an agent answered, with a status that is no success
"""

from __future__ import annotations


class ClientError(Exception):
    """Any failure of a call."""


class Unreachable(ClientError):
    """No agent answered; the text is in the words of Go's HTTP client, which tools print."""

    def __init__(self, text: str, *, sent: bool = False) -> None:
        super().__init__(text)
        self.sent = sent
        """Whether the request went out before the connection broke: it may have been done."""


class ApiError(ClientError):
    """An agent refused: `Unexpected response code: 500 (No cluster leader)`, as Consul says."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"Unexpected response code: {status} ({body})")
        self.status = status
        self.body = body
