"""Many viewers' wishes for a keyframe become few requests, which are repeated while none comes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.stream.requests import AGAIN_S, INTERVAL_S, TRIES, KeyframeRequests


class Asker:
    """Asks a source, if there is one."""

    def __init__(self) -> None:
        self.requests = KeyframeRequests()
        self.has_source = True
        self.asked: list[float] = []

    def wish(self, now: float) -> None:
        if self.requests.wish(now):
            self._ask(now)

    def until(self, end: float) -> None:
        """Let time pass: what is due goes out when it is."""
        while (at := self.requests.deadline) is not None and at <= end:
            assert self.requests.due(at)
            self._ask(at)
        assert not self.requests.due(end)

    def _ask(self, now: float) -> None:
        if self.has_source:
            self.asked.append(now)
            self.requests.asked(now)


def test_first_wish_is_sent_at_once() -> None:
    requests = KeyframeRequests()
    assert requests.wish(10.0)
    requests.asked(10.0)
    assert (requests.deadline, requests.sent) == (10.0 + AGAIN_S, 1)


def test_wish_within_the_interval_waits_for_its_end() -> None:
    requests = KeyframeRequests()
    requests.wish(10.0)
    requests.asked(10.0)
    assert not requests.wish(10.1)
    assert not requests.wish(10.3)
    assert [requests.deadline] == [10.0 + INTERVAL_S]
    assert not requests.due(10.39)
    assert requests.due(10.4)
    requests.asked(10.4)
    assert not requests.due(10.9)
    assert requests.sent == 2


def test_request_that_was_due_begins_another_interval() -> None:
    requests = KeyframeRequests()
    requests.wish(10.0)
    requests.wish(10.1)
    assert requests.due(10.5)
    assert not requests.wish(10.8)
    assert requests.deadline == 10.5 + INTERVAL_S


def test_request_is_repeated_a_few_times_while_no_keyframe_comes() -> None:
    asker = Asker()
    asker.wish(10.0)
    asker.until(60.0)
    assert asker.asked == [10.0 + number * AGAIN_S for number in range(TRIES)]
    asker.wish(61.0)
    asker.until(61.5)
    asker.requests.keyframe_came()
    asker.until(90.0)
    assert asker.asked[TRIES:] == [61.0]


def test_another_wish_is_worth_as_many_requests_again() -> None:
    asker = Asker()
    asker.wish(10.0)
    asker.wish(11.5)
    asker.until(60.0)
    assert asker.asked == [10.0, *(11.5 + number * AGAIN_S for number in range(TRIES))]


def test_wish_that_nobody_could_be_asked_for_is_kept_and_not_counted() -> None:
    asker = Asker()
    asker.has_source = False
    asker.wish(10.0)
    asker.until(59.9)
    assert asker.requests.sent == 0
    asker.has_source = True
    asker.until(60.4)
    assert asker.requests.sent == len(asker.asked) == 1


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


@given(steps=st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.booleans()), max_size=60))
def test_no_two_requests_are_closer_than_the_interval_and_no_wish_is_forgotten(
    steps: list[tuple[float, bool, bool]],
) -> None:
    asker, now, wished = Asker(), 0.0, float("-inf")
    for gap, has_source, keyframe in steps:
        asker.has_source = has_source
        now += gap
        asker.until(now)
        asker.wish(now)
        wished = now
        if keyframe:
            asker.requests.keyframe_came()
            wished = float("-inf")
    asker.has_source = True
    asker.until(now + 10.0)
    asked = asker.asked
    assert asker.requests.sent == len(asked)
    assert asker.requests.deadline is None
    assert all(after - before >= INTERVAL_S - 1e-9 for before, after in pairwise(asked))
    assert wished == float("-inf") or asked[-1] >= wished
