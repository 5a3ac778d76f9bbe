"""Both lanes answer alike, however requests are split and pipelined (seeded fuzzing)."""

from __future__ import annotations

import asyncio
import random
import re

import pytest
from tests.harness.raw_http import connect, request_bytes
from tests.unit.serve.conftest import serving

TARGETS = ("/echo", "/below/x?a=b&a=%20", "/nowhere", "/header?value=1", "/broken", "/large?size=9")
ODDITIES = (
    b"",
    b"\r\n",
    b"GET /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"GET /echo HTTP/1.0\r\n\r\n",
    b"FROB /echo HTTP/1.1\r\n\r\n",
    b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
)


def conversation(rng: random.Random) -> bytes:
    """Some good requests, and at the end perhaps something odd."""
    raw = b""
    for _ in range(rng.randint(1, 6)):
        method = rng.choice(("GET", "PUT", "GET", "HEAD"))
        body = rng.randbytes(rng.randint(0, 40)) if method == "PUT" else None
        headers = {}
        if rng.random() < 0.2:
            headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
        if body is not None and rng.random() < 0.5:
            headers["Transfer-Encoding"] = "chunked"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        raw += request_bytes(method, rng.choice(TARGETS), body, headers)
    return raw + rng.choice(ODDITIES)


async def replay(raw: bytes, cuts: list[int], *, fast_lane: bool) -> bytes:
    """Send bytes in pieces, half-close, and return what came back but for dates."""
    async with serving(None, fast_lane=fast_lane) as site, connect(site.port) as client:
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            await client.send(raw[start:end])
            await asyncio.sleep(0)
        client.writer.write_eof()
        # (whether the end of the client's bytes is seen before the last answer is a matter of time)
        return re.sub(rb"(Date: [^\r]*|Connection: close)\r\n", b"", await client.closed())


@pytest.mark.parametrize("seed", range(40))
async def test_lanes_give_the_same_bytes(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)
    raw = conversation(rng)
    cuts = sorted(rng.sample(range(len(raw)), rng.randint(0, min(6, len(raw)))))
    fast = await replay(raw, cuts, fast_lane=True)
    assert fast.startswith(b"HTTP/1.1 ")
    assert await replay(raw, [], fast_lane=True) == fast
    slow = await replay(raw, cuts, fast_lane=False)
    assert split_answers(slow) == split_answers(fast)


def split_answers(raw: bytes) -> list[tuple[bytes, frozenset[bytes]]]:
    """Status lines and their headers, without regard to the order of headers."""
    answers = []
    for part in raw.split(b"HTTP/1.1 ")[1:]:
        head, _, body = part.partition(b"\r\n\r\n")
        status, *fields = head.split(b"\r\n")
        shown = b"" if status.startswith((b"404", b"5")) else body
        kept = frozenset(f for f in fields if not f.startswith((b"Content-", b"Date")))
        answers.append((status + b" " + shown, kept))
    return answers
