"""The command line of the name server."""

from __future__ import annotations

import pytest

from callboard.chassis.settings import SettingsError
from callboard.nameserver.__main__ import run
from callboard.nameserver.forwarder import forwarder, system_recursors
from callboard.nameserver.settings import FLAGS, NameserverSettings, build


def settings(*argv: str, **environ: str) -> NameserverSettings:
    return build(FLAGS.parse(argv), environ, host_name="host-1")


def test_defaults_are_those_of_the_issue_of_the_walk_through() -> None:
    found = settings()
    assert (found.bind, found.port) == ("127.0.0.1", 8600)
    assert found.catalog == ("http://127.0.0.1:8500",)
    assert found.dns.domain == "consul."
    assert found.node == "host-1"
    assert found.register


def test_one_dash_and_two_and_several_agents() -> None:
    found = settings(
        "-catalog=http://10.0.0.1:8500,http://10.0.0.2:8500/", "--port", "53", "-data-dir", "/data"
    )
    assert found.catalog == ("http://10.0.0.1:8500", "http://10.0.0.2:8500")
    assert found.port == 53
    assert str(found.data_dir) == "/data"


def test_dns_options_arrive() -> None:
    dns = settings(
        "-recursor=127.0.0.11", "-recursor=10.0.0.1:5353", "-max-stale=10m", "-node-ttl=5s",
        "-service-ttl=web=10s", "-service-ttl=*=1s", "-only-passing", "-enable-truncate",
        "-udp-answer-limit=8", "-a-record-limit=2", "-alt-domain=farm.example",
    ).dns  # fmt: skip
    assert dns.recursors == ("127.0.0.11", "10.0.0.1:5353")
    assert dns.max_stale_s == 600
    assert dns.node_ttl_s == 5
    assert dns.service_ttl_s == {"web": 10, "*": 1}
    assert dns.only_passing
    assert dns.enable_truncate
    assert (dns.udp_answer_limit, dns.a_record_limit) == (8, 2)


def test_environment_gives_what_the_command_line_does_not() -> None:
    found = settings(BIND="0.0.0.0", ALLOW_PLAIN="1", SOURCE="127.0.0.9", LOG_LEVEL="debug")
    assert (found.bind, found.source, found.log_level) == ("0.0.0.0", "127.0.0.9", "debug")
    assert settings("-bind=127.0.0.2", BIND="127.0.0.3").bind == "127.0.0.2"


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ("-bind=0.0.0.0", "allow-plain"),
        ("-bind=10.0.0.1", "allow-plain"),
        ("-catalog=", "no agent"),
        ("-catalog=ftp://agent-1", "URL"),
        ("-mode=guess", "feed or poll"),
        ("-recursor=example.com", "no IP address"),
        ("-recursor=10.0.0.1:99999", "port"),
        ("-max-stale=soon", "max-stale"),
        ("-node-ttl=-1s", "negative"),
        ("-node-ttl=2000000h", "-node-ttl is more than"),
        ("-service-ttl=web=2000000h", "-service-ttl is more than"),
        ("-service-ttl=web", "NAME=DURATION"),
        ("-domain=a..b", "label"),
        ("-domain=.", "domain"),
        ("-health=9090", "IP:PORT"),
        ("-port=70000", "port"),
        ("-udp-answer-limit=0", "udp-answer-limit"),
        ("-log-level=loud", "loud"),
        ("surplus", "surplus"),
    ],
)
def test_bad_value_is_refused_with_a_reason(argument: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        settings(argument)


def test_bad_command_line_ends_with_one_line_and_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["-bind=0.0.0.0"], {}) == 1
    assert run(["-nonsense"], {}) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "not defined: -nonsense" in errors[1]


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-h"], {}) == 0
    text = capsys.readouterr().out
    assert all(f"-{name}" in text for name in FLAGS.flags)


def test_recursors_of_the_system_are_read() -> None:
    text = "# made by hand\nnameserver 127.0.0.11\nnameserver fe80::1%eth0\nsearch x\nnameserver\n"
    assert system_recursors(text) == ["127.0.0.11", "[fe80::1]"]


def test_front_does_not_ask_itself() -> None:
    dns = settings("-recursor=127.0.0.1:8600").dns
    assert forwarder(dns, ["127.0.0.1"], 8600) is None
    assert forwarder(dns, ["127.0.0.2"], 8600) is not None
