"""Janus' API without media: its core's requests, by the sections of its documentation."""

from __future__ import annotations

import pytest
from tests.unit.gateway.janus.told import ANSWER, Told, error_of

from callboard.gateway.janus.acts import HangUp
from callboard.gateway.janus.errors import StreamingCode
from callboard.gateway.janus.messages import PLUGIN
from callboard.gateway.janus.protocol import Track
from callboard.gateway.janus.registry import (
    RECLAIM_S,
    SESSION_TIMEOUT_S,
    RegistryLimits,
)

# ---------------------------------------------------------------------- requests


def test_answers_carry_transaction_and_session() -> None:
    told = Told()
    created = told.ask("create")
    assert created["janus"] == "success"
    assert created["transaction"] == "t"
    session = created["data"]["id"]
    attached = told.ask("attach", session, plugin=PLUGIN)
    assert attached["session_id"] == session
    assert attached["data"]["id"] > 0
    kept = told.ask("keepalive", session)
    assert kept == {"janus": "ack", "session_id": session, "transaction": "t"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ([], 455),
        (None, 455),
        ({"janus": "create"}, 456),
        ({"transaction": "t"}, 456),
        ({"janus": 1, "transaction": "t"}, 467),
        ({"janus": "create", "transaction": 5}, 467),
        ({"janus": "create", "transaction": "x" * 257}, 467),
        ({"janus": "create", "transaction": "t", "id": True}, 467),
        ({"janus": "create", "transaction": "t", "id": -1}, 467),
        ({"janus": "keepalive", "transaction": "t", "session_id": "x"}, 467),
        ({"janus": "keepalive", "transaction": "t"}, 457),
        ({"janus": "keepalive", "transaction": "t", "session_id": 9}, 458),
        ({"janus": "sing", "transaction": "t"}, 457),
    ],
)
def test_request_that_is_wrong_is_answered_with_the_documented_code(
    message: object, code: int
) -> None:
    assert error_of(Told().raw(message)) == code


def test_request_at_the_wrong_path_says_so() -> None:
    told = Told()
    session, handle = told.attached()
    assert error_of(told.ask("message", session)) == 457
    assert error_of(told.ask("attach", session, handle)) == 457
    assert error_of(told.ask("create", session)) == 457
    assert error_of(told.ask("sing", session)) == 453
    assert error_of(told.ask("sing", session, handle)) == 453
    assert error_of(told.ask("trickle", session, handle + 1)) == 459
    assert error_of(told.ask("attach", session, plugin="janus.plugin.echotest")) == 460
    assert error_of(told.ask("attach", session)) == 456


def test_session_of_a_wanted_identifier_is_made_once() -> None:
    told = Told()
    assert told.ask("create", id=7)["data"] == {"id": 7}
    assert error_of(told.ask("create", id=7)) == 468


def test_ping_and_info_need_no_session() -> None:
    told = Told(authorise=lambda token: False)
    assert told.ask("ping") == {"janus": "pong", "transaction": "t"}
    info = told.ask("info")
    assert info["janus"] == "server_info"
    assert PLUGIN in info["plugins"]
    assert info["session-timeout"] == 60
    assert info["auth_token"] is True


def test_token_is_asked_for_in_requests_and_polls() -> None:
    told = Told(authorise=lambda token: token == "right")
    for more in ({}, {"token": "wrong"}, {"token": 1}):
        assert error_of(told.ask("create", **more)) == 403
    session = told.ask("create", token="right")["data"]["id"]
    assert error_of(told.ask("keepalive", session)) == 403
    assert told.protocol.poll(session, "right", told.now).id == session


def test_sessions_and_handles_are_bounded() -> None:
    told = Told(limits=RegistryLimits(sessions=2, handles_per_session=1))
    session, _ = told.attached()
    told.session()
    assert error_of(told.ask("create")) == 472
    assert error_of(told.ask("attach", session, plugin=PLUGIN)) == 461
    told.ask("destroy", session)
    assert told.ask("create")["janus"] == "success"


# ---------------------------------------------------------------------- trickle


@pytest.mark.parametrize(
    "more",
    [
        {"candidate": {"candidate": "candidate:1 1 udp 1 10.0.0.1 9 typ host", "sdpMid": "v"}},
        {"candidate": {"completed": True}},
        {"candidates": [{"candidate": ""}, {"completed": True}]},
        {"candidates": []},
    ],
)
def test_candidates_are_acknowledged(more: dict[str, object]) -> None:
    told = Told()
    assert told.ask("trickle", *told.attached(), **more)["janus"] == "ack"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, 456),
        ({"candidate": {}, "candidates": []}, 454),
        ({"candidates": {}}, 467),
        ({"candidates": [5]}, 467),
        ({"candidate": "x"}, 467),
        ({"candidate": {"sdpMid": "v"}}, 456),
        ({"candidate": {"candidate": 5}}, 467),
    ],
)
def test_what_is_no_candidate_is_refused(more: dict[str, object], code: int) -> None:
    told = Told()
    assert error_of(told.ask("trickle", *told.attached(), **more)) == code


# ---------------------------------------------------------------------- the end of things


def test_hangup_ends_the_call_and_is_told_by_an_event() -> None:
    told = Told()
    of = told.attached()
    call = told.up(of)
    assert told.ask("hangup", *of)["janus"] == "success"
    assert told.acts() == [HangUp(call, "Janus API")]
    (said,) = told.events(of[0])
    assert (said["janus"], said["sender"], said["reason"]) == ("hangup", of[1], "Janus API")
    assert told.ask("hangup", *of)["janus"] == "success"
    assert not told.acts()
    assert not told.events(of[0])


def test_detach_ends_the_call_and_the_handle() -> None:
    told = Told()
    of = told.attached()
    call = told.up(of)
    told.ask("detach", *of)
    assert told.acts() == [HangUp(call, "Janus API")]
    assert [each["janus"] for each in told.events(of[0])] == ["hangup", "detached"]
    assert error_of(told.ask("hangup", *of)) == 459


def test_destroy_ends_all_calls_of_the_session() -> None:
    told = Told()
    session, handle = told.attached()
    other = int(told.ask("attach", session, plugin=PLUGIN)["data"]["id"])
    calls = [told.up((session, handle)), told.up((session, other))]
    told.ask("destroy", session)
    assert [act.call for act in told.acts()] == calls
    assert error_of(told.ask("keepalive", session)) == 458


def test_session_without_requests_times_out_and_is_told() -> None:
    told = Told()
    of = told.attached()
    call = told.up(of)
    told.now += SESSION_TIMEOUT_S - 1
    told.ask("keepalive", of[0])
    told.now += SESSION_TIMEOUT_S - 1
    told.protocol.tick(told.now)
    assert not told.acts()
    told.now += 1
    told.protocol.tick(told.now)
    assert [act.call for act in told.acts()] == [call]
    assert [each["janus"] for each in told.events(of[0])] == ["hangup", "timeout"]
    assert error_of(told.ask("keepalive", of[0])) == 458


def test_polls_keep_a_session_alive() -> None:
    told = Told()
    session = told.session()
    for _ in range(3):
        told.now += SESSION_TIMEOUT_S - 1
        told.protocol.poll(session, "", told.now)
        told.protocol.tick(told.now)
    assert told.ask("keepalive", session)["janus"] == "ack"


def test_session_of_a_lost_websocket_can_be_claimed_for_a_while() -> None:
    told = Told()
    told.link = 1
    session, forgotten = told.session(), told.session()
    told.protocol.lost(1, told.now)
    told.link = 2
    told.now += RECLAIM_S - 1
    assert told.ask("claim", session)["janus"] == "success"
    told.now += 1
    told.protocol.tick(told.now)
    assert told.ask("keepalive", session)["janus"] == "ack"
    assert error_of(told.ask("claim", forgotten)) == 458


def test_events_that_nobody_takes_are_dropped_from_the_oldest() -> None:
    told = Told(limits=RegistryLimits(events_per_session=3))
    of = told.attached()
    for number in range(5):
        told.request(of, "watch", id=1000 + number)
    errors = [each["plugindata"]["data"]["error"] for each in told.events(of[0])]
    assert [error[-4:] for error in errors] == ["1002", "1003", "1004"]


# ---------------------------------------------------------------------- events of media


def test_media_that_goes_to_the_viewer_is_told_in_order() -> None:
    told = Told()
    of = told.attached()
    call = told.offered(of)
    told.request(of, "start", ANSWER)
    told.events(of[0])
    told.protocol.up(call, [Track("a", "audio"), Track("v", "video")])
    said = told.events(of[0])
    assert [each["janus"] for each in said] == ["webrtcup", "media", "media", "event"]
    assert [(each["mid"], each["type"], each["receiving"]) for each in said[1:3]] == [
        ("a", "audio", True),
        ("v", "video", True),
    ]
    assert said[3]["plugindata"]["data"]["result"] == {"status": "started"}
    assert "transaction" not in said[3]
    told.protocol.up(call, [Track("v", "video")])
    assert not told.events(of[0])


def test_slow_link_and_silent_source_are_told() -> None:
    told = Told()
    of = told.attached()
    call = told.up(of)
    told.protocol.slow(call, Track("v", "video"), 12)
    told.protocol.receiving(call, [Track("v", "video")], coming=False)
    slow, media = told.events(of[0])
    assert (slow["janus"], slow["uplink"], slow["lost"], slow["mid"]) == (
        "slowlink",
        False,
        12,
        "v",
    )
    assert (media["janus"], media["receiving"]) == ("media", False)


def test_end_of_the_stream_is_told_before_the_hangup() -> None:
    told = Told()
    of = told.attached()
    told.protocol.ended(told.up(of), "it is over", stopped=True)
    stopped, hangup = told.events(of[0])
    assert stopped["plugindata"]["data"]["result"] == {"status": "stopped"}
    assert (hangup["janus"], hangup["reason"]) == ("hangup", "it is over")
    assert told.request(of, "watch", id=1)["janus"] == "ack"


def test_what_is_told_of_an_earlier_call_changes_nothing() -> None:
    told = Told()
    of = told.attached()
    old = told.up(of)
    told.ask("hangup", *of)
    new = told.up(of)
    told.events(of[0])
    assert not told.protocol.offered(old, "v=0")
    told.protocol.ended(old, "late", stopped=True)
    told.protocol.refused(old, StreamingCode.UNKNOWN_ERROR, "late")
    told.protocol.slow(old, Track("v", "video"), 1)
    told.protocol.switched(old, 2)
    assert not told.events(of[0])
    told.protocol.ended(new, "now", stopped=False)
    assert [each["janus"] for each in told.events(of[0])] == ["hangup"]
