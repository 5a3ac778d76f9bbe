"""An ASGI application that is built when it is first needed, in a thread.

Importing a web framework takes longer than an agent may take to answer its first request, and
most agents never show their documentation to anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from callboard.serve.core import Asgi, Message


class LazyApp:
    """Calls `build` once, then is that application."""

    def __init__(self, build: Callable[[], Asgi]) -> None:
        self._build = build
        self._built: asyncio.Future[Asgi] | None = None

    async def app(self) -> Asgi:
        """The application; built by the first who asks, all others wait."""
        if self._built is None:
            self._built = asyncio.ensure_future(asyncio.to_thread(self._build))
        return await asyncio.shield(self._built)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """ASGI 3.0."""
        app = await self.app()
        await app(scope, receive, send)
