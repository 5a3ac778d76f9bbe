"""Names as Consul lays them out below a domain: a question's labels become a `Lookup`.

    <node>.node[.<dc>]            [<tag>.]<service>.service[.<dc>]      ns
    <hex ip>.addr[.<dc>]          _<service>._<tag|tcp>[.service][.<dc>]

`.<dc>` may be written `.<dc>.dc`, and the rest of newer Consul's long form (`.default.ns`,
`.default.ap`) is understood. A name that only has names below it (`service`, `node`, `dc1`) is an
empty non-terminal: it exists (RFC 8020), so that a resolver that asks label by label (RFC 9156)
comes through. Pure: whether a node or service exists is not known here; that is `answers`.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Sequence
from functools import lru_cache

import msgspec

Labels = tuple[bytes, ...]
"""Of a name, in lower case (ASCII letters only, RFC 4343), without the root."""

NAME_OCTETS_MAX = 255
LABEL_OCTETS_MAX = 63

KINDS = frozenset({b"node", b"service", b"addr", b"query", b"connect", b"ingress", b"virtual"})
"""The words that say what stands before them; the last one in a name counts."""


class Kind(enum.Enum):
    """What a name asks for."""

    NODE = enum.auto()
    SERVICE = enum.auto()
    ADDRESS = enum.auto()
    """An address spelled in hexadecimal; `name` is its text."""
    REVERSE = enum.auto()
    """Below in-addr.arpa or ip6.arpa; `name` is the address's text."""
    APEX = enum.auto()
    NAMESERVER = enum.auto()
    EMPTY = enum.auto()
    """An empty non-terminal: exists, has no records."""
    MISSING = enum.auto()
    """In the domain, and no such name can exist."""
    OUTSIDE = enum.auto()


class Lookup(msgspec.Struct, frozen=True):
    """What a name asks for, in lower case."""

    kind: Kind
    name: str = ""
    tag: str = ""
    """"" is no filter."""
    datacenter: str = ""
    """As asked; "" when the name has none."""
    domain: Labels = ()
    """The domain the name is in; () outside."""
    underscore: bool = False
    """A lone `_name.service`: what stands above the RFC 2782 names of a tag."""


def to_wire(name: str) -> bytes:
    """A name in text ("web.service.consul", final dot optional) as uncompressed wire bytes.

    Raises ValueError for an empty or long label and for a name over 255 octets (RFC 1035, 3.1).
    """
    text = name.removesuffix(".")
    if not text:
        return b"\0"
    return labels_to_wire([label.encode("utf-8", "surrogateescape") for label in text.split(".")])


def labels_to_wire(labels: Sequence[bytes]) -> bytes:
    """Labels as uncompressed wire bytes. Raises ValueError, as `to_wire`."""
    parts = []
    for label in labels:
        if not 0 < len(label) <= LABEL_OCTETS_MAX:
            raise ValueError(f"a label of {len(label)} octets")
        parts.append(bytes((len(label),)) + label)
    wire = b"".join(parts) + b"\0"
    if len(wire) > NAME_OCTETS_MAX:
        raise ValueError(f"a name of {len(wire)} octets")
    return wire


def labels_of(wire: bytes) -> Labels:
    """The labels of an uncompressed, well-formed wire name, as they are spelled."""
    labels = []
    at = 0
    while length := wire[at]:
        labels.append(wire[at + 1 : at + 1 + length])
        at += 1 + length
    return tuple(labels)


@lru_cache(maxsize=1 << 16)
def packed_address(text: str) -> bytes:
    """4 or 16 octets of an address in text; b"" if it is none (a host name, an empty one)."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return b""


class Domains:
    """The domains a front answers for: the primary one, and at most one other."""

    def __init__(self, domain: str, alt_domain: str = "") -> None:
        """Raises ValueError if a domain is no domain name, or the root."""
        self.primary = _domain(domain)
        self.primary_wire = labels_to_wire(self.primary)
        every = [self.primary] + ([_domain(alt_domain)] if alt_domain else [])
        self._every = sorted(every, key=len, reverse=True)

    def parse(self, labels: Labels) -> Lookup:
        """What a name (labels in lower case) asks for."""
        for domain in self._every:
            if labels[-len(domain) :] == domain:
                return _inside(labels[: -len(domain)], domain)
        if labels[-1:] == (b"arpa",):
            return _reverse(labels)
        return _OUTSIDE


_OUTSIDE = Lookup(Kind.OUTSIDE)


def _domain(text: str) -> Labels:
    labels = labels_of(to_wire(text.lower()))
    if not labels:
        raise ValueError(f"{text!r} is no domain to answer for")
    return labels


def _inside(rest: Labels, domain: Labels) -> Lookup:
    """The lookup of what stands before the domain."""
    if not rest:
        return Lookup(Kind.APEX, domain=domain)
    if rest == (b"ns",):
        return Lookup(Kind.NAMESERVER, domain=domain)
    missing = Lookup(Kind.MISSING, domain=domain)
    for at in range(len(rest) - 1, -1, -1):
        if rest[at] in KINDS:
            break
    else:
        return _without_kind(rest, domain, missing)
    datacenter = _suffix(rest[at + 1 :])
    if datacenter is None:
        return missing
    return _of_kind(rest[at], rest[:at], datacenter, domain) or missing


def _of_kind(kind: bytes, parts: Labels, datacenter: str, domain: Labels) -> Lookup | None:
    """The lookup of `parts.kind`; None if there can be no such name."""
    if not parts:
        if kind in (b"connect", b"ingress", b"virtual"):
            return None
        return Lookup(Kind.EMPTY, datacenter=datacenter, domain=domain)
    words = _words(parts)
    if words is None:
        return None
    if kind == b"node":
        return Lookup(Kind.NODE, ".".join(words), "", datacenter, domain)
    if kind == b"service":
        return _service(words, datacenter, domain)
    if kind == b"addr" and len(words) == 1:
        address = _hex_address(words[0])
        return Lookup(Kind.ADDRESS, address, "", datacenter, domain) if address else None
    return None


def _service(words: list[str], datacenter: str, domain: Labels) -> Lookup:
    if len(words) == 2 and words[0][0] == words[1][0] == "_" and len(words[0]) > 1:
        tag = words[1][1:]
        return Lookup(Kind.SERVICE, words[0][1:], "" if tag == "tcp" else tag, datacenter, domain)
    name = words[-1]
    alone = len(words) == 1 and name[0] == "_"
    return Lookup(Kind.SERVICE, name, ".".join(words[:-1]), datacenter, domain, alone)


def _without_kind(rest: Labels, domain: Labels, missing: Lookup) -> Lookup:
    """RFC 2782 names may leave out `.service`; what stands above them and above dc is empty."""
    count = 0
    while count < len(rest) and rest[count][:1] == b"_":
        count += 1
    if count > 2:
        return missing
    datacenter = "" if rest[count:] == (b"dc",) else _suffix(rest[count:])
    if datacenter is None:
        return missing
    if count == 2:
        words = _words(rest[:2])
        return _service(words, datacenter, domain) if words and len(words[0]) > 1 else missing
    return Lookup(Kind.EMPTY, datacenter=datacenter, domain=domain)


def _suffix(labels: Labels) -> str | None:
    """The datacenter named between the kind and the domain; "" if none, None if malformed."""
    if not labels:
        return ""
    words = _words(labels)
    if words is None:
        return None
    if len(words) == 1:
        return words[0]
    datacenter = ""
    if len(words) % 2:  # `.ns.`, `.ap.` and a bare datacenter last
        datacenter = words.pop()
    for value, key in zip(words[::2], words[1::2], strict=True):
        if key == "dc" and not datacenter:
            datacenter = value
        elif key not in ("ns", "ap") or value != "default" or words[1::2].count(key) > 1:
            return None  # (once each: of every name there are a few forms, not any number)
    return datacenter


def _words(labels: Labels) -> list[str] | None:
    """Labels as text; None if a label holds a dot (it would be taken for two) or is no text."""
    try:
        words = [label.decode() for label in labels]
    except UnicodeDecodeError:
        return None
    return None if any("." in word for word in words) else words


def _hex_address(word: str) -> str:
    if len(word) not in (8, 32):
        return ""
    try:
        packed = bytes.fromhex(word)
    except ValueError:
        return ""
    # fromhex skips spaces: a label may hold them
    return str(ipaddress.ip_address(packed)) if len(packed) * 2 == len(word) else ""


def _reverse(labels: Labels) -> Lookup:
    """RFC 1035, 3.5 and RFC 3596, 2.5; a name with fewer labels is not ours."""
    if labels[-2:] == (b"in-addr", b"arpa") and len(labels) == 6:
        text = b".".join(reversed(labels[:4])).decode("latin-1")
        if packed_address(text):
            return Lookup(Kind.REVERSE, text)
    if labels[-2:] == (b"ip6", b"arpa") and len(labels) == 34:
        nibbles = b"".join(reversed(labels[:32])).decode("latin-1")
        text = _hex_address(nibbles) if len(nibbles) == 32 else ""
        if text:
            return Lookup(Kind.REVERSE, text)
    return _OUTSIDE
