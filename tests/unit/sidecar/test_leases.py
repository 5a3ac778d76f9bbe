"""Who holds which stream, and until when."""

from __future__ import annotations

from itertools import count

import pytest

from callboard.media.leases import LASTS_S
from callboard.sidecar.leases import LEASES_MAX, Leases, TooMany

GATEWAY = "192.0.2.1"


def _leases() -> Leases:
    numbers = count(1)
    return Leases(lambda: f"lease-{next(numbers)}")


def test_a_lease_ends_by_itself() -> None:
    leases = _leases()
    leases.take("a", GATEWAY, {"video": 4000}, 100.0)
    assert leases.of("a", 100.0 + LASTS_S - 0.01) == 1
    assert leases.of("a", 100.0 + LASTS_S) == 0
    assert len(leases) == 0


def test_a_renewed_lease_goes_on() -> None:
    leases = _leases()
    lease = leases.take("a", GATEWAY, {"video": 4000}, 100.0)
    assert leases.renew(lease, 109.0)
    assert leases.of("a", 118.0) == 1
    assert not leases.renew(lease, 119.0)


def test_a_released_lease_is_gone() -> None:
    leases = _leases()
    lease = leases.take("a", GATEWAY, {"video": 4000}, 0.0)
    assert leases.release(lease, 1.0)
    assert not leases.release(lease, 1.0)
    assert not leases.renew(lease, 1.0)


def test_all_leases_of_one_stream_end_at_once() -> None:
    leases = _leases()
    ended = leases.take("a", GATEWAY, {"video": 4000}, 0.0)
    kept = leases.take("b", GATEWAY, {"video": 4002}, 0.0)
    leases.end("a")
    assert not leases.renew(ended, 1.0)
    assert leases.renew(kept, 1.0)


def test_several_leases_are_several_destinations() -> None:
    leases = _leases()
    leases.take("a", GATEWAY, {"video": 4000, "audio": 4002}, 0.0)
    leases.take("a", "192.0.2.2", {"video": 4000}, 0.0)
    leases.take("b", "192.0.2.3", {"video": 4000}, 0.0)
    assert leases.destinations("a", 1.0) == {
        ("video", GATEWAY, 4000),
        ("audio", GATEWAY, 4002),
        ("video", "192.0.2.2", 4000),
    }


def test_a_place_that_two_leases_name_stays_until_both_end() -> None:
    leases = _leases()
    first = leases.take("a", GATEWAY, {"video": 4000}, 0.0)
    second = leases.take("a", GATEWAY, {"video": 4000}, 0.0)
    leases.release(first, 1.0)
    assert leases.destinations("a", 1.0) == {("video", GATEWAY, 4000)}
    leases.release(second, 1.0)
    assert leases.destinations("a", 1.0) == frozenset()


def test_there_is_a_bound_and_ended_leases_make_room() -> None:
    leases = _leases()
    for _ in range(LEASES_MAX):
        leases.take("a", GATEWAY, {"video": 4000}, 0.0)
    with pytest.raises(TooMany):
        leases.take("a", GATEWAY, {"video": 4000}, 1.0)
    assert leases.take("a", GATEWAY, {"video": 4000}, LASTS_S)
