"""Flags behave as Go's flag package: its documentation, and the texts its users know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.chassis import flags
from callboard.chassis.flags import Flag, FlagError, FlagSet, HelpRequested, Kind

SET = FlagSet(
    "Usage: callboard try [options]",
    [
        flags.text("bind", "an address", "127.0.0.1"),
        flags.switch("dev", "a mode"),
        flags.number("port", "a port", 8500),
        flags.repeated("join", "an address"),
        Flag("server", Kind.OPTIONAL, "a role", None),
    ],
)


@pytest.mark.parametrize(
    "words",
    [["-bind", "1.2.3.4"], ["--bind", "1.2.3.4"], ["-bind=1.2.3.4"], ["--bind=1.2.3.4"]],
)
def test_one_dash_and_two_mean_the_same(words: list[str]) -> None:
    assert SET.parse(words).text("bind") == "1.2.3.4"


def test_a_flag_that_is_not_given_has_its_default() -> None:
    parsed = SET.parse([])
    assert (parsed.text("bind"), parsed.switch("dev"), parsed.number("port")) == (
        "127.0.0.1",
        False,
        8500,
    )


def test_the_last_of_several_values_wins() -> None:
    assert SET.parse(["-port", "1", "-port=2"]).number("port") == 2


def test_a_repeated_flag_keeps_every_value_in_order() -> None:
    assert SET.parse(["-join", "b", "-join=a", "--join", "c"]).values("join") == ("b", "a", "c")


def test_a_value_may_be_empty_or_begin_with_a_dash() -> None:
    assert SET.parse(["-bind="]).text("bind") == ""
    assert SET.parse(["-bind", "-x"]).text("bind") == "-x"


@pytest.mark.parametrize("word", ["1", "t", "T", "true", "TRUE", "True"])
def test_go_words_for_true(word: str) -> None:
    assert SET.parse([f"-dev={word}"]).switch("dev")


@pytest.mark.parametrize("word", ["0", "f", "F", "false", "FALSE", "False"])
def test_go_words_for_false(word: str) -> None:
    assert not SET.parse(["-dev", f"-dev={word}"]).switch("dev")


def test_a_bare_boolean_does_not_eat_the_next_word() -> None:
    parsed = SET.parse(["-dev", "false"])
    assert parsed.switch("dev")
    assert parsed.args == ("false",)


def test_flags_end_at_the_first_other_word() -> None:
    parsed = SET.parse(["-dev", "name", "-port", "1"])
    assert parsed.args == ("name", "-port", "1")


def test_two_dashes_alone_end_the_flags() -> None:
    assert SET.parse(["--", "-dev"]).args == ("-dev",)


def test_one_dash_alone_is_a_word() -> None:
    assert SET.parse(["-dev", "-"]).args == ("-",)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-foo"], "flag provided but not defined: -foo"),
        (["--foo=1"], "flag provided but not defined: -foo"),
        (["-bin", "x"], "flag provided but not defined: -bin"),
        (["-bind"], "flag needs an argument: -bind"),
        (["---dev"], "bad flag syntax: ---dev"),
        (["-=x"], "bad flag syntax: -=x"),
        (["-dev=maybe"], 'invalid boolean value "maybe" for -dev: parse error'),
        (["-port", "x"], 'invalid value "x" for flag -port: parse error'),
        (["-port", "9" * 30], f'invalid value "{"9" * 30}" for flag -port: value out of range'),
    ],
)
def test_errors_are_in_the_words_of_go(words: list[str], text: str) -> None:
    with pytest.raises(FlagError) as problem:
        SET.parse(words)
    assert str(problem.value) == text


@pytest.mark.parametrize("word", ["-h", "--h", "-help", "--help"])
def test_help_is_asked_for(word: str) -> None:
    with pytest.raises(HelpRequested):
        SET.parse([word])


def test_numbers_may_be_hexadecimal() -> None:
    assert SET.parse(["-port=0x10"]).number("port") == 16


def test_given_tells_a_flag_from_its_default() -> None:
    parsed = SET.parse(["-server=false"])
    assert parsed.given("server")
    assert not parsed.given("dev")


def test_order_of_different_flags_is_kept() -> None:
    parsed = SET.parse(["-join", "a", "-bind", "b", "-join", "c"])
    assert parsed.in_order("join", "bind") == (("join", "a"), ("bind", "b"), ("join", "c"))


def test_help_lists_every_flag() -> None:
    text = SET.help()
    assert text.startswith("Usage: callboard try [options]")
    assert all(f"  -{name}" in text for name in SET.flags)


@given(st.lists(st.text(alphabet="-=abindevportj01 xé", max_size=8), max_size=5))
def test_no_command_line_makes_it_raise_anything_else(words: list[str]) -> None:
    try:
        parsed = SET.parse(words)
    except (FlagError, HelpRequested):
        return
    assert all(word in words for word in parsed.args)
