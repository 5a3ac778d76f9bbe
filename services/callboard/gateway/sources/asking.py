"""HTTP requests to a sidecar's control port, by mutual TLS where there is an identity."""

from __future__ import annotations

import logging
import ssl

import aiohttp
from yarl import URL

from callboard.feed.connector import AgentConnector
from callboard.gateway.sources.instances import Instance
from callboard.gateway.sources.keeping import ControlError, Gone
from callboard.pki.live import Judge

log = logging.getLogger(__name__)

ANSWER_BYTES_MAX = 1 << 20
CONNECT_S = 1.5
"""For connection and handshake."""
ANSWER_S = 3.0
"""For a request with its answer: starting an encoder is not waited for."""
REASON_BYTES_MAX = 300


class SidecarConnector(AgentConnector):
    """Knows its TLS connections, and cuts those whose certificate is not accepted any more."""

    def judge(self, judge: Judge) -> None:
        """See AgentConnector; the log says whom."""
        self._secured = {one for one in self._secured if not one.is_closing()}
        for transport in self._secured:
            end = transport.get_extra_info("ssl_object")
            reason = judge(end.getpeercert(True) or b"")
            if reason is not None:
                log.warning(
                    "a sidecar is left: its certificate is not accepted any more",
                    extra={"address": transport.get_extra_info("peername"), "reason": reason},
                )
                transport.abort()


class Asking:
    """Requests to one instance, over connections that are kept."""

    def __init__(
        self,
        instance: Instance,
        *,
        tls: ssl.SSLContext | None = None,
        source: str = "",
        answer_s: float = ANSWER_S,
    ) -> None:
        """`tls` is for an instance that is spoken to by TLS; `source` is the local address, "" lets
        the system choose."""
        self._instance = instance
        self._connector = SidecarConnector(tls, source, limit=8)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=answer_s, sock_connect=CONNECT_S),
        )
        self.judge = self._connector.judge

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of an answer. Raises Gone if nobody is there, ControlError for any other
        failure; never anything else."""
        try:
            return await self._request(method, path, body)
        except TimeoutError as problem:
            raise ControlError("no answer in time") from problem
        except aiohttp.ClientSSLError as problem:
            raise ControlError(str(problem)) from problem
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as problem:
            raise Gone(str(problem) or type(problem).__name__) from problem
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            raise ControlError(str(problem) or type(problem).__name__) from problem

    async def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        async with self._session.request(
            method,
            URL(f"{self._instance.url}{path}", encoded=True),
            data=body,
            headers={"Content-Type": "application/json"} if body is not None else None,
            server_hostname=self._instance.server_name or None,
            allow_redirects=False,
        ) as response:
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > ANSWER_BYTES_MAX:
                    raise ControlError(f"an answer of more than {ANSWER_BYTES_MAX} octets")
            return response.status, bytes(answer)


def reason_in(status: int, answer: bytes) -> str:
    """What an answer that refuses says."""
    text = " ".join(answer[:REASON_BYTES_MAX].decode("utf-8", "replace").split())
    return f"{status} {text}".strip()
