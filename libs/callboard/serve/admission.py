"""What the head of a request must satisfy before its body is read. Pure.

llhttp refuses bad syntax, two lengths, and a length beside a transfer coding (RFC 9112, 6.3).
Here stands what it lets pass: codings we cannot undo, heads without a host, bodies too long.
"""

from __future__ import annotations

from collections.abc import Mapping

from callboard.serve.core import refusal
from callboard.serve.exchange import Answer, Dispatcher
from callboard.serve.lane import Exchange
from callboard.serve.limits import Limits
from callboard.serve.wire import BadTarget, decode_path, split_target

_EXPECTATIONS = frozenset({"", "100-continue"})


def examine(
    exchange: Exchange,
    target: bytes,
    version: str,
    handlers: Dispatcher | None,
    limits: Limits,
) -> Answer | None:
    """Fill in path, query and route of an exchange; an answer if it must be refused."""
    headers = exchange.headers
    refused = _examine_framing(exchange, version)
    if refused is not None:
        return refused
    try:
        exchange.raw_path, exchange.query, authority = split_target(target)
        exchange.path = decode_path(exchange.raw_path)
    except BadTarget as problem:
        return refusal(400, f"400 Bad Request: {problem}")
    if authority is not None:
        headers["host"] = authority
    if "host" not in headers and not exchange.http_1_0:
        return refusal(400, "400 Bad Request: missing required Host header")
    if handlers is not None:
        exchange.route = handlers.find(exchange.method, exchange.path)
    limit = body_bytes_max(exchange, limits)
    length = int(headers.get("content-length") or 0)
    if length > limit:
        return refusal(413, f"Request body({length} bytes) too large, max size: {limit} bytes")
    expectation = headers.get("expect", "").lower()
    exchange.expects_continue = expectation == "100-continue" and not exchange.http_1_0
    return refusal(417, "expectation failed") if expectation not in _EXPECTATIONS else None


def _examine_framing(exchange: Exchange, version: str) -> Answer | None:
    exchange.http_1_0 = version == "1.0"
    coding = exchange.headers.get("transfer-encoding")
    if version not in ("1.0", "1.1"):
        return refusal(505, "HTTP version not supported")
    if coding is not None and exchange.http_1_0:
        return refusal(400, "400 Bad Request")  # RFC 9112, 6.1: faulty framing.
    if coding is not None and coding.lower() != "chunked":
        return refusal(501, "unsupported transfer encoding")
    if exchange.method == "CONNECT":
        return refusal(405, "method CONNECT not allowed")
    return None


def body_bytes_max(exchange: Exchange, limits: Limits) -> int:
    """How long the body of this request may be."""
    route = exchange.route
    return route.body_bytes_max if route is not None else limits.body_bytes_max


def has_body(headers: Mapping[str, str]) -> bool:
    """Whether the head announces a body (RFC 9112, 6)."""
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""
