"""docs/wire-formats.md says what the code does: its tables and examples against the code.

A comment before each table says what it shows: `<!-- fields: raft.messages.Entry -->`. Names are
below `callboard`. Prose is for people; numbers, names and their order are checked here.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from importlib import import_module
from typing import Any

import msgspec
import pytest
from tests.harness.sources import ROOT

from callboard.agent import feed_over_rpc, node_state
from callboard.agent.consensus import records, serving
from callboard.agent.http import forward
from callboard.agent.membership.tags import AgentTags
from callboard.agent.rpc import wire as rpc
from callboard.catalog import commands
from callboard.feed import wire as feed
from callboard.hub.history import postgres_schema, schema

DOCUMENT = "docs/wire-formats.md"
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1}
NODE_ID = "11111111-1111-4111-8111-111111111111"


@dataclass(frozen=True, slots=True)
class Shown:
    """A table or an example: what its comment says, and its rows or lines."""

    kind: str
    subject: str
    rows: tuple[tuple[str, ...], ...]
    code: str

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}".strip()


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip().strip("`") for cell in line.strip().strip("|").split("|"))


@cache
def shown() -> tuple[Shown, ...]:
    """Return everything in the document that a comment announces."""
    text = (ROOT / DOCUMENT).read_text("utf-8")
    found = re.findall(
        r"^<!-- (\w+)(?:: ([\w.]+))? -->\n\n((?:\|.*\n)*)(?:```text\n((?:[0-9a-f].*\n)*)```)?",
        text,
        re.M,
    )
    return tuple(
        Shown(kind, subject, tuple(_cells(line) for line in table.splitlines()[2:]), code)
        for kind, subject, table, code in found
    )


def of_kind(kind: str) -> list[Shown]:
    """Return the tables of one kind."""
    return [each for each in shown() if each.kind == kind]


def only(kind: str) -> Shown:
    """Return the one table of a kind."""
    (one,) = of_kind(kind)
    return one


def find(dotted: str) -> Any:
    """Return what a name below `callboard` stands for."""
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(f"callboard.{module}"), name)


def names_of(kind: type) -> list[str]:
    """Return the names of a structure's fields as they are encoded, in order."""
    if is_dataclass(kind):
        return [field.name for field in fields(kind)]
    assert issubclass(kind, msgspec.Struct)
    return list(kind.__struct_encode_fields__)


def number(text: str) -> float:
    """Return the value of `16 MiB`, `4096` or `5 s`."""
    digits, _, unit = text.partition(" ")
    return float(digits) * UNITS[unit] if unit else int(digits)


def octets(code: str) -> bytes:
    """Return the bytes of a dump."""
    return bytes.fromhex("".join(line[8:55] for line in code.splitlines()))


def test_every_comment_announces_something() -> None:
    assert len(shown()) == (ROOT / DOCUMENT).read_text("utf-8").count("<!--")
    assert not [str(each) for each in shown() if not each.rows and not each.code]


@pytest.mark.parametrize("table", of_kind("enumeration"), ids=str)
def test_an_enumeration_is_told_whole(table: Shown) -> None:
    enumeration: type[IntEnum] = find(table.subject)
    told = {name: int(value) for value, name, *_ in table.rows}
    assert told == {member.name: int(member) for member in enumeration}


@pytest.mark.parametrize("table", of_kind("fields"), ids=str)
def test_fields_are_told_in_their_order(table: Shown) -> None:
    assert [row[0] for row in table.rows] == names_of(find(table.subject))


def _constants() -> Iterator[tuple[str, str]]:
    yield from ((constant, value) for _, value, constant in only("formats").rows)
    for table in of_kind("limits"):
        yield from ((constant, value) for constant, value, _ in table.rows)


@pytest.mark.parametrize(("constant", "value"), list(_constants()))
def test_a_number_is_the_codes(constant: str, value: str) -> None:
    assert number(value) == find(constant)


def test_commands_are_told_whole() -> None:
    told = {name: (int(value), of) for value, name, of, _ in only("commands").rows}
    assert told == {
        kind.__name__: (value, "`, `".join(names_of(kind)))
        for kind, value in commands.NUMBERS.items()
    }


def test_channels_are_told_whole() -> None:
    told = {name: number(longest) for name, longest, _ in only("channels").rows}
    assert told == {str(channel): limit for channel, limit in rpc.FRAME_BYTES_MAX.items()}


def test_methods_are_told_whole() -> None:
    class Registered:
        """A server that only notes the methods' names."""

        def __init__(self) -> None:
            self.names: set[str] = set()

        def register(self, method: str, handler: object, *, servers_only: bool = False) -> None:
            """Note the name."""
            self.names.add(method)

    class Driver:
        """A driver of which only a method is handed on."""

        promise = None

    server: Any = Registered()
    driver: Any = Driver()
    serving.ConsensusService(driver).register(server)
    served = server.names | {node_state.METHOD, forward.METHOD, feed_over_rpc.METHOD}
    assert {row[0] for row in only("methods").rows} == served


def test_frames_of_the_feed_are_told_whole() -> None:
    kinds = (feed.Hello, feed.Records, feed.End, feed.Delta, feed.Heartbeat, feed.Members)
    assert set(kinds) == set(feed.Frame.__args__)
    told = {name: (int(value), of) for value, name, of in only("frames").rows}
    assert told == {
        kind.__name__: (kind.__struct_config__.tag, "`, `".join(names_of(kind))) for kind in kinds
    }


def columns(subject: str) -> dict[str, str]:
    """Return what is told of a database: each table's columns."""
    (one,) = (each for each in of_kind("columns") if each.subject == subject)
    return {table: told for table, told, _ in one.rows}


def test_the_tables_in_sqlite_are_told_whole() -> None:
    with closing(sqlite3.connect(":memory:")) as made:
        schema.prepare(made)
        tables = [
            name
            for (name,) in made.execute(
                "SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE TABLE%'"
            )
        ]
        found = {
            table: "`, `".join(row[1] for row in made.execute(f"PRAGMA table_info({table})"))
            for table in tables
        }
    assert columns("hub.history.schema") == found


def test_the_tables_in_postgresql_are_told_whole() -> None:
    tables = re.findall(
        r"CREATE TABLE callboard_hub\.(\w+) \(\n(.*?)\n\)", postgres_schema.CREATE, re.DOTALL
    )
    found = {
        table: "`, `".join(re.findall(r'^    "?([a-z]\w*)', body, re.MULTILINE))
        for table, body in tables
    }
    assert columns("hub.history.postgres_schema") == found


def test_tags_are_told_whole() -> None:
    lone = AgentTags(NODE_ID, "dc1", server=True, rpc_port=8300, bootstrap=True)
    founder = AgentTags(NODE_ID, "dc1", server=True, rpc_port=8300, expect=3)
    assert {row[0] for row in only("tags").rows} == set(lone.to_wire()) | set(founder.to_wire())


def test_the_example_of_a_segment_is_one() -> None:
    (example,) = (each for each in of_kind("example") if each.subject == "segment")
    data = octets(example.code)
    header = records.decode_header(data, "example")
    found = records.scan(data, header.seed, "example")
    assert found.end == len(data)
    again = header.encode()
    for offset, record in found.records:
        assert offset == len(again)
        again += records.encode_record(record, offset, header.seed)
    assert again == data
    _, batch = found.records[-1]
    assert isinstance(batch, records.Batch)
    assert commands.decode_command(batch.entries[-1].data) == commands.KeyValueSet("a", b"b")


def test_the_example_of_a_hello_is_what_an_agent_says() -> None:
    (example,) = (each for each in of_kind("example") if each.subject == "hello")
    hello = rpc.hello_of(rpc.LocalMember(NODE_ID, "agent-1", "dc1"), rpc.Channel.HEARTBEAT)
    said = rpc.MAGIC + rpc.encode_frame(rpc.FrameKind.HELLO, rpc.ENCODER.encode(hello))
    assert octets(example.code) == said
