"""What a `doctor` of a program finds, line by line: graded, printed as found, the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Grade(Enum):
    """How good a finding is."""

    GOOD = "ok"
    NOTE = "note"
    """Worth knowing: not all may be able to do all, or not for long."""
    BAD = "bad"
    """Something will not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    grade: Grade
    subject: str
    text: str

    def __str__(self) -> str:
        # names and reasons are anybody's text, and a terminal obeys some of it
        text = "".join(each if each.isprintable() else "?" for each in self.text)
        return f"{self.grade.value:<5}{self.subject:<12}{text}"


class Report:
    """Prints findings; `exit_code` is 1 once one of them is bad."""

    def __init__(self) -> None:
        self.exit_code = 0

    def show(self, finding: Finding) -> None:
        """Print one, at once: the next may take seconds."""
        print(finding, flush=True)
        if finding.grade is Grade.BAD:
            self.exit_code = 1
