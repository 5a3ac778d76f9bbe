"""The sidecar's entry in the catalog, kept for its whole life by a thread.

As other programs': at the first agent that answers, with a TTL check of 10 s and
DeregisterCriticalServiceAfter 1m; when that agent is gone, at the next one with the same ID.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit

log = logging.getLogger(__name__)

NAME = "sidecar"
TTL_S = 10.0
SIGN_S = TTL_S / 3
"""Between two signs of life, so that two may be lost."""
RETRY_S = 1.0
DEREGISTER_AFTER_S = 60
TIMEOUT_S = 3.0
"""For one agent to connect, and for it to answer."""
ANSWER_BYTES_MAX = 4096
ANY = ("0.0.0.0", "::")
ROUTE_PROBE = ("192.0.2.1", 9)
"""An address that is nobody's (RFC 5737): a UDP socket connected to it sends nothing, and has the
address of the default route."""


class Unregistered(Exception):
    """No agent takes us; the text says why."""


class Registration:
    """From `start` to `stop`."""

    def __init__(
        self,
        agents: Sequence[str],
        *,
        id: str,
        port: int,
        address: str,
        meta: Mapping[str, str],
        token: str = "",
        source: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`agents` are URLs; `address` "" is the agent's node's."""
        self._agents = list(agents)
        self._id = id
        self._service = {
            "Name": NAME, "ID": id, "Port": port, "Address": address, "Meta": dict(meta),
            "Check": {
                "CheckID": f"service:{id}",
                "TTL": f"{TTL_S:g}s",
                "DeregisterCriticalServiceAfter": f"{DEREGISTER_AFTER_S}s",
            },
        }  # fmt: skip
        self._headers = {"X-Consul-Token": token} if token else {}
        self._source = (source, 0) if source else None
        self._tls = tls
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registration", daemon=True)
        self.problem: str | None = "not registered yet"
        """Why we are not in the catalog; None while we are."""

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Deregister, if an agent still answers, and end."""
        self._stopping.set()
        self._thread.join(2 * TIMEOUT_S)
        if self.problem is None:
            try:
                self._put(f"/v1/agent/service/deregister/{quote(self._id, safe='')}")
            except Unregistered as problem:
                log.warning("not taken out of the catalog", extra={"reason": str(problem)})

    def give_sign(self) -> None:
        """Say that we live; register first where the agent does not know us. Raises
        Unregistered."""
        sign = f"/v1/agent/check/pass/{quote(f'service:{self._id}', safe='')}"
        if self.problem is None and self._put(sign) == 200:
            return
        for path, body in (("/v1/agent/service/register", self._service), (sign, None)):
            status = self._put(path, body)
            if status != 200:
                raise Unregistered(f"{self._agents[0]} answers {status}")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.give_sign()
                if self.problem is not None:
                    log.info("registered", extra={"id": self._id, "agent": self._agents[0]})
                self.problem = None
            except Unregistered as problem:
                if self.problem is None:
                    log.warning("lost the registration", extra={"reason": str(problem)})
                self.problem = str(problem)
            self._stopping.wait(SIGN_S if self.problem is None else RETRY_S)

    def _put(self, path: str, body: object = None) -> int:
        """The status that the first agent answers; one that cannot be reached is the last from now
        on. Raises Unregistered if none answers."""
        problem: Exception | None = None
        for _ in range(len(self._agents)):
            try:
                return self._put_at(self._agents[0], path, body)
            except (OSError, http.client.HTTPException) as failure:
                problem = failure
                self._agents.append(self._agents.pop(0))
        raise Unregistered(f"no agent answers: {problem}")

    def _put_at(self, agent: str, path: str, body: object) -> int:
        parts = urlsplit(agent)
        host, port = parts.hostname or "", parts.port
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_S, source_address=self._source, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(
                host, port, timeout=TIMEOUT_S, source_address=self._source
            )
        try:
            sent = b"" if body is None else json.dumps(body).encode()
            connection.request("PUT", path, sent, self._headers)
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES_MAX)
            return answer.status
        finally:
            connection.close()


def own_address(bind: str) -> str:
    """The address others reach us at: `bind`, or the default route's for a wildcard; "" unknown."""
    if bind not in ANY:
        return bind
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ROUTE_PROBE)
        except OSError:
            return ""
        return str(probe.getsockname()[0])
