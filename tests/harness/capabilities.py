"""What this machine can do, asked by doing it: a test that needs more is skipped, by name.

A skip always says what is missing: `needs NAME: how to get it`. With BUDGET=ci a skip fails where
the machine could have had what is missing (see tests/conftest.py), so that nothing goes untested
unnoticed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from make.programs import GSTREAMER_REMEDY, has_gstreamer

from callboard.chassis.registration import own_address

FAKETIME_PLACES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)
RTSP_SERVER = "import gi; gi.require_version('GstRtspServer', '1.0')"
JANUS_DEMOS = Path("/usr/share/janus/demos")
"""Where Debian has them."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Something that tests need from the machine."""

    name: str
    remedy: str
    """What to do to get it."""
    probe: Callable[[], bool]
    obtainable: Callable[[], bool]
    """Whether this machine could have it: then CI takes no skip for it."""


def _never() -> bool:
    return False


def _debian_root() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _runs(*argv: str, timeout_s: float = 20.0) -> bool:
    """Say whether a command is there and ends with 0."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _engine() -> bool:
    return (
        _runs("docker", "info")
        and _runs("docker", "compose", "version")
        and _runs("docker", "buildx", "version")
    )


def _iptables() -> bool:
    return os.geteuid() == 0 and _runs("iptables", "-w", "5", "-S", "INPUT")


def _packet_loss() -> bool:
    """The kernel knows iptables' `statistic` match: add such a rule nobody meets, and remove it."""
    chance = ["-m", "statistic", "--mode", "random", "--probability", "0.1"]
    rule = ["-s", "127.255.255.254", *chance, "-j", "DROP"]
    if not _iptables() or not _runs("iptables", "-w", "5", "-A", "INPUT", *rule):
        return False
    return _runs("iptables", "-w", "5", "-D", "INPUT", *rule)


def _namespaces() -> bool:
    """Root, iproute2, and a kernel that makes a network namespace with a cable into it."""
    name = f"callboard-probe-{os.getpid()}"
    if os.geteuid() != 0 or not _runs("ip", "netns", "add", name):
        return False
    cable = f"cbp{os.getpid()}"
    ends = ("ip", "link", "add", cable, "type", "veth", "peer", "name", "probe", "netns", name)
    try:
        return _runs(*ends) and _runs("ip", "link", "delete", cable)
    finally:
        _runs("ip", "netns", "delete", name)


def _tmpfs() -> bool:
    """A private mount namespace may mount a tmpfs."""
    return os.geteuid() == 0 and _runs("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt")


def _strace() -> bool:
    return os.geteuid() == 0 and _runs("strace", "-f", "-o", "/dev/null", "true")


def faketime_library() -> Path | None:
    """Return the library that shifts a process's wall clock, if it is installed."""
    return next((Path(place) for place in FAKETIME_PLACES if Path(place).exists()), None)


def _testssl() -> bool:
    """testssl.sh says its version with colours around it, whatever it is told."""
    try:
        told = subprocess.run(["testssl", "-v"], capture_output=True, timeout=20.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    text = re.sub(rb"\x1b\[[0-9;]*m", b"", told.stdout)
    version = re.search(rb"version (\d+)\.(\d+)", text)
    return version is not None and (int(version[1]), int(version[2])) >= (3, 2)


def _postgres() -> bool:
    """Debian keeps the server's programs out of the path; it does not run as root."""
    there = any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return there and (os.geteuid() != 0 or shutil.which("setpriv") is not None)


def _tool(name: str, package: str) -> Capability:
    return Capability(
        name, f"apt-get install {package}", lambda: shutil.which(name) is not None, _debian_root
    )


CAPABILITIES = {
    capability.name: capability
    for capability in (
        Capability("linux", "Linux", lambda: sys.platform == "linux", _never),
        Capability("root", "run as root", lambda: os.geteuid() == 0, _never),
        Capability("engine", "a container engine, docker compose v2 and buildx", _engine, _never),
        Capability("iptables", "root and iptables, for partitions", _iptables, _debian_root),
        Capability("packet-loss", "a kernel with iptables' statistic match", _packet_loss, _never),
        Capability(
            "namespaces",
            "root and ip netns (apt-get install iproute2), for networks apart",
            _namespaces,
            lambda: _debian_root() and shutil.which("ip") is None,
        ),
        Capability("small-disk", "root and tmpfs, for a disk that fills up", _tmpfs, _never),
        Capability(
            "strace", "root, apt-get install strace, for failing fsyncs", _strace, _debian_root
        ),
        Capability(
            "faketime",
            "apt-get install libfaketime, for clocks that jump",
            lambda: faketime_library() is not None,
            _debian_root,
        ),
        Capability(
            "cc",
            "apt-get install gcc libc6-dev, for a library that acts out power cuts",
            lambda: shutil.which("cc") is not None and Path("/usr/include/stdio.h").exists(),
            _debian_root,
        ),
        Capability(
            "python3-gi",
            f"GStreamer for Debian's Python: {GSTREAMER_REMEDY}",
            has_gstreamer,
            _debian_root,
        ),
        Capability(
            "gst-rtsp-server",
            "apt-get install gir1.2-gst-rtsp-server-1.0",
            lambda: _runs("/usr/bin/python3", "-c", RTSP_SERVER),
            _debian_root,
        ),
        _tool("gst-launch-1.0", "gstreamer1.0-tools gstreamer1.0-plugins-good"),
        _tool("dig", "bind9-dnsutils"),
        _tool("curl", "curl"),
        _tool("serf", "serf"),
        _tool("openssl", "openssl"),
        _tool("certtool", "gnutls-bin"),
        _tool("gnutls-cli", "gnutls-bin"),
        _tool("caddy", "caddy"),
        _tool("nginx", "nginx-light"),
        _tool("chromium", "chromium"),
        _tool("firefox-esr", "firefox-esr"),
        Capability(
            "own-address",
            "an address of this machine that is no loopback, and a default route",
            lambda: not own_address("0.0.0.0").startswith("127.") and own_address("0.0.0.0") != "",
            _never,
        ),
        Capability(
            "coturn",
            "apt-get install coturn",
            lambda: shutil.which("turnserver") is not None,
            _debian_root,
        ),
        Capability(
            "janus-demos",
            "apt-get install janus-demos libjs-janus-gateway, for Janus' own pages",
            (JANUS_DEMOS / "streamingtest.html").exists,
            _debian_root,
        ),
        Capability("postgres", "apt-get install postgresql", _postgres, _debian_root),
        Capability(
            "testssl",
            "testssl.sh 3.2: make/debian-release.sh trixie testssl.sh",
            _testssl,
            _debian_root,
        ),
        Capability(
            "ca-certificates",
            "Debian's update-ca-certificates: apt-get install ca-certificates",
            lambda: shutil.which("update-ca-certificates") is not None,
            _debian_root,
        ),
        Capability(
            "consul",
            "the tool of HashiCorp (Debian 12: apt-get install consul)",
            lambda: shutil.which("consul") is not None,
            _never,
        ),
        Capability(
            "nss-certutil",
            "apt-get install libnss3-tools",
            # Windows has another tool of the name certutil, but no modutil
            lambda: all(map(shutil.which, ("certutil", "modutil"))),
            _debian_root,
        ),
    )
}


@cache
def has(name: str) -> bool:
    """Say whether this machine has a capability; asked once per run."""
    return CAPABILITIES[name].probe()


def require(*names: str) -> None:
    """Skip the running test unless the machine has all of `names`; the skip says what is missing.

    Raises KeyError for a name that is not in CAPABILITIES.
    """
    for name in names:
        if not has(name):
            pytest.skip(f"needs {name}: {CAPABILITIES[name].remedy}")


def skip_is_excused(reason: str) -> bool:
    """Say whether a skip names a capability that this machine cannot have."""
    needed, separator, name = reason.partition("needs ")
    name = name.partition(":")[0].strip()
    if not separator or needed.strip(" :") not in ("", "Skipped") or name not in CAPABILITIES:
        return False
    return not CAPABILITIES[name].obtainable() and not has(name)
