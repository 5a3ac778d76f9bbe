"""Roles stand in the names, and are read back from them; from nothing else."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.certified import CA, material
from tests.harness.memory_tls import connect

from callboard.pki import roles
from callboard.pki.contexts import client_context, server_context
from callboard.pki.roles import NOBODY, Names, Peer, WrongRole, authorise, names_for, peer_of

TRUST = "dc1.consul"


def shown(names: Names) -> dict[str, object]:
    """What the other side of a connection reads of these names."""
    pairs = [("DNS", name) for name in names.dns] + [("URI", uri) for uri in names.uris]
    return {"subject": ((("commonName", "server.dc1.consul"),),), "subjectAltName": tuple(pairs)}


@pytest.mark.parametrize("role", sorted(roles.ROLES))
def test_each_role_is_read_back(role: str) -> None:
    also = {"agent"} if role == "server" else set()
    assert peer_of(shown(names_for(role, "box-1")), TRUST) == Peer(
        frozenset({role, *also}), "box-1"
    )


@pytest.mark.parametrize("role", sorted(roles.ROLES))
def test_a_role_without_a_node_names_none(role: str) -> None:
    made = names_for(role, "")
    assert all(made.dns) and not any("/node/" in uri for uri in made.uris)
    assert not any(name.startswith(".") or ".." in name for name in made.dns)
    assert peer_of(shown(made), TRUST).node == ""


def test_only_a_server_has_a_servers_name() -> None:
    """Consul's verify_server_hostname: whoever shows it takes part in Raft."""
    having = {role for role in roles.ROLES if "server.dc1.consul" in names_for(role, "agent-1").dns}
    assert having == {"server"}


def test_a_service_of_another_name_has_no_role() -> None:
    assert peer_of(shown(roles.names_of_service("web", "box-1")), TRUST) == Peer(
        frozenset(), "box-1"
    )


def test_a_certificate_made_for_consul_is_understood() -> None:
    server = shown(Names(("server.dc1.consul", "agent-1.server.dc1.consul", "localhost")))
    assert peer_of(server, TRUST) == Peer(frozenset({"server", "agent"}), "agent-1")
    client = shown(Names(("client.dc1.consul", "localhost")))
    assert peer_of(client, TRUST) == Peer(frozenset({"agent"}), "")
    person = shown(Names(("cli.dc1.consul", "localhost")))
    assert peer_of(person, TRUST) == Peer(frozenset({"operator"}), "")


@pytest.mark.parametrize(
    "names",
    [
        Names(uris=("spiffe://dc2.consul/svc/server",)),
        Names(uris=("spiffe://dc1.consul.evil/svc/server",)),
        Names(uris=("https://dc1.consul/svc/server",)),
        Names(uris=("spiffe://dc1.consul/svc/server/x",)),
        Names(dns=("server.dc2.consul", "xserver.dc1.consul", "server.dc1.consul.evil")),
    ],
)
def test_other_names_give_no_role(names: Names) -> None:
    assert peer_of(shown(names), TRUST).roles == frozenset()


def test_the_common_name_gives_no_role() -> None:
    assert peer_of(shown(Names()), TRUST) == NOBODY


def test_without_a_certificate_one_is_nobody() -> None:
    assert peer_of(None, TRUST) == peer_of({}, TRUST) == NOBODY


def test_roles_are_read_from_a_connection(tmp_path: Path) -> None:
    ca = CA()
    hub = client_context(material(tmp_path / "hub", ca.leaf(names_for("hub", "hub-1")), ca))
    listener = server_context(material(tmp_path / "a", ca.leaf(), ca), client=ssl.CERT_REQUIRED)
    made = connect(listener, hub, "server.dc1.consul")
    assert peer_of(made.server.getpeercert(), TRUST) == Peer(frozenset({"hub"}), "hub-1")
    assert "server" in peer_of(made.client.getpeercert(), TRUST).roles


def test_the_right_role_is_let_through_and_the_wrong_one_is_told() -> None:
    hub = Peer(frozenset({"hub"}), "hub-1")
    authorise(hub, ["hub", "agent"], "the feed")
    with pytest.raises(WrongRole) as caught:
        authorise(hub, ["server"], "Raft")
    assert str(caught.value) == "Raft is for server; the certificate of hub-1 has hub"
    with pytest.raises(WrongRole, match="has no role"):
        authorise(NOBODY, ["server"], "Raft")


def test_a_role_that_does_not_exist_is_told() -> None:
    with pytest.raises(ValueError, match="no role 'root'"):
        names_for("root", "box-1")


@pytest.mark.parametrize("name", ["server.dc1.consul", "Server.dc1.consul", "client.dc1.consul"])
@pytest.mark.parametrize("role", ["hub", "fileserver", "web"])
def test_no_node_or_host_name_makes_a_program_an_agent(role: str, name: str) -> None:
    """A public host or a node may be called anything, but not what a role is told by."""
    make = names_for if role in roles.ROLES else roles.names_of_service
    for more in ({"node": name}, {"node": "x", "dns": [name]}):
        with pytest.raises(ValueError, match=r"with these names it would be .*agent.* too"):
            make(role, **more)
    assert names_for("server", "agent-1", dns=["server.dc1.consul", "client.dc1.consul"])


@given(st.lists(st.tuples(st.sampled_from(["DNS", "URI", "IP Address"]), st.text())).map(tuple))
def test_any_names_are_read(pairs: tuple[tuple[str, str], ...]) -> None:
    assert peer_of({"subjectAltName": pairs}, TRUST).roles <= roles.ROLES
