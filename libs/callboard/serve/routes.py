"""A table of routes by path, exact or by prefix, as Go's ServeMux understands patterns.

A pattern that ends in "/" matches every path below it; the longest pattern wins; others match
exactly, and so does "/" (for all other paths there is the fallback). Methods are the handler's
business: a path that exists answers 405 itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from callboard.serve.exchange import Route


class RouteTable:
    """A `Dispatcher`."""

    def __init__(self, fallback: Route | None = None) -> None:
        self._exact: dict[str, Route] = {}
        self._below: dict[str, Route] = {}
        self._depth = 0
        self._fallback = fallback

    def __iter__(self) -> Iterator[Route]:
        yield from self._exact.values()
        yield from self._below.values()

    def add(self, route: Route) -> None:
        """Add a route under its pattern; twice the same pattern is a mistake of ours."""
        below = route.pattern.endswith("/") and route.pattern != "/"
        table = self._below if below else self._exact
        assert route.pattern.startswith("/") and route.pattern not in table, route.pattern
        table[route.pattern] = route
        if below:
            self._depth = max(self._depth, route.pattern.count("/"))

    def find(self, method: str, path: str) -> Route | None:
        """The route of a path; the fallback if there is none."""
        route = self._exact.get(path)
        if route is not None:
            return route
        ends = []
        at = -1
        for _ in range(self._depth):
            at = path.find("/", at + 1)
            if at < 0:
                break
            ends.append(at + 1)
        for end in reversed(ends):
            route = self._below.get(path[:end])
            if route is not None:
                return route
        return self._fallback
