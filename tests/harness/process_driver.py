"""The stack as local processes: every service at a loopback address of its own, ports as ever.

No port is chosen, so none can be taken: parallel runs differ in the address. Packets between two
services have both services' addresses, because each binds and connects from its own; so iptables
makes real partitions (as root). Needs Linux, where all of 127.0.0.0/8 is there without set-up.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from make.programs import DNS_PORT, HUB, HUB_PORT, ISSUER, Layout, runnable
from tests.harness.capabilities import has
from tests.harness.eventually import eventually_sync
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
from tests.harness.sockets import Listening, listening
from tests.harness.stack import (
    DNS_INSIDE_PORT,
    HTTP_PORT,
    NAMES,
    NAMESERVER,
    Disk,
    ExecResult,
    Plan,
    StackFailure,
    Transport,
)

STOP_WITHIN_S = 10.0
_COUNTER = itertools.count()
_FAULT_CAPS = frozenset({"linux", "iptables", "packet-loss", "small-disk", "strace", "faketime"})


def own_network() -> str:
    """Return the first three numbers of this stack's addresses: 127.N.y.

    N and y come from the process id, so that test runs side by side do not meet; stacks of one run
    differ in y.
    """
    number = os.getpid() * 8 + next(_COUNTER)
    return f"127.{64 + (number >> 8) % 128}.{number % 256}"


class ProcessStack:
    """Stack (see stack.py), by local processes."""

    kind = "processes"

    def __init__(self, plan: Plan | None = None) -> None:
        """Lay out a stack; `up` starts it."""
        self.plan = plan or Plan()
        self.caps = frozenset(name for name in _FAULT_CAPS if has(name))
        self._directory = Path(tempfile.mkdtemp(prefix="callboard-stack-"))
        network = own_network()
        hosts = {name: f"{network}.{number}" for number, name in enumerate(NAMES, start=1)}
        self._layout = Layout(addresses=hosts, directory=self._directory)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._rules: list[list[str]] = []
        self._paused: set[str] = set()
        self._traced: dict[str, SystemCallFaults] = {}
        self._ballast: set[Path] = set()
        self._guard = Guard()

    # life ------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start everything and wait until it is ready."""
        self._guard.add("directory", ["rm", "-rf", str(self._directory)])
        for name in runnable():
            self._layout.data(name).mkdir()
            write_offset(self._offset(name), 0.0)
        for name in self.plan.small_disks:
            place = str(self._layout.data(name))
            size = f"size={SMALL_DISK_BYTES}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], check=True)
            self._guard.add(f"mount {name}", ["umount", "-l", place])
        self.start(*runnable())
        self.wait_ready()

    def down(self) -> None:
        """Kill everything and remove the data."""
        self.heal()
        for name in list(self._processes):
            self._end(name, signal.SIGKILL)
        for name in self.plan.small_disks:
            subprocess.run(["umount", "-l", str(self._layout.data(name))], check=False)
            self._guard.drop(f"mount {name}")
        shutil.rmtree(self._directory, ignore_errors=True)
        self._guard.close()

    def start(self, *services: str) -> None:
        """Start services that are down."""
        for name in services:
            if self.running(name) or name not in runnable():
                continue
            with self._layout.log(name).open("ab") as log:
                process = subprocess.Popen(
                    self._layout.argv(name),
                    env=self._environment(name),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._directory,
                    start_new_session=True,
                )
            self._processes[name] = process
            self._guard.add(f"process {name}", ["kill", "-9", "--", f"-{process.pid}"])

    def kill(self, service: str) -> None:
        """End a service by SIGKILL."""
        self._end(service, signal.SIGKILL)

    def stop(self, service: str) -> None:
        """End a service by SIGTERM."""
        self._end(service, signal.SIGTERM)

    def running(self, service: str) -> bool:
        """Say whether a service's process lives."""
        process = self._processes.get(service)
        return process is not None and process.poll() is None

    def _end(self, service: str, number: signal.Signals) -> None:
        process = self._processes.pop(service)
        self._paused.discard(service)
        if fault := self._traced.pop(service, None):
            fault.detach()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired as late:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_WITHIN_S)
            text = f"{service} did not end by {number.name}\n{self.logs(service)}"
            raise StackFailure(text) from late
        finally:
            self._guard.drop(f"process {service}")

    def _environment(self, service: str) -> dict[str, str]:
        environment = {**os.environ, **self._layout.environment(service)}
        if self.plan.clocks:
            environment |= clock_environment(self._offset(service))
        return environment

    # where things are ------------------------------------------------------------------------

    def addr(self, service: str, port: int, transport: Transport = "tcp") -> tuple[str, int]:
        """Return the service's own address; the nameserver's port 53 is 8600 here."""
        inside = service == NAMESERVER and port == DNS_INSIDE_PORT
        return self._layout.addresses[service], DNS_PORT if inside else port

    def url(self, service: str, path: str = "", port: int = HTTP_PORT) -> str:
        """Return the URL of a path of a service."""
        return "http://{}:{}{}".format(*self.addr(service, port), path)

    def inside_address(self, service: str) -> str:
        """Return the service's loopback address."""
        return self._layout.addresses[service]

    def exec(self, service: str, argv: Sequence[str], timeout_s: float = 30.0) -> ExecResult:
        """Run a command on this machine, with the service's agent as the default one."""
        environment = {
            **os.environ,
            "CONSUL_HTTP_ADDR": self.url(service),
            "CALLBOARD_HUB_ADDR": self.url(HUB, port=HUB_PORT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            argv,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=self._directory,
        )
        return ExecResult(done.returncode, done.stdout, done.stderr)

    def authority(self) -> str:
        """Return the CA certificate of this stack, PEM."""
        return (self._layout.data(ISSUER) / "ca.pem").read_text("ascii")

    def data(self, service: str) -> Path:
        """Return a service's data directory."""
        return self._layout.data(service)

    def exchange(self, service: str) -> Path:
        """Return the directory that a service shares with the issuer."""
        return self._layout.exchange(service)

    def reload(self, service: str) -> None:
        """Have a running service look at its files now, by SIGHUP."""
        self._processes[service].send_signal(signal.SIGHUP)

    def listening(self, service: str) -> set[Listening]:
        """Return where a running service takes connections or datagrams."""
        return listening(self._processes[service].pid)

    def permute(self, *services: str) -> None:
        """Give each of the services the address of the next."""
        addresses = dict(self._layout.addresses)
        following = [*services[1:], services[0]]
        for name, successor in zip(services, following, strict=True):
            assert not self.running(name), f"{name} still runs"
            addresses[name] = self._layout.addresses[successor]
        self._layout = replace(self._layout, addresses=addresses)

    # faults ----------------------------------------------------------------------------------

    def pause(self, service: str) -> None:
        """Freeze a service by SIGSTOP."""
        os.killpg(self._processes[service].pid, signal.SIGSTOP)
        self._paused.add(service)

    def unpause(self, service: str) -> None:
        """Let it go on."""
        with suppress(ProcessLookupError):
            os.killpg(self._processes[service].pid, signal.SIGCONT)
        self._paused.discard(service)

    def partition(self, a: Iterable[str], b: Iterable[str], *, oneway: bool = False) -> None:
        """Drop the packets between two sides."""
        for source, destination in self._pairs(a, b, oneway=oneway):
            self._add_rule(drop_rule(source, destination))

    def degrade(self, a: Iterable[str], b: Iterable[str], *, loss: float) -> None:
        """Drop some of the packets between two sides."""
        for source, destination in self._pairs(a, b, oneway=False):
            self._add_rule(drop_rule(source, destination, loss=loss))

    def _pairs(
        self, a: Iterable[str], b: Iterable[str], *, oneway: bool
    ) -> Iterator[tuple[str, str]]:
        addresses = self._layout.addresses
        for one, other in itertools.product(tuple(a), tuple(b)):
            yield addresses[one], addresses[other]
            if not oneway:
                yield addresses[other], addresses[one]

    def _add_rule(self, rule: list[str]) -> None:
        rule = ["INPUT", "-i", "lo", *rule]
        self._guard.add(" ".join(rule), iptables("-D", *rule))
        subprocess.run(iptables("-A", *rule), check=True, capture_output=True)
        self._rules.append(rule)

    def disk(self, service: str, state: Disk) -> None:
        """Fill the small disk, slow down or fail fsync, or undo all of it."""
        if fault := self._traced.pop(service, None):
            fault.detach()
            self._guard.drop(f"trace {service}")
        ballast = self._layout.data(service) / "ballast"
        ballast.unlink(missing_ok=True)
        self._ballast.discard(ballast)
        if state is Disk.FULL:
            assert service in self.plan.small_disks, f"{service} has no small disk in the Plan"
            self._ballast.add(ballast)
            fill(ballast)
        elif state is not Disk.HEALTHY:
            fault = SystemCallFaults(self._processes[service].pid, state)
            self._traced[service] = fault
            self._guard.add(f"trace {service}", ["kill", str(fault.pid)])

    def clock(self, service: str, offset_s: float) -> None:
        """Move a wall clock."""
        assert self.plan.clocks, "the Plan has no clocks"
        write_offset(self._offset(service), offset_s)

    def _offset(self, service: str) -> Path:
        return self._directory / f"{service}.clock"

    def heal(self) -> None:
        """Undo all faults."""
        while self._rules:
            rule = self._rules.pop()
            subprocess.run(iptables("-D", *rule), check=False, capture_output=True)
            self._guard.drop(" ".join(rule))
        for service in tuple(self._paused):
            self.unpause(service)
        for service in tuple(self._traced):
            self.disk(service, Disk.HEALTHY)
        for ballast in tuple(self._ballast):
            ballast.unlink(missing_ok=True)
            self._ballast.discard(ballast)
        if self.plan.clocks:
            for name in runnable():
                write_offset(self._offset(name), 0.0)

    # what it says ----------------------------------------------------------------------------

    def is_ready(self, service: str) -> bool:
        """Say whether /readyz answers 200."""
        try:
            with urllib.request.urlopen(self._layout.health_url(service), timeout=2.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait_ready(self, *services: str, timeout_s: float = 60.0) -> None:
        """Return once the services are ready; at once with StackFailure if one has ended."""
        for name in services or runnable():
            try:
                eventually_sync(partial(self._is_settled, name), timeout_s)
            except AssertionError as problem:
                raise StackFailure(f"{name} is not ready\n{self.logs(name)}") from problem
            if not self.running(name):
                raise StackFailure(f"{name} has ended\n{self.logs(name)}")

    def _is_settled(self, service: str) -> bool:
        return self.is_ready(service) or not self.running(service)

    def logs(self, service: str | None = None) -> str:
        """Return the end of what the services have written."""
        names = [service] if service else NAMES
        found = [(name, self._layout.log(name)) for name in names]
        return "\n".join(
            f"== {name}\n{path.read_text(errors='replace')}"
            for name, path in found
            if path.exists()
        )
