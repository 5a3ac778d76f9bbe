"""What a program's `doctor` prints, and its exit code."""

from __future__ import annotations

import pytest

from callboard.chassis.findings import Finding, Grade, Report


def test_a_finding_is_one_line_with_its_grade_first() -> None:
    assert str(Finding(Grade.BAD, "reach", "x")) == "bad  reach       x"
    assert str(Finding(Grade.NOTE, "long poll", "x")) == "note long poll   x"


def test_what_others_say_gives_a_terminal_no_orders() -> None:
    assert str(Finding(Grade.GOOD, "stream", "\x1b[2J\na")) == "ok   stream      ?[2J?a"


@pytest.mark.parametrize(
    ("grades", "code"),
    [([], 0), ([Grade.GOOD, Grade.NOTE], 0), ([Grade.BAD, Grade.GOOD], 1)],
)
def test_what_is_bad_makes_the_exit_code(
    grades: list[Grade], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report()
    for grade in grades:
        report.show(Finding(grade, "hub", "x"))
    assert report.exit_code == code
    assert capsys.readouterr().out == "".join(f"{g.value:<5}hub         x\n" for g in grades)
