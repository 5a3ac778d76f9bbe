"""A stream of a running hub, read as a test asks for its events."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse

from make.programs import FILESERVER, HTTPS_PORT
from tests.harness.eventually import SLOW
from tests.harness.stack import Stack

from callboard.events.parser import Event, Parser

WITHIN_S = 20.0 * SLOW


class Stream:
    """Its events, the next of a type at a time."""

    def __init__(self, answer: HTTPResponse) -> None:
        """Read from an answer whose socket has a time limit."""
        self._answer = answer
        self._parser = Parser()
        self._events: list[Event] = []

    @property
    def cursor(self) -> str:
        """The last event's id."""
        return self._parser.last_event_id

    def next(self, type: str = "message") -> Event:
        """The next event of this type; those before it are gone. Raises TimeoutError, and
        AssertionError at the end."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if event.type == type:
                    return event
            octets = self._answer.read1(65536)
            assert octets, "the stream has ended"
            self._events += self._parser.feed(octets)


@contextmanager
def reading(url: str, cursor: str = "", *, tls: ssl.SSLContext | None = None) -> Iterator[Stream]:
    """A stream, open, from behind a cursor."""
    headers = {"Last-Event-ID": cursor} if cursor else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=WITHIN_S, context=tls) as answer:
        yield Stream(answer)


def through(stack: Stack, path: str) -> str:
    """The URL of a path of the hub at the file server."""
    host, port = stack.addr(FILESERVER, HTTPS_PORT)
    return f"https://{host}:{port}/hub{path}"


def trusting(stack: Stack) -> ssl.SSLContext:
    """A client's context that believes the stack's CA alone."""
    return ssl.create_default_context(cadata=stack.authority())
