"""The hub of the stack: beside the catalog, behind the file server, killed and started again."""

from __future__ import annotations

import json

import pytest
from make.programs import HUB_PORT
from tests.harness.asking import get, http
from tests.harness.catalog import register, wait_for_leader
from tests.harness.eventually import eventually_sync
from tests.harness.hub_stream import WITHIN_S, reading, through, trusting
from tests.harness.process_driver import ProcessStack
from tests.harness.stack import HUB, SERVERS, Stack

MERCURE = "/.well-known/mercure"


def publish(stack: Stack, topic: str, data: str) -> str:
    """Publish as curl does; the event's id."""
    reply = http("POST", stack.url(HUB, f"/t/{topic}", HUB_PORT), data.encode())
    assert reply.status == 200, reply
    return reply.body.decode().strip()


def token(stack: Stack) -> str:
    """One that may publish everything."""
    own = [f"-data-dir={stack.data(HUB)}"] if isinstance(stack, ProcessStack) else []
    done = stack.exec(HUB, ["callboard", "hub", "token", "-publish", "*", *own])
    assert done.code == 0, done
    return done.out.strip()


def test_what_is_published_is_read_and_kept(stack: Stack) -> None:
    with reading(stack.url(HUB, "/t/integration/kept", HUB_PORT)) as stream:
        stream.next("hub.hello")
        ids = [publish(stack, "integration/kept", f"{number}\nand more") for number in range(3)]
        for number, id in enumerate(ids):
            event = stream.next()
            assert (event.id, event.data) == (id, f"{number}\nand more")
    with reading(stack.url(HUB, "/t/integration/kept?last=3", HUB_PORT)) as stream:
        assert [stream.next().id for _ in ids] == ids


def test_a_killed_hub_has_everything_and_readers_go_on(stack: Stack) -> None:
    with reading(stack.url(HUB, "/t/integration/killed", HUB_PORT)) as stream:
        first = publish(stack, "integration/killed", "before")
        assert stream.next().id == first
        cursor = stream.cursor
    second = publish(stack, "integration/killed", "unseen")
    stack.kill(HUB)
    stack.start(HUB)
    stack.wait_ready(HUB)
    with reading(stack.url(HUB, "/t/integration/killed", HUB_PORT), cursor) as stream:
        assert stream.next().id == second
        third = publish(stack, "integration/killed", "after")
        assert stream.next().id == third


def test_publishing_through_the_file_server_needs_a_token(stack: Stack) -> None:
    wait_for_leader(stack)
    tls = trusting(stack)

    def routed() -> bool:
        with reading(through(stack, "/t/integration"), tls=tls) as stream:
            return stream.next("hub.hello").type == "hub.hello"

    eventually_sync(routed, WITHIN_S)
    for path, body in ((MERCURE, b"topic=/integration/door&data=x"), ("/t/integration/door", b"x")):
        refused = http("POST", through(stack, path), body, tls=tls)
        assert refused.status == 401, refused
        assert "resource_metadata=" in refused.headers["WWW-Authenticate"]
        wrong = http("POST", through(stack, path), body, headers=bearer("wrong"), tls=tls)
        assert wrong.status == 401, wrong
    url = through(stack, f"{MERCURE}?topic=/integration/door")
    with reading(url, tls=tls) as stream:
        sent = b"topic=/integration/door&data=hello"
        headers = bearer(token(stack))
        published = http("POST", through(stack, MERCURE), sent, headers=headers, tls=tls)
        assert published.status == 200, published
        assert stream.next().data == "hello"


def bearer(token: str) -> dict[str, str]:
    """The field that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def test_the_hub_is_in_the_catalog(stack: Stack) -> None:
    wait_for_leader(stack)

    def passing() -> bool:
        url = stack.url("agent-1", "/v1/health/service/hub?passing")
        [entry] = get(url)
        service = entry["Service"]
        return bool(
            service["Address"] == stack.inside_address(HUB)
            and service["Port"] == HUB_PORT
            and service["Meta"]["https_port"] == "8801"
        )

    eventually_sync(passing, WITHIN_S)


def test_the_catalogs_changes_are_topics(stack: Stack) -> None:
    leader = wait_for_leader(stack)
    url = stack.url(HUB, "/t/catalog/services/announced", HUB_PORT)
    with reading(url) as stream:
        stream.next("hub.state")
        register(stack, leader, {"Name": "announced", "Port": 4711})
        value = json.loads(stream.next().data)
        assert value["Topic"] == "/catalog/services/announced"
        assert [entry["Service"]["Port"] for entry in value["Value"]] == [4711]


@pytest.mark.timeout(180)
def test_a_new_leader_is_an_event_and_publishing_needs_no_agents(stack: Stack) -> None:
    leader = wait_for_leader(stack)
    url = f"{MERCURE}?topic=/cluster/leader&topic=/integration/agentless"
    with reading(stack.url(HUB, url, HUB_PORT)) as stream:
        assert f'"{stack.inside_address(leader)}:8300"' in stream.next().data
        stack.kill(leader)
        left = [name for name in SERVERS if name != leader]
        successor = stack.inside_address(wait_for_leader(stack, *left))
        while f'"{successor}:8300"' not in stream.next().data:
            pass
        for name in left:
            stack.kill(name)
        publish(stack, "integration/agentless", "still here")
        while (event := stream.next()).data != "still here":
            assert "/cluster/leader" in event.data
