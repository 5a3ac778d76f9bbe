"""The front on blocking queries alone, before a real agent of ours and before a real Consul.

The same catalog by the feed and by polling has to give the same copy; and from Consul's catalog the
front has to give the answers that Consul's own DNS gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Sequence

import aiohttp
import dns.asyncquery
import dns.message
import dns.rcode
import pytest
from tests.harness.capabilities import require
from tests.harness.dnscase import lines, query
from tests.harness.eventually import eventually
from tests.harness.sockets import free_port

from callboard.dns.server import DnsServer
from callboard.dns.settings import DnsSettings
from callboard.feed.client import FeedClient
from callboard.feed.copy import CatalogCopy
from callboard.feed.mirror import PollSettings
from callboard.feed.poll import PollClient
from callboard.testing import Catalog

pytestmark = pytest.mark.slow

PLACE = "127.0.0.73"
"""Where Consul runs, and none of ours."""

SERVICES = ["web", "db", "cache"]
NODES = ["n1", "n2", "n3"]
QUICK = PollSettings(wait_s=2.0, beat_wait_s=0.2, retry_min_s=0.05, retry_max_s=0.2)


@contextlib.asynccontextmanager
async def kept(client: FeedClient | PollClient) -> AsyncIterator[None]:
    task = asyncio.create_task(client.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def change(session: aiohttp.ClientSession, url: str, rng: random.Random) -> None:
    """One registration or deregistration, at random."""
    node, service = rng.choice(NODES), rng.choice(SERVICES)
    path = "register"
    body: dict[str, object] = {"Node": node, "Address": f"10.0.0.{rng.randint(1, 250)}"}
    chance = rng.random()
    if chance < 0.5:
        number = str(rng.randint(1, 3))
        tags = rng.sample(["a", "b"], rng.randint(0, 2))
        body |= {"Service": {"ID": service + number, "Service": service, "Port": 80, "Tags": tags}}
    elif chance < 0.75:
        status = rng.choice(["passing", "warning", "critical"])
        body |= {"Check": {"CheckID": "c", "Name": "c", "Status": status}}
    elif chance < 0.95:
        path, body = "deregister", {"Node": node, "ServiceID": service + str(rng.randint(1, 3))}
    else:
        path, body = "deregister", {"Node": node}
    async with session.put(f"{url}/v1/catalog/{path}", data=json.dumps(body)) as answer:
        assert answer.status == 200, await answer.text()


def picture(copy: CatalogCopy) -> object:
    """What DNS can see: nodes, and the health of every service (a copy that is polled has no
    checks of nodes without services)."""
    named = copy.service_names()
    return copy.nodes(), {name: list(copy.health(name)) for name in named}


async def test_feed_and_polling_keep_the_same_copy(catalog: Catalog) -> None:
    rng = random.Random(7)
    fed, polled = CatalogCopy(), CatalogCopy()
    by_feed = FeedClient([catalog.url], fed, rng=rng)
    by_poll = PollClient([catalog.url], polled, settings=QUICK, rng=rng)
    async with aiohttp.ClientSession() as session, kept(by_feed), kept(by_poll):
        await eventually(lambda: fed.ready and polled.ready)
        for _ in range(10):
            for _ in range(20):
                await change(session, catalog.url, rng)
            await eventually(lambda: picture(polled) == picture(fed))
        assert len(fed.nodes()) > 1
        assert polled.histories == fed.histories == 0
        assert by_poll.switches == by_feed.switches == 0


@contextlib.asynccontextmanager
async def real_consul() -> AsyncIterator[tuple[str, int]]:
    """A development agent of Consul: (its URL, its DNS port)."""
    require("consul")
    http, names, rpc, lan = (free_port(PLACE) for _ in range(4))
    process = await asyncio.create_subprocess_exec(
        *("consul", "agent", "-dev", "-node=n0", f"-bind={PLACE}", f"-client={PLACE}"),
        *(f"-http-port={http}", f"-dns-port={names}", f"-server-port={rpc}"),
        *(f"-serf-lan-port={lan}", "-serf-wan-port=-1", "-grpc-port=-1"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://{PLACE}:{http}"
    try:
        async with aiohttp.ClientSession() as session:

            async def passing() -> bool:
                async with session.get(f"{url}/v1/health/service/consul?passing") as answer:
                    return answer.status == 200 and len(await answer.json()) == 1

            def led() -> bool | Awaitable[bool]:
                return passing()

            await eventually(led, 30)
        yield url, names
    finally:
        process.terminate()
        await process.wait()


async def asked(place: tuple[str, int], name: str, type: str) -> tuple[str, list[str], list[str]]:
    """Code, answer and addresses in ADDITIONAL, over TCP: UDP's is cut."""
    message = query(name, type)
    reply = await dns.asyncquery.tcp(message, place[0], 10, place[1])
    additional = [line for line in lines(reply.additional) if " A " in line]
    return dns.rcode.to_text(reply.rcode()), lines(reply.answer), additional


def questions() -> Sequence[tuple[str, str]]:
    found = [(f"{node}.node{dc}.consul", "A") for node in [*NODES, "n9"] for dc in ("", ".dc1")]
    for service in [*SERVICES, "nosuch"]:
        found += [(f"{service}.service.consul", kind) for kind in ("A", "SRV")]
        found += [
            (f"a.{service}.service.dc1.consul", "A"),
            (f"_{service}._b.service.consul", "SRV"),
        ]
        found.append((f"_{service}._tcp.service.consul", "SRV"))
    return found


async def test_front_before_consul_answers_as_consul_does() -> None:
    rng = random.Random(11)
    copy = CatalogCopy()
    async with real_consul() as (url, names), aiohttp.ClientSession() as session:
        front = DnsServer(copy, DnsSettings(), "127.0.0.1", 0)
        await front.start()
        polling = PollClient([url], copy, settings=QUICK, rng=rng)
        async with kept(polling):
            await eventually(lambda: copy.ready, 30)
            answered = 0
            for _ in range(5):
                for _ in range(20):
                    await change(session, url, rng)

                async def same() -> int:
                    """How many questions had an answer; all had the same."""
                    count = 0
                    for name, type in questions():
                        ours = await asked(("127.0.0.1", front.udp_port), name, type)
                        assert ours == await asked((PLACE, names), name, type), name
                        count += bool(ours[1])
                    return count

                def counted() -> int | Awaitable[int]:
                    return same()

                answered += await eventually(counted, 20)
            assert answered > 50
            assert polling.switches == 0
        await front.stop()
