"""From the camera to the screen on one machine: the sidecar's test pattern, whose pictures say when
they were made, the gateway, and Chromium on the live page at 1443, which reads them from a canvas.

Claims: half of the pictures are shown within 200 ms, 95 of 100 within 350 ms, and it does not grow:
the median of the last tenth is at most 20 ms above the second tenth's. The length of the run is the
first argument, in seconds (600 without one).
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.harness.load import p95
from tests.harness.asking import http
from tests.harness.eventually import eventually, eventually_sync
from tests.harness.gateway_process import GatewayProcess
from tests.harness.playing import CHROMIUM, GESTURELESS, WITHIN_S, chromium
from tests.harness.routed import Place, identity
from tests.unit.sidecar.sidecar_process import running

STREAM = "test-pattern"
TITLE = "Opus/VP8 live stream"
SECONDS = 600.0
MEDIAN_BAR_MS, P95_BAR_MS = 200.0, 350.0
GROWTH_BAR_MS = 20.0
SETTLES_S = 5.0
"""A browser begins with a longer buffer than it keeps."""


def judge(ages_ms: tuple[float, ...], in_order: bool) -> bool:
    """Print the figures; whether the bars hold."""
    tenth = len(ages_ms) // 10
    median, late = statistics.median(ages_ms), p95(list(ages_ms))
    early = statistics.median(ages_ms[tenth : 2 * tenth])
    growth = statistics.median(ages_ms[-tenth:]) - early
    holds = in_order and median <= MEDIAN_BAR_MS and late <= P95_BAR_MS and growth <= GROWTH_BAR_MS
    print(
        f"{len(ages_ms)} pictures shown, {'in order' if in_order else 'NOT IN ORDER'}: median "
        f"{median:.0f} ms (bar {MEDIAN_BAR_MS:.0f}), p95 {late:.0f} ms (bar {P95_BAR_MS:.0f}), "
        f"most {max(ages_ms):.0f}, growth {growth:+.0f} ms (bar +{GROWTH_BAR_MS:.0f}): "
        f"{'holds' if holds else 'MISSED'}",
        flush=True,
    )
    return holds


async def measure(page_url: str, gateway: GatewayProcess, seconds: float) -> bool:
    """Watch, and judge."""
    await eventually(lambda: gateway.streams().get(STREAM, {}).get("state") == "live", WITHIN_S)
    async with chromium(GESTURELESS) as browser:
        page = await browser.open(page_url)
        await page.choose(TITLE)
        await page.press("Watch or Listen")
        await page.plays()
        await page.watch_clock(SETTLES_S)
        watched = await page.watch_clock(seconds)
    return judge(watched.ages_ms, watched.in_order)


def run(folder: Path, seconds: float) -> bool:
    """An agent, a sidecar, a gateway and a file server; whether the bars hold."""
    place = Place(folder)
    flags = [f"-catalog={place.agent}", *identity(place.files("gateway", "gateway-1"))]
    made = [f"-catalog={place.agent}", *identity(place.files("sidecar", "sidecar-1"))]
    with (
        place.catalog(),
        running(folder, *made),
        GatewayProcess(folder / "gateway", *flags, host=f"{place.network}.8") as gateway,
        place.door("-page", secure=True) as door,
    ):
        health = f"http://{place.agent}:8500/v1/health/service/gateway?passing"
        eventually_sync(lambda: http("GET", health).json(), WITHIN_S)
        return asyncio.run(measure(f"{door.url}/live/", gateway, seconds))


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    if not Path(CHROMIUM).exists():
        print("this needs Chromium: apt-get install chromium", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    try:
        return 0 if run(folder, float(sys.argv[1]) if sys.argv[1:] else SECONDS) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
