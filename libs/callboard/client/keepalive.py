"""Keep a service registered and passing: signs of life, and a new registration when needed.

The agent that took the registration may be gone, restarted without it, or another one may answer
(the client moves on by itself): each shows as an unknown check, and the same service is registered
again, with the same ID. Only the task that calls `run` lives here; the clock is asyncio's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol

from callboard.client import calls
from callboard.client.calls import Answer, Call
from callboard.client.errors import ApiError, ClientError

log = logging.getLogger(__name__)

SIGNS_PER_TTL = 3
"""So that two may be lost."""

RETRY_S = 1.0
"""Between attempts while no agent takes us."""


class Send(Protocol):
    """How a call is sent: `AsyncClient.do`."""

    def __call__(self, call: Call[None], /) -> Awaitable[Answer[None]]: ...


class KeepAlive:
    """One service."""

    def __init__(self, send: Send, register: Call[None], identity: str, ttl_s: float) -> None:
        self._send = send
        self._register = register
        self._identity = identity
        self._ttl_s = ttl_s
        self.problem: str | None = "not registered yet"
        """Why the service is not registered; None while it is."""

    async def give_sign(self) -> None:
        """Report that we live; register first if the agent does not know us. Raises ClientError."""
        sign = calls.report(calls.ttl_check_id(self._identity))
        try:
            if self.problem is not None:
                await self._send(self._register)
            await self._send(sign)
        except ApiError as problem:
            if problem.status not in (404, 500) or self.problem is not None:
                raise
            await self._send(self._register)
            await self._send(sign)
        self.problem = None

    async def run(self) -> None:
        """Give signs until cancelled; failures are logged once and tried again."""
        while True:
            try:
                await self.give_sign()
            except ClientError as problem:
                if self.problem is None:
                    log.warning(
                        "lost the registration",
                        extra={"service": self._identity, "reason": str(problem)},
                    )
                self.problem = str(problem)
            await asyncio.sleep(self._rest_s())

    def _rest_s(self) -> float:
        rest_s = self._ttl_s / SIGNS_PER_TTL
        return rest_s if self.problem is None else min(rest_s, RETRY_S)
