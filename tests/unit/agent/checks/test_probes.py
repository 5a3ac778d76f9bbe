"""One run of a check over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from callboard.agent.checks.probes import HttpProbe, Result, TcpProbe


@contextlib.asynccontextmanager
async def serving(
    status: int = 200, text: str = "hello", location: str = "", delay_s: float = 0.0
) -> AsyncIterator[str]:
    """A server that answers every path the same; yields its URL."""

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(delay_s)
        if location and request.path == "/":
            raise web.HTTPFound(location)
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def run(probe: HttpProbe) -> Result:
    async with aiohttp.ClientSession() as session:
        return await probe.run(session)


@pytest.mark.parametrize(
    ("code", "status"),
    [(200, "passing"), (204, "passing"), (429, "warning"), (404, "critical"), (503, "critical")],
)
async def test_http_status_code_decides(code: int, status: str) -> None:
    async with serving(code) as url:
        assert (await run(HttpProbe(url))).status == status


async def test_http_output_is_worded_as_consuls() -> None:
    async with serving(200, "fine") as url:
        result = await run(HttpProbe(url))
    assert result.output == f"HTTP GET {url}: 200 OK Output: fine"


async def test_http_output_is_cut() -> None:
    async with serving(200, "x" * 100_000) as url:
        result = await run(HttpProbe(url))
    assert result.output.count("x") == 4096


async def test_http_time_limit_is_critical() -> None:
    async with serving(delay_s=30) as url:
        result = await run(HttpProbe(url, timeout_s=0.05))
    assert (result.status, result.output) == (
        "critical",
        f'Get "{url}": context deadline exceeded',
    )


@pytest.mark.parametrize(
    ("url", "output"),
    [
        (
            "http://127.0.0.1:1/",
            'Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused',
        ),
        ("nonsense", 'Get "nonsense": unsupported protocol scheme ""'),
        ("ftp://x/", 'Get "ftp://x/": unsupported protocol scheme "ftp"'),
    ],
)
async def test_http_that_gets_no_answer_says_why_in_gos_words(url: str, output: str) -> None:
    assert await run(HttpProbe(url)) == Result("critical", output)


async def test_http_redirects_are_followed_unless_disabled() -> None:
    async with serving(200, location="/there") as url:
        followed = await run(HttpProbe(url))
        stopped = await run(HttpProbe(url, disable_redirects=True))
    assert (followed.status, stopped.status) == ("passing", "critical")


async def test_tcp_connect_passes() -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        result = await TcpProbe(address).run()
    assert (result.status, result.output) == ("passing", f"TCP connect {address}: Success")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:nonsense", "127.0.0.1:99999", ""])
async def test_tcp_that_cannot_connect_is_critical(address: str) -> None:
    assert (await TcpProbe(address, timeout_s=1).run()).status == "critical"


@pytest.mark.parametrize(
    ("address", "output"),
    [
        ("127.0.0.1:1", "dial tcp 127.0.0.1:1: connect: connection refused"),
        ("nonsense", "dial tcp: address nonsense: missing port in address"),
        ("127.0.0.1:nonsense", "dial tcp: lookup tcp/nonsense: unknown port"),
        ("127.0.0.1:99999", "dial tcp: address 127.0.0.1:99999: invalid port"),
    ],
)
async def test_tcp_that_cannot_connect_says_why_in_gos_words(address: str, output: str) -> None:
    assert (await TcpProbe(address, timeout_s=1).run()).output == output
