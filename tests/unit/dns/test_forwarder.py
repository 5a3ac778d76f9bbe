"""Asking recursors (RFC 5452: only the answer to our own question counts)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import pytest
from tests.harness.dnscase import lines, query

from callboard.dns.forwarder import RecursorForwarder
from callboard.dns.recursors import recursor_address

Reply = Callable[[bytes], Iterator[bytes]]


class Recursor(asyncio.DatagramProtocol):
    """A recursor over UDP and TCP; `reply` makes what it sends back."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[bytes] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        self.asked.append(data)
        for packet in self.reply(data):
            self.transport.sendto(packet, addr)

    @property
    def address(self) -> tuple[str, int]:
        assert self.transport is not None
        host, port = self.transport.get_extra_info("sockname")
        return host, port

    @property
    def questions(self) -> list[bytes]:
        """What was asked, without probes for loops."""
        return [packet for packet in self.asked if PROBE not in packet]


@contextlib.asynccontextmanager
async def recursor(reply: Reply) -> AsyncIterator[Recursor]:
    """One that answers over UDP by `reply`, and over TCP properly, at one port."""
    loop = asyncio.get_running_loop()
    for attempt in range(16):
        async with await asyncio.start_server(_serve_tcp, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            try:
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: Recursor(reply), local_addr=address
                )
            except OSError:
                if attempt == 15:
                    raise
                continue
            try:
                yield protocol
            finally:
                transport.close()
                await asyncio.sleep(0)
            return


async def _serve_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    length = int.from_bytes(await reader.readexactly(2), "big")
    reply = answer(await reader.readexactly(length))
    writer.write(len(reply).to_bytes(2, "big") + reply)
    writer.close()


def answer(packet: bytes, *, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> bytes:
    asked = dns.message.from_wire(packet)
    reply = dns.message.make_response(asked)
    reply.set_rcode(rcode)
    if rcode == dns.rcode.NOERROR:
        name = asked.question[0].name
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
    return reply.to_wire()


def good(packet: bytes) -> Iterator[bytes]:
    yield answer(packet)


def silent(packet: bytes) -> Iterator[bytes]:
    return iter(())


def failing(packet: bytes) -> Iterator[bytes]:
    yield answer(packet, rcode=dns.rcode.SERVFAIL)


def forged(packet: bytes) -> Iterator[bytes]:
    """Strays first: another ID, another question, a query, half a header; then the answer."""
    other = dns.message.from_wire(packet)
    yield (int.from_bytes(packet[:2], "big") ^ 1).to_bytes(2, "big") + answer(packet)[2:]
    yield packet[:2] + answer(query("evil.example", "A").to_wire())[2:]
    yield packet
    yield packet[:7]
    yield answer(other.to_wire())


def truncated(packet: bytes) -> Iterator[bytes]:
    reply = bytearray(answer(packet))
    reply[2] |= 0x02
    yield bytes(reply)


ASKED = query("example.com", "A")
PROBE = b"\x04loop\x07example\0"


async def ask(*recursors: Recursor, tcp: bool = False) -> dns.message.Message | None:
    addresses = [each.address for each in recursors]
    forwarder = RecursorForwarder(addresses, timeout_s=0.2)
    reply = await forwarder.ask(ASKED.to_wire(), tcp=tcp)
    forwarder.close()
    return None if reply is None else dns.message.from_wire(reply)


async def test_answer_comes_back_under_the_clients_id() -> None:
    async with recursor(good) as upstream:
        reply = await ask(upstream)
        assert reply is not None
        assert reply.id == ASKED.id
        assert lines(reply.answer) == ["example.com. 60 IN A 192.0.2.1"]


async def test_question_goes_out_under_another_id() -> None:
    async with recursor(good) as upstream:
        forwarder = RecursorForwarder([upstream.address])
        for _ in range(8):
            await forwarder.ask(ASKED.to_wire(), tcp=False)
        assert len({packet[:2] for packet in upstream.questions}) > 4


async def test_packets_that_are_no_answer_to_us_are_passed_over() -> None:
    async with recursor(forged) as upstream:
        reply = await ask(upstream)
        assert reply is not None
        assert lines(reply.answer) == ["example.com. 60 IN A 192.0.2.1"]


@pytest.mark.parametrize("first", [silent, failing])
async def test_next_recursor_is_asked(first: Reply) -> None:
    async with recursor(first) as bad, recursor(good) as upstream:
        reply = await ask(bad, upstream)
        assert reply is not None
        assert reply.rcode() == dns.rcode.NOERROR


async def test_missing_name_is_an_answer() -> None:
    def missing(packet: bytes) -> Iterator[bytes]:
        yield answer(packet, rcode=dns.rcode.NXDOMAIN)

    async with recursor(missing) as first, recursor(good) as second:
        reply = await ask(first, second)
        assert reply is not None
        assert reply.rcode() == dns.rcode.NXDOMAIN
        assert not second.questions


async def test_failure_of_all_is_told() -> None:
    async with recursor(silent) as one, recursor(failing) as two:
        reply = await ask(two, one)
        assert reply is not None
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert await ask(one) is None


async def test_recursor_that_is_not_there_is_passed_over() -> None:
    async with recursor(good) as upstream:
        forwarder = RecursorForwarder([("127.0.0.1", 9), upstream.address], timeout_s=1)
        assert await forwarder.ask(ASKED.to_wire(), tcp=False)


@pytest.mark.parametrize(("shuffle", "first"), [(None, 1), (random.Random(1), 2)])
async def test_order_of_recursors_is_kept_or_drawn(
    shuffle: random.Random | None, first: int
) -> None:
    async with recursor(good) as one, recursor(good) as two:
        forwarder = RecursorForwarder([one.address, two.address], shuffle=shuffle)
        for number in range(20):
            packet = query(f"n{number}.example.com", "A").to_wire()
            assert await forwarder.ask(packet, tcp=False)
        assert len([each for each in (one, two) if each.questions]) == first
        assert len(one.questions) + len(two.questions) == 20


async def test_truncated_answer_is_fetched_over_tcp_for_a_tcp_client_only() -> None:
    async with recursor(truncated) as upstream:
        over_udp, over_tcp = await ask(upstream), await ask(upstream, tcp=True)
        assert over_udp is not None
        assert over_tcp is not None
        assert over_udp.flags & dns.flags.TC
        assert not over_tcp.flags & dns.flags.TC


async def test_same_questions_at_the_same_time_are_asked_once() -> None:
    async with recursor(good) as upstream:
        forwarder = RecursorForwarder([upstream.address])
        packets = [i.to_bytes(2, "big") + ASKED.to_wire()[2:] for i in range(50)]
        replies = await asyncio.gather(*(forwarder.ask(p, tcp=False) for p in packets))
        assert [reply and reply[:2] for reply in replies] == [packet[:2] for packet in packets]
        assert len(upstream.questions) == 1


async def test_recursor_that_asks_us_back_does_not_make_a_storm() -> None:
    tasks: list[asyncio.Task[bytes | None]] = []

    def back(packet: bytes) -> Iterator[bytes]:
        tasks.append(asyncio.get_running_loop().create_task(forwarder.ask(packet, tcp=False)))
        return iter(())

    async with recursor(back) as upstream:
        forwarder = RecursorForwarder([upstream.address], timeout_s=0.2)
        assert await forwarder.ask(ASKED.to_wire(), tcp=False) is None
        await asyncio.gather(*tasks)
        assert len(upstream.questions) == 1


async def test_cancelled_question_frees_those_that_wait_for_it() -> None:
    async with recursor(silent) as upstream:
        forwarder = RecursorForwarder([upstream.address], timeout_s=5)
        first = asyncio.ensure_future(forwarder.ask(ASKED.to_wire(), tcp=False))
        second = asyncio.ensure_future(forwarder.ask(ASKED.to_wire(), tcp=False))
        await asyncio.sleep(0)
        first.cancel()
        assert await second is None
        with pytest.raises(asyncio.CancelledError):
            await first


@pytest.mark.parametrize(
    ("text", "address"),
    [("10.0.0.1", ("10.0.0.1", 53)), ("10.0.0.1:5353", ("10.0.0.1", 5353)),
     ("::1", ("::1", 53)), ("[::1]", ("::1", 53)), ("[::1]:5353", ("::1", 5353))],
)  # fmt: skip
def test_recursor_is_an_address_with_a_port(text: str, address: tuple[str, int]) -> None:
    assert recursor_address(text) == address
