"""The dispatcher: verbs by entry points, and how fast it gets there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from callboard.chassis import command


def install(directory: Path, *entries: str) -> None:
    """Pretend a distribution with these entry points is installed in `directory`."""
    info = directory / "callboard_more-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: callboard-more\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(entries) + "\n")


@pytest.fixture
def verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    install(
        tmp_path,
        "[console_scripts]",
        "echo = nowhere:main",
        "[callboard.commands]",
        "echo = verb_that_echoes",
        "broken = verb_without_module",
    )
    (tmp_path / "verb_that_echoes.py").write_text(
        '"""Echoes its words.\n\nMore.\n"""\n'
        "def run(argv, environ):\n    print(*argv, environ.get('NAME'))\n    return len(argv)\n"
    )
    return tmp_path


def test_a_verb_gets_its_words_and_the_environment(
    verbs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["echo", "a", "-b"], {"NAME": "x"}) == 2
    assert capsys.readouterr().out == "a -b x\n"


def test_verbs_of_other_distributions_are_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "[callboard.commands]", "other = other_module")
    (tmp_path / "callboard_more-1.0.dist-info").rename(tmp_path / "unrelated-1.0.dist-info")
    assert command.find_verb("other") == "other_module"


def test_help_lists_verbs_with_their_summaries(
    verbs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["help"], {}) == 0
    out = capsys.readouterr().out
    assert "    echo           Echoes its words\n" in out
    assert "    broken         (no summary)\n" in out
    assert "    agent          Runs an agent\n" in out


@pytest.mark.parametrize("words", [[], ["frob"], ["-frob"]])
def test_no_verb_and_an_unknown_one_are_exit_code_127(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words, {}) == 127
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: callboard <command> [args]")


@pytest.mark.parametrize("word", ["-v", "-version", "--version"])
def test_version_is_a_flag_too(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([word], {}) == 0
    assert capsys.readouterr().out.startswith("Callboard v")


def test_help_of_a_verb_is_that_of_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["help", "members"], {}) == 0
    assert capsys.readouterr().out.startswith("Usage: callboard members")


def test_every_announced_verb_of_ours_can_be_imported() -> None:
    ours = {name: module for name, module in command.verbs().items() if "commands" in module}
    assert len(ours) >= 13
    for module in ours.values():
        assert callable(__import__(module, fromlist=["run"]).run)


def test_it_runs_as_a_module() -> None:
    words = [sys.executable, "-m", "callboard.chassis.command", "version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.startswith("Callboard v")


def test_a_reader_that_went_away_is_no_traceback() -> None:
    words = f"{sys.executable} -m callboard.chassis.command help | true"
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.stderr == ""


@pytest.mark.parametrize("verb", ["members", "kv", "version", "agent"])
def test_a_verb_does_not_import_what_is_slow(verb: str) -> None:
    code = (
        "import sys\nfrom callboard.chassis.command import find_verb\n"
        f"__import__(find_verb({verb!r}), fromlist=['run'])\n"
        "slow = {'importlib.metadata', 'aiohttp', 'asyncio', 'fastapi', 'pydantic', 'uvicorn',"
        " 'prometheus_client', 'cryptography'}\n"
        "print(*sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.strip() == ""
