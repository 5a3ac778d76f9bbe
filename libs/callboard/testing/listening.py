"""A listening socket, a thread for each connection, and an end that leaves none of them."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Literal, Protocol

NAME = "callboard-tls-server"
CONNECTIONS_MAX = 256
"""At once; a connection too many is closed at once."""
BIND_TRIES = 50
END_TIMEOUT_S = 10.0
SETTLE_TIMEOUT_S = 2.0

State = Literal["handshake", "idle", "busy", "stalled", "leaving"]
"""`idle` is between requests; `stalled` stays in its handshake on purpose."""


class Bell:
    """Wakes all who wait for bytes of an idle connection."""

    def __init__(self) -> None:
        self.waiting, self._ringing = socket.socketpair()
        self.rung = False

    def ring(self) -> None:
        """Wake them; whoever comes later does not wait at all."""
        self.rung = True
        self._ringing.send(b"!")

    def close(self) -> None:
        """Free the sockets."""
        self.waiting.close()
        self._ringing.close()


class Worker(Protocol):
    """What serves one connection, in a thread of its own."""

    state: State
    bell: Bell
    """The one of its beginning."""

    def run(self) -> None:
        """Serve until the end; closes its socket."""

    def abort(self) -> None:
        """Make every wait on the socket end, from another thread."""


class Listening:
    """Accepts on a port of loopback, 127.0.0.1 and ::1, and keeps account of the connections."""

    def __init__(self, worker: Callable[[socket.socket, Listening], Worker]) -> None:
        self._worker = worker
        self._sockets = _bound()
        self.port: int = self._sockets[0].getsockname()[1]
        self.bell = Bell()
        self._bells = [self.bell]
        self._changed = threading.Condition()
        self._workers: dict[Worker, threading.Thread] = {}
        self._ended = Bell()
        self._thread = threading.Thread(target=self._accept, name=NAME, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End every connection and thread; the port is free on return."""
        self._ended.ring()
        self._thread.join(END_TIMEOUT_S)
        with self._changed:
            workers = dict(self._workers)
        for worker in workers:
            worker.abort()
        for thread in workers.values():
            thread.join(END_TIMEOUT_S)
        for bell in (*self._bells, self._ended):
            bell.close()

    def enter(self, worker: Worker, state: State) -> None:
        """Note what a connection is at."""
        with self._changed:
            worker.state = state
            self._changed.notify_all()

    def end_idle(self) -> None:
        """End the connections that wait for their next request, and those in a request after it.

        On return the clients of the idle ones have been told.
        """
        with self._changed:
            old, self.bell = self.bell, Bell()
            self._bells.append(self.bell)
            old.ring()
            idle = [one for one in self._workers if one.state == "idle"]
            self._changed.wait_for(
                lambda: not any(one.state == "idle" for one in idle), SETTLE_TIMEOUT_S
            )
            heard = {id(one.bell) for one in self._workers} | {id(self.bell)}
            for bell in [one for one in self._bells if id(one) not in heard]:
                self._bells.remove(bell)
                bell.close()

    def settle(self) -> None:
        """Wait until no handshake is under way."""
        with self._changed:
            self._changed.wait_for(
                lambda: not any(one.state == "handshake" for one in self._workers),
                SETTLE_TIMEOUT_S,
            )

    def _accept(self) -> None:
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            for listener in self._sockets:
                stack.callback(listener.close)
                selector.register(listener, selectors.EVENT_READ)
            selector.register(self._ended.waiting, selectors.EVENT_READ)
            while not self._ended.rung:
                for key, _ in selector.select():
                    if key.fileobj is not self._ended.waiting:
                        self._take(key.fileobj)

    def _take(self, listener: object) -> None:
        assert isinstance(listener, socket.socket)
        try:
            client, _ = listener.accept()
        except OSError:  # gone again, or no file descriptor left: the next may fare better
            return
        with self._changed:
            if len(self._workers) >= CONNECTIONS_MAX:
                client.close()
                return
            client.settimeout(None)
            worker = self._worker(client, self)
            thread = threading.Thread(target=self._serve, args=(worker,), name=NAME, daemon=True)
            self._workers[worker] = thread
        thread.start()

    def _serve(self, worker: Worker) -> None:
        try:
            worker.run()
        finally:
            with self._changed:
                del self._workers[worker]
                self._changed.notify_all()


def _bound() -> list[socket.socket]:
    """Listen on one port of both loopback addresses: `localhost` may mean either.

    Without IPv6 on 127.0.0.1 alone.
    """
    for _ in range(BIND_TRIES):
        first = _listener(socket.AF_INET, "127.0.0.1", 0)
        try:
            second = _listener(socket.AF_INET6, "::1", first.getsockname()[1])
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                return [first]
            first.close()  # a stranger has the port there, and clients would come to it
        else:
            return [first, second]
    raise OSError(errno.EADDRINUSE, "no port is free on both loopback addresses")


def _listener(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
