"""The command line of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from callboard.chassis.settings import SettingsError
from callboard.hub.__main__ import run
from callboard.hub.history.store import Acknowledge, Bound, Retention
from callboard.hub.settings import FLAGS, HubSettings, build


def settings(*argv: str, **environ: str) -> HubSettings:
    return build(FLAGS.parse(argv), environ, host_name="host-1")


def test_alone_it_is_open_on_loopback_and_knows_no_catalog() -> None:
    found = settings()
    assert (found.bind, found.port, found.https_port) == ("127.0.0.1", 8800, -1)
    assert found.open
    assert (found.catalog, found.register) == ((), False)
    assert found.acknowledge is Acknowledge.DURABLE
    assert found.retention == Retention()


def test_with_agents_it_registers() -> None:
    found = settings("-catalog=agent-1,agent-2", "-node=hub-1")
    assert found.catalog == ("http://agent-1:8500", "http://agent-2:8500")
    assert (found.register, found.node) == (True, "hub-1")
    assert not settings("-catalog=agent-1", "-register=false").register


def test_bounds_are_by_prefix() -> None:
    kept = settings("-keep=1000,64M,24h", "-keep=/a=b/=,1G,", "-keep=/log/=5,,").retention
    assert kept.default == Bound(1000, 64 << 20, 86400.0)
    assert kept.prefixes == {"/a=b/": Bound(None, 1 << 30, None), "/log/": Bound(5, None, None)}


def test_times_and_limits_arrive() -> None:
    found = settings("-heartbeat=5s", "-life=0s", "-stall=10s", "-max-subscribers=7",
                     "-max-subscribers-per-address=2", "-publish-rate=0")  # fmt: skip
    assert (found.times.heartbeat_s, found.times.life_s, found.times.stall_s) == (5, 0, 10)
    assert (found.limits.readers_max, found.limits.per_client_max) == (7, 2)
    assert found.publish_rate == 0


def test_the_environment_gives_what_the_command_line_does_not() -> None:
    found = settings(BIND="0.0.0.0", ALLOW_PLAIN="1", PUBLIC_HOST="farm.example",
                     HUB_STORE="postgresql://db/hub")  # fmt: skip
    assert (found.bind, found.open) == ("0.0.0.0", True)
    assert found.allowed_hosts == ("farm.example",)
    assert found.store == "postgresql://db/hub"
    assert settings("-store=postgres://a/b", HUB_STORE="postgresql://c/d").store == "postgres://a/b"


def test_an_own_certificate_lets_it_leave_loopback() -> None:
    found = settings("-bind=0.0.0.0", "-tls-cert=a.pem", "-tls-key=b.pem")
    assert found.tls == (Path("a.pem"), Path("b.pem"))
    assert not found.open


def test_who_tokens_are_for_and_from_arrives() -> None:
    found = settings("-resource=https://farm.example/hub", "-issuer=a", "-issuer=b")
    assert found.resource == "https://farm.example/hub"
    assert found.issuers == {"a", "b"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-bind=0.0.0.0"], "allow-plain"),
        (["-tls-cert=a.pem"], "go together"),
        (["-store=mysql://x"], "postgresql"),
        (["-store=postgresql://x", "-acknowledge=memory"], "is durable"),
        (["-acknowledge=perhaps"], "memory, written, durable"),
        (["-keep=1,2"], "COUNT,SIZE,AGE"),
        (["-keep==1,2,3s"], "no prefix"),
        (["-keep=x,,"], "COUNT is a number"),
        (["-keep=,5X,"], "K, M, G or T"),
        (["-keep=,M,"], "K, M, G or T"),
        (["-keep=,1.5M,"], "K, M, G or T"),
        (["-keep=,,soon"], "-keep=,,soon"),
        (["-heartbeat=0s"], "not positive"),
        (["-life=-1s"], "negative"),
        (["-port=70000"], "no port"),
        (["-publish-rate=-1"], "less than 0"),
        (["-catalog=ftp://x"], "no http"),
        (["-max-subscribers=-1"], "less than 0"),
        (["topic"], "unexpected argument"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SettingsError, match=why):
        settings(*arguments)
    assert run(arguments, {}) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("url", ["hub", "/hub", "urn:example:hub", "https://", "https://a/#b", "*"])
def test_what_no_topic_can_be_relative_to_is_no_resource(url: str) -> None:
    with pytest.raises(SettingsError, match="resource"):
        settings(f"-resource={url}")
