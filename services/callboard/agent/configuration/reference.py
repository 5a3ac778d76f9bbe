"""The tables of flags, keys and variables in the agent's README, made from the code.

`python -m callboard.agent.configuration.reference` prints them; a test compares.
"""

from __future__ import annotations

from callboard.agent.configuration.flags import ENVIRONMENT, TABLE
from callboard.agent.configuration.keys import KEYS


def as_markdown() -> str:
    """All three tables."""
    return "\n\n".join((_flags(), _keys(), _variables()))


def _flags() -> str:
    rows = []
    for row in sorted(TABLE, key=lambda row: row.flag.name):
        key = f"`{row.key}`" if row.key else ""
        rows.append(f"| `-{row.flag.name}` | {key} | {_help(row.key, row.flag.help)} |")
    return "\n".join(["| flag | key | what it is |", "|---|---|---|", *rows])


def _keys() -> str:
    rows = [
        f"| `{key.path}` | {key.kind.value} | {_help(key.path, key.help)} |"
        for key in sorted(KEYS.values(), key=lambda key: key.path)
    ]
    return "\n".join(["| key | type | what it is; its default |", "|---|---|---|", *rows])


def _variables() -> str:
    rows = [f"| `{name}` | `{path}` |" for name, path in sorted(ENVIRONMENT.items())]
    return "\n".join(["| variable | key |", "|---|---|", *rows])


def _help(path: str, text: str) -> str:
    key = KEYS.get(path)
    shown = "*has no effect yet*" if key is not None and not key.effect else text
    return shown.replace("|", "\\|")


if __name__ == "__main__":
    print(as_markdown())
