"""The serf layer: intents, departures, failed members, tags (serf, serf_test.go)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from callboard.swim.codec import Codec, encode, encode_node_state
from callboard.swim.config import SerfConfig, lan
from callboard.swim.events import PushPullWith, Undecodable
from callboard.swim.messages import (
    Ack,
    Address,
    Alive,
    Dead,
    Message,
    Ping,
    PushPull,
    Suspect,
    User,
    Versions,
)
from callboard.swim.serf import Serf, same_identity
from callboard.swim.serf_members import MemberEvent, MemberEventKind, MemberStatus
from callboard.swim.serf_messages import (
    JoinIntent,
    LeaveIntent,
    SerfMessage,
    UserEvent,
    UserState,
    decode_serf,
    encode_serf,
    encode_tags,
)

NOW = 100.0
A: Address = ("10.0.1.97", 7946)
CODEC = Codec()


def serf(*names: str, config: SerfConfig | None = None) -> Serf:
    """A serf member "me" that knows some others; its events so far are thrown away."""
    core = Serf(
        lan("me", "10.0.0.1", 7946),
        config or SerfConfig(),
        {"role": "callboard"},
        CODEC,
        now=NOW,
        rng=random.Random(1),
    )
    for name in names:
        give(core, alive(name))
    core.events()
    return core


def alive(name: str, incarnation: int = 5, tags: dict[str, str] | None = None) -> Alive:
    meta = encode_tags(tags or {"role": "web"})
    return Alive(incarnation, name, f"10.0.1.{ord(name)}", 7946, meta, Versions())


def give(core: Serf, *messages: Message | SerfMessage, now: float = NOW) -> None:
    for message in messages:
        if isinstance(message, Alive | Dead | Suspect | Ping):
            core.receive_datagram(encode(message), A, now)
        else:
            core.receive_datagram(encode(User(encode_serf(message))), A, now)  # type: ignore[arg-type]


def kinds(core: Serf) -> list[tuple[str, str]]:
    return [(str(e.kind), e.member.name) for e in core.events() if isinstance(e, MemberEvent)]


def status(core: Serf, name: str) -> MemberStatus | None:
    member = core.member(name)
    return None if member is None else member.status


def spread(core: Serf, now: float = NOW + 0.2) -> list[SerfMessage]:
    """Every serf message that is gossiped next."""
    core.handle_timer(now)
    return [
        decode_serf(message.data)
        for data, _ in core.datagrams_to_send()
        for message in CODEC.open_datagram(data)
        if isinstance(message, User)
    ]


def user_state(time: int = 1, times: dict[str, int] | None = None, *left: str) -> PushPull:
    state = UserState(time, times or {}, left, 1, (), 1)
    return PushPull((), encode_serf(state), join=False)


# --- members ----------------------------------------------------------------------------------


def test_we_are_a_member_ourselves_and_that_is_an_event() -> None:
    core = Serf(
        lan("me", "10.0.0.1", 7946),
        SerfConfig(),
        {"role": "callboard"},
        CODEC,
        now=NOW,
        rng=random.Random(1),
    )
    assert kinds(core) == [("join", "me")]
    assert core.members()[0].tags == {"role": "callboard"}


def test_newcomer_has_its_tags() -> None:
    core = serf()
    give(core, alive("a", tags={"role": "web", "rack": "a1"}))
    member = core.member("a")
    assert member is not None and member.tags == {"role": "web", "rack": "a1"}
    assert (member.endpoint, kinds(core)) == (A, [("join", "a")])


def test_changed_tags_are_an_update() -> None:
    core = serf("a")
    give(core, alive("a", 6, {"role": "db"}))
    assert kinds(core) == [("update", "a")]


def test_dead_member_has_failed() -> None:
    core = serf("a")
    give(core, Dead(5, "a", "b"))
    assert (status(core, "a"), kinds(core)) == (MemberStatus.FAILED, [("failed", "a")])


def test_dead_member_that_meant_to_leave_has_left() -> None:
    core = serf("a")
    give(core, LeaveIntent(3, "a"))
    assert status(core, "a") == MemberStatus.LEAVING
    give(core, Dead(5, "a", "b"))
    assert (status(core, "a"), kinds(core)) == (MemberStatus.LEFT, [("leave", "a")])


def test_member_that_declares_itself_dead_has_left_even_if_its_intent_was_lost() -> None:
    core = serf("a")
    give(core, Dead(5, "a", "a"))
    assert kinds(core) == [("leave", "a")]


def test_failed_member_that_comes_back_joins() -> None:
    core = serf("a")
    give(core, Dead(5, "a", "b"))
    core.events()
    give(core, alive("a", 6))
    assert (status(core, "a"), kinds(core)) == (MemberStatus.ALIVE, [("join", "a")])


def test_live_peers_are_others_that_are_alive() -> None:
    core = serf("a")
    assert core.has_live_peers()
    give(core, Dead(5, "a", "b"))
    assert not core.has_live_peers()


# --- intents ----------------------------------------------------------------------------------


def test_older_leave_never_undoes_a_newer_join() -> None:
    core = serf("a")
    give(core, JoinIntent(5, "a"), LeaveIntent(4, "a"))
    assert status(core, "a") == MemberStatus.ALIVE


def test_newer_join_undoes_a_leave() -> None:
    core = serf("a")
    give(core, LeaveIntent(4, "a"), JoinIntent(5, "a"))
    assert status(core, "a") == MemberStatus.ALIVE


def test_leave_of_a_failed_member_makes_it_left() -> None:
    core = serf("a")
    give(core, Dead(5, "a", "b"))
    core.events()
    give(core, LeaveIntent(4, "a"))
    assert (status(core, "a"), kinds(core)) == (MemberStatus.LEFT, [("leave", "a")])


def test_intent_that_is_ahead_of_its_member_waits_for_it() -> None:
    core = serf()
    give(core, LeaveIntent(4, "a"), alive("a"))
    assert status(core, "a") == MemberStatus.LEAVING


def test_intent_that_waited_too_long_is_forgotten() -> None:
    core = serf()
    give(core, LeaveIntent(4, "a"))
    core.handle_timer(NOW + 301)
    give(core, alive("a"), now=NOW + 301)
    assert status(core, "a") == MemberStatus.ALIVE


def test_intent_is_spread_on_once() -> None:
    core = serf("a")
    give(core, JoinIntent(5, "a"), JoinIntent(5, "a"))
    assert JoinIntent(5, "a") in spread(core)


def test_intent_of_ours_to_leave_that_is_old_is_refuted() -> None:
    core = serf("a")
    give(core, LeaveIntent(9, "me"))
    assert status(core, "me") == MemberStatus.ALIVE
    assert JoinIntent(10, "me") in spread(core)


def test_clock_runs_ahead_of_what_it_hears() -> None:
    core = serf("a")
    give(core, JoinIntent(41, "a"))
    assert core.clock.time == 42


def test_clock_is_not_broken_by_an_absurd_time() -> None:
    core = serf("a")
    give(core, JoinIntent(2**64 - 1, "a"))
    assert core.clock.time < 100


# --- our own departure ------------------------------------------------------------------------


def test_departure_is_an_intent_and_then_a_death_by_ourselves() -> None:
    core = serf("a")
    core.announce_leave(NOW)
    assert LeaveIntent(1, "me") in spread(core)
    assert status(core, "me") == MemberStatus.LEAVING
    core.leave(NOW + 1)
    core.handle_timer(NOW + 1.2)
    sent = [m for data, _ in core.datagrams_to_send() for m in CODEC.open_datagram(data)]
    assert Dead(1, "me", "me") in sent
    assert status(core, "me") == MemberStatus.LEFT


def test_departure_is_finished_when_it_was_sent_often_enough() -> None:
    core = serf(*"abc")
    broadcast = core.announce_leave(NOW)
    for step in range(1, 9):
        core.handle_timer(NOW + step * 0.2)
    assert broadcast.finished


# --- force-leave ------------------------------------------------------------------------------


def test_forced_leave_makes_a_failed_member_left_everywhere() -> None:
    core = serf("a", "b")
    give(core, Dead(5, "a", "b"))
    core.force_leave("a", NOW)
    assert status(core, "a") == MemberStatus.LEFT
    assert any(isinstance(m, LeaveIntent) and m.node == "a" for m in spread(core))


def test_forced_leave_with_prune_forgets_at_once() -> None:
    core = serf("a")
    give(core, Dead(5, "a", "b"))
    core.events()
    core.force_leave("a", NOW, prune=True)
    assert status(core, "a") is None
    assert ("reap", "a") in kinds(core)


def test_forced_leave_of_a_stranger_is_an_error() -> None:
    with pytest.raises(KeyError):
        serf().force_leave("nobody", NOW)


def test_live_member_that_is_forced_out_refutes() -> None:
    core = serf("a")
    give(core, LeaveIntent(7, "me", prune=True))
    assert status(core, "me") == MemberStatus.ALIVE


def test_live_member_that_refutes_is_not_pruned() -> None:
    core = serf("a")
    core.force_leave("a", NOW, prune=True)
    give(core, JoinIntent(core.clock.time, "a"), now=NOW + 0.5)
    core.handle_timer(NOW + 10)
    assert status(core, "a") == MemberStatus.ALIVE


@pytest.mark.parametrize("incarnation", [2**32 - 1, 2**32, 2**64 - 1])
def test_absurd_accusation_of_ours_leaves_us_able_to_speak(incarnation: int) -> None:
    core = serf("a")
    give(core, Suspect(incarnation, "me", "a"))
    assert spread(core) is not None
    (mine,) = [n for n in core.push_pull(join=False).nodes if n.name == "me"]
    assert mine.incarnation < 2**32
    assert encode_node_state(mine)


def test_leaving_member_is_pruned_after_its_departure_has_spread() -> None:
    core = serf("a")
    core.force_leave("a", NOW, prune=True)
    assert status(core, "a") == MemberStatus.LEAVING
    core.handle_timer(NOW + 6.1)
    assert status(core, "a") is None


# --- reaping and calling again ----------------------------------------------------------------


def test_failed_member_is_reaped_after_the_reconnect_timeout() -> None:
    core = serf("a", config=SerfConfig(reconnect_timeout_s=60.0))
    give(core, Dead(5, "a", "b"))
    core.handle_timer(NOW + 59)
    assert status(core, "a") == MemberStatus.FAILED
    core.events()
    core.handle_timer(NOW + 80)
    assert status(core, "a") is None
    assert kinds(core) == [("reap", "a")]


def test_left_member_is_reaped_after_the_tombstone_timeout() -> None:
    core = serf("a", config=SerfConfig(tombstone_timeout_s=60.0))
    give(core, Dead(5, "a", "a"))
    core.handle_timer(NOW + 80)
    assert status(core, "a") is None


def test_failed_member_is_called_again() -> None:
    core = serf("a")
    give(core, Dead(5, "a", "b"))
    core.handle_timer(NOW + 30)
    assert core.streams_wanted() == [PushPullWith(A, "a")]


def test_member_that_left_is_not_called_again() -> None:
    core = serf("a")
    give(core, Dead(5, "a", "a"))
    for step in range(1, 5):
        core.handle_timer(NOW + 30 * step)
    assert core.streams_wanted() == []


# --- streams ----------------------------------------------------------------------------------


def test_push_pull_is_answered_with_our_state() -> None:
    core = serf("a")
    answer = core.answer_stream(user_state(), NOW)
    assert isinstance(answer, PushPull)
    state = decode_serf(answer.user_state)
    assert isinstance(state, UserState) and set(state.status_times) == {"me", "a"}


def test_members_that_left_are_named_in_our_state() -> None:
    core = serf("a")
    give(core, Dead(5, "a", "a"))
    state = decode_serf(core.push_pull(join=False).user_state)
    assert isinstance(state, UserState) and state.left == ("a",)


def test_failed_member_that_left_says_another_has_left() -> None:
    core = serf("a")
    give(core, Dead(5, "a", "b"))
    core.merge(user_state(9, {"a": 7}, "a"), NOW, joining=False)
    assert status(core, "a") == MemberStatus.LEFT


def test_state_of_another_moves_our_clocks() -> None:
    core = serf()
    core.merge(user_state(50), NOW, joining=True)
    assert core.clock.time == 50


def test_stream_ping_is_answered() -> None:
    assert serf().answer_stream(Ping(7, "me"), NOW) == Ack(7)


def test_user_message_on_a_stream_is_taken() -> None:
    core = serf("a")
    event = UserEvent(3, "deploy", b"v1")
    assert core.answer_stream(User(encode_serf(event)), NOW) is None
    assert core.events() == [event]


def test_strange_messages_on_a_stream_are_an_event() -> None:
    core = serf()
    assert core.answer_stream(Ack(1), NOW) is None
    core.answer_stream(User(b"\xfe"), NOW)
    core.merge(PushPull((), b"\x02\x01", join=False), NOW, joining=False)
    assert [type(event) for event in core.events()] == [Undecodable] * 3


# --- tags and identity ------------------------------------------------------------------------


def test_new_tags_of_ours_are_an_update() -> None:
    core = serf()
    core.set_tags({"role": "callboard", "srv": "1"})
    assert core.member("me").tags["srv"] == "1"  # type: ignore[union-attr]
    assert kinds(core) == [("update", "me")]


def test_tags_that_are_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match="the most is 512"):
        serf().set_tags({"x": "y" * 600})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [({"id": "1"}, {"id": "1"}, True), ({"id": "1"}, {"id": "2"}, False), ({}, {}, False)],
)
def test_identity_is_the_id_tag(one: dict[str, str], other: dict[str, str], same: bool) -> None:
    assert same_identity(encode_tags(one), encode_tags(other)) is same


def test_event_of_another_is_handed_up_once_and_spread_on() -> None:
    core = serf("a")
    event = UserEvent(3, "deploy", b"v1")
    give(core, event, event)
    assert core.events() == [event]
    assert event in spread(core)


def test_member_event_kinds_are_consuls_words() -> None:
    assert [str(kind) for kind in MemberEventKind] == ["join", "leave", "failed", "update", "reap"]


def test_configured_meta_is_replaced_by_the_tags() -> None:
    config = replace(lan("me", "10.0.0.1", 7946), meta=b"other")
    core = Serf(config, SerfConfig(), {"a": "b"}, CODEC, now=NOW, rng=random.Random(1))
    assert core.swim.me.meta == encode_tags({"a": "b"})
