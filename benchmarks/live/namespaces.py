"""A network of the benchmark's own: its process in one namespace, the viewers' in another, a veth
pair between. (Janus uses no loopback interface.) Nothing is left: namespaces without a name, and
what is in them, end with their processes. Linux, root, iproute2 and util-linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

SERVER = "10.77.0.1"
VIEWERS = "10.77.0.2"
PREFIX = 24
TOOLS = ("ip", "unshare")
WITHIN_S = 10.0
_INSIDE = "CALLBOARD_BENCHMARK_NAMESPACE"
_NEAR, _FAR = "near", "far"


def enter(prepare: Callable[[], object]) -> None:
    """Run this program again, in a namespace of its own, and do not return; inside, bring loopback
    up. `prepare` is called outside, where the network is. Ends the program if that cannot be."""
    if os.environ.get(_INSIDE) == str(os.getpid()):
        _ip("link", "set", "lo", "up")
        return
    prepare()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        why = f"{', '.join(missing)} (iproute2, util-linux)" if missing else "root"
        sys.exit(f"a network namespace needs {why}")
    os.environ[_INSIDE] = str(os.getpid())  # (which exec keeps)
    os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])


def apart(command: Sequence[str]) -> list[str]:
    """A command line that runs in a namespace of its own."""
    return ["unshare", "--net", *command]


def link(pid: int) -> None:
    """Connect this namespace with that of a process: SERVER is here."""
    _ip("link", "add", _NEAR, "type", "veth", "peer", "name", _FAR, "netns", str(pid))
    _ip("address", "add", f"{SERVER}/{PREFIX}", "dev", _NEAR)
    _ip("link", "set", _NEAR, "up")


def take_far_end() -> None:
    """In the namespace of that process: VIEWERS is there."""
    _ip("address", "add", f"{VIEWERS}/{PREFIX}", "dev", _FAR)
    for name in ("lo", _FAR):
        _ip("link", "set", name, "up")


def drops() -> int:
    """Datagrams that the kernel has dropped: for full queues of this namespace's sockets, both
    ways, and between the machine's interfaces (net.core.netdev_max_backlog)."""
    lines = Path("/proc/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    counted = dict(zip(names, values, strict=True))
    queues = int(counted["RcvbufErrors"]) + int(counted["SndbufErrors"])
    rows = Path("/proc/net/softnet_stat").read_text().splitlines()
    return queues + sum(int(row.split()[1], 16) for row in rows)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=WITHIN_S)
