"""Cameras: of the network, by RTSP, and of this machine; and two renditions of one picture."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.sockets import free_port
from tests.unit.sidecar.sidecar_process import (
    PYTHON,
    WITHIN_S,
    Receiver,
    Sidecar,
    begins_keyframe,
    lumas,
    running,
)

from callboard.media import rtp
from callboard.media.streams import BITS_PER_SECOND_MAX
from callboard.sidecar.configured import BadStreams, parse

pytestmark = pytest.mark.slow

SERVER = """
import sys, gi
for name in ("Gst", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
for path, launch in zip(sys.argv[2::2], sys.argv[3::2]):
    made = GstRtspServer.RTSPMediaFactory()
    made.set_launch(f"( {launch} )")
    made.set_shared(True)
    server.get_mount_points().add_factory(path, made)
assert server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""
PICTURE = "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=25/1"
ENCODED = (
    f"{PICTURE} ! x264enc tune=zerolatency key-int-max=25 speed-preset=ultrafast "
    "! rtph264pay name=pay0 pt=96"
)
MOUNTED = {
    "/plain": f"{ENCODED} audiotestsrc is-live=true ! audioconvert ! audioresample "
    "! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 pt=8",
    "/reordered": f"{PICTURE} ! x264enc bframes=2 b-adapt=false key-int-max=25 "
    "speed-preset=ultrafast ! video/x-h264,profile=main ! rtph264pay name=pay0 pt=96",
    "/aac": f"{ENCODED} audiotestsrc is-live=true ! avenc_aac ! rtpmp4gpay name=pay1 pt=97",
}
SECRET = "s3cret"


@contextmanager
def cameras(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An RTSP server with MOUNTED."""
    mounted = [word for pair in MOUNTED.items() for word in pair]
    process = subprocess.Popen([PYTHON, "-c", SERVER, str(port), *mounted], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait(WITHIN_S)
        process.stdout.close()


@contextmanager
def sidecar_of(folder: Path, text: str) -> Iterator[Sidecar]:
    streams = folder / "streams.toml"
    streams.write_text(text)
    with running(folder, f"-streams={streams}") as made:
        yield made


def camera(name: str, port: int, path: str, more: str) -> str:
    return (
        f'[[streams]]\nname = "{name}"\nsource = "rtsp"\n'
        f'url = "rtsp://viewer:{SECRET}@127.0.0.1:{port}{path}"\n{more}\n'
    )


@pytest.fixture
def video() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def audio() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def test_a_network_camera_is_passed_on_and_comes_back(
    tmp_path: Path, video: Receiver, audio: Receiver
) -> None:
    require("python3-gi", "gst-rtsp-server")
    port = free_port()
    with sidecar_of(tmp_path, camera("door", port, "/plain", 'audio = "PCMA"')) as sidecar:
        (listed,) = sidecar.ask("GET", "/streams").json()["streams"]
        assert [track["codec"] for track in listed["tracks"]] == ["H264", "PCMA"]
        eventually_sync(lambda: "a stream has ended by itself" in sidecar.log.read_text(), WITHIN_S)
        frames = 'callboard_sidecar_frames_total{stream="door",track="video"}'
        for _ in range(2):
            with cameras(port):
                eventually_sync(lambda: sidecar.metric(frames) > 0, 2 * WITHIN_S)
                lease = sidecar.take("door", video=video, audio=audio)
                assert video.first_rtp().payload_type == 96
                assert audio.first_rtp().payload_type == 8
                assert sidecar.ask("DELETE", f"/leases/{lease}").status == 200
            eventually_sync(lambda: sidecar.metric(frames) == 0, 2 * WITHIN_S)
            video.drain()
            audio.drain()
        assert SECRET not in sidecar.log.read_text()
        assert SECRET.encode() not in sidecar.ask("GET", "/streams").body


def test_what_browsers_do_not_take_of_a_camera_is_encoded_anew(
    tmp_path: Path, video: Receiver, audio: Receiver
) -> None:
    require("python3-gi", "gst-rtsp-server")
    port = free_port()
    yard = camera("yard", port, "/aac", 'audio = "MPEG4-GENERIC"')
    with cameras(port), sidecar_of(tmp_path, yard) as sidecar:
        (listed,) = sidecar.ask("GET", "/streams").json()["streams"]
        assert [track["codec"] for track in listed["tracks"]] == ["H264", "opus"]
        sidecar.take("yard", video=video, audio=audio)
        assert video.first_rtp().payload
        assert audio.first_rtp().payload


def test_reordered_pictures_of_a_camera_are_encoded_anew_once_that_is_seen(
    tmp_path: Path, video: Receiver
) -> None:
    require("python3-gi", "gst-rtsp-server")
    port = free_port()

    def codecs() -> list[str]:
        (listed,) = sidecar.ask("GET", "/streams").json()["streams"]
        return [track["codec"] for track in listed["tracks"]]

    def encoded_anew() -> bool:
        sidecar.ask("PUT", f"/leases/{before}")
        return codecs() == ["VP8"]

    with sidecar_of(tmp_path, camera("gate", port, "/reordered", "")) as sidecar:
        before = sidecar.take("gate", video=video)
        assert codecs() == ["H264"], "nobody has seen its pictures"
        with cameras(port):
            eventually_sync(encoded_anew, 2 * WITHIN_S)
            assert sidecar.ask("PUT", f"/leases/{before}").status == 404, "it was of H264"
            video.drain()
            sidecar.take("gate", video=video)
            numbers = [picture[3].timestamp for picture in islice(lumas(video, WITHIN_S), 20)]
        steps = [rtp.distance(b, a, 32) for a, b in pairwise(numbers)]
        assert len(steps) == 19 and min(steps) > 0, "in the order they are shown"
        assert sidecar.log.read_text().count("pictures are reordered") == 1


def test_pictures_that_come_as_they_are_shown_are_passed_on(tmp_path: Path) -> None:
    require("python3-gi", "gst-rtsp-server")
    port = free_port()
    with cameras(port), sidecar_of(tmp_path, camera("door", port, "/plain", "")) as sidecar:
        frames = 'callboard_sidecar_frames_total{stream="door",track="video"}'
        eventually_sync(lambda: sidecar.metric(frames) > 50, WITHIN_S)
        (listed,) = sidecar.ask("GET", "/streams").json()["streams"]
        assert [track["codec"] for track in listed["tracks"]] == ["H264"]
        assert sidecar.ready().status == 200


def test_sound_of_a_camera_that_is_not_taken_is_told_once(tmp_path: Path) -> None:
    require("python3-gi", "gst-rtsp-server")
    port = free_port()
    frames = 'callboard_sidecar_frames_total{stream="yard",track="video"}'
    with sidecar_of(tmp_path, camera("yard", port, "/aac", "")) as sidecar:
        for _ in range(2):
            with cameras(port):
                eventually_sync(lambda: sidecar.metric(frames) > 0, 2 * WITHIN_S)
            eventually_sync(lambda: sidecar.metric(frames) == 0, 2 * WITHIN_S)
        told = [one for one in sidecar.log.read_text().splitlines() if "is not taken" in one]
        assert len(told) == 1 and "yard" in told[0] and "MPEG4-GENERIC" in told[0]


def test_a_camera_that_is_not_there_is_told_and_tried_again(tmp_path: Path) -> None:
    require("python3-gi")
    text = '[[streams]]\nname = "webcam"\nsource = "camera"\ndevice = "/dev/video99"\n'
    with sidecar_of(tmp_path, text) as sidecar:
        eventually_sync(lambda: sidecar.ready().status == 503, WITHIN_S)
        eventually_sync(lambda: b"/dev/video99" in sidecar.ready().body, WITHIN_S)
        failures = 'callboard_sidecar_failures_total{stream="webcam"}'
        eventually_sync(lambda: sidecar.metric(failures) >= 2, WITHIN_S * SLOW)
        assert sidecar.process.poll() is None


TWO = f"""
{PICTURE} ! tee name=both
both. ! queue ! vp8enc deadline=1 cpu-used=8 target-bitrate=400000
! rtpvp8pay name=video pt=96 picture-id-mode=2
both. ! queue ! videoscale ! video/x-raw,width=80,height=60
! vp8enc deadline=1 cpu-used=8 target-bitrate=100000
! rtpvp8pay name=video-2 pt=96 picture-id-mode=2
"""


def test_two_renditions_of_one_picture_are_tracks_of_one_stream(
    tmp_path: Path, video: Receiver
) -> None:
    require("python3-gi")
    text = f"[[streams]]\nname = 'two'\nsource = 'launch'\npaced = false\nlaunch = '''{TWO}'''\n"
    with Receiver() as small, sidecar_of(tmp_path, text) as sidecar:
        (listed,) = sidecar.ask("GET", "/streams").json()["streams"]
        aims = {track["id"]: track["bits_per_second"] for track in listed["tracks"]}
        assert aims == {"video": 400_000, "video-2": 100_000}
        sidecar.take("two", **{"video": video, "video-2": small})
        best, least = video.first(_is_keyframe), small.first(_is_keyframe)
        assert best != least
        second = small.first_rtp()
        before = sidecar.metric('callboard_sidecar_keyframe_requests_total{stream="two"}')
        small.ask_keyframe(second.ssrc)
        assert small.first(_is_keyframe)
        requests = 'callboard_sidecar_keyframe_requests_total{stream="two"}'
        eventually_sync(lambda: sidecar.metric(requests) > before, WITHIN_S)


SMALL = "video/x-raw,format=I420,width=160,height=120"
ENCODERS = {
    "vp8": f"videotestsrc ! {SMALL} ! vp8enc target-bitrate=300000 ! queue ! rtpvp8pay name=video",
    "vp9": f"videotestsrc ! {SMALL} ! vp9enc target-bitrate=200000 ! rtpvp9pay name=video",
    "most": "videotestsrc ! vp8enc target-bitrate=2000000000 ! rtpvp8pay name=video",
    "h264": f"videotestsrc ! {SMALL} ! x264enc bitrate=700 ! h264parse ! rtph264pay name=video",
    "quality": f"videotestsrc ! {SMALL} ! x264enc pass=quant ! rtph264pay name=video",
    "opus": "audiotestsrc ! opusenc bitrate=48000 ! rtpopuspay name=audio",
    "pcma": "audiotestsrc ! alawenc ! rtppcmapay name=audio",
    "unencoded": "udpsrc port=0 ! application/x-rtp ! rtpvp8depay ! rtpvp8pay name=video",
}


def test_what_an_encoder_aims_at_is_listed(tmp_path: Path) -> None:
    require("python3-gi")
    text = "".join(
        f"[[streams]]\nname = '{name}'\nsource = 'launch'\non_demand = true\nlaunch = '{line}'\n"
        for name, line in ENCODERS.items()
    )
    text += "[[streams]]\nname = 'pattern'\nsource = 'test'\non_demand = true\n"
    with sidecar_of(tmp_path, text) as sidecar:
        listed = sidecar.ask("GET", "/streams").json()["streams"]
    assert [each["problem"] for each in listed] == [""] * len(listed)
    aims = {each["name"]: [track["bits_per_second"] for track in each["tracks"]] for each in listed}
    assert aims == {
        "vp8": [300_000], "vp9": [200_000], "most": [BITS_PER_SECOND_MAX], "h264": [700_000],
        "quality": [0], "opus": [48_000], "pcma": [0], "unencoded": [0],
        "pattern": [900_000, 32_000],
    }  # fmt: skip


def _is_keyframe(data: bytes) -> bool:
    return not rtp.is_rtcp(data) and begins_keyframe(rtp.parse(data))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ('url = "http://a"', "url begins with rtsp://"),
        ('url = "rtsp://a"\nvideo = "MPEG2"', "video is one of H264"),
        ('url = "rtsp://a"\naudio = "G729"', "audio is one of PCMU"),
    ],
)
def test_a_camera_that_cannot_be_is_refused_in_words(more: str, why: str) -> None:
    with pytest.raises(BadStreams, match=why):
        parse(f'[[streams]]\nname = "a"\nsource = "rtsp"\n{more}\n'.encode())
