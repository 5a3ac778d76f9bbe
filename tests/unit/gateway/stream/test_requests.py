"""Many viewers' wishes for a keyframe become few requests."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.stream.requests import INTERVAL_S, KeyframeRequests


def test_first_wish_is_sent_at_once() -> None:
    requests = KeyframeRequests()
    assert requests.wish(10.0)
    assert (requests.deadline, requests.sent) == (None, 1)


def test_wish_within_the_interval_waits_for_its_end() -> None:
    requests = KeyframeRequests()
    requests.wish(10.0)
    assert not requests.wish(10.1)
    assert not requests.wish(10.3)
    assert [requests.deadline] == [10.0 + INTERVAL_S]
    assert not requests.due(10.39)
    assert requests.due(10.4)
    assert not requests.due(10.9)
    assert requests.sent == 2


def test_request_that_was_due_begins_another_interval() -> None:
    requests = KeyframeRequests()
    requests.wish(10.0)
    requests.wish(10.1)
    assert requests.due(10.5)
    assert not requests.wish(10.8)
    assert requests.deadline == 10.5 + INTERVAL_S


def test_keyframe_fulfils_the_wishes_before_it() -> None:
    requests = KeyframeRequests()
    requests.wish(10.0)
    requests.wish(10.1)
    requests.keyframe_came()
    assert requests.deadline is None
    assert not requests.due(10.5)
    assert not requests.wish(10.3)
    assert requests.deadline == 10.0 + INTERVAL_S


def test_wish_after_the_deadline_is_sent_and_stands_for_the_one_that_waited() -> None:
    requests = KeyframeRequests()
    requests.wish(10.0)
    requests.wish(10.1)
    assert requests.wish(10.6)
    assert not requests.due(10.7)


def test_remembered_wish_is_due_at_once_or_at_the_intervals_end() -> None:
    requests = KeyframeRequests()
    requests.remember(10.0)
    assert requests.deadline == 10.0
    assert requests.due(10.0)
    requests.remember(10.2)
    assert not requests.due(10.2)
    assert requests.due(10.4)


@given(gaps=st.lists(st.floats(0, 1), max_size=60))
def test_no_two_requests_are_closer_than_the_interval_and_no_wish_is_forgotten(
    gaps: list[float],
) -> None:
    requests, now = KeyframeRequests(), 0.0
    sent: list[float] = []
    wished = float("-inf")
    for gap in gaps:
        now += gap
        deadline = requests.deadline
        if deadline is not None and deadline <= now and requests.due(deadline):
            sent.append(deadline)
        wished = now
        if requests.wish(now):
            sent.append(now)
    if requests.deadline is not None:
        assert requests.due(requests.deadline)
        sent.append(wished + INTERVAL_S)
    assert requests.sent == len(sent)
    assert all(after - before >= INTERVAL_S - 1e-9 for before, after in pairwise(sent))
    assert not gaps or sent[-1] >= wished
