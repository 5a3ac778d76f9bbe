"""What a refusal says, and when a publication is sent again."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.events.attempts import ATTEMPT_S, Attempts
from callboard.events.errors import EventsError, Refused, Unreachable


def test_a_refusal_says_each_thing_once() -> None:
    challenge = 'Bearer resource_metadata="https://x", error="insufficient_scope"'
    refused = Refused(403, {"www-authenticate": challenge}, "insufficient_scope\n")
    assert str(refused) == "403 Forbidden: insufficient_scope"
    assert refused.error == "insufficient_scope"
    assert str(Refused(299, {}, "")) == "299"
    assert str(Refused(302, {"location": "https://y"}, "")) == "302 Found: moved to https://y"


@given(st.integers(100, 999), st.text(), st.text())
def test_any_refusal_can_be_said(status: int, challenge: str, body: str) -> None:
    assert str(Refused(status, {"www-authenticate": challenge}, body)).startswith(str(status))


@pytest.mark.parametrize("piece", ["a", 'a="', 'a="\\', '"'])
def test_a_long_challenge_costs_little(piece: str) -> None:
    began = time.process_time()
    Refused(401, {"www-authenticate": piece * 50_000}, "")
    assert time.process_time() - began < 2.0


def attempts(total_s: float = 30.0) -> Attempts:
    return Attempts(random.Random(3), 0.0, total_s)


@pytest.mark.parametrize("problem", [Unreachable("x"), Refused(503, {}, ""), Refused(429, {}, "")])
def test_what_may_pass_is_tried_again_ever_later(problem: EventsError) -> None:
    trying = attempts(1000.0)
    rests = [trying.rest_s(problem, 0.0) for _ in range(10)]
    assert rests[0] < 0.3
    assert 20.0 < rests[-1] < 40.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 501, 507])
def test_what_does_not_pass_is_raised_at_once(status: int) -> None:
    with pytest.raises(Refused):
        attempts().rest_s(Refused(status, {}, ""), 0.0)


def test_retry_after_is_kept_unless_it_is_too_late_then() -> None:
    assert attempts().rest_s(Refused(429, {}, ""), 0.0, {"retry-after": "5"}) == 5.0
    with pytest.raises(Refused):
        attempts().rest_s(Refused(429, {}, ""), 0.0, {"retry-after": "60"})


def test_no_attempt_is_begun_after_its_time() -> None:
    trying = attempts(12.0)
    assert trying.timeout_s(0.0) == ATTEMPT_S
    assert trying.timeout_s(10.0) == 2.0
    with pytest.raises(Unreachable):
        trying.rest_s(Unreachable("x"), 12.0)
