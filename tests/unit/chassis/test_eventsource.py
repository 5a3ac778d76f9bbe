"""Which requests are an EventSource's."""

from __future__ import annotations

import pytest

from callboard.chassis.eventsource import is_browser


@pytest.mark.parametrize(
    ("headers", "browser"),
    [
        ({"accept": "text/event-stream"}, False),
        ({"accept": "text/event-stream", "user-agent": "curl/8"}, False),
        ({"accept": "*/*", "user-agent": "Mozilla/5.0"}, False),
        ({"accept": "text/event-stream", "user-agent": "Mozilla/5.0"}, True),
        ({"accept": "text/event-stream", "origin": "null"}, True),
        ({"accept": "Text/Event-Stream", "sec-fetch-dest": "empty"}, True),
    ],
)
def test_an_event_source_shows_that_it_is_a_browsers(
    headers: dict[str, str], browser: bool
) -> None:
    assert is_browser(headers) is browser
