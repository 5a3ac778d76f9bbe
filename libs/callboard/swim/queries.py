"""Serf's events and queries: seen once, spread on, answered where serf itself expects an answer.

Callboard asks about keys only (`key_queries`). It passes on what others ask, acknowledges what
reaches it, hands questions about keys to the program, and answers `_serf_conflict` (who has that
name?), so that serf agents in the cluster can settle a conflict of names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol

from callboard.swim.codec import pack_address
from callboard.swim.key_queries import (
    HEAD_BYTES,
    QUERY_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    KeyAction,
    KeyQuery,
    KeyResponse,
    decode_key_request,
    encode_key_request,
    encode_key_response,
)
from callboard.swim.lamport import LamportClock
from callboard.swim.messages import Address
from callboard.swim.packing import DecodeError, pack, text, unpack
from callboard.swim.serf_members import MemberStatus, SerfMember
from callboard.swim.serf_messages import (
    ACKNOWLEDGEMENT,
    Query,
    QueryResponse,
    Relayed,
    SerfType,
    UserEvent,
    encode_serf,
)

SEEN_MAX = 1024
"""How many events and queries are remembered, so that each is spread once."""

FILTER_NODE = 0

RELAYS_MAX = 5
"""Serf's and Consul's limit of a relay factor."""

CONFLICT_QUERY = "_serf_conflict"
INTERNAL_PREFIX = "_serf_"
_KEY_ACTIONS = {INTERNAL_PREFIX + action: action for action in KeyAction}

_STATUS_NUMBERS = {
    MemberStatus.ALIVE: 1,
    MemberStatus.LEAVING: 2,
    MemberStatus.LEFT: 3,
    MemberStatus.FAILED: 4,
}


class Spreader(Protocol):
    """What this needs of the protocol below: spread to all, send to one."""

    def broadcast_user(self, name: str, data: bytes) -> object: ...

    def send_user(self, data: bytes, address: Address) -> None: ...


class Queries:
    """Events and queries of others."""

    def __init__(
        self,
        name: str,
        spreader: Spreader,
        find: Callable[[str], SerfMember | None],
        relays: Callable[[int], list[Address]] = lambda count: [],
    ) -> None:
        """`name`: our own; `find`: a member by name; `relays`: so many others, by chance."""
        self._name = name
        self._spreader = spreader
        self._find = find
        self._relays = relays
        self.event_clock = LamportClock(1)
        self.query_clock = LamportClock(1)
        self._seen: OrderedDict[Hashable, None] = OrderedDict()

    def event(self, event: UserEvent, data: bytes) -> bool:
        """Spread an event on; True the first time it is seen."""
        self.event_clock.witness(event.time)
        if not self._first_time(("event", event.time, event.name, event.payload)):
            return False
        self._spread(data)
        return True

    def query(self, query: Query, data: bytes) -> KeyQuery | None:
        """Spread a query on, and answer if it is for us; or return what the program answers."""
        self.query_clock.witness(query.time)
        if not self._first_time(("query", query.time, query.number)):
            return None
        if query.is_broadcast:
            self._spread(data)
        if query.source is None or not self._is_for_us(query):
            return None
        if query.wants_ack:
            self._respond(query, ACKNOWLEDGEMENT, b"")
        if query.name == CONFLICT_QUERY:
            self._answer_conflict(query)
        action = _KEY_ACTIONS.get(query.name)
        if action is None:
            return None
        try:
            return KeyQuery(query, action, decode_key_request(query.payload))
        except DecodeError as problem:
            self.answer_keys(query, KeyResponse(False, str(problem)))
            return None

    def ask_keys(
        self,
        action: KeyAction,
        key: bytes,
        source: Address,
        number: int,
        *,
        relay_factor: int,
        timeout_ns: int,
    ) -> Query:
        """Ask all others about a key; answers come to `source`, under this time and number, and
        `relay_factor` times more by way of others.

        Raises ValueError when it is longer than serf allows.
        """
        query = Query(
            time=self.query_clock.time,
            number=number,
            source=source,
            source_node=self._name,
            filters=(),
            flags=0,
            relay_factor=relay_factor,
            timeout_ns=timeout_ns,
            name=INTERNAL_PREFIX + action,
            payload=encode_key_request(key),
        )
        encoded = encode_serf(query)
        if len(encoded) > QUERY_BYTES_MAX:
            raise ValueError(f"query exceeds limit of {QUERY_BYTES_MAX} bytes")
        self._spreader.broadcast_user("", encoded)
        self.query_clock.witness(query.time)
        self._first_time(("query", query.time, query.number))
        return query

    def answer_keys(self, query: Query, response: KeyResponse) -> None:
        """Answer a KeyQuery."""
        room = RESPONSE_BYTES_MAX - HEAD_BYTES - len(self._name.encode())
        self._respond(query, 0, encode_key_response(response, room))

    def _is_for_us(self, query: Query) -> bool:
        """Whether the filters let us through.

        A filter on tags is a regular expression of a stranger: those are not run here, so such a
        query goes unanswered.
        """
        for one in query.filters:
            if not one or one[0] != FILTER_NODE:
                return False
            try:
                names = unpack(one[1:])
                if not isinstance(names, list) or self._name not in map(text, names):
                    return False
            except DecodeError:
                return False
        return True

    def _answer_conflict(self, query: Query) -> None:
        wanted = query.payload.decode(errors="replace")
        member = None if wanted == self._name else self._find(wanted)
        if member is not None:
            body = bytes((SerfType.CONFLICT_RESPONSE,)) + pack(_go_member(member))
            self._respond(query, 0, body)

    def _respond(self, query: Query, flags: int, payload: bytes) -> None:
        assert query.source is not None
        response = QueryResponse(query.time, query.number, self._name, flags, payload)
        encoded = encode_serf(response)
        self._spreader.send_user(encoded, query.source)
        if query.relay_factor:
            relayed = encode_serf(Relayed(query.source, encoded, query.source_node))
            for address in self._relays(min(query.relay_factor, RELAYS_MAX)):
                self._spreader.send_user(relayed, address)

    def _spread(self, data: bytes) -> None:
        try:
            self._spreader.broadcast_user("", data)
        except ValueError:
            pass  # it came by a stream and fits no datagram: others get it by stream too

    def _first_time(self, key: Hashable) -> bool:
        if key in self._seen:
            return False
        if len(self._seen) >= SEEN_MAX:
            self._seen.popitem(last=False)
        self._seen[key] = None
        return True


def _go_member(member: SerfMember) -> dict[str, object]:
    """A member as Go's serf.Member is encoded."""
    versions = member.versions
    return {
        "Name": member.name,
        "Addr": pack_address(member.address),
        "Port": member.port,
        "Tags": dict(member.tags),
        "Status": _STATUS_NUMBERS.get(member.status, 0),
        "ProtocolMin": versions.protocol_min,
        "ProtocolMax": versions.protocol_max,
        "ProtocolCur": versions.protocol_current,
        "DelegateMin": versions.delegate_min,
        "DelegateMax": versions.delegate_max,
        "DelegateCur": versions.delegate_current,
    }
