"""Plain clients for tests: one HTTP request, one DNS question, with a time limit."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dns.message
import dns.query
import dns.rdatatype

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)


def http(
    method: str,
    url: str,
    body: bytes | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Make one request; any status is an answer. Raises OSError if there is none."""
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s, context=tls) as answer:
            return Reply(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return Reply(refused.code, dict(refused.headers), refused.read())


def get(url: str, *, timeout_s: float = TIMEOUT_S) -> Any:
    """Return the decoded body of a GET. Raises AssertionError unless it is a 200."""
    reply = http("GET", url, timeout_s=timeout_s)
    assert reply.status == 200, f"{url}: {reply.status} {reply.body[:300]!r}"
    return reply.json()


def ask(
    place: tuple[str, int], name: str, kind: str = "A", *, tcp: bool = False, **edns: Any
) -> dns.message.Message:
    """Ask one DNS question, by UDP or TCP. Raises dns.exception.Timeout or OSError."""
    question = dns.message.make_query(name, kind, **edns)
    asker = dns.query.tcp if tcp else dns.query.udp
    return asker(question, place[0], timeout=TIMEOUT_S, port=place[1])


def addresses(answer: dns.message.Message) -> list[str]:
    """Return the A records of an answer, in its order."""
    return [
        record.address
        for rrset in answer.answer
        if rrset.rdtype == dns.rdatatype.A
        for record in rrset
    ]
