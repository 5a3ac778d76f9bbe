"""Files over TLS: ours beside nginx with one worker, the same files, headers and certificate.

Claims, as processor time of the server's processes per request: 1 KB at no more than 1.8 times
nginx's, 100 KB at 1.3, 10 MB at 1.1, a new TLS 1.3 connection with one request at 2.2. Printed
without a bar: 1 KB with another head each time, which ours has to read then, and 20 MB, which ours
reads as it is sent. Both write an access log line for each request to a file. Three interleaved
rounds, medians; load by wrk (64 connections kept alive), new connections by Python's ssl.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.harness.servers import Server, certify, free_ports

from callboard.fileserver.entries import CSP

ROUNDS = 3
SECONDS = 5
NEW_CONNECTIONS = 1500
FILES = {"1 KB": ("1k.html", 1024, 64), "100 KB": ("100k.bin", 100 << 10, 64)}
FILES |= {"10 MB": ("10m.bin", 10 << 20, 8), "20 MB": ("20m.bin", 20 << 20, 8)}
BARS = {"1 KB": 1.8, "100 KB": 1.3, "10 MB": 1.1, "new connection": 2.2}
"""How many times nginx's processor time ours may be."""
OTHER_HEADS = """
local number = 0
request = function()
  number = number + 1
  wrk.headers["X-Number"] = number
  return wrk.format()
end
"""
"""For wrk: no two heads are the same."""

NGINX_CONF = """
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  log_format line escape=json '{{"time": "$time_iso8601", "level": "info", "logger": "access", '
    '"message": "request", "address": "$remote_addr", "method": "$request_method", '
    '"path": "$uri", "status": $status, "bytes": $body_bytes_sent, "ms": $request_time}}';
  access_log {folder}/nginx-access.log line;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 65;
  keepalive_requests 100000000;
  types {{ text/html html; }}
  default_type application/octet-stream;
  charset utf-8;
  server {{
    listen 127.0.0.1:{port} ssl;
    root {root};
    ssl_certificate {folder}/cert.crt;
    ssl_certificate_key {folder}/cert.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    add_header Cache-Control no-cache;
    add_header X-Content-Type-Options nosniff;
    add_header Content-Security-Policy "{csp}";
    add_header Referrer-Policy no-referrer;
    add_header Cross-Origin-Opener-Policy same-origin;
    add_header Cross-Origin-Resource-Policy same-origin;
  }}
}}
"""


def servers(folder: Path) -> tuple[Server, Server]:
    """Ours and nginx, over the same files with the same certificate."""
    ports = free_ports()
    root = folder / "root"
    root.mkdir()
    for name, size, _ in FILES.values():
        (root / name).write_bytes(os.urandom(size // 2).hex().encode())
    own = certify(folder)
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF.format(folder=folder, root=root, port=ports[1], csp=CSP))
    ours = [sys.executable, "-m", "callboard.fileserver", f"-root={root}", f"-port={ports[0]}"]
    ours += [f"-cert={own.certificate}", f"-key={own.key}"]
    theirs = ["nginx", "-c", str(conf), "-p", str(folder)]
    return (
        Server("ours", ours, ports[0], folder / "ours.log"),
        Server("nginx", theirs, ports[1], folder / "nginx.log"),
    )


def wrk(port: int, name: str, connections: int, *options: str) -> int:
    """Run wrk; how many requests were answered."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", *options]
    printed = subprocess.run(
        [*command, f"https://127.0.0.1:{port}/{name}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS + 30,
    ).stdout
    found = re.search(r"(\d+) requests in", printed)
    if found is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise ValueError(f"wrk printed:\n{printed}")
    return int(found[1])


def connect_anew(port: int, authorities: Path) -> int:
    """Open connections one after the other, one request each; how many there were."""
    context = ssl.create_default_context(cafile=str(authorities))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    request = b"GET /1k.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for _ in range(NEW_CONNECTIONS):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(request)
            size = 0
            while part := sock.recv(65536):
                size += len(part)
            assert size > 1024
    return NEW_CONNECTIONS


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    subprocess.run([str(Path("make/bench-peers.sh"))], check=True)
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    figures: dict[tuple[str, str], list[float]] = {}
    loads: dict[str, Callable[[int], int]] = {
        label: partial(wrk, name=name, connections=connections)
        for label, (name, _, connections) in FILES.items()
    }
    script = folder / "heads.lua"
    script.write_text(OTHER_HEADS)
    loads["1 KB, other heads"] = lambda port: wrk(port, FILES["1 KB"][0], 64, f"-s{script}")
    loads["new connection"] = lambda port: connect_anew(port, folder / "ca.crt")
    wanted = sys.argv[1:] or list(loads)
    try:
        ours, nginx = servers(folder)
        with ours, nginx:
            for _ in range(ROUNDS):
                for label in wanted:
                    for server in (ours, nginx):
                        before = server.cpu_s()
                        count = loads[label](server.port)
                        cost = (server.cpu_s() - before) / count
                        figures.setdefault((label, server.name), []).append(cost)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    held = True
    for label in wanted:
        us, them = (statistics.median(figures[label, name]) * 1e6 for name in ("ours", "nginx"))
        verdict = "no bar"
        if label in BARS:
            holds = us / them <= BARS[label]
            held &= holds
            verdict = f"bar {BARS[label]:.1f}x: {'holds' if holds else 'MISSED'}"
        print(
            f"{label}: ours {us:.1f} µs, nginx {them:.1f} µs of processor time, "
            f"{us / them:.2f}x ({verdict})",
            flush=True,
        )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
