"""From a command line to settings: precedence, names, and what does not fit together."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from callboard.agent.configuration import (
    ConfigurationError,
    addresses,
    build,
    load_definitions,
    reread,
)
from callboard.agent.configuration.flags import TABLE
from callboard.agent.configuration.keys import KEYS
from callboard.agent.settings import AgentSettings, host_name
from callboard.chassis.flags import FlagError


def resolve(name: str) -> str:
    known = {"agent-1": "172.30.0.11", "localhost": "127.0.0.1"}
    if name not in known:
        raise OSError("no such host")
    return known[name]


def settings(*words: str, **environ: str) -> AgentSettings:
    words = words if "-dev" in words else ("-data-dir", "/data", *words)
    return build(words, environ, resolve=resolve).settings


def refusal(*words: str, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        settings(*words, **environ)
    return str(refused.value)


def test_without_flags_it_is_a_client_on_loopback() -> None:
    found = settings()
    assert found.client_only
    assert (found.bind_address, found.advertise_address) == ("127.0.0.1", "127.0.0.1")
    assert found.http_addresses == found.dns_addresses == ("127.0.0.1",)
    assert (found.node_name, found.datacenter, found.domain) == (host_name(), "dc1", "consul")
    assert found.data_dir == Path("/data")


def test_dev_is_one_server_in_memory() -> None:
    found = settings("-dev")
    assert found.server
    assert (found.data_dir, found.bootstrap_expect) == (None, 1)
    assert found.http.pretty
    assert not found.log_json


def test_dev_may_be_told_more() -> None:
    found = settings("-dev", "-node=a", "-http-port=9999", "-data-dir=/x", "-log-json")
    assert (found.node_name, found.ports.http, found.data_dir) == ("a", 9999, Path("/x"))
    assert found.log_json


def test_bootstrap_is_a_cluster_of_one() -> None:
    assert settings("-server", "-bootstrap").bootstrap_expect == 1
    assert settings("-server", "-bootstrap-expect=3").bootstrap_expect == 3
    assert settings("-server").bootstrap_expect == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-bootstrap"], "'bootstrap = true' requires 'server = true'"),
        (["-bootstrap-expect=3"], "'bootstrap_expect > 0' requires 'server = true'"),
        (
            ["-server", "-bootstrap", "-bootstrap-expect=3"],
            "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive",
        ),
        (["-dev", "-bootstrap-expect=3"], "'bootstrap_expect > 0' not allowed in dev mode"),
        (["-dev", "-server=false"], "'server = false' not allowed in dev mode"),
        (
            ["-server", "-bootstrap-expect=-1"],
            "bootstrap_expect cannot be -1. Must be greater than or equal to zero",
        ),
        (
            ["-server", "-bootstrap-expect=4"],
            "bootstrap_expect cannot be 4: a cluster is founded by 1, 3 or 5 servers",
        ),
        (["-raft-multiplier=11"], "performance.raft_multiplier cannot be 11. Must be between 1"),
        (["-log-level=loud"], 'log_level: Invalid log level: "loud". Valid log levels are: trace,'),
        (["-node="], "node_name cannot be empty"),
        (["-node", "a b"], "node_name 'a b' is not a name for DNS"),
        (["-node", "a..b"], "node_name 'a..b' is not a name for DNS"),
        (["-node", "-a"], "node_name '-a' is not a name for DNS"),
        (["-node", "a" * 64], "node_name 'aaaa"),
        (["-node-id=x"], "node_id 'x' is not a valid UUID"),
        (["-datacenter=d.c"], "datacenter can only contain lowercase alphanumeric, - or _ char"),
        (["-domain=a b"], "domain 'a b' is not a domain name"),
        (["-encrypt=!"], "encrypt has invalid key: "),
        (["-encrypt=NQ=="], "encrypt has invalid key: 1 bytes, must be 16, 24 or 32 in base64"),
        (["-http-port=70000"], "ports.http: 70000 is not between 0 and 65535, nor -1 for off"),
        (["-http-port=-2"], "ports.http: -2 is not between 0 and 65535, nor -1 for off"),
        (["-http-port=8600"], "ports.dns and ports.http are both 8600"),
        (["-server-port=-1"], "ports.server cannot be off"),
        (["-advertise=0.0.0.0"], "Advertise address cannot be 0.0.0.0, :: or [::]"),
        (["-bind=nobody"], "bind_addr: 'nobody' cannot be resolved: no such host"),
        (["-bind={{ GetPrivateIP }}"], "bind_addr: {{ GetPrivateIP }} is a go-sockaddr template"),
        (["-client="], "client_addr cannot be empty"),
        (["-client=unix:///x"], "client_addr: unix sockets are not served yet"),
        (["-health=x:1"], "health: expected IP:PORT, got 'x:1'"),
        (["-health=127.0.0.1:99999"], "health: port 99999 is not between 0 and 65535"),
        (["-node-meta=:x"], "-node-meta: expected key:value, got ':x'"),
        (["-node-meta=a b:x"], "node_meta: key 'a b' must be 1 to 128 of"),
        (["-node-meta=consul-x:1"], "node_meta: key 'consul-x': the prefix 'consul-' is reserved"),
        (
            ["-retry-interval=soon"],
            "-retry-interval: retry_interval: expected duration",
        ),
        (["-config-format=hcl"], "HCL is not read yet: write it as JSON"),
        (["-hcl=a=1"], "HCL is not read yet: write it as JSON"),
        (["-config-dir=/nowhere"], "-config-dir /nowhere: not a directory"),
        (["-config-file=/"], "-config-file /: is a directory"),
        (["-pid-file=/nowhere/pid"], "pid_file: /nowhere is not a directory"),
        (["-recursor=x"], "recursors: recursor 'x' is no IP address"),
        (["-recursor=10.0.0.1:0"], "recursors: recursor '10.0.0.1:0' has no valid port"),
        (["-domain", "a" * 60 + "!"], f"domain '{'a' * 60}!' is not a domain name"),
        (["-domain", "a" * 64], "domain: a label of 64 octets"),
        (["-domain", ".".join(["a" * 60] * 5)], "domain: a name of 306 octets"),
        (["-recursor=x", "-client=0.0.0.0"], "http would listen in the clear on 0.0.0.0, outside"),
    ],
)
def test_what_does_not_fit_together_is_refused(words: list[str], text: str) -> None:
    assert refusal(*words).startswith(text)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"dns_config": {"node_ttl": "-5s"}}, "dns_config.node_ttl must not be below 0"),
        (
            {"dns_config": {"service_ttl": {"web": "1s", "*": "-1s"}}},
            "dns_config.service_ttl.* must not be below 0",
        ),
        ({"dns_config": {"max_stale": "-1s"}}, "dns_config.max_stale must not be below 0"),
        (
            {"dns_config": {"soa": {"refresh": -1}}},
            "dns_config.soa.refresh: -1 is not between 0 and 2147483647",
        ),
        (
            {"dns_config": {"soa": {"min_ttl": 1 << 31}}},
            "dns_config.soa.min_ttl: 2147483648 is not between 0 and 2147483647",
        ),
        ({"dns_config": {"recursor_timeout": "0s"}}, "dns_config.recursor_timeout must be above 0"),
        ({"check_update_interval": "-1s"}, "check_update_interval must not be below 0"),
        ({"discovery_max_stale": "-1s"}, "discovery_max_stale must not be below 0"),
        (
            {"performance": {"leave_drain_time": "-1s"}},
            "performance.leave_drain_time must not be below 0",
        ),
    ],
)
def test_numbers_that_nothing_can_hold_are_refused(
    tmp_path: Path, document: dict[str, object], text: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    assert refusal("-config-file", str(path)) == text


@pytest.mark.parametrize("number", [0, -1])
def test_connections_of_one_client_may_be_without_limit(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"limits": {"http_max_conns_per_client": number}}))
    assert settings("-config-file", str(path)).http.max_connections_per_client == number


def test_a_data_directory_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="data_dir cannot be empty"):
        build(["-server"], {})


def test_words_after_the_flags_are_refused() -> None:
    with pytest.raises(FlagError, match="Unexpected extra arguments"):
        build(["-dev", "now"], {})


def test_flags_win_over_variables_and_those_over_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"log_level": "warn", "bind_addr": "127.0.0.9", "node_name": "file"}')
    words = ["-config-file", str(path), "-node", "flag"]
    found = settings(*words, BIND="127.0.0.2", LOG_LEVEL="debug")
    assert (found.node_name, found.bind_address, found.log_level) == ("flag", "127.0.0.2", "debug")
    assert settings(*words, "-bind=127.0.0.3", BIND="127.0.0.2").bind_address == "127.0.0.3"
    assert settings(*words).bind_address == "127.0.0.9"


def test_lists_of_flags_are_appended_to_those_of_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"retry_join": ["a"], "node_meta": {"rack": "7"}}')
    words = ["-config-file", str(path), "-retry-join=b", "-retry-join=c", "-node-meta=row:1"]
    found = settings(*words)
    assert found.retry_join == ("a", "b", "c")
    assert found.node_meta == {"rack": "7", "row": "1"}


def test_bind_is_the_default_of_client_and_source() -> None:
    found = settings(BIND="127.0.0.2")
    assert found.http_addresses == ("127.0.0.2",)
    assert found.source_address == "127.0.0.2"
    assert settings(BIND="127.0.0.2", SOURCE="127.0.0.7").source_address == "127.0.0.7"
    assert settings("-client=127.0.0.1", BIND="127.0.0.2").http_addresses == ("127.0.0.1",)


def test_names_are_resolved() -> None:
    found = settings("-bind=agent-1")
    assert (found.bind_address, found.advertise_address) == ("172.30.0.11", "172.30.0.11")
    assert settings("-advertise=agent-1").advertise_address == "172.30.0.11"


def test_allow_plain_binds_every_address_and_advertises_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "_outgoing_address", lambda: "172.30.0.11")
    found = settings("-allow-plain")
    assert (found.bind_address, found.advertise_address) == ("0.0.0.0", "172.30.0.11")
    assert settings("-allow-plain", "-bind=127.0.0.1").bind_address == "127.0.0.1"


def test_without_a_network_allow_plain_stays_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_outgoing_address", lambda: "")
    assert settings("-allow-plain").bind_address == "127.0.0.1"
    assert refusal("-allow-plain", "-bind=0.0.0.0") == (
        "bind_addr is 0.0.0.0 and no address to advertise was found: say -advertise"
    )


def test_what_is_in_the_clear_beyond_loopback_is_told() -> None:
    built = build(["-dev", "-bind=agent-1"], {}, resolve=resolve)
    assert len(built.notices) == 2
    assert not build(["-dev"], {}).notices


def test_several_client_addresses_are_separated_by_spaces() -> None:
    assert settings("-client", "127.0.0.1 ::1 localhost").http_addresses == ("127.0.0.1", "::1")


def test_listeners_may_have_addresses_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"addresses": {"dns": "127.0.0.5"}}')
    found = settings("-config-file", str(path))
    assert (found.http_addresses, found.dns_addresses) == (("127.0.0.1",), ("127.0.0.5",))


@pytest.mark.parametrize("how", [{"words": ["-allow-plain"]}, {"environ": {"ALLOW_PLAIN": "1"}}])
def test_plain_listeners_leave_loopback_when_told(how: dict[str, object]) -> None:
    words, environ = how.get("words", []), how.get("environ", {})
    assert isinstance(words, list)
    assert isinstance(environ, dict)
    assert settings("-client=0.0.0.0", *words, **environ).http_addresses == ("0.0.0.0",)


def test_a_listener_that_is_off_is_not_guarded() -> None:
    found = settings("-client=0.0.0.0", "-http-port=-1", "-dns-port=-1")
    assert (found.ports.http, found.ports.dns) == (-1, -1)


def test_port_0_is_the_default() -> None:
    assert settings("-http-port=0").ports.http == 8500


def test_hosts_come_from_both_variables() -> None:
    found = settings(ALLOWED_HOSTS="a.example, b.example", PUBLIC_HOST="c.example")
    assert found.http.allowed_hosts == ("a.example", "b.example", "c.example")


def test_hosts_of_variables_are_added_to_those_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"allowed_hosts": ["a.example"]}')
    found = settings("-config-dir", str(tmp_path), PUBLIC_HOST="b.example")
    assert found.http.allowed_hosts == ("a.example", "b.example")


def test_a_variable_without_sense_is_named() -> None:
    assert refusal(ALLOW_PLAIN="perhaps") == (
        'environment ALLOW_PLAIN: allow_plain: expected bool, got string "perhaps"'
    )


def test_the_key_of_gossip_is_decoded() -> None:
    key = bytes(range(32))
    assert settings("-encrypt", base64.b64encode(key).decode()).encrypt_key == key


@pytest.mark.parametrize(("server", "leaves", "stays"), [(False, True, False), (True, False, True)])
def test_clients_leave_and_servers_stay(server: bool, leaves: bool, stays: bool) -> None:
    found = settings(f"-server={'true' if server else 'false'}")
    assert (found.leave_on_terminate, found.skip_leave_on_interrupt) == (leaves, stays)


def test_every_effective_key_reaches_the_settings(tmp_path: Path) -> None:
    document = {
        "dns_config": {
            "node_ttl": "1s",
            "service_ttl": {"*": "2s"},
            "soa": {"min_ttl": 30, "refresh": 1, "retry": 2, "expire": 3},
            "only_passing": True,
        },
        "gossip_lan": {"probe_interval": "100ms", "suspicion_mult": 2},
        "limits": {"http_max_conns_per_client": 5, "kv_max_value_size": 1000},
        "http_config": {
            "response_headers": {"X-A": "b"},
            "block_endpoints": ["/v1/agent/"],
            "allow_write_http_from": ["127.0.0.0/8"],
        },
        "performance": {"raft_multiplier": 2, "leave_drain_time": "1s", "rpc_hold_timeout": "2s"},
        "disable_kv_key_validation": True,
        "disable_http_unprintable_char_filter": True,
        "default_query_time": "10s",
        "recursors": ["9.9.9.9"],
        "start_join": ["a"],
        "health": "127.0.0.1:9090",
        "domain": "Example.",
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    found = settings("-config-dir", str(tmp_path))
    assert (found.dns.node_ttl_s, found.dns.service_ttl_s) == (1.0, {"*": 2.0})
    assert (found.dns.soa.minimum_ttl_s, found.dns.soa.expire_s) == (30, 3)
    assert found.dns.only_passing
    assert found.dns.recursors == ("9.9.9.9",)
    assert (found.gossip.probe_interval_s, found.gossip.suspicion_mult) == (0.1, 2)
    assert (found.http.max_connections_per_client, found.http.kv_value_bytes_max) == (5, 1000)
    assert found.http.response_headers == {"X-A": "b"}
    assert not found.http.kv_key_validation
    assert not found.http.unprintable_filter
    assert found.http.default_query_time_s == 10.0
    assert (found.raft_multiplier, found.leave_drain_time_s, found.rpc_hold_timeout_s) == (2, 1, 2)
    assert (found.start_join, found.health) == (("a",), ("127.0.0.1", 9090))
    assert found.domain == "example"


def test_what_has_no_effect_yet_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"telemetry": {}, "ui": true}')
    built = build(["-dev", "-ui", "-config-dir", str(tmp_path), "-grpc-port=1"], {})
    assert built.notices == (
        f"{tmp_path}/a.json: telemetry has no effect yet",
        f"{tmp_path}/a.json: ui has no effect yet",
        "-grpc-port: ports.grpc has no effect yet",
        "-ui: ui has no effect yet",
    )


def test_the_example_defines_web() -> None:
    example = Path(__file__).parents[4] / "examples" / "consul.d"
    built = build(["-dev", "-config-dir", str(example)], {})
    (web,) = built.definitions.services
    assert (web.name, web.tags, web.port) == ("web", ("rails",), 80)


def test_definitions_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "web.json"
    path.write_text('{"service": {"name": "web", "port": 80, "check": {"ttl": "10s"}}}')
    built = build(["-dev", "-config-dir", str(tmp_path)], {})
    path.write_text(
        '{"services": [{"name": "a"}, {"name": "b"}], "check": {"name": "c", "ttl": "1s"}}'
    )
    again = load_definitions(built.settings)
    assert [service.id for service in built.definitions.services] == ["web"]
    assert [service.id for service in again.services] == ["a", "b"]
    assert [check.id for check in again.checks] == ["c"]


def test_reread_sees_the_same_flags_and_the_files_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"log_level": "warn"}')
    first = build(["-dev", "-node=a", "-config-dir", str(tmp_path)], {"BIND": "127.0.0.2"})
    path.write_text('{"log_level": "debug"}')
    again = reread(first.settings)
    assert (again.settings.node_name, again.settings.bind_address) == ("a", "127.0.0.2")
    assert again.settings.log_level == "debug"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"service": {"name": "a", "frob": 1}}, "frob"),
        ({"service": {"port": 1}}, ""),
        ({"services": [{"name": "a"}, {"name": "a"}]}, "service 'a' is defined twice"),
        ({"check": {"name": "a"}}, ""),
        (
            {"check": {"name": "a", "args": ["true"], "interval": "10s"}},
            "'a': Scripts are disabled on this agent",
        ),
        (
            {"service": {"name": "a", "check": {"grpc": "x:1", "interval": "10s"}}},
            "'a': checks of type grpc are not supported by this agent yet",
        ),
        (
            {"service": {"name": "a", "kind": "connect-proxy"}},
            "'a': services of kind connect-proxy are not supported by this agent",
        ),
    ],
)
def test_a_definition_without_sense_names_its_file(
    tmp_path: Path, document: dict[str, object], text: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    message = refusal("-config-file", str(path))
    assert message.startswith(f"{path}: ")
    assert text in message


def test_every_flag_sets_a_known_key_or_none() -> None:
    assert all(row.key in KEYS for row in TABLE if row.key)
    names = [row.flag.name for row in TABLE]
    assert len(names) == len(set(names))
