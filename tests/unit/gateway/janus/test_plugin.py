"""The streaming plugin's messages, without media."""

from __future__ import annotations

import pytest
from tests.unit.gateway.janus.told import ANSWER, Told, error_of

from callboard.gateway.janus.acts import Accept, HangUp, Pause, Resume, SwitchTo, Watch
from callboard.gateway.janus.errors import StreamingCode


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def of(told: Told) -> tuple[int, int]:
    return told.attached()


def at_once(answer: dict[str, object]) -> dict[str, object]:
    """What the plugin says in the answer itself."""
    assert answer["janus"] == "success", answer
    said = answer["plugindata"]
    assert isinstance(said, dict)
    data = said["data"]
    assert isinstance(data, dict)
    return data


# ---------------------------------------------------------------------- asking


def test_list_is_answered_at_once(told: Told, of: tuple[int, int]) -> None:
    data = at_once(told.request(of, "list"))
    assert data["streaming"] == "list"
    listed = data["list"]
    assert isinstance(listed, list)
    assert [(each["id"], each["name"]) for each in listed] == [(1, "first"), (2, "second")]
    assert listed[0]["media"] == [{"mid": "v", "type": "video", "label": "video"}]


@pytest.mark.parametrize("id", [2, "second"])
def test_info_is_of_a_number_or_a_name(told: Told, of: tuple[int, int], id: object) -> None:
    info = at_once(told.request(of, "info", id=id))["info"]
    assert isinstance(info, dict)
    assert (info["id"], info["description"], info["viewers"]) == (2, "Second", 0)
    assert info["media"][0]["rtpmap"] == "VP8/90000"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"request": "info"}, 453),
        ({"request": "info", "id": -1}, 454),
        ({"request": "info", "id": True}, 454),
        ({"request": "info", "id": ""}, 454),
        ({"request": "info", "id": 3}, 455),
        ({"request": "info", "id": "1"}, 455),
        ({}, 453),
        ({"request": 7}, 454),
        ({"request": "dance"}, 452),
        ({"request": "create", "type": "rtp"}, 457),
        ({"request": "destroy", "id": 1}, 457),
        ({"request": "edit", "id": 1}, 457),
    ],
)
def test_wrong_question_is_answered_at_once(
    told: Told, of: tuple[int, int], body: dict[str, object], code: int
) -> None:
    data = at_once(told.ask("message", *of, body=body))
    assert (data["streaming"], data["error_code"]) == ("event", code)
    assert data["error"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, 456),
        ({"body": 5}, 467),
        ({"body": {}, "jsep": 5}, 467),
        ({"body": {}, "jsep": {"sdp": "v=0"}}, 456),
        ({"body": {}, "jsep": {"type": "answer"}}, 456),
        ({"body": {}, "jsep": {"type": "answer", "sdp": 5}}, 467),
        ({"body": {}, "jsep": {"type": "offer", "sdp": "v=0"}}, 464),
        ({"body": {}, "jsep": {"type": "song", "sdp": "v=0"}}, 464),
        ({"body": {"request": "start"}, "jsep": ANSWER}, 469),
    ],
)
def test_message_that_the_core_minds_is_its_error(
    told: Told, of: tuple[int, int], more: dict[str, object], code: int
) -> None:
    assert error_of(told.ask("message", *of, **more)) == code


# ---------------------------------------------------------------------- watching


def test_watch_gives_an_offer_and_start_takes_the_answer(told: Told, of: tuple[int, int]) -> None:
    assert told.request(of, "watch", id="second")["janus"] == "ack"
    (watch,) = told.acts()
    assert isinstance(watch, Watch)
    assert watch.stream == "second"
    told.protocol.offered(watch.call, "v=0 offer")
    (offered,) = told.events(of[0])
    assert offered["jsep"] == {"type": "offer", "sdp": "v=0 offer"}
    assert offered["transaction"] == "t"
    assert offered["plugindata"]["data"]["result"] == {"status": "preparing"}
    assert told.request(of, "start", ANSWER)["janus"] == "ack"
    assert told.acts() == [Accept(watch.call, "v=0")]
    assert [each["result"] for each in told.data(of[0])] == [{"status": "starting"}]


def test_watch_that_cannot_be_done_leaves_the_handle_free(told: Told, of: tuple[int, int]) -> None:
    told.request(of, "watch", id=1)
    (watch,) = told.acts()
    told.protocol.refused(watch.call, StreamingCode.INVALID_STATE, "nothing comes")
    (said,) = told.events(of[0])
    assert said["transaction"] == "t"
    assert said["plugindata"]["data"]["error_code"] == 460
    told.offered(of)


def test_second_watch_is_refused(told: Told, of: tuple[int, int]) -> None:
    told.up(of)
    for body in ({"id": 2}, {"id": 1, "restart": True}):
        assert told.request(of, "watch", **body)["janus"] == "ack"
        assert [each["error_code"] for each in told.data(of[0])] == [460]
    assert not told.acts()


def test_answer_that_is_no_good_may_be_followed_by_another(told: Told, of: tuple[int, int]) -> None:
    call = told.offered(of)
    told.request(of, "start", ANSWER)
    told.protocol.refused(call, StreamingCode.INVALID_ELEMENT, "no fingerprint")
    assert told.request(of, "start", ANSWER)["janus"] == "ack"
    assert told.acts() == [Accept(call, "v=0")] * 2


def test_offer_that_came_too_late_is_not_wanted(told: Told, of: tuple[int, int]) -> None:
    told.request(of, "watch", id=1)
    (watch,) = told.acts()
    told.ask("hangup", *of)
    assert not told.protocol.offered(watch.call, "v=0")


def test_start_without_an_answer_is_refused(told: Told, of: tuple[int, int]) -> None:
    told.offered(of)
    told.request(of, "start")
    assert [each["error_code"] for each in told.data(of[0])] == [453]


def test_pause_and_start_again(told: Told, of: tuple[int, int]) -> None:
    call = told.up(of)
    told.request(of, "pause")
    told.request(of, "start")
    assert told.acts() == [Pause(call), Resume(call)]
    assert [each["result"]["status"] for each in told.data(of[0])] == ["pausing", "started"]


def test_switch_is_told_when_it_is_done(told: Told, of: tuple[int, int]) -> None:
    call = told.up(of)
    assert told.request(of, "switch", id=2)["janus"] == "ack"
    assert told.acts() == [SwitchTo(call, "second")]
    told.request(of, "switch", id=1)
    assert [each["error_code"] for each in told.data(of[0])] == [458]
    told.protocol.switched(call, 2)
    assert [each["result"] for each in told.data(of[0])] == [{"switched": "ok", "id": 2}]


def test_switch_that_cannot_be_done_leaves_things_as_they_are(
    told: Told, of: tuple[int, int]
) -> None:
    call = told.up(of)
    told.request(of, "switch", id=2)
    told.protocol.refused(call, StreamingCode.CANNOT_SWITCH, "other codecs")
    assert [each["error_code"] for each in told.data(of[0])] == [458]
    told.acts()
    told.request(of, "switch", id=2)
    assert told.acts() == [SwitchTo(call, "second")]


def test_stop_ends_the_call_and_may_be_said_twice(told: Told, of: tuple[int, int]) -> None:
    call = told.up(of)
    told.request(of, "stop")
    assert told.acts() == [HangUp(call, "stopped by the viewer")]
    stopping, hangup = told.events(of[0])
    assert stopping["plugindata"]["data"]["result"] == {"status": "stopping"}
    assert hangup["janus"] == "hangup"
    told.request(of, "stop")
    assert [each["result"] for each in told.data(of[0])] == [{"status": "stopping"}]
    told.up(of)


@pytest.mark.parametrize("request_", ["pause", "start", "switch", "configure"])
def test_nothing_can_be_done_with_what_is_not_watched(
    told: Told, of: tuple[int, int], request_: str
) -> None:
    told.request(of, request_, id=1)
    assert [each["error_code"] for each in told.data(of[0])] == [455]
