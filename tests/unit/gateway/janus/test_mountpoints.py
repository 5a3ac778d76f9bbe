"""Streams as Janus' clients see them."""

from __future__ import annotations

from tests.unit.gateway.http.stand import AUDIO_TRACK, VIDEO_TRACK, standing

from callboard.gateway.janus.mountpoints import Mountpoints, Numbers
from callboard.gateway.live import LiveStream, StreamDescription


def test_numbers_go_up_in_the_order_of_first_sight_and_stay() -> None:
    numbers = Numbers()
    assert [numbers.of(name) for name in ("b", "a", "b", "c", "a")] == [1, 2, 1, 3, 2]


def test_the_name_longest_not_asked_for_is_forgotten() -> None:
    numbers = Numbers(numbers_max=2)
    first, second = numbers.of("a"), numbers.of("b")
    assert numbers.of("a") == first
    numbers.of("c")
    assert numbers.of("a") == first
    assert numbers.of("b") > second  # never a number that meant another stream


async def _never(described: StreamDescription) -> LiveStream:
    raise ConnectionError(described.name)


async def test_streams_are_listed_with_what_can_be_watched_now() -> None:
    async with standing() as stand:
        mountpoints = Mountpoints(stand.streams)
        feed = stand.stream("live")
        stand.streams.open(
            StreamDescription("broken", "Broken", (), problem="it has B-frames"), "a test"
        )
        stand.streams.open(StreamDescription("later", "", (VIDEO_TRACK,), on_demand=True), "a test")
        stand.streams.offer(StreamDescription("file", "A file", (AUDIO_TRACK,)), _never)
        for name in ("live", "file", "later", "broken"):
            mountpoints.number(name)
        before = mountpoints.all(0.0)
        assert [(each.number, each.name) for each in before] == [
            (1, "live"),
            (2, "file"),
            (3, "later"),
            (4, "broken"),
        ]
        assert [each.enabled for each in before] == [False, True, True, False]
        assert [each.type for each in before] == ["live", "on demand", "live", "live"]
        assert before[2].description == "later"
        assert before[3].description == "Broken: not playable: it has B-frames"
        assert "age_ms" not in before[0].full()["media"][0]  # type: ignore[index] # a list of JSON
        feed.frame()
        heard = feed.live.heard_at
        now = mountpoints.all(heard + 0.25)[0]
        assert now.enabled
        audio, video = now.media
        assert (audio["mid"], audio["codec"], audio["mindex"]) == ("a", "opus", 0)
        assert (video["mid"], video["codec"], video["age_ms"]) == ("v", "vp8", 250)
