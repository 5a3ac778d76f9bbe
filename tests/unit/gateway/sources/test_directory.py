"""Which sidecar sends which stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.sources.directory import Choice, Directory


def test_who_lists_a_stream_first_sends_it_and_another_stands_by() -> None:
    directory = Directory[str]()
    assert directory.listed("a", {"cam": "of a"}) == ["cam"]
    assert directory.listed("b", {"cam": "of b"}) == []
    assert directory.choice("cam") == Choice("a", "of a")


def test_when_it_has_gone_the_one_that_stood_by_takes_its_place() -> None:
    directory = Directory[str]()
    directory.listed("a", {"cam": "of a"})
    directory.listed("b", {"cam": "of b"})
    assert directory.gone("a") == ["cam"]
    assert directory.choice("cam") == Choice("b", "of b")
    assert directory.listed("a", {"cam": "of a"}) == []
    assert directory.gone("b") == ["cam"]
    assert directory.choice("cam") == Choice("a", "of a")


def test_a_stream_that_nobody_lists_is_none() -> None:
    directory = Directory[str]()
    directory.listed("a", {"cam": "x", "mic": "y"})
    assert directory.listed("a", {"mic": "y"}) == ["cam"]
    assert directory.choice("cam") is None
    assert directory.names() == ["mic"]


def test_a_stream_that_is_described_anew_is_another_choice() -> None:
    directory = Directory[str]()
    directory.listed("a", {"cam": "x"})
    assert directory.listed("a", {"cam": "x"}) == []
    assert directory.listed("a", {"cam": "y"}) == ["cam"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 1))
        )
    )
)
def test_a_choice_changes_only_when_it_is_told_and_is_listed_by_whom_it_names(
    steps: list[tuple[str, dict[str, int]]],
) -> None:
    directory = Directory[int]()
    lists: dict[str, dict[str, int]] = {}
    known: dict[str, Choice[int] | None] = dict.fromkeys("xyz")
    for sidecar, streams in steps:
        changed = directory.listed(sidecar, streams)
        lists[sidecar] = streams
        for name in "xyz":
            choice = directory.choice(name)
            assert (choice != known[name]) == (name in changed)
            known[name] = choice
            listers = [each for each, listed in lists.items() if name in listed]
            assert (choice is None) == (not listers)
            if choice is not None:
                assert lists[choice.sidecar][name] == choice.listed
        assert directory.names() == sorted(name for name in "xyz" if known[name] is not None)
