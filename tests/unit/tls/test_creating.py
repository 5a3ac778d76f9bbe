"""`callboard tls ca create` and `cert create`: Consul's names and texts, nothing overwritten."""

from __future__ import annotations

import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tests.harness.certified import CA, today
from tests.unit.tls.conftest import Tool, powerless

from callboard.pki import certificates, constraints, reading, verification

USING = "==> Using consul-agent-ca.pem and consul-agent-ca-key.pem\n"


def names(path: str) -> set[str]:
    found = verification.names_of(reading.read_certificate(Path(path)))
    return {*found.dns, *map(str, found.addresses), *found.uris}


def state(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_ca_has_consuls_file_names_and_texts(tls: Tool) -> None:
    out = tls.good("ca create")
    assert out.startswith("==> Saved consul-agent-ca.pem\n==> Saved consul-agent-ca-key.pem\n")
    made = reading.read_certificate(Path("consul-agent-ca.pem"))
    assert certificates.fingerprint(made) in out
    assert stat.S_IMODE(Path("consul-agent-ca-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path("consul-agent-ca.pem").stat().st_mode) == 0o644


def test_flags_have_one_dash_or_two(tls: Tool) -> None:
    tls.good("ca create --domain foo --days=30 -additional-name-constraint bar.org")
    made = reading.read_certificate(Path("foo-agent-ca.pem"))
    found = constraints.constraints_of(made)
    assert found is not None and found.dns == ("foo", "localhost", "bar.org")
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=30, minutes=5)


def test_a_ca_is_not_written_over(with_ca: Tool) -> None:
    before = state(with_ca.directory)
    assert with_ca.refused("ca create") == "consul-agent-ca.pem already exists."
    Path("consul-agent-ca.pem").unlink()
    assert with_ca.refused("ca create") == "consul-agent-ca-key.pem already exists."
    key = "consul-agent-ca-key.pem"
    assert state(with_ca.directory)[key] == before[key]


def test_a_ca_without_constraints_is_asked_for(tls: Tool) -> None:
    tls.good("ca create -name-constraint=false")
    made = reading.read_certificate(Path("consul-agent-ca.pem"))
    assert constraints.constraints_of(made) is None


@pytest.mark.parametrize("days", ["0", "-1", "36501"])
def test_days_have_bounds(tls: Tool, days: str) -> None:
    done = tls(f"ca create -days={days}")
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        f"-days is from 1 to 36500, not {days}",
    )


def test_a_server_has_consuls_file_names_texts_and_names(with_ca: Tool) -> None:
    out = with_ca.good("cert create -server -node agent-1")
    assert out.startswith("==> WARNING: Server Certificates grants authority to become a\n")
    assert out.endswith(
        f"{USING}==> Saved dc1-server-consul-0.pem\n==> Saved dc1-server-consul-0-key.pem\n"
    )
    assert names("dc1-server-consul-0.pem") >= {
        "server.dc1.consul",
        "agent-1.server.dc1.consul",
        "localhost",
        "127.0.0.1",
        "spiffe://dc1.consul/svc/server",
        "spiffe://dc1.consul/node/agent-1",
    }


@pytest.mark.parametrize(
    ("flags", "file", "role", "name"),
    [
        ("-server", "dc1-server-consul-0", "server", "server.dc1.consul"),
        ("-client", "dc1-client-consul-0", "agent", "client.dc1.consul"),
        ("-cli", "dc1-cli-consul-0", "operator", "localhost"),
        ("-service hub", "dc1-hub-consul-0", "hub", "hub.service.consul"),
        ("-server -dc dc2", "dc2-server-consul-0", "server", "server.dc2.consul"),
    ],
)
def test_each_kind_gives_its_role(
    with_ca: Tool, flags: str, file: str, role: str, name: str
) -> None:
    with_ca.good(f"cert create {flags}")
    assert stat.S_IMODE(Path(f"{file}-key.pem").stat().st_mode) == 0o600
    dc = "dc2" if "dc2" in flags else "dc1"
    out = with_ca.good(f"verify -dc {dc} -role {role} -name {name} {file}.pem")
    assert out.startswith(f"{file}.pem: good for clientAuth, serverAuth until ")


def test_a_service_of_ones_own_has_no_role(with_ca: Tool) -> None:
    with_ca.good("cert create -service web -node box-1 -additional-ipaddress 10.1.2.3")
    assert names("dc1-web-consul-0.pem") >= {"web.service.dc1.consul", "10.1.2.3"}
    assert "  roles        none on box-1\n" in with_ca.good("show dc1-web-consul-0.pem")


def test_no_additional_name_says_another_role(with_ca: Tool) -> None:
    before = state(with_ca.directory)
    said = with_ca.refused("cert create -service hub -additional-dnsname server.dc1.consul")
    assert "with these names it would be agent, server too" in said
    assert state(with_ca.directory) == before


def test_numbers_go_up_and_nothing_is_written_over(with_ca: Tool) -> None:
    with_ca.good("cert create -client")
    before = state(with_ca.directory)
    with_ca.good("cert create -client")
    after = state(with_ca.directory)
    assert before.items() <= after.items()
    assert {"dc1-client-consul-1.pem", "dc1-client-consul-1-key.pem"} <= set(after)


def test_certificates_made_at_once_get_numbers_of_their_own(with_ca: Tool) -> None:
    argv = [sys.executable, "-m", "callboard.chassis.command", "tls", "cert", "create", "-client"]
    running = [
        subprocess.Popen(argv, cwd=with_ca.directory, stdout=subprocess.DEVNULL) for _ in range(6)
    ]
    assert [one.wait(60) for one in running] == [0] * 6
    for number in range(6):
        with_ca.good(f"verify dc1-client-consul-{number}.pem")


def test_names_of_files_can_be_chosen_and_are_not_written_over(with_ca: Tool) -> None:
    line = "cert create -service fileserver -cert-out server.crt.pem -key-out server.key.pem"
    with_ca.good(line)
    before = state(with_ca.directory)
    assert with_ca.refused(line) == "server.crt.pem already exists."
    assert state(with_ca.directory) == before


@pytest.mark.parametrize("flags", ["", "-server -client", "-cli -service hub"])
def test_one_kind_is_wanted(with_ca: Tool, flags: str) -> None:
    expected = "Please provide either -server, -client, -cli, or -service NAME"
    assert with_ca.refused(f"cert create {flags}") == expected


@pytest.mark.parametrize(
    "flags",
    [
        "-service server",
        "-service a.b",
        "-server -node a.b",
        "-server -additional-dnsname -x-",
        "-server -additional-ipaddress 1.2.3",
        "-server -cert-out x.pem",
        "-server extra",
    ],
)
def test_flags_that_make_no_sense_make_nothing(with_ca: Tool, flags: str) -> None:
    before = state(with_ca.directory)
    assert with_ca(f"cert create {flags}").code == 1
    assert state(with_ca.directory) == before


def test_a_missing_ca_is_told_as_consul_does(tls: Tool) -> None:
    assert tls.refused("cert create -client") == (
        "Error reading CA: open consul-agent-ca.pem: no such file or directory"
    )


def test_a_public_host_is_signed_by_a_ca_that_was_made_for_it(tls: Tool) -> None:
    tls.good("ca create -public-host cam.example.org")
    tls.good("cert create -service fileserver -public-host cam.example.org")
    tls.good("verify -name cam.example.org dc1-fileserver-consul-0.pem")


def test_a_public_address_is_signed_by_a_ca_that_was_made_for_it(tls: Tool) -> None:
    tls.good("ca create -public-host 203.0.113.9")
    tls.good("cert create -service fileserver -public-host 203.0.113.9")
    tls.good("verify -name 203.0.113.9 dc1-fileserver-consul-0.pem")
    assert "203.0.113.10" in tls.refused("cert create -service hub -public-host 203.0.113.10")


def test_a_ca_without_the_public_host_names_the_command_for_a_new_one(with_ca: Tool) -> None:
    line = with_ca.refused("cert create -service fileserver -public-host cam.example.org")
    assert line.startswith("cam.example.org: outside the CA's name constraints")
    _, _, told = line.partition("a new CA is made by: callboard tls ")
    assert told == "ca create -directory=new-ca -public-host=cam.example.org"
    with_ca.good(told)
    paths = "-ca new-ca/consul-agent-ca.pem -key new-ca/consul-agent-ca-key.pem"
    with_ca.good(f"cert create {paths} -service fileserver -public-host cam.example.org")


def test_nothing_is_written_for_a_name_outside_the_constraints(with_ca: Tool) -> None:
    before = state(with_ca.directory)
    with_ca.refused("cert create -server -additional-dnsname www.example.com")
    assert state(with_ca.directory) == before


def test_an_expired_ca_is_told(tls: Tool) -> None:
    CA(now=today() - timedelta(days=400), life=timedelta(days=365)).write(tls.directory)
    old = CA(now=today() - timedelta(days=400), life=timedelta(days=365))
    old.write(tls.directory, "old")
    Path("old-key.pem").write_bytes(certificates.key_pem(old.key))
    Path("old-key.pem").chmod(0o600)
    line = tls.refused("cert create -client -ca old.pem")
    assert line.startswith("the CA old.pem expired on ")


def test_a_foreign_key_is_told(with_ca: Tool) -> None:
    Path("consul-agent-ca-key.pem").write_bytes(certificates.key_pem(certificates.new_key()))
    line = with_ca.refused("cert create -client")
    assert line == "consul-agent-ca-key.pem: not the key of consul-agent-ca.pem"


def test_a_key_that_others_may_read_is_warned_of(with_ca: Tool) -> None:
    Path("consul-agent-ca-key.pem").chmod(0o644)
    done = with_ca("cert create -client")
    assert done.code == 0
    assert done.err == (
        "==> WARNING: consul-agent-ca-key.pem is not its owner's alone: "
        "chmod 600 consul-agent-ca-key.pem\n"
    )


@pytest.mark.parametrize("line", ["ca create", "cert create -client", "crl", "revoke 12ab"])
def test_a_folder_that_cannot_be_written_is_told_in_one_line(tls: Tool, line: str) -> None:
    if line != "ca create":
        tls.good("ca create")
    before = state(tls.directory)
    with powerless(tls.directory):
        told = tls.refused(line)
    assert told.endswith(": Permission denied")
    assert state(tls.directory) == before
