"""Sessions of clients, their handles, and the events that wait for them. Pure."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from callboard.gateway.janus.acts import Call
from callboard.gateway.janus.errors import Code, Refused
from callboard.gateway.janus.messages import Message

SESSION_TIMEOUT_S = 60.0
"""Without a request or a poll: as Janus has it unless it is configured."""
RECLAIM_S = 10.0
"""For so long a session outlives its WebSocket, to be claimed by another."""
IDENTIFIER_BITS = 52
"""What a number of JavaScript carries."""


@dataclass(frozen=True, slots=True)
class RegistryLimits:
    """How much clients may hold."""

    sessions: int = 2048
    handles_per_session: int = 16
    events_per_session: int = 256
    """Waiting for a poll; of more, the oldest is dropped."""


class HandleState(Enum):
    """Where a handle is with its PeerConnection."""

    IDLE = "idle"
    PREPARING = "preparing"
    """The stream is being opened."""
    OFFERED = "offered"
    STARTING = "starting"
    """It is answered; ICE and DTLS are on their way."""
    UP = "up"


@dataclass(slots=True)
class Handle:
    """A client's attachment to the streaming plugin."""

    id: int
    session: int
    state: HandleState = HandleState.IDLE
    serial: int = 0
    """Of its PeerConnection: what is told of an earlier one is not its business."""
    stream: str = ""
    transaction: str = ""
    """Of the request that is being done."""
    switching: str = ""
    """The stream that it goes to."""

    @property
    def call(self) -> Call:
        """Its PeerConnection."""
        return Call(self.session, self.id, self.serial)

    def reset(self) -> None:
        """It has no PeerConnection any more."""
        self.state, self.stream = HandleState.IDLE, ""
        self.transaction = self.switching = ""
        self.serial += 1


@dataclass(slots=True)
class ClientSession:
    """One client."""

    id: int
    link: int
    """The WebSocket that its events go to; 0: they are polled for, or nobody is there."""
    heard_at: float
    events: deque[Message]
    handles: dict[int, Handle] = field(default_factory=dict)
    lost_at: float | None = None
    """When its WebSocket went."""

    def take(self, most: int) -> list[Message]:
        """The oldest events."""
        return [self.events.popleft() for _ in range(min(most, len(self.events)))]

    def is_over(self, now: float) -> bool:
        """Whether nobody has been heard of for too long."""
        if self.lost_at is not None and now - self.lost_at >= RECLAIM_S:
            return True
        return now - self.heard_at >= SESSION_TIMEOUT_S


class Registry:
    """All of them."""

    def __init__(self, rng: random.Random, limits: RegistryLimits | None = None) -> None:
        """`rng` makes identifiers that nobody may guess: who has one speaks for its client."""
        self._rng = rng
        self._limits = limits or RegistryLimits()
        self._sessions: dict[int, ClientSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: ClientSession) -> bool:
        return self._sessions.get(session.id) is session

    def __iter__(self) -> Iterator[ClientSession]:
        return iter(tuple(self._sessions.values()))

    def create(self, wanted: int, link: int, now: float) -> ClientSession:
        """A new session, of this identifier unless it is 0. Raises Refused."""
        if wanted in self._sessions:
            raise Refused(Code.SESSION_CONFLICT, "Session ID already in use")
        if len(self._sessions) >= self._limits.sessions:
            raise Refused(Code.NOT_ACCEPTING_SESSIONS, "there are as many sessions as may be")
        id = wanted or self._unused(self._sessions)
        events: deque[Message] = deque(maxlen=self._limits.events_per_session)
        session = self._sessions[id] = ClientSession(id, link, now, events)
        return session

    def session(self, id: int) -> ClientSession:
        """Raises Refused."""
        session = self._sessions.get(id)
        if session is None:
            raise Refused(Code.SESSION_NOT_FOUND, f"No such session {id}")
        return session

    def remove(self, session: ClientSession) -> None:
        """Idempotent."""
        self._sessions.pop(session.id, None)

    def attach(self, session: ClientSession) -> Handle:
        """A new handle. Raises Refused."""
        if len(session.handles) >= self._limits.handles_per_session:
            raise Refused(Code.PLUGIN_ATTACH, "the session has as many handles as may be")
        id = self._unused(session.handles)
        handle = session.handles[id] = Handle(id, session.id)
        return handle

    def handle(self, session: ClientSession, id: int) -> Handle:
        """Raises Refused."""
        handle = session.handles.get(id)
        if handle is None:
            raise Refused(Code.HANDLE_NOT_FOUND, f"No such handle {id} in session {session.id}")
        return handle

    def of_call(self, call: Call) -> tuple[ClientSession, Handle] | None:
        """Whose PeerConnection it is; None if that is not the handle's any more."""
        session = self._sessions.get(call.session)
        handle = session.handles.get(call.handle) if session is not None else None
        if session is None or handle is None or handle.serial != call.serial:
            return None
        return session, handle

    def _unused(self, taken: dict[int, ClientSession] | dict[int, Handle]) -> int:
        while True:
            id = self._rng.randrange(1, 1 << IDENTIFIER_BITS)
            if id not in taken:
                return id
