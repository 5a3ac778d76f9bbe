"""Bytes on their way: a request's body, an answer's body, and both ways of a WebSocket.

An answer is carried in the loop's own callbacks: what the program behind sends is written to the
client in the tick it came, and no task is woken for it. Nothing is kept beyond what a slow side
needs; then the other side has to wait.
"""

from __future__ import annotations

import asyncio

from callboard.fileserver.head import Head
from callboard.fileserver.ports import ClientConnection
from callboard.fileserver.routes.framing import BadBody, Body, Chunked, Length, Nothing
from callboard.fileserver.routes.upstream import Upstream

QUEUED_BYTES_MAX = 64 * 1024
"""For one client: then the program behind has to wait."""
BODY_STALL_S = 30.0
"""Of a client that sends nothing of the body it has announced."""


class Sent:
    """The request's body on its way: what of it was read from the client already."""

    def __init__(self, head: Head, leftover: bytes) -> None:
        """`leftover` came with the head. Raises BadBody."""
        self.body = request_body(head)
        taken = self.body.take(leftover)
        self.first, self.behind = leftover[:taken], leftover[taken:]
        """The part that came with the head; what is behind the body is the next request."""
        self.whole = self.body.done
        """Whether the first part is all of it: then it can be sent again."""
        self.moved = 0.0
        """The loop's time when some of it came last."""
        self.broken = ""
        """Why the rest will not come: the client's doing."""


async def pump(connection: ClientConnection, upstream: Upstream, sent: Sent) -> None:
    """Send the rest of the request's body; ends the upstream when the client breaks it off."""
    clock = asyncio.get_running_loop().time
    try:
        while not sent.body.done:
            async with asyncio.timeout(BODY_STALL_S):
                data = await connection.read()
            if not data:
                raise BadBody("the body ends before its end")
            taken = sent.body.take(data)
            sent.behind = data[taken:]
            sent.moved = clock()
            try:
                await upstream.write(data[:taken])
            except OSError:
                return  # it wants no more of it; its answer may be on the way
    except (BadBody, TimeoutError) as problem:
        sent.broken = str(problem) or "the body does not come"
        upstream.close()


class Carrying:
    """An answer's body on its way to the client."""

    def __init__(self, upstream: Upstream, connection: ClientConnection, body: Body) -> None:
        self._upstream = upstream
        self._connection = connection
        self._body = body
        self.fault = ""
        """What is wrong with the body's framing."""

    async def carry(self, head: bytes) -> bool:
        """Send the head and the body as it comes; whether the body's end was seen. Raises
        ConnectionError when the client has gone."""
        upstream, connection, body = self._upstream, self._connection, self._body
        self._write(head, upstream.pending())
        while not (body.done or self.fault or upstream.ended):
            if connection.queued <= QUEUED_BYTES_MAX:
                await upstream.pour(self._take)
            await connection.drain()
        return body.done

    def _take(self, data: bytes) -> bool:
        """A piece came; whether there may be more at once."""
        return self._write(b"", data)

    def _write(self, head: bytes, data: bytes) -> bool:
        body, connection = self._body, self._connection
        try:
            taken = body.take(data)
        except BadBody as problem:
            self.fault = str(problem)
            taken = 0
        if taken < len(data):
            self._upstream.give_back(data[taken:])  # then it is not idle, nor ever used again
            data = data[:taken]
        connection.write(head + data if head else data)
        return not (body.done or self.fault) and connection.queued <= QUEUED_BYTES_MAX


async def tunnel(upstream: Upstream, connection: ClientConnection, head: bytes, sent: Sent) -> None:
    """Send the head of a 101, then bytes both ways until one side ends."""
    connection.write(head + upstream.pending())

    def to_client(data: bytes) -> bool:
        connection.write(data)
        return connection.queued <= QUEUED_BYTES_MAX

    async def back() -> None:
        while not upstream.ended:
            await connection.drain()
            await upstream.pour(to_client)

    async def forth() -> None:
        if sent.behind:
            await upstream.write(sent.behind)
        while data := await connection.read():
            await upstream.write(data)

    tasks = {asyncio.create_task(back()), asyncio.create_task(forth())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def request_body(head: Head) -> Body:
    """What finds the end of a request's body."""
    if head.chunked:
        return Chunked()
    return Length(head.content_length) if head.content_length else Nothing()
