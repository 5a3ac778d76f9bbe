"""A lone agent on a disk that is full or fails: what it answers, and when it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.harness.asking import get
from tests.harness.bootstrapped import HTTP, Agent, agent
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.harness.faults import SystemCallFaults, fill, small_disk
from tests.harness.process_driver import own_network
from tests.harness.stack import Disk

SERVICE = b'{"Name": "web", "Port": 80}'
REGISTER = "/v1/agent/service/register"
BIG = bytes(500_000)


@pytest.fixture
def place() -> str:
    """A loopback address of this test's own."""
    require("linux")
    return f"{own_network()}.1"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for one segment of the log."""
    with small_disk(tmp_path / "small", "20m") as directory:
        yield directory


@contextmanager
def failing(one: Agent, calls: str = "") -> Iterator[None]:
    """Let the agent's durable writes fail with EIO; `calls`: only these system calls."""
    require("strace")
    fault = SystemCallFaults(one.lone.process.pid, Disk.FAILING, calls)
    try:
        yield
    finally:
        fault.detach()


def registration_files(data: Path) -> list[str]:
    """Return the names of all files of the agent's own registrations."""
    return [path.name for path in (data / "services").glob("*")]


def test_a_registration_on_a_full_disk_is_500_and_leaves_nothing(place: str, small: Path) -> None:
    with agent(place, small) as one:
        ballast = small / "ballast"
        fill(ballast)
        answer = one.ask("PUT", REGISTER, SERVICE)
        assert answer.status == 500
        assert b"failed to persist service: " in answer.body
        assert b"No space left on device" in answer.body
        assert get(one.url("/v1/agent/services")) == {}
        assert registration_files(small / "data") == []
        ballast.unlink()
        assert one.ask("PUT", REGISTER, SERVICE).status == 200
        assert list(get(one.url("/v1/agent/services"))) == ["web"]
        assert one.lone.process.poll() is None


def test_a_log_on_a_full_disk_makes_the_agent_leave_and_keeps_what_it_acknowledged(
    place: str, small: Path
) -> None:
    with agent(place, small) as one:
        ballast = small / "ballast"
        fill(ballast)
        acknowledged = 0
        while one.puts(f"full/{acknowledged}", BIG):
            acknowledged += 1
            assert acknowledged < 100, "the log was never full"
        assert one.lone.ended() == 1
        text = one.lone.log.read_text()
        assert "cannot write the log, segment 00000001.log offset " in text
        assert "No space left on device" in text
    ballast.unlink()
    with agent(place, small) as one:
        assert len(get(one.url("/v1/kv/full/?keys"))) >= acknowledged > 0


def test_a_failed_write_of_the_log_makes_the_agent_leave(place: str, tmp_path: Path) -> None:
    with agent(place, tmp_path) as one:
        with failing(one):
            assert not one.puts("lost")
            assert one.lone.ended() == 1
        text = one.lone.log.read_text()
        assert "cannot go on: consensus has stopped: cannot write the log, segment" in text
        assert "Input/output error" in text
        with pytest.raises(OSError):
            one.connected(HTTP)


def test_a_failed_fsync_of_a_registration_makes_the_agent_leave(place: str, tmp_path: Path) -> None:
    """fsync alone fails: the log writes by another call, and goes on until the agent leaves."""
    with agent(place, tmp_path) as one:
        with failing(one, "fsync"):
            answer = one.ask("PUT", REGISTER, SERVICE)
            assert answer.status == 500
            assert b"failed to persist service: " in answer.body
            assert one.lone.ended() == 1
        assert one.lone.said("cannot go on: the data directory cannot be trusted: ")
        assert registration_files(tmp_path / "data") == []
    with agent(place, tmp_path) as one:
        assert get(one.url("/v1/agent/services")) == {}


def test_a_failed_fsync_of_a_checks_state_makes_the_agent_leave(place: str, tmp_path: Path) -> None:
    with agent(place, tmp_path) as one:
        assert (
            one.ask("PUT", "/v1/agent/check/register", b'{"Name": "c", "TTL": "1m"}').status == 200
        )
        eventually_sync(lambda: one.ask("GET", "/v1/agent/checks").json())
        with failing(one, "fsync"):
            one.ask("PUT", "/v1/agent/check/pass/c")
            assert one.lone.ended() == 1
        assert one.lone.said("cannot go on: the data directory cannot be trusted: ")
