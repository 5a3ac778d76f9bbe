"""draft-dunglas-mercure-08, Reconnection, State Reconciliation, and Event Sourcing."""

from __future__ import annotations

import pytest
from tests.harness.mercure_hub import MercureHub, detail

OUT = "Mercure-Last-Event-ID"


async def published(hub: MercureHub, count: int, topic: str = "/a") -> list[str]:
    """The ids of so many updates, 0, 1, …"""
    return [
        (await hub.publish(("topic", topic), ("data", str(number)))).text for number in range(count)
    ]


async def test_every_event_has_an_id(hub: MercureHub) -> None:
    """Reconnection: events MUST include an id property."""
    async with hub.stream(("match", "/a")) as stream:
        await hub.publish(("topic", "/a"), ("data", "x"))
        event = await stream.message()
        assert event.id
        assert event.id_given


@pytest.mark.parametrize("shape", ["header", "last_event_id", "lastEventID", "Last-Event-ID"])
async def test_what_followed_an_event_is_sent(hub: MercureHub, shape: str) -> None:
    """Reconnection: the header, and MUST also accept `last_event_id`."""
    ids = await published(hub, 4)
    query = [("match", "/a")] if shape == "header" else [("match", "/a"), (shape, ids[1])]
    headers = {"Last-Event-ID": ids[1]} if shape == "header" else {}
    async with hub.stream(*query, headers=headers) as stream:
        assert stream.headers[OUT] == ids[1]
        assert [(await stream.message()).data for _ in range(2)] == ["2", "3"]


async def test_an_id_may_have_lost_its_hash(hub: MercureHub) -> None:
    """Ours: some clients take `#…` for a fragment of the URL."""
    ids = await published(hub, 2)
    async with hub.stream(("match", "/a"), ("last_event_id", ids[0].lstrip("#"))) as stream:
        assert (await stream.message()).data == "1"


async def test_the_header_takes_precedence(hub: MercureHub) -> None:
    """Reconnection: over the query parameter."""
    ids = await published(hub, 3)
    async with hub.stream(
        ("match", "/a"), ("last_event_id", ids[0]), headers={"Last-Event-ID": ids[1]}
    ) as stream:
        assert stream.headers[OUT] == ids[1]
        assert (await stream.message()).data == "2"


async def test_a_publishers_id_is_a_place_too(hub: MercureHub) -> None:
    """Reconnection: ids of publishers are IRIs or any text."""
    await hub.publish(("topic", "/a"), ("data", "0"), ("id", "urn:x:0"))
    await hub.publish(("topic", "/a"), ("data", "1"), ("id", "urn:x:1"))
    async with hub.stream(("match", "/a"), ("last_event_id", "urn:x:0")) as stream:
        assert stream.headers[OUT] == "urn:x:0"
        event = await stream.message()
        assert (event.data, event.id) == ("1", "urn:x:1")


async def test_earliest_is_all_there_is(hub: MercureHub) -> None:
    """Reconnection: `earliest` requests all updates; the answer MUST say `earliest`."""
    await published(hub, 3)
    async with hub.stream(("match", "/a"), ("last_event_id", "earliest")) as stream:
        assert stream.headers[OUT] == "earliest"
        assert [(await stream.message()).data for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize("asked", ["urn:nobody:1", "#zzzzzzzzzzzz.7", "", "x" * 600])
async def test_an_unknown_id_is_answered_with_earliest(hub: MercureHub, asked: str) -> None:
    """Reconnection: the field MUST be set whenever one was asked for; `earliest` if the event
    does not exist."""
    await published(hub, 1)
    async with hub.stream(("match", "/a"), ("last_event_id", asked)) as stream:
        assert stream.headers[OUT] == "earliest"


async def test_a_gap_is_told_in_the_stream_as_well(hub: MercureHub) -> None:
    """Ours: EventSource cannot read headers."""
    await published(hub, 1)
    async with hub.stream(("match", "/a"), ("last_event_id", "urn:nobody:1")) as stream:
        assert (await stream.event()).type == "hub.gap"
        assert (await stream.message()).data == "0"


async def test_an_empty_history_answers_with_earliest(hub: MercureHub) -> None:
    """Reconnection: `earliest` when the hub's history is empty."""
    async with hub.stream(("match", "/a"), ("last_event_id", "earliest")) as stream:
        assert stream.headers[OUT] == "earliest"


async def test_without_a_cursor_nothing_is_replayed_and_nothing_said(hub: MercureHub) -> None:
    """Reconnection: the field answers a request that has one."""
    await published(hub, 1)
    async with hub.stream(("match", "/a")) as stream:
        assert OUT not in stream.headers
        await hub.publish(("topic", "/a"), ("data", "new"))
        assert (await stream.message()).data == "new"


async def test_what_is_replayed_is_judged_by_the_token_of_now(hub: MercureHub) -> None:
    """Reconnection: each replayed event MUST be re-evaluated against the current token."""
    for topic in ("/a", "/b"):
        await hub.publish(("topic", topic), ("data", topic), ("private", "on"))
    await hub.publish(("topic", "/a"), ("data", "end"))
    for granted, seen in (("/a", ["/a", "end"]), ("/b", ["/b", "end"])):
        token = hub.access_token(detail(["subscribe"], granted))
        async with hub.stream(("match", "*"), ("last_event_id", "earliest"), token=token) as stream:
            found: list[str] = []
            while not found or found[-1] != "end":
                event = await stream.message()
                if event.type != "mercure":
                    found.append(event.data)
            assert found == seen
    async with hub.stream(("match", "/a"), ("last_event_id", "earliest")) as stream:
        assert (await stream.message()).data == "end"


async def test_nothing_is_lost_between_replay_and_what_is_live(hub: MercureHub) -> None:
    """Reconnection: no update between the two is left out or sent twice."""
    ids = await published(hub, 20)
    async with hub.stream(("match", "/a"), ("last_event_id", ids[4])) as stream:
        for number in range(20, 40):
            await hub.publish(("topic", "/a"), ("data", str(number)))
        assert [(await stream.message()).data for _ in range(35)] == [
            str(number) for number in range(5, 40)
        ]


async def test_a_stream_begins_a_number_of_updates_ago_or_at_a_time(hub: MercureHub) -> None:
    """Ours: last=N, since=…"""
    await published(hub, 5)
    for parameter in (("last", "2"), ("since", "1h")):
        async with hub.stream(("match", "/a"), parameter) as stream:
            first = (await stream.message()).data
            assert first == ("3" if parameter[0] == "last" else "0")


async def test_a_long_poll_is_one_whole_answer(hub: MercureHub) -> None:
    """Ours: poll=SECONDS, for where streams do not pass; with the head that the stream has."""
    ids = await published(hub, 2)
    query = [("match", "/a"), ("poll", "5"), ("last_event_id", ids[0])]
    answer = await hub.ask("GET", query=query)
    assert answer.status == 200
    assert b"data: 1\n" in answer.body
    assert f"id: {ids[1]}\n".encode() in answer.body
    async with hub.stream(*(each for each in query if each[0] != "poll")) as stream:
        for name in (OUT, "Link", "Cache-Control", "X-Accel-Buffering", "Accept-Query"):
            assert answer.headers[name] == stream.headers[name], name
        assert stream.headers[OUT] == ids[0]


async def test_a_long_poll_after_an_unknown_id_is_answered_with_earliest(hub: MercureHub) -> None:
    """Reconnection: `earliest` if the event does not exist; nothing if none was asked for."""
    await published(hub, 1)
    query = [("match", "/a"), ("poll", "0.1")]
    answer = await hub.ask("GET", query=[*query, ("last_event_id", "urn:nobody:1")])
    assert answer.headers[OUT] == "earliest"
    assert OUT not in (await hub.ask("GET", query=query)).headers
