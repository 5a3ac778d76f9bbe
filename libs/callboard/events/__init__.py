"""Server-sent events: encoder, parser, and a client that resumes (sync and async).

    from callboard.events import publish, subscribe

    async for event in subscribe("builds", hub="https://hub.example:8801", token=token):
        print(event.id, event.data)

    await publish("builds", "done")

The same names without an event loop are in `callboard.events.synchronous`. Names are imported when
first used: a `callboard` verb needs the standard library alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callboard.events.client import Publisher, Stream, publish, subscribe
    from callboard.events.course import Gap
    from callboard.events.errors import EventsError, NotAStream, Refused, Unreachable
    from callboard.events.parser import Event, EventTooLong, Parser

__all__ = [
    "Event",
    "EventTooLong",
    "EventsError",
    "Gap",
    "NotAStream",
    "Parser",
    "Publisher",
    "Refused",
    "Stream",
    "Unreachable",
    "publish",
    "subscribe",
]

_MODULES = {
    "Event": "parser",
    "EventTooLong": "parser",
    "EventsError": "errors",
    "Gap": "course",
    "NotAStream": "errors",
    "Parser": "parser",
    "Publisher": "client",
    "Refused": "errors",
    "Stream": "client",
    "Unreachable": "errors",
    "publish": "client",
    "subscribe": "client",
}


def __getattr__(name: str) -> object:
    """Import a public name's module at its first use (PEP 562)."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
