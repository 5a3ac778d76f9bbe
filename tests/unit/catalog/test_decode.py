"""Bodies and configuration decoded as Go decodes them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.catalog.decode import (
    ANYTHING,
    BOOLEAN,
    DURATION,
    FLOAT,
    INTEGER,
    STRING,
    STRING_MAP,
    STRINGS,
    UNSIGNED,
    DecodeError,
    ListOf,
    MapOf,
    Spec,
    StringOrList,
    decode,
    decode_config,
)
from callboard.catalog.specs import CATALOG_REGISTER, CHECK_BODY, SERVICE_BODY

INNER = Spec("Inner", {"Passing": INTEGER})
SPEC = Spec(
    "Outer",
    {
        "Name": STRING,
        "Port": INTEGER,
        "Flags": UNSIGNED,
        "On": BOOLEAN,
        "Rate": FLOAT,
        "Wait": DURATION,
        "Tags": STRINGS,
        "Meta": STRING_MAP,
        "Inner": INNER,
        "Many": ListOf(INNER),
        "Free": ANYTHING,
        "ByName": MapOf(INNER),
        "Join": StringOrList(),
    },
    {"the_name": "Name"},
)


@pytest.mark.parametrize("key", ["Name", "name", "NAME", "nAmE", "the_name", "The_Name"])
def test_keys_match_without_regard_to_case_and_by_alias(key: str) -> None:
    assert decode(f'{{"{key}": "web"}}'.encode(), SPEC) == {"Name": "web"}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{}", {}),
        (b"null", {}),
        (b'{"Name": null, "Tags": null}', {}),
        (b'{"Port": 80, "Flags": 18446744073709551615}', {"Port": 80, "Flags": 2**64 - 1}),
        (b'{"On": true, "Rate": 1}', {"On": True, "Rate": 1.0}),
        (b'{"Wait": "1m30s"}', {"Wait": 90_000_000_000}),
        (b'{"Wait": 1500}', {"Wait": 1500}),
        (b'{"Wait": 1.5e9}', {"Wait": 1_500_000_000}),
        (b'{"Tags": ["a", null]}', {"Tags": ["a", ""]}),
        (b'{"Meta": {"a": "b", "c": null}}', {"Meta": {"a": "b"}}),
        (b'{"Inner": {"passing": 2}}', {"Inner": {"Passing": 2}}),
        (b'{"Many": [{"Passing": 1}, null]}', {"Many": [{"Passing": 1}, {}]}),
        (b'{"ByName": {"x": {"Passing": 1}}}', {"ByName": {"x": {"Passing": 1}}}),
        (b'{"Free": {"any": [1, {}]}}', {"Free": {"any": [1, {}]}}),
        (b'{"Join": "a"}', {"Join": ["a"]}),
        (b'{"Join": ["a", "b"]}', {"Join": ["a", "b"]}),
        (b'{"Name": "first", "name": "last"}', {"Name": "last"}),
        (b'{"Name": "web"} and what follows', {"Name": "web"}),
    ],
)
def test_bodies_decode_to_canonical_fields(body: bytes, fields: dict[str, object]) -> None:
    assert decode(body, SPEC) == fields


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "EOF"),
        (b"  \n", "EOF"),
        (b'{"Name": ', "unexpected EOF"),
        (b'{"Name": "we', "unexpected EOF"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"[]", "json: cannot unmarshal array into Go value of type structs.Outer"),
        (b'"web"', "json: cannot unmarshal string into Go value of type structs.Outer"),
        (b'{"Frobnicate": 1}', 'json: unknown field "Frobnicate"'),
        (b'{"Inner": {"Frob": 1}}', 'json: unknown field "Frob"'),
        (
            b'{"Port": "80"}',
            "json: cannot unmarshal string into Go struct field Outer.Port of type int",
        ),
        (
            b'{"Port": 80.5}',
            "json: cannot unmarshal number 80.5 into Go struct field Outer.Port of type int",
        ),
        (
            b'{"Flags": -1}',
            "json: cannot unmarshal number -1 into Go struct field Outer.Flags of type uint64",
        ),
        (
            b'{"Name": 1}',
            "json: cannot unmarshal number into Go struct field Outer.Name of type string",
        ),
        (
            b'{"On": "true"}',
            "json: cannot unmarshal string into Go struct field Outer.On of type bool",
        ),
        (
            b'{"Port": true}',
            "json: cannot unmarshal bool into Go struct field Outer.Port of type int",
        ),
        (
            b'{"Tags": "a"}',
            "json: cannot unmarshal string into Go struct field Outer.Tags of type []string",
        ),
        (
            b'{"Meta": ["a"]}',
            "json: cannot unmarshal array into Go struct field Outer.Meta of type"
            " map[string]string",
        ),
        (
            b'{"Meta": {"a": 1}}',
            "json: cannot unmarshal number into Go struct field Outer.Meta of type string",
        ),
        (
            b'{"Inner": 3}',
            "json: cannot unmarshal number into Go struct field Outer.Inner of type structs.Inner",
        ),
        (
            b'{"Inner": {"Passing": "x"}}',
            "json: cannot unmarshal string into Go struct field Inner.Inner.Passing of type int",
        ),
        (b'{"Wait": "soon"}', 'time: invalid duration "soon"'),
        (b'{"Wait": "10"}', 'time: missing unit in duration "10"'),
        (b"[" * 100_000, "exceeded max depth"),
    ],
)
def test_bad_bodies_are_refused_in_go_words(body: bytes, error: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(body, SPEC)
    assert str(caught.value) == f"Request decode failed: {error}"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"a" 1}', "after object key"),
        (b'{"a": 1 "b"}', "after object key:value pair"),
        (b"[1 2]", "after array element"),
        (b"{1: 2}", "looking for beginning of object key string"),
        (b'{"a": nope}', "invalid character 'o' in literal null (expecting 'u')"),
        (b'{"a":tru}', "invalid character '}' in literal true (expecting 'e')"),
        (b'{"a":tru', "unexpected EOF"),
        (b'{"a":-}', "invalid character '}' in numeric literal"),
        (b'{"a":"x\ny"}', "invalid character '\\n' in string literal"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b'{"a":01}', "invalid character '1' after object key:value pair"),
        (b'{"a":1.}', "invalid character '}' after decimal point in numeric literal"),
        (b'{"a":1e}', "invalid character '}' in exponent of numeric literal"),
        (b'{"a":"\\u12"}', "invalid character '\"' in \\u hexadecimal character escape"),
        (b'{"a":"\\x"}', "invalid character 'x' in string escape code"),
    ],
)
def test_syntax_errors_name_the_character(body: bytes, error: str) -> None:
    with pytest.raises(DecodeError, match=re.escape(error)):
        decode(body, SPEC)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(body: bytes) -> None:
    for spec in (SERVICE_BODY, CHECK_BODY, CATALOG_REGISTER):
        try:
            decode(body, spec)
        except DecodeError as error:
            assert str(error).startswith("Request decode failed: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SERVICE_BODY.fields, "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(JSON)
def test_any_value_decodes_or_is_refused(value: object) -> None:
    try:
        decode_config(value, SERVICE_BODY, "service")
    except DecodeError:
        pass


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"htp": 1}, "invalid config key ports.htp"),
        ({"Inner": {"x": 1}}, "invalid config key ports.Inner.x"),
        ({"Port": "80"}, "ports.Port: expected int, got string"),
        ({"Inner": []}, "ports.Inner: expected object, got array"),
        ({"Wait": "x"}, 'ports: time: invalid duration "x"'),
        ([], "ports: expected object, got array"),
    ],
)
def test_configuration_errors_name_the_path(value: object, error: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_config(value, SPEC, "ports")
    assert str(caught.value) == error


def test_configuration_decodes_like_a_body() -> None:
    assert decode_config({"name": "x", "join": "y"}, SPEC) == {"Name": "x", "Join": ["y"]}
