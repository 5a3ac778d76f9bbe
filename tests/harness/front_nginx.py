"""nginx by the very configuration that docs/fileserver.md shows."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.harness.eventually import eventually
from tests.harness.sockets import free_port
from tests.harness.sources import ROOT

NAME = "www.example.org"
FRAME = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{inside}
}}
"""


def documented(kind: str) -> str:
    """Return the first block of this kind in the document."""
    text = (ROOT / "docs/fileserver.md").read_text("utf-8")
    found = re.search(rf"```{kind}\n(.*?)```", text, re.S)
    assert found is not None
    return found[1]


@asynccontextmanager
async def nginx(
    folder: Path, upstream: str, files: tuple[Path, Path], authorities: Path
) -> AsyncIterator[int]:
    """Run nginx as documented, before another address (IP:PORT), with another certificate and CA;
    its port."""
    port = free_port()
    certificate, key = files
    inside = documented("nginx")
    for old, new in (
        ("127.0.0.1:1443", upstream),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        (f"/etc/nginx/{NAME}.crt", str(certificate)),
        (f"/etc/nginx/{NAME}.key", str(key)),
        ("/etc/nginx/callboard-ca.pem", str(authorities)),
    ):
        assert old in inside
        inside = inside.replace(old, new)
    async with running(folder, inside, port):
        yield port


@asynccontextmanager
async def running(folder: Path, inside: str, port: int) -> AsyncIterator[None]:
    """Run nginx with this in its `http` block, which listens on a port of 127.0.0.1."""
    conf = folder / "nginx.conf"
    conf.write_text(FRAME.format(folder=folder, inside=inside))
    process = await asyncio.create_subprocess_exec(
        "nginx", "-p", str(folder), "-c", str(conf), stderr=asyncio.subprocess.DEVNULL
    )
    try:

        def listens() -> bool:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True

        await eventually(listens)
        yield
    finally:
        process.terminate()
        await process.wait()
