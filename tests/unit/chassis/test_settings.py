"""What the command lines of programs have in common."""

from __future__ import annotations

import pytest

from callboard.chassis.flags import FlagSet, Parsed, number, text
from callboard.chassis.settings import (
    SettingsError,
    count_of,
    duration_s,
    health_of,
    log_level_of,
    port_of,
    program_flags,
    refuse_arguments,
    said,
    token_of,
)

FLAGS = FlagSet("Usage", [text("bind", "", "127.0.0.1"), number("most", "", 3), *program_flags()])


def parsed(*argv: str) -> Parsed:
    return FLAGS.parse(argv)


def test_the_flag_wins_over_the_variable_and_the_variable_over_the_default() -> None:
    assert said(parsed("-bind=::1"), {"BIND": "10.0.0.1"}, "bind", "BIND") == "::1"
    assert said(parsed("-bind="), {"BIND": "10.0.0.1"}, "bind", "BIND") == ""
    assert said(parsed(), {"BIND": "10.0.0.1"}, "bind", "BIND") == "10.0.0.1"
    assert said(parsed(), {}, "bind", "BIND") == "127.0.0.1"


def test_the_log_level_is_one_that_there_is() -> None:
    assert log_level_of(parsed(), {"LOG_LEVEL": "debug"}) == "debug"
    with pytest.raises(SettingsError, match="Invalid log level"):
        log_level_of(parsed("-log-level=loud"), {})


def test_health_is_an_address_and_a_port() -> None:
    assert health_of(parsed()) is None
    assert health_of(parsed("-health=[::1]:9090")) == ("::1", 9090)
    assert health_of(parsed("-health=0.0.0.0:0")) == ("0.0.0.0", 0)


@pytest.mark.parametrize("value", ["9090", ":9090", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_no_health_listener_is_refused(value: str) -> None:
    with pytest.raises(SettingsError):
        health_of(parsed(f"-health={value}"))


def test_ports_durations_and_counts_have_their_limits() -> None:
    assert port_of(65535) == 65535
    assert duration_s("1m30s", "x") == 90
    assert duration_s("0s", "x") == 0
    assert count_of(parsed("-most=1"), "most", at_least=1) == 1
    for refused in (
        lambda: port_of(65536),
        lambda: port_of(-1),
        lambda: duration_s("-1s", "x"),
        lambda: duration_s("0s", "x", positive=True),
        lambda: duration_s("soon", "x"),
        lambda: count_of(parsed("-most=0"), "most", at_least=1),
        lambda: refuse_arguments(parsed("word")),
    ):
        with pytest.raises(SettingsError):
            refused()


def test_our_own_token_wins_over_consuls() -> None:
    both = {"CALLBOARD_HTTP_TOKEN": "ours", "CONSUL_HTTP_TOKEN": "theirs"}
    assert token_of(both) == "ours"
    assert token_of({"CONSUL_HTTP_TOKEN": "theirs"}) == "theirs"
    assert token_of({}) == ""
