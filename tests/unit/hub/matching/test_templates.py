"""URI templates as expressions over topics (RFC 6570), against a slow and obvious model."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.matching.matchers import legacy
from callboard.hub.matching.refusal import Refused

CASES = [
    ("https://example.com/books/{id}", "https://example.com/books/1", True),
    ("https://example.com/books/{id}", "https://example.com/books/", True),
    ("https://example.com/books/{id}", "https://example.com/books/1/2", False),
    ("https://example.com/books/{id}", "https://example.com/books/1?x", False),
    ("https://example.com/books/{id}", "https://example.com/books", False),
    ("https://example.com/books/{id}", "https://example.com/books/%7Ba%7D", True),
    ("https://example.com/books/{id}", "https://example.com/books/{id}", True),
    ("https://{tenant}.example.com/x", "https://a.example.com/x", True),
    ("https://{tenant}.example.com/x", "https://evil.com/a.example.com/x", False),
    ("{scheme}://x", "urn:uuid://x", False),
    ("/a{/rest}", "/a", True),
    ("/a{/rest}", "/a/b", True),
    ("/a{/rest}", "/a/b/c", False),
    ("/a{/one,two}", "/a/b/c", True),
    ("/a{/rest*}", "/a/b/c/d", True),
    ("/a{+rest}", "/a/b/c?d=e#f", True),
    ("{+all}", "https://example.com/", True),
    ("/a{#part}", "/a", True),
    ("/a{#part}", "/a#b/c", True),
    ("/a{#part}", "/ab", False),
    ("/a{.format}", "/a.json", True),
    ("/a{.format}", "/ajson", False),
    ("/a{?page}", "/a", True),
    ("/a{?page}", "/a?page=2", True),
    ("/a{?page}", "/a?admin=1", False),
    ("/a{?page,size}", "/a?size=2", True),
    ("/a{?page,size}", "/a?page=1&size=2", True),
    ("/a{?page,size}", "/a?size=1&page=2", False),
    ("/a{?page,size}", "/a&size=2", False),
    ("/a{?map*}", "/a?x=1&y=2", True),
    ("/a?x=1{&y}", "/a?x=1&y=2", True),
    ("/a?x=1{&y}", "/a?x=1&z=2", False),
    ("/a{;x,y}", "/a;x=1;y=2", True),
    ("/a{;x,y}", "/a;x;y", True),
    ("/a{;x}", "/a;y=1", False),
    ("/a{;map*}", "/a;k=1;l=2", True),
    ("{a}-{b}", "x-y-z", True),
    ("{a,b}", "1,2", True),
    ("{a}", "1=2", False),
    ("{a*}", "k=v,l=w", True),
]


@pytest.mark.parametrize(("template", "topic", "wanted"), CASES)
def test_a_template_matches_what_it_expands_to(template: str, topic: str, wanted: bool) -> None:
    assert legacy(template).matches(topic) is wanted


@pytest.mark.parametrize("text", ["{", "}", "a{b", "a}b", "{}", "{a b}", "{!x}", "{=x}", "{{a}}"])
def test_a_text_with_braces_that_is_no_template_is_a_literal(text: str) -> None:
    matcher = legacy(text)
    assert matcher.kind == "exact"
    assert matcher.matches(text)
    assert not matcher.matches("a")


def test_a_text_without_braces_is_the_same_as_an_exact_one() -> None:
    assert legacy("/builds").kind == "exact"
    assert legacy("*").kind == "all"


@pytest.mark.parametrize("text", ["{x:3}", "/a{?x,y:20}", "{" + ",".join("abcdefghijk") + "}"])
def test_what_would_take_unbounded_time_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        legacy(text)
    assert refused.value.status == 400


LIST = r"(?:[A-Za-z0-9\-._~,]|%[0-9A-Fa-f]{2})*"
MAP = r"(?:[A-Za-z0-9\-._~,=]|%[0-9A-Fa-f]{2})*"
ANY = r"[A-Za-z0-9\-._~%:/?#\[\]@!$&'()*+,;=]*"
EXPRESSIONS = {
    "{x}": LIST,
    "{x*}": MAP,
    "{+x}": ANY,
    "{#x}": f"(?:#{ANY})?",
    "{.x}": rf"(?:\.{LIST})?",
    "{/x}": f"(?:/{LIST})?",
    "{/x*}": f"(?:/{MAP})*",
    "{;a}": f"(?:;a(?:={LIST})?)?",
    "{?a,b}": rf"(?:\?a={LIST}(?:&b={LIST})?|\?b={LIST})?",
    "{&a}": f"(?:&a={LIST})?",
}
"""What each expression expands to, as a regular expression."""


def _model(pieces: list[str], topic: str) -> bool:
    """Piece by piece, wherever the ones before may end: a regular expression of all of them
    would backtrack for minutes."""
    ends = {0}
    for piece in pieces:
        expands = re.compile(EXPRESSIONS.get(piece, re.escape(piece)))
        ends = {
            end
            for start in ends
            for end in range(start, len(topic) + 1)
            if expands.fullmatch(topic, start, end)
        }
    return len(topic) in ends


LITERALS = st.sampled_from(["a", "b", "aa", "ab", "aba", "/", "-", ":"])
PIECES = st.lists(st.sampled_from(sorted(EXPRESSIONS)) | LITERALS, max_size=6)
CHARACTERS = "ab/-:,.?&;=#"
TOPICS = st.text(alphabet=CHARACTERS, max_size=12)
EXPANSIONS = {
    piece: st.from_regex(expands, fullmatch=True, alphabet=CHARACTERS).filter(
        lambda expansion: len(expansion) < 12
    )
    for piece, expands in EXPRESSIONS.items()
}


@given(PIECES, TOPICS)
def test_templates_match_as_their_model_does(pieces: list[str], topic: str) -> None:
    template = "".join(pieces)
    if not template:
        return
    wanted = _model(pieces, topic) or topic == template
    assert legacy(template).matches(topic) is wanted


@given(PIECES, st.data())
def test_templates_match_what_their_model_generates(pieces: list[str], data: st.DataObject) -> None:
    """Topics at random rarely match: these do, or do but for one character."""
    template = "".join(pieces)
    if not template:
        return
    topic = "".join(
        data.draw(EXPANSIONS[piece]) if piece in EXPANSIONS else piece for piece in pieces
    )
    assert legacy(template).matches(topic)
    at = data.draw(st.integers(0, len(topic)))
    other = topic[:at] + data.draw(st.sampled_from(["", "a", "/"])) + topic[at + 1 :]
    wanted = _model(pieces, other) or other == template
    assert legacy(template).matches(other) is wanted


@pytest.mark.parametrize(
    ("template", "topic", "wanted"),
    [
        ("ab{x}ba", "aba", False),
        ("ab{x}ba", "abba", True),
        ("a{x}a", "a", False),
        ("{x}ab", "abab", True),
        ("{x}ab{y}ab", "ab", False),
        ("{x}ab{y}ab", "abab", True),
        ("{x}aab{y}", "aaab", True),
        ("{x}abac{y}", "ababac-", True),
    ],
)
def test_literals_around_a_variable_share_no_characters(
    template: str, topic: str, wanted: bool
) -> None:
    assert legacy(template).matches(topic) is wanted


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_breaks_a_template(template: str, topic: str) -> None:
    try:
        matcher = legacy(template)
    except Refused as refused:
        assert refused.status == 400
    else:
        assert matcher.matches(topic) in (True, False)


def _seconds(template: str, topic: str) -> float:
    matcher = legacy(template)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        matcher.matches(topic)
        best = min(best, time.perf_counter() - started)
    return best


@pytest.mark.parametrize(
    "template", ["{a}{b}{c}{d}{e}{f}{g}{h}{i}!", "x{/a*}{/b*}{/c*}{/d*}{/e*}!", "{a}-{b}-{c}-{d}!"]
)
def test_the_time_of_a_hostile_template_grows_with_the_topic_and_no_faster(template: str) -> None:
    short, long = "x" + "/-a" * 40, "x" + "/-a" * 320
    # 8 times as long; a backtracking engine would take 8 to the power of the variables
    assert _seconds(template, long) < 40 * _seconds(template, short)


LITERAL = "x" * 1000
OVERLAPPING = ["{+a}" + LITERAL, "{+a}" + LITERAL + "{+b}", "{+a}" + "x" * 500 + "{b}" + "x" * 500]
"""A topic of the same character again and again is at every place of the literal at once."""


@pytest.mark.parametrize("template", OVERLAPPING, ids=["behind", "between", "both"])
def test_a_long_literal_behind_a_variable_takes_no_time_per_place_in_it(template: str) -> None:
    assert legacy(template).matches("x" * 1024)
    assert _seconds(template, "x" * 1024) < 0.03
    assert _seconds(template, "x" * 1023 + "!") < 0.03


def test_the_time_hardly_grows_with_the_literal_between_variables() -> None:
    topic = "x" * 1024
    # 25 times as long a literal: as much time again for wider integers, not 25 times as much
    assert _seconds("{+a}" + LITERAL + "{+b}", topic) < 8 * _seconds(
        "{+a}" + "x" * 40 + "{+b}", topic
    )
