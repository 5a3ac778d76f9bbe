"""Subscribe and publish without an event loop; the standard library only.

with subscribe("builds", last_event_id=known) as events:
    for event in events:
        print(event.id, event.data)

id = publish("builds", "done")
"""

from __future__ import annotations

import http.client
import random
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Unpack
from urllib.parse import urlsplit

from callboard.events import targets
from callboard.events.attempts import PUBLISH_S, Attempts
from callboard.events.course import Course, Wishes
from callboard.events.errors import REFUSAL_BYTES, Refused, reason_of
from callboard.events.parser import Event
from callboard.events.targets import DEFAULT_HUB, Options

Token = str | Callable[[], str]
"""A token, or where a new one comes from: asked before every connection."""

READ_BYTES = 64 * 1024


class Stream:
    """The events of a subscription: an iterator, and a context manager that ends it."""

    def __init__(self, course: Course, token: Token, tls: ssl.SSLContext | None) -> None:
        self._course = course
        self._token = token
        self._tls = tls
        self._ended = threading.Event()
        self._socket: socket.socket | None = None
        self._events = self._run()
        self.last_event_id = course.last_event_id
        """Where to resume after what was taken from this stream so far."""

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription, and its connection. Another thread may do so: the iterator then
        ends, where it waits."""
        self._ended.set()
        waiting = self._socket
        if waiting is not None:
            with suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)
        with suppress(ValueError):  # it is running, in another thread
            self._events.close()

    def _run(self) -> Generator[Event, None, None]:
        course = self._course
        while not self._ended.is_set():
            reason, timed_out = "", False
            try:
                with closing(self._connection()) as chunks:
                    for chunk in chunks:
                        for event in course.received(chunk, time.monotonic()):
                            self.last_event_id = event.id
                            yield event
                        self.last_event_id = course.last_event_id
                        if course.hurries(time.monotonic()):
                            break
            except TimeoutError:
                reason, timed_out = "nothing came in time", True
            except (http.client.HTTPException, OSError) as problem:
                reason = reason_of(problem)
            if course.finished or self._ended.is_set():
                return
            rest_s = course.lost(time.monotonic(), reason, timed_out=timed_out)
            self._ended.wait(rest_s)

    def _connection(self) -> Generator[bytes, None, None]:
        """The bytes of one connection."""
        course = self._course
        turn = course.turn(
            time.monotonic(), self._token() if callable(self._token) else self._token
        )
        connection = connect(turn.url, self._tls, course.patience_s(time.monotonic()))
        try:
            self._socket = raw = connection.sock
            if self._ended.is_set():
                return
            connection.request("GET", path_of(turn.url), headers=_encoded(turn.headers))
            course.sent(time.monotonic())
            raw.settimeout(_timeout(course.patience_s(time.monotonic())))
            response = connection.getresponse()
            with response:
                text = ""
                if response.status != 200:
                    text = response.read1(REFUSAL_BYTES).decode("utf-8", "replace")
                if not course.opened(response.status, headers_of(response), text):
                    return
                while True:
                    raw.settimeout(_timeout(course.patience_s(time.monotonic())))
                    chunk = response.read1(READ_BYTES)
                    if not chunk:
                        return
                    yield chunk
        finally:
            self._socket = None
            connection.close()


def subscribe(
    topics: str | Sequence[str],
    *,
    hub: str | None = None,
    token: Token = "",
    tls: ssl.SSLContext | None = None,
    last_event_id: str = "",
    since: str = "",
    last: int | None = None,
    beat_s: float = 10.0,
    lines: bool = False,
    patient: bool = True,
) -> Stream:
    """The events of topics, for ever; all is as in `callboard.events.client.subscribe`."""
    target = targets.target(topics, hub)
    wishes = Wishes(last_event_id, since, last, beat_s, lines)
    rng = random.SystemRandom()
    course = Course(target, wishes, rng, renews=callable(token), patient=patient)
    return Stream(course, token, tls)


def publish(
    topics: str | Sequence[str],
    data: str | bytes,
    *,
    hub: str = DEFAULT_HUB,
    token: Token = "",
    tls: ssl.SSLContext | None = None,
    timeout_s: float = PUBLISH_S,
    **options: Unpack[Options],
) -> str:
    """Publish one event; its id. All is as in `callboard.events.client.publish`."""
    with Publisher(hub, token=token, tls=tls) as publisher:
        return publisher.publish(topics, data, timeout_s=timeout_s, **options)


class Publisher:
    """Publishes over a connection that is kept; not for several threads at once. A context
    manager."""

    def __init__(
        self, hub: str = DEFAULT_HUB, *, token: Token = "", tls: ssl.SSLContext | None = None
    ) -> None:
        """Raises ValueError. The connection is made at the first call."""
        self._hub = targets.hub_url(hub)
        self._token = token
        self._tls = tls
        self._kept: http.client.HTTPConnection | None = None

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def publish(
        self,
        topics: str | Sequence[str],
        data: str | bytes,
        *,
        timeout_s: float = PUBLISH_S,
        **options: Unpack[Options],
    ) -> str:
        """See the function of the same name."""
        posting = targets.posting(topics, data, hub=self._hub, **options)
        attempts = Attempts(posting, random.SystemRandom(), time.monotonic(), timeout_s)
        while True:
            try:
                return self._post(attempts, attempts.timeout_s(time.monotonic()))
            except (Refused, http.client.HTTPException, OSError) as problem:
                if not isinstance(problem, Refused):
                    self.close()
                rest_s = attempts.rest_s(problem, time.monotonic())
            time.sleep(rest_s)

    def _post(self, attempts: Attempts, timeout_s: float) -> str:
        posting = attempts.posting
        headers = attempts.headers(self._token() if callable(self._token) else self._token)
        connection = self._kept
        if connection is None or not _is_quiet(connection.sock):
            self.close()
            connection = self._kept = connect(posting.url, self._tls, timeout_s)
        connection.sock.settimeout(timeout_s)
        connection.request("POST", path_of(posting.url), posting.body, _encoded(headers))
        with connection.getresponse() as response:
            text = response.read(REFUSAL_BYTES).decode("utf-8", "replace")
            if response.will_close or not response.isclosed():
                self.close()
            if response.status != 200:
                raise Refused(response.status, headers_of(response), text)
            return text.strip()


def connect(url: str, tls: ssl.SSLContext | None, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to a URL's host, made. Raises OSError."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = tls if tls is not None else ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, parts.port, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port)
    connection.timeout = _timeout(timeout_s)
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


def _timeout(seconds: float) -> float:
    """Of a socket, where 0 would mean another thing."""
    return max(0.001, seconds)


def path_of(url: str) -> str:
    """A URL's path and query, as a request has them."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _encoded(headers: Mapping[str, str]) -> dict[str, str | bytes]:
    """As bytes: ids are sent in UTF-8, as browsers do."""
    return {name: value.encode() for name, value in headers.items()}


def headers_of(response: http.client.HTTPResponse) -> dict[str, str]:
    """With names in lower case."""
    return {name.lower(): value for name, value in response.getheaders()}


def _is_quiet(kept: socket.socket | None) -> bool:
    """Whether a kept connection is open and has nothing to say (its end would be readable)."""
    return kept is not None and not select.select([kept], [], [], 0)[0]
