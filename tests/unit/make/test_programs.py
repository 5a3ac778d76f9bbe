"""The command lines of the local stack, against those of the compose file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from make.programs import (
    ANNOUNCING,
    CERTIFIED,
    CLIENT,
    GATEWAY,
    HUB,
    ISSUER,
    NAMES,
    NAMESERVER,
    ROOT,
    SERVERS,
    SIDECAR,
    Layout,
)

LAYOUT = Layout(
    addresses={name: f"127.9.9.{number}" for number, name in enumerate(NAMES, start=1)},
    directory=Path("/nowhere"),
)
PLACES = {"-bind", "-client", "-node", "-data-dir", "-config-dir", "-health", "-port"}
"""Flags that only say where: they differ between containers and processes."""


def flags(argv: list[str]) -> set[str]:
    """Return the names of flags, without those that only say where."""
    return {word.partition("=")[0] for word in argv if word.startswith("-")} - PLACES


def compose() -> dict[str, Any]:
    """The services that run without a profile."""
    return {name: one for name, one in everything().items() if "profiles" not in one}


def everything() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return loaded


SECOND = "hub-2"
"""A hub of the profile `postgres`, which local processes do not have."""
RELAY = "coturn"
"""Of the profile `turn`, likewise."""


def test_both_stacks_have_the_same_programs() -> None:
    assert set(compose()) == set(NAMES)


@pytest.mark.parametrize("name", [*SERVERS, CLIENT])
def test_an_agent_has_the_same_flags_in_both_stacks(name: str) -> None:
    assert flags(LAYOUT.argv(name)[3:]) == flags(compose()[name]["command"])


def test_the_nameserver_reads_the_same_servers_in_both_stacks() -> None:
    def count(argv: list[str]) -> int:
        return next(word for word in argv if word.startswith("-catalog=")).count(",") + 1

    assert count(LAYOUT.argv(NAMESERVER)) == count(compose()[NAMESERVER]["command"]) == 3


@pytest.mark.parametrize("name", [*SERVERS, CLIENT])
def test_the_same_agents_announce_the_examples_in_both_stacks(name: str) -> None:
    mounted = any("examples/consul.d" in volume for volume in compose()[name]["volumes"])
    assert mounted == (name in ANNOUNCING)
    assert any(word.startswith("-config-dir=") for word in LAYOUT.argv(name)) == mounted


def test_the_issuer_knows_the_same_programs_in_the_same_roles_in_both_stacks() -> None:
    def programs(argv: list[str]) -> set[str]:
        return {word for word in argv if word.startswith("-program=")}

    ours = programs(LAYOUT.argv(ISSUER))
    more = {f"-program={SECOND}=hub", f"-program={RELAY}={RELAY}"}
    assert ours | more == programs(compose()[ISSUER]["command"])
    assert {word.split("=")[1] for word in ours} == set(CERTIFIED)


@pytest.mark.parametrize("name", [*CERTIFIED, SECOND, RELAY])
def test_a_program_shares_a_directory_with_the_issuer_and_nobody_else(name: str) -> None:
    volume = f"{name}-exchange"
    users = [
        (service, mount.split(":")[1])
        for service, settings in everything().items()
        for mount in settings["volumes"]
        if mount.split(":")[0] == volume
    ]
    assert sorted(users) == sorted([(name, "/exchange"), (ISSUER, f"/exchange/{name}")])


@pytest.mark.parametrize("name", CERTIFIED)
def test_a_local_program_has_its_exchange_below_the_issuers(name: str) -> None:
    assert LAYOUT.environment(name)["EXCHANGE"].endswith(f"/exchange/{name}")


def test_the_hub_has_the_same_flags_in_both_stacks() -> None:
    assert flags(LAYOUT.argv(HUB)[3:]) == flags(compose()[HUB]["command"])


def test_the_gateway_has_the_same_flags_in_both_stacks_but_who_may_send_from_outside() -> None:
    ours, theirs = flags(LAYOUT.argv(GATEWAY)[3:]), flags(compose()[GATEWAY]["command"])
    assert theirs - ours == {"-rtp-from"} and ours <= theirs


def test_the_sidecar_has_the_same_flags_in_both_stacks() -> None:
    assert flags(LAYOUT.argv(SIDECAR)[3:]) == flags(compose()[SIDECAR]["command"])


def test_the_issuers_image_has_a_directory_for_each_program() -> None:
    """A volume takes its owner from there; without it the program cannot write its request."""
    found = re.search(r"for program in ([^;]+); do", (ROOT / "Dockerfile").read_text("utf-8"))
    assert found is not None
    assert set(found[1].replace("\\", "").split()) == {*CERTIFIED, SECOND, RELAY}


@pytest.mark.parametrize("name", CERTIFIED)
def test_a_program_listens_and_connects_at_its_own_address(name: str) -> None:
    argv = LAYOUT.argv(name)
    assert f"-bind={LAYOUT.addresses[name]}" in argv
    assert LAYOUT.environment(name)["SOURCE"] == LAYOUT.addresses[name]
    assert f"-health={LAYOUT.addresses[name]}:9090" in argv
