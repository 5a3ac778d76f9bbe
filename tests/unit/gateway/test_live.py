"""Streams and their sources: who has a stream, when it is online, what listeners hear."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.fanout.plain import PlainFanout
from callboard.gateway.live import (
    KEPT_S,
    OFFLINE_AFTER_S,
    Change,
    LiveStream,
    NotPlayable,
    StreamDescription,
    Streams,
    StreamTaken,
    TrackDescription,
    check_name,
)
from callboard.gateway.sdp.codecs import AUDIO, VIDEO, Codec
from callboard.gateway.sources.rtp import RtpSender

VIDEO_TRACK = TrackDescription("video", Codec(VIDEO, "VP8", 90_000))
AUDIO_TRACK = TrackDescription("audio", Codec(AUDIO, "opus", 48_000, 2))
KEYFRAME, OTHER = b"\x10\x00\x00\x00", b"\x10\x01\x00\x00"


def described(name: str = "a", *tracks: TrackDescription, problem: str = "") -> StreamDescription:
    return StreamDescription(
        name, name.upper(), tracks or (VIDEO_TRACK, AUDIO_TRACK), problem=problem
    )


class Sender:
    """A source of VP8."""

    def __init__(self, seed: int = 1) -> None:
        self._rtp = RtpSender(96, 90_000, random.Random(seed))
        self._frames = 0

    def frame(self, payload: bytes = OTHER) -> bytes:
        self._frames += 1
        return self._rtp.packets([payload], self._frames * 3000, marker=True)[0]


class Watching:
    """A viewer that only watches."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def end(self, reason: str) -> None:
        self.ended.append(reason)


@pytest.fixture
def streams() -> Iterator[Streams]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield Streams(PlainFanout(sock), streams_max=4)


@pytest.fixture
def heard(streams: Streams) -> list[tuple[str, Change]]:
    told: list[tuple[str, Change]] = []
    streams.listen(lambda live, change: told.append((live.name, change)))
    return told


def test_a_stream_is_online_with_its_first_packet(
    streams: Streams, heard: list[tuple[str, Change]]
) -> None:
    live = streams.open(described(), "s")
    assert not live.online and streams.find("a") is live
    live.take("video", Sender().frame(KEYFRAME), 1.0)
    assert live.online and live.keyframes == 1
    assert heard == [("a", Change.OPENED), ("a", Change.UP), ("a", Change.KEYFRAME)]


def test_garbage_and_unknown_tracks_do_not_make_a_stream_online(streams: Streams) -> None:
    live = streams.open(described(), "s")
    live.take("video", b"garbage", 1.0)
    live.take("subtitles", Sender().frame(), 1.0)
    live.take_rtcp("subtitles", b"", 1.0)
    assert not live.online


def test_silence_makes_a_stream_offline_and_a_packet_online_again(
    streams: Streams, heard: list[tuple[str, Change]]
) -> None:
    live, sender = streams.open(described(), "s"), Sender()
    live.take("video", sender.frame(), 1.0)
    streams.tick(1.0 + OFFLINE_AFTER_S)
    assert live.online
    streams.tick(1.1 + OFFLINE_AFTER_S)
    assert (live.online, live.reason) == (False, "nothing came for 2 s")
    live.take("video", sender.frame(), 4.0)
    assert live.online and live.reason == ""
    changes = [change for _, change in heard if change in (Change.UP, Change.DOWN)]
    assert changes == [Change.UP, Change.DOWN, Change.UP]


def test_a_keyframe_is_asked_for_when_the_source_begins_anew_before_viewers(
    streams: Streams,
) -> None:
    live = streams.open(described(), "s")
    asked: list[str] = []
    live.on_keyframe_wanted = asked.append
    live.join(Watching())
    live.take("video", Sender(1).frame(KEYFRAME), 1.0)
    live.take("video", Sender(2).frame(OTHER), 10.0)
    assert asked == ["video"]
    live.take("video", Sender(3).frame(KEYFRAME), 20.0)
    assert asked == ["video"]


def test_a_stream_whose_pictures_are_withheld_stays_online(streams: Streams) -> None:
    """Its source sends, though nothing goes on before a keyframe; who joins gets none of before."""
    live = streams.open(described(), "s")
    live.take("video", Sender(1).frame(KEYFRAME), 1.0)
    second = Sender(2)
    for step in range(100):
        live.take("video", second.frame(OTHER), 3.0 + step / 10)
        streams.tick(3.0 + step / 10)
        assert live.online
        assert live.tracks["video"].track.burst(3.0 + step / 10) == []
    assert live.tracks["video"].track.newest == 0
    live.take("video", second.frame(KEYFRAME), 13.0)
    assert live.tracks["video"].track.newest == 1


def test_many_wishes_for_a_keyframe_are_few_requests(streams: Streams) -> None:
    live = streams.open(described(), "s")
    asked: list[str] = []
    live.on_keyframe_wanted = asked.append
    for step in range(100):
        live.want_keyframe(live.tracks["video"], 1.0 + step / 1000)
    assert asked == ["video"]
    streams.tick(1.3)
    assert asked == ["video"]
    streams.tick(1.5)
    assert asked == ["video", "video"]
    assert live.tracks["video"].track.requests.sent == 2
    live.take("video", Sender().frame(KEYFRAME), 1.6)
    streams.tick(9.0)
    assert asked == ["video", "video"]


def test_a_request_that_was_lost_is_repeated_until_a_keyframe_comes(streams: Streams) -> None:
    """By the next tick, or packet, that is late enough."""
    live, sender = streams.open(described(), "s"), Sender()
    asked: list[float] = []
    now = 0.0
    live.on_keyframe_wanted = lambda track: asked.append(now)
    live.want_keyframe(live.tracks["video"], now)
    for step in range(100):
        now = step / 10
        if step % 2:
            live.take("video", sender.frame(OTHER), now)
        streams.tick(now)
    assert asked == pytest.approx([0.0, 1.0, 2.0])


def test_a_keyframe_is_asked_for_as_soon_as_there_is_somebody_to_ask(streams: Streams) -> None:
    live, sender = streams.open(described(), "s"), Sender()
    video = live.tracks["video"]
    live.want_keyframe(video, 1.0)
    streams.tick(5.0)
    live.on_keyframe_wanted = lambda track: False
    streams.tick(9.0)
    assert video.track.requests.sent == 0
    asked: list[str] = []
    live.on_keyframe_wanted = asked.append
    live.take("video", sender.frame(OTHER), 9.5)
    assert (asked, video.track.requests.sent) == (["video"], 1)


def test_a_wish_that_had_to_wait_goes_out_with_the_next_packet_when_it_may(
    streams: Streams,
) -> None:
    """A tick may be a tenth of a second away."""
    live, sender = streams.open(described(), "s"), Sender()
    asked: list[str] = []
    live.on_keyframe_wanted = asked.append
    video = live.tracks["video"]
    for now in (1.0, 1.3):
        live.want_keyframe(video, now)
    live.take("video", sender.frame(OTHER), 1.39)
    assert asked == ["video"]
    live.take("video", sender.frame(OTHER), 1.41)
    assert asked == ["video", "video"]
    live.want_keyframe(video, 1.5)
    live.take("video", sender.frame(KEYFRAME), 2.0)
    assert asked == ["video", "video"], "the keyframe has come"


def test_the_first_viewer_and_the_last_are_told_to_the_source(streams: Streams) -> None:
    live = streams.open(described(), "s")
    wanted: list[bool] = []
    live.on_wanted = wanted.append
    one, other = Watching(), Watching()
    live.join(one)
    live.join(other)
    live.leave(one)
    live.leave(one)
    assert wanted == [True]
    live.leave(other)
    live.leave(other)
    assert wanted == [True, False]


def test_a_second_source_is_refused_while_the_first_has_the_stream(streams: Streams) -> None:
    streams.open(described(), "one")
    with pytest.raises(StreamTaken, match="sent by one"):
        streams.open(described(), "two")


def test_another_source_goes_on_with_the_viewers_of_one_that_has_gone(streams: Streams) -> None:
    live, viewer = streams.open(described(), "one"), Watching()
    live.join(viewer)
    streams.close(live, "gone", 1.0)
    assert streams.find("a") is live and not viewer.ended
    again = streams.open(described(), "two")
    assert again is live and live.viewers == {viewer}
    streams.tick(1000.0)
    assert streams.find("a") is live and not viewer.ended


def test_a_source_that_is_gone_for_good_takes_its_viewers_with_it(
    streams: Streams, heard: list[tuple[str, Change]]
) -> None:
    live, viewer = streams.open(described(), "one"), Watching()
    live.join(viewer)
    streams.close(live, "gone", 1.0)
    streams.tick(1.0 + KEPT_S)
    assert not viewer.ended
    streams.tick(1.1 + KEPT_S)
    assert viewer.ended == ["gone"] and streams.find("a") is None
    assert heard[-1] == ("a", Change.CLOSED)


def test_a_closed_stream_without_viewers_is_off_the_list_at_once(streams: Streams) -> None:
    live = streams.open(described(), "one")
    streams.close(live, "gone", 1.0)
    streams.close(live, "gone", 1.0)
    assert streams.find("a") is None and list(streams) == []


def test_viewers_of_a_stream_with_other_tracks_are_sent_away(streams: Streams) -> None:
    live, viewer = streams.open(described(), "one"), Watching()
    live.join(viewer)
    other = streams.open(described("a", VIDEO_TRACK), "one")
    assert other is not live and streams.find("a") is other
    assert viewer.ended == ["the stream has other tracks now"]


def test_the_end_of_one_that_was_replaced_changes_nothing(streams: Streams) -> None:
    old = streams.open(described(), "one")
    new = streams.open(described("a", VIDEO_TRACK), "one")
    streams.close(old, "late", 1.0)
    assert streams.find("a") is new


def test_there_is_a_limit_of_streams(streams: Streams) -> None:
    for name in "abcd":
        streams.open(described(name), "s")
    with pytest.raises(StreamTaken, match="too many"):
        streams.open(described("e"), "s")
    streams.open(described("a"), "s")


async def test_what_cannot_be_played_is_listed_with_its_reason(streams: Streams) -> None:
    unknown = TrackDescription("video", Codec(VIDEO, "MPV", 90_000))
    streams.open(described("a", unknown, problem="MPEG-2 is played by no browser"), "s")
    assert [live.description.problem for live in streams] == ["MPEG-2 is played by no browser"]
    with pytest.raises(NotPlayable, match="MPEG-2"):
        await streams.watch("a")


def test_video_that_cannot_be_passed_on_is_no_stream(streams: Streams) -> None:
    with pytest.raises(ValueError, match="MPV"):
        streams.open(described("a", TrackDescription("v", Codec(VIDEO, "MPV", 90_000))), "s")
    assert streams.find("a") is None


async def test_an_offered_stream_is_made_for_each_viewer(streams: Streams) -> None:
    made: list[LiveStream] = []

    async def open_film(description: StreamDescription) -> LiveStream:
        live = streams.open_personal(description, "film")
        live.on_wanted = lambda wanted: None if wanted else streams.close(live, "done", 1.0)
        made.append(live)
        return live

    streams.offer(described("film"), open_film)
    one, other = await streams.watch("film"), await streams.watch("film")
    assert made == [one, other] and streams.find("film") is None
    assert [each.name for each in streams.offered()] == ["film"]
    viewer = Watching()
    one.join(viewer)
    assert streams.viewers == 1
    one.leave(viewer)
    assert streams.personal("film") == [other]
    streams.withdraw("film")
    with pytest.raises(NotPlayable):
        await streams.watch("film")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", ".", "..", "x" * 65, "a\n", "<a>", "%41"])
def test_names_are_what_paths_can_hold(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a stream"):
        check_name(name)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab")), max_size=30))
def test_any_history_leaves_viewers_where_their_stream_is(steps: list[tuple[int, str]]) -> None:
    """Whatever sources and viewers do: who was not ended is among its stream's viewers, and the
    source has heard True once more than False exactly while there are some."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        streams = Streams(PlainFanout(sock))
        watching: list[tuple[Watching, LiveStream]] = []
        now = 0.0
        for step, name in steps:
            now += 1.0
            live = streams.find(name)
            if step == 0:
                if live is None or not live.source:
                    streams.open(described(name), "s")
            elif step == 1 and live is not None:
                streams.close(live, "closed", now)
            elif step == 2 and live is not None:
                watching.append((Watching(), live))
                live.join(watching[-1][0])
            elif step == 3 and watching:
                viewer, of = watching.pop()
                of.leave(viewer)
            elif step == 4:
                now += KEPT_S
                streams.tick(now)
            elif step == 5 and live is not None:
                live.take("video", Sender(len(name)).frame(KEYFRAME), now)
            for viewer, of in watching:
                assert bool(viewer.ended) != (viewer in of.viewers)
        assert streams.viewers == sum(not viewer.ended for viewer, _ in watching)
