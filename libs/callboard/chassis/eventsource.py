"""Whether a browser asks for a stream of events."""

from __future__ import annotations

from collections.abc import Mapping


def is_browser(headers: Mapping[str, str]) -> bool:
    """Whether a request is an EventSource's of a browser, which takes any status but 200 for the
    end (WHATWG HTML, 9.2): it says so by Accept, and shows one of the fields that only browsers
    send. Names in lower case."""
    if "text/event-stream" not in headers.get("accept", "").lower():
        return False
    return (
        "origin" in headers
        or any(name.startswith("sec-fetch-") for name in headers)
        or headers.get("user-agent", "").startswith("Mozilla/")
    )
