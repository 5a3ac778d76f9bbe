"""Commands on disk: golden bytes, and what is not known stops the node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.catalog.commands import (
    NUMBERS,
    Command,
    Deregister,
    KeyValueDelete,
    KeyValueDeleteTree,
    KeyValueSet,
    Register,
    TombstoneReap,
    UnknownCommand,
    decode_command,
    encode_command,
)
from callboard.catalog.objects import Check, Node, ServiceInstance


@pytest.mark.parametrize(
    ("command", "data"),
    [
        (Deregister("n", "s", "c", b"r"), b"\x02\x94\xa1n\xa1s\xa1c\xc4\x01r"),
        (KeyValueSet("k", b"v", 7, 3), b"\x03\x94\xa1k\xc4\x01v\x07\x03"),
        (KeyValueDelete("k"), b"\x04\x92\xa1k\xff"),
        (KeyValueDeleteTree("k/"), b"\x05\x91\xa2k/"),
        (TombstoneReap(9), b"\x06\x91\x09"),
    ],
)
def test_commands_have_their_bytes_for_ever(command: Command, data: bytes) -> None:
    assert encode_command(command) == data
    assert decode_command(data) == command


def test_a_registration_survives_the_log() -> None:
    command = Register(
        node=Node(name="n", address="10.0.0.1"),
        service=ServiceInstance(id="s", service="s", tags=("a",)),
        checks=(Check(check_id="c", definition={"TCP": "a:1"}),),
        request_id=b"r",
    )
    assert decode_command(encode_command(command)) == command


def test_fields_missing_at_the_end_take_their_defaults() -> None:
    assert decode_command(b"\x03\x92\xa1k\xc4\x01v") == KeyValueSet("k", b"v")


def test_fields_of_a_newer_version_at_the_end_are_passed_over() -> None:
    assert decode_command(b"\x06\x92\x09\xa3new") == TombstoneReap(9)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xc8\x90", b"\x03\x91\xa1k", b"\x03\xc1"])
def test_an_unknown_or_malformed_command_names_its_index(data: bytes) -> None:
    with pytest.raises(UnknownCommand, match="log entry 17") as caught:
        decode_command(data, 17)
    assert caught.value.index == 17


@given(st.binary(max_size=60))
def test_any_bytes_are_a_command_or_unknown(data: bytes) -> None:
    try:
        command = decode_command(data)
    except UnknownCommand:
        return
    assert type(command) in NUMBERS
