"""What `dig` sees: the walk-through's questions, and the EDNS behaviours that resolvers probe for.

The expectations on EDNS are those of ISC's DNS compliance tests (RFC 6891, RFC 9018, RFC 8906).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tests.harness.capabilities import require
from tests.harness.farm import Farm, article_farm

from callboard.dns.server import DnsServer
from callboard.dns.settings import DnsSettings

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Dig:
    """Runs dig against one server."""

    port: int

    async def __call__(self, *arguments: str) -> str:
        program = shutil.which("dig")
        assert program is not None
        process = await asyncio.create_subprocess_exec(
            program,
            "@127.0.0.1",
            "-p",
            str(self.port),
            "+tries=1",
            "+time=3",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 20)
        return output.decode()

    async def short(self, *arguments: str) -> list[str]:
        """The data of the answer records, sorted."""
        return sorted((await self("+short", *arguments)).split("\n")[:-1])


@contextlib.asynccontextmanager
async def front(
    farm: Farm | None = None, *, age_s: float = 0.0, enable_truncate: bool = False
) -> AsyncIterator[Dig]:
    require("dig")
    settings = DnsSettings(
        server_id="front-1", enable_truncate=enable_truncate, max_stale_s=60.0, stale_after_s=5.0
    )
    chosen = farm or article_farm()
    server = DnsServer(chosen, settings, "127.0.0.1", 0, age_s=lambda: age_s)
    await server.start()
    try:
        yield Dig(server.udp_port)
    finally:
        await server.stop()


WEB = ["10.0.0.1", "10.0.0.4"]

WALK_THROUGH = [
    (["agent-1.node.consul"], ["10.0.0.1"]),
    (["agent-1.node.dc1.consul"], ["10.0.0.1"]),
    (["web.service.consul"], WEB),
    (["web.service.dc1.consul"], WEB),
    (["rails.web.service.consul"], WEB),
    (["rails.web.service.dc1.consul"], WEB),
    (["-x", "10.0.0.4"], ["agent-4.node.dc1.consul."]),
    (["+tcp", "web.service.consul"], WEB),
    (
        ["web.service.consul", "SRV"],
        ["1 1 80 agent-1.node.dc1.consul.", "1 1 80 agent-4.node.dc1.consul."],
    ),
    (
        ["_web._tcp.service.consul", "SRV"],
        ["1 1 80 agent-1.node.dc1.consul.", "1 1 80 agent-4.node.dc1.consul."],
    ),
    (
        ["_web._rails.service.dc1.consul", "SRV"],
        ["1 1 80 agent-1.node.dc1.consul.", "1 1 80 agent-4.node.dc1.consul."],
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), WALK_THROUGH, ids=" ".join)
async def test_walk_through(arguments: list[str], expected: list[str]) -> None:
    async with front() as dig:
        assert await dig.short(*arguments) == expected


async def test_srv_brings_addresses_in_additional() -> None:
    async with front() as dig:
        output = await dig("web.service.consul", "SRV")
        additional = output.partition("ADDITIONAL SECTION:")[2]
        assert "agent-1.node.dc1.consul. 0\tIN\tA\t10.0.0.1" in additional
        assert "agent-4.node.dc1.consul. 0\tIN\tA\t10.0.0.4" in additional


EDNS = [
    # (arguments, in the output, not in the output)
    (["+edns=0"], ["NOERROR", "udp: 1232"], []),
    (["+noedns"], ["NOERROR"], ["EDNS:"]),
    (["+edns=1", "+noednsneg"], ["BADVERS", "version: 0"], ["10.0.0.1"]),
    (["+edns=0", "+ednsopt=100:aabb"], ["NOERROR"], ["OPT=100"]),
    (["+edns=1", "+noednsneg", "+ednsopt=100"], ["BADVERS"], ["OPT=100"]),
    (["+edns=0", "+ednsflags=0x40"], ["NOERROR"], ["MBZ"]),
    (["+dnssec"], ["NOERROR", "flags: do"], []),
    (["+nsid"], ["NOERROR", 'NSID: 66 72 6f 6e 74 2d 31 ("front-1")'], []),
    (["+cookie=0123456789abcdef"], ["NOERROR"], ["BADCOOKIE"]),
    (["+subnet=192.0.2.0/24"], ["NOERROR"], ["CLIENT-SUBNET: 192.0.2.0/24/24"]),
    (["+bufsize=512"], ["NOERROR", "udp: 1232"], []),
    (["+opcode=3"], ["NOTIMP"], []),
    (["+adflag", "+cdflag"], ["NOERROR", " cd"], [" ad"]),
    (["+zflag"], ["NOERROR"], ["MBZ"]),
    (["-t", "TYPE666"], ["NOERROR", "SOA"], []),
    (["-t", "AXFR", "+tcp"], ["failed"], ["10.0.0.1"]),
    (["-c", "CH"], ["REFUSED"], ["10.0.0.1"]),
]


@pytest.mark.parametrize(("arguments", "there", "absent"), EDNS, ids=" ".join)
async def test_compliance(arguments: list[str], there: list[str], absent: list[str]) -> None:
    async with front() as dig:
        output = await dig("+qr", *arguments, "web.service.consul")
        answer = output.partition(";; Got answer:")[2].partition(";; Got answer:")[0] or output
        for text in there:
            assert text in answer
        for text in absent:
            assert text not in answer


async def test_type_at_the_apex_is_no_nxdomain() -> None:
    async with front() as dig:
        for kind in ("A", "TXT", "TYPE257", "DNSKEY", "DS"):
            assert "status: NOERROR" in await dig("consul", kind)


async def test_truncated_answer_is_fetched_over_tcp() -> None:
    farm = Farm()
    for number in range(50):
        farm.node_at(f"n{number}", f"10.1.0.{number}")
        farm.service_on(f"n{number}", "many")
    async with front(farm, enable_truncate=True) as dig:
        for how in ("+noedns", "+bufsize=512"):
            output = await dig(how, "many.service.consul")
            assert "Truncated, retrying in TCP mode" in output
            assert "ANSWER: 50," in output
        cut = await dig("+noedns", "+ignore", "many.service.consul")
        assert "flags: qr aa tc rd;" in cut
        assert "ANSWER: 3," in cut


async def test_case_of_a_question_comes_back() -> None:
    async with front() as dig:
        output = " ".join((await dig("WeB.SerVice.CONsul")).split())
        assert ";WeB.SerVice.CONsul. IN A" in output
        assert "WeB.SerVice.CONsul. 0 IN A 10.0.0.1" in output
        assert "flags: qr aa rd;" in output  # (no RA: there is no recursor)


@pytest.mark.parametrize("name", ["nosuch.service.consul", "nosuch.node.dc1.consul", "x.consul"])
async def test_missing_name_and_missing_type_bring_the_soa(name: str) -> None:
    async with front() as dig:
        for asked, status in (([name], "NXDOMAIN"), (["web.service.consul", "MX"], "NOERROR")):
            output = await dig(*asked)
            assert f"status: {status}" in output
            assert "QUERY: 1, ANSWER: 0, AUTHORITY: 1, ADDITIONAL: 1" in output
            assert "consul.\t\t\t0\tIN\tSOA\tns.consul. hostmaster.consul." in output


@pytest.mark.parametrize(
    ("ready", "age_s", "status", "error"),
    [
        (True, 30.0, "NOERROR", "EDE: 3 (Stale Answer)"),
        (True, 90.0, "SERVFAIL", "EDE: 22 (No Reachable Authority)"),
        (False, 0.0, "SERVFAIL", "EDE: 14 (Not Ready)"),
    ],
)
async def test_answer_says_how_old_or_absent_its_catalog_is(
    ready: bool, age_s: float, status: str, error: str
) -> None:
    async with front(None if ready else Farm(ready=False), age_s=age_s) as dig:
        output = await dig("web.service.consul")
        assert f"status: {status}" in output
        assert error in output


async def test_several_queries_on_one_connection() -> None:
    async with front() as dig:
        asked = ["web.service.consul", "agent-1.node.consul", "nosuch.node.consul"]
        output = await dig("+tcp", "+keepopen", *asked)
        assert output.count(";; Got answer:") == 3
        assert output.count("NXDOMAIN") == 1
