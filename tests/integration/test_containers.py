"""What is true of containers only: hardening, published ports, names on the compose network."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest
from make import environment
from make.programs import CERTIFIED, HUB, ISSUER, ROOT
from tests.harness.asking import addresses
from tests.harness.catalog import resolve
from tests.harness.compose_driver import PORTS, ComposeStack
from tests.harness.sockets import free_port
from tests.harness.stack import AGENTS, NAMES, Stack

pytestmark = pytest.mark.only("containers")

INSIDE = [*AGENTS, HUB]
"""Services whose `dns:` is the nameserver."""


@pytest.mark.parametrize("service", INSIDE)
def test_a_program_resolves_names_of_the_catalog(stack: Stack, service: str) -> None:
    result = stack.exec(service, ["getent", "ahostsv4", "web.service.consul"])
    assert result.code == 0, result
    found = {line.split()[0] for line in result.out.splitlines()}
    assert found == {stack.inside_address(name) for name in ("agent-1", "agent-4")}


def test_a_program_resolves_names_of_the_network(stack: Stack) -> None:
    result = stack.exec("agent-1", ["getent", "hosts", "nameserver"])
    assert result.out.split()[0] == stack.inside_address("nameserver")


def test_other_names_go_to_the_networks_resolver(stack: Stack) -> None:
    """Docker's own resolver knows the services' names; the front passes the question on."""
    assert addresses(resolve(stack, "agent-2")) == [stack.inside_address("agent-2")]


@pytest.mark.parametrize("service", NAMES)
def test_a_program_has_no_privileges(stack: Stack, service: str) -> None:
    status = stack.exec(service, ["cat", "/proc/self/status"]).out
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == 0
    assert int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert fields["Uid"].split() == ["10001"] * 4


@pytest.mark.parametrize("service", NAMES)
def test_a_program_writes_to_its_data_only(stack: Stack, service: str) -> None:
    refused = stack.exec(service, ["touch", "/usr/new"])
    assert "Read-only file system" in refused.err
    assert stack.exec(service, ["bash", "-c", "touch /data/new && rm /data/new"]).code == 0


@pytest.mark.parametrize("service", NAMES)
def test_a_container_has_limits(stack: Stack, service: str) -> None:
    attributes = cast(ComposeStack, stack).container_attributes(service)
    host = attributes["HostConfig"]
    assert host["Memory"] > 0
    assert 0 < host["PidsLimit"] <= 256
    assert host["LogConfig"]["Config"]["max-size"]


@pytest.mark.parametrize("service", NAMES)
def test_a_container_holds_one_private_key_and_the_issuer_the_cas(
    stack: Stack, service: str
) -> None:
    places = "/data /exchange /etc /run /tmp /home /root /var"
    # -D skip: no waiting at pipes; folders of others are not this user's to read
    found = stack.exec(service, ["bash", "-c", f"grep -rlsD skip 'PRIVATE KEY--' {places}"]).out
    key = "/data/1/ca-key.pem" if service == ISSUER else "/data/identity/key.pem"
    assert found.split() == [key]
    mode = stack.exec(service, ["stat", "-c", "%a %u", key]).out.split()
    assert mode == ["600", "10001"]


PUBLIC_KEYS = """
import sys
from cryptography import x509
from cryptography.hazmat.primitives import serialization as form
key, certificate = (open(path, "rb").read() for path in sys.argv[1:])
for public in (
    form.load_pem_private_key(key, None).public_key(),
    x509.load_pem_x509_certificate(certificate).public_key(),
):
    print(public.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo).hex())
"""


def test_each_key_is_its_certificates_own_and_no_two_are_the_same(stack: Stack) -> None:
    seen = set()
    for service in NAMES:
        files = ["/data/identity/key.pem", "/data/identity/certificate.pem"]
        if service == ISSUER:
            files = ["/data/1/ca-key.pem", "/data/1/ca.pem"]
        told = stack.exec(service, ["python3", "-c", PUBLIC_KEYS, *files])
        [own, certified] = told.out.split()
        assert own == certified
        seen.add(own)
    assert len(seen) == len(NAMES)


@pytest.mark.parametrize("service", NAMES)
def test_the_key_of_gossip_is_with_agents_and_the_issuer_only(stack: Stack, service: str) -> None:
    named = ["(", "-name", "gossip.key", "-o", "-name", "local.keyring", ")"]
    result = stack.exec(service, ["find", "/data", "/exchange", *named])
    found = result.out.split()
    if service in AGENTS:
        copies = {"/exchange/gossip.key", "/data/identity/gossip.key"}
        assert set(found) == {*copies, "/data/serf/local.keyring"}, result
    elif service == ISSUER:
        assert set(found) == {
            "/data/gossip.key",
            *(f"/exchange/{name}/gossip.key" for name in AGENTS),
        }
    else:
        assert not found
    for path in found:
        assert stack.exec(service, ["stat", "-c", "%a %u", path]).out.split() == ["600", "10001"]


@pytest.mark.parametrize("service", NAMES)
def test_no_secret_is_in_a_containers_settings(stack: Stack, service: str) -> None:
    """Whoever may ask the engine sees environment and arguments."""
    attributes = cast(ComposeStack, stack).container_attributes(service)
    told = json.dumps([attributes["Config"]["Env"], attributes["Args"], attributes["Config"]])
    assert "PRIVATE KEY" not in told
    keyring = stack.exec("agent-1", ["cat", "/data/serf/local.keyring"]).out
    keys = json.loads(keyring)
    assert keys and not any(key in told for key in keys)


@pytest.mark.parametrize("service", CERTIFIED)
def test_an_exchange_is_of_one_program_and_the_issuer(stack: Stack, service: str) -> None:
    shared = {mount["Name"] for mount in mounts(stack, service) if "Name" in mount}
    for other in NAMES:
        common = shared & {mount["Name"] for mount in mounts(stack, other) if "Name" in mount}
        if other == ISSUER:
            assert len(common) == 1
        elif other != service:
            assert not common


def mounts(stack: Stack, service: str) -> list[dict[str, str]]:
    found = cast(ComposeStack, stack).container_attributes(service)["Mounts"]
    return cast(list[dict[str, str]], found)


def test_the_issuer_has_no_network(stack: Stack) -> None:
    attributes = cast(ComposeStack, stack).container_attributes(ISSUER)
    assert attributes["HostConfig"]["NetworkMode"] == "none"


def test_ports_are_published_on_loopback_only(stack: Stack) -> None:
    found = {}
    for service in NAMES:
        attributes = cast(ComposeStack, stack).container_attributes(service)
        ports = attributes["NetworkSettings"]["Ports"]
        published = {port: binding for port, binding in ports.items() if binding}
        assert all(one["HostIp"] == "127.0.0.1" for many in published.values() for one in many)
        found[service] = set(published)
    assert found == {
        "agent-1": {"8500/tcp"},
        "agent-2": {"8500/tcp"},
        "agent-3": {"8500/tcp"},
        "agent-4": set(),
        "nameserver": {"53/udp", "53/tcp"},
        "fileserver": {"1443/tcp"},
        "hub": {"8800/tcp"},
        "gateway": {
            *("8889/tcp", "8088/tcp", "8188/tcp", "8189/udp", "8189/tcp", "5004/udp", "5002/udp")
        },
        "sidecar": set(),
        "issuer": set(),
    }


def test_programs_log_one_json_object_a_line(stack: Stack) -> None:
    for service in NAMES:
        text = stack.logs(service)
        lines = [line.split("Z ", 1)[1] for line in text.splitlines() if "Z " in line]
        assert lines
        for line in lines:
            assert isinstance(json.loads(line), dict), line


def test_images_bring_no_package_manager_of_python(stack: Stack) -> None:
    """What can install can be made to install: pip stays in the builder."""
    assert stack.exec("agent-1", ["/opt/venv/bin/python", "-m", "pip", "-V"]).code != 0


@contextmanager
def _compose(**variables: str) -> Iterator[list[str]]:
    """A project of its own, started as a user does: no -f, no -p, the .env of make."""
    env = {**os.environ, **variables}
    command = ["docker", "compose"]
    try:
        subprocess.run(
            [*command, "up", "--detach", "--wait"],
            cwd=ROOT,
            env=env,
            check=True,
            capture_output=True,
            timeout=180,
        )
        listed = subprocess.run(
            [*command, "ps", "--format", "{{.Service}} {{.Health}}"],
            cwd=ROOT,
            env=env,
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        yield listed.stdout.splitlines()
    finally:
        subprocess.run(
            [*command, "down", "--volumes", "--timeout", "0"],
            cwd=ROOT,
            env=env,
            check=False,
            capture_output=True,
            timeout=120,
        )


@pytest.mark.timeout(300)
def test_plain_docker_compose_up_works(stack: Stack) -> None:
    """Beside another stack, by another SUBNET and another project name alone."""
    project = f"callboard-test-{uuid.uuid4().hex[:8]}"
    ports = dict.fromkeys(PORTS, "0") | {"MEDIA_PORT": str(free_port())}
    subnet = environment.free_subnet(None, environment.taken_networks(project))
    with _compose(COMPOSE_PROJECT_NAME=project, SUBNET=subnet, **ports) as services:
        assert sorted(services) == [f"{name} healthy" for name in sorted(NAMES)]
