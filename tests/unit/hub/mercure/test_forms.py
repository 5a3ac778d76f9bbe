"""Forms and queries as URLSearchParams reads them."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.mercure import forms
from callboard.hub.mercure.forms import BadForm


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"", {}),
        (b"a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        (b"private", {"private": [""]}),
        (b"a+b=c+d", {"a b": ["c d"]}),
        (b"data=a%26b%3Dc%0Ad", {"data": ["a&b=c\nd"]}),
        (b"topic=a;b", {"topic": ["a;b"]}),
        (b"data=100%", {"data": ["100%"]}),
        (b"data=%zz", {"data": ["%zz"]}),
        (b"&&a=1&", {"a": ["1"]}),
        (b"=x", {"": ["x"]}),
        (b"a=b=c", {"a": ["b=c"]}),
        ("t=grün".encode(), {"t": ["grün"]}),
    ],
)
def test_pairs_are_read_as_a_browser_reads_them(raw: bytes, fields: forms.Fields) -> None:
    assert forms.decode(raw) == fields


@pytest.mark.parametrize("raw", [b"a=%ff", b"%c3=1", b"a=\xff", b"a=%ed%a0%80"])
def test_bytes_that_are_no_utf_8_are_refused(raw: bytes) -> None:
    with pytest.raises(BadForm, match="UTF-8"):
        forms.decode(raw)


def test_a_form_of_very_many_fields_is_refused() -> None:
    with pytest.raises(BadForm, match="fields"):
        forms.decode(b"a&" * forms.FIELDS_MAX)


@pytest.mark.parametrize(
    ("kind", "is_one"),
    [
        ("application/x-www-form-urlencoded", True),
        ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", True),
        ("multipart/form-data; boundary=x", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_a_content_type_names_the_format_with_any_parameters(kind: str, is_one: bool) -> None:
    assert forms.is_form(kind) is is_one


@given(st.lists(st.tuples(st.text(), st.text()), max_size=20))
def test_what_was_encoded_is_decoded(pairs: list[tuple[str, str]]) -> None:
    expected: forms.Fields = {}
    for name, value in pairs:
        expected.setdefault(name, []).append(value)
    assert forms.decode(urlencode(pairs).encode()) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_are_refused(raw: bytes) -> None:
    try:
        forms.decode(raw)
    except BadForm:
        pass
