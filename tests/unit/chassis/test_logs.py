"""Log lines, and what a stranger may make us write."""

from __future__ import annotations

import ast
import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest
from tests.harness.sources import programs_code

from callboard.chassis import logs
from callboard.chassis.logs import JsonFormatter, PlainFormatter, RateLimited


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def written(level: str = "info", *, plain: bool = False, threaded: bool = False) -> io.StringIO:
    stream = io.StringIO()
    stop = logs.configure(level, plain=plain, stream=stream, threaded=threaded)
    log = logging.getLogger("callboard.agent.try")
    log.info("joined %d", 3, extra={"address": "127.0.0.1:8301"})
    log.debug("probed")
    stop()
    return stream


def test_a_line_is_an_object_with_fields() -> None:
    line = json.loads(written().getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "callboard.agent.try",
        "message": "joined 3",
        "address": "127.0.0.1:8301",
    }


def test_a_line_for_people_has_level_and_fields() -> None:
    text = written(plain=True).getvalue()
    assert text.endswith(" [INFO]  agent.try: joined 3: address=127.0.0.1:8301\n")


def test_the_writer_thread_has_written_everything_when_stopped() -> None:
    assert "joined 3" in written(threaded=True).getvalue()


def test_the_level_filters() -> None:
    assert len(written("debug").getvalue().splitlines()) == 2
    assert written("err").getvalue() == ""


@pytest.mark.parametrize(
    ("name", "number"), [("TRACE", 5), ("debug", 10), ("info", 20), ("WARN", 30), ("err", 40)]
)
def test_level_names_are_those_of_consul(name: str, number: int) -> None:
    assert logs.level_of(name) == number


def test_an_unknown_level_is_told_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="Valid log levels are: trace, debug, info, warn, err"):
        logs.level_of("loud")


def record(message: str, **fields: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "x", "levelno": 20, "msg": message, **fields})


def test_line_ends_in_a_message_cannot_forge_a_line() -> None:
    hostile = "bad name\n2026-01-01T00:00:00.000Z [ERR] all is lost"
    assert "\n" not in PlainFormatter().format(record(hostile))
    assert "\n" not in PlainFormatter().format(record("refused", name_given=hostile))
    assert "\n" not in JsonFormatter().format(record(hostile))


def test_a_field_cannot_replace_a_part_of_the_line() -> None:
    line = json.loads(JsonFormatter().format(record("true", time="then", level="fine")))
    assert (line["level"], line["level_"], line["time_"]) == ("info", "fine", "then")


def test_a_value_json_does_not_know_is_written_as_text() -> None:
    line = json.loads(JsonFormatter().format(record("x", where=ValueError("there"))))
    assert line["where"] == "there"


def test_an_exception_is_written() -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError as problem:
        entry = record("x", exc_info=(type(problem), problem, problem.__traceback__))
    assert "RuntimeError: broken" in json.loads(JsonFormatter().format(entry))["exception"]
    assert "RuntimeError: broken" in PlainFormatter().format(entry)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_repeated_event_is_written_once_an_interval(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limited = RateLimited(logging.getLogger("limited"), interval_s=10.0, clock=clock)
    assert [limited.warning("packet", "malformed") for _ in range(5)] == [True] + [False] * 4
    clock.now = 10.0
    assert limited.warning("packet", "malformed")
    assert [getattr(entry, "suppressed", 0) for entry in caplog.records] == [0, 4]


def test_keys_are_limited_apart(caplog: pytest.LogCaptureFixture) -> None:
    limited = RateLimited(logging.getLogger("limited"), clock=Clock())
    assert limited.warning("a", "malformed")
    assert limited.warning("b", "malformed")
    assert len(caplog.records) == 2


def test_the_number_of_keys_is_bounded() -> None:
    limited = RateLimited(logging.getLogger("silent"), clock=Clock())
    logging.getLogger("silent").setLevel(logging.CRITICAL)
    for number in range(logs.RATE_KEYS_MAX * 2):
        limited.warning(str(number), "malformed")
    assert len(limited._seen) == logs.RATE_KEYS_MAX


class StuckStream(io.StringIO):
    """A reader of our lines that takes nothing until released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.released.wait(5)
        return super().write(text)


def test_a_stalled_reader_does_not_stall_the_caller() -> None:
    stream = StuckStream()
    stop = logs.configure("info", stream=stream)
    log = logging.getLogger("callboard.flood")
    for number in range(logs.QUEUE_LINES_MAX + 500):
        log.info("line", extra={"number": number})
    stream.released.set()
    stop()
    assert "lines were dropped" in stream.getvalue()


def test_no_log_line_has_a_field_that_logging_refuses() -> None:
    """`extra={"name": ...}` raises KeyError where the line is written."""
    reserved = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
    wrong = [
        f"{module.path}:{node.lineno} {key.value}"
        for module in programs_code()
        for node, _ in module.calls()
        for keyword in node.keywords
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict)
        for key in keyword.value.keys
        if isinstance(key, ast.Constant) and key.value in reserved
    ]
    assert not wrong
