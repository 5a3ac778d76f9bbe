"""Queries and events of others: spread once, acknowledged, and conflicts answered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from callboard.swim.messages import Address
from callboard.swim.packing import pack, unpack_map
from callboard.swim.queries import SEEN_MAX, Queries
from callboard.swim.serf_members import MemberStatus, SerfMember
from callboard.swim.serf_messages import (
    Query,
    QueryResponse,
    SerfType,
    UserEvent,
    decode_serf,
    encode_serf,
)

ASKER: Address = ("10.0.0.9", 7946)
QUERY = Query(6, 7, ASKER, "asker", (), 1, 0, 10**9, "uptime", b"")
MEMBER = SerfMember("b", "10.0.0.2", 7946, {"role": "web"}, MemberStatus.ALIVE)


@dataclass
class Spread:
    """Keeps what is spread and sent."""

    spread: list[bytes] = field(default_factory=list)
    sent: list[tuple[QueryResponse, Address]] = field(default_factory=list)

    def broadcast_user(self, name: str, data: bytes) -> None:
        if len(data) > 1000:
            raise ValueError("too long")
        self.spread.append(data)

    def send_user(self, data: bytes, address: Address) -> None:
        response = decode_serf(data)
        assert isinstance(response, QueryResponse)
        self.sent.append((response, address))


def ask(query: Query) -> Spread:
    spread = Spread()
    queries = Queries("me", spread, {"b": MEMBER}.get)
    queries.query(query, encode_serf(query))
    return spread


def test_query_is_spread_on_and_acknowledged_to_the_asker() -> None:
    spread = ask(QUERY)
    assert spread.spread == [encode_serf(QUERY)]
    assert spread.sent == [(QueryResponse(6, 7, "me", 1, b""), ASKER)]


def test_query_that_wants_no_ack_gets_none() -> None:
    assert ask(replace(QUERY, flags=0)).sent == []


def test_query_that_is_not_for_all_is_not_spread() -> None:
    assert ask(replace(QUERY, flags=3)).spread == []


def test_query_without_a_source_is_spread_only() -> None:
    spread = ask(replace(QUERY, source=None))
    assert (len(spread.spread), spread.sent) == (1, [])


@pytest.mark.parametrize(
    ("filters", "acknowledged"),
    [
        ((b"\x00" + pack(["me", "b"]),), True),
        ((b"\x00" + pack(["b"]),), False),
        ((b"\x00\xff",), False),
        ((b"",), False),
        ((b"\x01" + pack({"Tag": "role", "Expr": "(a+)+$"}),), False),
    ],
    ids=["named", "not named", "not readable", "empty", "a stranger's regular expression"],
)
def test_filters_decide_who_answers(filters: tuple[bytes, ...], acknowledged: bool) -> None:
    assert bool(ask(replace(QUERY, filters=filters)).sent) is acknowledged


def test_same_query_is_spread_once() -> None:
    spread = Spread()
    queries = Queries("me", spread, {"b": MEMBER}.get)
    for _ in range(3):
        queries.query(QUERY, encode_serf(QUERY))
    assert (len(spread.spread), len(spread.sent)) == (1, 1)


def test_conflict_query_is_answered_with_the_member_as_we_know_it() -> None:
    query = replace(QUERY, flags=0, name="_serf_conflict", payload=b"b")
    ((response, _),) = ask(query).sent
    assert response.payload[0] == SerfType.CONFLICT_RESPONSE
    member = unpack_map(response.payload[1:])
    assert (member.text("Name"), member.raw("Addr"), member.integer("Port")) == (
        "b",
        bytes([10, 0, 0, 2]),
        7946,
    )


@pytest.mark.parametrize("name", [b"me", b"stranger", b"\xff"])
def test_conflict_about_ourselves_or_a_stranger_is_not_answered(name: bytes) -> None:
    assert ask(replace(QUERY, flags=0, name="_serf_conflict", payload=name)).sent == []


def test_event_that_fits_no_datagram_is_still_seen() -> None:
    queries = Queries("me", Spread(), {"b": MEMBER}.get)
    event = UserEvent(1, "big", bytes(2000))
    assert queries.event(event, encode_serf(event))


def test_memory_of_what_was_seen_is_bounded() -> None:
    spread = Spread()
    queries = Queries("me", spread, {"b": MEMBER}.get)
    events = [UserEvent(time, "e", b"") for time in range(SEEN_MAX + 1)]
    for event in [*events, events[0]]:
        queries.event(event, encode_serf(event))
    assert len(spread.spread) == SEEN_MAX + 2


def test_clocks_run_ahead_of_what_they_hear() -> None:
    queries = Queries("me", Spread(), {"b": MEMBER}.get)
    queries.query(QUERY, b"")
    queries.event(UserEvent(9, "e", b""), b"")
    assert (queries.query_clock.time, queries.event_clock.time) == (7, 10)
