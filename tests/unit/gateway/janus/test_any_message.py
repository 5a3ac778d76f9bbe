"""Whatever comes: one answer, no exception, bounded state."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.unit.gateway.janus.told import ANSWER, Told

from callboard.gateway.janus.acts import Accept, Call, HangUp, SwitchTo, Watch
from callboard.gateway.janus.errors import Refused, StreamingCode
from callboard.gateway.janus.messages import BYTES_MAX, PLUGIN, parse, write
from callboard.gateway.janus.protocol import Track
from callboard.gateway.janus.registry import SESSION_TIMEOUT_S, HandleState, RegistryLimits

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
VERBS = st.sampled_from(
    ["create", "attach", "detach", "destroy", "keepalive", "claim", "info", "ping", "message",
     "trickle", "hangup", "x"]
)  # fmt: skip
REQUESTS = st.sampled_from(
    ["list", "info", "watch", "start", "pause", "switch", "stop", "configure", "create", "x"]
)
BODIES = st.fixed_dictionaries(
    {}, optional={"request": REQUESTS | ANYTHING, "id": st.integers(0, 3) | ANYTHING}
)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "plugin": st.just(PLUGIN) | ANYTHING,
        "body": BODIES | ANYTHING,
        "jsep": st.just(ANSWER) | ANYTHING,
        "candidate": ANYTHING,
        "candidates": ANYTHING,
        "token": ANYTHING,
        "id": ANYTHING,
    },
)


def is_answer(message: dict[str, object]) -> bool:
    kinds = ("success", "ack", "error", "server_info", "pong")
    return message["janus"] in kinds and bool(json.loads(write(message)))


@given(ANYTHING | st.dictionaries(st.sampled_from(["janus", "transaction"]), ANYTHING))
def test_anything_has_one_answer(message: object) -> None:
    assert is_answer(Told().raw(message))


@given(VERBS, MORE, st.booleans(), st.booleans())
def test_any_request_has_one_answer(
    verb: str, more: dict[str, object], session: bool, handle: bool
) -> None:
    told = Told()
    of = told.attached()
    answer = told.ask(verb, of[0] if session else 0, of[1] if handle else 0, **more)
    assert is_answer(answer)
    assert answer["transaction"] == "t"


@given(st.binary(max_size=64) | st.text(max_size=64))
def test_any_bytes_are_json_or_refused(data: bytes | str) -> None:
    try:
        parse(data)
    except Refused as problem:
        assert problem.code == 454


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b" " * (BYTES_MAX + 1), b"9" * 10_000, b"\xff", b""]
)
def test_json_that_is_too_much_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        parse(data)


class AnyCourse(RuleBasedStateMachine):
    """Clients and driver in any order: the state stays whole and bounded."""

    def __init__(self) -> None:
        super().__init__()
        limits = RegistryLimits(sessions=3, handles_per_session=2, events_per_session=8)
        self.told = Told(limits=limits)
        self.rng = random.Random(3)
        self.handles: list[tuple[int, int]] = [(1, 1)]
        self.acts: list[Watch | Accept | SwitchTo] = []
        self.living: set[Call] = set()

    @rule(verb=VERBS, more=MORE, at=st.integers(0, 20))
    def ask(self, verb: str, more: dict[str, object], at: int) -> None:
        session, handle = self.handles[at % len(self.handles)]
        self.told.link = at % 2
        assert is_answer(self.told.ask(verb, session, handle, **more))

    @rule(link=st.integers(0, 1))
    def attach(self, link: int) -> None:
        self.told.link = link
        created = self.told.ask("create")
        if created["janus"] == "success":
            session = created["data"]["id"]
            handle = self.told.ask("attach", session, plugin=PLUGIN)["data"]["id"]
            self.handles.append((session, handle))

    @rule(request=REQUESTS, answered=st.booleans(), at=st.integers(0, 20))
    def request(self, request: str, answered: bool, at: int) -> None:
        of = self.handles[at % len(self.handles)]
        assert is_answer(self.told.request(of, request, ANSWER if answered else None, id=1))

    @rule(course=st.integers(0, 5))
    def drive(self, course: int) -> None:
        for act in self.told.acts():
            if isinstance(act, HangUp):
                self.living.discard(act.call)
            elif isinstance(act, Watch | Accept | SwitchTo):
                self.acts.append(act)
        protocol = self.told.protocol
        while self.acts:
            act = self.acts.pop()
            if course == 0:
                protocol.refused(act.call, StreamingCode.UNKNOWN_ERROR, "no")
            elif course == 1:
                protocol.ended(act.call, "over", stopped=True)
                self.living.discard(act.call)
            elif isinstance(act, Watch) and protocol.offered(act.call, "v=0"):
                self.living.add(act.call)
            elif isinstance(act, Accept):
                protocol.up(act.call, [Track("v", "video")])
            elif isinstance(act, SwitchTo):
                protocol.switched(act.call, 2)

    @rule(lost=st.booleans(), s=st.sampled_from([0.5, SESSION_TIMEOUT_S]))
    def pass_time(self, lost: bool, s: float) -> None:
        self.told.now += s
        if lost:
            self.told.protocol.lost(1, self.told.now)
        self.told.protocol.tick(self.told.now)

    @invariant()
    def state_is_bounded(self) -> None:
        registry = self.told.protocol.registry
        assert len(registry) <= 3
        for session in registry:
            assert len(session.handles) <= 2
            assert len(session.events) <= 8

    @invariant()
    def every_call_has_a_handle_or_is_hung_up(self) -> None:
        hung_up = {act.call for act in self.told.protocol.acts if isinstance(act, HangUp)}
        for call in self.living - hung_up:
            found = self.told.protocol.registry.of_call(call)
            assert found is not None
            assert found[1].state is not HandleState.IDLE


TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(max_examples=60, stateful_step_count=40)
