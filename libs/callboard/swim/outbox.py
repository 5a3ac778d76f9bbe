"""What is to be sent: datagrams filled up with broadcasts, sealed, and streams to be opened."""

from __future__ import annotations

from callboard.swim.broadcasts import Broadcast, TransmitLimitedQueue
from callboard.swim.codec import (
    COMPOUND_HEADER_BYTES,
    COMPOUND_PART_BYTES,
    COMPOUND_PARTS_MAX,
    CRC_SINCE_PROTOCOL,
    Codec,
    encode,
    make_compound,
)
from callboard.swim.config import Config
from callboard.swim.events import StreamWanted
from callboard.swim.members import Member, Members
from callboard.swim.messages import Address, Message, User


class Outbox:
    """Collects what goes out until the driver takes it."""

    def __init__(self, config: Config, members: Members, codec: Codec) -> None:
        self._config = config
        self._members = members
        self._codec = codec
        self._datagrams: list[tuple[bytes, Address]] = []
        self._streams: list[StreamWanted] = []
        self.broadcasts = TransmitLimitedQueue(config.retransmit_mult)
        """What is said of members."""
        self.user_broadcasts = TransmitLimitedQueue(config.retransmit_mult)
        """What the layer above spreads; sent when there is room left."""

    @property
    def broadcast_bytes_max(self) -> int:
        """The longest message that can be broadcast."""
        return (
            self._config.udp_bytes_max
            - self._codec.overhead_bytes
            - COMPOUND_HEADER_BYTES
            - COMPOUND_PART_BYTES
        )

    @property
    def has_broadcasts(self) -> bool:
        """Whether anything waits to be gossiped."""
        return bool(len(self.broadcasts) or len(self.user_broadcasts))

    def broadcast(self, name: str, message: Message) -> Broadcast:
        """Queue what is said of a member."""
        return self.broadcasts.add(name, encode(message))

    def broadcast_user(self, name: str, data: bytes) -> Broadcast:
        """Queue a message of the layer above. Raises ValueError when it is too long."""
        message = encode(User(data))
        if len(message) > self.broadcast_bytes_max:
            raise ValueError(f"a broadcast of {len(message)} bytes does not fit a datagram")
        return self.user_broadcasts.add(name, message)

    def send(self, messages: list[Message], address: Address, member: Member | None) -> None:
        """Send messages in one datagram, filled up with broadcasts."""
        parts = [encode(message) for message in messages]
        self._post(parts + self._fill(parts), address, member)

    def gossip(self, member: Member) -> bool:
        """Send as many broadcasts as fit; False when there is nothing to send."""
        parts = self._fill([])
        if parts:
            self._post(parts, member.endpoint, member)
        return bool(parts)

    def _fill(self, parts: list[bytes]) -> list[bytes]:
        """The broadcasts that fit beside `parts`."""
        free = self.broadcast_bytes_max + COMPOUND_PART_BYTES
        free -= sum(len(part) + COMPOUND_PART_BYTES for part in parts)
        count = len(self._members)
        taken: list[bytes] = []
        for queue in (self.broadcasts, self.user_broadcasts):
            more = queue.take(free, COMPOUND_PART_BYTES, count)
            free -= sum(len(part) + COMPOUND_PART_BYTES for part in more)
            taken += more
        return taken[: COMPOUND_PARTS_MAX - len(parts)]

    def _post(self, parts: list[bytes], address: Address, member: Member | None) -> None:
        checksum = member is not None and member.understands(CRC_SINCE_PROTOCOL)
        data = self._codec.seal_datagram(make_compound(parts), checksum=checksum)
        self._datagrams.append((data, address))

    def want(self, stream: StreamWanted) -> None:
        """Ask the driver for a stream."""
        self._streams.append(stream)

    def take_datagrams(self) -> list[tuple[bytes, Address]]:
        """Everything to be sent, once."""
        taken, self._datagrams = self._datagrams, []
        return taken

    def take_streams(self) -> list[StreamWanted]:
        """Every stream to be opened, once."""
        taken, self._streams = self._streams, []
        return taken
