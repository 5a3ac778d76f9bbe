"""Who may send to a port."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.sources.senders import (
    ADDRESS,
    LOOPBACK,
    SECOND_SENDER,
    TAKEOVER_S,
    Senders,
    network_of,
)

FIRST, SECOND = ("127.0.0.1", 40000), ("127.0.0.1", 40001)


def test_the_first_allowed_sender_is_the_one() -> None:
    senders = Senders(LOOPBACK)
    assert senders.refusal(FIRST, 0.0) is None
    assert senders.current == FIRST


def test_a_sender_of_a_foreign_address_is_refused_and_counted() -> None:
    senders = Senders(LOOPBACK)
    assert senders.refusal(("192.0.2.7", 5), 0.0) == ADDRESS
    assert senders.current is None
    assert senders.refused == {ADDRESS: 1}


def test_a_second_sender_is_refused_while_the_first_one_sends() -> None:
    senders = Senders(LOOPBACK)
    for tick in range(100):
        assert senders.refusal(FIRST, tick * 0.1) is None
        assert senders.refusal(SECOND, tick * 0.1 + 0.05) == SECOND_SENDER
    assert senders.refused == {SECOND_SENDER: 100}


def test_a_second_sender_takes_over_once_the_first_was_silent_for_long_enough() -> None:
    senders = Senders(LOOPBACK)
    senders.refusal(FIRST, 10.0)
    assert senders.refusal(SECOND, 10.0 + TAKEOVER_S - 0.001) == SECOND_SENDER
    assert senders.refusal(SECOND, 10.0 + TAKEOVER_S) is None
    assert senders.refusal(FIRST, 10.0 + TAKEOVER_S) == SECOND_SENDER


def test_a_sender_that_was_forgotten_need_not_be_waited_for() -> None:
    senders = Senders(LOOPBACK)
    senders.refusal(FIRST, 0.0)
    senders.forget()
    assert senders.refusal(SECOND, 0.0) is None


def test_a_sender_that_is_no_longer_expected_has_gone() -> None:
    senders = Senders(LOOPBACK)
    senders.refusal(FIRST, 0.0)
    senders.expects([network_of("10.0.0.5")])
    assert senders.current is None
    assert senders.refusal(FIRST, 0.0) == ADDRESS
    assert senders.refusal(("10.0.0.5", 1), 0.0) is None


def test_a_sender_that_is_still_expected_goes_on() -> None:
    senders = Senders(LOOPBACK)
    senders.refusal(FIRST, 0.0)
    senders.expects([network_of("127.0.0.1")])
    assert senders.current == FIRST


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("::ffff:10.1.2.3", True), ("10.2.0.1", False), ("fe80::1%eth0", True), ("nonsense", False)],
)
def test_addresses_are_judged_as_what_they_are(host: str, allowed: bool) -> None:
    senders = Senders([network_of("10.1.0.0/16"), network_of("fe80::/10")])
    assert (senders.refusal((host, 1), 0.0) is None) == allowed


def test_reports_are_known_by_the_host_of_the_sender() -> None:
    senders = Senders(LOOPBACK)
    assert not senders.knows("127.0.0.1")
    senders.refusal(FIRST, 0.0)
    assert senders.knows("127.0.0.1")
    assert not senders.knows("127.0.0.2")


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1)), max_size=600))
def test_there_is_never_more_than_one_sender_within_the_takeover_time(
    packets: list[tuple[int, float]],
) -> None:
    senders, now, last, at = Senders([ipaddress.ip_network("10.0.0.0/8")]), 0.0, -1, -1e9
    for number, gap_s in packets:
        now += gap_s
        source = (f"10.0.{number // 250}.{number % 250}", 1)
        if senders.refusal(source, now) is None:
            assert number == last or now - at >= TAKEOVER_S
            last, at = number, now
