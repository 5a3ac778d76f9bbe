"""Memberlist's streams. The golden vector is what a real serf agent (0.8.2) sent to join."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.swim.codec import Codec
from callboard.swim.keyring import Keyring
from callboard.swim.lzw import compress
from callboard.swim.messages import (
    Ack,
    ErrorReply,
    Message,
    NodeState,
    Ping,
    PushPull,
    Status,
    User,
    Versions,
)
from callboard.swim.packing import DecodeError, pack
from callboard.swim.serf_messages import UserState, decode_serf
from callboard.swim.streams import PUSH_STATE_BYTES_MAX, StreamDecoder, encode_stream

SERF_JOIN = (
    "0982a4416c676f00a3427566da00da000d0c22a5e44d1a37c34a397943a6cc9c00acaacc2923670a9d3074ca3029e3"
    "a69900258748052143460ea93f0c000c5895c4cd983072dc604cf3c64d00524dca5c9cf54f1029396fd8941975a78c"
    "989f61c6ac11152606292761da941135c729943772e834fba0a094458c65008cb232c78da9000504082890d690aa22"
    "7638d26142258dd400a6e0ca9dc34d00006080030b1e4cb8b0e1c388132b5eccb8b1e3c790234b9e4cb9b2e5cb9833"
    "6bdeccb9b3e35274ed9609b06aa3193a39db88a1380792aa287528e6097d97d5573a75e6d07618886a0c000101"
)

KEYRING = Keyring([bytes(32)], lambda: bytes(12))
CODECS = [Codec(), Codec(KEYRING), Codec(label=b"dc1"), Codec(KEYRING, b"dc1")]
NODES = (
    NodeState("a", "10.0.0.1", 7946, b"\xff\x80", 3, Status.ALIVE, Versions()),
    NodeState("b", "fd00::1", 1, b"", 0, Status.LEFT, None),
)
SAMPLES: list[Message] = [
    PushPull(NODES, b"user state", join=True),
    PushPull((), b"", join=False),
    User(b"\x00anything"),
    Ping(7, "a"),
    Ack(7),
    ErrorReply("why"),
]


def read(data: bytes, codec: Codec, piece: int = 65536) -> Message | None:
    decoder = StreamDecoder(codec)
    message = None
    for start in range(0, len(data), piece):
        assert message is None, "the message was whole before its end"
        message = decoder.feed(data[start : start + piece])
    return message


def test_join_of_serf_is_read() -> None:
    message = read(bytes.fromhex(SERF_JOIN), Codec())
    assert isinstance(message, PushPull)
    assert [node.name for node in message.nodes] == ["s1"]
    state = decode_serf(message.user_state)
    assert isinstance(state, UserState)
    assert set(state.status_times) == {"s1"}


@pytest.mark.parametrize("codec", CODECS, ids=["plain", "encrypted", "label", "both"])
@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_message_survives_in_pieces(message: Message, codec: Codec, piece: int) -> None:
    assert read(encode_stream(message, codec), codec, piece) == message


def test_stream_that_ends_early_gives_nothing() -> None:
    data = encode_stream(SAMPLES[0], Codec())
    assert read(data[:-1], Codec()) is None


def test_encrypted_header_is_authenticated() -> None:
    data = bytearray(encode_stream(SAMPLES[0], CODECS[1]))
    data[4] -= 1
    with pytest.raises(DecodeError):
        read(bytes(data), CODECS[1])


def test_plain_stream_is_refused_when_encryption_is_on() -> None:
    with pytest.raises(DecodeError, match="not encrypted"):
        read(encode_stream(SAMPLES[0], Codec()), CODECS[1])


def test_encrypted_stream_is_refused_when_encryption_is_off() -> None:
    with pytest.raises(DecodeError, match="encryption is off"):
        read(encode_stream(SAMPLES[0], CODECS[1]), Codec())


def test_encrypted_stream_that_announces_too_much_is_refused_at_its_header() -> None:
    header = b"\x0a" + (PUSH_STATE_BYTES_MAX + 1).to_bytes(4, "big")
    with pytest.raises(DecodeError, match="too long"):
        read(header, CODECS[1])


@pytest.mark.parametrize(
    "head",
    [
        {"Nodes": 65537, "UserStateLen": 0},
        {"Nodes": 0, "UserStateLen": PUSH_STATE_BYTES_MAX + 1},
        {"Nodes": -1},
        {"Nodes": b"x"},
    ],
)
def test_push_pull_that_announces_the_impossible_is_refused(head: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        read(b"\x06" + pack(head), Codec())


def test_stream_without_end_is_refused_at_the_limit() -> None:
    decoder = StreamDecoder(Codec())
    decoder.feed(b"\x08" + pack({"UserMsgLen": PUSH_STATE_BYTES_MAX}))
    chunk = bytes(4 * 1024 * 1024)
    with pytest.raises(DecodeError, match="more than"):
        for _ in range(6):
            decoder.feed(chunk)


def test_compressed_stream_inside_a_compressed_stream_is_refused() -> None:
    inner = b"\x09" + pack({"Algo": 0, "Buf": compress(b"\x02\x80")})
    with pytest.raises(DecodeError, match="inside"):
        read(b"\x09" + pack({"Algo": 0, "Buf": compress(inner)}), Codec())


def test_compressed_push_pull_is_read() -> None:
    plain = encode_stream(SAMPLES[0], Codec())
    assert read(b"\x09" + pack({"Algo": 0, "Buf": compress(plain)}), Codec()) == SAMPLES[0]


@pytest.mark.parametrize("data", [b"\x05\x80", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00"])
def test_stranger_on_the_port_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        read(data, Codec())


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from(CODECS))
def test_any_stream_gives_a_message_nothing_or_a_decode_error(data: bytes, codec: Codec) -> None:
    try:
        StreamDecoder(codec).feed(data)
    except DecodeError:
        pass


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4))
def test_any_change_to_a_push_pull_gives_a_message_nothing_or_a_decode_error(
    changes: list[tuple[int, int]],
) -> None:
    data = bytearray(encode_stream(SAMPLES[0], Codec()))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        StreamDecoder(Codec()).feed(bytes(data))
    except DecodeError:
        pass
