"""Power cuts, acted out: what a disk would have at any moment of what processes did to a folder.

`powercut.c` is preloaded into them and records their writes, syncs and changes of names; this
builds the folder anew as of some record. What was synced is there. Of what was not, each sector of
each write is there or not, by chance; of a folder's names, the first few changes since it was
synced. Any file whose name ends with `.witness` is no part of it: its lines say what was promised
by then.

    recorder = Recorder(tmp_path)              # compiles, once a session
    recording = recorder.recording(folder, log)
    process = subprocess.Popen(..., env=os.environ | recording.environment)
    ...kill it...
    for cut in recording.cuts(20, rng, exclude=("-shm",)):
        cut.build(into); assert what(cut.witness()) is in into
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
SECTOR = 512
WITNESS = ".witness"
_HEADER = struct.Struct("<16sIIQQQQII")
_MAGIC = b"\x8a\x13power-cut\xfe\x91\x00\xc3\x5d"


class Kind(IntEnum):
    """What a process did."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    SYNCED = 5
    UNLINK = 6
    RENAME = 7
    MKDIR = 8
    RMDIR = 9
    LINK = 10
    SYNCALL = 11


@dataclass(frozen=True, slots=True)
class Record:
    """One call; which fields count depends on its kind."""

    kind: Kind
    directory: bool
    inode: int
    offset: int
    token: int
    path: str
    other: str
    data: memoryview


def parse(log: bytes) -> Iterator[Record]:
    """The records of a log. A process that was killed may have left half of one anywhere."""
    view = memoryview(log)
    at = 0
    while (at := log.find(_MAGIC, at)) >= 0 and at + _HEADER.size <= len(log):
        header = _HEADER.unpack_from(log, at)
        _, kind, directory, inode, offset, length, token, path_length, other_length = header
        begin = at + _HEADER.size
        data = begin + path_length + other_length
        end = data + (length if kind == Kind.WRITE else 0)
        if end > len(log) or log.find(_MAGIC, begin, end) >= 0:
            at = begin  # torn; the next one may be whole
            continue
        path = os.fsdecode(log[begin : begin + path_length])
        other = os.fsdecode(log[begin + path_length : data])
        yield Record(Kind(kind), bool(directory), inode, offset, token, path, other, view[data:end])
        at = end


@dataclass(eq=False)
class File:
    """A file's content on the disk, and what was done to it since it was synced."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list)
    settled: int = 0
    """How many changes are in `content`."""
    implicit: bool = False
    """Met by a write before its creation was recorded."""

    @property
    def total(self) -> int:
        """How many changes there were."""
        return self.settled + len(self.pending)

    def settle(self, total: int) -> None:
        """The first so many changes, of all there were, are on the disk."""
        count = max(0, total - self.settled)
        for change in self.pending[:count]:
            _apply(self.content, change)
        del self.pending[:count]
        self.settled += count

    def survived(self, rng: random.Random) -> bytearray:
        """The content after a cut."""
        content = bytearray(self.content)
        chance = rng.choice((0.0, 1.0, rng.random()))
        for change in self.pending:
            if change.kind is Kind.TRUNCATE:
                if rng.random() < chance:
                    _apply(content, change)
                continue
            begin, end = change.offset, change.offset + len(change.data)
            while begin < end:
                upto = min(end, (begin // SECTOR + 1) * SECTOR)
                if rng.random() < chance:
                    part = change.data[begin - change.offset : upto - change.offset]
                    _put(content, begin, part)
                begin = upto
        return content


def _apply(content: bytearray, change: Record) -> None:
    if change.kind is Kind.TRUNCATE:
        if change.offset < len(content):
            del content[change.offset :]
        else:
            content.extend(bytes(change.offset - len(content)))
    else:
        _put(content, change.offset, change.data)


def _put(content: bytearray, offset: int, data: memoryview) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


Node = File | None
"""None: a folder."""
Change = Sequence[tuple[str, Node, bool]]
"""What happens to names at once: path, what has it, and whether it has it from then on."""


@dataclass(eq=False)
class Names:
    """What was done to a folder's names since it was synced."""

    pending: list[Change] = field(default_factory=list)
    settled: int = 0

    @property
    def total(self) -> int:
        return self.settled + len(self.pending)

    def settle(self, total: int, names: dict[str, Node]) -> None:
        count = max(0, total - self.settled)
        for change in self.pending[:count]:
            _rename(names, change)
        del self.pending[:count]
        self.settled += count


class Disk:
    """A folder as it is on the disk, and what is on its way there."""

    def __init__(self, root: Path) -> None:
        """Everything below `root`, a real path, is on the disk now."""
        self.root = str(root)
        self._names: dict[str, Node] = {}
        """As they are on the disk."""
        self._now: dict[str, Node] = {}
        """As processes see them."""
        self._files: dict[int, File] = {}
        self._changes: dict[str, Names] = {}
        """By folder."""
        self._syncs: dict[int, list[tuple[File | Names, int]]] = {}
        """What each sync that is not done yet covers."""
        self._witness = bytearray()
        for folder, _, names in os.walk(root):
            self._names[folder] = None
            for name in names:
                path = Path(folder) / name
                if path.is_file() and not path.is_symlink():
                    file = File(bytearray(path.read_bytes()))
                    self._files[path.stat().st_ino] = file
                    self._names[str(path)] = file
        self._now = dict(self._names)

    @property
    def witness(self) -> Sequence[bytes]:
        """The whole lines that witnesses have written."""
        return bytes(self._witness).split(b"\n")[:-1]

    def act(self, record: Record) -> None:
        """Go on by one record."""
        if record.path.endswith(WITNESS):
            if record.kind is Kind.WRITE:
                self._witness += record.data
            return
        match record.kind:
            case Kind.CREATE:
                self._create(record)
            case Kind.WRITE | Kind.TRUNCATE:
                self._file(record).pending.append(record)
            case Kind.SYNC if record.directory:
                changes = self._changes.setdefault(record.path, Names())
                self._syncs[record.token] = [(changes, changes.total)]
            case Kind.SYNC:
                file = self._file(record)
                self._syncs[record.token] = [(file, file.total)]
            case Kind.SYNCALL:
                files = {id(f): f for f in (*self._files.values(), *self._now.values()) if f}
                every: list[File | Names] = [*files.values(), *self._changes.values()]
                self._syncs[record.token] = [(one, one.total) for one in every]
            case Kind.SYNCED:
                self._synced(record)
            case _:
                self._rename(record)

    def build(self, to: Path, rng: random.Random, exclude: Sequence[str] = ()) -> None:
        """Write the folder as it would be after a cut now. `exclude`: endings of names that are
        left out."""
        names = dict(self._names)
        for changes in self._changes.values():
            for change in changes.pending[: rng.randint(0, len(changes.pending))]:
                _rename(names, change)
        for path in sorted(names):
            place = to / os.path.relpath(path, self.root)
            node = names[path]
            if node is None:
                place.mkdir(mode=0o700, exist_ok=True)
            elif place.parent.is_dir() and not path.endswith(tuple(exclude)):
                place.write_bytes(node.survived(rng))
                place.chmod(0o600)

    def _file(self, record: Record) -> File:
        file = self._files.get(record.inode)
        if file is None:
            file = self._files[record.inode] = File(implicit=True)
        return file

    def _create(self, record: Record) -> None:
        known = self._files.get(record.inode)
        if known is None or not known.implicit:
            known = self._files[record.inode] = File()
        known.implicit = False
        self._change(record.path, [(record.path, known, True)])

    def _synced(self, record: Record) -> None:
        for one, total in self._syncs.pop(record.token, []):
            if isinstance(one, Names):
                one.settle(total, self._names)
            else:
                one.settle(total)

    def _rename(self, record: Record) -> None:
        node = self._now.get(record.path)
        if record.kind in (Kind.UNLINK, Kind.RMDIR):
            self._change(record.path, [(record.path, node, False)])
        elif record.kind is Kind.MKDIR:
            self._change(record.path, [(record.path, None, True)])
        else:
            if node is None and record.path in self._now:
                raise ValueError(f"a folder gets another name: {record.path}")
            node = node or File()  # written by means that are not recorded
            gone = [(record.path, node, False)] if record.kind is Kind.RENAME else []
            self._change(record.other, [(record.other, node, True), *gone])

    def _change(self, path: str, change: Change) -> None:
        folder = os.path.dirname(path)  # noqa: PTH120
        self._changes.setdefault(folder, Names()).pending.append(change)
        _rename(self._now, change)


def _rename(names: dict[str, Node], change: Change) -> None:
    for path, node, there in change:
        if there:
            names[path] = node
        else:
            names.pop(path, None)


@dataclass(frozen=True)
class Cut:
    """One moment at which the power goes."""

    disk: Disk
    rng: random.Random
    exclude: tuple[str, ...]
    position: int
    """How many records came before."""

    def build(self, to: Path) -> None:
        """The folder as it would be found: `to` is made, or must be empty."""
        to.mkdir(exist_ok=True)
        self.disk.build(to, self.rng, self.exclude)

    def witness(self) -> Sequence[bytes]:
        """What was promised by then: the lines of all witnesses."""
        return self.disk.witness


class Recording:
    """What processes do to a folder from now on: `environment` is what they need of theirs."""

    def __init__(self, library: Path, folder: Path, log: Path, sync_us: int) -> None:
        self._folder = folder.resolve()
        self._disk = Disk(self._folder)
        self._log = log
        log.write_bytes(b"")
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "POWERCUT_DIR": str(self._folder),
            "POWERCUT_LOG": str(log.resolve()),
            "POWERCUT_SYNC_US": str(sync_us),
        }

    def cuts(
        self, count: int, rng: random.Random, exclude: Sequence[str] = (), *, early: int = 0
    ) -> Iterator[Cut]:
        """So many moments, in their order, once the processes are dead: the last of all, `early`
        ones among the first hundred records, the others anywhere. Each is to be built before the
        next one is asked for. Once only."""
        records = list(parse(self._log.read_bytes()))
        places = [len(records)]
        places += [rng.randint(0, min(100, len(records))) for _ in range(early)]
        places += [rng.randint(0, len(records)) for _ in range(count - early - 1)]
        done = 0
        for place in sorted(places):
            for record in records[done:place]:
                self._disk.act(record)
            done = place
            yield Cut(self._disk, rng, tuple(exclude), place)


class Recorder:
    """The library to preload, compiled. Needs a C compiler: `require("cc")`."""

    def __init__(self, folder: Path) -> None:
        """Compile it into `folder`."""
        self._library = folder / "powercut.so"
        compile = ["cc", "-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE)]
        subprocess.run(compile, check=True, timeout=60)

    def recording(self, folder: Path, log: Path, *, sync_us: int = 800) -> Recording:
        """Begin: what is below `folder` counts as synced. `log`, outside of it, is emptied. A sync
        takes up to `sync_us`; no device is asked."""
        return Recording(self._library, folder, log, sync_us)
