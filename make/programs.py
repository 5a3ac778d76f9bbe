"""The programs of a stack as local processes: who runs with which arguments at which address.

The compose file says the same for containers. Used by `make run` and by the process driver of the
tests, so that both start exactly the same.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFINITIONS = ROOT / "examples" / "consul.d"
STREAMS = ROOT / "examples" / "streams.toml"
SERVERS = ("agent-1", "agent-2", "agent-3")
CLIENT = "agent-4"
NAMESERVER = "nameserver"
FILESERVER = "fileserver"
HUB = "hub"
GATEWAY = "gateway"
SIDECAR = "sidecar"
ISSUER = "issuer"
CERTIFIED = (*SERVERS, CLIENT, NAMESERVER, FILESERVER, HUB, GATEWAY, SIDECAR)
"""The programs that the issuer signs a certificate for."""
NAMES = (*CERTIFIED, ISSUER)
ANNOUNCING = frozenset({"agent-1", CLIENT})
"""The agents that read the definitions in examples/consul.d."""

HTTP_PORT = 8500
DNS_PORT = 8600
HTTPS_PORT = 1443
HUB_PORT = 8800
GATEWAY_PORT = 8889
MEDIA_PORT = 8189
JANUS_PORTS = (8088, 8188)
HEALTH_PORT = 9090

DEBIAN_PYTHON = "/usr/bin/python3"
"""The sidecar's: GStreamer's bindings are Debian's."""
GSTREAMER = """import gi
for name in ("Gst", "GstPbutils"):
    gi.require_version(name, "1.0")
from gi.repository import Gst, GstPbutils
Gst.init(None)
wanted = ("rtpbin", "appsrc", "vp8enc", "opusenc", "rtpvp8pay", "rtpopuspay")
raise SystemExit(not all(map(Gst.ElementFactory.find, wanted)))"""
GSTREAMER_REMEDY = (
    "apt-get install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good"
)


@cache
def has_gstreamer() -> bool:
    """Say whether this machine can run the sidecar."""
    try:
        probe = [DEBIAN_PYTHON, "-c", GSTREAMER]
        done = subprocess.run(probe, capture_output=True, timeout=30.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def runnable() -> tuple[str, ...]:
    """Return the programs of a stack that this machine can run: the sidecar needs GStreamer."""
    return tuple(name for name in NAMES if name != SIDECAR or has_gstreamer())


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each program of a stack lives on this machine."""

    addresses: Mapping[str, str]
    """Name -> its loopback address: it listens there and connects from there."""
    directory: Path
    """Data directories and logs are below it, one each per name."""
    nameserver_bind: str | None = None
    """Where the front answers DNS, if not at its own address."""
    fileserver_bind: str | None = None
    """Where the file server answers, if not at its own address."""
    hub_bind: str | None = None
    """Where the hub answers, if not at its own address."""
    gateway_bind: str | None = None
    """Where the gateway answers, if not at its own address."""
    definitions: Path = DEFINITIONS
    recursor: str | None = None
    """Where the front sends other names: `HOST:PORT`, or None for the machine's own resolvers."""

    def data(self, name: str) -> Path:
        """Return the data directory of a program."""
        return self.directory / name

    def exchange(self, name: str) -> Path:
        """Return the directory that a program shares with the issuer."""
        return self.directory / "exchange" / name

    def log(self, name: str) -> Path:
        """Return the file that a program's output goes to."""
        return self.directory / f"{name}.log"

    def health_url(self, name: str, path: str = "/readyz") -> str:
        """Return the URL of a program's health listener."""
        return f"http://{self.addresses[name]}:{HEALTH_PORT}{path}"

    def argv(self, name: str) -> list[str]:
        """Return the command line of a program."""
        special = {
            NAMESERVER: self._nameserver,
            FILESERVER: self._fileserver,
            HUB: self._hub,
            GATEWAY: self._gateway,
            ISSUER: self._issuer,
        }
        if name == SIDECAR:
            return [DEBIAN_PYTHON, "-m", "callboard.sidecar", *self._sidecar()]
        program = special[name]() if name in special else self._agent(name)
        return [sys.executable, "-m", "callboard.chassis.command", *program]

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of a program, beside those of whoever starts it."""
        common = {"SOURCE": self.addresses[name], "PYTHONUNBUFFERED": "1"}
        if name == ISSUER:
            return common
        if name == SIDECAR:
            # Debian's Python with our own cryptography, which may be newer than Debian's
            places = (ROOT / "libs", ROOT / "services", sysconfig.get_path("purelib"))
            common["PYTHONPATH"] = ":".join(str(place) for place in places)
        identity = {"IDENTITY": self.data(name) / "identity", "EXCHANGE": self.exchange(name)}
        return common | {variable: str(path) for variable, path in identity.items()}

    def _agent(self, name: str) -> list[str]:
        address = self.addresses[name]
        role = ["-server", f"-bootstrap-expect={len(SERVERS)}"] if name in SERVERS else []
        definitions = [f"-config-dir={self.definitions}"] if name in ANNOUNCING else []
        return [
            "agent",
            *role,
            f"-node={name}",
            f"-bind={address}",
            f"-client={address}",
            f"-data-dir={self.data(name)}",
            *definitions,
            *(f"-retry-join={self.addresses[server]}" for server in SERVERS if server != name),
            "-dns-port=-1",
            f"-health={address}:{HEALTH_PORT}",
        ]

    def _nameserver(self) -> list[str]:
        address = self.addresses[NAMESERVER]
        catalog = ",".join(self.addresses[name] for name in SERVERS)
        return [
            "nameserver",
            f"-bind={self.nameserver_bind or address}",
            f"-port={DNS_PORT}",
            f"-catalog={catalog}",
            f"-data-dir={self.data(NAMESERVER)}",
            *([f"-recursor={self.recursor}"] if self.recursor else []),
            f"-health={address}:{HEALTH_PORT}",
        ]

    def _fileserver(self) -> list[str]:
        address = self.addresses[FILESERVER]
        return [
            "fileserver",
            f"-bind={self.fileserver_bind or address}",
            "-page",
            f"-catalog={','.join(self.addresses[name] for name in SERVERS)}",
            f"-health={address}:{HEALTH_PORT}",
        ]

    def _hub(self) -> list[str]:
        address = self.addresses[HUB]
        return [
            "hub",
            f"-bind={self.hub_bind or address}",
            f"-data-dir={self.data(HUB)}",
            f"-catalog={','.join(self.addresses[name] for name in SERVERS)}",
            f"-health={address}:{HEALTH_PORT}",
        ]

    def _gateway(self) -> list[str]:
        address = self.addresses[GATEWAY]
        return [
            "gateway",
            f"-bind={self.gateway_bind or address}",
            "-pattern",
            f"-catalog={','.join(self.addresses[name] for name in SERVERS)}",
            f"-health={address}:{HEALTH_PORT}",
        ]

    def _sidecar(self) -> list[str]:
        address = self.addresses[SIDECAR]
        return [
            f"-bind={address}",
            f"-catalog={','.join(self.addresses[name] for name in SERVERS)}",
            f"-streams={STREAMS}",
            f"-health={address}:{HEALTH_PORT}",
        ]

    def _issuer(self) -> list[str]:
        roles = {name: name for name in CERTIFIED}
        roles |= {**dict.fromkeys(SERVERS, "server"), CLIENT: "agent"}
        return [
            "issuer",
            f"-data-dir={self.data(ISSUER)}",
            f"-exchange={self.directory / 'exchange'}",
            "-network=127.0.0.0/8",
            *(f"-program={name}={roles[name]}" for name in CERTIFIED),
            f"-health={self.addresses[ISSUER]}:{HEALTH_PORT}",
        ]
