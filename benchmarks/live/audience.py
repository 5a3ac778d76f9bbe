"""Viewers from the benchmark's side: their process, in a namespace of its own, and its answers."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.live.namespaces import apart, link

START_S = 30.0
JOIN_S = 120.0
GRACE_S = 30.0
CHURN_S = 900.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream is watched."""

    kind: str
    """`whep` or `janus`."""
    url: str


@dataclass(frozen=True, slots=True)
class Watched:
    """What all viewers saw in a while."""

    seconds: float
    received: list[int]
    """Packets, of each viewer."""
    missing: list[int]
    """Sequence numbers that did not come, of each viewer."""
    decrypted: int
    undecryptable: int
    dropped: int
    """Datagrams that the kernel dropped on the viewers' side, or between the two."""
    busy: float
    """Of a core, the viewers' process."""

    @property
    def lost(self) -> int:
        """Packets, of all viewers."""
        return sum(self.missing)

    @property
    def rate(self) -> float:
        """Packets a second of the middle viewer."""
        return statistics.median(self.received) / self.seconds

    def check(self, wanted: float) -> None:
        """Raises RuntimeError unless all that came was good, and each viewer got the stream, of so
        many packets a second."""
        if self.undecryptable or not self.decrypted:
            raise RuntimeError(f"{self.undecryptable} packets cannot be decrypted")
        least = min(self.received) / self.seconds
        if least < 0.9 * wanted:
            raise RuntimeError(f"a viewer got {least:.0f} packets a second of {wanted:.0f}")


class Audience:
    """The viewers' process; a context manager. All blocks."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = apart([sys.executable, "-m", "benchmarks.live.crowd"])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._answer(START_S)
        link(self._process.pid)
        self._ask(GRACE_S, do="address")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def join(self, place: Place, count: int) -> list[str]:
        """So many more viewers; the ciphers that were agreed on."""
        told = self._ask(JOIN_S, do="join", kind=place.kind, url=place.url, count=count)
        profiles: list[str] = told["profiles"]
        return profiles

    def churn(self, place: Place, count: int) -> float:
        """So many viewers who leave when they have got a packet; how long it took, in seconds."""
        told = self._ask(CHURN_S, do="churn", kind=place.kind, url=place.url, count=count)
        return float(told["seconds"])

    def count(self, seconds: float) -> Watched:
        """What comes in so many seconds."""
        return Watched(**self._ask(seconds + GRACE_S, do="count", seconds=seconds))

    def leave(self) -> None:
        """Everybody leaves."""
        self._ask(JOIN_S, do="leave")

    def _ask(self, within_s: float, **asked: object) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer(within_s)

    def _answer(self, within_s: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        pipe, line = self._process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([pipe], [], [], within_s)
            said = os.read(pipe, 1 << 16) if ready else b""
            if not said:
                why = "say nothing" if not ready else "have ended"
                last = self._log.read_text(errors="replace")[-2000:]
                raise TimeoutError(f"the viewers {why}:\n{last}")
            line += said
        told: dict[str, Any] = json.loads(line)
        if "problem" in told:
            last = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the viewers' problem: {told['problem']}\n{last}")
        return told
