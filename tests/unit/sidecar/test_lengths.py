"""Tracks of one stream that do not all bring something all the time: a file's that end early, and
one that never comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.unit.sidecar.sidecar_process import Sidecar, encode, running

from callboard.sidecar.course import STALLED_S

pytestmark = pytest.mark.slow

LONG_S, SHORT_S = STALLED_S + 3, 1.0
SEEN = "videotestsrc num-buffers={} ! video/x-raw,width=160,height=120,framerate=25/1"
HEARD = "audiotestsrc num-buffers={} samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2"
H264 = "x264enc key-int-max=25 speed-preset=ultrafast bframes=2 ! h264parse"
VP8 = "vp8enc deadline=1 keyframe-max-dist=25"
MADE = {
    "brief-sound.webm": ("webmmux", LONG_S, VP8, SHORT_S, "opusenc"),
    "brief-picture.webm": ("webmmux", SHORT_S, VP8, LONG_S, "opusenc"),
    "brief-sound.mkv": ("matroskamux", LONG_S, H264, SHORT_S, "avenc_aac"),
    # (a track below a fifth of the file is no track to qtdemux)
    "brief-sound.mp4": ("mp4mux", LONG_S, H264, LONG_S / 4, "avenc_aac"),
}
"""Encoded anew and sent as they are."""
MUTE = (
    "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=25/1 ! vp8enc "
    "deadline=1 ! rtpvp8pay name=video udpsrc address=127.0.0.1 port=0 "
    "caps=application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000 "
    "! rtpopusdepay ! rtpopuspay name=audio"
)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    require("gst-launch-1.0", "python3-gi")
    folder = tmp_path_factory.mktemp("lengths")
    text = f"[[streams]]\nname = 'mute'\nsource = 'launch'\npaced = false\nlaunch = '''{MUTE}'''\n"
    for name, (muxer, seen_s, video, heard_s, audio) in MADE.items():
        seen, heard = SEEN.format(round(25 * seen_s)), HEARD.format(round(50 * heard_s))
        tracks = (f"{seen} ! {video} ! queue ! m.", f"{heard} ! {audio} ! queue ! m.")
        encode(muxer, folder / name, *tracks)
        text += f"[[streams]]\nname = '{name}'\nsource = 'file'\npath = '{name}'\n"
    streams = folder / "streams.toml"
    streams.write_text(text)
    with running(folder, f"-streams={streams}") as made_sidecar:
        yield made_sidecar


def test_a_file_whose_tracks_end_at_different_times_is_looped_and_stays_ready(
    sidecar: Sidecar,
) -> None:
    """Each reaches its second pass: the track that has ended comes anew."""
    unready: set[str] = set()
    brief = {
        name: ("audio", 50 * heard_s) if heard_s < seen_s else ("video", 25 * seen_s)
        for name, (_, seen_s, _, heard_s, _) in MADE.items()
    }

    def second_pass() -> bool:
        unready.update(
            name
            for name in brief
            if not sidecar.metric(f'callboard_sidecar_ready{{stream="{name}"}}')
        )
        return all(
            sidecar.metric(f'callboard_sidecar_frames_total{{stream="{name}",track="{track}"}}')
            > frames + 10
            for name, (track, frames) in brief.items()
        )

    eventually_sync(second_pass, LONG_S + 10, interval_s=0.2)
    assert unready == set()
    failures = [
        sidecar.metric(f'callboard_sidecar_failures_total{{stream="{name}"}}') for name in brief
    ]
    assert failures == [0.0] * len(brief)


def test_a_track_that_never_comes_is_told_and_the_other_goes_on(sidecar: Sidecar) -> None:
    frames = 'callboard_sidecar_frames_total{stream="mute",track="video"}'
    eventually_sync(lambda: sidecar.metric(frames) > 25 * (STALLED_S + 1), 2 * STALLED_S)
    assert sidecar.metric('callboard_sidecar_failures_total{stream="mute"}') == 0
    assert sidecar.ready().status == 503
    assert "mute: no frame of track audio yet" in sidecar.ready().body.decode()
    told = [line for line in sidecar.log.read_text().splitlines() if "a track is missed" in line]
    assert len(told) == 1 and "mute" in told[0] and "audio" in told[0]
