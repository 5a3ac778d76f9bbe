"""Log lines: JSON for machines, plain for people, and a limit for what hostile input may say.

Names of levels are Consul's: trace, debug, info, warn, err. Values travel as fields
(`log.info("joined", extra={"address": ...})`). Lines are written by a thread of their own through a
bounded queue: a reader of our stderr that stalls must not stall the event loop, and with it an
election. When the queue is full the newest line is dropped and the loss is told.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

TRACE = 5
"""Below DEBUG: every message on the wire."""

LEVELS: Mapping[str, int] = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "err": logging.ERROR,
    "error": logging.ERROR,
}
"""Consul's level names; `error` is accepted for `err`."""

_NAMES = {TRACE: "trace", 10: "debug", 20: "info", 30: "warn", 40: "err", 50: "err"}

QUEUE_LINES_MAX = 10_000
"""Lines waiting for a slow reader of stderr (about 2 MB); the newest are dropped beyond."""

RATE_KEYS_MAX = 1024
"""Different keys a RateLimited remembers; the oldest is forgotten beyond."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def level_of(name: str) -> int:
    """The number of a level name, any case. Raises ValueError with a text for the user."""
    level = LEVELS.get(name.lower())
    if level is None:
        valid = ", ".join(list(LEVELS)[:5])
        raise ValueError(f'Invalid log level: "{name}". Valid log levels are: {valid}')
    return level


def configure(
    level: str = "info", *, plain: bool = False, stream: TextIO | None = None, threaded: bool = True
) -> Callable[[], None]:
    """Send every logger's lines to `stream` (stderr); answer a function that flushes and stops.

    `plain` is for people; `threaded=False` writes in the caller's thread (tests, short commands).
    """
    handler: logging.Handler = _StreamHandler(stream or sys.stderr)
    handler.setFormatter(PlainFormatter() if plain else JsonFormatter())
    writer = None
    if threaded:
        writer = _Writer(handler)
        handler = writer
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    logging.addLevelName(TRACE, "TRACE")
    logging.raiseExceptions = False

    def stop() -> None:
        root.removeHandler(handler)
        if writer is not None:
            writer.stop()

    return stop


def set_level(level: str) -> None:
    """Change the level of everything (SIGHUP); libraries stay at warn unless debugging."""
    number = level_of(level)
    logging.getLogger().setLevel(number)
    for noisy in ("asyncio", "aiohttp", "uvicorn"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING) if number > 10 else number)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end. A value json does not know is written as its str()."""
        line: dict[str, object] = {
            "time": _time(record.created),
            "level": _level(record.levelno),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in fields_of(record).items():
            line[name if name not in line else name + "_"] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """A line as Consul prints it: time, [LEVEL], logger, message: field=value ..."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; an exception follows on lines of its own."""
        name = record.name.removeprefix("callboard.")
        level = f"[{_level(record.levelno).upper()}]"
        line = f"{_time(record.created)} {level:<7} {name}: {_one_line(record.getMessage())}"
        fields = " ".join(f"{key}={_one_line(value)}" for key, value in fields_of(record).items())
        if fields:
            line += ": " + fields
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`."""
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


class RateLimited:
    """A logger for what strangers can cause: one line per key and interval, with a count.

    The first event of a key is written at once; those of the following `interval_s` are counted,
    and told as `suppressed` by the next line of that key.
    """

    def __init__(
        self,
        logger: logging.Logger,
        interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._interval_s = interval_s
        self._clock = clock
        self._seen: OrderedDict[str, list[float]] = OrderedDict()

    def log(
        self, level: int, key: str, message: str, extra: Mapping[str, object] | None = None
    ) -> bool:
        """Write `message` unless `key` was written within the interval; whether it was."""
        now = self._clock()
        state = self._seen.get(key)
        if state is not None and now - state[0] < self._interval_s:
            state[1] += 1
            return False
        suppressed = int(state[1]) if state is not None else 0
        self._seen[key] = [now, 0]
        self._seen.move_to_end(key)
        if len(self._seen) > RATE_KEYS_MAX:
            self._seen.popitem(last=False)
        fields = dict(extra or {})
        if suppressed:
            fields["suppressed"] = suppressed
        self._logger.log(level, message, extra=fields)
        return True

    def warning(self, key: str, message: str, extra: Mapping[str, object] | None = None) -> bool:
        """`log` at warn."""
        return self.log(logging.WARNING, key, message, extra)


class _StreamHandler(logging.StreamHandler[TextIO]):
    """Writes lines; a closed or full stream loses the line and never raises into the program."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: there is nowhere to say it."""


class _Writer(logging.Handler):
    """Hands records, formatted, to a thread that writes them."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUE_LINES_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record; arguments are rendered now, as they may change later."""
        record.msg = record.getMessage()
        record.args = None
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until what is queued is written, for at most a second."""
        deadline = time.monotonic() + 1.0
        while not self._queue.empty() and time.monotonic() < deadline:
            time.sleep(0.005)

    def stop(self) -> None:
        """Write what is queued, for at most two seconds."""
        try:
            self._queue.put(None, timeout=1.0)
        except queue.Full:
            return
        self._thread.join(timeout=1.0)

    def _write(self) -> None:
        while (record := self._queue.get()) is not None:
            self._target.handle(record)
            if self._dropped and self._queue.qsize() < QUEUE_LINES_MAX // 2:
                lost, self._dropped = self._dropped, 0
                self._target.handle(_loss(lost))


def _loss(lines: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": __name__,
            "levelno": logging.WARNING,
            "msg": "log lines were dropped: the reader of this stream is too slow",
            "lines": lines,
        }
    )


def _time(created: float) -> str:
    moment = datetime.fromtimestamp(created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _level(number: int) -> str:
    return _NAMES.get(number) or _NAMES[max(5, min(50, number // 10 * 10))]


def _one_line(value: object) -> str:
    """A field's value on one line; anything with spaces or control characters is quoted."""
    text = str(value)
    if text and text.isprintable() and (" " not in text or "=" not in text):
        return text
    return json.dumps(text, ensure_ascii=False)
