"""What a question gets from a catalog: Consul's rules, with today's DNS where Consul's is wrong.

The rules of consul.io's "DNS interface", newest wording; kept from it: critical instances are
dropped and a name without a healthy instance does not exist; SRV targets are `<hex>.addr` when the
service has an address of its own; hostnames become CNAME. Departures, each a defect measured in
Consul 1.8: empty non-terminals exist (RFC 8020), the apex answers NODATA, NODATA always has the
SOA, `ns.<domain>` resolves, TXT of a service has no addresses in it, a reverse name nobody knows is
not SERVFAIL. Pure: the catalog is read through a `DiscoveryView`, time is an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from callboard.catalog.authorizer import ALLOW_ALL, Authorizer
from callboard.catalog.discovery import DiscoveryView, HealthEntry
from callboard.catalog.objects import CRITICAL, PASSING, Node
from callboard.dns.names import (
    Domains,
    Kind,
    Labels,
    Lookup,
    labels_of,
    labels_to_wire,
    packed_address,
    to_wire,
)
from callboard.dns.records import (
    NODATA,
    NXDOMAIN,
    OUTSIDE,
    Answer,
    Entry,
    Outcome,
    Record,
    address_type,
    meta_records,
    name_below,
    owned_by,
    soa_record,
    srv_data,
)
from callboard.dns.settings import DnsSettings
from callboard.dns.wire import Type

ALIASES_MAX = 3
"""Longest chain of names inside the domain that is followed in one answer (Consul's number)."""

NAMESERVERS_MAX = 3
AGENT_SERVICE = "consul"
"""The service under which server agents announce themselves, as Consul's do."""

_ADDRESS_TYPES = (Type.A, Type.AAAA, Type.ANY, Type.CNAME)


@dataclass(frozen=True, slots=True)
class Instances:
    """A service's instances that may be answered, found once per change."""

    live: tuple[HealthEntry, ...]
    by_tag: dict[str, list[HealthEntry]]
    """Tag in lower case to the live instances that have it."""
    above_tags: frozenset[str]
    """What stands above a tag with dots in it: `0` of `v1.0`. Empty non-terminals."""
    depends: tuple[str, ...]


_NO_INSTANCES = Instances((), {}, frozenset(), ())


class Zone:
    """Answers questions from one catalog. Holds no records, only what is found per service."""

    def __init__(
        self, view: DiscoveryView, settings: DnsSettings, authorizer: Authorizer = ALLOW_ALL
    ) -> None:
        self.domains = Domains(settings.domain, settings.alt_domain)
        self.authorizer = authorizer
        self._view = view
        self._settings = settings
        self._instances: dict[str, Instances] = {}
        self._services_on: dict[str, set[str]] = {}
        self._dotted: DottedNames | None = None

    def soa(self, domain: Labels, serial: int) -> Record:
        """The SOA of the domain a name is in."""
        return soa_record(labels_to_wire(domain), serial, self._settings.soa)

    def answer(self, lookup: Lookup, qtype: int, serial: int = 0) -> Answer:
        """What a lookup gets for a type."""
        if lookup.datacenter and lookup.datacenter != self._view.datacenter.lower():
            return NXDOMAIN
        match lookup.kind:
            case Kind.SERVICE:
                return self._service(lookup, qtype)
            case Kind.NODE:
                return self._node(lookup.name, qtype)
            case Kind.ADDRESS:
                return _of_addresses([lookup.name], qtype, self._settings.node_ttl_s)
            case Kind.REVERSE:
                return self._reverse(lookup.name, qtype)
            case Kind.APEX:
                return self._apex(lookup.domain, qtype, serial)
            case Kind.NAMESERVER:
                return self._nameserver(qtype)
            case Kind.EMPTY:
                return NODATA
            case Kind.MISSING:
                return NXDOMAIN
            case Kind.OUTSIDE:
                return OUTSIDE

    def service_changed(self, name: str) -> None:
        """A service (lower case) has changed."""
        known = self._instances.pop(name, _NO_INSTANCES)
        for node in (source.removeprefix("node:") for source in known.depends):
            on = self._services_on.get(node, set())
            on.discard(name)
            if not on:
                self._services_on.pop(node, None)

    def node_changed(self, name: str) -> None:
        """A node (lower case), or one of its own checks, was put or deleted."""
        for service in self._services_on.pop(name, ()):
            self._instances.pop(service, None)
        if self._dotted is not None and "." in name:
            self._dotted.changed(name, exists=self._view.node(name) is not None)

    def forget_all(self) -> None:
        """The whole catalog, or the rights, are others now."""
        self._instances.clear()
        self._services_on.clear()
        self._dotted = None

    # -- nodes ------------------------------------------------------------------------------

    def _node(self, name: str, qtype: int) -> Answer:
        node = self._view.node(name)
        if node is None or not self.authorizer.node_read(node.name):
            if self._dotted is None:
                self._dotted = DottedNames(node.name.lower() for node in self._view.nodes())
            return NODATA if self._dotted.has_below(name) else NXDOMAIN
        ttl = self._settings.node_ttl_s
        answer = NODATA
        if qtype in _ADDRESS_TYPES:
            answer = self._of_address(node.address, qtype, ttl, ALIASES_MAX)
        if qtype in (Type.TXT, Type.ANY) and node.meta:
            texts = tuple(Entry(record) for record in meta_records(node.meta, ttl))
            answer = replace(answer, outcome=Outcome.FOUND, entries=answer.entries + texts)
        return _keep(answer, (f"node:{name}",))

    # -- services ---------------------------------------------------------------------------

    def _service(self, lookup: Lookup, qtype: int) -> Answer:
        found = self._found(lookup.name)
        if not self.authorizer.service_read(lookup.name):
            return NXDOMAIN
        entries: Sequence[HealthEntry] = found.live
        if lookup.tag:
            entries = found.by_tag.get(lookup.tag, ())
            if not entries and lookup.tag in found.above_tags:
                return NODATA
        if not entries:
            return NODATA if lookup.underscore else NXDOMAIN
        ttl = self._settings.service_ttl(lookup.name)
        if qtype == Type.SRV:
            answer = self._srv(entries, ttl)
            if any(map(self._is_alias, entries)):
                return answer  # it stands on what the aliases name, too
        elif qtype in _ADDRESS_TYPES:
            answer = self._service_addresses(entries, qtype, ttl, ALIASES_MAX)
        else:
            return NODATA
        return _keep(answer, found.depends)

    def _found(self, service: str) -> Instances:
        known = self._instances.get(service)
        if known is None:
            entries = self._view.health(service)
            if self.authorizer is not ALLOW_ALL:
                entries = [each for each in entries if self.authorizer.node_read(each.node.name)]
            if not entries:  # not kept: whoever asks has more names than we have memory
                return _NO_INSTANCES
            known = find_instances(service, entries, only_passing=self._settings.only_passing)
            self._instances[service] = known
            for entry in entries:
                on = self._services_on.setdefault(entry.node.name.lower(), set())
                on.add(service)
        return known

    def _service_addresses(
        self, entries: Sequence[HealthEntry], qtype: int, ttl: int, aliases: int
    ) -> Answer:
        """A, AAAA or both; a CNAME only if no instance has an address: nothing may stand beside
        one (RFC 1034, 3.6.2)."""
        texts = [entry.service.address or entry.node.address for entry in entries]
        numeric = [text for text in texts if packed_address(text)]
        if numeric:
            return replace(_of_addresses(numeric, qtype, ttl), limit=self._settings.a_record_limit)
        named = next((text for text in texts if text), "")
        return self._of_address(named, qtype, ttl, aliases)

    def _srv(self, entries: Sequence[HealthEntry], ttl: int) -> Answer:
        made: dict[bytes, Entry] = {}
        for entry in entries:
            target, additional, optional = self._target(entry, ttl)
            if not target:
                continue
            weights = entry.service.weights
            weight = weights.passing if entry.status == PASSING else weights.warning
            data = srv_data(weight, entry.service.port, target)
            made[data[4:]] = Entry(Record(None, Type.SRV, ttl, data), additional, optional)
        if not made:
            return NODATA
        return Answer(Outcome.FOUND, entries=tuple(made.values()))

    def _target(
        self, entry: HealthEntry, ttl: int
    ) -> tuple[bytes, tuple[Record, ...], tuple[Record, ...]]:
        """An SRV's target with its addresses, and the node's TXT that may come along."""
        text = entry.service.address or entry.node.address
        packed = packed_address(text)
        target = b""
        if not entry.service.address and packed:
            target = self._below(f"{entry.node.name}.node")
        if target:
            texts = meta_records(entry.node.meta, ttl) if self._settings.node_meta_txt else ()
            optional = tuple(replace(record, owner=target) for record in texts)
            return target, (Record(target, address_type(packed), ttl, packed),), optional
        if packed:
            target = self._below(f"{packed.hex()}.addr")
            return target, (Record(target, address_type(packed), ttl, packed),), ()
        target = _wire(text)
        if len(target) < 2:
            return b"", (), ()
        inner = self._inner(target, Type.ANY, ALIASES_MAX - 1)
        records = [*inner.fixed, *(part.record for part in inner.entries)] if inner else []
        kinds = (Type.A, Type.AAAA)
        return target, tuple(record for record in records if record.type in kinds), ()

    def _is_alias(self, entry: HealthEntry) -> bool:
        """Whether an instance's address is a name in the domain."""
        text = entry.service.address or entry.node.address
        if packed_address(text):
            return False
        labels = labels_of(_wire(text.lower()) or b"\0")
        return self.domains.parse(labels).kind is not Kind.OUTSIDE

    def _below(self, words: str) -> bytes:
        """`<words>.<dc>.<domain>` as wire bytes; b"" if that is no valid name."""
        return name_below(words, to_wire(self._view.datacenter)[:-1] + self.domains.primary_wire)

    # -- addresses and aliases --------------------------------------------------------------

    def _of_address(self, text: str, qtype: int, ttl: int, aliases: int) -> Answer:
        """Records of an address, or of the host name that stands in its place."""
        if packed_address(text):
            return _of_addresses([text], qtype, ttl)
        target = _wire(text)
        if len(target) < 2:
            return NODATA
        alias = Record(None, Type.CNAME, ttl, target)
        if qtype == Type.CNAME:
            return Answer(Outcome.FOUND, fixed=(alias,))
        inner = self._inner(target, qtype, aliases - 1)
        if inner is None:
            return Answer(Outcome.FOUND, fixed=(alias,), chase=text)
        return replace(inner, outcome=Outcome.FOUND, fixed=(alias, *inner.fixed), depends=())

    def _inner(self, target: bytes, qtype: int, aliases: int) -> Answer | None:
        """The addresses of a name in the domain; None for one outside it. Empty past the limit."""
        lookup = self.domains.parse(labels_of(target.lower()))
        if lookup.kind is Kind.OUTSIDE:
            return None
        if aliases <= 0 or (lookup.datacenter or self._datacenter) != self._datacenter:
            return NODATA
        ttl = self._settings.node_ttl_s
        allowed = self.authorizer
        if lookup.kind is Kind.NODE and (node := self._view.node(lookup.name)):
            readable = allowed.node_read(node.name)
            answer = self._of_address(node.address, qtype, ttl, aliases) if readable else NODATA
        elif lookup.kind is Kind.SERVICE and allowed.service_read(lookup.name):
            found = self._found(lookup.name)
            entries = found.by_tag.get(lookup.tag, ()) if lookup.tag else found.live
            ttl = self._settings.service_ttl(lookup.name)
            answer = self._service_addresses(entries, qtype, ttl, aliases)
        elif lookup.kind is Kind.ADDRESS:
            answer = _of_addresses([lookup.name], qtype, ttl)
        else:
            answer = NODATA
        return owned_by(answer, target)

    @property
    def _datacenter(self) -> str:
        return self._view.datacenter.lower()

    # -- the domain itself, and reverse names -----------------------------------------------

    def _apex(self, domain: Labels, qtype: int, serial: int) -> Answer:
        if qtype not in (Type.SOA, Type.NS, Type.ANY):
            return NODATA
        servers, glue = self._servers(labels_to_wire(domain))
        if qtype == Type.NS:
            entries = tuple(Entry(replace(record, owner=None)) for record in servers)
            return Answer(Outcome.FOUND, entries=entries, additional=glue)
        fixed: tuple[Record, ...] = (replace(self.soa(domain, serial), owner=None),)
        if qtype == Type.ANY:
            fixed += tuple(replace(record, owner=None) for record in servers)
            return Answer(Outcome.FOUND, fixed=fixed, additional=glue)
        return Answer(Outcome.FOUND, fixed=fixed, authority=servers, additional=glue)

    def _servers(self, domain: bytes) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """The NS records of a domain, and their addresses."""
        ttl = self._settings.node_ttl_s
        pairs: list[tuple[bytes, str]] = []
        if not self._settings.nameserver_addresses:
            nodes = self._agents()
            pairs = [(self._below(f"{node.name}.node"), node.address) for node in nodes]
            pairs = [pair for pair in pairs if pair[0] and packed_address(pair[1])]
        if not pairs:
            own = b"\x02ns" + domain
            pairs = [(own, text) for text in self._own_addresses()] or [(own, "")]
        names = dict.fromkeys(name for name, _ in pairs)
        glue = tuple(
            Record(name, address_type(packed), ttl, packed)
            for name, text in pairs
            if (packed := packed_address(text))
        )
        return tuple(Record(domain, Type.NS, ttl, name) for name in names), glue

    def _agents(self) -> list[Node]:
        """A few healthy server agents."""
        entries = self._found(AGENT_SERVICE).live
        nodes = {entry.node.name: entry.node for entry in entries}
        return [n for n in nodes.values() if self.authorizer.node_read(n.name)][:NAMESERVERS_MAX]

    def _own_addresses(self) -> list[str]:
        return list(self._settings.nameserver_addresses) or [n.address for n in self._agents()]

    def _nameserver(self, qtype: int) -> Answer:
        """`ns.<domain>`, the SOA's mname: it has to resolve."""
        return _of_addresses(self._own_addresses(), qtype, self._settings.node_ttl_s)

    def _reverse(self, address: str, qtype: int) -> Answer:
        """The node with the address, else the services (Consul's order); unknown is not ours."""
        if qtype not in (Type.PTR, Type.ANY):
            return OUTSIDE
        allowed = self.authorizer
        names = [
            self._below(f"{node.name}.node")
            for node in self._view.nodes_at(address)
            if allowed.node_read(node.name)
        ][:1] or [
            self._below(f"{instance.service}.service")
            for instance in self._view.services_at(address)
            if allowed.service_read(instance.service)
        ]
        ttl = self._settings.node_ttl_s
        records = [Record(None, Type.PTR, ttl, name) for name in dict.fromkeys(names) if name]
        if not records:
            return OUTSIDE
        return Answer(Outcome.FOUND, entries=tuple(Entry(record) for record in records))


class DottedNames:
    """What stands above node names that have dots in them: `b` and `c` of `a.b.c`."""

    def __init__(self, names: Iterable[str]) -> None:
        """Names in lower case."""
        self._names: set[str] = set()
        self._above: Counter[str] = Counter()
        for name in names:
            self.changed(name, exists=True)

    def has_below(self, name: str) -> bool:
        """Whether some node's name ends in `.name`."""
        return self._above[name] > 0 if self._above else False

    def changed(self, name: str, *, exists: bool) -> None:
        """A node with this name is there now, or is not; saying it twice is harmless."""
        if "." not in name or (name in self._names) is exists:
            return
        (self._names.add if exists else self._names.discard)(name)
        for above in _suffixes(name):
            self._above[above] += 1 if exists else -1
            if not self._above[above]:
                del self._above[above]


def find_instances(
    service: str, entries: Sequence[HealthEntry], *, only_passing: bool
) -> Instances:
    """Sort a service's instances by health and tag."""
    live = []
    by_tag: dict[str, list[HealthEntry]] = {}
    depends = {f"service:{service}": None}
    for entry in entries:
        depends[f"node:{entry.node.name.lower()}"] = None
        status = entry.status
        if status == CRITICAL or (only_passing and status != PASSING):
            continue
        live.append(entry)
        for tag in {tag.lower() for tag in entry.service.tags}:
            by_tag.setdefault(tag, []).append(entry)
    above = frozenset(suffix for tag in by_tag for suffix in _suffixes(tag))
    return Instances(tuple(live), by_tag, above, tuple(depends))


def _suffixes(name: str) -> Iterator[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _keep(answer: Answer, depends: tuple[str, ...]) -> Answer:
    """An answer that stands on these alone may be kept; one that followed an alias may not."""
    if answer.fixed and answer.fixed[0].type == Type.CNAME:
        return answer
    return replace(answer, depends=depends)


def _of_addresses(texts: Sequence[str], qtype: int, ttl: int) -> Answer:
    """A and AAAA records, identical ones once."""
    packed = dict.fromkeys(filter(None, map(packed_address, texts)))
    entries = tuple(
        Entry(Record(None, kind, ttl, octets))
        for octets in packed
        if qtype in (kind := address_type(octets), Type.ANY)
    )
    return Answer(Outcome.FOUND, entries=entries) if entries else NODATA


def _wire(text: str) -> bytes:
    try:
        return to_wire(text)
    except (ValueError, UnicodeError):
        return b""
