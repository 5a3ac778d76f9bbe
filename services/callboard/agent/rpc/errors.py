"""What can go wrong between agents, and who is to blame.

RpcError
├── RpcUnreachable    no answer: not connected, connection lost, timeout, refused
└── RpcFailed         the other side answered with an error, text included
"""

from __future__ import annotations


class RpcError(Exception):
    """Anything of this package. A handler raises it to answer its text as an error."""


class RpcUnreachable(RpcError):
    """No answer came. `sent`: the request may have been carried out nevertheless."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class RpcFailed(RpcError):
    """The other side's handler failed; `str()` is its text."""


class ProtocolError(RpcError):
    """Bytes that are not ours: the connection is closed."""
