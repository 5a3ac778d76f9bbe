"""Swim as a function of bytes and time: pings, probes, gossip, push/pull."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TypeVar

import pytest

from callboard.swim.codec import Codec, encode
from callboard.swim.config import Config, lan
from callboard.swim.core import Swim, push_pull_scale
from callboard.swim.events import (
    DatagramsLost,
    PushPullWith,
    StreamPing,
    Suspected,
    Undecodable,
    UserMessage,
)
from callboard.swim.messages import (
    Ack,
    Address,
    Alive,
    IndirectPing,
    Message,
    Nack,
    Ping,
    Suspect,
    User,
    Versions,
)

NOW = 100.0
A: Address = ("10.0.1.97", 7946)
CODEC = Codec()
M = TypeVar("M", bound=Message)


def swim(*names: str, config: Config | None = None) -> Swim:
    """A member "me" that knows some others; its output so far is thrown away."""
    config = config or lan("me", "10.0.0.1", 7946)
    core = Swim(config, CODEC, now=NOW, rng=random.Random(1))
    for name in names:
        give(core, alive(name))
    core.events()
    sent(core)
    return core


def alive(name: str, incarnation: int = 5) -> Alive:
    return Alive(incarnation, name, f"10.0.1.{ord(name)}", 7946, b"", Versions())


def give(core: Swim, *messages: Message, source: Address = A, now: float = NOW) -> None:
    for message in messages:
        core.receive_datagram(encode(message), source, now)


def sent(core: Swim) -> list[tuple[Message, Address]]:
    """Every message sent, those in compounds singly."""
    return [
        (message, address)
        for data, address in core.datagrams_to_send()
        for message in CODEC.open_datagram(data)
    ]


def sent_of(core: Swim, kind: type[M]) -> list[tuple[M, Address]]:
    return [(message, to) for message, to in sent(core) if isinstance(message, kind)]


def advance(core: Swim, until: float, now: float = NOW) -> None:
    """Fire timers as they fall due."""
    while core.deadline() <= until:
        core.handle_timer(max(core.deadline(), now))


# --- pings ------------------------------------------------------------------------------------


def test_ping_is_answered_to_its_source_address() -> None:
    core = swim()
    give(core, Ping(7, "me", ("10.0.9.9", 1), "b"))
    assert sent(core) == [(Ack(7), ("10.0.9.9", 1))]


def test_ping_without_source_is_answered_to_where_it_came_from() -> None:
    core = swim()
    give(core, Ping(7, "me"), source=("10.0.9.8", 2))
    assert sent(core) == [(Ack(7), ("10.0.9.8", 2))]


def test_ping_for_another_is_not_answered() -> None:
    core = swim()
    give(core, Ping(7, "who-had-this-address-before"))
    assert sent(core) == []
    assert core.answer_stream_ping(Ping(7, "another")) is None


def test_garbage_is_an_event_and_nothing_else() -> None:
    core = swim()
    core.receive_datagram(b"\xfegarbage", A, NOW)
    assert core.events() == [Undecodable("unexpected message type 254", A)]
    assert sent(core) == []


def test_user_message_is_handed_up() -> None:
    core = swim()
    give(core, User(b"\x03x"))
    assert core.events() == [UserMessage(b"\x03x")]


# --- probing ----------------------------------------------------------------------------------


def probed(core: Swim) -> Ping:
    """Let the next probe begin; its ping."""
    advance(core, NOW + 1.0)
    return sent_of(core, Ping)[0][0]


def test_one_member_is_pinged_each_interval() -> None:
    core = swim("a", "b")
    for second in range(1, 5):
        advance(core, NOW + second)
        pings = sent_of(core, Ping)
        assert len(pings) == 1
        give(core, Ack(pings[0][0].sequence), now=NOW + second + 0.01)


def test_answered_probe_suspects_nobody() -> None:
    core = swim("a")
    give(core, Ack(probed(core).sequence), now=NOW + 1.1)
    advance(core, NOW + 1.9)
    assert core.events() == []


def test_late_ping_is_repeated_by_others_and_over_tcp() -> None:
    core = swim(*"abcdef")
    ping = probed(core)
    advance(core, NOW + 1.5)
    requests = sent_of(core, IndirectPing)
    assert len(requests) == 3
    assert {request.node for request, _ in requests} == {ping.node}
    assert all(request.nack for request, _ in requests)
    wanted = core.streams_wanted()
    assert [type(one) for one in wanted] == [StreamPing]
    assert wanted[0].name == ping.node


def test_answer_by_another_member_is_as_good() -> None:
    core = swim("a", "b")
    ping = probed(core)
    advance(core, NOW + 1.5)
    give(core, Ack(ping.sequence), now=NOW + 1.8)
    advance(core, NOW + 2.5)
    assert not any(isinstance(event, Suspected) for event in core.events())


def test_answer_over_tcp_alone_suspects_nobody_and_names_the_network() -> None:
    core = swim("a")
    ping = probed(core)
    advance(core, NOW + 1.5)
    core.stream_ping_answered(ping.sequence, NOW + 1.6)
    assert core.events() == [DatagramsLost("a")]


def test_silence_on_all_ways_is_a_suspicion() -> None:
    core = swim("a")
    probed(core)
    advance(core, NOW + 2.0)
    assert core.events() == [Suspected("a", "me")]


def test_answer_to_another_probe_counts_for_nothing() -> None:
    core = swim("a")
    give(core, Ack(probed(core).sequence + 1), now=NOW + 1.1)
    advance(core, NOW + 2.0)
    assert core.events() == [Suspected("a", "me")]


def test_suspect_that_is_probed_is_told_so() -> None:
    core = swim("a")
    give(core, Suspect(5, "a", "b"))
    sent(core)
    advance(core, NOW + 1.0)
    assert Suspect(5, "a", "me") in [message for message, _ in sent(core)]


def test_missing_nacks_are_our_fault_and_all_nacks_are_not() -> None:
    for nacks, score in ((0, 2), (2, 0)):
        core = swim(*"abc")
        ping = probed(core)
        advance(core, NOW + 1.5)
        for _ in range(nacks):
            give(core, Nack(ping.sequence), now=NOW + 1.6)
        advance(core, NOW + 2.0)
        assert core.awareness.score == score


def test_unhealthy_member_waits_longer_before_it_suspects() -> None:
    core = swim("a")
    core.awareness.apply(2)
    probed(core)
    advance(core, NOW + 3.9)
    assert core.events() == []
    advance(core, NOW + 4.0)
    assert core.events() == [Suspected("a", "me")]


def test_pause_gives_up_the_probe_without_a_verdict() -> None:
    core = swim("a")
    probed(core)
    core.resume(NOW + 20.0, 18.5)
    advance(core, NOW + 20.9, now=NOW + 20.0)
    assert core.events() == []


# --- pinging for others -----------------------------------------------------------------------


def relayed(core: Swim) -> Ping:
    request = IndirectPing(77, ("10.0.1.98", 7946), "b", nack=True, source=A, source_node="a")
    give(core, request)
    ((ping, address),) = sent_of(core, Ping)
    assert address == ("10.0.1.98", 7946)
    return ping


def test_indirect_ping_that_is_answered_is_acknowledged_under_the_askers_number() -> None:
    core = swim("a", "b")
    ping = relayed(core)
    give(core, Ack(ping.sequence), now=NOW + 0.1)
    assert (Ack(77), A) in sent(core)


def test_indirect_ping_that_is_not_answered_is_a_nack() -> None:
    core = swim("a", "b")
    relayed(core)
    core.handle_timer(NOW + 0.5)
    assert (Nack(77), A) in sent(core)


# --- gossip and push/pull ---------------------------------------------------------------------


def test_broadcasts_ride_on_pings_and_acks() -> None:
    core = swim("a")
    core.broadcast_user("", b"\x03news")
    give(core, Ping(7, "me", A, "a"))
    assert {(Ack(7), A), (User(b"\x03news"), A)} <= set(sent(core))


def test_broadcast_is_gossiped_to_three_members_an_interval() -> None:
    core = swim(*"abcdef")
    core.broadcast_user("", b"\x03news")
    core.handle_timer(NOW + 0.2)
    addresses = [to for message, to in sent(core) if message == User(b"\x03news")]
    assert len(set(addresses)) == 3


def test_without_broadcasts_no_gossip_timer_runs() -> None:
    core = swim("a")
    advance(core, NOW + 5.0)  # what was said of "a" is sent by now
    sent(core)
    give(core, alive("a", 9))
    while core.deadline() < NOW + 20:
        core.handle_timer(core.deadline())
    assert core.deadline() > NOW + 15


def test_no_datagram_is_longer_than_the_limit() -> None:
    core = swim(*"abcdef")
    for number in range(200):
        core.broadcast_user("", b"\x03" + bytes(number))
    core.handle_timer(NOW + 0.2)
    assert max(len(data) for data, _ in core.datagrams_to_send()) <= 1400


def test_broadcast_that_fits_no_datagram_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        swim().broadcast_user("", bytes(1400))


def test_state_is_exchanged_with_one_live_member_now_and_then() -> None:
    core = swim("a", config=replace(lan("me", "10.0.0.1", 7946), probe_interval_s=1000.0))
    advance(core, NOW + 45.0)
    assert core.streams_wanted() == [PushPullWith(A, "a")]


@pytest.mark.parametrize(
    ("members", "factor"), [(1, 1), (32, 1), (33, 2), (64, 2), (65, 3), (128, 3)]
)
def test_push_pull_gets_rarer_in_big_clusters(members: int, factor: int) -> None:
    assert push_pull_scale(30.0, members) == 30.0 * factor


def test_our_state_lists_everyone() -> None:
    state = swim("a").push_pull(b"serf", join=True)
    assert {node.name for node in state.nodes} == {"me", "a"}
    assert (state.user_state, state.join) == (b"serf", True)
