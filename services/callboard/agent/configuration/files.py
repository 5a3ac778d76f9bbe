"""Read configuration files, check their keys against the table, and merge them.

Scalars of a later file win, lists are appended, maps are merged: Consul's rules. A document's
services and checks are kept apart, with the file they came from, for `definitions`. HCL is refused
by name. What the values mean is in `assemble`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callboard.agent.configuration.keys import GROUPS, KEYS, Key, Kind
from callboard.catalog.durations import DurationError, parse_duration

FILE_BYTES_MAX = 16 * 1024 * 1024
"""Longest configuration file."""

NANOSECONDS = 1e9

Value = str | bool | int | float | tuple[str, ...] | dict[str, str] | dict[str, float]

_DEFINITIONS = (Kind.DEFINITION, Kind.DEFINITIONS)


class ConfigurationError(ValueError):
    """The agent must not start (or reload) so; the text names the file or flag, and the key."""


@dataclass(slots=True)
class Merged:
    """All files together."""

    values: dict[str, Value] = field(default_factory=dict)
    """By key path; durations are seconds."""
    idle: list[tuple[str, str]] = field(default_factory=list)
    """(file, key) of what was accepted and has no effect yet."""
    definitions: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    """(file, its service, services, check and checks keys)."""
    files: list[Path] = field(default_factory=list)
    directories: list[Path] = field(default_factory=list)


def read(sources: Iterable[Path]) -> Merged:
    """Read files and directories in their order. Raises ConfigurationError."""
    merged = Merged()
    for source in sources:
        if source.is_dir():
            merged.directories.append(source)
            paths = _files_of(source)
        else:
            merged.files.append(source)
            paths = [source]
        for path in paths:
            merge(merged, str(path), load(path))
    return merged


def _files_of(directory: Path) -> list[Path]:
    """The .json and .hcl files of a directory, sorted by name; others are left alone."""
    try:
        names = sorted(directory.iterdir())
    except OSError as problem:
        raise ConfigurationError(f"{directory}: {_reason(problem)}") from problem
    return [path for path in names if path.suffix in (".json", ".hcl") and path.is_file()]


def load(path: Path) -> dict[str, object]:
    """The object in one file. Raises ConfigurationError naming it."""
    if path.suffix == ".hcl":
        raise ConfigurationError(f"{path}: HCL is not read yet: write it as JSON")
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigurationError(f"{path}: longer than {FILE_BYTES_MAX} bytes")
        text = path.read_text("utf-8-sig")
    except OSError as problem:
        raise ConfigurationError(f"{path}: {_reason(problem)}") from problem
    except UnicodeDecodeError as problem:
        raise ConfigurationError(f"{path}: not UTF-8 at byte {problem.start}") from problem
    return parse(str(path), text)


def parse(source: str, text: str) -> dict[str, object]:
    """The object in a JSON text; `source` names it in errors."""
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except json.JSONDecodeError as problem:
        where = f"line {problem.lineno}, column {problem.colno}"
        raise ConfigurationError(f"{source}: invalid JSON at {where}: {problem.msg}") from problem
    except RecursionError as problem:
        raise ConfigurationError(f"{source}: invalid JSON: nested too deeply") from problem
    if not isinstance(document, dict):
        raise ConfigurationError(f"{source}: must hold a JSON object, not {_type(document)}")
    return document


def merge(merged: Merged, source: str, document: Mapping[str, object]) -> None:
    """Add one document to what was read before."""
    definitions: dict[str, object] = {}
    for path, value in _flatten(source, document, ""):
        key = KEYS[path]
        if value is None:
            continue
        if key.kind in _DEFINITIONS:
            definitions[path] = value
        elif not key.effect:
            merged.idle.append((source, path))
            if key.kind is not Kind.ANYTHING:
                convert(source, key, value)
        else:
            put(merged.values, path, convert(source, key, value))
    if definitions:
        merged.definitions.append((source, definitions))


def put(values: dict[str, Value], path: str, value: Value) -> None:
    """Set a value: lists are appended, maps merged, anything else replaced."""
    known = values.get(path)
    if isinstance(value, tuple) and isinstance(known, tuple):
        values[path] = known + value
    elif isinstance(value, dict) and isinstance(known, dict):
        values[path] = {**known, **value}  # type: ignore[assignment]  # one kind per path
    else:
        values[path] = value


def _flatten(
    source: str, document: Mapping[str, object], prefix: str
) -> Iterable[tuple[str, object]]:
    """(path, value) of every key; blocks are entered. Raises for an unknown key."""
    for name, value in document.items():
        path = prefix + name
        if "." in name:
            raise ConfigurationError(f"{source}: invalid config key {path}")
        if path in GROUPS:
            if value is None:
                continue
            if not isinstance(value, dict):
                raise ConfigurationError(f"{source}: {path}: expected a block, got {_type(value)}")
            yield from _flatten(source, value, path + ".")
        elif path in KEYS:
            yield path, value
        else:
            raise ConfigurationError(f"{source}: invalid config key {path}")


def convert(source: str, key: Key, value: object) -> Value:
    """A JSON value as its key's type, with the liberties Consul takes: a number or boolean in
    quotes, a list of one without its brackets. Raises ConfigurationError."""
    converted = _convert(key.kind, value)
    if converted is None:
        raise ConfigurationError(
            f"{source}: {key.path}: expected {key.kind.value}, got {_show(value)}"
        )
    return converted


def _convert(kind: Kind, value: object) -> Value | None:
    if kind is Kind.TEXT:
        return value if isinstance(value, str) else None
    if kind is Kind.BOOL:
        return _boolean(value)
    if kind is Kind.INT:
        return _integer(value)
    if kind is Kind.DURATION:
        return _seconds(value)
    if kind is Kind.LIST:
        return _texts(value)
    return _mapping(kind, value)


def _boolean(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _integer(value: object) -> int | None:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < 1 << 63 else None


def _seconds(value: object) -> float | None:
    """Of a Go duration, or of nanoseconds."""
    if isinstance(value, str):
        try:
            return parse_duration(value) / NANOSECONDS
        except DurationError:
            return None
    number = _integer(value)
    return None if number is None else number / NANOSECONDS


def _texts(value: object) -> tuple[str, ...] | None:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    return tuple(words)


def _mapping(kind: Kind, value: object) -> dict[str, str] | dict[str, float] | None:
    if not isinstance(value, dict):
        return None
    if kind is Kind.MAP:
        return dict(value) if all(isinstance(word, str) for word in value.values()) else None
    seconds = {name: _seconds(word) for name, word in value.items()}
    found = {name: number for name, number in seconds.items() if number is not None}
    return found if len(found) == len(seconds) else None


def _type(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}
    return names.get(type(value), "number")


def _show(value: object) -> str:
    if isinstance(value, str | bool | int | float):
        return f"{_type(value)} {json.dumps(value)[:100]}"
    return _type(value)


def _reason(problem: OSError) -> str:
    return (problem.strerror or str(problem)).lower()
