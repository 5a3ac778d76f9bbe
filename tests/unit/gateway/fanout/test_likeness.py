"""The C helper and the Python one send the same bytes; neither uses a number for two packets."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.fanout.viewers import (
    PROFILES,
    OpenFanout,
    Screen,
    Stand,
    Viewer,
    parse,
    ssrc_of,
)

from callboard.gateway.fanout.native import NativeFanout
from callboard.gateway.fanout.plain import PlainFanout
from callboard.gateway.ports import Group
from callboard.gateway.stream.packet import Packet


@dataclass(frozen=True)
class Sent:
    """A packet to the group, ahead of the last one by `step` (or behind it: a resend)."""

    step: int
    timestamp: int
    marker: bool
    payload: bytes
    alone: bool
    """By the leg's own `send`."""


@dataclass(frozen=True)
class Together:
    """Some packets with the numbers from there on, at once."""

    step: int
    timestamp: int
    payloads: tuple[bytes, ...]
    alone: bool


@dataclass(frozen=True)
class Rebased:
    """Other offsets for all."""

    sequence: int
    timestamp: int


@dataclass(frozen=True)
class Passed:
    """Time has passed."""

    seconds: float


steps = st.integers(-1100, 40) | st.integers(1, 3) | st.integers(20_000, 32_000)
Act = Sent | Together | Rebased | Passed
long_and_short = st.sampled_from([1200, 1200, 1200, 700, 40, 0]).map(bytes)
acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(
        Sent,
        steps,
        st.integers(0, 1 << 40),
        st.booleans(),
        st.binary(max_size=40) | st.binary(min_size=1200, max_size=1460),
        st.booleans(),
    ),
    st.builds(
        Together,
        steps,
        st.integers(0, 1 << 40),
        st.lists(long_and_short, min_size=1, max_size=20).map(tuple),
        st.booleans(),
    ),
    st.builds(Rebased, st.integers(-(1 << 20), 1 << 20), st.integers(-(1 << 40), 1 << 40)),
    st.builds(Passed, st.floats(0, 100)),
)


def _perform(stand: Stand, group: Group, viewers: list[Viewer], acts: list[Act]) -> list[bytes]:
    """Do it all; return what came."""
    came, newest = [], 0
    for act in acts:
        if isinstance(act, Passed):
            stand.now.append(stand.now[-1] + act.seconds)
        elif isinstance(act, Rebased):
            for viewer in viewers:
                viewer.leg.rebase(act.sequence, act.timestamp)
        else:
            first = max(0, newest + act.step)
            packets = _packets(act, first)
            newest = max(newest, packets[-1].sequence)
            if act.alone:
                viewers[0].leg.send(packets)
            else:
                group.send(*packets)
            # (of two viewers the one may be first with a packet, or with all of them)
            came += sorted(stand.screen.received(), key=ssrc_of)
    return came


def _marker(number: int) -> bool:
    return number % 2 == 0


def _packets(act: Sent | Together, first: int) -> list[Packet]:
    if isinstance(act, Sent):
        return [Packet(first, act.timestamp, act.marker, act.payload)]
    return [
        Packet(number, act.timestamp, _marker(number), payload)
        for number, payload in enumerate(act.payloads, first)
    ]


def _run(
    open_fanout: OpenFanout, seed: int, profile: int, acts: list[Act]
) -> tuple[list[bytes], list[tuple[int, int, int]]]:
    """What came, and what each leg counted."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        screen = Screen()
        stack.callback(screen.close)
        now = [0.0]
        stand = Stand(open_fanout(sock, lambda: now[-1]), sock, screen, now, random.Random(seed))
        group = stand.fanout.group()
        viewers = [
            stand.viewer(
                sequence=stand.rng.getrandbits(15),
                timestamp=stand.rng.getrandbits(32),
                payload_type=stand.rng.getrandbits(7),
                send_time_id=send_time_id,
                profile=profile,
                group=group,
            )
            for send_time_id in (0, 3)
        ]
        came = _perform(stand, group, viewers, acts)
        counts = [(v.leg.packets, v.leg.octets, v.leg.dropped) for v in viewers]
        return came, counts


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    profile=st.sampled_from(sorted(PROFILES.values())),
    acts=st.lists(acts, max_size=30),
)
def test_both_send_the_same_bytes(library: Path, seed: int, profile: int, acts: list[Act]) -> None:
    def native(sock: socket.socket, clock: Callable[[], float]) -> NativeFanout:
        return NativeFanout(sock, library, clock=clock)

    def plain(sock: socket.socket, clock: Callable[[], float]) -> PlainFanout:
        return PlainFanout(sock, clock=clock)

    assert _run(native, seed, profile, acts) == _run(plain, seed, profile, acts)


near_by: st.SearchStrategy[Act] = st.one_of(
    st.builds(
        Sent,
        st.integers(-6, 8) | st.integers(-1100, 1100),
        st.integers(0, 9),
        st.booleans(),
        st.binary(max_size=2),
        st.booleans(),
    ),
    st.builds(
        Together,
        st.integers(-6, 8),
        st.integers(0, 9),
        st.lists(st.binary(max_size=2), min_size=1, max_size=4).map(tuple),
        st.booleans(),
    ),
    st.builds(Rebased, st.integers(0, 9) | st.integers(0, 20_000), st.integers(0, 9)),
    st.builds(Passed, st.floats(0, 1)),
)


@pytest.mark.parametrize("kind", ["native", "plain"])
@settings(max_examples=100, deadline=None)
@given(acts=st.lists(near_by, max_size=25))
def test_no_number_is_used_for_two_packets(
    request: pytest.FixtureRequest, kind: str, acts: list[Act]
) -> None:
    """Whatever is sent again, rebased or late. (The numbers stay below 65,536: none wraps.)

    The track itself has but one packet of each number: `_as_one_track` sees to it.
    """
    library: Path | None = request.getfixturevalue("library") if kind == "native" else None

    def open_fanout(sock: socket.socket, clock: Callable[[], float]) -> NativeFanout | PlainFanout:
        return (
            NativeFanout(sock, library, clock=clock) if library else PlainFanout(sock, clock=clock)
        )

    came, _ = _run(open_fanout, 1, PROFILES["GCM-256"], _as_one_track(acts))
    seen: dict[tuple[int, int], bytes] = {}
    for datagram in came:
        got = parse(datagram)
        assert seen.setdefault((got.ssrc, got.sequence), datagram) == datagram


def _as_one_track(acts: list[Act]) -> list[Act]:
    """The same, where a track's packet keeps payload and marker (not its timestamp: a burst's
    differ) until the next rebase, which stands for another track."""
    kept: dict[int, bytes] = {}
    newest = 0
    track: list[Act] = []
    for act in acts:
        if isinstance(act, Rebased):
            kept.clear()
        if isinstance(act, Rebased | Passed):
            track.append(act)
            continue
        first = max(0, newest + act.step)
        packets = _packets(act, first)
        newest = max(newest, packets[-1].sequence)
        payloads = tuple(kept.setdefault(each.sequence, each.payload) for each in packets)
        if isinstance(act, Sent):
            track.append(Sent(act.step, act.timestamp, _marker(first), payloads[0], act.alone))
        else:
            track.append(Together(act.step, act.timestamp, payloads, act.alone))
    return track
