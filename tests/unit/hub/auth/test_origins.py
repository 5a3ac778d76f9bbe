"""Pages of other sites: who may read (CORS), and who may write."""

from __future__ import annotations

import pytest

from callboard.hub.auth.origins import Origins, is_browser


def test_every_page_may_read_if_that_is_wanted_but_none_with_cookies() -> None:
    origins = Origins(["*", "https://app.example/"])
    stranger = dict(origins.headers({"origin": "https://evil.example"}))
    assert stranger["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in stranger
    friend = dict(origins.headers({"origin": "https://App.example"}))
    assert friend["Access-Control-Allow-Origin"] == "https://App.example"
    assert friend["Access-Control-Allow-Credentials"] == "true"
    assert origins.preflight({"origin": "https://evil.example"})
    assert not Origins().preflight({"origin": "https://evil.example"})
    assert not origins.may_write({"origin": "https://evil.example"}, "http://localhost:8800")


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
