"""Who may read and write what: the seam every read and write path takes a decision through.

Two ends of the scale live here, allow-all (tokens are off) and deny-all (the test that walks every
route). Policies and tokens are not here.
"""

from __future__ import annotations

from typing import Protocol


class Authorizer(Protocol):
    """One caller's rights. Names are as the client spelled them."""

    @property
    def epoch(self) -> int:
        """Changes whenever the rights do: part of a cached answer's validity."""

    def node_read(self, node: str) -> bool: ...

    def node_write(self, node: str) -> bool: ...

    def service_read(self, service: str) -> bool: ...

    def service_write(self, service: str) -> bool: ...

    def key_read(self, key: str) -> bool: ...

    def key_list(self, prefix: str) -> bool: ...

    def key_write(self, key: str) -> bool: ...

    def key_write_prefix(self, prefix: str) -> bool:
        """May write every key below the prefix (recursive deletes)."""

    def agent_read(self, node: str) -> bool: ...

    def agent_write(self, node: str) -> bool: ...

    def session_read(self, node: str) -> bool: ...

    def session_write(self, node: str) -> bool: ...

    def event_read(self, name: str) -> bool: ...

    def event_write(self, name: str) -> bool: ...

    def query_read(self, name: str) -> bool: ...

    def query_write(self, name: str) -> bool: ...

    def operator_read(self) -> bool: ...

    def operator_write(self) -> bool: ...

    def keyring_read(self) -> bool: ...

    def keyring_write(self) -> bool: ...


class Uniform:
    """The same answer to everything."""

    __slots__ = ("_answer", "epoch")

    def __init__(self, answer: bool, epoch: int = 0) -> None:
        self._answer = answer
        self.epoch = epoch

    def _named(self, _name: str) -> bool:
        return self._answer

    def _unnamed(self) -> bool:
        return self._answer

    node_read = node_write = service_read = service_write = _named
    key_read = key_list = key_write = key_write_prefix = _named
    agent_read = agent_write = session_read = session_write = _named
    event_read = event_write = query_read = query_write = _named
    operator_read = operator_write = keyring_read = keyring_write = _unnamed


ALLOW_ALL: Authorizer = Uniform(True)
DENY_ALL: Authorizer = Uniform(False)
