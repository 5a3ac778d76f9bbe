"""The keyring on the disk, as Consul keeps it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.agent.membership.keyring_file import (
    BYTES_MAX,
    KeyringError,
    read_keyring,
    write_keyring,
)

OLD, NEW = bytes(16), bytes(range(32))
TEXTS = [base64.b64encode(key).decode() for key in (NEW, OLD)]


def test_keys_come_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "local.keyring"
    write_keyring(path, (NEW, OLD))
    assert read_keyring(path) == (NEW, OLD)
    assert json.loads(path.read_text()) == TEXTS
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(TEXTS, indent=2),
        json.dumps(TEXTS, separators=(",", ":")),
        json.dumps([*TEXTS, *TEXTS]),
    ],
    ids=["after a change", "at the first start", "twice"],
)
def test_a_file_that_consul_wrote_is_read(tmp_path: Path, body: str) -> None:
    path = tmp_path / "local.keyring"
    path.write_text(body)
    assert read_keyring(path) == (NEW, OLD)


def test_no_file_is_no_key(tmp_path: Path) -> None:
    assert read_keyring(tmp_path / "local.keyring") == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not usable as a keyring"),
        (b"[]", "there is no key in it"),
        (b"{}", "it is no list of keys"),
        (b"[7]", "it is no list of keys"),
        (b'["c2hvcnQ="]', "5 bytes, must be 16, 24 or 32"),
        (b'["!"]', "it is not base64"),
        (b"\xff\xfe", "not usable as a keyring"),
        (b"[" * 50_000, "not usable as a keyring"),
        (b" " * (BYTES_MAX + 1), "it is too big"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path, body: bytes, reason: str) -> None:
    path = tmp_path / "local.keyring"
    path.write_bytes(body)
    with pytest.raises(KeyringError, match=reason) as caught:
        read_keyring(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="is a directory"):
        read_keyring(tmp_path)


@given(st.binary(max_size=200))
def test_any_bytes_are_keys_or_refused(
    tmp_path_factory: pytest.TempPathFactory, body: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.keyring"
    path.write_bytes(body)
    try:
        assert all(len(key) in (16, 24, 32) for key in read_keyring(path))
    except KeyringError:
        pass
