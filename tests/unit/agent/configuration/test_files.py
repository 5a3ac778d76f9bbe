"""Configuration files: what is read, how files merge, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.agent.configuration.files import ConfigurationError, Merged, merge, parse, read
from callboard.agent.configuration.keys import GROUPS, KEYS, Kind


def merged(*documents: dict[str, object]) -> Merged:
    found = Merged()
    for number, document in enumerate(documents):
        merge(found, f"{number}.json", document)
    return found


def write(directory: Path, **documents: object) -> Path:
    for name, document in documents.items():
        (directory / f"{name}.json").write_text(json.dumps(document))
    return directory


def test_the_last_scalar_wins() -> None:
    assert merged({"node_name": "a"}, {"node_name": "b"}).values["node_name"] == "b"


def test_lists_are_appended() -> None:
    values = merged({"retry_join": ["a"]}, {"retry_join": ["b", "c"]}).values
    assert values["retry_join"] == ("a", "b", "c")


def test_maps_are_merged_by_key() -> None:
    values = merged({"node_meta": {"a": "1", "b": "1"}}, {"node_meta": {"b": "2"}}).values
    assert values["node_meta"] == {"a": "1", "b": "2"}


def test_blocks_are_merged_key_by_key() -> None:
    values = merged({"ports": {"http": 1, "dns": -1}}, {"ports": {"http": 2}}).values
    assert values == {"ports.http": 2, "ports.dns": -1}


def test_files_of_a_directory_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, b={"node_name": "b"}, a={"node_name": "a"})
    (tmp_path / "notes.txt").write_text("not read")
    assert read([tmp_path]).values["node_name"] == "b"


def test_sources_are_read_in_their_own_order(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write(tmp_path / "d", z={"node_name": "directory"})
    write(tmp_path, a={"node_name": "file"})
    assert read([tmp_path / "d", tmp_path / "a.json"]).values["node_name"] == "file"


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"frob": 1}, "frob"),
        ({"ports": {"htp": 1}}, "ports.htp"),
        ({"dns_config": {"soa": {"ttl": 1}}}, "dns_config.soa.ttl"),
        ({"Node_Name": "a"}, "Node_Name"),
        ({"ports.http": 1}, "ports.http"),
    ],
)
def test_an_unknown_key_is_refused_with_file_and_path(
    tmp_path: Path, document: dict[str, object], key: str
) -> None:
    write(tmp_path, agent=document)
    with pytest.raises(ConfigurationError) as refused:
        read([tmp_path])
    assert str(refused.value) == f"{tmp_path}/agent.json: invalid config key {key}"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"node_name": 3}, "node_name: expected string, got number 3"),
        ({"ports": 3}, "ports: expected a block, got number"),
        ({"ports": {"http": "web"}}, 'ports.http: expected int, got string "web"'),
        ({"ports": {"http": 1.5}}, "ports.http: expected int, got number 1.5"),
        ({"ports": {"http": True}}, "ports.http: expected int, got bool true"),
        ({"server": "maybe"}, 'server: expected bool, got string "maybe"'),
        ({"retry_join": [1]}, "retry_join: expected list of strings, got array"),
        ({"node_meta": {"a": 1}}, "node_meta: expected map of strings, got object"),
        ({"reconnect_timeout": "3 days"}, 'reconnect_timeout: expected duration, got string "3 d'),
        ({"retry_max": 10**30}, "retry_max: expected int, got number 1000"),
        ({"acl": {"enabled": "x"}}, 'acl.enabled: expected bool, got string "x"'),
        ({"dns_config": {"service_ttl": {"*": "x"}}}, "dns_config.service_ttl: expected map of d"),
    ],
)
def test_a_wrong_type_is_refused_with_what_was_expected(
    document: dict[str, object], text: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        merged(document)
    assert str(refused.value).startswith(f"0.json: {text}")


@pytest.mark.parametrize(
    ("document", "path", "value"),
    [
        ({"server": "true"}, "server", True),
        ({"ports": {"http": "9"}}, "ports.http", 9),
        ({"retry_join": "a"}, "retry_join", ("a",)),
        ({"check_update_interval": "1m30s"}, "check_update_interval", 90.0),
        ({"check_update_interval": 1_000_000_000}, "check_update_interval", 1.0),
        ({"dns_config": {"service_ttl": {"*": "5s"}}}, "dns_config.service_ttl", {"*": 5.0}),
    ],
)
def test_the_liberties_of_consul_are_allowed(
    document: dict[str, object], path: str, value: object
) -> None:
    assert merged(document).values[path] == value


def test_null_is_as_if_it_were_not_there() -> None:
    found = merged({"segments": None, "node_name": None, "ports": None})
    assert (found.values, found.idle) == ({}, [])


def test_a_key_without_effect_is_accepted_and_remembered() -> None:
    found = merged({"telemetry": {"anything": [1]}, "ui": True, "acl": {"tokens": {"agent": "x"}}})
    assert found.values == {}
    assert found.idle == [("0.json", "telemetry"), ("0.json", "ui"), ("0.json", "acl.tokens")]


def test_hcl_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "agent.hcl"
    path.write_text('node_name = "a"')
    for source in (path, tmp_path):
        with pytest.raises(ConfigurationError) as refused:
            read([source])
        assert str(refused.value) == f"{path}: HCL is not read yet: write it as JSON"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": }', "invalid JSON at line 1, column 7"),
        ("[]", "must hold a JSON object, not array"),
        ("3", "must hold a JSON object, not number"),
        ("[" * 100_000, "invalid JSON: nested too deeply"),
    ],
)
def test_what_is_no_object_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse("agent.json", text)
    assert str(refused.value).startswith(f"agent.json: {reason}")


def test_an_empty_file_says_nothing() -> None:
    assert parse("agent.json", "\n") == {}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read([tmp_path / "none.json"])
    assert str(refused.value) == f"{tmp_path}/none.json: no such file or directory"


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"node_name": "\xff"}')
    with pytest.raises(ConfigurationError, match=r"a\.json: not UTF-8 at byte 15"):
        read([tmp_path])


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_raise_anything_else(text: str) -> None:
    try:
        merge(Merged(), "x.json", parse("x.json", text))
    except ConfigurationError as refused:
        assert str(refused).startswith("x.json: ")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda item: (
        st.lists(item, max_size=3) | st.dictionaries(st.text(max_size=5), item, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(set(KEYS) | GROUPS)), _JSON, max_size=5))
def test_no_value_of_a_known_key_makes_it_raise_anything_else(document: dict[str, object]) -> None:
    try:
        merge(Merged(), "x.json", document)
    except ConfigurationError as refused:
        assert str(refused).startswith("x.json: ")


def test_every_key_has_a_help_text_and_groups_are_no_keys() -> None:
    assert all(key.help for key in KEYS.values())
    assert not GROUPS & set(KEYS)
    assert {key.kind for key in KEYS.values()} <= set(Kind)
