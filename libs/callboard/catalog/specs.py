"""The fields of Consul's request bodies and of service files, as `decode` needs them.

Nothing here says what a field means. The aliases are Consul's fixed lists (consul.md §2.1 and §7):
a body takes few snake_case spellings, a configuration file takes all of them.
"""

from __future__ import annotations

from callboard.catalog.decode import (
    ANYTHING,
    BOOLEAN,
    DURATION,
    INTEGER,
    STRING,
    STRING_MAP,
    STRINGS,
    UNSIGNED,
    Kind,
    ListOf,
    MapOf,
    Spec,
)

_PLACE: dict[str, Kind] = {"Namespace": STRING, "Partition": STRING}
"""Enterprise fields clients send with empty or default values; ignored."""

_RAFT_INDEX: dict[str, Kind] = {"CreateIndex": UNSIGNED, "ModifyIndex": UNSIGNED}

WEIGHTS = Spec("Weights", {"Passing": INTEGER, "Warning": INTEGER})
SERVICE_ADDRESS = Spec("ServiceAddress", {"Address": STRING, "Port": INTEGER})

_CHECK_FIELDS: dict[str, Kind] = {
    "ID": STRING,
    "CheckID": STRING,
    "Name": STRING,
    "Notes": STRING,
    "ServiceID": STRING,
    "Token": STRING,
    "Status": STRING,
    "Args": STRINGS,
    "HTTP": STRING,
    "Header": MapOf(STRINGS),
    "Method": STRING,
    "Body": STRING,
    "DisableRedirects": BOOLEAN,
    "TCP": STRING,
    "TCPUseTLS": BOOLEAN,
    "UDP": STRING,
    "GRPC": STRING,
    "GRPCUseTLS": BOOLEAN,
    "H2PING": STRING,
    "H2PingUseTLS": BOOLEAN,
    "OSService": STRING,
    "DockerContainerID": STRING,
    "Shell": STRING,
    "AliasNode": STRING,
    "AliasService": STRING,
    "TLSServerName": STRING,
    "TLSSkipVerify": BOOLEAN,
    "TTL": DURATION,
    "Interval": DURATION,
    "Timeout": DURATION,
    "SuccessBeforePassing": INTEGER,
    "FailuresBeforeWarning": INTEGER,
    "FailuresBeforeCritical": INTEGER,
    "DeregisterCriticalServiceAfter": DURATION,
    "OutputMaxSize": INTEGER,
    "ProxyHTTP": STRING,
    "ProxyGRPC": STRING,
    **_PLACE,
}

CHECK_BODY = Spec(
    "",  # of an anonymous struct, as Consul decodes it
    _CHECK_FIELDS,
    {
        "scriptargs": "Args",
        "script_args": "Args",
        "deregister_critical_service_after": "DeregisterCriticalServiceAfter",
        "docker_container_id": "DockerContainerID",
        "tls_skip_verify": "TLSSkipVerify",
        "service_id": "ServiceID",
    },
    "structs.CheckDefinition",
)
"""agent/check/register, and a check within agent/service/register."""

CHECK_FILE = Spec(
    "check",
    _CHECK_FIELDS,
    {
        **CHECK_BODY.aliases,
        "check_id": "CheckID",
        "disable_redirects": "DisableRedirects",
        "tcp_use_tls": "TCPUseTLS",
        "grpc_use_tls": "GRPCUseTLS",
        "h2ping_use_tls": "H2PingUseTLS",
        "os_service": "OSService",
        "alias_node": "AliasNode",
        "alias_service": "AliasService",
        "tls_server_name": "TLSServerName",
        "success_before_passing": "SuccessBeforePassing",
        "failures_before_warning": "FailuresBeforeWarning",
        "failures_before_critical": "FailuresBeforeCritical",
        "output_max_size": "OutputMaxSize",
    },
)
"""A check in a configuration file."""


def _service_fields(check: Spec) -> dict[str, Kind]:
    return {
        "Kind": STRING,
        "ID": STRING,
        "Name": STRING,
        "Tags": STRINGS,
        "Address": STRING,
        "TaggedAddresses": MapOf(SERVICE_ADDRESS),
        "Meta": STRING_MAP,
        "Port": INTEGER,
        "SocketPath": STRING,
        "Weights": WEIGHTS,
        "EnableTagOverride": BOOLEAN,
        "Token": STRING,
        "Check": check,
        "Checks": ListOf(check),
        "Proxy": ANYTHING,
        "Connect": ANYTHING,
        "Locality": ANYTHING,
        "Ports": ANYTHING,
        **_PLACE,
    }


SERVICE_BODY = Spec(
    "",
    _service_fields(CHECK_BODY),
    {"enable_tag_override": "EnableTagOverride", "tagged_addresses": "TaggedAddresses"},
    "structs.ServiceDefinition",
)
"""agent/service/register."""

SERVICE_FILE = Spec(
    "service",
    _service_fields(CHECK_FILE),
    {**SERVICE_BODY.aliases, "socket_path": "SocketPath"},
)
"""A service in a configuration file."""

CATALOG_SERVICE = Spec(
    "NodeService",
    {
        "Kind": STRING,
        "ID": STRING,
        "Service": STRING,
        "Tags": STRINGS,
        "Address": STRING,
        "TaggedAddresses": MapOf(SERVICE_ADDRESS),
        "Meta": STRING_MAP,
        "Port": INTEGER,
        "SocketPath": STRING,
        "Weights": WEIGHTS,
        "EnableTagOverride": BOOLEAN,
        "Proxy": ANYTHING,
        "Connect": ANYTHING,
        "Locality": ANYTHING,
        "PeerName": STRING,
        **_PLACE,
        **_RAFT_INDEX,
    },
)

CATALOG_CHECK_DEFINITION = Spec(
    "HealthCheckDefinition",
    {
        name: kind
        for name, kind in _CHECK_FIELDS.items()
        if name not in {"ID", "CheckID", "Name", "Notes", "ServiceID", "Token", "Status", *_PLACE}
    }
    | {
        "IntervalDuration": DURATION,
        "TimeoutDuration": DURATION,
        "DeregisterCriticalServiceAfterDuration": DURATION,
    },
    {"scriptargs": "Args"},
    lenient=True,
)

CATALOG_CHECK = Spec(
    "HealthCheck",
    {
        "Node": STRING,
        "CheckID": STRING,
        "Name": STRING,
        "Status": STRING,
        "Notes": STRING,
        "Output": STRING,
        "ServiceID": STRING,
        "ServiceName": STRING,
        "ServiceTags": STRINGS,
        "Type": STRING,
        "Interval": STRING,
        "Timeout": STRING,
        "ExposedPort": INTEGER,
        "Definition": CATALOG_CHECK_DEFINITION,
        "PeerName": STRING,
        **_PLACE,
        **_RAFT_INDEX,
    },
)

CATALOG_REGISTER = Spec(
    "RegisterRequest",
    {
        "Datacenter": STRING,
        "ID": STRING,
        "Node": STRING,
        "Address": STRING,
        "TaggedAddresses": STRING_MAP,
        "NodeMeta": STRING_MAP,
        "Service": CATALOG_SERVICE,
        "Check": CATALOG_CHECK,
        "Checks": ListOf(CATALOG_CHECK),
        "SkipNodeUpdate": BOOLEAN,
        "Token": STRING,
        "PeerName": STRING,
        "Locality": ANYTHING,
        **_PLACE,
    },
)

CATALOG_DEREGISTER = Spec(
    "DeregisterRequest",
    {
        "Datacenter": STRING,
        "Node": STRING,
        "ServiceID": STRING,
        "CheckID": STRING,
        "Address": STRING,  # sent by older clients, and ignored
        "Token": STRING,
        "PeerName": STRING,
        **_PLACE,
    },
)

CHECK_UPDATE = Spec(
    "checkUpdate", {"Status": STRING, "Output": STRING}, go_type="agent.checkUpdate"
)
"""agent/check/update."""
