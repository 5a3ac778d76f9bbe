"""The agent's README says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from callboard.agent.configuration.flags import TABLE
from callboard.agent.configuration.keys import KEYS
from callboard.agent.configuration.reference import as_markdown

README = Path(__file__).parents[4] / "services" / "callboard" / "agent" / "README.md"


def test_the_tables_in_the_readme_are_those_of_the_code() -> None:
    assert README.read_text("utf-8").endswith(as_markdown() + "\n"), (
        "print the tables by: python -m callboard.agent.configuration.reference"
    )


def test_every_flag_and_key_is_in_the_tables() -> None:
    shown = set(re.findall(r"^\| `([^`]+)`", as_markdown(), re.MULTILINE))
    assert {f"-{row.flag.name}" for row in TABLE} <= shown
    assert set(KEYS) <= shown
