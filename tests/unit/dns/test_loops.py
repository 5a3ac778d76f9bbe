"""A recursor that leads back to us is found, left out, and taken again when it no longer does."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable
from typing import cast

import dns.asyncquery
import dns.edns
import dns.message
import dns.rcode
import pytest
from tests.harness.dnscase import lines, query
from tests.harness.eventually import eventually
from tests.harness.farm import article_farm

from callboard.dns.forwarder import SPELLINGS_MAX, RecursorForwarder
from callboard.dns.loops import LoopWatch
from callboard.dns.recursors import without_own
from callboard.dns.server import DnsServer
from callboard.dns.settings import DnsSettings
from callboard.nameserver.forwarder import forwarder as made_forwarder

ASKED = query("example.org", "A")


class Relay(asyncio.DatagramProtocol):
    """A recursor that hands every question on with other EDNS; honest, it answers by itself."""

    def __init__(self) -> None:
        self.leads_to: tuple[str, int] = ("", 0)
        self.honest = False
        self.asked: list[str] = []
        self.transport: asyncio.DatagramTransport | None = None
        self._clients: dict[int, tuple[int, tuple[str, int]]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    @property
    def address(self) -> tuple[str, int]:
        assert self.transport is not None
        host, port = self.transport.get_extra_info("sockname")
        return host, port

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        message = dns.message.from_wire(data)
        if addr == self.leads_to:
            ident, client = self._clients.pop(message.id)
            self.transport.sendto(ident.to_bytes(2, "big") + data[2:], client)
            return
        self.asked.append(message.question[0].name.to_text())
        if self.honest:
            reply = dns.message.make_response(message)
            name = message.question[0].name
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
            self.transport.sendto(reply.to_wire(), addr)
            return
        cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, secrets.token_bytes(8))
        onward = query(self.asked[-1], "A", use_edns=0)
        onward.question = message.question
        onward.use_edns(0, options=[cookie])
        self._clients[onward.id] = (message.id, addr)
        self.transport.sendto(onward.to_wire(), self.leads_to)

    def questions(self) -> int:
        """How often the question was asked, probes left out."""
        return self.asked.count("example.org.")


@contextlib.asynccontextmanager
async def circle(
    *, probe_interval_s: float = 60.0
) -> AsyncIterator[tuple[Relay, RecursorForwarder, DnsServer]]:
    """A server that forwards to a relay that leads back to it."""
    loop = asyncio.get_running_loop()
    transport, relay = await loop.create_datagram_endpoint(Relay, local_addr=("127.0.0.1", 0))
    forwarder = RecursorForwarder([relay.address], 5.0, probe_interval_s=probe_interval_s)
    server = DnsServer(article_farm(), DnsSettings(), "127.0.0.1", 0, forwarder=forwarder)
    await server.start()
    relay.leads_to = ("127.0.0.1", server.udp_port)
    try:
        yield relay, forwarder, server
    finally:
        await server.stop()
        forwarder.close()
        transport.close()


async def ask(server: DnsServer) -> dns.message.Message:
    return await dns.asyncquery.udp(ASKED, "127.0.0.1", 10, server.udp_port)


async def test_question_does_not_go_round_and_round() -> None:
    async with circle() as (relay, _, server):
        assert (await ask(server)).rcode() == dns.rcode.SERVFAIL
        assert relay.questions() <= SPELLINGS_MAX
        await eventually(lambda: any("loop.example." in name for name in relay.asked))
        before = relay.questions()
        assert (await ask(server)).rcode() == dns.rcode.SERVFAIL
        assert relay.questions() == before


async def test_questions_that_differ_in_edns_alone_are_bounded_without_a_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LoopWatch, "look", lambda self: None)
    async with circle() as (relay, _, server):
        assert (await ask(server)).rcode() == dns.rcode.SERVFAIL
        assert relay.questions() == SPELLINGS_MAX


async def test_recursor_that_leads_elsewhere_again_is_asked_again() -> None:
    async with circle(probe_interval_s=0.05) as (relay, _, server):
        assert (await ask(server)).rcode() == dns.rcode.SERVFAIL
        relay.honest = True

        async def answered() -> bool:
            return lines((await ask(server)).answer) == ["example.org. 60 IN A 192.0.2.1"]

        def fact() -> bool | Awaitable[bool]:
            return answered()

        await eventually(fact)


async def test_loop_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with circle() as (relay, _, server):
        for _ in range(3):
            await ask(server)
        told = [record for record in caplog.records if "leads back" in record.message]
        assert [vars(record)["at"] for record in told] == [relay.address]


@pytest.mark.parametrize(
    ("addresses", "recursor", "own"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["0.0.0.0"], "127.0.0.1", True),
        (["::"], "::1", True),
        (["::"], "127.0.0.1", True),
        (["0.0.0.0", "10.0.0.5"], "10.0.0.5", True),
        (["0.0.0.0"], "127.0.0.11", False),  # Docker's resolver, which leads out
        (["10.0.0.5"], "::ffff:10.0.0.5", True),
        (["2001:db8::1"], "2001:db8:0::1", True),
        (["", "nonsense"], "10.0.0.5", False),
    ],
)
def test_own_address_is_left_out(addresses: list[str], recursor: str, own: bool) -> None:
    other = ("192.0.2.53", 53)
    kept = without_own([(recursor, 53), other, other], addresses, 53)
    assert kept == ([other] if own else [(recursor, 53), other])
    assert (recursor, 54) in without_own([(recursor, 54)], addresses, 53)


def test_name_server_does_not_ask_itself() -> None:
    dns = DnsSettings(recursors=("127.0.0.1:8600", "10.0.0.5:8600"))
    assert made_forwarder(dns, ("0.0.0.0", "10.0.0.5"), 8600) is None
    assert made_forwarder(dns, ("127.0.0.1", "127.0.0.1"), 8600) is not None
