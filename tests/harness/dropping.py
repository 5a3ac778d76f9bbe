"""Packets that come to nowhere on this machine, by iptables, for a while."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness.faults import iptables
from tests.harness.guard import Guard


@contextmanager
def dropping(*rules: list[str]) -> Iterator[None]:
    """Packets that these rules match come to nowhere, until the block's end (and that of a test
    that was killed)."""
    guard = Guard()
    try:
        for rule in rules:
            guard.add(" ".join(rule), iptables("-D", "INPUT", *rule, "-j", "DROP"))
            argv = iptables("-I", "INPUT", *rule, "-j", "DROP")
            subprocess.run(argv, check=True, capture_output=True)
        yield
    finally:
        guard.close()
