"""Small files of a data directory: whole and on the disk, or not there; never overwritten."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.harness.simulation.production.disk import PowerCut, VirtualDisk

from callboard.agent.consensus.disk import Disk, LocalDisk, MemoryDisk
from callboard.agent.consensus.identity import NODE_ID_FILE, load_node_id

DISKS: dict[str, Callable[[Path], Disk]] = {
    "local": LocalDisk,
    "memory": lambda path: MemoryDisk(remembers=True),
}


@pytest.fixture(params=DISKS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return DISKS[request.param](tmp_path / "data")


def content(disk: Disk, name: str) -> bytes:
    file = disk.open(name)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def test_a_small_file_is_there_alone_and_not_made_twice(disk: Disk) -> None:
    disk.create_whole("a", b"first")
    with pytest.raises(FileExistsError):
        disk.create_whole("a", b"second")
    assert disk.names() == ["a"]
    assert content(disk, "a") == b"first"
    disk.close()


def test_the_node_id_is_for_the_owner_alone(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path)
    node_id = load_node_id(disk)
    disk.close()
    path = tmp_path / NODE_ID_FILE
    assert path.read_text("ascii") == f"{node_id}\n"
    assert path.stat().st_mode & 0o777 == 0o600


def cut_after(disk: VirtualDisk, operations: int) -> None:
    """The power goes ahead of the operation that comes after so many."""
    left = [operations]

    def before(_operation: str) -> None:
        if left[0] == 0:
            raise PowerCut
        left[0] -= 1

    disk.before = before


@pytest.mark.parametrize("operations", range(6))
def test_a_power_cut_leaves_the_whole_node_id_or_none(operations: int) -> None:
    rng = random.Random(operations)
    for _ in range(100):
        disk = VirtualDisk(rng)
        cut_after(disk, operations)
        told = ""
        with suppress(PowerCut):
            told = load_node_id(disk)
        cut_after(disk, -1)
        disk.power_cut([])
        names = disk.names()
        found = content(disk, NODE_ID_FILE).decode("ascii") if NODE_ID_FILE in names else ""
        assert len(found) in (0, 37)
        assert bool(told) == (operations >= 5)
        assert not told or found == f"{told}\n"
        again = load_node_id(disk)
        assert not found or again == found.strip()
