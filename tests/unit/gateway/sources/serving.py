"""The control port of a `TestedSidecar`: a real HTTP server that speaks the lease protocol."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from tests.unit.gateway.sources.sending import TestedSidecar

from callboard.gateway.film import NotSteered
from callboard.gateway.sources.keeping import LeaseUnknown
from callboard.gateway.sources.sidecars import Listed
from callboard.media.leases import Renewed, Seek


def listed_json(listed: Listed) -> dict[str, object]:
    """A stream as GET /streams has it."""
    described = listed.description
    return {
        "name": described.name,
        "title": described.title,
        "on_demand": described.on_demand,
        "per_viewer": listed.per_viewer,
        "problem": described.problem,
        "tracks": [
            {
                "id": track.id,
                "kind": track.codec.kind,
                "codec": track.codec.name,
                "clock_rate": track.codec.clock_rate,
                "channels": track.codec.channels,
                "payload_type": track.payload_type,
            }
            for track in described.tracks
        ],
    }


@asynccontextmanager
async def serving(
    sidecar: TestedSidecar, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[int]:
    """The server; its port."""

    async def streams(request: web.Request) -> web.Response:
        listed = await sidecar.streams()
        return web.json_response({"streams": [listed_json(each) for each in listed]})

    async def take(request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        lease, lasts_s = await sidecar.take(asked["stream"], asked["ports"])
        return web.json_response({"lease": lease, "lasts_s": lasts_s}, status=201)

    async def renew(request: web.Request) -> web.Response:
        try:
            lasts_s = await sidecar.renew(request.match_info["lease"])
        except LeaseUnknown as problem:
            raise web.HTTPNotFound from problem
        progress = sidecar.leases[request.match_info["lease"]].progress
        return web.Response(body=Renewed(lasts_s, progress).to_json())

    async def release(request: web.Request) -> web.Response:
        if request.match_info["lease"] not in sidecar.leases:
            raise web.HTTPNotFound
        await sidecar.release(request.match_info["lease"])
        return web.Response()

    async def steer(request: web.Request) -> web.Response:
        lease, verb = request.match_info["lease"], request.match_info["verb"]
        try:
            if verb == "seek":
                asked = Seek.from_json(await request.read())
                told = await sidecar.seek(lease, asked.position_s)
            else:
                told = await (sidecar.start if verb == "start" else sidecar.pause)(lease)
        except LeaseUnknown as problem:
            raise web.HTTPNotFound from problem
        except NotSteered as problem:
            raise web.HTTPConflict(text=str(problem)) from problem
        return web.Response(body=told.to_json())

    app = web.Application()
    app.router.add_get("/streams", streams)
    app.router.add_post("/leases", take)
    app.router.add_put("/leases/{lease}", renew)
    app.router.add_delete("/leases/{lease}", release)
    app.router.add_post("/leases/{lease}/{verb:start|pause|seek}", steer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls, reuse_address=True)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
