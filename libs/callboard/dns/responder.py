"""From a packet to its answer: parse, look up, cut to size. The front without its sockets.

Every packet gets an answer, a `Forward` (a recursor has to be asked) or None (silence); none
raises. A catalog that is not loaded, or older than it may be, is SERVFAIL and never NXDOMAIN: a
resolver would keep that (RFC 2308). Pure: randomness and the wall clock are arguments.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from callboard.catalog.authorizer import ALLOW_ALL, Authorizer
from callboard.catalog.changes import Change
from callboard.catalog.discovery import DiscoveryView
from callboard.dns.answers import Zone
from callboard.dns.cache import CHANGES_MAX, AnswerCache, Key, sources
from callboard.dns.names import Kind, Labels, Lookup, labels_of
from callboard.dns.packed import Form, Prepared, negative
from callboard.dns.records import Answer, Outcome, Record
from callboard.dns.settings import DnsSettings
from callboard.dns.wire import (
    CD,
    CLASS_IN,
    HEADER,
    OWN_PAYLOAD_SIZE,
    PLAIN_PAYLOAD_SIZE,
    RD,
    TCP_PAYLOAD_SIZE,
    Ede,
    Malformed,
    Option,
    Query,
    Rcode,
    Type,
    answer_flags,
    edns_record,
    error,
    extended_error,
    option,
    parse,
)

FORMS_MAX = 4096
FAST_QUERY_OCTETS_MAX = 300
"""A name, the header and an OPT: longer queries do not get to the first level of the cache."""


class Condition(enum.Enum):
    """How fresh the catalog is."""

    FRESH = enum.auto()
    STALE = enum.auto()
    """Answered from, with an extended error that says so."""
    EXPIRED = enum.auto()
    """Older than `max_stale_s`: SERVFAIL."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A recursor has to be asked."""

    query: Query
    packet: bytes
    answer: Answer | None = None
    """What is known already: an alias to a name outside, whose addresses are to be added."""


class Responder:
    """Answers packets from one catalog, and keeps the answers."""

    def __init__(
        self,
        view: DiscoveryView,
        settings: DnsSettings,
        *,
        draw: Callable[[], float],
        clock: Callable[[], float],
        authorizer: Authorizer = ALLOW_ALL,
        recursion: bool = False,
    ) -> None:
        """`draw` gives numbers in [0, 1); `clock` the Unix time in seconds (for SOA serials);
        with `recursion`, names outside are to be forwarded instead of refused."""
        self.cache = AnswerCache()
        self._view = view
        self._settings = settings
        self._zone = Zone(view, settings, authorizer)
        self._authorizer = authorizer
        self._epoch = authorizer.epoch
        self._draw = draw
        self._clock = clock
        self._recursion = recursion
        self._condition = Condition.FRESH
        self._serial = int(clock())
        self._soas: dict[Labels, Record] = {}
        self._forms: dict[tuple[int, int, bool, bool, bool], Form] = {}
        view.listen(self._changed, reset=self.reset)

    def close(self) -> None:
        """Stop listening to the catalog."""
        self._view.unlisten(self._changed)

    @property
    def condition(self) -> Condition:
        """How fresh the catalog was said to be."""
        return self._condition

    def set_condition(self, condition: Condition) -> None:
        """Say how fresh the catalog is; when that changes every kept answer is dropped."""
        if condition is not self._condition:
            self._condition = condition
            self._forms.clear()
            self.cache.clear()

    def reset(self) -> None:
        """The whole catalog was replaced."""
        self.cache.clear()
        self._zone.forget_all()
        self._new_serial()

    def respond(self, packet: bytes, *, tcp: bool = False) -> bytes | Forward | None:
        """The answer to a packet; see the module's docstring."""
        if self._authorizer.epoch != self._epoch:
            self._epoch = self._authorizer.epoch
            self.reset()
        table = self.cache.tcp if tcp else self.cache.udp
        hit = table.get(packet[2:])
        if hit is not None:
            return packet[:2] + hit[0].tail(hit[1], self._draw())
        query = parse(packet)
        if query is None:
            return None
        if isinstance(query, Malformed):
            return error(query, query.rcode, recursion=self._recursion)
        if query.class_ != CLASS_IN:
            return self._error(query, Rcode.REFUSED)
        return self._respond(query, packet, tcp=tcp)

    def refuse(self, query: Query) -> bytes:
        """The answer to a name outside that is not to be forwarded."""
        return self._error(query, Rcode.REFUSED, Ede.NOT_AUTHORITATIVE)

    def fail(self, query: Query) -> bytes:
        """The answer to a name outside when no recursor answered."""
        return self._error(query, Rcode.SERVFAIL, Ede.NO_REACHABLE_AUTHORITY)

    def complete(self, forward: Forward, records: Sequence[Record], *, tcp: bool) -> bytes:
        """An alias to a name outside, with what a recursor said of it (nothing, if it failed)."""
        assert forward.answer is not None
        answer = replace(forward.answer, fixed=(*forward.answer.fixed, *records))
        return self._pack(forward.query, Prepared(answer), tcp=tcp)

    # -- one question -----------------------------------------------------------------------

    def _respond(self, query: Query, packet: bytes, *, tcp: bool) -> bytes | Forward:
        key: Key = (query.name, query.type)
        prepared = self.cache.get(key)
        if prepared is None:
            lookup = self._zone.domains.parse(labels_of(query.name))
            if lookup.kind is Kind.OUTSIDE:
                return self._outside(query, packet)
            if not self._view.ready:
                return self._error(query, Rcode.SERVFAIL, Ede.NOT_READY)
            if self._condition is Condition.EXPIRED:
                return self._error(query, Rcode.SERVFAIL, Ede.NO_REACHABLE_AUTHORITY)
            answer = self._zone.answer(lookup, query.type, self._serial)
            if answer.outcome is Outcome.OUTSIDE:
                return self._outside(query, packet)
            if answer.outcome is not Outcome.FOUND:
                return self._negative(query, lookup, answer)
            if answer.chase and self._recursion and query.type in (Type.A, Type.AAAA):
                return Forward(query, packet, answer)
            prepared = Prepared(answer)
            if not answer.depends:
                return self._pack(query, prepared, tcp=tcp)
            self.cache.put(key, prepared, answer.depends)
        form = self._form(query, tcp=tcp)
        variant = prepared.variant(form, len(query.question))
        plain = query.edns is None or query.edns.plain
        if plain and len(packet) <= FAST_QUERY_OCTETS_MAX and prepared.keeps(form):
            raw = packet[2:]
            if query.question[:-4] == query.name:
                table = self.cache.tcp if tcp else self.cache.udp
                self.cache.remember(key, table, raw, variant, query.question)
        return packet[:2] + variant.tail(query.question, self._draw())

    def _pack(self, query: Query, prepared: Prepared, *, tcp: bool) -> bytes:
        variant = prepared.variant(self._form(query, tcp=tcp), len(query.question))
        return query.id.to_bytes(2, "big") + variant.tail(query.question, self._draw())

    def _outside(self, query: Query, packet: bytes) -> bytes | Forward:
        return Forward(query, packet) if self._recursion else self.refuse(query)

    def _error(self, query: Query, rcode: Rcode, ede: Ede | None = None) -> bytes:
        return error(query, rcode, recursion=self._recursion, ede=ede)

    def _negative(self, query: Query, lookup: Lookup, answer: Answer) -> bytes:
        missing = answer.outcome is Outcome.NXDOMAIN
        rcode = Rcode.NXDOMAIN if missing else Rcode.NOERROR
        flags = answer_flags(query.flags, rcode, authoritative=True, recursion=self._recursion)
        soa = self._soas.get(lookup.domain)
        if soa is None:
            domain = lookup.domain or self._zone.domains.primary
            soa = self._soas[lookup.domain] = self._zone.soa(domain, self._serial)
        opt = self._opt(query, Ede.STALE_NXDOMAIN if missing else Ede.STALE)
        head = HEADER.pack(query.id, flags, 1, 0, 1, 1 if opt else 0)
        return negative(head, query.question, soa, opt)

    # -- forms ------------------------------------------------------------------------------

    def _form(self, query: Query, *, tcp: bool) -> Form:
        edns = query.edns
        size = TCP_PAYLOAD_SIZE
        if not tcp:
            asked = PLAIN_PAYLOAD_SIZE if edns is None else edns.payload_size
            size = max(PLAIN_PAYLOAD_SIZE, min(asked, OWN_PAYLOAD_SIZE))
        copied = query.flags & (RD | CD)
        dnssec_ok = edns is not None and edns.dnssec_ok
        key = (copied, size, edns is None, dnssec_ok, edns is not None and edns.nsid)
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= FORMS_MAX:
                self._forms.clear()
            form = self._forms[key] = Form(
                answer_flags(copied, 0, authoritative=True, recursion=self._recursion),
                size,
                self._settings.udp_answer_limit if edns is None and not tcp else 0,
                self._opt(query, Ede.STALE),
                self._settings.enable_truncate,
            )
        return form

    def _opt(self, query: Query, stale: Ede) -> bytes:
        """The OPT of an answer, saying what is to be said; b"" if the query had none."""
        edns = query.edns
        if edns is None:
            return b""
        options = b""
        if edns.nsid and self._settings.server_id:
            options += option(Option.NSID, self._settings.server_id.encode())
        if self._condition is Condition.STALE:
            options += extended_error(stale)
        return edns_record(dnssec_ok=edns.dnssec_ok, options=options)

    # -- changes ----------------------------------------------------------------------------

    def _changed(self, changes: Sequence[Change]) -> None:
        if len(changes) > CHANGES_MAX:
            self.reset()
            return
        nodes, services = sources(changes, self._view)
        for node in nodes:
            self._zone.node_changed(node)
            self.cache.drop(f"node:{node}")
        for service in services:
            self._zone.service_changed(service)
            self.cache.drop(f"service:{service}")
        self._new_serial()

    def _new_serial(self) -> None:
        self._serial = max(self._serial, int(self._clock()))
        self._soas.clear()
