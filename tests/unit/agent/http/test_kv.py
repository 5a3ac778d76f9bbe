"""/v1/kv (consul.md 3, 5.4)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.agent.http.kv import cut_names

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked


async def test_value_is_read_back_in_base64(api: Asked) -> None:
    assert (await api.put("/v1/kv/a/b?flags=42", b"\x00value\xff")).body == b"true"
    entries = (await api.get("/v1/kv/a/b")).json
    assert isinstance(entries, list)
    entry = entries[0]
    assert base64.b64decode(entry["Value"]) == b"\x00value\xff"
    assert (entry["Key"], entry["Flags"], entry["LockIndex"]) == ("a/b", 42, 0)
    assert entry["CreateIndex"] == entry["ModifyIndex"] == 1


async def test_empty_value_is_null(api: Asked) -> None:
    await api.put("/v1/kv/a")
    entries = (await api.get("/v1/kv/a")).json
    assert isinstance(entries, list) and entries[0]["Value"] is None


async def test_missing_key_is_404_without_a_body_but_with_an_index(api: Asked) -> None:
    for target in ("/v1/kv/none", "/v1/kv/none?recurse", "/v1/kv/none?keys", "/v1/kv/none?raw"):
        answer = await api.get(target)
        assert (answer.status, answer.body) == (404, b"")
        assert answer.header("X-Consul-Index") == "1"


async def test_raw_value_is_nothing_a_browser_would_run(api: Asked) -> None:
    await api.put("/v1/kv/page", "<script>")
    answer = await api.get("/v1/kv/page?raw")
    assert answer.body == b"<script>"
    assert answer.header("Content-Type") == "text/plain"
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Content-Security-Policy") == "sandbox"


async def test_key_is_percent_decoded_once(api: Asked) -> None:
    for path, key in (("a%20b", "a b"), ("a%2Fb", "a/b"), ("%C3%A9", "é"), ("p%2525", "p%25")):
        assert (await api.put(f"/v1/kv/{path}", "x")).json is True
        entries = (await api.get(f"/v1/kv/{path}")).json
        assert isinstance(entries, list) and entries[0]["Key"] == key


async def test_recurse_lists_all_below_in_byte_order(api: Asked) -> None:
    for key in ("b", "a/2", "a/1", "ab"):
        await api.put(f"/v1/kv/{key}", key)

    async def keys(target: str) -> list[str]:
        entries = (await api.get(target)).json
        assert isinstance(entries, list)
        return [entry["Key"] for entry in entries]

    assert await keys("/v1/kv/a?recurse") == ["a/1", "a/2", "ab"]
    assert await keys("/v1/kv/?recurse=1") == ["a/1", "a/2", "ab", "b"]


async def test_keys_are_cut_after_the_separator(api: Asked) -> None:
    for key in ("a/1", "a/2/x", "a/2/y", "b"):
        await api.put(f"/v1/kv/{key}")
    assert (await api.get("/v1/kv/?keys&separator=/")).json == ["a/", "b"]
    assert (await api.get("/v1/kv/a/?keys&seperator=/")).json == ["a/1", "a/2/"]
    assert (await api.get("/v1/kv/a/?keys=true")).json == ["a/1", "a/2/x", "a/2/y"]


async def test_keys_of_an_empty_store_is_an_empty_list(api: Asked) -> None:
    answer = await api.get("/v1/kv/?keys")
    assert (answer.status, answer.body) == (200, b"[]")


async def test_check_and_set(api: Asked) -> None:
    assert (await api.put("/v1/kv/a?cas=0", "1")).json is True
    assert (await api.put("/v1/kv/a?cas=0", "2")).json is False
    assert (await api.put("/v1/kv/a?cas=1", "2")).json is True
    assert (await api.get("/v1/kv/a?raw")).body == b"2"


async def test_delete_and_its_check_and_set(api: Asked) -> None:
    await api.put("/v1/kv/a", "1")
    assert (await api.delete("/v1/kv/a?cas=0")).json is False
    assert (await api.delete("/v1/kv/a?cas=99")).json is False
    assert (await api.delete("/v1/kv/a?cas=1")).json is True
    assert (await api.delete("/v1/kv/a")).json is True
    assert (await api.get("/v1/kv/a")).status == 404


async def test_delete_recurse_takes_the_whole_prefix(api: Asked) -> None:
    for key in ("a/1", "a/2", "b"):
        await api.put(f"/v1/kv/{key}")
    assert (await api.delete("/v1/kv/a?recurse")).json is True
    assert (await api.get("/v1/kv/?keys")).json == ["b"]


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("GET", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/", 400, "Missing key name"),
        ("DELETE", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/a?cas=5&acquire=x", 400, "Conflicting flags: acquire=x&cas=5"),
        ("DELETE", "/v1/kv/a?recurse&cas=1", 400, "Conflicting flags: cas=1&recurse="),
        ("PUT", "/v1/kv/a?acquire=x", 501, "The query parameter ?acquire is not there yet"),
        ("PUT", "/v1/kv/a?release=x", 501, "The query parameter ?release is not there yet"),
        ("PUT", "/v1/kv/a?flags=x", 500, 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("PUT", "/v1/kv/a?cas=-1", 500, 'strconv.ParseUint: parsing "-1": invalid syntax'),
        (
            "PUT",
            "/v1/kv/a?flags=18446744073709551616",
            500,
            'strconv.ParseUint: parsing "18446744073709551616": value out of range',
        ),
        ("PUT", "/v1/kv/a?dc=x", 500, "No path to datacenter"),
    ],
)
async def test_wrong_request_is_refused_with_consuls_text(
    api: Asked, method: str, target: str, status: int, text: str
) -> None:
    answer = await api.client.request(method, target, b"" if method == "PUT" else None)
    assert (answer.status, answer.text) == (status, text)


@pytest.mark.parametrize("path", ["a/../b", "..%2Fb", "%20a", "a%20"])
async def test_key_that_climbs_or_begins_or_ends_with_space_is_400(api: Asked, path: str) -> None:
    assert (await api.put(f"/v1/kv/{path}", "x")).status == 400


async def test_value_of_the_greatest_size_is_stored_and_one_byte_more_is_413(api: Asked) -> None:
    assert (await api.put("/v1/kv/a", bytes(512 * 1024))).json is True
    answer = await api.put("/v1/kv/b", bytes(512 * 1024 + 1))
    assert answer.status == 413
    assert answer.text == "Request body(524289 bytes) too large, max size: 524288 bytes"


@given(st.lists(st.text("ab/", max_size=6)), st.text("ab/", max_size=3), st.text("/", max_size=2))
def test_cut_names_are_prefixes_without_repetition(
    keys: list[str], prefix: str, separator: str
) -> None:
    below = sorted({key for key in keys if key.startswith(prefix)})
    names = cut_names(below, prefix, separator)
    assert len(set(names)) == len(names)
    assert all(any(key.startswith(name) for key in below) for name in names)
    assert all(any(key.startswith(name) for name in names) for key in below)
