"""An application as servers run it that know plain ASGI and nothing of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from callboard.serve.core import Asgi, Message


def plain_asgi(app: Asgi) -> Asgi:
    """The same application, which finds no extensions of the protocol: it cannot detach."""

    async def plain(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        await app({**scope, "extensions": {}}, receive, send)

    return plain
