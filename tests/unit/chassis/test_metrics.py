"""What is counted, and how it is shown."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.harness.eventually import eventually

from callboard.chassis.metrics import LAG_BUCKETS_S, Histogram, LoopLag, Metrics


def lines(metrics: Metrics) -> list[str]:
    return metrics.text().decode().splitlines()


def test_a_counter_is_shown_by_its_labels() -> None:
    metrics = Metrics()
    counter = metrics.counter("callboard_tries_total", "Tries.", ["kind"])
    counter.inc("a")
    counter.inc("a", by=2)
    counter.inc("b")
    assert 'callboard_tries_total{kind="a"} 3.0' in lines(metrics)
    assert 'callboard_tries_total{kind="b"} 1.0' in lines(metrics)


def test_a_gauge_is_shown_as_it_is_now() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("callboard_size", "Size.")
    gauge.set(3)
    assert "callboard_size 3.0" in lines(metrics)
    gauge.set(2)
    assert "callboard_size 2.0" in lines(metrics)


def test_a_value_kept_elsewhere_is_read_at_each_scrape() -> None:
    metrics = Metrics()
    values = [7.0]
    metrics.read_gauge("callboard_term", "Term.", lambda: values[0])
    sent: dict[tuple[str, ...], float] = {("x",): 5.0}
    metrics.read_counter("callboard_sent_total", "Sent.", lambda: sent, ["peer"])
    assert "callboard_term 7.0" in lines(metrics)
    assert 'callboard_sent_total{peer="x"} 5.0' in lines(metrics)
    values[0] = 8.0
    assert "callboard_term 8.0" in lines(metrics)


def test_a_histogram_is_cumulative() -> None:
    metrics = Metrics()
    histogram = metrics.histogram("callboard_wait_seconds", "Wait.", (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 3.0):
        histogram.observe(value)
    shown = lines(metrics)
    assert 'callboard_wait_seconds_bucket{le="0.1"} 2.0' in shown
    assert 'callboard_wait_seconds_bucket{le="1.0"} 3.0' in shown
    assert 'callboard_wait_seconds_bucket{le="+Inf"} 4.0' in shown
    assert "callboard_wait_seconds_count 4.0" in shown


def test_a_name_is_used_once() -> None:
    metrics = Metrics()
    metrics.gauge("callboard_size", "Size.")
    with pytest.raises(ValueError, match="callboard_size exists"):
        metrics.counter("callboard_size", "Size.")


def test_two_programs_in_one_process_do_not_collide() -> None:
    first, second = Metrics(), Metrics()
    first.gauge("callboard_size", "Size.").set(1)
    second.gauge("callboard_size", "Size.").set(2)
    assert "callboard_size 1.0" in lines(first)
    assert "callboard_size 2.0" in lines(second)


def test_the_process_is_shown_too() -> None:
    assert any(line.startswith("process_resident_memory_bytes") for line in lines(Metrics()))


@pytest.mark.parametrize(
    ("quantile", "bound"), [(0.5, 0.001), (0.9, 0.001), (0.95, 0.02), (1.0, float("inf"))]
)
def test_a_quantile_lies_below_its_bound(quantile: float, bound: float) -> None:
    histogram = Histogram(LAG_BUCKETS_S)
    for _ in range(90):
        histogram.observe(0.0005)
    for _ in range(9):
        histogram.observe(0.015)
    histogram.observe(30.0)
    assert histogram.quantile_bound(quantile) == bound


def test_without_values_a_quantile_is_zero() -> None:
    assert Histogram(LAG_BUCKETS_S).quantile_bound(0.999) == 0.0


async def test_a_blocked_loop_shows_in_the_lag() -> None:
    lag = LoopLag(Metrics(), interval_s=0.005)
    lag.start()
    await asyncio.sleep(0)
    time.sleep(0.06)  # noqa: ASYNC251 - blocking the loop is what is measured
    await eventually(lambda: lag.histogram.max >= 0.05)
    await lag.stop()
