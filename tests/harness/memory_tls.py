"""Two ends of a TLS connection in memory: no socket, no thread, each step when it is asked for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

TURNS = 20


@dataclass(slots=True)
class Connection:
    """Both ends of a connection."""

    client: ssl.SSLObject
    server: ssl.SSLObject

    def exchange(self, question: bytes = b"ping", answer: bytes = b"pong") -> None:
        """Send bytes both ways; TLS 1.3 brings refusals and session tickets only by then."""
        self.client.write(question)
        assert self.server.read(len(question)) == question
        self.server.write(answer)
        assert self.client.read(len(answer)) == answer


def connect(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    name: str,
    session: ssl.SSLSession | None = None,
) -> Connection:
    """Shake hands and exchange a word. Raises ssl.SSLError as either end does."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = Connection(
        client.wrap_bio(to_client, to_server, server_hostname=name, session=session),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = [ends.client, ends.server]
    for _ in range(TURNS):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            ends.exchange()
            return ends
    raise AssertionError("the handshake does not end")
