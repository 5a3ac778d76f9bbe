"""What a refusal says, and when a publication is sent again."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.events.attempts import ATTEMPT_S, Attempts
from callboard.events.errors import Refused, Unreachable, retry_after_s
from callboard.events.targets import posting


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


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "9" * 400}, 600.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 27 Nov 2026 00:00:10 GMT"}, None),
        (
            {
                "retry-after": "Fri, 27 Nov 2026 00:00:10 GMT",
                "date": "Fri, 27 Nov 2026 00:00:00 GMT",
            },
            10.0,
        ),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


@given(st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text(max_size=30)))
def test_no_retry_after_is_an_error(headers: dict[str, str]) -> None:
    assert 0.0 <= (retry_after_s(headers) or 0.0) <= 600.0


def attempts(total_s: float = 30.0, key: str = "") -> Attempts:
    return Attempts(posting("builds?", "x", idempotency_key=key), random.Random(3), 0.0, total_s)


@pytest.mark.parametrize("problem", [OSError("x"), Refused(503, {}, ""), Refused(429, {}, "")])
def test_what_may_pass_is_tried_again_ever_later(problem: Exception) -> None:
    trying = attempts(1000.0)
    rests = [trying.rest_s(problem, 0.0) for _ in range(10)]
    assert rests[0] < 0.3
    assert 20.0 < rests[-1] < 40.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 501, 507])
def test_what_does_not_pass_is_raised_at_once(status: int) -> None:
    with pytest.raises(Refused):
        attempts().rest_s(Refused(status, {}, ""), 0.0)


def test_retry_after_is_kept_unless_it_is_too_late_then() -> None:
    assert attempts().rest_s(Refused(429, {"retry-after": "5"}, ""), 0.0) == 5.0
    with pytest.raises(Refused):
        attempts().rest_s(Refused(429, {"retry-after": "60"}, ""), 0.0)


def test_no_attempt_is_begun_after_its_time() -> None:
    trying = attempts(12.0)
    assert trying.timeout_s(0.0) == ATTEMPT_S
    assert trying.timeout_s(10.0) == 2.0
    with pytest.raises(Unreachable, match="/t/builds%3F: x"):
        trying.rest_s(OSError("x"), 12.0)


def test_all_attempts_have_one_key_and_each_the_token_of_its_time() -> None:
    trying = attempts()
    first, second = trying.headers(""), trying.headers("abc")
    assert first["Idempotency-Key"] == second["Idempotency-Key"] != ""
    assert "Authorization" not in first
    assert second["Authorization"] == "Bearer abc"
    assert attempts(key="mine").headers("")["Idempotency-Key"] == "mine"
