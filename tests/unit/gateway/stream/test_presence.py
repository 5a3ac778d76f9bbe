"""Whether media comes."""

from __future__ import annotations

from callboard.gateway.stream.presence import OFFLINE_AFTER_S, Presence


def test_track_is_offline_before_its_first_packet() -> None:
    presence = Presence()
    assert not presence.is_live(0.0)
    assert (presence.deadline, presence.last_seen) == (None, None)


def test_track_is_live_for_two_seconds_after_each_packet() -> None:
    presence = Presence()
    presence.saw(10.0)
    presence.saw(11.0)
    assert presence.last_seen == 11.0
    assert presence.deadline == 11.0 + OFFLINE_AFTER_S
    assert presence.is_live(12.99)
    assert not presence.is_live(13.0)


def test_track_comes_back_with_a_packet() -> None:
    presence = Presence()
    presence.saw(10.0)
    assert not presence.is_live(20.0)
    presence.saw(20.0)
    assert presence.is_live(20.0)


def test_track_that_has_ended_is_offline_at_once() -> None:
    presence = Presence()
    presence.saw(10.0)
    presence.end()
    assert not presence.is_live(10.1)
    assert (presence.deadline, presence.last_seen) == (None, 10.0)
    presence.saw(10.2)
    assert presence.is_live(10.3)
