"""The issuer's command line, and `rotate`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callboard.chassis.settings import SettingsError
from callboard.issuer import generations
from callboard.issuer.__main__ import run
from callboard.issuer.constraints import wanted, write_wanted
from callboard.issuer.settings import FLAGS, IssuerSettings, build

NEEDED = ("-data-dir=/ca", "-exchange=/exchange", "-program=hub=hub")


def settings(*argv: str, **environ: str) -> IssuerSettings:
    return build(FLAGS.parse([*NEEDED, *argv]), environ)


def test_lives_are_thirty_days_and_seven() -> None:
    found = settings()
    assert (found.leaf_life, found.crl_life) == (timedelta(days=30), timedelta(days=7))


def test_the_public_host_comes_from_the_environment_and_the_flag_wins() -> None:
    assert settings(PUBLIC_HOST="Board.Example.ORG").public_host == "board.example.org"
    assert settings("-public-host=a.example", PUBLIC_HOST="b").public_host == "a.example"
    assert settings(PUBLIC_HOST="[2001:DB8::1]").public_host == "2001:db8::1"
    assert settings("-public-host=", PUBLIC_HOST="b").public_host == ""


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("-program=hub=hub",), "given twice"),
        (("-program=x=king",), "NAME=ROLE"),
        (("-program=../x=hub",), "NAME=ROLE"),
        (("-network=10.0.0.300/8",), r"10\.0\.0\.300"),
        (("-leaf-life=soon",), "-leaf-life"),
        (("-public-host=https://board.example.org",), "without scheme and port"),
        (("-public-host=board.example.org:1443",), "without scheme and port"),
        (("-public-host=*.example.org",), "without scheme and port"),
        (("-leaf-life=-1h",), "not positive"),
        (("-health=9090",), "IP:PORT"),
        (("extra",), "unexpected argument"),
        (("-log-level=loud",), "Invalid log level"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(argv: tuple[str, ...], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        settings(*argv)


@pytest.mark.parametrize("missing", range(3))
def test_each_of_three_flags_is_needed(missing: int, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [word for number, word in enumerate(NEEDED) if number != missing]
    assert run(argv, {}) == 1
    assert NEEDED[missing].split("=")[0] in capsys.readouterr().err


def test_rotate_makes_one_more_ca_and_refuses_a_third(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    constraints = wanted(settings())
    write_wanted(tmp_path, constraints)
    generations.make_next(tmp_path, constraints, datetime.now(UTC))
    assert run(["rotate", f"-data-dir={tmp_path}"], {}) == 0
    assert generations.numbers(tmp_path) == [1, 2]
    assert run(["rotate", f"-data-dir={tmp_path}"], {}) == 1
    assert "under way" in capsys.readouterr().err


def test_rotate_without_a_ca_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rotate", f"-data-dir={tmp_path}"], {}) == 1
    assert "there is no CA" in capsys.readouterr().err


def test_a_data_directory_that_is_a_file_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_text("")
    argv = [f"-data-dir={path}", f"-exchange={tmp_path}", "-program=hub=hub", "-log-json=false"]
    assert run(argv, {}) == 1
    assert str(path) in capsys.readouterr().err
