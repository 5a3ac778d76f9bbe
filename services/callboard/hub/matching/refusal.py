"""An answer to a request that will not be done. Pure."""

from __future__ import annotations

Headers = tuple[tuple[str, str], ...]


class Refused(Exception):
    """Nothing was done: the HTTP status, what to say, and headers of the answer."""

    def __init__(self, status: int, text: str, headers: Headers = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers
