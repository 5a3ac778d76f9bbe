"""A retried registration is answered and not applied again (I13)."""

from __future__ import annotations

from tests.harness.state import DrivenStore

from callboard.agent.state.dedupe import REQUESTS_MAX, RequestLog
from callboard.catalog.commands import Deregister, Register
from callboard.catalog.objects import Check, Node, ServiceInstance


def registration(request_id: bytes, port: int = 1) -> Register:
    return Register(
        node=Node(name="n1"),
        service=ServiceInstance(id="s", service="s", port=port),
        request_id=request_id,
    )


def test_a_retry_after_a_later_change_does_not_undo_it() -> None:
    driven = DrivenStore()
    driven.apply(registration(b"one", port=1))
    driven.apply(registration(b"two", port=2))
    assert driven.apply(registration(b"one", port=1)) is True
    service = driven.store.service("n1", "s")
    assert service is not None
    assert service.port == 2


def test_a_retried_deregistration_does_not_remove_what_came_back() -> None:
    driven = DrivenStore()
    driven.apply(registration(b""))
    driven.apply(Deregister("n1", request_id=b"bye"))
    driven.apply(registration(b""))
    assert driven.apply(Deregister("n1", request_id=b"bye")) is True
    assert driven.store.node("n1") is not None


def test_a_retry_of_a_refused_registration_is_refused_in_the_same_words() -> None:
    driven = DrivenStore()
    bad = Register(Node(name="n1"), None, (Check(check_id="c", service_id="s"),), request_id=b"x")
    answer = driven.apply(bad)
    driven.apply(registration(b""))
    text = 'failed inserting check: Missing service registration on node "n1"'
    assert driven.apply(bad) == answer == text


def test_requests_without_an_id_are_all_applied() -> None:
    driven = DrivenStore()
    driven.apply(registration(b"", port=1))
    driven.apply(registration(b"", port=2))
    assert driven.index("service", "s") == 2


def test_a_retry_is_known_after_a_restore() -> None:
    driven = DrivenStore()
    driven.apply(registration(b"one", port=1))
    driven.apply(registration(b"two", port=2))
    restored = driven.restored()
    restored.apply(registration(b"one", port=1))
    assert restored.index("service", "s") == 2


def test_only_the_newest_requests_are_remembered() -> None:
    log, same = RequestLog(), RequestLog()
    for number in range(REQUESTS_MAX + 10):
        log.remember(b"%d" % number, True)
        if number >= 10:
            same.remember(b"%d" % number, True)
    assert log.answer(b"9") is None
    assert log.answer(b"10") is True
    assert len(log.dump()) == REQUESTS_MAX
    assert log.digest == same.digest
