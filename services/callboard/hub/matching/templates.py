"""URI templates as expressions over topics: what drafts up to 07 select topics by. Pure.

A topic is matched when the template expands to it for some values of its variables (RFC 6570,
level 4 without prefixes). The template becomes a nondeterministic automaton whose states are bits
of an integer. Nothing backtracks, and the places in a literal, all of which can be active at once
(`{+a}xxx` in a topic of `x`), advance together by one shift (Baeza-Yates and Gonnet's Shift-And).
Per character of the topic there are thus a few operations on an integer of as many bits as the
template has characters, and one for each branch: a few per variable.

What a variable stands for are the characters that an expansion leaves or makes: unreserved ones
and percent-encoded octets, with `,` (and `=` behind `*`) between the parts of a list; `{+x}` and
`{#x}` allow the reserved ones as well. `{id}` does not reach over a `/`, a `:` or a `?`.
"""

from __future__ import annotations

import re
import string

from callboard.hub.matching.refusal import Refused

VARIABLES_MAX = 10
"""In one template: the time that a topic takes grows with them."""

_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~%")
_RESERVED = frozenset(":/?#[]@!$&'()*+,;=")
_LIST = _UNRESERVED | {","}
_MAP = _LIST | {"="}

_EXPRESSION = re.compile(r"\{([+#./;?&]?)([^{}]*)\}")
_NAME = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*"
_VARIABLE = re.compile(rf"({_NAME})(\*|:[1-9][0-9]{{0,3}})?")


class Automaton:
    """Matches topics against one template."""

    def __init__(self, prefix: str, states: _States, first: int, last: int, suffix: str) -> None:
        self.prefix = prefix
        """The literal text that every matched topic begins with."""
        self._suffix = suffix
        self._first = states.closure(first)
        self._last = 1 << last
        self._after: dict[int, int] = {}
        """Of a branch: the states that are active behind its character."""
        self._chained: dict[str, int] = {}
        """Of a character: the states that it takes to the next one and nowhere else."""
        self._branching: dict[str, int] = {}
        """Of a character: the branches that accept it."""
        for state, (characters, target) in enumerate(
            zip(states.accepts, states.target, strict=True)
        ):
            if target is None:
                continue
            accepting = self._chained
            if not states.is_chained(state):
                self._after[state] = states.closure(target)
                accepting = self._branching
            for character in characters:
                accepting[character] = accepting.get(character, 0) | 1 << state

    def matches(self, topic: str) -> bool:
        """Whether the template expands to the topic."""
        middle = len(topic) - len(self._suffix)
        if middle < len(self.prefix):  # they have no characters in common
            return False
        if not topic.startswith(self.prefix) or not topic.endswith(self._suffix):
            return False
        active = self._first
        # a topic takes the same few branches again and again: a look-up for all of them
        behind = {0: 0}
        for character in topic[len(self.prefix) : middle]:
            branching = active & self._branching.get(character, 0)
            active = (active & self._chained.get(character, 0)) << 1
            after = behind.get(branching)
            if after is None:
                after = behind[branching] = self._behind(branching)
            active |= after
            if not active:
                return False
        return bool(active & self._last)

    def _behind(self, branching: int) -> int:
        active = 0
        while branching:
            branch = branching & -branching
            active |= self._after[branch.bit_length() - 1]
            branching ^= branch
        return active


def compile(text: str) -> Automaton | None:
    """The automaton of a template; None if the text is none (then it is a literal).

    Raises Refused (400) for what would take unbounded time: prefixes (`{x:3}`), and more than
    VARIABLES_MAX variables.
    """
    parts: list[tuple[str, str, list[tuple[str, str]]]] = []
    at = 0
    for found in _EXPRESSION.finditer(text):
        variables = _variables(found[2])
        literal = text[at : found.start()]
        if variables is None or "{" in literal or "}" in literal:
            return None
        parts.append((literal, found[1], variables))
        at = found.end()
    rest = text[at:]
    if not parts or "{" in rest or "}" in rest:
        return None
    everything = [variable for _, _, variables in parts for variable in variables]
    if len(everything) > VARIABLES_MAX:
        raise Refused(400, f"a topic's URI template has at most {VARIABLES_MAX} variables")
    if any(modifier.startswith(":") for _, modifier in everything):
        raise Refused(400, "a topic's URI template has no prefixes: {x:3} is not supported")
    states = _States()
    first = state = states.new()
    for number, (literal, operator, variables) in enumerate(parts):
        state = states.literal(state, literal if number else "")
        state = _expression(states, state, operator, variables)
    return Automaton(parts[0][0], states, first, state, rest)


def _variables(text: str) -> list[tuple[str, str]] | None:
    """(name, modifier) of each; None if it is no list of variables."""
    found = [_VARIABLE.fullmatch(part) for part in text.split(",")]
    return [(one[1], one[2] or "") for one in found if one] if all(found) else None


class _States:
    """States under construction: each consumes one character of a set, or none."""

    def __init__(self) -> None:
        self.accepts: list[frozenset[str]] = []
        self.target: list[int | None] = []
        self._empty: list[list[int]] = []

    def new(self) -> int:
        self.accepts.append(frozenset())
        self.target.append(None)
        self._empty.append([])
        return len(self.accepts) - 1

    def skip(self, state: int, to: int) -> None:
        """Let `to` follow without a character."""
        self._empty[state].append(to)

    def literal(self, state: int, text: str) -> int:
        """A text, after a state; the state behind it."""
        if not text:
            return state
        start = self.new()
        self.skip(state, start)
        for character in text:
            behind = self.new()
            self.accepts[start], self.target[start] = frozenset(character), behind
            start = behind
        return start

    def any(self, state: int, characters: frozenset[str]) -> int:
        """Any number of characters, after a state; the state behind them."""
        loop = self.new()
        self.skip(state, loop)
        self.accepts[loop], self.target[loop] = characters, loop
        return loop

    def is_chained(self, state: int) -> bool:
        """Whether its character leads to the next state alone: inside of a literal."""
        target = self.target[state]
        return target == state + 1 and not self._empty[target]

    def closure(self, state: int) -> int:
        """The states that are active when this one is reached, as bits."""
        active, waiting = 0, [state]
        while waiting:
            one = waiting.pop()
            if not active >> one & 1:
                active |= 1 << one
                waiting += self._empty[one]
        return active


def _expression(
    states: _States, state: int, operator: str, variables: list[tuple[str, str]]
) -> int:
    """One expression, after a state; the state behind it (RFC 6570, 3.2)."""
    explodes = any(modifier == "*" for _, modifier in variables)
    if operator == "":
        return states.any(state, _MAP if explodes else _LIST)
    if operator == "+":
        return states.any(state, _UNRESERVED | _RESERVED)
    if operator == "#":
        return _optional(states, state, "#", _UNRESERVED | _RESERVED)
    if operator == ".":  # a value may have dots, so one for all
        return _optional(states, state, ".", _MAP if explodes else _LIST)
    if operator == "?":
        return _query(states, state, variables)
    for name, modifier in variables:
        if modifier == "*":
            state = _repeated(states, state, operator)
        elif operator == "/":
            state = _optional(states, state, "/", _LIST)
        elif operator == "&":
            state = _optional(states, state, f"&{name}=", _LIST)
        else:
            state = _parameter(states, state, name)
    return state


def _optional(states: _States, state: int, text: str, characters: frozenset[str]) -> int:
    """Nothing, or a text with any characters behind it."""
    end = states.new()
    states.skip(state, end)
    states.skip(states.any(states.literal(state, text), characters), end)
    return end


def _repeated(states: _States, state: int, separator: str) -> int:
    """Any number of values, a separator before each: a list or a map of unknown keys."""
    end = states.new()
    states.skip(state, end)
    states.skip(states.any(states.literal(end, separator), _MAP), end)
    return end


def _parameter(states: _States, state: int, name: str) -> int:
    """`;name=value`, or `;name` where the value is empty."""
    end = states.new()
    states.skip(state, end)
    named = states.literal(state, f";{name}")
    states.skip(named, end)
    states.skip(states.any(states.literal(named, "="), _LIST), end)
    return end


def _query(states: _States, state: int, variables: list[tuple[str, str]]) -> int:
    """`?a=1&b=2`, any of them missing: the first that is there has the question mark."""
    nothing, something = state, states.new()
    for name, modifier in variables:
        still_nothing, then_something = states.new(), states.new()
        states.skip(nothing, still_nothing)
        states.skip(something, then_something)
        for before, separator in ((nothing, "?"), (something, "&")):
            if modifier == "*":
                value = states.any(states.literal(before, separator), _MAP | {"&"})
            else:
                value = states.any(states.literal(before, f"{separator}{name}="), _LIST)
            states.skip(value, then_something)
        nothing, something = still_nothing, then_something
    end = states.new()
    states.skip(nothing, end)
    states.skip(something, end)
    return end
