"""A program: a server on uvloop that detaches whoever asks, and says how large it is.

    python tests/unit/serve/subscribers.py (fast-lane|framework) [CERTIFICATE-AND-KEY]

It prints its port. `GET /detach` is a stream; `GET /memory` answers its resident set in bytes and
how many streams there are.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import ssl
import sys
from pathlib import Path

import uvloop
from fastapi import FastAPI

from callboard.serve import Answer, Detach, Detached, Outcome, Request, Route, RouteTable, Server
from callboard.serve.adapter import endpoint
from callboard.serve.memory import map_tls_buffers


class Quiet:
    """A sink that has nothing to say."""

    __slots__ = ("connection",)

    def start(self, connection: Detached) -> None:
        self.connection = connection

    def behind(self) -> None: ...

    def drained(self) -> None: ...

    def gone(self) -> None: ...

    def stopping(self) -> None:
        self.connection.close()


async def serve(way: str, certificate: str | None) -> None:
    sinks: list[Quiet] = []

    def detach(request: Request) -> Outcome:
        sinks.append(Quiet())
        return Detach(Answer(200, b":\n\n", [], "text/event-stream"), sinks[-1])

    def memory(request: Request) -> Outcome:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Answer(200, b"%d %d" % (pages * resource.getpagesize(), len(sinks)))

    route = Route(detach, pattern="/detach")
    table = RouteTable()
    table.add(Route(memory, pattern="/memory"))
    app = FastAPI()
    if way == "framework":
        app.add_api_route("/detach", endpoint(route))
    else:
        table.add(route)
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        map_tls_buffers()
    server = Server(app, handlers=table, ssl_context=context)
    await server.start()
    print(server.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    loop = uvloop.new_event_loop()
    loop.run_until_complete(serve(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
