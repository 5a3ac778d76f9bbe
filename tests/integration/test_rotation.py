"""Certificates, CA and revocation while clients write, read and resolve: nobody notices."""

from __future__ import annotations

import ssl
import urllib.error
from pathlib import Path

import pytest
from make.programs import CLIENT, NAMESERVER, SERVERS
from tests.harness.certified import CA, material
from tests.harness.eventually import eventually_sync
from tests.harness.secured import PROGRAMS, Farm, traffic
from tests.harness.sockets import Connection, established

from callboard.pki.roles import names_for

TLS_PORTS = {**dict.fromkeys(SERVERS, (8300, 8501)), CLIENT: (8501,), NAMESERVER: (8853,)}
RPC = 8300


def rpc_connections(farm: Farm) -> set[Connection]:
    """Return the connections that agents have dialled to each other's 8300."""
    pids = [farm.processes[name].pid for name in (*SERVERS, CLIENT)]
    return {one for pid in pids for one in established(pid) if one.remote[1] == RPC}


def shows_its_newest(farm: Farm, name: str) -> bool:
    serial = farm.leaves[name].certificate.serial_number
    return all(farm.shown(name, port).serial_number == serial for port in TLS_PORTS[name])


def test_renewed_leaves_and_a_new_ca_cost_no_request(farm: Farm) -> None:
    following = CA("second CA", constraints=None)
    with traffic(farm) as seen:
        before = rpc_connections(farm)
        assert len(before) >= 2 * len(SERVERS), "raft links are there"

        for name in PROGRAMS:
            farm.renew(name)
        farm.take_in()
        assert all(shows_its_newest(farm, name) for name in PROGRAMS)
        assert seen.progressed()

        for name in PROGRAMS:
            farm.trust(name, [farm.authority, following])
        farm.take_in()
        for name in PROGRAMS:
            farm.renew(name, following)
            farm.take_in(name)
            assert shows_its_newest(farm, name)
            assert seen.progressed()

        eventually_sync(lambda: not before & rpc_connections(farm), 30.0)
        for name in PROGRAMS:
            farm.trust(name, [following])
        farm.take_in()
        assert seen.progressed()
    assert seen.failures == []

    assert farm.operator.authorities is not None
    with pytest.raises(OSError):
        farm.asks("agent-1", farm.operator)  # of the CA that is gone
    place = farm.identity("agent-1").parents[1] / "next"
    person = material(place, following.leaf(names_for("operator", "")), following)
    assert farm.asks("agent-1", person) == 200


def test_revoked_server_is_cut_off_and_comes_back_with_a_new_certificate(farm: Farm) -> None:
    lost = "agent-3"
    others = [name for name in PROGRAMS if name != lost]
    with traffic(farm) as seen:
        for name in others:
            farm.trust(name, [farm.authority], [farm.leaves[lost]])
        farm.take_in(*others)
        eventually_sync(lambda: not farm.ready(lost), 30.0)
        line = 'callboard_rpc_refused_total{why="standing"}'
        assert any(farm.metric(name, line) > 0 for name in SERVERS if name != lost)
        assert seen.progressed()
        for name in others:
            assert farm.ready(name)
        seen.failures[:] = [one for one in seen.failures if not one.startswith(lost)]

        revoked = farm.leaves[lost]
        farm.processes[lost].terminate()
        farm.processes[lost].wait(30.0)
        farm.rekey(lost)
        farm.trust(lost, [farm.authority], [revoked])
        farm.start(lost)
        eventually_sync(lambda: farm.ready(lost), 60.0)
    assert "our certificate was revoked" in farm.log(lost)


def test_broken_files_change_nothing_and_are_told(farm: Farm) -> None:
    with traffic(farm) as seen:
        certificate = farm.identity("agent-2") / "certificate.pem"
        whole = certificate.read_bytes()
        certificate.write_bytes(farm.identity("agent-1").joinpath("certificate.pem").read_bytes())
        eventually_sync(
            lambda: "certificate files not taken, the old ones stay" in farm.log("agent-2"), 30.0
        )
        assert shows_its_newest(farm, "agent-2")
        certificate.write_bytes(whole)
        assert seen.progressed()
    assert seen.failures == []


def test_certificate_of_the_front_opens_no_raft(farm: Farm) -> None:
    """A program that is broken into must not become a server: roles, by real programs' files."""
    front = farm.identity(NAMESERVER)
    context = ssl.create_default_context(cafile=str(front / "ca.pem"))
    context.load_cert_chain(front / "certificate.pem", front / "key.pem")
    context.check_hostname = False
    assert farm.asks_with(context, "agent-1") == 200, "it may read the catalog"
    answer = farm.greet(context, "agent-1", "raft")
    assert b"channel raft is for server; the certificate of nameserver has nameserver" in answer


def test_certificate_without_a_role_is_answered_403(farm: Farm, tmp_path: Path) -> None:
    leaf = farm.authority.leaf(names_for("issuer", "issuer"))
    with pytest.raises(urllib.error.HTTPError) as caught:
        farm.asks("agent-1", material(tmp_path / "issuer", leaf, farm.authority))
    assert caught.value.code == 403
    assert b"the certificate of issuer has issuer" in caught.value.read()
