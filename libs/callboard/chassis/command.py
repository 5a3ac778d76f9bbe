"""The `callboard` command: finds a verb by its entry point and runs it.

A verb is a module named in the entry point group `callboard.commands`, with

    def run(argv: Sequence[str], environ: Mapping[str, str]) -> int

and a docstring whose first line is its summary. The exit code is what `run` returns. Verbs are
looked up in the `entry_points.txt` of installed distributions directly: `importlib.metadata` costs
30 ms before the first useful line, and is the fallback only. The environment is read here, once,
and handed on. No verb's code lives here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

GROUP = "callboard.commands"
"""The entry point group; one entry a verb, its value the verb's module."""

USAGE_EXIT = 127
"""Exit code without a verb and for an unknown one, as Consul's."""

HELP = frozenset({"help", "-h", "-help", "--help"})
VERSION = frozenset({"-v", "-version", "--version"})


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run `callboard VERB ...`; answer the process's exit code.

    `argv` is without the program's name; both arguments default to the process's own.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    surroundings = dict(os.environ if environ is None else environ)
    try:
        code = _dispatch(arguments, surroundings)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader went away (`| head`): nothing more to say, not even at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def _dispatch(arguments: list[str], environ: Mapping[str, str]) -> int:
    verb = arguments[0] if arguments else ""
    if verb in VERSION:
        verb = "version"
    if verb in HELP and len(arguments) > 1:
        verb, arguments = arguments[1], [arguments[1], "-h"]
    if verb in HELP:
        print(usage())
        return 0
    module = find_verb(verb)
    if module is None:
        print(usage(), file=sys.stderr)
        return USAGE_EXIT
    return int(import_module(module).run(arguments[1:], environ))


def find_verb(name: str) -> str | None:
    """The module of a verb, or None when nobody announces it."""
    for verb, module in _announced():
        if verb == name:
            return module
    return _scanned().get(name)


def verbs() -> dict[str, str]:
    """Every verb and its module, sorted by name."""
    return dict(sorted({**_scanned(), **dict(_announced())}.items()))


def usage() -> str:
    """The list of verbs with their summaries, as `callboard help` prints it."""
    rows = [f"    {name:<14} {_summary(module)}" for name, module in verbs().items()]
    return "\n".join(
        ["Usage: callboard <command> [args]", "", "Available commands are:", *rows, ""]
    )


def _summary(module: str) -> str:
    """The first line of a verb's docstring, read without importing the module."""
    import ast  # noqa: PLC0415 - for help alone: not on any start path

    try:
        spec = find_spec(module)
        source = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
        doc = ast.get_docstring(ast.parse(source))
    except (ImportError, OSError, SyntaxError, ValueError):
        doc = None
    return doc.partition("\n")[0].rstrip(".") if doc else "(no summary)"


def _announced() -> Iterator[tuple[str, str]]:
    """(verb, module) pairs of every callboard distribution on sys.path."""
    for directory in sys.path:
        for listing in Path(directory or ".").glob("callboard*.dist-info/entry_points.txt"):
            yield from _section(listing.read_text("utf-8"))


def _section(text: str) -> Iterator[tuple[str, str]]:
    """The entries of our group in the text of an entry_points.txt."""
    inside = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            inside = line == f"[{GROUP}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip().partition(":")[0]


def _scanned() -> dict[str, str]:
    """The verbs of other distributions (the slow way: every installed one is read)."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow, and seldom needed

    return {entry.name: entry.module for entry in entry_points(group=GROUP)}


if __name__ == "__main__":
    sys.exit(main())
