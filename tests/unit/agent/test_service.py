"""An agent's beginning and end as a program: what refuses to start, and who goes on answering."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.harness.eventually import eventually

from callboard.agent.consensus.disk import LocalDisk
from callboard.agent.consensus.identity import ClusterMark, save_mark
from callboard.agent.consensus.segment_log import create_log
from callboard.agent.service import Agent
from callboard.agent.settings import Ports, development
from callboard.raft.messages import Configuration

FREE = Ports(http=0, dns=0, server=0, serf_lan=0)

PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from callboard.agent import service
from callboard.agent.configuration import Built
from callboard.agent.settings import Ports, development
from callboard.catalog.definitions import Definitions
from callboard.chassis import logs

logs.configure("info", stream=sys.stdout, threaded=False, plain=True)
settings = replace(
    development("here"),
    data_dir=Path(sys.argv[1]),
    ports=replace(Ports(http=0, dns=0, server=0, serf_lan=0), **{ports}),
    **{changes},
)
sys.exit(service.run(Built(settings, Definitions())))
"""


def started(folder: Path, ports: dict[str, int], changes: dict[str, object]) -> tuple[int, str]:
    """Run an agent that ends by itself; its exit code and output."""
    code = PROGRAM.replace("{ports}", repr(ports)).replace("{changes}", repr(changes))
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


@contextmanager
def data(folder: Path) -> Iterator[tuple[LocalDisk, LocalDisk]]:
    """A data directory and its raft directory, to be prepared."""
    with ExitStack() as held:
        disks = LocalDisk(folder), LocalDisk(folder / "raft")
        for disk in disks:
            held.callback(disk.close)
        yield disks


def unreadable_id(folder: Path) -> None:
    (folder / "node-id").write_text("nonsense")


def mark_of_the_future(folder: Path) -> None:
    (folder / "cluster.json").write_text('{"format":2,"cluster_id":"c","voters":[]}')


def damaged_log(folder: Path) -> None:
    (folder / "raft").mkdir()
    (folder / "raft" / "00000001.log").write_bytes(bytes(4096))


def foreign_log(folder: Path) -> None:
    with data(folder) as (disk, raft):
        create_log(raft, "one", Configuration(("x",)))
        save_mark(disk, ClusterMark("another", ("x",)))


def directory_in_the_way(folder: Path) -> None:
    (folder / "raft").write_text("a file")


def empty_keyring(folder: Path) -> None:
    (folder / "serf").mkdir()
    (folder / "serf" / "local.keyring").write_text("[]")


def keyring_in_the_way(folder: Path) -> None:
    (folder / "serf" / "local.keyring").mkdir(parents=True)


def nothing(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "changes", "text"),
    [
        (unreadable_id, {}, "file node-id: 'nonsense' is not a UUID"),
        (mark_of_the_future, {}, "file cluster.json: format 2 is unknown"),
        (damaged_log, {}, "log segment 00000001.log: damaged header"),
        (foreign_log, {}, "belongs to cluster one"),
        (directory_in_the_way, {}, "data_dir: cannot use"),
        (empty_keyring, {}, "local.keyring: not usable as a keyring: there is no key in it"),
        (keyring_in_the_way, {}, "local.keyring: is a directory"),
        (nothing, {"start_join": ("127.0.0.1:1",)}, "127.0.0.1:1: "),
        (nothing, {"bind_address": "192.0.2.1"}, "192.0.2.1"),
        (nothing, {"advertise_address": "0.0.0.0"}, "address must be one that others can reach"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_refusal_is_one_line_and_leaves_nothing_running(
    tmp_path: Path, prepare: Callable[[Path], None], changes: dict[str, object], text: str
) -> None:
    prepare(tmp_path)
    code, out = started(tmp_path, {}, changes)
    assert code == 1, out
    (refusal,) = (line for line in out.splitlines() if "start failed: " in line)
    assert text in refusal
    assert "Traceback" not in out
    assert "left over" not in out
    assert "a stop failed" not in out


@pytest.mark.parametrize("port", ["http", "dns", "server", "serf_lan"])
def test_taken_port_stops_what_was_started_before(tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, out = started(tmp_path, {port: taken.getsockname()[1]}, {})
    assert code == 1, out
    assert "start failed: " in out
    assert "ddress already in use" in out
    for trouble in ("Traceback", "left over", "a stop failed"):
        assert trouble not in out


def test_directory_of_a_running_agent_is_refused(tmp_path: Path) -> None:
    with data(tmp_path):
        code, out = started(tmp_path, {}, {})
    assert code == 1
    assert "another process uses the directory" in out
    assert "Traceback" not in out


def test_retries_that_brought_nobody_end_the_agent(tmp_path: Path) -> None:
    joining = {"retry_join": ("127.0.0.1:1",), "retry_max": 1, "retry_interval_s": 0.2}
    code, out = started(tmp_path, {}, joining)
    assert code == 1
    assert "agent: max join retry exhausted, exiting" in out
    assert "left over" not in out


async def test_server_that_leaves_goes_on_answering_for_a_while() -> None:
    ended = asyncio.Event()
    settings = replace(development("here"), ports=FREE, leave_drain_time_s=1.0)
    agent = Agent(settings, ended=ended.set)
    await agent.start()
    await eventually(lambda: agent.store.ready)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await agent.leave()
    await ended.wait()
    url = f"http://127.0.0.1:{agent.http_port}/v1/status/leader"
    stopping = asyncio.ensure_future(agent.stop())
    answer = await asyncio.to_thread(urllib.request.urlopen, url, timeout=5)
    answer.close()
    assert not stopping.done()
    await stopping
    assert 1.0 <= loop.time() - began < 5.0


async def test_development_server_closes_at_once() -> None:
    agent = Agent(replace(development("here"), ports=FREE))
    await agent.start()
    await agent.leave()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await agent.stop()
    assert loop.time() - began < 1.0
