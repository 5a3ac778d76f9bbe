"""What the TLS server for unit tests costs a test: start and stop, beside pytest-httpserver.

Claim: a few milliseconds for a CA, a certificate, a server and its end; printed, and no bar. The
peer is pytest-httpserver with a certificate by trustme, as its documentation has it, in a virtual
environment of its own in .build. A server for each test is not its default (one for all tests of a
run), since its end takes half a second. Medians of interleaved rounds, without the first of each,
which imports.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 3
STARTS = 20
PEER = Path(".build/bench-venv")
PACKAGES = ("pytest-httpserver", "trustme")

MEASURE = """
import json, ssl, sys, time, urllib.request

def get(url, context):
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({{}}), urllib.request.HTTPSHandler(context=context))
    with opener.open(url, timeout=20) as answer:
        assert answer.status == 200
        answer.read()

{made}

times = {{"start": [], "stop": [], "get": []}}
for number in range({starts} + 1):
    began = time.perf_counter()
    server, url, context, stop = start()
    started = time.perf_counter()
    get(url, context())
    got = time.perf_counter()
    stop()
    ended = time.perf_counter()
    if number:
        times["start"].append(started - began)
        times["get"].append(got - started)
        times["stop"].append(ended - got)
print(json.dumps(times))
"""

OURS = """
from callboard.testing import TLSServer

def start():
    server = TLSServer()
    server.start()
    return server, server.url, server.ssl_context, server.stop
"""

PEERS = """
import trustme
from pytest_httpserver import HTTPServer

def start():
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    server = HTTPServer(ssl_context=context)
    server.expect_request("/").respond_with_data("it works")
    server.start()
    def trusting():
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca.configure_trust(made)
        return made
    return server, server.url_for("/"), trusting, server.stop
"""


def measured(python: str, made: str) -> dict[str, list[float]]:
    """Seconds of each start, GET and stop, in a process of its own."""
    code = MEASURE.format(made=made, starts=STARTS)
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    times: dict[str, list[float]] = json.loads(done.stdout)
    return times


def peer() -> str | None:
    """The peer's Python, installed when it is not there; None, and why, when it cannot be."""
    python = PEER / "bin/python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True)
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*command, *PACKAGES], check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        print(f"no peer, {' and '.join(PACKAGES)} cannot be installed: {problem}")
        return None
    return str(python)


def told(name: str, rounds: list[dict[str, list[float]]]) -> float:
    """Print a line; return the median of start and stop together, in seconds."""
    pairs = [
        start + stop
        for times in rounds
        for start, stop in zip(times["start"], times["stop"], strict=True)
    ]
    parts = {
        what: statistics.median([value for times in rounds for value in times[what]])
        for what in ("start", "get", "stop")
    }
    total = statistics.median(pairs)
    print(
        f"TLS server of a test: {name} start + stop {total * 1e3:.1f} ms, slowest "
        f"{max(pairs) * 1e3:.1f} ms of {len(pairs)} (start {parts['start'] * 1e3:.1f}, "
        f"first GET {parts['get'] * 1e3:.1f}, stop {parts['stop'] * 1e3:.1f})",
        flush=True,
    )
    return total


def main() -> int:
    """Run and print."""
    other = peer()
    ours: list[dict[str, list[float]]] = []
    theirs: list[dict[str, list[float]]] = []
    for _ in range(ROUNDS):
        if other is not None:
            theirs.append(measured(other, PEERS))
        ours.append(measured(sys.executable, OURS))
    took_s = told("callboard", ours)
    if theirs:
        ratio = told("pytest-httpserver + trustme", theirs) / took_s
        print(f"TLS server of a test: {ratio:.1f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
