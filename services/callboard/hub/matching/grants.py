"""What a token is good for: a list of matchers. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from callboard.hub.ports import Matcher


class TopicSet:
    """The topics that at least one of some matchers names."""

    __slots__ = ("_everything", "_exact", "_patterns", "matchers")

    def __init__(self, matchers: Iterable[Matcher]) -> None:
        self.matchers = frozenset(matchers)
        self._everything = any(one.kind == "all" for one in self.matchers)
        self._exact = frozenset(one.text for one in self.matchers if one.kind == "exact")
        self._patterns = tuple(one for one in self.matchers if one.kind not in ("all", "exact"))

    def has(self, topic: str) -> bool:
        """Whether a topic is among them; `*` (which is none, but all of them) only by itself."""
        return (
            self._everything
            or topic in self._exact
            or (topic != "*" and any(pattern.matches(topic) for pattern in self._patterns))
        )

    def has_any(self, topics: tuple[str, ...]) -> bool:
        """Whether one of an update's topics is among them."""
        if self._everything:
            return True
        exact = self._exact
        for topic in topics:
            if topic in exact:
                return True
        return any(pattern.matches(topic) for pattern in self._patterns for topic in topics)


class TokenGrants:
    """`Grants` of a token."""

    __slots__ = ("_hash", "_public", "_topics")

    def __init__(self, matchers: Iterable[Matcher], *, public: bool = False) -> None:
        """`public`: good for public updates of every topic, as an empty `mercure.publish` is in
        drafts up to 07."""
        self._topics = TopicSet(matchers)
        self._public = public
        self._hash = hash((self._topics.matchers, public))

    def allow(self, topic: str) -> bool:
        """Whether a topic is granted."""
        return self._topics.has(topic)

    def covers(self, topics: tuple[str, ...], private: bool) -> bool:
        """Whether an update may be published: all its topics must be granted."""
        return (self._public and not private) or all(map(self._topics.has, topics))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TokenGrants)
            and self._topics.matchers == other._topics.matchers
            and self._public == other._public
        )

    def __hash__(self) -> int:
        return self._hash
