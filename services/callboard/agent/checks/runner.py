"""Starts and stops the monitor of each check, and hands what it finds to the registry."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from callboard.agent.checks.clock import Clock
from callboard.agent.checks.monitors import IntervalMonitor, TtlMonitor
from callboard.agent.checks.probes import (
    CLIENT_HEADERS,
    HEAD_LINE_BYTES_MAX,
    OUTPUT_BYTES_MAX,
    HttpProbe,
    Result,
    TcpProbe,
)
from callboard.agent.checks.thresholds import Thresholds
from callboard.catalog.definitions import CheckDefinition

if TYPE_CHECKING:
    import aiohttp

PROBES_MAX = 64
"""Probes under way at one time; more wait for a place."""
DEFAULT_TIMEOUT_S = 10.0
INTERVAL_MIN_S = 1.0

Observe = Callable[[str, str, str], None]
"""Takes the check ID, the status and the output."""


class CheckRunner:
    """All monitors of an agent, by check ID."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: random.Random,
        observe: Observe,
        status: Callable[[str], str],
        output_bytes_max: int = OUTPUT_BYTES_MAX,
    ) -> None:
        """`output_bytes_max` is what is kept of any check's output (Consul:
        check_output_max_size)."""
        self._clock = clock
        self._rng = rng
        self._observe = observe
        self._status = status
        self._output_bytes_max = output_bytes_max
        self._monitors: dict[str, TtlMonitor | IntervalMonitor] = {}
        self._slots = asyncio.Semaphore(PROBES_MAX)
        self._session: aiohttp.ClientSession | None = None

    def start(
        self, check_id: str, definition: CheckDefinition, remaining_ttl_s: float | None = None
    ) -> None:
        """Run a check from now on, in place of an earlier one of the same ID."""
        self.stop(check_id)

        def report(status: str, output: str) -> None:
            self._observe(check_id, status, output)

        if definition.type == "ttl":
            monitor = TtlMonitor(definition.ttl_s, self._clock, report)
            self._monitors[check_id] = monitor
            monitor.start(remaining_ttl_s)
            return
        probe = self._probe(definition)
        if probe is None:
            return
        interval = IntervalMonitor(
            probe,
            max(definition.interval_s, INTERVAL_MIN_S),
            thresholds=Thresholds(
                definition.success_before_passing,
                definition.failures_before_warning,
                definition.failures_before_critical,
            ),
            status=lambda: self._status(check_id),
            clock=self._clock,
            rng=self._rng,
            slots=self._slots,
            report=report,
        )
        self._monitors[check_id] = interval
        interval.start()

    def output_limit(self, definition: CheckDefinition) -> int:
        """How many bytes of a check's output are kept: its own limit, if that is lower."""
        return min(definition.output_max_size or self._output_bytes_max, self._output_bytes_max)

    def heard(self, check_id: str, output: str) -> bool:
        """A TTL check was updated from outside; False when the check has no TTL."""
        monitor = self._monitors.get(check_id)
        if not isinstance(monitor, TtlMonitor):
            return False
        monitor.heard(output)
        return True

    def expires_in_s(self, check_id: str) -> float | None:
        """What is left of a TTL; None for other checks."""
        monitor = self._monitors.get(check_id)
        if not isinstance(monitor, TtlMonitor) or monitor.expires_at is None:
            return None
        return monitor.expires_at - self._clock.now()

    def stop(self, check_id: str) -> None:
        """Run this check no more; unknown ones are ignored."""
        monitor = self._monitors.pop(check_id, None)
        if monitor is not None:
            monitor.stop()

    async def close(self) -> None:
        """Stop every check and close the HTTP client."""
        for check_id in list(self._monitors):
            self.stop(check_id)
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _probe(self, definition: CheckDefinition) -> Callable[[], Awaitable[Result]] | None:
        timeout_s = definition.timeout_s or DEFAULT_TIMEOUT_S
        if definition.type == "tcp":
            return TcpProbe(
                definition.tcp,
                timeout_s,
                tls=definition.tcp_use_tls,
                tls_skip_verify=definition.tls_skip_verify,
                tls_server_name=definition.tls_server_name,
            ).run
        if definition.type != "http":
            return None
        http = HttpProbe(
            url=definition.http,
            timeout_s=timeout_s,
            method=definition.method or "GET",
            headers=definition.header,
            body=definition.body,
            tls_skip_verify=definition.tls_skip_verify,
            tls_server_name=definition.tls_server_name,
            disable_redirects=definition.disable_redirects,
            output_bytes_max=self.output_limit(definition),
        )
        return lambda: http.run(self._client())

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp  # noqa: PLC0415 - 150 ms of imports that an agent without checks saves

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=PROBES_MAX),
                headers=CLIENT_HEADERS,
                skip_auto_headers=("Content-Type",),
                auto_decompress=False,  # we unzip ourselves: what cannot be is no failure
                max_line_size=HEAD_LINE_BYTES_MAX,
                max_field_size=HEAD_LINE_BYTES_MAX,
            )
        return self._session
