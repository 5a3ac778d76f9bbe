"""What a program counts, and the loop-lag figure that every program shows.

Counting costs an addition: values live in plain objects (or stay where a component keeps them,
read by a callable), and prometheus_client is imported at the first scrape only, to write the text
and to add the process's own figures. One `Metrics` a program, never a global: a test runs several
agents in one process.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

LAG_INTERVAL_S = 0.1
"""Between two samples of the loop's lag: ten wake-ups a second cost 0.05 % of a core."""

LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""The promise is p99.9 <= 20 ms and max <= 100 ms: both are edges."""

LATENCY_BUCKETS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
"""For requests and commits."""

Labels = tuple[str, ...]
Read = Callable[[], float] | Callable[[], Mapping[Labels, float]]


class Counter:
    """A number that only grows, one per combination of label values."""

    def __init__(self) -> None:
        self.values: dict[Labels, float] = {}

    def inc(self, *labels: str, by: float = 1) -> None:
        """Add to the count of these label values."""
        self.values[labels] = self.values.get(labels, 0) + by


class Gauge:
    """A number as it is now, one per combination of label values."""

    def __init__(self) -> None:
        self.values: dict[Labels, float] = {}

    def set(self, value: float, *labels: str) -> None:
        """Set the value of these label values."""
        self.values[labels] = value


class Histogram:
    """How often values fell below each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are upper bounds, ascending; values above the last are counted too."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0
        self.max = 0.0

    def observe(self, value: float) -> None:
        """Count one value (a bound's own value is below it, as Prometheus' `le`)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        self.max = max(self.max, value)

    def quantile_bound(self, quantile: float) -> float:
        """The smallest bound that at least `quantile` of all values fall below; 0.0 without
        values, infinity when it lies above the last bound."""
        wanted = quantile * sum(self.counts)
        reached = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            reached += count
            if reached >= wanted:
                return bound if reached else 0.0
        return float("inf")


class _Family:
    """One metric name: its kind, help, label names, and where its values are read."""

    def __init__(self, kind: str, name: str, help: str, labels: Sequence[str]) -> None:
        self.kind = kind
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self.read: Read = dict
        self.histogram: Histogram | None = None

    def values(self) -> Mapping[Labels, float]:
        found = self.read()
        return found if isinstance(found, Mapping) else {(): float(found)}


class Metrics:
    """A program's metrics. Names begin with `callboard_`; units stand last; counters `_total`."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._registry: CollectorRegistry | None = None

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """A new counter. A name used twice is a ValueError."""
        counter = Counter()
        self._add("counter", name, help, labels).read = lambda: counter.values
        return counter

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        """A new gauge."""
        gauge = Gauge()
        self._add("gauge", name, help, labels).read = lambda: gauge.values
        return gauge

    def histogram(
        self, name: str, help: str, bounds: Sequence[float] = LATENCY_BUCKETS_S
    ) -> Histogram:
        """A new histogram."""
        histogram = Histogram(bounds)
        self._add("histogram", name, help, ()).histogram = histogram
        return histogram

    def read_counter(self, name: str, help: str, read: Read, labels: Sequence[str] = ()) -> None:
        """A counter kept elsewhere: `read` answers its value (or label values -> value)."""
        self._add("counter", name, help, labels).read = read

    def read_gauge(self, name: str, help: str, read: Read, labels: Sequence[str] = ()) -> None:
        """A gauge kept elsewhere: read at each scrape."""
        self._add("gauge", name, help, labels).read = read

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        from prometheus_client import (  # noqa: PLC0415 - 60 ms, off the start path
            CollectorRegistry,
            GCCollector,
            PlatformCollector,
            ProcessCollector,
            generate_latest,
        )

        if self._registry is None:
            self._registry = CollectorRegistry()
            self._registry.register(self)
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The collector protocol of prometheus_client."""
        from prometheus_client.metrics_core import (  # noqa: PLC0415 - see text()
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for family in self._families.values():
            if family.histogram is not None:
                buckets = list(_cumulative(family.histogram))
                yield HistogramMetricFamily(
                    family.name, family.help, buckets, sum_value=family.histogram.sum
                )
                continue
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for labels, value in family.values().items():
                metric.add_metric(list(labels), value)
            yield metric

    def describe(self) -> Iterator[Metric]:
        """Nothing: names are checked by `_add`, and values must not be read at registration."""
        return iter(())

    def _add(self, kind: str, name: str, help: str, labels: Sequence[str]) -> _Family:
        if name in self._families:
            raise ValueError(f"metric {name} exists")
        self._families[name] = _Family(kind, name, help, labels)
        return self._families[name]


def _cumulative(histogram: Histogram) -> Iterator[tuple[str, float]]:
    reached = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        reached += count
        yield ("+Inf" if bound == float("inf") else repr(bound)), reached


class LoopLag:
    """Samples how late the event loop runs a timer: the one figure of a loop's health."""

    def __init__(self, metrics: Metrics, interval_s: float = LAG_INTERVAL_S) -> None:
        self.histogram = metrics.histogram(
            "callboard_loop_lag_seconds", "How late the event loop ran a timer.", LAG_BUCKETS_S
        )
        metrics.read_gauge(
            "callboard_loop_lag_max_seconds",
            "The latest that a timer ran since the start.",
            lambda: self.histogram.max,
        )
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Sample the running loop until `stop`."""
        self._loop = asyncio.get_running_loop()
        self._arm()

    async def stop(self) -> None:
        """No further samples."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        assert self._loop is not None
        due = self._loop.time() + self._interval_s
        self._timer = self._loop.call_at(due, self._sample, due)

    def _sample(self, due: float) -> None:
        assert self._loop is not None
        self.histogram.observe(max(0.0, self._loop.time() - due))
        self._arm()
