"""A file server and an agent as processes, and stand-ins for the programs that it forwards to.

A stand-in is a real HTTP server of the test, registered in the agent's catalog under the name of
the program it stands for; it tells what it was sent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientSession, WSMsgType, web
from tests.harness.asking import http
from tests.harness.certified import CA, material
from tests.harness.eventually import eventually_sync
from tests.harness.lone import Lone, running
from tests.harness.process_driver import own_network

from callboard.pki.contexts import Material, server_context
from callboard.pki.roles import WrongRole, authorise, names_for, peer_of

TRUST = "dc1.consul"


class Place:
    """Addresses and certificates for one agent and file servers before it."""

    def __init__(self, folder: Path) -> None:
        """Make the CA, and files for the agent and the file servers."""
        self.network = own_network()
        self.folder = folder
        self.authority = CA(constraints=None)
        self.agent_files = self.files("server", "agent-1")
        self.door_files = self.files("fileserver", "")
        self._last = 1

    @property
    def agent(self) -> str:
        """The agent's address."""
        return f"{self.network}.1"

    def api(self, path: str) -> str:
        """Return the URL of a path of the agent's API, past the file server."""
        return f"http://{self.agent}:8500/v1/{path}"

    def files(self, role: str, node: str) -> Material:
        """Return files of a certificate for this role, good at any address of the place."""
        addresses = [ipaddress.ip_address(f"{self.network}.{n}") for n in range(1, 9)]
        leaf = self.authority.leaf(names_for(role, node, addresses=addresses))
        return material(self.folder / f"{role}-{node or 'x'}", leaf, self.authority)

    def client(self) -> ssl.SSLContext:
        """Return a browser's context."""
        return ssl.create_default_context(cafile=str(self.door_files.authorities))

    @contextmanager
    def catalog(self, name: str = "agent") -> Iterator[Lone]:
        """Run the agent: plain at 8500, mutual TLS at 8501."""
        argv = ["agent", "-dev", "-node=agent-1", "-dns-port=-1"]
        argv += [f"-bind={self.agent}", f"-client={self.agent}", *identity(self.agent_files)]
        with running(argv, self.folder / f"{name}.log", self.folder) as agent:
            agent.wait_for(self.api("status/leader"))
            eventually_sync(lambda: http("GET", self.api("catalog/nodes")).status == 200)
            yield agent

    @contextmanager
    def door(self, *flags: str, secure: bool = False) -> Iterator[Door]:
        """Run a file server before the agent; `secure`: with mutual TLS behind it."""
        self._last += 1
        address = f"{self.network}.{self._last}"
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        (root / "index.html").write_text("the page")
        files = self.door_files
        argv = ["fileserver", f"-bind={address}", f"-root={root}", "-register=false"]
        argv += [f"-cert={files.certificate}", f"-key={files.key}"]
        argv += [f"-health={address}:9090"]
        if secure:
            argv += [f"-catalog={self.agent}", *identity(files)]
        else:
            argv += [f"-catalog=http://{self.agent}:8500"]
        log = self.folder / f"door-{self._last}.log"
        with running([*argv, *flags], log, self.folder) as process:
            process.wait_for(f"http://{address}:9090/livez")
            made = Door(process, address, secure)
            eventually_sync(lambda: process.said('"message": "serving"'))
            yield made


async def carries_events(session: ClientSession, url: str, hub: StandIn) -> None:
    """Assert that `url` shows the hub's stream, each event before the next one is there."""
    async with session.get(url) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        for number in range(3):
            event = f"data: {number}\n\n".encode()
            hub.events.put_nowait(event)
            assert await answer.content.readexactly(len(event)) == event
        hub.events.put_nowait(b"")
        assert await answer.content.read() == b""


def identity(files: Material) -> list[str]:
    """Return the flags that name a program's own files."""
    return [
        f"-cert-file={files.certificate}",
        f"-key-file={files.key}",
        f"-ca-file={files.authorities}",
        f"-crl-file={files.revoked}",
    ]


@dataclass(frozen=True, slots=True)
class Door:
    """A running file server."""

    process: Lone
    address: str
    secure: bool
    """Mutual TLS behind it."""

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"https://{self.address}:1443"

    def metric(self, line: str) -> float:
        """Return a value of /metrics by name and labels; 0.0 when it is not there."""
        told = http("GET", f"http://{self.address}:9090/metrics").body.decode()
        values = [each.rpartition(" ")[2] for each in told.splitlines() if each.startswith(line)]
        return float(values[0]) if values else 0.0


@dataclass(slots=True)
class Told:
    """One request as a stand-in got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class StandIn:
    """One instance of hub or gateway; `start`, and `stop` or `kill`."""

    place: Place
    service: str
    id: str
    files: Material | None = None
    """For mutual TLS; without it plain."""
    told: list[Told] = field(default_factory=list)
    events: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    streams: list[web.Request] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, and register."""
        app = web.Application()
        app.router.add_get("/events", self._stream)
        app.router.add_get("/echo", self._echo)
        app.router.add_route("*", "/{path:.*}", self._mirror)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        context = None
        if self.files is not None:
            context = server_context(self.files, client=ssl.CERT_REQUIRED)
        site = web.TCPSite(self._runner, self.place.agent, 0, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.register()

    def register(self) -> None:
        """Put it into the catalog, passing by a TTL check."""
        meta = {} if self.files is None else {"https_port": str(self.port)}
        body = {
            "Name": self.service,
            "ID": self.id,
            "Address": self.place.agent,
            "Port": 1 if meta else self.port,
            "Meta": meta,
            "Check": {"TTL": "1h", "Status": "passing"},
        }
        answer = http("PUT", self.place.api("agent/service/register"), json.dumps(body).encode())
        assert answer.status == 200, answer

    def fail(self) -> None:
        """Have its check say that it is critical."""
        assert http("PUT", self.place.api(f"agent/check/fail/service:{self.id}")).status == 200

    async def stop(self) -> None:
        """Leave the catalog, and end."""
        with suppress(OSError):
            http("PUT", self.place.api(f"agent/service/deregister/{self.id}"))
        await self.kill()

    async def kill(self) -> None:
        """End at once; the catalog does not know yet."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for request in list(self.streams):
            if request.transport is not None:
                request.transport.abort()
        await runner.cleanup()

    def _check_role(self, request: web.Request) -> None:
        if self.files is None:
            return
        assert request.transport is not None
        end = request.transport.get_extra_info("ssl_object")
        try:
            authorise(peer_of(end.getpeercert(), TRUST), ["fileserver"], "this stand-in")
        except WrongRole as problem:
            raise web.HTTPForbidden(text=str(problem)) from problem

    async def _note(self, request: web.Request) -> Told:
        self._check_role(request)
        made = Told(request.method, request.raw_path, dict(request.headers), await request.read())
        self.told.append(made)
        return made

    async def _mirror(self, request: web.Request) -> web.Response:
        await self._note(request)
        return web.json_response({"by": self.id}, headers={"X-By": self.id})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        await self._note(request)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-By": self.id})
        await answer.prepare(request)
        self.streams.append(request)
        try:
            while event := await self.events.get():
                await answer.write(event)
        finally:
            self.streams.remove(request)
        return answer

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        await self._note(request)
        answer = web.WebSocketResponse(protocols=("janus-protocol",))
        await answer.prepare(request)
        self.streams.append(request)
        try:
            async for message in answer:
                if message.type is WSMsgType.TEXT:
                    await answer.send_str(f"{self.id}: {message.data}")
                elif message.type is WSMsgType.BINARY:
                    await answer.send_bytes(message.data)
        finally:
            self.streams.remove(request)
        return answer
