"""The process of all viewers, in a namespace of its own. A line of JSON on standard input asks for
something, a line on standard output answers: see `audience`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import uvloop
from benchmarks.live.namespaces import drops, take_far_end
from benchmarks.live.signalling import Seat, take_seat
from benchmarks.live.viewer import Certificate, install

AT_ONCE = 8
"""Viewers that join at the same time."""
FIRST_PACKET_S = 10.0
REPORT_S = 1.0

Answer = dict[str, Any]


class Crowd:
    """All viewers."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._seats: list[Seat] = []
        self._certificate = Certificate.generateCertificate()

    async def join(self, kind: str, url: str, count: int) -> Answer:
        """So many more viewers."""

        async def one() -> None:
            self._seats.append(await self._take(kind, url))

        await _several(one, count)
        return {"profiles": sorted({seat.viewer.profile for seat in self._seats})}

    async def churn(self, kind: str, url: str, count: int) -> Answer:
        """So many viewers who leave when they have got a packet."""
        begun = time.monotonic()

        async def one() -> None:
            seat = await self._take(kind, url)
            await seat.leave()

        await _several(one, count)
        return {"seconds": time.monotonic() - begun}

    async def _take(self, kind: str, url: str) -> Seat:
        seat = await take_seat(self._http, kind, url, self._certificate)
        await asyncio.wait_for(seat.viewer.first.wait(), FIRST_PACKET_S)
        return seat

    async def count(self, seconds: float) -> Answer:
        """What comes in so many seconds: the fields of `audience.Watched`."""
        viewers = [seat.viewer for seat in self._seats]
        had, dropped = [viewer.seen() for viewer in viewers], drops()
        before, processor = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        took = time.monotonic() - before
        pairs = [(was, viewer.seen()) for was, viewer in zip(had, viewers, strict=True)]
        return {
            "seconds": took,
            "received": [now[0] - was[0] for was, now in pairs],
            "missing": [now[1] - was[1] for was, now in pairs],
            "decrypted": sum(viewer.decrypted for viewer in viewers),
            "undecryptable": sum(viewer.undecryptable for viewer in viewers),
            "dropped": drops() - dropped,
            "busy": (time.process_time() - processor) / took,
        }

    async def leave(self) -> Answer:
        """Everybody."""
        seats, self._seats = self._seats, []
        for seat in seats:
            await seat.leave()
        return {}

    async def report(self) -> None:
        """Reports of all viewers, spread over the second."""
        while True:
            seats = list(self._seats)
            for seat in seats:
                await asyncio.sleep(REPORT_S / len(seats))
                if seat in self._seats:
                    await seat.viewer.report()
            if not seats:
                await asyncio.sleep(REPORT_S)


async def _several(one: Callable[[], Awaitable[None]], count: int) -> None:
    """Do it `count` times, AT_ONCE at the same time."""
    left = count

    async def worker() -> None:
        nonlocal left
        while left:
            left -= 1
            await one()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


async def main() -> None:
    """Until standard input ends."""
    install()
    print(json.dumps({}), flush=True)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    connector = aiohttp.TCPConnector(limit=0)
    # (a report that fails ends the process: without them nobody is measured as browsers are)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        crowd = Crowd(http)
        reporting = group.create_task(crowd.report())
        while line := await reader.readline():
            asked = json.loads(line)
            what = asked.pop("do")
            try:
                if what == "address":
                    take_far_end()
                    told: Answer = {}
                else:
                    told = await getattr(crowd, what)(**asked)
            except Exception as problem:
                logging.exception("%s failed", what)
                told = {"problem": repr(problem)}
            print(json.dumps(told), flush=True)
        reporting.cancel()


if __name__ == "__main__":
    uvloop.run(main())
