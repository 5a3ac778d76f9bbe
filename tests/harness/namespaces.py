"""A network of its own for a program of a test: a namespace, and a cable (veth) to it from here.

with NetworkNamespace() as apart:
    apart.here, apart.there        # the addresses at the cable's ends
    apart.wrapper(program, folder) # a program that runs another one in there
    with apart.cut(): ...          # the cable is out
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.capabilities import require
from tests.harness.faults import iptables
from tests.harness.guard import Guard

_COUNTER = itertools.count()


class NetworkNamespace:
    """A context manager. Addresses are of the range for tests of networks (RFC 2544, 198.18/15);
    they and the names come from the process id, so that test runs side by side do not meet."""

    def __init__(self) -> None:
        require("namespaces")
        number = (os.getpid() * 8 + next(_COUNTER)) % (1 << 15)
        base = (18 << 16) + 4 * number
        network = f"198.{base >> 16}.{base >> 8 & 255}"
        self.here = f"{network}.{(base & 255) + 1}"
        self.there = f"{network}.{(base & 255) + 2}"
        self.name = f"callboard-{number}"
        self._cable, self._end = f"cb{number}a", f"cb{number}b"
        self._guard: Guard | None = None

    @property
    def within(self) -> list[str]:
        """The command that runs another one in there."""
        return ["ip", "netns", "exec", self.name]

    def wrapper(self, program: Path, folder: Path) -> Path:
        """A file that runs `program` in there, with the arguments that it is given."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{program.name}-apart"
        path.write_text(f'#!/bin/sh\nexec {" ".join(self.within)} {program} "$@"\n')
        path.chmod(0o755)
        return path

    def drop(self, chain: str, *match: str) -> None:
        """Have packets that match come to nowhere in there, from now on."""
        _run(*iptables("-A", chain, *match, "-j", "DROP", within=self.within))

    @contextmanager
    def cut(self) -> Iterator[None]:
        """The cable is out until the block's end."""
        _run("ip", "link", "set", self._cable, "down")
        try:
            yield
        finally:
            _run("ip", "link", "set", self._cable, "up")

    def __enter__(self) -> NetworkNamespace:
        self._guard = Guard()
        self._guard.add("namespace", ["ip", "netns", "delete", self.name])
        self._guard.add("cable", ["ip", "link", "delete", self._cable])
        inside = ("ip", "-n", self.name)
        try:
            _run("ip", "netns", "add", self.name)
            peer = ("peer", "name", self._end, "netns", self.name)
            _run("ip", "link", "add", self._cable, "type", "veth", *peer)
            _run("ip", "address", "add", f"{self.here}/30", "dev", self._cable)
            _run("ip", "link", "set", self._cable, "up")
            _run(*inside, "address", "add", f"{self.there}/30", "dev", self._end)
            _run(*inside, "link", "set", "lo", "up")
            _run(*inside, "link", "set", self._end, "up")
            _run(*inside, "route", "add", "default", "via", self.here)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
