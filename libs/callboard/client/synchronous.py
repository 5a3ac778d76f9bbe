"""The blocking client, on the standard library's http.client."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from callboard.catalog.objects import PASSING, Check, KeyValue, Node
from callboard.client import calls
from callboard.client.addresses import DEFAULT_ADDRESS, parse_addresses
from callboard.client.calls import Answer, Call, Instance
from callboard.client.errors import ApiError, ClientError
from callboard.client.transport import TlsOptions, Transport
from callboard.client.watching import WatchState

T = TypeVar("T")


class Client:
    """Speaks with the first agent of a list that answers. For one thread; a context manager.

    Every method raises Unreachable when no agent answers, ApiError when one refuses.
    """

    def __init__(
        self,
        addresses: str = DEFAULT_ADDRESS,
        *,
        token: str = "",
        tls: TlsOptions | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """`addresses` is written as in CONSUL_HTTP_ADDR, several separated by commas."""
        self._parsed = parse_addresses(addresses)
        self._token = token
        self._tls = tls
        self._timeout_s = timeout_s
        self._transport = self._new_transport()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    # Services -----------------------------------------------------------------------------------

    def register(
        self,
        name: str,
        *,
        id: str = "",
        port: int = 0,
        address: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        ttl_s: float = 0.0,
        check: Mapping[str, object] | None = None,
    ) -> None:
        """Register a service with the agent. With `ttl_s` it is passing only while `report` is
        called at least that often (see `registered`); `check` is Consul's JSON of a check."""
        self.do(
            calls.register(
                name,
                id=id,
                port=port,
                address=address,
                tags=tags,
                meta=meta,
                ttl_s=ttl_s,
                check=check,
            )
        )

    @contextmanager
    def registered(
        self,
        name: str,
        *,
        id: str = "",
        port: int = 0,
        address: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        ttl_s: float = calls.REGISTER_TTL_S,
    ) -> Iterator[None]:
        """Be registered and passing inside the `with` block: a thread gives signs of life, and
        registers again when the agent forgot us or another one answers."""
        call = calls.register(
            name, id=id, port=port, address=address, tags=tags, meta=meta, ttl_s=ttl_s
        )
        self.do(call)
        identity = id or name
        self.report(calls.ttl_check_id(identity))
        ended = threading.Event()
        keeper = threading.Thread(
            target=self._keep_alive, args=(call, identity, ttl_s, ended), daemon=True
        )
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join(self._timeout_s)
            self.deregister(identity)

    def deregister(self, id: str) -> None:
        """Deregister a service from the agent; an unknown one is no error."""
        self.do(calls.deregister(id))

    def report(self, check_id: str, status: str = PASSING, note: str = "") -> None:
        """Give a sign of life: set a TTL check's status (passing, warning, critical)."""
        self.do(calls.report(check_id, status, note))

    def resolve(
        self, name: str, *, tag: str = "", passing: bool = True, stale: bool = False
    ) -> list[Instance]:
        """Instances of a service; without `passing` the unhealthy too."""
        return self.do(calls.instances(name, tag=tag, passing=passing, stale=stale)).value

    def services(self) -> dict[str, tuple[str, ...]]:
        """Names of all services with their tags."""
        return self.do(calls.services()).value

    def nodes(self) -> list[Node]:
        """All nodes."""
        return self.do(calls.nodes()).value

    def node_checks(self, node: str) -> list[Check]:
        """All checks on a node."""
        return self.do(calls.node_checks(node)).value

    def leader(self) -> str:
        """The leader's RPC address; "" without one."""
        return self.do(calls.leader()).value

    # Key/value ----------------------------------------------------------------------------------

    def get(self, key: str, *, stale: bool = False) -> KeyValue | None:
        """A key, or None."""
        return self.do(calls.key(key, stale=stale)).value

    def put(self, key: str, value: bytes, *, flags: int = 0, cas: int | None = None) -> bool:
        """Write a key; False only when `cas` (its ModifyIndex as read) no longer holds."""
        return self.do(calls.put_key(key, value, flags=flags, cas=cas)).value

    def delete(self, key: str, *, recurse: bool = False, cas: int | None = None) -> bool:
        """Delete a key, or all that begin with it."""
        return self.do(calls.delete_key(key, recurse=recurse, cas=cas)).value

    def list(self, prefix: str = "", *, stale: bool = False) -> list[KeyValue]:
        """All keys that begin with a prefix."""
        return self.do(calls.keys_below(prefix, stale=stale)).value

    def keys(self, prefix: str = "", *, separator: str = "") -> Sequence[str]:
        """Names of the keys that begin with a prefix."""
        return self.do(calls.key_names(prefix, separator=separator)).value

    # Watches ------------------------------------------------------------------------------------

    def watch(
        self, name: str, *, tag: str = "", passing: bool = True, wait_s: float = calls.WAIT_S
    ) -> Iterator[Sequence[Instance]]:
        """The instances of a service now, and again at every change; see `watch_call`."""
        return self.watch_call(calls.instances(name, tag=tag, passing=passing), wait_s=wait_s)

    def watch_key(self, key: str, *, wait_s: float = calls.WAIT_S) -> Iterator[KeyValue | None]:
        """A key now, and again at every change; None while it does not exist."""
        return self.watch_call(calls.key(key), wait_s=wait_s)

    def watch_call(self, call: Call[T], *, wait_s: float = calls.WAIT_S) -> Iterator[T]:
        """The value of a read now and at every change, for ever. Failures are waited out: a watch
        outlives agents and leaders. It has a connection of its own."""
        state = WatchState(random.Random())
        transport = self._new_transport()
        try:
            while True:
                try:
                    answer = _send(transport, call, state.index, wait_s)
                except ClientError as problem:
                    if isinstance(problem, ApiError) and 400 <= problem.status < 429:
                        raise
                    time.sleep(state.failed())
                    continue
                if state.answered(answer.index):
                    yield answer.value
        finally:
            transport.close()

    def do(self, call: Call[T]) -> Answer[T]:
        """Send any call once."""
        return _send(self._transport, call)

    def _new_transport(self) -> Transport:
        return Transport(self._parsed, token=self._token, tls=self._tls, timeout_s=self._timeout_s)

    def _keep_alive(
        self, call: Call[None], identity: str, ttl_s: float, ended: threading.Event
    ) -> None:
        transport = self._new_transport()
        try:
            while not ended.wait(ttl_s / 3):
                try:
                    _give_sign(transport, call, identity)
                except ClientError:
                    continue  # the next turn tries again; the TTL tells everyone meanwhile
        finally:
            transport.close()


def _give_sign(transport: Transport, call: Call[None], identity: str) -> None:
    sign = calls.report(calls.ttl_check_id(identity))
    try:
        _send(transport, sign)
    except ApiError as problem:
        if problem.status not in (404, 500):
            raise
        _send(transport, call)
        _send(transport, sign)


def _send(transport: Transport, call: Call[T], index: int = 0, wait_s: float = 0.0) -> Answer[T]:
    asked = call.waiting(index, wait_s) if index else call
    response = transport.request(
        asked.method,
        asked.path,
        asked.query,
        asked.body,
        extra_timeout_s=wait_s * 17 / 16 if index else 0.0,
    )
    return Answer.of(asked.read(response.status, response.body), response.headers)
