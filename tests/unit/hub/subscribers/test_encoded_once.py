"""What all readers of a topic get is made once, whatever their number, and written once a tick."""

from __future__ import annotations

import asyncio

import pytest
from tests.harness.eventually import eventually
from tests.harness.hub_stand import MemoryHistory, NaiveIndex, Pipe, topics

from callboard.events import encoder
from callboard.hub import event as event_module
from callboard.hub.ports import Subscription
from callboard.hub.subscribers.readers import Readers
from callboard.serve.timerwheel import TimerWheel

READERS = 50


class Counting(Pipe):
    """A connection that keeps what it was given, as the same objects."""

    def __init__(self) -> None:
        super().__init__(chunked=True)
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        super().write(data)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The data of each update that is encoded as an event."""
    data: list[bytes] = []
    block = encoder.block

    def counted(text: bytes | None, **fields: object) -> bytes:
        if text is not None and text.startswith(b"update"):
            data.append(text)
        return block(text, **fields)  # type: ignore[arg-type] # all of them are passed on

    monkeypatch.setattr(event_module, "block", counted)
    return data


async def test_fifty_readers_are_given_one_object_encoded_once_and_joined(
    made: list[bytes],
) -> None:
    history = MemoryHistory()
    wheel = TimerWheel(asyncio.get_running_loop())
    readers = Readers(history, None, NaiveIndex(), wheel=wheel)
    pipes = [Counting() for _ in range(READERS)]
    for pipe in pipes:
        pipe.open((await readers.open(Subscription(topics("/a")))).sink)
    heads = [len(pipe.written) for pipe in pipes]
    for number in range(3):  # in one turn of the loop
        history.publish("/a", b"update %d" % number)
    await eventually(lambda: all(b"update 2" in pipe.sent for pipe in pipes))
    assert made == [b"update 0", b"update 1", b"update 2"]
    news = [pipe.written[head:] for pipe, head in zip(pipes, heads, strict=True)]
    assert [len(each) for each in news] == [1] * READERS
    assert len({id(each[0]) for each in news}) == 1
    size, _, rest = news[0][0].partition(b"\r\n")
    assert int(size, 16) == len(rest) - 2, "the chunk's framing is in the frame"
    await readers.stop()
    wheel.close()
