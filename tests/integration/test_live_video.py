"""Live video of the stack: what the sidecar makes is at the gateway, and is back after faults."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from make.programs import GATEWAY, GATEWAY_PORT, HEALTH_PORT, ROOT, SIDECAR
from tests.harness.asking import http
from tests.harness.capabilities import require
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.stack import Stack

TITLE = "Opus/VP8 live stream coming from gstreamer"
BACK_WITHIN_S = 5.0 * SLOW
METRICS = (
    f"exec 3<>/dev/tcp/127.0.0.1/{HEALTH_PORT}"
    " && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
)
"""A health port is never published."""
JPEG = b"\xff\xd8\xff"


@pytest.fixture(autouse=True)
def _gstreamer(stack: Stack) -> None:
    if stack.kind == "processes":
        require("python3-gi")


def streams(stack: Stack) -> dict[str, dict[str, Any]]:
    found = http("GET", stack.url(GATEWAY, "/streams", GATEWAY_PORT))
    return {stream["name"]: stream for stream in json.loads(found.body)}


def packets(stack: Stack, name: str = "test-pattern") -> dict[str, int]:
    return {track["id"]: track["packets"] for track in streams(stack)[name]["tracks"]}


def plays(stack: Stack) -> Callable[[], bool]:
    """Whether the sidecar's pattern plays, and more of it has come than when this was called."""
    before = packets(stack)

    def more() -> bool:
        stream = streams(stack)["test-pattern"]
        now = packets(stack)
        return stream["state"] == "live" and all(now[id] > before[id] for id in before)

    return more


def test_the_test_pattern_comes_from_the_sidecar_with_picture_and_sound(stack: Stack) -> None:
    eventually_sync(plays(stack), 20.0)
    stream = streams(stack)["test-pattern"]
    assert stream["title"] == TITLE
    assert stream["source"].startswith(SIDECAR)
    assert {track["codec"] for track in stream["tracks"]} == {"VP8", "opus"}


def test_the_built_in_pattern_has_made_way_for_the_sidecars(stack: Stack) -> None:
    eventually_sync(plays(stack), 20.0)
    assert [name for name in streams(stack) if name == "test-pattern"] == ["test-pattern"]


def test_a_stream_on_demand_is_not_made_while_nobody_watches(stack: Stack) -> None:
    stream = eventually_sync(lambda: streams(stack).get("ball"), 20.0)
    assert stream is not None
    assert stream["state"] == "on demand"
    assert stream["on_demand"] and stream["playable"]


def test_a_picture_of_the_stream_can_be_had(stack: Stack) -> None:
    eventually_sync(plays(stack), 20.0)
    place = stack.url(GATEWAY, "/streams/test-pattern/snapshot.jpg", GATEWAY_PORT)
    found = http("GET", place)
    assert found.status == 200
    assert found.body.startswith(JPEG)


def test_who_publishes_from_this_machine_needs_no_token(stack: Stack) -> None:
    """The offer is looked at, and is none."""
    asked = stack.url(GATEWAY, "/whip/studio", GATEWAY_PORT)
    refused = http("POST", asked, b"v=0", headers={"Content-Type": "application/sdp"})
    assert refused.status == 400, refused.body
    passed_on = {"Content-Type": "application/sdp", "X-Forwarded-For": "127.0.0.1"}
    assert http("POST", asked, b"v=0", headers=passed_on).status == 401


@pytest.mark.parametrize("fault", ["killed", "stopped", "frozen"])
def test_a_stream_goes_on_in_five_seconds_after_its_sidecar_is_back(
    stack: Stack, fault: str
) -> None:
    eventually_sync(plays(stack), 20.0)
    if fault == "frozen":
        stack.pause(SIDECAR)
    else:
        (stack.kill if fault == "killed" else stack.stop)(SIDECAR)
    eventually_sync(lambda: streams(stack)["test-pattern"]["state"] != "live", 20.0)
    if fault == "frozen":
        stack.unpause(SIDECAR)
    else:
        stack.start(SIDECAR)
        stack.wait_ready(SIDECAR)
    began = time.monotonic()
    eventually_sync(plays(stack), 20.0)
    assert time.monotonic() - began < BACK_WITHIN_S


def test_streams_are_there_five_seconds_after_a_gateway_that_was_killed_is_back(
    stack: Stack,
) -> None:
    eventually_sync(plays(stack), 20.0)
    stack.kill(GATEWAY)
    stack.start(GATEWAY)
    stack.wait_ready(GATEWAY)
    began = time.monotonic()
    eventually_sync(lambda: "test-pattern" in streams(stack), 20.0)
    eventually_sync(plays(stack), 20.0)
    assert time.monotonic() - began < BACK_WITHIN_S


@contextmanager
def script(stack: Stack) -> Iterator[None]:
    """The example script, sending to the stack's ports for scripts."""
    require("gst-launch-1.0")
    host, video = stack.addr(GATEWAY, 5004, "udp")
    _, audio = stack.addr(GATEWAY, 5002, "udp")
    argv = [str(ROOT / "examples" / "gst-test-pattern.sh"), host, str(video), str(audio)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def refused(stack: Stack) -> float:
    """Packets that ports for scripts have not taken."""
    if stack.kind == "containers":
        text = stack.exec(GATEWAY, ["bash", "-c", METRICS]).out
    else:
        text = http("GET", stack.url(GATEWAY, "/metrics", HEALTH_PORT)).body.decode()
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("callboard_gateway_refused_packets_total")
    )


def test_the_example_script_is_a_stream_and_a_second_sender_waits(stack: Stack) -> None:
    def more(name: str = "gst-script") -> bool:
        before = packets(stack, name)
        eventually_sync(
            lambda: all(now > before[id] for id, now in packets(stack, name).items()), 10.0
        )
        return bool(streams(stack)[name]["state"] == "live")

    with script(stack):
        eventually_sync(more, 20.0)
        before = refused(stack)
        with script(stack):
            eventually_sync(lambda: refused(stack) > before + 50, 20.0)
            assert more()
    eventually_sync(lambda: streams(stack)["gst-script"]["state"] == "offline", 20.0)
    with script(stack):  # another port of another process: taken, since the first is silent
        eventually_sync(more, 20.0)
