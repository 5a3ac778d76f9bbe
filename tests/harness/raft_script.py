"""Raft scenarios as text: commands, and below each what the members did.

    campaign 1
    ----
    1 PRE_CANDIDATE term=0
    1->2 PRE_VOTE term=1 last=0/0

A world is a few real cores, a bag of messages under way, and disks that write at once until told
`disk N slow`. Nothing happens that no command asks for. Commands (N and M are members):

    cluster K [key=value ...]       K voters 1..K, not booted (max_batch_entries=..., learners=...)
    disk-of N [log=1,1,2] [term=T] [vote=M] [snapshot=INDEX/TERM] [commit=C] [voteless]
    boot N ... | crash N ...        start from the disk | lose memory and what is not written
    campaign N                      its election timer fires
    elect N                         the same, and everybody's messages until all is quiet
    wait S [N ...]                  S seconds pass (for all, or for these), no timer fires
    tick N ...                      its timer is due if its clock says so
    beat N                          its heartbeat is due
    resume N                        woken from a pause
    propose N A B ...               commands with this data, in one turn
    read N C ...                    read barriers with these contexts
    deliver [N->M ...] [KIND ...]   what is under way: all, or of these links, or kinds; once each
    drop [N->M ...] [KIND ...]      lose it
    repeat [N->M ...] [KIND ...]    deliver it, and leave a copy under way
    settle                          deliver and write until all is quiet
    disk N slow|fast                its writes wait for `write` | are done at once
    write N [COUNT]                 COUNT writes (all) become durable
    stall N                         its driver notices that the disk does not answer
    transfer N M                    hand leadership over
    compact N INDEX KEEP            a snapshot at INDEX is durable; keep the log from KEEP on
    streamed N M ok|failed          its driver streamed a snapshot to M
    installed N                     its driver has installed the snapshot
    unreachable N M                 its driver lost messages to M
    status [N ...] | log [N ...]    print
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from callboard.raft import (
    Config,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    InitialState,
    Message,
    MessageKind,
    Raft,
    RaftError,
    Ready,
    Role,
    SnapshotMetadata,
)


class Even(random.Random):
    """Every election timeout is 1.5 of the setting."""

    def random(self) -> float:
        return 0.5


@dataclass(slots=True)
class Disk:
    """What a member has durably, and what it waits for."""

    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMetadata | None = None
    entries: list[Entry] = field(default_factory=list)
    commit: int = 0
    voteless: bool = False
    slow: bool = False
    waiting: deque[Ready] = field(default_factory=deque)

    def write(self, ready: Ready) -> None:
        """The writes of one Ready are durable."""
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.entries:
            first = ready.entries[0].index
            self.entries = [entry for entry in self.entries if entry.index < first]
            self.entries.extend(ready.entries)


class Script:
    """One world; `run(line)` does one command and returns what happened."""

    def __init__(self) -> None:
        self.rafts: dict[str, Raft] = {}
        self.disks: dict[str, Disk] = {}
        self.clocks: dict[str, float] = {}
        self.bag: list[Message] = []
        self._roles: dict[str, tuple[Role, int]] = {}
        self._out: list[str] = []
        self._configuration = Configuration()
        self._settings: dict[str, int] = {}

    def run(self, line: str) -> str:
        """Do one command; a RaftError is part of the story."""
        name, *words = line.split()
        command: Callable[..., None] = getattr(self, "do_" + name.replace("-", "_"))
        self._out = []
        try:
            command(*words)
        except RaftError as problem:
            self._out.append(f"! {type(problem).__name__}: {problem}")
        return "\n".join(self._out) or "ok"

    def say(self, line: str) -> None:
        """One more line of the story."""
        self._out.append(line)

    # the world ----------------------------------------------------------------------------
    def do_cluster(self, size: str, *settings: str) -> None:
        values = dict(setting.split("=") for setting in settings)
        learners = tuple(values.pop("learners", "").split(",")) if "learners" in values else ()
        voters = tuple(str(number) for number in range(1, int(size) + 1))
        self._configuration = Configuration(voters, learners)
        self._settings = {name: int(value) for name, value in values.items()}
        for name in (*voters, *learners):
            self.disks[name] = Disk()
            self.clocks[name] = 0.0

    def do_disk_of(self, name: str, *words: str) -> None:
        disk = self.disks[name]
        values = dict(word.split("=") for word in words if "=" in word)
        disk.voteless = "voteless" in words
        if "snapshot" in values:
            index, term = map(int, values["snapshot"].split("/"))
            disk.snapshot = SnapshotMetadata(index, term, self._configuration)
        first = disk.snapshot.index + 1 if disk.snapshot else 1
        terms = [int(term) for term in values.get("log", "").split(",") if term]
        disk.entries = [
            Entry(index, term, EntryKind.NORMAL, b"%d.%d" % (index, term))
            for index, term in enumerate(terms, first)
        ]
        disk.hard_state = HardState(
            int(values.get("term", max(terms, default=0))), values.get("vote", "")
        )
        disk.commit = int(values.get("commit", 0))

    def do_boot(self, *names: str) -> None:
        for name in names or self.disks:
            disk = self.disks[name]
            self.rafts[name] = Raft(
                Config(name, may_vote=not disk.voteless, **self._settings),
                InitialState(
                    hard_state=disk.hard_state,
                    configuration=self._configuration,
                    snapshot=disk.snapshot,
                    entries=list(disk.entries),
                    known_commit=disk.commit,
                ),
                now=self.clocks[name],
                rng=Even(),
            )
            self._roles[name] = (Role.FOLLOWER, disk.hard_state.term)
            self._pump(name)

    def do_crash(self, *names: str) -> None:
        for name in names:
            del self.rafts[name]
            self.disks[name].waiting.clear()

    def do_disk(self, name: str, speed: str) -> None:
        self.disks[name].slow = speed == "slow"

    def do_write(self, name: str, count: str = "1000") -> None:
        waiting = self.disks[name].waiting
        for _ in range(min(int(count), len(waiting))):
            self._durable(name, waiting.popleft())
        self._pump(name)

    # time ---------------------------------------------------------------------------------
    def do_campaign(self, name: str) -> None:
        self._tick_at_deadline(name)

    def do_elect(self, name: str) -> None:
        for other, clock in self.clocks.items():
            self.clocks[other] = clock + 0.5
        self._tick_at_deadline(name)
        out, self._out = self._out, []
        self.do_settle()
        self._out = [*[line for line in out if "->" not in line], *self._role_lines()]

    def _role_lines(self) -> list[str]:
        return [line for line in self._out if line.split()[1] in Role.__members__]

    def do_beat(self, name: str) -> None:
        self._tick_at_deadline(name)

    def _tick_at_deadline(self, name: str) -> None:
        raft = self.rafts[name]
        self.clocks[name] = max(self.clocks[name], raft.deadline())
        self.do_tick(name)

    def do_wait(self, seconds: str, *names: str) -> None:
        for name in names or self.clocks:
            self.clocks[name] += float(seconds)

    def do_tick(self, *names: str) -> None:
        for name in names:
            self.rafts[name].tick(self.clocks[name])
            self._pump(name)

    def do_resume(self, name: str) -> None:
        self.rafts[name].resume(self.clocks[name])
        self._pump(name)

    # clients and drivers --------------------------------------------------------------------
    def do_propose(self, name: str, *data: str) -> None:
        self.rafts[name].propose([each.encode() for each in data], self.clocks[name])
        self._pump(name)

    def do_read(self, name: str, *contexts: str) -> None:
        for context in contexts:
            self.rafts[name].read_index(int(context), self.clocks[name])
        self._pump(name)

    def do_stall(self, name: str) -> None:
        self.rafts[name].disk_stalled(self.clocks[name])
        self._pump(name)

    def do_transfer(self, name: str, to: str) -> None:
        self.rafts[name].transfer_leadership(to, self.clocks[name])
        self._pump(name)

    def do_compact(self, name: str, index: str, keep_from: str) -> None:
        raft, disk = self.rafts[name], self.disks[name]
        term = raft.log.term(int(index))
        assert term is not None
        metadata = SnapshotMetadata(int(index), term, self._configuration)
        disk.snapshot = metadata
        first = raft.compact(metadata, int(keep_from))
        disk.entries = [entry for entry in disk.entries if entry.index >= first]
        self.say(f"{name} keeps the log from {first}")
        self._pump(name)

    def do_streamed(self, name: str, to: str, outcome: str) -> None:
        self.rafts[name].report_snapshot(to, outcome == "ok")
        self._pump(name)

    def do_unreachable(self, name: str, to: str) -> None:
        self.rafts[name].report_unreachable(to)
        self._pump(name)

    def do_installed(self, name: str) -> None:
        raft, disk = self.rafts[name], self.disks[name]
        assert raft.installing is not None
        disk.snapshot, disk.entries = raft.installing, []
        raft.snapshot_installed(raft.installing)
        self._pump(name)

    # the network ----------------------------------------------------------------------------
    def _take(self, words: Iterable[str]) -> list[Message]:
        links = {word for word in words if "->" in word}
        kinds = {MessageKind[word] for word in words if "->" not in word}
        taken = [
            message
            for message in self.bag
            if (not links or f"{message.sender}->{message.receiver}" in links)
            and (not kinds or message.kind in kinds)
        ]
        self.bag = [message for message in self.bag if message not in taken]
        return taken

    def do_deliver(self, *words: str) -> None:
        taken = self._take(words)
        for message in taken:
            self._step(message)
        for name in sorted({message.receiver for message in taken} & self.rafts.keys()):
            self._pump(name)

    def do_repeat(self, *words: str) -> None:
        taken = self._take(words)
        self.bag.extend(taken)
        for message in taken:
            self._step(message)
            self._pump(message.receiver)

    def do_drop(self, *words: str) -> None:
        for message in self._take(words):
            self.say(f"lost {show(message)}")

    def do_settle(self) -> None:
        for _ in range(1000):
            for name in self.rafts:
                self.do_write(name)
            if not self.bag:
                return
            self.do_deliver()
        raise AssertionError("never quiet")

    def _step(self, message: Message) -> None:
        raft = self.rafts.get(message.receiver)
        if raft is None:
            return
        before = raft.dropped.copy()
        raft.step(message, self.clocks[message.receiver])
        for reason in raft.dropped - before:
            self.say(f"{message.receiver} ignores {show(message)}: {reason}")

    # the driver -----------------------------------------------------------------------------
    def _pump(self, name: str) -> None:
        raft = self.rafts.get(name)
        while raft is not None:
            ready = raft.ready()
            if (raft.role, raft.term) != self._roles[name]:
                self._roles[name] = (raft.role, raft.term)
                self.say(f"{name} {raft.role.name} term={raft.term}")
            if ready is None:
                return
            self._handle(name, raft, ready)

    def _handle(self, name: str, raft: Raft, ready: Ready) -> None:
        disk = self.disks[name]
        if ready.must_persist:
            self.say(f"{name} writes {written(ready)}")
        self._post(ready.messages)
        if ready.install is not None:
            self.say(f"{name} installs snapshot {ready.install.index}/{ready.install.term}")
        if ready.must_persist or (ready.after_persist and disk.waiting):
            disk.waiting.append(ready)
            if not disk.slow:
                while disk.waiting:
                    self._durable(name, disk.waiting.popleft())
        else:
            self._post(ready.after_persist)
        if ready.committed:
            self.say(f"{name} applies {' '.join(map(entry_text, ready.committed))}")
            raft.applied_to(ready.committed[-1].index)
        for state in ready.read_states:
            self.say(f"{name} may answer read {state.context} at {state.index}")
        for context in ready.reads_dropped:
            self.say(f"{name} drops read {context}")

    def _durable(self, name: str, ready: Ready) -> None:
        self.disks[name].write(ready)
        self._post(ready.after_persist)
        if ready.must_persist:
            self.rafts[name].persisted(ready.index, ready.term, ready.number)

    def _post(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.say(show(message))
            self.bag.append(message)

    # printing -------------------------------------------------------------------------------
    def do_status(self, *names: str) -> None:
        for name in names or sorted(self.rafts):
            raft = self.rafts[name]
            self.say(
                f"{name} {raft.role.name} term={raft.term} vote={raft.vote or '-'}"
                f" leader={raft.leader or '-'} commit={raft.commit} last={raft.last_index}"
                f" stable={raft.stable_index}{' voteless' if raft.voteless else ''}"
            )
            for member, progress in sorted(raft.progress.items()):
                self.say(f"  {member}: {progress!r}")

    def do_log(self, *names: str) -> None:
        for name in names or sorted(self.rafts):
            log = self.rafts[name].log
            entries = log.slice(log.offset + 1, log.last_index)
            self.say(
                f"{name} after {log.offset}/{log.offset_term}: {' '.join(map(entry_text, entries))}"
            )


def entry_text(entry: Entry) -> str:
    """index/term and what it says."""
    said = entry.data.decode() if entry.kind is EntryKind.NORMAL else entry.kind.name
    return f"{entry.index}/{entry.term}:{said}"


def written(ready: Ready) -> str:
    """What a Ready asks to be written."""
    parts = []
    if ready.hard_state is not None:
        parts.append(f"term={ready.hard_state.term} vote={ready.hard_state.vote or '-'}")
    parts.extend(map(entry_text, ready.entries))
    return " ".join(parts)


def show(message: Message) -> str:
    """A message in one line: what matters for its kind."""
    kind = message.kind
    parts = [f"{message.sender}->{message.receiver} {kind.name} term={message.term}"]
    if kind in (MessageKind.PRE_VOTE, MessageKind.REQUEST_VOTE):
        parts.append(f"last={message.index}/{message.log_term}")
    elif kind is MessageKind.APPEND:
        parts.append(f"after={message.index}/{message.log_term} commit={message.commit}")
        parts.append(" ".join(map(entry_text, message.entries)) or "empty")
    elif kind is MessageKind.HEARTBEAT:
        parts.append(f"commit={message.commit} round={message.context}")
    elif kind is MessageKind.HEARTBEAT_RESPONSE:
        parts.append(f"round={message.context}")
    elif kind is MessageKind.SNAPSHOT and message.snapshot is not None:
        parts.append(f"snapshot={message.snapshot.index}/{message.snapshot.term}")
    elif kind is MessageKind.APPEND_RESPONSE and not message.reject:
        parts.append(f"holds={message.index}")
    if message.reject:
        parts.append("REJECTS")
        if kind is MessageKind.APPEND_RESPONSE:
            parts.append(f"{message.index} hint={message.reject_hint}/{message.log_term}")
    parts.extend(flag for flag in ("force", "voteless") if getattr(message, flag))
    return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a scenario, with the comments before it and what is expected."""

    comments: tuple[str, ...]
    command: str
    expected: str


def parse(text: str) -> list[Step]:
    """A scenario's steps: comments, a command, `----`, the story up to an empty line."""
    steps = []
    for block in text.strip().split("\n\n"):
        head, _, expected = block.partition("\n----\n")
        lines = head.splitlines()
        comments = tuple(line for line in lines if line.startswith("#"))
        commands = [line for line in lines if not line.startswith("#")]
        for number, command in enumerate(commands):
            last = number == len(commands) - 1
            steps.append(Step(comments if not number else (), command, expected if last else ""))
        if not commands:
            steps.append(Step(comments, "", ""))
    return steps


def play(path: Path) -> str:
    """The scenario as it went: equal to the file's text if all was as expected."""
    script = Script()
    blocks = []
    for step in parse(path.read_text()):
        lines = list(step.comments)
        if step.command:
            lines += [step.command, "----", script.run(step.command)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"
