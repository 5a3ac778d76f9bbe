"""Command line flags with the semantics of Go's flag package, which Consul's tools expect.

One dash or two, `-x=v` or `-x v`; a boolean takes its value only after `=`; a list flag may be
repeated; parsing stops at the first word that is no flag, and at `--`. Errors carry Go's texts.
argparse knows none of this (it would also accept prefixes, which Go refuses).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class FlagError(Exception):
    """The command line cannot be read; str() is Go's text."""


class HelpRequested(Exception):
    """-h or -help was given."""


class Kind(Enum):
    """What a flag's value is."""

    TEXT = "string"
    BOOL = "bool"
    INT = "int"
    LIST = "value, may be repeated"
    OPTIONAL = "optional bool"
    """True or False when given, None when not (for settings that files may give too)."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag a command knows."""

    name: str
    """Without dashes: "retry-join"."""
    kind: Kind
    help: str
    default: str | bool | int | None = None
    """Answered when the flag is not given; a LIST defaults to ()."""


def text(name: str, help: str, default: str = "") -> Flag:
    """A flag that takes a word."""
    return Flag(name, Kind.TEXT, help, default)


def switch(name: str, help: str, default: bool = False) -> Flag:
    """A boolean flag: bare, or with =true or =false."""
    return Flag(name, Kind.BOOL, help, default)


def number(name: str, help: str, default: int = 0) -> Flag:
    """A flag that takes an integer (decimal, 0x, 0o, 0b)."""
    return Flag(name, Kind.INT, help, default)


def repeated(name: str, help: str) -> Flag:
    """A flag that may be given several times; its values keep their order."""
    return Flag(name, Kind.LIST, help)


class Parsed:
    """What a command line said. Asking for a flag the set does not have is a KeyError."""

    def __init__(self, flags: Mapping[str, Flag]) -> None:
        self._flags = flags
        self._values: dict[str, list[str | bool | int]] = {}
        self._sequence: list[tuple[str, str | bool | int]] = []
        self.args: tuple[str, ...] = ()
        """The words after the flags."""

    @property
    def known(self) -> frozenset[str]:
        """The names of all flags of the set."""
        return frozenset(self._flags)

    def given(self, name: str) -> bool:
        """Whether the flag stood on the command line."""
        return self._flags[name].name in self._values

    def text(self, name: str) -> str:
        """The last value of a text flag; "" when it has neither value nor default."""
        return str(self._last(name) or "")

    def switch(self, name: str) -> bool:
        """The last value of a boolean flag."""
        return bool(self._last(name))

    def number(self, name: str) -> int:
        """The last value of an integer flag."""
        return int(self._last(name) or 0)

    def values(self, name: str) -> tuple[str, ...]:
        """All values of a repeated flag, in order."""
        return tuple(str(value) for value in self._values.get(self._flags[name].name, ()))

    def in_order(self, *names: str) -> tuple[tuple[str, str], ...]:
        """(flag, value) of these flags, in the order of the command line."""
        return tuple((name, str(value)) for name, value in self._sequence if name in names)

    def _last(self, name: str) -> str | bool | int | None:
        values = self._values.get(name)
        return values[-1] if values else self._flags[name].default

    def _add(self, name: str, value: str | bool | int) -> None:
        self._values.setdefault(name, []).append(value)
        self._sequence.append((name, value))


class FlagSet:
    """The flags of one command."""

    def __init__(self, usage: str, flags: Iterable[Flag]) -> None:
        """`usage` is the text above the list of flags: "Usage: callboard members [options]"."""
        self.usage = usage
        self.flags: dict[str, Flag] = {flag.name: flag for flag in flags}

    def parse(self, argv: Sequence[str]) -> Parsed:
        """Read a command line. Raises FlagError with Go's text, HelpRequested for -h."""
        parsed = Parsed(self.flags)
        words = list(argv)
        while words and len(words[0]) > 1 and words[0].startswith("-"):
            word = words.pop(0)
            if word == "--":
                break
            name, equals, value = self._split(word)
            flag = self._known(name)
            if flag.kind in (Kind.BOOL, Kind.OPTIONAL):
                parsed._add(name, _boolean(value if equals else "true", name))
                continue
            if not equals:
                if not words:
                    raise FlagError(f"flag needs an argument: -{name}")
                value = words.pop(0)
            parsed._add(name, _integer(value, name) if flag.kind is Kind.INT else value)
        parsed.args = tuple(words)
        return parsed

    def help(self) -> str:
        """The usage text and every flag with its help, as `-h` prints it."""
        lines = [self.usage.strip(), ""]
        for flag in sorted(self.flags.values(), key=lambda flag: flag.name):
            word = "" if flag.kind in (Kind.BOOL, Kind.OPTIONAL) else f"=<{flag.kind.value}>"
            lines += [f"  -{flag.name}{word}", f"     {flag.help}"]
        return "\n".join(lines)

    def _split(self, word: str) -> tuple[str, str, str]:
        """(name, "=" or "", value) of one word that begins with a dash."""
        body = word[2:] if word.startswith("--") else word[1:]
        if not body or body[0] in "-=":
            raise FlagError(f"bad flag syntax: {word}")
        return body.partition("=")

    def _known(self, name: str) -> Flag:
        flag = self.flags.get(name)
        if flag is not None:
            return flag
        if name in ("h", "help"):
            raise HelpRequested
        raise FlagError(f"flag provided but not defined: -{name}")


def _boolean(value: str, name: str) -> bool:
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise FlagError(f'invalid boolean value "{value}" for -{name}: parse error')


def _integer(value: str, name: str) -> int:
    try:
        number = int(value, 0)
    except ValueError:
        raise FlagError(f'invalid value "{value}" for flag -{name}: parse error') from None
    if not -(1 << 63) <= number < 1 << 63:
        raise FlagError(f'invalid value "{value}" for flag -{name}: value out of range')
    return number
