"""The stack in containers: docker-compose.yml as a user gets it, by testcontainers.

Only what must differ does: a project name and a SUBNET of its own, and ports that the engine
chooses. The compose command starts and removes; what a test does often goes through the engine's
API, which is ten times quicker. A port or an address is asked for each time: both may change when
a container starts.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import docker
from docker.models.containers import Container
from docker.models.networks import Network
from make import environment
from make.programs import HEALTH_PORT, ISSUER, ROOT
from tests.harness.capabilities import faketime_library, has
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.faults import (
    SMALL_DISK_BYTES,
    SystemCallFaults,
    clock_environment,
    drop_rule,
    fill,
    iptables,
    write_offset,
)
from tests.harness.guard import Guard
from tests.harness.sockets import free_port
from tests.harness.stack import (
    HTTP_PORT,
    NAMES,
    Disk,
    ExecResult,
    Plan,
    StackFailure,
    Transport,
)

# Ryuk's image is in no registry here, and would not cover compose projects; a machine with
# /.dockerenv is no container of ours. testcontainers reads both when it is imported.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")

from testcontainers.compose import DockerCompose

UP_WITHIN_S = 120
BUILD_WITHIN_S = 900
STOP_WITHIN_S = 10
READY = (
    f"exec 3<>/dev/tcp/127.0.0.1/{HEALTH_PORT}"
    ' && printf "GET /readyz HTTP/1.0\\r\\n\\r\\n" >&3'
    ' && read -r line <&3 && [[ $line == *" 200 "* ]]'
)
_FAULT_CAPS = frozenset({"iptables", "packet-loss", "small-disk", "strace", "faketime", "engine"})


class Project(DockerCompose):
    """DockerCompose with a project name, time limits, and errors that say what compose said."""

    project: str = ""

    @cached_property
    def compose_command_property(self) -> list[str]:
        """The compose command, `docker compose -p PROJECT -f FILE …`."""
        binary, compose, *rest = super().compose_command_property
        return [
            binary,
            compose,
            "-p",
            self.project,
            "--ansi",
            "never",
            "--progress",
            "plain",
            *rest,
        ]

    def run(self, *argv: str, timeout_s: float = 60.0) -> str:
        """Run a compose command and return what it prints. Raises StackFailure."""
        done = subprocess.run(
            [*self.compose_command_property, *argv],
            cwd=self.context,
            env={name: value for name, value in os.environ.items() if name not in OUR_VARIABLES},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s * SLOW,
            check=False,
        )
        if done.returncode:
            raise StackFailure(f"compose {' '.join(argv)}: {done.stderr[-3000:]}")
        return done.stdout


PORTS = (
    *("HTTP_PORT", "HTTP_PORT_2", "HTTP_PORT_3", "DNS_PORT", "HTTPS_PORT"),
    *("HUB_PORT", "HUB_PORT_2", "GATEWAY_PORT", "JANUS_PORT", "JANUS_WS_PORT"),
    *("MEDIA_PORT", "RTP_PORT", "RTP_AUDIO_PORT", "TURN_PORT", "TURNS_PORT"),
)
"""Variables of published ports; 0 lets the engine choose."""
STORE = "postgresql://hub@postgres/hub"
"""The history of the profile `postgres`."""
OUR_VARIABLES = frozenset(
    {"BASE_IMAGE", "BUILD_CA", "SUBNET", "COMPOSE_PROJECT_NAME", *PORTS}
    | {"MUTUAL_TLS", "PUBLIC_HOST", "PUBLIC_BIND", "HUB_STORE", "COMPOSE_PROFILES"}
    | {"ADVERTISE_IPS", "TURN_HOST"}
)


class ComposeStack:
    """Stack (see stack.py), by containers."""

    kind = "containers"

    def __init__(self, plan: Plan | None = None) -> None:
        """Lay out a stack; `up` starts it."""
        self.plan = plan or Plan()
        self.caps = frozenset(name for name in _FAULT_CAPS if has(name))
        self.project = f"callboard-test-{uuid.uuid4().hex[:8]}"
        self._scratch = Path(tempfile.mkdtemp(prefix="callboard-compose-"))
        self._scratch.chmod(0o755)
        self._client = docker.from_env(timeout=60)
        self._compose = self._make_project()
        self._rules: list[tuple[str, list[str]]] = []
        self._traced: dict[str, SystemCallFaults] = {}
        self._full: set[str] = set()
        self._addresses: dict[str, str] = {}
        self._guard = Guard()

    def _make_project(self) -> Project:
        subnet = environment.free_subnet(None, environment.taken_networks(self.project))
        if not (ROOT / ".env").exists():
            raise StackFailure("no .env: run `make images` first")
        ports = dict.fromkeys(PORTS, "0")
        # (viewers are told of this one: the engine cannot choose it later)
        ports["MEDIA_PORT"] = str(free_port())
        variables = {**ports, "SUBNET": subnet, "COMPOSE_PROJECT_NAME": self.project}
        variables |= {"ADVERTISE_IPS": ""}
        # (said in any case: .env may have a profile of its user's)
        variables |= {"COMPOSE_PROFILES": ",".join(self._profiles())}
        variables |= {"HUB_STORE": STORE if self.plan.hubs else ""}
        variables |= {"TURN_HOST": "localhost" if self.plan.turn else ""}
        if self.plan.turn:  # (viewers are told of the ports: the engine cannot choose them later)
            variables |= {"TURN_PORT": str(free_port()), "TURNS_PORT": str(free_port())}
        own = self._scratch / "tests.env"
        environment.write(own, variables)
        files = ["docker-compose.yml"]
        if self.plan.small_disks or self.plan.clocks:
            override = self._scratch / "faults.yml"
            override.write_text(self._override())
            files.append(str(override))
        project = Project(str(ROOT), compose_file_name=files, env_file=[".env", str(own)])
        project.project = self.project
        return project

    def _profiles(self) -> list[str]:
        """Return the compose profiles that the Plan needs."""
        wanted = {"postgres": self.plan.hubs, "turn": self.plan.turn}
        return [name for name, is_wanted in wanted.items() if is_wanted]

    def _override(self) -> str:
        """Return a compose file with the small disks and the clocks of the Plan."""
        lines = ["services:"]
        if self.plan.clocks:
            library = faketime_library()
            for name in NAMES:
                write_offset(self._offset(name), 0.0)
                inside = clock_environment(
                    Path("/opt/clock", self._offset(name).name), Path("/opt/faketime.so")
                )
                settings = ", ".join(f'{key}: "{value}"' for key, value in inside.items())
                mounts = f'["{library}:/opt/faketime.so:ro", "{self._scratch}:/opt/clock:ro"]'
                lines += [f"  {name}:", f"    environment: {{ {settings} }}"]
                lines += [f"    volumes: {mounts}"]
        else:
            lines[0] = "services: {}"
        options = f"size={SMALL_DISK_BYTES},uid=10001,gid=10001,mode=0750"
        volume = f'driver: local, driver_opts: {{ type: tmpfs, device: tmpfs, o: "{options}" }}'
        lines += ["volumes:"] if self.plan.small_disks else []
        lines += [f"  {name}: {{ {volume} }}" for name in sorted(self.plan.small_disks)]
        return "\n".join(lines) + "\n"

    # life ------------------------------------------------------------------------------------

    def up(self) -> None:
        """Build what has changed, start everything, wait until it is healthy."""
        remove = ["down", "--volumes", "--timeout", "0", "--remove-orphans"]
        command = [*self._compose.compose_command_property, *remove]
        self._guard.add("scratch", ["rm", "-rf", str(self._scratch)])
        self._guard.add("project", ["env", "-C", str(ROOT), *command])
        self._build()
        limit = ["--wait-timeout", str(int(UP_WITHIN_S * SLOW))]
        try:
            start = ["up", "--detach", "--no-build", "--wait", *limit]
            self._compose.run(*start, timeout_s=UP_WITHIN_S + 60)
        except StackFailure as problem:
            raise StackFailure(f"{problem}\n{self.logs()}") from None

    def _build(self) -> None:
        """Build under the user's project: compose writes its name into an image, so that one
        built for this project alone would be another image, left over after each run."""
        profiles = [word for name in self._profiles() for word in ("--profile", name)]
        done = subprocess.run(
            ["docker", "compose", *profiles, "--progress", "quiet", "build"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_WITHIN_S * SLOW,
            check=False,
        )
        if done.returncode:
            raise StackFailure(f"the images cannot be built: {done.stderr[-3000:]}")

    def down(self) -> None:
        """Remove everything, volumes included."""
        self.heal()
        self._client.close()
        self._guard.close()

    def start(self, *services: str) -> None:
        """Start containers that are down."""
        for name in services:
            if not self.running(name):
                self._container(name).start()

    def kill(self, service: str) -> None:
        """End a container by SIGKILL: a manual stop, so no restart policy acts."""
        self._forget(service)
        self._container(service).kill()
        eventually_sync(lambda: not self.running(service))

    def stop(self, service: str) -> None:
        """End a container by SIGTERM."""
        self._forget(service)
        container = self._container(service)
        container.stop(timeout=STOP_WITHIN_S)
        container.reload()
        if container.attrs["State"]["ExitCode"] == 128 + 9:
            raise StackFailure(f"{service} did not end by SIGTERM\n{self.logs(service)}")

    def running(self, service: str) -> bool:
        """Say whether the container runs."""
        return bool(self._container(service).status in ("running", "paused"))

    def _forget(self, service: str) -> None:
        """Drop what is attached to a process that is about to end, but its address."""
        self._addresses[service] = self.inside_address(service)
        if service in self._traced:
            self.disk(service, Disk.HEALTHY)
        self._full.discard(service)
        self._rules = [(name, rule) for name, rule in self._rules if name != service]

    # where things are ------------------------------------------------------------------------

    def _container(self, service: str) -> Container:
        labels = [
            f"com.docker.compose.project={self.project}",
            f"com.docker.compose.service={service}",
        ]
        found = self._client.containers.list(all=True, filters={"label": labels})
        if len(found) != 1:
            raise StackFailure(f"{len(found)} containers of {service}")
        return found[0]

    def container_attributes(self, service: str) -> Mapping[str, Any]:
        """Return what the engine knows about a service's container."""
        return dict(self._container(service).attrs)

    def _pid(self, service: str) -> int:
        """Return the host's process id of a container's first process, docker-init."""
        return int(self._container(service).attrs["State"]["Pid"])

    def _program_pid(self, service: str) -> int:
        """Return the host's process id of the program that docker-init started."""
        first = self._pid(service)
        return int(Path(f"/proc/{first}/task/{first}/children").read_text().split()[0])

    def addr(self, service: str, port: int, transport: Transport = "tcp") -> tuple[str, int]:
        """Return the published address of a container's port."""
        ports = self._container(service).attrs["NetworkSettings"]["Ports"]
        published = ports.get(f"{port}/{transport}")
        if not published:
            raise StackFailure(f"{service} publishes no {port}/{transport}: {ports}")
        return str(published[0]["HostIp"]), int(published[0]["HostPort"])

    def url(self, service: str, path: str = "", port: int = HTTP_PORT) -> str:
        """Return the URL of a path of a service."""
        return "http://{}:{}{}".format(*self.addr(service, port), path)

    def inside_address(self, service: str) -> str:
        """Return the container's address in the compose network."""
        networks = self._container(service).attrs["NetworkSettings"]["Networks"]
        return str(networks[f"{self.project}_default"]["IPAddress"])

    def exec(self, service: str, argv: Sequence[str], timeout_s: float = 30.0) -> ExecResult:
        """Run a command in the container."""
        limited = ["timeout", str(timeout_s), *argv]
        code, output = self._container(service).exec_run(limited, demux=True)
        out, err = cast("tuple[bytes | None, bytes | None]", output)
        return ExecResult(int(code or 0), (out or b"").decode(), (err or b"").decode())

    def authority(self) -> str:
        """Return the CA certificate of this stack, PEM."""
        return self.exec(ISSUER, ["cat", "/data/ca.pem"]).out

    def permute(self, *services: str) -> None:
        """Give each of the services the address of the next, by the engine's fixed addresses."""
        network = self._network()
        addresses = [self._addresses[name] for name in services]
        for name in services:
            network.disconnect(self._container(name), force=True)
        for name, address in zip(services, [*addresses[1:], addresses[0]], strict=True):
            network.connect(self._container(name), aliases=[name], ipv4_address=address)
            self._addresses[name] = address

    def _network(self) -> Network:
        return self._client.networks.get(f"{self.project}_default")

    # faults ----------------------------------------------------------------------------------

    def pause(self, service: str) -> None:
        """Freeze a container."""
        self._container(service).pause()

    def unpause(self, service: str) -> None:
        """Let it go on."""
        self._container(service).unpause()

    def partition(self, a: Iterable[str], b: Iterable[str], *, oneway: bool = False) -> None:
        """Drop packets where they arrive, in the network namespace of the one who would read."""
        for source, destination in _pairs(a, b, oneway=oneway):
            self._drop(source, destination, 1.0)

    def degrade(self, a: Iterable[str], b: Iterable[str], *, loss: float) -> None:
        """Drop some of the packets."""
        for source, destination in _pairs(a, b, oneway=False):
            self._drop(source, destination, loss)

    def _drop(self, source: str, destination: str, loss: float) -> None:
        addresses = self.inside_address(source), self.inside_address(destination)
        rule = ["INPUT", *drop_rule(*addresses, loss=loss)]
        subprocess.run(
            iptables("-A", *rule, within=self._inside(destination)), check=True, capture_output=True
        )
        self._rules.append((destination, rule))

    def _inside(self, service: str) -> list[str]:
        return ["nsenter", "-t", str(self._pid(service)), "-n"]

    def disk(self, service: str, state: Disk) -> None:
        """Fill the small disk, slow down or fail fsync, or undo all of it."""
        if fault := self._traced.pop(service, None):
            fault.detach()
            self._guard.drop(f"trace {service}")
        if self.running(service) and service in self._full:
            self._ballast(service).unlink(missing_ok=True)
            self._full.discard(service)
        if state is Disk.FULL:
            assert service in self.plan.small_disks, f"{service} has no small disk in the Plan"
            self._full.add(service)
            fill(self._ballast(service))
        elif state is not Disk.HEALTHY:
            fault = SystemCallFaults(self._program_pid(service), state)
            self._traced[service] = fault
            self._guard.add(f"trace {service}", ["kill", str(fault.pid)])

    def _ballast(self, service: str) -> Path:
        return Path(f"/proc/{self._pid(service)}/root/data/ballast")

    def clock(self, service: str, offset_s: float) -> None:
        """Move a wall clock."""
        assert self.plan.clocks, "the Plan has no clocks"
        write_offset(self._offset(service), offset_s)

    def _offset(self, service: str) -> Path:
        return self._scratch / f"{service}.clock"

    def heal(self) -> None:
        """Undo all faults."""
        while self._rules:
            service, rule = self._rules.pop()
            if self.running(service):  # a container that has been down lost its rules by that
                command = iptables("-D", *rule, within=self._inside(service))
                subprocess.run(command, check=False, capture_output=True)
        for service in {*self._traced, *self._full}:
            with suppress(StackFailure):
                self.disk(service, Disk.HEALTHY)
        for name in NAMES:
            with suppress(StackFailure):
                container = self._container(name)
                if container.status == "paused":
                    container.unpause()
            if self.plan.clocks:
                write_offset(self._offset(name), 0.0)

    # what it says ----------------------------------------------------------------------------

    def is_ready(self, service: str) -> bool:
        """Say whether /readyz answers 200, asked from inside: it is never published."""
        if self._container(service).status != "running":
            return False
        return self.exec(service, ["bash", "-c", READY], timeout_s=5.0).code == 0

    def wait_ready(self, *services: str, timeout_s: float = 60.0) -> None:
        """Return once the services are ready."""
        for name in services or NAMES:
            try:
                eventually_sync(partial(self.is_ready, name), timeout_s)
            except AssertionError as problem:
                raise StackFailure(f"{name} is not ready\n{self.logs(name)}") from problem

    def logs(self, service: str | None = None) -> str:
        """Return what the containers have written."""
        argv = ["logs", "--no-color", "--timestamps", "--tail", "2000"]
        return self._compose.run(*argv, *([service] if service else []))


def _pairs(a: Iterable[str], b: Iterable[str], *, oneway: bool) -> Iterator[tuple[str, str]]:
    for one, other in itertools.product(tuple(a), tuple(b)):
        yield one, other
        if not oneway:
            yield other, one
