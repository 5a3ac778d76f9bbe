"""Which agents a program was told of: URLs, or bare host names that mean whatever stack this is.

`agent-1` is https://agent-1:8501 for a program with an identity and http://agent-1:8500 without
one; so one command line fits a stack with and without mutual TLS. A URL without a port means the
agents' ports as well: whoever reads these addresses need not know them.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from callboard.chassis.listeners import default_port


def agent_urls(value: str, *, secure: bool) -> tuple[str, ...]:
    """The URLs of a list separated by commas. Raises ValueError with a text for the user."""
    named = [word.strip() for word in value.split(",") if word.strip()]
    if not named:
        raise ValueError("-catalog names no agent")
    return tuple(_url(word, secure=secure) for word in named)


def _url(word: str, *, secure: bool) -> str:
    scheme = "https" if secure else "http"
    url = word if "://" in word else f"{scheme}://{word}"
    try:
        parts = urlsplit(url)
        given = parts.port
    except ValueError:
        raise ValueError(f"-catalog: {word!r} is no http or https URL") from None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or any(mark.isspace() for mark in parts.netloc)
        or url.rstrip("/") != f"{parts.scheme}://{parts.netloc}"  # no path, query or fragment
    ):
        raise ValueError(f"-catalog: {word!r} is no http or https URL")
    url = url.rstrip("/")
    return url if given is not None else f"{url}:{default_port('agent', parts.scheme)}"
