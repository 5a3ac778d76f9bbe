"""The sidecar as a process, with the real GStreamer: leases by HTTP, RTP by UDP."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.certified import CA, material
from tests.harness.eventually import eventually_sync
from tests.unit.sidecar.sidecar_process import (
    NTP_BEFORE_UNIX_S,
    OPUS_RATE,
    ROOT,
    VIDEO_RATE,
    Receiver,
    Sidecar,
    beeps,
    begins_keyframe,
    lumas,
    run,
    running,
    wall_s,
)

from callboard.media import clock, rtp
from callboard.pki.contexts import client_context
from callboard.pki.roles import names_for
from callboard.sidecar.pipeline import picture

pytestmark = pytest.mark.slow

BALL = """
videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=25/1
! vp8enc deadline=1 cpu-used=8 keyframe-max-dist=1000 ! rtpvp8pay name=video pt=97
"""
STREAMS = f"""
[[streams]]
name = "test-pattern"
title = "Opus/VP8 live stream coming from gstreamer"
source = "test"

[[streams]]
name = "ball"
source = "launch"
on_demand = true
paced = false
launch = '''{BALL}'''

[[streams]]
name = "unknown"
source = "launch"
launch = "nosuchelement ! rtpvp8pay name=video"
"""


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    require("gst-launch-1.0")
    folder = tmp_path_factory.mktemp("sidecar")
    streams = folder / "streams.toml"
    streams.write_text(STREAMS)
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


@contextlib.contextmanager
def leased(sidecar: Sidecar, stream: str, **receivers: Receiver) -> Iterator[str]:
    """Hold a lease."""
    lease = sidecar.take(stream, **receivers)
    try:
        yield lease
    finally:
        sidecar.ask("DELETE", f"/leases/{lease}")


def test_streams_are_listed_with_their_tracks_and_problems(sidecar: Sidecar) -> None:
    listed = {each["name"]: each for each in sidecar.ask("GET", "/streams").json()["streams"]}
    assert list(listed) == ["test-pattern", "ball", "unknown"]
    pattern, ball, unknown = listed.values()
    assert pattern["title"] == "Opus/VP8 live stream coming from gstreamer"
    codecs = [(track["codec"], track["payload_type"]) for track in pattern["tracks"]]
    assert codecs == [("VP8", 96), ("opus", 111)]
    assert ball["on_demand"] and ball["tracks"][0]["payload_type"] == 97
    assert "nosuchelement" in unknown["problem"] and unknown["tracks"] == []


def test_a_lease_brings_rtp_and_reports_of_both_tracks_each_by_one_port(
    sidecar: Sidecar, video: Receiver, audio: Receiver
) -> None:
    with leased(sidecar, "test-pattern", video=video, audio=audio):
        for receiver, payload_type in ((video, 96), (audio, 111)):
            packet, report = receiver.first_rtp(), receiver.report()
            assert packet.payload_type == payload_type
            assert report.ssrc == packet.ssrc
            assert (
                abs((report.sender_info.ntp_timestamp >> 32) - NTP_BEFORE_UNIX_S - time.time()) < 3
            )
            assert len(receiver.sources) == 1


def test_the_clock_is_read_from_decoded_pictures(sidecar: Sidecar, video: Receiver) -> None:
    with leased(sidecar, "test-pattern", video=video):
        ages, times = [], []
        for luma, width, row_bytes, _ in lumas(video, 2.0):
            value = clock.read(luma, width, row_bytes)
            assert value is not None
            times.append(value)
            ages.append(clock.age_ms(value, time.time_ns() // 1_000_000))
    steps = [clock.age_ms(before, after) for before, after in pairwise(times)]
    assert len(times) >= 40
    assert sorted(steps)[len(steps) // 2] == pytest.approx(40, abs=8)
    assert 0 <= min(ages) < 150


def test_a_frame_was_painted_when_its_report_says(sidecar: Sidecar, video: Receiver) -> None:
    with leased(sidecar, "test-pattern", video=video):
        report = video.report()
        luma, width, row_bytes, packet = next(lumas(video, 5.0))
    painted = clock.read(luma, width, row_bytes)
    assert painted is not None
    by_report = round(wall_s(report, packet.timestamp, VIDEO_RATE) * 1000)
    assert abs(clock.age_ms(painted, by_report)) <= 40


def test_picture_and_sound_flash_together(
    sidecar: Sidecar, video: Receiver, audio: Receiver
) -> None:
    left, top, width, height = picture.PATCH
    middle = (top + height // 2, left + width // 2)
    with leased(sidecar, "test-pattern", video=video, audio=audio):
        reports = video.report(), audio.report()
        flashes, bright = [], True
        for luma, _, row_bytes, packet in lumas(video, 4.5):
            before, bright = bright, luma[middle[0] * row_bytes + middle[1]] > 128
            if bright and not before:
                flashes.append(wall_s(reports[0], packet.timestamp, VIDEO_RATE))
        received = [rtp.parse(data) for data in audio.packets(0.1) if not rtp.is_rtcp(data)]
    heard = [wall_s(reports[1], at, OPUS_RATE) for at in beeps(received, 0.1)]
    apart = [min(abs(beep - flash) for beep in heard) for flash in flashes]
    assert len(apart) >= 3
    assert max(apart) <= 0.03


def test_a_pli_brings_a_keyframe_within_a_second(sidecar: Sidecar, video: Receiver) -> None:
    """The stream has a keyframe in 40 s by itself, and one for each new lease."""
    with leased(sidecar, "ball", video=video):
        video.first(lambda data: not rtp.is_rtcp(data) and begins_keyframe(rtp.parse(data)))
        list(video.packets(1.5))  # (what the lease itself brought)
        packet = video.first_rtp()
        video.ask_keyframe(packet.ssrc)
        video.first(
            lambda data: not rtp.is_rtcp(data) and begins_keyframe(rtp.parse(data)), within_s=1.0
        )


def test_ipv4_is_served_at_an_address_of_ipv6(tmp_path: Path, video: Receiver) -> None:
    require("gst-launch-1.0")
    streams = tmp_path / "streams.toml"
    streams.write_text(STREAMS)
    with running(tmp_path, f"-streams={streams}", "-bind=::", "-allow-plain") as sidecar:
        sidecar.take("ball", video=video)
        packet = video.first_rtp()
        requests = 'callboard_sidecar_keyframe_requests_total{stream="ball"}'
        before = sidecar.metric(requests)
        video.ask_keyframe(packet.ssrc)
        eventually_sync(lambda: sidecar.metric(requests) > before)


def test_a_pli_from_who_holds_no_lease_is_dropped(sidecar: Sidecar, video: Receiver) -> None:
    with leased(sidecar, "ball", video=video):
        packet = video.first_rtp()
        list(video.packets(1.0))
        requests = 'callboard_sidecar_keyframe_requests_total{stream="ball"}'
        before = sidecar.metric(requests)
        video.ask_keyframe(packet.ssrc, by="127.0.0.2")
        assert len(list(video.packets(1.0))) > 0
        assert sidecar.metric(requests) == before


def test_several_leases_are_served_at_once(sidecar: Sidecar) -> None:
    with Receiver() as first, Receiver() as second:
        with (
            leased(sidecar, "test-pattern", video=first),
            leased(sidecar, "test-pattern", video=second),
        ):
            assert first.first_rtp().ssrc == second.first_rtp().ssrc
        first.drain()
        eventually_sync(lambda: not list(first.packets(0.3)), 5.0)


def test_a_lease_that_is_not_renewed_ends_the_packets(sidecar: Sidecar, video: Receiver) -> None:
    begun = time.monotonic()
    lease = sidecar.take("test-pattern", video=video)
    assert sidecar.ask("PUT", f"/leases/{lease}").json() == {"lasts_s": 10.0}
    last = begun
    for _ in video.packets(13.0):
        last = time.monotonic()
    assert 9.5 <= last - begun <= 11.5
    assert sidecar.ask("PUT", f"/leases/{lease}").status == 404
    assert sidecar.ask("DELETE", f"/leases/{lease}").status == 404


def test_a_stream_on_demand_runs_with_its_first_lease_only(
    sidecar: Sidecar, video: Receiver
) -> None:
    with leased(sidecar, "ball", video=video):
        video.first_rtp()
        assert sidecar.metric('callboard_sidecar_running{stream="ball"}') == 1
        assert sidecar.metric('callboard_sidecar_leases{stream="ball"}') == 1
    eventually_sync(
        lambda: sidecar.metric('callboard_sidecar_running{stream="ball"}') == 0, timeout_s=25.0
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/leases", {"stream": "nobody", "ports": {"video": 4000}}, 404),
        ("POST", "/leases", {"stream": "unknown", "ports": {"video": 4000}}, 409),
        ("POST", "/leases", {"stream": "ball", "ports": {"audio": 4000}}, 409),
        ("POST", "/leases", {"stream": "ball"}, 400),
        ("POST", "/leases", b"\xff", 400),
        ("POST", "/leases", b" " * 5000, 413),
        ("GET", "/leases", None, 405),
        ("POST", "/streams", b"", 405),
        ("GET", "/leases/none", None, 405),
        ("PUT", "/leases/none", b"", 404),
        ("GET", "/", None, 404),
    ],
)
def test_what_cannot_be_done_is_refused(
    sidecar: Sidecar, method: str, path: str, body: object, status: int
) -> None:
    assert sidecar.ask(method, path, body).status == status


def test_a_page_in_a_browser_is_refused(sidecar: Sidecar) -> None:
    reply = sidecar.ask("GET", "/streams", headers={"Origin": "http://localhost"})
    assert reply.status == 403


def test_it_is_ready_while_frames_come(tmp_path: Path) -> None:
    require("gst-launch-1.0")
    streams = tmp_path / "streams.toml"
    streams.write_text(
        "[[streams]]\nname = 'brief'\nsource = 'launch'\nlaunch = 'videotestsrc num-buffers=25 "
        "! video/x-raw,framerate=25/1 ! vp8enc deadline=1 ! rtpvp8pay name=video'\n"
        "[[streams]]\nname = 'silent'\nsource = 'launch'\nlaunch = 'udpsrc address=127.0.0.1 "
        "port=0 caps=application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000 "
        "! rtpvp8depay ! rtpvp8pay name=video'\n"
    )
    with running(tmp_path, f"-streams={streams}") as sidecar:
        assert sidecar.ready().status == 200
        eventually_sync(lambda: sidecar.ready().status == 503, 8.0)
        assert sidecar.ready().body.decode().startswith("silent: no frame for ")
        failures = 'callboard_sidecar_failures_total{stream="brief"}'
        eventually_sync(lambda: sidecar.metric(failures) >= 2, 10.0)
        assert "the source has ended" in sidecar.log.read_text()


def _film(folder: Path) -> None:
    """Two seconds of VP8 and Opus, and a file whose kind is not played."""
    shown = "videotestsrc num-buffers=50 ! video/x-raw,width=160,height=120,framerate=25/1"
    sound = "audiotestsrc num-buffers=100 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2"
    made = f"webmmux name=m ! filesink location={folder}/film.webm {shown} ! vp8enc deadline=1"
    for line in (
        f"{made} ! queue ! m. {sound} ! opusenc ! queue ! m.",
        f"{shown} ! jpegenc ! avimux ! filesink location={folder}/jpeg.avi",
    ):
        subprocess.run(["gst-launch-1.0", "-q", *line.split()], check=True, timeout=30)


def test_a_file_is_played_over_and_over_without_a_gap(
    tmp_path: Path, video: Receiver, audio: Receiver
) -> None:
    require("gst-launch-1.0")
    _film(tmp_path)
    streams = tmp_path / "streams.toml"
    odd = 'a "film" \\ of ours!.webm'
    (tmp_path / "film.webm").rename(tmp_path / odd)
    paths = {"film": odd, "jpeg": "jpeg.avi", "none": "none.webm"}
    streams.write_text(
        "".join(
            f"[[streams]]\nname = '{name}'\nsource = 'file'\npath = '{path}'\n"
            for name, path in paths.items()
        )
    )
    with running(tmp_path, f"-streams={streams}") as sidecar:
        listed = sidecar.ask("GET", "/streams").json()["streams"]
        assert [each["problem"] == "" for each in listed] == [True, False, False]
        assert "WebM, Matroska and MP4 are played" in listed[1]["problem"]
        told = [each["problem"] for each in listed[1:]]
        assert [why.split(" ")[0].rstrip(":") for why in told] == ["jpeg.avi", "none.webm"]
        assert not any(str(tmp_path) in why for why in told), "where files lie is nobody's business"
        with leased(sidecar, "film", video=video, audio=audio):
            video.first_rtp()
            arrived = [
                (rtp.parse(data), time.monotonic())
                for data in video.packets(7.0)
                if not rtp.is_rtcp(data)
            ]
            heard = [rtp.parse(data) for data in audio.packets(0.1) if not rtp.is_rtcp(data)]
    for packets in ([packet for packet, _ in arrived], heard):
        assert len({packet.ssrc for packet in packets}) == 1
        steps = {rtp.distance(b.sequence, a.sequence, 16) for a, b in pairwise(packets)}
        assert steps == {1}
    assert sum(begins_keyframe(packet) for packet, _ in arrived) >= 3
    ticks = [rtp.distance(b.timestamp, a.timestamp, 32) for (a, _), (b, _) in pairwise(arrived)]
    assert max(ticks) <= 2 * VIDEO_RATE // 25
    assert max(b - a for (_, a), (_, b) in pairwise(arrived)) < 0.25
    assert max(rtp.distance(b.timestamp, a.timestamp, 32) for a, b in pairwise(heard)) <= 1920


def test_the_example_script_sends_both_tracks(video: Receiver, audio: Receiver) -> None:
    require("gst-launch-1.0")
    script = ROOT / "examples/gst-test-pattern.sh"
    with subprocess.Popen([script, "127.0.0.1", str(video.port), str(audio.port)]) as process:
        try:
            assert video.first_rtp().payload_type == 96
            assert audio.first_rtp().payload_type == 111
            assert len(list(lumas(video, 3.0))) >= 20
        finally:
            process.terminate()
            process.wait(10)


def test_sigterm_ends_it_cleanly_and_at_once(tmp_path: Path, video: Receiver) -> None:
    require("gst-launch-1.0")
    with running(tmp_path) as sidecar:
        sidecar.take("test-pattern", video=video)
        video.first_rtp()
        begun = time.monotonic()
        assert sidecar.end() == 0
        assert time.monotonic() - begun < 4
        assert "Traceback" not in sidecar.log.read_text()
        assert "CRITICAL" not in sidecar.log.read_text()


def test_a_bad_streams_file_is_refused_in_one_line(tmp_path: Path) -> None:
    require("gst-launch-1.0")
    streams = tmp_path / "streams.toml"
    streams.write_text("[[streams]]\nname = 'a'\n")
    done = run(f"-streams={streams}")
    assert done.returncode == 1
    assert "cannot start" in done.stderr and "source is 'test', 'launch', 'file'" in done.stderr


DEBIANS = "__path__ = ['/usr/lib/python3/dist-packages/cryptography']\n"
"""Debian 12's makes a key well, and fails later."""


@pytest.mark.parametrize(
    ("library", "found"),
    [
        (f"{DEBIANS}__version__ = '38.0.4'", "38.0.4 is here"),
        (f"{DEBIANS}__version__ = '41.0.7'", "41.0.7 is here"),
        ("raise ModuleNotFoundError('no such module')", "none is here"),
    ],
)
def test_an_exchange_is_refused_before_a_key_is_made_where_cryptography_is_too_old(
    tmp_path: Path, library: str, found: str
) -> None:
    require("gst-launch-1.0")
    package = tmp_path / "cryptography"
    package.mkdir()
    (package / "__init__.py").write_text(library)
    identity, exchange = tmp_path / "identity", tmp_path / "exchange"
    done = run(f"-identity={identity}", f"-exchange={exchange}", "-port=0", libraries=tmp_path)
    assert done.returncode == 1
    assert f"-exchange needs python3-cryptography 42 or newer, {found}" in done.stderr
    assert "made a private key" not in done.stderr
    assert not identity.exists() and not exchange.exists()


def test_by_mutual_tls_only_a_gateway_takes_leases(tmp_path: Path, video: Receiver) -> None:
    require("gst-launch-1.0")
    authority = CA(constraints=None)
    ours = material(tmp_path / "own", authority.leaf(names_for("sidecar", "box")), authority)
    flags = (
        f"-cert-file={ours.certificate}",
        f"-key-file={ours.key}",
        f"-ca-file={ours.authorities}",
        f"-crl-file={ours.revoked}",
    )
    contexts = {
        role: client_context(
            material(tmp_path / role, authority.leaf(names_for(role, "box")), authority)
        )
        for role in ("gateway", "hub")
    }
    with running(tmp_path, *flags, tls=contexts["gateway"]) as sidecar:
        with leased(sidecar, "test-pattern", video=video):
            video.first_rtp()
        sidecar.tls = contexts["hub"]
        refused = sidecar.ask("GET", "/streams")
        assert refused.status == 403 and b"this port is for gateway" in refused.body
        sidecar.tls = ssl.create_default_context(cafile=str(ours.authorities))
        with pytest.raises(OSError):
            sidecar.ask("GET", "/streams")
        eventually_sync(lambda: "it showed no certificate" in sidecar.log.read_text())
