"""Chromium's EventSource and our parser agree on the same bytes, however they are cut."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import random
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.chromium import load
from tests.harness.sse_vectors import VECTORS

from callboard.events.encoder import BadEvent, block, comment
from callboard.events.parser import BOM, Event, Parser

TYPES = ("message", "tick", "x", "y", "hub.beat")
"""A page hears of no type that it does not name."""
RANDOM_STREAMS = 300
SEED = 8895
PAUSE_S = 0.001
"""Between pieces, so that they are not put together again."""

PAGE = """<!doctype html><title>streams</title><pre id="out"></pre><script>
const types = %s;
function read(number) {
  return new Promise((done) => {
    const seen = [], source = new EventSource("/stream/" + number);
    for (const type of types) source.addEventListener(type, (event) =>
      seen.push([event.type, event.data, event.lastEventId]));
    source.onerror = () => { source.close(); done(seen); };
  });
}
async function all(count) {
  const found = [];
  for (let first = 0; first < count; first += 4) {
    const numbers = [0, 1, 2, 3].map((n) => first + n).filter((n) => n < count);
    found.push(...await Promise.all(numbers.map(read)));
  }
  const bytes = new TextEncoder().encode(JSON.stringify(found));
  await fetch("/found", { method: "POST", body: bytes });
  document.getElementById("out").textContent = "all was read";
}
all(%d);
</script>"""

Seen = list[list[str]]


class Streams:
    """Serves a page and the streams that it reads, each in pieces; takes down what it found."""

    def __init__(self, streams: Sequence[Sequence[bytes]]) -> None:
        self.found: list[Seen] = []
        self._streams = streams
        self._page = (PAGE % (json.dumps(TYPES), len(streams))).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\n")
        if path == "/found":
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            assert length is not None
            self.found = json.loads(await reader.readexactly(int(length[1])))
            writer.write(b"Content-Length: 0\r\n\r\n")
        elif path.startswith("/stream/"):
            writer.write(b"Content-Type: text/event-stream\r\n\r\n")
            for piece in self._streams[int(path.removeprefix("/stream/"))]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(PAUSE_S)
        else:
            writer.write(b"Content-Type: text/html; charset=utf-8\r\n\r\n" + self._page)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(streams: Sequence[Sequence[bytes]]) -> AsyncIterator[tuple[Streams, str]]:
    handler = Streams(streams)
    server = await asyncio.start_server(handler.serve, "127.0.0.1", 0)
    try:
        yield handler, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


async def read_by_chromium(streams: Sequence[Sequence[bytes]], home: Path) -> list[Seen]:
    require("chromium")
    async with serving(streams) as (server, url):
        # virtual time waits for the page to have done all that it began
        shown = await asyncio.to_thread(load, url, home, "--virtual-time-budget=120000")
        assert "all was read" in html.unescape(shown), shown[-2000:]
        return server.found


def read_by_us(pieces: Sequence[bytes]) -> Seen:
    parser = Parser()
    events: list[Event] = [event for piece in pieces for event in parser.feed(piece)]
    return [[event.type, event.data, event.id] for event in events if event.type in TYPES]


def cut(stream: bytes, rng: random.Random) -> list[bytes]:
    """The stream in up to eight pieces."""
    places = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randrange(8)))
    ends = zip([0, *places], [*places, len(stream)], strict=True)
    return [stream[begin:end] for begin, end in ends if begin < end]


def any_stream(rng: random.Random) -> bytes:
    """Fields, line ends and rubbish."""
    words = [
        *(b"data", b"data:", b"data: ", b"data: a", b"data:b", b"id", b"id:", b"id: 1", b"id: 2\0"),
        *(b"event", b"event: x", b"event: tick", b"event:y", b"retry: 1", b"retry", b":", b": hi"),
        *(b"\n", b"\r", b"\r\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\n", b"\n", b" ", b":", b"\0"),
        *(b"\xef\xbb\xbf", b"\xff", b"\xc3", "ü".encode(), b"\xe2\x80\xa8", b"\xf0\x9f", b"\x0b"),
    ]
    stream = b"".join(rng.choice(words) for _ in range(rng.randrange(60)))
    # where a byte order mark is a line by itself Chromium reads on otherwise than the text says
    return stream.removeprefix(BOM) if stream[3:4] in (b"\r", b"\n") else stream


def encoded(rng: random.Random) -> bytes:
    """What our encoder makes of any text."""
    letters = "ab \n\r\t:\0üñ\u2028\u0085\ufeff🐎\x0b"
    parts = []
    for _ in range(rng.randrange(6)):
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(20)))
        id = rng.choice([None, "", "#a.1", "#b.2~c.3", "".join(rng.choices(letters, k=3))])
        try:
            parts.append(block(text.encode(), id=id, type=rng.choice(TYPES)))
        except BadEvent:
            parts.append(comment("refused"))
    return b"".join(parts)


@pytest.mark.timeout(300)
async def test_chromium_and_the_parser_agree_on_every_rule(tmp_path: Path) -> None:
    found = await read_by_chromium([[vector.stream] for vector in VECTORS], tmp_path / "home")
    wrong = {
        vector.rule: seen
        for vector, seen in zip(VECTORS, found, strict=True)
        if seen != [list(event) for event in vector.events]
    }
    assert not wrong


@pytest.mark.timeout(300)
async def test_chromium_and_the_parser_agree_on_random_streams_in_pieces(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    makers = (any_stream, encoded)
    streams = [cut(makers[number % 2](rng), rng) for number in range(RANDOM_STREAMS)]
    found = await read_by_chromium(streams, tmp_path / "home")
    wrong = [
        (base64.b64encode(b"|".join(pieces)), theirs, ours)
        for pieces, theirs in zip(streams, found, strict=True)
        if theirs != (ours := read_by_us(pieces))
    ]
    assert not wrong
    assert sum(map(len, found)) > RANDOM_STREAMS
