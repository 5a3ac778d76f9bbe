"""Print the events of topics as they come."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import UsageError, call
from callboard.events import course
from callboard.events.course import Gap
from callboard.events.parser import Event
from callboard.events.synchronous import subscribe
from callboard.hub.commands.asking import HUB_FLAGS, asking, failing

STREAM_FLAGS = (
    flags.switch("json", "Print each event as a line of JSON, with its id, type, topics and time."),
    flags.number("count", "End after this many events; 0 is never."),
    flags.number("beat", "Seconds between the hub's signs of life.", 10),
    *HUB_FLAGS,
)

FLAGS = FlagSet(
    """Usage: callboard sub [options] TOPIC...

  Print the data of events as they come, for ever or -count of them: a connection that is lost is
  resumed where it stood. `builds` is the topic /builds; a topic may be a URI template, in quotes.

  $ callboard sub builds
  $ callboard sub -last 1 -count 1 builds
  $ callboard sub -json -since 10m '/catalog/services/{name}' | jq .data""",
    [
        flags.text("since", "Begin so far back: 10m, 1h30m, 2d, a date and time of RFC 3339."),
        flags.number("last", "Begin with this many events of the past."),
        flags.text("id", "Begin after the event with this id."),
        *STREAM_FLAGS,
    ],
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard sub`."""
    return call(FLAGS, argv, lambda parsed: _subscribe(parsed, environ))


def _subscribe(parsed: Parsed, environ: Mapping[str, str]) -> int:
    if not parsed.args:
        raise UsageError("which topics? callboard sub TOPIC...")
    last = parsed.number("last") if parsed.given("last") else None
    return follow(parsed, environ, since=parsed.text("since"), last=last, id=parsed.text("id"))


def follow(
    parsed: Parsed,
    environ: Mapping[str, str],
    *,
    since: str = "",
    last: int | None = None,
    id: str = "",
) -> int:
    """Print the events of the command line's topics until there are no more. Raises Failed."""
    for topic in parsed.args:
        if topic.startswith("-"):
            raise UsageError(f"options come before topics: {topic}")
    asked, as_json = asking(parsed, environ), parsed.switch("json")
    with (
        failing("Error subscribing"),
        _telling_losses(),
        subscribe(
            parsed.args,
            hub=asked.hub,
            token=asked.token,
            tls=asked.tls,
            last_event_id=id,
            since=since,
            last=last,
            beat_s=parsed.number("beat"),
            lines=as_json,
            patient=False,
        ) as events,
    ):
        left = parsed.number("count")
        for event in events:
            _show(event, as_json)
            if isinstance(event, Gap):
                continue
            left -= 1
            if left == 0:
                break
    return 0


@contextmanager
def _telling_losses() -> Iterator[None]:
    """Say on stderr why a stream was lost, while it is sought again."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("(%(message)s: %(reason)s)"))
    course.log.addHandler(handler)
    course.log.propagate = False
    try:
        yield
    finally:
        course.log.removeHandler(handler)
        course.log.propagate = True


def _show(event: Event, as_json: bool) -> None:
    if as_json:
        print(line(event), flush=True)
    elif isinstance(event, Gap):
        count = "some" if event.lost is None else str(event.lost)
        print(f"({count} events are missing here: the hub has them no more)", file=sys.stderr)
    else:
        print(event.data, flush=True)


def line(event: Event) -> str:
    """An event as a line of JSON."""
    fields: dict[str, object] = {"id": event.id, "type": event.type}
    if event.topics:
        fields["topics"] = event.topics
    if event.time_ms is not None:
        fields["time"] = event.time_ms
    return json.dumps({**fields, "data": event.data}, ensure_ascii=False)
