"""The bytes between agents: golden frames, hostile frames, and who is welcome."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.agent.rpc.errors import ProtocolError
from callboard.agent.rpc.wire import (
    MAGIC,
    Channel,
    FrameKind,
    FrameReader,
    Hello,
    LocalMember,
    Refused,
    Welcome,
    answer_hello,
    encode_frame,
    hello_of,
)

HERE = LocalMember("id-1", "agent-1", "dc1", "cluster-1")


def hello(**changes: object) -> Hello:
    said = hello_of(LocalMember("id-2", "agent-2", "dc1", "cluster-1"), Channel.RAFT)
    return msgspec.structs.replace(said, **changes)


def refusal(said: Hello) -> str:
    answer = answer_hello(said, HERE)
    assert isinstance(answer, Refused)
    return answer.reason


def test_frame_has_golden_bytes() -> None:
    assert encode_frame(FrameKind.CALL, b"\x93\x01") == b"\x00\x00\x00\x03\x04\x93\x01"


def test_hello_has_golden_bytes() -> None:
    said = Hello(1, 1, "rpc", "dc1", "", "id", "agent-1")
    assert msgspec.msgpack.encode(said) == b"\x97\x01\x01\xa3rpc\xa3dc1\xa0\xa2id\xa7agent-1"


@given(
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50)), max_size=6),
    st.integers(1, 40),
)
def test_reader_cuts_frames_however_the_stream_is_split(
    frames: list[tuple[int, bytes]], step: int
) -> None:
    stream = MAGIC + b"".join(encode_frame(kind, body) for kind, body in frames)
    reader = FrameReader(100)
    found: list[tuple[int, bytes]] = []
    for start in range(0, len(stream), step):
        found += reader.feed(stream[start : start + step])
    assert found == frames


@given(st.binary(max_size=200))
def test_reader_of_garbage_raises_protocol_error_or_waits(garbage: bytes) -> None:
    reader = FrameReader(64)
    try:
        for kind, body in reader.feed(garbage):
            assert 0 <= kind <= 255
            assert len(body) < 64
    except ProtocolError:
        pass


def test_reader_refuses_another_protocol_at_once() -> None:
    with pytest.raises(ProtocolError, match="not our protocol"):
        list(FrameReader(64).feed(b"GET"))


def test_reader_refuses_a_frame_beyond_its_limit_before_reading_it() -> None:
    with pytest.raises(ProtocolError, match="at most 64"):
        list(FrameReader(64).feed(MAGIC + (65).to_bytes(4, "big") + b"x"))


def test_reader_refuses_an_empty_frame() -> None:
    with pytest.raises(ProtocolError, match="frame of 0 bytes"):
        list(FrameReader(64).feed(MAGIC + bytes(5)))


def test_member_of_the_same_cluster_is_welcome() -> None:
    assert answer_hello(hello(), HERE) == Welcome(1, "cluster-1", "id-1", "agent-1")


def test_member_that_knows_no_cluster_yet_is_welcome() -> None:
    assert isinstance(answer_hello(hello(cluster_id=""), HERE), Welcome)


def test_newest_common_version_is_spoken() -> None:
    answer = answer_hello(hello(protocol_min=1, protocol_max=9), HERE)
    assert isinstance(answer, Welcome)
    assert answer.protocol == 1


def test_member_of_another_cluster_is_refused() -> None:
    assert "cluster is cluster-1 here, other on the other side" in refusal(
        hello(cluster_id="other")
    )


def test_member_of_another_datacenter_is_refused() -> None:
    assert refusal(hello(datacenter="dc2")) == "datacenter is 'dc1' here, 'dc2' on the other side"


def test_member_without_a_common_version_is_refused() -> None:
    assert "versions 7 to 9 are not spoken here" in refusal(hello(protocol_min=7, protocol_max=9))


def test_unknown_channel_is_refused() -> None:
    assert refusal(hello(channel="gossip")) == "unknown channel 'gossip'"
