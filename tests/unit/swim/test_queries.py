"""Queries and events of others: spread once, acknowledged, and conflicts answered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from callboard.swim.key_queries import (
    KeyAction,
    KeyQuery,
    KeyResponse,
    encode_key_request,
    encode_key_response,
)
from callboard.swim.messages import Address
from callboard.swim.packing import pack, unpack_map
from callboard.swim.queries import SEEN_MAX, Queries
from callboard.swim.serf_members import MemberStatus, SerfMember
from callboard.swim.serf_messages import (
    Query,
    QueryResponse,
    Relayed,
    SerfType,
    UserEvent,
    decode_serf,
    encode_serf,
)

ASKER: Address = ("10.0.0.9", 7946)
QUERY = Query(6, 7, ASKER, "asker", (), 1, 0, 10**9, "uptime", b"")
MEMBER = SerfMember("b", "10.0.0.2", 7946, {"role": "web"}, MemberStatus.ALIVE)


KEY = bytes(range(32))


@dataclass
class Spread:
    """Keeps what is spread and sent."""

    spread: list[bytes] = field(default_factory=list)
    sent: list[tuple[QueryResponse, Address]] = field(default_factory=list)
    relayed: list[tuple[Relayed, Address]] = field(default_factory=list)

    def broadcast_user(self, name: str, data: bytes) -> None:
        if len(data) > 1000:
            raise ValueError("too long")
        self.spread.append(data)

    def send_user(self, data: bytes, address: Address) -> None:
        response = decode_serf(data)
        if isinstance(response, Relayed):
            self.relayed.append((response, address))
            return
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


# --- keys -------------------------------------------------------------------------------------


def about_keys(name: str, payload: bytes) -> tuple[KeyQuery | None, Spread]:
    query = replace(QUERY, flags=0, name=name, payload=payload)
    spread = Spread()
    queries = Queries("me", spread, {"b": MEMBER}.get)
    return queries.query(query, encode_serf(query)), spread


@pytest.mark.parametrize("action", list(KeyAction))
def test_question_about_a_key_is_the_programs_to_answer(action: KeyAction) -> None:
    asked, spread = about_keys(f"_serf_{action}", encode_key_request(KEY))
    assert asked is not None
    assert (asked.action, asked.key, asked.query.source) == (action, KEY, ASKER)
    assert (len(spread.spread), spread.sent) == (1, [])


def test_key_is_in_no_text_that_might_be_logged() -> None:
    asked, _ = about_keys("_serf_use-key", encode_key_request(KEY))
    assert asked is not None
    assert "key=b" not in repr(replace(asked, query=QUERY))


@pytest.mark.parametrize("payload", [b"", b"\x07", b"\x07\xff", b"\x08\x80", b"\x07\xa1a"])
def test_question_that_cannot_be_read_is_answered_with_a_failure(payload: bytes) -> None:
    asked, spread = about_keys("_serf_install-key", payload)
    assert asked is None
    ((response, address),) = spread.sent
    assert address == ASKER
    assert unpack_map(response.payload[1:]).flag("Result") is False


def test_question_about_a_key_without_a_source_changes_nothing() -> None:
    query = replace(QUERY, source=None, name="_serf_use-key", payload=encode_key_request(KEY))
    assert Queries("me", Spread(), {"b": MEMBER}.get).query(query, encode_serf(query)) is None


def test_answer_fits_the_datagram_that_serf_allows() -> None:
    spread = Spread()
    queries = Queries("n" * 128, spread, {"b": MEMBER}.get)
    keys = tuple(bytes([number]) * 32 for number in range(40))
    queries.answer_keys(QUERY, KeyResponse(True, keys=keys))
    ((response, _),) = spread.sent
    assert len(encode_serf(response)) <= 1024


def test_answer_goes_by_way_of_so_many_others_too() -> None:
    relays = [("10.0.0.3", 1), ("10.0.0.4", 2), ("10.0.0.5", 3)]
    spread = Spread()
    queries = Queries("me", spread, {"b": MEMBER}.get, lambda count: relays[:count])
    queries.answer_keys(replace(QUERY, relay_factor=2), KeyResponse(True))
    ((response, _),) = spread.sent
    assert [address for _, address in spread.relayed] == relays[:2]
    for relayed, _ in spread.relayed:
        assert (relayed.destination, relayed.name) == (ASKER, "asker")
        assert decode_serf(relayed.data) == response


def test_no_asker_makes_us_send_to_more_than_five() -> None:
    asked: list[int] = []

    def nobody(count: int) -> list[Address]:
        asked.append(count)
        return []

    queries = Queries("me", Spread(), {"b": MEMBER}.get, nobody)
    queries.answer_keys(replace(QUERY, relay_factor=255), KeyResponse(True))
    assert asked == [5]


def test_our_own_question_is_spread_as_serf_spreads_it_and_not_answered_again() -> None:
    spread = Spread()
    queries = Queries("me", spread, {"b": MEMBER}.get)
    query = queries.ask_keys(
        KeyAction.INSTALL, KEY, ASKER, 77, relay_factor=3, timeout_ns=3_200_000_000
    )
    assert spread.spread == [encode_serf(query)]
    assert decode_serf(spread.spread[0]) == query
    assert (query.name, query.source_node, query.number) == ("_serf_install-key", "me", 77)
    assert (query.time, queries.query_clock.time, query.relay_factor) == (1, 2, 3)
    assert not query.wants_ack
    assert query.is_broadcast
    assert queries.query(query, encode_serf(query)) is None
    assert len(spread.spread) == 1


def test_question_longer_than_serf_allows_is_refused() -> None:
    queries = Queries("me", Spread(), {"b": MEMBER}.get)
    with pytest.raises(ValueError, match="query exceeds limit of 1024 bytes"):
        queries.ask_keys(KeyAction.INSTALL, bytes(1024), ASKER, 1, relay_factor=0, timeout_ns=1)


def test_truth_of_an_answer_is_what_its_payload_says() -> None:
    spread = Spread()
    queries = Queries("me", spread, {"b": MEMBER}.get)
    queries.answer_keys(QUERY, KeyResponse(False, "no"))
    assert spread.sent == [
        (QueryResponse(6, 7, "me", 0, encode_key_response(KeyResponse(False, "no"))), ASKER)
    ]
