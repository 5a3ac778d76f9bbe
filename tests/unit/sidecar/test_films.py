"""Films: files that are played for each viewer from their beginning, and steered by it; files that
have to be encoded anew."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from typing import Any

import av
import pytest
from aiortc.codecs.vpx import VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.unit.sidecar.sidecar_process import (
    VIDEO_RATE,
    Receiver,
    Sidecar,
    begins_keyframe,
    encode,
    running,
)

from callboard.media import rtp
from callboard.media.rtp import RtpPacket
from callboard.sidecar.pipeline.reordering import is_bidirectional, may_reorder

pytestmark = pytest.mark.slow

SECONDS = 8
PICTURE = (
    f"videotestsrc num-buffers={25 * SECONDS} ! video/x-raw,width=160,height=120,framerate=25/1"
)
SOUND = (
    f"audiotestsrc num-buffers={50 * SECONDS} samplesperbuffer=960 "
    "! audio/x-raw,rate=48000,channels=2"
)
VP8 = f"{PICTURE} ! vp8enc deadline=1 keyframe-max-dist=25 ! queue ! m."
OPUS = f"{SOUND} ! opusenc ! queue ! m."
AAC = f"{SOUND} ! avenc_aac ! queue ! m."
H264 = f"{PICTURE} ! x264enc key-int-max=25 speed-preset=ultrafast bframes={{}} ! h264parse ! m."


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    require("gst-launch-1.0", "python3-gi")
    folder = tmp_path_factory.mktemp("films")
    encode("webmmux", folder / "film.webm", VP8, OPUS)
    encode("mp4mux", folder / "plain.mp4", H264.format(0), AAC)
    encode("mp4mux", folder / "reordered.mp4", H264.format(2), AAC)
    (folder / "noise.webm").write_bytes(bytes(range(256)) * 16)
    streams = folder / "streams.toml"
    streams.write_text(
        '[[streams]]\nname = "loop"\nsource = "file"\npath = "film.webm"\non_demand = true\n'
        + "".join(
            f'[[streams]]\nname = "{path.split(".", maxsplit=1)[0]}"\nsource = "file"\n'
            f'path = "{path}"\nper_viewer = true\n'
            for path in ("film.webm", "plain.mp4", "reordered.mp4", "noise.webm")
        )
    )
    with running(folder, f"-streams={streams}") as made:
        yield made


@pytest.fixture
def video() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def audio() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def decode_vp8(packets: list[RtpPacket]) -> list[av.VideoFrame]:
    """The pictures from the first keyframe on (RFC 7741, 4.2: the descriptor is cut off)."""
    decoder = av.CodecContext.create("vp8", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    pictures: list[av.VideoFrame] = []
    data = b""
    for packet in packets[next(i for i, each in enumerate(packets) if begins_keyframe(each)) :]:
        data += VpxPayloadDescriptor.parse(packet.payload)[1]
        if packet.marker:
            pictures += decoder.decode(av.Packet(data))
            data = b""
    return pictures


def steer(sidecar: Sidecar, lease: str, verb: str, body: object = None) -> dict[str, Any]:
    reply = sidecar.ask("POST", f"/leases/{lease}/{verb}", body)
    assert reply.status == 200, reply.body
    told: dict[str, Any] = reply.json()
    return told


def progress(sidecar: Sidecar, lease: str) -> dict[str, Any]:
    told: dict[str, Any] = sidecar.ask("PUT", f"/leases/{lease}").json()
    return told


def media(receiver: Receiver, for_s: float) -> list[RtpPacket]:
    return [rtp.parse(data) for data in receiver.packets(for_s) if not rtp.is_rtcp(data)]


def quiet(receiver: Receiver) -> bool:
    """Whether no RTP comes any more."""
    return not media(receiver, 0.5)


def test_films_are_listed_as_made_for_each_viewer(sidecar: Sidecar) -> None:
    listed = {each["name"]: each for each in sidecar.ask("GET", "/streams").json()["streams"]}
    assert {name: each["per_viewer"] for name, each in listed.items()} == {
        "loop": False, "film": True, "plain": True, "reordered": True, "noise": True,
    }  # fmt: skip
    codecs = {name: [track["codec"] for track in each["tracks"]] for name, each in listed.items()}
    assert codecs["plain"] == ["H264", "opus"], "AAC is encoded anew"
    assert codecs["reordered"] == ["VP8", "opus"], "B-frames are encoded anew"
    assert [name for name, each in listed.items() if each["problem"]] == ["noise"]


def test_each_viewer_begins_at_the_beginning(sidecar: Sidecar, video: Receiver) -> None:
    first = sidecar.take("film", video=video)
    eventually_sync(lambda: progress(sidecar, first)["position_s"] > 1.5, 10.0)
    with Receiver() as other:
        second = sidecar.take("film", video=other)
        assert begins_keyframe(other.first_rtp())
        assert progress(sidecar, second)["position_s"] < progress(sidecar, first)["position_s"] - 1
        assert sidecar.ask("DELETE", f"/leases/{second}").status == 200
        other.drain()
        assert quiet(other)
    assert not quiet(video)
    assert sidecar.ask("DELETE", f"/leases/{first}").status == 200


def test_a_film_is_paused_and_goes_on_as_one_source(
    sidecar: Sidecar, video: Receiver, audio: Receiver
) -> None:
    lease = sidecar.take("film", video=video, audio=audio)
    before = media(video, 1.5)
    paused = steer(sidecar, lease, "pause")
    assert paused["state"] == "paused" and paused["duration_s"] == pytest.approx(SECONDS, abs=0.5)
    before += media(video, 0.3)
    video.drain()
    audio.drain()
    assert quiet(video) and quiet(audio)
    assert progress(sidecar, lease)["position_s"] == paused["position_s"]
    started = steer(sidecar, lease, "start")
    assert started["state"] == "playing"
    after = media(video, 1.0)
    assert {packet.ssrc for packet in (*before, *after)} == {before[0].ssrc}
    assert begins_keyframe(after[0])
    assert 0 < rtp.distance(after[0].sequence, before[-1].sequence, 16) < 20
    apart_s = rtp.distance(after[0].timestamp, before[-1].timestamp, 32) / VIDEO_RATE
    assert 0.4 < apart_s < 5.0, "timestamps go on with the time of day"
    sidecar.ask("DELETE", f"/leases/{lease}")


def test_one_goes_elsewhere_in_a_film_and_it_ends(sidecar: Sidecar, video: Receiver) -> None:
    lease = sidecar.take("film", video=video)
    video.first_rtp()
    sought = steer(sidecar, lease, "seek", {"position_s": SECONDS - 1.5})
    assert sought["state"] == "playing"
    eventually_sync(lambda: progress(sidecar, lease)["position_s"] >= SECONDS - 2.5, 5.0)
    eventually_sync(lambda: progress(sidecar, lease)["state"] == "ended", 10.0)
    assert progress(sidecar, lease)["position_s"] == pytest.approx(SECONDS, abs=0.5)
    video.drain()
    assert quiet(video)
    assert steer(sidecar, lease, "start")["position_s"] < 1.0
    assert begins_keyframe(video.first_rtp())
    steer(sidecar, lease, "pause")
    waiting = steer(sidecar, lease, "seek", {"position_s": 4.0})
    assert (waiting["state"], waiting["position_s"]) == ("paused", 4.0)
    assert steer(sidecar, lease, "start")["state"] == "playing"
    eventually_sync(lambda: 3.0 <= progress(sidecar, lease)["position_s"] < 7.0, 5.0)
    sidecar.ask("DELETE", f"/leases/{lease}")


def test_end_of_a_film_is_told_though_reports_come_back(
    sidecar: Sidecar, video: Receiver, audio: Receiver
) -> None:
    """They keep the pipeline's own end from coming, sometimes: rtpbin then leaves sinks of RTCP
    without theirs."""
    lease = sidecar.take("film", video=video, audio=audio)
    ssrc = video.first_rtp().ssrc
    for _ in range(4):
        assert steer(sidecar, lease, "seek", {"position_s": SECONDS - 1.0})["state"] == "playing"

        def has_ended() -> bool:
            for _ in video.packets(0.3):
                video.ask_keyframe(ssrc)
            return bool(progress(sidecar, lease)["state"] == "ended")

        eventually_sync(has_ended, 10.0)
    sidecar.ask("DELETE", f"/leases/{lease}")


@pytest.mark.parametrize("name", ["plain", "reordered"])
def test_what_browsers_do_not_take_is_encoded_anew(
    sidecar: Sidecar, video: Receiver, audio: Receiver, name: str
) -> None:
    lease = sidecar.take(name, video=video, audio=audio)
    assert video.first_rtp().payload and audio.first_rtp().payload
    assert progress(sidecar, lease)["state"] == "playing"
    sounds = media(audio, 1.0)
    sidecar.ask("DELETE", f"/leases/{lease}")
    decoder = av.CodecContext.create("opus", "r")
    decoded = [frame for each in sounds for frame in decoder.decode(av.Packet(each.payload))]
    assert len(decoded) > 25
    loudest = max(max(array("f", bytes(frame.planes[0]))) for frame in decoded)
    assert loudest > 0.1, "the tone is heard"


def test_pictures_that_were_reordered_are_seen_once_they_are_encoded_anew(
    sidecar: Sidecar, video: Receiver
) -> None:
    lease = sidecar.take("reordered", video=video)
    pictures = decode_vp8(media(video, 2.0))
    sidecar.ask("DELETE", f"/leases/{lease}")
    assert len(pictures) > 25
    assert {(each.width, each.height) for each in pictures} == {(160, 120)}
    brightness = [bytes(each.planes[0]) for each in pictures]
    assert all(max(each) - min(each) > 100 for each in brightness), "bars are seen"


def test_a_file_that_cannot_be_played_is_listed_and_says_why(
    sidecar: Sidecar, video: Receiver
) -> None:
    listed = {each["name"]: each for each in sidecar.ask("GET", "/streams").json()["streams"]}
    problem = listed["noise"]["problem"]
    assert problem.startswith("noise.webm: ") and "/" not in problem
    asked = {"stream": "noise", "ports": {"video": video.port}}
    refused = sidecar.ask("POST", "/leases", asked)
    assert (refused.status, refused.body.decode().strip()) == (409, problem)


def test_what_films_send_is_counted_for_their_stream(sidecar: Sidecar) -> None:
    def metric(family: str, track: str = "") -> float:
        labels = 'stream="film"' + (f',track="{track}"' if track else "")
        return sidecar.metric(f"callboard_sidecar_{family}{{{labels}}}")

    def counted() -> list[float]:
        by_track = [metric(f"{what}_total", "video") for what in ("frames", "octets")]
        return [*by_track, metric("keyframes_total")]

    with Receiver() as first, Receiver() as second:
        leases = [sidecar.take("film", video=each) for each in (first, second)]
        before = counted()
        eventually_sync(lambda: counted()[0] >= before[0] + 50, 10.0)
        assert (metric("running"), metric("ready"), metric("leases")) == (1, 1, 2)
        played_s = sum(steer(sidecar, lease, "pause")["position_s"] for lease in leases)
        assert metric("running") == 0, "nothing is played while all wait"
        assert counted()[0] - before[0] >= 25 * played_s - 5, "both are counted"
        assert all(now > then for now, then in zip(counted(), before, strict=True))
        for lease in leases:
            steer(sidecar, lease, "start")
        assert metric("running") == 1
        sent = counted()
        assert all(now >= then for now, then in zip(sent, before, strict=True))
        for lease in leases:
            sidecar.ask("DELETE", f"/leases/{lease}")
        assert metric("running") == 0
        assert counted() >= sent, "a counter does not go back with a film's end"


def test_nothing_is_sent_after_the_end_of_a_lease_whatever_is_asked_meanwhile(
    sidecar: Sidecar, video: Receiver
) -> None:
    def steer_until_gone(lease: str) -> None:
        while sidecar.ask("POST", f"/leases/{lease}/seek", {"position_s": 1.0}).status != 404:
            pass

    for _ in range(8):
        lease = sidecar.take("film", video=video)
        steering = [threading.Thread(target=steer_until_gone, args=(lease,)) for _ in range(3)]
        for each in steering:
            each.start()
        video.first_rtp()
        assert sidecar.ask("DELETE", f"/leases/{lease}").status == 200
        for each in steering:
            each.join(10.0)
            assert not each.is_alive()
        video.drain()
        assert quiet(video)


def test_what_is_no_film_or_no_lease_is_not_steered(sidecar: Sidecar, video: Receiver) -> None:
    lease = sidecar.take("loop", video=video)
    assert "state" not in progress(sidecar, lease)
    steps: dict[str, object] = {"pause": None, "start": None, "seek": {"position_s": 1.0}}
    for verb, body in steps.items():
        assert sidecar.ask("POST", f"/leases/{lease}/{verb}", body).status == 409
        assert sidecar.ask("POST", f"/leases/nobody/{verb}", body).status == 404
        assert sidecar.ask("GET", f"/leases/{lease}/{verb}").status == 405
    assert sidecar.ask("POST", f"/leases/{lease}/stop").status == 404
    sidecar.ask("DELETE", f"/leases/{lease}")
    film = sidecar.take("film", video=video)
    for body in (None, {}, {"position_s": -1}, {"position_s": "1"}):
        assert sidecar.ask("POST", f"/leases/{film}/seek", body).status == 400
    sidecar.ask("DELETE", f"/leases/{film}")


def test_a_keyframe_may_be_asked_for(sidecar: Sidecar) -> None:
    assert sidecar.ask("POST", "/streams/loop/keyframe").status == 202
    assert sidecar.ask("POST", "/streams/none/keyframe").status == 404
    assert sidecar.ask("GET", "/streams/loop/keyframe").status == 405


def test_no_more_films_are_played_than_a_machine_bears(sidecar: Sidecar) -> None:
    with Receiver() as one:
        leases = [sidecar.take("film", video=one) for _ in range(16)]
        refused = sidecar.ask("POST", "/leases", {"stream": "film", "ports": {"video": one.port}})
        assert (refused.status, refused.body.strip()) == (503, b"16 films are played")
        for lease in leases:
            sidecar.ask("DELETE", f"/leases/{lease}")
        again = sidecar.take("film", video=one)
        sidecar.ask("DELETE", f"/leases/{again}")


@pytest.mark.parametrize(
    "data", [b"", b"\1", b"\1\x64\0\x1f\xff\xe0", b"\1\x64\0\x1f\xff\xe1\0\x09\x67"]
)
def test_parameter_sets_that_cannot_be_read_may_reorder(data: bytes) -> None:
    assert may_reorder(data)


@given(st.binary(max_size=80), st.booleans())
def test_any_octets_are_read_without_harm(noise: bytes, is_set: bool) -> None:
    data = b"\1\x64\0\x1f\xff\xe1" + len(noise).to_bytes(2, "big") + noise if is_set else noise
    assert may_reorder(data) in (True, False)


AUD, P_SLICE, B_SLICE, IDR = b"\x09\xf0", b"\x41\x9a\x24", b"\x01\x9e\x41", b"\x65\x88\x84"
"""As x264 makes them: an access unit's delimiter, and the first octets of slices."""


@pytest.mark.parametrize(
    ("units", "is_one"),
    [([B_SLICE], True), ([AUD, B_SLICE], True), ([AUD, P_SLICE], False), ([IDR, B_SLICE], True),
     ([P_SLICE, B_SLICE], False), ([AUD], False), ([], False)],
)  # fmt: skip
def test_a_picture_between_others_is_known_by_its_first_slice(
    units: list[bytes], is_one: bool
) -> None:
    for length_bytes in (1, 2, 4):
        data = b"".join(len(unit).to_bytes(length_bytes, "big") + unit for unit in units)
        assert is_bidirectional(data, length_bytes) is is_one


@given(st.binary(max_size=80), st.integers(min_value=1, max_value=4))
def test_any_octets_are_a_picture_or_none(noise: bytes, length_bytes: int) -> None:
    assert is_bidirectional(noise, length_bytes) in (True, False)
