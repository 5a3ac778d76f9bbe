"""DNS scenarios in the syntax of a zone file: anyone who can read `dig` can read the test.

    Case("web.service.consul", "A", answer=["web.service.consul. 0 IN A 10.0.0.1", ...])

Records are compared as sets: the order of an answer is chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Ask = Callable[[bytes], bytes | None]


@dataclass(frozen=True)
class Case:
    """A question, and what has to come back."""

    name: str
    type: str
    rcode: str = "NOERROR"
    answer: list[str] = field(default_factory=list)
    authority: list[str] | None = None
    """None: not looked at (negative answers: an SOA is asked for)."""
    additional: list[str] | None = None
    authoritative: bool = True

    def __str__(self) -> str:
        return f"{self.name}-{self.type}"


def query(name: str, type: str, **edns: int | bool) -> dns.message.QueryMessage:
    """A query message; any of EDNS's arguments turns it on."""
    return dns.message.make_query(name, type, **edns)  # type: ignore[arg-type]


def ask(send: Ask, message: dns.message.QueryMessage) -> dns.message.Message:
    """Send a query and read the answer strictly: a malformed one fails the test."""
    reply = send(message.to_wire())
    assert reply is not None, "silence"
    parsed = dns.message.from_wire(reply, one_rr_per_rrset=False)
    assert parsed.id == message.id
    assert parsed.flags & dns.flags.QR
    return parsed


def lines(section: list[dns.rrset.RRset]) -> list[str]:
    """A section's records, one a line, sorted, as dig prints them."""
    return sorted(line for rrset in section for line in rrset.to_text().splitlines())


def check(case: Case, send: Ask) -> None:
    """Ask, and compare."""
    reply = ask(send, query(case.name, case.type))
    assert dns.rcode.to_text(reply.rcode()) == case.rcode
    assert lines(reply.answer) == sorted(case.answer)
    assert bool(reply.flags & dns.flags.AA) is case.authoritative
    if case.authority is not None:
        assert lines(reply.authority) == sorted(case.authority)
    elif case.authoritative and not case.answer:
        assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]
        name = dns.name.from_text(case.name)
        assert name.is_subdomain(reply.authority[0].name)
    if case.additional is not None:
        assert lines(reply.additional) == sorted(case.additional)
