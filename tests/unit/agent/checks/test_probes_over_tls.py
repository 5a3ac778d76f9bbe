"""Checks of services that speak TLS: who is verified, and by which name."""

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.harness.eventually import eventually
from tests.unit.serve.test_tls_and_tools import self_signed

from callboard.agent.checks import probes
from callboard.agent.checks.clock import MovableClock
from callboard.agent.checks.probes import HttpProbe, Result, TcpProbe
from callboard.agent.checks.runner import CheckRunner
from callboard.catalog.definitions import check_from_request


@contextlib.asynccontextmanager
async def serving(folder: Path, names: list[str | None]) -> AsyncIterator[str]:
    """A TLS server whose certificate names localhost; yields "host:port", notes asked names."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(folder))
    context.sni_callback = lambda connection, name, settings: names.append(name)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def http(probe: HttpProbe) -> Result:
    async with aiohttp.ClientSession() as session:
        return await probe.run(session)


async def test_http_verifies_the_certificate_unless_told_not_to(tmp_path: Path) -> None:
    async with serving(tmp_path, []) as address:
        verified = await http(HttpProbe(f"https://{address}/"))
        skipped = await http(HttpProbe(f"https://{address}/", tls_skip_verify=True))
    assert (verified.status, skipped.status) == ("critical", "passing")


async def test_http_asks_for_the_given_server_name(tmp_path: Path) -> None:
    names: list[str | None] = []
    async with serving(tmp_path, names) as address:
        probe = HttpProbe(
            f"https://{address}/", tls_skip_verify=True, tls_server_name="web.example.org"
        )
        await http(probe)
    assert names == ["web.example.org"]


async def test_tcp_with_tls_wants_a_session_with_whom_the_certificate_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, []) as address:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "localhost.pem"))
        probes._tls_context.cache_clear()
        named = await TcpProbe(address, tls=True, tls_server_name="localhost").run()
        by_address = await TcpProbe(address, tls=True).run()
        skipped = await TcpProbe(address, tls=True, tls_skip_verify=True).run()
    probes._tls_context.cache_clear()
    assert (named.status, by_address.status, skipped.status) == ("passing", "critical", "passing")


async def test_tcp_with_tls_is_critical_where_nobody_speaks_it() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        assert (await TcpProbe(address).run()).status == "passing"
        assert (await TcpProbe(address, tls=True).run()).status == "critical"


@pytest.mark.parametrize("kind", [{"TCP": "{}", "TCPUseTLS": True}, {"HTTP": "https://{}/"}])
async def test_definition_says_how_its_check_verifies(
    tmp_path: Path, kind: dict[str, object]
) -> None:
    names: list[str | None] = []
    found: list[str] = []
    clock = MovableClock(asyncio.get_running_loop())
    runner = CheckRunner(
        clock=clock,
        rng=random.Random(1),
        observe=lambda check_id, status, output: found.append(status),
        status=lambda check_id: "critical",
    )
    async with serving(tmp_path, names) as address:
        place = {k: v.format(address) if isinstance(v, str) else v for k, v in kind.items()}
        body = {"Name": "c", "Interval": "10s", "TLSSkipVerify": True, "TLSServerName": "a.b"}
        runner.start("c", check_from_request(json.dumps(body | place).encode()))
        clock.advance(10)
        await eventually(lambda: found)
    await runner.close()
    assert (found, names) == (["passing"], ["a.b"])
