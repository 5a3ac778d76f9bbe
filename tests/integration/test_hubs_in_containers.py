"""Two hubs and the PostgreSQL server that keeps their history: the compose profile `postgres`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from make.programs import HUB_PORT
from tests.harness.asking import get, http
from tests.harness.catalog import wait_for_leader
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.hub_stream import reading, through, trusting
from tests.harness.stack import HUB, Plan, Stack

pytestmark = [pytest.mark.only("containers"), pytest.mark.timeout(600)]

SECOND, DATABASE = "hub-2", "postgres"
TOPIC = "/t/shared"
WITHIN_S = 30.0 * SLOW


def publish(stack: Stack, at: str, data: str) -> str:
    """Publish at one of the hubs, again while it refuses; the event's id."""

    def taken() -> str:
        url = stack.url(at, TOPIC, HUB_PORT)
        reply = http("POST", url, data.encode(), headers={"Idempotency-Key": data})
        assert reply.status == 200, reply
        return reply.body.decode().strip()

    return str(eventually_sync(taken, WITHIN_S))


def test_two_hubs_share_a_history_and_one_goes_on_for_the_other(
    fresh: Callable[[Plan], Stack],
) -> None:
    stack = fresh(Plan(hubs=True))
    wait_for_leader(stack)
    with reading(stack.url(SECOND, TOPIC, HUB_PORT)) as stream:
        stream.next("hub.hello")
        ids = [publish(stack, (HUB, SECOND)[n % 2], f"{n}") for n in range(6)]
        assert [stream.next().id for _ in ids] == ids

    def both() -> bool:
        entries = get(stack.url("agent-1", "/v1/health/service/hub?passing"))
        found = {entry["Service"]["Address"] for entry in entries}
        return found == {stack.inside_address(name) for name in (HUB, SECOND)}

    eventually_sync(both, WITHIN_S)
    stack.kill(HUB)
    missed = publish(stack, SECOND, "while the first is away")

    def resumed() -> bool:
        with reading(through(stack, TOPIC), ids[-1], tls=trusting(stack)) as stream:
            return stream.next().id == missed

    eventually_sync(resumed, WITHIN_S)
    stack.kill(DATABASE)
    stack.start(DATABASE)
    after = publish(stack, SECOND, "after the database was killed")
    stack.start(HUB)
    stack.wait_ready(HUB)
    with reading(stack.url(HUB, TOPIC, HUB_PORT), missed) as stream:
        assert stream.next().id == after


def test_the_databases_password_is_in_no_setting(fresh: Callable[[Plan], Stack]) -> None:
    """Only in a volume: whoever may ask the engine does not see it."""
    stack = fresh(Plan(hubs=True))
    entry = stack.exec(DATABASE, ["cat", "/access/pgpass"]).out.strip()
    password = entry.rpartition(":")[2]
    assert len(password) == 64
    for name in (HUB, SECOND, DATABASE):
        shown = stack.exec(name, ["env"]).out
        assert password not in shown
        assert "PASSWORD" not in shown
