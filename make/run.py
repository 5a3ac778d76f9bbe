"""`make run`: the programs of docker-compose.yml as local processes, in the foreground.

The agents are at 127.0.0.1 to 127.0.0.4, all with Consul's ports; the nameserver answers at
127.0.0.1:8600, the file server at https://127.0.0.1:1443, the hub at http://127.0.0.1:8800, the
gateway at http://127.0.0.1:8889. Data and logs are in run/ and stay; Ctrl-C stops everything, in
reverse order. A program that ends meanwhile (kill one: that is what the others are for) ends alone,
and the command that brings it back is printed.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from time import monotonic

from make import trust
from make.programs import (
    CLIENT,
    DNS_PORT,
    GATEWAY_PORT,
    GSTREAMER_REMEDY,
    HTTP_PORT,
    HTTPS_PORT,
    HUB_PORT,
    ISSUER,
    JANUS_PORTS,
    MEDIA_PORT,
    NAMES,
    ROOT,
    SERVERS,
    SIDECAR,
    Layout,
    runnable,
)

READY_WITHIN_S = 60.0
SIDECAR_READY_WITHIN_S = 15.0
"""A camera that is away is no reason to stop all: what is missing is told."""
STOP_WITHIN_S = 10.0
LAYOUT = Layout(
    addresses={name: f"127.0.0.{number}" for number, name in enumerate(NAMES, start=1)},
    directory=ROOT / "run",
    nameserver_bind="127.0.0.1",
    fileserver_bind="127.0.0.1",
    hub_bind="127.0.0.1",
    gateway_bind="127.0.0.1",
)

Programs = dict[str, subprocess.Popen[bytes]]


def start(name: str) -> subprocess.Popen[bytes]:
    """Start one program; its output goes to run/NAME.log."""
    with LAYOUT.log(name).open("ab") as log:
        return subprocess.Popen(
            LAYOUT.argv(name),
            env={**os.environ, **LAYOUT.environment(name)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us; the order of stopping is ours to keep
        )


def problems(name: str) -> str:
    """Return what a program that is not ready says of it, in one line."""
    try:
        with urllib.request.urlopen(LAYOUT.health_url(name), timeout=1.0) as answer:
            text = answer.read()
    except urllib.error.HTTPError as answer:
        text = answer.read()
    except OSError as problem:
        return str(problem)
    return "; ".join(text.decode(errors="replace").split("\n")).strip()


def is_ready(name: str) -> bool:
    """Say whether a program's /readyz answers 200."""
    try:
        with urllib.request.urlopen(LAYOUT.health_url(name), timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def taken() -> str | None:
    """Return an address that something else listens on, or None."""
    places = [(LAYOUT.addresses[name], HTTP_PORT) for name in (*SERVERS, CLIENT)]
    places += [(LAYOUT.nameserver_bind or "", DNS_PORT), (LAYOUT.fileserver_bind or "", HTTPS_PORT)]
    places += [(LAYOUT.hub_bind or "", HUB_PORT), (LAYOUT.gateway_bind or "", GATEWAY_PORT)]
    places += [(LAYOUT.gateway_bind or "", port) for port in (MEDIA_PORT, *JANUS_PORTS)]
    for place in places:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(place) == 0:
                return f"{place[0]}:{place[1]}"
    return None


def wait_until_ready(programs: Programs, stopped: threading.Event) -> str | None:
    """Return None once all programs are ready, else what is wrong."""
    began = monotonic()
    deadline = began + READY_WITHIN_S
    waiting = list(programs)
    while waiting and not stopped.is_set():
        waiting = [name for name in waiting if not is_ready(name)]
        if dead := first_dead(programs):
            return f"{dead} has stopped:\n{tail(LAYOUT.log(dead))}"
        if waiting == [SIDECAR] and monotonic() > began + SIDECAR_READY_WITHIN_S:
            print(f"== {SIDECAR}: {problems(SIDECAR)}; the others go on", flush=True)
            return None
        if waiting and monotonic() > deadline:
            return f"not ready in {READY_WITHIN_S:.0f} s: {', '.join(waiting)}; see run/*.log"
        stopped.wait(0.1)
    return None


def first_dead(programs: Programs) -> str | None:
    """Return the name of a program that has ended, if one has."""
    return next((name for name, process in programs.items() if process.poll() is not None), None)


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log, indented."""
    text = path.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in text)


def watch(programs: Programs, stopped: threading.Event) -> str | None:
    """Tell of each program that ends. Return None once `stopped`, or a text if none is left."""
    told: set[str] = set()
    while not stopped.wait(0.5):
        for name, process in programs.items():
            if process.poll() is not None and name not in told:
                told.add(name)
                print(farewell(name, process.returncode), flush=True)
        if len(told) == len(programs):
            return "all programs have ended"
    return None


def farewell(name: str, code: int) -> str:
    """Say how a program ended, and how it comes back."""
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has ended ({code})"
    log = LAYOUT.log(name)
    places = [f"{key}={value}" for key, value in LAYOUT.environment(name).items()]
    back = shlex.join(["env", *places, *LAYOUT.argv(name)])
    return (
        f"== {name} {how}; the others go on. Its last words are in {log.relative_to(ROOT)}.\n"
        f"   To bring it back, in another terminal: {back}"
    )


def stop(programs: Programs) -> None:
    """End all programs, the last started first; one that does not leave in time is killed."""
    for process in reversed(programs.values()):
        process.terminate()
    deadline = monotonic() + STOP_WITHIN_S
    for process in reversed(programs.values()):
        try:
            process.wait(max(0.1, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    """Run until Ctrl-C, SIGTERM, or the end of all programs (of one, before all are ready)."""
    if where := taken():
        print(f"{where} is taken: is another stack running? (make down)", file=sys.stderr)
        return 1
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    LAYOUT.directory.mkdir(exist_ok=True)
    programs: Programs = {}
    try:
        here = runnable()
        if SIDECAR not in here:
            print(f"== no sidecar: {GSTREAMER_REMEDY}")
            print("   Until then the gateway has a test pattern of its own.", flush=True)
        for name in (ISSUER, *(name for name in here if name != ISSUER)):
            programs[name] = start(name)
            print(f"== {name:<11} {LAYOUT.addresses[name]}   log: run/{name}.log", flush=True)
        problem = wait_until_ready(programs, stopped)
        if problem is None and not stopped.is_set():
            print((ROOT / "make" / "what-to-try.txt").read_text(), flush=True)
            print(trust.take((LAYOUT.data(ISSUER) / "ca.pem").read_bytes()), flush=True)
            print("Ctrl-C stops all.", flush=True)
            problem = watch(programs, stopped)
        if problem:
            print(problem, file=sys.stderr)
        return 1 if problem else 0
    finally:
        print("== stopping", flush=True)
        stop(programs)


if __name__ == "__main__":
    sys.exit(main())
