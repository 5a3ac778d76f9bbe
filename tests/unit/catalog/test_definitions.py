"""Service and check definitions from bodies and from files."""

from __future__ import annotations

import json

import pytest

from callboard.catalog.decode import DecodeError
from callboard.catalog.definitions import (
    CheckDefinition,
    DefinitionError,
    check_from_request,
    definitions_from_config,
    service_from_request,
)
from callboard.catalog.objects import ServiceAddress, Weights


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_a_service_gets_its_id_from_its_name() -> None:
    service = service_from_request(body(Name="web"))
    assert (service.id, service.name, service.tags, service.port) == ("web", "web", (), 0)


def test_a_service_keeps_all_it_was_given() -> None:
    service = service_from_request(
        body(
            id="web-1",
            name="web",
            tags=["rails"],
            address="10.0.0.9",
            port=80,
            meta={"version": "4"},
            weights={"Passing": 10, "Warning": 2},
            enable_tag_override=True,
            token="secret",
        )
    )
    instance = service.instance("node-1")
    assert instance.node == "node-1"
    assert instance.tags == ("rails",)
    assert instance.meta == {"version": "4"}
    assert instance.weights == Weights(10, 2)
    assert instance.enable_tag_override
    assert instance.tagged_addresses["lan_ipv4"] == ServiceAddress("10.0.0.9", 80)
    assert service.token == "secret"
    assert "secret" not in repr(service)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "Missing service name"),
        ({"ID": "web-1"}, "Missing service name"),
        ({"Name": "web", "Address": "0.0.0.0"}, "Invalid service address"),
        ({"Name": "web", "Port": 70000}, "Invalid port 70000: must be between 0 and 65535"),
        ({"Name": "web", "Weights": {"Passing": 0}}, "Invalid Weights: Passing must be greater"),
        ({"Name": "web", "Meta": {"a b": ""}}, "Invalid Service Meta: "),
        ({"Name": "web", "Check": {"Name": "x"}}, "TTL must be > 0 for TTL checks"),
        ({"Name": "web", "Checks": [{"HTTP": "http://x"}]}, "Invalid check: Interval must be > 0"),
    ],
)
def test_bad_services_are_refused(fields: dict[str, object], error: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        service_from_request(body(**fields))
    assert error in str(caught.value)


def test_one_check_is_named_after_its_service() -> None:
    service = service_from_request(body(Name="web", ID="web-1", Check={"TTL": "10s"}))
    (check,) = service.checks
    assert check.id == "service:web-1"
    assert check.name == "Service 'web' check"
    assert (check.type, check.ttl_s, check.service_id) == ("ttl", 10.0, "web-1")


def test_several_checks_are_numbered() -> None:
    service = service_from_request(
        body(
            Name="web",
            Check={"TTL": "10s"},
            Checks=[{"TCP": "127.0.0.1:80", "Interval": "5s"}, {"CheckID": "mine", "TTL": "1s"}],
        )
    )
    assert [check.id for check in service.checks] == ["service:web:1", "service:web:2", "mine"]


def test_an_empty_check_is_none() -> None:
    assert service_from_request(body(Name="web", Check={}, Checks=None)).checks == ()


def test_names_dns_cannot_find_are_a_warning_only() -> None:
    assert service_from_request(body(Name="my_web", tags=["a_b"])).warnings != ()


def test_a_check_keeps_all_it_was_given() -> None:
    check = check_from_request(
        body(
            ID="api",
            Name="API",
            Notes="n",
            service_id="web",
            HTTP="http://127.0.0.1/health",
            Method="POST",
            Header={"X-A": ["1", "2"]},
            Body="{}",
            Interval="10s",
            Timeout=1_000_000_000,
            tls_skip_verify=True,
            deregister_critical_service_after="90m",
            SuccessBeforePassing=2,
            FailuresBeforeWarning=1,
            FailuresBeforeCritical=3,
            Status="passing",
        )
    )
    assert check == CheckDefinition(
        id="api",
        name="API",
        notes="n",
        service_id="web",
        http="http://127.0.0.1/health",
        method="POST",
        header={"X-A": ("1", "2")},
        body="{}",
        interval_s=10.0,
        timeout_s=1.0,
        tls_skip_verify=True,
        deregister_critical_service_after_s=5400.0,
        success_before_passing=2,
        failures_before_warning=1,
        failures_before_critical=3,
        status="passing",
    )


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"TTL": "1s"}, "Missing check name"),
        ({"Name": "x", "TTL": "1s", "Status": "fine"}, "Bad check status"),
        ({"Name": "x"}, "Invalid check: TTL must be > 0 for TTL checks"),
        ({"Name": "x", "TTL": "-1s"}, "Invalid check: TTL must be > 0 for TTL checks"),
        (
            {"Name": "x", "TTL": "1s", "Interval": "1s"},
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (
            {"Name": "x", "HTTP": "http://a", "TCP": "b:1", "Interval": "1s"},
            "Invalid check: exactly one type of check must be given, not http and tcp",
        ),
        (
            {"Name": "x", "AliasService": "web", "Interval": "1s"},
            "Invalid check: Interval cannot be set for Alias checks",
        ),
        (
            {"Name": "x", "TTL": "1s", "OutputMaxSize": -1},
            "Invalid check: MaxOutputMaxSize must be positive",
        ),
        (
            {"Name": "x", "TTL": "1s", "FailuresBeforeWarning": 3, "FailuresBeforeCritical": 2},
            "Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ),
    ],
)
def test_bad_checks_are_refused(fields: dict[str, object], error: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_from_request(body(**fields))
    assert str(caught.value) == error


def test_a_check_gets_its_id_from_its_name() -> None:
    assert check_from_request(body(Name="mem", TTL="5s")).id == "mem"


def test_too_short_an_interval_is_raised_with_a_warning() -> None:
    check = check_from_request(body(Name="x", TCP="a:1", Interval="100ms"))
    assert check.interval_s == 1.0
    assert check.warnings == ("check interval 100ms is below the minimum of 1s",)


def test_a_short_ttl_is_taken_as_it_is() -> None:
    assert check_from_request(body(Name="x", TTL="100ms")).ttl_s == 0.1


def test_too_short_a_deregistration_time_is_raised() -> None:
    check = check_from_request(body(Name="x", TTL="1s", DeregisterCriticalServiceAfter="1s"))
    assert check.deregister_critical_service_after_s == 60.0


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"TTL": "1s"}, "ttl"),
        ({"HTTP": "http://a", "Interval": "1s"}, "http"),
        ({"TCP": "a:1", "Interval": "1s"}, "tcp"),
        ({"UDP": "a:1", "Interval": "1s"}, "udp"),
        ({"GRPC": "a:1", "Interval": "1s"}, "grpc"),
        ({"H2PING": "a:1", "Interval": "1s"}, "h2ping"),
        ({"OSService": "x", "Interval": "1s"}, "os_service"),
        ({"Args": ["true"], "Interval": "1s"}, "script"),
        ({"DockerContainerID": "c", "Args": ["true"], "Interval": "1s"}, "docker"),
        ({"AliasNode": "n", "AliasService": "s"}, "alias"),
    ],
)
def test_every_kind_of_check_is_a_definition(fields: dict[str, object], kind: str) -> None:
    check = check_from_request(body(Name="x", **fields))
    assert check.type == kind
    assert (check.unsupported() is None) is (kind in ("ttl", "http", "tcp"))


def test_scripts_are_refused_in_consuls_words() -> None:
    check = check_from_request(body(Name="x", script_args=["true"], Interval="1s"))
    assert (check.unsupported() or "").startswith("Scripts are disabled on this agent")


@pytest.mark.parametrize(
    "fields",
    [
        {"Kind": "connect-proxy"},
        {"Connect": {"SidecarService": {}}},
        {"Connect": {"Native": True}},
        {"Proxy": {"DestinationServiceName": "x"}},
        {"SocketPath": "/run/web.sock"},
        {"Ports": [{"Name": "http", "Port": 80}]},
        {"Check": {"GRPC": "a:1", "Interval": "1s"}},
    ],
)
def test_a_service_says_what_of_it_is_not_served(fields: dict[str, object]) -> None:
    assert service_from_request(body(Name="web", **fields)).unsupported() is not None


@pytest.mark.parametrize("fields", [{}, {"Connect": {}}, {"Connect": {"Native": False}}])
def test_an_ordinary_service_is_served(fields: dict[str, object]) -> None:
    assert service_from_request(body(Name="web", **fields)).unsupported() is None


def test_a_check_becomes_a_catalog_object() -> None:
    service = service_from_request(
        body(Name="web", tags=["a"], Check={"HTTP": "http://a", "Interval": "10s", "Timeout": "1s"})
    )
    check = service.checks[0].check("n1", service.instance("n1"), output="fine")
    assert (check.node, check.check_id, check.status) == ("n1", "service:web", "critical")
    assert (check.service_id, check.service_name, check.service_tags) == ("web", "web", ("a",))
    assert (check.type, check.interval, check.timeout) == ("http", "10s", "1s")
    assert check.output == "fine"


def test_a_ttl_check_shows_no_interval() -> None:
    check = check_from_request(body(Name="x", TTL="1s", Status="passing")).check("n1")
    assert (check.status, check.interval, check.timeout) == ("passing", "", "")


def test_a_file_defines_one_service() -> None:
    definitions = definitions_from_config(
        {"service": {"name": "web", "tags": ["rails"], "port": 80, "check": {"ttl": "10s"}}}
    )
    (service,) = definitions.services
    assert (service.name, service.tags, service.port) == ("web", ("rails",), 80)
    assert service.checks[0].id == "service:web"


def test_a_file_defines_many() -> None:
    definitions = definitions_from_config(
        {
            "services": [
                {"name": "a"},
                {"id": "b1", "name": "b", "checks": [{"tcp": "a:1", "interval": "10s"}]},
            ],
            "check": {"id": "mem", "name": "memory", "ttl": "1m"},
            "checks": [{"name": "disk", "ttl": "1m", "service_id": "a"}],
            "node_name": "left to the caller",
        }
    )
    assert [service.id for service in definitions.services] == ["a", "b1"]
    assert [check.id for check in definitions.checks] == ["mem", "disk"]
    assert definitions.checks[1].service_id == "a"


def test_a_file_knows_consuls_spelling_of_every_check_field() -> None:
    definitions = definitions_from_config(
        {
            "check": {
                "name": "x",
                "http": "http://a",
                "tls_server_name": "a",
                "tls_skip_verify": True,
                "disable_redirects": True,
                "interval": "10s",
                "success_before_passing": 1,
                "failures_before_warning": 1,
                "failures_before_critical": 1,
                "deregister_critical_service_after": "1h",
                "output_max_size": 100,
            }
        }
    )
    assert definitions.checks[0].disable_redirects


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"service": {"nam": "web"}}, "invalid config key service.nam"),
        ({"services": [{"name": "a", "check": {"http_": 1}}]}, "services[0].check.http_"),
        ({"services": {"name": "a"}}, "services: expected a list of objects"),
        ({"service": {"name": "a", "port": "80"}}, "service.port: expected int, got string"),
        ({"check": {"name": "a", "ttl": "soon"}}, 'check: time: invalid duration "soon"'),
    ],
)
def test_a_bad_file_names_the_key(document: dict[str, object], error: str) -> None:
    with pytest.raises(DecodeError, match=error.replace("[", r"\[")):
        definitions_from_config(document)


def test_a_bad_definition_names_its_place() -> None:
    with pytest.raises(DefinitionError, match=r"^services\[1\]: Missing service name$"):
        definitions_from_config({"services": [{"name": "a"}, {}]})
