"""Query parameters as Consul reads them, with its texts for those that are wrong. Pure.

Presence counts for flags: Go's client sends `stale=`, py-consul `stale=1`. A parameter this
version does not honour yet is refused by name (501): ignoring a filter would be a wrong answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from callboard.agent.http.problems import ApiError
from callboard.catalog.durations import DurationError, parse_duration, seconds
from callboard.serve import Request

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INDEX_MAX = (1 << 64) - 1
READ_LATER = ("filter", "near", "node-meta")
"""Parameters of lists that are not there yet; an empty value asks for nothing."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a read shall be done."""

    consistency: str
    """leader, stale or consistent: the words of X-Consul-Effective-Consistency."""
    max_stale_s: float
    """A stale read older than this is done by the leader instead; 0: however old."""
    index: int
    """Block until the resource's index is above this; 0: do not block."""
    wait_s: float
    """As asked; 0: the default."""


def read_options(
    request: Request, datacenter: str, *, discovery_max_stale_s: float = 0.0
) -> ReadOptions:
    """The options of a replicated read. Raises ApiError."""
    query = request.query
    if not query and not discovery_max_stale_s:
        return _PLAIN
    if "cached" in query:
        if "consistent" in query:
            raise ApiError(400, "Cannot specify ?cached with ?consistent, conflicting semantics.")
        raise not_yet("cached")
    check_datacenter(request, datacenter)
    stale, max_stale_s = _staleness(query, discovery_max_stale_s)
    if stale and "consistent" in query:
        raise ApiError(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
    consistency = "stale" if stale else "consistent" if "consistent" in query else "leader"
    return ReadOptions(consistency, max_stale_s, _index(query), _wait(query))


_PLAIN = ReadOptions("leader", 0.0, 0, 0.0)


def check_datacenter(request: Request, datacenter: str) -> None:
    """Refuse `?dc` of a datacenter that is not ours."""
    asked = first(request, "dc")
    if asked and asked != datacenter:
        raise ApiError(500, "No path to datacenter")


def refuse_later(request: Request, names: tuple[str, ...] = READ_LATER) -> None:
    """Refuse parameters that this version does not honour yet."""
    if request.query:
        for name in names:
            if any(request.query.get(name, ())):
                raise not_yet(name)


def not_yet(name: str) -> ApiError:
    """The refusal of a parameter that is not there yet."""
    return ApiError(501, f"The query parameter ?{name} is not there yet")


def first(request: Request, name: str) -> str:
    """A parameter's first value; "" without one."""
    values = request.query.get(name)
    return values[0] if values else ""


def boolean(text: str) -> bool | None:
    """Go's strconv.ParseBool; None for anything else."""
    return True if text in _TRUE else False if text in _FALSE else None


def passing(request: Request) -> bool:
    """`?passing`, bare or a boolean."""
    if "passing" not in request.query:
        return False
    text = first(request, "passing")
    value = True if not text else boolean(text)
    if value is None:
        raise ApiError(400, "Invalid value for ?passing")
    return value


def tags(request: Request) -> tuple[str, ...]:
    """`?tag`, each of which must be there, in lower case."""
    return tuple(tag.lower() for tag in request.query.get("tag", ()))


def other_peer(request: Request) -> bool:
    """Whether another cluster's objects are asked for (`?peer`): we know none."""
    return bool(first(request, "peer"))


def unsigned(request: Request, name: str) -> int:
    """A parameter of 64 bits. Raises ApiError with Go's text."""
    text = first(request, name)
    value = _unsigned(text)
    if value is None:
        reason = "value out of range" if text.isdecimal() and text.isascii() else "invalid syntax"
        raise ApiError(500, f'strconv.ParseUint: parsing "{text}": {reason}')
    return value


def token_of(request: Request) -> str:
    """The request's token, by Consul's order: ?token, X-Consul-Token, Authorization: Bearer."""
    asked = first(request, "token") or request.headers.get("x-consul-token", "")
    if asked:
        return asked
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def _staleness(query: dict[str, list[str]], discovery_max_stale_s: float) -> tuple[bool, float]:
    stale = "stale" in query
    text = query.get("max_stale", [""])[0]
    max_stale_s = 0.0
    if text:
        try:
            max_stale_s = seconds(parse_duration(text))
        except DurationError as problem:
            raise ApiError(400, f'Invalid max_stale value "{text}"') from problem
        stale = stale or max_stale_s > 0
    chosen = stale or "consistent" in query or "leader" in query
    if discovery_max_stale_s and not chosen:
        return True, discovery_max_stale_s
    return stale, max_stale_s


def _index(query: dict[str, list[str]]) -> int:
    text = query.get("index", [""])[0]
    if not text:
        return 0
    value = _unsigned(text)
    if value is None:
        raise ApiError(400, "Invalid index")
    return value


def _wait(query: dict[str, list[str]]) -> float:
    text = query.get("wait", [""])[0]
    if not text:
        return 0.0
    try:
        return seconds(parse_duration(text))
    except DurationError as problem:
        raise ApiError(400, "Invalid wait time") from problem


def _unsigned(text: str) -> int | None:
    if not text.isascii() or not text.isdecimal() or len(text) > 40:
        return None
    value = int(text)
    return value if value <= _INDEX_MAX else None
