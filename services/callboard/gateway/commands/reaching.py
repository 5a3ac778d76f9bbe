"""Binding requests to candidates, from here: by UDP, and framed by TCP (RFC 4571).

They carry the session's credentials and do not nominate: an answer shows the way, and that it is
the gateway's that gave the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence

from aioice import stun

from callboard.gateway.commands.findings import Candidate, IceAnswer, Reach, Reached
from callboard.gateway.mux.framing import FRAME_BYTES_MAX, HEAD_BYTES, framed

WAITS_S = (0.3, 0.7, 1.5)
"""For an answer by UDP, before the request is sent again (RFC 8489, 6.2.1)."""
TCP_WITHIN_S = 2.5
AT_ONCE_MAX = 16
"""Candidates that are asked."""


def binding_request(answer: IceAnswer) -> stun.Message:
    """A check of the controlling side (RFC 8445, 7.1) without USE-CANDIDATE."""
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{answer.ufrag}:doctor"
    request.attributes["PRIORITY"] = 1 << 24
    request.attributes["ICE-CONTROLLING"] = secrets.randbits(64)
    request.add_message_integrity(answer.password.encode())
    return request


def read_answer(data: bytes, request: stun.Message, answer: IceAnswer) -> Reach | None:
    """What a datagram means; None if it is no answer to the request."""
    try:
        message = stun.parse_message(data)
    except Exception:  # the codec raises what its unpacking of the bytes raises
        return None
    if message.transaction_id != request.transaction_id:
        return None
    if message.message_class is stun.Class.RESPONSE:
        proven = message.check_message_integrity(answer.password.encode())
        return Reach.ANSWERED if proven else Reach.STRANGER
    return Reach.STRANGER if message.message_class is stun.Class.ERROR else None


async def reach_all(answer: IceAnswer) -> Sequence[Reached]:
    """Ask all candidates at the same time."""
    asked = answer.candidates[:AT_ONCE_MAX]
    return await asyncio.gather(*(reach(each, answer) for each in asked))


async def reach(candidate: Candidate, answer: IceAnswer) -> Reached:
    """Ask one; never raises for what the network does."""
    loop = asyncio.get_running_loop()
    request, began = binding_request(answer), loop.time()
    ask = _by_udp if candidate.transport == "udp" else _by_tcp
    try:
        found, why = await ask(candidate, request, answer), ""
    except ConnectionRefusedError:
        found, why = Reach.REFUSED, ""
    except TimeoutError:
        found, why = Reach.SILENT, ""
    except (OSError, asyncio.IncompleteReadError) as problem:
        found, why = Reach.SILENT, getattr(problem, "strerror", None) or "it was closed"
    return Reached(candidate, found, (loop.time() - began) * 1000, why)


class _Asking(asyncio.DatagramProtocol):
    """One socket that waits for one answer."""

    def __init__(self, request: stun.Message, answer: IceAnswer) -> None:
        self._request, self._answer = request, answer
        self.found: asyncio.Future[Reach] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """See asyncio.DatagramProtocol."""
        reach = read_answer(data, self._request, self._answer)
        if reach is not None and not self.found.done():
            self.found.set_result(reach)

    def error_received(self, exc: Exception) -> None:
        """An ICMP message, or what the kernel says."""
        if not self.found.done():
            self.found.set_exception(exc)


async def _by_udp(candidate: Candidate, request: stun.Message, answer: IceAnswer) -> Reach:
    loop = asyncio.get_running_loop()
    transport, asking = await loop.create_datagram_endpoint(
        lambda: _Asking(request, answer), remote_addr=(candidate.host, candidate.port)
    )
    try:
        for wait_s in WAITS_S:
            transport.sendto(bytes(request))
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(asking.found), wait_s)
        return Reach.SILENT
    finally:
        transport.close()
        asking.found.cancel()


async def _by_tcp(candidate: Candidate, request: stun.Message, answer: IceAnswer) -> Reach:
    async with asyncio.timeout(TCP_WITHIN_S):
        reader, writer = await asyncio.open_connection(candidate.host, candidate.port)
        try:
            writer.write(framed(bytes(request)))
            while True:
                length = int.from_bytes(await reader.readexactly(HEAD_BYTES), "big")
                if length > FRAME_BYTES_MAX:
                    return Reach.STRANGER
                found = read_answer(await reader.readexactly(length), request, answer)
                if found is not None:
                    return found
        finally:
            writer.transport.abort()
