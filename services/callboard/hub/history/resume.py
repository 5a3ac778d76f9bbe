"""Where a cursor stands in a history, and what of it is gone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callboard.hub.cursor import EARLIEST, Cursor, Place
from callboard.hub.history.store import Epoch, longest_prefix, place_of
from callboard.hub.ports import Gap, Matcher, Resume, Selector

_EXACT = "exact"
_TEMPLATE = "template"


@dataclass(frozen=True, slots=True)
class Extent:
    """What there is: epochs, and the ends of the history."""

    epochs: Sequence[Epoch]
    head: int
    oldest: int

    def place(self, offset: int) -> Place:
        """An offset with its epoch."""
        return Place(place_of(self.epochs, offset), offset)

    def id(self, offset: int) -> str:
        """An offset as a cursor."""
        return str(Cursor(self.place(offset)))

    def last(self, epoch: str) -> int | None:
        """The last offset that was given in an epoch, as far as this history has it; None for an
        epoch it does not know."""
        for number, known in enumerate(self.epochs):
            if known.name == epoch:
                newer = self.epochs[number + 1 :]
                return newer[0].first - 1 if newer else self.head
        return None

    def gap(self, requested: str, after: int, upto: int) -> Gap:
        """A gap from `after` to `upto`, the highest offset that is gone of what was asked for."""
        whole = upto < self.oldest
        return Gap(requested, self.id(upto), self.id(self.head), upto - after if whole else None)

    def unknown(self, requested: str) -> Resume:
        """For an id that nobody knows: all there is, after a gap of unknown length."""
        after = self.oldest - 1
        return Resume(after, Gap(requested, self.id(after), self.id(self.head), None))

    def resume(self, place: Place, trimmed: int) -> Resume | None:
        """Where a place stands; `trimmed` as `trimmed_of` gives it. None for an unknown one."""
        last = self.last(place.epoch)
        if last is None or (place.offset > last and place.epoch == self.epochs[-1].name):
            return None
        requested = str(Cursor(place))
        if place.offset > last:
            # the end of that epoch was lost: what it gave this offset to, nobody has any more
            upto = max(last, trimmed)
            return Resume(last, Gap(requested, self.id(upto), self.id(self.head), None))
        return self.known(place.offset, requested, trimmed)

    def known(self, offset: int, requested: str, trimmed: int) -> Resume:
        """Where an offset stands that was given once: behind it, and a gap if retention has taken
        any of what was asked for."""
        if offset >= trimmed:
            return Resume(offset)
        return Resume(offset, self.gap(requested, offset, trimmed))


def requested(cursor: Cursor) -> str:
    """The history's part of a cursor, as it is told in a gap."""
    if cursor.earliest:
        return EARLIEST
    return cursor.own_id or (str(Cursor(cursor.place)) if cursor.place else "")


def trimmed_of(marks: Mapping[str, int], selector: Selector | None) -> int:
    """The highest offset that was trimmed among prefixes that may hold what a selector wants."""
    if selector is None:
        return max(marks.values(), default=0)
    highest = 0
    for matcher in selector.matchers:
        for prefix in _prefixes_of(matcher, marks):
            highest = max(highest, marks[prefix])
    return highest


def _prefixes_of(matcher: Matcher, marks: Mapping[str, int]) -> set[str]:
    """The prefixes that a topic that matches can belong to."""
    if matcher.kind == _EXACT:
        return {longest_prefix(matcher.text, marks)} & marks.keys()
    if matcher.kind == _TEMPLATE:
        # what stands before the first variable begins every topic that matches
        literal = matcher.text.partition("{")[0]
        own = longest_prefix(literal, marks)
        return {p for p in marks if p == own or p.startswith(literal)}
    return set(marks)
