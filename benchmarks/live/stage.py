"""What the benchmarks of live video share: the servers with a stream for them, and rounds."""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness.hubs import raise_files
from benchmarks.live import recording
from benchmarks.live.namespaces import enter
from benchmarks.live.recording import Entry
from benchmarks.live.servers import (
    DEFAULT,
    NATIVE,
    PLAIN,
    TUNED,
    Gateway,
    Janus,
    LiveServer,
    janus_is_here,
)

from callboard.gateway.fanout.build import build
from callboard.gateway.fanout.choosing import LIBRARY, open_fanout
from callboard.gateway.fanout.native import NativeFanout

ROUNDS = 3


def servers(folder: Path) -> list[LiveServer]:
    """Ours, the native one first, and Janus'; none of them runs yet. Ends the program without
    Janus, or a C compiler."""
    build(LIBRARY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        # (a gateway without it would send in Python, and be taken for the native one)
        if not isinstance(open_fanout(sock), NativeFanout):
            sys.exit("this needs a C compiler: apt-get install gcc libc6-dev")
    made: list[LiveServer] = [Gateway(folder, name) for name in (NATIVE, PLAIN)]
    if not janus_is_here():  # a claim beside a peer that is not there is none
        sys.exit("no Janus beside us: apt-get install janus (make/bench-peers.sh)")
    return [*made, *(Janus(folder, name) for name in (DEFAULT, TUNED))]


def stored(folder: Path, name: str, entries: list[Entry]) -> Path:
    """A recording in a file; says what is in it."""
    path = folder / name
    recording.write(entries, path)
    packets, bits = recording.rate(entries)
    print(f"the {name} stream: {packets:.0f} packets/s, {bits / 1e6:.2f} Mbit/s", flush=True)
    return path


def medians(
    what: str, unit: str, all_: Sequence[LiveServer], cost: Callable[[LiveServer], float]
) -> dict[str, float]:
    """The middle of each server's costs, by its name, of interleaved rounds; printed with them."""
    costs: dict[str, list[float]] = {server.name: [] for server in all_}
    for _ in range(ROUNDS):
        for server in all_:
            costs[server.name].append(cost(server))
    middle = {name: statistics.median(rounds) for name, rounds in costs.items()}
    for name, rounds in costs.items():
        told = " ".join(f"{one:.3f}" for one in rounds)
        print(f"{what}, {name}: {middle[name]:.3f} {unit} ({told})", flush=True)
    return middle


def _install_peers() -> None:
    subprocess.run([str(Path("make/bench-peers.sh"))], check=False)


def run(work: Callable[[Path], bool]) -> int:
    """Do it in a namespace and a folder that are gone afterwards; 1 when a bar is missed."""
    enter(_install_peers)
    raise_files()
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    try:
        return 0 if work(folder) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
