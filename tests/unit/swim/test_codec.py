"""Memberlist's bytes. The golden vectors were sent by a real serf agent (0.8.2)."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.swim.codec import (
    COMPOUND_PARTS_MAX,
    Codec,
    decode,
    encode,
    make_compound,
    pack_address,
    split_compound,
    unpack_address,
)
from callboard.swim.keyring import Keyring
from callboard.swim.lzw import compress
from callboard.swim.messages import (
    Ack,
    Alive,
    Dead,
    ErrorReply,
    IndirectPing,
    Message,
    MessageType,
    Nack,
    Ping,
    Suspect,
    User,
    Versions,
)
from callboard.swim.packing import DecodeError, pack

SERF_PING = (
    "0085a44e6f6465a3707931a55365714e6f01aa536f7572636541646472a47f0c0003aa536f757263654e6f6465"
    "a27331aa536f75726365506f7274cd1f0a"
)
SERF_DEAD_WITH_CRC = "0c0d7c3be90583a446726f6da27331ab496e6361726e6174696f6e01a44e6f6465a27331"
SERF_COMPRESSED_ALIVES = (
    "0c3b0704bc0982a4416c676f00a3427566da00a2000f0c00d0040013001208182215840c1939a4fe30003060551237"
    "63c2c87113864e9a376e02906a52864e9859ff049192f3864d995177ca88591966cc1a5161629072f2864c19517374"
    "427923874eb30f0a465999e3c654800202041428a090a14388120104b0885123478f2045923419eb5fa0952dcba4ca"
    "c8868d98371ac9ececf9124e1ea1448d2255cad42954a904100410548a0995346dca88e4e913688c80"
)
SERF_COMPOUND_PING_AND_DEAD = (
    "0702003e001f0085a44e6f6465a3707931a55365714e6f02aa536f7572636541646472a47f0c0003aa536f75726365"
    "4e6f6465a27331aa536f75726365506f7274cd1f0a0583a446726f6da27331ab496e6361726e6174696f6e01a44e6f"
    "6465a27331"
)

SAMPLES: list[Message] = [
    Ping(7, "a", ("10.0.0.1", 7946), "b"),
    Ping(7, "a"),
    IndirectPing(8, ("10.0.0.2", 7946), "a", nack=True, source=("10.0.0.1", 1), source_node="b"),
    Ack(9, b"payload"),
    Nack(10),
    Suspect(11, "a", "b"),
    Alive(12, "a", "10.0.0.1", 7946, b"\xff\x80", Versions()),
    Alive(12, "a", "fd00::1", 7946),
    Dead(13, "a", "a"),
    User(b"\x03anything"),
    ErrorReply("no"),
]


def plain(hexadecimal: str) -> list[Message]:
    return Codec().open_datagram(bytes.fromhex(hexadecimal))


def test_ping_of_serf_is_read() -> None:
    assert plain(SERF_PING) == [Ping(1, "py1", ("127.12.0.3", 7946), "s1")]


def test_ping_is_written_in_the_bytes_of_serf_but_for_the_order_of_fields() -> None:
    ours = encode(Ping(1, "py1", ("127.12.0.3", 7946), "s1"))
    assert len(ours) == len(bytes.fromhex(SERF_PING))
    assert decode(ours) == decode(bytes.fromhex(SERF_PING))


def test_dead_message_of_serf_under_a_checksum_is_read() -> None:
    assert plain(SERF_DEAD_WITH_CRC) == [Dead(1, "s1", "s1")]


def test_compressed_compound_of_serf_is_read() -> None:
    assert plain(SERF_COMPRESSED_ALIVES) == [
        Alive(
            1,
            "s1",
            "127.12.0.3",
            7946,
            b"\xff\x82\xa4role\xa3web\xa4rack\xa2a1",
            Versions(1, 5, 2, 2, 5, 5),
        ),
        Alive(
            1,
            "py1",
            "127.12.0.1",
            7946,
            b"\xff\x81\xa4role\xa9callboard",
            Versions(1, 5, 2, 2, 5, 4),
        ),
        User(b"\x01\x82\xa5LTime\x01\xa4Node\xa2s1"),
    ]


def test_compound_of_serf_is_read_in_order() -> None:
    assert plain(SERF_COMPOUND_PING_AND_DEAD) == [
        Ping(2, "py1", ("127.12.0.3", 7946), "s1"),
        Dead(1, "s1", "s1"),
    ]


def test_suspect_is_written_as_these_bytes() -> None:
    assert encode(Suspect(1, "a", "b")) == b"\x03\x83\xabIncarnation\x01\xa4Node\xa1a\xa4From\xa1b"


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: type(m).__name__)
def test_message_survives(message: Message) -> None:
    assert decode(encode(message)) == message


def test_numbers_of_the_message_types_are_the_protocols() -> None:
    assert [int(kind) for kind in MessageType] == [*range(14), 244]


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::1", ""])
def test_address_survives(address: str) -> None:
    assert unpack_address(pack_address(address)) == address


def test_v4_address_in_sixteen_bytes_is_a_v4_address() -> None:
    assert unpack_address(bytes(10) + b"\xff\xff" + bytes([10, 1, 2, 3])) == "10.1.2.3"


def test_address_of_another_length_is_refused() -> None:
    with pytest.raises(DecodeError, match="4 or 16 bytes"):
        unpack_address(b"abc")


# --- layers ---------------------------------------------------------------------------------------


def test_datagram_with_checksum_is_type_crc_and_message() -> None:
    sealed = Codec().seal_datagram(b"\x02\x80", checksum=True)
    assert sealed == b"\x0c" + zlib.crc32(b"\x02\x80").to_bytes(4, "big") + b"\x02\x80"


def test_wrong_checksum_is_refused() -> None:
    sealed = bytearray(Codec().seal_datagram(encode(Nack(1)), checksum=True))
    sealed[-1] ^= 1
    with pytest.raises(DecodeError, match="checksum"):
        Codec().open_datagram(bytes(sealed))


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("label", [b"", b"dc1"])
@pytest.mark.parametrize("keyring", [None, Keyring([bytes(16)], lambda: bytes(12))])
def test_sealed_datagram_opens_and_keeps_to_its_overhead(
    keyring: Keyring | None, label: bytes, checksum: bool
) -> None:
    codec = Codec(keyring, label)
    message = make_compound([encode(sample) for sample in SAMPLES])
    sealed = codec.seal_datagram(message, checksum=checksum)
    assert codec.open_datagram(sealed) == SAMPLES
    assert len(sealed) <= len(message) + codec.overhead_bytes


def test_plain_datagram_is_refused_when_encryption_is_on() -> None:
    codec = Codec(Keyring([bytes(16)], lambda: bytes(12)))
    with pytest.raises(DecodeError):
        codec.open_datagram(Codec().seal_datagram(encode(Nack(1)), checksum=True))


def test_label_is_tolerated_when_we_have_none() -> None:
    sealed = Codec(label=b"dc1").seal_datagram(encode(Nack(1)), checksum=False)
    assert Codec().open_datagram(sealed) == [Nack(1)]


@pytest.mark.parametrize("label", [b"", b"dc2"])
def test_label_of_another_cluster_is_refused_when_we_have_one(label: bytes) -> None:
    sealed = Codec(label=label).seal_datagram(encode(Nack(1)), checksum=False)
    with pytest.raises(DecodeError, match="label"):
        Codec(label=b"dc1").open_datagram(sealed)


def test_label_is_authenticated() -> None:
    keyring = Keyring([bytes(16)], lambda: bytes(12))
    sealed = Codec(keyring, b"dc1").seal_datagram(encode(Nack(1)), checksum=False)
    with pytest.raises(DecodeError):
        Codec(keyring).open_datagram(sealed.replace(b"dc1", b"dc2"))


def test_compound_of_one_is_the_message_itself() -> None:
    assert make_compound([b"\x02\x80"]) == b"\x02\x80"


def test_compound_holds_up_to_255_parts() -> None:
    parts = [encode(Nack(number)) for number in range(COMPOUND_PARTS_MAX)]
    assert split_compound(make_compound(parts)[1:]) == parts


@pytest.mark.parametrize("body", [b"", b"\x02\x00\x01", b"\x01\x00\x05abc"])
def test_cut_compound_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError, match="cut"):
        split_compound(body)


# --- hostile input --------------------------------------------------------------------------------


def compressed(data: bytes) -> bytes:
    return b"\x09" + pack({"Algo": 0, "Buf": compress(data)})


def test_messages_nested_too_deep_are_refused() -> None:
    data = encode(Nack(1))
    for _ in range(5):
        data = compressed(data)
    with pytest.raises(DecodeError, match="nested"):
        Codec().open_datagram(data)


def test_compression_bomb_is_refused() -> None:
    with pytest.raises(DecodeError, match="unfolds above"):
        Codec().open_datagram(compressed(bytes(1_000_000)))


def test_unknown_compression_is_refused() -> None:
    with pytest.raises(DecodeError, match="unknown compression"):
        Codec().open_datagram(b"\x09" + pack({"Algo": 1, "Buf": b""}))


def test_stream_message_in_a_datagram_is_refused() -> None:
    with pytest.raises(DecodeError, match="unexpected message type 6"):
        Codec().open_datagram(b"\x06\x80")


@pytest.mark.parametrize(
    "body",
    [
        {"Node": "", "Addr": b"abcd", "Port": 1},
        {"Node": "a", "Port": 1},
        {"Node": "a", "Addr": b"abcd", "Port": 70000},
        {"Node": "a", "Addr": b"abcd", "Port": 1, "Meta": b"x" * 513},
        {"Node": b"\xff", "Addr": b"abcd", "Port": 1},
    ],
    ids=["no name", "no address", "no port", "long meta", "name not utf-8"],
)
def test_impossible_alive_message_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        decode(b"\x04" + pack(body))


@settings(max_examples=400)
@given(st.binary(max_size=400))
def test_any_datagram_gives_messages_or_a_decode_error(data: bytes) -> None:
    try:
        Codec().open_datagram(data)
    except DecodeError:
        pass


@settings(max_examples=400)
@given(
    st.sampled_from([SERF_PING, SERF_DEAD_WITH_CRC, SERF_COMPOUND_PING_AND_DEAD]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    st.integers(0, 8),
)
def test_any_change_to_a_real_datagram_gives_messages_or_a_decode_error(
    hexadecimal: str, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(bytes.fromhex(hexadecimal))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        Codec().open_datagram(bytes(data[: len(data) - cut]))
    except DecodeError:
        pass
