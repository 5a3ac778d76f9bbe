"""Where servers are, by node id, as gossip has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from callboard.agent.membership.directory import ServerDirectory
from callboard.agent.membership.tags import AgentTags, as_consul, from_wire


@dataclass
class Seen:
    """A gossip member."""

    name: str
    address: str
    status: str = "alive"
    tags: Mapping[str, str] = field(default_factory=dict)


def server(node_id: str, address: str, status: str = "alive", datacenter: str = "dc1") -> Seen:
    tags = AgentTags(node_id, datacenter, server=True, rpc_port=8300).to_wire()
    return Seen(node_id, address, status, tags)


def directory(*members: Seen) -> tuple[ServerDirectory, list[Seen]]:
    seen = list(members)
    found = ServerDirectory(lambda: seen, "dc1", "own")
    found.changed()
    return found, seen


def test_others_are_the_live_servers_but_ourselves() -> None:
    found, _ = directory(server("own", "10.0.0.1"), server("b", "10.0.0.2"))
    assert found.others() == {"b": "10.0.0.2:8300"}
    assert found.alive() == ["10.0.0.1:8300", "10.0.0.2:8300"]


def test_failed_server_keeps_its_last_address_but_is_not_alive() -> None:
    found, seen = directory(server("b", "10.0.0.2"))
    seen[0].status = "failed"
    found.changed()
    assert (found.alive(), found.address_of("b")) == ([], "10.0.0.2:8300")


def test_server_that_moved_is_found_at_its_new_address() -> None:
    found, seen = directory(server("b", "10.0.0.2"))
    seen[0].address = "10.0.0.9"
    found.changed()
    assert found.address_of("b") == "10.0.0.9:8300"


def test_ids_that_swapped_addresses_are_told_apart() -> None:
    found, seen = directory(server("b", "10.0.0.2"), server("c", "10.0.0.3"))
    seen[0].address, seen[1].address = seen[1].address, seen[0].address
    found.changed()
    assert (found.address_of("b"), found.address_of("c")) == ("10.0.0.3:8300", "10.0.0.2:8300")


def test_strangers_clients_and_other_datacenters_are_no_servers() -> None:
    client = AgentTags("c", "dc1", server=False, rpc_port=0).to_wire()
    found, _ = directory(
        server("far", "10.0.0.2", datacenter="dc2"),
        Seen("client", "10.0.0.3", tags=client),
        Seen("serf", "10.0.0.4", tags={"role": "web"}),
    )
    assert (found.alive(), found.count) == ([], 3)


def test_tags_survive_the_wire() -> None:
    tags = AgentTags("id", "dc1", server=True, rpc_port=8300, expect=3)
    assert from_wire(tags.to_wire()) == tags


def test_members_are_shown_with_consuls_roles() -> None:
    shown = as_consul(AgentTags("id", "dc1", server=True, rpc_port=8300, expect=3).to_wire())
    assert (shown["role"], shown["port"], shown["expect"]) == ("consul", "8300", "3")
    client = as_consul(AgentTags("id", "dc1", server=False, rpc_port=0).to_wire())
    assert client["role"] == "node"


def test_no_consul_client_takes_us_for_its_server() -> None:
    wire = AgentTags("id", "dc1", server=True, rpc_port=8300).to_wire()
    assert wire["role"] == "callboard"


def test_foreign_tags_are_shown_as_they_are() -> None:
    assert as_consul({"role": "web"}) == {"role": "web"}
